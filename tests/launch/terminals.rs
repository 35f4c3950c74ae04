//! On a terminal: job control is the user's shell's.

use sandbox_tests::binaries::binary;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::Scene;

use crate::processes::{is_alive, last_line, ready, until, verified};
use sandbox_tests::terminal::Terminal;

const NEEDS: &[Need<'_>] = &[Need::Trace, Need::Program("bash")];

fn terminal(scene: &Scene) -> Terminal {
    let mut terminal = Terminal::open(&scene.command("bash", [""; 0]));
    terminal.type_in(&format!("alias run='{} run -q --'\n", binary("sandbox").display()));
    terminal.expect("\n");
    terminal.expect("$ ");
    terminal
}

#[test]
fn ctrl_c_reaches_the_command_once() {
    if !met("ctrl_c_reaches_the_command_once", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    terminal.type_in("run sh -c 'trap \"echo got >> signals\" INT; echo go\"\"ing; until [ -e stop ]; do sleep 0.01; done; exit 7'\n");
    terminal.expect("going");
    terminal.type_in("\x03");
    let signals = scene.work().join("signals");
    ready(&signals);
    std::fs::write(scene.work().join("stop"), "").unwrap();
    assert_eq!(terminal.ask("echo $?"), "7");
    assert_eq!(std::fs::read_to_string(&signals).unwrap(), "got\n");
}

#[test]
fn ctrl_c_ends_a_command_that_does_not_care() {
    if !met("ctrl_c_ends_a_command_that_does_not_care", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    terminal.type_in("run sh -c 'echo go\"\"ing; exec sleep 1000'\n");
    terminal.expect("going");
    terminal.type_in("\x03");
    terminal.expect("$ ");
    assert_eq!(terminal.ask("echo $?"), "130");
    assert!(last_line(&scene).contains("\"signal\": 2"));
    verified(&scene).expect(0);
}

#[test]
fn ctrl_z_stops_the_job_and_fg_goes_on() {
    if !met("ctrl_z_stops_the_job_and_fg_goes_on", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    terminal.type_in("run cat\n");
    terminal.type_in("one\n");
    terminal.expect("one\r\none\r\n");
    // More than once: each stop is followed by exactly one going on.
    for word in ["two", "three"] {
        terminal.stop_job();
        terminal.fetch_job();
        terminal.expect("-- cat\r\n");
        terminal.type_in(&format!("{word}\n"));
        terminal.expect(&format!("{word}\r\n{word}\r\n"));
    }
    terminal.type_in("\x04");
    assert_eq!(terminal.ask("echo $?"), "0");
    verified(&scene).expect(0);
}

#[test]
fn a_command_that_ignores_ctrl_z_is_not_stopped() {
    if !met("a_command_that_ignores_ctrl_z_is_not_stopped", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    terminal.type_in("run sh -c 'trap \"\" TSTP; echo go\"\"ing; read word; echo \"<$word>\"'\n");
    terminal.expect("going");
    terminal.type_in("\x1a");
    terminal.type_in("word\n");
    terminal.expect("<word>");
    assert_eq!(terminal.ask("echo $?"), "0");
}

#[test]
fn a_background_job_stops_at_the_terminal_and_can_be_fetched() {
    if !met("a_background_job_stops_at_the_terminal_and_can_be_fetched", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    terminal.type_in("run sh -c 'read word; echo \"<$word>\"; exit 5' &\n");
    terminal.expect("[1]");
    terminal.expect("$ ");
    // It reads from the terminal, which is not its own now: SIGTTIN.
    until("the job is stopped", || terminal.ask("jobs -s | grep -c run") == "1");
    terminal.fetch_job();
    terminal.type_in("word\n");
    terminal.expect("<word>");
    assert_eq!(terminal.ask("echo $?"), "5");
}

#[test]
fn a_background_job_that_needs_no_terminal_ends_by_itself() {
    if !met("a_background_job_that_needs_no_terminal_ends_by_itself", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    terminal.type_in("run sh -c 'exit 6' & wait $!\n");
    terminal.expect("[1]");
    assert_eq!(terminal.ask("echo $?"), "6");
}

#[test]
fn the_size_of_the_window_is_the_commands() {
    if !met("the_size_of_the_window_is_the_commands", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    terminal
        .type_in("run sh -c 'trap \"stty size; exit 0\" WINCH; stty size; while :; do sleep 0.01; done'\n");
    terminal.expect("24 80");
    terminal.resize(30, 100);
    terminal.expect("30 100");
    assert_eq!(terminal.ask("echo $?"), "0");
}

#[test]
fn a_closed_window_ends_the_command_and_the_log_is_sealed() {
    if !met("a_closed_window_ends_the_command_and_the_log_is_sealed", NEEDS) {
        return;
    }
    let scene = Scene::new();
    let mut terminal = terminal(&scene);
    terminal.type_in("run sh -c 'echo $$ > ready; exec sleep 1000'\n");
    let command: u32 = ready(&scene.work().join("ready")).parse().unwrap();
    terminal.hang_up();
    until("the command is dead", || !is_alive(command));
    until("the log is sealed", || last_line(&scene).contains("run_end"));
    assert!(last_line(&scene).contains("\"signal\": 1"), "{}", last_line(&scene));
}

#[test]
fn no_terminal_at_all() {
    if !met("no_terminal_at_all", &[Need::Trace, Need::Program("setsid")]) {
        return;
    }
    let scene = Scene::new();
    let mut command = scene.command("setsid", ["--wait"]);
    command.arg(binary("sandbox")).args(["run", "-q", "--", "sh", "-c", "exec </dev/tty || exit 11"]);
    let status =
        command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap();
    assert!(matches!(status.code(), Some(1 | 2 | 11)), "there is no terminal to open: {status}");
    verified(&scene).expect(0);
}
