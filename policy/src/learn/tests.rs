use super::*;
use crate::access::Access;
use crate::compile::lsm::{SetTable, compile};
use crate::error::Errors;
use crate::evaluate;

const FRAME: &str = "version: 1\nname: learned\nextends: [base@1]\nfiles: { default: deny }\n\
                     exec: { default: deny }\nnetwork: { default: deny }\n";

/// A run of a small project, each with directories and made-up names of its own.
struct Made {
    variables: Variables,
    seen: Seen,
}

fn set(words: &str) -> AccessSet {
    let known = |word: &str| Access::ALL.into_iter().find(|access| access.name() == word);
    words.split(' ').map(|word| known(word).unwrap_or_else(|| panic!("{word} is no access"))).collect()
}

fn run(index: usize) -> Made {
    let mut variables = Variables::new();
    let workspace = format!("/srv/jobs/{index}/project");
    for (name, value) in [("HOME", "/home/u"), ("TMP", "/tmp"), ("USER", "u"), ("UID", "1000")] {
        assert_eq!(variables.set(name, value), Ok(()));
    }
    assert_eq!(variables.set("RUN_DIR", "/home/u/.sandbox/runs/x"), Ok(()));
    assert_eq!(variables.set_workspace(workspace.clone()), Ok(()));
    let mut seen = Seen::default();
    let cc = b"/usr/bin/cc";
    for (accesses, path) in [
        ("read", format!("{workspace}/src/main.c")),
        ("read", format!("{workspace}/src/extra-{index}.c")),
        ("write create", format!("{workspace}/build/main.o")),
        ("read", "/usr/include/stdio.h".to_owned()),
        ("read", "/usr/lib/x86_64-linux-gnu/libc.so.6".to_owned()),
        ("read", "/etc/ld.so.cache".to_owned()),
        ("read", format!("/proc/42{index}7/maps")),
        ("write create delete", format!("/tmp/cc{index}aBxYz.s")),
        ("read write create", format!("/home/u/.cache/tool/{index}/entry")),
        ("read write create", "/home/u/.cache/tool/index".to_owned()),
    ] {
        seen.file(set(accesses), path.as_bytes(), cc, 3);
    }
    for program in ["/usr/bin/make", "/usr/bin/cc", "/usr/lib/gcc/12/cc1", "/usr/lib/gcc/12/collect2"] {
        seen.executed(program.as_bytes(), b"/usr/bin/make", 1);
    }
    seen.executed(format!("{workspace}/build/test-{index}00017").as_bytes(), b"/usr/bin/make", 1);
    let host = |name: &str, last: u8| Reach::Address {
        address: IpAddr::from([203, 0, 113, last]),
        port: 443,
        protocol: Protocol::Tcp,
        host: Some(name.to_owned()),
        own: false,
        listens: false,
    };
    seen.reached(Some(Access::Connect), host("registry.example", index as u8), b"/usr/bin/curl", 1);
    seen.reached(None, Reach::Question("registry.example".into()), b"/usr/bin/curl", 1);
    let own = |listens: bool| Reach::Address {
        address: IpAddr::from([127, 0, 0, 1]),
        port: 40_000 + index as u16,
        protocol: Protocol::Tcp,
        host: None,
        own: !listens,
        listens,
    };
    seen.reached(Some(Access::Listen), own(true), b"/usr/bin/make", 1);
    seen.reached(Some(Access::Connect), own(false), b"/usr/bin/curl", 1);
    Made { variables, seen }
}

fn learned(made: &[Made], strictness: Strictness) -> Learned {
    let frame = |made: &Made| Policy::parse("p", FRAME, &made.variables);
    let bases: Vec<Policy> =
        made.iter().map(frame).collect::<Result<_, _>>().unwrap_or_else(|e| panic!("{e}"));
    let bases: Vec<Indexed<'_>> = bases.iter().map(Indexed::new).collect();
    let runs: Vec<Run<'_>> = made
        .iter()
        .zip(&bases)
        .map(|(made, base)| Run { variables: &made.variables, base, seen: &made.seen })
        .collect();
    let options = Options { name: "learned", base: "base@1", strictness, about: &[] };
    let read = |index: usize, text: &str| -> Result<Policy, Errors> {
        Policy::parse("p", text, &made[index].variables)
    };
    learn(&runs, &options, &read).unwrap_or_else(|errors| panic!("{errors}"))
}

