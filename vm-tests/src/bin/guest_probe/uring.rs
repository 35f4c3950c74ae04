//! One operation through io_uring, done by a kernel worker: IOSQE_ASYNC keeps it off the submitting task.
//!
//! Raw io_uring_setup(2) and io_uring_enter(2); layouts from include/uapi/linux/io_uring.h.

use crate::net;
use crate::raw::{self, Errno, check};
use std::ffi::CStr;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

const OP_CONNECT: u8 = 16;
const OP_OPENAT: u8 = 18;
const SQE_ASYNC: u8 = 1 << 4;
const ENTER_GETEVENTS: u32 = 1;
const OFFSET_SQES: libc::off_t = 0x1000_0000;
const FEATURE_SINGLE_MMAP: u32 = 1;
const RING_BYTES: usize = 4096;

/// struct io_uring_params.
#[repr(C)]
#[derive(Default)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    sq: SqOffsets,
    cq: CqOffsets,
}

/// struct io_sqring_offsets.
#[repr(C)]
#[derive(Default)]
struct SqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    reserved: u32,
    user_addr: u64,
}

/// struct io_cqring_offsets.
#[repr(C)]
#[derive(Default)]
struct CqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    overflow: u32,
    cqes: u32,
    flags: u32,
    reserved: u32,
    user_addr: u64,
}

/// struct io_uring_sqe, as far as these operations use it.
#[repr(C)]
#[derive(Default)]
struct Sqe {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    offset: u64,
    address: u64,
    length: u32,
    op_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

const _: () = assert!(size_of::<Params>() == 120);
const _: () = assert!(size_of::<Sqe>() == 64);

/// IORING_OP_OPENAT for reading.
pub fn open(path: &CStr) -> Result<(), Errno> {
    let sqe = Sqe {
        opcode: OP_OPENAT,
        flags: SQE_ASYNC,
        fd: libc::AT_FDCWD,
        address: path.as_ptr() as u64,
        op_flags: (libc::O_RDONLY | libc::O_CLOEXEC).cast_unsigned(),
        ..Sqe::default()
    };
    submit(sqe).map(drop)
}

/// IORING_OP_CONNECT of a TCP socket.
pub fn connect(address: SocketAddr) -> Result<(), Errno> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = raw::socket(family, libc::SOCK_STREAM, 0)?;
    let bytes = net::encode(address);
    let sqe = Sqe {
        opcode: OP_CONNECT,
        flags: SQE_ASYNC,
        fd: socket.as_raw_fd(),
        address: bytes.as_ptr() as u64,
        offset: bytes.len() as u64,
        ..Sqe::default()
    };
    submit(sqe).map(drop)
}

/// Submits one operation, waits for it, and returns its result. What it points at must outlive the call.
fn submit(sqe: Sqe) -> Result<i32, Errno> {
    let mut params = Params::default();
    // SAFETY: params has the kernel's layout and lives through the call.
    let fd = check(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut params) })?;
    let fd = i32::try_from(fd).map_err(|_| libc::EOVERFLOW)?;
    // SAFETY: the kernel has just made this descriptor for the caller alone.
    let ring = unsafe { OwnedFd::from_raw_fd(fd) };
    if params.features & FEATURE_SINGLE_MMAP == 0 {
        return Err(libc::ENOSYS);
    }
    let rings = map(&ring, 0)?;
    let sqes = map(&ring, OFFSET_SQES)?;
    // SAFETY: both mappings are a page, the offsets are the kernel's own for a ring of one entry, every word
    // is aligned, and the kernel does not touch the entry before the tail moves.
    unsafe {
        sqes.cast::<Sqe>().write(sqe);
        rings.byte_add(params.sq.array as usize).cast::<u32>().write(0);
        (*rings.byte_add(params.sq.tail as usize).cast::<AtomicU32>()).store(1, Ordering::Release);
    }
    // SAFETY: the descriptor is open; no signal mask is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            ring.as_raw_fd(),
            1,
            1,
            ENTER_GETEVENTS,
            std::ptr::null::<u8>(),
            0,
        )
    })?;
    // SAFETY: as above; the first completion stands at the kernel's offset: user_data u64, then res i32.
    let result = unsafe { rings.byte_add(params.cq.cqes as usize + 8).cast::<i32>().read_volatile() };
    // SAFETY: mapped above with this size, and not used again.
    unsafe {
        libc::munmap(rings.cast(), RING_BYTES);
        libc::munmap(sqes.cast(), RING_BYTES);
    }
    if result < 0 { Err(-result) } else { Ok(result) }
}

fn map(ring: &OwnedFd, offset: libc::off_t) -> Result<*mut u8, Errno> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses the address; the ring's memory is at least a page.
    let mapped = unsafe {
        libc::mmap(std::ptr::null_mut(), RING_BYTES, protection, libc::MAP_SHARED, ring.as_raw_fd(), offset)
    };
    if mapped == libc::MAP_FAILED { check(-1).map(|_| std::ptr::null_mut()) } else { Ok(mapped.cast()) }
}
