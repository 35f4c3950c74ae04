//! What reaches past files and addresses is closed in an enforced run, unless the policy's `kernel` opens it.

use crate::attempt::{Attempt, PERM, Treatment, allowed, denied, expect_answers, expect_events, steps};
use crate::log::text;
use crate::run::{self, Finished, complete};
use crate::{Trial, write};
use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};

pub const TRIALS: &[Trial] = &[
    ("closed by default", closed),
    ("opened by name", opened),
    ("would be closed", audited),
    ("recorded without a policy", observed),
    ("devices and settings", devices),
    ("a copy of a mount", copied),
    ("the runner's control group", ended_by_group),
    ("a signal by a descriptor", owned),
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

/// Raw devices, for reading too, and the kernel's settings for writing.
fn devices() -> Result<()> {
    macro_rules! closed {
        ($word:literal $path:literal) => {
            denied(concat!($word, "=", $path), "file_open", ("path", $path), PERM, RULE)
        };
    }
    macro_rules! open {
        ($word:literal $path:literal) => {
            allowed(concat!($word, "=", $path), "file_open", ("path", $path))
        };
    }
    const TABLE: &[Attempt] = &[
        closed!("read" "/dev/mem"),
        closed!("write" "/dev/mem"),
        closed!("read" "/tmp/trial/memory"),
        open!("read" "/dev/null"),
        open!("write" "/dev/zero"),
        closed!("read" "/proc/kcore"),
        closed!("write" "/proc/sys/kernel/core_pattern"),
        open!("read" "/proc/sys/kernel/core_pattern"),
        closed!("write" "/tmp/trial/proc/sys/kernel/hostname"),
        closed!("write" "/proc/sysrq-trigger"),
        closed!("write" "/sys/kernel/tracing/tracing_on"),
        open!("read" "/sys/kernel/tracing/tracing_on"),
        closed!("write" "/sys/kernel/mm/transparent_hugepage/enabled"),
        closed!("write" "/tmp/trial/cgroup/release_agent"),
        open!("read" "/tmp/trial/cgroup/release_agent"),
        closed!("write" "/sys/fs/cgroup/cgroup.procs"),
        open!("read" "/sys/fs/cgroup/cgroup.procs"),
    ];
    set_up_devices()?;
    expect_answers(TABLE, Treatment::Observed, &run::outside(&steps(TABLE))?)?;
    let policy = write("acts.yaml", POLICY)?;
    let finished = complete("devices", &["--enforce", &policy], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    expect_events(TABLE, Treatment::Enforced, &finished.log()?)?;
    finished.expect_verdict(0)?;
    let finished = complete("devices-audited", &["--policy", &policy, "--require", "lsm"], &steps(TABLE))?;
    expect_answers(TABLE, Treatment::Audited, &finished.stdout)?;
    expect_events(TABLE, Treatment::Audited, &finished.log()?)?;
    let open = write("acts-open.yaml", &format!("{POLICY}{OPEN}"))?;
    let finished = complete("devices-opened", &["--enforce", &open], &steps(TABLE))?;
    expect_answers(TABLE, Treatment::Audited, &finished.stdout)?;
    // A block device that is not there: whoever may open it gets as far as that. What is a process's is no setting.
    let others = ["read=/tmp/trial/disk", "write=/proc/self/comm"];
    let expect = |who: &str, found: &str, disk: i32| {
        let expected = format!("{}\t{disk}\n{}\t0\n", others[0], others[1]);
        ensure!(found == expected, "{who}: {found}");
        Ok(())
    };
    expect("outside", &run::outside(&others)?, -libc::ENXIO)?;
    expect("enforced", &complete("raw-disk", &["--enforce", &policy], &others)?.stdout, PERM)?;
    expect("opened", &complete("raw-disk-opened", &["--enforce", &open], &others)?.stdout, -libc::ENXIO)
}

/// Nodes elsewhere than in /dev, another mount of proc, and control groups of the first version.
fn set_up_devices() -> Result<()> {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    for (name, kind, major) in [("memory", SFlag::S_IFCHR, 1), ("disk", SFlag::S_IFBLK, 240)] {
        let path = format!("{}/{name}", crate::WORK);
        mknod(path.as_str(), kind, Mode::S_IRWXU, makedev(major, 1))?;
    }
    for (kind, name, data) in [("proc", "proc", ""), ("cgroup", "cgroup", "none,name=trial")] {
        let path = format!("{}/{name}", crate::WORK);
        std::fs::create_dir(&path)?;
        mount(Some(kind), path.as_str(), Some(kind), MsFlags::empty(), Some(data))
            .with_context(|| format!("cannot mount {kind}"))?;
    }
    Ok(())
}

/// The filter of system calls closes it before any hook: the command is told, the record is not.
fn copied() -> Result<()> {
    let step = "open-tree=/etc";
    ensure!(run::outside(&[step])? == format!("{step}\t0\n"), "it works outside");
    let policy = write("acts.yaml", POLICY)?;
    let finished = complete("acts-copied", &["--enforce", &policy], &[step])?;
    finished.expect_code(0)?;
    ensure!(finished.stdout == format!("{step}\t{PERM}\n"), "{}", finished.stdout);
    finished.expect_verdict(0)
}

/// Whoever owns the group that the runner is in cannot end it from inside: the kernel would ask no hook about that.
fn ended_by_group() -> Result<()> {
    use std::os::unix::fs::chown;
    let group = "/sys/fs/cgroup/user";
    std::fs::create_dir(group)?;
    for name in ["", "/cgroup.procs", "/cgroup.kill", "/cgroup.freeze"] {
        chown(format!("{group}{name}"), Some(1000), Some(1000))?;
    }
    let kill = format!("{group}/cgroup.kill");
    let steps =
        [format!("write={kill}"), format!("write={group}/cgroup.freeze"), "read=/etc/passwd".to_owned()];
    let words: Vec<&str> = steps.iter().map(String::as_str).collect();
    let policy = write("acts.yaml", POLICY)?;
    let finished = complete("acts-group", &["--enforce", &policy, "--user", "agent"], &words)?;
    finished.expect_code(0)?;
    let expected = format!("{}\t{PERM}\n{}\t{PERM}\n{}\t0\n", steps[0], steps[1], steps[2]);
    ensure!(finished.stdout == expected, "{}", finished.stdout);
    let log = finished.log()?;
    let events = log.events()?;
    let told = events.iter().filter(|e| text(e, "action") == "BLOCKED" && text(e, "policy_rule") == RULE);
    ensure!(told.count() == 2, "both are recorded");
    finished.expect_verdict(0)
}

/// A descriptor names who is signalled when it is ready; where signals to outsiders are closed, it names nobody.
fn owned() -> Result<()> {
    let steps = ["own-parent=fcntl", "own-parent=fcntl-ex", "own-parent=ioctl"];
    let answers = |errno: i32| steps.map(|step| format!("{step}\t{errno}\n")).concat();
    ensure!(run::outside(&steps)? == answers(0), "it works outside");
    let policy = write("acts.yaml", POLICY)?;
    let finished = complete("acts-owned", &["--enforce", &policy], &steps)?;
    finished.expect_code(0)?;
    ensure!(finished.stdout == answers(PERM), "{}", finished.stdout);
    let open = write("acts-open.yaml", &format!("{POLICY}{OPEN}"))?;
    let opened = complete("acts-owned-opened", &["--enforce", &open], &steps)?;
    ensure!(opened.stdout == answers(0), "{}", opened.stdout);
    Ok(())
}
