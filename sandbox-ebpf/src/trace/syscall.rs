//! System calls: which one a task is in, and what came of it.
//!
//! Arguments are read on exit, when the kernel has just read the same memory and it is present; only calls
//! that can move the directories they start from are read on entry. Neither is a verdict: memory that other
//! threads can write is a story, and the hooks judge the object itself.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{
        bpf_get_current_task, bpf_probe_read_kernel,
        generated::{bpf_loop, bpf_probe_read_user, bpf_probe_read_user_str},
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use sandbox_ebpf::abi::{
    event::{ARGV_MAX, Judgement, Kind, PATH_MAX, arch, flag},
    syscall::{CALLS_PER_ARCH, SyscallSpec, behaviour},
};

use super::{current, net, scratch, send, task::identify};
use crate::{
    emit::next_kseq,
    maps::{SYSCALLS, Task, TraceScratch},
    offsets::{self, field, value},
    path,
};

/// The bit of x32 system call numbers.
const X32_BIT: u32 = 0x4000_0000;
/// "Start from the working directory."
const AT_FDCWD: i32 = -100;
/// Most arguments of a failed exec that are read.
const ARGUMENTS: u32 = 512;

/// One system call of the current task: its registers, and how to read them.
pub struct Call {
    pub registers: u64,
    pub spec: &'static SyscallSpec,
    pub arch: u8,
}

impl Call {
    /// The argument that a specification names (index plus one); 0 where it names none.
    #[inline(always)]
    pub fn argument(&self, number: u8) -> u64 {
        if number == 0 {
            return 0;
        }
        let compat = self.arch == arch::COMPAT;
        let index = ((number - 1) & 7) as usize + if compat { 8 } else { 0 };
        // SAFETY: the index is below 16; volatile because the loader sets the array.
        let offset = unsafe {
            core::ptr::read_volatile((&raw const offsets::ARGUMENT_REGISTERS).cast::<u64>().add(index & 15))
        };
        // SAFETY: the helper checks the address.
        let register = unsafe { bpf_probe_read_kernel((self.registers + offset) as *const u64) }.unwrap_or(0);
        if compat { register & 0xffff_ffff } else { register }
    }

    /// Size of a pointer in the caller's memory.
    #[inline(always)]
    pub fn pointer_size(&self) -> u64 {
        if self.arch == arch::NATIVE { 8 } else { 4 }
    }
}

/// sys_enter(regs, id): notes which observed call the task is in.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn sys_enter(ctx: RawTracePointContext) -> i32 {
    let Some(task) = current() else { return 0 };
    let registers: u64 = ctx.arg(0);
    let number: u64 = ctx.arg(1);
    let mut number = number as u32;
    // SAFETY: the helper takes no argument.
    let current_task = unsafe { bpf_get_current_task() };
    let word = field::<u32>(current_task, &offsets::COMPAT_WORD);
    let arch = if word & value(&offsets::COMPAT_MASK) as u32 != 0 {
        arch::COMPAT
    } else if number & X32_BIT != 0 && number < 0x8000_0000 {
        number &= !X32_BIT;
        arch::X32
    } else {
        arch::NATIVE
    };
    task.call = 0;
    task.kseq = 0;
    task.judgement = 0;
    task.sent = 0;
    task.notes = 0;
    if number >= CALLS_PER_ARCH {
        return 0;
    }
    let index = arch as u32 * CALLS_PER_ARCH + number;
    let Some(spec) = SYSCALLS.get(index) else { return 0 };
    if spec.kind == 0 {
        return 0;
    }
    task.call = index + 1;
    if spec.behaviour & behaviour::AT_ENTRY != 0 {
        entry_paths(task, &Call { registers, spec, arch }, index);
    }
    0
}

/// Records the paths of a call before it runs.
#[inline(always)]
fn entry_paths(task: &mut Task, call: &Call, index: u32) {
    let kseq = next_kseq(task.slot);
    task.kseq = kseq;
    let Some(scratch) = scratch(Kind::Entry, task.slot, kseq) else { return };
    describe(scratch, call, index);
    scratch.header.args[1] = call.spec.kind as u64;
    scratch.header.flags |= flag::RESULT_FOLLOWS;
    names(scratch, call, index);
    // Memory that is not present yet will be on exit: then the result carries the names.
    if scratch.header.flags & flag::UNREADABLE == 0 && send(scratch) {
        task.sent = 1;
    }
}

