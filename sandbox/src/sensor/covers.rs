//! Which places are covered by mounts of the run's own: what rules deny at places that can be pointed at, where nothing
//! else holds it.
//!
//! Only looks; [`crate::enforce::mountns`] lays them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use policy::compile::landlock::{LandlockPlan, Place};
use policy::compile::layers::{Kept, Layer, Layers, Uncovered};
use policy::pattern::Pattern;
use policy::{Access, AccessSet, Policy};

use super::other_names::{Look, OpenBeside, is_special};
use crate::enforce::mountns::{Cover, Mounts};
use crate::enforce::places::Seen;
use crate::enforce::tmp::PrivateTmp;

/// What is denied where something empty lies over a place.
const HIDDEN: [Access; 7] = [
    Access::Read,
    Access::Write,
    Access::Create,
    Access::Delete,
    Access::Attributes,
    Access::Load,
    Access::Run,
];

/// What is denied where it is read-only.
const READ_ONLY: [Access; 4] = [Access::Write, Access::Create, Access::Delete, Access::Attributes];

/// What is denied where it is for data only.
const NO_EXEC: [Access; 2] = [Access::Load, Access::Run];

/// The words of `kernel` without which covers hold nothing: mounts are changed inside, or looked round outside.
pub const NEEDED: [&str; 2] = ["mount", "ptrace-any"];

/// Covers, and what they hold.
#[derive(Debug, Default)]
pub struct Covers {
    /// What is laid.
    pub mounts: Mounts,
    /// What that denies.
    pub kept: Vec<Kept>,
    /// Where something empty is to be laid under them, in a /tmp of the run's own.
    pub made: Vec<PathBuf>,
    /// Why some of what was to be covered would be open all the same, and is not counted.
    pub open: BTreeSet<String>,
    /// What the user should know of it.
    pub notes: Vec<String>,
}

/// Plans the covers of a run that has these layers; `tmp`: and a /tmp of its own.
pub fn plan(layers: &Layers<'_>, policies: &[&Policy], tmp: Option<&PrivateTmp>) -> Covers {
    let is_hidden = |path: &Path| tmp.is_some_and(|tmp| tmp.hides(path));
    let mut covers = Covers::default();
    if NEEDED.iter().any(|word| !layers.words.contains_key(word)) {
        return covers;
    }
    let uncovered = layers.uncovered(policies);
    let (mut absent, mut by_link) = (Vec::new(), Vec::new());
    let mut beside = Beside::default();
    for one in &uncovered {
        let path = PathBuf::from(OsStr::from_bytes(&one.path));
        match look(&path) {
            Found::There(found) => {
                // A rule on a directory alone says nothing of what is in it, and a cover would.
                let alone = one.place == Place::File && found.is_dir();
                if !alone && path != Path::new("/") {
                    match is_hidden(&path) {
                        true => covers.cover(one, (&path, &found), &[], layers.landlock),
                        false => match beside.names(&path, &found) {
                            Ok(special) => covers.cover(one, (&path, &found), &special, layers.landlock),
                            Err(why) => _ = covers.open.insert(why),
                        },
                    }
                }
                // What the rule is about is out of reach; what the command would make by its name is denied all the same.
                covers.made.extend(is_hidden(&path).then_some(path));
            }
            Found::Absent => absent.push((one, path)),
            Found::Shut(directory) => {
                covers.open.insert(format!(
                    "nobody can look into {}, which is yours and may be opened during the run: `chmod u+rx` it",
                    directory.display()
                ));
            }
            Found::ByLink => by_link.push((one, path)),
        }
    }
    for (one, path) in by_link {
        covers.follow(one, &path, layers.landlock);
    }
    for (path, place) in layers.read_only_as_data(policies) {
        let path = Path::new(OsStr::from_bytes(&path));
        if is_hidden(path) {
            // Nothing of it is there inside, so nothing is granted by this name.
            covers.kept.push(no_code(Pattern::beneath(path.as_os_str().as_bytes())));
            continue;
        }
        covers.data(path, place, policies, layers.landlock);
    }
    let mut later: Vec<String> = Vec::new();
    for (one, path) in absent {
        // Where nobody inside can make it there will be nothing to deny.
        let layer = match denied(layers.landlock, Access::Create, &path) {
            true => Layer::Landlock,
            false if covers.denies(Access::Create, &path) => Layer::Mountns,
            false => continue,
        };
        covers.kept.push(kept(layer, one.accesses, &path));
        if !is_hidden(&path) {
            covers.expect(&path);
        }
        // What the kernel itself would put there is no file that somebody makes.
        if one.accesses.contains(Access::Read) && !is_hidden(&path) && !path.starts_with("/proc") {
            later.push(path.display().to_string());
        }
    }
    covers.notes.sort();
    covers.notes.dedup();
    later.sort();
    later.dedup();
    if let Some(first) = later.first() {
        let more = match later.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        covers.notes.push(format!(
            "{first}{more}: not there now; what somebody outside puts there during the run is open to it"
        ));
    }
    covers
}

