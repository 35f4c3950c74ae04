//! Completeness against the truth: `sandbox run --audit-only -- strace -f … CMD`, so that both watch the
//! same execution. Every exec, open, unlink, rename, connect (and mkdir, rmdir, link, symlink) that strace
//! saw, successful or failed, stands in the log with the right absolute path and result, and the log tells
//! nothing of these processes that strace did not see.

use sandbox_tests::compare::Comparison;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met, say};
use sandbox_tests::scene::Scene;
use sandbox_tests::watched::{
    C_PROJECT, GIT_AND_PYTHON, PATHS, PROCESSES, SOCKETS, Workload, trace_file, truth,
};

#[test]
fn git_and_python() {
    complete(&GIT_AND_PYTHON);
}

#[test]
fn c_project() {
    complete(&C_PROJECT);
}

#[test]
fn paths() {
    complete(&PATHS);
}

#[test]
fn processes() {
    complete(&PROCESSES);
}

#[test]
fn sockets() {
    complete(&SOCKETS);
}

fn complete(workload: &Workload) {
    let test = format!("completeness, {}", workload.name);
    if !met(&test, &[workload.needs(), vec![Need::Trace]].concat()) {
        return;
    }
    let scene = Scene::new();
    let done = scene.record(workload.under_strace(&scene)).expect(0);
    let log = Log::of_run(&scene.run());
    let seal = log.seal();
    assert_eq!(seal.uint("lost"), Some(0), "a quiet workload loses nothing\n{}", done.stderr);
    let (seen, processes) = truth(&trace_file(&scene));
    let comparison = Comparison::of(&seen, &log.attempts(&processes));
    say(&format!("{test}: {}", comparison.summary()));
    assert!(comparison.differences.is_empty(), "{test}: {}\n{}", comparison.summary(), comparison.diff());
    workload.check_minimum(|kind| comparison.count(kind), comparison.failed);
}
