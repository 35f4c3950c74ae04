//! strace's calls as attempts: which process, which absolute path, which result.
//!
//! strace prints the directory behind a descriptor and, for calls that take one, the current directory.
//! For calls that do not (`unlink`, `rename`, `execve`, …) the current directory is followed here: it is
//! known wherever the process made another call that printed it, between two changes of directory.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::attempt::{Attempt, Kind, Made, join};
use crate::strace::{Call, Value};

/// The calls that strace must trace for [`attempts`]: what is compared, and what tells the directory.
pub const TRACED: &str = "execve,execveat,open,openat,openat2,creat,unlink,unlinkat,rmdir,rename,renameat,\
renameat2,connect,mkdir,mkdirat,link,linkat,symlink,symlinkat,chdir,fchdir,getcwd,clone,clone3,fork,vfork,\
unshare,newfstatat,faccessat,faccessat2,readlinkat";

/// An attempt that strace saw.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The attempt.
    pub attempt: Attempt,
    /// Whether it made the file.
    pub made: Made,
    /// The name of an exec as the caller gave it.
    pub name: Option<Vec<u8>>,
    /// Line in strace's file.
    pub line: usize,
}

/// A call of a compared kind that cannot be told apart well enough to compare.
#[derive(Debug)]
pub struct Unclear(pub String);

/// The processes (thread group ids) that strace traced.
pub fn processes(calls: &[Call]) -> BTreeSet<u32> {
    Tasks::follow(calls).of.iter().map(|(pid, _)| *pid).collect()
}

/// Everything of the compared kinds, in the order in which it began.
pub fn attempts(calls: &[Call]) -> Result<Vec<Seen>, Unclear> {
    let tasks = Tasks::follow(calls);
    let mut seen = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        let Some(ret) = call.outcome.ret() else { continue };
        let Some(found) = Reader { call, index, tasks: &tasks }.read(ret)? else { continue };
        seen.push(found);
    }
    Ok(seen)
}

/// What is known of a directory at some point of a trace.
#[derive(Debug)]
enum Note {
    /// It is this one, before and after the call.
    Is(Vec<u8>),
    /// It became this one.
    Became(Vec<u8>),
    /// It changed, to this name seen from the one before.
    Changed(Vec<u8>),
    /// Something was renamed; it may have been the directory or one above it.
    Renamed(Vec<u8>, Vec<u8>),
}

/// The current directory of a process, or of the threads that share one.
#[derive(Debug, Default)]
struct Directory {
    /// Whose it was a copy of at first, and at which call.
    from: Option<(usize, usize)>,
    /// Index of the call, what it told.
    notes: Vec<(usize, Note)>,
}

/// Who is whose thread and which directory each task had, call by call.
struct Tasks {
    /// For each call: thread group id, index of the directory.
    of: Vec<(u32, usize)>,
    directories: Vec<Directory>,
}

impl Tasks {
    fn follow(calls: &[Call]) -> Self {
        let mut made: HashMap<u32, Vec<usize>> = HashMap::new();
        for (index, call) in calls.iter().enumerate() {
            if matches!(call.name.as_str(), "clone" | "clone3" | "fork" | "vfork")
                && let Some(child) = call.outcome.ret().and_then(|ret| u32::try_from(ret).ok())
            {
                made.entry(child).or_default().push(index);
            }
        }
        let mut tasks = Tasks { of: Vec::with_capacity(calls.len()), directories: Vec::new() };
        let mut now: HashMap<u32, (u32, usize)> = HashMap::new();
        for (index, call) in calls.iter().enumerate() {
            let state = *now.entry(call.tid).or_insert_with(|| {
                let parent = made.get(&call.tid).and_then(|by| by.iter().rev().find(|&&by| by < index));
                tasks.begin(call.tid, parent.map(|&by| (by, &calls[by])))
            });
            tasks.of.push(state);
            if call.name == "unshare" && call.outcome.ret() == Some(0) {
                tasks.directories.push(Directory { from: Some((state.1, index)), notes: Vec::new() });
                now.insert(call.tid, (state.0, tasks.directories.len() - 1));
            }
            let directory = &mut tasks.directories[state.1];
            directory.notes.extend(notes(call).map(|note| (index, note)));
        }
        tasks
    }