/// What is at a place.
enum Found {
    There(Metadata),
    Absent,
    /// It cannot be told: this directory above it is closed to its own owner, who may open it.
    Shut(PathBuf),
    /// A symbolic link is on the way: the place has another path, by which it is covered.
    ByLink,
}

fn look(path: &Path) -> Found {
    match (fs::symlink_metadata(path), fs::canonicalize(path)) {
        (Ok(found), Ok(real)) if real == path => Found::There(found),
        (Ok(_), _) => Found::ByLink,
        (Err(error), _) => {
            // What is above it must have this very path, for a name in it to be this one.
            let above = path.ancestors().skip(1).find(|above| fs::symlink_metadata(above).is_ok());
            if error.kind() == io::ErrorKind::PermissionDenied
                && let Some(directory) = above.filter(|above| is_own(above))
            {
                return Found::Shut(directory.to_owned());
            }
            match above.map(|above| (above, fs::canonicalize(above))) {
                Some((above, Ok(real))) if real == above => Found::Absent,
                _ => Found::ByLink,
            }
        }
    }
}

fn is_own(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw())
}

/// A look for other names of what is to be covered, at each place once.
#[derive(Debug, Default)]
struct Beside {
    look: Look,
    known: BTreeMap<PathBuf, Result<Vec<PathBuf>, String>>,
}

impl Beside {
    /// Fails where what lies at a place has other names, by which it would not be covered, or that is not known; gives what
    /// below it is written to through a read-only mount.
    fn names(&mut self, path: &Path, found: &Metadata) -> Result<Vec<PathBuf>, String> {
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        let names = match found.is_dir() {
            true => self.look.beneath(path),
            false if found.nlink() > 1 => Err(OpenBeside::Named(path.to_owned())),
            false => Ok(Vec::new()),
        };
        let names = names.map_err(|open| open.to_string());
        self.known.insert(path.to_owned(), names.clone());
        names
    }
}

/// Whether some plan denies an access to a place and to all below it.
fn denied(plans: &[LandlockPlan], access: Access, path: &Path) -> bool {
    let pattern = [Pattern::beneath(path.as_os_str().as_bytes())];
    plans.iter().any(|plan| plan.denies(access, &pattern))
}

/// What Landlock keeps of a name by which it grants nothing.
fn no_code(place: Pattern) -> Kept {
    Kept { layer: Layer::Landlock, accesses: NO_EXEC.into_iter().collect(), places: vec![place] }
}

/// What is at a place now. Where that cannot be told, what is there later is not what was seen.
fn seen(path: &Path) -> Seen {
    Seen::at(path).unwrap_or(Seen::Nothing)
}

fn kept(layer: Layer, accesses: AccessSet, path: &Path) -> Kept {
    Kept { layer, accesses, places: vec![Pattern::beneath(path.as_os_str().as_bytes())] }
}

