//! Pairs of unix sockets, and calls of the network that stay inside: what leads out to the machine's own sockets is closed,
//! and a record says BLOCKED of nothing that went through.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Stdio;

use sandbox_tests::requirement::Need;
use sandbox_tests::scene::finish;

use crate::place::{Place, at, possible};

/// Attempts; each prints its name and 0 or the errno.
const ATTEMPTS: &str = sandbox_tests::attempts!(
    r#"
import errno, os, socket, sys
DATAGRAMS, STREAMS = sys.argv[1:]
def pair(kind):
    return socket.socketpair(socket.AF_UNIX, kind)
def send(kind):
    pair(kind)[0].sendto(b"out", DATAGRAMS)
def connect(kind):
    one, _ = pair(kind)
    one.connect(DATAGRAMS)
    one.send(b"out")
FLAGS = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
for name, kind in ("dgram", socket.SOCK_DGRAM), ("raw", socket.SOCK_RAW), ("flags", socket.SOCK_DGRAM | FLAGS):
    attempt(name + " send", lambda: send(kind))
    attempt(name + " connect", lambda: connect(kind))
for name, kind in ("stream", socket.SOCK_STREAM), ("packet", socket.SOCK_SEQPACKET):
    one, other = pair(kind)
    def talk():
        one.send(b"in")
        if other.recv(9) != b"in":
            raise OSError(errno.EIO, "")
    attempt(name + " talk", talk)
    attempt(name + " send", lambda: one.sendto(b"lost", STREAMS))
    attempt(name + " connect", lambda: one.connect(STREAMS))
    attempt(name + " bind", lambda: one.bind("bound-" + name))
    attempt(name + " listen", lambda: one.listen())
    attempt(name + " reach", lambda: socket.socket(socket.AF_UNIX, kind).connect("bound-" + name))
def own():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()):
            pass
attempt("own", own)
attempt("outside", lambda: socket.socket().connect(("192.0.2.1", 443)))
"#
);

/// Sockets of the machine's, which anybody may connect to and send to.
struct Machine {
    datagrams: UnixDatagram,
    streams: UnixListener,
}

impl Machine {
    fn at(place: &Place) -> Machine {
        let [datagrams, streams] = ["datagrams", "streams"].map(|name| place.scene.path(name));
        let machine = Machine {
            datagrams: UnixDatagram::bind(&datagrams).expect("a socket"),
            streams: UnixListener::bind(&streams).expect("a socket"),
        };
        for path in [datagrams, streams] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("chmod");
        }
        machine.datagrams.set_nonblocking(true).expect("it can");
        machine.streams.set_nonblocking(true).expect("it can");
        machine
    }

    /// How many datagrams have come, and whether anybody connected.
    fn met(&self) -> (usize, bool) {
        let mut count = 0;
        while self.datagrams.recv(&mut [0; 16]).is_ok() {
            count += 1;
        }
        (count, self.streams.accept().is_ok())
    }
}

fn words(place: &Place, before: &[&str]) -> Vec<String> {
    let script = ["python3", "-I", "-c", ATTEMPTS].into_iter();
    let paths = ["datagrams", "streams"].map(|name| place.scene.path(name).display().to_string());
    before.iter().copied().chain(script).map(str::to_owned).chain(paths).collect()
}

/// What an enforced run gets of its attempts.
const ENFORCED: [(&str, &str); 20] = [
    ("dgram send", "EPERM"),
    ("dgram connect", "EPERM"),
    ("raw send", "EPERM"),
    ("raw connect", "EPERM"),
    ("flags send", "EPERM"),
    ("flags connect", "EPERM"),
    ("stream talk", "0"),
    ("stream send", "EISCONN"),
    ("stream connect", "EISCONN"),
    ("stream bind", "0"),
    ("stream listen", "EINVAL"),
    ("stream reach", "EPERM"),
    ("packet talk", "0"),
    // To the other end: the kernel does not look at the name.
    ("packet send", "0"),
    // Who listens takes streams; to who takes packets it is EISCONN.
    ("packet connect", "EPROTOTYPE"),
    ("packet bind", "0"),
    ("packet listen", "EINVAL"),
    ("packet reach", "EPERM"),
    ("own", "0"),
    ("outside", "ENETUNREACH"),
];