fn blocks(learned: &Learned, made: &Made) -> bool {
    let policy = Policy::parse("p", &learned.text, &made.variables)
        .unwrap_or_else(|e| panic!("{e}\n{}", learned.text));
    let base = Policy::parse("p", FRAME, &made.variables).unwrap_or_else(|e| panic!("{e}"));
    confidence::blocks(
        &policy,
        &Run { variables: &made.variables, base: &Indexed::new(&base), seen: &made.seen },
    )
}

#[test]
fn a_policy_allows_its_own_runs_however_strict() {
    let made: Vec<Made> = (1..6).map(run).collect();
    for strictness in [Strictness::Exact, Strictness::Balanced, Strictness::Loose] {
        let learned = learned(&made, strictness);
        for (index, made) in made.iter().enumerate() {
            assert!(!blocks(&learned, made), "{strictness:?}, run {index}:\n{}", learned.text);
        }
    }
}

#[test]
fn the_next_run_fits_and_what_no_run_did_does_not() {
    let made: Vec<Made> = (1..6).map(run).collect();
    let learned = learned(&made, Strictness::Balanced);
    for next in 6..20 {
        assert!(!blocks(&learned, &run(next)), "run {next}:\n{}", learned.text);
    }
    let attack = |change: &dyn Fn(&mut Seen)| {
        let mut next = run(6);
        change(&mut next.seen);
        blocks(&learned, &next)
    };
    assert!(attack(&|seen| seen.executed(b"/usr/bin/nc", b"/usr/bin/make", 1)));
    assert!(attack(&|seen| seen.executed(b"/tmp/dropper", b"/usr/bin/make", 1)));
    assert!(attack(&|seen| seen.file(set("read"), b"/home/u/letters/a", b"/usr/bin/cc", 1)));
    assert!(attack(&|seen| seen.file(set("write"), b"/usr/bin/cc", b"/usr/bin/cc", 1)));
    assert!(attack(&|seen| seen.reached(
        Some(Access::Connect),
        Reach::Address {
            address: IpAddr::from([198, 51, 100, 1]),
            port: 443,
            protocol: Protocol::Tcp,
            host: None,
            own: false,
            listens: false,
        },
        b"/usr/bin/curl",
        1
    )));
    assert!(learned.text.lines().count() < 60, "{}", learned.text);
    assert!(learned.confidence.is_enough(), "{:?}", learned.confidence);
}

#[test]
fn what_the_base_denies_is_left_out_and_told() {
    let mut made: Vec<Made> = (1..3).map(run).collect();
    made[0].seen.file(set("read"), b"/home/u/.ssh/id_ed25519", b"/usr/bin/ssh", 2);
    let learned = learned(&made, Strictness::Loose);
    let left: Vec<String> = learned.left_out.iter().map(|left| left.line(2)).collect();
    let [left] = left.as_slice() else { panic!("{left:?}") };
    assert!(
        left.starts_with("read ${HOME}/.ssh/id_ed25519 (2 times in 1 of 2 runs; ssh): base/credentials"),
        "{left}"
    );
    let policy = Policy::parse("p", &learned.text, &made[0].variables).unwrap_or_else(|e| panic!("{e}"));
    let verdict = evaluate::file(&policy, Access::Read.into(), b"/home/u/.ssh/id_ed25519");
    assert_eq!(verdict.decision, Decision::Deny);
    assert!(learned.text.contains("base/credentials"));
}

#[test]
fn the_same_runs_give_the_same_bytes() {
    let texts = [(); 3].map(|()| learned(&(1..5).map(run).collect::<Vec<_>>(), Strictness::Balanced).text);
    assert!(texts.iter().all(|text| text == &texts[0]));
}

