//! What a policy denies fails with the right errno and is recorded with its rule; everything else works.

use crate::attempt::{
    ACCES, Attempt, PERM, Treatment, allowed, denied, expect_answers, expect_events, steps,
};
use crate::log::{Log, show, text};
use crate::run::{self, Finished, complete};
use crate::{Trial, WORK, write};
use anyhow::{Context, Result, ensure};
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};

pub const TRIALS: &[Trial] = &[
    ("all succeed without a run", without_a_run),
    ("enforced", enforced),
    ("audited", audited),
    ("observed", observed),
    ("loopback by other names", loopback_by_other_names),
    ("defaults deny", defaults_deny),
    ("loaded code", loaded_code),
];

/// The policy of most trials.
pub const POLICY: &str = r#"
version: 1
name: vm
files:
  default: allow
  rules:
    - name: no-shadow
      deny: [read, write]
      path: ["/etc/shadow"]
exec:
  default: allow
  rules:
    - { name: no-wget, deny: [run], path: ["/usr/bin/wget"] }
network:
  default: allow
  rules:
    - { name: no-second-loopback, deny: [connect, send], to: ["127.0.0.2"] }
"#;

const SHADOW: (&str, &str) = ("path", "/etc/shadow");
const PASSWD: (&str, &str) = ("path", "/etc/passwd");
const FIRST: (&str, &str) = ("dst_ip", "127.0.0.1");
const SECOND: (&str, &str) = ("dst_ip", "127.0.0.2");
const NO_SHADOW: &str = "vm/no-shadow";
const NO_SECOND: &str = "vm/no-second-loopback";

/// Each denial with its control.
const TABLE: &[Attempt] = &[
    denied("read=/etc/shadow", "file_open", SHADOW, ACCES, NO_SHADOW),
    allowed("read=/etc/passwd", "file_open", PASSWD),
    denied("write=/etc/shadow", "file_open", SHADOW, ACCES, NO_SHADOW),
    allowed("write=/etc/passwd", "file_open", PASSWD),
    denied("openat2=/etc/shadow", "file_open", SHADOW, ACCES, NO_SHADOW),
    allowed("openat2=/etc/passwd", "file_open", PASSWD),
    denied("read=/tmp/trial/to-shadow", "file_open", SHADOW, ACCES, NO_SHADOW),
    allowed("read=/tmp/trial/to-passwd", "file_open", PASSWD),
    denied("read=/proc/self/root/etc/shadow", "file_open", SHADOW, ACCES, NO_SHADOW),
    allowed("read=/proc/self/root/etc/passwd", "file_open", PASSWD),
    denied("reopen=/etc/shadow", "file_open", SHADOW, ACCES, NO_SHADOW),
    allowed("reopen=/etc/passwd", "file_open", PASSWD),
    denied("run=/usr/bin/wget", "exec", ("exe", "/usr/bin/wget"), ACCES, "vm/no-wget"),
    allowed("run=/usr/bin/other", "exec", ("exe", "/usr/bin/other")),
    denied("run=/tmp/trial/to-wget", "exec", ("exe", "/usr/bin/wget"), ACCES, "vm/no-wget"),
    allowed("run=/tmp/trial/to-other", "exec", ("exe", "/usr/bin/other")),
    denied("connect-tcp=127.0.0.2:9001", "net_connect", SECOND, PERM, NO_SECOND),
    allowed("connect-tcp=127.0.0.1:9001", "net_connect", FIRST),
    denied("connect-mptcp=127.0.0.2:9001", "net_connect", SECOND, PERM, NO_SECOND),
    allowed("connect-mptcp=127.0.0.1:9001", "net_connect", FIRST),
    denied("connect-tcp=[::ffff:127.0.0.2]:9001", "net_connect", SECOND, PERM, NO_SECOND),
    allowed("connect-tcp=[::ffff:127.0.0.1]:9001", "net_connect", FIRST),
    denied("connect-udp=127.0.0.2:9002", "net_connect", SECOND, PERM, NO_SECOND),
    allowed("connect-udp=127.0.0.1:9002", "net_connect", FIRST),
    denied("fastopen=127.0.0.2:9001", "net_connect", SECOND, PERM, NO_SECOND),
    allowed("fastopen=127.0.0.1:9001", "net_connect", FIRST),
    denied("udp=127.0.0.2:9002", "net_send", SECOND, PERM, NO_SECOND),
    allowed("udp=127.0.0.1:9002", "net_send", FIRST),
    denied("udp-msg=127.0.0.2:9002", "net_send", SECOND, PERM, NO_SECOND),
    allowed("udp-msg=127.0.0.1:9002", "net_send", FIRST),
    denied("udp-unspec=127.0.0.2:9002", "net_send", SECOND, PERM, NO_SECOND),
    allowed("udp-unspec=127.0.0.1:9002", "net_send", FIRST),
    denied("udp6-v4=127.0.0.2:9002", "net_send", SECOND, PERM, NO_SECOND),
    allowed("udp6-v4=127.0.0.1:9002", "net_send", FIRST),
    denied("udp=[::ffff:127.0.0.2]:9002", "net_send", SECOND, PERM, NO_SECOND),
    allowed("udp=[::ffff:127.0.0.1]:9002", "net_send", FIRST),
];

