//! What keeps a run enforced when its collector is gone: copies of the links, and the maps to end it by.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use sandbox_ebpf::abi::config::{Mode, RunConfig};

use crate::{
    kernel::{
        bpf,
        object::{Object, ObjectError},
        turn,
    },
    launch::ending::Membership,
};

/// Held by the guardian, and by the collector itself.
pub struct Lease {
    slot: u32,
    config: OwnedFd,
    members: OwnedFd,
    /// Never read: while a copy is open, the programs stay attached.
    links: Vec<OwnedFd>,
}

impl Lease {
    /// The descriptors to hand over, in the order that [`Lease::from_fds`] expects.
    ///
    /// # Errors
    /// The object has no such map.
    pub fn fds(object: &Object) -> Result<Vec<BorrowedFd<'_>>, ObjectError> {
        let mut fds = vec![object.map("RUN_CONFIG")?, object.map("MEMBERS")?];
        fds.extend(object.links().iter().map(AsFd::as_fd));
        Ok(fds)
    }

    /// Takes over what [`Lease::fds`] gave; `None` when there are too few.
    pub fn from_fds(slot: u32, fds: Vec<OwnedFd>) -> Option<Lease> {
        let mut fds = fds.into_iter();
        Some(Lease { slot, config: fds.next()?, members: fds.next()?, links: fds.collect() })
    }
}

impl Membership for Lease {
    fn end(&self) -> io::Result<()> {
        let Some(config) = bpf::lookup::<u32, RunConfig>(self.config.as_fd(), self.slot)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        bpf::update(self.config.as_fd(), self.slot, RunConfig { mode: Mode::Ended as u32, ..config })
    }

    fn is_member(&self, process: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(bpf::member(self.members.as_fd(), process)?.is_some_and(|member| member.slot == self.slot))
    }

    fn let_go(self: Box<Self>) {
        turn::close(self.links);
    }
}
