//! The workloads that both witnesses watch, and strace around them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::attempt::Kind;
use crate::binaries::binary;
use crate::project;
use crate::requirement::Need;
use crate::scene::Scene;
use crate::truth::{self, Seen, TRACED};

/// A deterministic command, and how many attempts of each kind it makes at the very least. The minimums
/// keep an empty comparison from passing.
pub struct Workload {
    /// Name, for reports.
    pub name: &'static str,
    /// Programs that it needs besides strace.
    pub programs: &'static [&'static str],
    /// The command, made ready in the scene's working directory.
    pub prepare: fn(&Scene) -> Vec<OsString>,
    /// Fewest attempts by kind.
    pub minimum: &'static [(Kind, usize)],
    /// Fewest attempts that fail.
    pub failed: usize,
}

/// Every workload.
pub const ALL: &[Workload] = &[GIT_AND_PYTHON, C_PROJECT, PATHS, PROCESSES, SOCKETS];

/// A repository, a commit, and Python with modules that load many files.
pub const GIT_AND_PYTHON: Workload = Workload {
    name: "git and python",
    programs: &["bash", "git", "python3"],
    prepare: |scene| {
        let repository = scene.work().join("r");
        let repository = repository.to_str().expect("a temporary path is UTF-8");
        let script = format!(
            "git init -q {repository} && cd {repository} && echo x > a && git add a && \
             git -c user.name=a -c user.email=a@b commit -qm m && python3 -c \"import ssl, sqlite3, json\""
        );
        ["bash", "-c", &script].map(OsString::from).to_vec()
    },
    minimum: &[(Kind::Exec, 5), (Kind::Open, 200), (Kind::Unlink, 2), (Kind::Rename, 5), (Kind::Mkdir, 8)],
    failed: 20,
};

/// A small C project, compiled by make with two jobs.
pub const C_PROJECT: Workload = Workload {
    name: "c project",
    programs: &["make", "gcc"],
    prepare: |scene| {
        project::write(&scene.work(), 4);
        ["make", "-j2"].map(OsString::from).to_vec()
    },
    minimum: &[(Kind::Exec, 20), (Kind::Open, 400), (Kind::Unlink, 5)],
    failed: 100,
};

/// Relative names, links, renames, deletes, refusals.
pub const PATHS: Workload = Workload {
    name: "paths",
    programs: &[],
    prepare: |scene| own(scene, "paths"),
    minimum: &[
        (Kind::Open, 170),
        (Kind::Unlink, 55),
        (Kind::Rename, 40),
        (Kind::Mkdir, 50),
        (Kind::Rmdir, 8),
        (Kind::Link, 3),
        (Kind::Symlink, 7),
        (Kind::Exec, 3),
    ],
    failed: 100,
};

/// Execs of every form, forks, vforks, threads.
pub const PROCESSES: Workload = Workload {
    name: "processes",
    programs: &[],
    prepare: |scene| own(scene, "processes"),
    minimum: &[(Kind::Exec, 40), (Kind::Open, 60)],
    failed: 20,
};

/// Connections of every family.
pub const SOCKETS: Workload = Workload {
    name: "sockets",
    programs: &[],
    prepare: |scene| own(scene, "sockets"),
    minimum: &[(Kind::Connect, 22)],
    failed: 12,
};

fn own(scene: &Scene, what: &str) -> Vec<OsString> {
    vec![binary("workload").into(), what.into(), scene.work().into()]
}

impl Workload {
    /// What it needs of the machine, strace included.
    pub fn needs(&self) -> Vec<Need<'static>> {
        std::iter::once("strace").chain(self.programs.iter().copied()).map(Need::Program).collect()
    }

    /// The command under strace, which writes to [`trace_file`].
    pub fn under_strace(&self, scene: &Scene) -> Vec<OsString> {
        let mut command: Vec<OsString> =
            ["strace", "-f", "-y", "-s", "4096", "-e"].map(OsString::from).to_vec();
        command.push(format!("trace={TRACED}").into());
        command.push("-o".into());
        command.push(trace_file(scene).into());
        command.extend((self.prepare)(scene));
        command
    }

    /// Checks that as many attempts were found as the workload makes at the least.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    #[track_caller]
    pub fn check_minimum(&self, count: impl Fn(Kind) -> usize, failed: usize) {
        for (kind, least) in self.minimum {
            let found = count(*kind);
            assert!(found >= *least, "{}: {found} of {}, expected {least} or more", self.name, kind.name());
        }
        assert!(
            failed >= self.failed,
            "{}: {failed} failed attempts, expected {} or more",
            self.name,
            self.failed
        );
    }
}

/// Where strace writes.
pub fn trace_file(scene: &Scene) -> PathBuf {
    scene.path("strace.out")
}

/// What strace saw: the attempts, and the processes it traced.
///
/// # Panics
///
/// If its file cannot be understood.
#[track_caller]
pub fn truth(file: &Path) -> (Vec<Seen>, std::collections::BTreeSet<u32>) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    let calls = crate::strace::read(&text).unwrap_or_else(|why| panic!("{why}"));
    let seen = truth::attempts(&calls).unwrap_or_else(|why| panic!("{}", why.0));
    (seen, truth::processes(&calls))
}
