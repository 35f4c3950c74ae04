//! Limits of a whole run: the memory, the processes and the processor time of all that is in it, held by control groups.
//!
//! | limit | v2: the run's own group | v1: a group of the same name in the controller's own tree |
//! |---|---|---|
//! | `memory` | `memory.max`, `memory.swap.max` 0 | `memory.limit_in_bytes`, `memory.memsw.limit_in_bytes` |
//! | `processes` | `pids.max` | `pids.max` |
//! | `cpu` | `cpu.max` | `cpu.cfs_period_us`, `cpu.cfs_quota_us` |
//!
//! A machine may have some controllers in one and some in the other (hybrid layouts). `time` needs none: the collector ends
//! the run. A limit counts as held only after its file gave back what was written. Root inside a run can move itself to
//! another group, unless hooks or Landlock close the files of the hierarchies.
//!
//! Where no group can be had, as for most ordinary users, the command's process limits itself ([`super::rlimits`]):
//! `processes` are held by that, `memory` only for each process, which counts as not held.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use policy::settings::{Limit, LimitSet, Limits};

use super::cgroup::{self, Cgroup};
use super::rlimits::Rlimits;

/// The period of `cpu`, microseconds: the kernel's own default.
const PERIOD_US: u64 = 100_000;

/// A file of a group with what goes into it.
type Setting = (&'static str, String);

/// The controller of a limit; `time` has none.
pub(super) fn controller(limit: Limit) -> Option<&'static str> {
    match limit {
        Limit::Memory => Some("memory"),
        Limit::Processes => Some("pids"),
        Limit::Cpu => Some("cpu"),
        Limit::Time => None,
    }
}

/// The groups that hold the limits of a run.
#[derive(Clone, Debug, Default)]
pub struct LimitGroups {
    /// Groups beside the run's own, made for this.
    beside: Vec<PathBuf>,
    held: LimitSet,
    /// Those of them that groups hold.
    grouped: LimitSet,
    /// What the command's process sets on itself.
    own: Rlimits,
    /// Why others are not.
    missing: Vec<String>,
}

/// Where a limit is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Two,
    One,
}

impl LimitGroups {
    /// Sets the limits of a run, whose own group is `group`. What cannot be set is listed. `counted` says whether the kernel
    /// counts the processes of the command's user.
    pub fn make(
        run: &str,
        group: Option<&Cgroup>,
        limits: &Limits,
        counted: impl Fn() -> Result<(), String>,
    ) -> LimitGroups {
        let mut groups = LimitGroups::default();
        // Those in other trees are called as the run's own group is.
        let own = group.and_then(|group| group.directory().file_name());
        let called = own.map_or_else(|| cgroup::new_name(run).into(), ToOwned::to_owned);
        for limit in limits.set().iter() {
            let Some(name) = controller(limit) else {
                groups.held = groups.held.with(limit);
                continue;
            };
            match groups.limit(&called, group, name, |version| settings(limit, version, limits)) {
                Ok(()) => {
                    groups.held = groups.held.with(limit);
                    groups.grouped = groups.grouped.with(limit);
                }
                Err(why) => groups.without_group(limit, limits, &why, &counted),
            }
        }
        groups
    }

    /// What is left of a limit that no group holds.
    fn without_group(
        &mut self,
        limit: Limit,
        limits: &Limits,
        why: &str,
        counted: impl Fn() -> Result<(), String>,
    ) {
        let missing = match (limit, counted()) {
            (Limit::Processes, Ok(())) => {
                self.own.processes = limits.processes;
                self.held = self.held.with(limit);
                return;
            }
            (Limit::Processes, Err(also)) => format!("`processes` is not limited: {why}; {also}"),
            // Whoever is counted cannot raise its limits either.
            (Limit::Memory, Ok(())) => {
                self.own.memory = limits.memory;
                format!("`memory` is limited for each process alone (RLIMIT_DATA), not for the run: {why}")
            }
            _ => format!("`{}` is not limited: {why}", limit.name()),
        };
        self.missing.push(missing);
    }

