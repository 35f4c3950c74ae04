//! A policy that `sandbox learn` makes of recorded runs, enforced by the hooks: the runs that it was learned from and another
//! like them are denied nothing, attacks are, and a replay of the records says the same before.

use crate::log::text;
use crate::replay::{denied, replayed};
use crate::run::{Finished, SANDBOX, complete};
use crate::write;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// Where runs work: none of the temporary places, which a policy may open as a whole.
const PROJECT: &str = "/srv/project";
/// What of the machine a run needs beside it.
const DATA: &str = "/srv/data";
/// Runs to learn from.
const LESSONS: usize = 3;

/// What a project's home has that is nobody's business.
const SECRETS: [&str; 3] = ["/root/.ssh/id_ed25519", "/root/.aws/credentials", "/root/notes.txt"];

/// Attempts that no run makes which is learned from; each goes through without a policy.
const ATTACKS: [&str; 9] = [
    "read=/root/.ssh/id_ed25519",
    "read=/root/.aws/credentials",
    "read=/root/notes.txt",
    "read=/etc/shadow",
    "write=/root/.bashrc",
    "create=/etc/cron.d/job",
    "connect-tcp=127.0.0.2:9001",
    "run=/usr/bin/wget",
    "link=/root/.ssh/id_ed25519,/srv/project/key",
];

/// What an honest run does, each with names of its own.
fn honest(number: usize) -> Vec<String> {
    let name = ["amber", "birch", "cedar", "dune"][number];
    let hash = ["0f3a91c2", "77be01d4", "c95a7e12", "41d0c8fb"][number];
    let steps = [
        "read=/etc/passwd".to_owned(),
        format!("read={DATA}/common"),
        format!("read={PROJECT}/src/main.c"),
        format!("mkdir={PROJECT}/build-{name}"),
        format!("create={PROJECT}/build-{name}/.tmp{hash}"),
        format!("rename={PROJECT}/build-{name}/.tmp{hash},{PROJECT}/build-{name}/{name}.o"),
        format!("read={PROJECT}/build-{name}/{name}.o"),
        format!("create=/tmp/cc{hash}.s"),
        format!("unlink=/tmp/cc{hash}.s"),
        "run=/usr/bin/other".to_owned(),
        "connect-tcp=127.0.0.1:9001".to_owned(),
        format!("unlink={PROJECT}/build-{name}/{name}.o"),
        format!("rmdir={PROJECT}/build-{name}"),
        // A directory that gets its name when it is whole, as package managers do it.
        format!("read={PROJECT}/tools{}/tool", &hash[..6]),
        format!("rename={PROJECT}/tools{},{PROJECT}/tools", &hash[..6]),
        format!("run={PROJECT}/tools/tool"),
    ];
    steps.to_vec()
}