impl Covers {
    /// Whether what is covered so far denies an access to a place.
    fn denies(&self, access: Access, path: &Path) -> bool {
        let denying = self.kept.iter().filter(|kept| kept.accesses.contains(access));
        denying.flat_map(|kept| &kept.places).any(|place| place.matches(path.as_os_str().as_bytes()))
    }

    /// Whether a cover keeps all below a place from being run.
    fn is_data(&self, path: &Path) -> bool {
        let laid = self.kept.iter().filter(|kept| kept.layer == Layer::Mountns);
        laid.filter(|kept| kept.accesses.contains(Access::Run))
            .flat_map(|kept| &kept.places)
            .any(|place| place.matches(path.as_os_str().as_bytes()))
    }

    /// Covers what lies at a place. Where it is to be read-only, what no mount makes so (`special`, below it) is hidden.
    fn cover(
        &mut self,
        one: &Uncovered,
        (path, found): (&Path, &Metadata),
        special: &[PathBuf],
        plans: &[LandlockPlan],
    ) {
        let any = |accesses: &[Access]| accesses.iter().any(|access| one.accesses.contains(*access));
        let mut laid: Vec<(Cover, &[Access])> = Vec::new();
        let (reads, changes) = (one.accesses.contains(Access::Read), any(&READ_ONLY));
        let itself = is_special(found.file_type()) && changes;
        if reads || itself {
            laid.push((Cover::HIDDEN, &HIDDEN));
        } else {
            let parts: [(Cover, &[Access]); 2] = [(Cover::READ_ONLY, &READ_ONLY), (Cover::NO_EXEC, &NO_EXEC)];
            laid.extend(parts.into_iter().filter(|(_, accesses)| any(accesses)));
        }
        for (cover, accesses) in laid {
            self.lay(path, Seen::File(found.dev(), found.ino()), (cover, accesses), plans);
        }
        let hidden = special.iter().filter(|_| changes).map(PathBuf::as_path).chain(itself.then_some(path));
        for path in hidden.filter(|_| !reads) {
            if !self.denies(Access::Read, path) {
                self.lay(path, seen(path), (Cover::HIDDEN, &HIDDEN), plans);
            }
            self.notes.push(format!(
                "{}: closed for reading too, since nothing else keeps a FIFO or a device from being written to",
                path.display()
            ));
        }
    }

    /// Has a place stay as it is until the covers lie: what is told of it would not hold otherwise.
    fn expect(&mut self, path: &Path) {
        self.mounts.expect(path.to_owned(), seen(path));
    }

    /// A place whose path leads through a symbolic link that nobody inside can remove: no file has that path, and what it
    /// leads to is held by the path that it has.
    fn follow(&mut self, one: &Uncovered, path: &Path, plans: &[LandlockPlan]) {
        let is_link = |path: &&Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        let (Ok(real), Some(link)) = (fs::canonicalize(path), path.ancestors().filter(is_link).last()) else {
            return;
        };
        let held = |access: Access| self.denies(access, &real) || denied(plans, access, &real);
        if denied(plans, Access::Delete, link) && one.accesses.iter().all(held) {
            self.kept.push(kept(Layer::Landlock, one.accesses, path));
            self.expect(link);
        }
    }

