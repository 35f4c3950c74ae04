//! What other products of this kind cut short or get wrong, one trial for each: long rules, long and deep paths,
//! many rules, files that come later, a denial inside what is allowed, names that look like patterns.
//!
//! Starting a run is what takes time here, so all limits under a default that allows share one: their rules are one
//! policy, and each trial looks at its own attempts.

use crate::attempt::{ACCES, Attempt, Treatment, allowed, denied, expect_answers, expect_events, steps};
use crate::log::Log;
use crate::run::{self, Finished, complete};
use crate::{Trial, write};
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

pub const TRIALS: &[Trial] = &[
    ("a rule over 64 bytes", || holds("long-rule")),
    ("a path over 256 bytes", || holds("long-path")),
    ("25 levels deep", || holds("deep")),
    ("two thousand rules", || holds("many")),
    ("a file that comes later", || holds("later")),
    ("/a against /ab", || holds("boundary")),
    ("a directory named [slug]", || holds("slug")),
    ("a rule through a symbolic link", || holds("linked")),
    ("nothing else is blocked", nothing_else),
    ("deny inside allow", inside),
];

/// Where the files are; each limit has a directory there.
const PLACE: &str = "/tmp/trial/peers";

/// Rules of the limit of that name.
const MANY: usize = 2000;

/// One limit.
#[derive(Default)]
struct Limit {
    name: &'static str,
    /// Lines of the policy.
    rules: String,
    /// Files that are there at the start.
    files: Vec<&'static str>,
    /// Symbolic links, and where they lead.
    links: Vec<(&'static str, &'static str)>,
    table: Vec<Attempt>,
}

/// A text that lives as long as tables do.
fn keep(text: String) -> &'static str {
    text.leak()
}

/// A file of a limit.
fn at(limit: &str, name: &str) -> &'static str {
    keep(format!("{PLACE}/{limit}/{name}"))
}

/// A rule that denies reading.
fn rule(name: &str, pattern: &str) -> String {
    format!("    - {{ name: {name}, deny: [read], path: ['{pattern}'] }}\n")
}

/// Opens a file for reading, which this rule denies.
fn closed(path: &'static str, rule: &str) -> Attempt {
    denied(keep(format!("read={path}")), "file_open", ("path", path), ACCES, keep(format!("peers/{rule}")))
}

/// Opens a file for reading, which nothing denies.
fn open(path: &'static str) -> Attempt {
    allowed(keep(format!("read={path}")), "file_open", ("path", path))
}

fn limits() -> Vec<Limit> {
    vec![long_rule(), long_path(), deep(), many(), later(), boundary(), slug(), linked()]
}

/// The last byte tells, long after the 64th.
fn long_rule() -> Limit {
    let name = "a-name-that-goes-on-and-on-".repeat(6);
    let [secret, other] = ["1", "2"].map(|last| at("long-rule", &format!("{name}{last}")));
    let [tail, other_tail] = ["key", "kez"].map(|last| at("long-rule", &format!("x/{name}.{last}")));
    Limit {
        name: "long-rule",
        rules: rule("long-exact", secret) + &rule("long-floating", &format!("**/{name}.key")),
        files: vec![secret, other, tail, other_tail],
        table: vec![
            closed(secret, "long-exact"),
            open(other),
            closed(tail, "long-floating"),
            open(other_tail),
        ],
        ..Limit::default()
    }
}

/// A path of 300 bytes, and the longest of a system call, of 4,095.
fn long_path() -> Limit {
    let path_of = |length: usize| {
        let mut path = format!("{PLACE}/far");
        while path.len() + 201 < length {
            let _ = write!(path, "/{}", "n".repeat(180.min(length - path.len() - 21)));
        }
        let rest = length - path.len() - 2;
        format!("{path}/{}", "n".repeat(rest))
    };
    let pair = |path: String| ["1", "2"].map(|last| keep(format!("{path}{last}")));
    let [secret, other] = pair(path_of(300));
    let [longest, beside] = pair(path_of(4095));
    let below = keep(longest.replacen("/far/", "/sub/", 1));
    Limit {
        name: "long-path",
        rules: rule("far", secret) + &rule("farthest", longest) + &rule("below", &format!("{PLACE}/sub/**")),
        files: vec![secret, other, longest, beside, below],
        table: vec![
            closed(secret, "far"),
            open(other),
            closed(longest, "farthest"),
            open(beside),
            closed(below, "below"),
        ],
        ..Limit::default()
    }
}

