//! The model against the kernel: the same things are done to a real directory and told to the model.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};

use super::*;

fn way(last: Last) -> Way {
    Way { known: 0, last }
}

/// Where the model says a name leads, with nobody to ask.
fn lead(links: &mut Links, path: &str, last: Last) -> (String, bool) {
    let led = links.lead(path.as_bytes(), way(last), true, &mut |_| Seen::Unknown);
    (String::from_utf8(led.path).unwrap(), led.sure)
}

fn sure(path: &str) -> (String, bool) {
    (path.to_owned(), true)
}

#[test]
fn a_link_leads_until_it_is_removed() {
    let mut links = Links::default();
    links.directory(b"/w");
    links.directory(b"/t/deep");
    links.linked(b"/w/l", b"../t/deep");
    assert_eq!(lead(&mut links, "/w/l/x", Last::Itself), sure("/t/deep/x"));
    assert_eq!(lead(&mut links, "/w/l/../x", Last::Itself), sure("/t/x"), "as seen from what it leads to");
    assert_eq!(lead(&mut links, "/w/l", Last::Itself), sure("/w/l"));
    assert_eq!(lead(&mut links, "/w/l", Last::Followed), sure("/t/deep"));
    assert_eq!(lead(&mut links, "/w/l", Last::Untold), ("/w/l".into(), false));
    links.forget(b"/w/l");
    assert_eq!(lead(&mut links, "/w/l/x", Last::Itself), ("/w/l/x".into(), false), "nobody knows");
}

#[test]
fn what_lies_below_moves_along_and_loops_end() {
    let mut links = Links::default();
    links.directory(b"/w/a");
    links.directory(b"/t");
    links.linked(b"/w/a/l", b"/t");
    links.linked(b"/w/loop", b"loop");
    links.named(b"/w/a/l", b"/w/hard");
    links.moved(b"/w/a", b"/w/b");
    assert_eq!(lead(&mut links, "/w/b/l/x", Last::Itself), sure("/t/x"));
    assert_eq!(lead(&mut links, "/w/hard/x", Last::Itself), sure("/t/x"));
    assert_eq!(lead(&mut links, "/w/a/l/x", Last::Itself), ("/w/a/l/x".into(), false));
    links.exchanged(b"/w/b", b"/w/hard");
    assert_eq!(lead(&mut links, "/w/b/x", Last::Itself), sure("/t/x"));
    assert_eq!(lead(&mut links, "/w/hard/l/x", Last::Itself), sure("/t/x"));
    let led = links.lead(b"/w/loop/x", way(Last::Itself), false, &mut |_| Seen::Unknown);
    assert_eq!(led, Led { path: b"/w/loop/x".into(), sure: true }, "it failed with ELOOP");
}

#[test]
fn what_was_at_a_name_is_gone_when_something_unknown_takes_it() {
    let mut links = Links::default();
    links.directory(b"/w");
    for name in ["/w/link", "/w/plain"] {
        links.linked(name.as_bytes(), b"/t");
        assert_eq!(lead(&mut links, name, Last::Itself), sure(name));
    }
    links.moved(b"/w/new", b"/w/link");
    assert_eq!(lead(&mut links, "/w/link/x", Last::Itself), ("/w/link/x".into(), false));
    links.exchanged(b"/w/new", b"/w/plain");
    assert_eq!(lead(&mut links, "/w/plain/x", Last::Itself), ("/w/plain/x".into(), false));
    links.directory(b"/t");
    assert_eq!(lead(&mut links, "/w/new/x", Last::Itself), sure("/t/x"), "what was there is here now");
    links.named(b"/w/other", b"/w/new");
    assert_eq!(lead(&mut links, "/w/new/x", Last::Itself), ("/w/new/x".into(), false));
}

