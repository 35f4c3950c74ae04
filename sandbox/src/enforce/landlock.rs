//! The plans of Landlock to the kernel (landlock(7)): places are opened before the command's process takes its user's
//! identity, and it restricts itself before it executes the command.
//!
//! Each policy that is law is a ruleset of its own: what one of them denies is denied. What a plan holds is its own to
//! say ([`policy::compile::landlock`]); this module grants exactly what it lists, or fails. One thing it adds: where a program
//! may be executed, the loaders of the system may be too. The kernel asks for the loader of each dynamically linked program
//! as for the program, so that without it none would start, and policies do not name loaders: hooks tell the two apart. It opens
//! nothing that the plan holds: `run` is held only where what may not be run cannot be read either, and a loader that cannot be
//! read is not executed.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use landlock::{
    AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use policy::Policies;
use policy::compile::landlock::{LandlockPlan, PathRule, Place, PortRule, compile, right};

/// `LANDLOCK_CREATE_RULESET_VERSION` (include/uapi/linux/landlock.h).
const VERSION: u32 = 1;

/// The rights on a place that only directories have.
const OF_FILES: u64 = right::OF_FILES;

/// The loaders of dynamically linked programs as programs name them (PT_INTERP of elf(5)): glibc's and musl's for this machine
/// and its 32-bit programs.
const LOADERS: [&str; 8] = if cfg!(target_arch = "aarch64") {
    [
        "/lib/ld-linux-aarch64.so.1",
        "/lib64/ld-linux-aarch64.so.1",
        "/lib/ld-linux-armhf.so.3",
        "/lib/ld-linux.so.3",
        "/lib/ld-musl-aarch64.so.1",
        "/lib/ld-musl-armhf.so.1",
        "/lib/ld-musl-arm.so.1",
        "/usr/lib/ld-linux-aarch64.so.1",
    ]
} else {
    [
        "/lib64/ld-linux-x86-64.so.2",
        "/lib/ld-linux-x86-64.so.2",
        "/usr/lib64/ld-linux-x86-64.so.2",
        "/libx32/ld-linux-x32.so.2",
        "/lib/ld-linux.so.2",
        "/lib/ld-musl-x86_64.so.1",
        "/lib/ld-musl-i386.so.1",
        "/usr/lib/ld-musl-x86_64.so.1",
    ]
};

/// The newest ABI that plans are made for.
const NEWEST: u32 = 7;

/// Why there is no Landlock.
#[derive(Debug, thiserror::Error)]
pub enum LandlockError {
    /// The kernel does not have it, or did not start it.
    #[error(
        "the kernel has no Landlock (5.13, CONFIG_SECURITY_LANDLOCK), or `landlock` is not among its active \
             security modules: {0}"
    )]
    Absent(io::Error),
    /// A place cannot be looked at.
    #[error("cannot open {path}, which the policy allows")]
    Open {
        /// Which.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

/// The newest version of the interface that the kernel has.
///
/// # Errors
/// It has none.
pub fn abi() -> Result<u32, LandlockError> {
    // SAFETY: with this flag the call takes no attributes: a null pointer and a length of 0.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, VERSION)
    };
    match u32::try_from(version) {
        Ok(version) if version > 0 => Ok(version.min(NEWEST)),
        _ => Err(LandlockError::Absent(io::Error::last_os_error())),
    }
}

/// What the command's process puts around itself.
#[derive(Debug)]
pub struct Fence {
    plans: Vec<LandlockPlan>,
    rulesets: Vec<Granted>,
    notes: Vec<String>,
}

/// What one policy grants.
#[derive(Debug)]
struct Granted {
    handled_files: u64,
    handled_ports: u64,
    scopes: u64,
    /// Never closed here: the processes of a run close what is not theirs by number, and exec does.
    places: Vec<(ManuallyDrop<OwnedFd>, u64)>,
    ports: Vec<PortRule>,
}

impl Fence {
    /// Opens what the policies grant.
    ///
    /// # Errors
    /// There is no Landlock, or a place that is there cannot be opened.
    pub fn prepare(policies: &Policies) -> Result<Fence, LandlockError> {
        let abi = abi()?;
        let plans: Vec<LandlockPlan> = policies.iter().map(|policy| compile(policy, abi)).collect();
        Fence::of(plans)
    }