    fn begin(&mut self, tid: u32, parent: Option<(usize, &Call)>) -> (u32, usize) {
        let Some((by, call)) = parent else {
            self.directories.push(Directory::default());
            return (tid, self.directories.len() - 1);
        };
        let (pid, directory) = self.of[by];
        let flags = clone_flags(call);
        let pid = if flags.contains(&"CLONE_THREAD") { pid } else { tid };
        if flags.contains(&"CLONE_FS") {
            return (pid, directory);
        }
        self.directories.push(Directory { from: Some((directory, by)), notes: Vec::new() });
        (pid, self.directories.len() - 1)
    }

    /// The directory's path at a call, if anything tells it.
    fn path(&self, directory: usize, at: usize) -> Option<Vec<u8>> {
        let Directory { from, notes } = &self.directories[directory];
        let (past, future) = notes.split_at(notes.partition_point(|(index, _)| *index < at));
        let last = past.last();
        if let Some((_, Note::Is(path) | Note::Became(path))) = last {
            return Some(path.clone());
        }
        // Nothing since the last change: the next call that prints it knows, unless it changes before.
        if let Some((_, Note::Is(path))) = future.first() {
            return Some(path.clone());
        }
        let before = |at| self.path(directory, at);
        match last {
            None => from.and_then(|(directory, at)| self.path(directory, at)),
            Some((_, Note::Is(path) | Note::Became(path))) => Some(path.clone()),
            Some((_, Note::Changed(name))) if name.first() == Some(&b'/') => Some(join(b"/", name)),
            Some((index, Note::Changed(name))) => before(*index).map(|base| join(&base, name)),
            Some((index, Note::Renamed(old, new))) => {
                let base = before(*index)?;
                let (old, new) = (join(&base, old), join(&base, new));
                match base.strip_prefix(old.as_slice()) {
                    Some(rest) if rest.is_empty() || rest.starts_with(b"/") => {
                        Some([&new[..], rest].concat())
                    }
                    _ => Some(base),
                }
            }
        }
    }
}

fn clone_flags(call: &Call) -> Vec<&str> {
    let flags = match call.args.first() {
        Some(args @ Value::Struct(_)) => args.field("flags").and_then(Value::word),
        _ => call.args.iter().filter_map(Value::word).find_map(|word| word.strip_prefix("flags=")),
    };
    flags.unwrap_or_default().split('|').collect()
}

/// What a call tells about its task's current directory.
fn notes(call: &Call) -> impl Iterator<Item = Note> {
    let done = call.outcome.ret().is_some_and(|ret| ret >= 0);
    let text = |index: usize| call.args.get(index).and_then(Value::text).map(<[u8]>::to_vec);
    let printed = call.args.iter().find_map(|arg| match arg {
        Value::Descriptor(word, Some(path)) if word == "AT_FDCWD" => Some(Note::Is(alive(path).to_vec())),
        _ => None,
    });
    let then = match call.name.as_str() {
        "getcwd" if done => text(0).map(Note::Is),
        "fchdir" if done => match call.args.first() {
            Some(Value::Descriptor(_, Some(path))) => Some(Note::Became(path.clone())),
            _ => None,
        },
        "chdir" if done => text(0).map(Note::Changed),
        "rename" if done => text(0).zip(text(1)).map(|(old, new)| Note::Renamed(old, new)),
        "renameat" | "renameat2" if done => text(1).zip(text(3)).map(|(old, new)| Note::Renamed(old, new)),
        _ => None,
    };
    printed.into_iter().chain(then)
}

/// A directory's path without the kernel's note that it is gone; strace does not set that apart here.
fn alive(path: &[u8]) -> &[u8] {
    path.strip_suffix(b" (deleted)").unwrap_or(path)
}

struct Reader<'a> {
    call: &'a Call,
    index: usize,
    tasks: &'a Tasks,
}

