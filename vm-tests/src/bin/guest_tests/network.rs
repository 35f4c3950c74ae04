//! Every family: where sockets go, what they are bound to, who listens, and whose listener it is.

use crate::attempt::{Attempt, PERM, Treatment, allowed, denied, expect_answers, expect_events, steps};
use crate::log::{show, text};
use crate::run::{self, complete};
use crate::{Trial, WORK, write};
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;
use vm_tests::module;
use vm_tests::wire::FAMILIES;

pub const TRIALS: &[Trial] = &[
    ("families", families),
    ("bind and listen", bind_and_listen),
    ("own listeners", own_listeners),
    ("unix sockets", unix_sockets),
    ("unix sockets under rules on files", unix_and_files),
    ("bytes of a connection", bytes_of_a_connection),
    ("audited", audited),
];

const FIRST: (&str, &str) = ("dst_ip", "127.0.0.1");
const CLOSED: &str = "net/network.default";

/// Fails unless an enforced run of the table's steps gives its answers and its record.
fn hold(name: &str, policy: &str, table: &[Attempt]) -> Result<()> {
    let outside = run::outside(&steps(table))?;
    expect_answers(table, Treatment::Observed, &outside).context("outside the run")?;
    let policy = write(&format!("{name}.yaml"), policy)?;
    let finished = complete(name, &["--enforce", &policy, "--require", "lsm"], &steps(table))?;
    finished.expect_code(0)?;
    expect_answers(table, Treatment::Enforced, &finished.stdout).with_context(|| finished.stderr.clone())?;
    expect_events(table, Treatment::Enforced, &finished.log()?)
}

/// Sockets of families that no rule names cannot even be made where the default denies.
fn families() -> Result<()> {
    const POLICY: &str = r#"
version: 1
name: net
network:
  default: deny
  rules:
    - { name: first, allow: [connect, send], to: ["127.0.0.1"] }
"#;
    const fn family(name: &'static str) -> (&'static str, &'static str) {
        ("family", name)
    }
    const TABLE: &[Attempt] = &[
        // Routes and addresses are part of name resolution.
        allowed("connect-udp=127.0.0.1:9", "net_connect", FIRST),
        denied("socket=17,3,768", "net_socket", family("packet"), PERM, CLOSED),
        denied("socket=17,2,768", "net_socket", family("packet"), PERM, CLOSED),
        // IPv4 and IPv6, raw: of TCP, and of ICMP.
        denied("socket=2,3,6", "net_socket", family("inet"), PERM, CLOSED),
        denied("socket=10,3,58", "net_socket", family("inet6"), PERM, CLOSED),
        // Netlink beyond routes: of the kernel's audit, and of devices.
        denied("socket=16,3,9", "net_socket", family("netlink"), PERM, CLOSED),
        denied("socket=16,3,15", "net_socket", family("netlink"), PERM, CLOSED),
        // To the host of a virtual machine.
        denied("socket=40,1,0", "net_socket", family("vsock"), PERM, CLOSED),
    ];
    for name in FAMILIES {
        module::load(name)?;
    }
    hold("families", POLICY, TABLE)?;
    // Asking for routes is not recorded by itself. SCTP has ways to connect that no hook of connect(2) sees: the filter
    // of system calls closes it, whatever the policy says.
    let steps = ["socket=16,3,0", "socket=2,1,132", "socket=2,5,0", "socket=10,5,132"];
    let outside = run::outside(&steps)?;
    ensure!(outside.lines().all(|line| line.ends_with("\t0")), "outside the run: {outside}");
    let finished = complete("routes", &["--enforce", &format!("{WORK}/families.yaml")], &steps)?;
    let answers: Vec<&str> = finished.stdout.lines().filter_map(|line| line.split('\t').nth(1)).collect();
    ensure!(answers == ["0", "-1", "-1", "-1"], "routes and SCTP: {}", finished.stdout);
    Ok(())
}

