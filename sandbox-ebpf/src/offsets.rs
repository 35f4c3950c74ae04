//! Offsets into kernel structures, set by userspace before the object is loaded.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

macro_rules! declare {
    ($($name:ident = $structure:literal $field:literal;)*) => {
        $(
            #[doc = concat!("Offset of `", $structure, "::", $field, "`, bytes.")]
            #[unsafe(no_mangle)]
            pub static $name: u64 = 0;
        )*
    };
}

sandbox_ebpf::offset_table!(declare);
sandbox_ebpf::optional_offset_table!(declare);

/// Arguments of the hook inode_setattr: 3 where the mount's map of ids comes first (6.9), else 2.
#[unsafe(no_mangle)]
pub static SETATTR_ARGUMENTS: u64 = 0;

/// The machine's registers inside `pt_regs`: offsets of the six system call arguments (and two
/// of padding), native then 32-bit.
#[unsafe(no_mangle)]
pub static ARGUMENT_REGISTERS: [u64; 16] = [0; 16];
/// Offset of the system call's number in `pt_regs`: 32 bits.
#[unsafe(no_mangle)]
pub static REGISTERS_NUMBER: u64 = 0;
/// The machine's own numbers of calls that make names, in the order of [`crate::hooks::calls`]; one that it does not have
/// is a number that no call has.
#[unsafe(no_mangle)]
pub static MAKING_CALLS: [u64; 5] = [u64::MAX; 5];
/// Offset of the word in `task_struct` that tells 32-bit calls, and its mask.
#[unsafe(no_mangle)]
pub static COMPAT_WORD: u64 = 0;
#[unsafe(no_mangle)]
pub static COMPAT_MASK: u64 = 0;
/// The ABI that the object was built with; the loader compares.
#[unsafe(no_mangle)]
pub static ABI_VERSION: u32 = sandbox_ebpf::abi::ABI_VERSION;

/// The value of a global. Volatile: the loader changes it behind the compiler's back, and the verifier
/// then sees a constant because the section is frozen.
#[inline(always)]
pub fn value(global: &'static u64) -> usize {
    // SAFETY: a reference is valid to read.
    unsafe { core::ptr::read_volatile(global) as usize }
}

/// Reads the field at `offset` behind a kernel pointer; zero where it cannot be read. A wrong pointer is never a
/// fault.
///
/// There is no error to look at on purpose: each branch would double what the verifier has to follow, and the
/// helper clears what it cannot fill.
#[inline(always)]
pub fn field<T: Copy>(base: u64, offset: &'static u64) -> T {
    let mut place = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address and writes all of `place`, with zeros on a fault; any bytes are a
    // valid T, as only integers are asked for.
    unsafe {
        bpf_probe_read_kernel(
            place.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            (base + value(offset) as u64) as *const core::ffi::c_void,
        );
        place.assume_init()
    }
}
