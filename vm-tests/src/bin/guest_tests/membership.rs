//! Whatever a task does to itself, it stays a member of its run, and is judged.

use crate::attempt::{
    ACCES, Attempt, PERM, Treatment, allowed, denied, expect_answers, expect_events, steps,
};
use crate::denials::POLICY;
use crate::log::text;
use crate::run::complete;
use crate::{Trial, write};
use anyhow::{Context, Result, ensure};

pub const TRIALS: &[Trial] = &[
    ("worker of io_uring", io_uring_worker),
    ("io_uring when enforced", io_uring_enforced),
    ("32-bit calls", compat),
    ("thread of a dead leader", || judged("dead-leader", &["dead-leader"])),
    ("exec from another thread", || judged("exec-in-thread", &["exec-in-thread"])),
    ("exec from a thread of a dead leader", || {
        judged("dead-leader-exec", &["dead-leader", "exec-in-thread"])
    }),
    ("many new tasks at once", many_at_once),
    ("double fork and setsid", || judged("daemon", &["daemon"])),
];

const TABLE: &[Attempt] = &[
    denied("read=/etc/shadow", "file_open", ("path", "/etc/shadow"), ACCES, "vm/no-shadow"),
    allowed("read=/etc/passwd", "file_open", ("path", "/etc/passwd")),
];

/// The table's attempts from this place, audited and enforced.
fn judged(name: &str, place: &[&str]) -> Result<()> {
    let policy = write("membership.yaml", POLICY)?;
    let all: Vec<&str> = place.iter().copied().chain(steps(TABLE)).collect();
    for (option, treatment) in [("--policy", Treatment::Audited), ("--enforce", Treatment::Enforced)] {
        let finished = complete(&format!("{name}{option}"), &[option, &policy, "--require", "lsm"], &all)?;
        finished.expect_code(0)?;
        expect_answers(TABLE, treatment, &finished.stdout).context(option)?;
        expect_events(TABLE, treatment, &finished.log()?).context(option)?;
        finished.expect_verdict(0)?;
    }
    Ok(())
}

/// The kernel's worker does what the ring asks; it belongs to the run all the same.
fn io_uring_worker() -> Result<()> {
    const TABLE: &[Attempt] = &[
        denied("uring-read=/etc/shadow", "file_open", ("path", "/etc/shadow"), ACCES, "vm/no-shadow"),
        allowed("uring-read=/etc/passwd", "file_open", ("path", "/etc/passwd")),
        denied(
            "uring-connect=127.0.0.2:9001",
            "net_connect",
            ("dst_ip", "127.0.0.2"),
            PERM,
            "vm/no-second-loopback",
        ),
        allowed("uring-connect=127.0.0.1:9001", "net_connect", ("dst_ip", "127.0.0.1")),
    ];
    let _listener = std::net::TcpListener::bind(("0.0.0.0", 9001))?;
    let policy = write("membership.yaml", POLICY)?;
    let finished =
        complete("io-uring", &["--audit-only", "--policy", &policy, "--require", "lsm"], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Audited, &finished.stdout)?;
    let log = finished.log()?;
    expect_events(TABLE, Treatment::Audited, &log)?;
    let rings = log.events()?.iter().filter(|event| text(event, "event_type") == "proc_io_uring").count();
    ensure!(rings == TABLE.len(), "{rings} events say that a ring was set up, not {}", TABLE.len());
    finished.expect_verdict(0)
}

/// A hook that one task is in judges the others, and lets them make tasks.
fn many_at_once() -> Result<()> {
    let policy = write("membership.yaml", POLICY)?;
    let steps = ["race-read=/etc/shadow", "read=/etc/passwd"];
    let finished = complete("many-at-once", &["--enforce", &policy], &steps)?;
    finished.expect_code(0)?;
    let expected = format!("{}\t{ACCES}\n{}\t0\n", steps[0], steps[1]);
    ensure!(finished.stdout == expected, "found {:?}, not {expected:?}", finished.stdout);
    finished.expect_verdict(0)
}

/// Enforced, there is no ring.
fn io_uring_enforced() -> Result<()> {
    let policy = write("membership.yaml", POLICY)?;
    let steps = ["uring-read=/etc/shadow", "uring-read=/etc/passwd", "read=/etc/passwd"];
    let finished = complete("io-uring-enforced", &["--enforce", &policy], &steps)?;
    finished.expect_code(0)?;
    let expected = format!("{}\t{PERM}\n{}\t{PERM}\n{}\t0\n", steps[0], steps[1], steps[2]);
    ensure!(finished.stdout == expected, "found {:?}, not {expected:?}", finished.stdout);
    finished.expect_verdict(0)
}

/// The hooks judge calls of the 32-bit table as any other; enforced, there is no such table.
fn compat() -> Result<()> {
    const TABLE: &[Attempt] = &[
        denied("compat-read=/etc/shadow", "file_open", ("path", "/etc/shadow"), ACCES, "vm/no-shadow"),
        allowed("compat-read=/etc/passwd", "file_open", ("path", "/etc/passwd")),
    ];
    let policy = write("membership.yaml", POLICY)?;
    let finished = complete("compat", &["--policy", &policy, "--require", "lsm"], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Audited, &finished.stdout)?;
    expect_events(TABLE, Treatment::Audited, &finished.log()?)?;
    let finished = complete("compat-enforced", &["--enforce", &policy], &steps(TABLE))?;
    finished.expect_code(0)?;
    let expected: String = steps(TABLE).iter().map(|step| format!("{step}\t{}\n", -libc::ENOSYS)).collect();
    ensure!(finished.stdout == expected, "found {:?}, not {expected:?}", finished.stdout);
    finished.expect_verdict(0)
}
