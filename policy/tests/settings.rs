//! The sections that are no rules: read, printed, inherited, and named where nothing holds them.

use std::collections::BTreeSet;

use policy::compile::lsm::{self, Held, SetTable};
use policy::settings::{Fold, Landlock, Limit, Syscalls, Tmp};
use policy::{Policy, Variables};

const ALL: &str = "version: 1
name: p
kernel: { allow: [ptrace-own, clock] }
syscalls: { deny: [bpf, perf_event_open] }
landlock: auto
tmp: private
limits: { memory: 4GiB, processes: 512, cpu: 200%, time: 90m }
env: { drop: [\"*_TOKEN\", \"AWS_*\"], keep: [\"MY_TOKEN\"], set: { CI: \"1\", NAME: \"a \\\"b\\\"\" } }
observe: { fold: true }
";

fn parse(text: &str) -> Policy {
    Policy::parse("test.yaml", text, &Variables::new()).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

#[test]
fn they_are_read_and_printed() {
    let policy = parse(ALL);
    let settings = policy.settings();
    assert_eq!(settings.kernel.as_deref(), Some(["clock", "ptrace-own"].as_slice()));
    assert_eq!(settings.syscalls, Some(Syscalls::Deny(vec!["bpf".into(), "perf_event_open".into()])));
    assert_eq!((settings.landlock, settings.fold), (Some(Landlock::Auto), Some(Fold::On)));
    assert_eq!(settings.tmp, Some(Tmp::Private));
    let limits = settings.limits.as_ref().expect("limits");
    assert_eq!((limits.memory, limits.processes, limits.cpu), (Some(4 << 30), Some(512), Some(200)));
    assert_eq!(limits.time.map(|time| time.as_secs()), Some(5400));
    let again = parse(&policy.effective_yaml());
    assert_eq!(again.settings(), settings);
    assert_eq!(again.effective_yaml(), policy.effective_yaml());
    for other in [
        "syscalls: strict\n",
        "syscalls: off\n",
        "tmp: shared\n",
        "syscalls: default\nlandlock: off\nobserve: { fold: false }\n",
    ] {
        let policy = parse(&format!("version: 1\nname: p\n{other}"));
        assert_eq!(parse(&policy.effective_yaml()).settings(), policy.settings(), "{other}");
    }
}

#[test]
fn what_nothing_holds_is_named() {
    let plan = lsm::compile(&[&parse(ALL)], 0, &mut SetTable::new()).unwrap();
    let named: Vec<String> = plan.unheld(&Held::NOTHING).iter().map(ToString::to_string).collect();
    let text = |key: &str| format!("section `p/{key}` sets something, which no layer of this run holds");
    let limit = |name: &str| format!("section `p/limits` limits `{name}`, which no layer of this run holds");
    let mut all: Vec<String> = ["observe"].map(text).into();
    all.extend(["memory", "processes", "cpu", "time"].map(limit));
    all.push("section `p/tmp` makes /tmp private, which no layer of this run holds".to_owned());
    assert_eq!(named.iter().collect::<BTreeSet<_>>(), all.iter().collect());
    let limits = [Limit::Memory, Limit::Time].into_iter().collect();
    let held = plan.unheld(&Held { limits, ..Held::NOTHING });
    let named: Vec<String> = held.iter().map(ToString::to_string).collect();
    assert!(!named.contains(&limit("memory")) && named.contains(&limit("cpu")), "{named:?}");
    let held = plan.unheld(&Held { tmp: true, ..Held::NOTHING });
    assert!(held.iter().all(|unheld| !unheld.to_string().contains("p/tmp")), "{held:?}");
    for held in ["default", "strict", "off", "{ deny: [chmod] }"] {
        let policy = parse(&format!("version: 1\nname: p\nenv: {{ drop: [\"*\"] }}\nsyscalls: {held}\n"));
        let plan = lsm::compile(&[&policy], 0, &mut SetTable::new()).unwrap();
        assert_eq!(plan.unheld(&Held::NOTHING), [], "{held}");
    }
    let off =
        parse("version: 1\nname: p\nsyscalls: off\nlandlock: off\ntmp: shared\nobserve: { fold: false }\n");
    assert_eq!(lsm::compile(&[&off], 0, &mut SetTable::new()).unwrap().unheld(&Held::NOTHING), []);
}

#[test]
fn calls_are_denied_by_names_that_are_known() {
    let read = |names: &str| {
        let text = format!("version: 1\nname: p\nsyscalls: {{ deny: [{names}] }}\n");
        Policy::parse("test.yaml", &text, &Variables::new()).map_err(|errors| errors.to_string())
    };
    let policy = read("chmod, bpf, chmod").unwrap();
    assert_eq!(policy.settings().syscalls, Some(Syscalls::Deny(vec!["bpf".into(), "chmod".into()])));
    let told = read("chmdo").unwrap_err();
    assert!(told.contains("`chmdo` is no system call of x86-64 or aarch64; write `chmod`?"), "{told}");
    let told = read("BPF").unwrap_err();
    assert!(told.contains("write `bpf`?"), "{told}");
    let told = read("frobnicate_everything").unwrap_err();
    assert!(told.contains("write its name in the manual pages"), "{told}");
    for essential in ["execve", "exit", "exit_group", "rt_sigreturn"] {
        let told = read(essential).unwrap_err();
        assert!(told.contains("is no system call that can be denied"), "{told}");
    }
}

#[test]
fn variables_are_kept_or_dropped_by_name() {
    let policy = parse(
        "version: 1\nname: p\nenv: { drop: [\"*_TOKEN\", \"AWS_*\", \"*SECRET*\", X], keep: [\"MY_*\"], set: { CI: \"1\" } }\n",
    );
    let env = policy.settings().env.as_ref().expect("env");
    for name in ["GH_TOKEN", "_TOKEN", "AWS_KEY", "AWS_", "A_SECRET_B", "SECRET", "X"] {
        assert!(!env.keeps(name.as_bytes()), "{name}");
    }
    for name in ["TOKEN", "GH_TOKENS", "MY_TOKEN", "AW", "XY", "CI", "HOME"] {
        assert!(env.keeps(name.as_bytes()), "{name}");
    }
    let none = parse("version: 1\nname: p\nenv: { drop: [\"*\"] }\n");
    assert!(!none.settings().env.as_ref().expect("env").keeps(b"HOME"));
}