#[test]
fn a_file_that_is_renamed_into_a_tree_of_programs_may_be_one_before() {
    let mut made: Vec<Made> = (1..4).map(run).collect();
    for (index, made) in made.iter_mut().enumerate() {
        let new = format!("/srv/jobs/{}/project/build/test-{}00017", index + 1, index + 1);
        let old = format!("/srv/jobs/{}/project/stage/made", index + 1);
        made.seen.file(set("write create delete"), old.as_bytes(), b"/usr/bin/cc", 1);
        made.seen.renamed(old.as_bytes(), new.as_bytes(), false);
    }
    let learned = learned(&made, Strictness::Balanced);
    assert!(made.iter().all(|made| !blocks(&learned, made)), "{}", learned.text);
    assert!(learned.text.contains("${WORKSPACE}/stage"), "{}", learned.text);
}

#[test]
fn who_alone_reaches_a_host_is_named() {
    let mut made: Vec<Made> = (1..6).map(run).collect();
    let variables = made[0].variables.clone();
    let reaches = |text: &str, exe: &[u8]| {
        let policy = Policy::parse("p", text, &variables).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let name = ["registry.example"];
        let end = End::Address {
            address: IpAddr::from([203, 0, 113, 9]),
            port: 443,
            protocol: Protocol::Tcp,
            names: &name,
            owner: Owner::Elsewhere,
        };
        let act = Act::Network { accesses: Access::Connect.into(), end };
        let verdict = evaluate::judge(&policy, &Subject { exe, ancestors: &[] }, &act);
        verdict.decision == Decision::Allow
            && matches!(question(&policy, "registry.example"), Some(Base::Allows))
    };
    for (strictness, alone) in
        [(Strictness::Exact, true), (Strictness::Balanced, true), (Strictness::Loose, false)]
    {
        let text = learned(&made, strictness).text;
        assert!(reaches(&text, b"/usr/bin/curl"), "{text}");
        assert_eq!(!reaches(&text, b"/usr/bin/python3"), alone, "{strictness:?}:\n{text}");
        assert_eq!(text.contains("name: hosts-of-curl"), alone, "{text}");
    }
    // Once is no habit.
    let once = learned(&made[..1], Strictness::Balanced).text;
    assert!(reaches(&once, b"/usr/bin/python3"), "{once}");
    let host = |seen: &mut Seen, by: &[u8]| {
        let end = Reach::Address {
            address: IpAddr::from([203, 0, 113, 1]),
            port: 443,
            protocol: Protocol::Tcp,
            host: Some("registry.example".to_owned()),
            own: false,
            listens: false,
        };
        seen.reached(Some(Access::Connect), end, by, 1);
    };
    host(&mut made[3].seen, b"/srv/jobs/4/project/build/tool");
    let both = learned(&made, Strictness::Balanced);
    assert!(reaches(&both.text, b"/usr/bin/python3"), "{}", both.text);
    assert!(made.iter().all(|made| !blocks(&both, made)), "{}", both.text);
}

#[test]
fn hosts_of_one_operator_become_its_group() {
    let reached = |hosts: &[&str], strictness| {
        let mut made: Vec<Made> = (1..6).map(run).collect();
        for (index, made) in made.iter_mut().enumerate() {
            let end = Reach::Address {
                address: IpAddr::from([203, 0, 113, 80]),
                port: 443,
                protocol: Protocol::Tcp,
                host: Some(hosts[index % hosts.len()].to_owned()),
                own: false,
                listens: false,
            };
            made.seen.reached(Some(Access::Connect), end, b"/usr/bin/git", 1);
        }
        let learned = learned(&made, strictness);
        assert!(made.iter().all(|made| !blocks(&learned, made)), "{}", learned.text);
        let policy = Policy::parse("p", &learned.text, &made[0].variables).unwrap_or_else(|e| panic!("{e}"));
        let opens = |host: &str| matches!(question(&policy, host), Some(Base::Allows));
        let others = ["ssh.github.com", "api.openai.com"].map(opens);
        (learned.text, others)
    };
    let two = ["github.com", "objects.githubusercontent.com"];
    let (text, others) = reached(&two, Strictness::Balanced);
    assert!(text.contains("\"@github\"") && text.contains("hosts of one operator"), "{text}");
    assert!(!text.contains("githubusercontent"), "{text}");
    assert_eq!(others, [true, false], "{text}");
    let (text, others) = reached(&two, Strictness::Exact);
    assert!(text.contains("objects.githubusercontent.com:443/tcp"), "{text}");
    assert_eq!(others, [false, false], "{text}");
    // One is not enough, nor are two names of one entry.
    let same = ["raw.githubusercontent.com", "objects.githubusercontent.com"];
    for hosts in [&two[..1], &same] {
        let (text, others) = reached(hosts, Strictness::Balanced);
        assert_eq!((text.contains("@github"), others), (false, [false, false]), "{text}");
        let (text, others) = reached(hosts, Strictness::Loose);
        assert_eq!((text.contains("@github"), others), (true, [true, false]), "{text}");
    }
    // Who needs two models' hosts needs no third.
    let (text, others) = reached(&["api.anthropic.com", "claude.ai"], Strictness::Loose);
    assert_eq!((text.contains("@model-apis"), others), (false, [false, false]), "{text}");
}

