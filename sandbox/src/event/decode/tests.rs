//! Each kind of record by hand, the joining of two (in [`halves`]), and hostile bytes.

mod halves;

use std::net::Ipv4Addr;

use proptest::prelude::*;
use sandbox_ebpf::abi::{
    event::{Cause, HEADER_SIZE, Header, Judgement, Kind, PATH_MAX, arch, flag},
    policy::{access, net_access, proto},
};

use super::*;
use crate::event::Action;
use crate::kernel::syscalls;

/// A record of thread 11 of process 10 by `native` call `name`.
fn raw(kind: Kind, name: &str, ret: i64, parts: [&[u8]; 4]) -> RawEvent {
    let mut header = Header {
        kind: kind as u8,
        ret,
        pid: 10,
        tid: 11,
        start_ns: 99,
        ppid: 9,
        uid: 1000,
        ..Header::default()
    };
    (header.kseq, header.mono_ns) = (7, 1_000);
    header.comm[..4].copy_from_slice(b"comm");
    if !name.is_empty() {
        let entry = syscalls::entries().find(|entry| entry.arch == arch::NATIVE && entry.name == name);
        header.syscall = entry.unwrap().number;
    }
    RawEvent { header, parts: parts.map(<[u8]>::to_vec), executable: None, target: None }
}

fn decode(raw: RawEvent) -> Decoded {
    let mut out = Vec::new();
    Decoder::new().decode(raw, 5, &mut out).unwrap();
    assert_eq!(out.len(), 1, "{out:?}");
    out.remove(0)
}

fn changed(mut raw: RawEvent, change: impl FnOnce(&mut Header)) -> RawEvent {
    change(&mut raw.header);
    raw
}

/// The details that the kind adds, as text, without those that every event of a call has.
fn details(decoded: &Decoded) -> String {
    let mut sorted = decoded.event.details.clone();
    sorted.sort_by_key(|(key, _)| *key);
    assert!(sorted.windows(2).all(|pair| pair[0].0 != pair[1].0), "a key stands twice: {sorted:?}");
    let shown =
        sorted.iter().filter(|(key, _)| !matches!(key, Key::Ppid | Key::Uid | Key::Comm | Key::Syscall));
    let shown: Vec<_> = shown.map(|(key, value)| format!("{}={}", key.name(), show(value))).collect();
    format!("{} {}", decoded.event.event_type.name(), shown.join(" "))
}

fn show(value: &Value) -> String {
    match value {
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Bytes(bytes) => bytes.escape_ascii().to_string(),
        Value::List(list) => {
            format!(
                "[{}]",
                list.iter().map(|one| one.escape_ascii().to_string()).collect::<Vec<_>>().join(",")
            )
        }
    }
}

#[test]
fn every_event_tells_who_when_and_what() {
    let decoded = decode(raw(Kind::Rmdir, "rmdir", -20, [b"b\0a\0", b"c", b"", b""]));
    let event = &decoded.event;
    assert_eq!((event.wall_ns, event.mono_ns, event.kseq), (1_005, 1_000, 7));
    assert_eq!(event.process, ProcId { pid: 10, start_ns: 99 });
    assert_eq!(event.action, Action::Observed);
    assert_eq!(event.get(Key::Comm), Some(&Value::Bytes(b"comm".to_vec())));
    assert_eq!(event.get(Key::Syscall), Some(&Value::Bytes(b"rmdir".to_vec())));
    assert_eq!((event.get(Key::Ppid), event.get(Key::Uid)), (Some(&Value::Int(9)), Some(&Value::Int(1000))));
    assert_eq!(event.get(Key::Layer), None, "no layer held a verdict");
    assert_eq!(details(&decoded), "dir_delete path=/a/b/c ret=-20");
}