/// sys_exit(regs, ret): the observed call is over.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit(ctx: RawTracePointContext) -> i32 {
    let Some(task) = current() else { return 0 };
    if task.call == 0 {
        return 0;
    }
    let index = task.call - 1;
    task.call = 0;
    let Some(spec) = SYSCALLS.get(index) else { return 0 };
    let ret: i64 = ctx.arg(1);
    let blocked = task.judgement == Judgement::Blocked as u8 && spec.behaviour & behaviour::AT_ENTRY == 0;
    if blocked || (spec.kind == Kind::Exec as u8 && ret >= 0) {
        // The hook's record says it all; a successful exec was recorded when it happened.
        return 0;
    }
    let registers = ctx.arg(0);
    if net::is_network(spec.kind) {
        net::record(task, registers, index, ret);
        return 0;
    }
    let call = Call { registers, spec, arch: (index / CALLS_PER_ARCH) as u8 };
    let Some(scratch) = begin(task, &call, index, ret) else { return 0 };
    if spec.kind == Kind::Open as u8 && ret >= 0 {
        opened(scratch, ret as u64);
    } else if spec.kind == Kind::Exec as u8 {
        failed_exec(scratch, &call);
    } else if (spec.path | spec.fd) != 0 && scratch.header.flags & flag::FOLLOWS_CHECK == 0 {
        names(scratch, &call, index);
    }
    send(scratch);
    0
}

/// Starts the record of a call's result.
#[inline(always)]
pub fn begin(task: &mut Task, call: &Call, index: u32, ret: i64) -> Option<&'static mut TraceScratch> {
    let kseq = if task.kseq != 0 { task.kseq } else { next_kseq(task.slot) };
    let scratch = scratch(Kind::Unknown, task.slot, kseq)?;
    scratch.header.kind = call.spec.kind;
    scratch.header.ret = ret;
    scratch.header.judgement = task.judgement;
    scratch.header.flags |= task.notes;
    if task.sent != 0 {
        scratch.header.flags |= flag::FOLLOWS_CHECK;
    }
    describe(scratch, call, index);
    Some(scratch)
}

/// Number, architecture and plain arguments go into the header.
#[inline(always)]
fn describe(scratch: &mut TraceScratch, call: &Call, index: u32) {
    let spec = call.spec;
    scratch.header.syscall = index % CALLS_PER_ARCH;
    scratch.header.arch = call.arch;
    if spec.behaviour & behaviour::INDIRECT != 0 {
        let mut pair = [0u64; 2];
        // SAFETY: the helper checks the address and writes sixteen bytes.
        unsafe {
            bpf_probe_read_user((&raw mut pair).cast(), 16, call.argument(spec.value) as *const c_void)
        };
        scratch.header.args[0] = pair[0];
        scratch.header.args[1] = pair[1];
    } else {
        scratch.header.args[0] =
            if spec.value == 0 { spec.constant as u64 } else { call.argument(spec.value) };
        scratch.header.args[1] = call.argument(spec.value2);
    }
}

/// An open that succeeded: the file behind the new descriptor says where it really is.
#[inline(always)]
fn opened(scratch: &mut TraceScratch, descriptor: u64) {
    let file = path::file_of(descriptor);
    object(scratch, file);
    scratch.header.args[2] = field::<u32>(file, &offsets::FILE_F_MODE) as u64;
}

/// The file that a descriptor leads to, as part 0.
#[inline(always)]
fn object(scratch: &mut TraceScratch, file: u64) {
    if file == 0 {
        scratch.header.flags |= flag::NO_BASE;
        return;
    }
    identify(scratch, file);
    let inode = field::<u64>(file, &offsets::FILE_F_INODE);
    let superblock = field::<u64>(inode, &offsets::INODE_SB);
    scratch.header.args[3] = field(superblock, &offsets::SB_MAGIC);
    path::walk(scratch, 0, path::path_of(file));
}

/// The names that a call gives, each with the directory it starts from.
#[inline(always)]
fn names(scratch: &mut TraceScratch, call: &Call, index: u32) {
    // SAFETY: the scratch is a map value.
    unsafe { names_of_call(scratch, call.registers, index) };
}

/// [`names`], of the call with this index; always 0.
///
/// # Safety
/// `scratch` is null or an observer's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn names_of_call(scratch: *mut TraceScratch, registers: u64, index: u32) -> u64 {
    // SAFETY: the caller's promise.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let Some(spec) = SYSCALLS.get(index) else { return 0 };
    given(scratch, &Call { registers, spec, arch: (index / CALLS_PER_ARCH) as u8 });
    0
}

