//! What `sandbox doctor --policy` promises, against what attempts meet: {root, user} × {user namespaces, none}, in each
//! of the boots that the host declares, {hooks, none, none but AppArmor} × {Landlock, none}.
//!
//! In each cell doctor is asked about every policy of [`table`]. What it says that is held must be: the run starts, and
//! every attempt meets its denial; what it says that is not must be refused, by the same names, and with
//! `--best-effort` the rest must hold all the same. Which layers a cell has is written down here: a layer that is
//! missing where it must be fails, and so does one that is there where it cannot be.

mod cell;
mod scene;
mod table;

use crate::Trial;
use anyhow::{Context, Result, bail, ensure};
use cell::{Cell, Found};
use scene::{Identity, Machine, Scene};
use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;
use table::POLICIES;

pub const TRIALS: &[Trial] = &[
    ("the machine is the one that was ordered", ordered),
    ("root", || trial("root", Identity::Root, UserNamespaces::Open)),
    ("root without user namespaces", || trial("root-apart", Identity::Root, UserNamespaces::Closed)),
    ("user", || trial("user", Identity::Agent, UserNamespaces::Open)),
    ("user without user namespaces", || trial("user-apart", Identity::Agent, UserNamespaces::Closed)),
    ("user whom nothing observes", blind),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UserNamespaces {
    Open,
    Closed,
}

const SECURITY_LIST: &str = "/sys/kernel/security/lsm";
/// Who may look into which processes.
const SCOPE: &str = "/proc/sys/kernel/yama/ptrace_scope";
/// How many user namespaces there may be; root too may make no more.
const LIMIT: &str = "/proc/sys/user/max_user_namespaces";
/// Debian's own switch, which leaves root out.
const SWITCH: &str = "/proc/sys/kernel/unprivileged_userns_clone";
/// Ubuntu's, which other kernels have not.
const APPARMOR_SWITCH: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// What of it the boot decides.
fn has(module: &str) -> Result<bool> {
    Ok(fs::read_to_string(SECURITY_LIST)?.trim().split(',').any(|name| name == module))
}

/// Every module of the command line is there, and no other that anything here depends on.
fn ordered() -> Result<()> {
    let cmdline = fs::read_to_string("/proc/cmdline")?;
    let wanted = cmdline.split_whitespace().find_map(|word| word.strip_prefix("lsm="));
    let wanted: BTreeSet<&str> = wanted.context("no modules were ordered")?.split(',').collect();
    let found = fs::read_to_string(SECURITY_LIST)?;
    let mut found: BTreeSet<&str> = found.trim().split(',').collect();
    // These the kernel has always, from 6.12 on.
    found.retain(|name| !["ima", "evm"].contains(name));
    ensure!(found == wanted, "ordered were {wanted:?}, there are {found:?}");
    Ok(())
}

fn machine() -> Result<&'static Machine> {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    if MACHINE.get().is_none() {
        let _ = MACHINE.set(Machine::listen()?);
    }
    MACHINE.get().context("the machine listens")
}

/// A setting of the kernel's, put back when this goes.
struct Setting {
    path: &'static str,
    before: String,
}

impl Setting {
    fn set(path: &'static str, value: &str) -> Result<Setting> {
        let before = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        fs::write(path, value).with_context(|| format!("cannot write {path}"))?;
        Ok(Setting { path, before })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(self.path, &self.before);
    }
}

