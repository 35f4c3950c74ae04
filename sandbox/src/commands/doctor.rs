//! `sandbox doctor`: which layers this machine has, each proven now, and what would give the others.

mod coverage;
mod guarded;

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context;
use audit_verify::text;
use policy::settings::LimitSet;
use serde::Serialize;

use super::policy::{own_tmp, read_for_run};
use super::run::shell_word;
use crate::cli::DoctorArgs;
use crate::exit::Exit;
use crate::launch::cgroup::Cgroup;
use crate::launch::identity::{Sudo, Target};
use crate::record::LayerReport;
use crate::sensor::{self, FILTER};
use crate::settings::Layer;
use coverage::Coverage;
use guarded::Guarded;

/// What is said where other layers work and `lsm` does not.
const PARTLY: &str = "
Policies can be enforced here as far as the layers above hold them: what they do
not, `sandbox run --enforce` names and refuses. `sandbox doctor --policy FILE`
says it rule by rule; --best-effort starts without.";

/// What is known of this machine.
#[derive(Serialize)]
struct Diagnosis {
    kernel: String,
    machine: String,
    /// Whether root asked, without whom no layer can be tried.
    root: bool,
    layers: Vec<LayerReport>,
    /// What would hold the policies that were asked about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policies: Vec<Coverage>,
}

/// Runs the self-tests and prints what they found: status 0 when every layer works and holds all of the policies
/// asked about, 1 otherwise.
///
/// # Errors
/// A policy is wrong, or the report cannot be written.
pub fn execute(args: &DoctorArgs) -> anyhow::Result<Exit> {
    // Mistakes first: the self-tests take a moment.
    // As whom `sandbox run` would run a command here.
    let target = Target::resolve(None, &Sudo::from_environment())?;
    let policies = args.policy.iter().map(|name| {
        let mut files = Vec::new();
        let policy = read_for_run(name, &args.place, &mut files)?;
        let guarded = Guarded::of(&policy, &files, &target)?;
        Ok((policy, guarded))
    });
    let policies = policies.collect::<anyhow::Result<Vec<_>>>()?;
    let uname = rustix::system::uname();
    // A group of its own: the programs see what is in it and nothing else.
    let group = Cgroup::create(&format!("doctor-{}", std::process::id()), LimitSet::EMPTY).ok();
    let tmp = own_tmp(&args.place)?;
    let layers = sensor::survey(group.as_ref().map(Cgroup::directory), &tmp);
    if let Some(group) = &group {
        group.remove(Duration::from_secs(1));
    }
    let policies = policies.iter().map(|(policy, guarded)| Coverage::of(policy, guarded, &layers, &tmp));
    let policies = policies.collect::<Result<Vec<_>, _>>()?;
    let diagnosis = Diagnosis {
        kernel: uname.release().to_string_lossy().into_owned(),
        machine: uname.machine().to_string_lossy().into_owned(),
        root: nix::unistd::geteuid().is_root(),
        layers,
        policies,
    };
    let mut text = match args.json {
        true => text::json(&serde_json::to_string_pretty(&diagnosis).context("cannot print the report")?),
        false => table(&diagnosis),
    };
    text.push('\n');
    std::io::stdout().write_all(text.as_bytes()).context("cannot print the report")?;
    let complete = diagnosis.layers.iter().all(|layer| !layer.is_off())
        && diagnosis.policies.iter().all(Coverage::is_complete);
    Ok(if complete { Exit::SUCCESS } else { Exit::FAILURE })
}

fn table(diagnosis: &Diagnosis) -> String {
    let mut text = format!("kernel {} {}\n", diagnosis.kernel, diagnosis.machine);
    for layer in &diagnosis.layers {
        let works = !layer.is_off();
        let state = match works {
            true => "works",
            false if diagnosis.root => "missing",
            // The others need no root, and were tried.
            false if Layer::OF_PROGRAMS.iter().any(|of| layer.name == of.name()) => "unknown",
            false => "missing",
        };
        let _ = write!(text, "\n{:<10} {state:<8} {}", layer.name, purpose(&layer.name));
        for check in &layer.selftest {
            let lines = wrap(&check.result, 70);
            let _ = match works {
                true => write!(text, "\n         {:<22} {}", check.check, check.result),
                false => write!(text, "\n         {}", lines.join("\n         ")),
            };
        }
        text.push('\n');
    }
    if !diagnosis.root {
        // The others were not tried, so nothing is said about them. Root's PATH may not have this program.
        let program = std::env::current_exe().unwrap_or_else(|_| "sandbox".into());
        text.push_str(match missing(diagnosis, Layer::Notify) {
            true => "\nRuns cannot be recorded by this user.",
            false => "\nRuns of this user are recorded by notify.",
        });
        let _ = write!(text, "\nAsk as root: sudo {} doctor", shell_word(program.as_os_str()));
        for policy in &diagnosis.policies {
            let _ = write!(text, "\n\n{}", policy.table());
        }
        return text;
    }
    let others = [Layer::CgroupNet, Layer::Landlock];
    text.push_str(match (missing(diagnosis, Layer::Lsm), missing(diagnosis, Layer::CgroupNet)) {
        (false, false) => "\nPolicies can be enforced here.",
        (false, true) => "\nPolicies can be enforced here, but for host names and `own`.",
        (true, _) if others.into_iter().any(|layer| !missing(diagnosis, layer)) => PARTLY,
        (true, _) => "\nPolicies cannot be enforced here: `sandbox run --enforce` refuses to start.",
    });
    if missing(diagnosis, Layer::Lsm) && !missing(diagnosis, Layer::Netns) {
        text.push_str("\nA network that a policy closes (default: deny) is held by netns.");
    }
    if missing(diagnosis, Layer::Trace) && missing(diagnosis, Layer::Lsm) {
        text.push_str(match missing(diagnosis, Layer::Notify) {
            true => "\nRuns cannot be recorded here.",
            false => "\nRuns are recorded by notify here, without results.",
        });
    }
    for policy in &diagnosis.policies {
        let _ = write!(text, "\n\n{}", policy.table());
    }
    text
}

fn missing(diagnosis: &Diagnosis, layer: Layer) -> bool {
    diagnosis.layers.iter().any(|report| report.name == layer.name() && report.is_off())
}

fn purpose(layer: &str) -> &'static str {
    match layer {
        "lsm" => "hooks: files, exec, network; observes and enforces",
        "trace" => "tracepoints: what was tried and what came of it",
        "landlock" => "files, programs and signals, by lists of what is allowed",
        "mountns" => "covers over what is denied and there at the start; a /tmp of its own",
        FILTER => "filter of system calls: in every enforced run",
        "notify" => "calls wait until they were looked at; needs no privilege; observes",
        "cgroup-net" => "programs of the run's control group: TCP and UDP, host names",
        "netns" => "a network namespace, which only the relay leads out of",
        _ => "",
    }
}

/// Breaks a text at blanks into lines of at most `width` characters; a longer word stands alone.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
