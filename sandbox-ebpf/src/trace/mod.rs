//! The observer: raw tracepoints that record what the run's tasks did, with the result of each call.

pub mod connection;
pub mod net;
pub mod syscall;
pub mod task;

use aya_ebpf::helpers::{bpf_get_current_task, bpf_get_smp_processor_id};
use sandbox_ebpf::abi::event::{DATA_MAX, Kind, flag};

use crate::{
    emit::{self, Urgency, counter},
    maps::{TASKS, TRACE_SCRATCH, Task, TraceScratch},
};

/// The current task's entry, if it is followed.
#[inline(always)]
pub fn current() -> Option<&'static mut Task> {
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: only the task itself, on its own CPU, writes its entry after it was made.
    TASKS.get_ptr_mut(task).map(|entry| unsafe { &mut *entry })
}

/// This CPU's scratch, ready for a record. Tracepoint programs are not preempted by each other.
#[inline(always)]
pub fn scratch(kind: Kind, slot: u32, kseq: u64) -> Option<&'static mut TraceScratch> {
    // SAFETY: the helper takes no argument.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    // SAFETY: nobody else works on this CPU's entry while this program runs.
    let scratch = TRACE_SCRATCH.get_ptr_mut(cpu).map(|entry| unsafe { &mut *entry })?;
    emit::fill(&mut scratch.header, kind as u8, slot, kseq);
    scratch.cursor = 0;
    Some(scratch)
}

/// Sends the record in the scratch; a loss is counted unless another record stands for the attempt.
#[inline(always)]
pub fn send(scratch: &mut TraceScratch) -> bool {
    let length = scratch.cursor as usize;
    let sent = emit::send::<{ DATA_MAX as u32 - 1 }>(&scratch.header, length, Urgency::Usual);
    if !sent && scratch.header.flags & (flag::FOLLOWS_CHECK | flag::RESULT_FOLLOWS) == 0 {
        counter!(scratch.header.slot, lost);
    }
    sent
}
