use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use policy::{Policies, Policy, Variables};

use super::board::{self, Board, ROOM};
use super::{answer, ask, filter};
use crate::event::{Action, Event, EventType, Key, ProcId, Value};
use crate::explain::live::Live;
use crate::launch::handshake::{Received, pair};

fn denied(path: &str) -> Event {
    Event {
        event_type: EventType::FileOpen,
        action: Action::Blocked,
        wall_ns: 1,
        mono_ns: 1,
        kseq: 1,
        process: ProcId { pid: 1, start_ns: 1 },
        details: vec![
            (Key::Path, Value::Bytes(path.into())),
            (Key::Access, Value::List(vec![b"read".to_vec()])),
            (Key::PolicyRule, Value::Bytes(b"p/keys".to_vec())),
        ],
    }
}

fn policies() -> Policies {
    let text = "version: 1\nname: p\nfiles:\n  default: allow\n  rules:\n    \
                - { name: keys, deny: [read], path: [\"/keys/**\"] }\n";
    Policy::parse("p.yaml", text, &Variables::new()).unwrap().into()
}

#[test]
fn a_board_shows_the_last_text_and_nobody_else_writes() {
    let mut board = Board::new().unwrap();
    let file = || File::from(board.as_fd().try_clone_to_owned().unwrap());
    assert_eq!(board::read(&file()).unwrap(), b"");
    for length in [3, ROOM, 0, ROOM + 5, 7] {
        let reader = File::from(board.as_fd().try_clone_to_owned().unwrap());
        board.show(&vec![b'x'; length]);
        assert_eq!(board::read(&reader).unwrap().len(), length.min(ROOM));
    }
    let reader = File::from(board.as_fd().try_clone_to_owned().unwrap());
    assert_eq!(reader.write_at(b"y", 4096).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert!(reader.set_len(0).is_err());
    // Opened anew for writing, as its owner could, it takes nothing either.
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    if let Ok(again) = File::options().write(true).open(path) {
        assert_eq!(again.write_at(b"y", 0).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
    assert_eq!(board::read(&reader).unwrap(), b"xxxxxxx");
    assert!(board::read(&tempfile::tempfile().unwrap()).is_err());
}

#[test]
fn outside_of_a_run_nobody_answers() {
    assert!(ask::ask().unwrap().is_none());
}

/// The filter stays for ever, so what it does is tried in a process of its own: this test's program again, with the
/// filter on and this name to run.
const INSIDE: &str = "inside::tests::asks_from_inside";
const ASKS: &str = "SANDBOX_TEST_ASKS";

#[test]
fn asks_from_inside() {
    if std::env::var_os(ASKS).is_none() {
        return;
    }
    let answer = ask::ask().unwrap().expect("the runner answers");
    for group in &answer.groups {
        println!("{} {} {:?}", group.count, group.matter.object(), group.remedy.as_deref().unwrap());
    }
    println!("more {}", answer.more);
}

#[test]
fn whoever_has_the_filter_is_told_what_was_denied() {
    let (here, there) = pair::<u8, u8>().unwrap();
    let live = Arc::new(Live::new(Some(policies())));
    for _ in 0..3 {
        live.add(&denied("/keys/a"));
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([INSIDE, "--exact", "--nocapture", "--test-threads", "2"]).env(ASKS, "1");
    // Nothing is inherited but the filter.
    let install = move || {
        let listener = filter::listen()?;
        there.send_with(&1, &[listener.as_fd()])
    };
    // SAFETY: system calls, and an allocation for the message: the parent forks from a thread that holds no lock of
    // the allocator.
    unsafe { command.pre_exec(install) };
    let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let Received::Message(1, fds) = here.receive().unwrap() else { panic!("no listener") };
    let (looking, over) = (Arc::clone(&live), Arc::new(AtomicBool::new(false)));
    let ended = Arc::clone(&over);
    // The collector, which looks until the end.
    let looks = std::thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            looking.looked();
            std::thread::yield_now();
        }
    });
    answer::start(fds.into_iter().next().unwrap(), Arc::clone(&live)).unwrap();
    let output = child.wait_with_output().unwrap();
    over.store(true, Ordering::Relaxed);
    looks.join().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}");
    assert!(stdout.contains(r#"3 /keys/a ["except: [\"/keys/a\"]  # in rule keys"]"#), "{stdout}");
    assert!(stdout.contains("more 0"), "{stdout}");
}