    /// Closes a place that may be read and holds no code, as far up as nothing may be run or mapped as code.
    fn data(&mut self, path: &Path, place: Place, policies: &[&Policy], plans: &[LandlockPlan]) {
        let exact = || Pattern::exactly(path.as_os_str().as_bytes());
        match fs::symlink_metadata(path) {
            // What is not there, and the target of a link, is not granted by this name; nor is a directory alone.
            Err(_) => {
                self.kept.push(no_code(Pattern::beneath(path.as_os_str().as_bytes())));
                self.expect(path);
            }
            Ok(found) if found.is_symlink() || (place == Place::File && found.is_dir()) => {
                self.kept.push(no_code(exact()));
            }
            // Grants follow no link on the way either.
            Ok(_) if !matches!(look(path), Found::There(_)) => {
                self.kept.push(no_code(Pattern::beneath(path.as_os_str().as_bytes())));
            }
            Ok(found) => {
                let closed = |path: &Path| {
                    path != Path::new("/") && Layers::is_closed_to_code(policies, path.as_os_str().as_bytes())
                };
                let widest = path.ancestors().take_while(|above| closed(above)).last().map(Path::to_owned);
                match widest.filter(|widest| !self.is_data(widest)) {
                    // It finds the terminals beside it by the mount that it is opened in, and cannot be mapped.
                    Some(widest) if widest == path && is_multiplexer(&found) => {
                        self.kept.push(no_code(exact()));
                        self.expect(path);
                    }
                    Some(widest) => self.lay(&widest, seen(&widest), (Cover::NO_EXEC, &NO_EXEC), plans),
                    None => {}
                }
            }
        }
    }

    /// Lays a cover, and pins what is above it and could be moved.
    fn lay(&mut self, path: &Path, at: Seen, (cover, accesses): (Cover, &[Access]), plans: &[LandlockPlan]) {
        self.mounts.add(path.to_owned(), cover, at);
        for above in path.ancestors().skip(1).filter(|above| *above != Path::new("/")) {
            let moves = |plan: &LandlockPlan| {
                plan.denied_at(Access::Delete.into(), above.as_os_str().as_bytes()).is_empty()
            };
            if plans.iter().all(moves) {
                self.mounts.add(above.to_owned(), Cover::PIN, seen(above));
            }
        }
        self.kept.push(kept(Layer::Mountns, accesses.iter().copied().collect(), path));
    }
}

/// Whether this is the device that makes pseudo-terminals (`TTYAUX_MAJOR`, Documentation/admin-guide/devices.txt).
fn is_multiplexer(found: &Metadata) -> bool {
    found.file_type().is_char_device() && found.rdev() == libc::makedev(5, 2)
}

#[cfg(test)]
mod tests {
    use policy::Variables;
    use policy::compile::landlock;
    use policy::compile::layers::{UnixSockets, Words};
    use policy::compile::lsm::Held;

    use super::*;

    fn with(text: &str, words: &Words, check: impl FnOnce(Covers)) {
        in_tmp(text, words, None, check);
    }

    fn in_tmp(text: &str, words: &Words, tmp: Option<&PrivateTmp>, check: impl FnOnce(Covers)) {
        let policy = Policy::parse("p", text, &Variables::new()).unwrap_or_else(|errors| panic!("{errors}"));
        let plans = [landlock::compile(&policy, 7)];
        let layers = Layers {
            programs: Held::NOTHING,
            judges: (None, None),
            landlock: &plans,
            kept: &[],
            unix: UnixSockets::Closed,
            words,
        };
        check(plan(&layers, &[&policy], tmp));
    }

