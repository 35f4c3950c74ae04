//! The layer `cgroup-net`: programs of the run's control group, which see the sockets that were made in it.
//!
//! They judge where TCP and UDP sockets go and what they are bound to, and lead questions for names to the runner. Where
//! hooks judge too, they add what only they can see: listeners of the run. Other families, unix sockets and listening
//! are not seen here; and a socket belongs to the group that it was made in, whatever task holds it now.

use std::{fs::File, net::IpAddr, os::fd::AsFd, path::Path};

use sandbox_ebpf::abi::{
    policy::proto,
    resolver::{ResolverKey, Stub, StubKey},
};

use crate::kernel::{
    bpf,
    object::{Object, ObjectError},
};

/// Marks come first, so that no socket is missed. Each with its `enum bpf_attach_type`.
const MARKS: (&str, u32) = ("sock_create", 2);

/// Who reads the names that connections tell.
const NAMES: (&str, u32) = ("egress", 1);

/// Who judges where connections go, and has their names read; also whether a listener of the run is there.
const CONNECTS: [(&str, u32); 2] = [("connect4", 10), ("connect6", 11)];

/// The same of datagrams, which tell no names.
const SENDS: [(&str, u32); 2] = [("sendmsg4", 14), ("sendmsg6", 15)];

/// Who judges what is bound.
const BINDS: [(&str, u32); 2] = [("bind4", 8), ("bind6", 9)];

/// Who hides that the runner answers for resolvers.
const STAND_INS: [(&str, u32); 4] =
    [("recvmsg4", 19), ("recvmsg6", 20), ("getpeername4", 29), ("getpeername6", 30)];

/// Who shows what resolvers answer.
const ANSWERS: [(&str, u32); 1] = [("ingress", 0)];

/// What the programs are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To show what resolvers answer, and whose listeners are reached.
    Watch,
    /// To judge all that they can.
    Judge,
    /// To judge what hooks leave open: names of hosts, and listeners of the run.
    Assist,
    /// To show which names connections tell: hooks leave nothing open.
    Read,
}

/// Loads the programs and attaches them to a control group.
///
/// # Errors
/// The kernel refuses.
pub fn attach(object: &mut Object, directory: &Path, purpose: Purpose) -> Result<(), ObjectError> {
    let group = File::open(directory)
        .map_err(|source| ObjectError::Call { what: "open the run's control group", source })?;
    let more: &[&[(&str, u32)]] = match purpose {
        Purpose::Watch => &[&SENDS, &ANSWERS],
        Purpose::Judge => &[&SENDS, &BINDS, &STAND_INS],
        Purpose::Assist => &[&SENDS, &STAND_INS],
        Purpose::Read => &[],
    };
    // The kernel may send what a process left behind after the process, the run and the runner are gone.
    let stays = matches!(purpose, Purpose::Judge | Purpose::Assist);
    object.attach_to_group(NAMES.0, group.as_fd(), NAMES.1, stays)?;
    let programs = [MARKS].into_iter().chain(CONNECTS).chain(more.iter().copied().flatten().copied());
    for (name, attach_type) in programs {
        object.attach_to_group(name, group.as_fd(), attach_type, false)?;
    }
    Ok(())
}

/// An address as maps have it: IPv4 as IPv4-mapped.
pub fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The runner stands in for a resolver at these ports of loopback, for the run in `slot`.
///
/// # Errors
/// The kernel refuses.
pub fn stand_in(object: &Object, slot: u32, resolver: IpAddr, stub: Stub) -> Result<(), ObjectError> {
    let fault = |source| ObjectError::Call { what: "stand in for the machine's resolver", source };
    let address = address_bytes(resolver);
    let back = object.map("STUBS")?;
    for (port, proto) in [(stub.udp, proto::UDP), (stub.tcp, proto::TCP)] {
        bpf::update(back, StubKey { slot, port, proto: proto.into() }, address).map_err(fault)?;
    }
    bpf::update(object.map("RESOLVERS")?, ResolverKey { slot, address }, stub).map_err(fault)
}
