//! The supervisor: a thread of the collector that every observed call waits for.
//!
//! It takes a call, reads what it is about, puts the record into the queue, and lets the call go on. Where the queue is
//! full it waits, and so does the call: nothing is lost. It never says no.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::PollTimeout;
use nix::sys::eventfd::{EfdFlags, EventFd};
use sandbox_ebpf::abi::{
    config::RunCounters,
    event::{Kind, arch},
    syscall::{CALLS_PER_ARCH, SyscallSpec},
};

use super::super::RawEvent;
use super::PROBE;
use super::executing::Executing;
use super::filter::{self, ARCHITECTURES, X32_BIT};
use super::flight::Flight;
use super::listener::{Call, Listener, Ready};
use super::memory::{Memory, Way};
use super::read::{Reader, fork};
use super::task::{self, Tasks};
use crate::inside::{QUESTION, notify::Waiting};
use crate::kernel::syscalls;

/// Bytes of records that wait for the pipeline at most; beyond them calls wait.
const ROOM: usize = 8 << 20;

/// Bytes of records above which the collector is woken; below it looks by itself.
const WAKE_AT: usize = 1 << 20;

/// How often executions whose end is not known are looked at while nobody calls.
const LOOK: u16 = 50;

/// How long the first call may take to come, in milliseconds.
const PATIENCE: u16 = 10_000;

/// How long the end waits for the supervisor to have put down what it has in hand.
const END: Duration = Duration::from_secs(2);

/// What the supervisor and the pipeline share.
#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    room: Condvar,
    /// Readable when many records wait.
    ready: EventFd,
    /// Written when the supervisor should look up.
    nudge: EventFd,
    /// Nothing is recorded any more: calls just go on.
    passing: AtomicBool,
    /// The last sequence number given.
    kseq: AtomicU64,
    flight: Flight,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<RawEvent>,
    bytes: usize,
    /// What was in hand when the end began is in the queue.
    put_down: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record, waits for room first.
    fn push(&self, record: RawEvent) {
        let bytes = weight(&record);
        let mut queue = self.queue();
        while queue.bytes > ROOM && !self.passing.load(Ordering::Acquire) {
            queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let before = queue.bytes;
        queue.bytes += bytes;
        queue.records.push_back(record);
        if before < WAKE_AT && queue.bytes >= WAKE_AT {
            // It cannot be full: it is read whenever it is heard.
            let _ = self.ready.write(1);
        }
    }
}

/// What a record takes of the queue's room.
fn weight(record: &RawEvent) -> usize {
    256 + record.parts.iter().map(Vec::len).sum::<usize>()
}

/// The pipeline's side of a supervisor.
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Shared>,
    listener: Listener,
}

/// How memory is read in this run, and what the supervisor begins with.
#[derive(Debug)]
struct Beginning {
    listener: Listener,
    way: Way,
    questions: Option<Sender<Waiting>>,
}

