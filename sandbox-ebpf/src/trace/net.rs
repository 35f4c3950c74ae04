//! Network calls: the address as the caller gave it, and the socket it was given to.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel, bpf_probe_read_user};
use sandbox_ebpf::abi::{
    event::{ADDRESS_MAX, Header, Kind, arch, flag},
    policy::net_access,
    syscall::{CALLS_PER_ARCH, behaviour},
};

use super::{
    connection, send,
    syscall::{Call, begin},
};
use crate::{
    hooks::net::MSG_FASTOPEN,
    maps::{Task, TraceScratch},
    offsets::{self, field, value},
    path,
};

/// Most messages of one sendmmsg(2) (UIO_MAXIOV).
const MESSAGES: u32 = 1024;
const S_IFMT: u16 = 0xf000;
const S_IFSOCK: u16 = 0xc000;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Whether a kind is one of a network call.
#[inline(always)]
pub fn is_network(kind: u8) -> bool {
    kind >= Kind::Connect as u8 && kind <= Kind::Accept as u8
}

/// Records a network call's result.
#[inline(always)]
pub fn record(task: &mut Task, registers: u64, index: u32, ret: i64) {
    // SAFETY: the task's entry is a map value.
    unsafe { record_network(task, registers, index, ret) };
}

/// [`record`], verified by itself; always 0.
///
/// # Safety
/// `task` is null or a task's entry.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn record_network(task: *mut Task, registers: u64, index: u32, ret: i64) -> u64 {
    // SAFETY: the caller's promise.
    let Some(task) = (unsafe { task.as_mut() }) else { return 0 };
    let Some(spec) = crate::maps::SYSCALLS.get(index) else { return 0 };
    record_call(task, &Call { registers, spec, arch: (index / CALLS_PER_ARCH) as u8 }, index, ret);
    0
}

#[inline(always)]
fn record_call(task: &mut Task, call: &Call, index: u32, ret: i64) {
    let spec = call.spec;
    if spec.behaviour & behaviour::MESSAGES != 0 {
        return messages(task, call, index, ret);
    }
    let (mut address, mut length) = (call.argument(spec.path), call.argument(spec.value));
    if spec.behaviour & behaviour::MESSAGE != 0 {
        (address, length) = message_name(call, address);
    }
    if spec.kind == Kind::Send as u8 && address == 0 {
        // Sent over a connection, which was recorded when it was made. A verdict starts the next call afresh.
        return;
    }
    let Some(scratch) = begin(task, call, index, ret) else { return };
    let accepted = spec.kind == Kind::Accept as u8;
    let descriptor = if accepted { ret as u64 } else { call.argument(spec.fd) };
    let socket = socket(scratch, if accepted && ret < 0 { call.argument(spec.fd) } else { descriptor });
    tell_access(scratch, call);
    if accepted && ret >= 0 {
        connection::accepted(socket);
        peer(scratch, socket);
    } else if spec.kind == Kind::Listen as u8 {
        own(scratch, socket);
    } else if !accepted {
        user_address(scratch, address, length);
    }
    send(scratch);
}

/// The descriptor goes into the header; and a sending that connects (TCP fast open) is told as that.
#[inline(always)]
fn tell_access(scratch: &mut TraceScratch, call: &Call) {
    scratch.header.args[0] = call.argument(call.spec.fd);
    let flags = call.argument(call.spec.value2) as u32;
    scratch.header.access = (flags / MSG_FASTOPEN & 1) as u16 * net_access::CONNECT as u16;
}

/// Family, type and protocol of the socket behind a descriptor go into the header; returns its `sock`.
#[inline(always)]
fn socket(scratch: &mut TraceScratch, descriptor: u64) -> u64 {
    let file = path::file_of(descriptor);
    let inode = field::<u64>(file, &offsets::FILE_F_INODE);
    scratch.header.args[1] = 0;
    if field::<u16>(inode, &offsets::INODE_MODE) & S_IFMT != S_IFSOCK {
        scratch.header.flags |= flag::NO_BASE;
        return 0;
    }
    let socket = field::<u64>(file, &offsets::FILE_PRIVATE_DATA);
    describe_socket(&mut scratch.header, socket)
}

