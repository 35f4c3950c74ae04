//! Boots real kernels in qemu and runs programs inside.
//!
//! The host side: [`kernel`] finds and fetches kernels, [`guest`] builds static binaries, [`image`] lays out
//! the guest's root file system and [`cpio`] packs it, [`machine`] boots it and reads the outcome. [`wire`] is
//! what both sides agree on; the guest side is `guest-init`, PID 1. [`batch`] is between a suite and the probe,
//! both inside. [`programs`] packs programs of this machine, [`laboratory`] those of a network. Nothing here knows what
//! is being tested.

pub mod batch;
pub mod cpio;
pub mod guest;
pub mod image;
pub mod kernel;
pub mod laboratory;
pub mod machine;
pub mod module;
pub mod package_managers;
pub mod programs;
pub mod wire;

use std::path::{Path, PathBuf};

/// The workspace that this crate was built in.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
