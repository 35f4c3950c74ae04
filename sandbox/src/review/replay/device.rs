//! Files that are no data, by their usual names: raw devices, and the kernel's settings. The kernel goes by their
//! numbers and file systems, which a record does not have.

/// Where every file is a setting of the kernel's, but for [`OTHERS`].
const SETTINGS: [&str; 2] = ["/sys/", "/proc/sys/"];
/// File systems whose usual place is below /sys, and whose files are no settings to the kernel side.
const OTHERS: [&str; 6] = [
    "/sys/fs/bpf/",
    "/sys/fs/fuse/connections/",
    "/sys/fs/pstore/",
    "/sys/fs/resctrl/",
    "/sys/fs/selinux/",
    "/sys/fs/smackfs/",
];

/// Character devices in /dev.
const DEVICES: [&str; 12] = [
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
    "raw/rawctl",
];
/// Beginnings of names of disks that go on with a letter or two, and perhaps the number of a partition.
const LETTERED: [&str; 4] = ["sd", "hd", "vd", "xvd"];
/// Beginnings of names of devices that go on with a number, and perhaps one more behind `n` (a name space), `p` (a
/// partition), `boot`, `rpmb` or `ro`.
const NUMBERED: [&str; 20] = [
    "sr", "sg", "nvme", "mmcblk", "loop", "dm-", "md", "ram", "zram", "nbd", "rbd", "mtd", "mtdblock",
    "ubiblock", "drbd", "raw/raw", "fd", "pmem", "bcache", "zd",
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
    let lettered = |begin: &&str| {
        // Not `sdlogger`.
        let rest = name.strip_prefix(*begin).unwrap_or_default();
        let number = rest.trim_start_matches(|letter: char| letter.is_ascii_lowercase());
        (1..=2).contains(&(rest.len() - number.len())) && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let numbered = |begin: &&str| {
        // Not `loopback`.
        let rest = name.strip_prefix(*begin).unwrap_or_default();
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (first, more) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        let words = ["boot", "n", "p", "rpmb", "ro", "_"];
        let parts = more.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty());
        // A controller of NVMe is a character device that the kernel side does not count.
        number(first) && { parts }.all(|part| words.contains(&part)) && !(*begin == "nvme" && more.is_empty())
    };
    let msr = name.starts_with("cpu/") && name.ends_with("/msr");
    msr || DEVICES.contains(&name) || LETTERED.iter().any(lettered) || NUMBERED.iter().any(numbered)
}

fn is_setting(path: &str) -> bool {
    if SETTINGS.iter().any(|begin| path.starts_with(begin)) {
        return !OTHERS.iter().any(|begin| path.starts_with(begin));
    }
    // What is no process's and no setting was registered by a driver.
    let Some(name) = path.strip_prefix("/proc/") else { return false };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (first, rest) = name.split_once('/').unwrap_or((name, ""));
    if !is_number(first) && !matches!(first, "self" | "thread-self") {
        return true;
    }
    // Each process shows the settings of its network.
    let of_thread = rest.strip_prefix("task/").and_then(|rest| rest.split_once('/'));
    of_thread.map_or(rest, |(_, rest)| rest).starts_with("net/")
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
            "/dev/mtdblock0",
            "/dev/mtd0ro",
            "/dev/fd0",
            "/dev/raw/rawctl",
        ] {
            assert_eq!(act(path.as_bytes(), false), Some(&["raw-devices"][..]), "{path}");
        }
        for path in [
            "/proc/sys/kernel/core_pattern",
            "/proc/sysrq-trigger",
            "/sys/power/state",
            "/sys/fs/cgroup/a/release_agent",
            "/sys/fs/cgroup/a/cgroup.procs",
            "/sys/fs/cgroup/a/cgroup.kill",
            "/sys/fs/ext4/sda1/trigger_fs_error",
            "/proc/12/net/pktgen/pgctrl",
            "/proc/self/task/13/net/xt_recent/x",
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
            "/home/u/dev/sda",
            "/dev/ram",
            "/dev/mapper",
            "/dev/nvme0",
            "/dev/fd/3",
            "/dev/fd",
            "/dev/loop0x",
            "/sys/fs/bpf/x",
            "/sys/fs/selinux/enforce",
            "/proc/12/task/13/comm",
        ] {
            assert_eq!(act(path.as_bytes(), true), None, "{path}");
        }
    }
}
