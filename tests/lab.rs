//! Names and addresses: an enforced run against a network with real servers, held by the layer `cgroup-net` alone. The
//! same cases run on whole kernels in `vm-tests`, held by all layers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use net_lab::{Case, Lab, Mode, PROGRAMS, PYTHON, Sandbox, Side, cases};
use sandbox_tests::binaries::binary;
use sandbox_tests::requirement::{Need, met};

/// Networks at a time; each is one of its own.
const NETWORKS: usize = 2;

fn needed(test: &str) -> bool {
    let programs = PROGRAMS.iter().chain(&["nsenter", PYTHON]).map(|program| Need::Program(program));
    met(test, &[Need::Trace].into_iter().chain(programs).collect::<Vec<_>>())
}

/// Tries all of them.
#[track_caller]
fn try_all(cases: &[Case], mode: Mode<'_>) {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..NETWORKS.min(cases.len()) {
            scope.spawn(|| {
                let mut lab = Lab::start(Side::Private).expect("a laboratory");
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = net_lab::run(&mut lab, std::slice::from_ref(case), mode) {
                        failed.lock().expect("the list").push(format!("{}: {error:#}", case.name));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("the list");
    assert!(failed.is_empty(), "{} of {} cases\n\n{}", failed.len(), cases.len(), failed.join("\n\n"));
}

fn sandbox() -> Sandbox {
    // Unix sockets and the like are the business of a layer that this machine need not have.
    let options = ["--best-effort", "--layers", "trace,cgroup-net"].map(str::to_owned);
    Sandbox { program: binary("sandbox"), options: options.to_vec() }
}

/// The control of all others: everything arrives.
#[test]
fn without_a_sandbox() {
    if needed("without_a_sandbox") {
        try_all(&cases::GROUPS.concat(), Mode::Bare);
    }
}

#[test]
fn enforced() {
    if needed("enforced") {
        try_all(&cases::GROUPS.concat(), Mode::Held(&sandbox()));
    }
}

/// It takes as long as the shortest time that an address stays open.
#[test]
fn expired() {
    if needed("expired") {
        try_all(&[cases::EXPIRED], Mode::Bare);
        try_all(&[cases::EXPIRED], Mode::Held(&sandbox()));
    }
}
