//! A file's attributes: mode, owner, times, extended attributes, ACLs, flags, judged wherever the file is shown.

use crate::attempt::{ACCES, Attempt, Treatment, allowed, denied, expect_answers, expect_events, steps};
use crate::log::text;
use crate::run::{self, complete};
use crate::{Trial, write};
use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub const TRIALS: &[Trial] = &[
    ("attributes enforced", enforced),
    ("attributes audited", audited),
    ("attributes of one's own", own),
    ("shown in several places", places),
];

/// Where the files are; made afresh for each run.
const PLACE: &str = "/tmp/trial/a";

const POLICY: &str = r#"
version: 1
name: attributes
files:
  default: allow
  rules:
    - { name: keep, deny: [attributes], path: ["/tmp/trial/a/fixed", "/tmp/trial/a/shown/**"] }
"#;
const RULE: &str = "attributes/keep";

const FIXED: (&str, &str) = ("path", "/tmp/trial/a/fixed");
const PLAIN: (&str, &str) = ("path", "/tmp/trial/a/plain");

const TABLE: &[Attempt] = &[
    denied("chmod=/tmp/trial/a/fixed", "file_mode", FIXED, ACCES, RULE),
    allowed("chmod=/tmp/trial/a/plain", "file_mode", PLAIN),
    denied("chown=/tmp/trial/a/fixed", "file_owner", FIXED, ACCES, RULE),
    allowed("chown=/tmp/trial/a/plain", "file_owner", PLAIN),
    denied("utimes=/tmp/trial/a/fixed", "file_times", FIXED, ACCES, RULE),
    allowed("utimes=/tmp/trial/a/plain", "file_times", PLAIN),
    denied("utimes=/tmp/trial/a/to-fixed", "file_times", FIXED, ACCES, RULE),
    denied("futimes=/tmp/trial/a/fixed", "file_times", FIXED, ACCES, RULE),
    allowed("futimes=/tmp/trial/a/plain", "file_times", PLAIN),
    denied("setxattr=/tmp/trial/a/fixed", "file_xattr", FIXED, ACCES, RULE),
    allowed("setxattr=/tmp/trial/a/plain", "file_xattr", PLAIN),
    denied("fsetxattr=/tmp/trial/a/fixed", "file_xattr", FIXED, ACCES, RULE),
    allowed("fsetxattr=/tmp/trial/a/plain", "file_xattr", PLAIN),
    denied("removexattr=/tmp/trial/a/fixed", "file_xattr", FIXED, ACCES, RULE),
    allowed("removexattr=/tmp/trial/a/plain", "file_xattr", PLAIN),
    denied("set-acl=/tmp/trial/a/fixed", "file_xattr", FIXED, ACCES, RULE),
    allowed("set-acl=/tmp/trial/a/plain", "file_xattr", PLAIN),
    denied("remove-acl=/tmp/trial/a/fixed", "file_xattr", FIXED, ACCES, RULE),
    allowed("remove-acl=/tmp/trial/a/plain", "file_xattr", PLAIN),
    denied("chattr=/tmp/trial/a/fixed", "file_flags", FIXED, ACCES, RULE),
    allowed("chattr=/tmp/trial/a/plain", "file_flags", PLAIN),
    // What also changes times, and is another access.
    allowed("truncate=/tmp/trial/a/fixed", "file_truncate", FIXED),
];

fn set_up() -> Result<String> {
    let place = Path::new(PLACE);
    if place.exists() {
        fs::remove_dir_all(place)?;
    }
    fs::create_dir_all(place.join("real"))?;
    fs::create_dir_all(place.join("other"))?;
    fs::create_dir_all(place.join("shown"))?;
    for file in ["fixed", "plain", "real/file"] {
        fs::write(place.join(file), "content").with_context(|| format!("cannot make {file}"))?;
    }
    std::os::unix::fs::symlink("fixed", place.join("to-fixed"))?;
    write("attributes.yaml", POLICY)
}

