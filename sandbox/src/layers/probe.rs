//! What the machine offers, looked up and not tried: for `doctor`, and for saying why a layer is missing.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::wait::waitpid,
    unistd::{ForkResult, fork},
};

use crate::kernel::bpf;

/// Where the kernel lists its active security modules, when securityfs is mounted.
const LSM_LIST: &str = "/sys/kernel/security/lsm";

/// The active security modules, in order, e.g. `["lockdown", "capability", "bpf"]`.
///
/// Where securityfs is not mounted it is looked at in a mount namespace of its own, which needs root; the
/// machine is not changed.
///
/// # Errors
/// The list cannot be read.
pub fn active_lsms() -> io::Result<Vec<String>> {
    let text = match fs::read_to_string(LSM_LIST) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => read_privately()?,
        Err(error) => return Err(error),
    };
    Ok(text.trim().split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// Mounts securityfs where only a short-lived child sees it, and reads the list there.
fn read_privately() -> io::Result<String> {
    let (mut reader, mut writer) = io::pipe()?;
    // SAFETY: the child calls only functions that need no lock of the parent's, and _exit.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(reader);
            let list = mount_and_read().unwrap_or_default();
            let done = writer.write_all(list.as_bytes()).is_ok();
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(i32::from(!done)) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut text = String::new();
            reader.read_to_string(&mut text)?;
            waitpid(child, None)?;
            if text.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(text) }
        }
    }
}

fn mount_and_read() -> io::Result<String> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some("securityfs"), "/sys/kernel/security", Some("securityfs"), MsFlags::empty(), NONE)?;
    fs::read_to_string(LSM_LIST)
}

/// The kernel parameter that would add `bpf` to the list as it is.
pub fn lsm_parameter(active: &[String]) -> String {
    // `capability` is always active and stands in the list without being asked for.
    let mut names: Vec<&str> =
        active.iter().map(String::as_str).filter(|name| *name != "capability").collect();
    names.push("bpf");
    format!("lsm={}", names.join(","))
}

/// Why the `lsm` layer cannot work, as far as looking tells; `None` when nothing stands against it.
pub fn lsm_obstacle() -> Option<String> {
    if !Path::new(crate::kernel::btf::VMLINUX).exists() {
        return Some("this kernel has no type information (CONFIG_DEBUG_INFO_BTF)".into());
    }
    match active_lsms() {
        Ok(active) if active.iter().any(|name| name == "bpf") => bpf::refuses_lsm_programs().then(|| {
            "this kernel refuses LSM programs (EPERM), although `bpf` is an active security module: it was \
             locked down or built that way"
                .into()
        }),
        Ok(active) => Some(format!(
            "`bpf` is not among the active security modules ({}); start the kernel with {}",
            active.join(","),
            lsm_parameter(&active)
        )),
        Err(error) => {
            Some(format!("the list of active security modules ({LSM_LIST}) cannot be read: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_keeps_the_present_list() {
        let active = ["lockdown", "capability", "landlock", "yama", "apparmor"].map(str::to_owned);
        assert_eq!(lsm_parameter(&active), "lsm=lockdown,landlock,yama,apparmor,bpf");
    }
}
