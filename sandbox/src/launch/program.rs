//! The command: found on the user's PATH before anything is made, and executed with the user's environment.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::identity::Environment;

/// Where execvp(3) looks when there is no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Why there is nothing to execute.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Not on PATH, or no such file.
    #[error("{0}: command not found")]
    NotFound(String),
    /// There is such a file, and it cannot be executed.
    #[error("{path}: {why}")]
    NotExecutable {
        /// The file.
        path: String,
        /// Why not.
        why: &'static str,
    },
    /// An argument or a variable holds a NUL byte.
    #[error("{0} holds a NUL byte, which no command can be given")]
    Nul(&'static str),
}

/// A command that can be executed.
#[derive(Clone, Debug)]
pub struct Program {
    candidates: Vec<CString>,
    argv: Vec<CString>,
    environment: Environment,
}

impl Program {
    /// Finds `command[0]` for the user whose environment this is.
    pub fn find(command: &[OsString], environment: Environment) -> Result<Program, ProgramError> {
        let name = command.first().map(OsString::as_os_str).unwrap_or_default();
        let argv = command
            .iter()
            .map(|argument| CString::new(argument.as_bytes()).map_err(|_| ProgramError::Nul("an argument")))
            .collect::<Result<Vec<_>, _>>()?;
        let path = environment.get("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        let candidates = candidates(name, &path)?
            .into_iter()
            .map(|path| CString::new(path.into_os_string().as_bytes()).map_err(|_| ProgramError::Nul("PATH")))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Program { candidates, argv, environment })
    }

    /// The same command with another environment.
    #[must_use]
    pub fn with_environment(self, environment: Environment) -> Program {
        Program { environment, ..self }
    }

    /// Its environment.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Files to try, in this order; at least one.
    pub fn candidates(&self) -> &[CString] {
        &self.candidates
    }

    /// Whether one of the files is still there, as far as the calling process can see.
    pub fn is_there(&self) -> bool {
        self.candidates.iter().any(|path| Path::new(OsStr::from_bytes(path.as_bytes())).exists())
    }

    /// The arguments, the command's name first.
    pub fn argv(&self) -> &[CString] {
        &self.argv
    }

    /// Executes a candidate; comes back only with an error.
    pub fn exec(&self, path: &CStr) -> Errno {
        self.exec_with(path, &self.argv)
    }

    /// Executes a file with other arguments; comes back only with an error.
    pub fn exec_with(&self, path: &CStr, argv: &[CString]) -> Errno {
        let argv = pointers(argv);
        match &self.environment {
            Environment::AsFound => {
                unsafe extern "C" {
                    static environ: *const *const libc::c_char;
                }
                // SAFETY: path and argv end as execve wants them and live on; `environ` is the process's own,
                // which nothing changes in this process with one thread.
                unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), environ) };
            }
            Environment::Changed(variables) => {
                let variables = pointers(variables);
                // SAFETY: as above, for all three.
                unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), variables.as_ptr()) };
            }
        }
        Errno::last()
    }
}

/// A list of C strings as exec takes it: ended by a null pointer.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

fn candidates(name: &OsStr, path: &OsStr) -> Result<Vec<PathBuf>, ProgramError> {
    let shown = || name.to_string_lossy().into_owned();
    if name.is_empty() {
        return Err(ProgramError::NotFound("''".into()));
    }
    if name.as_bytes().contains(&b'/') {
        return match judge(Path::new(name)) {
            Found::Executable => Ok(vec![name.into()]),
            Found::No(why) => Err(ProgramError::NotExecutable { path: shown(), why }),
            Found::Nothing => Err(ProgramError::NotFound(shown())),
        };
    }
    let mut usable = Vec::new();
    let mut unusable = None;
    for directory in path.as_bytes().split(|byte| *byte == b':') {
        // An empty entry is the current directory.
        let directory = if directory.is_empty() { b".".as_slice() } else { directory };
        let file = Path::new(OsStr::from_bytes(directory)).join(name);
        match judge(&file) {
            Found::Executable => usable.push(file),
            Found::No(why) => unusable = unusable.or(Some((file, why))),
            Found::Nothing => {}
        }
    }
    match unusable {
        _ if !usable.is_empty() => Ok(usable),
        // A directory of that name on PATH is not what was meant.
        Some((file, why)) if !file.is_dir() => {
            Err(ProgramError::NotExecutable { path: file.display().to_string(), why })
        }
        _ => Err(ProgramError::NotFound(shown())),
    }
}

enum Found {
    Executable,
    No(&'static str),
    Nothing,
}

/// Root may see a file that the user may not execute: exec has the last word, this is for the common mistakes.
fn judge(path: &Path) -> Found {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Found::No("is a directory"),
        Ok(found) if !found.is_file() => Found::No("is not a regular file"),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            Found::No("permission denied (not executable)")
        }
        Ok(_) => Found::Executable,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Found::No("permission denied"),
        Err(_) => Found::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str, path: &str) -> Result<Vec<PathBuf>, ProgramError> {
        candidates(OsStr::new(name), OsStr::new(path))
    }

    #[test]
    fn the_path_is_searched_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("1"), directory.path().join("2"));
        for (place, mode) in [(&one, 0o644), (&two, 0o755)] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("tool"), "").unwrap();
            fs::set_permissions(place.join("tool"), fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = format!("/nonexistent:{}:{}", one.display(), two.display());
        assert_eq!(find("tool", &path).unwrap(), vec![two.join("tool")]);
        assert!(matches!(find("tool", one.to_str().unwrap()), Err(ProgramError::NotExecutable { .. })));
        assert!(matches!(find("other", &path), Err(ProgramError::NotFound(_))));
        assert!(matches!(find(one.to_str().unwrap(), ""), Err(ProgramError::NotExecutable { .. })));
        // `1` is a directory on PATH: not a command at all.
        assert!(matches!(find("1", directory.path().to_str().unwrap()), Err(ProgramError::NotFound(_))));
        assert!(matches!(find("", "/bin"), Err(ProgramError::NotFound(_))));
    }
}