#[test]
fn groups_of_one_operator_ship() {
    let shipped = crate::groups::shipped();
    assert!(hosts::OF_ONE_OPERATOR.iter().all(|name| shipped.contains_key(*name)), "{shipped:?}");
}

#[test]
fn a_directory_that_moves_may_be_at_either_name_what_it_is_at_the_other() {
    let mut made: Vec<Made> = (1..6).map(run).collect();
    let names: Vec<_> = ["Hw3kQz", "0aVfXr", "pLm9Tc", "Zx2YbN", "kk8Rse"]
        .iter()
        .enumerate()
        .map(|(index, end)| {
            let workspace = format!("/srv/jobs/{}/project", index + 1);
            (format!("{workspace}/target{end}"), format!("{workspace}/target"))
        })
        .collect();
    for (made, (old, new)) in made.iter_mut().zip(&names) {
        let cargo = b"/usr/bin/cargo";
        made.seen.file(set("create delete"), old.as_bytes(), cargo, 1);
        made.seen.file(set("write create"), format!("{old}/CACHEDIR.TAG").as_bytes(), cargo, 1);
        made.seen.file(set("create"), new.as_bytes(), cargo, 1);
        made.seen.executed(format!("{new}/debug/build/one-0f/script").as_bytes(), cargo, 1);
        made.seen.executed(format!("{new}/debug/deps/two-1e").as_bytes(), cargo, 1);
        made.seen.renamed(old.as_bytes(), new.as_bytes(), false);
    }
    let plan = |made: &Made, text: &str| {
        let policy = Policy::parse("p", text, &made.variables).unwrap_or_else(|e| panic!("{e}\n{text}"));
        compile(&[&policy], 0, &mut SetTable::default()).unwrap()
    };
    // Without a word that it is a directory the hooks would not let it go.
    let unaware = learned(&made, Strictness::Balanced).text;
    let (old, new) = &names[0];
    assert_eq!(plan(&made[0], &unaware).keeps_below(old.as_bytes(), new.as_bytes()), Ok(false), "{unaware}");
    for (made, (old, new)) in made.iter_mut().zip(&names) {
        made.seen.moved(old.as_bytes(), new.as_bytes(), false);
        made.seen.settle();
    }
    let learned = learned(&made, Strictness::Balanced);
    assert!(made.iter().all(|made| !blocks(&learned, made)), "{}", learned.text);
    for (made, (old, new)) in made.iter().zip(&names) {
        let plan = plan(made, &learned.text);
        assert_eq!(plan.keeps_below(old.as_bytes(), new.as_bytes()), Ok(true), "{}", learned.text);
    }
    // And another run's, with another name.
    let (old, new) = ("/srv/jobs/1/project/targetB7n2Qd", "/srv/jobs/1/project/target");
    assert_eq!(plan(&made[0], &learned.text).keeps_below(old.as_bytes(), new.as_bytes()), Ok(true));
}

#[test]
fn one_run_is_not_enough() {
    let learned = learned(&[run(1)], Strictness::Balanced);
    assert!(!learned.confidence.is_enough());
    assert!(learned.text.contains("NOT ENOUGH YET"));
}