/// How many of the table's attempts make a connection at the listener they name, and how many send a
/// datagram, at either address.
const CONNECTIONS: usize = 4;
const DATAGRAMS: usize = 5;

/// Somebody to talk to on both addresses.
struct Peers {
    streams: [TcpListener; 2],
    datagrams: [UdpSocket; 2],
}

impl Peers {
    fn listen() -> Result<Peers> {
        let stream = |ip| -> Result<TcpListener> {
            let listener = TcpListener::bind((ip, 9001)).with_context(|| format!("cannot listen on {ip}"))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let datagram = |ip| -> Result<UdpSocket> {
            let socket = UdpSocket::bind((ip, 9002)).with_context(|| format!("cannot bind {ip}"))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        Ok(Peers {
            streams: [stream("127.0.0.1")?, stream("127.0.0.2")?],
            datagrams: [datagram("127.0.0.1")?, datagram("127.0.0.2")?],
        })
    }

    /// What came since the last call: connections and datagrams at the first and the second address.
    /// Loopback delivers before connect(2) and sendto(2) return.
    fn arrivals(&self) -> Result<[(usize, usize); 2]> {
        let mut counts = [(0, 0); 2];
        for (index, count) in counts.iter_mut().enumerate() {
            count.0 = drain(|| self.streams[index].accept().map(drop))?;
            count.1 = drain(|| self.datagrams[index].recv(&mut [0; 8]).map(drop))?;
        }
        Ok(counts)
    }
}

fn drain(mut take: impl FnMut() -> std::io::Result<()>) -> Result<usize> {
    for count in 0.. {
        match take() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(count),
            Err(error) => return Err(error).context("cannot take what arrived"),
        }
    }
    Ok(0)
}

fn set_up() -> Result<(Peers, String)> {
    for (link, target) in [
        ("to-shadow", "/etc/shadow"),
        ("to-passwd", "/etc/passwd"),
        ("to-wget", "/usr/bin/wget"),
        ("to-other", "/usr/bin/other"),
    ] {
        let link = format!("{WORK}/{link}");
        if !std::fs::exists(&link)? {
            std::os::unix::fs::symlink(target, &link).with_context(|| format!("cannot make {link}"))?;
        }
    }
    Ok((Peers::listen()?, write("vm.yaml", POLICY)?))
}

/// The table is about the policy: without a run nothing in it fails.
fn without_a_run() -> Result<()> {
    let (peers, _) = set_up()?;
    succeeds_outside(&peers)
}

fn succeeds_outside(peers: &Peers) -> Result<()> {
    let answers = run::outside(&steps(TABLE))?;
    expect_answers(TABLE, Treatment::Observed, &answers).context("outside the run")?;
    let arrived = peers.arrivals()?;
    ensure!(arrived == [(CONNECTIONS, DATAGRAMS); 2], "from outside the run arrived {arrived:?}");
    Ok(())
}

fn enforced() -> Result<()> {
    let (peers, policy) = set_up()?;
    let go = format!("{WORK}/enforced.go");
    let ready = format!("{WORK}/enforced.ready");
    let (wait, touch) = (format!("wait={go}"), format!("touch={ready}"));
    let mut inside = vec![touch.as_str(), wait.as_str()];
    inside.extend(steps(TABLE));
    inside.push("exit=3");
    let run =
        run::start("enforced", &["--enforce", &policy, "--require", "lsm", "--agent-id", "trial"], &inside)?;
    let run = run.once("the command starts", || Ok(std::fs::exists(&ready)?))?;
    // A process outside the run, while it is on.
    succeeds_outside(&peers)?;
    std::fs::write(&go, "")?;
    let finished = run.finish()?;
    finished.expect_code(3)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    let arrived = peers.arrivals()?;
    ensure!(arrived == [(CONNECTIONS, DATAGRAMS), (0, 0)], "from inside the run arrived {arrived:?}");
    let log = finished.log()?;
    expect_events(TABLE, Treatment::Enforced, &log)?;
    let denials = TABLE.iter().filter(|attempt| attempt.denied.is_some()).count();
    expect_record(&finished, &log, "enforce", u64::try_from(denials)?)?;
    expect_self_tests(&finished)
}

fn audited() -> Result<()> {
    let (peers, policy) = set_up()?;
    let finished =
        complete("audited", &["--audit-only", "--policy", &policy, "--require", "lsm"], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Audited, &finished.stdout)?;
    let arrived = peers.arrivals()?;
    ensure!(arrived == [(CONNECTIONS, DATAGRAMS); 2], "arrived {arrived:?}");
    let log = finished.log()?;
    expect_events(TABLE, Treatment::Audited, &log)?;
    expect_record(&finished, &log, "audit-only", 0)?;
    expect_self_tests(&finished)
}

fn observed() -> Result<()> {
    let (_peers, _) = set_up()?;
    let finished = complete("observed", &[], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Observed, &finished.stdout)?;
    let log = finished.log()?;
    expect_events(TABLE, Treatment::Observed, &log)?;
    expect_record(&finished, &log, "audit-only", 0)
}

/// The frame of a record: its first and last line, and audit-verify's word.
fn expect_record(finished: &Finished, log: &Log, mode: &str, blocked: u64) -> Result<()> {
    let events = log.events()?;
    let (Some(first), Some(last)) = (events.first(), events.last()) else {
        anyhow::bail!("the log is empty")
    };
    ensure!(text(first, "event_type") == "run_start", "the first line is{}", show(first));
    ensure!(text(first, "mode") == mode, "run_start says mode {:?}", text(first, "mode"));
    let layers = first.list("layers").unwrap_or_default();
    ensure!(
        layers.iter().any(|layer| layer == b"lsm"),
        "run_start does not say that lsm held:{}",
        show(first)
    );
    ensure!(text(last, "event_type") == "run_end", "the last line is{}", show(last));
    ensure!(last.uint("lost") == Some(0), "events were lost:{}", show(last));
    ensure!(last.uint("blocked") == Some(blocked), "run_end does not say {blocked} blocked:{}", show(last));
    finished.expect_verdict(0)
}

/// Every hook of the layer lsm was tried before the command started, and held.
fn expect_self_tests(finished: &Finished) -> Result<()> {
    let path = finished.dir.join("meta.json");
    let meta: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?).context("meta.json")?;
    let layers = meta["layers"].as_array().context("meta.json has no layers")?;
    let lsm = layers.iter().find(|layer| layer["name"] == "lsm").context("meta.json has no layer lsm")?;
    let tests = lsm["selftest"].as_array().context("the layer lsm has no self-tests")?;
    let inodes =
        ["setattr", "setxattr", "removexattr", "set_acl", "remove_acl"].map(|name| format!("inode_{name}"));
    let names =
        ["mknod", "mkdir", "symlink", "link", "rename", "unlink", "rmdir", "truncate", "chmod", "chown"];
    let names = names.map(|name| format!("path_{name}"));
    let others = ["file_open", "bprm_check_security", "socket_connect", "socket_sendmsg", "task_alloc"];
    for hook in others
        .into_iter()
        .chain(["mmap_file", "file_ioctl", "sb_mount", "userns_create", "bpf"])
        .chain(names.iter().chain(&inodes).map(String::as_str))
    {
        let test = tests.iter().find(|test| test["check"] == hook);
        ensure!(
            test.is_some_and(|test| test["result"] == "held"),
            "self-test of {hook}: {test:?} of {tests:?}"
        );
    }
    Ok(())
}

