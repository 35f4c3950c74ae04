//! Lines as far as they are known before the line in front of them is.

use super::{ChainError, LINK_MAX};
use crate::Hash;
use crate::canonical::{Field, LINE_MAX, Name, ObjectWriter, ReadyMember, Word, WriteError};
use crate::lanes::{self, State};

const HASH_PREV: Name = Name::new("hash_prev");
const HASH_SELF: Name = Name::new("hash_self");
const SEQ: Name = Name::new("seq");

/// Lines that wait for their links, in memory that is used again.
#[derive(Clone, Debug, Default)]
pub struct Drafts {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// Where things stand in the bytes of all drafts.
#[derive(Clone, Copy, Debug)]
struct Place {
    begin: usize,
    end: usize,
    links: Links,
    ahead: Ahead,
}

/// What the first blocks of a line come to, and how many they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    pub state: State,
    pub blocks: usize,
}

impl Ahead {
    const NOTHING: Ahead = Ahead { state: lanes::INITIAL, blocks: 0 };
}

/// Where the chain's own members belong, from the beginning of a line.
#[derive(Clone, Copy, Debug, Default)]
struct Links {
    /// The digits of `hash_prev`, which are zeros.
    prev: usize,
    /// The member `hash_self`, which is missing.
    itself: usize,
    /// The digits of `seq`, which are missing.
    seq: usize,
}

/// One of [`Drafts`].
#[derive(Clone, Copy, Debug)]
pub struct Draft<'d> {
    /// The line without `hash_self` and without the digits of `seq`.
    pub(super) bytes: &'d [u8],
    /// Where the digits of `hash_prev` stand.
    pub(super) prev: usize,
    /// Where `hash_self` belongs.
    pub(super) itself: usize,
    /// Where the digits of `seq` belong.
    pub(super) seq: usize,
    /// What is hashed already.
    pub(super) ahead: Ahead,
}

impl Drafts {
    /// Writes one more, of the keys that `fill` pushes, ascending; not those of the chain.
    ///
    /// # Errors
    /// A mistake in the keys, or a line that may be longer than [`LINE_MAX`]: then nothing is added.
    pub fn add(&mut self, fill: impl FnOnce(&mut EventWriter<'_>)) -> Result<(), ChainError> {
        let begin = self.bytes.len();
        let written = self.write(begin, fill);
        match written {
            Ok(links) => {
                let end = self.bytes.len();
                self.places.push(Place { begin, end, links, ahead: Ahead::NOTHING });
                Ok(())
            }
            Err(error) => {
                self.bytes.truncate(begin);
                Err(error)
            }
        }
    }

    fn write(&mut self, begin: usize, fill: impl FnOnce(&mut EventWriter<'_>)) -> Result<Links, ChainError> {
        let mut event = EventWriter {
            object: ObjectWriter::new(&mut self.bytes),
            begin,
            next: HASH_PREV.word(),
            links: Links::default(),
        };
        fill(&mut event);
        let links = event.finish()?;
        let len = self.bytes.len() - begin + LINK_MAX - 1;
        if len > LINE_MAX { Err(ChainError::TooLong { len }) } else { Ok(links) }
    }

    /// Hashes of each draft what stands before its links, so that less is left to do for whoever links them.
    pub fn hash_ahead(&mut self) {
        let bytes = &self.bytes;
        let text = |place: &Place| &bytes[place.begin..place.begin + place.links.prev];
        let ahead = |state, place: &Place| Ahead { state, blocks: place.links.prev / lanes::BLOCK };
        let (pairs, last) = self.places.as_chunks_mut();
        for [one, two] in pairs {
            // Two at a time, because two are hashed in little more time than one.
            let [first, second] = lanes::both_ahead([text(one), text(two)]);
            (one.ahead, two.ahead) = (ahead(first, one), ahead(second, two));
        }
        for place in last {
            place.ahead = ahead(lanes::ahead(text(place)), place);
        }
    }

    /// How many bytes they have.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }

    /// All in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Draft<'_>> {
        self.places.iter().map(|Place { begin, end, links, ahead }| Draft {
            bytes: &self.bytes[*begin..*end],
            prev: links.prev,
            itself: links.itself,
            seq: links.seq,
            ahead: *ahead,
        })
    }
}

/// Takes the keys of one event, ascending.
#[derive(Debug)]
pub struct EventWriter<'b> {
    object: ObjectWriter<'b>,
    /// Where the line begins in the buffer.
    begin: usize,
    /// The first of the chain's own keys that is not in its place yet, or [`BEHIND_ALL`].
    next: Word,
    links: Links,
}

/// Behind every key.
const BEHIND_ALL: Word = Word::MAX;

impl EventWriter<'_> {
    /// Writes a key and its value.
    pub fn put<'v>(&mut self, key: &str, value: impl Into<Field<'v>>) -> &mut Self {
        self.link_up_to(Word::of(key.as_bytes()));
        self.object.put(key, value);
        self
    }

    /// Writes a key that was proven before, and its value.
    #[inline]
    pub fn put_named<'v>(&mut self, name: &Name, value: impl Into<Field<'v>>) -> &mut Self {
        self.link_up_to(name.word());
        self.object.put_named(name, value);
        self
    }

    /// Writes a member that was written before.
    #[inline]
    pub fn put_ready(&mut self, member: &ReadyMember) -> &mut Self {
        self.link_up_to(member.name().word());
        self.object.put_ready(member);
        self
    }

    /// Writes a key and a list of byte strings.
    pub fn list<I>(&mut self, key: &str, items: I) -> &mut Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        self.link_up_to(Word::of(key.as_bytes()));
        self.object.list(key, items);
        self
    }

    /// Makes room for those of the chain's own keys that stand before a key, and the one that it equals: pushing that
    /// again is then the error of a key that stands twice.
    #[inline]
    fn link_up_to(&mut self, word: Word) {
        while self.next <= word && self.next != BEHIND_ALL {
            self.link();
        }
    }

    fn link(&mut self) {
        const PREV: Word = HASH_PREV.word();
        const ITSELF: Word = HASH_SELF.word();
        match self.next {
            PREV => {
                self.object.put_named(&HASH_PREV, &Hash::ZERO.digits()[..]);
                self.links.prev = self.object.len() - self.begin - Hash::DIGITS - 1;
                self.next = ITSELF;
            }
            ITSELF => {
                self.links.itself = self.object.len() - self.begin;
                self.object.leave_out(&HASH_SELF);
                self.next = SEQ.word();
            }
            _ => {
                self.object.name(&SEQ);
                self.links.seq = self.object.len() - self.begin;
                self.next = BEHIND_ALL;
            }
        }
    }

    fn finish(mut self) -> Result<Links, WriteError> {
        while self.next != BEHIND_ALL {
            self.link();
        }
        self.object.finish()?;
        Ok(self.links)
    }
}