fn bind_and_listen() -> Result<()> {
    const POLICY: &str = r#"
version: 1
name: net
network:
  default: deny
  rules:
    - { name: local, allow: [bind, listen], to: ["localhost:7000-7099/tcp", "127.0.0.1:7100/udp"] }
    - { name: not-that, deny: [bind], to: ["127.0.0.1:7013"], because: it is taken }
"#;
    const fn at(address: &'static str) -> (&'static str, &'static str) {
        ("src_ip", address)
    }
    const TABLE: &[Attempt] = &[
        allowed("bind-tcp=127.0.0.1:7001", "net_bind", at("127.0.0.1")),
        denied("bind-tcp=127.0.0.1:7013", "net_bind", at("127.0.0.1"), PERM, "net/not-that"),
        denied("bind-tcp=127.0.0.1:7101", "net_bind", at("127.0.0.1"), PERM, CLOSED),
        // Every interface is another thing than loopback.
        denied("bind-tcp=0.0.0.0:7002", "net_bind", at("0.0.0.0"), PERM, CLOSED),
        denied("bind-tcp=[::]:7003", "net_bind", at("::"), PERM, CLOSED),
        allowed("bind-tcp=[::1]:7004", "net_bind", at("::1")),
        // An IPv4 address of an IPv6 socket.
        allowed("bind-tcp=[::ffff:127.0.0.1]:7005", "net_bind", at("127.0.0.1")),
        denied("bind-tcp=[::ffff:0.0.0.0]:7006", "net_bind", at("0.0.0.0"), PERM, CLOSED),
        allowed("bind-udp=127.0.0.1:7100", "net_bind", at("127.0.0.1")),
        denied("bind-udp=127.0.0.1:7001", "net_bind", at("127.0.0.1"), PERM, CLOSED),
        // A port of the kernel's choice is nobody's: sending without a bind gives one too.
        allowed("bind-udp=0.0.0.0:0", "net_bind", at("0.0.0.0")),
    ];
    hold("bind", POLICY, TABLE)?;
    // Listening on one is judged, where it is then.
    let policy = format!("{WORK}/bind.yaml");
    let run = ["listen=127.0.0.1:7001", "listen=127.0.0.1:0", "listen=0.0.0.0:0"];
    let finished = complete("listen", &["--enforce", &policy], &run)?;
    let answers: Vec<&str> = finished.stdout.lines().map(|l| l.rsplit('\t').next().unwrap_or("")).collect();
    ensure!(answers == ["0", "-1", "-1"], "listening: {}", finished.stdout);
    let log = finished.log()?;
    let listens: Vec<_> =
        log.events()?.into_iter().filter(|event| text(event, "event_type") == "net_listen").collect();
    ensure!(listens.len() == 3, "{} events of listening", listens.len());
    for event in &listens[1..] {
        let told = text(event, "action") == "BLOCKED" && text(event, "policy_rule") == CLOSED;
        ensure!(told && event.int("src_port").is_some_and(|port| port > 0), "listening:{}", show(event));
    }
    Ok(())
}

