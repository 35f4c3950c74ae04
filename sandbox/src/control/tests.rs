use policy::compile::seccomp::Hooks;
use policy::{Policies, Policy};

use super::change::{fixed_at_start, still_closed};
use super::*;

fn policy(text: &str) -> Policies {
    let text = format!("version: 1\nname: p\nfiles: {{ default: allow }}\n{text}");
    Policies::from(Policy::parse("p.yaml", &text, &Variables::new()).unwrap())
}

#[test]
fn surroundings_survive_the_way() {
    let mut variables = Variables::new();
    for (name, value) in [("HOME", "/home/a"), ("WORKSPACE", "/home/a/w"), ("RUN_DIR", "/runs/\u{1}")] {
        variables.set(name, value).unwrap();
    }
    variables.set_env(*b"BYTES", vec![0xff, b'\n', 0]);
    let text = serde_json::to_vec(&Surroundings::from(&variables)).unwrap();
    let read: Surroundings = serde_json::from_slice(&text).unwrap();
    let again = read.clone().variables();
    assert_eq!(Surroundings::from(&again), read);
    assert_eq!(again.get("WORKSPACE"), Some(&b"/home/a/w"[..]));
    assert_eq!(again.env().collect::<Vec<_>>(), [(&b"BYTES"[..], &[0xff, b'\n', 0][..])]);
}

#[test]
fn what_a_start_settles_must_stay() {
    let first = policy("kernel: { allow: [io-uring, mount] }\nenv: { drop: [A] }\n");
    let stays = policy("kernel: { allow: [io-uring] }\nenv: { drop: [A] }\nexec: { default: deny }\n");
    assert_eq!(fixed_at_start(&stays, &first, Hooks::Judge), Vec::<String>::new(), "hooks hold `mount`");
    assert_eq!(still_closed(&stays, &first, Hooks::Judge), None);
    let changes = policy("kernel: { allow: [mount, setns, bpf] }\nenv: { drop: [B] }\n");
    let fixed = fixed_at_start(&changes, &first, Hooks::Judge);
    assert_eq!(fixed.len(), 2, "{fixed:?}");
    assert!(fixed[0].contains("`env` of p") && fixed[1].contains("`io-uring`"), "{fixed:?}");
    assert!(
        still_closed(&changes, &first, Hooks::Judge).unwrap().ends_with(": setns"),
        "the filter holds it, hooks hold `bpf`"
    );
    let on_trial = Policies::from(changes.iter().next().unwrap().clone().on_trial());
    assert_eq!(
        fixed_at_start(&on_trial, &first, Hooks::Judge),
        Vec::<String>::new(),
        "what is on trial closes nothing"
    );
    // Without hooks everything is the filter's.
    let fixed = fixed_at_start(
        &policy("kernel: { allow: [io-uring] }\nenv: { drop: [A] }\n"),
        &first,
        Hooks::Missing,
    );
    assert!(fixed.len() == 1 && fixed[0].contains("`mount`"), "{fixed:?}");
    let closed = still_closed(&changes, &first, Hooks::Missing).unwrap();
    assert!(closed.contains("bpf") && closed.contains("setns"), "{closed}");
}

#[test]
fn the_filter_of_a_run_is_settled_when_it_starts() {
    let default = policy("");
    let (off, strict) = (policy("syscalls: off\n"), policy("syscalls: strict\n"));
    let deny = policy("syscalls: { deny: [chmod] }\n");
    for (stricter, first) in [(&strict, &default), (&deny, &default), (&default, &off), (&deny, &strict)] {
        let fixed = fixed_at_start(stricter, first, Hooks::Judge);
        assert!(fixed.len() == 1 && fixed[0].contains("`syscalls` of p"), "{fixed:?}");
        assert_eq!(still_closed(stricter, stricter, Hooks::Judge), None);
    }
    for (wider, first) in [(&off, &default), (&default, &strict), (&default, &deny)] {
        assert_eq!(fixed_at_start(wider, first, Hooks::Judge), Vec::<String>::new());
        let note = still_closed(wider, first, Hooks::Judge).unwrap();
        assert!(note.ends_with(": what its `syscalls` closed"), "{note}");
    }
}
