//! Standard descriptors that lead round the run's own mounts: which of them are opened again behind the mounts, and which
//! cannot be.
//!
//! They were opened outside, and `/proc/self/fd` opens what they lead to once more, by the mount outside. A directory leads
//! to all of the machine; a file to itself, with the accesses that only a cover keeps. What Landlock keeps it keeps there
//! too, and where hooks judge they judge by what is opened, so neither is asked about here but for a /tmp of the run's own.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use policy::compile::landlock::LandlockPlan;
use policy::compile::layers::{Kept, Layer};
use policy::pattern::Pattern;
use policy::{Access, AccessSet};

use crate::enforce::streams::Stream;
use crate::enforce::tmp::PrivateTmp;
use crate::launch::standard::{Kind, Standard};

/// What becomes of the standard descriptors.
#[derive(Debug, Default)]
pub struct Streams {
    /// Opened again.
    pub again: Vec<Stream>,
    /// Why others would lead round the mounts.
    pub unheld: Vec<String>,
}

/// What the mounts of a run are.
#[derive(Clone, Copy, Debug)]
pub struct Behind<'a> {
    /// What is denied beside the policies, the covers' part among it.
    pub kept: &'a [Kept],
    /// Landlock's plans.
    pub landlock: &'a [LandlockPlan],
    /// A /tmp of the run's own.
    pub tmp: Option<&'a PrivateTmp>,
}

/// What becomes of one.
enum Course {
    /// It leads nowhere that it may not.
    Stays,
    Again,
    /// What is to be done instead.
    Unheld(AccessSet, &'static str),
}

/// Looks at the descriptors of a run that has mounts of its own.
pub fn plan(found: &[Standard], behind: Behind<'_>) -> Streams {
    let mut streams = Streams::default();
    for one in found {
        match behind.course(one) {
            Course::Stays => {}
            Course::Again => {
                streams.again.push(Stream::new(one.descriptor, one.path.clone(), one.file));
            }
            Course::Unheld(accesses, advice) => {
                let around = match accesses.is_empty() {
                    true => "the run's own mounts".to_owned(),
                    false => format!("the mount over it, which keeps the command from it ({accesses})"),
                };
                let (name, path) = (one.name(), one.path.display());
                streams.unheld.push(format!("{name} is {path}, and leads round {around}; {advice}"));
            }
        }
    }
    streams
}

const ELSEWHERE: &str = "redirect it elsewhere";
const NAMELESS: &str = "its name was removed, so that it cannot be opened again behind it: use a pipe, or a file that has a name";
const APPEND: &str = "it cannot be opened again behind it without losing the place that others write at: append to it (`>>`), \
                      or use a pipe";

impl Behind<'_> {
    fn course(&self, one: &Standard) -> Course {
        let covered = self.covered(&one.path);
        let reads = one.accesses.contains(Access::Read);
        let code: AccessSet = [Access::Load, Access::Run].into_iter().collect();
        let closed = match one.kind {
            Kind::Directory => covered,
            // What cannot be read is not mapped either.
            Kind::Contents if covered.without(code).is_empty() && !reads && self.is_unreadable(&one.path) => {
                AccessSet::default()
            }
            Kind::Contents => covered,
            Kind::Other => covered.without(code),
        };
        if closed.is_empty() && one.kind != Kind::Directory {
            return Course::Stays;
        }
        let denied = closed.contains(Access::Read) || closed.overlaps(one.accesses);
        if denied || !self.stays(&one.path) {
            return Course::Unheld(closed, ELSEWHERE);
        }
        if !one.is_named {
            return Course::Unheld(closed, NAMELESS);
        }
        let shares_a_place = one.kind == Kind::Contents && one.accesses.contains(Access::Write);
        if shares_a_place && !one.appends {
            return Course::Unheld(closed, APPEND);
        }
        Course::Again
    }

    /// What mounts keep from the command at a path.
    fn covered(&self, path: &Path) -> AccessSet {
        let path = path.as_os_str().as_bytes();
        let laid = self.kept.iter().filter(|kept| kept.layer == Layer::Mountns);
        laid.filter(|kept| kept.places.iter().any(|place| place.matches(path)))
            .fold(AccessSet::default(), |all, kept| all.union(kept.accesses))
    }

    /// Whether Landlock keeps it from being opened to read, by whatever name.
    fn is_unreadable(&self, path: &Path) -> bool {
        let pattern = [Pattern::exactly(path.as_os_str().as_bytes())];
        self.landlock.iter().any(|plan| plan.denies(Access::Read, &pattern))
    }

    /// Whether a path is inside what it is outside.
    fn stays(&self, path: &Path) -> bool {
        let Some(tmp) = self.tmp else { return true };
        let is_new = tmp.places().iter().any(|place| path.starts_with(place));
        !is_new || tmp.kept().iter().any(|kept| path.starts_with(kept))
    }
}

#[cfg(test)]
mod tests {
    use policy::compile::landlock;
    use policy::{Policy, Variables};

    use super::*;

