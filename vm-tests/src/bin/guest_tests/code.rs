//! Code: every level of a `#!` chain, files that no directory has, programs that would gain privileges.

use crate::attempt::{ACCES, Attempt, PERM, Treatment, allowed, denied, expect_answers, steps};
use crate::log::{show, text};
use crate::run::{self, PROBE, complete};
use crate::{Trial, write};
use anyhow::{Context, Result, ensure};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

pub const TRIALS: &[Trial] =
    &[("each level of a chain", chain), ("code in no directory", memory), ("set-uid programs", set_uid)];

const PLACE: &str = "/tmp/trial/c";

macro_rules! at {
    ($name:literal) => {
        ("exe", concat!("/tmp/trial/c/", $name))
    };
}
macro_rules! step {
    ($word:literal $one:literal) => {
        concat!($word, "=/tmp/trial/c/", $one)
    };
}

/// A script whose interpreter is a script whose interpreter is a program.
fn script(name: &str, first_line: &str) -> Result<()> {
    let path = format!("{PLACE}/{name}");
    fs::write(&path, format!("#!{first_line}\n")).with_context(|| format!("cannot make {path}"))?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(())
}

fn set_up() -> Result<()> {
    fs::create_dir_all(PLACE)?;
    for (name, program) in [("a", "other"), ("b", "other"), ("c", "wget"), ("d", "other")] {
        script(&format!("{name}2"), &format!("/usr/bin/{program} exit=0"))?;
        script(&format!("{name}1"), &format!("{PLACE}/{name}2"))?;
    }
    for name in ["tool", "closed-tool"] {
        fs::copy(PROBE, format!("{PLACE}/{name}")).with_context(|| format!("cannot make {name}"))?;
    }
    Ok(())
}

const POLICY: &str = r#"
version: 1
name: code
exec:
  default: allow
  rules:
    - { name: closed, deny: [run], path: ["/tmp/trial/c/{a1,b2,closed-tool}", "**/wget"] }
"#;
const RULE: &str = "code/closed";

fn chain() -> Result<()> {
    const TABLE: &[Attempt] = &[
        denied(step!("run" "a1"), "exec", at!("a1"), ACCES, RULE),
        denied(step!("run" "b1"), "exec", at!("b2"), ACCES, RULE),
        denied(step!("run" "c1"), "exec", ("exe", "/usr/bin/wget"), ACCES, RULE),
        allowed(step!("run" "d1"), "exec", ("exe", "/usr/bin/other")),
    ];
    set_up()?;
    let outside = run::outside(&steps(TABLE))?;
    expect_answers(TABLE, Treatment::Observed, &outside).context("outside the run")?;
    let policy = write("code.yaml", POLICY)?;
    let finished = complete("chain", &["--enforce", &policy], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    let log = finished.log()?;
    let events = log.events()?;
    let blocked: Vec<_> = events.iter().filter(|event| text(event, "action") == "BLOCKED").collect();
    let names: Vec<&str> = blocked.iter().map(|event| text(event, "path")).collect();
    ensure!(names == ["/tmp/trial/c/a1", "/tmp/trial/c/b2", "/usr/bin/wget"], "blocked is {names:?}");
    let ruled = blocked.iter().all(|event| text(event, "policy_rule") == RULE);
    ensure!(ruled, "not by the rule: {}", blocked.iter().map(|event| show(event)).collect::<String>());
    Ok(())
}

/// What could be a copy of something that a rule closes is not executed; a name that is gone counts as it was.
fn memory() -> Result<()> {
    const RULED: &[Attempt] = &[
        denied("run-memfd=/usr/bin/other", "exec", ("exe", "/memfd:own (deleted)"), ACCES, ""),
        denied(step!("run-deleted" "closed-tool"), "exec", at!("closed-tool"), ACCES, RULE),
        allowed(step!("run-deleted" "tool"), "exec", at!("tool")),
        allowed("load-memfd=/usr/bin/other", "none", ("path", "")),
    ];
    // A floating pattern would match whatever name the maker of a memfd chose.
    const DEFAULT: &str = r#"
version: 1
name: closed
files:
  default: deny
  rules:
    - { name: files, allow: [read, write, create, delete, attributes], path: ["/**"] }
    - { name: code, allow: [load], path: ["/**"] }
exec:
  default: deny
  rules:
    - { name: all, allow: [run], path: ["/**", "**/*own*"] }
"#;
    const CLOSED: &[Attempt] = &[
        denied("run-memfd=/usr/bin/other", "exec", ("exe", "/memfd:own (deleted)"), ACCES, ""),
        denied("load-memfd=/usr/bin/other", "file_load", ("path", ""), ACCES, ""),
        allowed("run=/usr/bin/other", "exec", ("exe", "/usr/bin/other")),
        allowed("load=/usr/bin/other", "none", ("path", "")),
    ];
    const OPEN: &str = "version: 1\nname: open\nfiles:\n  default: allow\n";
    let policies = [("ruled", POLICY, RULED), ("closed", DEFAULT, CLOSED)];
    for (name, policy, table) in policies {
        set_up()?;
        let policy = write(&format!("{name}.yaml"), policy)?;
        let finished = complete(&format!("memory-{name}"), &["--enforce", &policy], &steps(table))?;
        finished.expect_code(0)?;
        expect_answers(table, Treatment::Enforced, &finished.stdout)?;
        let log = finished.log()?;
        let events = log.events()?;
        let why = "no rule can name code that lies in no directory";
        let told = events.iter().filter(|event| {
            text(event, "action") == "BLOCKED"
                && text(event, "reason") == why
                && text(event, "policy_rule").is_empty()
        });
        let wanted =
            table.iter().filter(|attempt| attempt.step.contains("memfd") && attempt.denied.is_some()).count();
        let found = told.count();
        ensure!(found == wanted, "{name}: {found} of {wanted} denials are recorded with their reason");
    }
    let policy = write("open.yaml", OPEN)?;
    let step = ["run-memfd=/usr/bin/other"];
    let finished = complete("memory-open", &["--enforce", &policy], &step)?;
    ensure!(finished.stdout == "run-memfd=/usr/bin/other\t0\n", "without rules: {}", finished.stdout);
    Ok(())
}

fn set_uid() -> Result<()> {
    const PROGRAM: &str = "/usr/bin/set-uid-probe";
    fs::copy(PROBE, PROGRAM)?;
    fs::set_permissions(PROGRAM, Permissions::from_mode(0o4755))?;
    let step = [format!("gain={PROGRAM}")];
    let step: Vec<&str> = step.iter().map(String::as_str).collect();
    let policy = write("code.yaml", POLICY)?;
    let agent = |name: &str, options: &[&str]| -> Result<String> {
        let options: Vec<&str> = [options, &["--user", "agent"]].concat();
        Ok(complete(name, &options, &step)?.stdout)
    };
    let recorded = agent("set-uid-recorded", &["--policy", &policy])?;
    ensure!(recorded == format!("{}\t0\n", step[0]), "the program gains nothing in any case: {recorded}");
    let enforced = agent("set-uid", &["--enforce", &policy])?;
    ensure!(enforced == format!("{}\t{PERM}\n", step[0]), "the program gained: {enforced}");
    Ok(())
}