impl Reader<'_> {
    fn read(&self, ret: i64) -> Result<Option<Seen>, Unclear> {
        let kind = match self.call.name.as_str() {
            "execve" | "execveat" => Kind::Exec,
            "open" | "openat" | "openat2" | "creat" => Kind::Open,
            "unlinkat" if self.flags(2).contains(&"AT_REMOVEDIR") => Kind::Rmdir,
            "unlink" | "unlinkat" => Kind::Unlink,
            "rename" | "renameat" | "renameat2" => Kind::Rename,
            "connect" => Kind::Connect,
            "mkdir" | "mkdirat" => Kind::Mkdir,
            "rmdir" => Kind::Rmdir,
            "link" | "linkat" => Kind::Link,
            "symlink" | "symlinkat" => Kind::Symlink,
            _ => return Ok(None),
        };
        let pid = self.tasks.of[self.index].0;
        let mut attempt =
            Attempt { pid, kind, path: None, path2: None, argv: None, address: None, family: None, ret };
        let at = self.call.name.contains("at") && self.call.name != "creat";
        match kind {
            Kind::Connect => self.address(&mut attempt)?,
            Kind::Open if ret >= 0 => attempt.path = self.opened(),
            Kind::Rename | Kind::Link => {
                attempt.path = self.name(0, at)?;
                attempt.path2 = self.name(if at { 2 } else { 1 }, at)?;
            }
            Kind::Symlink => {
                attempt.path2 = self.call.args.first().and_then(Value::text).map(<[u8]>::to_vec);
                attempt.path = self.name(1, at)?;
            }
            _ => attempt.path = self.name(0, at)?,
        }
        if kind == Kind::Exec {
            attempt.argv = self.argv(if at { 2 } else { 1 })?;
        }
        attempt.settle();
        if attempt.path.is_none() && !matches!(kind, Kind::Connect) && ret >= 0 {
            return Err(self.unclear("no path"));
        }
        let name = self.call.args.get(usize::from(at)).and_then(Value::text).map(<[u8]>::to_vec);
        Ok(Some(Seen { attempt, made: self.made(kind, ret), name, line: self.call.begun }))
    }

    fn unclear(&self, why: &str) -> Unclear {
        Unclear(format!("strace line {}: {why}: {:?}", self.call.begun, self.call))
    }

    fn flags(&self, index: usize) -> Vec<&str> {
        self.call.args.get(index).and_then(Value::word).unwrap_or_default().split('|').collect()
    }

    fn opened(&self) -> Option<Vec<u8>> {
        match &self.call.outcome {
            crate::strace::Outcome::Returned(_, path) => path.clone(),
            _ => None,
        }
    }

    /// The absolute path of the name at an argument; with `at`, of the directory there and the name after.
    fn name(&self, index: usize, at: bool) -> Result<Option<Vec<u8>>, Unclear> {
        let argument = self.call.args.get(index + usize::from(at));
        let Some(name) = argument.and_then(Value::text) else {
            // A pointer that strace could not follow: the kernel could not either, or the call failed before.
            return Ok(None);
        };
        if name.first() == Some(&b'/') {
            return Ok(Some(join(b"/", name)));
        }
        let base = if at {
            match self.call.args.get(index) {
                Some(Value::Descriptor(_, Some(path))) => alive(path).to_vec(),
                _ => return Ok(None),
            }
        } else {
            let directory = self.tasks.of[self.index].1;
            let known = self.tasks.path(directory, self.index);
            known.ok_or_else(|| self.unclear("the current directory is not known"))?
        };
        Ok(Some(join(&base, name)))
    }

    fn argv(&self, index: usize) -> Result<Option<Vec<Vec<u8>>>, Unclear> {
        let Some(items) = self.call.args.get(index).and_then(Value::list) else { return Ok(None) };
        let texts = items.iter().map(|item| match item {
            Value::Text { bytes, cut: false } => Ok(bytes.clone()),
            _ => Err(self.unclear("strace cut argv short")),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    fn made(&self, kind: Kind, ret: i64) -> Made {
        let flags: Vec<&str> = match self.call.name.as_str() {
            "open" => self.flags(1),
            "openat" => self.flags(2),
            "creat" => vec!["O_CREAT"],
            _ => self
                .call
                .args
                .get(2)
                .and_then(|how| how.field("flags")?.word())
                .unwrap_or_default()
                .split('|')
                .collect(),
        };
        match (kind, ret) {
            (Kind::Open, 0..) if flags.contains(&"O_TMPFILE") => Made::Yes,
            (Kind::Open, 0..) if flags.contains(&"O_CREAT") => {
                if flags.contains(&"O_EXCL") {
                    Made::Yes
                } else {
                    Made::Unknown
                }
            }
            _ => Made::No,
        }
    }

    fn address(&self, attempt: &mut Attempt) -> Result<(), Unclear> {
        let Some(address @ Value::Struct(_)) = self.call.args.get(1) else { return Ok(()) };
        let family = address.field("sa_family").and_then(Value::word).unwrap_or_default();
        attempt.family = Some(match family {
            "AF_UNSPEC" => 0,
            "AF_UNIX" => 1,
            "AF_INET" => 2,
            "AF_INET6" => 10,
            "AF_NETLINK" => 16,
            _ => return Err(self.unclear("an address family that this reader does not know")),
        });
        match family {
            "AF_UNIX" => {
                let name = address.field("sun_path").and_then(Value::text).unwrap_or_default();
                attempt.path = match name.first() {
                    None => None,
                    Some(b'@') => Some(name.to_vec()),
                    Some(b'/') => Some(join(b"/", name)),
                    Some(_) => {
                        let directory = self.tasks.of[self.index].1;
                        let known = self.tasks.path(directory, self.index);
                        let base = known.ok_or_else(|| self.unclear("the current directory is not known"))?;
                        Some(join(&base, name))
                    }
                };
            }
            "AF_INET" | "AF_INET6" => {
                attempt.address = Some(
                    internet(address).ok_or_else(|| self.unclear("an address this reader cannot read"))?,
                );
            }
            _ => {}
        }
        Ok(())
    }
}

/// Address and port of an `AF_INET` or `AF_INET6` structure.
fn internet(address: &Value) -> Option<(IpAddr, u16)> {
    let quoted = |word: &str| word.split('"').nth(1).map(str::to_owned);
    let ip = match address.field("sin_addr").and_then(Value::word) {
        Some(word) => quoted(word)?,
        None => address.words().find(|word| word.starts_with("inet_pton")).and_then(quoted)?,
    };
    let port = address.field("sin_port").or_else(|| address.field("sin6_port"))?.word()?;
    let port = port.strip_prefix("htons(")?.strip_suffix(')')?.parse().ok()?;
    Some((ip.parse::<IpAddr>().ok()?.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strace;

    fn paths(text: &str) -> Vec<(u32, String)> {
        let seen = attempts(&strace::read(text).unwrap()).unwrap();
        let text =
            |path: &Option<Vec<u8>>| String::from_utf8_lossy(path.as_deref().unwrap_or(b"-")).into_owned();
        seen.iter().map(|seen| (seen.attempt.pid, text(&seen.attempt.path))).collect()
    }

    #[test]
    fn the_directory_is_followed_through_children_and_threads() {
        let trace = r#"
5 execve("/bin/x", ["x"], 0x1 /* 3 vars */) = 0
5 openat(AT_FDCWD</a>, "no", O_RDONLY) = -1 ENOENT (No such file or directory)
5 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD, child_tidptr=0x1) = 6
6 unlink("in-child") = 0
6 chdir("sub") = 0
6 unlink("below") = 0
5 clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD, exit_signal=0} => {parent_tid=[7]}, 88) = 7
7 unlink("in-thread") = 0
7 chdir("/b/./c") = 0
5 unlink("../after") = 0
7 unshare(CLONE_FS) = 0
7 chdir("own") = 0
5 unlink("x/../here") = 0
7 unlink("there") = 0
"#;
        let expected = [
            (5, "/bin/x"),
            (5, "/a/no"),
            (6, "/a/in-child"),
            (6, "/a/sub/below"),
            (5, "/a/in-thread"),
            (5, "/b/after"),
            (5, "/b/c/x/../here"),
            (5, "/b/c/own/there"),
        ];
        let expected: Vec<_> = expected.iter().map(|(pid, path)| (*pid, (*path).to_owned())).collect();
        assert_eq!(paths(trace.trim()), expected);
    }

    #[test]
    fn a_link_in_chdir_is_seen_through_by_a_later_call() {
        let trace = r#"
5 openat(AT_FDCWD</a>, "no", O_RDONLY) = -1 ENOENT (No such file or directory)
5 chdir("link") = 0
5 unlink("x") = 0
5 openat(AT_FDCWD</real>, "no", O_RDONLY) = -1 ENOENT (No such file or directory)
5 rename("../real", "../new") = 0
5 unlink("y") = 0
5 fchdir(3</z>) = 0
5 unlink("w") = 0
"#;
        let found: Vec<_> = paths(trace.trim()).into_iter().map(|(_, path)| path).collect();
        assert_eq!(found, ["/a/no", "/real/x", "/real/no", "/real", "/new/y", "/z/w"]);
    }

    #[test]
    fn addresses() {
        let trace = r#"
5 connect(3<socket:[1]>, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::ffff:127.0.0.1", &sin6_addr), sin6_scope_id=0}, 28) = -1 ECONNREFUSED (Connection refused)
5 connect(3<socket:[1]>, {sa_family=AF_UNIX, sun_path=@"abs"}, 6) = 0
"#;
        let seen = attempts(&strace::read(trace.trim()).unwrap()).unwrap();
        assert_eq!(seen[0].attempt.address, Some(("127.0.0.1".parse().unwrap(), 80)));
        assert_eq!((seen[0].attempt.ret, seen[0].attempt.family), (-111, Some(10)));
        assert_eq!(seen[1].attempt.path.as_deref(), Some(&b"@abs"[..]));
    }
}
