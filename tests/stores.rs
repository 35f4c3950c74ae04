//! Stores on the file systems that people have, and runs that share one.

use std::process::Command;

use sandbox_tests::binaries::binary;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Scene, finish};

/// Records two runs in a store that is mounted by `mount`, in a mount namespace of its own, and checks all of it.
fn recorded_on(kind: &str, mount: &str) {
    let scene = Scene::new();
    let script = format!(
        "set -e
        mkdir base store
        {mount}
        export SANDBOX_HOME=\"$PWD/store\"
        test \"$(stat -f -c %T store)\" = {kind}
        \"$SANDBOX\" key init > key.pem
        \"$SANDBOX\" run -q -- ls / > listing
        \"$SANDBOX\" run -q -- sh -c 'echo x > new && rm new'
        \"$VERIFY\" --key key.pem store
        \"$SANDBOX\" view last
        \"$SANDBOX\" gc --keep 1
        \"$VERIFY\" --key key.pem store"
    );
    let mut command: Command = scene.command("unshare", ["-m", "--propagation", "private", "sh", "-c"]);
    command.arg(script).env("SANDBOX", binary("sandbox")).env("VERIFY", binary("audit-verify"));
    let done = finish(command).expect(0);
    assert!(
        done.stdout.contains("3 good") && done.stdout.contains("2 good"),
        "{}\n{}",
        done.stdout,
        done.stderr
    );
}

#[test]
fn a_store_on_tmpfs() {
    if met("a store on tmpfs", &[Need::Trace, Need::Program("unshare")]) {
        recorded_on("tmpfs", "mount -t tmpfs -o mode=755 tmpfs store");
    }
}

#[test]
fn a_store_on_ext4() {
    if met("a store on ext4", &[Need::Trace, Need::Program("unshare"), Need::Program("mkfs.ext4")]) {
        let mount = "mount -t tmpfs tmpfs base; truncate -s 64M base/image; mkfs.ext4 -q base/image
                     mount -o loop base/image store";
        recorded_on("ext2/ext3", mount);
    }
}

#[test]
fn a_store_on_overlayfs() {
    if met("a store on overlayfs", &[Need::Trace, Need::Program("unshare")]) {
        let mount = "mount -t tmpfs tmpfs base; mkdir base/lower base/upper base/work
                     mount -t overlay overlay -o lowerdir=base/lower,upperdir=base/upper,workdir=base/work store";
        recorded_on("overlayfs", mount);
    }
}

#[test]
fn runs_that_share_a_store_stand_in_one_ledger() {
    if !met("runs that share a store", &[Need::Trace]) {
        return;
    }
    const RUNS: usize = 6;
    let scene = Scene::new();
    let start = |_| scene.sandbox(["run", "-q", "--", "ls", "/"]).stdout(std::process::Stdio::null()).spawn();
    let runs: Vec<_> = (0..RUNS).map(|number| start(number).expect("sandbox starts")).collect();
    for mut run in runs {
        assert!(run.wait().expect("its end").success());
    }
    assert_eq!(scene.runs().len(), RUNS);
    let done = finish(scene.audit_verify([&scene.store()])).expect(0);
    assert!(done.stdout.ends_with(&format!("{} logs: {} good\n", RUNS + 1, RUNS + 1)), "{}", done.stdout);
    let ledger = std::fs::read_to_string(scene.store().join("ledger.jsonl")).expect("a ledger");
    assert_eq!(ledger.lines().count(), 2 * RUNS);
}
