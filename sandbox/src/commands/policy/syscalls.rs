//! `sandbox policy syscalls`: what the system call filter closes and leaves, with the reasons.

use std::fmt::Write as _;

use policy::compile::seccomp::{Answer, Data, Entry, Group, OpenedBy, Test, What, Where, data};
use serde::Serialize;

use super::super::doctor::wrap;
use super::{print, print_json};
use crate::cli::PolicySyscallsArgs;
use crate::exit::Exit;

/// One thing, for programs.
#[derive(Serialize)]
struct Listed<'a> {
    /// The call.
    name: &'static str,
    /// Which of its arguments, or which sockets; absent where it is the whole call.
    #[serde(skip_serializing_if = "Option::is_none")]
    only: Option<String>,
    /// `closed`, `left open` or `strict` (among those that are left by it).
    list: &'static str,
    group: Option<&'a str>,
    /// The words of `kernel` that open it, or `syscalls: off`.
    opened_by: Vec<&'static str>,
    /// Whether hooks of the `lsm` layer hold it where there are some.
    without_hooks: bool,
    /// The error number's name.
    errno: Option<&'static str>,
    reason: &'a str,
}

pub fn execute(args: &PolicySyscallsArgs) -> anyhow::Result<Exit> {
    let data = data();
    match args.json {
        true => listed(data).iter().try_for_each(print_json)?,
        false => print(&text(data))?,
    }
    Ok(Exit::SUCCESS)
}

fn listed(data: &Data) -> Vec<Listed<'_>> {
    let closed = data.closed.iter().flat_map(|group| {
        group.entries.iter().map(move |entry| Listed {
            name: entry.what.call(),
            only: condition(&entry.what),
            list: "closed",
            group: Some(&group.name),
            opened_by: opening(group),
            without_hooks: group.closed == Where::WithoutHooks,
            errno: Some(errno(entry)),
            reason: &entry.why,
        })
    });
    let open = |name, list, group, reason| Listed {
        name,
        only: None,
        list,
        group,
        opened_by: Vec::new(),
        without_hooks: false,
        errno: None,
        reason,
    };
    let left = data.left_open.iter().map(|(name, why)| open(name, "left open", None, why.as_str()));
    let strict = data.strict.iter().flat_map(|group| {
        group.calls.iter().map(|name| open(name, "strict", Some(group.name.as_str()), group.why.as_str()))
    });
    closed.chain(left).chain(strict).collect()
}

fn text(data: &Data) -> String {
    let mut text = String::from("closed in an enforced run:\n");
    for group in &data.closed {
        let opened = match opening(group).as_slice() {
            [] => "nothing opens it".to_owned(),
            words => format!("opened by {}", words.join(", ")),
        };
        let place = match group.closed {
            Where::Always => "",
            Where::WithoutHooks => "; by hooks where there are some",
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "\n{} ({opened}{place})", group.name);
        paragraph(&mut text, "  ", &group.why);
        for entry in &group.entries {
            let mut name = entry.what.call().to_owned();
            if let Some(condition) = condition(&entry.what) {
                let _ = write!(name, " {condition}");
            }
            let errno = if entry.answer == Answer::NoSuchCall { " (ENOSYS)" } else { "" };
            paragraph(&mut text, "    ", &format!("{name}{errno}: {}", entry.why));
        }
    }
    text.push_str("\nopen, unless `strict` or a list of the policy's own closes it:\n");
    for (name, why) in &data.left_open {
        paragraph(&mut text, "    ", &format!("{name}: {why}"));
    }
    text.push_str("\nall that `syscalls: strict` leaves, but for what `kernel` allows:\n");
    for group in &data.strict {
        let _ = writeln!(text, "\n{}", group.name);
        paragraph(&mut text, "  ", &group.why);
        paragraph(&mut text, "    ", &group.calls.join(" "));
    }
    text
}

/// Words in lines of at most 80 characters, those after the first further in.
fn paragraph(text: &mut String, indent: &str, words: &str) {
    for (number, line) in wrap(words, 74).iter().enumerate() {
        let further = if number == 0 { "" } else { "  " };
        let _ = writeln!(text, "{indent}{further}{line}");
    }
}

fn opening(group: &Group) -> Vec<&'static str> {
    match &group.opened_by {
        OpenedBy::Nothing => Vec::new(),
        OpenedBy::Words(words) => words.clone(),
        OpenedBy::Off => vec!["syscalls: off"],
    }
}

fn errno(entry: &Entry) -> &'static str {
    match entry.answer {
        Answer::NotPermitted => "EPERM",
        Answer::NoSuchCall => "ENOSYS",
    }
}

/// Which calls of the name are meant; `None` where all are.
fn condition(what: &What) -> Option<String> {
    match what {
        What::Call(_) => None,
        What::Argument(argument) => {
            let mut text = match argument.test {
                Test::Is(value) => format!("{value:#x}"),
                Test::IsNot(value) => format!("with another argument {} than {value:#x}", argument.index + 1),
                Test::Has { bits, .. } => format!("with {bits:#x}"),
            };
            if let Some((_, value)) = argument.also {
                let _ = write!(text, " and {value:#x}");
            }
            Some(text)
        }
        What::Socket(socket) => {
            let mut text = format!("family {}", socket.family);
            if let Some(kind) = socket.kind {
                let _ = write!(text, " type {kind}");
            }
            if let Some(protocol) = socket.protocol {
                let _ = write!(text, " protocol {protocol}");
            }
            Some(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_listed_with_its_reason() {
        let listed = listed(data());
        let of = |name: &str, list: &str| {
            listed.iter().filter(|entry| entry.name == name && entry.list == list).collect::<Vec<_>>()
        };
        let [mount] = of("mount", "closed")[..] else { panic!("mount") };
        assert_eq!((mount.opened_by.as_slice(), mount.without_hooks), (&["mount"][..], true));
        let [clone3] = of("clone3", "closed")[..] else { panic!("clone3") };
        assert_eq!((clone3.errno, clone3.without_hooks), (Some("ENOSYS"), false));
        assert!(clone3.opened_by.is_empty());
        let [reboot] = of("reboot", "closed")[..] else { panic!("reboot") };
        assert_eq!(reboot.opened_by, ["syscalls: off"]);
        assert_eq!(of("openat", "strict").len(), 1);
        assert!(of("ioctl", "closed").iter().any(|entry| entry.only.as_deref() == Some("0x5412")));
        assert!(listed.iter().all(|entry| !entry.reason.is_empty()));
        let text = text(data());
        assert!(
            text.contains("\nptrace (opened by ptrace-own, ptrace-any; by hooks where there are some)\n")
        );
        assert!(text.contains("    socket family 2 type 5: "), "{text}");
        let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{long:?}");
    }
}