#[test]
fn calls_on_one_path() {
    let parts: [&[u8]; 4] = [b"b\0a\0", b"../c", b"", b""];
    for (kind, name, args, expected, asked) in [
        (Kind::Unlink, "unlink", [0, 0], "file_delete path=/a/c ret=0", access::DELETE),
        (Kind::Unlink, "unlinkat", [0x200, 0], "dir_delete flags=512 path=/a/c ret=0", access::DELETE),
        (Kind::Rmdir, "rmdir", [0, 0], "dir_delete path=/a/c ret=0", access::DELETE),
        (Kind::Mkdir, "mkdir", [0o755, 0], "dir_create file_mode=493 path=/a/c ret=0", access::CREATE),
        (Kind::Mknod, "mknod", [0o10644, 0], "file_create file_mode=4516 path=/a/c ret=0", access::CREATE),
        (Kind::Truncate, "truncate", [12, 0], "file_truncate path=/a/c ret=0", access::WRITE),
        (Kind::Chmod, "chmod", [0o4755, 0], "file_mode file_mode=2541 path=/a/c ret=0", access::ATTRIBUTES),
        (Kind::Chown, "chown", [0, u64::MAX], "file_owner owner=0 path=/a/c ret=0", access::ATTRIBUTES),
        (Kind::Utimes, "utimensat", [0, 0], "file_times path=/a/c ret=0", access::ATTRIBUTES),
    ] {
        let record = changed(raw(kind, name, 0, parts), |header| header.args[..2].copy_from_slice(&args));
        let decoded = decode(record);
        assert_eq!(details(&decoded), expected);
        assert_eq!((decoded.facts.access, decoded.facts.access2), (asked, 0), "{name}");
    }
}

#[test]
fn calls_on_two_names() {
    let parts: [&[u8]; 4] = [b"a\0", b"x", b"b\0", b"../../y"];
    let rename = decode(raw(Kind::Rename, "rename", -2, parts));
    assert_eq!(details(&rename), "file_rename path=/a/x path2=/y ret=-2");
    assert_eq!((rename.facts.access, rename.facts.access2), (access::DELETE, access::CREATE));
    let exchange = decode(changed(raw(Kind::Rename, "renameat2", 0, parts), |header| header.args[0] = 2));
    assert_eq!(details(&exchange), "file_rename flags=2 path=/a/x path2=/y ret=0");
    assert_eq!(exchange.facts.access2, access::DELETE | access::CREATE);
    let link = decode(raw(Kind::Link, "link", 0, parts));
    assert_eq!(details(&link), "file_link path=/a/x path2=/y ret=0");
    assert_eq!((link.facts.access, link.facts.access2), (0, access::CREATE));
    let symlink = decode(raw(Kind::Symlink, "symlink", 0, [b"a\0", b"x", b"", b"../t//"]));
    assert_eq!(details(&symlink), "file_symlink path=/a/x path2=../t// ret=0");
    let xattr = decode(raw(Kind::Xattr, "setxattr", 0, [b"a\0", b"x", b"", b"user.n"]));
    assert_eq!(details(&xattr), "file_xattr path=/a/x ret=0 target=user.n");
}

#[test]
fn opens_tell_the_object_or_the_name() {
    let open = |ret, flags: i32, mode, f_mode, parts| {
        let record = changed(raw(Kind::Open, "openat", ret, parts), |header| {
            header.args = [flags as u64, mode, f_mode, 0xef53];
            if ret >= 0 {
                (header.ino, header.dev) = (42, 8 << 20 | 1);
            }
        });
        details(&decode(record))
    };
    let object: [&[u8]; 4] = [b"f\0d\0", b"", b"", b""];
    let name: [&[u8]; 4] = [b"d\0", b"./f/", b"", b""];
    assert_eq!(
        open(3, libc::O_RDONLY, 0, 1, object),
        "file_open access=[read] dev=2049 flags=0 ino=42 path=/d/f ret=3"
    );
    assert_eq!(open(-2, libc::O_RDWR, 0, 0, name), "file_open access=[read,write] flags=2 path=/d/f ret=-2");
    assert_eq!(
        open(3, libc::O_WRONLY | libc::O_CREAT, 0o644, 0x10_0002, object),
        "file_create access=[write,create] dev=2049 file_mode=420 flags=65 ino=42 path=/d/f ret=3"
    );
    assert_eq!(
        open(3, libc::O_WRONLY | libc::O_CREAT, 0o644, 2, object),
        "file_open access=[write] dev=2049 flags=65 ino=42 path=/d/f ret=3",
        "it was there"
    );
    assert!(open(3, libc::O_RDWR | libc::O_TMPFILE, 0o600, 3, object).starts_with("file_create "));
    assert!(open(-13, libc::O_RDWR | libc::O_TMPFILE, 0o600, 0, name).starts_with("file_open "));
    assert!(open(3, libc::O_TRUNC, 0, 1, object).contains("access=[read,write]"));
    assert!(!open(3, libc::O_PATH, 0, 1, object).contains("access="));
    assert_eq!(open(3, libc::O_PATH, 0, 1, [b"", b"", b"", b""]).matches("path=/ ").count(), 1);
}

