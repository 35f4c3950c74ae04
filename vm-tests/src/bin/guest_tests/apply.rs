//! Other policies for a run that goes on: held by the kernel from then on, refused where they cannot be.

use crate::attempt::ACCES;
use crate::log::{Log, text};
use crate::run::{Finished, Run, SANDBOX, start};
use crate::{Trial, WORK, write};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

pub const TRIALS: &[Trial] = &[
    ("narrowed, also for what runs already", narrowed),
    ("other names of what is closed later", linked),
    ("widened", widened),
    ("what only a start can hold", refused),
    ("a process of the run", from_inside),
    ("many in a row under load", many),
];

const OPEN: &str = "version: 1\nname: open\nfiles: { default: allow }\nexec: { default: allow }\n";

/// What `sandbox policy apply` said.
struct Said {
    code: Option<i32>,
    text: String,
}

fn apply(run: &Path, policy: &str, options: &[&str]) -> Result<Said> {
    let mut command = Command::new(SANDBOX);
    command.args(["policy", "apply"]).arg(run).arg(policy).args(options);
    let output = command.output().context("cannot run sandbox")?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Said { code: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() })
}

impl Said {
    fn expect(&self, code: i32, text: &str) -> Result<()> {
        ensure!(self.code == Some(code) && self.text.contains(text), "{:?}: {}", self.code, self.text);
        Ok(())
    }
}

/// A file of the trials, with these words in it.
fn data(name: &str) -> Result<String> {
    fs::create_dir_all("/srv/apply")?;
    let path = format!("/srv/apply/{name}");
    fs::write(&path, "content")?;
    Ok(path)
}

/// A run that is enforced, stopped between its first and its second steps.
fn begin(name: &str, policy: &str, first: &[&str], second: &[&str]) -> Result<Run> {
    let (reached, go) = (format!("{WORK}/{name}.reached"), format!("{WORK}/{name}.go"));
    let (touch, wait) = (format!("touch={reached}"), format!("wait={go}"));
    let steps: Vec<&str> =
        first.iter().copied().chain([touch.as_str(), wait.as_str()]).chain(second.iter().copied()).collect();
    let run = start(name, &["--enforce", policy, "--require", "lsm"], &steps)?;
    run.once("reach the pause", || Ok(fs::exists(&reached)?))
}

fn go_on(run: Run) -> Result<Finished> {
    let name = run.dir.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    fs::write(format!("{WORK}/{name}.go"), "")?;
    let finished = run.finish()?;
    finished.expect_code(0)?;
    finished.expect_verdict(0)?;
    Ok(finished)
}

/// The rules behind what was denied, in order, with the changes of policy among them.
fn story(log: &Log) -> Result<Vec<String>> {
    let mut story = Vec::new();
    for event in log.events()? {
        match (text(&event, "event_type"), text(&event, "action")) {
            ("policy_apply", _) => story.push("apply".to_owned()),
            (_, "BLOCKED") => story.push(text(&event, "policy_rule").to_owned()),
            _ => ensure!(text(&event, "reason") != "unattributed", "{}", crate::log::show(&event)),
        }
    }
    Ok(story)
}

fn narrowed() -> Result<()> {
    let (plain, bound) = (data("plain")?, data("bound")?);
    let open = write("open.yaml", OPEN)?;
    let narrow = write(
        "narrow.yaml",
        &format!(
            "version: 1\nname: narrow\nfiles:\n  default: allow\n  rules:\n    - {{ name: all, deny: [read], path: [{plain}] }}\n    \
             - {{ name: by, deny: [read], path: [{bound}], by: [/usr/bin/guest-probe] }}\n"
        ),
    )?;
    let (plain, bound) = (format!("read={plain}"), format!("read={bound}"));
    let steps = [plain.as_str(), bound.as_str()];
    let run = begin("apply-narrow", &open, &steps, &steps)?;
    apply(&run.dir, &narrow, &[])?.expect(0, "from now on also: narrow, open, runner\n")?;
    apply(&run.dir, &narrow, &[])?.expect(0, "holds already: narrow, open, runner\n")?;
    let finished = go_on(run)?;
    // The kernel does not know what the process executed before anybody asked: it may be the one that is meant.
    let expected = format!("{plain}\t0\n{bound}\t0\n{plain}\t{ACCES}\n{bound}\t{ACCES}\n");
    ensure!(finished.stdout == expected, "{}", finished.stdout);
    let story = story(&finished.log()?)?;
    ensure!(story == ["apply", "narrow/all", "narrow/by"], "{story:?}");
    Ok(())
}

fn linked() -> Result<()> {
    let secret = data("secret")?;
    let other = "/srv/apply/other-name";
    fs::hard_link(&secret, other)?;
    let open = write("open.yaml", OPEN)?;
    let narrow = write(
        "links-narrow.yaml",
        &format!(
            "version: 1\nname: narrow\nfiles:\n  default: allow\n  rules:\n    - {{ name: secret, deny: [read], path: [{secret}] }}\n"
        ),
    )?;
    let read = format!("read={other}");
    let run = begin("apply-link", &open, &[&read], &[&read])?;
    apply(&run.dir, &narrow, &[])?.expect(0, "narrow, open, runner")?;
    let finished = go_on(run)?;
    ensure!(finished.stdout == format!("{read}\t0\n{read}\t{ACCES}\n"), "{}", finished.stdout);
    let story = story(&finished.log()?)?;
    ensure!(story == ["apply", "narrow/secret"], "{story:?}");
    Ok(())
}

