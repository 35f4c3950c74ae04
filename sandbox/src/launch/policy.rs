//! The policy of a run: read, with this run's variables in place.
//!
//! What the language means is the policy crate's; here is where the values of its variables come from.

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use policy::extend::{Resolver, Source};
use policy::variables::GivenFault;
use policy::{Policy, Variables};

use super::identity::Target;
use super::workspace::{self, Workspace, WorkspaceError};

/// Longest policy file that is read, bytes: far above what the language takes, so that its own limit speaks.
const LONGEST: u64 = 64 << 20;

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read the policy {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is no policy; the text has file, line and column.
    #[error("{errors}{}", .workspace.as_ref().map(|why| format!("\n{why}")).unwrap_or_default())]
    Invalid {
        /// All of its errors.
        errors: policy::Errors,
        /// Why `${WORKSPACE}` has no value, where that may be the reason.
        workspace: Option<String>,
    },
    /// `--workspace` names something that cannot be one.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// A variable has a value that it may not have.
    #[error(transparent)]
    Variable(#[from] GivenFault),
}

/// Where a run happens, as far as a policy's variables depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The command's user and environment.
    pub target: &'a Target,
    /// The command's directory.
    pub current: &'a Path,
    /// `--workspace`.
    pub workspace: Option<&'a Path>,
    /// Where the record goes.
    pub run_dir: &'a Path,
}

/// Reads the policy in `file` for a run.
pub fn load(file: &Path, surroundings: Surroundings<'_>) -> Result<Policy, PolicyError> {
    let bytes = read(file).map_err(|source| PolicyError::Read { path: file.to_owned(), source })?;

    let found = workspace::resolve(surroundings.workspace, surroundings.current, &surroundings.target.home);
    let (workspace, why_not) = match found {
        Ok(workspace) => (Some(workspace), None),
        Err(error) if surroundings.workspace.is_some() => return Err(error.into()),
        // Only a policy that speaks of the workspace needs one.
        Err(error) => (None, Some(error.to_string())),
    };
    let variables = variables(surroundings, workspace.as_ref())?;
    Policy::parse_with(&file.display().to_string(), &bytes, &variables, &Beside).map_err(|errors| {
        let about_it = errors.to_string().contains("${WORKSPACE}");
        PolicyError::Invalid { errors, workspace: why_not.filter(|_| about_it) }
    })
}

/// A policy file's bytes.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(file)?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(fs::File::open(file)?, LONGEST), &mut bytes)?;
    Ok(bytes)
}

/// Files that a policy extends lie relative to it.
struct Beside;

impl Resolver for Beside {
    fn resolve(&self, path: &str, from: &str) -> Result<Source, String> {
        let folder = Path::new(from).parent().unwrap_or(Path::new(""));
        let file = folder.join(path);
        let bytes = read(&file).map_err(|error| format!("cannot be read: {error}"))?;
        Ok(Source { name: file.display().to_string(), bytes })
    }
}

fn variables(surroundings: Surroundings<'_>, workspace: Option<&Workspace>) -> Result<Variables, GivenFault> {
    let target = surroundings.target;
    let environment = target.environment();
    let mut variables = Variables::new();
    variables.set("HOME", target.home.as_os_str().as_bytes())?;
    variables.set("USER", target.name.as_bytes())?;
    variables.set("UID", target.uid.to_string())?;
    variables.set("RUN_DIR", surroundings.run_dir.as_os_str().as_bytes())?;
    let tmp = environment.get("TMPDIR").filter(|tmp| Path::new(tmp).is_absolute());
    variables.set("TMP", tmp.unwrap_or_else(|| "/tmp".into()).into_vec())?;
    if let Some(workspace) = workspace {
        variables.set_workspace(workspace.directory.as_os_str().as_bytes())?;
        if let Some(git) = &workspace.git {
            variables.set("GIT_DIR", git.dir.as_os_str().as_bytes())?;
            variables.set("GIT_COMMON_DIR", git.common.as_os_str().as_bytes())?;
        }
    }
    for (name, value) in environment.variables() {
        variables.set_env(name.into_vec(), value.into_vec());
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_load(
        text: &str,
        home: &Path,
        current: &Path,
        workspace: Option<&Path>,
    ) -> Result<Policy, PolicyError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("p.yaml");
        fs::write(&file, text).unwrap();
        let target = Target { home: home.to_owned(), ..Target::own().unwrap() };
        let run_dir = Path::new("/var/lib/sandbox/0/runs/x");
        load(&file, Surroundings { target: &target, current, workspace, run_dir })
    }

    const OF_THE_WORKSPACE: &str = "version: 1\nname: p\nfiles:\n  default: allow\n  rules:\n    \
        - { name: w, deny: [write], path: [\"${WORKSPACE}/**\"] }\n";

    #[test]
    fn the_workspace_is_filled_in() {
        let place = tempfile::tempdir().unwrap();
        let policy = try_load(OF_THE_WORKSPACE, Path::new("/root"), place.path(), None).unwrap();
        let real = fs::canonicalize(place.path()).unwrap();
        assert!(policy.effective_yaml().contains(&format!("{}/**", real.display())));
    }

    #[test]
    fn a_home_directory_is_no_workspace_and_the_reason_is_told() {
        let home = tempfile::tempdir().unwrap();
        let error = try_load(OF_THE_WORKSPACE, home.path(), home.path(), None).unwrap_err().to_string();
        assert!(error.contains("p.yaml:6:") && error.contains("--workspace"), "{error}");
        let other = OF_THE_WORKSPACE.replace("${WORKSPACE}", "/srv");
        assert!(try_load(&other, home.path(), home.path(), None).is_ok());
        assert!(matches!(
            try_load(&other, home.path(), home.path(), Some(home.path())),
            Err(PolicyError::Workspace(_))
        ));
    }

    #[test]
    fn what_is_extended_lies_beside_the_file() {
        let place = tempfile::tempdir().unwrap();
        let base = "version: 1\nname: base\nfiles: { default: deny }\n";
        fs::write(place.path().join("base.yaml"), base).unwrap();
        let text = format!("version: 1\nname: p\nextends: [\"{}/base.yaml\"]\n", place.path().display());
        let policy = try_load(&text, Path::new("/root"), place.path(), None).unwrap();
        assert_eq!(policy.files().default(), policy::Decision::Deny);
        let missing =
            try_load("version: 1\nname: p\nextends: [./x.yaml]\n", Path::new("/root"), place.path(), None);
        assert!(missing.unwrap_err().to_string().contains("p.yaml:3:11: `./x.yaml` cannot be read"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let target = Target::own().unwrap();
        let nothing = Path::new("/");
        let surroundings =
            Surroundings { target: &target, current: nothing, workspace: None, run_dir: nothing };
        let missing = load(Path::new("/nonexistent/p.yaml"), surroundings).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read the policy /nonexistent/p.yaml");
        assert!(matches!(load(nothing, surroundings), Err(PolicyError::Read { .. })));
    }
}
