//! What must become of an attempt, from what [`policy::evaluate`] says about its parts.
//!
//! The evaluator judges accesses to one object. A call may need several, and is denied when one of them is:
//!
//! - an open for reading and writing needs both; an open for writing that makes its file needs `create` and `write`;
//! - mapping a file as code needs `read`, to open it, and `load`; what a *rule* keeps from being executed is not
//!   loaded either (a default says nothing of the kind, and contents are looked at by execve alone);
//! - link and rename need `create` at the new name, rename also `delete` at the old one and at a name that it
//!   replaces, and an exchange both at both;
//! - beyond that a new name gives no access to the object itself that the old name did not: what is denied at the
//!   one is denied at the other. In an exchange that holds for both;
//! - a directory moves only where nothing below it becomes less denied. The kernel may refuse a move that would be
//!   harmless, so only the other direction is checked ([`Expected::MoveOrNot`]).
//!
//! The record names the rule that denies; of several the first by name, and a default where no rule does. What is
//! allowed is told with the rule that allows in the same way, what something on trial would deny with that.

use super::attempts::{ACTORS, Attempt, Call, ending};
use super::tree::{IN_OWN_TREE, contents, digest};
use policy::{
    Access, AccessSet, Act, Decision, Digest, End, Mode, Owner, Policy, Protocol, RuleName, SectionKind,
    Subject, Verdict, evaluate,
};
use std::cmp::Ordering;

/// An event that must be in the record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// `event_type`.
    pub event: &'static str,
    /// `path` and `path2`, or the address.
    pub objects: [Vec<u8>; 2],
    /// `action`.
    pub action: String,
    /// `policy_rule`.
    pub rule: String,
    /// `ret`; what is not an error is 0.
    pub ret: i64,
}

/// Contents that no rule names: where a call does not look at them, rules about contents have no say.
const UNSEEN: &[u8] = b"";

/// What must become of an attempt.
#[derive(Clone, Debug)]
pub enum Expected {
    /// This result, 0 or `-errno`, and these events.
    Answer(i32, Vec<Line>),
    /// A directory moves, which may take nothing out of a rule's reach; or it stays, with the reason recorded and
    /// no rule.
    MoveOrNot {
        /// Whether moving it would take something out of reach.
        harmful: bool,
        /// The event when it moves, and when it does not.
        lines: Box<[Line; 2]>,
    },
}

/// What the policy says about one part of an attempt.
struct Ruling {
    denied: bool,
    action: &'static str,
    rule: RuleName,
}

impl From<Verdict<'_>> for Ruling {
    fn from(verdict: Verdict<'_>) -> Ruling {
        let denied = verdict.decision != Decision::Allow;
        let (action, rule) = match &verdict.audited {
            _ if denied => ("BLOCKED", verdict.rule),
            Some(audited) => ("WOULD_BLOCK", audited.rule),
            None => ("ALLOWED", verdict.rule),
        };
        Ruling { denied, action, rule: rule.clone() }
    }
}

/// A judge for one actor.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    policy: &'a Policy,
    subject: Subject<'a>,
}

