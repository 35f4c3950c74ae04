//! Where the command works: what `${WORKSPACE}`, `${GIT_DIR}` and `${GIT_COMMON_DIR}` mean in a policy.
//!
//! Reads directory entries and git's two pointer files; runs no git, which would obey the repository's
//! configuration.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Why there is no workspace.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The directory cannot be used.
    #[error("cannot use {path} as the workspace")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Too much would be the workspace.
    #[error(
        "{path} cannot be the workspace: it holds {holds}, and a policy would give all of it away; \
         start in the project's directory, or name one with --workspace"
    )]
    TooLarge {
        /// The directory.
        path: PathBuf,
        /// What lies in it.
        holds: String,
    },
}

/// A workspace, and its repository where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Absolute, symbolic links resolved.
    pub directory: PathBuf,
    /// The repository.
    pub git: Option<GitDirs>,
}

/// The two directories of a git repository; they differ in a linked worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitDirs {
    /// `git rev-parse --git-dir`.
    pub dir: PathBuf,
    /// `git rev-parse --git-common-dir`.
    pub common: PathBuf,
}

/// Finds the workspace: `asked`, else git's top level above `current`, else `current`.
pub fn resolve(asked: Option<&Path>, current: &Path, home: &Path) -> Result<Workspace, WorkspaceError> {
    let start = usable(asked.unwrap_or(current))?;
    let top = start.ancestors().find_map(|directory| Some((directory.to_owned(), git_dirs(directory)?)));
    let (directory, git) = match (asked, top) {
        (Some(_), top) => (start, top.map(|(_, git)| git)),
        (None, Some((top, git))) => (top, Some(git)),
        (None, None) => (start, None),
    };
    refuse_too_large(&directory, home)?;
    Ok(Workspace { directory, git })
}

/// The directory at this path, symbolic links resolved.
///
/// # Errors
/// There is none.
pub fn usable(path: &Path) -> Result<PathBuf, WorkspaceError> {
    let unusable = |source| WorkspaceError::Unusable { path: path.to_owned(), source };
    let directory = fs::canonicalize(path).map_err(unusable)?;
    match directory.is_dir() {
        true => Ok(directory),
        false => Err(unusable(io::ErrorKind::NotADirectory.into())),
    }
}

fn refuse_too_large(directory: &Path, home: &Path) -> Result<(), WorkspaceError> {
    let too_large = |holds: String| Err(WorkspaceError::TooLarge { path: directory.to_owned(), holds });
    if directory == Path::new("/") {
        return too_large("the whole machine".into());
    }
    let home = fs::canonicalize(home).unwrap_or_else(|_| home.to_owned());
    // A user whose home is / has no home to protect from this.
    if home != Path::new("/") && home.starts_with(directory) {
        return too_large(format!("the home directory {}", home.display()));
    }
    Ok(())
}

/// The repository whose top level this directory is.
fn git_dirs(top: &Path) -> Option<GitDirs> {
    let entry = top.join(".git");
    let found = fs::metadata(&entry).ok()?;
    let dir = if found.is_dir() {
        entry
    } else {
        let text = fs::read(&entry).ok()?;
        top.join(line(text.strip_prefix(b"gitdir: ")?))
    };
    let dir = fs::canonicalize(dir).ok()?;
    // An empty .git directory is no repository; git looks for HEAD as well.
    fs::symlink_metadata(dir.join("HEAD")).ok()?;
    let common = match fs::read(dir.join("commondir")) {
        Ok(text) => fs::canonicalize(dir.join(line(&text))).ok()?,
        Err(_) => dir.clone(),
    };
    Some(GitDirs { dir, common })
}

/// A path from a file of one line.
fn line(text: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(text.strip_suffix(b"\n").unwrap_or(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir_all(root.join("main/.git/worktrees/side")).unwrap();
        fs::create_dir_all(root.join("main/src/deep")).unwrap();
        fs::write(root.join("main/.git/HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::create_dir(root.join("side")).unwrap();
        let linked = root.join("main/.git/worktrees/side");
        fs::write(root.join("side/.git"), format!("gitdir: {}\n", linked.display())).unwrap();
        fs::write(linked.join("HEAD"), "ref: refs/heads/side\n").unwrap();
        fs::write(linked.join("commondir"), "../..\n").unwrap();
        (directory, root)
    }

    #[test]
    fn gits_top_level_is_the_workspace() {
        let (_keep, root) = repository();
        let found = resolve(None, &root.join("main/src/deep"), Path::new("/home/ada")).unwrap();
        assert_eq!(found.directory, root.join("main"));
        let dir = root.join("main/.git");
        assert_eq!(found.git, Some(GitDirs { dir: dir.clone(), common: dir }));
    }

    #[test]
    fn a_linked_worktree_has_two_directories() {
        let (_keep, root) = repository();
        let found = resolve(None, &root.join("side"), Path::new("/home/ada")).unwrap();
        assert_eq!(found.directory, root.join("side"));
        let git = found.git.unwrap();
        assert_eq!(git.dir, root.join("main/.git/worktrees/side"));
        assert_eq!(git.common, root.join("main/.git"));
    }

    #[test]
    fn an_asked_directory_is_taken_as_it_is() {
        let (_keep, root) = repository();
        let found = resolve(Some(&root.join("main/src")), Path::new("/"), Path::new("/home/ada")).unwrap();
        assert_eq!(found.directory, root.join("main/src"));
        assert_eq!(found.git.unwrap().common, root.join("main/.git"));
    }

    #[test]
    fn home_and_what_holds_it_are_refused() {
        let (_keep, root) = repository();
        let home = root.join("main/src");
        for too_large in [&home, &root.join("main"), Path::new("/")] {
            assert!(matches!(resolve(Some(too_large), &root, &home), Err(WorkspaceError::TooLarge { .. })));
        }
        assert!(resolve(Some(&home.join("deep")), &root, &home).is_ok());
        assert!(matches!(
            resolve(Some(&root.join("nothing")), &root, &home),
            Err(WorkspaceError::Unusable { .. })
        ));
    }
}
