//! npm, pip, cargo and what they need, for the guest of the suite `packages`: as this machine has them, without what
//! only people read.

use crate::cpio::Kind;
use crate::image::Image;
use crate::programs::{self, Error};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where packages of Debian have modules of Node. Its npm has most of its own there, each in a package of its own.
const SHARED: &str = "/usr/share/nodejs";

/// Adds npm with the modules that it is made of.
///
/// # Errors
/// It is not installed, or cannot be read.
pub fn npm(image: &mut Image) -> Result<(), Error> {
    let missing = || Error::Missing("npm".to_owned());
    let program = programs::find("npm").and_then(|path| path.canonicalize().ok()).ok_or_else(missing)?;
    // bin/npm-cli.js
    let module = program.parent().and_then(Path::parent).ok_or_else(missing)?;
    let mut needed = Vec::new();
    modules(image, module, &mut needed)?;
    let mut found = BTreeSet::new();
    while let Some(name) = needed.pop() {
        let module = Path::new(SHARED).join(&name);
        // The modules of one maker may share those that only they need, by a link beside them.
        let beside = module.with_file_name("node_modules");
        if beside.is_symlink() {
            add(image, &beside, &mut needed)?;
        }
        if module.is_dir() && found.insert(name) {
            modules(image, &module, &mut needed)?;
        }
    }
    let program = program.to_string_lossy().into_owned();
    image.put("/usr/bin/npm", 0o777, 0, Kind::Symlink(program));
    // By which its first line finds Node.
    programs::program(image, "env")
}

/// Adds a directory of modules, and the names of those that they need.
fn modules(image: &mut Image, directory: &Path, needed: &mut Vec<String>) -> Result<(), Error> {
    entries(directory)?.iter().try_for_each(|path| add(image, path, needed))
}

fn add(image: &mut Image, path: &Path, needed: &mut Vec<String>) -> Result<(), Error> {
    let name = path.to_string_lossy();
    let unreadable = |error: io::Error| programs::failed(format!("read {name}"), error.to_string());
    let is = |kind: &&str| path.extension().is_some_and(|found| found == *kind);
    if path.is_symlink() {
        let target = path.read_link().map_err(unreadable)?.to_string_lossy().into_owned();
        image.put(&name, 0o777, 0, Kind::Symlink(target));
    } else if path.is_dir() {
        if !["docs", "man", "test"].iter().any(|people| path.ends_with(people)) {
            modules(image, path, needed)?;
        }
    } else if path.ends_with("npmrc") || ["js", "cjs", "mjs", "json", "wasm"].iter().any(is) {
        image.copy(path, &name)?;
    }
    if path.ends_with("package.json") {
        let bytes = std::fs::read(path).map_err(unreadable)?;
        // Some are made to be wrong, for tests.
        let about: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let names = about["dependencies"].as_object().into_iter().flatten();
        needed.extend(names.map(|(name, _)| name.clone()));
    }
    Ok(())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = std::fs::read_dir(directory);
    let paths = entries.and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    paths.map_err(|error| programs::failed(format!("read {}", directory.display()), error.to_string()))
}

/// Where Debian has Python's packages.
const PYTHON_PACKAGES: &str = "/usr/lib/python3/dist-packages";

/// All of pip, and what Python looks for only when it is asked.
const IMPORT_PIP: &str = r"
import contextlib, encodings, pkgutil, sysconfig, sys
sys.path.append('/usr/lib/python3/dist-packages')
# Used only where Python has no TLS of its own.
sys.modules['OpenSSL'] = None
import pip
sysconfig.get_config_vars()
for package in encodings, pip:
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.', onerror=lambda name: None):
        # Some are for other systems.
        with contextlib.suppress(Exception):
            if not module.name.endswith('__main__'):
                __import__(module.name)
sys.modules['pip.__main__'] = type('', (), {'__file__': pip.__path__[0] + '/__main__.py'})
";

/// Adds pip, as a module of a Python that is there; `scratch` is a directory that may be written to.
///
/// # Errors
/// It is not installed, or cannot be read.
pub fn pip(image: &mut Image, scratch: &Path) -> Result<(), Error> {
    programs::python_after(image, Path::new(net_lab::PYTHON), IMPORT_PIP, &["runpy"], scratch)?;
    let about = entries(Path::new(PYTHON_PACKAGES))?;
    let about = about.iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("pip-") && path.is_dir()
    });
    about.into_iter().try_for_each(|directory| programs::tree(image, directory))
}

/// Adds cargo, and in rustc's place what gives the answers that rustc gave here: the compiler itself is larger than all
/// the rest, and cargo only asks it what it compiles for.
///
/// # Errors
/// They are not installed, or cannot be read.
pub fn cargo(image: &mut Image) -> Result<(), Error> {
    let rustc = |arguments: &[&str]| {
        programs::output(Command::new("rustc").args(arguments), &format!("run rustc {}", arguments.join(" ")))
    };
    // What is in PATH may only choose between several.
    let root = rustc(&["--print", "sysroot"])?;
    programs::binary(image, &Path::new(root.trim()).join("bin/cargo"), "/usr/bin/cargo")?;
    let version = rustc(&["-vV"])?;
    let mut asked = vec!["-", "--crate-name", "___", "--print=file-names"];
    for kind in ["bin", "rlib", "dylib", "cdylib", "staticlib", "proc-macro"] {
        asked.extend(["--crate-type", kind]);
    }
    asked.extend([
        "--print=sysroot",
        "--print=split-debuginfo",
        "--print=crate-name",
        "--print=cfg",
        "-Wwarnings",
    ]);
    let target = rustc(&asked)?;
    let script = format!(
        "#!{} -IS\nimport sys\nsys.stdout.write({version:?} if '-vV' in sys.argv else {target:?})\n",
        net_lab::PYTHON
    );
    image.put("/usr/bin/rustc", 0o755, 0, Kind::File(script.into_bytes()));
    Ok(())
}
