//! Rules bound to a process or to contents: the same act by another program, below another program, of another file.

use crate::log::{Log, text};
use crate::run::{PROBE, SANDBOX};
use crate::{Trial, WORK, write};
use anyhow::{Context, Result, ensure};
use audit_verify::Hash;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub const TRIALS: &[Trial] =
    &[("by and unless_by", by), ("memfds", memfds), ("under", under), ("contents", contents)];

/// Another program with the same code.
const OTHER: &str = "/usr/bin/other";

/// Runs a command under a policy; gives what it printed, and its log.
fn run(name: &str, policy: &str, command: &[&str]) -> Result<(String, Log)> {
    let dir = PathBuf::from(WORK).join(name);
    let mut sandbox = Command::new(SANDBOX);
    sandbox.args(["run", "--enforce", policy, "--run-dir"]).arg(&dir).arg("--").args(command);
    let output = sandbox.stdin(Stdio::null()).output().with_context(|| format!("cannot run {SANDBOX}"))?;
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr).into_owned());
    ensure!(output.status.code() == Some(0), "{name}: {}\n{stdout}{stderr}", output.status);
    Ok((stdout.into_owned(), Log::read(&dir)?))
}

/// Fails unless the log has an event about the path with this verdict, by this rule.
fn expect(log: &Log, path: &str, action: &str, rule: &str) -> Result<()> {
    let events = log.events()?;
    let found = events.iter().any(|event| {
        [text(event, "path"), text(event, "exe")].contains(&path)
            && text(event, "action") == action
            && text(event, "policy_rule") == rule
    });
    ensure!(found, "no event has {path} {action} by {rule}");
    let unattributed = events.iter().any(|event| text(event, "reason") == "unattributed");
    ensure!(!unattributed, "the record has a verdict without its rule");
    Ok(())
}

/// The same file, read by two programs.
fn by() -> Result<()> {
    let policy = write(
        "by.yaml",
        "version: 1\nname: by\nfiles:\n  default: allow\n  rules:\n    \
         - { name: only-other, deny: [read], path: [\"/etc/shadow\"], unless_by: [\"**/other\"] }\n    \
         - { name: not-other, deny: [read], path: [\"/etc/passwd\"], by: [\"/usr/bin/other\"] }\n",
    )?;
    let steps = ["read=/etc/shadow", "read=/etc/passwd"];
    for (program, codes, denied, rule) in [
        (PROBE, "read=/etc/shadow\t-13\nread=/etc/passwd\t0\n", "/etc/shadow", "by/only-other"),
        (OTHER, "read=/etc/shadow\t0\nread=/etc/passwd\t-13\n", "/etc/passwd", "by/not-other"),
    ] {
        let name = format!("by-{}", program.replace('/', "-"));
        let (stdout, log) = run(&name, &policy, &[program, steps[0], steps[1]])?;
        ensure!(stdout == codes, "{program}: {stdout}");
        expect(&log, denied, "BLOCKED", rule)?;
    }
    Ok(())
}

/// A memfd has the name that its maker chose, and is no program that a rule could mean.
fn memfds() -> Result<()> {
    let policy = write(
        "memfd.yaml",
        "version: 1\nname: memfd\nfiles:\n  default: deny\n  rules:\n    \
         - { name: rest, allow: [all], path: [\"/**\"], except: [\"/etc/shadow\", \"/etc/passwd\"] }\n    \
         - { name: own, allow: [read], path: [\"/etc/shadow\"], by: [\"**/memfd:own\", \"**/guest-probe\"] }\n    \
         - { name: all, allow: [read], path: [\"/etc/passwd\"] }\n    \
         - { name: not, deny: [read], path: [\"/etc/passwd\"], unless_by: [\"**/memfd:own\", \"**/guest-probe\"] }\n",
    )?;
    let steps =
        ["read=/etc/shadow", "read=/etc/passwd", "as-memfd=read=/etc/shadow", "as-memfd=read=/etc/passwd"];
    let (stdout, log) = run("memfd", &policy, &[&[PROBE], &steps[..]].concat())?;
    let own = "read=/etc/shadow\t0\nread=/etc/passwd\t0\n";
    let denied = ["/etc/shadow", "/etc/passwd"]
        .map(|path| format!("read={path}\t-13\nas-memfd=read={path}\t0\n"))
        .concat();
    ensure!(stdout == format!("{own}{denied}"), "{stdout}");
    expect(&log, "/etc/shadow", "BLOCKED", "memfd/files.default")?;
    expect(&log, "/etc/passwd", "BLOCKED", "memfd/not")
}

