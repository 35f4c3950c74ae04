//! On a terminal: job control is the user's shell's, although the command is the collector's child.

use sandbox_tests::requirement::Need;
use sandbox_tests::terminal::Terminal;

use crate::place::{Place, possible};

const NEEDS: &[Need<'_>] = &[Need::Program("bash")];

fn terminal(place: &Place) -> Terminal {
    // The shell is root's, as the terminal is; what it starts is the user's.
    let mut shell = place.scene.command("bash", [""; 0]);
    shell.env("HOME", place.work());
    let mut terminal = Terminal::open(&shell);
    let sandbox = place.bin("sandbox").display().to_string();
    terminal.type_in(&format!(
        "alias run='setpriv --reuid 65534 --regid 65534 --clear-groups {sandbox} run -q --'\n"
    ));
    terminal.expect("\n");
    terminal.expect("$ ");
    terminal
}

#[test]
fn ctrl_z_stops_the_job_and_fg_goes_on() {
    if !possible("ctrl_z_stops_the_job_and_fg_goes_on", &[NEEDS, &[Need::Program("setpriv")]].concat()) {
        return;
    }
    let place = Place::new();
    let mut terminal = terminal(&place);
    terminal.type_in("run cat\n");
    terminal.type_in("one\n");
    terminal.expect("one\r\none\r\n");
    for word in ["two", "three"] {
        terminal.stop_job();
        terminal.fetch_job();
        terminal.expect("-- cat\r\n");
        terminal.type_in(&format!("{word}\n"));
        terminal.expect(&format!("{word}\r\n{word}\r\n"));
    }
    terminal.type_in("\x04");
    assert_eq!(terminal.ask("echo $?"), "0");
    place.verified().expect(0);
}

#[test]
fn who_was_killed_leaves_the_terminal_as_it_was() {
    let needs = [NEEDS, &[Need::Program("setpriv"), Need::Program("stty")]].concat();
    if !possible("settings of a terminal after a command that was killed", &needs) {
        return;
    }
    let place = Place::new();
    let mut terminal = terminal(&place);
    let before = terminal.ask("stty -g");
    let set = |end: &str| format!("run sh -c 'stty -isig -icrnl min 7; {end}'; echo $? $(stty -g)");
    assert_eq!(terminal.ask(&set("kill -9 $$")), format!("137 {before}"));
    // Control: who ends by itself has what it set.
    let kept = terminal.ask(&set("exit 3"));
    assert!(kept.starts_with("3 ") && !kept.ends_with(&before), "{kept}");
}

#[test]
fn ctrl_c_ends_a_command_that_does_not_care() {
    if !possible("ctrl_c_ends_a_command_that_does_not_care", &[NEEDS, &[Need::Program("setpriv")]].concat()) {
        return;
    }
    let place = Place::new();
    let mut terminal = terminal(&place);
    terminal.type_in("run sh -c 'echo go\"\"ing; exec sleep 1000'\n");
    terminal.expect("going");
    terminal.type_in("\x03");
    terminal.expect("$ ");
    assert_eq!(terminal.ask("echo $?"), "130");
    place.verified().expect(0);
}
