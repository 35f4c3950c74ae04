//! Runs inside of `bwrap`, of a chroot, and of what a container runtime makes, started as root and as an ordinary user: what
//! `doctor` says there, that a run is recorded, and that a policy holds or is refused with the reason.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use sandbox_tests::closed::Closed;
use sandbox_tests::requirement::Need;
use sandbox_tests::scene::{Done, finish};

use crate::place::{Place, USER, at, possible};

/// Who starts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    User,
    Root,
}

/// A place, and how programs are started inside of something there.
struct Inside {
    place: Place,
    who: Who,
    /// Comes before the program.
    before: Vec<String>,
    /// How the place is called inside.
    top: String,
}

impl Inside {
    fn new(who: Who) -> Inside {
        let place = Place::new();
        let top = place.scene.path("").to_str().expect("UTF-8").trim_end_matches('/').to_owned();
        if who == Who::Root {
            for path in [place.work(), place.scene.store()] {
                chown(path, Some(0), Some(0)).expect("root's own");
            }
        }
        for file in ["work/.env", "outside"] {
            fs::write(place.scene.path(file), "secret\n").expect("a file");
            fs::set_permissions(place.scene.path(file), fs::Permissions::from_mode(0o666)).expect("chmod");
        }
        let inside = Inside { place, who, before: Vec::new(), top };
        inside.write_policy();
        inside
    }

    /// Inside of what `words` make; `{top}` is the place.
    fn of(who: Who, words: &[&str]) -> Inside {
        let mut inside = Inside::new(who);
        inside.before = words.iter().map(|word| word.replace("{top}", &inside.top)).collect();
        inside
    }

