//! The list against made-up runs.

use super::*;
use crate::record::made_up::begin;
use crate::record::store::FoundStores;
use crate::record::{RecordSettings, Recorder, RunEnd};

fn found(recorder: &Recorder) -> Found {
    Found { id: recorder.dir().id().to_owned(), path: recorder.dir().path().to_owned() }
}

fn ended(recorder: &mut Recorder, exit_code: Option<i32>, signal: Option<i32>) {
    let end =
        RunEnd { exit_code, signal, reason: "exit".into(), duration_ns: 1_200_000_000, ..RunEnd::default() };
    recorder.seal(&end).unwrap();
}

#[test]
fn each_fate_of_a_run_is_told_apart() {
    let home = tempfile::tempdir().unwrap();
    let start = || begin(home.path(), RecordSettings::default());
    let (mut exited, mut killed, crashed, running) = (start(), start(), start(), start());
    ended(&mut exited, Some(3), None);
    ended(&mut killed, None, Some(9));
    let crashed = found(&{ crashed });
    let runs = [found(&exited), found(&killed), crashed, found(&running)];
    let listed: Vec<_> = runs.iter().map(Listed::of).collect();
    let statuses: Vec<_> = listed.iter().map(|run| run.status).collect();
    assert_eq!(statuses, [Status::Finished, Status::Finished, Status::Incomplete, Status::Running]);

    let start_ns = listed[0].meta.as_ref().unwrap().start_ns;
    let table = table(&listed, start_ns + 300_000_000_000);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(
        lines,
        [
            "ID                      AGO  TOOK  STATUS      EVENTS  BLOCKED  COMMAND",
            "20251121-012325-test     5m  1.2s  exit 3           2        0  ./a\\x1b[2Jb \u{fffd}",
            "20251121-012325-test-2   5m  1.2s  SIGKILL          2        0  ./a\\x1b[2Jb \u{fffd}",
            "20251121-012325-test-3   5m     -  incomplete       -        -  ./a\\x1b[2Jb \u{fffd}",
            "20251121-012325-test-4   5m  5m00  running          -        -  ./a\\x1b[2Jb \u{fffd}",
        ]
    );
    drop(running);
    assert_eq!(Listed::of(&runs[3]).status, Status::Incomplete);
}

#[test]
fn the_table_fits_80_columns_whatever_stands_in_it() {
    let run = |id: &str, command: &[&str], events| {
        let json = serde_json::json!({
            "v": 1, "run_id": id, "agent_id": "a", "command": command, "cwd": "/", "mode": "audit-only",
            "layers": [], "store": "root-owned", "version": "0.1.0", "start": "", "start_ns": 0,
            "end": {
                "end": "", "duration_ns": 8_640_000_000_000_000u64, "exit_code": null, "signal": 31,
                "reason": "signal", "head": "0", "events": events, "folded": 0, "lost": 0, "blocked": events,
                "would_block": 0, "left_running": 0
            },
        });
        Listed {
            id: id.into(),
            directory: String::new(),
            status: Status::Finished,
            meta: Some(serde_json::from_value(json).unwrap()),
        }
    };
    let mut runs = [
        run("20251121-012325-a-tool-16-chars--2", &["a"], 1),
        run("20251121-012325-a-tool-16-chars-", &["a", &"b".repeat(200)], 123_456_789),
        run("20251121-012325-x-2", &["\u{1b}]0;\u{7}", "é"], 1),
    ];
    runs[0].status = Status::Incomplete;
    let table = table(&runs, 400 * 86_400_000_000_000);
    for line in table.lines() {
        assert!(line.chars().count() <= 80, "{}: {line}", line.chars().count());
        assert!(!line.contains(char::is_control));
    }
}

#[test]
fn a_directory_without_meta_json_is_listed_as_incomplete() {
    let home = tempfile::tempdir().unwrap();
    let recorder = begin(home.path(), RecordSettings::default());
    let run = found(&recorder);
    drop(recorder);
    std::fs::write(run.path.join(crate::record::meta::FILE), "{").unwrap();
    let place = crate::record::made_up::place(home.path());
    let runs = FoundStores::for_reading(&place).runs().unwrap();
    assert_eq!(runs, [run]);
    let listed = Listed::of(&runs[0]);
    assert_eq!((listed.status, listed.meta.is_none()), (Status::Incomplete, true));
    assert!(table(&[listed], 0).contains("incomplete       -        -  ?"));
}
