//! An enforced command is on a terminal and in a session of its own: everything at the user's is as without, and nothing that
//! the kernel does for groups and terminals reaches what is outside.
//!
//! That questions are put there needs hooks, and is tried in guests.

use std::os::unix::process::ExitStatusExt;

use sandbox_tests::binaries::binary;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Scene, finish};
use sandbox_tests::terminal::Terminal;

use crate::processes::{last_line, ready, until, verified};

const NEEDS: &[Need<'_>] = &[Need::Trace, Need::Root, Need::Program("bash")];

/// Everything is open: what is looked at is the terminal.
const POLICY: &str = "version: 1\nname: open\nfiles: { default: allow }\nexec: { default: allow }\n\
                      network: { default: allow }\nkernel: { allow: [ptrace-own, raw-devices, sysctl-write] }\n";

fn terminal(scene: &Scene) -> Terminal {
    with(scene, "")
}

fn with(scene: &Scene, option: &str) -> Terminal {
    std::fs::write(scene.path("policy.yaml"), POLICY).expect("a policy");
    let mut terminal = Terminal::open(&scene.command("bash", [""; 0]));
    terminal.type_in(&format!(
        "alias run='{} run -q --layers trace,landlock,mountns {option} --enforce {} --'\n",
        binary("sandbox").display(),
        scene.path("policy.yaml").display()
    ));
    terminal.expect("\n");
    terminal.expect("$ ");
    terminal
}

#[test]
fn the_command_is_on_another_terminal_that_looks_the_same() {
    if !met("the_command_is_on_another_terminal_that_looks_the_same", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    let own = terminal.ask("tty");
    terminal.type_in("run sh -c 'echo on:$(tty):; stty size; read word; echo \"<$word>\"; exit 7'\n");
    // The echo of what was typed stands first.
    terminal.expect("on:$(tty):");
    terminal.expect("on:");
    let inside = terminal.expect(":");
    assert_ne!(inside, own);
    assert!(inside.starts_with("/dev/pts/"), "{inside}");
    terminal.expect("24 80");
    terminal.type_in("word\n");
    terminal.expect("<word>");
    terminal.expect("$ ");
    assert_eq!(terminal.ask("echo $?"), "7");
    // The shell's is as it was.
    assert_eq!(terminal.ask("stty -a | grep -c -w -e -icanon -e -echo"), "0");
    verified(&scene).expect(0);
}

#[test]
fn the_users_terminal_is_kept_from_the_command() {
    if !met("the_users_terminal_is_kept_from_the_command", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = with(&scene, "--ask-here");
    let own = terminal.ask("tty");
    let write = format!("python3 -c 'import os; os.open(\"{own}\", os.O_WRONLY | os.O_NOCTTY)'");
    terminal.type_in(&format!("{write} && echo with\"\"out\n"));
    terminal.expect("without");
    terminal.type_in(&format!("run {write}\n"));
    terminal.expect("OSError: [Errno 30]");
    terminal.expect("$ ");
    assert_eq!(terminal.ask("echo $?"), "1");
    let log = std::fs::read_to_string(scene.run().join("events.jsonl")).unwrap();
    assert!(log.contains("\"runner/terminal\""), "{log}");
}

#[test]
fn ctrl_c_and_ctrl_z_are_the_commands() {
    if !met("ctrl_c_and_ctrl_z_are_the_commands", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    terminal.type_in("run sh -c 'echo go\"\"ing; exec cat'\n");
    terminal.expect("going");
    terminal.type_in("one\n");
    terminal.expect("one\r\none\r\n");
    for word in ["two", "three"] {
        terminal.stop_job();
        assert_eq!(terminal.ask("stty -a | grep -c -w -e -icanon -e -echo"), "0");
        terminal.fetch_job();
        terminal.expect("exec cat'\r\n");
        terminal.type_in(&format!("{word}\n"));
        terminal.expect(&format!("{word}\r\n{word}\r\n"));
    }
    terminal.type_in("\x03");
    terminal.expect("$ ");
    assert_eq!(terminal.ask("echo $?"), "130");
    assert!(last_line(&scene).contains("\"signal\": 2"));
    verified(&scene).expect(0);
}

#[test]
fn what_is_no_terminal_stays_what_it_is() {
    if !met("what_is_no_terminal_stays_what_it_is", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    terminal.type_in("echo word | run sh -c 'cat; tty <&2 > on' | tr a-z A-Z\n");
    terminal.expect("WORD");
    terminal.expect("$ ");
    let on = std::fs::read_to_string(scene.work().join("on")).unwrap();
    assert!(on.starts_with("/dev/pts/") && on.trim_end() != terminal.ask("tty"), "{on}");
    // Nothing is this session's terminal: the command has none.
    terminal.type_in("run sh -c 'cat /dev/tty' < /dev/null > all 2>&1; echo status:$?\n");
    terminal.expect("status:$?");
    terminal.expect("status:1");
    let all = std::fs::read_to_string(scene.work().join("all")).unwrap();
    assert!(all.contains("/dev/tty: No such device"), "{all}");
}

#[test]
fn without_a_terminal_ctrl_c_and_ctrl_z_reach_it_too() {
    if !met("without_a_terminal_ctrl_c_and_ctrl_z_reach_it_too", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    let begun = scene.work().join("begun");
    terminal.type_in("run sh -c 'sleep 1000 & echo > begun; wait' < /dev/null > all 2>&1\n");
    ready(&begun);
    terminal.stop_job();
    terminal.fetch_job();
    terminal.expect("begun");
    terminal.type_in("\x03");
    terminal.expect("$ ");
    assert_eq!(terminal.ask("echo $?"), "130");
    verified(&scene).expect(0);
}

#[test]
fn a_window_that_changes_its_size_tells_the_command() {
    if !met("a_window_that_changes_its_size_tells_the_command", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    terminal.type_in(
        "run bash -c 'trap \"stty size\" WINCH; echo go\"\"ing; until [ -e stop ]; do sleep 0.01; done'\n",
    );
    terminal.expect("going");
    terminal.resize(31, 99);
    terminal.expect("31 99");
    std::fs::write(scene.work().join("stop"), "").unwrap();
    terminal.expect("$ ");
    assert_eq!(terminal.ask("echo $?"), "0");
}

#[test]
fn a_window_that_is_closed_ends_the_run() {
    if !met("a_window_that_is_closed_ends_the_run", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    terminal.type_in("run sh -c 'echo go\"\"ing; exec sleep 1000'\n");
    terminal.expect("going");
    terminal.hang_up();
    until("the record has its end", || last_line(&scene).contains("run_end"));
    assert!(last_line(&scene).contains("\"signal\": 1"), "{}", last_line(&scene));
    until("the record is complete", || verified(&scene).status.code() == Some(0));
}

#[test]
fn questions_need_the_foreground_of_a_terminal() {
    if !met("questions_need_the_foreground_of_a_terminal", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = with(&scene, "--ask-here");
    terminal.type_in("run true & wait $!\n");
    terminal.expect("the terminal is another job's");
    assert_eq!(terminal.ask("echo $?"), "125");
    terminal.type_in("run true < /dev/null > all 2>&1; echo status:$?\n");
    terminal.expect("status:$?");
    terminal.expect("status:125");
    assert!(std::fs::read_to_string(scene.work().join("all")).unwrap().contains("--ask-here: none of"));
}

#[test]
fn a_background_job_prints_and_can_be_fetched() {
    if !met("a_background_job_prints_and_can_be_fetched", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    terminal.type_in("run sh -c 'echo go\"\"ing; read word; echo \"<$word>\"; exit 5' &\n");
    terminal.expect("going");
    // What is typed is the shell's.
    assert_eq!(terminal.ask("echo 1"), "1");
    terminal.fetch_job();
    terminal.expect("-- sh");
    // The holder looks now and then whether the terminal is its own.
    until("the terminal is passed on", || {
        terminal.type_in("\n");
        last_line(&scene).contains("run_end")
    });
    terminal.expect("<>");
}

/// Stops a process of a group and orphans that: the kernel sends SIGHUP to all of it (setpgid(2)).
const ORPHAN: &str = "
import os, signal
group = os.getpgrp()
stopped = os.fork()
if stopped == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)
os.waitpid(stopped, os.WUNTRACED)
between = os.fork()
if between == 0:
    os.setpgid(0, 0)
    last = os.fork()
    if last == 0:
        os.setpgid(0, group)
        os._exit(0)
    os.waitpid(last, 0)
    os._exit(0)
os.waitpid(between, 0)
";

#[test]
fn what_the_kernel_signals_for_a_group_stays_inside() {
    if !met("what_the_kernel_signals_for_a_group_stays_inside", &[NEEDS, &[Need::Program("setsid")]].concat())
    {
        return;
    }
    let scene = Scene::new();
    std::fs::write(scene.path("policy.yaml"), POLICY).expect("a policy");
    std::fs::write(scene.path("orphan.py"), ORPHAN).expect("a program");
    let program = format!("python3 -I {}", scene.path("orphan.py").display());
    let caller = |command: &str| {
        let script = format!("{command}; echo after:$?");
        finish(scene.command("setsid", ["-w", "bash", "-c", &script]))
    };
    // Without: the caller is in the group.
    let done = caller(&program);
    assert_eq!((done.status.signal(), done.stdout.as_str()), (Some(1), ""), "{}", done.stderr);
    let run = format!(
        "{} run -q --layers trace,landlock,mountns --enforce {} -- {program}",
        binary("sandbox").display(),
        scene.path("policy.yaml").display()
    );
    let done = caller(&run);
    assert_eq!((done.status.code(), done.stdout.as_str()), (Some(0), "after:129\n"), "{}", done.stderr);
}

#[test]
fn a_command_that_stops_itself_and_goes_on_does_not_hang() {
    if !met(
        "a_command_that_stops_itself_and_goes_on_does_not_hang",
        &[NEEDS, &[Need::Program("setsid")]].concat(),
    ) {
        return;
    }
    let scene = Scene::new();
    std::fs::write(scene.path("policy.yaml"), POLICY).expect("a policy");
    let enforced = format!("--enforce {}", scene.path("policy.yaml").display());
    for mode in ["--audit-only", &enforced] {
        let run = format!(
            "{} run -q --layers trace,landlock,mountns {mode} -- sh -c '(until grep -q T.*stopped /proc/$$/status; do :; done; \
             kill -CONT $$) & kill -STOP $$; exit 3'",
            binary("sandbox").display()
        );
        let done = finish(scene.command("setsid", ["-w", "bash", "-c", &format!("{run}; echo status:$?")]));
        assert_eq!(done.stdout, "status:3\n", "{mode}: {}", done.stderr);
    }
}
