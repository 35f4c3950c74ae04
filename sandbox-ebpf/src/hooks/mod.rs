//! LSM programs: they judge what the run's tasks try, before it happens.
//!
//! A hook answers from the kernel's own object (the opened file, the address as copied), never from the
//! caller's memory. In an enforced run whatever it cannot judge is denied; the answer of another LSM that
//! denies is passed on. A verdict never waits for room in the ring.

pub mod attributes;
pub mod calls;
pub mod device;
pub mod exec;
pub mod file;
pub mod kernel;
pub mod links;
pub mod names;
pub mod net;
pub mod path;
pub mod places;
pub mod receive;
pub mod task;
pub mod unix;

use aya_ebpf::helpers::{
    bpf_get_current_task,
    generated::{bpf_get_current_task_btf, bpf_send_signal, bpf_task_storage_get},
};
use sandbox_ebpf::abi::{
    config::{Mode, RunConfig},
    event::{HEADER_SIZE, Header, Judgement, Kind, PATH_MAX, flag},
    policy::Sets,
};

use crate::{
    emit::{self, Urgency, counter, next_kseq},
    maps::{
        Finding, HookScratch, MEMBERS, Member, POOL, RUN_CONFIG, SCRATCH, SCRATCH_POOL, TASKS, Task, Walk,
        get, put,
    },
    verdict::Answer,
};

/// What files and exec answer when they are denied.
pub const EACCES: i32 = -13;
/// What the network answers when it is denied.
pub const EPERM: i32 = -1;
/// What a fork answers when it is refused.
pub const EAGAIN: i32 = -11;
const SIGKILL: u32 = 9;
/// Make the value if it is not there (BPF_LOCAL_STORAGE_GET_F_CREATE).
pub const CREATE: u64 = 1;

/// The run that the current task belongs to.
#[derive(Clone, Copy)]
pub struct Subject {
    pub slot: u32,
    /// A [`Mode`], as it was when the hook began.
    pub mode: u32,
    /// Null where task storage is busy.
    member: *mut Member,
}

impl Subject {
    /// The current task's run; `None` for every task of the machine that is in none.
    #[inline(always)]
    fn current() -> Option<Subject> {
        // SAFETY: the helper takes no argument and the map is task storage of `Member`.
        let member = unsafe {
            bpf_task_storage_get(
                MEMBERS.as_ptr(),
                bpf_get_current_task_btf().cast(),
                core::ptr::null_mut(),
                0,
            )
        } as *mut Member;
        let slot = if member.is_null() {
            // Task storage may be busy on this CPU: the observer's table knows the same tasks.
            entry()?.slot
        } else {
            // SAFETY: task storage returned a value of this type.
            unsafe { (*member).slot }
        };
        let config = RUN_CONFIG.get(slot)?;
        // Once: the run may be ended meanwhile, and what a hook began as law it ends as law.
        // SAFETY: the field lies in a map value.
        let mode = unsafe { core::ptr::read_volatile(&raw const config.mode) };
        if mode == Mode::Idle as u32 { None } else { Some(Subject { slot, mode, member }) }
    }

    /// A run, and a task of which nothing is known.
    #[inline(always)]
    pub fn nobody(slot: u32, config: &'static RunConfig) -> Subject {
        // SAFETY: the field lies in a map value.
        let mode = unsafe { core::ptr::read_volatile(&raw const config.mode) };
        Subject { slot, mode, member: core::ptr::null_mut() }
    }

    /// The run of a task in a program that cannot reach task storage: what conditions could know of it is unknown.
    #[inline(always)]
    pub fn of_entry(task: &Task) -> Option<Subject> {
        Some(Subject::nobody(task.slot, RUN_CONFIG.get(task.slot)?))
    }

    /// The current task's run, as a hook begins: else what the hook answers, which is another program's denial,
    /// nothing where the task is in no run, and `refusal` where its run has been ended.
    #[inline(always)]
    pub fn of_hook(previous: i32, refusal: i32) -> Result<Subject, i32> {
        let previous = extended(previous);
        if previous != 0 {
            return Err(previous as i32);
        }
        match Subject::current() {
            None => Err(0),
            Some(subject) if subject.ended() => Err(refusal),
            Some(subject) => Ok(subject),
        }
    }