/// What only a program and those that it executes may do.
fn under() -> Result<()> {
    let policy = write(
        "under.yaml",
        "version: 1\nname: under\nfiles:\n  default: deny\n  rules:\n    \
         - { name: rest, allow: [all], path: [\"/**\"], except: [\"/etc/shadow\"] }\n    \
         - { name: below, allow: [read], path: [\"/etc/shadow\"], under: [\"**/other\"] }\n",
    )?;
    let (stdout, log) = run("under-no", &policy, &[PROBE, "read=/etc/shadow"])?;
    ensure!(stdout == "read=/etc/shadow\t-13\n", "{stdout}");
    expect(&log, "/etc/shadow", "BLOCKED", "under/files.default")?;
    let (stdout, log) = run("under-yes", &policy, &[OTHER, "become=/usr/bin/guest-probe,read=/etc/shadow"])?;
    ensure!(stdout == "read=/etc/shadow\t0\n", "{stdout}");
    expect(&log, "/etc/shadow", "ALLOWED", "under/below")
}

/// A program is known by what it holds, whatever its name is.
fn contents() -> Result<()> {
    let (known, copy) = ("/tmp/trial/known", "/tmp/trial/copy");
    let mut bytes = fs::read(OTHER)?;
    bytes.write_all(b"one of its kind")?;
    for path in [known, copy] {
        fs::copy(OTHER, path)?;
        fs::write(path, &bytes)?;
    }
    let digest = Hash::of(&[&bytes]);
    let policy = write(
        "contents.yaml",
        &format!(
            "version: 1\nname: contents\nexec:\n  default: allow\n  rules:\n    \
             - {{ name: known-bad, deny: [run], sha256: [\"{}\"] }}\n",
            digest.as_str()
        ),
    )?;
    let steps = [PROBE, "run=/tmp/trial/known", "run=/tmp/trial/copy", "run=/usr/bin/other"];
    let (stdout, log) = run("contents", &policy, &steps)?;
    let expected = "run=/tmp/trial/known\t-13\nrun=/tmp/trial/copy\t-13\nrun=/usr/bin/other\t0\n";
    ensure!(stdout == expected, "{stdout}");
    expect(&log, copy, "BLOCKED", "contents/known-bad")?;
    // What is allowed for its contents is told with their rule.
    let second = "/tmp/trial/second";
    fs::copy(known, second)?;
    bytes.write_all(b", and of another")?;
    fs::write(second, &bytes)?;
    let policy = write(
        "good.yaml",
        &format!(
            "version: 1\nname: good\nexec:\n  default: deny\n  rules:\n    \
             - {{ name: rest, allow: [run], path: [\"/**\"], except: [\"/tmp/**\"] }}\n    \
             - {{ name: one, allow: [run], sha256: [\"{}\"] }}\n    \
             - {{ name: two, allow: [run], sha256: [\"{}\"] }}\n",
            digest.as_str(),
            Hash::of(&[&bytes]).as_str()
        ),
    )?;
    let steps = [PROBE, "run=/tmp/trial/known", "run=/tmp/trial/second", "run=/usr/bin/other"];
    let (stdout, log) = run("good", &policy, &steps)?;
    ensure!(
        stdout == "run=/tmp/trial/known\t0\nrun=/tmp/trial/second\t0\nrun=/usr/bin/other\t0\n",
        "{stdout}"
    );
    expect(&log, known, "ALLOWED", "good/one")?;
    expect(&log, second, "ALLOWED", "good/two")?;
    expect(&log, OTHER, "ALLOWED", "good/rest")
}
