//! Lines as far as they are known before the line in front of them is.

use super::{ChainError, LINK_MAX, Template};
use crate::Hash;
use crate::canonical::{Field, LINE_MAX, ObjectWriter, WriteError, write_field};

/// The member `hash_self`, its digits still unknown, with the separator before it.
pub(super) const SLOT: &[u8] =
    b", \"hash_self\": \"0000000000000000000000000000000000000000000000000000000000000000\"";

/// The key `seq`, with the separators around it.
const SEQ: &[u8] = b", \"seq\": ";

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
}

/// Where the chain's own members stand, from the beginning of a line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    /// The digits of `hash_prev`, which are zeros.
    pub prev: usize,
    /// [`SLOT`].
    pub itself: usize,
    /// The digits of `seq`, which are missing.
    pub seq: usize,
}

/// One of [`Drafts`].
#[derive(Clone, Copy, Debug)]
pub struct Draft<'d> {
    /// The line without the digits of `seq`, those of hashes zeros.
    pub(super) bytes: &'d [u8],
    pub(super) links: Links,
}

impl<'d> Draft<'d> {
    /// What can be hashed before the line in front of it is known.
    pub(super) fn known(&self) -> &'d [u8] {
        &self.bytes[..self.links.prev]
    }
}

impl Drafts {
    /// Writes one more, of the keys that `fill` pushes, ascending; not those of the chain.
    ///
    /// # Errors
    /// A mistake in the keys, or a line that may be longer than [`LINE_MAX`]: then nothing is added.
    pub fn add(&mut self, fill: impl FnOnce(&mut EventWriter<'_>)) -> Result<(), ChainError> {
        self.add_written(|bytes| write(bytes, fill))
    }

    /// Writes one more by a template: `value` writes each value in the place that it is given, of which it gets the
    /// number, in order.
    ///
    /// # Errors
    /// A line that may be longer than [`LINE_MAX`]: then nothing is added.
    #[inline]
    pub fn add_like(
        &mut self,
        template: &Template,
        value: impl FnMut(usize, &mut ValueWriter<'_>),
    ) -> Result<(), ChainError> {
        self.add_written(|bytes| Ok(template.write(bytes, value)))
    }

    #[inline]
    fn add_written(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<Links, WriteError>,
    ) -> Result<(), ChainError> {
        let begin = self.bytes.len();
        let written = write(&mut self.bytes);
        let end = self.bytes.len();
        let len = end - begin + LINK_MAX;
        match written {
            Ok(links) if len <= LINE_MAX => {
                self.places.push(Place { begin, end, links });
                Ok(())
            }
            written => {
                self.bytes.truncate(begin);
                Err(written.map_or_else(ChainError::from, |_| ChainError::TooLong { len }))
            }
        }
    }

    /// How many bytes they have.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
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
        self.places
            .iter()
            .map(|Place { begin, end, links }| Draft { bytes: &self.bytes[*begin..*end], links: *links })
    }
}

/// Writes a line of the keys that `fill` pushes.
fn write(bytes: &mut Vec<u8>, fill: impl FnOnce(&mut EventWriter<'_>)) -> Result<Links, WriteError> {
    let mut event = EventWriter::new(bytes);
    fill(&mut event);
    event.finish().map(|(links, _)| links)
}

/// Writes a value where a [`Template`] has a place for one.
#[derive(Debug)]
pub struct ValueWriter<'b>(pub(super) &'b mut Vec<u8>);

impl ValueWriter<'_> {
    /// Writes it.
    #[inline]
    pub fn put<'v>(&mut self, value: impl Into<Field<'v>>) {
        write_field(self.0, value.into());
    }
}

/// The chain's own keys in the order in which they stand in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Prev,
    Itself,
    Seq,
    None,
}

impl Link {
    fn key(self) -> Option<&'static str> {
        match self {
            Link::Prev => Some("hash_prev"),
            Link::Itself => Some("hash_self"),
            Link::Seq => Some("seq"),
            Link::None => None,
        }
    }
}

/// Takes the keys of one event, ascending.
#[derive(Debug)]
pub struct EventWriter<'b> {
    object: ObjectWriter<'b>,
    /// Where the line begins in the buffer.
    begin: usize,
    next: Link,
    links: Links,
    /// Where values belong that are missing.
    values: Vec<usize>,
}

impl<'b> EventWriter<'b> {
    /// Begins a line at the end of `bytes`.
    pub(super) fn new(bytes: &'b mut Vec<u8>) -> Self {
        let begin = bytes.len();
        EventWriter {
            object: ObjectWriter::new(bytes),
            begin,
            next: Link::Prev,
            links: Links::default(),
            values: Vec::new(),
        }
    }

    /// Writes a key and its value.
    pub fn put<'v>(&mut self, key: &str, value: impl Into<Field<'v>>) -> &mut Self {
        self.link_up_to(key);
        self.object.put(key, value);
        self
    }

    /// Writes a key and a list of byte strings.
    pub fn list<I>(&mut self, key: &str, items: I) -> &mut Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        self.link_up_to(key);
        self.object.list(key, items);
        self
    }

    /// Writes a key and leaves a place for its value.
    pub(super) fn leave(&mut self, key: &str) {
        self.link_up_to(key);
        self.object.key(key);
        self.values.push(self.object.len() - self.begin);
    }

    /// Writes those of the chain's own keys that stand before `key`, and the one that it equals: pushing that
    /// again is then the error of a key that stands twice.
    fn link_up_to(&mut self, key: &str) {
        while self.next.key().is_some_and(|own| own <= key) {
            self.link();
        }
    }

    fn link(&mut self) {
        self.next = match self.next {
            Link::Prev => {
                self.object.put("hash_prev", &Hash::ZERO.digits()[..]);
                self.links.prev = self.object.len() - self.begin - Hash::DIGITS - 1;
                Link::Itself
            }
            Link::Itself => {
                self.links.itself = self.object.len() - self.begin;
                self.object.reserve("hash_self", SLOT);
                Link::Seq
            }
            Link::Seq | Link::None => {
                self.object.reserve("seq", SEQ);
                self.links.seq = self.object.len() - self.begin;
                Link::None
            }
        };
    }

    /// Where the links are, and the places for values.
    pub(super) fn finish(mut self) -> Result<(Links, Vec<usize>), WriteError> {
        while self.next != Link::None {
            self.link();
        }
        self.object.finish()?;
        Ok((self.links, self.values))
    }
}