fn widened() -> Result<()> {
    let secret = data("closed")?;
    let other = "/srv/apply/closed-too";
    fs::hard_link(&secret, other)?;
    let closed = write(
        "closed.yaml",
        &format!(
            "version: 1\nname: closed\nfiles:\n  default: allow\n  rules:\n    - {{ name: secret, deny: [read], path: [{secret}] }}\n"
        ),
    )?;
    let open = write("open.yaml", OPEN)?;
    let (one, two) = (format!("read={secret}"), format!("read={other}"));
    let steps = [one.as_str(), two.as_str()];
    let run = begin("apply-widen", &closed, &steps, &steps)?;
    apply(&run.dir, &open, &["--widen"])?.expect(0, "from now on: open, runner\n")?;
    let finished = go_on(run)?;
    ensure!(
        finished.stdout == format!("{one}\t{ACCES}\n{two}\t{ACCES}\n{one}\t0\n{two}\t0\n"),
        "{}",
        finished.stdout
    );
    let story = story(&finished.log()?)?;
    ensure!(story == ["closed/secret", "closed/secret", "apply"], "{story:?}");
    Ok(())
}

/// What a running process has already, or a filter holds, cannot be changed: then nothing is.
fn refused() -> Result<()> {
    let plain = data("unchanged")?;
    let start = write("start.yaml", &format!("{OPEN}kernel: {{ allow: [io-uring, mount] }}\n"))?;
    let deny =
        format!("files:\n  default: allow\n  rules:\n    - {{ name: r, deny: [read], path: [{plain}] }}\n");
    let cases = [
        ("env", "kernel: { allow: [io-uring, mount] }\nenv: { drop: [X] }\n".to_owned(), "`env` of narrow"),
        ("kernel", "kernel: { allow: [mount] }\n".to_owned(), "`kernel` without `io-uring`"),
        (
            "limits",
            "kernel: { allow: [io-uring] }\nlimits: { processes: 5 }\n".to_owned(),
            "`limits` that are tighter",
        ),
        (
            "contents",
            format!(
                "kernel: {{ allow: [io-uring] }}\nexec:\n  default: allow\n  rules:\n    - {{ name: c, deny: [run], sha256: [\"{}\"] }}\n",
                "ab".repeat(32)
            ),
            "need a run that began with some",
        ),
    ];
    let read = format!("read={plain}");
    let run = begin("apply-refused", &start, &[&read], &[&read])?;
    for (name, more, why) in cases {
        let policy =
            write(&format!("refused-{name}.yaml"), &format!("version: 1\nname: narrow\n{deny}{more}"))?;
        apply(&run.dir, &policy, &[])?.expect(1, why).context(name)?;
    }
    let finished = go_on(run)?;
    ensure!(finished.stdout == format!("{read}\t0\n{read}\t0\n"), "{}", finished.stdout);
    let story = story(&finished.log()?)?;
    ensure!(story.is_empty(), "{story:?}");
    Ok(())
}

fn from_inside() -> Result<()> {
    let open = write("open.yaml", OPEN)?;
    let dir = format!("{WORK}/apply-inside");
    let step = format!("become={SANDBOX},policy,apply,{dir},{open},--widen");
    let run = start("apply-inside", &["--enforce", &open, "--require", "lsm"], &[&step])?;
    let finished = run.finish()?;
    finished.expect_code(1)?;
    ensure!(
        finished.stderr.contains("a process of an enforced run cannot apply policies"),
        "{}",
        finished.stderr
    );
    finished.expect_verdict(0)
}

/// Each attempt is judged by one policy or the next, whole: none is lost, none is without its rule.
fn many() -> Result<()> {
    const CHANGES: usize = 8;
    let plain = data("many")?;
    let mut policies = Vec::new();
    for number in 0..2 {
        // Many other rules, so that tables are not small.
        let mut rules = String::new();
        for rule in 0..200 {
            rules += &format!(
                "    - {{ name: n{rule}, deny: [write], path: [/srv/{number}/{rule}/**, \"**/{number}-{rule}\"] }}\n"
            );
        }
        let text = format!(
            "version: 1\nname: turn{number}\nfiles:\n  default: allow\n  rules:\n    - {{ name: closed, deny: [read], path: [{plain}] }}\n{rules}"
        );
        policies.push(write(&format!("turn{number}.yaml"), &text)?);
    }
    let read = format!("read={plain}");
    let stop = format!("{WORK}/apply-many.stop");
    let again = format!("repeat={stop},{read}");
    let run = begin("apply-many", &policies[0], &[], &[&again])?;
    let dir = run.dir.clone();
    fs::write(format!("{WORK}/apply-many.go"), "")?;
    for number in 1..=CHANGES {
        apply(&dir, &policies[number % 2], &["--widen"])?.expect(0, &format!("turn{}", number % 2))?;
    }
    fs::write(&stop, "")?;
    let finished = go_on(run)?;
    let denied = format!("{read}\t{ACCES}");
    let count = finished.stdout.lines().count();
    ensure!(finished.stdout.lines().all(|line| line == denied), "something was let through");
    let story = story(&finished.log()?)?;
    let (changes, denials): (Vec<&String>, Vec<&String>) = story.iter().partition(|what| *what == "apply");
    ensure!(changes.len() == CHANGES, "{} changes", changes.len());
    let rules = ["turn0/closed", "turn1/closed"];
    ensure!(denials.iter().all(|rule| rules.contains(&rule.as_str())), "{denials:?}");
    ensure!(denials.len() == count, "{} of {count} denials", denials.len());
    // Each was in force for a while.
    ensure!(rules.iter().all(|rule| denials.iter().any(|denied| denied == rule)), "one of them never judged");
    Ok(())
}