    #[test]
    fn what_is_there_is_covered_and_what_is_above_it_pinned() {
        let place = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(place.path()).unwrap();
        fs::create_dir_all(top.join("work/git/hooks")).unwrap();
        fs::write(top.join("work/git/config"), "").unwrap();
        fs::write(top.join("work/secret"), "").unwrap();
        fs::write(top.join("work/linked"), "").unwrap();
        fs::hard_link(top.join("work/linked"), top.join("other-name")).unwrap();
        std::os::unix::fs::symlink("git", top.join("work/by-link")).unwrap();
        let at = top.display();
        let text = format!(
            "version: 1\nname: p\nfiles:\n  default: deny\n  rules:\n    \
             - {{ name: work, allow: [read, write, create, delete], path: [\"{at}/work/**\"] }}\n    \
             - {{ name: git, deny: [write, create, delete], path: [\"{at}/work/git/{{config,hooks/**,absent}}\"] }}\n    \
             - {{ name: secret, deny: [read], path: [\"{at}/work/{{secret,linked,by-link/config}}\", \"**/floating\", \"{at}/elsewhere\"] }}\n"
        );
        let all: Words = NEEDED.iter().map(|word| (*word, BTreeSet::from([Layer::Landlock]))).collect();
        with(&text, &all, |covers| {
            let mut expected = Mounts::default();
            expected.add(top.join("work/git/config"), Cover::READ_ONLY, seen(&top.join("work/git/config")));
            expected.add(top.join("work/git"), Cover::PIN, seen(&top.join("work/git")));
            expected.add(top.join("work/git/hooks"), Cover::READ_ONLY, seen(&top.join("work/git/hooks")));
            expected.add(top.join("work/secret"), Cover::HIDDEN, seen(&top.join("work/secret")));
            assert_eq!(covers.mounts, expected);
            assert!(covers.open.iter().any(|why| why.contains("work/linked has another name")));
            let kept = |access: Access, name: &str| {
                let path = top.join(name);
                let path = path.as_os_str().as_bytes();
                covers.kept.iter().any(|kept| {
                    kept.accesses.contains(access) && kept.places.iter().any(|place| place.matches(path))
                })
            };
            assert!(
                kept(Access::Write, "work/git/hooks/pre-commit") && !kept(Access::Read, "work/git/config")
            );
            assert!(kept(Access::Read, "work/secret") && kept(Access::Attributes, "work/secret"));
            for name in ["work/git/absent", "work/linked", "work/by-link/config"] {
                assert!(!kept(Access::Write, name) && !kept(Access::Read, name), "{name}");
            }
        });
        with(&text, &Words::new(), |covers| assert!(covers.mounts.is_empty() && covers.kept.is_empty()));
    }

    #[test]
    fn a_directory_is_not_covered_where_a_file_in_it_has_another_name() {
        let place = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(place.path()).unwrap();
        for directory in ["git/hooks", "git/objects", "other", "held"] {
            fs::create_dir_all(top.join(directory)).unwrap();
        }
        for (file, link) in [
            ("git/hooks/sample", "other/sample"),
            // What the rule is not about may have other names, and what has all of them in it is covered.
            ("git/objects/ab", "other/ab"),
            ("held/file", "held/again"),
        ] {
            fs::write(top.join(file), "").unwrap();
            fs::hard_link(top.join(file), top.join(link)).unwrap();
        }
        let at = top.display();
        let text = format!(
            "version: 1\nname: p\nfiles:\n  default: deny\n  rules:\n    \
             - {{ name: all, allow: [read, write, create, delete], path: [\"{at}/**\"] }}\n    \
             - {{ name: git, deny: [write], path: [\"{at}/{{git/hooks,held}}/**\"] }}\n    \
             - {{ name: alone, deny: [read], path: [\"{at}/other\"] }}\n"
        );
        let all: Words = NEEDED.iter().map(|word| (*word, BTreeSet::from([Layer::Landlock]))).collect();
        with(&text, &all, |covers| {
            assert!(covers.denies(Access::Write, &top.join("held/file")));
            assert!(!covers.denies(Access::Write, &top.join("git/hooks/sample")));
            let open = format!("{at}/git/hooks/sample has another name, by which it is not covered");
            assert_eq!(covers.open, BTreeSet::from([open]));
        });
    }