    /// Opens what plans grant.
    ///
    /// # Errors
    /// A place that is there cannot be opened.
    pub fn of(plans: Vec<LandlockPlan>) -> Result<Fence, LandlockError> {
        let (mut rulesets, mut absent) = (Vec::new(), Vec::new());
        for plan in plans.iter().filter(|plan| !plan.is_empty()) {
            let mut places = Vec::new();
            for rule in &plan.paths {
                match open(rule)? {
                    Opened::Place(fd, rights) => places.push((ManuallyDrop::new(fd), rights)),
                    Opened::Absent if rule.rights & right::MAKE != 0 => {
                        absent.push(String::from_utf8_lossy(&rule.path).into_owned());
                    }
                    Opened::Absent | Opened::Other => {}
                }
            }
            let runs = plan.paths.iter().any(|rule| rule.rights & plan.handled_files & right::EXECUTE != 0);
            let loaders = LOADERS.iter().filter(|_| runs).filter_map(|name| loader(name));
            places.extend(loaders.map(|fd| (ManuallyDrop::new(fd), right::EXECUTE)));
            let LandlockPlan { handled_files, handled_ports, scopes, ref ports, .. } = *plan;
            rulesets.push(Granted { handled_files, handled_ports, scopes, places, ports: ports.clone() });
        }
        Ok(Fence { plans, rulesets, notes: not_there(absent) })
    }

    /// What each policy's part is, in the order of the policies.
    pub fn plans(&self) -> &[LandlockPlan] {
        &self.plans
    }

    /// What the user should know of it before the command starts.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Restricts the calling thread and what it executes, for good, with no_new_privs.
    ///
    /// # Errors
    /// The kernel refuses; then the caller must not go on, since a part may hold.
    pub fn restrict(&self, ports: Ports) -> io::Result<()> {
        self.rulesets.iter().try_for_each(|granted| granted.restrict(ports))
    }
}

/// Puts the calling thread, and whatever it makes, into a domain that signals nobody outside of it, for good, with
/// no_new_privs. Nothing else is restricted, but that it mounts nothing any more.
///
/// # Errors
/// The kernel has no scopes (ABI 6), or refuses.
pub fn scope_signals() -> io::Result<()> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let created = ruleset
        .scope(Scope::Signal)
        .and_then(|ruleset| ruleset.handle_access(AccessFs::Refer))
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    match names_may_move(created)?.restrict_self().map_err(io::Error::other)?.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        _ => Err(io::Error::other("the kernel holds a part of it only")),
    }
}

/// Opens what a domain that is about no files closes nevertheless as soon as another one is about some: to link and rename
/// from one directory to another (landlock(7), LANDLOCK_ACCESS_FS_REFER).
fn names_may_move(created: RulesetCreated) -> io::Result<RulesetCreated> {
    let root = PathFd::new("/").map_err(io::Error::other)?;
    created.add_rule(PathBeneath::new(root, AccessFs::Refer)).map_err(io::Error::other)
}

/// Whether ports of TCP are restricted too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// They are.
    Held,
    /// They are not: in a network namespace the relay listens somewhere, and judges where it leads.
    Free,
}

impl Granted {
    fn restrict(&self, ports: Ports) -> io::Result<()> {
        let handled_ports = match ports {
            Ports::Held => self.handled_ports,
            Ports::Free => 0,
        };
        if self.handled_files == 0 && handled_ports == 0 && self.scopes == 0 {
            return Ok(());
        }
        let created = self.ruleset(handled_ports).map_err(io::Error::other)?;
        // What is about no files closes nothing of them.
        let created = if self.handled_files == 0 { names_may_move(created)? } else { created };
        match created.restrict_self().map_err(io::Error::other)?.ruleset {
            RulesetStatus::FullyEnforced => Ok(()),
            _ => Err(io::Error::other("the kernel holds a part of it only")),
        }
    }

    fn ruleset(&self, handled_ports: u64) -> Result<RulesetCreated, RulesetError> {
        let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        ruleset = ruleset.handle_access(match self.handled_files {
            // Ports and scopes are newer than this right.
            0 => AccessFs::Refer.into(),
            handled => files(handled),
        })?;
        if handled_ports != 0 {
            ruleset = ruleset.handle_access(BitFlags::<AccessNet>::from_bits_truncate(handled_ports))?;
        }
        if self.scopes != 0 {
            ruleset = ruleset.scope(BitFlags::<Scope>::from_bits_truncate(self.scopes))?;
        }
        let mut created = ruleset.create()?;
        for (place, rights) in &self.places {
            let rights = rights & self.handled_files;
            if rights != 0 {
                created = created.add_rule(PathBeneath::new(place.as_fd(), files(rights)))?;
            }
        }
        for rule in self.ports.iter().filter(|rule| rule.rights & handled_ports != 0) {
            let rights = BitFlags::<AccessNet>::from_bits_truncate(rule.rights & handled_ports);
            created = created.add_rule(NetPort::new(rule.port, rights))?;
        }
        Ok(created)
    }
}