/// The run's own servers are open to it; the host's are not, on the same address and port range.
fn own_listeners() -> Result<()> {
    const POLICY: &str = r#"
version: 1
name: net
network:
  default: deny
  rules:
    - { name: own, allow: [bind, listen, connect, send], to: ["own:7000-7999"] }
"#;
    const SIX: (&str, &str) = ("dst_ip", "::1");
    const TABLE: &[Attempt] = &[
        denied("connect-tcp=127.0.0.1:7201", "net_connect", FIRST, PERM, CLOSED),
        denied("udp=127.0.0.1:7202", "net_send", FIRST, PERM, CLOSED),
        allowed("serve=127.0.0.1:7203", "net_listen", ("src_ip", "127.0.0.1")),
        allowed("connect-tcp=127.0.0.1:7203", "net_connect", FIRST),
        allowed("connect-tcp=[::ffff:127.0.0.1]:7203", "net_connect", FIRST),
        allowed("serve=[::1]:7204", "net_listen", ("src_ip", "::1")),
        allowed("connect-tcp=[::1]:7204", "net_connect", SIX),
        allowed("serve-udp=127.0.0.1:7205", "net_bind", ("src_ip", "127.0.0.1")),
        allowed("udp=127.0.0.1:7205", "net_send", FIRST),
        allowed("connect-udp=127.0.0.1:7205", "net_connect", FIRST),
        // Ports that the rule does not have.
        denied("serve=127.0.0.1:6999", "net_bind", ("src_ip", "127.0.0.1"), PERM, CLOSED),
    ];
    let database = TcpListener::bind("127.0.0.1:7201")?;
    let datagrams = UdpSocket::bind("127.0.0.1:7202")?;
    let policy = write("own.yaml", POLICY)?;
    let finished = complete("own", &["--enforce", &policy, "--require", "lsm"], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout).with_context(|| finished.stderr.clone())?;
    database.set_nonblocking(true)?;
    datagrams.set_nonblocking(true)?;
    ensure!(database.accept().is_err() && datagrams.recv(&mut [0; 8]).is_err(), "something came out");
    let log = finished.log()?;
    for event in log.events()? {
        let reached = text(&event, "event_type") == "net_connect" && event.int("ret") == Some(0);
        ensure!(!reached || text(&event, "policy_rule") == "net/own", "by another rule:{}", show(&event));
    }
    // One that is gone is nobody's, and what somebody else puts in its place is not the run's.
    let finished = complete("own-gone", &["--enforce", &policy], &["own-gone=127.0.0.1:7206"])?;
    ensure!(finished.stdout.ends_with("\t-1\n"), "a listener that is gone: {}", finished.stdout);
    Ok(())
}

/// Sockets of before, by the paths and names of a trial.
struct Local {
    _streams: Vec<UnixListener>,
    _datagrams: Vec<UnixDatagram>,
}

const PLACE: &str = "/tmp/trial/u";

impl Local {
    fn listen() -> Result<Local> {
        let place = Path::new(PLACE);
        if place.exists() {
            std::fs::remove_dir_all(place)?;
        }
        for directory in ["open", "closed", "new"] {
            std::fs::create_dir_all(place.join(directory))?;
        }
        let stream = |name: &str| UnixListener::bind(place.join(name));
        let datagram = |name: &str| UnixDatagram::bind(place.join(name));
        let hidden = |name: &str| UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?);
        let streams =
            vec![stream("open/s")?, stream("closed/s")?, hidden("trial-open")?, hidden("trial-closed")?];
        let datagrams = vec![datagram("open/d")?, datagram("closed/d")?];
        std::os::unix::fs::symlink("closed/s", place.join("open-link"))?;
        std::os::unix::fs::symlink("open/s", place.join("closed-link"))?;
        Ok(Local { _streams: streams, _datagrams: datagrams })
    }
}

macro_rules! at {
    ($name:literal) => {
        ("path", concat!("/tmp/trial/u/", $name))
    };
}

const UNIX: &str = r#"
version: 1
name: net
network:
  default: deny
  rules:
    - name: sockets
      allow: [connect, send, bind, listen]
      to: ["unix:/tmp/trial/u/open/**", "unix:/tmp/trial/u/new/*", "unix:@trial-open", "unix:@trial-new-*"]
    - { name: not-that, deny: [bind], to: ["unix:@trial-new-but", "unix:/tmp/trial/u/new/but"] }
"#;