    /// What conditions on the process can know of the task.
    #[inline(always)]
    pub fn sets(&self) -> Sets {
        // SAFETY: task storage returned a value of this type.
        if self.member.is_null() { Sets::UNKNOWN } else { unsafe { (*self.member).sets } }
    }

    /// Puts that down in the scratch.
    #[inline(always)]
    pub fn know(&self, walk: &mut Walk) {
        let sets = self.sets();
        put(&mut walk.sure_own, sets.sure_own);
        put(&mut walk.may_own, sets.may_own);
        put(&mut walk.sure_line, sets.sure_line);
        // Whoever executed nothing yet may be any executable, though it is no one's ancestor as that.
        put(&mut walk.may_line, sets.may_line | sets.may_own);
    }

    /// Puts down to which sets the task's new executable surely belongs, and to which it may.
    #[inline(always)]
    pub fn executes(&self, sure: u64, may: u64) {
        if self.member.is_null() {
            // It would go on as who it was before.
            if self.mode == Mode::Enforce as u32 {
                // SAFETY: the helper takes no pointer.
                unsafe { bpf_send_signal(SIGKILL) };
            }
            return;
        }
        // SAFETY: task storage returned a value of this type, and only the task itself writes it now.
        let sets = unsafe { &mut (*self.member).sets };
        sets.sure_own = sure;
        sets.may_own = may;
        sets.sure_line |= sure;
        sets.may_line |= may;
    }

    /// Whether the run has been ended; then the task is killed too.
    #[inline(always)]
    fn ended(&self) -> bool {
        let ended = self.mode == Mode::Ended as u32;
        if ended {
            // SAFETY: the helper takes no pointer. Should it fail, the next hook tries again.
            unsafe { bpf_send_signal(SIGKILL) };
        }
        ended
    }

    /// Whether there is a policy to judge by.
    #[inline(always)]
    pub fn judged(&self) -> bool {
        self.mode == Mode::Audit as u32 || self.mode == Mode::Enforce as u32
    }
}

/// Another program's answer, sign-extended and compared as that: newer verifiers look at what a hook may return, and
/// the compiler would compare it zero-extended.
#[inline(always)]
fn extended(answer: i32) -> i64 {
    let mut wide = answer as i64;
    // SAFETY: arithmetic on one register.
    unsafe { core::arch::asm!("{wide} <<= 32", "{wide} s>>= 32", wide = inout(reg) wide) };
    wide
}

/// The observer's entry of the current task.
#[inline(always)]
pub fn entry() -> Option<&'static mut Task> {
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: only the task itself writes its entry after it was made.
    TASKS.get_ptr_mut(task).map(|entry| unsafe { &mut *entry })
}

/// The current task's scratch; null where it has none, or its storage is busy.
#[inline(always)]
fn own_scratch(flags: u64) -> *mut HookScratch {
    // SAFETY: the map is task storage of `HookScratch`; no initial value is given.
    unsafe {
        bpf_task_storage_get(
            SCRATCH.as_ptr(),
            bpf_get_current_task_btf().cast(),
            core::ptr::null_mut(),
            flags,
        ) as *mut HookScratch
    }
}

/// Where a hook works: the task's own scratch, else one of the pool.
pub struct Workplace {
    pub scratch: *mut HookScratch,
    /// Index in the pool plus one; 0 is the task's own.
    pooled: u32,
}

impl Workplace {
    /// `None` when neither can be had.
    ///
    /// A task has its own from its birth (see `task`). To make one here is the last way out: a sleepable program allocates
    /// with GFP_KERNEL, and while it sleeps in there the kernel's per-CPU mark on all task storage stays set
    /// (bpf_task_storage_busy), so that every fork on that CPU would be refused.
    #[inline(always)]
    pub fn enter() -> Option<Workplace> {
        let own = own_scratch(0);
        if !own.is_null() {
            return Some(Workplace { scratch: own, pooled: 0 });
        }
        if let Some(pooled) = Workplace::of_pool() {
            return Some(pooled);
        }
        let own = own_scratch(CREATE);
        if own.is_null() { None } else { Some(Workplace { scratch: own, pooled: 0 }) }
    }

