//! bpf(2) calls that aya has no name for.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use sandbox_ebpf::abi::{
    policy::{AddressKey, AddressNode, CELLS_PER_PAGE, DigestKey, HostKey, HostLeases, Sets},
    resolver::{ResolverKey, Stub, StubKey},
};

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_MAP_FREEZE: libc::c_long = 22;
const BPF_LINK_CREATE: libc::c_long = 28;

/// `union bpf_attr` of the element commands.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` of BPF_PROG_LOAD, as far as an LSM program needs it.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// `union bpf_attr` of BPF_MAP_CREATE, as far as an array needs it.
#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

/// `union bpf_attr` of BPF_RAW_TRACEPOINT_OPEN.
#[repr(C)]
struct AttachAttr {
    name: u64,
    prog_fd: u32,
    _pad: u32,
}

/// `union bpf_attr` of BPF_LINK_CREATE.
#[repr(C)]
struct LinkAttr {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// `union bpf_attr` of BPF_PROG_ATTACH.
#[repr(C)]
struct GroupAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// Other programs may be attached as well.
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;

/// `union bpf_attr` of BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    _pad: u32,
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a live structure laid out as the command's part of union bpf_attr, and its size is
    // passed with it; pointers inside are valid as each caller says.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut T, size_of::<T>() as libc::c_long) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Plain data that a map may hold.
///
/// # Safety
/// Any bytes must be a valid value, and it must have no padding.
pub unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: integers, with explicit padding.
unsafe impl Plain for sandbox_ebpf::abi::config::RunConfig {}
// SAFETY: integers, with explicit padding.
unsafe impl Plain for sandbox_ebpf::abi::config::RunCounters {}

// SAFETY: integers, with explicit padding.
unsafe impl Plain for sandbox_ebpf::abi::syscall::SyscallSpec {}

/// What a task's membership looks like in task storage.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Slot of the run.
    pub slot: u32,
    /// Zero.
    pub _pad: u32,
    /// What conditions on the process can know of it.
    pub sets: Sets,
}

impl Member {
    /// The first process of a run.
    pub fn first(slot: u32) -> Member {
        Member { slot, _pad: 0, sets: Sets::FIRST }
    }
}

impl Default for Member {
    fn default() -> Self {
        Member { slot: 0, _pad: 0, sets: Sets::UNKNOWN }
    }
}

/// A page of a policy's map.
pub type Page = [u64; CELLS_PER_PAGE];

// SAFETY: integers, with explicit padding.
unsafe impl Plain for Member {}
// SAFETY: bytes.
unsafe impl<const N: usize> Plain for [u8; N] {}
// SAFETY: integers.
unsafe impl<const N: usize> Plain for [u32; N] {}
// SAFETY: integers.
unsafe impl Plain for Page {}
// SAFETY: two integers and 32 bytes, without padding.
unsafe impl Plain for DigestKey {}
// SAFETY: integers.
unsafe impl Plain for AddressNode {}
// SAFETY: four bytes and twenty, without padding.
unsafe impl Plain for TrieKey {}
// SAFETY: four bytes and sixteen, without padding.
unsafe impl Plain for HostKey {}
// SAFETY: integers of eight bytes.
unsafe impl Plain for HostLeases {}
// SAFETY: four bytes and sixteen, without padding.
unsafe impl Plain for ResolverKey {}
// SAFETY: two integers of two bytes.
unsafe impl Plain for Stub {}
// SAFETY: integers, without padding.
unsafe impl Plain for StubKey {}

/// A key of the address trie: length of the prefix in bits, the policy's number included, and the prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrieKey {
    /// Bits that count.
    pub prefix_len: u32,
    /// Policy and address.
    pub data: AddressKey,
}

