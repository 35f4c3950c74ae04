//! What a question is about, for who answers it for good (`always`): what was tried and by whom, and the file of the
//! policy that would have to say so.
//!
//! The runner tells; it never reads or writes the file once the run goes on. Whoever answers does, as the user that it is.

use std::ffi::OsStr;
use std::fs;
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use policy::{AccessSet, Act, Owner, Protocol, Subject};
use serde::{Deserialize, Serialize};

use super::calls::{Tried, with_acts};
use crate::event::decode::Unix;
use crate::launch::policy::{read, ships};
use crate::record::sha256_hex;

/// The one file that a run's policy lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFile {
    /// Where it is, without links.
    pub path: PathBuf,
    /// SHA-256 of what it held when the run began.
    pub sha256: String,
}

impl PolicyFile {
    /// The file of the policies that a run enforces.
    ///
    /// # Errors
    /// There is none that an answer could be written into, and why.
    pub fn of(law: &[PathBuf]) -> Result<PolicyFile, String> {
        let name = match law {
            [name] => name,
            [] => return Err("the run enforces no policy".to_owned()),
            _ => {
                return Err(format!(
                    "the run has {} policies, each of which must allow: write it into those that close it",
                    law.len()
                ));
            }
        };
        let shown = name.display();
        if ships(name) {
            return Err(format!(
                "{shown} ships with this program; enforce one of your own that extends it (`extends: [{shown}@VERSION]`)"
            ));
        }
        let unread = |error: std::io::Error| format!("{shown} cannot be read: {error}");
        let path = fs::canonicalize(name).map_err(unread)?;
        if !path.is_file() {
            return Err(format!("{shown} is no plain file"));
        }
        let sha256 = sha256_hex(&read(&path).map_err(unread)?);
        Ok(PolicyFile { path, sha256 })
    }

    /// The same, if it is what it was: what was read meanwhile was this.
    ///
    /// # Errors
    /// It was changed.
    pub fn unchanged(self) -> Result<PolicyFile, String> {
        match read(&self.path) {
            Ok(bytes) if sha256_hex(&bytes) == self.sha256 => Ok(self),
            _ => Err(format!("{} was changed while the run began", self.path.display())),
        }
    }

    /// The name by which the next text of the file is made, beside it. The run is kept from it while answers are written.
    pub fn next(&self) -> PathBuf {
        let mut name = OsStr::new(".").to_owned();
        name.push(self.path.file_name().unwrap_or_default());
        name.push(".sandbox-next");
        self.path.with_file_name(name)
    }
}

/// What is told about a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    acts: Vec<Told>,
    exe: Vec<u8>,
    ancestors: Vec<Vec<u8>>,
    file: Vec<u8>,
    next: Vec<u8>,
    /// SHA-256 of what the file may hold: what it held when the run began, and what answers made of it.
    pub sha256: Vec<String>,
}

/// An act, in numbers that both sides know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Told {
    File { accesses: u16, path: Vec<u8> },
    Exec { path: Vec<u8> },
    Address { accesses: u8, address: IpAddr, port: u16, protocol: u8, names: Vec<String> },
    Socket { accesses: u8, path: Vec<u8>, is_abstract: bool },
}

impl From<&Tried> for Told {
    fn from(tried: &Tried) -> Told {
        match tried {
            Tried::File { accesses, path } => {
                Told::File { accesses: accesses.path_bits(), path: path.clone() }
            }
            Tried::Exec { path } => Told::Exec { path: path.clone() },
            Tried::Address { accesses, address, port, protocol, names } => Told::Address {
                accesses: accesses.net_bits(),
                address: *address,
                port: *port,
                protocol: protocol.abi(),
                names: names.clone(),
            },
            Tried::Socket { accesses, path, unix } => Told::Socket {
                accesses: accesses.net_bits(),
                path: path.clone(),
                is_abstract: *unix == Unix::Abstract,
            },
        }
    }
}

impl From<&Told> for Tried {
    fn from(told: &Told) -> Tried {
        match told {
            Told::File { accesses, path } => {
                Tried::File { accesses: AccessSet::from_path_bits(*accesses), path: path.clone() }
            }
            Told::Exec { path } => Tried::Exec { path: path.clone() },
            Told::Address { accesses, address, port, protocol, names } => Tried::Address {
                accesses: AccessSet::from_net_bits(*accesses),
                address: *address,
                port: *port,
                protocol: Protocol::from_abi(*protocol),
                names: names.clone(),
            },
            Told::Socket { accesses, path, is_abstract } => Tried::Socket {
                accesses: AccessSet::from_net_bits(*accesses),
                path: path.clone(),
                unix: if *is_abstract { Unix::Abstract } else { Unix::Path },
            },
        }
    }
}

impl About {
    pub(super) fn new(
        tried: &[Tried],
        subject: &Subject<'_>,
        file: &PolicyFile,
        sha256: Vec<String>,
    ) -> About {
        About {
            acts: tried.iter().map(Told::from).collect(),
            exe: subject.exe.to_vec(),
            ancestors: subject.ancestors.iter().map(|exe| exe.to_vec()).collect(),
            file: file.path.as_os_str().as_bytes().to_vec(),
            next: file.next().into_os_string().into_vec(),
            sha256,
        }
    }

    /// The policy's file.
    pub fn file(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.file))
    }

    /// Where its next text is made.
    pub fn next(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.next))
    }

    /// Asks `judge` about the acts, with each of the owners that ends may have: the first is the one to write by.
    pub(super) fn each<T>(&self, mut judge: impl FnMut(&Subject<'_>, &[Act<'_>]) -> T) -> Vec<T> {
        let ancestors: Vec<&[u8]> = self.ancestors.iter().map(AsRef::as_ref).collect();
        let subject = Subject { exe: &self.exe, ancestors: &ancestors };
        let tried: Vec<Tried> = self.acts.iter().map(Tried::from).collect();
        // Whose listener it is was not asked; only on this machine can it be the run's.
        let is_here = |tried: &Tried| matches!(tried, Tried::Address { address, .. } if address.is_loopback() || address.is_unspecified());
        let owners: &[Owner] = match tried.iter().any(is_here) {
            true => &[Owner::Elsewhere, Owner::Run],
            false => &[Owner::Elsewhere],
        };
        owners.iter().map(|owner| with_acts(&tried, *owner, |acts| judge(&subject, acts))).collect()
    }
}
