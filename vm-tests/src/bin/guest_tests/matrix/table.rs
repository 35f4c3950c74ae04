//! The policies of the matrix, and for each rule what is attempted: data alone.
//!
//! In texts, `{top}` is the cell's directory, `{net}` that of the listeners, `{pid}` a process outside of the run.

use libc::{
    EACCES, EBADF, EBUSY, ECONNREFUSED, EFAULT, EINVAL, ENETUNREACH, ENODATA, ENOENT, ENXIO, EOPNOTSUPP,
    EPERM, EROFS, ESRCH,
};

/// A policy, and its rules.
pub struct Policy {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// What is attempted under it.
    pub rows: &'static [Row],
}

/// Who may do the attempt where nothing forbids it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Root and everybody else.
    Anyone,
    /// Root alone.
    Root,
    /// Whoever may make user namespaces.
    WithUserNamespaces,
}

/// With which errnos each layer denies.
pub type Denials = &'static [(&'static str, &'static [i32])];

/// One attempt on what a rule denies.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The rule, without the policy's name.
    pub rule: &'static str,
    /// The access that it denies, or the word that it closes; empty where a rule is held as a whole or not.
    pub what: &'static str,
    /// The probe's step.
    pub attempt: &'static str,
    /// How it fails, by who holds the rule.
    pub denials: Denials,
    /// A step beside it that the policy allows.
    pub control: &'static str,
    /// How the attempt ends where nothing denies it: an errno, or 0.
    pub free: i32,
    /// By whom.
    pub who: Who,
}

const fn row(
    rule: &'static str,
    what: &'static str,
    attempt: &'static str,
    denials: Denials,
    control: &'static str,
) -> Row {
    Row { rule, what, attempt, denials, control, free: 0, who: Who::Anyone }
}

/// A word of the section `kernel`; most calls come to nothing, and what the same process may do is the control.
const fn word(what: &'static str, attempt: &'static str) -> Row {
    row("kernel.default", what, attempt, WORD, "getpid")
}

impl Row {
    /// Where nothing denies it, it fails in its own way.
    const fn free(self, free: i32) -> Row {
        Row { free, ..self }
    }

    const fn only(self, who: Who) -> Row {
        Row { who, ..self }
    }
}

const FILE: Denials = &[("lsm", &[EACCES]), ("landlock", &[EACCES])];
/// What lies under something empty: root, who may read everything, finds nothing there, and nothing that may be code.
const HIDDEN: Denials =
    &[("lsm", &[EACCES]), ("landlock", &[EACCES]), ("mountns", &[EACCES, ENOENT, ENODATA, EROFS, EPERM])];
/// Executing: what covers keep is not executable there.
const PROGRAM: Denials = &[("lsm", &[EACCES]), ("landlock", &[EACCES]), ("mountns", &[EACCES])];
const READ_ONLY: Denials = &[("lsm", &[EACCES]), ("landlock", &[EACCES]), ("mountns", &[EROFS, EBUSY])];
const WORD: Denials = &[("lsm", &[EPERM]), ("landlock", &[EPERM]), ("seccomp", &[EPERM])];
/// A device, or another process's memory: files to Landlock.
const WORD_ON_FILE: Denials = &[("lsm", &[EPERM, EACCES]), ("landlock", &[EACCES, EPERM])];
const CALL: Denials = &[("seccomp", &[EPERM])];
/// Nobody listens on the loopback of a namespace, and nothing leads out of it.
const NET: Denials = &[("lsm", &[EPERM]), ("cgroup-net", &[EPERM]), ("netns", &[ECONNREFUSED, ENETUNREACH])];
/// A datagram to nobody is sent all the same: what counts is that it does not arrive.
const DATAGRAM: Denials = &[("lsm", &[EPERM]), ("cgroup-net", &[EPERM]), ("netns", &[0, ECONNREFUSED])];
/// The filter that goes with a namespace makes no such socket.
const FAMILY: Denials = &[("lsm", &[EPERM]), ("netns", &[EPERM])];

/// Where the machine listens for TCP and UDP; nothing inside of a run does.
pub const MACHINE: &str = "127.0.0.1:9001";

