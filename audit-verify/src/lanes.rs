//! SHA-256 of several messages at a time.
//!
//! Each step of SHA-256 waits for the one before it, so a processor has time for a second message between the steps of
//! the first. Block by block in turn, two take little longer than one. The compression function is [`sha2`]'s; here are
//! only the padding (FIPS 180-4, section 5.1.1) and the turns.

use std::slice;

use sha2::block_api::compress256;

use crate::hash::sha256;

/// What was hashed so far comes to.
pub(crate) type State = [u32; 8];

/// FIPS 180-4, section 5.3.3.
const INITIAL: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The length of a block, bytes.
pub(crate) const BLOCK: usize = 64;

type Block = [u8; BLOCK];

/// What follows a message, up to its length.
const PADDING: Block = {
    let mut block = [0; BLOCK];
    block[0] = 0x80;
    block
};

/// A message of two parts, as blocks. Those that lie in one part are read where they are.
struct Message<'t> {
    /// Blocks of the first part.
    first: &'t [Block],
    /// The end of the first part and the beginning of the second, with one block between them from `joint_at` on.
    joint: [Block; 2],
    joint_at: usize,
    /// Blocks of the second part.
    second: &'t [Block],
    /// The end of the second part and the padding, with blocks from `end_at` on.
    end: [Block; 3],
    end_at: usize,
    /// How many blocks there are.
    len: usize,
}

