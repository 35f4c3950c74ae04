//! Denials are explained: at the end of an enforced run, and inside it to whoever asks, under the strictest policy,
//! to an ordinary user and to root, while the store is closed to both.

use crate::attempt::PERM;
use crate::log::{attempts, text};
use crate::process::{executing, until};
use crate::run::{Finished, PROBE, SANDBOX, complete, start};
use crate::{Trial, write};
use anyhow::{Context, Result, ensure};
use audit_verify::canonical::Record;
use std::process::Command;
use std::time::Duration;

pub const TRIALS: &[Trial] = &[
    ("told to root, inside and at the end", told_to_root),
    ("told to an ordinary user", told_to_an_ordinary_user),
    ("told to people, of this run only", told_to_people),
    ("the store is closed", closed_store),
    ("nobody is told elsewhere", nobody_elsewhere),
    ("asking without end harms nobody", flooded),
    ("what holds a policy is told before", told_before),
    ("several policies", several),
];

/// Closes everything that a program could be told by: files, sockets, the store. What cannot be held yet is allowed.
const POLICY: &str = r#"
version: 1
name: strict
files:
  default: deny
  rules:
    - { name: not-judged-yet, allow: [attributes], path: ["/**"] }
    - { name: passwords, allow: [read], path: ["/etc/passwd"] }
    - { name: own-maps, allow: [read], path: ["/proc/*/maps"] }
    - { name: no-shadow, deny: [read], path: ["/etc/shadow"], because: hashes stay here }
network:
  default: deny
  rules:
    - { name: servers, allow: [bind, listen], to: [any] }
"#;

/// Attempts, then the question, by a program that inherited nothing but its standard streams.
const STEPS: [&str; 7] = [
    "read=/etc/shadow",
    "read=/etc/shadow",
    "read=/etc/hosts",
    "read=/etc/passwd",
    "connect-tcp=127.0.0.2:9001",
    "why-write",
    "become=/usr/bin/sandbox,why,--json",
];

fn enforced(name: &str, options: &[&str], steps: &[&str]) -> Result<Finished> {
    let policy = write("strict.yaml", POLICY)?;
    complete(name, &[&["--enforce", &policy], options].concat(), steps)
}

/// What a run printed behind the probe's own lines, as groups.
fn groups(finished: &Finished) -> Result<Vec<Record<'_>>> {
    let lines = finished.stdout.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| Record::parse(line.as_bytes()).map_err(|e| anyhow::anyhow!("{e:?}: {line}"))).collect()
}

#[derive(Debug)]
struct Expected {
    rule: &'static str,
    object: (&'static str, &'static str),
    count: u64,
    because: &'static str,
    allow: &'static str,
}

const SHADOW: Expected = Expected {
    rule: "strict/no-shadow",
    object: ("path", "/etc/shadow"),
    count: 2,
    because: "hashes stay here",
    allow: "except: [\"/etc/shadow\"]",
};
const HOSTS: Expected = Expected {
    rule: "strict/files.default",
    object: ("path", "/etc/hosts"),
    count: 1,
    because: "",
    allow: "- { name: read-hosts, allow: [read], path: [\"/etc/hosts\"] }",
};
const ADDRESS: Expected = Expected {
    rule: "strict/network.default",
    object: ("address", "127.0.0.2"),
    count: 1,
    because: "",
    allow: "to: [\"127.0.0.2:9001/tcp\"] }",
};

fn expect_groups(finished: &Finished, expected: &[Expected]) -> Result<()> {
    finished.expect_code(0)?;
    let groups = groups(finished)?;
    for wanted in expected {
        let found: Vec<_> = groups
            .iter()
            .filter(|g| text(g, "rule") == wanted.rule && text(g, wanted.object.0) == wanted.object.1)
            .collect();
        let [group] = found[..] else { anyhow::bail!("{wanted:?}: {} in {}", found.len(), finished.stdout) };
        let allow = group.list("allow").unwrap_or_default();
        let allowed = allow.iter().any(|line| String::from_utf8_lossy(line).contains(wanted.allow));
        let right = attempts(group) == wanted.count
            && text(group, "because") == wanted.because
            && text(group, "action") == "BLOCKED"
            && text(group, "layer") == "lsm"
            && group.list("exes").is_some_and(|exes| exes == [PROBE.as_bytes()])
            && allowed;
        ensure!(right, "{wanted:?} in {}", finished.stdout);
    }
    ensure!(!finished.stdout.contains("passwd\""), "what was allowed is no denial: {}", finished.stdout);
    finished.expect_verdict(0)
}