/// The socket at the other end is judged, by whatever name it was found.
fn unix_sockets() -> Result<()> {
    const TABLE: &[Attempt] = &[
        allowed("unix-stream=/tmp/trial/u/open/s", "net_connect", at!("open/s")),
        denied("unix-stream=/tmp/trial/u/closed/s", "net_connect", at!("closed/s"), PERM, CLOSED),
        allowed("unix-datagram=/tmp/trial/u/open/d", "net_send", at!("open/d")),
        denied("unix-datagram=/tmp/trial/u/closed/d", "net_send", at!("closed/d"), PERM, CLOSED),
        denied("unix-connect-datagram=/tmp/trial/u/closed/d", "net_send", at!("closed/d"), PERM, CLOSED),
        // Through links, and from inside.
        denied("unix-stream=/tmp/trial/u/open-link", "net_connect", at!("closed/s"), PERM, CLOSED),
        allowed("unix-stream=/tmp/trial/u/closed-link", "net_connect", at!("open/s")),
        denied("unix-relative=/tmp/trial/u/closed,s", "net_connect", at!("closed/s"), PERM, CLOSED),
        denied("unix-relative=/tmp/trial/u/open,../closed/s", "net_connect", at!("closed/s"), PERM, CLOSED),
        allowed("unix-relative=/tmp/trial/u/closed,../open/s", "net_connect", at!("open/s")),
        denied(
            "unix-stream=/proc/self/root/tmp/trial/u/closed/s",
            "net_connect",
            at!("closed/s"),
            PERM,
            CLOSED,
        ),
        allowed("unix-stream=@trial-open", "net_connect", ("path", "@trial-open")),
        denied("unix-stream=@trial-closed", "net_connect", ("path", "@trial-closed"), PERM, CLOSED),
        denied("unix-bind=@trial-new-but", "net_bind", ("path", "@trial-new-but"), PERM, "net/not-that"),
        denied("unix-bind=@trial-other", "net_bind", ("path", "@trial-other"), PERM, CLOSED),
        allowed("unix-bind=@trial-new-1", "net_bind", ("path", "@trial-new-1")),
        denied("unix-bind=/tmp/trial/u/new/but", "net_bind", at!("new/but"), PERM, "net/not-that"),
        denied("unix-bind=/tmp/trial/u/closed/new", "net_bind", at!("closed/new"), PERM, CLOSED),
    ];
    let _peers = Local::listen()?;
    let policy = write("unix.yaml", UNIX)?;
    let outside = run::outside(&steps(TABLE))?;
    expect_answers(TABLE, Treatment::Observed, &outside).context("outside the run")?;
    for made in ["new/but", "closed/new"] {
        std::fs::remove_file(Path::new(PLACE).join(made)).with_context(|| format!("{made} was not made"))?;
    }
    let finished = complete("unix", &["--enforce", &policy, "--require", "lsm"], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout).with_context(|| finished.stderr.clone())?;
    expect_events(TABLE, Treatment::Enforced, &finished.log()?)?;
    for denied in ["new/but", "closed/new"] {
        ensure!(!Path::new(PLACE).join(denied).exists(), "the bind to {denied} left a file");
    }
    // A socket takes no other name under which it could be reached, alone or with its directory.
    let moves = [
        "rename=/tmp/trial/u/closed/s,/tmp/trial/u/open/moved",
        "rename=/tmp/trial/u/closed,/tmp/trial/u/open/below",
        "rename=/tmp/trial/u/open/d,/tmp/trial/u/open/e",
    ];
    let finished = complete("unix-moves", &["--enforce", &policy], &moves)?;
    let answers: Vec<&str> = finished.stdout.lines().map(|l| l.rsplit('\t').next().unwrap_or("")).collect();
    ensure!(answers == ["-13", "-13", "0"], "moved sockets: {} {}", finished.stdout, finished.stderr);
    // What the run serves itself, and what has no name.
    let own = ["unix-serve=/tmp/trial/u/new/own", "unix-stream=/tmp/trial/u/new/own", "unix-pair"];
    let finished = complete("unix-own", &["--enforce", &policy], &own)?;
    let answers: Vec<&str> = finished.stdout.lines().map(|l| l.rsplit('\t').next().unwrap_or("")).collect();
    ensure!(answers == ["0", "0", "0"], "own sockets: {} {}", finished.stdout, finished.stderr);
    Ok(())
}

