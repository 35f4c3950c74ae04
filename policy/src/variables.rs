//! What `${NAME}` stands for: the variables that every run gives, the caller's environment, and `vars`.
//!
//! A variable is bytes, put in literally: nothing in its value is ever a pattern. Where the values come
//! from (environment, git, the passwd file) is the caller's business; this module reads nothing.

use std::collections::BTreeMap;

use crate::error::cut;

/// The variables that a run gives, each unset until it is set.
pub const GIVEN: [&str; 8] =
    ["HOME", "USER", "UID", "TMP", "RUN_DIR", "WORKSPACE", "GIT_DIR", "GIT_COMMON_DIR"];

/// Most bytes of a value after substitution: no path is longer.
const MAX_VALUE: usize = 4096;

/// The given variables, and the environment of the invoking user.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    given: BTreeMap<&'static str, Vec<u8>>,
    env: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A value that a given variable cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GivenFault {
    /// Not one of [`GIVEN`].
    #[error("`{name}` is not a variable that a run gives")]
    Unknown {
        /// The name.
        name: String,
    },
    /// A workspace that would open too much.
    #[error(
        "the workspace cannot be `{path}`, which is {what}; choose a directory of its own with --workspace"
    )]
    Workspace {
        /// The directory.
        path: String,
        /// Why not.
        what: &'static str,
    },
}

/// A `${…}` that cannot be replaced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableFault {
    /// No closing brace.
    #[error("`${{` begins a variable that never ends; close it with `}}`, or write `\\$` for a dollar sign")]
    Unclosed,
    /// Nothing known by that name.
    #[error("unknown variable `${{{}}}`{}", cut(.name), .nearest.map(|n| format!("; did you mean `${{{n}}}`?")).unwrap_or_default())]
    Unknown {
        /// The name.
        name: String,
        /// A known name close to it.
        nearest: Option<&'static str>,
    },
    /// A given variable without value on this run.
    #[error(
        "`${{{0}}}` has no value in this run; `${{{0}:-none}}` leaves the pattern out where that is so", cut(.name)
    )]
    Unset {
        /// The name.
        name: String,
    },
    /// A default other than `none`.
    #[error("`${{{}:-{}}}`: only `:-none` may stand there", cut(.name), cut(.found))]
    Default {
        /// The name.
        name: String,
        /// What follows `:-`.
        found: String,
    },
    /// Refers to itself.
    #[error("variable `{name}` refers to itself")]
    Cycle {
        /// The name.
        name: String,
    },
    /// Longer than any path.
    #[error("variable `{name}` becomes longer than {MAX_VALUE} bytes, more than any path has")]
    TooLong {
        /// The name.
        name: String,
    },
    /// A `vars` name that a run gives.
    #[error("`{name}` is given by the run and cannot be set in `vars`; choose another name")]
    Given {
        /// The name.
        name: String,
    },
    /// A `vars` name that cannot be written in `${…}`.
    #[error("variable name `{}` may only have letters, digits and `_`, and begins with a letter", cut(.name))]
    BadName {
        /// The name.
        name: String,
    },
}

impl Variables {
    /// No variable has a value.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives one of [`GIVEN`] its value. Slashes at the end of a path are dropped.
    ///
    /// # Errors
    ///
    /// [`GivenFault::Unknown`] for any other name.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) -> Result<(), GivenFault> {
        let unknown = || GivenFault::Unknown { name: name.to_owned() };
        let name = GIVEN.iter().find(|given| **given == name).ok_or_else(unknown)?;
        let mut value = value.into();
        while value.len() > 1 && value.ends_with(b"/") {
            value.pop();
        }
        self.given.insert(name, value);
        Ok(())
    }

    /// Adds one variable of the environment, `${env.NAME}`.
    pub fn set_env(&mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.env.insert(name.into(), value.into());
    }

    /// The value of a given variable.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.given.get(name).map(Vec::as_slice).filter(|value| !value.is_empty())
    }

    /// Those of [`GIVEN`] that were set.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.given.iter().map(|(name, value)| (*name, value.as_slice()))
    }

    /// The environment.
    pub fn env(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.env.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// Sets WORKSPACE, which must not be `/`, HOME or a directory that HOME lies in. Set HOME first.
    ///
    /// # Errors
    ///
    /// [`GivenFault::Workspace`] for such a directory.
    pub fn set_workspace(&mut self, path: impl Into<Vec<u8>>) -> Result<(), GivenFault> {
        let mut path = path.into();
        while path.len() > 1 && path.ends_with(b"/") {
            path.pop();
        }
        let refuse = |what| GivenFault::Workspace { path: String::from_utf8_lossy(&path).into_owned(), what };
        if path == b"/" {
            return Err(refuse("the whole file system"));
        }
        if let Some(rest) = self.get("HOME").and_then(|home| home.strip_prefix(path.as_slice())) {
            match rest {
                [] => return Err(refuse("the home directory")),
                [b'/', ..] => return Err(refuse("a directory that contains the home directory")),
                _ => {}
            }
        }
        self.set("WORKSPACE", path)
    }
}

/// The variables as one policy sees them: given, environment, and its own `vars`.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    variables: &'a Variables,
    own: BTreeMap<String, Own>,
}

