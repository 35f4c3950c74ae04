//! Builds this workspace's binaries for the guest: static, small, in a target directory of their own.
//!
//! The initramfs holds no libc, so glibc is linked in. The separate directory keeps the other flags from
//! invalidating the host's builds.

use std::path::PathBuf;
use std::process::{Command, Stdio};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "guest";

/// The packages whose binaries go into guests. Who builds some of them names all, whatever is needed of them: the features
/// of what they depend on are chosen together, and another choice would build everything again.
pub const PACKAGES: &[&str] = &["vm-tests", "sandbox", "audit-verify", "sandbox-tests"];

/// What cargo could not build.
#[derive(Debug, thiserror::Error)]
#[error("cannot build {names} for the guest: {reason}")]
pub struct Error {
    names: String,
    reason: String,
}

/// Builds these binaries of the workspace, and says where they are, in the same order.
///
/// # Errors
/// When cargo cannot be run or fails; cargo's own messages are on stderr.
pub fn build(packages: &[&str], binaries: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let failed = |reason: String| Error { names: binaries.join(", "), reason };
    let target_dir = crate::workspace().join("target/guest");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(crate::workspace()).arg("build").args(["--profile", PROFILE, "--target", TARGET]);
    command.arg("--target-dir").arg(&target_dir);
    for package in packages {
        command.args(["--package", package]);
    }
    for binary in binaries {
        command.args(["--bin", binary]);
    }
    command.env("RUSTFLAGS", "-C target-feature=+crt-static").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET");
    let status = command.stdin(Stdio::null()).status().map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        return Err(failed(format!("cargo: {status}")));
    }
    let dir = target_dir.join(TARGET).join(PROFILE);
    Ok(binaries.iter().map(|binary| dir.join(binary)).collect())
}
