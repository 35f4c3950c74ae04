//! Policies of varied shape about given objects: most of their rules nearly match something that is tried.

use super::attempts::{PORTS, Plan};
use super::paths::{LONGEST, ROOT, split};
use super::random::Random;
use super::tree::{KINDS_OF_CONTENTS, contents_of_kind, digest};
use std::fmt::Write as _;

/// Parts of the language that policies have only where the kernel holds them.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// `by`, `unless_by` and `under`.
    pub subjects: bool,
    /// `sha256`.
    pub contents: bool,
}

/// What the kernel holds.
pub const HELD: Parts = Parts { subjects: true, contents: true };

const FILES: [&str; 6] = ["read", "write", "create", "delete", "attributes", "load"];
const NETWORK: [&str; 3] = ["connect", "send", "bind"];

/// Patterns about those who act.
const ACTORS: [&str; 6] =
    ["/usr/bin/other", "**/wget", "/usr/bin/*", "**/guest-probe", "/usr/bin/{wget,other}", "/nowhere/**"];

/// The text of a policy of this name: rules of its own for each of these directories, about what the plan tries
/// there, and others for addresses.
pub fn generate(random: &mut Random, name: &str, regions: &[Vec<u8>], plan: &Plan) -> String {
    let objects: Vec<Vec<Vec<u8>>> = regions.iter().map(|region| plan.objects_below(region)).collect();
    let about = |random: &mut Random, rule: usize| {
        let at = rule % regions.len();
        about_paths(random, &regions[at], &objects[at])
    };
    let mut text = format!("version: 1\nname: {name}\n");
    let surroundings = format!("allow: [all], path: ['/**'], except: ['{ROOT}/**']");
    let rules = random.between(regions.len() * 3, regions.len() * 9);
    section(random, &mut text, "files", &surroundings, rules, |random, rule| {
        let accesses = if random.percent(12) { vec!["all"] } else { random.some(&FILES) };
        (accesses.join(", "), about(random, rule))
    });
    let rules = random.between(regions.len(), regions.len() * 3);
    section(random, &mut text, "exec", &surroundings, rules, |random, rule| {
        if HELD.contents && random.percent(25) {
            let kind = random.below(KINDS_OF_CONTENTS);
            return ("run".to_owned(), format!("sha256: [{}]", digest(&contents_of_kind(kind))));
        }
        ("run".to_owned(), about(random, rule))
    });
    let rules = random.between(4, 16);
    section(random, &mut text, "network", "allow: [listen], to: [any]", rules, |random, _| {
        let mut about = format!("to: [{}]", list(random, target));
        if random.percent(25) {
            let _ = write!(about, ", except: [{}]", list(random, target));
        }
        (random.some(&NETWORK).join(", "), about)
    });
    text
}

/// A section: its default, a rule for what is not tried, and others whose accesses and objects `rule` makes. Some
/// names come before the default's in the alphabet, others after it.
fn section(
    random: &mut Random,
    text: &mut String,
    section: &str,
    surroundings: &str,
    rules: usize,
    rule: impl Fn(&mut Random, usize) -> (String, String),
) {
    let denies = random.percent(45);
    let word = |denies| if denies { "deny" } else { "allow" };
    let _ = writeln!(text, "{section}:\n  default: {}\n  rules:", word(denies));
    let _ = writeln!(text, "    - {{ name: a-{section}, {surroundings} }}");
    for number in 0..rules {
        let effect = word(random.percent(if denies { 30 } else { 70 }));
        let (accesses, about) = rule(random, number);
        let first = random.pick(&["c", "x"]);
        let _ = write!(text, "    - {{ name: {first}{number}-{section}, {effect}: [{accesses}], {about}");
        for key in ["by", "unless_by", "under"] {
            if HELD.subjects && random.percent(15) {
                let _ = write!(text, ", {key}: ['{}']", random.pick(&ACTORS));
            }
        }
        if effect == "deny" && random.percent(8) {
            text.push_str(", mode: audit");
        }
        text.push_str(" }\n");
    }
}

fn about_paths(random: &mut Random, region: &[u8], objects: &[Vec<u8>]) -> String {
    let mut about = format!("path: [{}]", list(random, |random| pattern(random, region, objects)));
    if random.percent(25) {
        let _ = write!(about, ", except: [{}]", list(random, |random| pattern(random, region, objects)));
    }
    about
}

/// One entry or a few.
fn list(random: &mut Random, entry: impl Fn(&mut Random) -> String) -> String {
    let count = random.pick(&[1, 1, 1, 2, 3]);
    let mut entries: Vec<String> = (0..count).map(|_| format!("'{}'", entry(random))).collect();
    entries.sort();
    entries.dedup();
    entries.join(", ")
}

