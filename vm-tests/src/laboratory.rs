//! The guests of the suites `lab` and `packages`: what the network of `net-lab` and its commands need.

use crate::cpio::Kind;
use crate::image::Image;
use crate::kernel::Kernel;
use crate::package_managers;
use crate::programs::{self, Error};
use crate::wire::LINK;
use std::path::Path;

/// MiB of memory for such a guest: its root file system is unpacked into it.
pub const MEMORY: u32 = 1536;

/// The programs of it that this machine has not.
pub fn missing() -> Vec<&'static str> {
    let programs = net_lab::PROGRAMS.iter().chain(net_lab::PACKAGE_MANAGERS).chain(&[net_lab::PYTHON, "xz"]);
    programs.copied().filter(|name| programs::find(name).is_none()).collect()
}

/// Adds all of it to a guest of this kernel; `scratch` is a directory that may be written to.
///
/// # Errors
/// What could not be packed.
pub fn pack(image: &mut Image, kernel: &Kernel, scratch: &Path) -> Result<(), Error> {
    for name in net_lab::PROGRAMS {
        match *name {
            "git" => programs::git(image)?,
            "node" => programs::node(image)?,
            other => programs::program(image, other)?,
        }
    }
    programs::python(image, Path::new(net_lab::PYTHON), net_lab::PYTHON_MODULES, scratch)?;
    programs::module(image, kernel, LINK)?;
    let names = b"passwd: files\ngroup: files\nhosts: files dns\n";
    image.put("/etc/nsswitch.conf", 0o644, 0, Kind::File(names.to_vec()));
    Ok(())
}

/// Adds the package managers to such a guest.
///
/// # Errors
/// What could not be packed.
pub fn pack_managers(image: &mut Image, scratch: &Path) -> Result<(), Error> {
    package_managers::npm(image)?;
    package_managers::pip(image, scratch)?;
    package_managers::cargo(image)
}