/// A closed world with something denied inside of what is open.
const CLOSED: Policy = Policy {
    name: "closed",
    text: "version: 1
name: closed
files:
  default: deny
  rules:
    - { name: open, allow: [load, attributes], path: [\"/**\"] }
    - { name: system, allow: [read], path: [\"/usr/**\", \"/etc/**\", \"/proc/**\"] }
    - { name: work, allow: [read, write, create, delete], path: [\"{top}/work/**\"] }
    - { name: devices, allow: [read, write], path: [\"/dev/null\"] }
    - { name: secret, deny: [all], path: [\"{top}/work/secret/**\"] }
    - { name: config, deny: [write, create, delete, attributes], path: [\"{top}/work/config\"] }
exec:
  default: deny
  rules:
    - name: programs
      allow: [run]
      path: [\"/usr/**\", \"/etc/**\", \"/proc/**\", \"{top}/work/**\", \"/dev/null\", \"/memfd:*\", \"/memfd:*/**\"]
    - { name: tool, deny: [run], path: [\"{top}/other/tool\"] }
network:
  default: deny
  rules:
    - { name: own, allow: [connect, send, bind, listen], to: [own] }
kernel: { allow: [ptrace-own] }
",
    rows: &[
        row("files.default", "read", "content={top}/other/file", FILE, "content={top}/work/file"),
        row("files.default", "write", "write={top}/other/file", FILE, "write={top}/work/file"),
        row("files.default", "write", "truncate={top}/other/long", FILE, "truncate={top}/work/long"),
        row("files.default", "create", "create={top}/other/new", FILE, "create={top}/work/new"),
        row("files.default", "delete", "unlink={top}/other/victim", FILE, "unlink={top}/work/victim"),
        row("secret", "read", "content={top}/work/secret/key", HIDDEN, "content={top}/work/file"),
        row("secret", "write", "write={top}/work/secret/key", HIDDEN, "write={top}/work/file"),
        row("secret", "create", "mkdir={top}/work/secret/new", HIDDEN, "mkdir={top}/work/directory"),
        row("secret", "attributes", "chmod={top}/work/secret/key", HIDDEN, "chmod={top}/work/file"),
        row("secret", "load", "load={top}/work/secret/key", HIDDEN, "load={top}/work/file"),
        row("secret", "delete", "unlink={top}/work/secret/key", HIDDEN, "rmdir={top}/work/directory"),
        row("config", "write", "write={top}/work/config", READ_ONLY, "content={top}/work/config"),
        row("config", "attributes", "chmod={top}/work/config", READ_ONLY, "chmod={top}/work/file"),
        row("config", "delete", "unlink={top}/work/config", READ_ONLY, "unlink={top}/work/victim-2"),
        row("exec.default", "run", "run={top}/other/other", FILE, "run={top}/work/tool"),
        row("tool", "run", "run={top}/other/tool", FILE, "run=/usr/bin/other"),
        row("network.default", "connect", "connect-tcp=127.0.0.1:9001", NET, "bind-udp=127.0.0.1:9010"),
        row("network.default", "connect", "connect-mptcp=127.0.0.1:9001", NET, "serve=127.0.0.1:9011"),
        row("network.default", "send", "udp=127.0.0.1:9001", DATAGRAM, "connect-tcp=127.0.0.1:9011"),
        row("network.default", "connect", "unix-stream=@matrix", FAMILY, "unix-pair"),
        row("network.default", "connect", "socket=17,3,0", FAMILY, "unix-pair").only(Who::Root),
        word("mount", "mount={top}/point").only(Who::Root),
        word("userns", "userns").only(Who::WithUserNamespaces),
        word("chroot", "chroot=/").only(Who::Root),
        word("setns", "setns").free(EBADF),
        row("kernel.default", "ptrace-any", "attach={pid}", WORD, "traceme"),
        row("kernel.default", "ptrace-any", "read=/proc/{pid}/mem", WORD_ON_FILE, "read=/proc/self/mem"),
        word("bpf", "bpf").only(Who::Root),
        word("perf", "perf").free(EINVAL),
        word("modules", "finit-module").free(EBADF).only(Who::Root),
        word("keyrings", "keyctl").free(EOPNOTSUPP),
        row("kernel.default", "raw-devices", "read=/dev/matrix", WORD_ON_FILE, "read=/dev/null").free(ENXIO),
        row(
            "kernel.default",
            "sysctl-write",
            "write=/proc/sys/kernel/core_pattern",
            WORD_ON_FILE,
            "read=/proc/sys/kernel/core_pattern",
        )
        .only(Who::Root),
        word("signal-outside", "signal={pid}"),
        word("io-uring", "io-uring").free(EFAULT),
        word("clock", "set-clock").free(EFAULT),
    ],
};

/// An open world with holes, by patterns, programs, ports and sockets.
const HOLES: Policy = Policy {
    name: "holes",
    text: "version: 1
name: holes
files:
  default: allow
  rules:
    - { name: pem, deny: [read], path: [\"**/*.pem\"] }
    - { name: code, deny: [load], path: [\"{top}/other/tool\"] }
    - { name: place, deny: [write, create, delete, attributes], path: [\"{top}/work/secret/**\"] }
exec:
  default: allow
  rules:
    - { name: wget, deny: [run], path: [\"/usr/bin/wget\"] }
network:
  default: allow
  rules:
    - { name: port, deny: [connect], to: [\"127.0.0.1:9001/tcp\"] }
    - { name: abstract, deny: [connect], to: [\"unix:@matrix\"] }
    - { name: socket, deny: [connect], to: [\"unix:{net}/socket\"] }
kernel: { allow: [ptrace-own, raw-devices, sysctl-write] }
",
    rows: &[
        row("pem", "read", "content={top}/work/key.pem", FILE, "content={top}/work/file"),
        row("code", "load", "load={top}/other/tool", HIDDEN, "load={top}/other/file"),
        row("place", "write", "write={top}/work/secret/key", READ_ONLY, "content={top}/work/secret/key"),
        row("place", "create", "create={top}/work/secret/new", READ_ONLY, "create={top}/work/new"),
        row("place", "attributes", "chmod={top}/work/secret/key", READ_ONLY, "chmod={top}/work/file"),
        row("place", "delete", "unlink={top}/work/secret/key", READ_ONLY, "unlink={top}/work/victim"),
        row("wget", "run", "run=/usr/bin/wget", PROGRAM, "run=/usr/bin/other"),
        row("port", "connect", "connect-tcp=127.0.0.1:9001", NET, "udp=127.0.0.1:9001"),
        row("abstract", "", "unix-stream=@matrix", FAMILY, "unix-stream=@matrix-open"),
        row("socket", "", "unix-stream={net}/socket", FAMILY, "unix-stream={net}/open"),
        row("kernel.default", "ptrace-any", "attach={pid}", WORD, "traceme"),
        word("signal-outside", "signal={pid}"),
        word("mount", "mount={top}/point").only(Who::Root),
        row("kernel.default", "bpf", "bpf", WORD, "read=/dev/null").only(Who::Root),
    ],
};

/// What the filter holds alone.
const CALLS: Policy = Policy {
    name: "calls",
    text: "version: 1
name: calls
files: { default: allow }
kernel: { allow: [ptrace-own, ptrace-any, signal-outside, raw-devices, sysctl-write] }
syscalls: { deny: [kcmp] }
",
    rows: &[
        row("syscalls", "", "kcmp", CALL, "getpid").free(ESRCH),
        row("syscalls", "", "userfaultfd", CALL, "getpid").free(EINVAL),
        word("mount", "mount={top}/point").only(Who::Root),
        word("mount", "open-tree={top}/point").only(Who::Root),
        word("userns", "userns").only(Who::WithUserNamespaces),
        word("chroot", "chroot=/").only(Who::Root),
        word("setns", "setns").free(EBADF),
        word("bpf", "bpf").only(Who::Root),
        word("perf", "perf").free(EINVAL),
        word("modules", "finit-module").free(EBADF).only(Who::Root),
        word("keyrings", "keyctl").free(EOPNOTSUPP),
        word("io-uring", "io-uring").free(EFAULT),
        word("clock", "set-clock").free(EFAULT),
    ],
};

/// A closed network, and nothing else.
const APART: Policy = Policy {
    name: "apart",
    text: "version: 1
name: apart
files: { default: allow }
network:
  default: deny
  rules:
    - { name: own, allow: [connect, send, bind, listen], to: [own] }
kernel: { allow: [ptrace-own, ptrace-any, signal-outside, raw-devices, sysctl-write] }
",
    rows: &[
        row("network.default", "connect", "connect-tcp=127.0.0.1:9001", NET, "serve=127.0.0.1:9011"),
        row("network.default", "connect", "fastopen=127.0.0.1:9001", NET, "connect-tcp=127.0.0.1:9011"),
        row("network.default", "send", "udp=127.0.0.1:9001", DATAGRAM, "unix-pair"),
        row("network.default", "connect", "unix-stream=@matrix", FAMILY, "unix-pair"),
        row("network.default", "connect", "unix-stream={net}/socket", FAMILY, "unix-pair"),
        row("network.default", "connect", "socket=17,3,0", FAMILY, "unix-pair").only(Who::Root),
        word("setns", "setns").free(EBADF),
    ],
};

/// All of them.
pub const POLICIES: &[Policy] = &[CLOSED, HOLES, CALLS, APART];
