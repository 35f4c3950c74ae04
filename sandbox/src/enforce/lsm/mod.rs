//! The `lsm` layer: hooks attached, a policy's tables written, tasks admitted.
//!
//! It does not prove that a denial denies: `layers::selftest` does, because with `bpf` missing from the
//! kernel's list of active LSMs everything here succeeds and nothing is enforced.

mod lease;
mod links;
mod tables;

use std::io;

pub use lease::Lease;
pub use links::Marker;
pub use tables::{Force, Installed, install, remove};

use crate::kernel::{
    bpf::{self, Member},
    object::{Object, ObjectError},
};

/// The hooks, in the order in which they are attached: births first, so that no member's child is missed.
pub const HOOKS: &[&str] = &[
    "task_alloc",
    "file_open",
    "bprm_committed_creds",
    "mmap_file",
    "path_mknod",
    "path_mkdir",
    "path_symlink",
    "path_link",
    "path_rename",
    "path_unlink",
    "path_rmdir",
    "path_truncate",
    "path_chmod",
    "path_chown",
    "inode_setattr",
    "inode_setxattr",
    "inode_removexattr",
    "file_ioctl",
    "file_receive",
    "socket_post_create",
    "socket_create",
    "socket_connect",
    "socket_sendmsg",
    "socket_bind",
    "socket_listen",
    "socket_accept",
    "unix_stream_connect",
    "unix_may_send",
    "sb_mount",
    "move_mount",
    "sb_umount",
    "sb_pivotroot",
    "path_chroot",
    "userns_create",
    "ptrace_access_check",
    "ptrace_traceme",
    "task_kill",
    "bpf",
];

/// Hooks that the newer kernels have split off from others: attached where the kernel has them.
const NEWER_HOOKS: &[&str] = &["file_truncate", "inode_set_acl", "inode_remove_acl", "file_ioctl_compat"];

/// The hook on each level of an exec, and the program for it that reads what is executed.
const EXEC: &str = "bprm_check_security";
const EXEC_CONTENTS: &str = "bprm_check_contents";

/// What the programs can know of a file that is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Its path.
    Path,
    /// What it holds, too: every executed file is read as a whole.
    Contents,
}

/// Loads all programs, then attaches the hooks.
///
/// # Errors
/// The kernel has no BTF, or refuses a program.
pub fn attach(object: &mut Object, known: Known) -> Result<(), ObjectError> {
    let exec = match known {
        Known::Path => EXEC,
        Known::Contents => EXEC_CONTENTS,
    };
    let programs: Vec<&str> = HOOKS.iter().chain([&exec]).chain(NEWER_HOOKS).copied().collect();
    let wanted: Vec<_> = programs.iter().map(|name| (*name, hook_of(name))).collect();
    let loaded = object.load_hooks(&wanted);
    for (name, loaded) in programs.into_iter().zip(loaded) {
        match loaded {
            Err(error) if NEWER_HOOKS.contains(&name) && is_unknown(&error) => continue,
            loaded => loaded?,
        }
        object.attach_hook(name)?;
    }
    Ok(())
}

/// The hook that a program is for.
fn hook_of(program: &str) -> &str {
    if program == EXEC_CONTENTS { EXEC } else { program }
}

/// Whether the kernel has no such hook.
fn is_unknown(error: &ObjectError) -> bool {
    use aya::{BtfError, programs::ProgramError};
    matches!(
        error,
        ObjectError::Program { error: ProgramError::Btf(BtfError::UnknownBtfTypeName { .. }), .. }
    )
}

/// Makes a process a member of the run in `slot`, by task storage. Its first thread must be the only one.
///
/// # Errors
/// The process is gone, or the kernel refuses.
pub fn admit(object: &Object, slot: u32, pid: u32) -> Result<(), ObjectError> {
    let fault =
        |source: io::Error| ObjectError::Call { what: "make the command a member of the run", source };
    let process = bpf::pidfd_open(pid).map_err(fault)?;
    bpf::admit(object.map("MEMBERS")?, std::os::fd::AsFd::as_fd(&process), Member::first(slot)).map_err(fault)
}