/// Family, type, protocol and own port of a `struct socket` go into the header; returns its `sock`.
#[inline(always)]
pub fn describe_socket(header: &mut Header, socket: u64) -> u64 {
    let sock = field::<u64>(socket, &offsets::SOCKET_SK);
    let family = field::<u16>(sock, &offsets::SOCK_FAMILY);
    header.args[1] = family as u64;
    header.args[2] = field::<u16>(socket, &offsets::SOCKET_TYPE) as u64;
    header.args[3] = field::<u16>(sock, &offsets::SOCK_PROTOCOL) as u64;
    let internet = (family == AF_INET) | (family == AF_INET6);
    header.ino = field::<u16>(sock, &offsets::SOCK_NUM) as u64 * internet as u64;
    sock
}

/// The address in the caller's memory, as part 0. Its length is an int: the kernel does not look at the rest of the
/// register.
#[inline(always)]
fn user_address(scratch: &mut TraceScratch, address: u64, length: u64) {
    let length = length & 0xffff_ffff;
    let length = if length > ADDRESS_MAX as u64 { ADDRESS_MAX as u64 } else { length };
    // SAFETY: the scratch holds more than ADDRESS_MAX bytes.
    let read = unsafe {
        bpf_probe_read_user(scratch.data.as_mut_ptr().cast(), length as u32, address as *const c_void)
    };
    if read != 0 {
        scratch.header.flags |= flag::UNREADABLE;
        return path::close(scratch, 0, 0, 0);
    }
    path::close(scratch, 0, 0, length as usize);
    let family = u16::from_ne_bytes([scratch.data[0], scratch.data[1]]);
    let first = scratch.data[2];
    if family == AF_UNIX && length > 2 && first != 0 && first != b'/' {
        // A relative name: it starts from the working directory.
        path::walk(scratch, 1, path::working_directory());
    }
}

/// The peer of an accepted connection, as a socket address in part 0.
#[inline(always)]
fn peer(scratch: &mut TraceScratch, sock: u64) {
    let port = field::<u16>(sock, &offsets::SOCK_DPORT).to_ne_bytes();
    let v4 = field::<[u8; 4]>(sock, &offsets::SOCK_DADDR);
    let v6 = field::<[u8; 16]>(sock, &offsets::SOCK_DADDR6);
    socket_address(scratch, port, v4, v6);
}

/// The socket's own address, as a socket address in part 0.
#[inline(always)]
fn own(scratch: &mut TraceScratch, sock: u64) {
    if scratch.header.args[1] == AF_UNIX as u64 {
        return own_name(scratch, sock);
    }
    let port = field::<u16>(sock, &offsets::SOCK_NUM).to_be_bytes();
    let v4 = field::<[u8; 4]>(sock, &offsets::SOCK_RCV_SADDR);
    let v6 = field::<[u8; 16]>(sock, &offsets::SOCK_RCV_SADDR6);
    socket_address(scratch, port, v4, v6);
}

