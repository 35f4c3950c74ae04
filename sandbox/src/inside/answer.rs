//! The runner's side: a thread of the collector that answers questions.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::board::{Board, ROOM};
use super::notify::{self, Waiting};
use crate::explain::live::Live;
use crate::explain::{Group, Remedies, lines};

/// Between two answers.
const PAUSE: Duration = Duration::from_millis(20);

/// How long an answer waits for the collector to have seen what was denied before the question.
const CATCH_UP: Duration = Duration::from_millis(500);

/// How long lines that would allow something are looked for in one answer; the next one goes on.
const SEARCH: Duration = Duration::from_millis(300);

/// What the last line takes at most.
const LAST_LINE: usize = 64;

/// Answers whoever asks on `listener`, until no task of the run is left or the process ends.
///
/// # Errors
/// There is no memory for the board, or no thread.
pub fn start(listener: OwnedFd, live: Arc<Live>) -> io::Result<()> {
    start_with(Questions::Heard(listener), live)
}

/// As [`start`], where somebody else takes the calls from the listener and hands the questions on.
///
/// # Errors
/// As there.
pub fn start_handed(listener: OwnedFd, handed: Receiver<Waiting>, live: Arc<Live>) -> io::Result<()> {
    start_with(Questions::Handed(listener, handed), live)
}

/// Where questions come from.
enum Questions {
    /// The listener, which gives nothing else.
    Heard(OwnedFd),
    /// Who serves the listener.
    Handed(OwnedFd, Receiver<Waiting>),
}

impl Questions {
    fn listener(&self) -> BorrowedFd<'_> {
        match self {
            Questions::Heard(listener) | Questions::Handed(listener, _) => listener.as_fd(),
        }
    }

    /// Waits for the next; `None` when nobody is left to ask. A caller that was killed meanwhile has nothing to be told.
    fn next(&self) -> Option<Option<Waiting>> {
        match self {
            Questions::Heard(listener) => wait(listener).then(|| notify::receive(listener.as_fd()).ok()),
            Questions::Handed(_, handed) => handed.recv().ok().map(Some),
        }
    }
}

fn start_with(questions: Questions, live: Arc<Live>) -> io::Result<()> {
    let mut board = Board::new()?;
    let serve = move || {
        while let Some(policies) = live.policies() {
            // Lines that were looked for already are not looked for again, as long as the policies stay.
            let mut remedies = Remedies::new(&policies);
            loop {
                let Some(call) = questions.next() else { return };
                let listener = questions.listener();
                let stands = live.policies().is_some_and(|now| Arc::ptr_eq(&now, &policies));
                match (call, stands) {
                    (Some(call), true) => serve_one(listener, call, &live, &mut remedies, &mut board),
                    (Some(call), false) => {
                        let Some(now) = live.policies() else { return };
                        serve_one(listener, call, &live, &mut Remedies::new(&now), &mut board);
                        break;
                    }
                    (None, _) => {}
                }
                std::thread::sleep(PAUSE);
            }
        }
    };
    std::thread::Builder::new().name("why".into()).spawn(serve)?;
    Ok(())
}

fn serve_one(
    listener: BorrowedFd<'_>,
    call: Waiting,
    live: &Live,
    remedies: &mut Remedies<'_>,
    board: &mut Board,
) {
    catch_up(live);
    find_remedies(live, remedies);
    board.show(&text(live));
    if notify::answer(listener, call, board.as_fd()).is_err() {
        // Not an error that says that nobody answers here.
        let _ = notify::refuse(listener, call, libc::EREMOTEIO);
    }
}

/// Waits for a question; false when nobody is left to ask.
fn wait(listener: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    match nix::poll::poll(&mut polled, PollTimeout::NONE) {
        Err(nix::errno::Errno::EINTR) => true,
        Err(_) => false,
        Ok(_) => polled[0].revents().is_some_and(|ready| ready.contains(PollFlags::POLLIN)),
    }
}

/// Waits until what was denied before now is known.
fn catch_up(live: &Live) {
    let (before, deadline) = (live.looks(), Instant::now() + CATCH_UP);
    while live.looks() < before + 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Finds the lines that would allow what has none yet, without holding up the collector.
fn find_remedies(live: &Live, remedies: &mut Remedies<'_>) {
    let deadline = Instant::now() + SEARCH;
    while Instant::now() < deadline {
        let Some((place, group)) = unanswered(live) else { return };
        let remedy = remedies.of(&group);
        live.denials().note_remedy(place, &group.matter, remedy);
    }
}

/// The group that was denied last among those whose remedy nobody has looked for.
fn unanswered(live: &Live) -> Option<(usize, Group)> {
    let denials = live.denials();
    let groups = denials.groups().iter().enumerate().filter(|(_, group)| group.remedy.is_none());
    groups.max_by_key(|(_, group)| group.last_ns).map(|(place, group)| (place, group.clone()))
}

/// The groups as lines, the latest first, as many as there is room for.
fn text(live: &Live) -> Vec<u8> {
    let denials = live.denials();
    let mut groups: Vec<&Group> = denials.groups().iter().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.last_ns));
    let (mut text, mut more) = (Vec::new(), denials.more());
    for group in groups {
        let length = text.len();
        lines::write(group, &mut text);
        if text.len() + LAST_LINE > ROOM {
            text.truncate(length);
            more = more.saturating_add(group.count);
        }
    }
    lines::write_more(more, &mut text);
    text
}