#[test]
fn what_cannot_be_told_is_not_invented() {
    let with = |flags, ret, parts| {
        details(&decode(changed(raw(Kind::Chmod, "fchmodat", ret, parts), |header| header.flags = flags)))
    };
    let relative: [&[u8]; 4] = [b"", b"x/../y", b"", b""];
    assert_eq!(with(0, 0, relative), "file_mode file_mode=0 path=/x/../y ret=0");
    assert_eq!(with(flag::NO_BASE, -9, relative), "file_mode file_mode=0 path=x/../y ret=-9");
    assert_eq!(with(flag::NO_BASE, 0, [b"", b"/x", b"", b""]), "file_mode file_mode=0 path=/x ret=0");
    assert_eq!(with(flag::UNREADABLE, -14, [b"a\0", b"", b"", b""]), "file_mode file_mode=0 ret=-14");
    assert_eq!(
        with(flag::TRUNCATED, -36, [b"a\0", b"long", b"", b""]),
        "file_mode file_mode=0 path=/a/long path_truncated=true ret=-36"
    );
    let by = flag::BY_DESCRIPTOR;
    assert_eq!(with(by, 0, [b"x\0a\0", b"", b"", b""]), "file_mode file_mode=0 path=/a/x ret=0");
    assert_eq!(with(by | flag::NO_BASE, -9, [b"", b"", b"", b""]), "file_mode file_mode=0 ret=-9");
    let cut = b"abc\0".repeat(PATH_MAX / 4 + 1);
    assert!(with(flag::TRUNCATED, -36, [&cut, b"x", b"", b""]).contains("path=abc/"));
}

#[test]
fn objects_without_a_directory() {
    let detached = |magic, name: &[u8]| {
        let record = changed(raw(Kind::Open, "open", 3, [name, b"", b"", b""]), |header| {
            (header.flags, header.args[3], header.ino) = (flag::DETACHED, magic, 55);
        });
        let decoded = decode(record);
        assert!(decoded.facts.detached);
        decoded.event.get(Key::Path).map(show)
    };
    assert_eq!(detached(0x5049_5045, b"\0").as_deref(), Some("pipe:[55]"));
    assert_eq!(detached(0x534f_434b, b"\0").as_deref(), Some("socket:[55]"));
    assert_eq!(detached(0x0904_1934, b"[eventpoll]\0").as_deref(), Some("anon_inode:[eventpoll]"));
    assert_eq!(detached(0x0102_1994, b"memfd:x\0").as_deref(), Some("/memfd:x"));
    assert_eq!(detached(1, b"\0"), None);
}

#[test]
fn execs() {
    let done = changed(raw(Kind::Exec, "", 0, [b"w\0", b"./sh", b"dash\0bin\0", b"sh\0-c\0\0"]), |header| {
        (header.ino, header.dev) = (42, 8 << 20 | 1);
    });
    let decoded = decode(done);
    assert_eq!(
        details(&decoded),
        "exec argv=[sh,-c,] cwd=/w exe=/bin/dash exe_dev=2049 exe_ino=42 path=/w/sh ret=0"
    );
    assert!(!decoded.facts.script && decoded.facts.access == access::RUN);

    let failed = raw(Kind::Exec, "execve", -2, [b"w\0", b"/no", b"", b"no\0x\0"]);
    assert_eq!(details(&decode(failed)), "exec argv=[no,x] cwd=/w path=/no ret=-2");
    let from_directory = raw(Kind::Exec, "execveat", -2, [b"d\0", b"no", b"", b"no\0"]);
    assert_eq!(details(&decode(from_directory)), "exec argv=[no] path=/d/no ret=-2");
    let cut = changed(raw(Kind::Exec, "execve", -7, [b"", b"/x", b"", b"x\0lo"]), |header| {
        header.flags = flag::ARGV_TRUNCATED;
    });
    assert_eq!(details(&decode(cut)), "exec argv=[x,lo] argv_truncated=true cwd=/ path=/x ret=-7");
    assert!(details(&decode(raw(Kind::Exec, "execve", -14, [b"", b"/x", b"", b""]))).contains("argv=[] "));
}

