//! Programs of this machine for a guest: each with the shared libraries that it needs, and Python with the modules
//! that are asked for.
//!
//! What a program opens by itself while it runs (its own data, plugins) whoever packs it must know.

use crate::cpio::Kind;
use crate::image::{self, Image};
use crate::kernel::Kernel;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not installed.
    #[error("there is no {0} in PATH: install what Debian has it in")]
    Missing(String),
    /// A file could not be read.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A program that helps with it failed.
    #[error("cannot {what}: {reason}")]
    Helper {
        /// What it was for.
        what: String,
        /// What it said.
        reason: String,
    },
}

/// Prints where each module's file is and its compiled form, which says that nobody need look whether it is fresh:
/// under emulation, compiling takes longer than all the rest.
const COMPILE: &str = r"
import importlib, os, py_compile, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
files = sorted({m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)})
for number, file in enumerate(files):
    print(file, file, sep='\t')
    if file.endswith('.py'):
        made = f'{sys.argv[1]}/{number}.pyc'
        py_compile.compile(file, made, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
        print(importlib.util.cache_from_source(file), made, sep='\t')
";

/// The program's file, if PATH has it; what begins with a slash is a file already.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(name));
    places.find(|place| place.is_file())
}

/// Adds the program of this name as /usr/bin/NAME, and its libraries where they are here.
///
/// # Errors
/// It is not installed, or cannot be read.
pub fn program(image: &mut Image, name: &str) -> Result<(), Error> {
    let from = find(name).ok_or_else(|| Error::Missing(name.to_owned()))?;
    binary(image, &from, &format!("/usr/bin/{name}"))
}

/// Adds a program or a library as `to`, and the libraries that it needs where they are here.
///
/// # Errors
/// It cannot be read.
pub fn binary(image: &mut Image, from: &Path, to: &str) -> Result<(), Error> {
    image.copy(from, to)?;
    let text =
        output(Command::new("ldd").arg(from), &format!("ask for the libraries of {}", from.display()))?;
    // "name => path (address)", or the loader alone: "path (address)".
    for word in text.lines().filter_map(|line| line.split_whitespace().rev().nth(1)) {
        if word.starts_with('/') {
            image.copy(Path::new(word), word)?;
        }
    }
    Ok(())
}

/// Adds a directory with all that is in it, where it is here.
///
/// # Errors
/// Something in it cannot be read.
pub fn tree(image: &mut Image, directory: &Path) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Helper {
        what: format!("read {}", directory.display()),
        reason: source.to_string(),
    };
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            tree(image, &path)?;
        } else {
            image.copy(&path, &path.to_string_lossy())?;
        }
    }
    Ok(())
}

/// Adds Python with these modules of its standard library and all that they import, compiled; `scratch` is a directory
/// that may be written to.
///
/// # Errors
/// It is not installed, or has not all of the modules.
pub fn python(image: &mut Image, python: &Path, modules: &[&str], scratch: &Path) -> Result<(), Error> {
    python_after(image, python, "", modules, scratch)
}

/// The same, and all that it has imported after these lines.
///
/// # Errors
/// Those of [`python`], and what the lines end with.
pub fn python_after(
    image: &mut Image,
    python: &Path,
    lines: &str,
    modules: &[&str],
    scratch: &Path,
) -> Result<(), Error> {
    binary(image, python, &python.to_string_lossy())?;
    std::fs::create_dir_all(scratch).map_err(|error| Error::Helper {
        what: format!("make {}", scratch.display()),
        reason: error.to_string(),
    })?;
    // Isolated, and without packages that somebody installed.
    let mut command = Command::new(python);
    command
        .args(["-I", "-S", "-c", &format!("{lines}{COMPILE}")])
        .arg(scratch)
        .args(["site", "sysconfig"])
        .args(modules);
    for line in output(&mut command, "collect Python's modules")?.lines() {
        let Some((to, from)) = line.split_once('\t') else { continue };
        if to.ends_with(".so") {
            binary(image, Path::new(from), to)?;
        } else {
            image.copy(Path::new(from), to)?;
        }
    }
    Ok(())
}

/// Adds git as it clones by HTTP: its helpers are programs of their own.
///
/// # Errors
/// It is not installed, or cannot be read.
pub fn git(image: &mut Image) -> Result<(), Error> {
    program(image, "git")?;
    let place = output(Command::new("git").arg("--exec-path"), "ask git where its helpers are")?;
    let place = Path::new(place.trim());
    for name in ["git-remote-https", "git-http-fetch"] {
        let from = place.join(name);
        binary(image, &from, &from.to_string_lossy())?;
    }
    let inner = place.join("git").to_string_lossy().into_owned();
    image.put(&inner, 0o777, 0, Kind::Symlink("/usr/bin/git".to_owned()));
    Ok(())
}

/// What Debian's Node reads when it starts, each in a package of its own. Others have it in the program.
const PARTS_OF_NODE: &[&str] = &["acorn", "acorn-walk", "cjs-module-lexer", "undici"];

/// Adds Node.
///
/// # Errors
/// It is not installed, or cannot be read.
pub fn node(image: &mut Image) -> Result<(), Error> {
    program(image, "node")?;
    let parts = PARTS_OF_NODE.iter().map(|part| Path::new("/usr/share/nodejs").join(part));
    parts.filter(|part| part.is_dir()).try_for_each(|part| tree(image, &part))
}

/// Adds a module of the kernel, taken out of its package, as /vm/NAME.ko.
///
/// # Errors
/// The package has no such module, or it cannot be unpacked.
pub fn module(image: &mut Image, kernel: &Kernel, name: &str) -> Result<(), Error> {
    let bytes = kernel.module(name).map_err(|error| Error::Helper {
        what: format!("unpack the kernel's module {name}"),
        reason: error.to_string(),
    })?;
    image.put(&format!("/vm/{name}.ko"), 0o644, 0, Kind::File(bytes));
    Ok(())
}

pub(crate) fn failed(what: String, reason: String) -> Error {
    Error::Helper { what, reason }
}

pub(crate) fn output(command: &mut Command, what: &str) -> Result<String, Error> {
    let what = what.to_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(what.clone(), error.to_string()))?;
    if !output.status.success() {
        return Err(failed(what, String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
