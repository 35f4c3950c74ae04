//! What the runner executes or reads outside of a run while it goes on is not the run's to change: the programs of
//! `--anchor-cmd`, and the file of `--baseline`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sandbox_tests::closed::Closed;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Scene, finish};

/// Opens each for writing, tries to replace it, and says what came of it.
const CHANGE: &str = sandbox_tests::attempts!(
    r#"
import os, sys
def again(path):
    text = open(path).read()
    os.unlink(path)
    open(path, "w").write(text)
for name in sys.argv[1:]:
    attempt(name + " write", lambda: os.close(os.open(name, os.O_WRONLY)))
    attempt(name + " replace", lambda: again(name))
"#
);

#[test]
fn what_is_executed_outside_is_not_changed_inside() {
    if !met("what the runner executes outside", &[Need::Trace, Need::Program("python3")]) {
        return;
    }
    for user in ["nobody", "root"] {
        for guarded in [true, false] {
            let scene = Scene::new();
            let work = scene.work();
            fs::set_permissions(&work, fs::Permissions::from_mode(0o777)).expect("chmod");
            let anchor = work.join("anchor.sh");
            let seen = scene.path("heads");
            fs::write(&anchor, format!("cat >> {}\n", seen.display())).expect("a script");
            fs::write(work.join("other.sh"), "true\n").expect("a script");
            for name in ["anchor.sh", "other.sh"] {
                fs::set_permissions(work.join(name), fs::Permissions::from_mode(0o666)).expect("chmod");
            }
            let policy = Closed { work: Some(&work), ..Closed::default() }.policy();
            fs::write(scene.path("policy.yaml"), policy).expect("a policy");
            let mut command = scene.sandbox(["run", "-q", "--user", user]);
            command.args(["--layers", "trace,landlock,mountns", "--enforce"]).arg(scene.path("policy.yaml"));
            if guarded {
                command.arg("--anchor-cmd").arg(format!("sh {}", anchor.display()));
            }
            command.args(["--", "python3", "-I", "-c", CHANGE, "anchor.sh", "other.sh"]);
            let done = finish(command).expect(0);
            let found = done.results();
            let answers = if guarded { ["EROFS", "EBUSY"] } else { ["0", "0"] };
            for (name, answer) in ["anchor.sh write", "anchor.sh replace"].into_iter().zip(answers) {
                assert_eq!(found[name], answer, "{user}: {name}\n{}{}", done.stdout, done.stderr);
            }
            for name in ["other.sh write", "other.sh replace"] {
                assert_eq!(found[name], "0", "{user}: {name}\n{}{}", done.stdout, done.stderr);
            }
            assert_eq!(seen.exists(), guarded, "the anchor was executed");
            let log = Log::of_run(&scene.run());
            let rules: Vec<_> =
                log.records().filter_map(|(_, line)| line.text("policy_rule").map(str::to_owned)).collect();
            assert_eq!(rules.iter().any(|rule| rule == "runner/policy"), guarded, "{user}: {rules:?}");
        }
    }
}