#[test]
fn execs_of_scripts_descriptors_and_memfds() {
    let script = raw(Kind::Exec, "", 0, [b"w\0", b"./a.sh", b"sh\0bin\0", b"/bin/sh\0-e\0./a.sh\0x\0"]);
    let decoded = decode(script);
    assert!(decoded.facts.script);
    assert!(details(&decoded).contains("path=/w/a.sh "));
    let descriptor = raw(Kind::Exec, "", 0, [b"w\0", b"/dev/fd/5", b"true\0bin\0", b"x\0"]);
    assert!(details(&decode(descriptor)).contains("path=/bin/true "));
    let memfd = changed(raw(Kind::Exec, "", 0, [b"w\0", b"/dev/fd/5", b"memfd:x\0", b"x\0"]), |header| {
        header.flags = flag::DETACHED;
    });
    let decoded = decode(memfd);
    assert!(decoded.facts.detached);
    assert!(details(&decoded).contains("cwd=/w exe=/memfd:x "), "{}", details(&decoded));
}

#[test]
fn processes() {
    let fork = decode(changed(raw(Kind::Fork, "", 0, [b""; 4]), |header| {
        header.args[..2].copy_from_slice(&[12, 34])
    }));
    assert_eq!(details(&fork), "fork child_pid=12 child_proc_id=12-34");
    assert_eq!(fork.facts.child, Some(ProcId { pid: 12, start_ns: 34 }));
    for (status, expected) in [
        (0, "exit exit_code=0"),
        (3 << 8, "exit exit_code=3"),
        (9, "exit signal=9"),
        (0x80 | 11, "exit signal=11"),
    ] {
        assert_eq!(
            details(&decode(changed(raw(Kind::Exit, "", 0, [b""; 4]), |header| header.args[0] = status))),
            expected
        );
    }
}

fn inet(a: [u8; 4], port: u16) -> Vec<u8> {
    [&(libc::AF_INET as u16).to_ne_bytes()[..], &port.to_be_bytes(), &a, &[0; 8]].concat()
}

fn network(kind: Kind, name: &str, ret: i64, socket: (i32, i32, i32), address: &[u8]) -> Decoded {
    decode(changed(raw(kind, name, ret, [address, b"", b"", b""]), |header| {
        header.args = [3, socket.0 as u64, socket.1 as u64, socket.2 as u64];
    }))
}

#[test]
fn network_calls() {
    let tcp = (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP);
    let udp = (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDP);
    let end = inet([127, 0, 0, 2], 80);
    let connect = network(Kind::Connect, "connect", -115, tcp, &end);
    assert_eq!(details(&connect), "net_connect dst_ip=127.0.0.2 dst_port=80 family=inet proto=tcp ret=-115");
    assert_eq!((connect.facts.net_access, connect.facts.proto), (net_access::CONNECT, proto::TCP));
    assert_eq!(connect.facts.end, Some((Ipv4Addr::new(127, 0, 0, 2).into(), 80)));
    let send = network(Kind::Send, "sendto", 5, udp, &end);
    assert_eq!(details(&send), "net_send dst_ip=127.0.0.2 dst_port=80 family=inet proto=udp ret=5");
    assert_eq!((send.facts.net_access, send.facts.proto), (net_access::SEND, proto::UDP));
    let fast_open = changed(raw(Kind::Send, "sendto", 5, [&end, b"", b"", b""]), |header| {
        header.args = [3, libc::AF_INET as u64, libc::SOCK_STREAM as u64, libc::IPPROTO_TCP as u64];
        header.access = net_access::CONNECT.into();
    });
    let fast_open = decode(fast_open);
    assert_eq!(details(&fast_open), "net_connect dst_ip=127.0.0.2 dst_port=80 family=inet proto=tcp ret=5");
    assert_eq!(fast_open.facts.net_access, net_access::CONNECT);
    assert_eq!(
        details(&network(Kind::Bind, "bind", 0, tcp, &end)),
        "net_bind family=inet proto=tcp ret=0 src_ip=127.0.0.2 src_port=80"
    );
    assert_eq!(
        details(&network(Kind::Listen, "listen", 0, tcp, &end[..8])),
        "net_listen family=inet proto=tcp ret=0 src_ip=127.0.0.2 src_port=80"
    );
    assert_eq!(
        details(&network(Kind::Accept, "accept4", 4, tcp, &end[..8])),
        "net_accept dst_ip=127.0.0.2 dst_port=80 family=inet proto=tcp ret=4"
    );
    assert_eq!(
        details(&network(Kind::Accept, "accept", -11, tcp, b"")),
        "net_accept family=inet proto=tcp ret=-11"
    );
    let mut unspecified = end.clone();
    unspecified[..2].copy_from_slice(&[0, 0]);
    assert!(
        details(&network(Kind::Send, "sendto", 5, udp, &unspecified))
            .contains("dst_ip=127.0.0.2 dst_port=80 family=unspec")
    );
    assert_eq!(
        details(&network(Kind::Connect, "connect", 0, tcp, &unspecified)),
        "net_connect family=unspec proto=tcp ret=0"
    );
    assert!(details(&network(Kind::Connect, "connect", -97, (38, 5, 0), &[99, 0])).contains("family=99"));
}

