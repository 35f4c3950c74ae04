//! SHA-256 of several messages at a time.
//!
//! Each step of SHA-256 waits for the one before it, so a processor has time for a second message between the steps of
//! the first. Block by block in turn, two take little longer than one. The compression function is [`sha2`]'s; here are
//! only the padding (FIPS 180-4, section 5.1.1) and the turns.

use sha2::block_api::compress256;

/// What was hashed so far comes to.
pub(crate) type State = [u32; 8];

/// FIPS 180-4, section 5.3.3.
pub(crate) const INITIAL: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Bytes in a block.
pub(crate) const BLOCK: usize = 64;

type Block = [u8; BLOCK];

/// A message with its padding, in memory that is used again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Takes a message made of `parts`.
    pub fn set(&mut self, parts: &[&[u8]]) {
        self.0.clear();
        for part in parts {
            self.0.extend_from_slice(part);
        }
        pad(&mut self.0);
    }

    fn blocks(&self) -> &[Block] {
        self.0.as_chunks().0
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

/// [`ahead`] of two messages.
pub(crate) fn both_ahead(messages: [&[u8]; 2]) -> [State; 2] {
    in_turn(messages.map(|message| message.as_chunks().0))
}

/// The hash of a message with its padding, of which so many blocks are hashed already.
pub(crate) fn go_on(mut state: State, blocks: usize, message: &[u8]) -> [u8; 32] {
    compress256(&mut state, &message.as_chunks().0[blocks..]);
    digest(state)
}

/// The hashes of two messages.
pub(crate) fn both(messages: [&Message; 2]) -> [[u8; 32]; 2] {
    in_turn(messages.map(Message::blocks)).map(digest)
}

/// Hashes blocks of two messages in turn.
fn in_turn([one, two]: [&[Block]; 2]) -> [State; 2] {
    let shared = one.len().min(two.len());
    let mut states = [INITIAL; 2];
    for (one, two) in one.iter().zip(two) {
        compress256(&mut states[0], std::slice::from_ref(one));
        compress256(&mut states[1], std::slice::from_ref(two));
    }
    compress256(&mut states[0], &one[shared..]);
    compress256(&mut states[1], &two[shared..]);
    states
}

/// The hash of one message.
pub(crate) fn one(message: &Message) -> [u8; 32] {
    let mut state = INITIAL;
    compress256(&mut state, message.blocks());
    digest(state)
}

/// The hashes of many messages of `N` bytes each, which fill `B` blocks with their padding; each is written over
/// `hashes`.
pub(crate) fn all<const N: usize, const B: usize>(
    messages: impl ExactSizeIterator<Item = [u8; N]>,
    hashes: &mut Vec<[u8; 32]>,
) {
    const TURNS: usize = 4;
    const { assert!(N + 9 <= 64 * B && N + 9 > 64 * (B - 1)) };
    let mut messages = messages.map(|message| {
        let mut blocks = [[0; 64]; B];
        let bytes = blocks.as_flattened_mut();
        bytes[..N].copy_from_slice(&message);
        bytes[N] = 0x80;
        bytes[64 * B - 8..].copy_from_slice(&(N as u64 * 8).to_be_bytes());
        blocks
    });
    while messages.len() >= TURNS {
        let blocks: [_; TURNS] = std::array::from_fn(|_| messages.next().unwrap_or([[0; 64]; B]));
        let mut states = [INITIAL; TURNS];
        for at in 0..B {
            for (state, blocks) in states.iter_mut().zip(&blocks) {
                compress256(state, &blocks[at..=at]);
            }
        }
        hashes.extend(states.map(digest));
    }
    for blocks in messages {
        let mut state = INITIAL;
        compress256(&mut state, &blocks);
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
    use crate::hash::sha256;

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + length) as u8).collect()
    }

    #[test]
    fn messages_of_every_length_have_the_librarys_hash() {
        let mut messages = [Message::default(), Message::default()];
        for length in 0..300 {
            for other in [0, 55, 56, 64, length, 1000] {
                let texts = [text(length), text(other)];
                messages[0].set(&[&texts[0][..length / 3], &texts[0][length / 3..]]);
                messages[1].set(&[&texts[1]]);
                let expected = [sha256(&[&texts[0]]), sha256(&[&texts[1]])];
                assert_eq!(both([&messages[0], &messages[1]]), expected);
                assert_eq!([one(&messages[0]), one(&messages[1])], expected);
            }
        }
    }

    #[test]
    fn many_messages_have_the_librarys_hashes() {
        for count in 0..12usize {
            let texts: Vec<[u8; 65]> =
                (0..count).map(|number| text(65 + number)[number..].try_into().unwrap()).collect();
            let mut hashes = Vec::new();
            all::<65, 2>(texts.iter().copied(), &mut hashes);
            all::<33, 1>(texts.iter().map(|text| text[..33].try_into().unwrap()), &mut hashes);
            let long = texts.iter().map(|text| sha256(&[text]));
            let short = texts.iter().map(|text| sha256(&[&text[..33]]));
            assert_eq!(hashes, long.chain(short).collect::<Vec<_>>());
        }
    }
}