fn deep() -> Limit {
    let levels = |count: usize| (1..=count).map(|level| format!("{level}/")).collect::<String>();
    let [secret, other] = ["secret", "public"].map(|name| at("deep", &format!("{}{name}", levels(25))));
    let [exact, near] = [40, 39].map(|count| at("deep", &format!("{}file", levels(count))));
    Limit {
        name: "deep",
        rules: rule("deep-anywhere", &format!("{PLACE}/deep/**/secret")) + &rule("deep-exact", exact),
        files: vec![secret, other, exact, near],
        table: vec![closed(secret, "deep-anywhere"), open(other), closed(exact, "deep-exact"), open(near)],
        ..Limit::default()
    }
}

/// Every rule has its own name, and the one that decides is the one that is named.
fn many() -> Limit {
    let file = |number: usize| at("many", &format!("d{}/f{number:05}", number % 7));
    let mut rules = String::new();
    for number in 0..MANY {
        rules += &rule(&format!("many-{number}"), file(number));
    }
    let tried = [0, 1, 255, 256, 257, 999, MANY - 1];
    let mut table: Vec<Attempt> =
        tried.into_iter().map(|number| closed(file(number), &format!("many-{number}"))).collect();
    let mut files: Vec<&str> = tried.into_iter().map(file).collect();
    for other in [file(MANY), keep(format!("{}x", file(256)))] {
        table.push(open(other));
        files.push(other);
    }
    Limit { name: "many", rules, files, table, ..Limit::default() }
}

/// A rule is about names, not about the files that there were at the start: the command makes its own.
fn later() -> Limit {
    let [secret, other] = ["new.key", "new.txt"].map(|name| at("later", name));
    let make = |path| allowed(keep(format!("create={path}")), "file_create", ("path", path));
    Limit {
        name: "later",
        rules: rule("later-keys", &format!("{PLACE}/later/*.key")),
        files: vec![at("later", "old.txt")],
        table: vec![make(secret), closed(secret, "later-keys"), make(other), open(other)],
        ..Limit::default()
    }
}

fn boundary() -> Limit {
    let [inside, outside, exact, longer, shorter] =
        ["a/x", "ab/x", "secret", "secretX", "secre"].map(|name| at("boundary", name));
    Limit {
        name: "boundary",
        rules: rule("a-and-below", &format!("{PLACE}/boundary/a/**")) + &rule("a-name", exact),
        files: vec![inside, outside, exact, longer, shorter],
        table: vec![
            closed(inside, "a-and-below"),
            open(outside),
            closed(exact, "a-name"),
            open(longer),
            open(shorter),
        ],
        ..Limit::default()
    }
}

/// Routers of web frameworks name directories so. Escaped, the brackets are what they look like; bare, they are a
/// set.
fn slug() -> Limit {
    let [page, letter, other] =
        ["app/[slug]/page", "app/s/page", "app/slug/page"].map(|name| at("slug", name));
    let [set, literal] = ["set/s", "set/[slug]"].map(|name| at("slug", name));
    Limit {
        name: "slug",
        rules: rule("escaped", &format!("{PLACE}/slug/app/\\[slug\\]/**"))
            + &rule("bare", &format!("{PLACE}/slug/set/[slug]")),
        files: vec![page, letter, other, set, literal],
        table: vec![closed(page, "escaped"), open(letter), open(other), closed(set, "bare"), open(literal)],
        ..Limit::default()
    }
}

/// The run that all limits share.
struct Shared {
    limits: Vec<Limit>,
    finished: Finished,
    log: Log,
}

fn shared() -> Result<&'static Shared> {
    static SHARED: OnceLock<Result<Shared, String>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| run_all().map_err(|error| format!("{error:?}")));
    shared.as_ref().map_err(|error| anyhow::anyhow!("the run of all limits: {error}"))
}

/// Makes what is there at the start; removes what was there before.
fn make<'a>(files: impl IntoIterator<Item = &'a str>) -> Result<()> {
    if Path::new(PLACE).exists() {
        fs::remove_dir_all(PLACE)?;
    }
    for file in files {
        let path = Path::new(file);
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, "content").with_context(|| format!("cannot make {file}"))?;
    }
    Ok(())
}

/// The same for all limits.
fn make_all(limits: &[Limit]) -> Result<()> {
    make(limits.iter().flat_map(|limit| limit.files.iter().copied()))?;
    for (link, target) in limits.iter().flat_map(|limit| &limit.links) {
        std::os::unix::fs::symlink(target, link).with_context(|| format!("cannot make {link}"))?;
    }
    Ok(())
}

