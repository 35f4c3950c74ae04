//! The system call table that userspace writes and the observer reads: how to read a call's arguments.

/// Calls in one architecture's part of the table.
pub const CALLS_PER_ARCH: u32 = 1024;
/// Entries of the table: native, 32-bit, x32.
pub const CALLS: u32 = 3 * CALLS_PER_ARCH;

/// How to read one system call. An argument is named by its index plus one; 0 is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyscallSpec {
    /// An [`super::event::Kind`]; 0 is a call that is not observed.
    pub kind: u8,
    /// Descriptor of the directory that the first name starts from; none means the working directory.
    pub dir: u8,
    /// The first name.
    pub path: u8,
    /// Directory of the second name.
    pub dir2: u8,
    /// The second name.
    pub path2: u8,
    /// A descriptor that the call is about.
    pub fd: u8,
    /// An argument for `args[0]`.
    pub value: u8,
    /// An argument for `args[1]`.
    pub value2: u8,
    /// [`behaviour`] bits.
    pub behaviour: u8,
    /// Zero.
    pub _pad: [u8; 3],
    /// A constant for `args[0]`, where `value` is 0.
    pub constant: u32,
}

/// Bits of [`SyscallSpec::behaviour`].
pub mod behaviour {
    /// Take the paths on entry: the base directories may move during the call.
    pub const AT_ENTRY: u8 = 1 << 0;
    /// `value` points to a structure whose first 64 bits are the flags, the second the mode (openat2(2)).
    pub const INDIRECT: u8 = 1 << 1;
    /// The name points to a msghdr (sendmsg(2)).
    pub const MESSAGE: u8 = 1 << 2;
    /// The name points to an array of mmsghdr; `value` is its length (sendmmsg(2)).
    pub const MESSAGES: u8 = 1 << 3;
    /// The second name is text, not a path: it has no directory.
    pub const TEXT: u8 = 1 << 4;
    /// An empty or absent first name means the descriptor itself.
    pub const EMPTY_PATH: u8 = 1 << 5;
}

const _: () = assert!(size_of::<SyscallSpec>() == 16);