/// A pattern that one of the objects of a region suggested. Those that begin with `**/`, and so are about all
/// regions, name something that nothing outside the tree is called.
fn pattern(random: &mut Random, region: &[u8], objects: &[Vec<u8>]) -> String {
    let object = random.pick(objects);
    let names: Vec<&[u8]> = object[region.len() + 1..].split(|byte| *byte == b'/').collect();
    let joined = |names: &[&[u8]]| names.iter().map(|name| format!("/{}", escape(name))).collect::<String>();
    let at = random.below(names.len());
    let root = escape(region);
    let deep = if random.percent(75) { format!("{root}/**") } else { "**".to_owned() };
    match random.below(100) {
        0..16 => escape(&object),
        16..40 => format!("{root}{}/**", joined(&names[..at.min(2)])),
        40..56 => {
            let one = wild(random, names[at]);
            format!("{root}{}/{one}{}", joined(&names[..at]), joined(&names[at + 1..]))
        }
        56..64 => {
            let from = random.between(at, names.len() - 1);
            format!("{root}{}/**{}", joined(&names[..at]), joined(&names[from..]))
        }
        64..76 => format!("{deep}/{}", escape(split(&object).1)),
        76..84 => {
            format!("{deep}/*{}", random.pick(&["b", "c", ".pem", "\\xff", "\\]", "[ab]", "\\x0aline"]))
        }
        84..92 => near(random, &object),
        _ => {
            let (first, last) = (&object[region.len() + 1..][..1], &object[object.len() - 1..]);
            format!("{root}/{}**{}", escape(first), escape(last))
        }
    }
}

/// Something that matches a name, and others.
fn wild(random: &mut Random, name: &[u8]) -> String {
    let (first, last) = (&name[..1], &name[name.len() - 1..]);
    match random.below(8) {
        0 | 1 => "*".to_owned(),
        2 => "?".repeat(name.len()),
        3 => format!("{}*", escape(first)),
        4 => format!("*{}", escape(last)),
        5 => format!("{{{},zz}}", escape(name)),
        6 => format!("[{}a-c]{}", escape(first), escape(&name[1..])),
        _ => format!("[!a]{}", escape(&name[1..])),
    }
}

/// A path that is nearly this one.
fn near(random: &mut Random, path: &[u8]) -> String {
    let shorter = &path[..path.len() - 1];
    match random.below(3) {
        0 if !shorter.ends_with(b"/") && !shorter.ends_with(b"/.") => escape(shorter),
        1 if path.len() < LONGEST => format!("{}b", escape(path)),
        _ => format!("{}[ab]", escape(shorter)),
    }
}

/// A path as a pattern that stands in single quotes: all but letters, digits, slash and dot in one of the ways
/// that the language has.
fn escape(path: &[u8]) -> String {
    let mut text = String::new();
    for byte in path {
        match byte {
            b'/' | b'.' | b'a'..=b'z' | b'0'..=b'9' => text.push(char::from(*byte)),
            b'*' | b'[' | b']' | b'{' | b'}' | b',' | b'\\' | b'$' | b'?' | b'!' => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            byte => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

/// What a network rule is about, from few prefixes that lie in each other.
fn target(random: &mut Random) -> String {
    if random.percent(25) {
        let socket = random.pick(&[
            "/**",
            "/tmp/oracle-sockets/**",
            "/tmp/oracle-sockets/*",
            "/tmp/oracle-sockets/a/**",
            "/tmp/oracle-sockets/{a,b}/*",
            "/tmp/oracle-sockets/**/sock-d",
            "/tmp/oracle-sockets/a*/*-s",
            "@**",
            "@oracle-*",
            "@oracle-a/b-d",
            "@oracle-a-s",
        ]);
        return format!("unix:{socket}");
    }
    let host = random.pick(&[
        "any",
        "localhost",
        "127.0.0.1",
        "127.0.0.0/24",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/24",
        "10.1.2.3",
        "0.0.0.0/0",
        "128.0.0.0/1",
        "169.254.169.254",
        "::ffff:10.1.2.0/120",
        "::/0",
        "::1",
        "2001:db8::/32",
        "2001:db8::1",
        "fd00::/8",
        "8000::/1",
    ]);
    let port = match random.below(6) {
        0..3 => String::new(),
        3 => format!(":{}", random.pick(&PORTS)),
        4 => ":80-8000".to_owned(),
        _ => ":8001-65535".to_owned(),
    };
    let host = match host.split_once('/') {
        _ if port.is_empty() || !host.contains(':') => host.to_owned(),
        Some((address, length)) => format!("[{address}]/{length}"),
        None => format!("[{host}]"),
    };
    format!("{host}{port}{}", random.pick(&["", "", "/tcp", "/udp"]))
}
