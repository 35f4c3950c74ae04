//! Finds kernels in the cache, and fetches them from Debian's archive.
//!
//! A metapackage names the newest build of a series; apt resolves, downloads and verifies it. Only the
//! kernel image and its configuration are unpacked, the package itself stays beside them for its modules.
//! Nothing is installed, nothing needs root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where kernels are kept, if not in `.cache/kernels` of the workspace.
pub const CACHE_VARIABLE: &str = "VM_TESTS_KERNELS";

/// Debian's package, in a kernel's directory.
const PACKAGE: &str = "linux-image.deb";

/// A series of stock kernels that the tests run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// Its name here, `6.12`.
    pub name: &'static str,
    /// Debian's metapackage.
    pub metapackage: &'static str,
}

/// Every series, oldest first.
pub const SERIES: &[Series] = &[
    Series { name: "6.1", metapackage: "linux-image-cloud-amd64" },
    Series { name: "6.12", metapackage: "linux-image-6.12-cloud-amd64" },
];

/// A kernel in the cache.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The image.
    pub image: PathBuf,
    /// Its configuration, as Debian built it.
    pub config: PathBuf,
    /// Release, as `uname -r` prints it.
    pub release: String,
}

/// What went wrong with a kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a series of ours.
    #[error("no kernel series {0:?}: there are {list}", list = SERIES.iter().map(|s| s.name).collect::<Vec<_>>().join(", "))]
    Unknown(String),
    /// Not fetched yet.
    #[error("no kernel {series} in {}: run `cargo run --bin vm-tests -- fetch`", dir.display())]
    Missing {
        /// Name of the series.
        series: &'static str,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// A program failed.
    #[error("{program} failed ({status}) {what}")]
    Program {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: String,
        /// What it was doing, and what to do.
        what: String,
    },
    /// A package is not what we know.
    #[error("{0}")]
    Package(String),
    /// A file could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The cache: `$VM_TESTS_KERNELS`, else `.cache/kernels` in the workspace.
pub fn cache() -> PathBuf {
    std::env::var_os(CACHE_VARIABLE).map_or_else(|| crate::workspace().join(".cache/kernels"), PathBuf::from)
}

impl Kernel {
    /// A module of it, as the kernel loads it, out of the package beside the image.
    ///
    /// # Errors
    /// What dpkg-deb, tar or xz could not do; the package has not exactly one such module.
    pub fn module(&self, name: &str) -> Result<Vec<u8>, Error> {
        let deb = self.image.with_file_name(PACKAGE);
        let pattern = format!("./lib/modules/*/{name}.ko*");
        let dir = tempdir_beside(&self.image, name)?;
        let unpacked = unpack(&deb, &dir, &[&pattern]).and_then(|()| read_module(&dir, name));
        io_try("remove", &dir, fs::remove_dir_all(&dir))?;
        unpacked
    }
}

impl Series {
    /// The series of this name.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn named(name: &str) -> Result<Series, Error> {
        let found = SERIES.iter().find(|series| series.name == name);
        found.copied().ok_or_else(|| Error::Unknown(name.to_owned()))
    }

    /// Its kernel in the cache.
    ///
    /// # Errors
    /// [`Error::Missing`] when it was not fetched.
    pub fn find(self, cache: &Path) -> Result<Kernel, Error> {
        let dir = cache.join(self.name);
        let kernel = Kernel {
            image: dir.join("vmlinuz"),
            config: dir.join("config"),
            release: fs::read_to_string(dir.join("release")).unwrap_or_default().trim().to_owned(),
        };
        if kernel.release.is_empty() || !kernel.image.is_file() || !kernel.config.is_file() {
            return Err(Error::Missing { series: self.name, dir });
        }
        Ok(kernel)
    }

    /// Fetches the newest kernel that apt offers, unless the cache has it. Says what it does by `progress`.
    ///
    /// # Errors
    /// What apt or dpkg-deb could not do; the cache then holds what it held before.
    pub fn fetch(self, cache: &Path, mut progress: impl FnMut(&str)) -> Result<Kernel, Error> {
        let package = self.image_package()?;
        let version = self.candidate(&package)?;
        let stamp = format!("{package} {version}\n");
        let dir = cache.join(self.name);
        if fs::read_to_string(dir.join("package")).is_ok_and(|found| found == stamp)
            && let Ok(kernel) = self.find(cache)
        {
            progress(&format!("{}: {package} {version} is there", self.name));
            return Ok(kernel);
        }
        progress(&format!("{}: fetching {package} {version}", self.name));
        // apt-get leaves a file that is there and matches its hash alone, so a second try goes on from here.
        let fresh = cache.join(format!("{}.new", self.name));
        io_try("make", &fresh, fs::create_dir_all(&fresh))?;
        run(
            "apt-get",
            &["download", "-q", &format!("{package}={version}")],
            &fresh,
            "downloading the kernel",
        )?;
        let deb = only_deb(&fresh, &package)?;
        unpack(&deb, &fresh, &["./boot/vmlinuz-*", "./boot/config-*"])?;
        let release = package.trim_start_matches("linux-image-").to_owned();
        let moves = [
            (fresh.join(format!("boot/vmlinuz-{release}")), fresh.join("vmlinuz")),
            (fresh.join(format!("boot/config-{release}")), fresh.join("config")),
            (deb, fresh.join(PACKAGE)),
        ];
        for (from, to) in &moves {
            io_try("move", from, fs::rename(from, to))?;
        }
        for (name, text) in [("release", &format!("{release}\n")), ("package", &stamp)] {
            let path = fresh.join(name);
            io_try("write", &path, fs::write(&path, text))?;
        }
        if dir.exists() {
            io_try("remove", &dir, fs::remove_dir_all(&dir))?;
        }
        io_try("move", &fresh, fs::rename(&fresh, &dir))?;
        self.find(cache)
    }

    /// The package that the metapackage stands for at the moment.
    fn image_package(self) -> Result<String, Error> {
        let text = output("apt-cache", &["depends", "--important", self.metapackage], self.metapackage)?;
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        names.map(str::to_owned).find(|name| name.starts_with("linux-image-")).ok_or_else(|| {
            Error::Package(format!(
                "apt knows no kernel behind {}: needs Debian bookworm with bookworm-security in its sources, and \
                 `apt-get update`",
                self.metapackage
            ))
        })
    }

    fn candidate(self, package: &str) -> Result<String, Error> {
        let text = output("apt-cache", &["policy", package], package)?;
        let version = text.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
        version
            .filter(|version| *version != "(none)")
            .map(str::to_owned)
            .ok_or_else(|| Error::Package(format!("apt offers no {package}: run `apt-get update`")))
    }
}