#[test]
fn ends_are_found_among_the_targets_that_they_were_put_to() {
    let address = |last: [u8; 4], port: u16, host: Option<&str>, own: bool, listens: bool| Reach::Address {
        address: IpAddr::from(last),
        port,
        protocol: Protocol::Tcp,
        host: host.map(str::to_owned),
        own,
        listens,
    };
    let mut ends: Vec<Reach> =
        (1..5).map(|last| address([203, 0, 113, last], 443, None, false, false)).collect();
    ends.extend([
        address([198, 51, 100, 7], 80, None, false, false),
        address([198, 51, 100, 8], 80, Some("Mirror.example"), false, false),
        address([127, 0, 0, 1], 41_234, Some("localhost"), true, false),
        address([127, 0, 0, 1], 41_235, None, false, true),
        address([127, 0, 0, 1], 8080, None, false, true),
        Reach::Socket(b"@abstract".to_vec()),
        Reach::Socket(b"/run/x y".to_vec()),
        Reach::Question("other.example".to_owned()),
    ]);
    for strictness in [Strictness::Exact, Strictness::Balanced, Strictness::Loose] {
        let tally = Tally {
            accesses: Access::Connect.into(),
            count: 1,
            runs: BTreeSet::from([0]),
            ..Tally::default()
        };
        let seen = ends.iter().map(|end| (end.clone(), tally.clone())).collect();
        let (made, left) = targets(seen, strictness);
        assert_eq!(left, []);
        for end in &ends {
            let names = targets_of(end);
            assert!(
                made.iter().any(|target| names.contains(&target.text)),
                "{strictness:?}: {names:?}, {made:?}"
            );
        }
        // The name of the address does not make the run's own listener somebody else's.
        let own = if strictness == Strictness::Exact { "own:41234" } else { "own" };
        assert!(made.iter().any(|target| target.text.starts_with(own)), "{made:?}");
    }
}

#[test]
fn processes_are_opened_by_file_and_never_as_a_tree() {
    let mut made: Vec<Made> = (1..4).map(run).collect();
    for (index, made) in made.iter_mut().enumerate() {
        for name in ["maps", "cgroup", "statm", "task/4411/comm"] {
            let path = format!("/proc/77{index}1/{name}");
            made.seen.file(set("read"), path.as_bytes(), b"/usr/bin/git", 1);
        }
        made.seen.file(set("read"), b"/proc/meminfo", b"/usr/bin/git", 1);
        made.seen.file(set("read"), b"/proc/sys/vm/overcommit_memory", b"/usr/bin/git", 1);
    }
    let learned = learned(&made, Strictness::Balanced);
    let policy = Policy::parse("p", &learned.text, &made[0].variables).unwrap_or_else(|e| panic!("{e}"));
    let reads = |path: &str| evaluate::file(&policy, Access::Read.into(), path.as_bytes()).decision;
    for path in ["/proc/31337/maps", "/proc/31337/task/31338/comm", "/proc/sys/vm/overcommit_memory"] {
        assert_eq!(reads(path), Decision::Allow, "{path}\n{}", learned.text);
    }
    for path in ["/proc/31337/environ", "/proc/1/mem", "/proc/1/root/etc/shadow", "/proc/sys/kernel/x"] {
        assert_eq!(reads(path), Decision::Deny, "{path}\n{}", learned.text);
    }
}

#[test]
fn servers_of_the_run_are_its_own_whatever_they_are_called() {
    let mut made: Vec<Made> = (1..4).map(run).collect();
    for (index, made) in made.iter_mut().enumerate() {
        let end = Reach::Address {
            address: IpAddr::from([127, 0, 0, 1]),
            port: 50_000 + index as u16,
            protocol: Protocol::Tcp,
            host: Some("localhost".to_owned()),
            own: true,
            listens: false,
        };
        made.seen.reached(Some(Access::Connect), end, b"/usr/bin/python3", 1);
    }
    let learned = learned(&made, Strictness::Balanced);
    assert!(learned.text.contains("to: [\"own/tcp\"]"), "{}", learned.text);
    assert!(!learned.text.contains("localhost:5"), "{}", learned.text);
}

