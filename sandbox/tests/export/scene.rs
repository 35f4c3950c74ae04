//! A run of a test's own, and exporting it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A run whose log a test has made.
pub struct Scene {
    top: TempDir,
}

impl Scene {
    /// A run with this log.
    pub fn new(log: &[u8]) -> Scene {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir(top.path().join("run")).unwrap();
        let scene = Scene { top };
        std::fs::write(scene.log(), log).unwrap();
        scene
    }

    /// The run's directory.
    pub fn run(&self) -> PathBuf {
        self.top.path().join("run")
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.run().join("events.jsonl")
    }

    /// A path beside the run's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// `sandbox export` of this run.
    pub fn export(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
        command.arg("export").arg(self.run()).args(args).stdin(Stdio::null());
        command.env("SANDBOX_HOME", self.top.path().join("store")).output().unwrap()
    }

    /// What the export prints, which must come about without a word on stderr.
    pub fn exported(&self, args: &[&str]) -> Vec<u8> {
        let done = self.export(args);
        assert_eq!(String::from_utf8_lossy(&done.stderr), "");
        assert_eq!(done.status.code(), Some(0));
        done.stdout
    }
}

/// The log exported in a form of one event a line.
pub fn lines(log: &[u8], format: &str) -> Vec<String> {
    let out = String::from_utf8(Scene::new(log).exported(&["--format", format])).unwrap();
    assert!(out.ends_with('\n'));
    // Not `lines`, which takes a carriage return for part of the end.
    let mut lines: Vec<String> = out.split('\n').map(str::to_owned).collect();
    assert_eq!(lines.pop().as_deref(), Some(""));
    lines
}

/// The log exported as one JSON document a line.
pub fn documents(log: &[u8], format: &str) -> Vec<serde_json::Value> {
    lines(log, format).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}
