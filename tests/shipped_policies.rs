//! The policies that ship and those of `docs/policies/`, through the built binary: without a warning and with every
//! example, in a plain directory, in a repository and in a linked worktree. Needs no privilege.

use std::fs;
use std::path::{Path, PathBuf};

use sandbox_tests::scene::{Done, Scene, finish};

fn policies(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut all: Vec<PathBuf> =
        fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    all.sort();
    all
}

/// A repository in the working directory, and a worktree of it beside it; no git is needed.
fn repository(scene: &Scene) -> PathBuf {
    let git = scene.work().join(".git");
    let linked = git.join("worktrees/side");
    fs::create_dir_all(&linked).expect("the scene is set");
    fs::write(git.join("HEAD"), "ref: refs/heads/main\n").expect("the scene is set");
    fs::write(linked.join("HEAD"), "ref: refs/heads/side\n").expect("the scene is set");
    fs::write(linked.join("commondir"), "../..\n").expect("the scene is set");
    for directory in ["objects", "refs"] {
        fs::create_dir(git.join(directory)).expect("the scene is set");
    }
    let side = scene.path("side");
    let back = format!("{}\n", side.join(".git").display());
    fs::write(linked.join("gitdir"), back).expect("the scene is set");
    fs::create_dir(&side).expect("the scene is set");
    fs::write(side.join(".git"), format!("gitdir: {}\n", linked.display())).expect("the scene is set");
    side
}

/// `sandbox policy ARGS…`, with a key agent's socket as ssh-agent names it.
fn ask(scene: &Scene, directory: &Path, args: &[&str]) -> Done {
    let mut command = scene.sandbox(["policy"].iter().chain(args));
    command.current_dir(directory).env("SSH_AUTH_SOCK", "/tmp/ssh-abcdef/agent.42").env_remove("TMPDIR");
    finish(command)
}

#[test]
fn each_is_right_without_a_warning_wherever_it_is_used() {
    let plain = Scene::new();
    let repo = Scene::new();
    let side = repository(&repo);
    let all = [policies("policies"), policies("docs/policies")].concat();
    assert_eq!(all.len(), 10, "{all:?}");
    for policy in all {
        let policy = policy.to_str().expect("text");
        for (scene, directory) in [(&plain, plain.work()), (&repo, repo.work()), (&repo, side.clone())] {
            let done = ask(scene, &directory, &["check", "--strict", policy]);
            let clean = !done.stderr.contains("warning:");
            assert!(done.code() == 0 && clean, "{policy} in {}: {}", directory.display(), done.stderr);
            assert!(done.stdout.contains("is right"), "{policy}: {}", done.stdout);
        }
    }
}

#[test]
fn those_for_real_work_decide_as_their_users_expect() {
    let scene = Scene::new();
    let side = repository(&scene);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policies");
    let git = scene.work().join(".git").canonicalize().expect("the repository");
    let git = git.to_str().expect("text");
    let (config, object) = (format!("{git}/config"), format!("{git}/objects/ab/cdef"));
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
    let (npmrc, key) = (format!("{home}/.npmrc"), format!("{home}/.ssh/id_ed25519"));
    let cases: &[(&str, &[&str], i32, &str)] = &[
        ("worktree-agent", &["--open", "src/main.rs", "--access", "read,write,create"], 0, "by strict/"),
        ("worktree-agent", &["--open", &object, "--access", "create"], 0, "strict/"),
        ("worktree-agent", &["--open", &config, "--access", "read"], 0, "strict/"),
        ("worktree-agent", &["--open", &npmrc, "--by", "/usr/bin/node"], 0, "npm-token"),
        ("worktree-agent", &["--open", &npmrc, "--by", "/usr/bin/cat"], 1, "files.default"),
        ("worktree-agent", &["--open", &npmrc], 1, "files.default"),
        ("worktree-agent", &["--open", &key, "--by", "/usr/bin/ssh"], 1, "base/credentials"),
        ("web-developer", &["--connect", "127.0.0.1:5432"], 1, "host-database"),
        ("web-developer", &["--connect", "127.0.0.1:3000"], 1, "network.default"),
        ("web-developer", &["--listen", "127.0.0.1:3000"], 0, "coding-agent/own-servers"),
        ("npm-ci", &["--open", "package-lock.json", "--access", "write"], 1, "npm-ci/inputs"),
        ("npm-ci", &["--open", "node_modules/x/index.js", "--access", "create"], 0, "by strict/"),
        ("npm-ci", &["--run", "/usr/bin/curl"], 1, "npm-ci/no-fetchers"),
        ("npm-ci", &["--connect", "10.0.0.1:443"], 1, "network.default"),
    ];
    for (name, args, code, rule) in cases {
        let file = docs.join(format!("{name}.yaml"));
        let args = [&["eval", file.to_str().expect("text")], *args].concat();
        let done = ask(&scene, &side, &args);
        assert_eq!(done.code(), *code, "{args:?}: {}{}", done.stdout, done.stderr);
        assert!(done.stdout.contains(rule), "{args:?}: {rule} in {}", done.stdout);
    }
}

/// What `doctor` says of a policy of this text: its words of a section, and whether a run starts.
fn doctor(text: &str) -> String {
    let place = tempfile::tempdir().expect("a directory");
    fs::write(place.path().join("p.yaml"), text).expect("a policy");
    let mut command = std::process::Command::new(sandbox_tests::binaries::binary("sandbox"));
    command.current_dir(place.path()).args(["doctor", "--policy", "p.yaml"]);
    String::from_utf8(command.output().expect("doctor").stdout).expect("text")
}

#[test]
fn rings_are_not_held_by_a_filter() {
    use sandbox_tests::requirement::{Need, met};
    if !met("what rings of io_uring pass", &[Need::Trace]) {
        return;
    }
    let text = |more: &str| format!("version: 1\nname: p\nextends: [coding-agent@1]\n{more}");
    let starts = |said: &str| said.contains("an enforced run starts: all of it is held");
    let plain = doctor(&text("syscalls: { deny: [mkdirat] }\n"));
    assert!(starts(&plain), "{plain}");
    let rings = doctor(&text("kernel: { allow: [io-uring, ptrace-own] }\n"));
    assert!(!starts(&rings) && rings.contains("NOT HELD     p/network.default"), "{rings}");
    let calls = doctor(&text("kernel: { allow: [io-uring, ptrace-own] }\nsyscalls: { deny: [mkdirat] }\n"));
    assert!(calls.contains("NOT HELD     p/syscalls"), "{calls}");
}