/// A rule on files keeps a socket from being reached, whatever the network's rules say; a default does not.
fn unix_and_files() -> Result<()> {
    const POLICY: &str = r#"
version: 1
name: net
files:
  default: deny
  rules:
    - { name: most, allow: [all], path: ["/usr/**", "/tmp/trial/u/new/**", "/dev/**", "/proc/**"] }
    - { name: secret, deny: [read], path: ["/tmp/trial/u/closed/**"] }
network:
  default: deny
  rules:
    - { name: sockets, allow: [all], to: ["unix:/**"] }
"#;
    const TABLE: &[Attempt] = &[
        allowed("unix-stream=/tmp/trial/u/open/s", "net_connect", at!("open/s")),
        denied("unix-stream=/tmp/trial/u/closed/s", "net_connect", at!("closed/s"), PERM, "net/secret"),
        denied("unix-datagram=/tmp/trial/u/closed/d", "net_send", at!("closed/d"), PERM, "net/secret"),
    ];
    let _peers = Local::listen()?;
    hold("unix-files", POLICY, TABLE)
}

/// The end of a connection says what went over it.
fn bytes_of_a_connection() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:7301")?;
    let peer = std::thread::spawn(move || -> std::io::Result<usize> {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(&[b'y'; 100_000])?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut got = Vec::new();
        stream.read_to_end(&mut got)
    });
    let finished = complete("bytes", &[], &["talk=127.0.0.1:7301"])?;
    finished.expect_code(0)?;
    ensure!(finished.stdout == "talk=127.0.0.1:7301\t0\n", "{}", finished.stdout);
    let arrived = peer.join().map_err(|_| anyhow::anyhow!("the peer panicked"))??;
    let log = finished.log()?;
    let events = log.events()?;
    let ends: Vec<_> = events.iter().filter(|event| text(event, "event_type") == "net_close").collect();
    ensure!(ends.len() == 1, "{} ends of one connection", ends.len());
    let told = (ends[0].uint("bytes_out"), ends[0].uint("bytes_in"), ends[0].int("dst_port"));
    ensure!(arrived == 3_000 && told == (Some(3_000), Some(100_000), Some(7301)), "{}", show(ends[0]));
    let made = events.iter().find(|event| text(event, "event_type") == "net_connect");
    let made = made.context("no connect")?;
    ensure!(made.int("src_port") == ends[0].int("src_port"), "{}{}", show(made), show(ends[0]));
    Ok(())
}

/// Nothing is blocked, and the same is told.
fn audited() -> Result<()> {
    const POLICY: &str = r#"
version: 1
name: net
network:
  default: deny
  rules:
    - { name: own, allow: [bind, listen, connect, send], to: ["own:7000-7999"] }
    - { name: sockets, allow: [connect], to: ["unix:/tmp/trial/u/open/**"] }
"#;
    const TABLE: &[Attempt] = &[
        denied("connect-tcp=127.0.0.1:7201", "net_connect", FIRST, PERM, CLOSED),
        allowed("serve=127.0.0.1:7203", "net_listen", ("src_ip", "127.0.0.1")),
        allowed("connect-tcp=127.0.0.1:7203", "net_connect", FIRST),
        denied("bind-udp=127.0.0.9:6999", "net_bind", ("src_ip", "127.0.0.9"), PERM, CLOSED),
        allowed("unix-stream=/tmp/trial/u/open/s", "net_connect", at!("open/s")),
        denied("unix-stream=/tmp/trial/u/closed/s", "net_connect", at!("closed/s"), PERM, CLOSED),
    ];
    let _peers = Local::listen()?;
    let _database = TcpListener::bind("127.0.0.1:7201")?;
    let policy = write("audited-net.yaml", POLICY)?;
    let finished = complete("audited-net", &["--audit-only", "--policy", &policy], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Audited, &finished.stdout)?;
    expect_events(TABLE, Treatment::Audited, &finished.log()?)
}