fn told_to_root() -> Result<()> {
    let finished = enforced("why-root", &[], &STEPS)?;
    expect_groups(&finished, &[SHADOW, HOSTS, ADDRESS])?;
    expect_unchanged(&finished)?;
    // Once more on stderr, with the way to the rest.
    for line in [
        "sandbox: 4 blocked (all of it: sandbox why /tmp/trial/why-root)\n",
        "     2  strict/no-shadow: hashes stay here\n        read /etc/shadow, by /usr/bin/guest-probe\n",
        "     1  strict/files.default\n        read /etc/hosts, by /usr/bin/guest-probe\n",
        "     1  strict/network.default\n        connect 127.0.0.2:9001/tcp, by /usr/bin/guest-probe\n",
        "        except: [\"/etc/shadow\"] # in rule no-shadow\n",
    ] {
        ensure!(finished.stderr.matches(line).count() == 1, "{line:?} in {}", finished.stderr);
    }
    // And from the record.
    let all = Command::new(SANDBOX).arg("why").arg(&finished.dir).arg("--json").output()?;
    let all = Finished { stdout: String::from_utf8_lossy(&all.stdout).into_owned(), ..finished };
    expect_groups(&all, &[SHADOW, HOSTS, ADDRESS])
}

fn told_to_an_ordinary_user() -> Result<()> {
    // Reading /etc/shadow fails by its mode before a policy is asked.
    let finished = enforced("why-agent", &["--user", "agent"], &STEPS[2..])?;
    expect_groups(&finished, &[HOSTS, ADDRESS])?;
    expect_unchanged(&finished)
}

/// Whoever asks can read the answer, and change nothing of it.
fn expect_unchanged(finished: &Finished) -> Result<()> {
    ensure!(finished.stdout.contains(&format!("why-write\t{PERM}\n")), "{}", finished.stdout);
    Ok(())
}

fn told_to_people() -> Result<()> {
    let finished = enforced("why-people", &[], &["read=/etc/shadow", "become=/usr/bin/sandbox,why"])?;
    finished.expect_code(0)?;
    for line in [
        "this run, so far: 1 blocked\n",
        "strict/no-shadow (blocked 1, layer lsm)\n  because hashes stay here\n",
        "1x read /etc/shadow\n",
        "except: [\"/etc/shadow\"]",
    ] {
        ensure!(finished.stdout.contains(line), "{line:?} in {}", finished.stdout);
    }
    Ok(())
}

/// The record of a run is no way for another to know what was denied.
fn closed_store() -> Result<()> {
    let closed = enforced("why-closed", &[], &["become=/usr/bin/sandbox,why,/tmp/trial/why-root"])?;
    closed.expect_code(1)?;
    ensure!(closed.stdout.is_empty() && closed.stderr.contains("Permission denied"), "{}", closed.stderr);
    Ok(())
}

/// Outside, and where a run only audits, nobody answers: the command there can notice nothing.
fn nobody_elsewhere() -> Result<()> {
    let policy = write("strict.yaml", POLICY)?;
    let steps = ["read=/etc/hosts", "why-write", "become=/usr/bin/sandbox,why"];
    let audited = complete("why-audited", &["--policy", &policy, "--require", "lsm"], &steps)?;
    audited.expect_code(1)?;
    ensure!(audited.stdout == "read=/etc/hosts\t0\nwhy-write\t-38\n", "{}", audited.stdout);
    let outside = Command::new(SANDBOX).args(["why", "--json"]).output().context("cannot run sandbox")?;
    ensure!(outside.status.code() == Some(1) && outside.stdout.is_empty(), "{outside:?}");
    Ok(())
}

