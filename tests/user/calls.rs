//! What a record tells of single calls.

use std::os::unix::fs::PermissionsExt;

use sandbox_tests::requirement::Need;
use sandbox_tests::scene::finish;

use crate::place::{Place, at, possible};

#[test]
fn the_run_says_what_it_is() {
    if !possible("the_run_says_what_it_is", &[]) {
        return;
    }
    let place = Place::new();
    let done = place.record(["sh", "-c", "grep NoNewPrivs /proc/self/status; exit 6"]).expect(6);
    assert_eq!(done.stdout.split_ascii_whitespace().last(), Some("1"), "{}", done.stdout);
    assert!(
        done.stderr.contains("observed by notify: the command runs with no_new_privs"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("sudo -E env \"PATH=$PATH\""), "{}", done.stderr);
    let log = place.log();
    let (_, first) = log.records().next().expect("a first line");
    assert_eq!(first.text("event_type"), Some("run_start"));
    let meta = std::fs::read_to_string(place.scene.run().join("meta.json")).expect("meta.json");
    assert!(
        meta.contains("\"notify\"") && meta.contains("\"observes\"") && !meta.contains("\"trace\""),
        "{meta}"
    );
    assert_eq!(log.seal().uint("exit_code").or(log.seal().int("exit_code").map(|code| code as u64)), Some(6));
    place.verified().expect(0);
    for words in
        [vec!["runs"], vec!["view", "last"], vec!["query", "last", "--limit", "3"], vec!["key", "show"]]
    {
        let done = finish(place.sandbox(words.clone()));
        assert!(words == ["key", "show"] || done.code() == 0, "{words:?}: {}", done.stderr);
    }
    let mode = std::fs::metadata(place.scene.store()).expect("the store").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn an_execution_shows_what_came_of_it() {
    if !possible("an_execution_shows_what_came_of_it", &[]) {
        return;
    }
    let place = Place::new();
    place.odd("failed-exec").expect(0);
    let log = place.log();
    let failed = at(&log, "exec", &place.name("missing"));
    let [failed] = failed.as_slice() else { panic!("{failed:?}") };
    assert_eq!((failed.int("ret"), failed.text("reason")), (None, Some("nothing had this name")));
    let workload = place.bin("workload").into_os_string().into_encoded_bytes();
    let done = at(&log, "exec", &workload);
    let [done] = done.as_slice() else { panic!("{done:?}") };
    assert_eq!((done.int("ret"), done.bytes("exe")), (Some(0), Some(workload.as_slice())));
    let after = at(&log, "file_open", &place.name("after"));
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].bytes("exe"), Some(workload.as_slice()));
    assert_eq!(after[0].int("ret"), None, "what came of it nobody knows");
}

#[test]
fn names_lead_where_the_file_is() {
    if !possible("names_lead_where_the_file_is", &[]) {
        return;
    }
    let place = Place::new();
    place.odd("link").expect(0);
    let log = place.log();
    assert_eq!(at(&log, "file_open", &place.name("target")).len(), 2, "made, and opened through the link");
    assert_eq!(at(&log, "file_open", &place.name("link")).len(), 0);
    let missed = at(&log, "file_open", &place.name("nothing"));
    assert_eq!(missed[0].text("reason"), Some("nothing had this name"));
}

#[test]
fn descriptors_of_directories_are_followed() {
    if !possible("descriptors_of_directories_are_followed", &[]) {
        return;
    }
    let place = Place::new();
    place.odd("dirfd").expect(0);
    let log = place.log();
    assert_eq!(at(&log, "file_open", &place.name("d/one")).len(), 1);
    let renamed = at(&log, "file_rename", &place.name("d/one"));
    assert_eq!(renamed[0].bytes("path2"), Some(place.name("d/two").as_slice()));
    assert_eq!(at(&log, "file_delete", &place.name("d/two")).len(), 1);
    assert_eq!(at(&log, "file_open", &place.name("up")).len(), 1);
}

#[test]
fn threads_and_the_32_bit_table_are_seen() {
    if !possible("threads_and_the_32_bit_table_are_seen", &[]) {
        return;
    }
    let place = Place::new();
    place.odd("thread").expect(0);
    let log = place.log();
    assert_eq!(at(&log, "file_open", &place.name("from-thread")).len(), 1);

    let place = Place::new();
    let done = place.odd("compat").expect(0);
    if done.stdout.trim().parse::<i32>().is_ok_and(|result| result == -libc::ENOSYS) {
        sandbox_tests::requirement::say("skipped the 32-bit table: this kernel has none");
        return;
    }
    let log = place.log();
    assert_eq!(at(&log, "file_open", &place.name("from-compat")).len(), 1, "{}", done.stdout);
    assert!(log.records().any(|(_, record)| record.text("event_type") == Some("proc_compat")));
}

