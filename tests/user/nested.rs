//! Runs inside of other sandboxes: a user namespace, and a run itself.

use std::ffi::OsString;
use std::fs;

use sandbox_tests::closed::Closed;
use sandbox_tests::requirement::Need;
use sandbox_tests::scene::finish;

use crate::place::{Place, at, possible};

const NEEDS: &[Need<'_>] = &[Need::Program("unshare")];

/// `unshare -r sandbox run OPTIONS -- sh -c SCRIPT`.
fn as_root_of_a_namespace(place: &Place, options: &[&str], script: &str) -> std::process::Command {
    let sandbox = place.bin("sandbox").into_os_string();
    let words = ["-r".into(), sandbox, "run".into()].into_iter();
    let words = words.chain(options.iter().map(OsString::from));
    let words = words.chain(["--", "sh", "-c", script].map(OsString::from));
    place.command("unshare".as_ref(), words)
}

#[test]
fn the_root_of_a_user_namespace_has_what_a_user_has() {
    if !possible("runs in a user namespace", NEEDS) {
        return;
    }
    let place = Place::new();
    let done = finish(as_root_of_a_namespace(&place, &[], "id -u; cat /etc/hostname > read")).expect(0);
    assert_eq!(done.stdout, "0\n");
    assert!(done.stderr.contains("observed by notify"), "{}", done.stderr);
    place.verified().expect(0);
    assert!(!at(&place.log(), "file_open", b"/etc/hostname").is_empty());
}

#[test]
fn a_policy_holds_in_a_user_namespace() {
    if !possible("a policy in a user namespace", NEEDS) {
        return;
    }
    let place = Place::new();
    fs::write(place.work().join(".env"), "secret").expect("a file");
    fs::write(place.scene.path("outside"), "secret").expect("a file");
    let work = place.work();
    let rules = format!("- {{ name: env, deny: [all], path: [\"{}/.env\"] }}", work.display());
    let closed =
        Closed { work: Some(&work), proc: true, rules: &rules, network: "deny", ..Closed::default() };
    let policy = closed.policy();
    let file = place.scene.path("policy.yaml");
    fs::write(&file, policy).expect("a policy");
    let outside = place.scene.path("outside");
    let script = format!(
        "id -u; cat .env; cat {} && echo read; umount .env && echo uncovered; echo x > made && echo made",
        outside.display()
    );
    let options = ["--enforce", file.to_str().expect("UTF-8")];
    let done = finish(as_root_of_a_namespace(&place, &options, &script)).expect(0);
    assert_eq!(done.stdout, "0\nmade\n", "{}", done.stderr);
    assert!(done.stderr.contains("Permission denied"), "{}", done.stderr);
    place.verified().expect(0);
}

#[test]
fn one_run_inside_another_is_refused_with_the_reason() {
    if !possible("a run in a run", &[]) {
        return;
    }
    let place = Place::new();
    let sandbox = place.bin("sandbox").into_os_string();
    let inner = [sandbox, "run".into(), "--".into(), "touch".into(), "ran".into()];
    let done = place.record(inner).expect(125);
    assert!(done.stderr.contains("this process has a filter with a listener already"), "{}", done.stderr);
    assert!(!place.work().join("ran").exists());
    place.verified().expect(0);
}
