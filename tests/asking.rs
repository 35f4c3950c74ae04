//! Rules that ask, where no hook judges: what asks is denied, nobody is asked, and the run says so. What waits for answers
//! is tried in guests (`vm-tests`, suite `asking`).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sandbox_tests::closed::Closed;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Scene, finish};

/// A closed world in which programs run, with a rule that asks.
fn policy(scene: &Scene) -> String {
    let secrets = scene.path("secrets");
    let keys = format!("- {{ name: keys, ask: [read], path: [\"{}/**\"], timeout: 1h }}", secrets.display());
    let work = scene.work();
    Closed { work: Some(&work), proc: true, rules: &keys, network: "deny", ..Closed::default() }.policy()
}

#[test]
fn without_hooks_what_asks_is_denied_at_once() {
    if !met("asking, without hooks", &[Need::Trace, Need::Program("python3")]) {
        return;
    }
    let scene = Scene::new();
    std::os::unix::fs::chown(scene.work(), Some(65534), Some(65534)).expect("chown");
    let secrets = scene.path("secrets");
    fs::create_dir(&secrets).expect("a directory");
    // Nothing but the policy denies anything here.
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o777)).expect("chmod");
    fs::write(secrets.join("file"), "text").expect("a file");
    fs::write(scene.work().join("open"), "text").expect("a file");
    fs::write(scene.path("policy.yaml"), policy(&scene)).expect("a policy");
    let script = format!(
        "import os\n\
         for path in ['{}', '{}']:\n\
         \x20   try:\n\
         \x20       os.close(os.open(path, os.O_RDONLY)); print(0)\n\
         \x20   except OSError as error:\n\
         \x20       print(error.errno)\n",
        secrets.join("file").display(),
        scene.work().join("open").display()
    );
    let mut command = scene.sandbox(["run", "--layers", "trace,landlock,mountns,netns", "--user", "65534"]);
    command.arg("--best-effort").arg("--ask").arg("--enforce").arg(scene.path("policy.yaml"));
    command.args(["--", "python3", "-I", "-c", &script]);
    let done = finish(command).expect(0);
    assert_eq!(done.stdout, format!("{}\n0\n", libc::EACCES), "{}", done.stderr);
    for told in ["rule `p/keys` asks: asked by nobody: denied", "nobody is asked in this run"] {
        assert!(done.stderr.contains(told), "{}", done.stderr);
    }
    // A rule that asks is no rule that nothing holds.
    assert!(!done.stderr.contains("`p/keys` asks, which no layer"), "{}", done.stderr);
    let asks = finish(scene.sandbox(["asks"])).expect(0);
    assert!(asks.stderr.contains("no question is open"), "{}", asks.stderr);
    let none = finish(scene.sandbox(["asks", "allow", "1"])).expect(1);
    assert!(none.stderr.contains("there is no open question 1"), "{}", none.stderr);
    let before = fs::read_to_string(scene.path("policy.yaml")).expect("the policy");
    let always = finish(scene.sandbox(["asks", "allow", "1", "--always"])).expect(1);
    assert!(always.stderr.contains("there is no open question 1"), "{}", always.stderr);
    assert_eq!(fs::read_to_string(scene.path("policy.yaml")).expect("the policy"), before);
    finish(scene.sandbox(["asks", "allow", "1", "--always", "--run"])).expect(2);
}

#[test]
fn a_program_that_answers_must_be_there() {
    let scene = Scene::new();
    fs::write(scene.path("policy.yaml"), policy(&scene)).expect("a policy");
    let mut command = scene.sandbox(["run", "--ask-cmd", "no-such-program", "--enforce"]);
    command.arg(scene.path("policy.yaml")).args(["--", "true"]);
    let refused = finish(command).expect(125);
    assert!(refused.stderr.contains("--ask-cmd no-such-program"), "{}", refused.stderr);
    // Without policies that hold there is nothing to ask about.
    finish(scene.sandbox(["run", "--ask", "--", "true"])).expect(125);
}
