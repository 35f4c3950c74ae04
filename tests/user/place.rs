//! An ordinary user's place: binaries that it may read, a directory to work in, a store.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use audit_verify::canonical::Record;
use sandbox_tests::binaries::binary;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

/// Everybody's "nobody", of whom the machine has nothing.
pub const USER: u32 = 65534;

/// The place, and what is started there.
pub struct Place {
    pub scene: Scene,
}

/// Whether the test can become an ordinary user.
pub fn possible(test: &str, more: &[Need<'_>]) -> bool {
    met(test, &[&[Need::Root], more].concat())
}

impl Place {
    pub fn new() -> Place {
        let scene = Scene::new();
        let bin = scene.path("bin");
        fs::create_dir(&bin).expect("a directory for binaries");
        for name in ["sandbox", "audit-verify", "workload"] {
            fs::copy(binary(name), bin.join(name)).expect("a binary that the user can read");
        }
        fs::create_dir(scene.store()).expect("the store");
        fs::set_permissions(scene.store(), Permissions::from_mode(0o700)).expect("its mode");
        for path in [scene.store(), scene.work()] {
            chown(path, Some(USER), Some(USER)).expect("a directory of the user's own");
        }
        Place { scene }
    }

    pub fn work(&self) -> PathBuf {
        self.scene.work()
    }

    pub fn bin(&self, name: &str) -> PathBuf {
        self.scene.path("bin").join(name)
    }

    /// A program as the ordinary user, without a capability left.
    pub fn command(&self, program: &Path, args: impl IntoIterator<Item = OsString>) -> Command {
        let mut command = self.scene.command(program, args);
        command.env("HOME", self.work()).env("USER", "nobody");
        as_user(&mut command);
        command
    }

    pub fn sandbox<S: Into<OsString>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.command(&self.bin("sandbox"), args.into_iter().map(Into::into))
    }

    /// `sandbox run --audit-only -- COMMAND…` to its end.
    pub fn record<S: Into<OsString>>(&self, command: impl IntoIterator<Item = S>) -> Done {
        let args = ["run", "--audit-only", "--"].map(OsString::from).into_iter();
        finish(self.sandbox(args.chain(command.into_iter().map(Into::into))))
    }

    /// The workload's odd calls of one kind.
    pub fn odd(&self, what: &str) -> Done {
        let words = [self.bin("workload").into_os_string(), "odd".into(), what.into(), self.work().into()];
        self.record(words)
    }

    /// A policy that an ordinary user's run holds wholly, with `more` in it.
    pub fn closed_world(&self, more: &str) -> String {
        let work = self.work();
        let work = work.display();
        format!(
            "version: 1
name: p
files:
  default: deny
  rules:
    - {{ name: open, allow: [read, load, attributes], path: [\"/**\"] }}
    - {{ name: work, allow: [write, create, delete], path: [\"{work}/**\"] }}
    - {{ name: devices, allow: [write], path: [\"/dev/null\"] }}
exec: {{ default: allow }}
network: {{ default: deny }}
kernel: {{ allow: [ptrace-own, raw-devices] }}
{more}"
        )
    }

    /// Whether the workload's chain of processes (`odd chain`) goes on.
    pub fn chain_goes_on(&self) -> bool {
        let file = fs::File::open(self.work().join("chain")).expect("the chain's file");
        match nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            Ok(_) => false,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => true,
            Err((_, errno)) => panic!("the chain's lock: {errno}"),
        }
    }

    pub fn verified(&self) -> Done {
        finish(self.command(&self.bin("audit-verify"), [self.scene.run().into_os_string()]))
    }

    pub fn log(&self) -> Log {
        Log::of_run(&self.scene.run())
    }

    /// A path below the working directory, as a record has it.
    pub fn name(&self, tail: &str) -> Vec<u8> {
        self.work().join(tail).into_os_string().into_encoded_bytes()
    }
}

/// Gives up everything that root has, before the program is executed.
pub fn as_user(command: &mut Command) {
    // SAFETY: system calls only.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setgroups(&[])?;
            let (uid, gid) = (nix::unistd::Uid::from_raw(USER), nix::unistd::Gid::from_raw(USER));
            nix::unistd::setresgid(gid, gid, gid)?;
            nix::unistd::setresuid(uid, uid, uid)?;
            Ok(())
        });
    }
}

/// The events of this type at this path.
pub fn at<'l>(log: &'l Log, event_type: &str, path: &[u8]) -> Vec<Record<'l>> {
    let records = log.records().map(|(_, record)| record);
    records
        .filter(|record| record.text("event_type") == Some(event_type) && record.bytes("path") == Some(path))
        .collect()
}
