//! Places that are denied inside of what is open, covered by mounts of the run's own: each attempt with its errno, its
//! record and its control; for root inside as for somebody else.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

const NEEDS: &[Need<'_>] = &[Need::Trace, Need::Program("python3")];

const LAYERS: [&str; 2] = ["--layers", "trace,landlock,mountns"];

fn policy(scene: &Scene, more: &str) -> String {
    let work = scene.work();
    let work = work.display();
    format!(
        "version: 1
name: p
files:
  default: deny
  rules:
    - {{ name: open, allow: [load, attributes], path: [\"/**\"] }}
    - {{ name: system, allow: [read], path: [\"/usr/**\", \"/etc/**\", \"/lib/**\", \"/lib64/**\"] }}
    - {{ name: work, allow: [read, write, create, delete], path: [\"{work}/**\"] }}
    - {{ name: devices, allow: [read, write], path: [\"/dev/null\", \"/dev/urandom\"] }}
    - {{ name: git, deny: [write, create, delete, attributes], path: [\"{work}/.git/{{config,hooks/**}}\"] }}
    - {{ name: env, deny: [all], path: [\"{work}/.env\", \"{work}/private/**\"], because: it holds passwords }}
{more}exec: {{ default: allow }}
network: {{ default: allow }}
kernel: {{ allow: [ptrace-own] }}
"
    )
}

/// A scene with a repository that is open to everybody.
fn scene() -> Scene {
    let scene = Scene::new();
    let work = scene.work();
    let open = |path: &str, mode: u32| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(work.join(path), permissions).expect("chmod");
    };
    for directory in [".git", ".git/hooks", "private", "free"] {
        fs::create_dir(work.join(directory)).expect("a directory");
        open(directory, 0o777);
    }
    for file in [".git/config", ".git/HEAD", ".git/hooks/sample", ".env", "private/key", "free/file"] {
        fs::write(work.join(file), "text").expect("a file");
        open(file, 0o666);
    }
    open(".", 0o777);
    scene
}

fn enforced(scene: &Scene, policy: &str, options: &[&str], script: &str) -> Done {
    fs::write(scene.path("policy.yaml"), policy).expect("a policy");
    let mut command = scene.sandbox(["run", "-q"]);
    command.args(options).arg("--enforce").arg(scene.path("policy.yaml"));
    command.args(["--", "python3", "-I", "-c", script]);
    finish(command)
}

/// Prints for each attempt its name and 0, the errno, or what was read where it is not what was there.
const ATTEMPTS: &str = r#"
import errno, os
def attempt(name, act):
    try:
        found = act()
        print(name, 0 if found in (None, "text") else repr(found))
    except OSError as error:
        print(name, errno.errorcode[error.errno])
def read(path):
    with open(path) as file:
        return file.read()
def touch(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
def away(path):
    os.rename(path, path + "-2")
    os.rename(path + "-2", path)
def again(path):
    text = open(path).read() if os.path.isfile(path) else None
    os.unlink(path)
    open(path, "w").write(text)
here = os.getcwd()
for name, path in [("relative", ""), ("absolute", here + "/"), ("by proc", "/proc/self/cwd/")]:
    attempt(name + " write config", lambda: os.close(os.open(path + ".git/config", os.O_WRONLY)))
    attempt(name + " read config", lambda: read(path + ".git/config"))
    attempt(name + " create hook", lambda: touch(path + ".git/hooks/new"))
    attempt(name + " read env", lambda: read(path + ".env"))
    attempt(name + " read key", lambda: read(path + "private/key"))
    attempt(name + " write HEAD", lambda: touch(path + ".git/HEAD"))
attempt("chmod config", lambda: os.chmod(".git/config", 0o666))
attempt("times of config", lambda: os.utime(".git/config"))
attempt("replace config", lambda: os.rename(".git/HEAD", ".git/config"))
attempt("unlink env", lambda: again(".env"))
attempt("rename hooks", lambda: away(".git/hooks"))
attempt("rename git", lambda: away(".git"))
attempt("rename free", lambda: away("free"))
attempt("link env", lambda: os.link(".env", "free/env"))
attempt("unlink free", lambda: again("free/file"))
"#;

fn results(done: &Done) -> BTreeMap<String, String> {
    let line = |line: &str| line.rsplit_once(' ').map(|(name, code)| (name.to_owned(), code.to_owned()));
    done.stdout.lines().filter_map(line).collect()
}

#[test]
fn what_lies_inside_of_what_is_open_is_covered() {
    if !met("covers", NEEDS) {
        return;
    }
    for user in ["nobody", "root"] {
        let scene = scene();
        let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("the mounts").lines().count();
        let before = mounts();
        let options = ["--user", user, LAYERS[0], LAYERS[1]];
        let done = enforced(&scene, &policy(&scene, ""), &options, ATTEMPTS).expect(0);
        let found = results(&done);
        let of = |name: &str| found.get(name).map_or("?", String::as_str);
        // Root may read everything, and reads something empty.
        let hidden = if user == "root" { "''" } else { "EACCES" };
        let beneath = if user == "root" { "ENOENT" } else { "EACCES" };
        for way in ["relative", "absolute"] {
            for (act, code) in [
                ("write config", "EROFS"),
                ("read config", "0"),
                ("create hook", "EROFS"),
                ("read env", hidden),
                ("read key", beneath),
                ("write HEAD", "0"),
            ] {
                assert_eq!(
                    of(&format!("{way} {act}")),
                    code,
                    "{user}: {way} {act}\n{}{}",
                    done.stdout,
                    done.stderr
                );
            }
        }
        for (act, code) in [
            ("chmod config", "EROFS"),
            ("times of config", "EROFS"),
            ("replace config", "EXDEV"),
            ("unlink env", "EBUSY"),
            ("rename hooks", "EBUSY"),
            ("rename git", "EBUSY"),
            ("rename free", "0"),
            ("link env", "EXDEV"),
            ("unlink free", "0"),
        ] {
            let found = of(act);
            // Of two reasons the kernel may give either.
            let also = ["unlink env", "replace config"].contains(&act)
                && ["EACCES", "EBUSY", "EXDEV"].contains(&found);
            assert!(found == code || also, "{user}: {act}: {found}, not {code}\n{}", done.stdout);
        }
        // Outside nothing was changed, and nothing is mounted.
        for file in [".env", "private/key", ".git/config", ".git/hooks/sample"] {
            assert_eq!(fs::read_to_string(scene.work().join(file)).expect("it is there"), "text", "{file}");
        }
        assert!(!scene.work().join(".git/hooks/new").exists());
        assert_eq!(mounts(), before);
        finish(scene.audit_verify(["--strict", "last"])).expect(0);
        let log = Log::of_run(&scene.run());
        let blocked = |rule: &str, layer: &str| {
            log.records().any(|(_, record)| {
                record.text("action") == Some("BLOCKED")
                    && record.text("policy_rule") == Some(rule)
                    && record.text("layer") == Some(layer)
            })
        };
        assert!(blocked("p/git", "mountns"), "{user}");
        assert!(user == "root" || blocked("p/env", "landlock"), "{user}");
    }
    // The control: nothing of it is denied where there is no policy.
    let scene = scene();
    let free = finish(scene.command("python3", ["-I", "-c", ATTEMPTS]));
    assert!(results(&free).values().all(|code| code == "0"), "{}", free.stdout);
}

#[test]
fn the_record_and_the_policy_are_covered() {
    if !met("covers of the record", NEEDS) {
        return;
    }
    let scene = scene();
    // The command's user owns the file of the policy: outside it may change it, inside it may not.
    fs::write(scene.path("policy.yaml"), "").expect("a file");
    std::os::unix::fs::chown(scene.path("policy.yaml"), Some(65534), None).expect("chown");
    let top = scene.path("");
    let rules = format!(
        "    - {{ name: all, allow: [read, write, create, delete], path: [\"{}**\"] }}\n",
        top.display()
    );
    for user in ["nobody", "root"] {
        let script = format!(
            "{}\nTOP = {:?}\nattempt('policy', lambda: open(TOP + 'policy.yaml', 'a').close())\n\
             attempt('mode', lambda: os.chmod(TOP + 'policy.yaml', 0o600))\n\
             attempt('store', lambda: touch(TOP + 'store/new'))\n\
             attempt('runs', lambda: os.rename(TOP + 'store', TOP + 'other'))\n\
             attempt('beside', lambda: touch(TOP + 'work/new'))\n",
            ATTEMPTS.split("here = ").next().expect("its functions"),
            top.display().to_string()
        );
        let options = ["--user", user, LAYERS[0], LAYERS[1]];
        let done = enforced(&scene, &policy(&scene, &rules), &options, &script).expect(0);
        let found = results(&done);
        for (act, codes) in [
            ("policy", ["EROFS", "EROFS"]),
            ("mode", ["EROFS", "EROFS"]),
            ("store", ["EROFS", "EACCES"]),
            ("runs", ["EBUSY", "EACCES"]),
            ("beside", ["0", "0"]),
        ] {
            assert!(codes.contains(&found[act].as_str()), "{user}: {act}\n{}{}", done.stdout, done.stderr);
        }
    }
}

#[test]
fn what_cannot_be_covered_is_refused() {
    if !met("covers refuse", NEEDS) {
        return;
    }
    let scene = scene();
    let work = scene.work();
    let work = work.display();
    let options = ["--user", "nobody", LAYERS[0], LAYERS[1]];
    let refused = |more: &str, why: &str| {
        let done = enforced(&scene, &policy(&scene, more), &options, "print('started')").expect(125);
        assert!(done.stderr.contains(why) && done.stdout.is_empty(), "{more}\n{}", done.stderr);
    };
    // It is not there, and the command could make it.
    refused(
        &format!("    - {{ name: absent, deny: [create], path: [\"{work}/absent/**\"] }}\n"),
        "rule `p/absent` denies `create`",
    );
    // Files that are made later have no name yet.
    refused("    - { name: later, deny: [read], path: [\"**/.env\"] }\n", "rule `p/later` denies `read`");
    fs::hard_link(scene.work().join("free/file"), scene.work().join("free/other")).expect("a link");
    refused(
        &format!("    - {{ name: linked, deny: [read], path: [\"{work}/free/file\"] }}\n"),
        "rule `p/linked` denies `read`",
    );
    // Without the layer the rules are not held, and with it they are.
    fs::remove_file(scene.work().join("free/other")).expect("it goes");
    let without = ["--user", "nobody", "--layers", "trace,landlock"];
    let done = enforced(&scene, &policy(&scene, ""), &without, "print('started')").expect(125);
    assert!(done.stderr.contains("rule `p/env` denies"), "{}", done.stderr);
    enforced(&scene, &policy(&scene, ""), &options, "print('started')").expect(0);
}