    fn write_policy(&self) {
        let top = &self.top;
        let rules = format!(
            "- {{ name: programs, allow: [read], path: [\"{top}/bin/**\"] }}
- {{ name: work, allow: [read, write, create, delete], path: [\"{top}/work/**\"] }}
- {{ name: env, deny: [all], path: [\"{top}/work/.env\"] }}"
        );
        let kernel = "ptrace-own, raw-devices";
        let policy =
            Closed { proc: true, rules: &rules, network: "deny", kernel, ..Closed::default() }.policy();
        fs::write(self.place.scene.path("policy.yaml"), policy).expect("a policy");
    }

    fn command(&self, words: &[&str]) -> Command {
        let sandbox = format!("{}/bin/sandbox", self.top);
        let words =
            self.before.iter().map(String::as_str).chain([sandbox.as_str()]).chain(words.iter().copied());
        let mut words = words.map(OsString::from);
        let program = words.next().expect("a program");
        match self.who {
            // The container and the chroot begin as root.
            Who::User if self.before.first().is_some_and(|first| first == "bwrap") => {
                self.place.command(program.as_ref(), words)
            }
            _ => {
                let mut command = self.place.scene.command(program, words);
                command.env("HOME", self.place.work());
                command
            }
        }
    }

    fn sandbox(&self, words: &[&str]) -> Done {
        finish(self.command(words))
    }

    /// `sandbox run`, with what it says of the layer that observes.
    fn records_by(&self, layer: &str) {
        let script = "id -u; cat /etc/hostname > read";
        let done = self.sandbox(&["run", "--", "sh", "-c", script]).expect(0);
        let uid = if self.who == Who::Root { 0 } else { USER };
        assert_eq!(done.stdout, format!("{uid}\n"));
        let by_notify = done.stderr.contains("observed by notify");
        assert_eq!(by_notify, layer == "notify", "{}", done.stderr);
        finish(self.place.scene.audit_verify(["last"])).expect(0);
        let log = self.place.log();
        assert!(!at(&log, "file_open", b"/etc/hostname").is_empty(), "{:?}", self.before);
        let made = format!("{}/work/read", self.top);
        let told = log.records().any(|(_, record)| record.text("path") == Some(&made));
        assert!(told, "{:?}: {made}", self.before);
        fs::remove_dir_all(self.place.scene.store().join("runs")).expect("room for the next");
        fs::remove_file(self.place.scene.store().join("ledger.jsonl")).expect("its entry");
    }

    /// A policy that is held, with its control.
    fn holds(&self) {
        let top = &self.top;
        let attempts = format!(
            "cat .env; cat {top}/outside; echo x > {top}/outside; echo x > made && echo made; cat made"
        );
        let free =
            finish(self.place.scene.command(
                "sh",
                ["-c", &format!("cat .env; cat {}", self.place.scene.path("outside").display())],
            ));
        assert_eq!(free.stdout, "secret\nsecret\n", "the control");
        let policy = format!("{top}/policy.yaml");
        let done = self.sandbox(&["run", "--enforce", &policy, "--", "sh", "-c", &attempts]).expect(0);
        assert_eq!(done.stdout, "made\nx\n", "{:?}\n{}", self.before, done.stderr);
        assert!(done.stderr.contains(&format!("cat: {top}/outside: Permission denied")), "{}", done.stderr);
        // Root inside reads a cover, which is empty.
        let refused = done.stderr.contains("cat: .env: Permission denied");
        assert_eq!(refused, self.who == Who::User, "{}", done.stderr);
        finish(self.place.scene.audit_verify(["last"])).expect(0);
        let log = self.place.log();
        let first = log.records().next().expect("a line").1;
        assert_eq!(first.list("unheld"), None, "all of it is held");
        let blocked = |rule: &str, tail: &str| {
            log.records().any(|(_, record)| {
                record.text("action") == Some("BLOCKED")
                    && record.text("policy_rule") == Some(rule)
                    && record.text("path") == Some(&format!("{top}/{tail}"))
            })
        };
        assert!(blocked("p/files.default", "outside"), "{:?}", self.before);
        if self.who == Who::User {
            assert!(blocked("p/env", "work/.env"), "{:?}", self.before);
        }
    }

    /// A policy that is refused, with all of these words.
    fn refuses(&self, why: &[&str]) {
        let policy = format!("{}/policy.yaml", self.top);
        let done = self.sandbox(&["run", "--enforce", &policy, "--", "touch", "ran"]).expect(125);
        for word in why {
            assert!(done.stderr.contains(word), "{word}\n{}", done.stderr);
        }
        assert!(!self.place.work().join("ran").exists());
    }

    /// With `--best-effort`: what Landlock holds is held.
    fn holds_by_landlock_alone(&self) {
        let top = &self.top;
        let policy = format!("{top}/policy.yaml");
        let script = format!("cat .env; cat {top}/outside; echo x > made && cat made");
        let words = ["run", "--best-effort", "--enforce", &policy, "--", "sh", "-c", &script];
        let done = self.sandbox(&words).expect(0);
        assert_eq!(done.stdout, "secret\nx\n", "{}", done.stderr);
        assert!(done.stderr.contains("not held: rule `p/env` denies `read`"), "{}", done.stderr);
        assert!(done.stderr.contains(&format!("cat: {top}/outside: Permission denied")), "{}", done.stderr);
    }

    /// What `doctor` says of layers: `name state`.
    fn doctor(&self, layers: &[(&str, &str)]) -> String {
        let said = self.sandbox(&["doctor"]).stdout;
        for (name, state) in layers {
            let line = said.lines().find(|line| line.split_whitespace().next() == Some(name));
            let found = line.and_then(|line| line.split_whitespace().nth(1));
            assert_eq!(found, Some(*state), "{name}\n{said}");
        }
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

const WORKS: [(&str, &str); 4] =
    [("notify", "works"), ("landlock", "works"), ("mountns", "works"), ("netns", "works")];

/// As people start it: the whole machine in other namespaces, or read-only but for one place.
const BWRAP: [&[&str]; 2] = [
    &["bwrap", "--dev-bind", "/", "/", "--proc", "/proc", "--unshare-user", "--unshare-pid"],
    &[
        "bwrap",
        "--ro-bind",
        "/",
        "/",
        "--bind",
        "{top}",
        "{top}",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--unshare-all",
        "--die-with-parent",
    ],
];

#[test]
fn bwrap_leaves_what_a_user_has() {
    if !possible("runs in bwrap", &[Need::Program("bwrap")]) {
        return;
    }
    for who in [Who::User, Who::Root] {
        for words in BWRAP {
            // For root it makes a user namespace only where it is told to.
            let namespace = if words.contains(&"--unshare-user") { &[][..] } else { &["--unshare-user"] };
            let inside = Inside::of(who, &[words, namespace].concat());
            inside.doctor(&WORKS);
            inside.records_by("notify");
            inside.holds();
        }
    }
    // Root without a user namespace keeps its programs, and is the machine's root.
    let words = &["bwrap", "--dev-bind", "/", "/", "--proc", "/proc", "--unshare-pid", "--die-with-parent"];
    let inside = Inside::of(Who::Root, words);
    inside.doctor(&WORKS);
    inside.records_by("trace");
    inside.holds();
}

#[test]
fn a_proc_of_other_processes_is_refused() {
    if !possible("a /proc of another namespace", &[Need::Program("bwrap")]) {
        return;
    }
    let words = ["bwrap", "--dev-bind", "/", "/", "--unshare-user", "--unshare-pid"];
    let inside = Inside::of(Who::User, &words);
    let done = inside.sandbox(&["run", "--", "touch", "ran"]).expect(125);
    assert!(done.stderr.contains("/proc belongs to another pid namespace"), "{}", done.stderr);
    assert!(!inside.place.work().join("ran").exists());
    let inside = Inside::of(Who::User, &[&words[..], &["--proc", "/proc"]].concat());
    inside.sandbox(&["run", "--", "touch", "ran"]).expect(0);
    assert!(inside.place.work().join("ran").exists());
}

/// TOP UID PROGRAM…: a root with the machine's programs, /proc, /dev/null, and the place as /opt; nothing of it is seen
/// outside. The mounts are private, so that the end of the shell is theirs.
const CHROOT: &str = r#"
set -e
top=$1 uid=$2; shift 2
mount --make-rprivate /
mkdir -p "$top/root"
mount -t tmpfs none "$top/root"
cd "$top/root"
mkdir usr etc proc dev tmp opt
chmod 1777 tmp
mount --bind /usr usr
mount --bind /etc etc
for name in bin lib lib64; do ln -s usr/$name $name; done
mount -t proc none proc
touch dev/null
mount --bind /dev/null dev/null
mount --bind "$top" opt
export SANDBOX_HOME=/opt/store HOME=/opt/work PATH=/usr/bin
[ "$uid" = 0 ] || set -- /usr/bin/setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
exec /usr/sbin/chroot . /bin/sh -c 'cd /opt/work && exec "$@"' sh "$@"
"#;

fn in_chroot(who: Who) -> Inside {
    let mut inside = Inside::new(who);
    let uid = if who == Who::Root { 0 } else { USER }.to_string();
    let words = ["unshare", "--mount", "sh", "-c", CHROOT, "sh", &inside.top, &uid];
    inside.before = words.map(str::to_owned).to_vec();
    inside.top = "/opt".to_owned();
    inside.write_policy();
    inside
}

#[test]
fn a_chroot_leaves_a_user_the_record_and_landlock() {
    if !possible("runs of a user in a chroot", &[Need::Program("setpriv")]) {
        return;
    }
    let inside = in_chroot(Who::User);
    let layers = [("notify", "works"), ("landlock", "works"), ("mountns", "missing"), ("netns", "missing")];
    let said = inside.doctor(&layers);
    assert!(said.contains("in a chroot nobody can make one"), "{said}");
    inside.records_by("notify");
    inside.refuses(&[
        "rule `p/env` denies `read`",
        "rule `p/network.default`",
        "in a chroot nobody can make one",
    ]);
    in_chroot(Who::User).holds_by_landlock_alone();
}

#[test]
fn a_chroot_leaves_root_all_but_programs() {
    if !possible("runs of root in a chroot", &[]) {
        return;
    }
    let inside = in_chroot(Who::Root);
    inside.doctor(&WORKS);
    inside.records_by("notify");
    inside.holds();
}

/// TOP UID PROGRAM…: masks what container runtimes mask, and goes on in container.py.
const CONTAINER: &str = r#"
set -e
top=$1; shift
mount --make-rprivate /
for place in /proc/acpi /proc/scsi /sys/firmware; do [ ! -d $place ] || mount -t tmpfs -o ro none $place; done
for place in /proc/kcore /proc/keys /proc/timer_list; do [ ! -e $place ] || mount --bind /dev/null $place; done
for place in /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger; do
    [ ! -e $place ] || { mount --bind $place $place; mount -o remount,bind,ro $place; }
done
mount --rbind /sys /sys
mount -o remount,bind,ro /sys
exec python3 -I "$top/container.py" "$@"
"#;

fn in_container(who: Who) -> Inside {
    let mut inside = Inside::new(who);
    fs::write(inside.place.scene.path("container.py"), include_str!("container.py")).expect("a program");
    let uid = if who == Who::Root { 0 } else { USER }.to_string();
    let words = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", CONTAINER, "sh"];
    inside.before = words.iter().copied().chain([inside.top.as_str(), &uid]).map(str::to_owned).collect();
    inside
}

#[test]
fn a_container_leaves_the_record_and_landlock() {
    let needs = [Need::Program("python3"), Need::Program("unshare")];
    if !cfg!(target_arch = "x86_64") || !possible("runs in a container", &needs) {
        return;
    }
    for who in [Who::User, Who::Root] {
        let inside = in_container(who);
        let layers =
            [("notify", "works"), ("landlock", "works"), ("mountns", "missing"), ("netns", "missing")];
        let said = inside.doctor(&layers);
        assert!(said.contains("that of a container perhaps, forbids it"), "{said}");
        inside.records_by("notify");
        let why = ["rule `p/env` denies `read`", "rule `p/network.default`", "that of a container perhaps"];
        inside.refuses(&why);
        in_container(who).holds_by_landlock_alone();
    }
}
