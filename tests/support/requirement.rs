//! What a test needs of the machine. A test that cannot run says so, and never passes in silence where
//! `SANDBOX_TESTS=required` asks for every one of them.

use std::io::Write;
use std::path::Path;

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need<'a> {
    /// The effective uid is 0.
    Root,
    /// Root with the capabilities and the type information that the `trace` layer needs.
    Trace,
    /// A program in PATH.
    Program(&'a str),
}

impl Need<'_> {
    /// Why it is not there, or `None` if it is.
    fn missing(self) -> Option<String> {
        match self {
            Need::Root => (!nix::unistd::geteuid().is_root()).then(|| "not root".to_owned()),
            Need::Trace => Need::Root.missing().or_else(|| {
                const SYS_ADMIN: u32 = 21;
                const PERFMON: u32 = 38;
                const BPF: u32 = 39;
                let held = effective_capabilities();
                let has = |bit: u32| held >> bit & 1 == 1;
                if !(has(SYS_ADMIN) || has(BPF) && has(PERFMON)) {
                    return Some("no capability to load tracepoint programs".to_owned());
                }
                let btf = Path::new("/sys/kernel/btf/vmlinux");
                (!btf.exists()).then(|| format!("the kernel has no {}", btf.display()))
            }),
            Need::Program(name) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let found = std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
                (!found).then(|| format!("no {name} in PATH"))
            }
        }
    }
}

/// Effective capabilities of this process as a bit set; none where they cannot be read.
fn effective_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// Whether the machine has all of it. If not, says on the terminal what is skipped and why.
///
/// # Panics
///
/// Where something is missing and `SANDBOX_TESTS=required` is set.
pub fn met(test: &str, needs: &[Need<'_>]) -> bool {
    let missing: Vec<String> = needs.iter().filter_map(|need| need.missing()).collect();
    if missing.is_empty() {
        return true;
    }
    let reason = missing.join(", ");
    let required = std::env::var_os("SANDBOX_TESTS").is_some_and(|value| value == "required");
    assert!(!required, "SANDBOX_TESTS=required, but {test} cannot run: {reason}");
    say(&format!("skipped {test}: {reason}"));
    false
}

/// Writes a line to the terminal past the test harness, which keeps the output of tests that pass.
pub fn say(line: &str) {
    // Nobody to tell if stderr is closed.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