#[test]
fn what_is_the_kernels_own_is_not_looked_at() {
    let mut links = Links::default();
    let mut looks = Vec::new();
    let mut look = |name: &[u8]| {
        looks.push(String::from_utf8(name.to_vec()).unwrap());
        Seen::Directory
    };
    let known = Way { known: 4, last: Last::Itself };
    assert_eq!(links.lead(b"/a/b/c", known, true, &mut look).path, b"/a/b/c");
    assert_eq!(links.lead(b"/a/b/c/d", known, true, &mut look).path, b"/a/b/c/d");
    assert_eq!(links.lead(b"/a/b/c/e", known, true, &mut look).path, b"/a/b/c/e");
    assert_eq!(looks, ["/a/b/c"], "once");
}

#[test]
fn memory_is_bounded_and_links_are_kept_longest() {
    let mut links = Links::default();
    links.directory(b"/t");
    links.linked(b"/l", b"/t");
    let name = "n".repeat(2000);
    for number in 0..3 * BYTES_MAX / 2000 {
        links.made(format!("/t/{number}{name}").as_bytes());
        assert!(links.bytes <= BYTES_MAX);
    }
    let mut look = |name: &[u8]| if name == b"/t" { Seen::Directory } else { Seen::Unknown };
    assert_eq!(links.lead(b"/l/x", way(Last::Itself), true, &mut look).path, b"/t/x");
    for number in 0..3 * BYTES_MAX / 2000 {
        links.linked(format!("/t/{number}{name}").as_bytes(), b"x");
        assert!(links.bytes <= BYTES_MAX);
    }
    links.clear();
    assert_eq!(links.bytes, 0);
}

/// One thing that a run does.
#[derive(Clone, Debug)]
enum Act {
    Mkdir(String),
    Symlink(String, String),
    Rename(String, String, bool),
    Unlink(String),
    Link(String, String),
    Write(String),
}

fn names() -> impl Strategy<Value = String> {
    let part = prop_oneof![12 => "[a-c]", 1 => Just("..".to_owned()), 1 => Just(".".to_owned())];
    let parts = |count| prop::collection::vec(part.clone(), count);
    prop_oneof![3 => parts(1), 4 => parts(2), 2 => parts(3)].prop_map(|parts| parts.join("/"))
}

fn acts() -> impl Strategy<Value = Act> {
    let target = prop_oneof![3 => names(), 1 => names().prop_map(|name| format!("/TOP/{name}"))];
    prop_oneof![
        3 => names().prop_map(Act::Mkdir),
        4 => (target, names()).prop_map(|(to, at)| Act::Symlink(to, at)),
        4 => (names(), names(), any::<bool>()).prop_map(|(from, to, swap)| Act::Rename(from, to, swap)),
        2 => names().prop_map(Act::Unlink),
        2 => (names(), names()).prop_map(|(from, to)| Act::Link(from, to)),
        3 => names().prop_map(Act::Write),
    ]
}

/// Where the kernel puts an entry of this name: the path of its directory, and the last component.
fn entry(path: &Path) -> Option<PathBuf> {
    let leaf = path.file_name()?;
    if path.as_os_str().as_bytes().ends_with(b"/.") {
        return None;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = rustix::fs::openat(CWD, path.parent()?, flags, Mode::empty()).ok()?;
    let link = rustix::fs::readlinkat(
        CWD,
        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&above)),
        vec![],
    );
    let above = PathBuf::from(std::ffi::OsString::from_vec(link.ok()?.into_bytes()));
    Some(above.join(leaf))
}

/// A real directory, and what the model knows of it.
struct Pair {
    top: PathBuf,
    links: Links,
    /// Nothing was there before: what is there the model must know without a look.
    all_told: bool,
}

