//! Pieces of a log judged by several threads at once, and joined in order.
//!
//! Each piece goes to the next thread in turn and comes back from there, so the order of the log is kept and the
//! number of pieces that are under way is bounded.

use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope};

use super::pieces::{Piece, Pieces};
use super::segment::{Summary, Terms};

/// Pieces that wait for one thread at most, the one under way included.
const WAITING: usize = 2;

/// One thread, as seen from outside.
struct Worker {
    pieces: SyncSender<Piece>,
    judged: Receiver<(Piece, Option<Summary>)>,
}

impl Worker {
    fn start<'s>(scope: &'s Scope<'s, '_>, terms: &'s Terms) -> Option<Worker> {
        let (pieces, work) = sync_channel::<Piece>(WAITING);
        let (done, judged) = sync_channel(WAITING);
        let run = move || {
            for piece in work {
                let summary = Summary::of(piece.lines(), terms);
                if done.send((piece, summary)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("verify".into()).spawn_scoped(scope, run).ok()?;
        Some(Worker { pieces, judged })
    }
}

/// Hands pieces out to `threads` threads and their summaries to `join`, in order, until there are no more pieces or
/// `join` says that it wants no more. Those that are under way then are joined all the same.
pub(super) fn judge<R: Read>(
    pieces: &mut Pieces<R>,
    longest: usize,
    threads: NonZeroUsize,
    terms: &Terms,
    mut join: impl FnMut(&[u8], Option<Summary>) -> Wanted,
) {
    thread::scope(|scope| {
        // Where no thread can be had the caller goes on alone.
        let workers: Vec<Worker> = (0..threads.get()).map_while(|_| Worker::start(scope, terms)).collect();
        let (mut sent, mut joined) = (0usize, 0usize);
        let mut wanted = if workers.is_empty() { Wanted::Nothing } else { Wanted::More };
        let mut spare = Vec::new();
        loop {
            while wanted == Wanted::More && sent - joined < workers.len() * WAITING {
                let mut piece: Piece = spare.pop().unwrap_or_default();
                if !pieces.fill(&mut piece, longest)
                    || workers[sent % workers.len()].pieces.send(piece).is_err()
                {
                    wanted = Wanted::Nothing;
                    break;
                }
                sent += 1;
            }
            if joined == sent {
                return;
            }
            // A thread that is gone has panicked, and the scope hands that on.
            let Ok((piece, summary)) = workers[joined % workers.len()].judged.recv() else { return };
            joined += 1;
            if join(piece.lines(), summary) == Wanted::Nothing {
                wanted = Wanted::Nothing;
            }
            spare.push(piece);
        }
    });
}

/// Whether more pieces are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// They are.
    More,
    /// They are not.
    Nothing,
}