/// Plans know no right that the crate does not know: see the test.
fn files(rights: u64) -> BitFlags<AccessFs> {
    BitFlags::<AccessFs>::from_bits_truncate(rights)
}

/// What is at a place.
enum Opened {
    Place(OwnedFd, u64),
    /// Nothing.
    Absent,
    /// Something that the rule is not about: a directory where it names a file, or a symbolic link, whose target is
    /// granted by a name of its own.
    Other,
}

fn open(rule: &PathRule) -> Result<Opened, LandlockError> {
    let failed =
        |source| LandlockError::Open { path: String::from_utf8_lossy(&rule.path).into_owned(), source };
    let path = CString::new(rule.path.clone()).map_err(|error| failed(error.into()))?;
    // SAFETY: an all-zero open_how is one (openat2(2)).
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::try_from(libc::O_PATH | libc::O_CLOEXEC).unwrap_or(0);
    how.resolve = libc::RESOLVE_NO_SYMLINKS;
    // SAFETY: the path ends in NUL, and the structure's size is given.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), &raw const how, size_of_val(&how))
    };
    let fd = match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for the caller alone.
        Ok(fd) if fd >= 0 => unsafe { OwnedFd::from_raw_fd(fd) },
        _ => {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => Ok(Opened::Absent),
                Some(libc::ELOOP) => Ok(Opened::Other),
                // Who may not look at it has no use of it.
                Some(libc::EACCES) => Ok(Opened::Other),
                _ => Err(failed(error)),
            };
        }
    };
    let file = File::from(fd);
    let found = file.metadata().map_err(failed)?;
    match (rule.place, found.is_dir()) {
        (Place::File, true) => Ok(Opened::Other),
        (_, true) => Ok(Opened::Place(file.into(), rule.rights)),
        // What a directory has beside that has no meaning at a file.
        (_, false) => Ok(Opened::Place(file.into(), rule.rights & OF_FILES)),
    }
}

/// A loader behind the links to it, if it is there: the file that the kernel executes.
fn loader(name: &str) -> Option<OwnedFd> {
    let file = File::options().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(name).ok()?;
    file.metadata().is_ok_and(|found| found.is_file()).then(|| file.into())
}

/// Most places that a note names.
const NAMED: usize = 3;

/// What is made later is not granted: there is nothing yet to grant it at.
fn not_there(mut absent: Vec<String>) -> Vec<String> {
    absent.sort();
    absent.dedup();
    let named = absent.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match absent.len() {
        0 => Vec::new(),
        count if count <= NAMED => vec![format!(
            "Landlock grants nothing where nothing is when the run starts: make {named} first if the command is to \
             write there"
        )],
        count => vec![format!(
            "Landlock grants nothing where nothing is when the run starts: make {named} or {} more that the policy \
             allows first if the command is to write there",
            count - NAMED
        )],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_of_a_plan_is_known() {
        let all = right::OF_FILES
            | right::READ_DIR
            | right::REMOVE_DIR
            | right::REMOVE_FILE
            | right::MAKE
            | right::MAKE_DEVICES
            | right::REFER;
        assert_eq!(files(all).bits(), all);
        assert_eq!(all, (1 << 16) - 1);
        let ports = right::BIND_TCP | right::CONNECT_TCP;
        assert_eq!(BitFlags::<AccessNet>::from_bits_truncate(ports).bits(), ports);
        let scopes = right::SCOPE_ABSTRACT | right::SCOPE_SIGNAL;
        assert_eq!(BitFlags::<Scope>::from_bits_truncate(scopes).bits(), scopes);
    }

    #[test]
    fn what_is_not_there_is_told_in_one_line() {
        assert!(not_there(Vec::new()).is_empty());
        let many = ["/a", "/b", "/c", "/d", "/d"].map(str::to_owned).to_vec();
        assert!(not_there(many)[0].contains("/a, /b, /c or 1 more"));
    }
}
