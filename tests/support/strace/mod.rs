//! Reads what `strace -f -y -s 4096 -o FILE` (strace 6.1 and its kin) wrote: the truth that a log of
//! ours is compared with.
//!
//! It joins `unfinished` and `resumed` halves, follows an exec that changes a thread's id, and takes calls
//! apart into values. What the calls mean (processes, directories, paths) is `truth`'s business.

pub mod errno;
mod value;

pub use value::{Value, parse_call};

use std::collections::HashMap;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returned this; a descriptor comes with the path strace found behind it.
    Returned(i64, Option<Vec<u8>>),
    /// It failed with this errno (a positive number).
    Failed(i64),
    /// It did not return: exit, or killed inside the call.
    None,
}

impl Outcome {
    /// What the kernel returned: 0 or above, or -errno. `None` if the call never returned.
    pub fn ret(&self) -> Option<i64> {
        match self {
            Outcome::Returned(value, _) => Some(*value),
            Outcome::Failed(errno) => Some(-errno),
            Outcome::None => None,
        }
    }
}

/// One system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Thread id that made it; after an exec by a thread, the thread group's.
    pub tid: u32,
    /// The call's name.
    pub name: String,
    /// Its arguments.
    pub args: Vec<Value>,
    /// Its result.
    pub outcome: Outcome,
    /// Line where it began, from 1.
    pub begun: usize,
    /// Line where it ended, from 1; equal to `begun` unless another task came between.
    pub ended: usize,
}

/// A line that could not be read.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Number, from 1.
    pub line: usize,
    /// What was expected, and the text.
    pub message: String,
}

impl std::fmt::Display for BadLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "strace line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for BadLine {}

/// Reads a whole trace, in the order in which the calls began.
pub fn read(text: &str) -> Result<Vec<Call>, BadLine> {
    let mut calls = Vec::new();
    let mut open: HashMap<u32, (usize, String)> = HashMap::new();
    for (index, full) in text.lines().enumerate() {
        let line = index + 1;
        let bad = |message: &str| BadLine { line, message: format!("{message}: {full}") };
        let (tid, rest) = full.split_once(' ').ok_or_else(|| bad("no process id"))?;
        let tid: u32 = tid.parse().map_err(|_| bad("no process id"))?;
        let rest = rest.trim_start();
        if let Some(note) = rest.strip_prefix("+++ superseded by execve in pid ") {
            let from: u32 = note.trim_end_matches(" +++").parse().map_err(|_| bad("no process id"))?;
            if let Some(half) = open.remove(&from) {
                open.insert(tid, half);
            }
            continue;
        }
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(tail) = rest.strip_prefix("<... ") {
            let (_, tail) = tail.split_once(" resumed>").ok_or_else(|| bad("no `resumed>`"))?;
            let (begun, head) = open.remove(&tid).ok_or_else(|| bad("resumed, never begun"))?;
            calls.push(finish(tid, begun, line, &format!("{head}{tail}"))?);
        } else if let Some(head) = rest.strip_suffix("<unfinished ...>") {
            open.insert(tid, (line, head.trim_end_matches(' ').to_owned()));
        } else if let Some((head, _)) = rest.rsplit_once(" <pid changed to ") {
            open.insert(tid, (line, head.to_owned()));
        } else {
            calls.push(finish(tid, line, line, rest)?);
        }
    }
    calls.sort_by_key(|call| call.begun);
    Ok(calls)
}