    /// One of the pool, for programs that cannot reach task storage.
    #[inline(always)]
    pub fn of_pool() -> Option<Workplace> {
        // SAFETY: the helper takes no argument.
        let start = (unsafe { bpf_get_current_task() } >> 7) as u32;
        let mut attempt = 0;
        while attempt < 4 {
            let index = start.wrapping_add(attempt * 7) % POOL;
            attempt += 1;
            let Some(pooled) = SCRATCH_POOL.get_ptr_mut(index) else { continue };
            // SAFETY: the pointer leads into a map value.
            if unsafe { emit::swap(&raw mut (*pooled).taken, 1) } == 0 {
                // SAFETY: as above.
                return Some(Workplace { scratch: unsafe { &raw mut (*pooled).scratch }, pooled: index + 1 });
            }
        }
        None
    }

    /// Gives the place back.
    #[inline(always)]
    pub fn leave(&self) {
        if self.pooled != 0
            && let Some(pooled) = SCRATCH_POOL.get_ptr_mut(self.pooled - 1)
        {
            // SAFETY: the pointer leads into a map value that this program took.
            unsafe { emit::swap(&raw mut (*pooled).taken, 0) };
        }
    }
}

/// Whether the current task is in a system call of this kind, whose result the observer will record.
#[inline(always)]
pub fn result_follows(task: &Task, kinds: [u8; 3]) -> bool {
    if task.call == 0 {
        return false;
    }
    let Some(spec) = crate::maps::SYSCALLS.get(task.call - 1) else { return false };
    // Not `||`: one branch instead of three.
    let differs = |kind: u8| spec.kind ^ kind;
    differs(kinds[0]) as u32 * differs(kinds[1]) as u32 * differs(kinds[2]) as u32 == 0
}

/// Which attempts get a record of their own, beside those that are denied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// None.
    Denials,
    /// Those whose result no record will tell.
    Usual,
    /// The same, and those in the first of the calls, whose record only has the name as it was given.
    Named,
    /// All, because the result's record only has the names as they were given.
    Always,
}

/// What a judgement is about.
#[derive(Clone, Copy)]
pub struct Matter {
    /// The record's kind.
    pub check: Kind,
    /// The calls that it may be part of, whose result the observer records.
    pub calls: [Kind; 3],
    /// The accesses that were judged.
    pub access: u16,
    /// Which attempts get a record of their own.
    pub tell: Tell,
    /// Whether the observer told the names when the call began: then this belongs to the same attempt.
    pub entered: bool,
}

impl Matter {
    /// As one number, which the functions that are verified by themselves take.
    #[inline(always)]
    fn packed(&self) -> u64 {
        let [a, b, c] = self.calls;
        let bytes = [a as u8, b as u8, c as u8, self.check as u8, self.tell as u8, self.entered as u8];
        let mut packed = (self.access as u64) << 48;
        let mut index = 0;
        while index < bytes.len() {
            packed |= (bytes[index] as u64) << (8 * index);
            index += 1;
        }
        packed
    }

    #[inline(always)]
    fn unpacked(packed: u64) -> Unpacked {
        let byte = |index: u32| (packed >> (8 * index)) as u8;
        Unpacked {
            calls: [byte(0), byte(1), byte(2)],
            check: byte(3),
            tell: byte(4),
            entered: byte(5) != 0,
            access: (packed >> 48) as u16,
        }
    }
}

/// A [`Matter`] with its kinds as numbers.
struct Unpacked {
    check: u8,
    calls: [u8; 3],
    access: u16,
    tell: u8,
    entered: bool,
}

/// Writes down what the policy says.
#[inline(always)]
pub fn found(scratch: &mut HookScratch, answer: Answer) {
    put(&mut scratch.finding.denied, answer.denied as u64);
    put(&mut scratch.finding.cause, answer.cause as u64);
}

/// Makes a judgement of what was found, records it, and answers for the hook. It is recorded at once when it
/// denies, or when no result will follow; else it is left with the task for the result's record. `fill` completes
/// the header; `finding.length` says how many bytes of the path, and behind it, belong to the record.
#[inline(always)]
pub fn conclude(
    subject: &Subject,
    scratch: &mut HookScratch,
    matter: Matter,
    fill: impl FnOnce(&mut Header, &Finding),
    denial: i32,
) -> i32 {
    // SAFETY: the scratch is a map value.
    let recorded = unsafe { report(scratch, subject.slot, subject.mode, matter.packed()) };
    if recorded != 0 {
        fill(&mut scratch.header, &scratch.finding);
        // SAFETY: as above.
        unsafe { send_report(scratch, subject.slot, matter.packed()) };
    }
    if scratch.judgement() == Judgement::Blocked as u64 { denial } else { 0 }
}

