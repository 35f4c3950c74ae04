//! What a cell's attempts are made on: files, listeners of the machine, a process outside; and as whom.

use super::table::MACHINE;
use crate::run::{PROBE, SANDBOX};
use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Where the listeners' sockets are.
pub const NET: &str = "/srv/matrix-net";

/// Who asks, and whose command it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The machine's root.
    Root,
    /// The ordinary account `agent`.
    Agent,
}

impl Identity {
    fn uid(self) -> u32 {
        match self {
            Identity::Root => 0,
            Identity::Agent => vm_tests::image::AGENT,
        }
    }

    fn home(self) -> &'static str {
        match self {
            Identity::Root => "/root",
            Identity::Agent => "/home/agent",
        }
    }

    /// A program as this account, without any of the caller's privileges.
    pub fn command(self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("HOME", self.home()).stdin(Stdio::null());
        if self == Identity::Agent {
            command.uid(self.uid()).gid(self.uid()).env("USER", "agent");
        }
        command
    }

    /// The directories of its runs.
    pub fn runs(self) -> Result<BTreeSet<PathBuf>> {
        match fs::read_dir(Path::new(self.home()).join(".sandbox/runs")) {
            Ok(entries) => Ok(entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?),
            Err(_) => Ok(BTreeSet::new()),
        }
    }
}

/// The machine's listeners.
pub struct Machine {
    datagrams: UdpSocket,
    _others: Vec<std::thread::JoinHandle<()>>,
}

impl Machine {
    /// Listens; whoever connects is taken, and nothing is said.
    pub fn listen() -> Result<Machine> {
        fs::create_dir_all(NET)?;
        let mut others = Vec::new();
        let tcp = TcpListener::bind(MACHINE)?;
        others.push(std::thread::spawn(move || while tcp.accept().is_ok() {}));
        for name in ["socket", "open"] {
            let path = format!("{NET}/{name}");
            let _ = fs::remove_file(&path);
            let listener = UnixListener::bind(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
            others.push(std::thread::spawn(move || while listener.accept().is_ok() {}));
        }
        for name in ["matrix", "matrix-open"] {
            let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
            others.push(std::thread::spawn(move || while listener.accept().is_ok() {}));
        }
        let datagrams = UdpSocket::bind(MACHINE)?;
        datagrams.set_nonblocking(true)?;
        Ok(Machine { datagrams, _others: others })
    }

    /// How many datagrams came since the last time.
    pub fn arrived(&self) -> usize {
        std::iter::from_fn(|| self.datagrams.recv(&mut [0; 8]).ok()).count()
    }
}

/// A cell's files, and a process that is outside of its runs.
pub struct Scene {
    /// Where the files are.
    pub top: String,
    identity: Identity,
    outsider: Child,
}

impl Scene {
    /// For a cell of this name.
    pub fn new(name: &str, identity: Identity) -> Result<Scene> {
        let outsider =
            identity.command(PROBE).arg("wait=/nowhere").spawn().context("cannot run the probe")?;
        let disk = "/dev/matrix";
        if !fs::exists(disk)? {
            // No driver has this number: whoever may open it gets as far as that.
            mknod(disk, SFlag::S_IFBLK, Mode::from_bits_truncate(0o666), makedev(250, 7))?;
            fs::set_permissions(disk, fs::Permissions::from_mode(0o666))?;
        }
        Ok(Scene { top: format!("/srv/matrix-{name}"), identity, outsider })
    }

    /// A text of the table, with this scene's values.
    pub fn fill(&self, text: &str) -> String {
        let pid = self.outsider.id().to_string();
        text.replace("{top}", &self.top).replace("{net}", NET).replace("{pid}", &pid)
    }

    /// Puts everything back where it was.
    pub fn make(&self) -> Result<()> {
        let at = |name: &str| format!("{}/{name}", self.top);
        // What an attempt mounted.
        while umount2(at("point").as_str(), MntFlags::MNT_DETACH).is_ok() {}
        if fs::exists(&self.top)? {
            fs::remove_dir_all(&self.top)?;
        }
        let own = |path: &str, mode: u32| -> Result<()> {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            Ok(chown(path, Some(self.identity.uid()), Some(self.identity.uid()))?)
        };
        for name in ["", "work", "other", "point", "work/secret"] {
            fs::create_dir(at(name))?;
            own(&at(name), 0o755)?;
        }
        for name in [
            "work/file",
            "work/long",
            "work/victim",
            "work/victim-2",
            "work/config",
            "work/key.pem",
            "work/secret/key",
            "other/file",
            "other/long",
            "other/victim",
        ] {
            fs::write(at(name), "text")?;
            own(&at(name), 0o644)?;
        }
        for name in ["work/tool", "other/tool", "other/other"] {
            fs::copy(PROBE, at(name))?;
            own(&at(name), 0o755)?;
        }
        Ok(())
    }

    /// The probe outside of any run, below a process of the same account's.
    pub fn outside(&self, steps: &[String]) -> Result<String> {
        self.make()?;
        let mut command = self.identity.command(PROBE);
        let output = command.arg(format!("within={PROBE}")).args(steps).output()?;
        ensure!(output.status.success(), "the probe failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `sandbox` with these arguments, in the scene's workspace.
    pub fn sandbox(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.identity.command(SANDBOX);
        command.current_dir(format!("{}/work", self.top)).args(arguments);
        command.output().context("cannot run sandbox")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.outsider.kill();
        let _ = self.outsider.wait();
    }
}