fn run_all() -> Result<Shared> {
    let limits = limits();
    let rules: String = limits.iter().map(|limit| limit.rules.as_str()).collect();
    let table = whole(&limits);
    make_all(&limits)?;
    expect_answers(&table, Treatment::Observed, &run::outside(&steps(&table))?).context("outside the run")?;
    make_all(&limits)?;
    let policy = format!("version: 1\nname: peers\nfiles:\n  default: allow\n  rules:\n{rules}");
    let file = write("peers.yaml", &policy)?;
    let finished = complete("peers-all", &["--enforce", &file, "--require", "lsm"], &steps(&table))?;
    finished.expect_code(0)?;
    let log = finished.log()?;
    Ok(Shared { limits, finished, log })
}

/// The attempts of all limits, in their order.
fn whole(limits: &[Limit]) -> Vec<Attempt> {
    limits.iter().flat_map(|limit| limit.table.iter().copied()).collect()
}

/// The attempts of one limit gave what its table says, and so does the record.
fn holds(name: &str) -> Result<()> {
    let Shared { limits, finished, log } = shared()?;
    let at = limits.iter().position(|limit| limit.name == name).context("no such limit")?;
    let (before, table) = (whole(&limits[..at]).len(), &limits[at].table);
    let answers: String = finished.stdout.split_inclusive('\n').skip(before).take(table.len()).collect();
    expect_answers(table, Treatment::Enforced, &answers)?;
    let events = log.events()?;
    for attempt in table.iter() {
        let (action, rule, result) = match attempt.denied {
            Some((result, rule)) => ("BLOCKED", rule, i64::from(result)),
            None => ("ALLOWED", "", 0),
        };
        let told = events.iter().any(|event| {
            let is = |key, value: &str| event.bytes(key) == Some(value.as_bytes());
            is("event_type", attempt.event)
                && is(attempt.object.0, attempt.object.1)
                && is("action", action)
                && (rule.is_empty() || is("policy_rule", rule))
                && event.int("ret").map(|ret| ret.min(0)) == Some(result)
        });
        ensure!(told, "no event tells that {} was {action} by {rule:?}", attempt.step);
    }
    Ok(())
}

/// All in all the record has what all tables say, as often, and no verdict against anything else.
fn nothing_else() -> Result<()> {
    let Shared { limits, finished, log } = shared()?;
    expect_events(&whole(limits), Treatment::Enforced, log)?;
    finished.expect_verdict(0)
}

/// Deny beats allow, whichever is the narrower, and whatever the default is.
fn inside() -> Result<()> {
    let [config, source, outside, kept, below] =
        ["work/.git/config", "work/src/main.rs", "elsewhere", "vault/key", "vault/public/key"]
            .map(|name| at("inside", name));
    make([config, source, outside, kept, below])?;
    let policy = format!(
        "version: 1\nname: peers\nfiles:\n  default: deny\n  rules:\n    \
         - {{ name: surroundings, allow: [all], path: ['/**'], except: ['{PLACE}/**'] }}\n    \
         - {{ name: work, allow: [read, write], path: ['{PLACE}/inside/work/**'] }}\n    \
         - {{ name: public, allow: [read], path: ['{PLACE}/inside/vault/public/**'] }}\n\
         {}{}",
        rule("git-config", "**/.git/config"),
        rule("vault", &format!("{PLACE}/inside/vault/**"))
    );
    let table = [
        closed(config, "git-config"),
        open(source),
        closed(outside, "files.default"),
        closed(kept, "vault"),
        closed(below, "vault"),
    ];
    expect_answers(&table, Treatment::Observed, &run::outside(&steps(&table))?).context("outside the run")?;
    let file = write("inside.yaml", &policy)?;
    let finished = complete("peers-inside", &["--enforce", &file, "--require", "lsm"], &steps(&table))?;
    finished.expect_code(0)?;
    expect_answers(&table, Treatment::Enforced, &finished.stdout)?;
    expect_events(&table, Treatment::Enforced, &finished.log()?)?;
    finished.expect_verdict(0)
}

/// A rule that names a file by a symbolic link is about the file.
fn linked() -> Limit {
    let [real, other] = ["real/key", "real/other"].map(|name| at("linked", name));
    let [by_link, other_by_link] = ["link/key", "link/other"].map(|name| at("linked", name));
    let read_as = |attempt: Attempt, name: &str| Attempt { step: keep(format!("read={name}")), ..attempt };
    Limit {
        name: "linked",
        rules: rule("by-link", by_link),
        files: vec![real, other],
        links: vec![(at("linked", "link"), "real")],
        table: vec![
            closed(real, "by-link"),
            read_as(closed(real, "by-link"), by_link),
            open(other),
            read_as(open(other), other_by_link),
        ],
    }
}
