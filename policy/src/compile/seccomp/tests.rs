//! The list that ships is right, and what is chosen from it.

use super::*;
use crate::settings::KERNEL;

/// Which calls, arguments and sockets are closed, as text.
fn closed(filter: &Filter, hooks: Hooks) -> BTreeSet<String> {
    compile(filter, hooks).closed.iter().map(|closed| format!("{:?}", closed.what)).collect()
}

fn of(groups: impl Fn(&Group) -> bool) -> BTreeSet<String> {
    let groups = data().closed.iter().filter(|group| groups(group));
    groups.flat_map(|group| &group.entries).map(|entry| format!("{:?}", entry.what)).collect()
}

fn with(level: Level, allowed: &[&'static str]) -> Filter {
    Filter { level, ..Filter::new(allowed.to_vec()) }
}

#[test]
fn each_entry_has_its_reason_and_stands_once() {
    let data = data();
    let reasons = data
        .closed
        .iter()
        .flat_map(|group| std::iter::once(&group.why).chain(group.entries.iter().map(|entry| &entry.why)));
    let reasons = reasons.chain(data.left_open.iter().map(|(_, why)| why));
    let reasons = reasons.chain(data.strict.iter().map(|group| &group.why));
    for why in reasons.chain(data.remains.iter().map(|(_, what)| what)) {
        assert!((3..=120).contains(&why.len()) && !why.contains('\n'), "{why:?}");
    }
    let names: Vec<&String> = data.closed.iter().map(|group| &group.name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "a group stands twice");
    assert!(names.iter().all(|name| *name != DENIED && *name != STRICT && !name.is_empty()));
    let entries = data.closed.iter().map(|group| group.entries.len()).sum::<usize>();
    assert_eq!(of(|_| true).len(), entries, "an entry stands twice");
    assert!(data.closed.iter().all(|group| !group.entries.is_empty()));
    let listed: Vec<&str> = data.strict.iter().flat_map(|group| group.calls.iter().copied()).collect();
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len(), "a call stands twice");
}

#[test]
fn what_is_left_open_is_not_closed_and_strict_leaves_nothing_that_is() {
    let whole = |hooks| {
        let plan = compile(&Filter::new(Vec::new()), hooks);
        plan.closed
            .iter()
            .filter_map(|closed| match closed.what {
                What::Call(name) => Some(name),
                _ => None,
            })
            .collect::<BTreeSet<_>>()
    };
    let closed = whole(Hooks::Judge);
    for (name, _) in &data().left_open {
        assert!(!closed.contains(name), "{name}");
    }
    for group in &data().strict {
        assert!(group.calls.iter().all(|name| !closed.contains(name)), "{}", group.name);
    }
    // Hooks judge user namespaces, but not in which control group a process begins.
    assert!(whole(Hooks::Missing).contains("clone3") && closed.contains("clone3"));
}