fn io_try<T>(what: &'static str, path: &Path, result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::Io { what, path: path.to_path_buf(), source })
}

fn run(program: &'static str, arguments: &[&str], dir: &Path, what: &str) -> Result<(), Error> {
    // What apt says on its stdout is for people; stdout is for data.
    let status = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::Program { program, status: status.to_string(), what: what.to_owned() }),
        Err(error) => Err(Error::Program { program, status: error.to_string(), what: what.to_owned() }),
    }
}

fn output(program: &'static str, arguments: &[&str], about: &str) -> Result<String, Error> {
    let failed = |status: String| {
        let what = format!("asking about {about}: needs Debian bookworm's apt, and `apt-get update`");
        Error::Program { program, status, what }
    };
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The downloaded package.
fn only_deb(dir: &Path, package: &str) -> Result<PathBuf, Error> {
    let prefix = format!("{package}_");
    let entries = io_try("read", dir, fs::read_dir(dir))?;
    let mut debs: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
        .collect();
    debs.sort();
    debs.pop().ok_or_else(|| Error::Package(format!("apt-get left no {prefix}*.deb in {}", dir.display())))
}

/// A directory in the cache that nobody else uses.
fn tempdir_beside(image: &Path, name: &str) -> Result<PathBuf, Error> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = image.with_file_name(format!("{name}.{}.{number}", std::process::id()));
    io_try("make", &dir, fs::create_dir_all(&dir))?;
    Ok(dir)
}

/// The only file below a directory, which is a module and may be compressed.
fn read_module(dir: &Path, name: &str) -> Result<Vec<u8>, Error> {
    let mut found = Vec::new();
    files_below(dir, &mut found)?;
    let [file] = &*found else {
        return Err(Error::Package(format!("the kernel's package has {} modules {name}", found.len())));
    };
    if file.extension().is_none_or(|extension| extension != "xz") {
        return io_try("read", file, fs::read(file));
    }
    let failed = |status: String| {
        let what = format!("unpacking the module {name}");
        Error::Program { program: "xz", status, what }
    };
    let output = Command::new("xz").args(["-d", "-c"]).arg(file).stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() { Ok(output.stdout) } else { Err(failed(output.status.to_string())) }
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in io_try("read", dir, fs::read_dir(dir))? {
        let path = io_try("read", dir, entry)?.path();
        if path.is_dir() { files_below(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

/// Unpacks what these patterns name out of the package into `dir`.
fn unpack(deb: &Path, dir: &Path, patterns: &[&str]) -> Result<(), Error> {
    let failed = |program, status: String| {
        let what = format!("unpacking {}", deb.display());
        Error::Program { program, status, what }
    };
    let mut reader = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed("dpkg-deb", error.to_string()))?;
    let pipe = reader.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let tar = Command::new("tar")
        .args(["-x", "--no-same-owner", "--wildcards"])
        .args(patterns)
        .current_dir(dir)
        .stdin(pipe)
        .status();
    let reader = reader.wait().map_err(|error| failed("dpkg-deb", error.to_string()))?;
    match tar {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(failed("tar", status.to_string())),
        Err(error) => return Err(failed("tar", error.to_string())),
    }
    if reader.success() { Ok(()) } else { Err(failed("dpkg-deb", reader.to_string())) }
}
