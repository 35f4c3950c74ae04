//! Directories in which one file answers to several spellings of its name: which rules see only one of them.
//!
//! Hooks judge the spelling that was called. Where a file system folds case (vfat, ext4 directories with casefold), or
//! knows short names, a rule on `secret.txt` says nothing of `SECRET.TXT`, which is the same file there. Which directories
//! those are is the runner's to find; here is what of a policy then depends on spelling.

use std::collections::BTreeSet;

use crate::access::AccessSet;
use crate::model::{Decision, Mode, Policy, RuleName, Section};
use crate::pattern::{ByteSet, Element, Pattern, enter, step};

/// A pattern that keeps something closed by the spelling of its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spelled {
    /// The rule.
    pub rule: RuleName,
    /// The pattern.
    pub pattern: String,
    /// Whether it could match anywhere: it does not begin with a directory.
    pub anywhere: bool,
}

/// What of a policy is about the spelling of names below a directory (an absolute path, literally), and could be reached by
/// another one. What is closed below it whatever it is called is not.
pub fn spelled(policy: &Policy, directory: &[u8]) -> BTreeSet<Spelled> {
    if policy.mode != Mode::Enforce {
        return BTreeSet::new();
    }
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    [&policy.files, &policy.exec].into_iter().flat_map(|section| in_section(section, directory)).collect()
}

fn in_section(section: &Section<Pattern>, directory: &[u8]) -> Vec<Spelled> {
    // What some rule opens below it; everything where the default does.
    let opened = (section.default != Decision::Allow).then(|| {
        let allowing = section.rules.iter().filter(|rule| rule.effect == Decision::Allow);
        let there = |pattern: &Pattern| below(pattern, directory) != Below::Nothing;
        allowing.filter(|rule| rule.objects.iter().any(there)).flat_map(|rule| rule.accesses.iter()).collect()
    });
    let could_be_open = |accesses: AccessSet| match &opened {
        None => true,
        Some(opened) => accesses.overlaps(*opened),
    };
    let law = section.rules.iter().filter(|rule| rule.mode == Mode::Enforce && could_be_open(rule.accesses));
    law.flat_map(|rule| {
        // An allowed name that is spelled otherwise is denied: that is safe.
        let closing = if rule.effect == Decision::Allow { &rule.except } else { &rule.objects };
        closing.iter().filter(|pattern| below(pattern, directory) == Below::Names).map(|pattern| Spelled {
            rule: rule.name.clone(),
            pattern: pattern.text().to_owned(),
            anywhere: pattern.globs().iter().any(|glob| is_anywhere(glob)),
        })
    })
    .collect()
}

/// What a pattern says of what lies below a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Below {
    /// Nothing.
    Nothing,
    /// The same of all that has the same depth.
    Alike,
    /// It depends on how it is called.
    Names,
}

fn below(pattern: &Pattern, directory: &[u8]) -> Below {
    pattern.globs().iter().map(|glob| below_glob(glob, directory)).max().unwrap_or(Below::Nothing)
}

fn below_glob(glob: &[Element], directory: &[u8]) -> Below {
    let last = glob.len().saturating_sub(1);
    let mut now = vec![false; glob.len() + 1];
    enter(glob, 0, &mut now);
    for byte in directory.iter().chain(b"/") {
        if *byte == b'/' && glob.last() == Some(&Element::Below) && now[last] {
            return Below::Alike;
        }
        let mut next = vec![false; glob.len() + 1];
        step(glob, &now, *byte, &mut next);
        now = next;
    }
    if glob.last() == Some(&Element::Any) && now[last] {
        return Below::Alike;
    }
    let names = |element: &Element| match element {
        Element::Byte(byte) => *byte != b'/',
        // A name has a byte at least: `*` begins with any.
        Element::Set(set) => *set != ByteSet::all_but_slash(),
        Element::Star | Element::Any | Element::Deep | Element::Below => false,
    };
    let ways = || (0..glob.len()).filter(|at| now[*at]);
    if ways().any(|at| glob[at..].iter().any(names)) {
        Below::Names
    } else if ways().next().is_some() {
        Below::Alike
    } else {
        Below::Nothing
    }
}

