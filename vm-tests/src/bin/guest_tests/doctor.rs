//! A kernel without `bpf` among its LSMs: programs load and attach, and hold nothing.

use crate::attempt::{Treatment, allowed, expect_answers, expect_events, steps};
use crate::denials::POLICY;
use crate::log::text;
use crate::run::{SANDBOX, complete};
use crate::{Trial, WORK, write};
use anyhow::{Context, Result, ensure};
use std::process::Command;
use vm_tests::wire::NEXT_CMDLINE;

pub const WITHOUT_LSM: &[Trial] = &[
    ("--enforce refuses", enforce_refuses),
    ("--require lsm refuses", require_refuses),
    ("doctor says why and what to do", doctor_explains),
    ("trace alone records", trace_alone_records),
];

/// The same kernel, booted with the parameter that doctor printed.
pub const WITH_LSM_AGAIN: &[Trial] = &[("doctor's parameter is the right one", doctor_is_content)];

/// Carries the list of modules of the boot before on the kernel's command line, which ignores it.
const BEFORE: &str = "vm.before=";
const SECURITY_LIST: &str = "/sys/kernel/security/lsm";

fn enforce_refuses() -> Result<()> {
    let policy = write("refused.yaml", POLICY)?;
    expect_refusal("enforce", &["--enforce", &policy])
}

fn require_refuses() -> Result<()> {
    let policy = write("refused.yaml", POLICY)?;
    expect_refusal("require", &["--require", "lsm"])?;
    expect_refusal("require-policy", &["--policy", &policy, "--require", "lsm"])
}

/// Exit code 125, the layer named, and nothing started.
fn expect_refusal(name: &str, options: &[&str]) -> Result<()> {
    let started = format!("{WORK}/{name}.started");
    let finished = complete(name, options, &[&format!("touch={started}")])?;
    finished.expect_code(125)?;
    ensure!(!std::fs::exists(&started)?, "the command was started");
    ensure!(finished.stdout.is_empty(), "there is something on stdout: {}", finished.stdout);
    ensure!(finished.stderr.contains("lsm"), "the message does not name the layer: {}", finished.stderr);
    Ok(())
}

/// What doctor prints, both streams; its exit status is its own affair.
fn doctor() -> Result<String> {
    let output = Command::new(SANDBOX).arg("doctor").output().context("cannot run sandbox doctor")?;
    ensure!(output.status.code().is_some_and(|code| code < 2), "doctor ended with {}", output.status);
    ensure!(!output.stdout.is_empty(), "doctor printed nothing");
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// The kernel parameter in doctor's text.
fn parameter(text: &str) -> Option<&str> {
    let words = text.split(|c: char| c.is_whitespace() || "`'\"".contains(c));
    words
        .map(|word| word.trim_end_matches(['.', ';', ':']))
        .find(|word| word.starts_with("lsm=") && word.len() > 4)
}

fn doctor_explains() -> Result<()> {
    let present = std::fs::read_to_string(SECURITY_LIST)?;
    ensure!(!present.split(',').any(|name| name == "bpf"), "this kernel has bpf in its list: {present}");
    let text = doctor()?;
    let found = parameter(&text).with_context(|| format!("no lsm= parameter in\n{text}"))?;
    // The host boots the same kernel with it; the next suite looks whether the list is what it was.
    println!("{NEXT_CMDLINE}{found} {BEFORE}{}", present.trim());
    Ok(())
}

fn doctor_is_content() -> Result<()> {
    let cmdline = std::fs::read_to_string("/proc/cmdline")?;
    let before = cmdline.split_whitespace().find_map(|word| word.strip_prefix(BEFORE));
    let before = before.context("the boot before left no list of modules")?;
    let present = std::fs::read_to_string(SECURITY_LIST)?;
    let mut now: Vec<&str> = present.trim().split(',').collect();
    ensure!(now.contains(&"bpf"), "the parameter did not bring bpf: {now:?}");
    now.retain(|module| *module != "bpf");
    ensure!(now == before.split(',').collect::<Vec<_>>(), "the list was {before}, and is {now:?} beside bpf");
    let text = doctor()?;
    ensure!(parameter(&text).is_none(), "doctor still asks for a parameter:\n{text}");
    let policy = write("again.yaml", POLICY)?;
    let finished = complete("again", &["--enforce", &policy, "--require", "lsm"], &["read=/etc/shadow"])?;
    finished.expect_code(0)?;
    ensure!(finished.stdout == "read=/etc/shadow\t-13\n", "found {:?}", finished.stdout);
    Ok(())
}

/// Recording needs no LSM: the other layer does it, and the record says so.
fn trace_alone_records() -> Result<()> {
    let table = [
        allowed("read=/etc/shadow", "file_open", ("path", "/etc/shadow")),
        allowed("run=/usr/bin/other", "exec", ("exe", "/usr/bin/other")),
        allowed("udp=127.0.0.1:9", "net_send", ("dst_ip", "127.0.0.1")),
    ];
    let finished = complete("trace", &["--audit-only"], &steps(&table))?;
    finished.expect_code(0)?;
    expect_answers(&table, Treatment::Observed, &finished.stdout)?;
    let log = finished.log()?;
    expect_events(&table, Treatment::Observed, &log)?;
    let events = log.events()?;
    let layers: Vec<&[u8]> = events
        .first()
        .and_then(|first| first.list("layers"))
        .unwrap_or_default()
        .iter()
        .map(Vec::as_slice)
        .collect();
    ensure!(layers == [b"trace"], "run_start says the layers were {layers:?}");
    ensure!(events.last().is_some_and(|last| text(last, "event_type") == "run_end"), "there is no run_end");
    finished.expect_verdict(0)
}