/// Reads a map's element; `None` when there is none.
///
/// # Errors
/// As bpf(2).
pub fn lookup<K: Plain, V: Plain + Default>(map: BorrowedFd<'_>, key: K) -> io::Result<Option<V>> {
    let mut value = V::default();
    let mut attr = ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        _pad: 0,
        key: &raw const key as u64,
        value: &raw mut value as u64,
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a map's element.
///
/// # Errors
/// As bpf(2).
pub fn update<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: K, value: V) -> io::Result<()> {
    let mut attr = ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        _pad: 0,
        key: &raw const key as u64,
        value: &raw const value as u64,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Removes a map's element; one that is not there is no fault.
///
/// # Errors
/// As bpf(2).
pub fn delete<K: Plain>(map: BorrowedFd<'_>, key: K) -> io::Result<()> {
    let mut attr = ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        _pad: 0,
        key: &raw const key as u64,
        value: 0,
        flags: 0,
    };
    match bpf(BPF_MAP_DELETE_ELEM, &mut attr) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// Makes the map of a policy: so many [`Page`]s.
///
/// # Errors
/// As bpf(2): ENOMEM, E2BIG.
pub fn create_pages(pages: u32) -> io::Result<OwnedFd> {
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    const BPF_F_INNER_MAP: u32 = 1 << 12;
    let mut attr =
        CreateAttr { map_type: BPF_MAP_TYPE_ARRAY, map_flags: BPF_F_INNER_MAP, ..CreateAttr::default() };
    attr.key_size = size_of::<u32>() as u32;
    attr.value_size = size_of::<Page>() as u32;
    attr.max_entries = pages;
    attr.map_name[..14].copy_from_slice(b"sandbox_policy");
    let fd = bpf(BPF_MAP_CREATE, &mut attr)?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Makes a map read-only for userspace, for good.
///
/// # Errors
/// As bpf(2).
pub fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = [map.as_raw_fd() as u32, 0];
    bpf(BPF_MAP_FREEZE, &mut attr).map(drop)
}

/// Attaches a raw tracepoint program to the tracepoint of this name, or, without one, an LSM program to the
/// hook that it was loaded for. It stays attached until the last copy of the descriptor is closed.
///
/// # Errors
/// As bpf(2).
pub fn attach(program: BorrowedFd<'_>, tracepoint: Option<&CStr>) -> io::Result<OwnedFd> {
    let mut attr = AttachAttr {
        name: tracepoint.map_or(0, |name| name.as_ptr() as u64),
        prog_fd: program.as_raw_fd() as u32,
        _pad: 0,
    };
    let fd = bpf(BPF_RAW_TRACEPOINT_OPEN, &mut attr)?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Attaches a program to a control group, beside those that are there; `attach_type` is one of `enum bpf_attach_type`.
/// It stays attached until the last copy of the descriptor is closed, or the group is removed.
///
/// # Errors
/// As bpf(2).
pub fn attach_to_group(
    program: BorrowedFd<'_>,
    group: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attr = LinkAttr {
        prog_fd: program.as_raw_fd() as u32,
        target_fd: group.as_raw_fd() as u32,
        attach_type,
        flags: 0,
    };
    let fd = bpf(BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Attaches a program to a control group for good: it holds for each socket that was made in the group until that socket
/// is gone, whoever removes the group or ends before (`cgroup_sk_alloc` in kernel/cgroup/cgroup.c keeps a reference).
///
/// # Errors
/// As bpf(2).
pub fn leave_in_group(program: BorrowedFd<'_>, group: BorrowedFd<'_>, attach_type: u32) -> io::Result<()> {
    let mut attr = GroupAttr {
        target_fd: group.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type,
        attach_flags: BPF_F_ALLOW_MULTI,
        replace_bpf_fd: 0,
    };
    bpf(BPF_PROG_ATTACH, &mut attr).map(drop)
}

/// Whether the kernel refuses LSM programs as such, found out by loading one that names no hook: EPERM says so,
/// EINVAL only that the hook is missing. Much cheaper than reading the kernel's types for a real one.
pub fn refuses_lsm_programs() -> bool {
    const BPF_PROG_TYPE_LSM: u32 = 29;
    const BPF_LSM_MAC: u32 = 27;
    // r0 = 0; exit
    let instructions: [u64; 2] = [0xb7, 0x95];
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_LSM,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        expected_attach_type: BPF_LSM_MAC,
        ..LoadAttr::default()
    };
    matches!(bpf(BPF_PROG_LOAD, &mut attr), Err(error) if error.raw_os_error() == Some(libc::EPERM))
}

/// Runs a raw tracepoint program once, in the calling task, with these arguments; returns what it returned.
///
/// # Errors
/// As bpf(2).
pub fn run_program(program: BorrowedFd<'_>, arguments: &[u64]) -> io::Result<u32> {
    let mut attr = TestRunAttr {
        prog_fd: program.as_raw_fd() as u32,
        ctx_size_in: size_of_val(arguments) as u32,
        ctx_in: arguments.as_ptr() as u64,
        ..TestRunAttr::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr)?;
    Ok(attr.retval)
}

/// Makes the process behind a pidfd a member, in a task storage map.
///
/// # Errors
/// As bpf(2).
pub fn admit(members: BorrowedFd<'_>, process: BorrowedFd<'_>, member: Member) -> io::Result<()> {
    update(members, process.as_raw_fd() as u32, member)
}

/// The membership of the process behind a pidfd.
///
/// # Errors
/// As bpf(2).
pub fn member(members: BorrowedFd<'_>, process: BorrowedFd<'_>) -> io::Result<Option<Member>> {
    lookup(members, process.as_raw_fd() as u32)
}

/// A descriptor for a process, close-on-exec.
///
/// # Errors
/// As pidfd_open(2).
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
