//! The policy of a run: read, with this run's variables in place.
//!
//! What the language means is the policy crate's; here is where the values of its variables come from, and where
//! the paths of its rules lead.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use policy::compile::lsm::{self, Held};
use policy::existing::ExistingFault;
use policy::extend::{Resolver, SHIPPED, Source};
use policy::variables::GivenFault;
use policy::{Access, Policies, Policy, Variables};

use super::existing::{Expanded, Now};
use super::identity::Target;
use super::links::Ways;
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
    /// Neither a file nor the name of a policy that ships.
    #[error("no policy {name}: there is no such file, and those that ship are {}", shipped_names())]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The file is no policy; the text has file, line and column.
    #[error("{}", invalid(.errors, .workspace.as_deref()))]
    Invalid {
        /// All of its errors.
        errors: policy::Errors,
        /// Why `${WORKSPACE}` has no value, where that may be the reason.
        workspace: Option<String>,
    },
    /// Examples of the policy itself do not hold; the text has file, line and column.
    #[error(
        "{}the policy does not do what its own examples say, so it is not enforced; \
         `sandbox policy test {}` tries them one by one",
        match .home {
            None => format!("{errors}\n"),
            Some(home) => format!(
                "the home directory {} lies in a place for temporary files, which this policy opens as a whole: \
                 set HOME to another one\n",
                home.display()
            ),
        },
        .name.display()
    )]
    Examples {
        /// The user's home, where policies that open temporary places open it as well.
        home: Option<PathBuf>,
        /// The policy, as it was asked for.
        name: PathBuf,
        /// Those that fail.
        errors: policy::Errors,
    },
    /// `--workspace` names something that cannot be one.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// What is there now could not be looked up.
    #[error(transparent)]
    Existing(#[from] ExistingFault),
    /// A variable has a value that it may not have.
    #[error(transparent)]
    Variable(#[from] GivenFault),
}

/// The user's home, where it lies below a directory for temporary files.
fn in_temporary(target: &Target) -> Option<PathBuf> {
    let home = &target.home;
    ["/tmp", "/var/tmp"].iter().any(|place| home.starts_with(place)).then(|| home.clone())
}

/// The errors of a policy. Where nothing is wrong but that there is no workspace, that is the one to tell: who reads it
/// may not have written the policy.
fn invalid(errors: &policy::Errors, workspace: Option<&str>) -> String {
    match workspace {
        Some(why) if errors.iter().all(|error| error.problem.to_string().contains("${WORKSPACE}")) => {
            format!("the policy speaks of ${{WORKSPACE}}, and there is none: {why}")
        }
        Some(why) => format!("{errors}\n{why}"),
        None => errors.to_string(),
    }
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

/// Reads policies that hold together, to judge by. `None` where there are none.
///
/// # Errors
/// One of them is not to be had, or wrong.
pub fn load_all(names: &[PathBuf], surroundings: Surroundings<'_>) -> Result<Option<Policies>, PolicyError> {
    together(names.iter().map(|name| load_for_run(name, surroundings, &mut Vec::new())))
}

/// The same of those in `law` to enforce, and of those in `trial` to judge by. The files that were read are added to
/// `files`; what is to be looked up again when the run starts, to `expanded`.
///
/// # Errors
/// One of them is not to be had, or wrong; one that is to be enforced says something else than its own examples.
pub fn load_enforced(
    law: &[PathBuf],
    trial: &[PathBuf],
    surroundings: Surroundings<'_>,
    files: &mut Vec<PathBuf>,
    expanded: &mut Expanded,
) -> Result<Option<Policies>, PolicyError> {
    let read = &Files::default();
    let law = law.iter().map(|name| {
        let policy = load_from(name, surroundings, read)?;
        match linked(policy.clone()).check_examples() {
            Ok(()) => {
                let planned = in_force(policy.clone())?;
                expanded.add(policy, planned.clone());
                Ok(planned)
            }
            Err(errors) => Err(PolicyError::Examples {
                home: in_temporary(surroundings.target),
                name: name.clone(),
                errors,
            }),
        }
    });
    let trial = trial.iter().map(|name| Ok(in_force(load_from(name, surroundings, read)?)?.on_trial()));
    let policies = together(law.chain(trial));
    files.append(&mut read.0.borrow_mut());
    policies
}

fn together(
    mut policies: impl Iterator<Item = Result<Policy, PolicyError>>,
) -> Result<Option<Policies>, PolicyError> {
    policies.try_fold(None, |all: Option<Policies>, policy| {
        let policy = policy?;
        Ok(Some(match all {
            Some(policies) => policies.and(policy),
            None => policy.into(),
        }))
    })
}

/// Reads a policy: a file, or one that ships by its name or as `NAME@VERSION`. What its rules say of what is there when
/// a run starts stands for all that their patterns match.
///
/// A word without a slash that is the name of one that ships means that one, whatever lies in the current
/// directory: who may write there does not choose the policy. `./NAME` means the file.
///
/// # Errors
/// It is not to be had, or wrong.
pub fn load(name: &Path, surroundings: Surroundings<'_>) -> Result<Policy, PolicyError> {
    load_from(name, surroundings, &Files::default()).map(linked)
}

/// The same for a run that starts now; the files that were read are added to `files`.
///
/// # Errors
/// As [`load`], and where what is there cannot be looked up.
pub fn load_for_run(
    name: &Path,
    surroundings: Surroundings<'_>,
    files: &mut Vec<PathBuf>,
) -> Result<Policy, PolicyError> {
    let read = Files::default();
    let policy = load_from(name, surroundings, &read);
    files.append(&mut read.0.into_inner());
    in_force(policy?)
}

fn load_from(name: &Path, surroundings: Surroundings<'_>, files: &Files) -> Result<Policy, PolicyError> {
    let found = workspace::resolve(surroundings.workspace, surroundings.current, &surroundings.target.home);
    let (workspace, why_not) = match found {
        Ok(workspace) => (Some(workspace), None),
        Err(error) if surroundings.workspace.is_some() => return Err(error.into()),
        // Only a policy that speaks of the workspace needs one.
        Err(error) => (None, Some(error.to_string())),
    };
    let variables = variables(surroundings, workspace.as_ref())?;
    parse(name, &variables, files).map_err(|error| match error {
        PolicyError::Invalid { errors, .. } => {
            let about_it = errors.to_string().contains("${WORKSPACE}");
            PolicyError::Invalid { errors, workspace: why_not.filter(|_| about_it) }
        }
        error => error,
    })
}

/// The same as [`load`], with the variables of a run that goes on.
///
/// # Errors
/// It is not to be had, or wrong.
pub fn load_with(name: &Path, variables: &Variables) -> Result<Policy, PolicyError> {
    in_force(parse(name, variables, &Files::default())?)
}

/// The policy that ships by this name or lies in this file, as another policy extends it: `NAME@VERSION`, or the path.
///
/// # Errors
/// No policy of that name ships, and there is no such file.
pub fn reference(name: &Path) -> Result<String, PolicyError> {
    if let Some((source, _)) = shipped(name) {
        return Ok(source.to_owned());
    }
    from_file(name)?;
    let path = name.display().to_string();
    Ok(if path.contains('/') { path } else { format!("./{path}") })
}

/// Reads a text that would lie in the file `name`.
///
/// # Errors
/// It is wrong.
pub fn read_text(name: &Path, text: &str, variables: &Variables) -> Result<Policy, PolicyError> {
    Policy::parse_with(&name.display().to_string(), text.as_bytes(), variables, &Files::default())
        .map_err(|errors| PolicyError::Invalid { errors, workspace: None })
}

fn parse(name: &Path, variables: &Variables, files: &Files) -> Result<Policy, PolicyError> {
    let (source, bytes) = match shipped(name) {
        Some((source, text)) => (source.to_owned(), text.as_bytes().to_vec()),
        None => {
            files.note(name);
            (name.display().to_string(), from_file(name)?)
        }
    };
    Policy::parse_with(&source, &bytes, variables, files)
        .map_err(|errors| PolicyError::Invalid { errors, workspace: None })
}

/// With what its paths lead to.
pub(crate) fn linked(policy: Policy) -> Policy {
    let ways = Ways::default();
    policy.follow_links(&|path| ways.resolve(path))
}

/// The same, and with what is there now.
fn in_force(policy: Policy) -> Result<Policy, PolicyError> {
    Ok(linked(policy.with_existing(&Now)?))
}

/// The policy that ships by this name, as `NAME@VERSION`, and its text: without a version the newest.
fn shipped(name: &Path) -> Option<(&'static str, &'static str)> {
    let name = name.to_str()?;
    let version = |found: &str| found.rsplit_once('@').and_then(|(_, version)| version.parse::<u32>().ok());
    let named = SHIPPED.iter().filter(|(found, _)| {
        *found == name || found.rsplit_once('@').is_some_and(|(without, _)| without == name)
    });
    named.max_by_key(|(found, _)| version(found)).copied()
}

/// Whether a policy of this name ships.
pub fn ships(name: &Path) -> bool {
    shipped(name).is_some()
}

fn shipped_names() -> String {
    SHIPPED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn from_file(file: &Path) -> Result<Vec<u8>, PolicyError> {
    read(file).map_err(|source| {
        // A bare word was meant as a name.
        let is_word = !file.as_os_str().as_bytes().iter().any(|byte| b"/.".contains(byte))
            || file.as_os_str().as_bytes().contains(&b'@');
        match source.kind() {
            io::ErrorKind::NotFound if is_word => PolicyError::Unknown { name: file.display().to_string() },
            _ => PolicyError::Read { path: file.to_owned(), source },
        }
    })
}

/// What of a policy nobody judges in a run that only audits, each in one line.
pub fn not_judged(policy: &Policy) -> Vec<String> {
    let (_, unjudged) = lsm::expressible(policy);
    // Whatever rules can name is told in the events.
    let known = Held::whole(Access::ALL.into_iter().collect());
    let unjudged = unjudged.into_iter().chain(lsm::beyond(policy, &known));
    unjudged.map(|unheld| format!("not judged in this run: {unheld}")).collect()
}

/// The variables that a policy has for a run.
///
/// # Errors
/// `--workspace` names something that cannot be one, or a value may not be.
pub fn given(surroundings: Surroundings<'_>) -> Result<Variables, PolicyError> {
    let found = workspace::resolve(surroundings.workspace, surroundings.current, &surroundings.target.home);
    let workspace = match found {
        Err(error) if surroundings.workspace.is_some() => return Err(error.into()),
        found => found.ok(),
    };
    Ok(variables(surroundings, workspace.as_ref())?)
}

/// What names a repository that is not taken for the run's: `${GIT_DIR}` and `${GIT_COMMON_DIR}` have no value for it.
pub fn left_out(surroundings: Surroundings<'_>) -> Option<String> {
    let found = workspace::resolve(surroundings.workspace, surroundings.current, &surroundings.target.home);
    found.ok()?.left_out
}

/// A policy file's bytes.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(file)?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(fs::File::open(file)?, LONGEST), &mut bytes)?;
    Ok(bytes)
}

/// The files that policies were read from. Those that a policy extends lie relative to it.
#[derive(Debug, Default)]
struct Files(RefCell<Vec<PathBuf>>);

impl Files {
    fn note(&self, file: &Path) {
        self.0.borrow_mut().push(file.to_owned());
    }
}

impl Resolver for Files {
    fn resolve(&self, path: &str, from: &str) -> Result<Source, String> {
        let folder = Path::new(from).parent().unwrap_or(Path::new(""));
        let file = folder.join(path);
        self.note(&file);
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
    fn a_run_that_audits_judges_whatever_targets_can_name() {
        let text = "version: 1\nname: p\nnetwork:\n  default: deny\n  rules:\n    \
            - { name: all, allow: [all], to: [\"a.example:443\", \"own:80\", \"unix:/x\"] }\n";
        let policy = Policy::parse("p.yaml", text, &Variables::new()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(not_judged(&policy), Vec::<String>::new());
    }

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
        assert!(error.contains("speaks of ${WORKSPACE}") && error.contains("--workspace"), "{error}");
        // Other errors are told, too.
        let wrong = OF_THE_WORKSPACE.replace("version: 1", "version: 2");
        let error = try_load(&wrong, home.path(), home.path(), None).unwrap_err().to_string();
        assert!(error.contains("p.yaml:1:") && error.contains("--workspace"), "{error}");
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
    fn policies_that_ship_have_names() {
        let target = Target::own().unwrap();
        let place = tempfile::tempdir().unwrap();
        let surroundings = Surroundings {
            target: &target,
            current: place.path(),
            workspace: Some(place.path()),
            run_dir: Path::new("/run/x"),
        };
        for name in ["base", "base@1"] {
            assert_eq!(load(Path::new(name), surroundings).unwrap().name(), "base");
        }
        for name in ["bas", "base@9"] {
            let unknown = load(Path::new(name), surroundings).unwrap_err().to_string();
            assert!(unknown.starts_with(&format!("no policy {name}: ")), "{unknown}");
            assert!(unknown.contains("base@1"), "{unknown}");
        }
        let missing = load(Path::new("./base"), surroundings).unwrap_err();
        assert!(matches!(missing, PolicyError::Read { .. }), "{missing}");
    }

    #[test]
    fn several_policies_are_one_whole() {
        let target = Target::own().unwrap();
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = place.path().join(format!("{name}.yaml"));
            let text = format!("version: 1\nname: {name}\nfiles: {{ default: deny }}\n");
            fs::write(&path, text).unwrap();
            path
        };
        let surroundings = Surroundings {
            target: &target,
            current: place.path(),
            workspace: None,
            run_dir: Path::new("/r"),
        };
        let (b, a, c) = (file("b"), file("a"), file("c"));
        let mut files = Vec::new();
        let all = load_enforced(&[b, a], &[c], surroundings, &mut files, &mut Expanded::default())
            .unwrap()
            .unwrap();
        let modes: Vec<_> = all.iter().map(|policy| (policy.name(), policy.mode())).collect();
        use policy::Mode::{Audit, Enforce};
        assert_eq!(modes, [("a", Enforce), ("b", Enforce), ("c", Audit)]);
        assert!(load_all(&[], surroundings).unwrap().is_none());
        assert!(load_all(&["/nonexistent".into()], surroundings).is_err());
    }

    #[test]
    fn a_policy_that_fails_its_own_examples_is_not_enforced() {
        let target = Target::own().unwrap();
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("p.yaml");
        let text = "version: 1\nname: p\nfiles: { default: deny }\nexamples:\n  \
            - { open: /x, access: read, verdict: allow }\n";
        fs::write(&file, text).unwrap();
        let surroundings = Surroundings {
            target: &target,
            current: place.path(),
            workspace: None,
            run_dir: Path::new("/r"),
        };
        let names = [file.clone()];
        let error = load_enforced(&names, &[], surroundings, &mut Vec::new(), &mut Expanded::default())
            .unwrap_err()
            .to_string();
        let command = format!("`sandbox policy test {}`", file.display());
        for says in ["p.yaml:5:5: the policy says deny by `p/files.default`", &command] {
            assert!(error.contains(says), "{says} in {error}");
        }
        // Where it blocks nothing it is only a policy.
        assert!(load_enforced(&[], &names, surroundings, &mut Vec::new(), &mut Expanded::default()).is_ok());
        assert!(load_all(&names, surroundings).is_ok());
    }

    #[test]
    fn a_rule_holds_for_what_a_link_leads_to() {
        let place = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(place.path()).unwrap();
        fs::create_dir(real.join("target")).unwrap();
        std::os::unix::fs::symlink("target", real.join("link")).unwrap();
        let text = OF_THE_WORKSPACE.replace("${WORKSPACE}", &real.join("link").display().to_string());
        let policy = try_load(&text, Path::new("/root"), place.path(), None).unwrap();
        let denied = |path: &str| {
            let path = real.join(path);
            let verdict = policy::evaluate::file(&policy, Access::Write.into(), path.as_os_str().as_bytes());
            verdict.decision == policy::Decision::Deny
        };
        assert!(denied("target/x") && denied("link/x") && !denied("other/x"));
        assert!(policy.effective_yaml().contains(&format!("{}/target/**", real.display())));
        assert!(policy.notes()[0].text.contains("leads to"), "{:?}", policy.notes());
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