#[test]
fn local_sockets() {
    let stream = (libc::AF_UNIX, libc::SOCK_STREAM, 0);
    assert_eq!(
        details(&network(Kind::Connect, "connect", -2, stream, b"\x01\0/run//x.sock\0\0")),
        "net_connect family=unix path=/run/x.sock proto=stream ret=-2"
    );
    let relative = raw(Kind::Connect, "connect", 0, [b"\x01\0s/x.sock\0", b"work\0tmp\0", b"", b""]);
    let relative = changed(relative, |header| header.args = [3, libc::AF_UNIX as u64, 1, 0]);
    assert_eq!(
        details(&decode(relative)),
        "net_connect family=unix path=/tmp/work/s/x.sock proto=stream ret=0"
    );
    assert!(details(&network(Kind::Connect, "connect", 0, stream, b"\x01\0\0abc")).contains("path=@abc"));
    assert!(!details(&network(Kind::Connect, "connect", 0, stream, b"\x01\0")).contains("path="));
}

#[test]
fn rings_and_foreign_calls() {
    assert_eq!(details(&decode(raw(Kind::IoUring, "io_uring_setup", 3, [b""; 4]))), "proc_io_uring ret=3");
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    let compat = |kind, process| {
        changed(raw(kind, "", 0, [b"", b"/x", b"", b""]), |header| {
            (header.arch, header.pid, header.syscall, header.args[0]) = (arch::COMPAT, process, 40, 3);
        })
    };
    for process in [10, 10, 20] {
        decoder.decode(compat(Kind::Rmdir, process), 0, &mut out).unwrap();
    }
    decoder.decode(compat(Kind::Compat, 30), 0, &mut out).unwrap();
    let told: Vec<_> = out.iter().map(details).collect();
    let (first, rmdir) = ("proc_compat target=32-bit", "dir_delete path=/x ret=0");
    assert_eq!(told, [first, rmdir, rmdir, first, rmdir, "proc_compat ret=0 target=connect"]);
    assert_eq!(out[1].event.get(Key::Syscall).map(show).as_deref(), Some("rmdir"));
}

#[test]
fn interrupted_calls_return_eintr() {
    for (ret, seen) in [(-512, -4), (-513, -4), (-514, -4), (-516, -4), (-515, -515), (-4, -4)] {
        assert!(
            details(&decode(raw(Kind::Rmdir, "rmdir", ret, [b"", b"/x", b"", b""])))
                .contains(&format!("ret={seen}"))
        );
    }
}

fn entry(kseq: u64) -> RawEvent {
    changed(raw(Kind::Entry, "rename", 0, [b"a\0", b"x", b"a\0", b"y"]), |header| {
        (header.kseq, header.args[1], header.flags) = (kseq, Kind::Rename as u64, flag::RESULT_FOLLOWS);
    })
}

#[test]
fn unknown_kinds_are_errors() {
    let mut out = Vec::new();
    let unknown = changed(raw(Kind::Fork, "", 0, [b""; 4]), |header| header.kind = 200);
    assert_eq!(Decoder::new().decode(unknown, 0, &mut out), Err(DecodeError::Kind { kseq: 7, kind: 200 }));
    for announced in [0, Kind::Entry as u64, Kind::OpenCheck as u64, 1 << 32 | Kind::Rename as u64] {
        let entry = changed(entry(7), |header| header.args[1] = announced);
        let error = DecodeError::Entry { kseq: 7, kind: announced };
        assert_eq!(Decoder::new().decode(entry, 0, &mut out), Err(error));
    }
    assert!(out.is_empty());
}