fn run(name: &str, options: &[&str], steps: &[String]) -> Result<Finished> {
    complete(name, options, &steps.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Puts the directory where an honest run expects it, and runs it.
fn run_honest(name: &str, options: &[&str], number: usize) -> Result<(Finished, Vec<String>)> {
    let steps = honest(number);
    let whole = steps.iter().find_map(|step| step.strip_prefix("rename=/srv/project/tools"));
    let (made, _) = whole.and_then(|rest| rest.split_once(',')).context("a directory is renamed")?;
    let tools = format!("{PROJECT}/tools{made}");
    std::fs::create_dir(&tools)?;
    std::fs::copy("/usr/bin/other", format!("{tools}/tool"))?;
    let run = run(name, options, &steps)?;
    std::fs::remove_dir_all(format!("{PROJECT}/tools"))?;
    Ok((run, steps))
}

/// Fails unless every attempt came through.
fn expect_through(run: &Finished, steps: &[String]) -> Result<()> {
    run.expect_code(0)?;
    let expected: String = steps.iter().map(|step| format!("{step}\t0\n")).collect();
    ensure!(run.stdout == expected, "{}\n{}", run.stdout, run.stderr);
    Ok(())
}

pub fn as_learned() -> Result<()> {
    let _peers = (TcpListener::bind("127.0.0.1:9001")?, TcpListener::bind("127.0.0.2:9001")?);
    for path in
        SECRETS.iter().copied().chain(["/root/.bashrc", "/srv/data/common", "/srv/project/src/main.c"])
    {
        std::fs::create_dir_all(Path::new(path).parent().context("a directory")?)?;
        std::fs::write(path, "text")?;
    }
    std::fs::create_dir_all("/etc/cron.d")?;
    std::env::set_current_dir(PROJECT)?;

    let mut lessons = Vec::new();
    for number in 0..LESSONS {
        let (recorded, steps) = run_honest(&format!("lesson-{number}"), &["--audit-only"], number)?;
        expect_through(&recorded, &steps)?;
        lessons.push(recorded);
    }
    let policy = learn(&lessons)?;
    for lesson in &lessons {
        ensure!(replayed(&policy, &lesson.dir)?.is_empty(), "a replay denies what was learned");
    }
    let enforced = ["--enforce", policy.as_str(), "--require", "lsm"];
    // The last of them is none that was learned from.
    for number in 0..=LESSONS {
        let name = format!("honest-{number}");
        let (held, steps) = run_honest(&name, &enforced, number)?;
        expect_through(&held, &steps).with_context(|| name.clone())?;
        ensure!(denied(&held)?.is_empty(), "{name}: {:?}", denied(&held)?);
        held.expect_verdict(0)?;
    }

    let clean = || {
        ["/etc/cron.d/job", "/srv/project/key"].iter().for_each(|path| _ = std::fs::remove_file(path));
    };
    let attacks: Vec<String> = ATTACKS.map(str::to_owned).to_vec();
    clean();
    let control = run("attack-control", &["--audit-only"], &attacks)?;
    expect_through(&control, &attacks)?;
    clean();
    let held = run("attack", &enforced, &attacks)?;
    held.expect_code(0)?;
    for (line, step) in held.stdout.lines().zip(&attacks) {
        let errno = if step.starts_with("connect") { libc::EPERM } else { libc::EACCES };
        ensure!(line == format!("{step}\t-{errno}"), "{line}\n{}", held.stdout);
    }
    ensure!(held.stdout.lines().count() == attacks.len(), "{}", held.stdout);
    let (kernel, replay) = (denied(&held)?, replayed(&policy, &control.dir)?);
    ensure!(kernel == replay, "enforced {kernel:?}\nreplayed {replay:?}");
    let told = held.log()?.events()?.iter().filter(|event| text(event, "action") == "BLOCKED").count();
    ensure!(told == attacks.len(), "{told} records of denials");
    does_not_move(&policy, &enforced)
}

/// A directory that was opened for work does not go where programs are executed, and a replay knows it.
fn does_not_move(policy: &str, enforced: &[&str]) -> Result<()> {
    let steps = [
        "mkdir=/srv/project/work",
        "create=/srv/project/work/file",
        "rename=/srv/project/work,/srv/project/tools",
    ];
    let steps = steps.map(str::to_owned);
    let control = run("move-control", &["--audit-only"], &steps)?;
    expect_through(&control, &steps)?;
    std::fs::remove_dir_all(format!("{PROJECT}/tools"))?;
    let held = run("move", enforced, &steps)?;
    let expected = format!("{}\t0\n{}\t0\n{}\t-{}\n", steps[0], steps[1], steps[2], libc::EACCES);
    ensure!(held.stdout == expected, "{}\n{}", held.stdout, held.stderr);
    let (kernel, replay) = (denied(&held)?, replayed(policy, &control.dir)?);
    ensure!(kernel == replay && kernel.len() == 1, "enforced {kernel:?}\nreplayed {replay:?}");
    Ok(())
}

/// A policy of these runs; the path of its file.
fn learn(lessons: &[Finished]) -> Result<String> {
    let policy = write("learned.yaml", "")?;
    std::fs::remove_file(&policy)?;
    let mut command = Command::new(SANDBOX);
    command.arg("learn").args(lessons.iter().map(|run| &run.dir)).args(["-o", &policy]);
    let output = command.output().with_context(|| format!("cannot run {SANDBOX}"))?;
    // 1: too few runs to be sure of.
    ensure!(
        matches!(output.status.code(), Some(0 | 1)),
        "learn ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(&policy)?;
    let wide: BTreeMap<&str, bool> =
        ["\"/**\"", "[any]", "/root/**"].map(|word| (word, text.contains(word))).into_iter().collect();
    ensure!(!wide.values().any(|found| *found), "{wide:?} in\n{text}");
    Ok(policy)
}
