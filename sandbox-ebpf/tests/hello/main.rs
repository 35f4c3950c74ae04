//! The machine that reads names of servers: real and made hellos and requests, however they are cut, and an oracle.

mod http;
mod make;
mod oracle;
mod random;
mod tls;

use oracle::{Decision, Reading};
use sandbox_ebpf::hello::{Hello, outcome};

/// What the machine decides about bytes that come one after the other.
fn read(bytes: &[u8]) -> (Hello, Vec<Decision>) {
    let mut hello = Hello::START;
    let mut decisions = Vec::new();
    for &byte in bytes {
        step(&mut hello, byte, &mut decisions);
    }
    (hello, decisions)
}

/// The same with segments that end at `cuts`, as the program does it: leaving out what the machine lets leave out, in
/// chunks of 16 bytes, and plain words at once.
fn read_cut(bytes: &[u8], cuts: &[usize]) -> Vec<Decision> {
    let mut hello = Hello::START;
    let mut decisions = Vec::new();
    let mut begin = 0;
    for &end in cuts.iter().chain([&bytes.len()]) {
        let mut rest = &bytes[begin..end];
        while !rest.is_empty() {
            let inert = hello.skip(rest.len() as u64) as usize;
            let (chunk, behind) = rest[inert..].split_at(16.min(rest.len() - inert));
            for word in chunk.chunks(8) {
                if let Ok(eight) = word.try_into()
                    && hello.plain(u64::from_le_bytes(eight))
                {
                    continue;
                }
                for &byte in word {
                    step(&mut hello, byte, &mut decisions);
                }
            }
            rest = behind;
        }
        begin = end;
    }
    decisions
}

fn step(hello: &mut Hello, byte: u8, decisions: &mut Vec<Decision>) {
    let (before, over) = (hello.decisions, hello.over);
    hello.step(byte);
    if hello.decisions != before {
        assert!(over == 0 && hello.decisions == before + 1);
        let name = if hello.outcome == outcome::NAME { hello.name().to_vec() } else { Vec::new() };
        decisions.push(Decision { outcome: hello.outcome, flags: hello.flags, name });
    }
}

/// The decisions about some bytes, when the oracle makes the same.
fn agreed(bytes: &[u8]) -> Vec<Decision> {
    let (_, decisions) = read(bytes);
    let Reading { decisions: expected, open } = oracle::read(bytes);
    if decisions != expected {
        let refused = decisions.last().is_some_and(|last| last.outcome == outcome::REFUSED);
        assert!(
            open && refused && decisions[..decisions.len() - 1] == expected,
            "machine {decisions:x?}\noracle {expected:x?} open {open}\nbytes {}",
            shown(bytes)
        );
    }
    decisions
}

/// The one decision that the machine and the oracle make.
fn one(bytes: &[u8]) -> Decision {
    let decisions = agreed(bytes);
    assert_eq!(decisions.len(), 1, "{decisions:x?}: {}", shown(bytes));
    decisions[0].clone()
}

/// That bytes are refused.
fn refused(bytes: &[u8]) {
    let decisions = agreed(bytes);
    assert_eq!(decisions.last().map(|last| last.outcome), Some(outcome::REFUSED), "{}", shown(bytes));
}

/// That it does not matter where bytes are cut, and that nothing that begins them is refused.
fn cut_everywhere(bytes: &[u8]) {
    let expected = agreed(bytes);
    assert!(expected.iter().all(|decision| decision.outcome != outcome::REFUSED));
    for cut in 0..=bytes.len() {
        assert_eq!(read_cut(bytes, &[cut]), expected, "cut at {cut}");
        agreed(&bytes[..cut]);
    }
    assert_eq!(read_cut(bytes, &(0..bytes.len()).collect::<Vec<_>>()), expected);
}

fn shown(bytes: &[u8]) -> String {
    bytes.iter().take(500).copied().flat_map(std::ascii::escape_default).map(char::from).collect()
}