#[inline(always)]
fn given(scratch: &mut TraceScratch, call: &Call) {
    let spec = call.spec;
    if spec.fd != 0 {
        scratch.header.flags |= flag::BY_DESCRIPTOR;
        object(scratch, path::file_of(call.argument(spec.fd)));
        if spec.path2 != 0 {
            path::user_string(scratch, 3, call.argument(spec.path2));
        }
        return;
    }
    let address = call.argument(spec.path);
    if spec.behaviour & behaviour::EMPTY_PATH != 0 && path::first_byte(address) == 0 {
        scratch.header.flags |= flag::BY_DESCRIPTOR;
        let descriptor = call.argument(spec.dir);
        if descriptor as i32 == AT_FDCWD {
            path::walk(scratch, 0, path::working_directory());
        } else {
            object(scratch, path::file_of(descriptor));
        }
    } else {
        name(scratch, 0, address, call.argument(spec.dir), spec.dir != 0);
    }
    if spec.path2 == 0 {
        return;
    }
    let address = call.argument(spec.path2);
    if spec.behaviour & behaviour::TEXT != 0 {
        path::user_string(scratch, 3, address);
    } else {
        name(scratch, 2, address, call.argument(spec.dir2), spec.dir2 != 0);
    }
}

/// One name, and before it the directory that it starts from, unless it is absolute.
#[inline(always)]
fn name(scratch: &mut TraceScratch, part: usize, address: u64, descriptor: u64, has_descriptor: bool) {
    if path::first_byte(address) != b'/' {
        base(scratch, part, descriptor, has_descriptor);
    }
    path::user_string(scratch, part + 1, address);
}

/// The directory that a relative name starts from.
#[inline(always)]
fn base(scratch: &mut TraceScratch, part: usize, descriptor: u64, has_descriptor: bool) {
    let start = if has_descriptor && descriptor as i32 != AT_FDCWD {
        let file = path::file_of(descriptor);
        if file == 0 {
            scratch.header.flags |= flag::NO_BASE;
            return;
        }
        path::path_of(file)
    } else {
        path::working_directory()
    };
    path::walk(scratch, part, start);
}

/// An exec that failed: the caller's memory is still there.
#[inline(always)]
fn failed_exec(scratch: &mut TraceScratch, call: &Call) {
    let spec = call.spec;
    base(scratch, 0, call.argument(spec.dir), spec.dir != 0);
    path::user_string(scratch, 1, call.argument(spec.path));
    let begin = path::cursor(scratch);
    scratch.arguments.begin = begin as u64;
    scratch.arguments.array = call.argument(spec.value);
    scratch.arguments.pointer_size = call.pointer_size();
    scratch.arguments.truncated = 1;
    let mut context: *mut TraceScratch = scratch;
    // SAFETY: `argument_step` has the signature that bpf_loop calls, and the context outlives the call.
    unsafe { bpf_loop(ARGUMENTS, argument_step as *mut c_void, (&raw mut context).cast(), 0) };
    if scratch.arguments.truncated != 0 {
        scratch.header.flags |= flag::ARGV_TRUNCATED;
    }
    let length = path::cursor(scratch).wrapping_sub(begin);
    path::close(scratch, 3, begin, length);
}

/// One argument. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn argument_step(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `failed_exec` gave it: a pointer to the scratch.
    let scratch = unsafe { &mut **context.cast::<*mut TraceScratch>() };
    let mut address = 0u64;
    let array = scratch.arguments.array;
    let place = array + index * scratch.arguments.pointer_size;
    let size = if scratch.arguments.pointer_size == 4 { 4 } else { 8 };
    // SAFETY: the helper checks the address and writes at most eight bytes.
    if array == 0
        || unsafe { bpf_probe_read_user((&raw mut address).cast(), size, place as *const c_void) } != 0
    {
        return 1;
    }
    if address == 0 {
        scratch.arguments.truncated = 0;
        return 1;
    }
    let begin = path::cursor(scratch);
    if begin as u64 - scratch.arguments.begin > (ARGV_MAX - PATH_MAX) as u64 {
        return 1;
    }
    // SAFETY: at least PATH_MAX bytes follow any masked cursor.
    let read = unsafe {
        bpf_probe_read_user_str(
            scratch.data.as_mut_ptr().add(begin).cast(),
            PATH_MAX as u32,
            address as *const c_void,
        )
    };
    if read < 1 || read >= PATH_MAX as i64 {
        return 1;
    }
    scratch.cursor = begin as u64 + read as u64;
    0
}