/// Whether a glob begins with no directory by name.
fn is_anywhere(glob: &[Element]) -> bool {
    !glob.iter().map_while(Element::byte).skip(1).any(|byte| byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Variables;

    fn of(rules: &str, default: &str) -> Policy {
        let text = format!("version: 1\nname: p\nfiles:\n  default: {default}\n  rules:\n{rules}");
        Policy::parse("p.yaml", &text, &Variables::new()).unwrap()
    }

    fn found(policy: &Policy, directory: &str) -> Vec<(String, bool)> {
        spelled(policy, directory.as_bytes())
            .into_iter()
            .map(|found| (found.pattern, found.anywhere))
            .collect()
    }

    #[test]
    fn names_below_are_told_apart() {
        for (pattern, expected) in [
            ("/mnt/usb/secret", Some(false)),
            ("/mnt/usb/[a-c]", Some(false)),
            ("/mnt/*/secret", Some(false)),
            ("/mnt/usb/a/**", Some(false)),
            ("/mnt/{disk,usb}/deep/x*", Some(false)),
            ("**/.env", Some(true)),
            ("/*/*/x", Some(true)),
            // Whatever it is called, or somewhere else.
            ("/mnt/usb/**", None),
            ("/mnt/**", None),
            ("/mnt/usb/*", None),
            ("/mnt/usb/*/*", None),
            ("/mnt/usb", None),
            ("/mnt/usbx/secret", None),
            ("/mnt/us", None),
        ] {
            let policy = of(&format!("    - {{ name: r, deny: [read], path: [\"{pattern}\"] }}\n"), "allow");
            let expected: Vec<(String, bool)> =
                expected.into_iter().map(|anywhere| (pattern.to_owned(), anywhere)).collect();
            for directory in ["/mnt/usb", "/mnt/usb/"] {
                assert_eq!(found(&policy, directory), expected, "{pattern}");
            }
        }
    }

    #[test]
    fn of_the_root_all_names_are_below() {
        let policy = of("    - { name: r, deny: [read], path: [\"/a\"] }\n", "allow");
        assert_eq!(found(&policy, "/"), [("/a".to_owned(), true)]);
    }

    #[test]
    fn what_is_closed_by_whatever_name_needs_no_spelling() {
        let secret = "    - { name: secret, deny: [read], path: [\"**/.env\"] }\n";
        let open = |path: &str, accesses: &str| {
            format!("    - {{ name: open, allow: [{accesses}], path: [\"{path}\"] }}\n{secret}")
        };
        let all = vec![("**/.env".to_owned(), true)];
        assert_eq!(found(&of(&open("/home/**", "read"), "deny"), "/boot/efi"), []);
        assert_eq!(found(&of(&open("/boot/**", "write"), "deny"), "/boot/efi"), []);
        assert_eq!(found(&of(&open("/boot/**", "read"), "deny"), "/boot/efi"), all);
        assert_eq!(found(&of(&open("/boot/efi/x", "read"), "deny"), "/boot/efi"), all);
        assert_eq!(found(&of(secret, "allow"), "/boot/efi"), all);
    }

    #[test]
    fn exceptions_count_where_they_close() {
        let rule = |effect: &str| {
            format!("    - {{ name: r, {effect}: [read], path: [\"/mnt/**\"], except: [\"/mnt/usb/x\"] }}\n")
        };
        assert_eq!(found(&of(&rule("allow"), "deny"), "/mnt/usb"), [("/mnt/usb/x".to_owned(), false)]);
        assert_eq!(found(&of(&rule("deny"), "allow"), "/mnt/usb"), []);
        assert_eq!(found(&of(&rule("allow"), "allow"), "/mnt/usb"), [("/mnt/usb/x".to_owned(), false)]);
    }

    #[test]
    fn what_is_no_law_closes_nothing() {
        let rule = "    - { name: r, deny: [read], path: [\"/mnt/usb/x\"], mode: audit }\n";
        assert_eq!(found(&of(rule, "allow"), "/mnt/usb"), []);
    }
}
