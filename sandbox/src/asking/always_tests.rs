use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use policy::{Access, Policies, Subject, Variables};

use super::*;
use crate::asking::about::PolicyFile;
use crate::asking::calls::Tried;
use crate::event::decode::Unix;

const POLICY: &str = "\
# mine
version: 1
name: p
files:
  default: allow
  rules:
    - { name: keys, ask: [read, write], path: [/keys/**], timeout: 5m } # kept
    - { name: shut, deny: [read], path: [/shut] }
";

struct Scene {
    directory: tempfile::TempDir,
    file: PathBuf,
}

impl Scene {
    fn new(text: &str) -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let file = fs::canonicalize(directory.path()).unwrap().join("p.yaml");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        Scene { directory, file }
    }

    fn policy_file(&self) -> PolicyFile {
        PolicyFile::of(std::slice::from_ref(&self.file)).unwrap().unchanged().unwrap()
    }

    fn about(&self, tried: &[Tried]) -> About {
        let file = self.policy_file();
        let sha256 = vec![file.sha256.clone()];
        let subject = Subject { exe: b"/usr/bin/ssh", ancestors: &[] };
        let about = About::new(tried, &subject, &file, sha256);
        // As it comes over the wire.
        serde_json::from_slice(&serde_json::to_vec(&about).unwrap()).unwrap()
    }

    fn reading(&self, path: &str) -> About {
        self.about(&[Tried::File { accesses: Access::Read.into(), path: path.as_bytes().to_vec() }])
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn variables() -> Variables {
    let mut variables = Variables::new();
    for (name, value) in [("HOME", "/home/ann"), ("USER", "ann"), ("UID", "1000"), ("TMP", "/tmp")] {
        variables.set(name, value).unwrap();
    }
    for (name, value) in [("WORKSPACE", "/home/ann/w"), ("RUN_DIR", "/runs/x")] {
        variables.set(name, value).unwrap();
    }
    variables
}

fn refusal(about: &About) -> String {
    plan(about, &variables()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn the_rule_is_shown_and_then_takes_its_place() {
    let scene = Scene::new(POLICY);
    let planned = plan(&scene.reading("/keys/a"), &Variables::new()).unwrap();
    assert_eq!(
        planned.changes(),
        [
            "-     - { name: keys, ask: [read, write], path: [/keys/**], timeout: 5m } # kept",
            "+     - { name: keys, ask: [read, write], path: [/keys/**], except: [\"/keys/a\"], timeout: 5m } # kept",
            "+     - name: \"keys-rest\"",
            "+       ask: [write]",
            "+       path: [\"/keys/a\"]",
            "+       timeout: \"5m\"",
        ]
    );
    assert_eq!(scene.text(), POLICY, "nothing is written yet");
    let sha256 = crate::record::hex(&planned.sha256());
    let staged = planned.stage().unwrap();
    assert_eq!((scene.text().as_str(), scene.names().len()), (POLICY, 2));
    staged.put().unwrap();
    assert_eq!(scene.names(), ["p.yaml"]);
    assert_eq!(crate::record::sha256_hex(scene.text().as_bytes()), sha256);
    assert_eq!(fs::metadata(&scene.file).unwrap().permissions().mode() & 0o7777, 0o640);
    let policy = read_text(&scene.file, &scene.text(), &Variables::new()).unwrap();
    let policies = Policies::from(policy);
    let ssh = Subject { exe: b"/usr/bin/ssh", ancestors: &[] };
    let judged = |access: Access, path: &str| {
        policies.judge(&ssh, &policy::Act::File { accesses: access.into(), path: path.as_bytes() }).decision
    };
    use policy::Decision::{Allow, Ask};
    assert_eq!(
        (judged(Access::Read, "/keys/a"), judged(Access::Write, "/keys/a"), judged(Access::Read, "/keys/b")),
        (Allow, Ask, Ask)
    );
    // What it holds now is not what the run began with, unless the runner knows of it.
    let mut about = scene.reading("/keys/b");
    about.sha256 = vec![crate::record::sha256_hex(POLICY.as_bytes())];
    assert!(refusal(&about).ends_with("was changed since the run began"), "{}", refusal(&about));
    about.sha256.push(sha256);
    plan(&about, &Variables::new()).unwrap().stage().unwrap().put().unwrap();
    assert!(scene.text().contains("except: [\"/keys/b\", \"/keys/a\"]"), "{}", scene.text());
}

#[test]
fn what_is_not_put_leaves_nothing() {
    let scene = Scene::new(POLICY);
    drop(plan(&scene.reading("/keys/a"), &Variables::new()).unwrap().stage().unwrap());
    assert_eq!((scene.text().as_str(), scene.names().len()), (POLICY, 1));
    // Somebody else's change in between stays.
    let staged = plan(&scene.reading("/keys/a"), &Variables::new()).unwrap().stage().unwrap();
    fs::write(&scene.file, format!("{POLICY}# more\n")).unwrap();
    assert!(staged.put().unwrap_err().to_string().contains("changed by somebody else meanwhile"));
    assert_eq!((scene.text(), scene.names().len()), (format!("{POLICY}# more\n"), 1));
    // So does a file that took its place.
    let staged = plan(&scene.reading("/keys/a"), &Variables::new()).unwrap().stage().unwrap();
    fs::write(scene.directory.path().join("new"), POLICY).unwrap();
    fs::rename(scene.directory.path().join("new"), &scene.file).unwrap();
    assert!(staged.put().unwrap_err().to_string().contains("changed by somebody else meanwhile"));
    assert_eq!((scene.text().as_str(), scene.names().len()), (POLICY, 1));
}

#[test]
fn one_answer_is_written_at_a_time_and_what_lies_at_its_name_goes() {
    let scene = Scene::new(POLICY);
    let about = scene.reading("/keys/a");
    let first = plan(&about, &Variables::new()).unwrap();
    assert!(refusal(&about).ends_with("is being written by another answer"), "{}", refusal(&about));
    let elsewhere = scene.directory.path().join("elsewhere");
    fs::write(&elsewhere, "other").unwrap();
    symlink(&elsewhere, about.next()).unwrap();
    first.stage().unwrap().put().unwrap();
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "other");
    assert!(!scene.file.is_symlink() && scene.text().contains("keys-rest"));
    // What is not to be removed is not.
    fs::create_dir(about.next()).unwrap();
    let before = scene.text();
    let planned = plan(&scene.reading("/keys/b"), &Variables::new()).unwrap();
    assert!(planned.stage().unwrap_err().to_string().contains("cannot be written"));
    assert_eq!(scene.text(), before);
}

#[test]
fn only_a_plain_file_of_ones_own_is_written() {
    let says = |change: &dyn Fn(&Scene), says: &str| {
        let scene = Scene::new(POLICY);
        let about = scene.reading("/keys/a");
        change(&scene);
        assert!(refusal(&about).contains(says), "{says}: {}", refusal(&about));
    };
    says(
        &|scene| fs::set_permissions(&scene.file, Permissions::from_mode(0o440)).unwrap(),
        "is not writable",
    );
    says(&|scene| fs::hard_link(&scene.file, scene.directory.path().join("x")).unwrap(), "has other names");
    says(&|scene| fs::remove_file(&scene.file).unwrap(), "cannot be opened");
    says(&|scene| fs::write(&scene.file, "version: 1\n").unwrap(), "was changed since the run began");
    says(
        &|scene| {
            let moved = scene.directory.path().join("moved");
            fs::rename(&scene.file, &moved).unwrap();
            symlink(&moved, &scene.file).unwrap();
        },
        "is a symbolic link now",
    );
    if nix::unistd::Uid::effective().is_root() {
        let chown = |scene: &Scene| std::os::unix::fs::chown(&scene.file, Some(65534), None).unwrap();
        says(&chown, "belongs to uid 65534");
    }
}

#[test]
fn what_no_rule_can_say_is_refused_with_the_reason() {
    let says = |text: &str, tried: Tried, says: &str| {
        let scene = Scene::new(text);
        let about = scene.about(&[tried]);
        assert!(refusal(&about).contains(says), "{says}: {}", refusal(&about));
        assert_eq!(scene.text(), text);
    };
    let read = |path: &str| Tried::File { accesses: Access::Read.into(), path: path.as_bytes().to_vec() };
    let base = "version: 1\nname: mine\nextends: [base@1]\n";
    let mine = format!("{base}files:\n  default: allow\n");
    says(&mine, read("/etc/shadow"), "of a policy that it extends denies it");
    let examples = format!("{POLICY}examples:\n  - {{ open: /keys/a, access: [read], verdict: ask }}\n");
    says(&examples, read("/keys/a"), "an example of the file says otherwise");
    let flow = "version: 1\nname: p\nfiles: { default: deny }\n";
    says(flow, read("/x"), "must be added by hand");
    says(POLICY, read("/open"), "the file allows it already");
    let network = "version: 1\nname: p\nnetwork:\n  default: allow\n  rules:\n    - { name: own, deny: [connect], to: [\"own:80\"] }\n    - { name: all, ask: [connect], to: [any] }\n";
    let to = |address: &str| Tried::Address {
        accesses: Access::Connect.into(),
        address: address.parse().unwrap(),
        port: 80,
        protocol: policy::Protocol::Tcp,
        names: Vec::new(),
    };
    says(network, to("127.0.0.1"), "it may be a listener of the run");
    let scene = Scene::new(network);
    assert!(plan(&scene.about(&[to("192.0.2.1")]), &Variables::new()).is_ok());
    let socket =
        Tried::Socket { accesses: Access::Connect.into(), path: b"@name".to_vec(), unix: Unix::Abstract };
    let closed = "version: 1\nname: p\nnetwork:\n  default: deny\n";
    let scene = Scene::new(closed);
    let planned = plan(&scene.about(&[socket]), &Variables::new()).unwrap();
    assert!(planned.changes().concat().contains("to: [\"unix:@name\"]"), "{:?}", planned.changes());
}

#[test]
fn several_policies_and_one_that_ships_have_no_file() {
    let scene = Scene::new(POLICY);
    let of = |names: &[&str]| {
        let names: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
        PolicyFile::of(&names).unwrap_err()
    };
    let file = scene.file.to_str().unwrap();
    assert!(of(&[file, "base"]).contains("the run has 2 policies"));
    assert!(of(&["base"]).contains("ships with this program"), "{}", of(&["base"]));
    assert!(of(&["/nonexistent"]).contains("cannot be read"));
    assert!(of(&["/dev/null"]).contains("is no plain file"));
    let before = scene.policy_file();
    fs::write(&scene.file, "version: 1\n").unwrap();
    assert!(before.unchanged().unwrap_err().contains("was changed while the run began"));
}
