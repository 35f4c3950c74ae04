//! What is tried: a system call, its objects, the names by which they are called, and who calls.

use super::paths;
use super::random::Random;
use super::tree::{Need, Tree};
use std::net::IpAddr;
use vm_tests::batch;

/// Who acts: an executable, and those of its ancestors inside the run, the nearest first.
pub const ACTORS: [(&str, &[&[u8]]); 3] = [
    ("/usr/bin/guest-probe", &[]),
    ("/usr/bin/other", &[b"/usr/bin/guest-probe"]),
    ("/usr/bin/wget", &[b"/usr/bin/other", b"/usr/bin/guest-probe"]),
];

/// Ports that are tried; something listens on each of them.
pub const PORTS: [u16; 8] = [1, 80, 443, 8000, 8001, 8999, 9000, 65535];

/// Addresses that are tried. `lo` has all of them.
pub const ADDRESSES: [&str; 15] = [
    "127.0.0.1",
    "127.0.0.2",
    "127.9.9.9",
    "10.1.2.3",
    "10.1.2.4",
    "10.2.0.1",
    "169.254.169.254",
    "192.168.7.9",
    "0.0.0.0",
    "::1",
    "::",
    "2001:db8::1",
    "2001:db8:0:1::1",
    "fd00::5",
    "::ffff:10.1.2.3",
];

/// A system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    Write,
    /// An open for reading and writing.
    Update,
    ReadDirectory,
    Load,
    Run,
    Truncate,
    Chmod,
    Chown,
    /// An open that makes the file.
    Create,
    Mkdir,
    Mknod,
    Symlink,
    Unlink,
    Rmdir,
    Link,
    Rename,
    /// A rename onto a file.
    Replace,
    Exchange,
    /// A rename of a directory with something in it.
    Move,
    /// A step of the probe's on an address.
    Network(&'static str, IpAddr, u16),
    /// One on a unix socket: one of [`SOCKETS`].
    Unix(&'static str, &'static str),
}

/// Calls on files that leave everything as it is, so that several runs can make them at the same time.
pub const LASTING: [Call; 6] =
    [Call::Read, Call::Write, Call::Update, Call::ReadDirectory, Call::Load, Call::Run];

const PASSING: [Call; 14] = [
    Call::Truncate,
    Call::Chmod,
    Call::Chown,
    Call::Create,
    Call::Mkdir,
    Call::Mknod,
    Call::Symlink,
    Call::Unlink,
    Call::Rmdir,
    Call::Link,
    Call::Rename,
    Call::Replace,
    Call::Exchange,
    Call::Move,
];

/// Steps on addresses, and whether they take IPv6 ones.
const NETWORK: [(&str, bool); 10] = [
    ("bind-udp", true),
    ("connect-tcp", true),
    ("connect-mptcp", true),
    ("connect-udp", true),
    ("connect-udplite", true),
    ("fastopen", true),
    ("udp", true),
    ("udp-msg", true),
    ("udp-unspec", false),
    ("udp6-v4", false),
];

/// Steps on unix sockets.
const UNIX: [&str; 2] = ["unix-stream", "unix-datagram"];

/// Unix sockets that are tried, as the probe calls them. Somebody is there, for both kinds: a datagram's has another
/// ending.
pub const SOCKETS: [&str; 8] = [
    "/tmp/oracle-sockets/sock",
    "/tmp/oracle-sockets/a/sock",
    "/tmp/oracle-sockets/ab/sock",
    "/tmp/oracle-sockets/a/b/sock",
    "/tmp/oracle-sockets/b/stop",
    "@oracle",
    "@oracle-a",
    "@oracle-a/b",
];

/// One attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What is called.
    pub call: Call,
    /// The objects, one or two: resolved, absolute. Empty for an address.
    pub objects: [Vec<u8>; 2],
    /// How the call names them.
    pub names: [Vec<u8>; 2],
    /// Index in [`ACTORS`].
    pub actor: usize,
}

impl Call {
    /// The probe's word.
    pub fn word(self) -> &'static str {
        match self {
            Call::Read | Call::ReadDirectory => "read",
            Call::Write => "write",
            Call::Update => "update",
            Call::Load => "load",
            Call::Run => "run",
            Call::Truncate => "truncate",
            Call::Chmod => "chmod",
            Call::Chown => "chown",
            Call::Create => "create",
            Call::Mkdir => "mkdir",
            Call::Mknod => "mknod",
            Call::Symlink => "symlink",
            Call::Unlink => "unlink",
            Call::Rmdir => "rmdir",
            Call::Link => "link",
            Call::Rename | Call::Replace | Call::Move => "rename",
            Call::Exchange => "exchange",
            Call::Network(word, ..) | Call::Unix(word, _) => word,
        }
    }

    /// What it needs at its objects.
    fn needs(self) -> (Need, Option<Need>) {
        match self {
            Call::Read | Call::Write | Call::Update => (Need::Data, None),
            Call::ReadDirectory => (Need::Directory, None),
            Call::Load | Call::Run => (Need::Program, None),
            Call::Truncate | Call::Chmod | Call::Chown | Call::Unlink => (Need::OwnFile, None),
            Call::Create | Call::Mkdir | Call::Mknod | Call::Symlink => (Need::Nothing, None),
            Call::Rmdir => (Need::OwnDirectory, None),
            Call::Link | Call::Rename => (Need::OwnFile, Some(Need::Nothing)),
            Call::Replace | Call::Exchange => (Need::OwnFile, Some(Need::OwnFile)),
            Call::Move => (Need::OwnTree, Some(Need::Nothing)),
            Call::Network(..) | Call::Unix(..) => (Need::Nothing, None),
        }
    }
}

