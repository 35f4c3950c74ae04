//! Gives capabilities up, for good: the calling thread and all that it executes are without them.
//!
//! Which ones is the policy's (`policy::compile::capabilities`).

use std::ffi::CString;
use std::io;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use policy::compile::capabilities::Capability;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// Gives them up, out of every set. Without CAP_SETPCAP the bounding set stays as it is, which gives nobody anything
/// where privileges cannot be gained (no_new_privs).
///
/// # Errors
/// The kernel refuses, or one is still there.
pub fn give_up<'c>(given_up: impl IntoIterator<Item = &'c Capability>) -> io::Result<()> {
    let gone = given_up
        .into_iter()
        .fold(CapabilitySet::empty(), |all, one| all | CapabilitySet::from_bits_retain(1 << one.number));
    for one in gone.iter() {
        match capability_is_in_bounding_set(one) {
            // A kernel that does not know it does not give it.
            Ok(false) | Err(Errno::INVAL) => continue,
            Ok(true) => {}
            Err(error) => return Err(error.into()),
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    clear_ambient_capability_set()?;
    let mut sets = capabilities(None)?;
    sets.effective -= gone;
    sets.permitted -= gone;
    sets.inheritable -= gone;
    set_capabilities(None, sets)?;
    let left = capabilities(None)?;
    match (left.effective | left.permitted | left.inheritable).intersects(gone) {
        true => Err(Errno::PERM.into()),
        false => Ok(()),
    }
}

/// Whether this kernel shows the memory of other processes to CAP_PERFMON or CAP_SYS_ADMIN alone, so that no hook is asked:
/// a child without any other capability looks into this process, which has more. What cannot be told counts as yes.
pub fn show_memory() -> bool {
    let Ok(own) = capabilities(None) else { return true };
    let sight = own.permitted & (CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN);
    if sight.is_empty() {
        return false;
    }
    let Ok(maps) = CString::new(format!("/proc/{}/maps", std::process::id())) else { return true };
    // SAFETY: the child makes system calls only, and ends by _exit.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let sets =
                CapabilitySets { effective: sight, permitted: sight, inheritable: CapabilitySet::empty() };
            // SAFETY: the path ends with a NUL and lives through the call; what it opens ends with the child.
            let refused = set_capabilities(None, sets).is_ok()
                && unsafe { libc::open(maps.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) } < 0
                && nix::errno::Errno::last_raw() == libc::EACCES;
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(refused)) }
        }
        Ok(ForkResult::Parent { child }) => loop {
            match waitpid(child, None) {
                Err(nix::errno::Errno::EINTR) => {}
                status => return !matches!(status, Ok(WaitStatus::Exited(_, 1))),
            }
        },
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use policy::compile::capabilities::given_up;

    use super::*;

    #[test]
    fn memory_is_shown_where_the_kernel_says_so() {
        let release = nix::sys::utsname::uname().unwrap().release().to_str().unwrap().to_owned();
        let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap(), numbers.next().unwrap());
        let may = capabilities(None).unwrap().permitted.contains(CapabilitySet::PERFMON);
        assert_eq!(show_memory(), may && version >= (6, 15), "Linux {release}");
    }

    #[test]
    fn what_is_given_up_is_gone_and_the_rest_is_not() {
        let all = || given_up(&[]);
        let set = all()
            .fold(CapabilitySet::empty(), |all, one| all | CapabilitySet::from_bits_retain(1 << one.number));
        let before = capabilities(None).unwrap();
        // SAFETY: the child makes system calls only, and ends by _exit.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let gave = give_up(all()).is_ok();
                let after = capabilities(None);
                let rest = after.is_ok_and(|after| {
                    after.permitted == before.permitted - set && after.effective == before.effective - set
                });
                let may = before.permitted.contains(CapabilitySet::SETPCAP);
                let bounding = set.iter().all(|one| !may || capability_is_in_bounding_set(one) != Ok(true));
                let again = give_up(all()).is_ok();
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(i32::from(!(gave && rest && bounding && again))) }
            }
            ForkResult::Parent { child } => {
                assert!(matches!(waitpid(child, None).unwrap(), WaitStatus::Exited(_, 0)));
            }
        }
    }
}