    fn standard(path: &str, kind: Kind, accesses: &[Access]) -> Standard {
        Standard {
            descriptor: 0,
            path: path.into(),
            file: (1, 2),
            kind,
            is_named: true,
            accesses: accesses.iter().copied().collect(),
            appends: false,
        }
    }

    fn kept(layer: Layer, accesses: &[Access], path: &str) -> Kept {
        let accesses = accesses.iter().copied().collect();
        Kept { layer, accesses, places: vec![Pattern::beneath(path.as_bytes())] }
    }

    const READ: &[Access] = &[Access::Read];
    const WRITE: &[Access] = &[Access::Write];

    fn said(one: Standard, tmp: Option<&PrivateTmp>) -> Result<bool, String> {
        let text = "version: 1\nname: p\nfiles:\n  default: deny\n  rules:\n    \
                    - { name: work, allow: [read, write], path: [\"/work/**\"] }\n";
        let policy = Policy::parse("p", text, &Variables::new()).unwrap_or_else(|errors| panic!("{errors}"));
        let landlock = [landlock::compile(&policy, 7)];
        let kept = [
            kept(Layer::Mountns, &[Access::Read, Access::Write, Access::Run], "/work/hidden"),
            kept(Layer::Mountns, &[Access::Write, Access::Attributes], "/work/config"),
            kept(Layer::Mountns, &[Access::Load, Access::Run], "/work/data"),
            kept(Layer::Mountns, &[Access::Load, Access::Run], "/home"),
            kept(Layer::Landlock, &[Access::Write], "/work/listed"),
        ];
        let streams = plan(&[one], Behind { kept: &kept, landlock: &landlock, tmp });
        match streams.unheld.first() {
            Some(line) => Err(line.clone()),
            None => Ok(!streams.again.is_empty()),
        }
    }

    #[test]
    fn what_only_a_cover_keeps_is_opened_again_behind_it() {
        let of = |path: &str, kind, accesses| said(standard(path, kind, accesses), None);
        assert_eq!(of("/work/config", Kind::Contents, READ), Ok(true));
        assert_eq!(of("/work/config", Kind::Contents, &[]), Ok(true), "a handle opens it as well");
        assert_eq!(of("/work/data/tool", Kind::Contents, READ), Ok(true));
        // Landlock keeps it there too.
        assert_eq!(of("/work/listed", Kind::Contents, READ), Ok(false));
        assert_eq!(of("/work/other", Kind::Contents, &[Access::Read, Access::Write]), Ok(false));
        // Whatever directory it is, all others are reached from it.
        assert_eq!(of("/work/other", Kind::Directory, READ), Ok(true));
        assert_eq!(of("/work/config", Kind::Directory, READ), Ok(true));
        // No code is there.
        assert_eq!(of("/work/data/terminal", Kind::Other, &[Access::Read, Access::Write]), Ok(false));
        assert_eq!(of("/work/config", Kind::Other, READ), Ok(true));
    }

    #[test]
    fn what_cannot_be_opened_again_is_not_held() {
        let of = |path: &str, kind, accesses| said(standard(path, kind, accesses), None);
        let line = of("/work/hidden", Kind::Contents, WRITE).unwrap_err();
        assert_eq!(
            line,
            "standard input is /work/hidden, and leads round the mount over it, which keeps the command from it \
             (read, write, run); redirect it elsewhere"
        );
        assert!(of("/work/hidden/x", Kind::Directory, &[]).is_err());
        assert!(of("/work/config", Kind::Contents, WRITE).is_err());
        assert!(of("/work/data/log", Kind::Contents, WRITE).unwrap_err().contains("append to it"));
        let log = Standard { appends: true, ..standard("/work/data/log", Kind::Contents, WRITE) };
        assert_eq!(said(log.clone(), None), Ok(true));
        // Nobody reads it again, so nobody maps it.
        assert_eq!(of("/home/log", Kind::Contents, WRITE), Ok(false));
        assert_eq!(of("/home/log", Kind::Contents, READ), Ok(true));
        let nameless = Standard { is_named: false, ..log };
        assert!(said(nameless, None).unwrap_err().contains("its name was removed"));
        let nameless = Standard { is_named: false, ..standard("/work/other", Kind::Contents, WRITE) };
        assert_eq!(said(nameless, None), Ok(false));
    }

    #[test]
    fn a_directory_that_a_private_tmp_replaces_leads_out_of_it() {
        let tmp = PrivateTmp::new(vec!["/tmp".into()], vec!["/tmp/a/work".into()], Vec::new());
        let of = |path: &str| said(standard(path, Kind::Directory, READ), Some(&tmp));
        for path in ["/tmp", "/tmp/a", "/tmp/other"] {
            assert_eq!(
                of(path).unwrap_err(),
                format!(
                    "standard input is {path}, and leads round the run's own mounts; redirect it elsewhere"
                )
            );
        }
        for path in ["/", "/tmp/a/work", "/tmp/a/work/src", "/tmpfs"] {
            assert_eq!(of(path), Ok(true), "{path}");
        }
    }
}
