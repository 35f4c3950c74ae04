//! Names that lead over symbolic links, where tracepoints alone watch: the record has the place that a call was about, whatever
//! became of the link since.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

/// A home with a key, beside the working directory.
struct Home {
    scene: Scene,
}

impl Home {
    fn new() -> Home {
        let scene = Scene::new();
        for directory in ["home/.ssh", "home/.config/autostart"] {
            fs::create_dir_all(scene.path(directory)).expect("a directory");
        }
        fs::write(scene.path("home/.ssh/id_rsa"), "key").expect("a key");
        Home { scene }
    }

    fn sandbox(&self, args: &[&str]) -> Done {
        let mut command = self.scene.sandbox(args);
        command.env("HOME", self.scene.path("home"));
        finish(command)
    }

    /// Records a script by the tracepoints.
    fn record(&self, script: &str) -> Log {
        self.sandbox(&["run", "--audit-only", "--layers", "trace", "--", "sh", "-c", script]).expect(0);
        Log::of_run(&self.last())
    }

    fn last(&self) -> PathBuf {
        self.scene.runs().pop().expect("a run")
    }

    /// What `policy replay base` would have blocked of the last run.
    fn blocked(&self) -> String {
        let run = self.last();
        let done = self.sandbox(&["policy", "replay", "base", run.to_str().expect("UTF-8")]);
        done.stdout
    }

    fn work(&self, name: &str) -> String {
        text(self.scene.work().join(name))
    }

    fn home(&self, name: &str) -> String {
        text(self.scene.path("home").join(name))
    }
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("a temporary path is UTF-8")
}

/// Both names of the events of a type that succeeded.
fn names(log: &Log, event_type: &str) -> Vec<(String, String)> {
    let text = |name: Option<&str>| name.unwrap_or_default().to_owned();
    let records = log.records().map(|(_, record)| record);
    let wanted = records
        .filter(|record| record.text("event_type") == Some(event_type) && record.int("ret") == Some(0));
    wanted.map(|record| (text(record.text("path")), text(record.text("path2")))).collect()
}

/// How many events say that a name was not resolved.
fn unresolved(log: &Log) -> usize {
    log.records().filter(|(_, record)| record.flag("path_unresolved") == Some(true)).count()
}

#[test]
fn what_goes_through_a_link_is_told_where_it_went() {
    if !met("names over links", &[Need::Trace]) {
        return;
    }
    let home = Home::new();
    let evil = home.home(".config/autostart/evil.desktop");
    let log = home
        .record("mkdir -p b; echo p>p; ln -s $HOME/.config/autostart l; mv p l/evil.desktop; rm l; rm -r b");
    assert_eq!(names(&log, "file_rename"), [(home.work("p"), evil.clone())]);
    assert_eq!(unresolved(&log), 0);
    let through = home.blocked();
    fs::remove_file(&evil).expect("what came there");
    let direct = home.record("mkdir -p b; echo p>p; mv p $HOME/.config/autostart/evil.desktop; rm -r b");
    assert_eq!(names(&direct, "file_rename"), [(home.work("p"), evil.clone())]);
    let directly = home.blocked();
    assert!(directly.contains(&evil), "the control is blocked: {directly}");
    assert!(through.contains(&evil), "as is what went through a link: {through}");

    let log = home.record("ln -s $HOME/.ssh l; ln l/id_rsa x; rm l; cat x; rm x");
    assert_eq!(names(&log, "file_link"), [(home.home(".ssh/id_rsa"), home.work("x"))]);
    assert_eq!(unresolved(&log), 0);
    let through = home.blocked();
    home.record("ln $HOME/.ssh/id_rsa x; cat x; rm x");
    let directly = home.blocked();
    let key = home.home(".ssh/id_rsa");
    assert!(directly.contains(&key) && through.contains(&key), "{directly}\n{through}");
}

#[test]
fn a_run_is_judged_by_the_place_behind_a_link() {
    if !met("verdicts on names over links", &[Need::Trace]) {
        return;
    }
    let home = Home::new();
    let script = "echo p>p; ln -s $HOME/.config l; mv p l/autostart/evil.desktop; rm l";
    home.sandbox(&["run", "--audit-only", "--layers", "trace", "--policy", "base", "--", "sh", "-c", script])
        .expect(0);
    let log = Log::of_run(&home.last());
    let renames = log.records().filter(|(_, record)| record.text("event_type") == Some("file_rename"));
    let renames: Vec<_> = renames.map(|(_, record)| record).collect();
    assert_eq!(renames.len(), 1);
    assert_eq!(renames[0].text("action"), Some("WOULD_BLOCK"));
    assert_eq!(renames[0].text("policy_rule"), Some("base/persistence"));
}

