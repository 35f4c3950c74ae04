//! Reading runs back: lists, and the story of one run.
//!
//! [`list`] says what stands in the stores, [`view`] reads one log into what a person wants to know of it,
//! [`denials`] takes what was denied from it, [`query`] answers questions about it, [`learn`] gathers what a policy can be learned from, [`replay`] puts what was recorded to a policy, [`start`] reads a log's first line, and [`text`] makes bytes that
//! an adversary chose safe to print. Nothing here writes to a record.

mod asking;
pub mod denials;
pub mod learn;
pub mod list;
pub mod query;
pub mod replay;
pub mod start;
pub mod text;
pub mod timeline;
pub mod view;

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::Path;

use nix::unistd::{Uid, User};

use crate::record::store::{Account, FoundStores, Place};

/// The stores that the runs of whoever calls are in: under sudo those of the invoking user, and root's own.
pub fn stores() -> FoundStores {
    FoundStores::for_reading(&place())
}

/// Where whoever calls records: under sudo for the invoking user.
pub fn place() -> Place {
    let recorder = account(Uid::effective());
    let invoker = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok()).map(Uid::from_raw);
    let reader = match invoker {
        Some(invoker) if recorder.uid == 0 => account(invoker),
        _ => recorder.clone(),
    };
    let sandbox_home = std::env::var_os("SANDBOX_HOME").filter(|home| !home.is_empty()).map(Into::into);
    Place { sandbox_home, recorder, reader }
}

/// A user as the user database has it; one that it does not know has HOME, or nothing, for a home.
pub fn account(uid: Uid) -> Account {
    match User::from_uid(uid) {
        Ok(Some(user)) => Account { uid: uid.as_raw(), gid: user.gid.as_raw(), home: user.dir },
        _ => {
            let home = std::env::var_os("HOME").unwrap_or_default().into();
            Account { uid: uid.as_raw(), gid: uid.as_raw(), home }
        }
    }
}

/// Says on a terminal that a log is so long that what is done with it takes a while.
pub(crate) fn tell_wait(log: &Path, what: &str) {
    /// About a second's work on a machine of today, in bytes.
    const LONG: u64 = 64 << 20;
    let bytes = log.metadata().map_or(0, |about| about.len());
    if bytes >= LONG && std::io::stderr().is_terminal() {
        crate::error::say(&format!("{what} ({} MiB); this takes a while", text::grouped(bytes >> 20)));
    }
}

/// The width of a terminal in characters, if it tells one; `None` for everything else (TIOCGWINSZ is ENOTTY there).
pub fn terminal_width(terminal: impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}
