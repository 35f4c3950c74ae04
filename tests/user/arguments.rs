//! Arguments that the kernel reads otherwise than a careless observer would: halves of registers, memory that nobody else can
//! read, descriptors of one thread. The record of an ordinary user's run, and of root's, says what the kernel did.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::chown;

use audit_verify::canonical::Record;
use sandbox_tests::closed::Closed;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

use crate::place::{Place, USER, at, possible};

const NEEDS: &[Need<'_>] = &[Need::Program("python3")];

/// Calls of libc's syscall(2) with whole registers; an address of 16 bytes that ends where memory does.
const CALLS: &str = r#"
import ctypes, mmap, os, socket, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
def call(number, *words):
    got = libc.syscall(ctypes.c_long(number), *[ctypes.c_ulong(word & 2**64 - 1) for word in words])
    return -ctypes.get_errno() if got < 0 else got
def at_end(data):
    place = libc.mmap(None, 8192, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    libc.munmap(place + 4096, 4096)
    where = place + 4096 - len(data)
    ctypes.memmove(where, data, len(data))
    return where
def address(port, host="127.0.0.1"):
    return struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), socket.inet_aton(host))
HIGH = 1 << 32
"#;

/// Halves of registers: where a connection and a datagram go, and how many messages there are.
const HALVES: &str = r#"
tcp, udp = int(sys.argv[1]), int(sys.argv[2])
print("connect", call(42, socket.socket().detach(), at_end(address(tcp)), 16 | HIGH))
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("sendto", call(44, out.fileno(), at_end(b"x"), 1, 0, at_end(address(udp)), 16 | HIGH))
name = at_end(address(udp))
data = at_end(b"x")
vector = at_end(struct.pack("=QQ", data, 1))
message = struct.pack("=QIxxxxQQQQixxxxI4x", name, 16, vector, 1, 0, 0, 0, 0)
print("sendmmsg", call(307, out.fileno(), at_end(message * 4), 1 | HIGH, 0))
"#;

fn listeners() -> (TcpListener, UdpSocket) {
    (TcpListener::bind("127.0.0.1:0").expect("a listener"), UdpSocket::bind("127.0.0.1:0").expect("a socket"))
}

fn halves_are_told(log: &Log, tcp: u16, udp: u16) {
    let events = |event_type: &str, port: u16| {
        let of = |record: &Record<'_>| {
            record.text("event_type") == Some(event_type)
                && record.uint("dst_port") == Some(port.into())
                && record.text("dst_ip") == Some("127.0.0.1")
        };
        log.records().filter(|(_, record)| of(record)).count()
    };
    assert_eq!((events("net_connect", tcp), events("net_send", udp)), (1, 2));
    let sent = log.records().filter(|(_, record)| record.text("event_type") == Some("net_send")).count();
    assert_eq!(sent, 2, "one message of four was sent");
}

fn script(text: &str, more: &[&str]) -> Vec<String> {
    let words = ["python3".to_owned(), "-I".to_owned(), "-c".to_owned(), format!("{CALLS}{text}")];
    words.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
}

#[test]
fn an_int_is_what_the_kernel_looks_at() {
    if !possible("halves of registers", NEEDS) {
        return;
    }
    let (stream, datagrams) = listeners();
    let (tcp, udp) = (stream.local_addr().expect("its").port(), datagrams.local_addr().expect("its").port());
    let words = script(HALVES, &[&tcp.to_string(), &udp.to_string()]);
    let wanted = "connect 0\nsendto 1\nsendmmsg 1\n";
    let place = Place::new();
    let done = place.record(words.clone()).expect(0);
    assert_eq!(done.stdout, wanted, "{}", done.stderr);
    halves_are_told(&place.log(), tcp, udp);
    // The same as root, by the kernel's programs.
    if !met("halves of registers, as root", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let words = ["run", "--audit-only", "--"].map(str::to_owned).into_iter().chain(words);
    assert_eq!(finish(scene.sandbox(words)).expect(0).stdout, wanted);
    halves_are_told(&Log::of_run(&scene.run()), tcp, udp);
}

/// Names and messages in memory that the kernel reads and nobody else; `made` says whether there is such memory.
const SECRET: &str = r#"
fd = call(447, 0)
print("made", fd >= 0)
if fd >= 0:
    os.ftruncate(fd, 8192)
    place = libc.mmap(None, 8192, 3, mmap.MAP_SHARED, fd, 0)
    ctypes.memmove(place, os.fsencode(os.getcwd()) + b"/file\0", len(os.getcwd()) + 6)
    print("open", call(257, -100, place, 0) >= 0)
    port = int(sys.argv[1])
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ctypes.memmove(place + 4096, address(port), 16)
    message = struct.pack("=QIxxxxQQQQixxxx", place + 4096, 16, at_end(struct.pack("=QQ", place, 1)), 1, 0, 0, 0)
    ctypes.memmove(place + 4200, message, len(message))
    print("sendmsg", call(46, out.fileno(), place + 4200, 0))
"#;

#[test]
fn memory_that_cannot_be_looked_at_is_told() {
    if !possible("memory of memfd_secret(2)", NEEDS) {
        return;
    }
    let place = Place::new();
    fs::write(place.work().join("file"), "x").expect("a file");
    let (_stream, datagrams) = listeners();
    let port = datagrams.local_addr().expect("its").port().to_string();
    let done = place.record(script(SECRET, &[&port])).expect(0);
    let log = place.log();
    let told = |event_type: &str| {
        let of = |record: &Record<'_>| {
            record.text("event_type") == Some(event_type)
                && record.text("reason") == Some("the memory of the process cannot be read")
        };
        log.records().filter(|(_, record)| of(record)).count()
    };
    match done.stdout.as_str() {
        "made True\nopen True\nsendmsg 1\n" => assert_eq!((told("file_open"), told("net_send")), (1, 1)),
        // A kernel that gives nobody such memory (secretmem.enable).
        "made False\n" => {}
        other => panic!("{other} {}", done.stderr),
    }
    // Nobody has any where a policy is enforced.
    let done = enforced(&place, SECRET, &[&port]);
    assert_eq!(done.stdout, "made False\n");
}

