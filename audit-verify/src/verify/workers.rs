//! Pieces of a log judged by several threads at once, and joined in order.
//!
//! The caller reads, hands pieces to the other threads as long as these have room, and judges a piece itself when they
//! have not: so none of them waits, also where there are no more processors than threads. Pieces are joined in the order
//! of the log, and the number of those that are under way is bounded.

use std::collections::VecDeque;
use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope};

use super::pieces::{Piece, Pieces};
use super::segment::{Judge, Summary, Terms};

/// Pieces that one thread has at most, the one under way included.
const WAITING: usize = 2;

/// Pieces for each thread that are not yet joined, at most.
const UNDER_WAY: usize = 4;

/// A piece and what was made of it.
type Judged = (Piece, Option<Summary>);

/// One thread, as seen from outside.
struct Worker {
    pieces: SyncSender<Piece>,
    judged: Receiver<Judged>,
    /// How many pieces it has.
    has: usize,
    /// Those that it gave back, in order.
    done: VecDeque<Judged>,
}

impl Worker {
    fn start<'s>(scope: &'s Scope<'s, '_>, terms: &'s Terms) -> Option<Worker> {
        let (pieces, work) = sync_channel::<Piece>(WAITING);
        let (done, judged) = sync_channel(WAITING);
        let run = move || {
            let mut judge = Judge::default();
            for piece in work {
                let summary = judge.summary(piece.lines(), terms);
                if done.send((piece, summary)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("verify".into()).spawn_scoped(scope, run).ok()?;
        Some(Worker { pieces, judged, has: 0, done: VecDeque::new() })
    }

    /// Takes back what is judged by now.
    fn collect(&mut self) {
        while let Ok(judged) = self.judged.try_recv() {
            self.has -= 1;
            self.done.push_back(judged);
        }
    }

    /// The next piece that it judged; waits for it. `None` if the thread is gone.
    fn wait(&mut self) -> Option<Judged> {
        if let Some(judged) = self.done.pop_front() {
            return Some(judged);
        }
        let judged = self.judged.recv().ok()?;
        self.has -= 1;
        Some(judged)
    }
}

/// Who has a piece that is not yet joined.
#[derive(Clone, Copy)]
enum Turn {
    /// This worker: the next one that it gives back.
    Worker(usize),
    /// The caller, who judged it.
    Own,
}

/// The pieces that are under way.
struct UnderWay {
    workers: Vec<Worker>,
    /// Those that the caller judged.
    own: VecDeque<Judged>,
    /// In the order of the log.
    turns: VecDeque<Turn>,
}

impl UnderWay {
    /// Gives a piece to the thread that has the fewest, or back where none has room. `None` if the thread is gone.
    fn hand_out(&mut self, piece: Piece) -> Option<Result<(), Piece>> {
        let free = self.workers.iter_mut().enumerate().filter(|(_, worker)| worker.has < WAITING);
        let Some((at, worker)) = free.min_by_key(|(_, worker)| worker.has) else { return Some(Err(piece)) };
        worker.pieces.send(piece).ok()?;
        worker.has += 1;
        self.turns.push_back(Turn::Worker(at));
        Some(Ok(()))
    }

    /// Whether the first one can be joined at once.
    fn is_ready(&mut self) -> bool {
        self.workers.iter_mut().for_each(Worker::collect);
        match self.turns.front() {
            None => false,
            Some(Turn::Own) => true,
            Some(Turn::Worker(at)) => !self.workers[*at].done.is_empty(),
        }
    }

    /// The first one; waits for it. `None` if there is none, or its thread is gone.
    fn first(&mut self) -> Option<Judged> {
        match self.turns.pop_front()? {
            Turn::Own => self.own.pop_front(),
            Turn::Worker(at) => self.workers[at].wait(),
        }
    }
}

/// Lets `threads` threads, of which the caller is one, judge pieces and hands their summaries to `join`, in order, until
/// there are no more pieces or `join` says that it wants no more. Those that are under way then are joined all the same.
pub(super) fn judge<R: Read>(
    pieces: &mut Pieces<R>,
    longest: usize,
    threads: NonZeroUsize,
    (judge, terms): (&mut Judge, &Terms),
    mut join: impl FnMut(&[u8], Option<Summary>) -> Wanted,
) {
    thread::scope(|scope| {
        // Where fewer threads can be had the others do more.
        let workers = (1..threads.get()).map_while(|_| Worker::start(scope, terms)).collect();
        let mut under_way = UnderWay { workers, own: VecDeque::new(), turns: VecDeque::new() };
        let mut spare = Vec::new();
        let mut wanted = Wanted::More;
        loop {
            let is_full = under_way.turns.len() >= UNDER_WAY * threads.get();
            if under_way.is_ready() || is_full || wanted == Wanted::Nothing {
                // A thread that is gone has panicked, and the scope hands that on.
                let Some((piece, summary)) = under_way.first() else { return };
                if join(piece.lines(), summary) == Wanted::Nothing {
                    wanted = Wanted::Nothing;
                }
                spare.push(piece);
                continue;
            }
            let mut piece: Piece = spare.pop().unwrap_or_default();
            if !pieces.fill(&mut piece, longest) {
                wanted = Wanted::Nothing;
                continue;
            }
            match under_way.hand_out(piece) {
                None => return,
                Some(Ok(())) => {}
                Some(Err(piece)) => {
                    let summary = judge.summary(piece.lines(), terms);
                    under_way.own.push_back((piece, summary));
                    under_way.turns.push_back(Turn::Own);
                }
            }
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