/// What `balanced` makes of three honest runs of which each also did `more`, as the policy of the first.
fn with(more: &dyn Fn(usize, &mut Seen)) -> (Policy, Learned) {
    let mut made: Vec<Made> = (1..4).map(run).collect();
    for (index, made) in made.iter_mut().enumerate() {
        more(index, &mut made.seen);
    }
    let learned = learned(&made, Strictness::Balanced);
    let policy = Policy::parse("p", &learned.text, &made[0].variables)
        .unwrap_or_else(|e| panic!("{e}\n{}", learned.text));
    (policy, learned)
}

fn opens(policy: &Policy, access: Access, path: &str) -> bool {
    evaluate::file(policy, access.into(), path.as_bytes()).decision == Decision::Allow
}

#[test]
fn one_file_opens_itself_and_not_what_lies_around_it() {
    let one = [
        ("/home/other/project/README", "read", "/home/other/project/.env"),
        ("/home/other/project/out", "write create", "/home/other/.bashrc"),
        ("/srv/data/set/one", "read", "/srv/data/other"),
        ("/opt/tool/share/guide", "read", "/opt/secret/key"),
        ("/etc/tool/sub/settings", "read", "/etc/tool/other"),
        ("/var/lib/tool/sub/state", "read", "/var/lib/tool/sub/other"),
        ("/home/u/.agent/projects/p/log", "write create", "/home/u/.agent/settings.json"),
        ("/home/u/.12345", "write create", "/home/u/.bash_aliases"),
        ("/home/u/.12345/a/b", "write create", "/home/u/.vscode/tasks.json"),
    ];
    for (path, accesses, beside) in one {
        let (policy, learned) = with(&|_, seen| seen.file(set(accesses), path.as_bytes(), b"/usr/bin/cc", 1));
        for access in set(accesses).iter() {
            assert!(opens(&policy, access, path), "{path}\n{}", learned.text);
            assert!(!opens(&policy, access, beside), "{path}: {beside}\n{}", learned.text);
        }
    }
    // Several show that the directory is meant; of the system's own one does.
    let several = |seen: &mut Seen, paths: &[&str]| {
        paths.iter().for_each(|path| seen.file(set("read"), path.as_bytes(), b"/usr/bin/cc", 1));
    };
    let (policy, _) = with(&|_, seen| {
        several(seen, &["/srv/data/set/one", "/srv/data/set/two", "/usr/share/tool/a/b"]);
    });
    assert!(opens(&policy, Access::Read, "/srv/data/set/three"));
    assert!(opens(&policy, Access::Read, "/usr/share/tool/c"));
    assert!(!opens(&policy, Access::Read, "/srv/other"));
    // What a program keeps may be what it does next time: changing one part of it is no leave to change all.
    let (policy, _) = with(&|_, seen| {
        for name in ["one", "two"] {
            let path = format!("/home/u/.agent/projects/{name}");
            seen.file(set("write create"), path.as_bytes(), b"/usr/bin/cc", 1);
        }
    });
    assert!(opens(&policy, Access::Write, "/home/u/.agent/projects/three"));
    assert!(!opens(&policy, Access::Write, "/home/u/.agent/settings.json"));
    // A log of each run is one of several, of which a later run removes the oldest.
    let (policy, learned) = with(&|index, seen| {
        let path = format!("/home/u/.tool/logs/2026-11-28T16_0{index}_32Z-debug.log");
        seen.file(set("write create"), path.as_bytes(), b"/usr/bin/cc", 1);
    });
    let next = "/home/u/.tool/logs/2026-12-01T10_00_00Z-debug.log";
    assert!(opens(&policy, Access::Delete, next), "{}", learned.text);
    assert!(!opens(&policy, Access::Write, "/home/u/.tool/settings"), "{}", learned.text);
}

#[test]
fn names_that_say_little_are_kept() {
    let (policy, learned) = with(&|index, seen| {
        let name = format!("/home/u/.c{}", ["AAAAA", "BBBBB", "CCCCC"][index]);
        seen.file(set("write create"), name.as_bytes(), b"/usr/bin/cc", 1);
    });
    assert!(opens(&policy, Access::Write, "/home/u/.cAAAAA"), "{}", learned.text);
    assert!(!opens(&policy, Access::Write, "/home/u/.cargo"), "{}", learned.text);
}

