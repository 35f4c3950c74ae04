//! What reaches past files and addresses is closed in an enforced run, unless the policy's `kernel` opens it.

use crate::attempt::{Attempt, PERM, Treatment, allowed, denied, expect_answers, expect_events, steps};
use crate::log::text;
use crate::run::{self, Finished, complete};
use crate::{Trial, write};
use anyhow::{Result, ensure};

pub const TRIALS: &[Trial] = &[
    ("closed by default", closed),
    ("opened by name", opened),
    ("would be closed", audited),
    ("recorded without a policy", observed),
];

const RULE: &str = "acts/kernel.default";
/// Acts without a path are known by who did them.
const PROBE: (&str, &str) = ("comm", "guest-probe");

const TABLE: &[Attempt] = &[
    denied("mount=/tmp/trial", "proc_mount", ("path", "/tmp/trial"), PERM, RULE),
    denied("userns", "proc_userns", PROBE, PERM, RULE),
    denied("chroot=/", "proc_chroot", ("path", "/"), PERM, RULE),
    denied("attach-parent", "proc_ptrace", PROBE, PERM, RULE),
    denied("traceme", "proc_ptrace", PROBE, PERM, RULE),
    denied("bpf", "proc_bpf", PROBE, PERM, RULE),
    denied("signal-parent", "proc_signal", PROBE, PERM, RULE),
    allowed("read=/etc/passwd", "file_open", ("path", "/etc/passwd")),
];

const POLICY: &str = "version: 1\nname: acts\nfiles:\n  default: allow\n";
const OPEN: &str = "kernel:\n  allow: [mount, userns, chroot, ptrace-own, ptrace-any, bpf, signal-outside, \
                    raw-devices, sysctl-write]\n";

fn closed() -> Result<()> {
    expect_answers(TABLE, Treatment::Observed, &run::outside(&steps(TABLE))?)?;
    let policy = write("acts.yaml", POLICY)?;
    let finished = complete("acts-closed", &["--enforce", &policy], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    expect_events(TABLE, Treatment::Enforced, &finished.log()?)?;
    finished.expect_verdict(0)
}

fn opened() -> Result<()> {
    let policy = write("acts-open.yaml", &format!("{POLICY}{OPEN}"))?;
    let finished = complete("acts-opened", &["--enforce", &policy], &steps(TABLE))?;
    expect_told(&finished, "ALLOWED")
}

fn audited() -> Result<()> {
    let policy = write("acts.yaml", POLICY)?;
    let finished = complete("acts-audited", &["--policy", &policy, "--require", "lsm"], &steps(TABLE))?;
    expect_told(&finished, "WOULD_BLOCK")
}

fn observed() -> Result<()> {
    expect_told(&complete("acts-observed", &["--require", "lsm"], &steps(TABLE))?, "OBSERVED")
}

/// Every act succeeded, and is in the record once with this action.
fn expect_told(finished: &Finished, action: &str) -> Result<()> {
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Observed, &finished.stdout)?;
    let log = finished.log()?;
    let events = log.events()?;
    for act in ["proc_mount", "proc_userns", "proc_chroot", "proc_ptrace", "proc_bpf", "proc_signal"] {
        let wanted = TABLE.iter().filter(|attempt| attempt.event == act).count();
        let found: Vec<_> = events.iter().filter(|event| text(event, "event_type") == act).collect();
        let right = found.iter().all(|event| text(event, "action") == action);
        ensure!(found.len() == wanted && right, "{act}: {} events, {wanted} {action} expected", found.len());
    }
    finished.expect_verdict(0)
}