/// A value of `vars`.
#[derive(Clone, Debug)]
enum Own {
    /// `None`: an environment variable with `:-none` in it is not set.
    Value(Option<Vec<u8>>),
    /// Its definition is wrong, and reported already.
    Broken,
}

/// What a `${…}` gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    /// `:-none`, and there is no value: the pattern is left out.
    None,
    /// Refers to something that is wrong and reported already.
    Broken,
}

impl<'a> Scope<'a> {
    /// Resolves `vars`, whose order has no meaning. Gives the faults by the index of the definition.
    pub fn new(variables: &'a Variables, vars: &[(String, String)]) -> (Self, Vec<(usize, VariableFault)>) {
        let mut faults = Vec::new();
        let mut texts: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        let mut scope = Self { variables, own: BTreeMap::new() };
        for (index, (name, text)) in vars.iter().enumerate() {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(word) {
                faults.push((index, VariableFault::BadName { name: name.clone() }));
            } else if GIVEN.contains(&name.as_str()) {
                faults.push((index, VariableFault::Given { name: name.clone() }));
            } else {
                texts.insert(name, (index, text));
            }
        }
        let names: Vec<&str> = texts.keys().copied().collect();
        for name in names {
            scope.resolve(name, &texts, &mut Vec::new(), &mut faults);
        }
        (scope, faults)
    }

    fn resolve<'t>(
        &mut self,
        name: &'t str,
        texts: &BTreeMap<&'t str, (usize, &'t str)>,
        path: &mut Vec<&'t str>,
        faults: &mut Vec<(usize, VariableFault)>,
    ) {
        let Some(&(index, text)) = texts.get(name) else { return };
        if self.own.contains_key(name) {
            return;
        }
        // Definitions nested deeper than this are a chain that nobody writes; it bounds the recursion.
        if path.contains(&name) || path.len() > 64 {
            faults.push((index, VariableFault::Cycle { name: name.to_owned() }));
            self.own.insert(name.to_owned(), Own::Broken);
            return;
        }
        path.push(name);
        for reference in references(text) {
            if let Some((&other, _)) = texts.get_key_value(reference) {
                self.resolve(other, texts, path, faults);
            }
        }
        path.pop();
        if self.own.contains_key(name) {
            return;
        }
        let own = match self.literal(text) {
            Ok(Value::Bytes(bytes)) if bytes.len() > MAX_VALUE => {
                faults.push((index, VariableFault::TooLong { name: name.to_owned() }));
                Own::Broken
            }
            Ok(Value::Bytes(bytes)) => Own::Value(Some(bytes)),
            Ok(Value::None) => Own::Value(None),
            Ok(Value::Broken) => Own::Broken,
            Err(fault) => {
                faults.push((index, fault));
                Own::Broken
            }
        };
        self.own.insert(name.to_owned(), own);
    }

    /// Text in which only `${…}` means anything.
    pub fn literal(&self, text: &str) -> Result<Value, VariableFault> {
        let mut bytes = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            join(&mut bytes, &rest.as_bytes()[..at]);
            let (inside, after) = rest[at + 2..].split_once('}').ok_or(VariableFault::Unclosed)?;
            match self.lookup(inside)? {
                Value::Bytes(value) => join(&mut bytes, &value),
                other => return Ok(other),
            }
            rest = after;
            if bytes.len() > MAX_VALUE {
                return Ok(Value::Bytes(bytes));
            }
        }
        join(&mut bytes, rest.as_bytes());
        Ok(Value::Bytes(bytes))
    }

    /// What stands between `${` and `}`.
    pub fn lookup(&self, inside: &str) -> Result<Value, VariableFault> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if let Some(found) = default.filter(|default| *default != "none") {
            return Err(VariableFault::Default { name: name.to_owned(), found: found.to_owned() });
        }
        let value = if let Some(env) = name.strip_prefix("env.") {
            self.variables.env.get(env.as_bytes()).cloned().filter(|value| !value.is_empty())
        } else if GIVEN.contains(&name) {
            self.variables.get(name).map(<[u8]>::to_vec)
        } else {
            match self.own.get(name) {
                Some(Own::Value(Some(value))) => Some(value.clone()),
                Some(Own::Value(None)) => return Ok(Value::None),
                Some(Own::Broken) => return Ok(Value::Broken),
                None => {
                    let nearest = crate::nearest::nearest(name, GIVEN.iter().copied());
                    return Err(VariableFault::Unknown { name: name.to_owned(), nearest });
                }
            }
        };
        match (value, default) {
            (Some(value), _) => Ok(Value::Bytes(value)),
            (None, Some(_)) => Ok(Value::None),
            (None, None) => Err(VariableFault::Unset { name: name.to_owned() }),
        }
    }
}

/// Appends, without doubling a slash: HOME may be `/`.
fn join(bytes: &mut Vec<u8>, more: &[u8]) {
    let doubled = bytes.as_slice() == b"/" && more.starts_with(b"/");
    bytes.extend_from_slice(&more[usize::from(doubled)..]);
}

/// The names in the `${…}` of a text.
fn references(text: &str) -> impl Iterator<Item = &str> {
    text.split("${")
        .skip(1)
        .filter_map(|part| part.split_once('}'))
        .map(|(inside, _)| inside.split_once(":-").map_or(inside, |(name, _)| name))
}
