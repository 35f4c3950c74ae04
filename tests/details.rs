//! What a record tells beyond name and result: who, from where, what really ran, what was made.

use std::path::Path;

use audit_verify::canonical::Record;
use sandbox_tests::binaries::binary;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::Scene;

/// Records a command and hands its log over, if the machine can record.
fn recorded(test: &str, command: impl FnOnce(&Scene) -> Vec<String>) -> Option<(Scene, Log)> {
    if !met(test, &[Need::Trace]) {
        return None;
    }
    let scene = Scene::new();
    scene.record(command(&scene)).expect(0);
    let log = Log::of_run(&scene.run());
    Some((scene, log))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The only record for which `wanted` holds.
#[track_caller]
fn only<'l>(log: &'l Log, what: &str, wanted: impl Fn(&Record<'_>) -> bool) -> Record<'l> {
    let mut found: Vec<_> = log.records().map(|(_, record)| record).filter(|record| wanted(record)).collect();
    assert_eq!(found.len(), 1, "{what}: {} records", found.len());
    found.remove(0)
}

fn is(record: &Record<'_>, event_type: &str, path: &Path) -> bool {
    let path = path.to_str().expect("a temporary path is UTF-8");
    record.text("event_type") == Some(event_type) && record.text("path") == Some(path)
}

#[test]
fn an_exec_tells_name_program_arguments_and_place() {
    let Some((scene, log)) = recorded("exec details", |scene| {
        std::fs::create_dir(scene.work().join("bin")).expect("mkdir");
        std::fs::copy("/bin/true", scene.work().join("bin/copy")).expect("copy");
        std::os::unix::fs::symlink("copy", scene.work().join("bin/link")).expect("symlink");
        words(&["sh", "-c", "cd bin && ./link 'one two' '' && exit 0; exit 9"])
    }) else {
        return;
    };
    let bin = scene.work().join("bin");
    let exec = only(&log, "exec of the link", |record| is(record, "exec", &bin.join("link")));
    assert_eq!(exec.text("exe"), bin.join("copy").to_str(), "the program behind the link");
    assert_eq!(exec.text("cwd"), bin.to_str());
    assert_eq!(exec.list("argv").expect("arguments"), [&b"./link"[..], b"one two", b""]);
    assert_eq!((exec.int("ret"), exec.int("uid")), (Some(0), Some(0)));
    let parent = exec.uint("ppid").expect("a parent");
    let fork = only(&log, "the fork before it", |record| {
        record.text("event_type") == Some("fork") && record.uint("child_pid") == exec.uint("pid")
    });
    assert_eq!(fork.uint("pid"), Some(parent));
    assert_eq!(fork.text("child_proc_id"), exec.text("proc_id"), "one process, one identity");
}

#[test]
fn an_end_tells_code_or_signal() {
    let Some((_scene, log)) =
        recorded("exit details", |_| words(&["sh", "-c", "(exit 3); sh -c 'kill -TERM $$'; exit 0"]))
    else {
        return;
    };
    let exits = |key: &str, value: i64| {
        let ended = |record: &&Record<'_>| record.text("event_type") == Some("exit");
        log.records().map(|(_, record)| record).filter(|r| ended(&r) && r.int(key) == Some(value)).count()
    };
    assert_eq!((exits("exit_code", 3), exits("signal", 15)), (1, 1));
    let count = |what: &str| log.records().filter(|(_, r)| r.text("event_type") == Some(what)).count();
    assert_eq!(count("exit"), count("fork") + 1, "every process of the run ended");
}

#[test]
fn made_and_opened_are_told_apart() {
    let Some((scene, log)) = recorded("create details", |_| {
        words(&[
            "sh",
            "-c",
            "echo x > new; echo x > new; cat new >/dev/null; cat missing 2>/dev/null; mkdir d",
        ])
    }) else {
        return;
    };
    let count = |event_type: &str, name: &str| {
        log.records().filter(|(_, record)| is(record, event_type, &scene.work().join(name))).count()
    };
    assert_eq!((count("file_create", "new"), count("file_open", "new")), (1, 2));
    assert_eq!((count("file_create", "missing"), count("file_open", "missing")), (0, 1));
    assert_eq!(count("dir_create", "d"), 1);
    let made = only(&log, "the new file", |record| is(record, "file_create", &scene.work().join("new")));
    use std::os::unix::fs::MetadataExt;
    let about = std::fs::metadata(scene.work().join("new")).expect("the new file");
    assert_eq!(made.uint("ino"), Some(about.ino()), "the object, not only its name");
}

#[test]
fn who_acts_is_who_acted() {
    let Some((_scene, log)) = recorded("uid details", |_| {
        words(&[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "sh",
            "-c",
            "cat /etc/shadow 2>/dev/null; exec cat /etc/hostname >/dev/null",
        ])
    }) else {
        return;
    };
    let refused = only(&log, "the refused open", |record| {
        is(record, "file_open", Path::new("/etc/shadow")) && record.int("ret") == Some(-13)
    });
    assert_eq!(refused.int("uid"), Some(65534));
    assert_eq!(refused.text("comm"), Some("cat"));
    assert_eq!(refused.text("action"), Some("OBSERVED"), "no policy judged it");
}

#[test]
fn a_path_that_is_cut_says_so() {
    let Some((scene, log)) = recorded("a path longer than PATH_MAX", |scene| {
        let workload = binary("workload");
        words(&[workload.to_str().expect("UTF-8"), "too-long", scene.work().to_str().expect("UTF-8")])
    }) else {
        return;
    };
    let level = format!("/{}", "q".repeat(200));
    let whole = format!("{}{}", scene.work().display(), level.repeat(30));
    for (line, record) in log.records() {
        let path = record.text("path").unwrap_or_default();
        if !path.contains(&level) && !path.contains("at-the-bottom") {
            continue;
        }
        let flagged = record.flag("path_truncated") == Some(true);
        let exact = path.starts_with(scene.work().to_str().expect("UTF-8"))
            && path.split('/').all(|part| part.is_empty() || !part.starts_with('q') || part.len() == 200)
            && path.len() <= whole.len() + "/missing-at-the-bottom".len();
        assert!(flagged || exact, "line {line} of the log: neither whole nor flagged: {path}");
        if path.ends_with("at-the-bottom") && !flagged {
            assert!(path.starts_with(&whole), "line {line} of the log: {path}");
        }
    }
    let opens = log.records().filter(|(_, record)| {
        let deep = record.text("path").is_some_and(|path| path.contains(&level))
            || record.flag("path_truncated") == Some(true);
        deep && matches!(record.text("event_type"), Some("file_open" | "file_create"))
    });
    assert!(opens.count() >= 2, "both opens at the bottom are told");
}

#[test]
fn a_library_that_is_preloaded_is_seen_in_the_program_that_it_is_loaded_into() {
    let Some((scene, log)) = recorded("a preloaded library", |scene| {
        let library = scene.work().join("preloaded.so");
        std::fs::write(&library, "").expect("a file");
        // What is no library is looked at all the same; the loader goes on without it.
        words(&["sh", "-c", "LD_PRELOAD=$PWD/preloaded.so exec true"])
    }) else {
        return;
    };
    let library = scene.work().join("preloaded.so");
    let open = only(&log, "the library's open", |record| is(record, "file_open", &library));
    let program = Path::new(open.text("exe").expect("a program")).file_name();
    let names = ["true", "coreutils"];
    assert!(program.and_then(|name| name.to_str()).is_some_and(|name| names.contains(&name)), "{program:?}");
}

#[test]
fn a_listening_unix_socket_is_told_by_its_own_name() {
    const LISTENS: &str = "
import os, socket
os.chdir('deep')
bound = socket.socket(socket.AF_UNIX); bound.bind('s.sock')
os.chdir('/')
bound.listen()
hidden = socket.socket(socket.AF_UNIX); hidden.bind('\\0a-test-listens-here'); hidden.listen()
";
    let Some((scene, log)) = recorded("listening unix sockets", |scene| {
        std::fs::create_dir(scene.work().join("deep")).expect("mkdir");
        words(&["python3", "-c", LISTENS])
    }) else {
        return;
    };
    for path in [scene.work().join("deep/s.sock").as_path(), Path::new("@a-test-listens-here")] {
        let listen = only(&log, "listen", |record| is(record, "net_listen", path));
        assert_eq!((listen.int("ret"), listen.text("proto")), (Some(0), Some("stream")));
    }
}
