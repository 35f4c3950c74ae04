//! Where the command works: what `${WORKSPACE}`, `${GIT_DIR}` and `${GIT_COMMON_DIR}` mean in a policy.
//!
//! Which repository belongs to it, and whether it may be given away, [`super::git`] finds out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::git::{self, Entry, GitDirs};

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
    /// What names a repository, or a part of one, that is not taken for the workspace's.
    pub left_out: Option<String>,
}

/// Finds the workspace: `asked`, else git's top level above `current`, else `current`.
///
/// The nearest entry `.git` ends the search, whatever it leads to: a run that breaks its own repository does not have the
/// next one work in an outer one.
///
/// # Errors
/// There is none, or it is too large.
pub fn resolve(asked: Option<&Path>, current: &Path, home: &Path) -> Result<Workspace, WorkspaceError> {
    let start = usable(asked.unwrap_or(current))?;
    let nearest = start.ancestors().map(|directory| (directory, git::entry(directory)));
    let nearest = nearest.into_iter().find(|(_, entry)| *entry != Entry::None);
    let (top, entry) = nearest.unwrap_or((&start, Entry::None));
    let directory = match entry {
        Entry::Real(_) | Entry::Named(_) if asked.is_none() => top,
        _ => &start,
    };
    refuse_too_large(directory, home)?;
    let too_large = |common: &Path| refuse_too_large(common, home).is_err();
    let (git, left_out) = git::given(&entry, top, directory, too_large);
    Ok(Workspace { directory: directory.to_owned(), git, left_out })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir_all(root.join("main/.git/worktrees/side")).unwrap();
        fs::create_dir_all(root.join("main/src/deep")).unwrap();
        for directory in ["objects", "refs"] {
            fs::create_dir(root.join("main/.git").join(directory)).unwrap();
        }
        fs::write(root.join("main/.git/HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::create_dir(root.join("side")).unwrap();
        let linked = root.join("main/.git/worktrees/side");
        fs::write(root.join("side/.git"), format!("gitdir: {}\n", linked.display())).unwrap();
        fs::write(linked.join("HEAD"), "ref: refs/heads/side\n").unwrap();
        fs::write(linked.join("commondir"), "../..\n").unwrap();
        fs::write(linked.join("gitdir"), format!("{}\n", root.join("side/.git").display())).unwrap();
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

    const ADA: &str = "/home/ada";

    /// What a workspace here has of a repository, and what is told.
    fn found(current: &Path) -> (Option<GitDirs>, Option<String>) {
        let found = resolve(None, current, Path::new(ADA)).unwrap();
        (found.git, found.left_out)
    }

    /// A directory that was no run's to write, with what a forger may find in it.
    fn private(root: &Path) -> PathBuf {
        let private = root.join("private");
        for directory in ["objects", "refs"] {
            fs::create_dir_all(private.join(directory)).unwrap();
        }
        fs::write(private.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        private
    }

    fn refused(current: &Path, names: &Path) {
        let (git, left_out) = found(current);
        assert_eq!(git, None);
        let left_out = left_out.unwrap();
        assert!(left_out.contains(&names.display().to_string()), "{left_out}");
    }

    #[test]
    fn a_commondir_in_a_directory_is_not_followed() {
        let (_keep, root) = repository();
        let private = private(&root);
        let dir = root.join("main/.git");
        assert_eq!(found(&root.join("main")).1, None);
        for text in [private.to_str().unwrap(), "../../private", "../.."] {
            fs::write(dir.join("commondir"), text).unwrap();
            let (git, left_out) = found(&root.join("main"));
            assert_eq!(git, Some(GitDirs { dir: dir.clone(), common: dir.clone() }), "{text}");
            assert!(left_out.unwrap().contains("main/.git/commondir"));
        }
    }

    #[test]
    fn a_directory_that_does_not_lead_back_is_left_out() {
        let (_keep, root) = repository();
        let (private, side) = (private(&root), root.join("side"));
        fs::create_dir(root.join("plain")).unwrap();
        for work in [&side, &root.join("plain")] {
            fs::write(work.join(".git"), format!("gitdir: {}\n", private.display())).unwrap();
            refused(work, &private);
            fs::remove_file(work.join(".git")).unwrap();
            std::os::unix::fs::symlink(&private, work.join(".git")).unwrap();
            refused(work, &private);
        }
        // A worktree of somebody else's is not one's own.
        let other = root.join("other");
        fs::create_dir(&other).unwrap();
        let linked = root.join("main/.git/worktrees/side");
        fs::write(other.join(".git"), format!("gitdir: {}\n", linked.display())).unwrap();
        refused(&other, &linked);
    }

    #[test]
    fn a_worktrees_files_say_what_git_writes() {
        let (_keep, root) = repository();
        let (private, side) = (private(&root), root.join("side"));
        let (common, linked) = (root.join("main/.git"), root.join("main/.git/worktrees/side"));
        let genuine = Some(GitDirs { dir: linked.clone(), common: common.clone() });
        assert_eq!(found(&side), (genuine.clone(), None));
        for text in [private.to_str().unwrap(), "../../../../private", "../../", ""] {
            fs::write(linked.join("commondir"), text).unwrap();
            refused(&side, &linked.join("commondir"));
        }
        fs::write(linked.join("commondir"), "../..\n").unwrap();
        // Relative, as git writes it on demand.
        fs::write(linked.join("gitdir"), "../../../../side/.git\n").unwrap();
        assert_eq!(found(&side), (genuine.clone(), None));
        for text in ["../../../../main/.git\n", "../../../../side\n", "/\n", ""] {
            fs::write(linked.join("gitdir"), text).unwrap();
            refused(&side, &linked.join("gitdir"));
        }
        fs::remove_file(linked.join("gitdir")).unwrap();
        nix::unistd::mkfifo(&linked.join("gitdir"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused(&side, &linked.join("gitdir"));
        fs::remove_file(linked.join("gitdir")).unwrap();
        fs::write(linked.join("gitdir"), format!("{}\n", side.join(".git").display())).unwrap();
        // What holds the user's home is never given away.
        let home = common.join("refs");
        let found_there = resolve(None, &side, &home).unwrap();
        assert_eq!(found_there.git, None);
        assert!(found_there.left_out.unwrap().contains("too much"));
        for name in ["objects", "refs"] {
            fs::rename(common.join(name), common.join("gone")).unwrap();
            std::os::unix::fs::symlink("gone", common.join(name)).unwrap();
            refused(&side, &common);
            fs::remove_file(common.join(name)).unwrap();
            fs::rename(common.join("gone"), common.join(name)).unwrap();
        }
        assert_eq!(found(&side), (genuine, None));
    }

    /// A workspace whose name makes it look like git's, beside what looks like a repository.
    #[test]
    fn a_workspace_does_not_vouch_for_what_holds_it() {
        let (_keep, root) = repository();
        let work = private(&root).join("worktrees/work");
        let part = work.join("part");
        fs::create_dir_all(&part).unwrap();
        for place in [&work, &part] {
            fs::write(place.join("HEAD"), "").unwrap();
            fs::write(place.join("commondir"), "../..\n").unwrap();
            fs::write(place.join("gitdir"), format!("{}\n", work.join(".git").display())).unwrap();
        }
        fs::write(work.join(".git"), "gitdir: .\n").unwrap();
        assert_eq!(found(&work).0, Some(GitDirs { dir: work.clone(), common: work.clone() }));
        // The same by way of a directory below, as the workspace.
        fs::write(part.join("gitdir"), format!("{}\n", part.join(".git").display())).unwrap();
        fs::write(part.join(".git"), "gitdir: ..\n").unwrap();
        fs::write(work.join("gitdir"), format!("{}\n", part.join(".git").display())).unwrap();
        refused(&part, &work);
        // And by way of one beside it.
        let beside = work.with_file_name("beside");
        fs::create_dir(&beside).unwrap();
        fs::write(beside.join("HEAD"), "").unwrap();
        fs::write(beside.join("commondir"), "../..\n").unwrap();
        fs::write(beside.join("gitdir"), format!("{}\n", work.join(".git").display())).unwrap();
        fs::write(work.join(".git"), "gitdir: ../beside\n").unwrap();
        refused(&work, &beside);
    }

    #[test]
    fn a_repository_inside_is_the_runs_and_one_outside_a_submodules_is_not() {
        let (_keep, root) = repository();
        let part = root.join("main/part");
        let module = root.join("main/.git/modules/part");
        fs::create_dir_all(&module).unwrap();
        fs::create_dir(&part).unwrap();
        fs::write(module.join("HEAD"), "").unwrap();
        fs::write(part.join(".git"), "gitdir: ../.git/modules/part\n").unwrap();
        refused(&part, &module);
        assert_eq!(resolve(None, &part, Path::new(ADA)).unwrap().directory, part);
        let found = resolve(Some(&root.join("main")), &part, Path::new(ADA)).unwrap();
        assert_eq!(found.git.unwrap().common, root.join("main/.git"));
        let inside = root.join("inside");
        fs::create_dir_all(inside.join(".bare")).unwrap();
        fs::write(inside.join(".bare/HEAD"), "").unwrap();
        fs::write(inside.join(".git"), "gitdir: ./.bare\n").unwrap();
        let found = resolve(None, &inside, Path::new(ADA)).unwrap();
        assert_eq!(found.git.unwrap().dir, inside.join(".bare"));
        assert_eq!(found.left_out, None);
    }

    #[test]
    fn who_breaks_a_repository_is_not_given_the_outer_one() {
        let (_keep, root) = repository();
        let inner = root.join("main/src");
        fs::create_dir(inner.join(".git")).unwrap();
        let found = || resolve(None, &inner.join("deep"), Path::new(ADA)).unwrap();
        assert_eq!(found().directory, inner.join("deep"));
        fs::remove_dir(inner.join(".git")).unwrap();
        assert_eq!(found().directory, root.join("main"));
        fs::write(inner.join(".git"), "gitdir: /nonexistent\n").unwrap();
        assert_eq!(found().directory, inner.join("deep"));
        assert!(found().left_out.unwrap().contains("main/src/.git leads to no repository"));
    }

    #[test]
    fn a_strangers_directory_vouches_for_nothing() {
        if !nix::unistd::Uid::effective().is_root() {
            return;
        }
        let (_keep, root) = repository();
        let linked = root.join("main/.git/worktrees/side");
        for place in [root.join("main/.git"), linked.clone(), linked.join("gitdir")] {
            let own = |uid: u32| std::os::unix::fs::lchown(&place, Some(uid), None).unwrap();
            own(65533);
            refused(&root.join("side"), &place);
            own(0);
        }
        // The workspace's owner does.
        for place in [root.join("main/.git"), linked.clone(), root.join("side")] {
            std::os::unix::fs::lchown(&place, Some(65533), None).unwrap();
        }
        assert_eq!(found(&root.join("side")).0.unwrap().dir, linked);
    }
}