impl<'t> Message<'t> {
    /// `None` where a part is shorter than a block. Nothing of a varying length is copied: that takes longer.
    #[inline(always)]
    fn of(parts: [&'t [u8]; 2]) -> Option<Message<'t>> {
        let [one, two] = parts;
        let (first, rest) = one.as_chunks();
        let joint = [*one.last_chunk()?, *two.first_chunk()?];
        let joint_at = BLOCK - rest.len();
        let (second, left) = two[joint_at..].as_chunks();
        let mut end = [*two.last_chunk()?, PADDING, [0; BLOCK]];
        let end_at = BLOCK - left.len();
        let ends = if left.len() + 9 <= BLOCK { 1 } else { 2 };
        let bits = (one.len() + two.len()) as u64 * 8;
        end.as_flattened_mut()[end_at + BLOCK * ends - 8..][..8].copy_from_slice(&bits.to_be_bytes());
        let len = first.len() + 1 + second.len() + ends;
        Some(Message { first, joint, joint_at, second, end, end_at, len })
    }

    /// Block number `at`, from 0.
    #[inline(always)]
    fn block(&self, at: usize) -> &[Block] {
        match at.checked_sub(self.first.len()) {
            None => &self.first[at..=at],
            Some(0) => block_at(&self.joint, self.joint_at),
            Some(behind) if behind <= self.second.len() => &self.second[behind - 1..behind],
            Some(behind) => block_at(&self.end, self.end_at + BLOCK * (behind - 1 - self.second.len())),
        }
    }
}

/// Makes a message whole blocks.
pub(crate) fn pad(message: &mut Vec<u8>) {
    let bits = message.len() as u64 * 8;
    message.push(0x80);
    let length = (message.len() + 8).next_multiple_of(BLOCK);
    message.resize(length - 8, 0);
    message.extend_from_slice(&bits.to_be_bytes());
}

/// What the whole blocks at the beginning of a message come to.
pub(crate) fn ahead(message: &[u8]) -> State {
    let mut state = INITIAL;
    compress256(&mut state, message.as_chunks().0);
    state
}

/// The hash of a message of which `state` is what its first blocks come to and `rest` are the others, padding included;
/// and, done in the same time, [`ahead`] of another message.
pub(crate) fn finish_and_ahead(mut state: State, rest: &[u8], other: &[u8]) -> ([u8; 32], State) {
    let (rest, other): (&[Block], &[Block]) = (rest.as_chunks().0, other.as_chunks().0);
    let mut ahead = INITIAL;
    let shared = rest.len().min(other.len());
    for (one, two) in rest.iter().zip(other) {
        compress256(&mut state, slice::from_ref(one));
        compress256(&mut ahead, slice::from_ref(two));
    }
    compress256(&mut state, &rest[shared..]);
    compress256(&mut ahead, &other[shared..]);
    (digest(state), ahead)
}

/// The block that begins at byte `at` of `blocks`.
#[inline(always)]
fn block_at(blocks: &[Block], at: usize) -> &[Block] {
    blocks.as_flattened()[at..][..BLOCK].as_chunks().0
}

/// The hashes of two messages, each of two parts.
#[inline]
pub(crate) fn both(messages: [[&[u8]; 2]; 2]) -> [[u8; 32]; 2] {
    let (Some(one), Some(two)) = (Message::of(messages[0]), Message::of(messages[1])) else {
        return messages.map(|parts| sha256(&parts));
    };
    let shared = one.len.min(two.len);
    let mut states = [INITIAL; 2];
    for at in 0..shared {
        compress256(&mut states[0], one.block(at));
        compress256(&mut states[1], two.block(at));
    }
    (shared..one.len).for_each(|at| compress256(&mut states[0], one.block(at)));
    (shared..two.len).for_each(|at| compress256(&mut states[1], two.block(at)));
    states.map(digest)
}

/// A message of `N` bytes whose first byte is `tag` and whose others are zeros, with its padding: `B` blocks.
pub(crate) const fn padded<const N: usize, const B: usize>(tag: u8) -> [Block; B] {
    const { assert!(N + 9 <= BLOCK * B && N + 9 > BLOCK * (B - 1)) };
    let mut blocks = [[0; BLOCK]; B];
    blocks[0][0] = tag;
    blocks[N / BLOCK][N % BLOCK] = 0x80;
    let bits = (N as u16 * 8).to_be_bytes();
    blocks[B - 1][BLOCK - 2] = bits[0];
    blocks[B - 1][BLOCK - 1] = bits[1];
    blocks
}

/// The hashes of many messages of the same length, each `blank` with something that `put` puts there; they are added
/// to `hashes`.
pub(crate) fn all<M, const B: usize>(
    blank: [Block; B],
    messages: &[M],
    put: impl Fn(&mut [u8], &M),
    hashes: &mut Vec<[u8; 32]>,
) {
    const TURNS: usize = 4;
    let mut lanes = [blank; TURNS];
    let (whole, rest) = messages.as_chunks::<TURNS>();
    for messages in whole {
        let mut states = [INITIAL; TURNS];
        for (blocks, message) in lanes.iter_mut().zip(messages) {
            put(blocks.as_flattened_mut(), message);
        }
        for at in 0..B {
            for (state, blocks) in states.iter_mut().zip(&lanes) {
                compress256(state, &blocks[at..=at]);
            }
        }
        hashes.extend(states.map(digest));
    }
    for message in rest {
        let mut state = INITIAL;
        put(lanes[0].as_flattened_mut(), message);
        compress256(&mut state, &lanes[0]);
        hashes.push(digest(state));
    }
}

fn digest(state: State) -> [u8; 32] {
    let mut digest = [0; 32];
    for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + length) as u8).collect()
    }

    #[test]
    fn messages_of_every_length_have_the_librarys_hash() {
        for length in 0..300 {
            for other in [0, 55, 56, 64, length, 1000] {
                let texts = [text(length), text(other)];
                let parts = [texts[0].split_at(length / 3), texts[1].split_at(other * 2 / 3)];
                let expected = texts.each_ref().map(|text| sha256(&[text]));
                assert_eq!(both(parts.map(|(first, second)| [first, second])), expected, "{length} {other}");
            }
        }
    }

    #[test]
    fn messages_cut_anywhere_have_the_librarys_hash() {
        let texts = [text(300), text(177)];
        let expected = texts.each_ref().map(|text| sha256(&[text]));
        for cut in 0..=177 {
            let parts = texts.each_ref().map(|text| text.split_at(cut));
            assert_eq!(both(parts.map(|(first, second)| [first, second])), expected, "{cut}");
        }
    }

    #[test]
    fn many_messages_have_the_librarys_hashes() {
        for count in 0..12usize {
            let texts: Vec<[u8; 65]> = (0..count)
                .map(|number| {
                    let mut text: [u8; 65] = text(65 + number)[number..].try_into().unwrap();
                    text[0] = 7;
                    text
                })
                .collect();
            let mut hashes = Vec::new();
            all(
                padded::<65, 2>(7),
                &texts,
                |into, text| into[1..65].copy_from_slice(&text[1..]),
                &mut hashes,
            );
            all(
                padded::<33, 1>(7),
                &texts,
                |into, text| into[1..33].copy_from_slice(&text[1..33]),
                &mut hashes,
            );
            let long = texts.iter().map(|text| sha256(&[text]));
            let short = texts.iter().map(|text| sha256(&[&text[..33]]));
            assert_eq!(hashes, long.chain(short).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_hashed_ahead_goes_on_to_the_librarys_hash() {
        for length in 0..300 {
            let message = text(length);
            let mut blocks = message.clone();
            pad(&mut blocks);
            for cut in [0, 63, 64, 65, 128, length / 2, length] {
                let cut = cut.min(length);
                let other = text(cut * 2);
                let rest = &blocks[cut / BLOCK * BLOCK..];
                let (hash, next) = finish_and_ahead(ahead(&message[..cut]), rest, &other);
                assert_eq!(hash, sha256(&[&message]));
                assert_eq!(next, ahead(&other));
            }
        }
    }
}