fn trial(name: &str, identity: Identity, userns: UserNamespaces) -> Result<()> {
    let open = userns == UserNamespaces::Open;
    // Each switch has its boots: AppArmor's are the machines that have Debian's, or Ubuntu's.
    let switch = if has("apparmor")? { SWITCH } else { LIMIT };
    let _closed = (!open).then(|| Setting::set(switch, "0")).transpose()?;
    let _restricted = match !open && fs::exists(APPARMOR_SWITCH)? {
        true => Some(Setting::set(APPARMOR_SWITCH, "1")?),
        false => None,
    };
    let may = open || (identity == Identity::Root && switch == SWITCH);
    // Root needs no user namespaces: there nothing changes but doctor's own trials, and one policy shows it.
    let tried = if identity == Identity::Root && !open { 1 } else { POLICIES.len() };
    let found = cell::run(&Cell { name, identity, userns: may, tried }, machine()?)?;
    let mut wrong = found.wrong.clone();
    wrong.extend(compare(&found, &expected(identity, open, has("bpf")?, has("landlock")?)));
    let whole = whole(identity, open)?;
    if found.whole != whole {
        wrong.push(format!("held whole are {:?}, not {whole:?}", found.whole));
    }
    match wrong.as_slice() {
        [] => Ok(()),
        wrong => bail!("{}", wrong.iter().map(|line| format!("\n    {line}")).collect::<String>()),
    }
}

/// The layers that hold something in a cell, all of them.
fn expected(identity: Identity, userns: bool, bpf: bool, landlock: bool) -> BTreeSet<&'static str> {
    let root = identity == Identity::Root;
    let mut layers = BTreeSet::from(["seccomp"]);
    if root && bpf {
        // Which listeners are the run's own, only these programs know.
        layers.extend(["lsm", "cgroup-net"]);
        return layers;
    }
    if landlock {
        layers.insert("landlock");
    }
    if root {
        layers.insert("cgroup-net");
    }
    if root || userns {
        layers.insert("netns");
        // Covers hold nothing alone.
        layers.extend(landlock.then_some("mountns"));
    }
    layers
}

/// The policies that are held whole in a cell: their runs start, and promise all.
fn whole(identity: Identity, userns: bool) -> Result<BTreeSet<String>> {
    // Before, Landlock knows neither truncation nor who is signalled.
    let scopes = !fs::read_to_string("/proc/sys/kernel/osrelease")?.starts_with("6.1.");
    let names: Vec<&str> = match identity {
        Identity::Root if has("bpf")? => POLICIES.iter().map(|policy| policy.name).collect(),
        // Root gives up the capability by which alone the kernel's memory is read: no layer need hold that.
        Identity::Root if has("landlock")? && scopes => vec![POLICIES[0].name],
        Identity::Agent if has("landlock")? && scopes && userns => vec![POLICIES[0].name],
        _ => Vec::new(),
    };
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn compare(found: &Found, expected: &BTreeSet<&str>) -> Vec<String> {
    let mut wrong = Vec::new();
    let named: BTreeSet<&str> = found.layers.keys().map(String::as_str).collect();
    wrong.extend(expected.difference(&named).map(|layer| format!("nothing is held by {layer}")));
    wrong.extend(named.difference(expected).map(|layer| format!("{layer} holds {:?}", found.layers[*layer])));
    wrong
}

/// Where nobody may look into other processes, nothing observes a user's runs: they are refused, and doctor says so.
fn blind() -> Result<()> {
    let _scope = Setting::set(SCOPE, "2")?;
    let scene = Scene::new("blind", Identity::Agent)?;
    scene.make()?;
    let doctor = scene.sandbox(&["doctor"])?;
    let said = String::from_utf8_lossy(&doctor.stdout);
    ensure!(said.contains("Runs cannot be recorded by this user."), "doctor says\n{said}");
    let started = format!("{}/work/started", scene.top);
    let step = format!("touch={started}");
    for options in [&["--enforce", "base", "--best-effort"][..], &["--audit-only"]] {
        let arguments: Vec<&str> =
            ["run"].iter().chain(options).copied().chain(["--", crate::run::PROBE, &step]).collect();
        let output = scene.sandbox(&arguments)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(125), "{options:?} ended with {}: {stderr}", output.status);
        ensure!(stderr.contains("ptrace_scope"), "{options:?} is refused without the reason: {stderr}");
        ensure!(!fs::exists(&started)?, "{options:?}: the command was started");
    }
    Ok(())
}
