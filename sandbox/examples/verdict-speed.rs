//! What a verdict on a path costs in the kernel, by how many rules the policy has:
//! `cargo run --release -p sandbox --example verdict-speed`, as root.
//!
//! The walk that the hooks make is run by itself, in a program of a type that loads where no hook can be attached. The
//! policies are those that `policy/examples/measure.rs` measures. For each length of a path the table gives
//! nanoseconds a verdict with few rules and with many, the fastest of several rounds that take turns, and their ratio.

use std::os::fd::AsFd;

#[path = "../../policy/examples/usual/mod.rs"]
mod usual;

use anyhow::{Context, ensure};
use policy::compile::lsm::{SetTable, compile};
use policy::{Policy, Variables};
use sandbox::enforce::lsm::install;
use sandbox::kernel::{bpf, object::Object};

const COUNTS: [usize; 2] = [10, 10_000];
const LENGTHS: [usize; 4] = [20, 60, 200, 1000];
const ROUNDS: usize = 40;
const TIMES: u64 = 2_000;

fn main() -> anyhow::Result<()> {
    let mut sets = SetTable::new();
    let mut object = Object::load(false).context("this needs root and BTF")?;
    for (slot, count) in COUNTS.into_iter().enumerate() {
        let policy = Policy::parse("measured", &usual::policy(count), &Variables::new())?;
        let plan = compile(&[&policy], slot as u32 + 1, &mut sets)?;
        println!("{count:>6} rules: {} automata, {} KiB", plan.header.automata, plan.cells.len() * 8 / 1024);
        install(&object, slot as u32, &plan)?;
    }
    let program = object.measure_program()?.try_clone_to_owned()?;
    println!("{:>10} {:>14} {:>14} {:>8}", "path bytes", "10 rules ns", "10,000 ns", "ratio");
    for (kind, inside) in [("elsewhere", false), ("below a rule", true)] {
        for length in LENGTHS {
            let path = path(length, inside);
            let mut best = [f64::MAX; COUNTS.len()];
            for _ in 0..ROUNDS {
                for (slot, best) in best.iter_mut().enumerate() {
                    let arguments = [slot as u64, path.as_ptr() as u64, path.len() as u64, TIMES];
                    let total = bpf::run_program(program.as_fd(), &arguments)?;
                    ensure!(total != 0, "the tables are not whole");
                    *best = best.min(f64::from(total) / TIMES as f64);
                }
            }
            let [few, many] = best;
            println!("{length:>10} {few:>14.1} {many:>14.1} {:>8.3}  {kind}", many / few);
        }
    }
    Ok(())
}

/// An absolute path of `length` bytes, below the first rule's directory or where no rule is about.
fn path(length: usize, inside: bool) -> Vec<u8> {
    let mut path = if inside { usual::directory(0).into_bytes() } else { b"/home/agent".to_vec() };
    while path.len() < length {
        path.extend(b"/name-of-some-directory");
    }
    path.truncate(length);
    path
}
