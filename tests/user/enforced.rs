//! Policies that hold for an ordinary user: by Landlock, mounts and a network of the run's own. Each denial has its errno,
//! its record and its control.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use sandbox_tests::requirement::Need;
use sandbox_tests::scene::finish;

use crate::place::{Place, USER, at, possible};

const NEEDS: &[Need<'_>] = &[Need::Program("python3")];

/// Attempts; each prints its name and 0 or the errno.
const ATTEMPTS: &str = sandbox_tests::attempts!(
    r#"
import os, socket, subprocess, sys
TOP, PORT, OUTSIDER = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def touch(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
def connect(address, kind=socket.AF_INET):
    with socket.socket(kind) as made:
        made.settimeout(20)
        made.connect(address)
def own():
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect(server.getsockname())
attempt("read inside", lambda: open("file").close())
attempt("write inside", lambda: touch("made"))
attempt("read by link", lambda: open("/bin/true").close())
attempt("read outside", lambda: open(TOP + "/other/file").close())
attempt("write outside", lambda: touch(TOP + "/other/made"))
attempt("read secret inside", lambda: open(".env").read(1) or touch("/no/such/place"))
attempt("write config inside", lambda: touch(".git/config"))
attempt("read config inside", lambda: open(".git/config").close())
attempt("connect machine", lambda: connect(("127.0.0.1", PORT)))
attempt("connect outside", lambda: connect(("192.0.2.1", 443)))
attempt("send outside", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"?", ("192.0.2.1", 53)))
attempt("connect own", own)
attempt("unix", lambda: connect(TOP + "/socket", socket.AF_UNIX))
attempt("pair", lambda: socket.socketpair()[0].close())
attempt("signal", lambda: os.kill(OUTSIDER, 0))
attempt("signal own", lambda: os.kill(os.getpid(), 0))
attempt("child", lambda: subprocess.run(["true"], check=True))
attempt("store", lambda: touch(TOP + "/store/made"))
"#
);

fn policy(place: &Place) -> String {
    let work = place.work();
    let work = work.display();
    format!(
        "version: 1
name: p
files:
  default: deny
  rules:
    - {{ name: open, allow: [load, attributes], path: [\"/**\"] }}
    - {{ name: system, allow: [read], path: [\"/usr/**\", \"/etc/**\", \"/lib/**\", \"/lib64/**\", \"/proc/**\"] }}
    - {{ name: work, allow: [read, write, create, delete], path: [\"{work}/**\"] }}
    - {{ name: devices, allow: [read, write], path: [\"/dev/null\", \"/dev/urandom\"] }}
    - {{ name: env, deny: [all], path: [\"{work}/.env\"], because: it holds passwords }}
    - {{ name: git, deny: [write, create, delete, attributes], path: [\"{work}/.git/config\"] }}
exec: {{ default: allow }}
network:
  default: deny
  rules:
    - {{ name: api, allow: [connect], to: [\"api.example:443\"] }}
    - {{ name: own, allow: [connect, send, bind, listen], to: [own] }}
kernel: {{ allow: [ptrace-own] }}
"
    )
}

fn place() -> (Place, TcpListener) {
    let place = Place::new();
    let open = |path: &str, mode: u32| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(place.scene.path(path), permissions).expect("chmod");
    };
    for directory in ["work/.git", "other"] {
        fs::create_dir(place.scene.path(directory)).expect("a directory");
        open(directory, 0o777);
    }
    for file in ["work/file", "work/.env", "work/.git/config", "other/file"] {
        fs::write(place.scene.path(file), "text").expect("a file");
        open(file, 0o666);
    }
    let listener = std::os::unix::net::UnixListener::bind(place.scene.path("socket")).expect("a socket");
    open("socket", 0o777);
    // Whoever connects meets somebody.
    std::thread::spawn(move || while listener.accept().is_ok() {});
    let machine = TcpListener::bind("127.0.0.1:0").expect("a listener");
    fs::write(place.scene.path("policy.yaml"), policy(&place)).expect("a policy");
    (place, machine)
}

/// A process of the same user's, outside.
struct Outsider(Child);

impl Outsider {
    fn start(place: &Place) -> Outsider {
        Outsider(place.command("sleep".as_ref(), ["1000".into()]).spawn().expect("sleep starts"))
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn attempts(place: &Place, machine: &TcpListener, outsider: &Outsider) -> Vec<String> {
    let top = place.scene.path("");
    let top = top.to_str().expect("UTF-8").trim_end_matches('/').to_owned();
    let port = machine.local_addr().expect("an address").port().to_string();
    ["python3", "-I", "-c", ATTEMPTS]
        .map(str::to_owned)
        .into_iter()
        .chain([top, port, outsider.0.id().to_string()])
        .collect()
}

#[test]
fn a_closed_world_holds_for_a_user_without_any_privilege() {
    if !possible("a policy held for a user", NEEDS) {
        return;
    }
    let (place, machine) = place();
    let outsider = Outsider::start(&place);
    let policy = place.scene.path("policy.yaml").into_os_string();
    let words = ["run".into(), "--enforce".into(), policy, "--".into()];
    let words = words.into_iter().chain(attempts(&place, &machine, &outsider).into_iter().map(Into::into));
    let done = finish(place.sandbox(words)).expect(0);
    let found = done.results();
    for (name, code) in [
        ("read inside", "0"),
        ("write inside", "0"),
        // To /usr/bin, which is open.
        ("read by link", "0"),
        ("read outside", "EACCES"),
        ("write outside", "EACCES"),
        ("read secret inside", "EACCES"),
        ("write config inside", "EROFS"),
        ("read config inside", "0"),
        // The loopback inside is another.
        ("connect machine", "ECONNREFUSED"),
        ("connect outside", "ENETUNREACH"),
        ("send outside", "ENETUNREACH"),
        ("connect own", "0"),
        ("unix", "EPERM"),
        ("pair", "0"),
        ("signal", "EPERM"),
        ("signal own", "0"),
        ("child", "0"),
        ("store", "EROFS"),
    ] {
        let found = found.get(name).map_or("?", String::as_str);
        // Of covers and Landlock either may be the first to say no.
        let also = name == "store" && found == "EACCES";
        assert!(found == code || also, "{name}: {found}, not {code}\n{}{}", done.stdout, done.stderr);
    }
    machine.set_nonblocking(true).expect("it can");
    assert!(machine.accept().is_err(), "nobody came");
    place.verified().expect(0);
    let log = place.log();
    let first = log.records().next().expect("a line").1;
    assert_eq!(first.list("unheld"), None, "all of it is held");
    let blocked = |rule: &str, named: &[u8]| {
        log.records().any(|(_, record)| {
            let about = ["path", "path2", "dst_ip"].iter().any(|key| record.bytes(key) == Some(named));
            record.text("action") == Some("BLOCKED") && record.text("policy_rule") == Some(rule) && about
        })
    };
    // What went through is told as allowed, by the place that its name led to.
    let link = fs::canonicalize("/bin/true").expect("it is there").into_os_string().into_encoded_bytes();
    let opens = at(&log, "file_open", &link);
    let told: Vec<_> = opens.iter().map(|open| (open.text("action"), open.text("policy_rule"))).collect();
    assert!(
        !told.is_empty() && told.iter().all(|told| *told == (Some("ALLOWED"), Some("p/system"))),
        "{told:?}"
    );
    let outside = place.scene.path("other/file").into_os_string().into_encoded_bytes();
    assert!(blocked("p/files.default", &outside));
    assert!(blocked("p/env", &place.name(".env")));
    assert!(blocked("p/git", &place.name(".git/config")));
    assert!(blocked("p/network.default", b"192.0.2.1"));
    let mut why = String::new();
    let told = finish(place.sandbox(["why", "last"])).expect(0);
    told.stdout.as_bytes().read_to_string(&mut why).expect("text");
    assert!(why.contains("it holds passwords"), "{why}");

    // The control: all of it goes through where nothing is enforced.
    let mut words = attempts(&place, &machine, &outsider).into_iter();
    let program = words.next().expect("a program");
    let free = finish(place.command(program.as_ref(), words.map(Into::into)));
    let found = free.results();
    for name in found.keys().filter(|name| !name.ends_with("outside") || name.contains("read")) {
        assert_eq!(found[name], "0", "{name}\n{}", free.stdout);
    }
}

#[test]
fn what_is_not_held_refuses_to_start() {
    if !possible("a policy that is not held for a user", NEEDS) {
        return;
    }
    let (place, _machine) = place();
    let refused = |text: String, why: &str| {
        let file = place.scene.path("refused.yaml");
        fs::write(&file, text).expect("a policy");
        let words = [
            "run".into(),
            "--enforce".into(),
            file.into_os_string(),
            "--".into(),
            "touch".into(),
            "ran".into(),
        ];
        let done = finish(place.sandbox(words)).expect(125);
        assert!(done.stderr.contains(why), "{why}\n{}", done.stderr);
        assert!(!place.work().join("ran").exists());
    };
    let text = policy(&place);
    refused(text.replace("/.env\"]", "/.env\", \"**/*.pem\"]"), "rule `p/env` denies `read`");
    refused(text.replace("kernel: { allow: [ptrace-own] }\n", ""), "closes `ptrace-own`");
    let unix = text.replace("to: [own]", "to: [own, \"unix:/tmp/**\"]");
    refused(unix, "closes unix sockets with a path too");
    refused(format!("{text}limits: {{ cpu: 50% }}\n"), "limits `cpu`");
}

/// By the standard input; results go to stderr.
const BY_DESCRIPTOR: &str = r#"
import errno, os, sys
def attempt(name, act):
    try:
        act()
        print(name, 0, file=sys.stderr)
    except OSError as error:
        print(name, errno.errorcode[error.errno], file=sys.stderr)
def touch(path):
    os.close(os.open(path, os.O_WRONLY))
FD = "/proc/self/fd/3"
if os.path.isdir(FD):
    for name, path in [("below", FD), ("from the top", FD + "/.." * 20 + os.getcwd())]:
        attempt(name + " config", lambda: touch(path + "/.git/config"))
        attempt(name + " env", lambda: open(path + "/.env").close())
        attempt(name + " file", lambda: touch(path + "/file"))
else:
    attempt("read", lambda: None if os.read(3, 9) == b"text" else touch("/no/such/place"))
    attempt("write", lambda: touch(FD))
    attempt("mode", lambda: os.fchmod(3, 0o666))
"#;

#[test]
fn standard_descriptors_do_not_lead_round_covers() {
    if !possible("standard descriptors and covers of a user", NEEDS) {
        return;
    }
    let (place, _machine) = place();
    for file in ["work/.git/config", "work/file"] {
        std::os::unix::fs::chown(place.scene.path(file), Some(USER), None).expect("chown");
    }
    // Python wants no directory as its standard input.
    let hand_on = "exec python3 -I -c \"$0\" 3<&0 </dev/null";
    let script = ["/bin/sh", "-c", hand_on, BY_DESCRIPTOR].map(OsString::from);
    let attempts = |enforced: bool, path: &str| -> BTreeMap<String, String> {
        let policy = place.scene.path("policy.yaml").into_os_string();
        let words = ["run".into(), "-q".into(), "--enforce".into(), policy, "--".into()];
        let mut command = match enforced {
            true => place.sandbox(words.into_iter().chain(script.clone())),
            false => place.command("/bin/sh".as_ref(), script[1..].to_vec()),
        };
        let input = fs::File::open(place.work().join(path)).expect("it opens");
        let done =
            command.stdin(input).stdout(Stdio::null()).stderr(Stdio::piped()).output().expect("it starts");
        let said = String::from_utf8(done.stderr).expect("text");
        assert_eq!(done.status.code(), Some(0), "{path}\n{said}");
        let line = |line: &str| line.rsplit_once(' ').map(|(name, code)| (name.to_owned(), code.to_owned()));
        said.lines().filter_map(line).collect()
    };
    let check = |path: &str, expected: &[(&str, &str)]| {
        let (held, free) = (attempts(true, path), attempts(false, path));
        for (name, code) in expected {
            assert_eq!(held.get(*name).map(String::as_str), Some(*code), "{path}: {name}");
            assert_eq!(free.get(*name).map(String::as_str), Some("0"), "{path}: {name}, not enforced");
        }
    };
    check(
        "",
        &[
            ("below config", "EROFS"),
            ("below env", "EACCES"),
            ("below file", "0"),
            ("from the top config", "EROFS"),
            ("from the top env", "EACCES"),
            ("from the top file", "0"),
        ],
    );
    check(".git/config", &[("read", "0"), ("write", "EROFS"), ("mode", "EROFS")]);
    check("file", &[("read", "0"), ("write", "0"), ("mode", "0")]);
}

/// What lies in a directory of the user's own that is closed just now can be looked at by nobody, and the command may open
/// it: neither `doctor` nor a start promises anything.
#[test]
fn what_is_closed_to_its_own_user_counts_as_open() {
    if !possible("what_is_closed_to_its_own_user_counts_as_open", NEEDS) {
        return;
    }
    let (place, _machine) = place();
    let shut = place.scene.path("work/shut");
    fs::create_dir(&shut).expect("a directory");
    fs::write(shut.join("secret"), "text").expect("a file");
    std::os::unix::fs::chown(&shut, Some(USER), Some(USER)).expect("chown");
    let more =
        format!("    - {{ name: kept, deny: [read, write], path: [\"{}/secret\"] }}\nexec:", shut.display());
    let text = policy(&place).replacen("exec:", &more, 1);
    fs::write(place.scene.path("policy.yaml"), text).expect("a policy");
    let file = place.scene.path("policy.yaml").display().to_string();
    let both = || {
        let doctor = finish(place.sandbox(["doctor", "--policy", &file]));
        let run = finish(place.sandbox(["run", "-q", "--enforce", &file, "--", "cat", "shut/secret"]));
        (doctor, run)
    };
    let (doctor, run) = both();
    assert!(!doctor.stdout.contains("NOT HELD"), "{}", doctor.stdout);
    assert!(run.expect(1).stderr.contains("Permission denied"));
    for (mode, starts) in [(0o000, false), (0o700, true)] {
        fs::set_permissions(&shut, fs::Permissions::from_mode(mode)).expect("chmod");
        let (doctor, run) = both();
        let refused = run.stderr.contains("p/kept") && run.stderr.contains("chmod u+rx");
        assert_eq!(refused, !starts, "{}", run.stderr);
        assert_eq!(doctor.stdout.contains("NOT HELD"), !starts, "{}", doctor.stdout);
    }
}

/// What agents do all day: names that move from one directory to another, and terminals of their own.
const WORK: &str = sandbox_tests::attempts!(
    r#"
import os, pty
os.makedirs("a/b")
open("file", "w").close()
attempt("rename", lambda: os.rename("file", "a/b/file"))
attempt("link", lambda: os.link("a/b/file", "a/again"))
attempt("directory", lambda: os.rename("a/b", "b"))
attempt("terminal", lambda: pty.openpty())
attempt("outside", lambda: os.rename("a/again", "/usr/local/again"))
"#
);

#[test]
fn work_goes_on_under_the_policy_that_ships() {
    if !possible("names and terminals under coding-agent", &[Need::Program("python3")]) {
        return;
    }
    let place = Place::new();
    // A home in a place for temporary files would be open as a whole.
    let home = tempfile::tempdir_in("/srv").expect("a home");
    let project = home.path().join("project");
    fs::create_dir(&project).expect("a directory");
    for path in [home.path(), &project] {
        std::os::unix::fs::chown(path, Some(USER), Some(USER)).expect("of the user's own");
    }
    let words = ["run", "--enforce", "coding-agent", "--", "python3", "-I", "-c", WORK];
    let mut command = place.sandbox(words);
    command.current_dir(&project).env("HOME", home.path());
    let done = finish(command).expect(0);
    assert_eq!(done.stdout, "rename 0\nlink 0\ndirectory 0\nterminal 0\noutside EACCES\n", "{}", done.stderr);
}