/// Makes a judgement of what was found, and begins its record: 1 when there shall be one.
///
/// # Safety
/// `scratch` is null or a hook's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn report(scratch: *mut HookScratch, slot: u32, mode: u32, matter: u64) -> u64 {
    // SAFETY: the caller's promise.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let matter = Matter::unpacked(matter);
    let judgement = if mode != Mode::Audit as u32 && mode != Mode::Enforce as u32 {
        put(&mut scratch.finding.policy, 0);
        Judgement::None
    } else if scratch.denied() == 0 {
        Judgement::Allowed
    } else if mode == Mode::Audit as u32 {
        Judgement::WouldBlock
    } else {
        Judgement::Blocked
    };
    put(&mut scratch.finding.judgement, judgement as u64);
    if matter.tell == Tell::Denials as u8 && scratch.judgement() <= Judgement::Allowed as u64 {
        return 0;
    }
    let mut told = 0;
    let mut sent_before = 0;
    let mut follows = false;
    if let Some(task) = entry() {
        follows = result_follows(task, matter.calls);
        let by_result = if matter.tell == Tell::Always as u8 {
            false
        } else if matter.tell == Tell::Named as u8 {
            !result_follows(task, [matter.calls[0]; 3])
        } else {
            true
        };
        if follows && by_result && scratch.judgement() <= Judgement::Allowed as u64 {
            if task.judgement == 0 {
                task.judgement = scratch.judgement() as u8;
            }
            return 0;
        }
        told = task.kseq;
        sent_before = task.sent;
    }
    let joins = matter.entered && follows && told != 0;
    // What is blocked has no other result, unless its names were told before. One result belongs to one check:
    // a second level of the same exec stands for itself.
    let alone = scratch.judgement() == Judgement::Blocked as u64 || told != 0;
    put(&mut scratch.finding.paired, (joins || (follows && !alone)) as u64);
    put(&mut scratch.finding.joins, (joins && sent_before != 0) as u64);
    let kseq = if joins { told } else { next_kseq(slot) };
    emit::fill(&mut scratch.header, matter.check, slot, kseq);
    scratch.header.judgement = scratch.judgement() as u8;
    scratch.header.cause = scratch.cause() as u8;
    scratch.header.access = matter.access;
    scratch.header.policy = scratch.policy() as u32;
    1
}

/// Sends the record, and leaves the judgement with the task where a result will follow; always 0.
///
/// # Safety
/// `scratch` is null or a hook's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn send_report(scratch: *mut HookScratch, slot: u32, matter: u64) -> u64 {
    // SAFETY: the caller's promise.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let mut flags = get(&scratch.finding.joins) as u16 * flag::FOLLOWS_CHECK;
    flags |= scratch.paired() as u16 * flag::RESULT_FOLLOWS;
    scratch.header.flags |= flags;
    let urgency = if scratch.judgement() > Judgement::Allowed as u64 { Urgency::Now } else { Urgency::Usual };
    let sent = emit::send::<{ 2 * PATH_MAX as u32 - 1 }>(&scratch.header, scratch.length() as usize, urgency);
    put(&mut scratch.finding.sent, sent as u64);
    if get(&scratch.finding.sent) | scratch.paired() == 0 {
        counter!(slot, lost);
    }
    if scratch.judgement() == Judgement::Blocked as u64 {
        counter!(slot, blocked);
    }
    let left = scratch.paired() != 0 || scratch.judgement() == Judgement::Blocked as u64;
    if left
        && let Some(task) = entry()
        && result_follows(task, Matter::unpacked(matter).calls)
    {
        task.judgement = scratch.judgement() as u8;
        task.kseq = scratch.header.kseq;
        task.sent |= get(&scratch.finding.sent) as u8;
    }
    0
}

const _: () = assert!(HEADER_SIZE + PATH_MAX < 1 << 16);
