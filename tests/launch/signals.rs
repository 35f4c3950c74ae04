//! Signals that somebody sends to the front-end, or that the command sends to its own group.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::sys::signal::Signal;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::Scene;

use crate::processes::{is_stopped, last_line, ready, signal, until, verified};

/// A run whose command says by a file that it is ready; in a process group of its own.
fn start(scene: &Scene, script: &str) -> Child {
    let mut command = scene.sandbox(["run", "-q", "--", "sh", "-c", script]);
    command.process_group(0);
    command.spawn().expect("sandbox starts")
}

fn with_group(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

const COUNT: &str = "trap 'echo got >> signals' TERM INT HUP QUIT USR1 USR2 ALRM WINCH; echo $$ > ready;
    until [ -e stop ]; do sleep 0.01; done; exit 4";

#[test]
fn what_is_sent_to_the_runner_is_passed_on_once() {
    if !met("what_is_sent_to_the_runner_is_passed_on_once", &[Need::Trace]) {
        return;
    }
    let signals = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGWINCH,
    ];
    let scene = Scene::new();
    let mut child = start(&scene, COUNT);
    ready(&scene.work().join("ready"));
    let got = || fs::read_to_string(scene.work().join("signals")).unwrap_or_default().lines().count();
    for (index, sent) in signals.into_iter().enumerate() {
        signal(child.id(), sent);
        until(&format!("{sent} arrives"), || got() == index + 1);
    }
    fs::write(scene.work().join("stop"), "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert_eq!(got(), signals.len(), "none twice");
}

#[test]
fn sigterm_ends_the_run_and_the_log_is_sealed() {
    if !met("sigterm_ends_the_run_and_the_log_is_sealed", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let mut child = start(&scene, "echo $$ > ready; while :; do sleep 0.01; done");
    ready(&scene.work().join("ready"));
    signal(child.id(), Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(last_line(&scene).contains("\"signal\": 15"));
    verified(&scene).expect(0);
}

#[test]
fn what_the_command_sends_its_group_comes_once() {
    if !met("what_the_command_sends_its_group_comes_once", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    // The second kill, to itself alone, comes after the first: one line for each, and none more.
    let script = "trap 'echo got >> signals' TERM; kill -TERM 0; sleep 0.3; kill -TERM $$; exit 6";
    assert_eq!(start(&scene, script).wait().unwrap().code(), Some(6));
    assert_eq!(fs::read_to_string(scene.work().join("signals")).unwrap(), "got\ngot\n");
}

#[test]
fn a_timer_set_before_reaches_the_command() {
    if !met("a_timer_set_before_reaches_the_command", &[Need::Trace, Need::Program("python3")]) {
        return;
    }
    let scene = Scene::new();
    let sandbox = sandbox_tests::binaries::binary("sandbox");
    let mut command = scene.command(
        "python3",
        ["-c", "import os, signal, sys; signal.alarm(2); os.execv(sys.argv[1], sys.argv[1:])"],
    );
    command.arg(sandbox).args(["run", "-q", "--", "sh", "-c", "while :; do sleep 0.01; done"]);
    let status = with_group(&mut command).status().unwrap();
    assert_eq!(status.code(), Some(128 + libc::SIGALRM));
}

#[test]
fn a_command_that_stops_stops_the_runner() {
    if !met("a_command_that_stops_stops_the_runner", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let mut child = start(&scene, "echo $$ > ready; kill -STOP $$; exit 8");
    let command: u32 = ready(&scene.work().join("ready")).parse().unwrap();
    until("both are stopped", || is_stopped(command) && is_stopped(child.id()));
    // Continuing the runner alone continues the command.
    signal(child.id(), Signal::SIGCONT);
    assert_eq!(child.wait().unwrap().code(), Some(8));
    verified(&scene).expect(0);
}

#[test]
fn signals_that_were_ignored_are_not_passed_on() {
    if !met("signals_that_were_ignored_are_not_passed_on", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let sandbox = sandbox_tests::binaries::binary("sandbox");
    // As nohup(1) does; sh cannot trap what was ignored when it started.
    let inner = "echo $$ > ready; until [ -e stop ]; do sleep 0.01; done; exit 3";
    let outer = "trap '' HUP; exec \"$@\"";
    let mut command = scene.command("sh", ["-c", outer, "sh"]);
    command.arg(sandbox).args(["run", "-q", "--", "sh", "-c", inner]);
    let mut child = with_group(&mut command).spawn().unwrap();
    ready(&scene.work().join("ready"));
    signal(child.id(), Signal::SIGHUP);
    fs::write(scene.work().join("stop"), "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
}
