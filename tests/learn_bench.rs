//! A small part of `bench learn`, so that what it measures stays true: two kinds of work, three runs to learn from, honest
//! runs and attacks that are not among them.

use std::process::Command;

use net_lab::{PROGRAMS, PYTHON};
use sandbox_tests::binaries::binary;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::finish;

fn bench(words: &[&str]) -> Command {
    let mut command = Command::new(binary("bench"));
    command.arg("learn").args(words);
    command
}

#[test]
fn a_policy_of_three_runs_lets_work_through_and_stops_attacks() {
    const NAME: &str = "a_policy_of_three_runs_lets_work_through_and_stops_attacks";
    let programs = PROGRAMS.iter().chain(&["nsenter", "perl", "unshare", "rustc", "ssh-keygen", PYTHON]);
    let needs: Vec<Need<'_>> =
        [Need::Trace].into_iter().chain(programs.map(|program| Need::Program(program))).collect();
    if !met(NAME, &needs) {
        return;
    }
    let few = ["--only", "sqlite,keys", "--runs", "3", "--honest", "3", "--attacks", "6", "--events", "no"];
    let done = finish(bench(&[&few[..], &["--reach", "2"]].concat())).expect(0);
    assert!(done.stdout.contains("2 of 2 workloads reach the goal"), "{}", done.stdout);
    // What must not reach it is there, and does not: no honest run went through the one, no attack was stopped by the other.
    let rows = |title: &str| -> Vec<Vec<String>> {
        let lines = done.stdout.lines().filter_map(|line| line.trim().strip_prefix(title));
        lines.map(|rest| rest.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let denied = rows("everything denied");
    assert_eq!(denied.len(), 2, "{}", done.stdout);
    assert!(denied.iter().all(|row| row[1..4] == ["3", "of", "3"]), "{}", done.stdout);
    let allowed = rows("everything allowed");
    assert_eq!(allowed.len(), 2, "{}", done.stdout);
    assert!(allowed.iter().all(|row| row[1..5] == ["0", "of", "3", "0"]), "{}", done.stdout);
}

#[test]
fn a_wrong_word_is_told() {
    let wrong = [
        &["--only", "no-such-work"][..],
        &["--runs", "0"],
        &["--attacks", "1000"],
        &["--honest"],
        &["--events", "some"],
    ];
    for words in wrong {
        let done = finish(bench(words)).expect(2);
        assert!(done.stderr.contains("usage: bench learn"), "{}", done.stderr);
    }
}
