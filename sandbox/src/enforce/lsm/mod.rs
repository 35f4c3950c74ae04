//! The `lsm` layer: hooks attached, a policy's tables written, tasks admitted.
//!
//! It does not prove that a denial denies: `layers::selftest` does, because with `bpf` missing from the
//! kernel's list of active LSMs everything here succeeds and nothing is enforced.

mod lease;
mod tables;

use std::io;

use aya::Btf;

pub use lease::Lease;
pub use tables::{sizes, write_plan};

use crate::kernel::{
    bpf::{self, Member},
    object::{Object, ObjectError},
};

/// The hooks, in the order in which they are attached: births first, so that no member's child is missed.
pub const HOOKS: &[&str] =
    &["task_alloc", "file_open", "bprm_check_security", "socket_connect", "socket_sendmsg"];

/// Attaches the hooks.
///
/// # Errors
/// The kernel has no BTF, or refuses a program.
pub fn attach(object: &mut Object) -> Result<(), ObjectError> {
    let btf = Btf::from_sys_fs().map_err(|error| ObjectError::KernelBtf(Box::new(error)))?;
    for name in HOOKS {
        object.attach_hook(name, &btf)?;
    }
    Ok(())
}

/// Makes a process a member of the run in `slot`, by task storage. Its first thread must be the only one.
///
/// # Errors
/// The process is gone, or the kernel refuses.
pub fn admit(object: &Object, slot: u32, pid: u32) -> Result<(), ObjectError> {
    let fault =
        |source: io::Error| ObjectError::Call { what: "make the command a member of the run", source };
    let process = bpf::pidfd_open(pid).map_err(fault)?;
    bpf::admit(object.map("MEMBERS")?, std::os::fd::AsFd::as_fd(&process), Member { slot, _pad: 0 })
        .map_err(fault)
}
