//! The network while it is there.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Debian's own: others in PATH may be scripts that look for one.
pub const PYTHON: &str = "/usr/bin/python3";

const LAB: &str = include_str!("../python/lab.py");
const REGISTRIES: &str = include_str!("../python/registries.py");

/// What commands are.
const CLIENT: &[(&str, &str)] = &[
    ("client.py", include_str!("../python/client.py")),
    ("packages.py", include_str!("../python/packages.py")),
];

/// Variables, in either case, that would lead commands elsewhere: to the person whom the tests run for under sudo, to a
/// proxy, to other authorities than the laboratory's; and cargo's own, by which every program looks for its libraries
/// in a dozen places first.
const NOT_INHERITED: &[&str] = &[
    "sudo_uid",
    "sudo_gid",
    "sudo_user",
    "sudo_command",
    "rust_log",
    "rust_backtrace",
    "ld_library_path",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "node_options",
    "node_extra_ca_certs",
    "curl_ca_bundle",
    "ssl_cert_file",
    "ssl_cert_dir",
];

/// Where commands run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// In namespaces of their own, with an /etc/resolv.conf and an /etc/hosts of their own: nothing of the machine
    /// changes.
    Private,
    /// Where this process is, whose /etc is written to: for a machine that is thrown away.
    Machine,
}

/// A network with its servers. Dropping it ends all of them, and so does the end of this process.
#[derive(Debug)]
pub struct Lab {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    directory: PathBuf,
    /// Where commands work, and what they have in their environment beside this process's own.
    work: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    /// What leads into the namespaces of the commands; none where they are this process's own.
    enter: Vec<String>,
}

impl Lab {
    /// Makes it; returns when all servers answer.
    ///
    /// # Errors
    /// What it could not do; its own messages are on stderr.
    pub fn start(side: Side) -> Result<Lab> {
        let how = match side {
            Side::Private => "private",
            Side::Machine => "machine",
        };
        let mut command = Command::new(PYTHON);
        command.args(["-c", LAB, how, REGISTRIES]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {PYTHON}"))?;
        let (Some(commands), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the laboratory has no pipes");
        };
        let (commands, answers) = (Some(commands), BufReader::new(answers));
        let directory = PathBuf::new();
        let (work, environment, enter) = (directory.clone(), Vec::new(), Vec::new());
        let mut lab = Lab { child, commands, answers, directory, work, environment, enter };
        let told = lab.answer().context("cannot start the laboratory")?;
        let directory = told["directory"].as_str().context("the laboratory has no directory")?;
        lab.directory = directory.into();
        if side == Side::Private {
            let namespace = |name: &str| format!("/proc/{}/fd/{}", told["pid"], told[name]);
            lab.enter = vec![
                "nsenter".to_owned(),
                format!("--net={}", namespace("net")),
                format!("--mount={}", namespace("mount")),
            ];
        }
        lab.work = lab.directory.clone();
        for (name, text) in CLIENT {
            let path = lab.path(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(lab)
    }

    /// From now on commands run in `place/work`, with `place/home` as HOME and this PATH. Both are made anew; HOME has the
    /// directory of Rust's toolchains, which an installer makes and the policies that ship do not let a run make (it
    /// could be a link to a configuration of its own), with the locks that a cargo leaves that has been used.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn work_in(&mut self, place: &Path, path: &OsStr) -> Result<()> {
        let _ = std::fs::remove_dir_all(place);
        self.work = place.join("work");
        let home = place.join("home");
        for directory in [&self.work, &home.join(".cargo")] {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        for lock in [".package-cache", ".package-cache-mutate", ".global-cache"] {
            let path = home.join(".cargo").join(lock);
            std::fs::write(&path, "").with_context(|| format!("cannot make {}", path.display()))?;
        }
        self.environment = vec![("HOME", home.into_os_string()), ("PATH", path.to_owned())];
        Ok(())
    }

    /// A path in its directory, which goes when it does; every side sees it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A program of the side where commands run, in the directory or where they were told to work.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = match self.enter.split_first() {
            Some((enter, arguments)) => {
                let mut command = Command::new(enter);
                command.args(arguments).arg(format!("--wd={}", self.work.display())).arg("--").arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir(&self.work).stdin(Stdio::null());
        for name in NOT_INHERITED {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("NO_COLOR", "1").env("SANDBOX_HOME", self.path("store"));
        command
    }

    /// A program beside the servers: it can be reached at every address of the laboratory.
    pub fn server(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.child.id())).arg("--").arg(program);
        command.current_dir(&self.directory);
        for name in NOT_INHERITED {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command
    }

    /// What the steps of a client are: arguments of [`PYTHON`].
    pub fn client<'s>(&self, steps: impl IntoIterator<Item = &'s str>) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let mut arguments = vec![path(&self.path("client.py")), path(&self.directory)];
        arguments.extend(steps.into_iter().map(str::to_owned));
        arguments
    }

    /// What has arrived at the servers since the last time, when all that was under way has.
    ///
    /// # Errors
    /// The laboratory ended, or something is under way for too long.
    pub fn settle(&mut self) -> Result<Vec<String>> {
        let answer = self.ask("settle")?;
        let lines = answer["answer"].as_array().context("a list of what arrived")?;
        Ok(lines.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect())
    }

    /// Gives a name another address, from now on. Only names that are meant for it can have one.
    ///
    /// # Errors
    /// The laboratory ended.
    pub fn point(&mut self, name: &str, address: &str) -> Result<()> {
        self.ask(&format!("point {name} {address}")).map(drop)
    }

    fn ask(&mut self, command: &str) -> Result<Value> {
        let commands = self.commands.as_mut().context("the laboratory has ended")?;
        writeln!(commands, "{command}").with_context(|| format!("cannot ask the laboratory to {command}"))?;
        self.answer().with_context(|| format!("cannot have the laboratory {command}"))
    }

    /// The next line of its output; every wait of its own has a bound.
    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "it ended; stderr says why");
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The end of its input is what ends it.
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}
