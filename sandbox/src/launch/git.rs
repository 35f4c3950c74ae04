//! The repository of a directory: what `${GIT_DIR}` and `${GIT_COMMON_DIR}` mean in a policy.
//!
//! Policies give these directories to a run, and what names them lies where earlier runs could write: the file `.git`,
//! and `commondir` in the repository. So what is named is taken only where it names the directory back. Runs no git,
//! which would obey the repository's configuration.
//!
//! ```text
//! TOP/.git is a directory      that one is both; git follows a `commondir` there, and this does not
//! leads into the workspace     that one is both
//! leads to COMMON/worktrees/N  a linked worktree, where all of this holds:
//!                                N/gitdir names TOP/.git, N/commondir is `../..`, COMMON has HEAD, objects and refs
//! leads elsewhere              left out, and told: a submodule without its repository, `--separate-git-dir`, a forgery
//! ```
//!
//! What a forger would need: the proof is `COMMON/worktrees/N/gitdir`, and what is given for it is `COMMON`, so that a run
//! which could write the proof, but not `COMMON` itself, would gain. The paths are real (no symbolic links), and so:
//!
//! - in a worktree that is one, runs write `COMMON` anyhow, but for configuration and hooks, which stay denied;
//! - in a cache that is theirs, all of what looks like a repository is theirs;
//! - the workspace may itself be called `COMMON/worktrees/N`, beside files of that name in a directory that is not the
//!   run's. So `N` may neither lie in the workspace nor hold it, and the workspace may not lie in `COMMON/worktrees`;
//! - nobody but the user, the workspace's owner and root vouches for a directory: the proof and `COMMON` must be theirs.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longest file that names a directory, bytes: more than the longest path.
const LONGEST: u64 = 8 << 10;

/// The two directories of a git repository; they differ in a linked worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitDirs {
    /// `git rev-parse --git-dir`.
    pub dir: PathBuf,
    /// `git rev-parse --git-common-dir`.
    pub common: PathBuf,
}

/// What `.git` in a directory leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// There is none.
    None,
    /// It leads to no repository.
    Nothing,
    /// A repository lies there.
    Real(PathBuf),
    /// A repository lies elsewhere, and this names it.
    Named(PathBuf),
}

/// What the entry `.git` of `top` leads to.
pub(super) fn entry(top: &Path) -> Entry {
    let entry = top.join(".git");
    let Ok(found) = fs::symlink_metadata(&entry) else { return Entry::None };
    let named = if found.is_dir() || found.is_symlink() {
        Some(entry)
    } else {
        short(&entry).and_then(|text| Some(top.join(path(text.strip_prefix(b"gitdir: ")?))))
    };
    // An empty directory is no repository; git looks for HEAD as well.
    match named.and_then(|named| fs::canonicalize(named).ok()).filter(|dir| is_there(&dir.join("HEAD"))) {
        Some(dir) if found.is_dir() => Entry::Real(dir),
        Some(dir) => Entry::Named(dir),
        None => Entry::Nothing,
    }
}

/// The directories of the repository that `entry`, the one of `top`, leads to, as far as a run in `workspace` may be given
/// them, and what is to be told of it. All paths are real; `too_large` says what is never given away.
pub(super) fn given(
    entry: &Entry,
    top: &Path,
    workspace: &Path,
    too_large: impl Fn(&Path) -> bool,
) -> (Option<GitDirs>, Option<String>) {
    let both = |dir: &Path| Some(GitDirs { dir: dir.to_owned(), common: dir.to_owned() });
    match entry {
        Entry::None => (None, None),
        Entry::Nothing => {
            let why =
                format!("{} leads to no repository, so that none is opened", top.join(".git").display());
            (None, Some(why))
        }
        Entry::Real(dir) => (both(dir), other_common(dir)),
        Entry::Named(dir) => match linked(dir, top, workspace) {
            Ok(common) if !too_large(&common) => (Some(GitDirs { dir: dir.clone(), common }), None),
            // What lies in the workspace is the run's in any case.
            _ if dir.starts_with(workspace) => (both(dir), other_common(dir)),
            Ok(common) => (None, Some(left_out(top, dir, &format!("{} holds too much", common.display())))),
            Err(why) => (None, Some(left_out(top, dir, &why))),
        },
    }
}

/// What is told where git would go on from `dir` to another directory.
fn other_common(dir: &Path) -> Option<String> {
    let file = dir.join("commondir");
    is_there(&file).then(|| {
        format!(
            "{} has git take objects, configuration and hooks from elsewhere; what it names is not opened. An earlier run \
             may have written it: remove it, unless you know it",
            file.display()
        )
    })
}

fn left_out(top: &Path, dir: &Path, why: &str) -> String {
    format!(
        "{} names {} as its repository, which is not opened: {why}. An earlier run may have written it; for a submodule \
         name the repository that it belongs to (--workspace), for a worktree that was moved see git worktree repair",
        top.join(".git").display(),
        dir.display()
    )
}

/// The common directory, where `dir` is what git makes for `top` as a linked worktree.
///
/// # Errors
/// Why it is not.
fn linked(dir: &Path, top: &Path, workspace: &Path) -> Result<PathBuf, String> {
    let worktrees = dir.parent().filter(|parent| parent.file_name() == Some(OsStr::new("worktrees")));
    let Some((worktrees, common)) = worktrees.and_then(|worktrees| Some((worktrees, worktrees.parent()?)))
    else {
        return Err("it is no linked worktree's".to_owned());
    };
    if workspace.starts_with(worktrees) || dir.starts_with(workspace) {
        return Err("it and the workspace lie in each other".to_owned());
    }
    let back = dir.join("gitdir");
    // Relative ones are from where they stand (`worktree.useRelativePaths`).
    let names = short(&back).map(|text| dir.join(path(&text)));
    let leads_back = names.as_deref().is_some_and(|names| {
        names.file_name() == Some(OsStr::new(".git"))
            && names.parent().and_then(|parent| fs::canonicalize(parent).ok()).as_deref() == Some(top)
    });
    if !leads_back {
        return Err(format!("{} does not lead back", back.display()));
    }
    if short(&dir.join("commondir")).is_none_or(|text| path(&text).as_os_str() != "../..") {
        return Err(format!("{} does not say ../..", dir.join("commondir").display()));
    }
    let is = |name: &str, kind: fn(&Metadata) -> bool| {
        fs::symlink_metadata(common.join(name)).is_ok_and(|found| kind(&found))
    };
    if !(is("HEAD", Metadata::is_file) && is("objects", Metadata::is_dir) && is("refs", Metadata::is_dir)) {
        return Err(format!("{} is no repository", common.display()));
    }
    let owner = fs::symlink_metadata(top).map_err(|error| error.to_string())?.uid();
    let own = [0, rustix::process::geteuid().as_raw(), owner];
    for place in [common, worktrees, dir, &back] {
        if !fs::symlink_metadata(place).is_ok_and(|found| own.contains(&found.uid())) {
            return Err(format!("{} is somebody else's", place.display()));
        }
    }
    Ok(common.to_owned())
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The bytes of a short regular file. What else has the name is not waited for, nor followed.
fn short(file: &Path) -> Option<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let open: File = OpenOptions::new().read(true).custom_flags(flags).open(file).ok()?;
    open.metadata().ok().filter(Metadata::is_file)?;
    let mut bytes = Vec::new();
    open.take(LONGEST + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= LONGEST).then_some(bytes)
}

/// A path from a file of one line.
fn path(text: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(text.strip_suffix(b"\n").unwrap_or(text)))
}