#[test]
fn every_call_about_a_name_is_told_behind_links() {
    if !met("calls about names over links", &[Need::Trace, Need::Program("python3")]) {
        return;
    }
    const CALLS: &str = "
import os
os.makedirs('d/e')
os.symlink('d/e', 'k')
os.symlink('f', 'k/g')
os.mknod('k/f')
os.chmod('k/f', 0o600)
os.chmod('k/g', 0o640)
os.truncate('k/g', 3)
os.utime('k/g')
os.utime('k/g', follow_symlinks=False)
os.lchown('k/g', 0, 0)
os.link('k/g', 'k/h')
os.mkdir('k/../n')
os.rename('k/../n', 'k/n')
os.rmdir('k/n')
os.rename('d', 'moved')
os.symlink('moved/e', 'm')
os.unlink('m/h')
os.unlink('m/g')
os.unlink('m')
os.unlink('k')
";
    let home = Home::new();
    fs::write(home.scene.work().join("calls.py"), CALLS).expect("a script");
    let log = home.record("python3 calls.py");
    let firsts = |event_type: &str| -> Vec<String> {
        let names = names(&log, event_type).into_iter().map(|(name, _)| name);
        names.filter(|name| name.starts_with(&home.work(""))).collect()
    };
    let all = |names: &[&str]| -> Vec<String> { names.iter().map(|name| home.work(name)).collect() };
    assert_eq!(firsts("file_create"), all(&["d/e/f"]));
    assert_eq!(firsts("file_mode"), all(&["d/e/f", "d/e/f"]));
    assert_eq!(firsts("file_truncate"), all(&["d/e/f"]));
    assert_eq!(firsts("file_times"), all(&["d/e/f", "d/e/g"]));
    assert_eq!(firsts("file_symlink"), all(&["k", "d/e/g", "m"]));
    assert_eq!(firsts("dir_create"), all(&["d", "d/e", "d/n"]));
    assert_eq!(firsts("dir_delete"), all(&["d/e/n"]));
    assert_eq!(firsts("file_delete"), all(&["moved/e/h", "moved/e/g", "m", "k"]));
    assert_eq!(names(&log, "file_link"), [(home.work("d/e/g"), home.work("d/e/h"))]);
    assert_eq!(names(&log, "file_rename")[0], (home.work("d/n"), home.work("d/e/n")));
    assert_eq!(unresolved(&log), 0);
}

#[test]
fn links_that_were_there_before_are_followed_or_said_not_to_be_known() {
    if !met("links of before the run", &[Need::Trace]) {
        return;
    }
    let home = Home::new();
    symlink(scene_path(&home, "home/.config"), home.scene.work().join("old")).expect("a link");
    symlink(scene_path(&home, "home/.config"), home.scene.work().join("gone")).expect("a link");
    let script = "echo p>p; echo q>q; mv p old/p; rm old; mv q gone/q; rm gone; mkdir gone; rmdir gone";
    let log = home.record(script);
    for (name, way) in [("p", "old"), ("q", "gone")] {
        // Whether it was looked at before it went is a matter of time. It is never told wrongly.
        let mut records = log.records().map(|(_, record)| record).filter(|record| {
            record.text("event_type") == Some("file_rename") && record.text("path") == Some(&home.work(name))
        });
        let record = records.next().expect("the rename");
        let told = (record.text("path2"), record.flag("path_unresolved"));
        let (led, called) = (home.home(&format!(".config/{name}")), home.work(&format!("{way}/{name}")));
        assert!(
            told == (Some(&led), None) || told == (Some(&called), Some(true)),
            "{told:?} is neither where it went nor said not to be known"
        );
    }
    // What stays is followed for sure.
    symlink(scene_path(&home, "home/.config"), home.scene.work().join("stays")).expect("a link");
    let log = home.record("echo p>p; mv p stays/s; rm stays/s");
    assert_eq!(names(&log, "file_rename"), [(home.work("p"), home.home(".config/s"))]);
    assert_eq!(names(&log, "file_delete"), [(home.home(".config/s"), String::new())]);
    assert_eq!(unresolved(&log), 0);
}

fn scene_path(home: &Home, name: &str) -> PathBuf {
    home.scene.path(name)
}

#[test]
fn names_without_links_stay_as_they_were_called() {
    if !met("names without links", &[Need::Trace]) {
        return;
    }
    let home = Home::new();
    fs::create_dir_all(home.scene.work().join("old/deep")).expect("directories");
    fs::write(home.scene.work().join("old/deep/file"), "").expect("a file");
    let log = home.record(
        "mkdir -p new/a; echo x >new/a/f; chmod 600 new/a/f ./old//deep/file; mv new/a/f old/deep/g; cd old; \
         mv deep/g ../new/h; rm ../new/h; rmdir $PWD/../new/a; rm -r ../new; mv no/such thing 2>/dev/null; true",
    );
    let all = |event_type: &str| -> Vec<String> {
        names(&log, event_type).into_iter().map(|(name, _)| name).collect()
    };
    let work = |name: &str| home.work(name);
    assert_eq!(all("file_mode"), [work("new/a/f"), work("old/deep/file")]);
    assert_eq!(
        names(&log, "file_rename"),
        [(work("new/a/f"), work("old/deep/g")), (work("old/deep/g"), work("new/h"))]
    );
    assert_eq!(all("file_delete"), [work("new/h")]);
    assert_eq!(all("dir_delete"), [work("new/a"), work("new")]);
    assert_eq!(unresolved(&log), 0, "honest work is not doubted");
}

#[test]
fn another_root_is_not_taken_for_the_runs() {
    if !met("a process with another root", &[Need::Trace, Need::Program("python3")]) {
        return;
    }
    const JAIL: &str = "
import os, time
os.makedirs('jail/t'); os.makedirs('jail/d')
os.chroot('jail')
os.mkdir('/d/x')
time.sleep(1)
";
    let home = Home::new();
    fs::write(home.scene.work().join("jail.py"), JAIL).expect("a script");
    let log = home.record("python3 jail.py; ln -s d l; mkdir jail/d/y; rm l");
    let told: Vec<_> = log.records().map(|(_, r)| r).filter(|r| r.text("path") == Some("/d/x")).collect();
    assert_eq!(told.len(), 1, "as it was called");
    assert_eq!(told[0].flag("path_unresolved"), Some(true), "and said to be no more than that");
    for (event_type, name) in [("file_symlink", "l"), ("dir_create", "jail/d/y"), ("file_delete", "l")] {
        let records = log.records().map(|(_, record)| record);
        let mut named = records
            .filter(|r| r.text("event_type") == Some(event_type) && r.text("path") == Some(&home.work(name)));
        assert_eq!(named.next().expect("the others").flag("path_unresolved"), None, "{name}");
    }
}