impl Supervisor {
    /// Begins to supervise who has the filter of this listener. The first call must be [`super::probe`]: by it is proven that the
    /// memory of the run can be read here. `questions` takes what the run asks its runner.
    ///
    /// # Errors
    /// Nobody called, or its memory cannot be read; there is no thread or no memory.
    pub fn start(listener: OwnedFd, questions: Option<Sender<Waiting>>) -> io::Result<Supervisor> {
        let listener = Listener::new(listener);
        let flight = Flight::new()?;
        let (way, first) = hear_probe(&listener, &flight, PollTimeout::from(PATIENCE))?;
        task::begins_with(first);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            room: Condvar::new(),
            ready: EventFd::from_flags(flags)?,
            nudge: EventFd::from_flags(flags)?,
            passing: AtomicBool::new(false),
            kseq: AtomicU64::new(0),
            flight,
        });
        let beginning = Beginning { listener: listener.try_clone()?, way, questions };
        let work = Work::new(Arc::clone(&shared), beginning);
        let work = move || {
            // Without the thread all calls would wait for ever; without the process the guardian lets them go on.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work.run())).is_err() {
                std::process::abort();
            }
        };
        std::thread::Builder::new().name("notify".into()).spawn(work)?;
        Ok(Supervisor { shared, listener })
    }

    /// Serves one [`super::probe`], and the end of who made it: for a self-test.
    ///
    /// # Errors
    /// As [`Supervisor::start`].
    pub fn try_once(listener: OwnedFd, patience: PollTimeout) -> io::Result<()> {
        let listener = Listener::new(listener);
        hear_probe(&listener, &Flight::new()?, patience)?;
        match listener.wait(&[], patience)? {
            Ready::Call => listener.receive().and_then(|call| listener.go_on(call.id)),
            _ => Ok(()),
        }
    }

    /// What a guardian needs to stand in for the supervisor.
    pub fn stand_in_fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.listener.as_fd(), self.shared.flight.as_fd()]
    }

    /// A second descriptor of the listener, to answer questions on.
    ///
    /// # Errors
    /// Descriptors run out.
    pub fn listener(&self) -> io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }

    /// A descriptor that becomes readable when many records wait.
    ///
    /// # Errors
    /// Descriptors run out.
    pub fn ready(&self) -> io::Result<OwnedFd> {
        self.shared.ready.as_fd().try_clone_to_owned()
    }

    /// Hands the next records to `take`, at most `limit` of them; returns how many there were.
    pub fn drain(&self, limit: usize, mut take: impl FnMut(RawEvent)) -> usize {
        let _ = self.shared.ready.read();
        let records: Vec<RawEvent> = {
            let mut queue = self.shared.queue();
            let count = queue.records.len().min(limit);
            let records: Vec<RawEvent> = queue.records.drain(..count).collect();
            queue.bytes -= records.iter().map(weight).sum::<usize>();
            records
        };
        self.shared.room.notify_all();
        let count = records.len();
        records.into_iter().for_each(&mut take);
        count
    }

    /// The run's counters: calls that went on without the supervisor are lost.
    pub fn counters(&self) -> RunCounters {
        let lost = self.shared.flight.unrecorded();
        let kseq = self.shared.kseq.load(Ordering::Acquire) + lost;
        RunCounters { kseq, lost, ..RunCounters::default() }
    }

    /// From now on nothing is recorded; what is in hand is put into the queue before this returns, unless that takes
    /// long. Calls of what is left of the run just go on.
    pub fn end(&self) {
        self.shared.passing.store(true, Ordering::Release);
        self.shared.room.notify_all();
        let _ = self.shared.nudge.write(1);
        let deadline = Instant::now() + END;
        let mut queue = self.shared.queue();
        while !queue.put_down {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.room.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Takes the probe's call and reads its memory; gives how that can be read, and whose it is.
fn hear_probe(listener: &Listener, flight: &Flight, patience: PollTimeout) -> io::Result<(Way, u32)> {
    match listener.wait(&[], patience)? {
        Ready::Call => {}
        _ => return Err(io::Error::other("no call came through the filter")),
    }
    let call = listener.receive()?;
    flight.took(call.id);
    let read = |way| {
        let memory = Memory { tid: call.tid, way };
        memory.string(call.arguments[1], 2 * PROBE.to_bytes().len()).0 == PROBE.to_bytes()
    };
    let way = [Way::Call, Way::File].into_iter().find(|way| read(*way));
    let why = match call.tid {
        0 => "its pid cannot be seen from here",
        _ => {
            "process_vm_readv(2) and /proc/PID/mem are refused here (a container's profile, or kernel.yama.ptrace_scope)"
        }
    };
    listener.go_on(call.id)?;
    way.map(|way| (way, call.tid)).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("the memory of the command cannot be read: {why}"),
        )
    })
}

/// The thread's own.
struct Work {
    shared: Arc<Shared>,
    listener: Listener,
    questions: Option<Sender<Waiting>>,
    way: Way,
    table: Vec<SyscallSpec>,
    tasks: Tasks,
    executing: Executing,
}

impl Work {
    fn new(shared: Arc<Shared>, beginning: Beginning) -> Work {
        let Beginning { listener, way, questions } = beginning;
        let (table, tasks, executing) = (syscalls::table(), Tasks::new(), Executing::new(way));
        Work { shared, listener, questions, way, table, tasks, executing }
    }

    fn run(mut self) {
        let mut ended = false;
        loop {
            let timeout = match self.executing.is_empty() {
                true => PollTimeout::NONE,
                false => PollTimeout::from(LOOK),
            };
            let ready = match ended {
                false => self.listener.wait(&[self.shared.nudge.as_fd()], timeout),
                true => self.listener.wait(&[], PollTimeout::NONE),
            };
            if !ended && self.shared.passing.load(Ordering::Acquire) {
                self.put_down();
                ended = true;
            }
            match ready {
                Ok(Ready::Call) => self.serve(),
                Ok(Ready::Nothing) => self.look(),
                Ok(Ready::Over) | Err(_) => break,
            }
        }
        if !ended {
            self.put_down();
        }
    }