#[test]
fn a_name_that_is_too_long_is_cut_and_says_so() {
    if !possible("a_name_that_is_too_long_is_cut_and_says_so", &[]) {
        return;
    }
    let place = Place::new();
    place.odd("long").expect(0);
    let log = place.log();
    let cut =
        log.records().map(|(_, record)| record).filter(|record| record.flag("path_truncated") == Some(true));
    let cut: Vec<_> = cut.collect();
    assert_eq!(cut.len(), 1);
    assert!(cut[0].bytes("path").is_some_and(|path| path.len() > 4000));
}

#[test]
fn a_program_that_may_not_be_read_is_told_with_what_is_known() {
    if !possible("a_program_that_may_not_be_read_is_told_with_what_is_known", &[]) {
        return;
    }
    let place = Place::new();
    let closed = place.bin("workload");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o711)).expect("a mode");
    place.odd("thread").expect(0);
    assert!(place.work().join("from-thread").exists(), "it went on");
    let log = place.log();
    let reason = Some("the memory of the process cannot be read");
    let told = log.records().map(|(_, record)| record).filter(|record| record.text("reason") == reason);
    let told: Vec<_> = told.collect();
    assert!(told.iter().any(|record| record.text("event_type") == Some("file_open")), "{}", told.len());
    assert_eq!(log.seal().uint("lost"), Some(0));
    assert!(told.iter().all(|record| record.text("comm").is_some() && record.text("syscall").is_some()));
}

#[test]
fn policies_say_what_they_would_block() {
    if !possible("policies_say_what_they_would_block", &[]) {
        return;
    }
    let place = Place::new();
    let policy = place.work().join("p.yaml");
    let deny = format!(
        "version: 1\nname: p\nfiles:\n  default: allow\n  rules:\n    - {{ name: no-secret, deny: [read], path: [\"{}\"] }}\n\
         exec: {{ default: allow }}\nnetwork: {{ default: allow }}\n",
        place.work().join("secret").display()
    );
    std::fs::write(&policy, deny).expect("a policy");
    std::fs::write(place.work().join("secret"), "x").expect("a file");
    std::fs::write(place.work().join("open"), "y").expect("a file");
    let run = |mode: &str| finish(place.sandbox(["run", mode, "p.yaml", "--", "cat", "secret", "open"]));
    let done = run("--policy").expect(0);
    assert_eq!(done.stdout, "xy", "nothing is blocked");
    let log = place.log();
    let judged = at(&log, "file_open", &place.name("secret"));
    assert_eq!(judged[0].text("action"), Some("WOULD_BLOCK"));
    assert_eq!(
        (judged[0].text("policy_rule"), judged[0].text("layer")),
        (Some("p/no-secret"), Some("notify"))
    );
    assert_eq!(at(&log, "file_open", &place.name("open"))[0].text("action"), Some("ALLOWED"));
    let refused = run("--enforce").expect(125);
    assert!(refused.stderr.contains("the policy cannot be held here"), "{}", refused.stderr);
    assert_eq!(refused.stdout, "");
}

#[test]
fn doctor_knows_the_layer() {
    if !possible("doctor_knows_the_layer", &[]) {
        return;
    }
    let place = Place::new();
    let done = finish(place.sandbox(["doctor", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&done.stdout).expect("JSON");
    let layers = report["layers"].as_array().expect("layers");
    let notify = layers.iter().find(|layer| layer["name"] == "notify").expect("the layer");
    assert_eq!(notify["role"], "observes", "{notify}");
    assert_eq!(notify["selftest"][0]["result"], "held");
}

#[test]
fn a_root_without_the_programs_can_ask_for_it() {
    if !possible("a_root_without_the_programs_can_ask_for_it", &[Need::Program("cat")]) {
        return;
    }
    let place = Place::new();
    std::fs::write(place.work().join("x"), "x").expect("a file");
    let store = place.scene.path("roots-store");
    let mut command = place.scene.sandbox(["run", "--layers", "notify", "--", "cat", "x"]);
    command.env("SANDBOX_HOME", &store);
    let done = finish(command).expect(0);
    assert_eq!(done.stdout, "x");
    let run = std::fs::read_dir(store.join("runs")).expect("runs").flatten().next().expect("a run").path();
    let log = sandbox_tests::log::Log::of_run(&run);
    assert_eq!(at(&log, "file_open", &place.name("x")).len(), 1);
}
