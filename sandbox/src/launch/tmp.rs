//! What a run with a /tmp of its own (`tmp: private`) keeps of the machine's: where it works, and its user's home.
//!
//! Only looks; [`crate::enforce::tmp`] lays it. The store and the files of policies are not kept: nothing inside needs
//! them, and what is out of reach nobody changes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::policy::Surroundings;
use super::program::Program;
use super::workspace;
use crate::enforce::tmp::PrivateTmp;

/// The directories for temporary files that every program knows.
const PLACES: [&str; 2] = ["/tmp", "/var/tmp"];

/// Where shared memory has names (shm_overview(7)).
const SHARED_MEMORY: &str = "/dev/shm";

/// Variables by which programs are told of another.
const VARIABLES: [&str; 3] = ["TMPDIR", "TMP", "TEMP"];

/// What a run here would have; `program`: what it executes, where that is known.
///
/// # Errors
/// Why it could not work, and what to do.
pub fn plan(around: Surroundings<'_>, program: Option<&Program>) -> Result<PrivateTmp, String> {
    let mut places: Vec<PathBuf> = PLACES.iter().filter_map(|place| directory(Path::new(place))).collect();
    places.retain(|place| place != Path::new("/"));
    if places.is_empty() {
        return Err("there is neither /tmp nor /var/tmp here".to_owned());
    }
    places.extend(directory(Path::new(SHARED_MEMORY)));
    let mut kept = vec![around.current.to_owned()];
    match workspace::resolve(around.workspace, around.current, &around.target.home) {
        Ok(found) => {
            kept.push(found.directory);
            kept.extend(found.git.into_iter().flat_map(|git| [git.dir, git.common]));
        }
        // Where it is the command's directory by default, that is kept anyway.
        Err(_) => kept.extend(around.workspace.and_then(directory)),
    }
    if let Some(place) = places.iter().find(|place| {
        *place == around.current || around.workspace.and_then(directory).as_ref() == Some(*place)
    }) {
        let place = place.display();
        return Err(format!(
            "the run works in {place}, which would be empty: start it in a directory below, which stays, or elsewhere"
        ));
    }
    kept.extend(directory(&around.target.home));
    let environment =
        program.map_or_else(|| around.target.environment(), |program| program.environment().clone());
    let told = VARIABLES.iter().filter_map(|name| environment.get(name));
    let made = told.filter_map(|path| directory(Path::new(&path))).collect();
    let tmp = PrivateTmp::new(places, kept, made);
    match program.and_then(|program| executed(program, around.current)).filter(|path| tmp.hides(path)) {
        Some(path) => Err(format!(
            "{} would be out of reach: put the program elsewhere, or start in its directory",
            path.display()
        )),
        None => Ok(tmp),
    }
}

/// A directory, without symbolic links; `None` where there is none.
fn directory(path: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok().filter(|_| path.is_absolute())?;
    real.is_dir().then_some(real)
}

/// The file that would be executed.
fn executed(program: &Program, current: &Path) -> Option<PathBuf> {
    let first = program.candidates().first()?;
    let path = current.join(OsStr::from_bytes(first.as_bytes()));
    fs::canonicalize(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::identity::Target;

    #[test]
    fn where_the_run_works_stays() {
        let place = tempfile::tempdir_in("/tmp").unwrap();
        let top = fs::canonicalize(place.path()).unwrap();
        for name in ["work", "other", "home"] {
            fs::create_dir(top.join(name)).unwrap();
        }
        let target = Target { home: top.join("home"), ..Target::own().unwrap() };
        let (current, run_dir) = (top.join("work"), top.join("store/run"));
        let around = Surroundings { target: &target, current: &current, workspace: None, run_dir: &run_dir };
        let tmp = plan(around, None).unwrap();
        assert!(tmp.places().contains(&PathBuf::from("/tmp")));
        for name in ["other", "store/run", "work-2"] {
            assert!(tmp.hides(&top.join(name)), "{name}");
        }
        for name in ["work", "home", "work/deep", ""] {
            assert!(!tmp.hides(&top.join(name)), "{name}");
        }
        let asked = plan(Surroundings { workspace: Some(&top.join("other")), ..around }, None).unwrap();
        assert!(!asked.hides(&top.join("other")) && !asked.hides(&current));
    }

    #[test]
    fn what_cannot_work_is_told() {
        let target = Target { home: "/no/such/home".into(), ..Target::own().unwrap() };
        let run_dir = Path::new("/run/x");
        let around = Surroundings { target: &target, current: Path::new("/tmp"), workspace: None, run_dir };
        let refused = plan(around, None).unwrap_err();
        assert!(refused.contains("the run works in /tmp"), "{refused}");
        let place = tempfile::tempdir_in("/tmp").unwrap();
        let script = fs::canonicalize(place.path()).unwrap().join("script");
        fs::copy("/bin/true", &script).unwrap();
        let program = Program::find(&[script.clone().into()], target.environment()).unwrap();
        let elsewhere = Surroundings { current: Path::new("/usr"), ..around };
        let refused = plan(elsewhere, Some(&program)).unwrap_err();
        assert!(refused.contains(&format!("{} would be out of reach", script.display())), "{refused}");
        assert!(plan(Surroundings { workspace: Some(place.path()), ..elsewhere }, Some(&program)).is_ok());
    }
}
