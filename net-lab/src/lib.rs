//! A network of its own with servers in it, that commands run against, with and without a sandbox around them.
//!
//! [`Lab`] starts `python/lab.py`, which makes the network: a resolver (dnsmasq), web servers by HTTP and HTTPS of which
//! several share an address, a git repository, a resolver that nobody configured, a metadata service, and a database on
//! the machine of the commands. [`cases`] are what is tried, by `python/client.py` and the programs that it starts;
//! [`run`] tries one and compares what the command saw, what the servers got and what the record says.
//!
//! Each case has its control: tried without a sandbox, everything arrives. Root, Linux 5.6, and the programs of
//! [`PROGRAMS`] are needed; nothing outside of the network is touched.

pub mod cases;
mod record;
mod site;
mod trial;

pub use site::{Lab, PYTHON, Side};
pub use trial::{Case, Event, Mode, Move, Sandbox, Step, run};

/// The programs that the laboratory and its commands need, in PATH.
pub const PROGRAMS: &[&str] = &["ip", "dnsmasq", "openssl", "git", "curl", "node"];

/// What the cases of [`cases::packages`] need beside them.
pub const PACKAGE_MANAGERS: &[&str] = &["npm", "/usr/bin/pip3", "cargo", "rustc"];

/// The modules of Python that its programs import, for whoever packs them.
pub const PYTHON_MODULES: &[&str] = &[
    "base64",
    "ctypes",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.utf_8",
    "gzip",
    "hashlib",
    "io",
    "json",
    "shutil",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "tarfile",
    "tempfile",
    "threading",
    "urllib.request",
    "zipfile",
];
