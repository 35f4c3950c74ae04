//! Names as the caller sees them: in its own mounts, through its own /proc, from directories of its own. Records name the
//! object that was met, and say BLOCKED of nothing that went through.

use std::fs;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use audit_verify::canonical::Record;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use sandbox_tests::closed::Closed;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::Need;
use sandbox_tests::scene::Done;

use crate::place::{Place, USER, at, possible};

const NEEDS: &[Need<'_>] = &[Need::Program("python3")];

/// Runs a script where its working directory is open, but for `secret` and, to be changed, `kept`; `more` is in the policy.
fn run(place: &Place, script: &str, more: &str, input: Stdio) -> Done {
    let work = place.work();
    for directory in ["secret", "kept"] {
        fs::create_dir_all(work.join(directory)).expect("a directory");
        fs::write(work.join(directory).join("file"), "text").expect("a file");
        for path in [work.join(directory), work.join(directory).join("file")] {
            chown(path, Some(USER), Some(USER)).expect("of the user's own");
        }
    }
    let file = place.scene.path("policy.yaml");
    let rules = format!(
        "- {{ name: work, allow: [read, write, create, delete], path: [\"{work}/**\", \"/tmp/**\"] }}
- {{ name: secret, deny: [read, write, create, delete], path: [\"{work}/secret/**\"] }}
- {{ name: kept, deny: [write, create, delete, attributes], path: [\"{work}/kept/**\"] }}
",
        work = work.display()
    );
    let text = Closed { proc: true, rules: &rules, rest: more, ..Closed::default() }.policy();
    fs::write(&file, text).expect("a policy");
    let words = ["run".into(), "--enforce".into(), file.into_os_string(), "--".into()];
    let command = ["python3", "-I", "-c", script].map(Into::into);
    let mut command = place.sandbox(words.into_iter().chain(command));
    let done =
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("it starts");
    let [stdout, stderr] = [done.stdout, done.stderr].map(|text| String::from_utf8(text).expect("text"));
    Done { status: done.status, stdout, stderr }.expect(0)
}

/// What is told as denied.
fn blocked(log: &Log) -> Vec<String> {
    let records = log.records().map(|(_, record)| record);
    let blocked =
        records.filter(|record| record.text("action").is_some_and(|action| action.contains("BLOCK")));
    blocked
        .map(|record| {
            let path = record.bytes("path").map(|path| String::from_utf8_lossy(path).into_owned());
            let word = |key| record.text(key).unwrap_or_default();
            format!("{} {} {}", word("action"), word("event_type"), path.unwrap_or_default())
        })
        .collect()
}

fn only<'l>(log: &'l Log, event_type: &str, path: &[u8]) -> Record<'l> {
    let mut found = at(log, event_type, path);
    assert_eq!(found.len(), 1, "{event_type} {}", String::from_utf8_lossy(path));
    found.remove(0)
}

const OWN_TMP: &str = sandbox_tests::attempts!(
    r#"
import os
W, NAME = os.getcwd(), "/tmp/sandbox-test-names"
def touch(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
os.symlink(W + "/secret/file", "/tmp/to-secret")
os.symlink(W, "/tmp/to-work")
attempt("secret", lambda: open("/tmp/to-secret").close())
attempt("made", lambda: touch("/tmp/to-work/made"))
attempt("directory", lambda: os.mkdir("/tmp/to-work/new"))
attempt("same name", lambda: os.mkdir(NAME))
attempt("below it", lambda: touch(NAME + "/passwd"))
"#
);

#[test]
fn a_tmp_of_the_runs_own_has_its_own_links() {
    if !possible("links in a private /tmp", NEEDS) {
        return;
    }
    let place = Place::new();
    // What the machine has by a name is nothing to the run.
    let machines = std::path::Path::new("/tmp/sandbox-test-names");
    let _ = fs::remove_file(machines);
    symlink("/etc", machines).expect("a link");
    let done = run(&place, OWN_TMP, "tmp: private\n", Stdio::null());
    fs::remove_file(machines).expect("it is still there");
    assert_eq!(done.stdout, "secret EACCES\nmade 0\ndirectory 0\nsame name 0\nbelow it 0\n");
    let log = place.log();
    let secret = format!("BLOCKED file_open {}", place.work().join("secret/file").display());
    assert_eq!(blocked(&log), [secret]);
    for (event_type, path) in [
        ("file_open", place.name("made")),
        ("dir_create", place.name("new")),
        ("dir_create", b"/tmp/sandbox-test-names".to_vec()),
        ("file_open", b"/tmp/sandbox-test-names/passwd".to_vec()),
    ] {
        assert_eq!(only(&log, event_type, &path).text("policy_rule"), Some("p/work"));
    }
    place.verified().expect(0);
}

const THROUGH_PROC: &str = sandbox_tests::attempts!(
    r#"
import ctypes, os, struct
C = "/proc/self/cwd/"
def touch(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
def in_root(path):
    # As libc declares nothing of openat2(2).
    libc = ctypes.CDLL(None, use_errno=True)
    how = struct.pack("QQQ", os.O_WRONLY | os.O_CREAT, 0o644, 0x10)
    if libc.syscall(437, os.open("dir", os.O_PATH), path, how, len(how)) < 0:
        raise OSError(ctypes.get_errno(), "openat2")
for name in "abcd":
    touch(name)
os.mkdir("dir")
os.symlink(C + "made", "later")
os.symlink("/proc/thread-self/cwd", "here")
attempt("unlink", lambda: os.unlink(C + "a"))
attempt("rename", lambda: os.rename(C + "b", C + "b2"))
attempt("mkdir", lambda: os.mkdir(C + "new"))
attempt("rmdir", lambda: os.rmdir(C + "new"))
attempt("symlink", lambda: os.symlink("x", C + "sym"))
attempt("link", lambda: os.link(C + "c", C + "hard"))
attempt("mknod", lambda: os.mknod(C + "fifo", 0o10600))
attempt("truncate", lambda: os.truncate("/proc/self/fd/%d" % os.open("d", os.O_RDWR), 0))
attempt("by link", lambda: touch("later"))
attempt("below link", lambda: os.mkdir("here/below"))
attempt("in root", lambda: in_root(b"/../in-root"))
attempt("kept", lambda: os.unlink(C + "kept/file"))
attempt("outside", lambda: os.mkdir("/proc/self/root/etc/sandbox-test"))
"#
);

#[test]
fn names_through_proc_are_the_callers_own() {
    if !possible("names through the caller's /proc", NEEDS) {
        return;
    }
    let place = Place::new();
    let done = run(&place, THROUGH_PROC, "", Stdio::null());
    let results = done.results();
    for (name, code) in &results {
        // openat2(2) does not exist where Landlock holds files.
        let denied = matches!(name.as_str(), "kept" | "outside" | "in root");
        assert_eq!(code == "ENOSYS", name == "in root", "{name}: {code}");
        assert_eq!(code == "0", !denied, "{name}: {code}\n{}", done.stderr);
    }
    assert_eq!(results.len(), 13);
    let log = place.log();
    let denied = [
        format!("BLOCKED file_delete {}", place.work().join("kept/file").display()),
        "BLOCKED dir_create /etc/sandbox-test".to_owned(),
    ];
    assert_eq!(blocked(&log), denied);
    for (event_type, name) in [
        ("file_delete", "a"),
        ("file_rename", "b"),
        ("dir_create", "new"),
        ("dir_delete", "new"),
        ("file_symlink", "sym"),
        ("file_link", "c"),
        ("file_create", "fifo"),
        ("file_truncate", "d"),
        ("file_open", "made"),
        ("dir_create", "below"),
    ] {
        let record = only(&log, event_type, &place.name(name));
        assert_eq!(record.text("action"), Some("ALLOWED"), "{event_type} {name}");
        let second = match name {
            "b" => Some(place.name("b2")),
            "c" => Some(place.name("hard")),
            _ => None,
        };
        if second.is_some() {
            assert_eq!(record.bytes("path2"), second.as_deref());
        }
    }
    place.verified().expect(0);
}

const HANDED_OVER: &str = sandbox_tests::attempts!(
    r#"
import os, socket
_, fds, _, _ = socket.recv_fds(socket.socket(fileno=0), 1, 1)
def write(path, **where):
    os.close(os.open(path, os.O_WRONLY, **where))
attempt("by its name", lambda: write("kept/file"))
attempt("handed over", lambda: write("file", dir_fd=fds[0]))
attempt("mode", lambda: os.fchmod(os.open("file", os.O_RDONLY, dir_fd=fds[0]), 0o600))
attempt("own directory", lambda: write("own", dir_fd=os.open(".", os.O_PATH)))
"#
);

/// A directory that somebody outside hands over leads past covers: what is written there is not told as blocked.
#[test]
fn what_came_of_calls_by_other_mounts_is_not_claimed() {
    if !possible("a directory handed over from outside", NEEDS) {
        return;
    }
    let place = Place::new();
    let own = place.work().join("own");
    fs::write(&own, "").expect("a file");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o666)).expect("chmod");
    fs::create_dir(place.work().join("kept")).expect("a directory");
    let directory = fs::File::open(place.work().join("kept")).expect("it opens");
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let fds = [directory.as_raw_fd()];
    sendmsg::<()>(
        ours.as_raw_fd(),
        &[IoSlice::new(b"x")],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::empty(),
        None,
    )
    .expect("it is sent");
    let done = run(&place, HANDED_OVER, "", Stdio::from(OwnedFd::from(theirs)));
    assert_eq!(done.stdout, "by its name EROFS\nhanded over 0\nmode 0\nown directory 0\n");
    let log = place.log();
    let told = |event_type| {
        let records = at(&log, event_type, &place.name("kept/file"));
        records.iter().map(|record| record.text("action").map(str::to_owned)).collect::<Vec<_>>()
    };
    let [blocked, observed] = ["BLOCKED", "OBSERVED"].map(|action| Some(action.to_owned()));
    assert_eq!(told("file_open"), [blocked, observed.clone(), observed.clone()]);
    assert_eq!(told("file_mode"), [observed]);
    let open = only(&log, "file_open", &place.name("own"));
    assert_eq!(open.text("action"), Some("ALLOWED"));
    let handed = &at(&log, "file_open", &place.name("kept/file"))[1];
    assert!(
        handed.text("reason").is_some_and(|reason| reason.contains("not known")),
        "{:?}",
        handed.text("reason")
    );
}