/// The runner goes on recording and answering, and ends the run as ever.
fn flooded() -> Result<()> {
    let steps = ["why-flood=32", "read=/etc/hosts", "become=/usr/bin/sandbox,why,--json"];
    let finished = enforced("why-flooded", &["--user", "agent"], &steps)?;
    ensure!(finished.stdout.starts_with("why-flood=32\t0\n"), "{}", finished.stdout);
    expect_groups(&finished, &[HOSTS])?;
    // Killed while somebody waits for an answer, it is over at once.
    let policy = write("strict.yaml", POLICY)?;
    let run = start("why-killed", &["--enforce", &policy], &["why-flood=32"])?;
    let log = run.dir.join("events.jsonl");
    let begun =
        || Ok(std::fs::read_to_string(&log).is_ok_and(|log| log.contains("\"event_type\": \"exec\"")));
    let run = run.once("the command has begun", begun)?;
    run.front().signal(libc::SIGKILL)?;
    run.finish()?;
    until("the flood is dead", Duration::from_secs(10), || Ok(executing(PROBE)?.is_empty()))
}

/// The doctor's answer for a policy, and for one that asks for more.
fn told_before() -> Result<()> {
    let policy = write("strict.yaml", POLICY)?;
    let ask = |policy: &str| -> Result<(Option<i32>, String)> {
        let output = Command::new(SANDBOX).args(["doctor", "--policy", policy]).output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
    };
    let (code, told) = ask(&policy)?;
    let whole = told.contains("\n  held by lsm  strict/no-shadow\n") && !told.contains("NOT HELD");
    ensure!(code == Some(0) && whole, "{code:?}: {told}");
    let more = "syscalls: strict\nobserve: { fold: true }\nlimits: { processes: 9, time: 2h }\n";
    let more = write("more.yaml", &format!("{POLICY}{more}"))?;
    let (code, told) = ask(&more)?;
    let part = told.contains("\n  NOT HELD     strict/observe\n               sets something");
    ensure!(
        !told.contains("strict/limits") && told.contains("\n  held by seccomp  strict/syscalls"),
        "{told}"
    );
    ensure!(code == Some(1) && part && told.contains("held by lsm  strict/no-shadow"), "{code:?}: {told}");
    Ok(())
}

/// Each of several policies must allow; one that is on trial beside them blocks nothing.
fn several() -> Result<()> {
    let closing = |name: &str, path: &str| {
        let text = format!(
            "version: 1\nname: {name}\nfiles:\n  default: allow\n  rules:\n    \
             - {{ name: one, deny: [read], path: [\"{path}\"] }}\n"
        );
        write(&format!("{name}.yaml"), &text)
    };
    let (first, second) = (closing("first", "/etc/shadow")?, closing("second", "/etc/passwd")?);
    let trial = closing("trial", "/usr/bin/other")?;
    let steps = ["read=/etc/shadow", "read=/etc/passwd", "read=/usr/bin/other", "read=/usr/bin/wget"];
    let options = ["--enforce", &first, "--enforce", &second, "--audit", &trial];
    let finished = complete("why-several", &options, &steps)?;
    finished.expect_code(0)?;
    let codes: Vec<&str> =
        finished.stdout.lines().filter_map(|line| line.split_once('\t')).map(|(_, code)| code).collect();
    ensure!(codes == ["-13", "-13", "0", "0"], "{codes:?}: {}", finished.stdout);
    let log = finished.log()?;
    for (path, action, rule) in [
        ("/etc/shadow", "BLOCKED", "first/one"),
        ("/etc/passwd", "BLOCKED", "second/one"),
        ("/usr/bin/other", "WOULD_BLOCK", "trial/one"),
    ] {
        let found = log.events()?.iter().any(|event| {
            text(event, "path") == path
                && text(event, "action") == action
                && text(event, "policy_rule") == rule
        });
        ensure!(found, "no event has {path} {action} by {rule}");
    }
    Ok(())
}