#[test]
fn a_pair_leads_nowhere_and_the_record_is_true() {
    if !possible("pairs of unix sockets", &[Need::Program("python3")]) {
        return;
    }
    for root in [false, true] {
        let place = Place::new();
        let machine = Machine::at(&place);
        let policy = place.scene.path("policy.yaml");
        fs::write(&policy, place.closed_world("")).expect("a policy");
        let policy = policy.to_str().expect("UTF-8").to_owned();
        let done = match root {
            false => finish(place.sandbox(words(&place, &["run", "--enforce", &policy, "--"]))),
            true => {
                std::os::unix::fs::chown(place.scene.store(), Some(0), Some(0)).expect("a store of root's");
                let layers = "trace,landlock,mountns,netns";
                let before = [
                    "run",
                    "--user",
                    "root",
                    "--layers",
                    layers,
                    "--best-effort",
                    "--enforce",
                    &policy,
                    "--",
                ];
                finish(place.scene.command(place.bin("sandbox"), words(&place, &before)))
            }
        }
        .expect(0);
        let found = done.results();
        for (name, code) in ENFORCED {
            let found = found.get(name).map_or("?", String::as_str);
            assert_eq!(found, code, "{name}, root: {root}\n{}{}", done.stdout, done.stderr);
        }
        assert_eq!(machine.met(), (0, false), "nobody came, nothing was sent");

        // Of what went through, or was refused by nobody but the kernel, the record does not say that it was blocked.
        let log = place.log();
        let blocked: Vec<_> = log
            .records()
            .map(|(_, record)| record)
            .filter(|record| record.text("action") == Some("BLOCKED"))
            .filter(|record| record.text("event_type").is_some_and(|kind| kind.starts_with("net_")))
            .map(|record| record.text("dst_ip").map(str::to_owned))
            .collect();
        assert_eq!(blocked, [Some("192.0.2.1".to_owned())], "root: {root}");
        let streams = place.scene.path("streams").into_os_string().into_encoded_bytes();
        assert!(!at(&log, "net_connect", &streams).is_empty());
        let bound = at(&log, "net_bind", &place.name("bound-stream"));
        let told: Vec<_> =
            bound.iter().map(|event| (event.text("action"), event.text("policy_rule"))).collect();
        assert_eq!(told, [(Some("WOULD_BLOCK"), Some("p/network.default"))], "root: {root}");
    }

    // The control: datagrams lead out where nothing is enforced.
    let place = Place::new();
    let machine = Machine::at(&place);
    let mut words = words(&place, &[]).into_iter();
    let program = words.next().expect("a program");
    let free = finish(place.command(program.as_ref(), words.map(Into::into)));
    let found = free.results();
    for name in ["dgram", "raw", "flags"] {
        for act in ["send", "connect"] {
            assert_eq!(found.get(&format!("{name} {act}")).map(String::as_str), Some("0"), "{}", free.stdout);
        }
    }
    assert_eq!(machine.met(), (6, false), "{}", free.stdout);
}

#[test]
fn a_socket_of_the_machines_is_no_standard_descriptor() {
    if !possible("standard descriptors that are sockets", &[]) {
        return;
    }
    let place = Place::new();
    let policy = place.scene.path("policy.yaml");
    fs::write(&policy, place.closed_world("")).expect("a policy");
    let policy = policy.to_str().expect("UTF-8").to_owned();
    let run = |stdin: Stdio| {
        let mut command = place.sandbox(["run", "--enforce", &policy, "--", "touch", "ran"]);
        let output = command.stdin(stdin).output().expect("sandbox starts");
        let ran = fs::remove_file(place.work().join("ran")).is_ok();
        (output.status.code(), ran, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (pair, _other) = UnixDatagram::pair().expect("a pair");
    for socket in [OwnedFd::from(datagrams), pair.into()] {
        let (code, ran, said) = run(socket.into());
        assert_eq!((code, ran), (Some(125), false), "{said}");
        assert!(said.contains("is a socket of the machine's"), "{said}");
    }
    // The control: a pair of streams, as many programs give one.
    let (pair, _other) = UnixStream::pair().expect("a pair");
    let (code, ran, said) = run(OwnedFd::from(pair).into());
    assert_eq!((code, ran), (Some(0), true), "{said}");
}