fn enforced() -> Result<()> {
    let policy = set_up()?;
    let state = || -> Result<_> {
        let found = fs::metadata(Path::new(PLACE).join("fixed"))?;
        Ok((found.mode(), found.uid()))
    };
    let before = state()?;
    let finished = complete("attributes", &["--enforce", &policy, "--require", "lsm"], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    let log = finished.log()?;
    expect_events(TABLE, Treatment::Enforced, &log)?;
    let events = log.events()?;
    let blocked =
        |event: &&_| text(event, "event_type") == "file_xattr" && text(event, "action") == "BLOCKED";
    let names: Vec<&str> = events.iter().filter(blocked).map(|event| text(event, "target")).collect();
    let acl = "system.posix_acl_access";
    let probe = "trusted.probe";
    ensure!(names == [probe, probe, probe, acl, acl], "the attributes are {names:?}");
    ensure!(state()? == before, "the file is not as it was");
    finished.expect_verdict(0)
}

fn audited() -> Result<()> {
    let policy = set_up()?;
    expect_answers(TABLE, Treatment::Observed, &run::outside(&steps(TABLE))?).context("outside the run")?;
    let policy_again = set_up()?;
    ensure!(policy == policy_again, "the policy moved");
    let finished = complete("attributes-audited", &["--policy", &policy, "--require", "lsm"], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Audited, &finished.stdout)?;
    expect_events(TABLE, Treatment::Audited, &finished.log()?)?;
    finished.expect_verdict(0)
}

/// A file that no directory has is the run's own, also where everything else is denied.
fn own() -> Result<()> {
    const POLICY: &str = r#"
version: 1
name: own
files:
  default: deny
  rules:
    - { name: most, allow: [read, write, create, delete, load], path: ["/**"] }
"#;
    const TABLE: &[Attempt] = &[
        allowed("memfd-attributes", "none", ("path", "")),
        denied("utimes=/tmp/trial/a/plain", "file_times", PLAIN, ACCES, "own/files.default"),
    ];
    set_up()?;
    let policy = write("own.yaml", POLICY)?;
    let finished = complete("attributes-own", &["--enforce", &policy], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    expect_events(&TABLE[1..], Treatment::Enforced, &finished.log()?)
}

/// Where a directory is mounted once more, the file is denied if one of its names is; mounts that do not show it
/// have no say.
fn places() -> Result<()> {
    const REAL: (&str, &str) = ("path", "/tmp/trial/a/real/file");
    const SHOWN: (&str, &str) = ("path", "/tmp/trial/a/shown/file");
    const BEFORE: &[Attempt] = &[
        allowed("utimes=/tmp/trial/a/real/file", "file_times", REAL),
        allowed("setxattr=/tmp/trial/a/real/file", "file_xattr", REAL),
    ];
    const AFTER: &[Attempt] = &[
        denied("utimes=/tmp/trial/a/real/file", "file_times", SHOWN, ACCES, RULE),
        denied("utimes=/tmp/trial/a/shown/file", "file_times", SHOWN, ACCES, RULE),
        denied("setxattr=/tmp/trial/a/real/file", "file_xattr", SHOWN, ACCES, RULE),
        allowed("utimes=/tmp/trial/a/plain", "file_times", PLAIN),
        denied("utimes=/tmp/trial/a/fixed", "file_times", FIXED, ACCES, RULE),
    ];
    let policy = set_up()?;
    let attempt = |name, table| {
        let finished = complete(name, &["--enforce", &policy], &steps(table))?;
        finished.expect_code(0)?;
        expect_answers(table, Treatment::Enforced, &finished.stdout)?;
        expect_events(table, Treatment::Enforced, &finished.log()?)
    };
    attempt("places-before", BEFORE)?;
    let bind = |from: &str, to: &str| {
        let none: Option<&str> = None;
        let (from, to) = (Path::new(PLACE).join(from), Path::new(PLACE).join(to));
        mount(Some(&from), &to, none, MsFlags::MS_BIND, none).with_context(|| format!("cannot mount {to:?}"))
    };
    bind("real", "shown")?;
    // A tree that does not show the other files.
    bind("real", "other")?;
    let result = attempt("places-after", AFTER);
    for mounted in ["shown", "other"] {
        umount2(&Path::new(PLACE).join(mounted), MntFlags::empty())?;
    }
    result
}
