//! Package managers and the registries that they have built in: an enforced run under the policy for agents as it ships,
//! on the network of `net-lab`, held by the layer `cgroup-net` alone, or by a network namespace. The first cases run on
//! whole kernels in `vm-tests`, where the files of the policy are held too.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use net_lab::{Case, Lab, Mode, PACKAGE_MANAGERS, PROGRAMS, PYTHON, Sandbox, Side, cases};
use sandbox_tests::binaries::binary;
use sandbox_tests::requirement::{Need, met};

/// The programs of the control group.
const GROUP: [&str; 2] = ["--layers", "trace,cgroup-net"];

fn needed(test: &str) -> bool {
    let programs = PROGRAMS.iter().chain(PACKAGE_MANAGERS).chain(&["nsenter", PYTHON]);
    let programs = programs.map(|program| Need::Program(program));
    met(test, &[Need::Trace].into_iter().chain(programs).collect::<Vec<_>>())
}

/// Where programs are found: cargo and rustc as they are, not what chooses between several, which needs files of HOME;
/// then the system's.
fn path() -> OsString {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc");
    let root = String::from_utf8(output.stdout).expect("a path");
    let places = [Path::new(root.trim()).join("bin"), "/usr/sbin".into(), "/usr/bin".into()];
    std::env::join_paths(places).expect("paths without a colon")
}

/// Tries the case at a place of its own. That is none of the temporary ones, which the policy opens as a whole.
#[track_caller]
fn attempt(name: &str, case: Case, layers: Option<[&str; 2]>) {
    let mut lab = Lab::start(Side::Private).expect("a laboratory");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    lab.work_in(&place, &path()).expect("a place to work");
    let work = place.join("work").display().to_string();
    let options = layers.into_iter().flatten().chain(["--best-effort", "--workspace", &work]);
    let sandbox = Sandbox { program: binary("sandbox"), options: options.map(str::to_owned).collect() };
    let mode = if layers.is_some() { Mode::Held(&sandbox) } else { Mode::Bare };
    if let Err(error) = net_lab::run(&mut lab, &[case], mode) {
        panic!("{error:#}");
    }
}

/// The control of the others.
#[test]
fn without_a_sandbox() {
    const NAME: &str = "without_a_sandbox";
    if needed(NAME) {
        attempt(NAME, cases::packages::CLOSED, None);
    }
}

#[test]
fn the_groups_of_the_shipped_policy_are_enough() {
    const NAME: &str = "the_groups_of_the_shipped_policy_are_enough";
    if needed(NAME) {
        attempt(NAME, cases::packages::SHIPPED, Some(GROUP));
    }
}

/// They look at the variables that lead to the relay.
#[test]
fn in_a_network_namespace_they_go_by_the_relay() {
    const NAME: &str = "in_a_network_namespace_they_go_by_the_relay";
    if needed(NAME) {
        attempt(NAME, cases::packages::RELAYED, Some(["--layers", "trace,netns"]));
    }
}

#[test]
fn without_the_groups_nothing_is_found() {
    const NAME: &str = "without_the_groups_nothing_is_found";
    if needed(NAME) {
        attempt(NAME, cases::packages::CLOSED, Some(GROUP));
    }
}