impl Pair {
    /// What stands there now: nothing is between the act and the look.
    fn look(path: &[u8]) -> Seen {
        let path = Path::new(OsStr::from_bytes(path));
        match fs::symlink_metadata(path) {
            Ok(about) if about.is_symlink() => {
                Seen::Link(fs::read_link(path).unwrap().into_os_string().into_vec())
            }
            Ok(about) if about.is_dir() => Seen::Directory,
            Ok(_) => Seen::Other,
            Err(_) => Seen::Absent,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    /// Where the model says that an entry lies, which is asked before anything is done.
    fn led(&mut self, name: &str) -> Option<Vec<u8>> {
        let path = self.top.join(name).into_os_string().into_vec();
        let all_told = self.all_told;
        let mut look = |name: &[u8]| {
            let seen = Self::look(name);
            assert!(!all_told || seen == Seen::Absent, "{seen:?} at {} was told", name.escape_ascii());
            seen
        };
        let led = self.links.lead(&path, way(Last::Itself), false, &mut look);
        led.sure.then_some(led.path)
    }

    /// The kernel's answer against the model's, where the kernel has one.
    fn compare(&mut self, name: &str) -> Vec<u8> {
        let real = entry(&self.at(name)).map(|path| path.into_os_string().into_vec());
        let led = self.led(name);
        if let Some(real) = real {
            assert_eq!(
                led.as_ref().map(|path| OsStr::from_bytes(path)),
                Some(OsStr::from_bytes(&real)),
                "{name}"
            );
        }
        led.unwrap_or_default()
    }

    fn act(&mut self, act: &Act) {
        let Pair { top, .. } = self;
        let target = |text: &String| text.replace("/TOP", top.to_str().unwrap());
        match act {
            Act::Mkdir(name) => {
                let led = self.compare(name);
                if fs::create_dir(self.at(name)).is_ok() {
                    self.links.made(&led);
                }
            }
            Act::Write(name) => {
                // An open that makes a file tells the kernel's path.
                let known = self.at(name);
                if let Ok(file) = fs::File::options().write(true).create_new(true).open(&known) {
                    let path =
                        fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
                    let path = path.unwrap().into_os_string().into_vec();
                    self.links.passed(&path);
                    self.links.made(&path);
                }
            }
            Act::Symlink(text, name) => {
                let (text, led) = (target(text), self.compare(name));
                if std::os::unix::fs::symlink(&text, self.at(name)).is_ok() {
                    self.links.linked(&led, text.as_bytes());
                }
            }
            Act::Unlink(name) => {
                let led = self.compare(name);
                let path = self.at(name);
                if fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).is_ok() {
                    self.links.forget(&led);
                }
            }
            Act::Link(from, to) => {
                let (one, other) = (self.compare(from), self.compare(to));
                if fs::hard_link(self.at(from), self.at(to)).is_ok() {
                    self.links.named(&one, &other);
                }
            }
            Act::Rename(from, to, swap) => {
                let (one, other) = (self.compare(from), self.compare(to));
                let inode = |name| {
                    use std::os::unix::fs::MetadataExt;
                    fs::symlink_metadata(self.at(name)).ok().map(|about| about.ino())
                };
                if one != other && inode(from).is_some() && inode(from) == inode(to) {
                    // Two names of one file: rename(2) does nothing, and the model forgets the first.
                    return;
                }
                let flags = if *swap { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
                if rustix::fs::renameat_with(CWD, self.at(from), CWD, self.at(to), flags).is_ok() {
                    match swap {
                        true => self.links.exchanged(&one, &other),
                        false => self.links.moved(&one, &other),
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4000 }))]

    #[test]
    fn the_model_says_what_the_kernel_does(before in prop_oneof![Just(Vec::new()), prop::collection::vec(acts(), 0..20)],
                                          acts in prop::collection::vec(acts(), 1..160)) {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().canonicalize().unwrap().join("b/c/d/a/b/c/d/a/b/c/d/a");
        fs::create_dir_all(&top).unwrap();
        let mut pair = Pair { top, links: Links::default(), all_told: false };
        // Links that were there before the run: the model learns of them by looking.
        before.iter().for_each(|act| pair.act(act));
        pair.links.clear();
        pair.all_told = before.is_empty();
        pair.links.directory(pair.top.as_os_str().as_bytes());
        acts.iter().for_each(|act| pair.act(act));
    }
}
