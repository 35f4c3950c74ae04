//! What a verdict on a path costs in the kernel, by how many rules the policy has:
//! `cargo run --release -p sandbox --example verdict-speed`, as root.
//!
//! The walk that the hooks make is run by itself, in a program of a type that loads where no hook can be attached. The
//! policies are those that `policy/examples/measure.rs` measures. For each length of a path the table gives
//! nanoseconds a verdict, the fastest of several rounds that take turns, and in brackets how many times as long as with
//! ten rules.

use std::os::fd::AsFd;

#[path = "../../policy/examples/usual/mod.rs"]
mod usual;

use anyhow::{Context, ensure};
use policy::compile::lsm::{SetTable, compile};
use policy::{Policy, Variables};
use sandbox::enforce::lsm::{Force, install};
use sandbox::kernel::{bpf, object::Object};
use usual::Variety;

/// The policies, and what they are called in the table: the first is what the others are compared with.
const POLICIES: [(&str, usize, Variety); 4] = [
    ("10", 10, Variety::Plain),
    ("1,000", 1_000, Variety::Plain),
    ("10,000", 10_000, Variety::Plain),
    ("10,000 varied", 10_000, Variety::Varied),
];
const LENGTHS: [usize; 4] = [20, 60, 200, 1000];
const ROUNDS: usize = 40;
const TIMES: u64 = 2_000;

fn main() -> anyhow::Result<()> {
    let mut sets = SetTable::new();
    let mut object = Object::load(false).context("this needs root and BTF")?;
    for (slot, (name, count, variety)) in POLICIES.into_iter().enumerate() {
        let policy = Policy::parse("measured", &usual::policy(count, variety), &Variables::new())?;
        let plan = compile(&[&policy], slot as u32 + 1, &mut sets)?;
        let (automata, kib) = (plan.header.automata, plan.cells.len() * 8 / 1024);
        println!("{name:>14} rules: {automata} automata, {kib} KiB");
        install(&object, slot as u32, &plan, Force::Whole)?;
    }
    let program = object.measure_program()?.try_clone_to_owned()?;
    let names: String = POLICIES.iter().map(|(name, ..)| format!("{name:>22}")).collect();
    println!("{:>10} {names}", "path bytes");
    for (kind, inside) in [("elsewhere", false), ("below a rule", true)] {
        for length in LENGTHS {
            let path = path(length, inside);
            let mut best = [f64::MAX; POLICIES.len()];
            for _ in 0..ROUNDS {
                for (slot, best) in best.iter_mut().enumerate() {
                    let arguments = [slot as u64, path.as_ptr() as u64, path.len() as u64, TIMES];
                    let total = bpf::run_program(program.as_fd(), &arguments)?;
                    ensure!(total != 0, "the tables are not whole");
                    *best = best.min(f64::from(total) / TIMES as f64);
                }
            }
            let cells: String = best.iter().map(|ns| format!("{ns:>13.1} ({:>5.3})", ns / best[0])).collect();
            println!("{length:>10} {cells}  {kind}");
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