#[test]
fn what_a_policy_allows_is_open_and_nothing_else() {
    for hooks in [Hooks::Judge, Hooks::Missing] {
        let here = |group: &Group| match group.closed {
            Where::Always => true,
            Where::WithoutHooks => hooks == Hooks::Missing,
        };
        assert_eq!(closed(&Filter::new(Vec::new()), hooks), of(here));
        assert!(closed(&with(Level::Off, &KERNEL), hooks).contains(r#"Call("clone3")"#));
        for word in KERNEL {
            let opened =
                |group: &Group| matches!(&group.opened_by, OpenedBy::Words(words) if words.contains(&word));
            let left = of(|group| here(group) && !opened(group));
            assert_eq!(closed(&Filter::new(vec![word]), hooks), left, "{word}");
        }
        let never = of(|group| here(group) && group.opened_by == OpenedBy::Nothing);
        assert_eq!(closed(&with(Level::Off, &KERNEL), hooks), never);
        assert!(never.iter().any(|what| what.contains("uselib")));
    }
}

#[test]
fn off_opens_the_surface_alone() {
    let surface = of(|group| group.opened_by == OpenedBy::Off);
    assert!(surface.iter().any(|what| what.contains("userfaultfd")));
    for hooks in [Hooks::Judge, Hooks::Missing] {
        let (whole, off) = (closed(&with(Level::Default, &[]), hooks), closed(&with(Level::Off, &[]), hooks));
        assert_eq!(whole.difference(&off).cloned().collect::<BTreeSet<_>>(), surface);
        assert_eq!(off.difference(&whole).count(), 0);
    }
}

#[test]
fn strict_closes_what_the_rest_closes_and_leaves_a_list() {
    let plan = compile(&with(Level::Strict, &[]), Hooks::Judge);
    assert_eq!(plan.closed, compile(&with(Level::Default, &[]), Hooks::Judge).closed);
    let only = plan.only.unwrap();
    assert!(only.is_sorted() && only.contains(&"openat") && only.contains(&"clone"));
    for name in ["clone3", "ptrace", "bpf", "mount", "kcmp", "unshare", "io_setup", "keyctl", "reboot"] {
        assert!(!only.contains(&name), "{name}");
    }
    // What `kernel` allows is in the list then.
    let only = compile(&with(Level::Strict, &["ptrace-own", "userns"]), Hooks::Judge).only.unwrap();
    assert!(["ptrace", "unshare"].iter().all(|name| only.contains(name)));
    assert!(!only.contains(&"mount"));
    assert_eq!(compile(&with(Level::Default, &[]), Hooks::Judge).only, None);
}

#[test]
fn policies_together_close_what_each_closes() {
    let deny = |names: &[&str]| Syscalls::Deny(names.iter().map(|name| (*name).to_owned()).collect());
    let none = Filter { level: Level::Off, ..Filter::new(Vec::new()) };
    let all = none.clone().and(Some(&deny(&["chmod", "bpf"]))).and(Some(&deny(&["bpf", "acct"])));
    assert_eq!((all.level, all.denied.as_slice()), (Level::Default, &["acct", "bpf", "chmod"][..]));
    let plan = compile(&all, Hooks::Judge);
    let denied: Vec<&str> =
        plan.closed.iter().filter(|closed| closed.group == DENIED).map(|closed| closed.what.call()).collect();
    assert_eq!(denied, all.denied);
    assert_eq!(none.clone().and(Some(&Syscalls::Off)).level, Level::Off);
    assert_eq!(none.clone().and(None).level, Level::Default);
    assert_eq!(all.clone().and(Some(&Syscalls::Strict)).level, Level::Strict);
    assert!(all.is_as_strict_as(&none) && !none.is_as_strict_as(&all));
    assert!(!all.is_as_strict_as(&none.and(Some(&Syscalls::Strict))));
}

#[test]
fn the_filter_alone_holds_what_no_word_is_left_over_of() {
    use Alone::{Nothing, Partly, Whole};
    let whole = |architecture| {
        KERNEL.into_iter().filter(move |word| alone(word, architecture) == Whole).collect::<Vec<_>>()
    };
    let held =
        ["mount", "userns", "chroot", "setns", "bpf", "perf", "modules", "keyrings", "io-uring", "clock"];
    for architecture in Architecture::ALL {
        assert_eq!(whole(architecture), held);
        for word in ["ptrace-own", "ptrace-any", "signal-outside"] {
            assert!(matches!(alone(word, architecture), Partly(_)), "{word}");
        }
        assert!(matches!(alone("sysctl-write", architecture), Nothing(_)));
        assert_eq!(alone("no-such-word", architecture), Nothing("all of it"));
    }
    // Ports are x86's.
    assert!(matches!(alone("raw-devices", Architecture::X86_64), Partly(_)));
    assert!(matches!(alone("raw-devices", Architecture::Aarch64), Nothing(_)));
    let words: Vec<&str> = words(Hooks::Missing).collect();
    assert!(words.contains(&"mount") && words.contains(&"bpf") && !words.contains(&"sysctl-write"));
}

#[test]
fn a_list_with_a_fault_is_none() {
    let faulty = [
        ("closed: [{ group: g, why: \"w\", calls: { opnat: \"x\" } }]\n", "no system call `opnat`"),
        ("closed: [{ group: g, why: \"w\", opened_by: [mounts] }]\n", "no word of `kernel` `mounts`"),
        ("closed: [{ group: g, only: sometimes }]\n", "unknown place"),
        ("closed: [{ group: g, colls: { acct: \"x\" } }]\n", "unknown key `colls`"),
        (
            "closed: [{ group: g, arguments: [{ call: ioctl, argument: 9, is: \"1\", why: \"x\" }] }]\n",
            "needs",
        ),
        (
            "closed: [{ group: g, arguments: [{ call: ioctl, argument: 1, is: \"1g\", why: \"x\" }] }]\n",
            "no number",
        ),
        ("closed: [{ group: g, sockets: [{ kind: \"1\", why: \"x\" }] }]\n", "needs `family`"),
        ("strict: [{ group: g, calls: [opnat] }]\n", "no system call"),
        ("left_open: { opnat: \"x\" }\n", "no system call"),
        ("remains: { everything: \"x\" }\n", "no word"),
        ("other: []\n", "unknown key `other`"),
        ("closed: {}\n", "no list"),
    ];
    for (text, fault) in faulty {
        let found = data::read(text).unwrap_err();
        assert!(found.contains(fault), "{text}: {found}");
    }
}