/// For connect and send, the unspecified address is loopback.
fn loopback_by_other_names() -> Result<()> {
    const RULE: &str = "other-names/no-loopback";
    const SIX: (&str, &str) = ("dst_ip", "::");
    const FOUR: (&str, &str) = ("dst_ip", "0.0.0.0");
    const TABLE: &[Attempt] = &[
        denied("connect-tcp=0.0.0.0:9001", "net_connect", FOUR, PERM, RULE),
        denied("connect-tcp=127.0.0.1:9001", "net_connect", FIRST, PERM, RULE),
        allowed("connect-tcp=127.0.0.2:9001", "net_connect", SECOND),
        denied("connect-tcp=[::]:9001", "net_connect", SIX, PERM, RULE),
        denied("connect-tcp=[::ffff:0.0.0.0]:9001", "net_connect", FOUR, PERM, RULE),
        allowed("connect-tcp=[::ffff:127.0.0.2]:9001", "net_connect", SECOND),
        denied("udp=0.0.0.0:9002", "net_send", FOUR, PERM, RULE),
        denied("udp-unspec=0.0.0.0:9002", "net_send", FOUR, PERM, RULE),
        allowed("udp=127.0.0.2:9002", "net_send", SECOND),
    ];
    const POLICY: &str = r#"
version: 1
name: other-names
network:
  default: allow
  rules:
    - { name: no-loopback, deny: [connect, send], to: ["127.0.0.1", "::1"] }
"#;
    let (peers, _) = set_up()?;
    let policy = write("other-names.yaml", POLICY)?;
    let finished = complete("other-names", &["--enforce", &policy], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    let arrived = peers.arrivals()?;
    ensure!(arrived == [(0, 0), (2, 1)], "arrived {arrived:?}");
    expect_events(TABLE, Treatment::Enforced, &finished.log()?)
}

/// A file may not be loaded where a rule says so, and neither what a rule keeps from being executed.
fn loaded_code() -> Result<()> {
    const LIBRARY: (&str, &str) = ("path", "/tmp/trial/lib.so");
    const PROGRAM: (&str, &str) = ("path", "/usr/bin/wget");
    const TABLE: &[Attempt] = &[
        denied("load=/tmp/trial/lib.so", "file_load", LIBRARY, ACCES, "code/no-library"),
        denied("load=/usr/bin/wget", "file_load", PROGRAM, ACCES, "code/no-wget"),
        allowed("load=/usr/bin/other", "file_open", ("path", "/usr/bin/other")),
        allowed("run=/usr/bin/other", "exec", ("exe", "/usr/bin/other")),
    ];
    const POLICY: &str = r#"
version: 1
name: code
files:
  default: allow
  rules:
    - { name: no-library, deny: [load], path: ["**/lib.so"] }
exec:
  default: deny
  rules:
    - { name: some, allow: [run], path: ["/usr/bin/**"] }
    - { name: no-wget, deny: [run], path: ["**/wget"] }
"#;
    let policy = write("code.yaml", POLICY)?;
    std::fs::copy("/usr/bin/other", "/tmp/trial/lib.so").context("cannot make lib.so")?;
    let finished = complete("code", &["--enforce", &policy], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    expect_events(TABLE, Treatment::Enforced, &finished.log()?)
}

/// What no rule allows, the default denies, and it is named as the rule.
fn defaults_deny() -> Result<()> {
    const NETWORK: &str = "closed/network.default";
    const TABLE: &[Attempt] = &[
        allowed("read=/etc/passwd", "file_open", PASSWD),
        denied("write=/etc/passwd", "file_open", PASSWD, ACCES, "closed/files.default"),
        denied("read=/etc/passwd-", "file_open", ("path", "/etc/passwd-"), ACCES, "closed/files.default"),
        denied("read=/etc/hosts", "file_open", ("path", "/etc/hosts"), ACCES, "closed/files.default"),
        allowed("run=/usr/bin/other", "exec", ("exe", "/usr/bin/other")),
        denied("run=/usr/bin/wget", "exec", ("exe", "/usr/bin/wget"), ACCES, "closed/exec.default"),
        allowed("connect-tcp=127.0.0.1:9001", "net_connect", FIRST),
        denied("connect-tcp=127.0.0.2:9001", "net_connect", SECOND, PERM, NETWORK),
        allowed("udp=127.0.0.1:9002", "net_send", FIRST),
        denied("udp=127.0.0.2:9002", "net_send", SECOND, PERM, NETWORK),
        denied("connect-tcp=[::1]:9001", "net_connect", ("dst_ip", "::1"), PERM, NETWORK),
    ];
    const POLICY: &str = r#"
version: 1
name: closed
files:
  default: deny
  rules:
    - { name: passwd, allow: [read], path: ["/etc/passwd"] }
    - { name: programs, allow: [read], path: ["/usr/bin/**"] }
    - { name: own, allow: [read], path: ["/proc/**"] }
exec:
  default: deny
  rules:
    - { name: two, allow: [run], path: ["/usr/bin/{guest-probe,other}"] }
network:
  default: deny
  rules:
    - { name: first, allow: [connect, send], to: ["127.0.0.1:9001-9002"] }
"#;
    let (_peers, _) = set_up()?;
    std::fs::write("/etc/passwd-", "")?;
    let policy = write("closed.yaml", POLICY)?;
    let finished = complete("closed", &["--enforce", &policy], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    let log = finished.log()?;
    expect_events(TABLE, Treatment::Enforced, &log)?;
    let events = log.events()?;
    let unheld = events.first().and_then(|first| first.list("unheld")).unwrap_or_default();
    ensure!(unheld.is_empty(), "run_start says that something is not held: {unheld:?}");
    finished.expect_verdict(0)
}