fn finish(tid: u32, begun: usize, ended: usize, text: &str) -> Result<Call, BadLine> {
    // Who ended in the middle of a call: no more of it is told.
    let cut = text.rsplit_once(" <unfinished ...>)").filter(|(_, tail)| tail.trim_start() == "= ?");
    let whole = cut.map(|(head, tail)| format!("{}){tail}", head.trim_end_matches([' ', ','])));
    let text = whole.as_deref().unwrap_or(text);
    let (name, args, outcome) =
        parse_call(text).map_err(|why| BadLine { line: ended, message: format!("{why}: {text}") })?;
    Ok(Call { tid, name, args, outcome, begun, ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Call {
        let mut calls = read(text).unwrap();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.remove(0)
    }

    #[test]
    fn a_plain_open() {
        let call = only(
            r#"77  openat(AT_FDCWD</tmp/a b>, "x\74\"\n\3032", O_RDONLY|O_CLOEXEC) = 3</tmp/a b/x\74\"\n\3032>"#,
        );
        assert_eq!(call.name, "openat");
        assert_eq!(call.args[0], Value::Descriptor("AT_FDCWD".into(), Some(b"/tmp/a b".to_vec())));
        assert_eq!(call.args[1].text(), Some(&b"x<\"\n\xc32"[..]));
        assert_eq!(call.args[2], Value::Word("O_RDONLY|O_CLOEXEC".into()));
        assert_eq!(call.outcome, Outcome::Returned(3, Some(b"/tmp/a b/x<\"\n\xc32".to_vec())));
    }

    #[test]
    fn a_deleted_file_and_a_failure() {
        let call = only(r##"7 openat(AT_FDCWD</tmp>, "/t", O_RDWR|O_TMPFILE, 0777) = 3</t/#10>(deleted)"##);
        assert_eq!(call.outcome, Outcome::Returned(3, Some(b"/t/#10".to_vec())));
        let call = only("7 open(NULL, O_RDONLY)               = -1 EFAULT (Bad address)");
        assert_eq!(call.outcome, Outcome::Failed(14));
        assert_eq!(call.args[0], Value::Word("NULL".into()));
        assert_eq!(only("7 exit_group(0)                     = ?").outcome, Outcome::None);
        let call = only("7 connect(3, 0x0, 110) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)");
        assert_eq!(call.outcome, Outcome::Failed(512));
    }

    #[test]
    fn a_call_that_its_caller_did_not_see_the_end_of() {
        let call = only("7 clone3({flags=CLONE_VM, stack_size=0x1f} <unfinished ...>) = ?");
        assert_eq!((call.name.as_str(), call.args.len(), call.outcome), ("clone3", 1, Outcome::None));
        let calls =
            read("7 read(3,  <unfinished ...>\n7 <... read resumed> <unfinished ...>) = ?\n").unwrap();
        assert_eq!((calls.len(), &calls[0].outcome), (1, &Outcome::None));
    }

    #[test]
    fn halves_are_joined() {
        let calls = read(concat!(
            "5 newfstatat(1</x>, \"\",  <unfinished ...>\n",
            "6 unlink(\"a\" <unfinished ...>\n",
            "5 <... newfstatat resumed>{st_mode=S_IFREG|0644, st_size=0, ...}, AT_EMPTY_PATH) = 0\n",
            "6 <... unlink resumed>)             = -1 ENOENT (No such file or directory)\n",
        ))
        .unwrap();
        assert_eq!((calls[0].begun, calls[0].ended, calls[0].args.len()), (1, 3, 4));
        assert_eq!((calls[1].begun, calls[1].ended), (2, 4));
        assert_eq!(calls[1].outcome, Outcome::Failed(2));
    }

    #[test]
    fn an_exec_from_a_thread_becomes_its_group() {
        let calls = read(concat!(
            "51 execve(\"/bin/true\", [\"true\", \"a\\\"b\\n\\0012\"], 0x7ff /* 38 vars */ <pid changed to 50 ...>\n",
            "50 +++ superseded by execve in pid 51 +++\n",
            "50 <... execve resumed>)             = 0\n",
        ))
        .unwrap();
        assert_eq!(calls[0].tid, 50);
        let argv: Vec<_> = calls[0].args[1].list().unwrap().iter().map(|v| v.text().unwrap()).collect();
        assert_eq!(argv, [&b"true"[..], b"a\"b\n\x012"]);
    }

    #[test]
    fn addresses_and_structs() {
        let call = only(
            r#"5 connect(6<socket:[1]>, {sa_family=AF_INET6, sin6_port=htons(1), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = -1 EINPROGRESS (Operation now in progress)"#,
        );
        assert_eq!(call.args[1].field("sin6_port"), Some(&Value::Word("htons(1)".into())));
        assert!(call.args[1].words().any(|w| w.starts_with("inet_pton(AF_INET6, \"::1\"")));
        let call = only(r#"5 connect(7<socket:[2]>, {sa_family=AF_UNIX, sun_path=@"a\1b<>\""}, 9) = 0"#);
        assert_eq!(call.args[1].field("sun_path").unwrap().text(), Some(&b"@a\x01b<>\""[..]));
        let call = only(
            "5 clone3({flags=CLONE_VM|CLONE_THREAD, stack=0x7ff, tls=0x7f} => {parent_tid=[9]}, 88) = 9",
        );
        assert_eq!(call.args[0].field("flags"), Some(&Value::Word("CLONE_VM|CLONE_THREAD".into())));
        assert_eq!(call.outcome, Outcome::Returned(9, None));
    }

    #[test]
    fn what_is_cut_short_says_so() {
        let call = only(r#"5 unlink("abc"...) = -1 ENAMETOOLONG (File name too long)"#);
        assert_eq!(call.args[0], Value::Text { bytes: b"abc".to_vec(), cut: true });
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        assert_eq!(read("5 open(\"a\", O_RDONLY) = 3\n5 open(\"a").unwrap_err().line, 2);
        assert!(read("5 <... open resumed>) = 3\n").is_err());
        assert!(read("5 open(\"a\") = -1 EWHATEVER (?)\n").is_err());
        assert!(read("no number\n").is_err());
    }
}
