//! Which system call the current task is in, by its registers as they were saved on entry: kernel memory, which no
//! thread of the caller can change while the call runs.

use aya_ebpf::helpers::{
    bpf_get_current_task,
    generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
};
use sandbox_ebpf::abi::policy::access;

use crate::{
    emit::masked,
    offsets::{self, field, value},
};

/// open(2): the access mode's bits, and O_TRUNC.
const WRITES: u64 = 0o1003;

/// The places of [`offsets::MAKING_CALLS`].
const OPEN: usize = 0;
const OPENAT: usize = 1;
const BIND: usize = 2;
const MKNOD: usize = 3;
const MKNODAT: usize = 4;

/// `access::WRITE` where the call that makes a file may open it for writing, else 0. What is no call known here, an
/// openat2(2) or an operation of io_uring, may.
#[inline(always)]
pub fn write_of_creation() -> u16 {
    // SAFETY: the helpers take the current task; every user task has saved registers.
    let registers = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64;
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    let foreign = field::<u32>(task, &offsets::COMPAT_WORD) & value(&offsets::COMPAT_MASK) as u32;
    let number = u64::from(field::<u32>(registers, &offsets::REGISTERS_NUMBER));
    let is = |call: usize| number == making(call);
    let writes = if foreign != 0 {
        1
    } else if is(OPEN) {
        argument(registers, 1) & WRITES
    } else if is(OPENAT) {
        argument(registers, 2) & WRITES
    } else if is(BIND) || is(MKNOD) || is(MKNODAT) {
        0
    } else {
        1
    };
    // One value to go on with: the verifier would follow each by itself.
    if masked::<{ WRITES as u32 }>(writes as usize) != 0 { access::WRITE } else { 0 }
}

/// The machine's number of a call that makes names.
#[inline(always)]
fn making(call: usize) -> u64 {
    // SAFETY: the place is one of the constants above; volatile because the loader sets the array.
    unsafe { core::ptr::read_volatile((&raw const offsets::MAKING_CALLS).cast::<u64>().add(call)) }
}

/// A native call's argument, counted from 0.
#[inline(always)]
fn argument(registers: u64, index: usize) -> u64 {
    // SAFETY: the index is a constant below 8; volatile because the loader sets the array.
    let offset = unsafe {
        core::ptr::read_volatile((&raw const offsets::ARGUMENT_REGISTERS).cast::<u64>().add(index & 7))
    };
    // SAFETY: the helper checks the address.
    unsafe { aya_ebpf::helpers::bpf_probe_read_kernel((registers + offset) as *const u64) }.unwrap_or(3)
}
