//! The capabilities that a command of root's gives up: where no hooks judge it those by which it would do what the section
//! `kernel` does not open, or open files past their paths.
//!
//! Where hooks judge they are left, since hooks record what they refuse, and the kernel asks them last; but for those
//! that show the memory of other processes without any hook being asked. Others than root have none. Capabilities by which root owns files stay: the policy's rules are about those.
//!
//! Sources: capabilities(7), include/uapi/linux/capability.h.

/// One that may be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub number: u8,
    /// The words of `kernel` for each of which it is left.
    pub opened_by: &'static [&'static str],
    /// What it would open.
    pub why: &'static str,
}

const CAPABILITIES: [Capability; 17] = [
    Capability {
        name: "CAP_DAC_READ_SEARCH",
        number: 2,
        opened_by: &[],
        why: "opens files by handles, past every path (open_by_handle_at(2)); CAP_DAC_OVERRIDE still reads what root may",
    },
    Capability {
        name: "CAP_NET_ADMIN",
        number: 12,
        opened_by: &[],
        why: "makes interfaces that lead out of the run's network namespace: a process outside is named by its number alone",
    },
    Capability { name: "CAP_NET_RAW", number: 13, opened_by: &[], why: "sends packets that no rule judges" },
    Capability {
        name: "CAP_IPC_OWNER",
        number: 15,
        opened_by: &[],
        why: "reads and changes shared memory, queues and semaphores of all users",
    },
    Capability {
        name: "CAP_SYS_MODULE",
        number: 16,
        opened_by: &["modules"],
        why: "puts code into the kernel",
    },
    Capability {
        name: "CAP_SYS_RAWIO",
        number: 17,
        opened_by: &["raw-devices"],
        why: "reads and writes the machine's memory and ports",
    },
    Capability {
        name: "CAP_SYS_CHROOT",
        number: 18,
        opened_by: &["chroot", "setns"],
        why: "changes the root, so that a path means another file",
    },
    Capability {
        name: "CAP_SYS_PTRACE",
        number: 19,
        opened_by: &["ptrace-own", "ptrace-any"],
        why: "looks into processes of others, and into those that are closed to their own user",
    },
    Capability {
        name: "CAP_SYS_ADMIN",
        number: 21,
        opened_by: &["mount", "setns", "perf", "bpf"],
        why: "mounts, enters namespaces, opens files by handles of some file systems, and stands in for many others",
    },
    Capability {
        name: "CAP_SYS_BOOT",
        number: 22,
        opened_by: &["modules"],
        why: "stops the machine, or puts another kernel in its place",
    },
    Capability {
        name: "CAP_SYS_NICE",
        number: 23,
        opened_by: &[],
        why: "starves processes outside, the runner's among them, and asks for real time",
    },
    Capability { name: "CAP_SYS_TIME", number: 25, opened_by: &["clock"], why: "sets the machine's clock" },
    Capability {
        name: "CAP_SYS_TTY_CONFIG",
        number: 26,
        opened_by: &[],
        why: "changes the keys of the machine's consoles, and hangs up terminals",
    },
    Capability {
        name: "CAP_SYSLOG",
        number: 34,
        opened_by: &[],
        why: "reads the kernel's messages and addresses (/proc/kmsg, /proc/kallsyms)",
    },
    Capability {
        name: "CAP_PERFMON",
        number: 38,
        opened_by: &["perf"],
        why: "measures other processes, and since Linux 6.15 reads what /proc/PID tells of their memory and environment",
    },
    Capability { name: "CAP_BPF", number: 39, opened_by: &["bpf"], why: "puts programs into the kernel" },
    Capability {
        name: "CAP_CHECKPOINT_RESTORE",
        number: 40,
        opened_by: &["ptrace-own", "ptrace-any"],
        why: "opens what other processes have mapped (/proc/PID/map_files)",
    },
];

/// Those with which /proc/PID/environ, maps, smaps and auxv of any process are read, past ptrace_may_access()
/// (perfmon_capable() in fs/proc, since Linux 6.15).
const SEES_MEMORY: [&str; 2] = ["CAP_SYS_ADMIN", "CAP_PERFMON"];

/// What a command gives up whose policies all allow these words of `kernel`.
pub fn given_up(allowed: &[&str]) -> impl Iterator<Item = &'static Capability> {
    CAPABILITIES.iter().filter(|capability| !is_left(capability, allowed))
}

/// Those of them that show the memory of processes outside.
pub fn seeing_memory(allowed: &[&str]) -> impl Iterator<Item = &'static Capability> {
    given_up(allowed).filter(|capability| SEES_MEMORY.contains(&capability.name))
}

/// Whether a command of root's that is left these words keeps what shows it the memory of processes outside.
pub(super) fn sees_memory(allowed: &[&str]) -> bool {
    seeing_memory(allowed).count() < SEES_MEMORY.len()
}

fn is_left(capability: &Capability, allowed: &[&str]) -> bool {
    capability.opened_by.iter().any(|word| allowed.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::KERNEL;

    fn names(allowed: &[&str]) -> Vec<&'static str> {
        given_up(allowed).map(|capability| capability.name).collect()
    }

    #[test]
    fn what_a_word_needs_is_left_and_nothing_else() {
        assert_eq!(names(&[]).len(), CAPABILITIES.len());
        for word in KERNEL {
            let left = CAPABILITIES.iter().filter(|capability| capability.opened_by.contains(&word)).count();
            assert_eq!(names(&[word]).len(), CAPABILITIES.len() - left, "{word}");
        }
        let always = [
            "CAP_DAC_READ_SEARCH",
            "CAP_NET_ADMIN",
            "CAP_NET_RAW",
            "CAP_IPC_OWNER",
            "CAP_SYS_NICE",
            "CAP_SYS_TTY_CONFIG",
            "CAP_SYSLOG",
        ];
        assert_eq!(names(&KERNEL), always);
        assert!(CAPABILITIES.iter().flat_map(|c| c.opened_by).all(|word| KERNEL.contains(word)));
        assert!(CAPABILITIES.is_sorted_by_key(|capability| capability.number));
    }

    #[test]
    fn memory_is_seen_with_either() {
        assert!(!sees_memory(&[]) && !sees_memory(&["ptrace-own", "modules", "chroot"]));
        for word in ["mount", "setns", "perf", "bpf"] {
            assert!(sees_memory(&[word]), "{word}");
        }
    }
}
