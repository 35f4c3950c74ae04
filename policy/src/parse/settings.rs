//! The sections that are no rules, as written, and at once as meant: they have no variables.

use super::{Keys, Placed, choice, known, mapping, some, text, texts};
use crate::document::{Entry, Kind, Node};
use crate::error::{Problem, Report};
use crate::settings::{Env, Fold, KERNEL, Landlock, Limits, Settings, Syscalls, Tmp};
use crate::{syscalls, units};

const NOTHING: &str = "leave it out";
const KERNEL_KEYS: Keys = Keys { context: "`kernel`", read: &["allow"], later: &[] };
const SYSCALLS: Keys = Keys { context: "`syscalls`", read: &["deny"], later: &[] };
pub(crate) const LIMITS: Keys =
    Keys { context: "`limits`", read: &["memory", "processes", "cpu", "time"], later: &[] };
pub(crate) const ENV: Keys = Keys { context: "`env`", read: &["drop", "keep", "set"], later: &[] };
const OBSERVE: Keys = Keys { context: "`observe`", read: &["fold"], later: &[] };

/// What of `kernel` lets a path mean another file.
const WEAKENING: [&str; 3] = ["mount", "userns", "chroot"];

/// Calls without which nothing can be started, or end.
const ESSENTIAL: [&str; 4] = ["execve", "exit", "exit_group", "rt_sigreturn"];

/// The keys of the top that are read here.
pub(super) const READ: [&str; 7] = ["kernel", "syscalls", "landlock", "tmp", "limits", "env", "observe"];

/// Reads one of [`READ`].
pub(super) fn setting(settings: &mut Settings, entry: &Entry, report: &mut Report) {
    let value = &entry.value;
    match entry.key.as_str() {
        "kernel" => settings.kernel = kernel(value, report),
        "syscalls" => settings.syscalls = syscall_filter(value, report),
        "landlock" => {
            let words = [("auto", Landlock::Auto), ("off", Landlock::Off)];
            settings.landlock = choice(value, "`landlock`", (&words, "`auto` or `off`"), report);
        }
        "tmp" => {
            let words = [("shared", Tmp::Shared), ("private", Tmp::Private)];
            settings.tmp = choice(value, "`tmp`", (&words, "`shared` or `private`"), report);
        }
        "limits" => settings.limits = limits(value, report),
        "env" => settings.env = env(value, report),
        _ => {
            let entries = mapping(value, "`observe`", report).unwrap_or_default();
            for entry in known(entries, &OBSERVE, report) {
                let words = [("true", Fold::On), ("false", Fold::Off)];
                settings.fold = choice(&entry.value, "`fold`", (&words, "`true` or `false`"), report);
            }
        }
    }
}

fn kernel(node: &Node, report: &mut Report) -> Option<Vec<&'static str>> {
    let mut allowed = Vec::new();
    for entry in known(mapping(node, "`kernel`", report)?, &KERNEL_KEYS, report) {
        let wanted = "a list, as in `allow: [ptrace-own]`";
        for word in texts(&entry.value, "`allow` of `kernel`", wanted, report).unwrap_or_default() {
            match KERNEL.into_iter().find(|known| *known == word.value) {
                Some(known) => {
                    if WEAKENING.contains(&known) {
                        let text = format!(
                            "`{known}` lets the command give files other paths, which weakens every rule on paths"
                        );
                        report.warn(word.place, text);
                    }
                    allowed.push(known);
                }
                None => {
                    bad(&word, "kernel feature", KERNEL.map(|word| format!("`{word}`")).join(", "), report)
                }
            }
        }
    }
    allowed.sort_unstable();
    allowed.dedup();
    Some(allowed)
}

/// Whether a policy can deny a call of this name.
pub(crate) fn is_deniable(name: &str) -> bool {
    syscalls::find(name).is_some() && !ESSENTIAL.contains(&name)
}

