//! Files that are no data, by their usual names: raw devices, and the kernel's settings. The kernel goes by their
//! numbers and file systems, which a record does not have.

/// Where every file is a setting of the kernel's, but for [`DATA`].
const SETTINGS: [&str; 2] = ["/sys/", "/proc/sys/"];
/// Control groups, and what they hold.
const DATA: &str = "/sys/fs/cgroup/";

/// Character devices in /dev.
const DEVICES: [&str; 11] = [
    "mem",
    "kmem",
    "port",
    "nvram",
    "vfio/vfio",
    "uinput",
    "snapshot",
    "btrfs-control",
    "autofs",
    "mapper/control",
    "loop-control",
];
/// Beginnings of names of devices that are numbered or lettered.
const NUMBERED: [&str; 17] = [
    "sd", "hd", "vd", "xvd", "sr", "sg", "nvme", "mmcblk", "loop", "dm-", "md", "ram", "zram", "nbd", "mtd",
    "drbd", "raw/raw",
];

/// The words of the section `kernel` of which any opens the file, where it is such a file.
pub fn act(path: &[u8], writes: bool) -> Option<&'static [&'static str]> {
    let path = std::str::from_utf8(path).ok()?;
    if is_raw(path) {
        return Some(&["raw-devices"]);
    }
    (writes && is_setting(path)).then_some(&["sysctl-write"])
}

fn is_raw(path: &str) -> bool {
    if path == "/proc/kcore" {
        return true;
    }
    let Some(name) = path.strip_prefix("/dev/") else { return false };
    let numbered = |begin: &&str| {
        name.strip_prefix(*begin).is_some_and(|rest| {
            // Not `sdlogger` or `loopback`: a letter or two, and digits.
            let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
            let lettered = ["sd", "hd", "vd", "xvd"].contains(begin);
            let rest = &rest.as_bytes()[letters..];
            let fits = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'n' | b'p' | b'b' | b'o' | b't');
            match lettered {
                true => (1..=2).contains(&letters) && rest.iter().all(u8::is_ascii_digit),
                false => {
                    letters == 0 && rest.first().is_some_and(u8::is_ascii_digit) && rest.iter().all(fits)
                }
            }
        })
    };
    let msr = name.starts_with("cpu/") && name.ends_with("/msr");
    msr || DEVICES.contains(&name) || NUMBERED.iter().any(numbered)
}

fn is_setting(path: &str) -> bool {
    if path.starts_with(DATA) {
        return path.ends_with("/release_agent");
    }
    if SETTINGS.iter().any(|begin| path.starts_with(begin)) {
        return true;
    }
    // What is no process's and no setting was registered by a driver.
    let Some(name) = path.strip_prefix("/proc/") else { return false };
    let first = name.split('/').next().unwrap_or_default();
    !first.bytes().all(|byte| byte.is_ascii_digit()) && !matches!(first, "self" | "thread-self")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_are_known() {
        for path in [
            "/dev/sda",
            "/dev/sda1",
            "/dev/nvme0n1p2",
            "/dev/loop0",
            "/dev/mem",
            "/dev/mapper/control",
            "/dev/cpu/0/msr",
            "/dev/vfio/vfio",
            "/dev/raw/raw1",
            "/dev/dm-3",
            "/dev/sg0",
            "/proc/kcore",
            "/dev/mmcblk0boot0",
        ] {
            assert_eq!(act(path.as_bytes(), false), Some(&["raw-devices"][..]), "{path}");
        }
        for path in [
            "/proc/sys/kernel/core_pattern",
            "/proc/sysrq-trigger",
            "/sys/power/state",
            "/sys/fs/cgroup/a/release_agent",
        ] {
            assert_eq!(act(path.as_bytes(), true), Some(&["sysctl-write"][..]), "{path}");
            assert_eq!(act(path.as_bytes(), false), None, "{path}");
        }
        for path in [
            "/dev/null",
            "/dev/sdlogger",
            "/dev/random",
            "/dev/loopback",
            "/dev/shm/sda",
            "/proc/self/oom_score_adj",
            "/proc/12/comm",
            "/sys/fs/cgroup/a/cgroup.procs",
            "/home/u/dev/sda",
            "/dev/ram",
            "/dev/mapper",
        ] {
            assert_eq!(act(path.as_bytes(), true), None, "{path}");
        }
    }
}
