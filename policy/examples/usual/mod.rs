//! Policies of usual shape, for measuring.
//!
//! Of every ten rules five are directories with all below them, two are files, one names a file at any depth, one a
//! suffix, and one has a wildcard in the middle; they share directories as real ones do.

use std::fmt::Write as _;

/// What rules have beside their paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variety {
    /// Nothing.
    Plain,
    /// Of every hundred a few have exceptions, or hold for some programs only.
    Varied,
}

const WORDS: [&str; 16] = [
    "src", "lib", "app", "core", "data", "cache", "config", "build", "test", "docs", "main", "util", "net",
    "auth", "index", "tmp",
];

fn word(n: usize) -> &'static str {
    WORDS[n % WORDS.len()]
}

/// A number that looks random, the same each time.
fn number(i: usize) -> usize {
    (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) as usize
}

/// The directory that rule `i` is about, if it is not about names anywhere.
pub fn directory(i: usize) -> String {
    let n = number(i);
    let top = ["home/user", "opt", "srv", "var/lib"][n % 4];
    format!("/{top}/{}/{}-{}", word(n >> 2), word(n >> 6), i / 4)
}

/// A policy of `count` rules of usual shape.
pub fn policy(count: usize, variety: Variety) -> String {
    let mut text = String::from("version: 1\nname: measured\nfiles:\n  default: deny\n  rules:\n");
    for i in 0..count {
        let n = number(i);
        let directory = directory(i);
        let path = match i % 10 {
            0..5 => format!("{directory}/{}/**", word(n >> 10)),
            5 | 6 => format!("{directory}/{}.{}", word(n >> 10), ["json", "toml", "py", "rs"][(n >> 14) % 4]),
            7 => format!("**/{}-{i}.lock", word(n >> 10)),
            8 => format!("**/*.{}{i}", word(n >> 10)),
            _ => format!("{directory}/*/{}/**", word(n >> 10)),
        };
        let effect =
            ["allow: [read]", "allow: [read, write]", "deny: [write]", "deny: [read, write]"][(n >> 20) % 4];
        let more = match n % 100 {
            _ if variety == Variety::Plain => String::new(),
            7 => format!(", except: [\"{directory}/{}/*.md\"]", word(n >> 10)),
            23 => String::from(", except: [\"**/.env\"]"),
            41 => format!(", by: [\"**/{}\"]", ["git", "npm", "node", "ssh"][(n >> 7) % 4]),
            67 => String::from(", under: [\"**/npm\", \"/usr/bin/make\"]"),
            83 => String::from(", unless_by: [\"/opt/**\"]"),
            _ => String::new(),
        };
        let _ = writeln!(text, "    - {{ name: rule-{i}, {effect}, path: [\"{path}\"]{more} }}");
    }
    text
}
