//! Places that are denied inside of what is open, covered by mounts of the run's own: each attempt with its errno, its
//! record and its control; for root inside as for somebody else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use sandbox_tests::closed::Closed;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

const NEEDS: &[Need<'_>] = &[Need::Trace, Need::Program("python3")];

const LAYERS: [&str; 2] = ["--layers", "trace,landlock,mountns"];

fn policy(scene: &Scene, more: &str) -> String {
    let work = scene.work();
    let place = work.display();
    let rules = format!(
        "- {{ name: git, deny: [write, create, delete, attributes], path: [\"{place}/.git/{{config,hooks/**}}\"] }}
- {{ name: env, deny: [all], path: [\"{place}/.env\", \"{place}/private/**\"], because: it holds passwords }}
{more}"
    );
    Closed { work: Some(&work), rules: &rules, ..Closed::default() }.policy()
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
    finish(enforcing(scene, policy, options, &[&PYTHON[..], &[script]].concat()))
}

const PYTHON: [&str; 3] = ["python3", "-I", "-c"];

fn enforcing(scene: &Scene, policy: &str, options: &[&str], words: &[&str]) -> Command {
    fs::write(scene.path("policy.yaml"), policy).expect("a policy");
    let mut command = scene.sandbox(["run", "-q"]);
    command.args(options).arg("--enforce").arg(scene.path("policy.yaml"));
    command.arg("--").args(words);
    command
}

/// To its end, with these standard descriptors; what it says goes to stderr, for stdout may be a file.
fn redirected(mut command: Command, input: Stdio, output: Stdio) -> Done {
    let done = command.stdin(input).stdout(output).stderr(Stdio::piped()).output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Done { status: done.status, stdout: text(done.stdout), stderr: text(done.stderr) }
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
        let found = done.results();
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
    assert!(free.results().values().all(|code| code == "0"), "{}", free.stdout);
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
        let found = done.results();
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

/// As a shell's program, which hands its standard input on as 3: Python wants no directory there.
const HAND_ON: [&str; 3] = ["/bin/sh", "-c", "exec python3 -I -c \"$0\" 3<&0 </dev/null"];

/// By the standard input, whatever it is, and by what `/proc/self/fd` shows of it; results go to stderr.
const BY_DESCRIPTOR: &str = r#"
import errno, os, sys
def attempt(name, act):
    try:
        found = act()
        print(name, 0 if found in (None, "text") else repr(found), file=sys.stderr)
    except OSError as error:
        print(name, errno.errorcode[error.errno], file=sys.stderr)
def touch(path):
    os.close(os.open(path, os.O_WRONLY))
def read(path):
    with open(path) as file:
        return file.read()
def execute(path):
    if os.fork() == 0:
        try:
            os.execv(path, ["tool"])
        except OSError as error:
            os._exit(error.errno)
    code = os.waitstatus_to_exitcode(os.wait()[1])
    if code:
        raise OSError(code, "")
FD = "/proc/self/fd/3"
if os.path.isdir(FD):
    for name, path in [("below", FD), ("above", FD + "/../work"), ("from the top", FD + "/.." * 20 + os.getcwd())]:
        attempt(name + " write config", lambda: touch(path + "/.git/config"))
        attempt(name + " read env", lambda: read(path + "/.env"))
        attempt(name + " write HEAD", lambda: touch(path + "/.git/HEAD"))
    attempt("list", lambda: None if ".git" in os.listdir(3) else "nothing")
else:
    attempt("read", lambda: os.read(3, 100).decode("latin-1"))
    attempt("write", lambda: touch(FD))
    attempt("mode", lambda: os.fchmod(3, 0o777))
    attempt("times", lambda: os.utime(3))
    attempt("execute", lambda: execute(FD))
"#;

fn by_descriptor(done: &Done) -> BTreeMap<String, String> {
    let line = |line: &str| line.rsplit_once(' ').map(|(name, code)| (name.to_owned(), code.to_owned()));
    done.stderr.lines().filter_map(line).collect()
}

fn input(path: &Path) -> Stdio {
    File::open(path).expect("it opens").into()
}

#[test]
fn standard_descriptors_do_not_lead_round_covers() {
    const NAME: &str = "standard descriptors and covers";
    if !met(NAME, NEEDS) {
        return;
    }
    let scene = scene();
    let work = scene.work();
    for tool in ["tool", "free/tool"] {
        fs::copy("/usr/bin/true", work.join(tool)).expect("a program");
        std::os::unix::fs::chown(work.join(tool), Some(65534), None).expect("chown");
        fs::set_permissions(work.join(tool), fs::Permissions::from_mode(0o777)).expect("chmod");
    }
    for file in [".git/config", "free/file"] {
        std::os::unix::fs::chown(work.join(file), Some(65534), None).expect("chown");
        fs::set_permissions(work.join(file), fs::Permissions::from_mode(0o777)).expect("chmod");
    }
    let policy = policy(&scene, "").replace(
        "exec: { default: allow }",
        &format!(
            "exec: {{ default: allow, rules: [{{ name: tool, deny: [run], path: [\"{}/tool\"] }}] }}",
            work.display()
        ),
    );
    let attempts = |user: Option<&str>, path: &str| {
        let path = work.join(path);
        let (command, input) = match user {
            Some(user) => {
                let options = ["--user", user, LAYERS[0], LAYERS[1]];
                (
                    enforcing(&scene, &policy, &options, &[&HAND_ON[..], &[BY_DESCRIPTOR]].concat()),
                    input(&path),
                )
            }
            None => (scene.command(HAND_ON[0], HAND_ON[1..].iter().chain(&[BY_DESCRIPTOR])), input(&path)),
        };
        let done = redirected(command, input, Stdio::null()).expect(0);
        (by_descriptor(&done), done)
    };
    let check = |user: Option<&str>, path: &str, expected: &[(&str, &str)]| {
        let (found, done) = attempts(user, path);
        for (name, code) in expected {
            let found = found.get(*name).map_or("?", String::as_str);
            assert_eq!(found, *code, "{user:?}: {path}: {name}\n{}", done.stderr);
        }
    };
    for user in ["nobody", "root"] {
        let hidden = if user == "root" { "''" } else { "EACCES" };
        check(
            Some(user),
            "",
            &[
                ("below write config", "EROFS"),
                ("below read env", hidden),
                ("below write HEAD", "0"),
                ("above write config", "EROFS"),
                ("above read env", hidden),
                ("above write HEAD", "0"),
                ("list", "0"),
            ],
        );
        check(
            Some(user),
            "free",
            &[("from the top write config", "EROFS"), ("from the top write HEAD", "0")],
        );
        check(
            Some(user),
            ".git/config",
            &[("read", "0"), ("write", "EROFS"), ("mode", "EROFS"), ("times", "EROFS")],
        );
        check(Some(user), "free/file", &[("read", "0"), ("write", "0"), ("mode", "0"), ("times", "0")]);
        check(Some(user), "tool", &[("execute", "EACCES")]);
        check(Some(user), "free/tool", &[("execute", "0")]);
    }
    // The control: where nothing is enforced each of them does what it likes.
    let all: &[(&str, &str)] = &[("read", "0"), ("write", "0"), ("mode", "0"), ("times", "0")];
    check(None, ".git/config", all);
    check(None, "free/file", all);
    check(None, "tool", &[("execute", "0")]);
    for way in ["below", "above", "from the top"] {
        check(
            None,
            "",
            &[
                (&format!("{way} write config"), "0"),
                (&format!("{way} read env"), "0"),
                (&format!("{way} write HEAD"), "0"),
            ],
        );
    }
}

#[test]
fn redirections_work_and_what_cannot_be_opened_again_is_refused() {
    const NAME: &str = "redirections and covers";
    if !met(NAME, NEEDS) {
        return;
    }
    let scene = scene();
    let work = scene.work();
    let more = format!("    - {{ name: keys, deny: [read], path: [\"{}/free/keys/**\"] }}\n", work.display());
    let policy = policy(&scene, &more);
    fs::create_dir(work.join("free/keys")).expect("a directory");
    let copy = "import os; os.write(1, os.read(0, 100))";
    let options = ["--user", "nobody", LAYERS[0], LAYERS[1]];
    let run = |more: &[&str], input: Stdio, output: Stdio| {
        redirected(
            enforcing(&scene, &policy, &[&options, more].concat(), &[&PYTHON[..], &[copy]].concat()),
            input,
            output,
        )
    };
    // From where it stands, and a file that nothing covers is still shared with whoever has it.
    let mut settings = File::open(work.join(".git/config")).expect("it opens");
    settings.seek(SeekFrom::Start(2)).expect("seek");
    let mut log = File::create(work.join("free/log")).expect("a file");
    log.write_all(b"first ").expect("written");
    run(&[], settings.into(), log.try_clone().expect("a descriptor").into()).expect(0);
    log.write_all(b" last").expect("written");
    assert_eq!(fs::read_to_string(work.join("free/log")).expect("a file"), "first xt last");
    // What has no path.
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(b"piped").expect("written");
    assert_eq!(run(&[], reader.into(), Stdio::piped()).expect(0).stdout, "piped");
    run(&[], Stdio::null(), Stdio::null()).expect(0);

    // Nobody could open these again behind what lies over them.
    let refused = |input: Stdio, output: Stdio, why: &str| {
        let done = run(&[], input, output).expect(125);
        assert!(done.stderr.contains(why), "{why}\n{}", done.stderr);
    };
    let key = || File::create(work.join("free/keys/log")).expect("a file");
    let why = format!(
        "standard output is {}/free/keys/log, and leads round the mount over it, which keeps the command from it",
        work.display()
    );
    refused(Stdio::null(), key().into(), &why);
    refused(input(&work.join("private")), Stdio::null(), "standard input is");
    let removed = work.join(".git/hooks/removed");
    fs::write(&removed, "text").expect("a file");
    let open = File::open(&removed).expect("it opens");
    fs::remove_file(&removed).expect("it goes");
    refused(open.into(), Stdio::null(), "its name was removed");
    // Whoever goes on is told.
    let done = run(&["--best-effort"], input(&work.join("free/file")), key().into()).expect(0);
    assert!(done.stderr.contains("not held: ") && done.stderr.contains(&why), "{}", done.stderr);
    let mut text = String::new();
    File::open(work.join("free/keys/log")).and_then(|mut file| file.read_to_string(&mut text)).expect("text");
    assert_eq!(text, "text");
}

#[test]
fn another_name_of_a_file_in_a_covered_directory_is_refused() {
    if !met("other names and covers", NEEDS) {
        return;
    }
    let scene = scene();
    let work = scene.work();
    let link = |from: &str, to: &str| fs::hard_link(work.join(from), work.join(to)).expect("a link");
    let write = "open('free/sample', 'a').close(); print('written')";
    let options = ["--user", "nobody", LAYERS[0], LAYERS[1]];
    let start = |script: &str| enforced(&scene, &policy(&scene, ""), &options, script);
    // A clone shares its objects with where it was made from, and no rule is about them; and what has both names in
    // the directory is covered.
    fs::create_dir(work.join(".git/objects")).expect("a directory");
    fs::write(work.join(".git/objects/ab"), "").expect("a file");
    link(".git/objects/ab", "free/ab");
    link(".git/hooks/sample", ".git/hooks/again");
    start("open('.git/hooks/again').close()").expect(0);
    link(".git/hooks/sample", "free/sample");
    let done = start(write).expect(125);
    assert!(done.stderr.contains("rule `p/git` denies `write`") && done.stdout.is_empty(), "{}", done.stderr);
    assert!(done.stderr.contains("has another name, by which it is not covered"), "{}", done.stderr);
    // It would have been open.
    let goes_on = [&options[..], &["--best-effort"]].concat();
    let done = enforced(&scene, &policy(&scene, ""), &goes_on, write).expect(0);
    assert_eq!(done.stdout, "written\n");
    assert!(done.stderr.contains("not held: "), "{}", done.stderr);
}

/// Opens for writing, without waiting for a reader.
const PIPES: &str = sandbox_tests::attempts!(
    r#"
import os
for name in (".git/hooks/pipe", "pipe", "free/pipe", ".git/hooks/sample", "free/file"):
    attempt(name, lambda: os.close(os.open(name, os.O_WRONLY | os.O_NONBLOCK)))
"#
);

#[test]
fn what_no_mount_makes_read_only_is_not_written_to() {
    if !met("covers over FIFOs", NEEDS) {
        return;
    }
    for user in ["nobody", "root"] {
        let scene = scene();
        let work = scene.work();
        let pipes: Vec<File> = [".git/hooks/pipe", "pipe", "free/pipe"]
            .map(|name| {
                let path = work.join(name);
                nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod");
                // Somebody who reads, without whom none could be opened for writing.
                File::options().read(true).write(true).open(&path).expect("a FIFO")
            })
            .into();
        let alone = format!("- {{ name: alone, deny: [write], path: [\"{}/pipe\"] }}", work.display());
        let options = ["--user", user, LAYERS[0], LAYERS[1]];
        let done = enforced(&scene, &policy(&scene, &alone), &options, PIPES).expect(0);
        let expected = [
            (".git/hooks/pipe", "EACCES"),
            ("pipe", "EACCES"),
            ("free/pipe", "0"),
            (".git/hooks/sample", "EROFS"),
            ("free/file", "0"),
        ];
        for (name, answer) in expected {
            // Root is refused nothing by a mode: what it opens is the empty file, read-only.
            let answer = if user == "root" && answer == "EACCES" { "EROFS" } else { answer };
            assert_eq!(done.results()[name], answer, "{user}: {name}\n{}{}", done.stdout, done.stderr);
        }
        drop(pipes);
        assert_eq!(
            Log::of_run(&scene.run())
                .records()
                .filter(|(_, line)| line.text("action") == Some("BLOCKED"))
                .count(),
            3
        );
    }
}
