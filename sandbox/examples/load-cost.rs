//! What the kernel's verifier spends on each program, and how long loading and attaching it takes:
//! `cargo run -p sandbox --example load-cost`, as root, or in a guest (see vm-tests/README.md).
//!
//! A run pays for all of it before its command starts. Where no hook can be attached only the tracepoints are shown.

use policy::settings::LimitSet;
use std::time::{Duration, Instant};

use sandbox::{
    enforce::{
        group::{self, Purpose},
        lsm::{Known, attach},
    },
    kernel::object::Object,
    launch::cgroup::Cgroup,
    layers::selftest,
    observe::trace,
};

const CONTENTS: &str = "bprm_check_contents";

fn main() -> anyhow::Result<()> {
    let start = Instant::now();
    let mut object = Object::load(true)?;
    let loaded = start.elapsed();
    let start = Instant::now();
    trace::attach(&mut object)?;
    let traced = start.elapsed();
    let start = Instant::now();
    let hooks = attach(&mut object, Known::Path);
    let attached = start.elapsed();
    let start = Instant::now();
    let group = Cgroup::create("load-cost", LimitSet::EMPTY)?;
    group::attach(&mut object, group.directory(), Purpose::Judge)?;
    let grouped = start.elapsed();
    let start = Instant::now();
    let tests = selftest::group(&object, group.directory(), Purpose::Judge)?;
    println!("self-test of {} programs of the control group {:.1?}", tests.len(), start.elapsed());
    let mut total = 0;
    for (name, instructions) in object.verified() {
        println!("{instructions:>8}  {name}");
        total += instructions;
    }
    println!("{total:>8}  in all");
    if hooks.is_ok() {
        let mut other = Object::load(true)?;
        other.load_hooks(&[(CONTENTS, "bprm_check_security")]).into_iter().collect::<Result<(), _>>()?;
        for (name, instructions) in other.verified().filter(|(name, _)| *name == CONTENTS) {
            println!("{instructions:>8}  {name}, where a policy knows contents");
        }
    }
    println!(
        "object {loaded:.1?}, tracepoints {traced:.1?}, hooks {attached:.1?}, control group {grouped:.1?}"
    );
    group.remove(Duration::from_secs(1));
    hooks?;
    let start = Instant::now();
    let tests = selftest::lsm(&object)?;
    println!("self-test of {} hooks {:.1?}", tests.len(), start.elapsed());
    Ok(())
}