impl<'a> Model<'a> {
    /// For an actor of [`ACTORS`].
    pub fn new(policy: &'a Policy, actor: usize) -> Model<'a> {
        let (exe, ancestors) = ACTORS[actor];
        Model { policy, subject: Subject { exe: exe.as_bytes(), ancestors } }
    }

    fn file(&self, accesses: &[Access], path: &[u8]) -> Ruling {
        let accesses = accesses.iter().copied().collect();
        evaluate::judge(self.policy, &self.subject, &Act::File { accesses, path }).into()
    }

    /// Executing a file that holds this. Files of the tree hold what their path says.
    fn exec(&self, path: &[u8], contents: &[u8]) -> Ruling {
        let found = digest(contents);
        let sha256 = if self.looks_at(&found) { found } else { Digest::UNNAMED };
        evaluate::judge(self.policy, &self.subject, &Act::Exec { path, sha256: Some(&sha256) }).into()
    }

    /// Whether contents are looked at: where a rule about them makes a difference, which neither one that is on trial
    /// does nor one that allows what the default allows.
    fn looks_at(&self, contents: &Digest) -> bool {
        let exec = self.policy.exec();
        let matters = |effect| effect != Decision::Allow || exec.default() != Decision::Allow;
        exec.rules().iter().any(|rule| {
            rule.mode() == Mode::Enforce && matters(rule.effect()) && rule.sha256().contains(contents)
        })
    }

    fn network(&self, word: &str, address: std::net::IpAddr, port: u16) -> Ruling {
        let (access, protocol) = match word {
            "connect-tcp" | "connect-mptcp" | "fastopen" => (Access::Connect, Protocol::Tcp),
            "connect-udp" | "connect-udplite" => (Access::Connect, Protocol::Udp),
            "bind-udp" => (Access::Bind, Protocol::Udp),
            _ => (Access::Send, Protocol::Udp),
        };
        let end = End::Address { address, port, protocol, names: &[], owner: Owner::Elsewhere };
        let act = Act::Network { accesses: access.into(), end };
        evaluate::judge(self.policy, &self.subject, &act).into()
    }

    /// Reaching a unix socket of this name.
    fn unix(&self, word: &str, name: &str) -> Ruling {
        let end = match name.strip_prefix('@') {
            Some(name) => End::Abstract(name.as_bytes()),
            None => End::Path(name.as_bytes()),
        };
        let access = if word == "unix-stream" { Access::Connect } else { Access::Send };
        evaluate::judge(self.policy, &self.subject, &Act::Network { accesses: access.into(), end }).into()
    }

    /// What must become of an attempt.
    pub fn expect(&self, attempt: &Attempt) -> Expected {
        use Access::{Attributes, Create, Delete, Read, Write};
        let [one, two] = &attempt.objects;
        let single = |event, accesses: &[Access]| vec![(event, self.file(accesses, one))];
        let parts = match attempt.call {
            Call::Read | Call::ReadDirectory => single("file_open", &[Read]),
            Call::Write => single("file_open", &[Write]),
            Call::Update => single("file_open", &[Read, Write]),
            Call::Truncate => single("file_truncate", &[Write]),
            Call::Chmod => single("file_mode", &[Attributes]),
            Call::Chown => single("file_owner", &[Attributes]),
            Call::Mkdir => single("dir_create", &[Create]),
            Call::Symlink => single("file_symlink", &[Create]),
            Call::Unlink => single("file_delete", &[Delete]),
            Call::Rmdir => single("dir_delete", &[Delete]),
            Call::Mknod => single("file_create", &[Create]),
            Call::Run => vec![("exec", self.exec(one, &contents(one)))],
            Call::Load => {
                let mut parts = single("file_open", &[Read]);
                // One that is allowed is not told.
                parts.extend([("file_load", self.load(one))].into_iter().filter(|(_, load)| load.denied));
                parts
            }
            Call::Create => single("file_create", &[Create, Write]),
            Call::Link => two_names("file_link", vec![self.file(&[Create], two)], self.gains(attempt)),
            Call::Rename | Call::Move => two_names(
                "file_rename",
                vec![self.file(&[Delete], one), self.file(&[Create], two)],
                self.gains(attempt),
            ),
            Call::Replace => {
                let ends = vec![self.file(&[Delete], one), self.file(&[Create, Delete], two)];
                two_names("file_rename", ends, self.gains(attempt))
            }
            Call::Exchange => {
                let ends = [one, two].map(|path| self.file(&[Create, Delete], path));
                two_names("file_rename", ends.into(), self.gains(attempt))
            }
            Call::Network(word, address, port) => {
                let connects = word.starts_with("connect") || word == "fastopen";
                let event = match word {
                    "bind-udp" => "net_bind",
                    _ if connects => "net_connect",
                    _ => "net_send",
                };
                vec![(event, self.network(word, address, port))]
            }
            Call::Unix(word, socket) => {
                let event = if word == "unix-stream" { "net_connect" } else { "net_send" };
                vec![(event, self.unix(word, &format!("{socket}{}", ending(word))))]
            }
        };
        let errno = if matches!(attempt.call, Call::Network(..) | Call::Unix(..)) {
            libc::EPERM
        } else {
            libc::EACCES
        };
        let denied = parts.iter().position(|(_, ruling)| ruling.denied);
        let result = if denied.is_some() { -errno } else { 0 };
        let objects = match attempt.call {
            Call::Network(_, address, port) => {
                [format!("{} {port}", address.to_canonical()).into_bytes(), Vec::new()]
            }
            Call::Unix(..) => [attempt.names[0].clone(), Vec::new()],
            _ => attempt.objects.clone(),
        };
        let happened = parts.into_iter().take(denied.map_or(usize::MAX, |at| at + 1));
        let lines: Vec<Line> = happened
            .map(|(event, ruling)| Line {
                event,
                objects: objects.clone(),
                action: ruling.action.to_owned(),
                rule: ruling.rule.to_string(),
                ret: if ruling.denied { i64::from(result) } else { 0 },
            })
            .collect();
        match (attempt.call, lines.as_slice()) {
            (Call::Move, [line]) if denied.is_none() => {
                let ret = i64::from(-libc::EACCES);
                let stays = Line { action: "BLOCKED".to_owned(), rule: String::new(), ret, ..line.clone() };
                Expected::MoveOrNot { harmful: self.loses(one, two), lines: Box::new([line.clone(), stays]) }
            }
            _ => Expected::Answer(result, lines),
        }
    }

    /// Mapping a file as code.
    fn load(&self, path: &[u8]) -> Ruling {
        let loading = self.file(&[Access::Load], path);
        let running = self.exec(path, UNSEEN);
        if running.denied && !running.rule.is_default() { told([loading, running]) } else { loading }
    }

    /// What a new name would open.
    fn gains(&self, attempt: &Attempt) -> Vec<Ruling> {
        let [one, two] = &attempt.objects;
        let both = attempt.call == Call::Exchange;
        let object = [Access::Read, Access::Write, Access::Attributes, Access::Load, Access::Run];
        let mut gains = Vec::new();
        for access in object {
            let [old, new] = [one, two].map(|path| match access {
                Access::Run => self.exec(path, UNSEEN),
                access => self.file(&[access], path),
            });
            match (old.denied, new.denied) {
                (true, false) => gains.push(old),
                (false, true) if both => gains.push(new),
                _ => {}
            }
        }
        gains
    }

    /// Whether something below a directory is denied now and would not be below another; some paths are tried.
    fn loses(&self, old: &[u8], new: &[u8]) -> bool {
        let more: [&[u8]; 6] = [b"/b", b"/.env", b"/c/ab", b"/[slug]", b"/a/a/a/b", b"/\xff"];
        let all: AccessSet = SectionKind::Files.accesses();
        IN_OWN_TREE.into_iter().chain(more).any(|below| {
            let denied = |directory: &[u8]| {
                let path = [directory, below].concat();
                let files = all.iter().filter(|access| self.file(&[*access], &path).denied).collect();
                let run = self.exec(&path, UNSEEN).denied;
                AccessSet::union(files, if run { Access::Run.into() } else { AccessSet::EMPTY })
            };
            !denied(old).without(denied(new)).is_empty()
        })
    }
}

/// The names that must be there afterwards, and those that must not.
pub fn afterwards(attempt: &Attempt, result: i32) -> Vec<(&[u8], bool)> {
    let [one, two] = &attempt.objects;
    let done = result == 0;
    match attempt.call {
        Call::Create | Call::Mkdir | Call::Mknod | Call::Symlink => vec![(one, done)],
        Call::Unlink | Call::Rmdir => vec![(one, !done)],
        Call::Link => vec![(one, true), (two, done)],
        Call::Rename | Call::Move => vec![(one, !done), (two, done)],
        Call::Replace => vec![(one, !done), (two, true)],
        _ => Vec::new(),
    }
}

type Parts = Vec<(&'static str, Ruling)>;

/// A call on two names, as one part.
fn two_names(event: &'static str, ends: Vec<Ruling>, gains: Vec<Ruling>) -> Parts {
    vec![(event, told(ends.into_iter().chain(gains)))]
}

/// Which of several rulings is told: one that denies, else one of something on trial; of equal ones a rule before a
/// default, and the first by name.
fn told(rulings: impl IntoIterator<Item = Ruling>) -> Ruling {
    let stricter = |a: Ruling, b: Ruling| {
        let strictness = |ruling: &Ruling| (ruling.denied, ruling.action == "WOULD_BLOCK");
        match strictness(&a).cmp(&strictness(&b)) {
            Ordering::Equal if b.rule.precedes(&a.rule) => b,
            Ordering::Less => b,
            _ => a,
        }
    };
    rulings.into_iter().reduce(stricter).expect("a call needs something")
}