    /// Nothing more comes.
    fn put_down(&mut self) {
        for record in self.executing.give_up(&mut self.tasks) {
            self.shared.push(record);
        }
        self.shared.queue().put_down = true;
        self.shared.room.notify_all();
    }

    fn look(&mut self) {
        for record in self.executing.look(&mut self.tasks) {
            self.shared.push(record);
        }
    }

    /// Takes one call, and lets it go on.
    fn serve(&mut self) {
        // A caller that was killed, or interrupted, meanwhile has nothing to be let go on.
        let Ok(call) = self.listener.receive() else { return };
        self.shared.flight.took(call.id);
        if libc::c_long::from(call.number) == QUESTION && call.architecture == ARCHITECTURES[0] {
            let handed = self.questions.as_ref().is_some_and(|to| to.send(Waiting::of(call.id)).is_ok());
            if handed {
                return;
            }
        } else if !self.shared.passing.load(Ordering::Acquire) {
            self.record(call);
        }
        // Nobody waits for it any more, or the guardian answered in the meantime.
        let _ = self.listener.go_on(call.id);
    }

    fn record(&mut self, call: Call) {
        if filter::ends(&call) {
            return self.ends(call);
        }
        if filter::swaps(&call) {
            return self.swaps(call);
        }
        let Some((arch, number, spec)) = self.look_up(&call) else { return };
        let Some((mut who, parent)) = self.tasks.who(call.tid) else {
            // Who is gone makes no call. Who is there does, and nobody could look (descriptors ran out, say).
            if self.listener.is_valid(call.id) {
                self.shared.flight.passed();
            }
            return;
        };
        let before = self.executing.next_call(who.pid, call.tid, &mut self.tasks);
        if !before.is_empty() {
            who.exe = self.tasks.exe(who.pid);
        }
        let memory = Memory { tid: call.tid, way: self.way };
        let reader = Reader { call, spec, arch, number, who: &who, memory };
        let records = reader.records();
        for record in before {
            self.shared.push(record);
        }
        if let Some(parent) = parent {
            let record = self.numbered(fork(&parent, &who));
            self.shared.push(record);
        }
        // What was read is the caller's only if the caller still waits. Else it was killed and the call will not be, or
        // it was interrupted, and makes the call again.
        if !self.listener.is_valid(call.id) {
            return;
        }
        for record in records {
            let record = self.numbered(record);
            match Kind::from_raw(record.header.kind) {
                Kind::Exec => self.executing.begin(record),
                _ => self.shared.push(record),
            }
        }
    }

    /// A process is about to end, and shows for the last time what it is.
    fn ends(&mut self, call: Call) {
        if self.executing.is_empty() {
            return;
        }
        let Some((who, _)) = self.tasks.who(call.tid) else { return };
        for record in self.executing.next_call(who.pid, call.tid, &mut self.tasks) {
            self.shared.push(record);
        }
    }

    /// A process may be about to show another executable: what it and its like are is not read from there any more.
    fn swaps(&mut self, call: Call) {
        if let Some((who, _)) = self.tasks.who(call.tid) {
            for record in self.executing.next_call(who.pid, call.tid, &mut self.tasks) {
                self.shared.push(record);
            }
        }
        self.tasks.swapped();
    }

    fn numbered(&self, mut record: RawEvent) -> RawEvent {
        record.header.kseq = self.shared.kseq.fetch_add(1, Ordering::AcqRel) + 1;
        record
    }

    /// The table and the number there of a call, and how it is read.
    fn look_up(&self, call: &Call) -> Option<(u8, u32, SyscallSpec)> {
        let [own, short] = ARCHITECTURES;
        let (arch, number) = match call.architecture {
            found if found == own && call.number & X32_BIT != 0 && cfg!(target_arch = "x86_64") => {
                (arch::X32, call.number & !X32_BIT)
            }
            found if found == own => (arch::NATIVE, call.number),
            found if found == short => (arch::COMPAT, call.number),
            _ => (arch::COMPAT, u32::MAX),
        };
        let spec = match number < CALLS_PER_ARCH {
            true => self.table[(u32::from(arch) * CALLS_PER_ARCH + number) as usize],
            false => SyscallSpec::default(),
        };
        match (spec.kind, arch) {
            (0, arch::NATIVE | arch::X32) => None,
            // Of tables that are not read here: that they are used.
            (0, arch) => Some((arch, number, SyscallSpec { kind: Kind::Compat as u8, ..spec })),
            _ => Some((arch, number, spec)),
        }
    }
}