/// The name that a unix socket was bound to, as a socket address in part 0: an abstract one as it is, else `.` and in
/// part 1 the path where it was made.
#[inline(always)]
fn own_name(scratch: &mut TraceScratch, sock: u64) {
    let path = sock + value(&offsets::UNIX_PATH) as u64;
    if field::<u64>(path, &offsets::PATH_DENTRY) != 0 {
        [scratch.data[0], scratch.data[1]] = AF_UNIX.to_ne_bytes();
        scratch.data[2] = b'.';
        path::close(scratch, 0, 0, 3);
        return path::walk(scratch, 1, path);
    }
    let address = field::<u64>(sock, &offsets::UNIX_ADDRESS);
    if address == 0 {
        return;
    }
    let length = field::<u32>(address, &offsets::UNIX_NAME_LENGTH) as u64;
    let length = if length > ADDRESS_MAX as u64 { ADDRESS_MAX as u64 } else { length };
    let name = address + value(&offsets::UNIX_NAME) as u64;
    // SAFETY: the scratch holds more than ADDRESS_MAX bytes; the helper checks the source.
    let read = unsafe {
        bpf_probe_read_kernel(scratch.data.as_mut_ptr().cast(), length as u32, name as *const c_void)
    };
    path::close(scratch, 0, 0, if read == 0 { length as usize } else { 0 });
}

/// Writes a sockaddr_in or sockaddr_in6, by the family in the header; other families have none.
#[inline(always)]
fn socket_address(scratch: &mut TraceScratch, port: [u8; 2], v4: [u8; 4], v6: [u8; 16]) {
    let family = scratch.header.args[1] as u16;
    let data = &mut scratch.data;
    [data[0], data[1]] = family.to_ne_bytes();
    [data[2], data[3]] = port;
    if family == AF_INET {
        [data[4], data[5], data[6], data[7]] = v4;
        path::close(scratch, 0, 0, 8);
    } else if family == AF_INET6 {
        let mut index = 0;
        while index < 16 {
            data[8 + index] = v6[index];
            index += 1;
        }
        [data[4], data[5], data[6], data[7]] = [0; 4];
        path::close(scratch, 0, 0, 24);
    }
}

/// The name in a msghdr of the caller's memory: address and length, zero where it has none.
#[inline(always)]
fn message_name(call: &Call, message: u64) -> (u64, u64) {
    let mut words = [0u32; 4];
    // SAFETY: the helper checks the address and writes sixteen bytes.
    if unsafe { bpf_probe_read_user((&raw mut words).cast(), 16, message as *const c_void) } != 0 {
        return (0, 0);
    }
    if call.arch == arch::NATIVE {
        (words[0] as u64 | (words[1] as u64) << 32, words[2] as u64)
    } else {
        (words[0] as u64, words[1] as u64)
    }
}

/// The sending of several messages; lives on the stack.
struct Messages {
    task: *mut Task,
    registers: u64,
    ret: i64,
    index: u64,
}

/// Records each message that has a name.
#[inline(always)]
fn messages(task: &mut Task, call: &Call, index: u32, ret: i64) {
    let count = if ret > 0 { ret as u32 } else { 1 };
    let count = if count > MESSAGES { MESSAGES } else { count };
    let mut sending = Messages { task, registers: call.registers, ret, index: index as u64 };
    // SAFETY: `message_step` has the signature that bpf_loop calls, and `sending` outlives the call.
    unsafe { bpf_loop(count, message_step as *mut c_void, (&raw mut sending).cast(), 0) };
}

/// One message. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn message_step(number: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `messages` gave it.
    let sending = unsafe { &mut *context.cast::<Messages>() };
    let index = sending.index as u32;
    let Some(spec) = crate::maps::SYSCALLS.get(index) else { return 1 };
    let call = Call { registers: sending.registers, spec, arch: (index / CALLS_PER_ARCH) as u8 };
    let stride = if call.arch == arch::NATIVE { 64 } else { 32 };
    let (address, length) = message_name(&call, call.argument(spec.path) + number * stride);
    if address == 0 {
        return 0;
    }
    // SAFETY: the task's entry is a map value that outlives this program.
    let task = unsafe { &mut *sending.task };
    let ret = if sending.ret < 0 { sending.ret } else { 0 };
    let Some(scratch) = begin(task, &call, index, ret) else { return 1 };
    socket(scratch, call.argument(spec.fd));
    tell_access(scratch, &call);
    user_address(scratch, address, length);
    send(scratch);
    task.kseq = 0;
    task.sent = 0;
    0
}