    fn limit(
        &mut self,
        called: &OsStr,
        group: Option<&Cgroup>,
        controller: &str,
        settings: impl Fn(Version) -> Vec<Setting>,
    ) -> Result<(), String> {
        let own = group.map(Cgroup::directory).filter(|own| has_controller(own, controller));
        if let Some(own) = own {
            return write_all(own, &settings(Version::Two));
        }
        let above = cgroup::own_in_v1(controller).ok_or_else(|| match group {
            None => format!("no control group has the controller {controller}"),
            Some(_) => format!(
                "neither the run's control group nor one of another hierarchy has the controller {controller}"
            ),
        })?;
        cgroup::sweep(&above);
        let directory = above.join(called);
        // Two controllers may share a tree.
        if !self.beside.contains(&directory) {
            let failed = |error: io::Error| format!("cannot create {}: {error}", directory.display());
            fs::create_dir(&directory).map_err(failed)?;
            self.beside.push(directory.clone());
        }
        write_all(&directory, &settings(Version::One))
    }

    /// The limits that are held.
    pub fn held(&self) -> LimitSet {
        self.held
    }

    /// Those of them that are held by control groups.
    pub fn grouped(&self) -> LimitSet {
        self.grouped
    }

    /// What the command's process is to set on itself.
    pub fn own(&self) -> Rlimits {
        self.own
    }

    /// What the user should know of those that are held otherwise than by groups.
    pub fn notes(&self) -> Option<String> {
        self.own.processes.map(|number| {
            format!(
                "`processes: {number}` is held by RLIMIT_NPROC: unless the run has a user namespace of its own, all of \
                 its user's processes and threads count"
            )
        })
    }

    /// Why others are not, in lines.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Moves a process into the groups beside the run's own.
    ///
    /// # Errors
    /// The kernel refuses, or the process is not there afterwards.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        for directory in &self.beside {
            let procs = directory.join("cgroup.procs");
            fs::write(&procs, pid.to_string())?;
            let there = fs::read_to_string(&procs)?.lines().any(|line| line.parse() == Ok(pid));
            if !there {
                return Err(io::Error::other(format!("{} does not list it", procs.display())));
            }
        }
        Ok(())
    }

    /// Removes them; groups whose last process is still being reaped are busy for a moment, hence `patience`.
    pub fn remove(&self, patience: Duration) {
        self.beside.iter().for_each(|directory| _ = cgroup::remove(directory, patience));
    }
}

/// The limits that this machine could hold, of a run that the caller starts.
pub fn possible() -> LimitSet {
    let own = cgroup::parent_for(LimitSet::ALL);
    let has = |limit: &Limit| match controller(*limit) {
        None => true,
        Some(name) => {
            own.as_deref().is_some_and(|own| gives_controller(own, name)) || cgroup::own_in_v1(name).is_some()
        }
    };
    Limit::ALL.into_iter().filter(has).collect()
}

/// Whether a group has a controller.
fn has_controller(directory: &Path, controller: &str) -> bool {
    lists(&directory.join("cgroup.controllers"), controller)
}

/// Whether groups below this one have a controller.
pub(super) fn gives_controller(directory: &Path, controller: &str) -> bool {
    lists(&directory.join("cgroup.subtree_control"), controller)
}

fn lists(file: &Path, controller: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.split_whitespace().any(|word| word == controller))
}

/// What goes into the files of a group.
fn settings(limit: Limit, version: Version, limits: &Limits) -> Vec<Setting> {
    let number = |value: Option<u64>| value.unwrap_or(u64::MAX);
    let cpu = number(limits.cpu).saturating_mul(PERIOD_US) / 100;
    match (limit, version) {
        (Limit::Memory, Version::Two) => {
            vec![("memory.max", number(limits.memory).to_string()), ("memory.swap.max", "0".to_owned())]
        }
        (Limit::Memory, Version::One) => {
            let bytes = number(limits.memory).to_string();
            vec![("memory.limit_in_bytes", bytes.clone()), ("memory.memsw.limit_in_bytes", bytes)]
        }
        (Limit::Processes, _) => vec![("pids.max", number(limits.processes).to_string())],
        (Limit::Cpu, Version::Two) => vec![("cpu.max", format!("{cpu} {PERIOD_US}"))],
        (Limit::Cpu, Version::One) => {
            vec![("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", cpu.to_string())]
        }
        (Limit::Time, _) => Vec::new(),
    }
}

/// Files that a kernel without accounting of swap does not have.
const OPTIONAL: [&str; 2] = ["memory.swap.max", "memory.memsw.limit_in_bytes"];

fn write_all(directory: &Path, settings: &[Setting]) -> Result<(), String> {
    for (file, value) in settings {
        let path = directory.join(file);
        if OPTIONAL.contains(file) && !path.exists() {
            continue;
        }
        let failed = |error: io::Error| format!("cannot write {value:?} into {}: {error}", path.display());
        fs::write(&path, value).map_err(failed)?;
        let found = fs::read_to_string(&path).map_err(failed)?;
        if !is_as_tight(value, found.trim()) {
            return Err(format!("{} says {:?}, not {value:?}", path.display(), found.trim()));
        }
    }
    Ok(())
}

