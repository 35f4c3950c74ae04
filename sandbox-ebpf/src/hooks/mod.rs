//! LSM programs: they judge what the run's tasks try, before it happens.
//!
//! A hook answers from the kernel's own object (the opened file, the address as copied), never from the
//! caller's memory. In an enforced run whatever it cannot judge is denied; the answer of another LSM that
//! denies is passed on. A verdict never waits for room in the ring.

pub mod exec;
pub mod file;
pub mod net;
pub mod task;

use aya_ebpf::helpers::{
    bpf_get_current_task,
    generated::{bpf_get_current_task_btf, bpf_send_signal, bpf_task_storage_get},
};
use sandbox_ebpf::abi::{
    config::{Mode, RunConfig},
    event::{HEADER_SIZE, Header, Judgement, Kind, PATH_MAX, flag},
};

use crate::{
    emit::{self, Urgency, counter, next_kseq},
    maps::{HookScratch, MEMBERS, Member, POOL, RUN_CONFIG, SCRATCH, SCRATCH_POOL, TASKS, Task},
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
    pub config: &'static RunConfig,
}

impl Subject {
    /// The current task's run; `None` for every task of the machine that is in none.
    #[inline(always)]
    pub fn current() -> Option<Subject> {
        // SAFETY: the helper takes no argument and the map is task storage of `Member`.
        let member = unsafe {
            bpf_task_storage_get(
                MEMBERS.as_ptr(),
                bpf_get_current_task_btf().cast(),
                core::ptr::null_mut(),
                0,
            )
        } as *const Member;
        let slot = if member.is_null() {
            // Task storage may be busy on this CPU: the observer's table knows the same tasks.
            entry()?.slot
        } else {
            // SAFETY: task storage returned a value of this type.
            unsafe { (*member).slot }
        };
        let config = RUN_CONFIG.get(slot)?;
        if config.mode == Mode::Idle as u32 { None } else { Some(Subject { slot, config }) }
    }

    /// Whether the run has been ended; then the task is killed too.
    #[inline(always)]
    pub fn ended(&self) -> bool {
        let ended = self.config.mode == Mode::Ended as u32;
        if ended {
            // SAFETY: the helper takes no pointer. Should it fail, the next hook tries again.
            unsafe { bpf_send_signal(SIGKILL) };
        }
        ended
    }

    /// Whether there is a policy to judge by.
    #[inline(always)]
    pub fn judged(&self) -> bool {
        self.config.mode == Mode::Audit as u32 || self.config.mode == Mode::Enforce as u32
    }
}

/// The observer's entry of the current task.
#[inline(always)]
pub fn entry() -> Option<&'static mut Task> {
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: only the task itself writes its entry after it was made.
    TASKS.get_ptr_mut(task).map(|entry| unsafe { &mut *entry })
}

/// Where a hook works: the task's own scratch, else one of the pool.
pub struct Workplace {
    pub scratch: *mut HookScratch,
    /// Index in the pool plus one; 0 is the task's own.
    pooled: u32,
}

impl Workplace {
    /// `None` when neither can be had.
    #[inline(always)]
    pub fn enter() -> Option<Workplace> {
        // SAFETY: the map is task storage of `HookScratch`; no initial value is given.
        let own = unsafe {
            bpf_task_storage_get(
                SCRATCH.as_ptr(),
                bpf_get_current_task_btf().cast(),
                core::ptr::null_mut(),
                CREATE,
            )
        } as *mut HookScratch;
        if !own.is_null() {
            return Some(Workplace { scratch: own, pooled: 0 });
        }
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
pub fn result_follows(entry: &Option<&'static mut Task>, kinds: [Kind; 2]) -> bool {
    let Some(task) = entry else { return false };
    if task.call == 0 {
        return false;
    }
    crate::maps::SYSCALLS
        .get(task.call - 1)
        .is_some_and(|spec| kinds.iter().any(|kind| spec.kind == *kind as u8))
}

/// Records a judgement: at once what is denied, or what no result will follow; else it is left with the task
/// for the result's record. `header` leads to the record; `fill` says how many bytes behind it belong to it, at
/// most `MASK`.
#[inline(always)]
pub fn report<const MASK: u32>(
    subject: &Subject,
    judgement: Judgement,
    answer: Answer,
    kinds: [Kind; 3],
    access: u16,
    fill: impl FnOnce(&mut Header) -> usize,
    header: *mut Header,
) {
    let mut task = entry();
    let follows = result_follows(&task, [kinds[1], kinds[2]]);
    if judgement == Judgement::Allowed && follows {
        if let Some(task) = &mut task
            && task.judgement == 0
        {
            task.judgement = judgement as u8;
        }
        return;
    }
    let kseq = next_kseq(subject.slot);
    // SAFETY: the caller's record.
    let header = unsafe { &mut *header };
    emit::fill(header, kinds[0], subject.slot, kseq);
    header.judgement = judgement as u8;
    header.cause = answer.cause as u8;
    header.access = access;
    let length = fill(header);
    let would = judgement == Judgement::WouldBlock;
    // One result belongs to one check: a second level of the same exec stands for itself.
    let paired = would && follows && task.as_ref().is_some_and(|task| task.kseq == 0);
    if paired {
        header.flags |= flag::RESULT_FOLLOWS;
    }
    let sent = emit::send::<MASK>(
        header,
        length,
        if judgement == Judgement::Allowed { Urgency::Usual } else { Urgency::Now },
    );
    if !sent && !paired {
        counter!(subject.slot, lost);
    }
    if judgement == Judgement::Blocked {
        counter!(subject.slot, blocked);
    }
    if let Some(task) = task
        && follows
        && (paired || judgement == Judgement::Blocked)
    {
        task.judgement = judgement as u8;
        task.kseq = kseq;
        task.sent = sent as u8;
    }
}

const _: () = assert!(HEADER_SIZE + PATH_MAX < 1 << 16);