/// What the name of a socket ends in, by the step that is for it.
pub fn ending(word: &str) -> &'static str {
    if word == "unix-datagram" { "-d" } else { "-s" }
}

impl Attempt {
    /// As the probe takes it.
    pub fn for_probe(&self) -> batch::Attempt {
        batch::Attempt { word: self.call.word().to_owned(), names: self.names.clone() }
    }

    /// For people.
    pub fn show(&self) -> String {
        let shorten = |name: &[u8]| {
            let text = name.escape_ascii().to_string();
            if text.len() > 160 { format!("{}… ({} bytes)", &text[..160], name.len()) } else { text }
        };
        let [one, two] = self.names.each_ref().map(|name| shorten(name));
        format!("{} {one} {two} by {}", self.call.word(), ACTORS[self.actor].0)
    }
}

/// Attempts and the tree that they need.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What has to be there.
    pub tree: Tree,
    /// What is tried.
    pub attempts: Vec<Attempt>,
}

impl Plan {
    /// So many attempts on files of each of these directories, of which `lasting` in a hundred leave everything as
    /// it is.
    pub fn generate(random: &mut Random, regions: &[Vec<u8>], files: usize, lasting: usize) -> Plan {
        let mut plan = Plan::default();
        while plan.attempts.len() < files * regions.len() {
            let call = if random.percent(lasting) { random.pick(&LASTING) } else { random.pick(&PASSING) };
            let region = &regions[plan.attempts.len() / files];
            // The other end lies elsewhere now and then.
            let other = if random.percent(20) { random.pick(regions) } else { region.clone() };
            plan.add(random, call, [region, &other]);
        }
        plan
    }

    /// Adds so many attempts on addresses and unix sockets.
    pub fn speak(&mut self, random: &mut Random, count: usize) {
        for _ in 0..count {
            if random.percent(20) {
                let (word, socket) = (random.pick(&UNIX), random.pick(&SOCKETS));
                let name = format!("{socket}{}", ending(word)).into_bytes();
                self.push(random, Call::Unix(word, socket), [Vec::new(), Vec::new()], [name, Vec::new()]);
                continue;
            }
            let (word, takes_v6) = random.pick(&NETWORK);
            let of_family = |address: &&str| takes_v6 || !address.contains(':');
            let addresses: Vec<&str> = ADDRESSES.into_iter().filter(of_family).collect();
            let port = random.pick(&PORTS);
            let Ok(address) = random.pick(&addresses).parse() else { continue };
            let name = std::net::SocketAddr::new(address, port).to_string().into_bytes();
            let call = Call::Network(word, address, port);
            self.push(random, call, [Vec::new(), Vec::new()], [name, Vec::new()]);
        }
    }

    /// Adds an attempt, unless its objects are in the way of others.
    fn add(&mut self, random: &mut Random, call: Call, regions: [&[u8]; 2]) {
        let (first, second) = call.needs();
        let mut path = |region: &[u8]| {
            let known = self.objects_below(region);
            // Several calls on one object, or a new object beside it.
            match random.below(10) {
                0..2 if !known.is_empty() => random.pick(&known),
                2..5 if !known.is_empty() => {
                    let beside = random.pick(&known);
                    [paths::split(&beside).0, b"/", &paths::name(random)].concat()
                }
                _ => paths::path(random, region),
            }
        };
        let objects = [path(regions[0]), if second.is_some() { path(regions[1]) } else { Vec::new() }];
        if objects.iter().any(|object| object.len() > paths::LONGEST) {
            return;
        }
        if !self.tree.claim(&objects[0], first)
            || second.is_some_and(|need| !self.tree.claim(&objects[1], need))
        {
            return;
        }
        // What is called by another name is recorded by its own.
        let names = objects.each_ref().map(|object| {
            if object.is_empty() { object.clone() } else { self.tree.disguise(random, object) }
        });
        self.push(random, call, objects, names);
    }

    fn push(&mut self, random: &mut Random, call: Call, objects: [Vec<u8>; 2], names: [Vec<u8>; 2]) {
        let actor = random.pick(&[0, 0, 1, 2]);
        self.attempts.push(Attempt { call, objects, names, actor });
    }

    /// The paths below a directory that something is tried on.
    pub fn objects_below(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let all = self.attempts.iter().flat_map(|attempt| &attempt.objects);
        let below =
            |object: &&Vec<u8>| object.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"));
        all.filter(below).cloned().collect()
    }
}