    #[test]
    fn what_a_private_tmp_hides_is_covered_where_something_empty_is() {
        let place = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(place.path()).unwrap();
        fs::create_dir_all(top.join("work/git")).unwrap();
        fs::create_dir_all(top.join("sockets")).unwrap();
        fs::write(top.join("linked"), "").unwrap();
        fs::hard_link(top.join("linked"), top.join("other-name")).unwrap();
        let at = top.display();
        let text = format!(
            "version: 1\nname: p\nfiles:\n  default: deny\n  rules:\n    \
             - {{ name: all, allow: [read, write, create, delete], path: [\"{at}/**\"] }}\n    \
             - {{ name: keys, deny: [read], path: [\"{at}/{{sockets/**,linked,work/git/**,later}}\"] }}\n"
        );
        let all: Words = NEEDED.iter().map(|word| (*word, BTreeSet::from([Layer::Landlock]))).collect();
        let tmp = PrivateTmp::new(vec![top.clone()], vec![top.join("work")], Vec::new());
        in_tmp(&text, &all, Some(&tmp), |covers| {
            let hidden = |name: &str| {
                let path = top.join(name);
                let path = path.as_os_str().as_bytes();
                covers.kept.iter().any(|kept| kept.places.iter().any(|place| place.matches(path)))
            };
            assert!(hidden("sockets/x") && hidden("linked") && hidden("work/git/config"));
            assert!(!hidden("later"), "the command could make it");
            let mut made = covers.made.clone();
            made.sort();
            assert_eq!(made, [top.join("linked"), top.join("sockets")]);
            assert!(covers.open.is_empty(), "its other name is out of reach, too");
            assert_eq!(covers.notes, [""; 0]);
        });
    }

    #[test]
    fn a_rule_on_programs_is_covered_too_and_by_a_link_that_stays() {
        let place = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(place.path()).unwrap();
        fs::create_dir_all(top.join("real")).unwrap();
        fs::write(top.join("real/tool"), "").unwrap();
        std::os::unix::fs::symlink("real", top.join("link")).unwrap();
        let at = top.display();
        let text = |accesses: &str| {
            format!(
                "version: 1\nname: p\nfiles:\n  default: deny\n  rules:\n    \
                 - {{ name: all, allow: [{accesses}], path: [\"{at}/**\"] }}\n\
                 exec:\n  default: deny\n  rules:\n    \
                 - {{ name: programs, allow: [run], path: [\"{at}/**\"] }}\n    \
                 - {{ name: tool, deny: [run], path: [\"{at}/{{real,link}}/tool\"] }}\n"
            )
        };
        let all: Words = NEEDED.iter().map(|word| (*word, BTreeSet::from([Layer::Landlock]))).collect();
        let by_link = |covers: &Covers| covers.denies(Access::Run, &top.join("link/tool"));
        with(&text("read, load"), &all, |covers| {
            let mut expected = Mounts::default();
            expected.add(top.join("real/tool"), Cover::NO_EXEC, seen(&top.join("real/tool")));
            expected.expect(top.join("link"), seen(&top.join("link")));
            assert_eq!(covers.mounts, expected);
            assert!(covers.denies(Access::Run, &top.join("real/tool")) && by_link(&covers));
        });
        // Who can take the link away can have a file by that path.
        with(&text("read, load, create, delete"), &all, |covers| {
            assert!(covers.denies(Access::Run, &top.join("real/tool")) && !by_link(&covers));
        });
    }

    #[test]
    fn a_directory_that_may_be_listed_does_not_keep_what_is_in_it_from_being_data() {
        let place = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(place.path()).unwrap();
        fs::create_dir(top.join("settings")).unwrap();
        fs::write(top.join("settings/file"), "").unwrap();
        let at = top.display();
        let text = format!(
            "version: 1\nname: p\nfiles:\n  default: deny\n  rules:\n    \
             - {{ name: places, allow: [read], path: [\"{at}\", \"{at}/settings\", \"{at}/settings/file\"] }}\n\
             exec: {{ default: deny }}\n"
        );
        let all: Words = NEEDED.iter().map(|word| (*word, BTreeSet::from([Layer::Landlock]))).collect();
        with(&text, &all, |covers| {
            // As far up as nothing is code.
            let mut expected = Mounts::default();
            let up = top.ancestors().filter(|above| *above != Path::new("/")).last().unwrap();
            expected.add(up.to_owned(), Cover::NO_EXEC, seen(up));
            assert_eq!(covers.mounts, expected);
            assert!(covers.denies(Access::Run, &top.join("settings/file")));
        });
    }
}