/// Runs a script where the working directory is open for reading and changing, but nothing may be made in `kept`.
fn enforced(place: &Place, text: &str, more: &[&str]) -> Done {
    let (work, file) = (place.work(), place.scene.path("policy.yaml"));
    let rules =
        format!("- {{ name: kept, allow: [read, write, delete], path: [\"{}/kept/**\"] }}", work.display());
    let policy = Closed { work: Some(&work.join("open")), proc: true, rules: &rules, ..Closed::default() };
    fs::write(&file, policy.policy()).expect("a policy");
    let words = ["run".into(), "--enforce".into(), file.into_os_string(), "--".into()];
    finish(place.sandbox(words.into_iter().chain(script(text, more).into_iter().map(Into::into)))).expect(0)
}

/// A thread with descriptors of its own: what has the same number elsewhere is another socket.
const THREAD: &str = r#"
held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
number = held.fileno()
def work():
    print("unshare", call(272, 0x400))
    own = socket.socket()
    os.dup2(own.fileno(), number)
    print("connect", call(42, number, at_end(address(int(sys.argv[1]))), 16))
thread = threading.Thread(target=work)
thread.start()
thread.join()
"#;

#[test]
fn descriptors_are_those_of_the_thread() {
    if !possible("descriptors of a thread", NEEDS) {
        return;
    }
    let place = Place::new();
    let (stream, _) = listeners();
    let port = stream.local_addr().expect("its").port();
    let done = place.record(script(THREAD, &[&port.to_string()])).expect(0);
    assert_eq!(done.stdout, "unshare 0\nconnect 0\n", "{}", done.stderr);
    let log = place.log();
    let of = |record: &Record<'_>| record.text("event_type") == Some("net_connect");
    let found: Vec<Record<'_>> = log.records().map(|(_, record)| record).filter(of).collect();
    assert_eq!((found.len(), found[0].uint("dst_port")), (1, Some(port.into())));
    // Older kernels name no threads (6.9): then the kind of the socket is not told.
    assert!(matches!(found[0].text("protocol"), Some("tcp") | None), "{:?}", found[0].text("protocol"));
}

/// Opens that ask for no access that Landlock knows, and files without a name.
const MODES: &str = r#"
import errno
def said(name, got):
    print(name, errno.errorcode[-got] if got < 0 else 0)
def at(name):
    return at_end(os.fsencode(os.getcwd()) + name + b"\0")
for name in [b"/closed", b"/open/file", b"/kept/new"]:
    said("mode 3", call(257, -100, at(name), 3 | os.O_CREAT, 0o600))
    said("by open", call(2, at(name), 3))
    said("openat2", call(437, -100, at(name), at_end(struct.pack("=QQQ", 3, 0, 0)), 24))
said("read", call(257, -100, at(b"/closed"), 0))
said("control", call(257, -100, at(b"/open/file"), 2))
for name in [b"/kept", b"/open", b"/shut"]:
    said("unnamed", call(257, -100, at(name), os.O_TMPFILE | os.O_RDWR, 0o600))
"#;

#[test]
fn an_open_for_nothing_is_refused_and_a_file_without_a_name_is_nobodys() {
    if !possible("access mode 3", NEEDS) {
        return;
    }
    let place = Place::new();
    for directory in ["open", "kept", "shut"] {
        fs::create_dir(place.work().join(directory)).expect("a directory");
        chown(place.work().join(directory), Some(USER), Some(USER)).expect("of the user's own");
    }
    for file in ["closed", "open/file"] {
        fs::write(place.work().join(file), "x").expect("a file");
        chown(place.work().join(file), Some(USER), Some(USER)).expect("of the user's own");
    }
    let done = enforced(&place, MODES, &[]);
    let thrice = "mode 3 EPERM\nby open EPERM\nopenat2 ENOSYS\n".repeat(3);
    assert_eq!(
        done.stdout,
        format!("{thrice}read EACCES\ncontrol 0\nunnamed 0\nunnamed 0\nunnamed EACCES\n"),
        "{}",
        done.stderr
    );
    assert!(!place.work().join("kept/new").exists());
    let log = place.log();
    for name in ["kept", "open", "shut"] {
        let found = at(&log, "file_open", &place.name(name));
        assert_eq!((found.len(), found[0].text("action")), (1, Some("OBSERVED")), "{name}");
        assert!(found[0].text("reason").is_some(), "{name}");
    }
    assert_eq!(at(&log, "file_open", &place.name("closed"))[0].text("action"), Some("BLOCKED"));
    place.verified().expect(0);
}
