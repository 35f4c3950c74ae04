//! Places that somebody outside moves while a run starts, and places that a mount from before the run shows at another
//! path: what is denied there is denied, or the run does not start.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use sandbox_tests::closed::Closed;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

const NEEDS: &[Need<'_>] = &[Need::Trace, Need::Program("python3")];

/// How often a run is started while somebody moves what it closes.
const STARTS: usize = 8;

fn policy(scene: &Scene, more: &str) -> String {
    Closed { work: Some(&scene.work()), rules: more, ..Closed::default() }.policy()
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// A file in directories, all open to everybody.
fn file(scene: &Scene, path: &str) {
    let path = scene.work().join(path);
    let above = path.parent().expect("it is in the work directory");
    fs::create_dir_all(above).expect("directories");
    fs::write(&path, "text").expect("a file");
    open(&path, 0o666);
    above
        .ancestors()
        .take_while(|above| above.starts_with(scene.work()))
        .for_each(|above| open(above, 0o777));
}

fn enforcing(scene: &Scene, user: &str, policy: &str, script: &str) -> Command {
    fs::write(scene.path("policy.yaml"), policy).expect("a policy");
    let mut command = scene.sandbox(["run", "-q", "--user", user, "--layers", "trace,landlock,mountns"]);
    command.arg("--enforce").arg(scene.path("policy.yaml"));
    command.args(["--", "python3", "-I", "-c", script]);
    command
}

/// A script in which `attempt(NAME, ACT)` prints what came of it, or the errno's name.
macro_rules! trying {
    ($script:literal) => {
        concat!(
            r#"
import errno
def attempt(name, act):
    try:
        print(name, act() or "done")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
def read(path):
    with open(path) as file: return file.read()
"#,
            $script
        )
    };
}

/// Says that it runs, waits until nobody moves anything, and tries.
const WHEN_SETTLED: &str = trying!(
    r#"
import os, time
open("started", "w").close()
for _ in range(1200):
    if os.path.exists("settled"): break
    time.sleep(0.05)
else:
    raise SystemExit("nobody settled")
def write(path):
    with open(path, "a") as file: file.write("evil")
"#
);

/// Starts a command while `name` and `other` are exchanged again and again by whoever may, until it runs or is refused.
fn while_moving(scene: &Scene, (name, other): (&str, &str), command: Command) -> Done {
    let (here, there) = (scene.work().join(name), scene.work().join(other));
    let [started, settled] = ["started", "settled"].map(|file| scene.work().join(file));
    for file in [&started, &settled] {
        _ = fs::remove_file(file);
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) && !started.exists() {
                // A cover outside of this mount namespace keeps nobody from it.
                fs::rename(&here, &there).expect("away");
                fs::rename(&there, &here).expect("and back");
            }
            fs::write(&settled, "").expect("a file");
        });
        let done = finish(command);
        over.store(true, Ordering::Relaxed);
        done
    })
}

#[test]
fn what_is_moved_while_a_run_starts_is_never_open() {
    if !met("moved places", NEEDS) {
        return;
    }
    for user in ["nobody", "root"] {
        let scene = Scene::new();
        open(&scene.work(), 0o777);
        file(&scene, "d/secret/key");
        file(&scene, "part/.git/config");
        let work = scene.work();
        let work = work.display();
        let policy = policy(
            &scene,
            &format!(
                "    - {{ name: secret, deny: [read, write, create, delete], path: [\"{work}/d/secret/**\"] }}\n    \
                 - {{ name: git, deny: [write, create, delete], existing: [\"{work}/*/.git/config\"] }}\n"
            ),
        );
        let script = format!(
            "{WHEN_SETTLED}
for at in ['d', 'e']: attempt('secret ' + at, lambda: read(at + '/secret/key'))
for at in ['part', 'part2']: attempt('git ' + at, lambda: write(at + '/.git/config'))
"
        );
        for names in [("d", "e"), ("part", "part2")] {
            for _ in 0..STARTS {
                let done = while_moving(&scene, names, enforcing(&scene, user, &policy, &script));
                let told = format!("{user}: {names:?}\n{}{}", done.stdout, done.stderr);
                match done.code() {
                    0 => {
                        let read = done
                            .stdout
                            .lines()
                            .any(|line| line.starts_with("secret") && line.ends_with("text"));
                        assert!(!read && !done.stdout.contains("done"), "{told}");
                        let held = if user == "root" { "secret d ENOENT" } else { "secret d EACCES" };
                        assert!(
                            done.stdout.contains(held) && done.stdout.contains("git part EROFS"),
                            "{told}"
                        );
                    }
                    125 => assert!(done.stdout.is_empty() && !done.stderr.is_empty(), "{told}"),
                    _ => panic!("{told}"),
                }
                for (path, text) in [("d/secret/key", "text"), ("part/.git/config", "text")] {
                    assert_eq!(
                        fs::read_to_string(scene.work().join(path)).expect("it is there"),
                        text,
                        "{told}"
                    );
                }
            }
        }
        // Where nobody moves anything it starts, and where there is no policy all of it is open.
        fs::write(scene.work().join("settled"), "").expect("a file");
        let done = finish(enforcing(&scene, user, &policy, &script)).expect(0);
        assert!(done.stdout.contains("git part EROFS\ngit part2 ENOENT"), "{}", done.stdout);
        let free = finish(scene.command("python3", ["-I", "-c", script.as_str()])).expect(0);
        assert!(
            free.stdout.contains("secret d text") && free.stdout.contains("git part done"),
            "{}",
            free.stdout
        );
    }
}

