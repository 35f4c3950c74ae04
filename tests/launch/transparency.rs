//! An audit-only run changes nothing that the command can notice, apart from its parent and control group.

use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Scene, finish};

/// What a process can see of itself; pid, parent, times and control group left out.
const LOOK: &str = r#"
    grep -E '^(Umask|State|Groups|Uid|Gid|Sig(Pnd|Blk|Ign|Cgt)|ShdPnd|Cap|NoNewPrivs|Seccomp|Cpus|Mems|CoreDumping|THP)' \
        /proc/self/status
    cat /proc/self/limits /proc/self/oom_score_adj
    cat /proc/self/environ | tr '\0' '\n'
    for link in cwd root ns/mnt ns/net ns/pid ns/user ns/uts ns/ipc ns/cgroup; do readlink /proc/self/$link; done
    find /proc/self/fd -mindepth 1 -printf '%f %l\n' | sort -n | sed 's/^1 pipe:.*/1 the pipe to sort/; s/[0-9]* (deleted)$/a file/; s,/proc/[0-9]*,/proc/find,'
    cut -d' ' -f7 /proc/self/stat  # the terminal
    ps -o sid= -p $$
"#;

/// The same look through and without the sandbox, in the same surroundings.
fn assert_same(name: &str, surroundings: &str) {
    if !met(name, &[Need::Trace, Need::Program("ps")]) {
        return;
    }
    let scene = Scene::new();
    let look = |front: &[&str]| {
        let mut args = vec!["-c", surroundings, "sh"];
        args.extend(front);
        args.extend(["bash", "-c", LOOK]);
        finish(scene.command("bash", args)).expect(0).stdout
    };
    let sandbox = sandbox_tests::binaries::binary("sandbox");
    let bare = look(&[]);
    let run = look(&[sandbox.to_str().expect("a path in UTF-8"), "run", "--audit-only", "--quiet", "--"]);
    assert!(
        bare.contains("SigIgn") && bare.contains("Max open files") && bare.contains("SANDBOX_HOME="),
        "{bare}"
    );
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (bare, run) = (lines(&bare), lines(&run));
    let differ: Vec<_> = bare.iter().zip(&run).filter(|(bare, run)| bare != run).collect();
    assert!(
        bare.len() == run.len() && differ.is_empty(),
        "{} and {} lines: {differ:?}",
        bare.len(),
        run.len()
    );
}

#[test]
fn as_it_is() {
    assert_same("as_it_is", r#"exec "$@""#);
}

#[test]
fn with_ignored_signals() {
    assert_same("with_ignored_signals", r#"trap '' PIPE HUP INT QUIT CHLD TSTP USR1 ALRM 40; exec "$@""#);
}

#[test]
fn with_other_descriptors_limits_and_umask() {
    assert_same(
        "with_other_descriptors_limits_and_umask",
        r#"umask 027; ulimit -f 100; ulimit -c 0; ulimit -n 200; exec 7</dev/null 9>/dev/null; exec "$@""#,
    );
}

#[test]
fn with_closed_standard_descriptors() {
    // stdout carries the answer; the others are closed.
    assert_same("with_closed_standard_descriptors", r#"exec "$@" <&- 2>&-"#);
}

#[test]
fn with_an_odd_environment() {
    assert_same(
        "with_an_odd_environment",
        r#"exec env -i "PATH=$PATH" "SANDBOX_HOME=$SANDBOX_HOME" 'A=1' 'B=x=y' "C=$(printf '\377')" 'EMPTY=' "$@""#,
    );
}

#[test]
fn blocked_signals_stay_blocked() {
    if !met("blocked_signals_stay_blocked", &[Need::Trace, Need::Program("python3")]) {
        return;
    }
    let scene = Scene::new();
    let block = "import os, signal, sys\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGCHLD, signal.SIGINT])\n\
        os.execvp(sys.argv[1], sys.argv[1:])";
    let mask = |front: &[&str]| {
        let mut args = vec!["-c", block];
        args.extend(front);
        args.extend(["grep", "SigBlk", "/proc/self/status"]);
        finish(scene.command("python3", args)).expect(0).stdout
    };
    let sandbox = sandbox_tests::binaries::binary("sandbox");
    let bare = mask(&[]);
    assert_ne!(bare, "SigBlk:\t0000000000000000\n");
    assert_eq!(bare, mask(&[sandbox.to_str().unwrap(), "run", "-q", "--"]));
}
