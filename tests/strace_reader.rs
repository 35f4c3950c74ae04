//! The truth itself: strace alone watches the workloads, and everything it wrote is understood. Needs
//! neither privileges nor the product.

use sandbox_tests::requirement::{Need, met, say};
use sandbox_tests::scene::{Scene, finish};
use sandbox_tests::watched::{ALL, Workload, trace_file, truth};

#[test]
fn everything_strace_writes_is_understood() {
    for workload in ALL {
        let needs = [workload.needs(), vec![Need::Root]].concat();
        if met(&format!("strace alone, {}", workload.name), &needs) {
            understand(workload);
        }
    }
}

fn understand(workload: &Workload) {
    let scene = Scene::new();
    let command = workload.under_strace(&scene);
    finish(scene.command(&command[0], &command[1..])).expect(0);
    let (seen, processes) = truth(&trace_file(&scene));
    let failed = seen.iter().filter(|seen| seen.attempt.ret < 0).count();
    say(&format!("strace alone, {}: {} attempts, {failed} failed", workload.name, seen.len()));
    workload.check_minimum(|kind| seen.iter().filter(|seen| seen.attempt.kind == kind).count(), failed);
    assert!(seen.iter().all(|seen| processes.contains(&seen.attempt.pid)));
    for seen in &seen {
        let path = seen.attempt.path.as_deref().unwrap_or(b"/");
        // Absolute, an abstract socket, or an object that has no name.
        let known = ["/", "@", "pipe:["].iter().any(|start| path.starts_with(start.as_bytes()));
        assert!(known, "{}", seen.attempt);
    }
}