/// In a mount namespace where the work directory is mounted at `alias`, too.
fn with_alias(scene: &Scene, command: &Command) -> Command {
    let bind = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"";
    let mut outer = scene.command("unshare", ["-m", "sh", "-c", bind]);
    outer.arg(scene.work()).arg(scene.path("alias"));
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        _ = value.map(|value| outer.env(name, value));
    }
    outer
}

/// By the path that rules name, and by the other.
const BY_BOTH: &str = trying!(
    r#"
import os
def write(path):
    os.close(os.open(path, os.O_WRONLY))
for name, top in [("own", os.getcwd()), ("alias", os.path.dirname(os.getcwd()) + "/alias")]:
    attempt(name + " read file", lambda: read(top + "/free/file"))
    attempt(name + " write file", lambda: write(top + "/free/file"))
    attempt(name + " read key", lambda: read(top + "/d/secret/key"))
    attempt(name + " write config", lambda: write(top + "/.git/config"))
"#
);

#[test]
fn another_mount_of_what_is_open_is_no_way_round() {
    if !met("aliases by mounts", &[NEEDS, &[Need::Root, Need::Program("unshare")]].concat()) {
        return;
    }
    for user in ["nobody", "root"] {
        let scene = Scene::new();
        for path in ["free/file", "d/secret/key", ".git/config"] {
            file(&scene, path);
        }
        fs::create_dir(scene.path("alias")).expect("a directory");
        chown(scene.work().join(".git/config"), Some(65534), None).expect("chown");
        let (work, alias) = (scene.work(), scene.path("alias"));
        let (work, alias) = (work.display(), alias.display());
        let rules = format!(
            "    - {{ name: secret, deny: [read, write, create, delete], path: [\"{work}/d/secret/**\"] }}\n    \
             - {{ name: git, deny: [write, create, delete], path: [\"{work}/.git/config\"] }}\n"
        );
        let run = |rules: &str, layers: &str, more: &[&str]| {
            fs::write(scene.path("policy.yaml"), policy(&scene, rules)).expect("a policy");
            let mut command = scene.sandbox(["run", "-q", "--user", user, "--layers", layers]);
            command.args(more).arg("--enforce").arg(scene.path("policy.yaml"));
            command.args(["--", "python3", "-I", "-c", BY_BOTH]);
            finish(with_alias(&scene, &command))
        };
        let all = "trace,landlock,mountns";
        let check = |done: &Done, expected: &[&str]| {
            for line in expected {
                assert!(
                    done.stdout.lines().any(|found| found == *line),
                    "{user}: {line}\n{}{}",
                    done.stdout,
                    done.stderr
                );
            }
        };
        // Nothing is allowed by the other path.
        let hidden = if user == "root" { "ENOENT" } else { "EACCES" };
        let own = ["own read file text", "own write file done", "own write config EROFS"];
        let done = run(&rules, all, &[]).expect(0);
        check(&done, &own);
        for act in ["read file", "write file", "read key", "write config"] {
            check(&done, &[&format!("alias {act} {hidden}")]);
        }
        finish(scene.audit_verify(["--strict", "last"])).expect(0);
        let log = Log::of_run(&scene.run());
        // Root is not refused what is empty; it finds nothing there.
        let blocked = log.records().any(|(_, record)| {
            record.text("action") == Some("BLOCKED") && record.text("policy_rule") == Some("p/files.default")
        });
        assert!(blocked || user == "root", "{}", done.stderr);
        // It may be read there, and what is covered stays covered.
        let read = format!("    - {{ name: alias, allow: [read], path: [\"{alias}/**\"] }}\n");
        let done = run(&format!("{rules}{read}"), all, &[]).expect(0);
        check(&done, &own);
        check(&done, &["alias read file text", "alias write file EROFS", "alias write config EROFS"]);
        check(&done, &[&format!("alias read key {hidden}")]);
        // All is allowed there: but for what is covered nothing is in the way.
        let write = format!(
            "    - {{ name: alias, allow: [read, write, create, delete], path: [\"{alias}/**\"] }}\n"
        );
        let done = run(&format!("{rules}{write}"), all, &[]).expect(0);
        check(&done, &["alias read file text", "alias write file done", "alias write config EROFS"]);
        // Where nothing can be laid over it, that is said.
        let done = run("", "trace,landlock", &["--best-effort"]).expect(0);
        check(&done, &["alias read file text"]);
        let line = format!("a mount from before this run shows {work} at {alias} too");
        assert!(done.stderr.contains("not held: ") && done.stderr.contains(&line), "{}", done.stderr);
        let done = run("", "trace,landlock", &[]).expect(125);
        assert!(done.stderr.contains(&line) && done.stdout.is_empty(), "{}", done.stderr);
    }
}
