//! A /tmp of the run's own (`tmp: private`): what lies outside is not seen inside, and the other way round; the working
//! directory below /tmp stays; nobody inside undoes it; each with its control, for root inside as for somebody else.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sandbox_tests::closed::Closed;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

const NEEDS: &[Need<'_>] = &[Need::Trace, Need::Program("python3")];

const LAYERS: [&str; 2] = ["--layers", "trace,landlock,mountns"];

fn policy(scene: &Scene, settings: &str) -> String {
    let tmp =
        "- { name: tmp, allow: [read, write, create, delete], path: [\"{/tmp,/var/tmp,/dev/shm}/**\"] }";
    Closed { work: Some(&scene.work()), rules: tmp, rest: settings, ..Closed::default() }.policy()
}

/// Prints for each attempt its name, and 0 or the errno.
const ATTEMPTS: &str = sandbox_tests::attempts!(
    r#"
import ctypes, os, sys, time
OUTSIDE, INSIDE, KEY = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def umount(path):
    if libc.umount2(path.encode(), 0):
        raise OSError(ctypes.get_errno(), "umount2")
def answer(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
attempt("outside", lambda: open(OUTSIDE).close())
attempt("named memory", lambda: open("/dev/shm/" + os.path.basename(OUTSIDE)).close())
attempt("memory", lambda: answer(libc.shmget(int(KEY), 0, 0)))
attempt("messages", lambda: answer(libc.msgget(int(KEY), 0)))
attempt("semaphores", lambda: answer(libc.semget(int(KEY), 0, 0)))
attempt("queue", lambda: answer(libc.mq_open(b"/" + os.path.basename(OUTSIDE).encode(), os.O_RDONLY)))
attempt("inside", lambda: open(INSIDE, "x").close())
attempt("inside again", lambda: open(INSIDE).close())
attempt("var", lambda: open("/var/tmp/" + os.path.basename(INSIDE), "x").close())
open("ready", "w").close()
until = time.monotonic() + 60
while not os.path.exists("go") and time.monotonic() < until:
    time.sleep(0.01)
attempt("work", lambda: open("made", "w").write("text"))
attempt("way", lambda: os.rename(os.path.dirname(os.getcwd()), "/tmp/elsewhere"))
attempt("umount", lambda: umount("/tmp"))
print("mode", oct(os.stat("/tmp").st_mode & 0o7777))
"#
);

/// What programs share without a file in /tmp, open to everybody, and removed with this.
struct Common {
    key: i32,
    memory: i32,
    messages: i32,
    semaphores: i32,
    queue: CString,
    named: PathBuf,
}

impl Common {
    /// By the key of this process, and by the name of the file outside.
    fn make(outside: &Path) -> Common {
        let key = i32::try_from(std::process::id()).expect("a key");
        let name = outside.file_name().expect("a name");
        let queue = CString::new([b"/", name.as_encoded_bytes()].concat()).expect("no NUL");
        let named = Path::new("/dev/shm").join(name);
        fs::write(&named, "").expect("a file in /dev/shm");
        fs::set_permissions(&named, fs::Permissions::from_mode(0o644)).expect("chmod");
        let flags = libc::IPC_CREAT | 0o666;
        // SAFETY: these take numbers only.
        let (memory, messages, semaphores) = unsafe {
            (libc::shmget(key, 4096, flags), libc::msgget(key, flags), libc::semget(key, 1, flags))
        };
        assert!(memory >= 0 && messages >= 0 && semaphores >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the name ends in NUL; mode and attributes (none) are what O_CREAT asks for.
        let made = unsafe {
            libc::mq_open(
                queue.as_ptr(),
                libc::O_CREAT | libc::O_CLOEXEC,
                0o644 as libc::mode_t,
                std::ptr::null_mut::<libc::mq_attr>(),
            )
        };
        assert!(made >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the descriptor was made here.
        assert_eq!(unsafe { libc::mq_close(made) }, 0);
        Common { key, memory, messages, semaphores, queue, named }
    }
}

impl Drop for Common {
    fn drop(&mut self) {
        // SAFETY: removes what was made above, by its numbers and by a name that ends in NUL.
        unsafe {
            libc::shmctl(self.memory, libc::IPC_RMID, std::ptr::null_mut());
            libc::msgctl(self.messages, libc::IPC_RMID, std::ptr::null_mut());
            libc::semctl(self.semaphores, 0, libc::IPC_RMID);
            libc::mq_unlink(self.queue.as_ptr());
        }
        let _ = fs::remove_file(&self.named);
    }
}

/// What of it is asked for.
const SHARED: [&str; 5] = ["named memory", "memory", "messages", "semaphores", "queue"];

/// Runs them to their end; gives whether what was made inside was seen outside meanwhile, too.
fn run(scene: &Scene, policy: &str, options: &[&str], outside: &Path, inside: &Path) -> (Done, bool) {
    fs::write(scene.path("policy.yaml"), policy).expect("a policy");
    let mut command = scene.sandbox(["run"]);
    command.args(options).arg("--enforce").arg(scene.path("policy.yaml"));
    let common = Common::make(outside);
    command.args(["--", "python3", "-I", "-c", ATTEMPTS]).arg(outside).arg(inside);
    command.arg(common.key.to_string());
    let (work, made) = (scene.work(), inside.to_owned());
    let look = std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(60);
        while !work.join("ready").exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(work.join("ready").exists(), "the command did not come so far");
        let seen = made.exists();
        fs::write(work.join("go"), "").expect("a file");
        seen
    });
    let done = finish(command);
    (done, look.join().expect("somebody who looks"))
}

#[test]
fn a_private_tmp_is_nobody_elses() {
    if !met("a private /tmp", NEEDS) {
        return;
    }
    for user in ["nobody", "root"] {
        let scene = Scene::new();
        fs::set_permissions(scene.work(), fs::Permissions::from_mode(0o777)).expect("chmod");
        let outside = tempfile::Builder::new().tempfile_in("/tmp").expect("a file in /tmp");
        fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o644)).expect("chmod");
        let name = format!("sandbox-test-inside-{user}-{}", std::process::id());
        let inside = Path::new("/tmp").join(&name);
        let options = ["--user", user, LAYERS[0], LAYERS[1]];
        let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
        let before = mounts();
        let text = policy(&scene, "tmp: private\n");
        let (done, seen) = run(&scene, &text, &options, outside.path(), &inside);
        let done = done.expect(0);
        assert!(!seen, "{user}: what is made inside is not seen outside");
        let found = done.results();
        for (name, code) in [
            ("outside", "ENOENT"),
            ("inside", "0"),
            ("inside again", "0"),
            ("var", "0"),
            ("work", "0"),
            ("umount", "EPERM"),
            ("mode", "0o1777"),
        ] {
            let found = found.get(name).map(String::as_str);
            assert_eq!(found, Some(code), "{user}: {name}\n{}{}", done.stdout, done.stderr);
        }
        for name in SHARED {
            let found = found.get(name).map(String::as_str);
            assert_eq!(found, Some("ENOENT"), "{user}: {name}\n{}{}", done.stdout, done.stderr);
        }
        assert_ne!(found["way"], "0", "{user}: what is above the working directory keeps its path");
        assert!(done.stderr.contains("private to this run"), "{}", done.stderr);
        assert!(!inside.exists() && !Path::new("/var/tmp").join(&name).exists());
        assert_eq!(fs::read_to_string(scene.work().join("made")).expect("it was written"), "text");
        assert_eq!(mounts(), before, "nothing of it is mounted outside");
        let log = Log::of_run(&scene.run());
        let first = log.records().next().expect("a line").1;
        let places = first.list("tmp_private").expect("it is told");
        assert!(places.iter().any(|place| place == b"/tmp"), "{places:?}");
        let meta = fs::read_to_string(scene.run().join("meta.json")).expect("meta.json");
        assert!(meta.contains("\"private\"") && meta.contains("tmp_not_seen_inside"), "{meta}");

        // The control: without the setting both are seen.
        let scene = Scene::new();
        fs::set_permissions(scene.work(), fs::Permissions::from_mode(0o777)).expect("chmod");
        let shared = policy(&scene, "tmp: shared\n");
        let (done, seen) = run(&scene, &shared, &options, outside.path(), &inside);
        let done = done.expect(0);
        assert!(seen, "{user}");
        assert_eq!(done.results()["outside"], "0", "{user}\n{}{}", done.stdout, done.stderr);
        for name in SHARED {
            // A queue has a name, which no rule opens.
            let code = if name == "queue" { "EACCES" } else { "0" };
            assert_eq!(done.results()[name], code, "{user}: {name}\n{}{}", done.stdout, done.stderr);
        }
        assert!(inside.exists(), "{user}");
        fs::remove_file(&inside).expect("it goes");
        fs::remove_file(Path::new("/var/tmp").join(&name)).expect("it goes");
        let log = Log::of_run(&scene.run());
        assert_eq!(log.records().next().expect("a line").1.list("tmp_private"), None);
    }
}

