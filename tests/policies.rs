//! `sandbox policy`: right and wrong policies, and what they decide. Needs no privilege.

use std::fs;

use sandbox_tests::scene::{Scene, finish};

const POLICY: &str = r#"
version: 1
name: repo
files:
  default: allow
  rules:
    - name: no-keys
      deny: [read]
      path: ["${WORKSPACE}/secret/**", "**/*.pem"]
      because: keys stay here
    - { name: no-core, deny: [create], path: ["**/core"], mode: audit }
exec:
  default: allow
  rules:
    - { name: no-wget, deny: [run], path: ["**/wget"] }
network:
  default: deny
  rules:
    - { name: api, allow: [connect], to: ["10.0.0.0/8:443/tcp"], by: ["/usr/bin/curl"] }
    - { name: names, allow: [send], to: ["10.0.0.1:53/udp"] }
"#;

/// The answer of `sandbox policy ARGS…` in the scene's directory, and its status.
fn ask(scene: &Scene, args: &[&str]) -> (i32, String, String) {
    let done = finish(scene.sandbox(["policy"].iter().chain(args)));
    (done.code(), done.stdout, done.stderr)
}

fn scene() -> Scene {
    let scene = Scene::new();
    fs::write(scene.work().join("repo.yaml"), POLICY).expect("the scene is set");
    fs::create_dir(scene.work().join("secret")).expect("the scene is set");
    fs::write(scene.work().join("secret/key"), "").expect("the scene is set");
    std::os::unix::fs::symlink("secret/key", scene.work().join("link")).expect("the scene is set");
    scene
}