#[test]
fn a_host_that_is_called_like_a_word_of_targets_opens_nothing_else() {
    let connect = |policy: &Policy| {
        let end = End::Address {
            address: IpAddr::from([198, 51, 100, 9]),
            port: 443,
            protocol: Protocol::Tcp,
            names: &[],
            owner: Owner::Elsewhere,
        };
        evaluate::judge(policy, &Subject::UNKNOWN, &Act::Network { accesses: Access::Connect.into(), end })
            .decision
    };
    for name in ["any", "ANY", "own", "localhost", "*.example", "any:443"] {
        let (policy, learned) = with(&|_, seen| {
            seen.reached(None, Reach::Question(name.to_owned()), b"/usr/bin/curl", 1);
        });
        assert_eq!(connect(&policy), Decision::Deny, "{name}\n{}", learned.text);
        let told = learned.left_out.iter().any(|left| left.object == format!("the name {name}"));
        assert!(told, "{name}: {:?}", learned.left_out);
        let (policy, learned) = with(&|_, seen| {
            let end = Reach::Address {
                address: IpAddr::from([203, 0, 113, 200]),
                port: 443,
                protocol: Protocol::Tcp,
                host: Some(name.to_owned()),
                own: false,
                listens: false,
            };
            seen.reached(Some(Access::Connect), end, b"/usr/bin/curl", 1);
        });
        assert_eq!(connect(&policy), Decision::Deny, "{name}\n{}", learned.text);
        assert!(learned.text.contains("203.0.113.200:443/tcp"), "{name}\n{}", learned.text);
    }
}

#[test]
fn what_another_name_opens_of_a_credential_is_left_out() {
    for swap in [false, true] {
        let (_, learned) = with(&|_, seen| {
            seen.renamed(b"/home/u/.ssh/id_rsa", b"/srv/jobs/1/project/x", swap);
        });
        let left = learned.left_out.iter().find(|left| left.object == "${HOME}/.ssh/id_rsa");
        let left = left.unwrap_or_else(|| panic!("{:?}", learned.left_out));
        assert!(left.tally.accesses.contains(Access::Read) && left.rule.is_some(), "{left:?}");
        assert_eq!(learned.confidence.denied, 3);
        assert!(learned.text.contains("3 of 3 did what the base denies"), "{}", learned.text);
    }
    let (_, learned) =
        with(&|_, seen| seen.renamed(b"/srv/jobs/1/project/y", b"/srv/jobs/1/project/x", false));
    assert_eq!((learned.left_out.len(), learned.confidence.denied), (0, 0), "{:?}", learned.left_out);
}

#[test]
fn what_is_left_out_says_who_did_that_and_how_often() {
    let (_, learned) = with(&|_, seen| {
        seen.file(set("read"), b"/home/u/.bashrc", b"/usr/bin/git", 12);
        seen.file(set("write"), b"/home/u/.bashrc", b"/usr/bin/dash", 1);
    });
    let told: Vec<String> = learned.left_out.iter().map(|left| left.line(3)).collect();
    let line = "write ${HOME}/.bashrc (3 times in 3 of 3 runs; dash): ";
    assert!(told.iter().any(|told| told.starts_with(line)), "{told:?}");
    let read = learned.rules.iter().find(|rule| rule.body.contains(".bashrc")).map(|rule| &rule.comment);
    assert_eq!(read.map(String::as_str), Some("36 times in 3 of 3 runs; git"));
}

#[test]
fn many_that_are_left_out_are_all_in_the_head_and_invisible_ones_break_nothing() {
    let (_, learned) = with(&|_, seen| {
        for number in 0..40 {
            let path = format!("/home/u/.ssh/key-{number}\u{202e}");
            seen.file(set("read"), path.as_bytes(), "/opt/to\u{200b}ol".as_bytes(), 1);
        }
    });
    let listed = learned.text.lines().filter(|line| line.contains("/.ssh/key-")).count();
    assert_eq!(listed, 40, "{}", learned.text);
}