/// Bytes that get past the size checks, with kinds and flags that mean something.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let head = prop::collection::vec(any::<u8>(), HEADER_SIZE);
    let data = prop::collection::vec(prop_oneof![Just(0u8), Just(b'/'), Just(b'.'), any::<u8>()], 0..200);
    let parts = prop::array::uniform4(0u16..50);
    (head, data, parts, 0u8..32, any::<u16>(), 0u32..4, 0u64..3).prop_map(
        |(mut bytes, data, parts, kind, flags, tid, kseq)| {
            let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
            for (index, part) in parts.iter().enumerate() {
                put(std::mem::offset_of!(Header, parts) + 2 * index, &part.to_ne_bytes());
            }
            put(std::mem::offset_of!(Header, kind), &[kind]);
            put(std::mem::offset_of!(Header, flags), &flags.to_ne_bytes());
            put(std::mem::offset_of!(Header, tid), &tid.to_ne_bytes());
            put(std::mem::offset_of!(Header, kseq), &kseq.to_ne_bytes());
            bytes.extend(data);
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(raw) = RawEvent::parse(&bytes) {
            let _ = Decoder::new().decode(raw, i64::MAX, &mut Vec::new());
        }
    }

    /// Each record is told once at most, none is lost, and no key stands twice.
    #[test]
    fn hostile_records_are_told_or_refused(records in prop::collection::vec(hostile(), 1..20)) {
        let mut decoder = Decoder::new();
        let mut out = Vec::new();
        let (mut taken, mut first) = (0, 0);
        for bytes in &records {
            let Ok(raw) = RawEvent::parse(bytes) else { continue };
            let waits = raw.header.flags & flag::RESULT_FOLLOWS != 0;
            if decoder.decode(raw, i64::MIN, &mut out).is_ok() {
                taken += 1;
                first += usize::from(waits);
            }
        }
        decoder.finish(0, &mut out);
        let own = out.iter().filter(|decoded| {
            let kind = decoded.event.event_type;
            kind != EventType::ProcCompat || !matches!(decoded.event.get(Key::Target), Some(Value::Bytes(target)) if target == b"32-bit" || target == b"x32")
        });
        let own = own.count();
        prop_assert!(own <= taken && own + first >= taken, "{own} events of {taken} records, {first} waited");
        for decoded in &out {
            details(decoded);
        }
    }
}

/// A record as it stands in the ring.
fn bytes_of(raw: &RawEvent) -> Vec<u8> {
    let header = &raw.header;
    let mut bytes = Vec::new();
    let long = [header.kseq, header.mono_ns, header.start_ns, header.ret as u64];
    long.iter().chain(&header.args).chain([&header.ino]).for_each(|one| bytes.extend(one.to_ne_bytes()));
    let short = [header.dev, header.pid, header.tid, header.ppid, header.uid, header.slot, header.syscall];
    short.iter().for_each(|one| bytes.extend(one.to_ne_bytes()));
    bytes.extend(header.flags.to_ne_bytes());
    bytes.extend(header.access.to_ne_bytes());
    bytes.extend([header.kind, header.judgement, header.cause, header.arch]);
    raw.parts.iter().for_each(|part| bytes.extend((part.len() as u16).to_ne_bytes()));
    bytes.extend([0; 4]);
    bytes.extend(header.comm);
    raw.parts.iter().for_each(|part| bytes.extend(part));
    assert_eq!(RawEvent::parse(&bytes).map(|parsed| parsed.parts), Ok(raw.parts.clone()));
    bytes
}

/// How long a record takes. Run it with `--release --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    const ROUNDS: u32 = 300_000;
    let object: [&[u8]; 4] = [b"libc.so.6\0x86_64-linux-gnu\0lib\0usr\0", b"", b"", b""];
    let name: [&[u8]; 4] = [b"sub\0project\0user\0home\0", b"../include/header.h", b"", b""];
    let records = [raw(Kind::Open, "openat", 3, object), raw(Kind::Open, "openat", -2, name)];
    let bytes: Vec<Vec<u8>> = records.iter().map(bytes_of).collect();
    let mut decoder = Decoder::new();
    let mut enricher = crate::event::enrich::Enricher::new();
    enricher.begin_with(10, b"/usr/bin/python3.11");
    let begin = std::time::Instant::now();
    let mut out = Vec::with_capacity(1024);
    for round in 0..ROUNDS {
        let record = RawEvent::parse(&bytes[round as usize % 2]).unwrap();
        decoder.decode(record, 0, &mut out).unwrap();
        if out.len() >= 1024 {
            out.iter_mut().for_each(|decoded| enricher.enrich(decoded));
            out.clear();
        }
    }
    println!("{:?} an event", begin.elapsed() / ROUNDS);
}
