//! Running the variants in turn, and their times.

use std::io::{BufRead, BufReader, IsTerminal};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use net_lab::Lab;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use sandbox_tests::binaries::binary;
use sandbox_tests::log::Log;

use super::{COUNT, Work};

/// Addresses, and those of the resolver.
const ADDRESSES: &str = r#"
version: 1
name: addresses
network:
  default: deny
  rules:
    - { name: servers, allow: [connect, send], to: ["203.0.113.80:7001-7003"] }
    - { name: resolver, allow: [connect, send], to: ["203.0.113.53:53"] }
    - { name: sorting, allow: [connect], to: ["203.0.113.80/udp", "[2001:db8:113::80]:0-65535/udp"] }
"#;

/// Names, so that questions are led to the runner, and what connections tell is read.
const NAMES: &str = r#"
version: 1
name: names
network:
  default: deny
  rules:
    - { name: servers, allow: [connect, send], to: ["good.lab.test:7001-7003", "*.git.lab.test:443"] }
    - { name: sorting, allow: [connect], to: ["good.lab.test/udp"] }
"#;

/// Who watches, or holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Nobody.
    Bare,
    /// `sandbox run --audit-only`.
    Watched,
    /// `--enforce` of a policy of addresses.
    Addresses,
    /// `--enforce` of a policy of names.
    Names,
}

impl Variant {
    pub const ALL: [Variant; 4] = [Variant::Bare, Variant::Watched, Variant::Addresses, Variant::Names];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Bare => "bare",
            Variant::Watched => "--audit-only",
            Variant::Addresses => "held, addresses",
            Variant::Names => "held, names",
        }
    }

    fn policy(self) -> Option<&'static str> {
        match self {
            Variant::Bare | Variant::Watched => None,
            Variant::Addresses => Some(ADDRESSES),
            Variant::Names => Some(NAMES),
        }
    }
}

/// One round's times, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Of the client's loop, as the clock has it.
    pub wall: f64,
    /// CPU time of the loop, and of the servers' process meanwhile.
    pub cpu: f64,
    /// CPU time of all else that the command is made of: the runner, and everybody's start.
    pub rest: f64,
}

/// The times of one variant.
pub struct Rounds {
    /// Whose.
    pub variant: Variant,
    /// Each round's, in order.
    pub times: Vec<Times>,
    /// What `rest` is where the client does next to nothing.
    pub start: f64,
    /// Events in the last log, and how many were lost, where there is one.
    pub events: Option<(u64, u64)>,
}

/// The laboratory with the workload's servers in it.
pub struct Bench<'a> {
    lab: &'a Lab,
    servers: Child,
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        // The end of their input is what ends them.
        drop(self.servers.stdin.take());
        let _ = self.servers.wait();
    }
}

impl<'a> Bench<'a> {
    /// Starts the servers.
    pub fn start(lab: &'a Lab) -> Self {
        let mut command = lab.server(&binary("workload"));
        command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut servers = command.spawn().expect("the servers must start");
        let mut line = String::new();
        let output = servers.stdout.take().expect("their output");
        BufReader::new(output).read_line(&mut line).expect("their word");
        assert_eq!(line, "ready\n", "the servers do not serve");
        for variant in Variant::ALL {
            if let Some(policy) = variant.policy() {
                std::fs::write(lab.path(&format!("{variant:?}.yaml")), policy).expect("write a policy");
            }
        }
        Bench { lab, servers }
    }

    /// Runs a piece of work under each variant in turn.
    pub fn measure(&self, work: &Work, rounds: usize) -> Vec<Rounds> {
        // A line that rewrites itself is for somebody who watches, not for a file.
        let watched = std::io::stderr().is_terminal();
        let empty = |variant| Rounds { variant, times: Vec::new(), start: 0.0, events: None };
        let mut all = Variant::ALL.map(empty);
        for round in 0..=rounds {
            for turn in 0..all.len() {
                let variant = &mut all[(round + turn) % Variant::ALL.len()];
                if watched {
                    eprint!("\r\x1b[K{}: round {round} of {rounds}, {}", work.title, variant.variant.name());
                }
                // Round 0 warms the caches, and shows what the start takes.
                if round == 0 {
                    self.once(work, 1, variant);
                    variant.start = self.once(work, 1, variant).rest;
                } else {
                    let times = self.once(work, work.count, variant);
                    variant.times.push(times);
                }
            }
        }
        if watched {
            eprint!("\r\x1b[K");
        }
        all.into()
    }

    fn once(&self, work: &Work, count: u64, rounds: &mut Rounds) -> Times {
        let variant = rounds.variant;
        let record = self.lab.path("record");
        let mut command = self.command(variant, &record);
        let count = count.to_string();
        command.args(work.client.iter().map(|argument| if *argument == COUNT { &count } else { *argument }));
        let (before, servers) = (children(), self.servers_cpu());
        let output = command.stderr(Stdio::inherit()).output().expect("the command must start");
        assert!(output.status.success(), "{} failed: {}", variant.name(), output.status);
        let (all, servers) = (children() - before, self.servers_cpu() - servers);
        let told = String::from_utf8_lossy(&output.stdout);
        let told: Vec<f64> = told.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [wall, client] = told[..] else { panic!("the client tells {told:?}") };
        if variant != Variant::Bare {
            let seal = Log::of_run(&record);
            let seal = seal.seal();
            rounds.events = seal.uint("events").zip(seal.uint("lost"));
            std::fs::remove_dir_all(record).expect("remove the run");
        }
        Times { wall: wall / 1e9, cpu: client / 1e9 + servers, rest: all - client / 1e9 }
    }

    fn command(&self, variant: Variant, record: &PathBuf) -> Command {
        let workload = binary("workload");
        if variant == Variant::Bare {
            return self.lab.command(&workload);
        }
        let mut command = self.lab.command(&binary("sandbox"));
        command.args(["run", "--quiet", "--layers", "trace,cgroup-net", "--run-dir"]).arg(record);
        match variant.policy() {
            None => command.arg("--audit-only"),
            Some(_) => {
                command.args(["--best-effort", "--enforce"]).arg(self.lab.path(&format!("{variant:?}.yaml")))
            }
        };
        command.arg("--").arg(workload);
        command
    }

    /// CPU time of the servers so far, in seconds.
    fn servers_cpu(&self) -> f64 {
        let tasks =
            std::fs::read_dir(format!("/proc/{}/task", self.servers.id())).expect("the servers' threads");
        let nanoseconds = tasks.filter_map(|task| {
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        });
        nanoseconds.sum::<f64>() / 1e9
    }
}

/// CPU time of all children that were waited for so far, in seconds.
fn children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the children's usage");
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
}
