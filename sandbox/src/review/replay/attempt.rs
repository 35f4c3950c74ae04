//! What a recorded event asked of a policy, as the hooks of an enforced run would ask it.
//!
//! Only what the kernel judges counts: what it had judged when it was recorded, what went through, and what failed
//! in a way that shows that the hook was passed. A call that failed before (no such file, no permission on the way)
//! reaches no hook in an enforced run either. What another layer of an enforced run denied was asked as well.

use std::net::IpAddr;

use audit_verify::canonical::Record;
use policy::{Access, AccessSet, End, Owner, Protocol, SectionKind};

use super::device;
use crate::event::{
    decode::{FAILED, MISSED, rule_protocol},
    judge::QUESTION,
};

/// What was asked; several for one event, of which all must be allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked<'l> {
    /// Accesses of the section `files`.
    File(AccessSet, &'l [u8]),
    /// An execution.
    Run(&'l [u8]),
    /// A network access, and the name by which the address is known.
    End(Access, End<'l>, Option<&'l str>),
    /// A question for a name, and the resolver that was asked.
    Question(&'l str, IpAddr),
    /// The object at `old` gets the name `new`, or the two swap names: what is closed at one must not be open at
    /// the other.
    NewName {
        /// Where it is.
        old: &'l [u8],
        /// The further name.
        new: &'l [u8],
        /// Both get the other's name.
        swap: bool,
        /// It is a directory, and everything below it moves along.
        tree: bool,
    },
    /// An act that any of these words of the section `kernel` opens.
    Kernel(&'static [&'static str]),
    /// The kernel could not judge it: denied whatever the policy says.
    Unjudged(&'l str),
}

/// What an event is to a policy.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading<'l> {
    /// An attempt.
    Asked(Vec<Asked<'l>>),
    /// Nothing that a policy judges, or an attempt that reached no hook.
    Nothing,
    /// An attempt whose object the event does not name.
    Unknown,
}

/// `RENAME_EXCHANGE` as the log has it.
const RENAME_EXCHANGE: u64 = libc::RENAME_EXCHANGE as u64;

/// Why a cut path is denied, in the record's words.
const TOO_LONG: &str = "the path is too long to be judged";
/// Why an open is denied for the sake of another name, which the event has as its target.
const ANOTHER_NAME: &str = "another name of the file is denied";

/// Reads an event. `in_run` says whether a pid is one of the run's.
pub fn read<'l>(record: &'l Record<'_>, in_run: impl Fn(u64) -> bool) -> Reading<'l> {
    let Some(event_type) = record.text("event_type") else { return Reading::Nothing };
    if let Some(words) = kernel_act(event_type, record, in_run) {
        return Reading::Asked(vec![Asked::Kernel(words)]);
    }
    let judged = matches!(record.text("layer"), Some("lsm" | "cgroup-net"));
    let denied = record.text("action") == Some("BLOCKED");
    if !judged && !denied && !passed_hook(event_type, record) {
        return Reading::Nothing;
    }
    if let (true, Some(reason), None) = (judged, record.text("reason"), record.text("policy_rule")) {
        // Without a rule a hook denies for a reason of its own; `unattributed` is what the evaluator said.
        match reason {
            "unattributed" => {}
            "the run has been ended" => return Reading::Nothing,
            ANOTHER_NAME | QUESTION => {}
            reason => return Reading::Asked(vec![Asked::Unjudged(reason)]),
        }
    }
    let asked = match asked(event_type, record) {
        Some(asked) if asked.is_empty() => return Reading::Nothing,
        Some(asked) => asked,
        None => return Reading::Unknown,
    };
    if record.flag("path_truncated") == Some(true) {
        return Reading::Asked(vec![Asked::Unjudged(TOO_LONG)]);
    }
    Reading::Asked(asked)
}

/// The accesses of an event; `None` where it does not name its object, empty where there is nothing to judge.
fn asked<'l>(event_type: &str, record: &'l Record<'_>) -> Option<Vec<Asked<'l>>> {
    let linked = record.text("reason") == Some(ANOTHER_NAME);
    let path = || record.bytes("target").filter(|_| linked).or_else(|| record.bytes("path"));
    let file = |access: Access, path: &'l [u8]| Asked::File(access.into(), path);
    let one = |access| Some(vec![file(access, path()?)]);
    match event_type {
        "exec" => Some(executed(record)?.into_iter().map(Asked::Run).collect()),
        "file_open" | "file_create" | "file_receive" => {
            let accesses = match record.list("access") {
                Some(words) => words.iter().filter_map(|word| access(word)).collect(),
                // mknod(2) opens nothing.
                None if event_type == "file_create" => Access::Create.into(),
                None => AccessSet::EMPTY,
            };
            let closed = record.text("policy_rule").is_some_and(|rule| rule.ends_with("/kernel.default"));
            // A descriptor that was passed in tells no accesses where this section closed it.
            if accesses.is_empty() && !closed {
                return Some(Vec::new());
            }
            let path = path()?;
            // Pipes and the like belong to the run.
            if !path.starts_with(b"/") {
                return Some(Vec::new());
            }
            let writes = accesses.contains(Access::Write) || accesses.is_empty();
            let act = device::act(path, writes).map(Asked::Kernel);
            // What the kernel closed is no data, whatever its name.
            let act = act.or(closed.then_some(Asked::Kernel(&["raw-devices"])));
            let file = (!accesses.is_empty()).then_some(Asked::File(accesses, path));
            Some(act.into_iter().chain(file).collect())
        }
        "file_delete" | "dir_delete" => one(Access::Delete),
        "file_symlink" | "dir_create" => one(Access::Create),
        "file_load" => one(Access::Load),
        "file_truncate" | "file_mode" | "file_owner" | "file_times" | "file_xattr" | "file_flags" => {
            let path = path()?;
            let by_descriptor = record.text("syscall").is_some_and(|call| call.starts_with('f'));
            if by_descriptor && !path.starts_with(b"/") {
                return Some(Vec::new());
            }
            let access = if event_type == "file_truncate" { Access::Write } else { Access::Attributes };
            Some(vec![file(access, path)])
        }
        "file_link" => {
            let (old, new) = (path()?, record.bytes("path2")?);
            Some(vec![file(Access::Create, new), Asked::NewName { old, new, swap: false, tree: false }])
        }
        "file_rename" => {
            let (old, new) = (path()?, record.bytes("path2")?);
            let swap = record.uint("flags").unwrap_or(0) & RENAME_EXCHANGE != 0;
            let both: AccessSet = [Access::Delete, Access::Create].into_iter().collect();
            let ends = match swap {
                true => [Asked::File(both, old), Asked::File(both, new)],
                false => [file(Access::Delete, old), file(Access::Create, new)],
            };
            // The record does not say what it is: see `directories`.
            let name = Asked::NewName { old, new, swap, tree: false };
            Some(ends.into_iter().chain([name]).collect())
        }
        "net_connect" => end(Access::Connect, record),
        "net_send" => end(Access::Send, record),
        "net_bind" => end(Access::Bind, record),
        "net_listen" => end(Access::Listen, record),
        "net_socket" => Some(vec![Asked::End(Access::Connect, End::Other, None)]),
        "dns_answer" => {
            let resolver = record.text("dst_ip")?.parse().ok()?;
            Some(vec![Asked::Question(record.text("host")?, resolver)])
        }
        _ => Some(Vec::new()),
    }
}

fn access(word: &[u8]) -> Option<Access> {
    SectionKind::Files.accesses().iter().find(|access| access.name().as_bytes() == word)
}

/// The files that an exec executes: the one that runs, and the text whose first line names it.
fn executed<'l>(record: &'l Record<'_>) -> Option<Vec<&'l [u8]>> {
    let path = record.bytes("path");
    let succeeded = record.int("ret") == Some(0);
    let object = match record.bytes("target") {
        // Of a text the interpreter runs, and the text is read.
        Some(text) if succeeded && record.bytes("exe").is_some_and(|exe| exe != text) => {
            return Some(record.bytes("exe").into_iter().chain([text]).collect());
        }
        Some(judged) => judged,
        None if succeeded => record.bytes("exe")?,
        None => path?,
    };
    let mut executed = vec![object];
    let argv = record.list("argv").unwrap_or_default();
    // The kernel puts the interpreter, perhaps one argument, and the script's name before the others.
    if let (true, Some(path)) = (succeeded, path)
        && path != object
        && argv.iter().skip(1).take(2).any(|word| is_name_of(word, path, record.bytes("cwd")))
    {
        executed.push(path);
    }
    Some(executed)
}

/// Whether `name`, seen from `cwd`, is what the record joined to `path`.
fn is_name_of(name: &[u8], path: &[u8], cwd: Option<&[u8]>) -> bool {
    if name.starts_with(b"/") {
        return name == path;
    }
    let Some(mut base) = cwd else { return false };
    let mut rest = name;
    loop {
        match rest {
            [b'.', b'/', after @ ..] | [b'/', after @ ..] => rest = after,
            [b'.', b'.', b'/', after @ ..] => {
                rest = after;
                base = &base[..base.iter().rposition(|byte| *byte == b'/').unwrap_or(0)];
            }
            _ => break,
        }
    }
    let base = base.strip_suffix(b"/").unwrap_or(base);
    path.strip_prefix(base).and_then(|below| below.strip_prefix(b"/")) == Some(rest)
}

fn end<'l>(access: Access, record: &'l Record<'_>) -> Option<Vec<Asked<'l>>> {
    let [ip, port] = match access {
        Access::Bind | Access::Listen => ["src_ip", "src_port"],
        _ => ["dst_ip", "dst_port"],
    };
    let end = match (record.text(ip), record.text("family"), record.bytes("path")) {
        (Some(address), _, _) => End::Address {
            address: address.parse::<IpAddr>().ok()?,
            port: u16::try_from(record.uint(port)?).ok()?,
            protocol: Protocol::from_abi(rule_protocol(record.text("proto"))),
            names: &[],
            owner: if record.flag("own") == Some(true) { Owner::Run } else { Owner::Elsewhere },
        },
        // Dissolving a connection.
        (None, Some("unspec"), _) => return Some(Vec::new()),
        // Too short to be an address, or none that the record has.
        (None, Some("inet" | "inet6"), _) => return None,
        // Asking for addresses and routes is open.
        (None, Some("netlink"), _) if record.text("proto") == Some("route") => return Some(Vec::new()),
        (None, Some("unix"), Some(path)) => path.strip_prefix(b"@").map_or(End::Path(path), End::Abstract),
        _ => End::Other,
    };
    let reaches = matches!(access, Access::Connect | Access::Send);
    // A question for a name is judged by the name.
    if reaches && record.text("reason") == Some(QUESTION) {
        return Some(Vec::new());
    }
    Some(vec![Asked::End(access, end, record.text("host").filter(|_| reaches))])
}

/// The words of the section `kernel` of which any opens the event's act.
fn kernel_act(
    event_type: &str,
    record: &Record<'_>,
    in_run: impl Fn(u64) -> bool,
) -> Option<&'static [&'static str]> {
    Some(match event_type {
        "proc_mount" => &["mount"],
        "proc_userns" => &["userns"],
        "proc_chroot" => &["chroot"],
        "proc_bpf" => &["bpf"],
        "proc_signal" => &["signal-outside"],
        // ptrace(PTRACE_TRACEME) names no target: the parent, which is in the run or made it.
        "proc_ptrace" if record.uint("target_pid").is_none_or(in_run) => &["ptrace-own", "ptrace-any"],
        "proc_ptrace" => &["ptrace-any"],
        _ => return None,
    })
}

/// Whether a call that no hook judged when it was recorded would have come as far as to the hook.
fn passed_hook(event_type: &str, record: &Record<'_>) -> bool {
    if event_type == "net_socket" || event_type == "dns_answer" {
        return true;
    }
    let Some(ret) = record.int("ret") else {
        // What was seen before it happened may have gone through, unless something says otherwise.
        return !matches!(record.text("reason"), Some(FAILED | MISSED));
    };
    let Some(Ok(errno)) = ret.checked_neg().map(i32::try_from) else { return false };
    if errno <= 0 {
        return true;
    }
    // Errnos that these calls give before they ask, or both before and after, are not here.
    let behind: &[i32] = match event_type {
        // unix_find_other() in net/unix/af_unix.c comes before the hooks: nothing is there, or not in this caller's reach.
        "net_connect" | "net_send" if record.text("family") == Some("unix") => {
            return ![
                libc::ENOENT,
                libc::ENOTDIR,
                libc::ELOOP,
                libc::ENAMETOOLONG,
                libc::EACCES,
                libc::ECONNREFUSED,
                libc::EPROTOTYPE,
                libc::EBADF,
                libc::ENOTSOCK,
                libc::EFAULT,
                libc::EINVAL,
            ]
            .contains(&errno);
        }
        // What is wrong with the descriptor or the address's bytes is noticed before, everything else behind.
        "net_connect" | "net_send" | "net_bind" | "net_listen" => {
            return ![libc::EBADF, libc::ENOTSOCK, libc::EFAULT, libc::EINVAL].contains(&errno);
        }
        "exec" => &[libc::ENOEXEC],
        // do_unlinkat(), do_rmdir(), do_renameat2() in fs/namei.c: the hook stands before vfs_unlink() and the like,
        // and may_delete() in these gives EPERM for others' files.
        "file_delete" | "dir_delete" | "file_rename" => &[libc::EPERM, libc::EBUSY, libc::ENOTEMPTY],
        // chmod_common(), chown_common() in fs/open.c.
        "file_mode" | "file_owner" => &[libc::EPERM],
        "file_open" => &[libc::ENXIO, libc::ENODEV],
        _ => &[],
    };
    behind.contains(&errno)
}
