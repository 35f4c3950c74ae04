//! The built binaries, of the same profile as the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Path of a binary of this workspace: `sandbox`, `audit-verify` or `workload`. The first call builds them
/// all, so that no test ever drives a stale one.
///
/// # Panics
///
/// If they do not build.
pub fn binary(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let path = DIRECTORY.get_or_init(build).join(name);
    assert!(path.is_file(), "{} was not built", path.display());
    path
}

/// The workspace's top.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

fn build() -> PathBuf {
    let output = Output::of(&std::env::current_exe().expect("the path of this test"));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).args(["build", "--quiet"]);
    cargo.args(["--bins", "--package", "sandbox", "--package", "audit-verify", "--package", "sandbox-tests"]);
    cargo.args(["--profile", if output.profile == "debug" { "dev" } else { &output.profile }]);
    cargo.arg("--target-dir").arg(&output.target_dir);
    if let Some(triple) = &output.triple {
        cargo.args(["--target", triple]);
    }
    let status = cargo.status().expect("cargo must start");
    assert!(status.success(), "the binaries under test do not build: {cargo:?}");
    output.directory
}

/// Where cargo put a program: `TARGET_DIR[/TRIPLE]/PROFILE[/deps]/program`.
#[derive(Debug, PartialEq, Eq)]
struct Output {
    directory: PathBuf,
    profile: String,
    triple: Option<String>,
    target_dir: PathBuf,
}

impl Output {
    fn of(program: &Path) -> Self {
        let mut directory = program.parent().expect("a program lies in a directory");
        if directory.ends_with("deps") {
            directory = directory.parent().expect("deps/ lies in a profile");
        }
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let above = directory.parent().expect("a profile lies in a target directory");
        // Cargo marks the target directory's top.
        let (triple, target_dir) = match above.parent() {
            Some(top) if !above.join("CACHEDIR.TAG").exists() && top.join("CACHEDIR.TAG").exists() => {
                (Some(name(above)), top)
            }
            _ => (None, above),
        };
        Output {
            directory: directory.to_owned(),
            profile: name(directory),
            triple,
            target_dir: target_dir.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Output;

    #[test]
    fn a_program_tells_how_it_was_built() {
        let top = tempfile::tempdir().unwrap();
        std::fs::write(top.path().join("CACHEDIR.TAG"), "").unwrap();
        let plain = Output::of(&top.path().join("debug/deps/completeness-1f"));
        assert_eq!((plain.profile.as_str(), plain.triple.as_deref()), ("debug", None));
        assert_eq!(plain.target_dir, top.path());
        let cross = Output::of(&top.path().join("x86_64-unknown-linux-gnu/release/bench"));
        assert_eq!(cross.triple.as_deref(), Some("x86_64-unknown-linux-gnu"));
        assert_eq!((cross.profile.as_str(), cross.target_dir.as_path()), ("release", top.path()));
    }
}
