//! What names have in common that differ from run to run: numbers, hashes, and what mkstemp(3) makes up.
//!
//! A name is only made wider for a reason: it has a part that no two runs would share, or the runs show that they do
//! not share it.

use std::collections::BTreeMap;

use super::paths::Whose;
use super::place::Part;

/// Fewest digits in a row that are taken for a number of this run's: years and versions have less or are kept by dots.
const DIGITS: usize = 5;
/// Fewest characters of a hash.
const HASH: usize = 8;
/// Fewest characters that names made up by mkstemp(3) have in common.
const PREFIX: usize = 2;
/// Fewest letters and digits that stay of a name: what says less would open its neighbours too (`.*`, `a-*`).
const KEPT: usize = 3;

/// The name with a star for each part that is a number or a hash; `None` where it has none.
pub(super) fn shape(name: &str) -> Option<Part> {
    // Escapes are kept as they are: what they stand for is neither.
    if name.contains('\\') {
        return None;
    }
    let (mut text, mut changed) = (String::new(), false);
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let word = |c: &char| c.is_ascii_alphanumeric();
        let length = match word(&first) {
            true => rest.chars().take_while(word).count(),
            false => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        match is_volatile(token) {
            true => {
                changed = true;
                if !text.ends_with('*') {
                    text.push('*');
                }
            }
            false => text.push_str(token),
        }
        rest = after;
    }
    (changed && says_enough(&text)).then_some(text)
}

/// Whether a pattern says which names are meant.
fn says_enough(glob: &str) -> bool {
    glob.chars().filter(|c| c.is_alphanumeric()).count() >= KEPT
}

/// Whether a word of letters and digits is a long number, or a hash.
fn is_volatile(token: &str) -> bool {
    let digits = token.bytes().filter(u8::is_ascii_digit).count();
    let hex = token.bytes().all(|byte| byte.is_ascii_hexdigit());
    (digits == token.len() && digits >= DIGITS) || (hex && digits > 0 && token.len() >= HASH)
}

/// Names of one directory that were seen in one run each, put together where they are made alike: as many
/// characters, with the same beginning. Gives for each such name what stands for it.
pub(super) fn alike<'a>(names: impl Iterator<Item = (&'a str, Whose)>) -> BTreeMap<&'a str, Part> {
    // By length and the first characters.
    let mut kinds: BTreeMap<(usize, &str), Vec<(&'a str, usize)>> = BTreeMap::new();
    for (name, whose) in names.filter(|(name, _)| !name.contains(['\\', '*'])) {
        if let (Whose::Run(run), Some(begins)) = (whose, name.get(..PREFIX)) {
            kinds.entry((name.len(), begins)).or_default().push((name, run));
        }
    }
    let mut found = BTreeMap::new();
    for names in kinds.into_values() {
        // Several in one run are its own affair.
        if names.iter().all(|(_, run)| names.first().is_some_and(|(_, first)| run == first)) {
            continue;
        }
        let texts: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        let glob = common(&texts);
        if says_enough(&glob) {
            found.extend(texts.into_iter().map(|name| (name, glob.clone())));
        }
    }
    found
}

/// What begins and ends all of them, a star between.
fn common(names: &[&str]) -> Part {
    let first = names.first().copied().unwrap_or_default();
    let same = |count: usize, at: &dyn Fn(&str, usize) -> Option<u8>| {
        (0..count).take_while(|index| names.iter().all(|name| at(name, *index) == at(first, *index))).count()
    };
    let mut before = same(first.len(), &|name, index| name.as_bytes().get(index).copied());
    let mut behind = same(first.len() - before, &|name, index| name.bytes().rev().nth(index));
    // Not within a character.
    while !first.is_char_boundary(before) {
        before -= 1;
    }
    while !first.is_char_boundary(first.len() - behind) {
        behind -= 1;
    }
    format!("{}*{}", &first[..before], &first[first.len() - behind..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_hashes_become_stars() {
        for (name, expected) in [
            ("app-3f2a9c01b7.o", Some("app-*.o")),
            ("job.123456.log", Some("job.*.log")),
            ("libfoo.so.1.2.3", None),
            ("python3.11", None),
            ("report-2026.txt", None),
            ("deadbeef", None),
            ("facade", None),
            ("20261127", None),
            ("x\\*12345678", None),
            (".12345", None),
            (".123456-789012", None),
            ("a-12345", None),
            ("abc-12345", Some("abc-*")),
        ] {
            assert_eq!(shape(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn made_up_names_are_known_by_the_runs_that_differ_in_them() {
        let names = [
            ("ccAb3xYz.s", Whose::Run(0)),
            ("ccQ9tUvW.s", Whose::Run(1)),
            ("ccommons.s", Whose::Several),
            ("settings", Whose::Run(0)),
            ("seedling", Whose::Run(0)),
            (".cAAAAA", Whose::Run(0)),
            (".cBBBBB", Whose::Run(1)),
        ];
        let found = alike(names.into_iter());
        let expected = [("ccAb3xYz.s", "cc*.s"), ("ccQ9tUvW.s", "cc*.s")];
        let expected: BTreeMap<&str, Part> =
            expected.into_iter().map(|(name, glob)| (name, glob.to_owned())).collect();
        assert_eq!(found, expected);
    }
}