#[test]
fn where_it_cannot_be_had_the_run_does_not_start() {
    if !met("a private /tmp that is refused", NEEDS) {
        return;
    }
    let scene = Scene::new();
    fs::write(scene.path("policy.yaml"), policy(&scene, "tmp: private\n")).expect("a policy");
    let refused = |layers: &str, directory: &Path, why: &str| {
        let mut command = scene.sandbox(["run", "--layers", layers, "--enforce"]);
        command.arg(scene.path("policy.yaml")).args(["--", "echo", "started"]).current_dir(directory);
        let done = finish(command).expect(125);
        assert!(done.stdout.is_empty() && done.stderr.contains("section `p/tmp`"), "{}", done.stderr);
        assert!(done.stderr.contains(why) && done.stderr.contains("--best-effort"), "{}", done.stderr);
    };
    refused("trace,landlock", &scene.work(), "--layers leaves it out");
    refused(LAYERS[1], Path::new("/tmp"), "the run works in /tmp");
    // A run that only records changes nothing, and says so.
    let mut command = scene.sandbox(["run", "--policy"]);
    command.arg(scene.path("policy.yaml")).args(["--", "true"]);
    let done = finish(command).expect(0);
    assert!(done.stderr.contains("not judged in this run: section `p/tmp`"), "{}", done.stderr);
}
