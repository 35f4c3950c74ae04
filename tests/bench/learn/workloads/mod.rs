//! Work as agents and jobs do it, each time a little different: names, numbers of files, their order, options, which of
//! the usual steps. What differs is what differs in honest work; the seed of a run says how.
//!
//! A workload writes its project and a script `job.sh` into a workspace of its own, and where an attack is to be in it,
//! puts that into code that the job runs anyway.

mod agent;
mod compile;
mod crates;
mod database;
mod keys;
mod packages;
mod repository;
mod suite;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::attacks::Language;
use super::random::Random;

/// A kind of work.
#[derive(Debug)]
pub struct Workload {
    pub name: &'static str,
    /// As a row of the table names it.
    pub title: &'static str,
    /// Programs that it needs beside what the laboratory does.
    pub programs: &'static [&'static str],
    /// What attacks in it are written in.
    pub language: Language,
    /// Writes the project.
    pub prepare: fn(&mut Project<'_>),
}

/// In the order of the table.
pub const WORKLOADS: &[Workload] = &[
    compile::WORKLOAD,
    crates::WORKLOAD,
    suite::WORKLOAD,
    packages::WORKLOAD,
    repository::WORKLOAD,
    database::WORKLOAD,
    keys::WORKLOAD,
    agent::WORKLOAD,
];

/// What one run works on.
pub struct Project<'a> {
    pub random: Random,
    pub home: &'a Path,
    /// The workspace; it is there.
    pub work: PathBuf,
    /// The environment of commands.
    pub environment: &'a [(String, String)],
    /// Calls of the language's prelude.
    pub attack: Option<String>,
}

impl Project<'_> {
    /// Writes a file of the workspace.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.work.join(name);
        fs::create_dir_all(path.parent().expect("a workspace")).expect("a directory of the project");
        fs::write(path, text).expect("a file of the project");
    }

    /// Runs a program before the run, in a directory.
    pub fn before(&self, directory: &Path, words: &[&str]) {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(directory).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let done = command.output().expect("a program of the preparation");
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Writes the script, one step after the other; the first that fails ends it.
    pub fn job(&self, steps: &[String]) {
        self.write("job.sh", &format!("set -e\n{}\n", steps.join("\n")));
    }

    /// A step somewhere among these.
    pub fn among(&mut self, steps: &mut Vec<String>, step: String) {
        let at = self.random.between(0, steps.len());
        steps.insert(at, step);
    }
}