#[test]
fn a_right_policy_says_what_would_not_be_held() {
    let scene = scene();
    let (code, stdout, stderr) = ask(&scene, &["check", "repo.yaml"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.starts_with("repo.yaml: `repo` is right: 5 rules"), "{stdout}");
    assert!(!stdout.contains("refuses to start"), "{stdout}");
    fs::write(
        scene.work().join("more.yaml"),
        format!("{POLICY}syscalls: strict\nobserve: {{ fold: true }}\nlimits: {{ time: 2h }}\n"),
    )
    .unwrap();
    let (code, stdout, _) = ask(&scene, &["check", "more.yaml"]);
    assert!(code == 0 && stdout.contains("section `repo/observe` sets something"), "{stdout}");
    assert!(!stdout.contains("syscalls"), "the filter holds it: {stdout}");
    assert!(!stdout.contains("limits"), "the time is limited by the runner itself: {stdout}");
}

#[test]
fn doubts_are_told_and_count_where_asked() {
    let scene = scene();
    let doubtful =
        "version: 1\nname: d\nfiles: { default: allow, rules: [{ name: x, allow: [read], path: [/x] }] }\n";
    fs::write(scene.work().join("doubtful.yaml"), doubtful).unwrap();
    let (code, stdout, stderr) = ask(&scene, &["check", "doubtful.yaml"]);
    assert_eq!(code, 0);
    assert!(stdout.contains("is right"), "{stdout}");
    assert!(stderr.starts_with("doubtful.yaml:3:42: warning: rule `d/x` changes nothing"), "{stderr}");
    assert_eq!(ask(&scene, &["check", "--strict", "doubtful.yaml"]).0, 1);
    assert_eq!(ask(&scene, &["check", "--strict", "repo.yaml"]).0, 0);
    let failing = format!("{doubtful}examples:\n  - {{ open: /x, access: read, verdict: deny }}\n");
    fs::write(scene.work().join("failing.yaml"), failing).unwrap();
    let (code, _, stderr) = ask(&scene, &["check", "failing.yaml"]);
    assert!(code == 1 && stderr.contains("failing.yaml:5:5: the policy says allow"), "{stderr}");
}

#[test]
fn a_rule_through_a_link_is_shown_with_its_target() {
    let scene = scene();
    let text = "version: 1\nname: l\nfiles: { default: allow, rules: [{ name: x, deny: [read], path: [\"${WORKSPACE}/link\"] }] }\n";
    fs::write(scene.work().join("linked.yaml"), text).unwrap();
    let shown = ask(&scene, &["show", "linked.yaml"]).1;
    let key = scene.work().canonicalize().unwrap().join("secret/key");
    assert!(shown.contains(&format!("\"{}\"", key.display())), "{shown}");
    let (code, _, stderr) = ask(&scene, &["check", "--strict", "linked.yaml"]);
    assert!(code == 0 && stderr.contains("linked.yaml:3:42: note: rule `l/x`"), "{stderr}");
}

#[test]
fn every_wrong_policy_is_told_and_the_right_ones_are_checked() {
    let scene = scene();
    fs::write(scene.work().join("a.yaml"), "version: 1\nname: a\nfiless: {}\nexec: { default: alow }\n")
        .unwrap();
    let (code, stdout, stderr) = ask(&scene, &["check", "a.yaml", "missing.yaml", "repo.yaml"]);
    assert_eq!(code, 1);
    for text in ["a.yaml:3:1", "a.yaml:4:18", "missing.yaml"] {
        assert!(stderr.contains(text), "{text} in {stderr}");
    }
    assert!(stdout.contains("`repo` is right"), "{stdout}");
}

#[test]
fn what_is_shown_is_the_same_policy() {
    let scene = scene();
    let (code, shown, _) = ask(&scene, &["show", "repo.yaml"]);
    assert_eq!(code, 0);
    let workspace = scene.work().canonicalize().unwrap();
    assert!(shown.contains(&format!("\"{}/secret/**\"", workspace.display())), "{shown}");
    fs::write(scene.work().join("again.yaml"), &shown).unwrap();
    assert_eq!(ask(&scene, &["show", "again.yaml"]).1, shown);
}

#[test]
fn attempts_are_judged_with_rule_and_reason() {
    let scene = scene();
    let eval = |args: &[&str]| ask(&scene, &[&["eval", "repo.yaml"], args].concat());
    let cases: &[(&[&str], i32, &[&str])] = &[
        (
            &["--open", "secret/key"],
            1,
            &["deny: read ", "by repo/no-keys", "because keys stay here", "held by lsm"],
        ),
        (&["--open", "link"], 1, &["secret/key", "by repo/no-keys"]),
        (&["--open", "secret/key", "--access", "write"], 0, &["allow: write", "by repo/files.default"]),
        (&["--open", "/a/b.pem", "--access", "write,read"], 1, &["deny: read, write /a/b.pem"]),
        (&["--open", "/a/core", "--access", "create"], 0, &["allow", "on trial: deny by repo/no-core"]),
        (&["--run", "/opt/wget"], 1, &["deny: run /opt/wget", "by repo/no-wget"]),
        (&["--connect", "10.1.2.3:443"], 1, &["deny: connect 10.1.2.3 port 443 tcp", "repo/network.default"]),
        (
            &["--connect", "10.1.2.3:443", "--by", "/usr/bin/curl"],
            0,
            &["allow", "by repo/api", "held by lsm"],
        ),
        (&["--connect", "10.1.2.3:443/udp", "--by", "/usr/bin/curl"], 1, &["deny"]),
        (&["--send", "10.0.0.1:53/udp"], 0, &["allow: send", "by repo/names"]),
    ];
    for (args, code, says) in cases {
        let (found, stdout, stderr) = eval(args);
        assert_eq!((found, stderr.as_str()), (*code, ""), "{args:?}: {stdout}");
        for text in *says {
            assert!(stdout.contains(text), "{args:?}: {text} in {stdout}");
        }
    }
}

#[test]
fn what_cannot_be_judged_is_an_error() {
    let scene = scene();
    fs::write(scene.work().join("wrong.yaml"), "version: 1\n").unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["eval", "repo.yaml"], "nothing to judge"),
        (&["eval", "repo.yaml", "--open", "x", "--access", "look"], "look"),
        (&["eval", "repo.yaml", "--connect", "example.com"], "10.2.3.4:443"),
        (&["eval", "repo.yaml", "--connect", "10.0.0.1:1/sctp"], "sctp"),
        (&["eval", "repo.yaml", "--open", "x", "--run", "y"], "--run"),
        (&["eval", "wrong.yaml", "--open", "x"], "wrong.yaml:1:1"),
        (&["show", "missing.yaml"], "missing.yaml"),
    ];
    for (args, says) in cases {
        let (code, stdout, stderr) = ask(&scene, args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {says} in {stderr}");
    }
}