/// Whether a limit that reads back as `found` is `wanted`, or less: the kernel rounds to pages.
fn is_as_tight(wanted: &str, found: &str) -> bool {
    let first = |text: &str| text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
    match (first(wanted), first(found)) {
        (Some(wanted), Some(found)) => found <= wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { memory: Some(64 << 20), processes: Some(40), cpu: Some(150), time: None }
    }

    #[test]
    fn values_are_as_the_kernel_takes_them() {
        let text = |limit, version| {
            let all = settings(limit, version, &limits());
            all.into_iter().map(|(file, value)| format!("{file}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text(Limit::Memory, Version::Two), "memory.max=67108864 memory.swap.max=0");
        assert_eq!(text(Limit::Processes, Version::One), "pids.max=40");
        assert_eq!(text(Limit::Cpu, Version::Two), "cpu.max=150000 100000");
        assert_eq!(text(Limit::Cpu, Version::One), "cpu.cfs_period_us=100000 cpu.cfs_quota_us=150000");
    }

    #[test]
    fn without_a_group_a_process_limits_itself_as_far_as_that_goes() {
        let mut groups = LimitGroups::default();
        for limit in [Limit::Memory, Limit::Processes, Limit::Cpu] {
            groups.without_group(limit, &limits(), "there is none", || Ok(()));
        }
        assert_eq!(groups.own(), Rlimits { processes: Some(40), memory: Some(64 << 20) });
        assert_eq!(groups.held(), LimitSet::EMPTY.with(Limit::Processes));
        assert_eq!(groups.grouped(), LimitSet::EMPTY);
        let [memory, cpu] = groups.missing() else { panic!("{groups:?}") };
        assert!(memory.contains("for each process alone") && cpu == "`cpu` is not limited: there is none");

        let mut groups = LimitGroups::default();
        for limit in [Limit::Memory, Limit::Processes] {
            groups.without_group(limit, &limits(), "there is none", || Err("nobody is counted".to_owned()));
        }
        assert_eq!((groups.own(), groups.held()), (Rlimits::default(), LimitSet::EMPTY));
        assert_eq!(groups.missing()[1], "`processes` is not limited: there is none; nobody is counted");
        assert_eq!(groups.notes(), None);
    }

    #[test]
    fn what_reads_back_wider_is_not_held() {
        assert!(is_as_tight("67108864", "67108864") && is_as_tight("67110000", "67108864"));
        assert!(is_as_tight("150000 100000", "150000 100000"));
        for wider in ["max", "67108865", "max 100000", "", "-1"] {
            assert!(!is_as_tight("67108864", wider), "{wider}");
        }
        let place = tempfile::tempdir().unwrap();
        assert!(
            write_all(place.path(), &[("memory.swap.max", "0".to_owned())]).is_ok(),
            "it has no such file"
        );
        fs::write(place.path().join("pids.max"), "").unwrap();
        assert!(write_all(place.path(), &[("pids.max", "40".to_owned())]).is_ok());
    }

    /// Needs root and a controller of processes; where they are missing there is nothing to test.
    #[test]
    fn a_group_limits_its_processes() {
        let run = format!("limits-{}", std::process::id());
        let group = Cgroup::create(&run, limits().set()).ok();
        let made = LimitGroups::make(&run, group.as_ref(), &limits(), || Err("nobody is counted".to_owned()));
        if !made.held().contains(Limit::Processes) {
            assert!(std::env::var_os("SANDBOX_TESTS").is_none_or(|value| value != "required"), "{made:?}");
            eprintln!("skipped: {:?}", made.missing());
            return;
        }
        let script = "read go; i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo all";
        let mut shell = std::process::Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        made.add(shell.id()).unwrap();
        group.iter().for_each(|group| group.add(shell.id()).unwrap());
        drop(shell.stdin.take());
        let output = shell.wait_with_output().unwrap();
        assert!(output.stdout.is_empty(), "sixty processes were made");
        group.iter().for_each(Cgroup::kill);
        let left = |made: &LimitGroups| made.beside.iter().any(|directory| directory.exists());
        for directory in &made.beside {
            for pid in fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default().lines() {
                let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        made.remove(Duration::from_secs(5));
        group.iter().for_each(|group| assert!(group.remove(Duration::from_secs(5))));
        assert!(!left(&made));
    }
}
