//! Paths to try: few names that patterns tell apart only just, and names that are hard to carry.

use super::random::Random;

/// Where the tree is.
pub const ROOT: &str = "/o";
/// Longest path of a system call, and so of a rule.
pub const LONGEST: usize = 4095;
/// Longest name.
const NAME: usize = 255;

/// Names that patterns can confuse.
const USUAL: [&[u8]; 9] = [b"a", b"b", b"ab", b"c", b"bb", b"abc", b"x.pem", b"y.pem", b".env"];

/// Names that somebody will not quote, escape, decode or end rightly.
const HOSTILE: [&[u8]; 18] = [
    b"new\nline",
    b"\n",
    b"\xff",
    b"\xc3\x28\xff\xfe",
    b"sp ace",
    b" ",
    b"q'uo\"te",
    b"\x1b[31m",
    b"[slug]",
    b"*",
    b"**",
    b"{a,b}",
    b"a\\b",
    "\u{e9}".as_bytes(),
    b"a (deleted)",
    b"-rf",
    b"${HOME}",
    b"\x01\x7f\t",
];

/// A name.
pub fn name(random: &mut Random) -> Vec<u8> {
    match random.below(100) {
        0..68 => random.pick(&USUAL).to_vec(),
        68..92 => random.pick(&HOSTILE).to_vec(),
        92..97 => [random.pick(&HOSTILE), random.pick(&USUAL)].concat(),
        _ => long_name(random, NAME),
    }
}

fn long_name(random: &mut Random, length: usize) -> Vec<u8> {
    let mut name = vec![random.pick(&[b'n', b'a', 0xff, b'\n', b' ']); length];
    if let Some(last) = name.last_mut() {
        *last = random.pick(b"ab");
    }
    name
}

/// A path below a directory.
pub fn path(random: &mut Random, below: &[u8]) -> Vec<u8> {
    match random.below(100) {
        0..91 => {
            let depth = random.between(1, 4);
            joined(below, (0..depth).map(|_| name(random)))
        }
        91..96 => deep(random, below),
        _ => long(random, below),
    }
}

/// Directories of the root for so many regions: names that begin alike, and among them those that are hard to carry.
pub fn regions(count: usize) -> Vec<Vec<u8>> {
    let names = USUAL.iter().zip(HOSTILE).flat_map(|(usual, hostile)| [usual.to_vec(), hostile.to_vec()]);
    names.take(count).map(|name| joined(ROOT.as_bytes(), [name])).collect()
}

/// Thirty levels.
fn deep(random: &mut Random, below: &[u8]) -> Vec<u8> {
    let mut names: Vec<Vec<u8>> = (0..29).map(|_| random.pick(&[&b"a"[..], b"b", b"ab"]).to_vec()).collect();
    // Most of the way they go together.
    names[..20].fill(b"a".to_vec());
    names.push(name(random).into_iter().take(16).collect());
    joined(below, names)
}

/// About four thousand bytes, and sometimes the most that there can be.
fn long(random: &mut Random, below: &[u8]) -> Vec<u8> {
    let length = if random.percent(40) { LONGEST } else { random.between(3900, LONGEST) };
    let mut path = below.to_vec();
    let filler = random.pick(&[&b"long"[..], b"\xff\xfe", b"l\no"]);
    while path.len() + NAME + 1 < length {
        path.push(b'/');
        path.extend(filler.iter().cycle().take(NAME.min(length - path.len() - 3)));
    }
    path.push(b'/');
    let rest = length - path.len();
    path.extend(long_name(random, rest));
    path
}

fn joined(below: &[u8], names: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut path = below.to_vec();
    for name in names {
        path.push(b'/');
        path.extend(name);
    }
    path
}

/// The directory of a path, and the name in it.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    (&path[..slash], &path[slash + 1..])
}

/// The directories on the way to a path, from below the root on.
pub fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.filter(|at| *at > ROOT.len()).map(|at| &path[..at])
}