fn syscall_filter(node: &Node, report: &mut Report) -> Option<Syscalls> {
    let Kind::Mapping(entries) = &node.kind else {
        let words = [("default", 0), ("strict", 1), ("off", 2)];
        let wanted = "`default`, `strict`, `off` or `{ deny: [...] }`";
        return Some(match choice(node, "`syscalls`", (&words, wanted), report)? {
            0 => Syscalls::Default,
            1 => Syscalls::Strict,
            _ => Syscalls::Off,
        });
    };
    let mut denied = Vec::new();
    for entry in known(entries, &SYSCALLS, report) {
        let wanted = "a list of system calls, as in `deny: [bpf]`";
        for name in some(&entry.value, "`deny` of `syscalls`", wanted, NOTHING, report).unwrap_or_default() {
            if ESSENTIAL.contains(&name.value.as_str()) {
                let wanted = "others: by this one commands are started, or end".to_owned();
                bad(&name, "system call that can be denied", wanted, report);
            } else if !is_deniable(&name.value) {
                let wanted = match syscalls::nearest_to(&name.value) {
                    Some(nearest) => format!("`{nearest}`?"),
                    None => "its name in the manual pages, as in `bpf`".to_owned(),
                };
                bad(&name, "system call of x86-64 or aarch64", wanted, report);
            }
            denied.push(name.value);
        }
    }
    denied.sort();
    denied.dedup();
    Some(Syscalls::Deny(denied))
}

fn limits(node: &Node, report: &mut Report) -> Option<Limits> {
    let mut limits = Limits::default();
    for entry in known(mapping(node, "`limits`", report)?, &LIMITS, report) {
        let Kind::Scalar { text: value, .. } = &entry.value.kind else {
            text(&entry.value, &format!("`{}`", entry.key), report);
            continue;
        };
        let word = Placed { value: value.clone(), place: entry.value.place };
        let (read, wanted) = match entry.key.as_str() {
            "memory" => {
                limits.memory = units::bytes(value);
                (
                    limits.memory.is_some(),
                    "a number with `KiB`, `MiB`, `GiB` or `TiB`, as in `4GiB`".to_owned(),
                )
            }
            "processes" => {
                limits.processes = value.parse().ok().filter(|count| *count > 0);
                (limits.processes.is_some(), "a number from 1, as in `512`".to_owned())
            }
            "cpu" => {
                limits.cpu = units::percent(value);
                (limits.cpu.is_some(), "percent of one processor, as in `200%`".to_owned())
            }
            _ => {
                limits.time = units::duration(value);
                (limits.time.is_some(), units::wanted_duration(value, "2h"))
            }
        };
        if !read {
            bad(&word, "limit", wanted, report);
        }
    }
    Some(limits)
}

fn env(node: &Node, report: &mut Report) -> Option<Env> {
    let mut env = Env::default();
    let wanted = "a list of names, as in `[\"AWS_*\"]`";
    for entry in known(mapping(node, "`env`", report)?, &ENV, report) {
        let value = &entry.value;
        let names = match entry.key.as_str() {
            "drop" => &mut env.drop,
            "keep" => &mut env.keep,
            _ => {
                for entry in mapping(value, "`set` of `env`", report).unwrap_or_default() {
                    let name = Placed { value: entry.key.clone(), place: entry.place };
                    variable(&name, &name.value, report);
                    let value = text(&entry.value, &format!("`{}`", entry.key), report);
                    env.set.extend(value.map(|value| (name.value, value.value)));
                }
                continue;
            }
        };
        for name in
            some(value, &format!("`{}` of `env`", entry.key), wanted, NOTHING, report).unwrap_or_default()
        {
            let inside = name.value.strip_prefix('*').unwrap_or(&name.value);
            // Alone it is every name.
            if name.value != "*" {
                variable(&name, inside.strip_suffix('*').unwrap_or(inside), report);
            }
            names.push(name.value);
        }
    }
    env.set.sort();
    Some(env)
}

/// Refuses what is no name of a variable.
fn variable(name: &Placed<String>, inside: &str, report: &mut Report) {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if inside.is_empty() || !inside.chars().all(fits) {
        bad(
            name,
            "variable",
            "letters, digits and `_`; in lists a `*` may stand at either end".to_owned(),
            report,
        );
    }
}

fn bad(word: &Placed<String>, what: &'static str, wanted: String, report: &mut Report) {
    report.error(word.place, Problem::BadWord { found: word.value.clone(), what, wanted });
}
