//! What is asked for: conditions on one event, all of which must hold.
//!
//! A condition can be put to a line of the log ([`Filter::matches`]); [`super::question`] puts the same conditions to
//! the index, and a test compares the two.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use audit_verify::index::Row;
use audit_verify::index::lines::Line;

use super::destination::Destination;
use crate::event::EventType;

/// What is asked for. Within one list any may match; lists that are empty ask nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Types of events.
    pub types: Vec<TypeFilter>,
    /// Actions, as in the log.
    pub actions: Vec<&'static str>,
    /// Rules: `policy/rule`, or the rule alone.
    pub rules: Vec<String>,
    /// Paths, and what lies below them.
    pub paths: Vec<Prefix>,
    /// Text that stands anywhere in the line.
    pub contains: Vec<Needle>,
    /// Other ends of connections.
    pub destinations: Vec<Destination>,
    /// Process ids.
    pub pids: Vec<i64>,
    /// Executables.
    pub exes: Vec<ExeFilter>,
    /// No earlier than this, nanoseconds since 1970.
    pub since: Option<i64>,
    /// No later than this, nanoseconds since 1970.
    pub until: Option<i64>,
    /// Which outcomes.
    pub outcome: Outcome,
}

/// Which outcomes of attempts are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// All.
    #[default]
    Any,
    /// Those that failed: `ret` below zero, or blocked. A connection that is under way did not fail.
    Failed,
}

/// `ret` of a connection that is under way.
pub(super) const UNDER_WAY: i64 = -(libc::EINPROGRESS as i64);

/// One type of event, or a group of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeFilter {
    /// This type.
    Exact(&'static str),
    /// A group: types that begin with one of these, and some by name.
    Group {
        /// Beginnings of their names.
        prefixes: &'static [&'static str],
        /// Whole names.
        names: &'static [&'static str],
    },
}

/// Groups of types by name.
const GROUPS: [(&str, TypeFilter); 4] = [
    ("file", TypeFilter::Group { prefixes: &["file_", "dir_"], names: &[] }),
    ("net", TypeFilter::Group { prefixes: &["net_"], names: &[] }),
    ("proc", TypeFilter::Group { prefixes: &["proc_"], names: &["fork", "exec", "exit"] }),
    ("dns", TypeFilter::Group { prefixes: &["dns_"], names: &[] }),
];

/// A word of the query that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No type of event has this name.
    #[error("no such type of event\nGroups are file, net, proc and dns. Types are{}", type_names())]
    Type,
    /// No action has this name.
    #[error("actions are OBSERVED, ALLOWED, BLOCKED and WOULD_BLOCK")]
    Action,
    /// Nothing to look for.
    #[error("{0}: is empty; leave it away to ask for everything")]
    Empty(&'static str),
}

/// The names of all types, in lines of their own that fit a terminal.
fn type_names() -> String {
    const WIDTH: usize = 78;
    let mut text = String::new();
    let mut column = WIDTH;
    for name in EventType::ALL.iter().map(|kind| kind.name()) {
        let separator = if column + 1 + name.len() > WIDTH { "\n  " } else { " " };
        column = if separator == " " { column + 1 } else { 2 } + name.len();
        text.push_str(separator);
        text.push_str(name);
    }
    text
}

impl TypeFilter {
    /// Reads the name of a type or a group.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn parse(word: &str) -> Result<Self, FilterError> {
        let known = EventType::ALL.iter().find(|kind| kind.name() == word);
        match (GROUPS.iter().find(|(name, _)| *name == word), known) {
            (Some((_, group)), _) => Ok(group.clone()),
            (None, Some(kind)) => Ok(TypeFilter::Exact(kind.name())),
            (None, None) => Err(FilterError::Type),
        }
    }

    /// Whether it means a type of this name.
    pub fn matches(&self, kind: &[u8]) -> bool {
        match self {
            TypeFilter::Exact(name) => kind == name.as_bytes(),
            TypeFilter::Group { prefixes, names } => {
                prefixes.iter().any(|prefix| kind.starts_with(prefix.as_bytes()))
                    || names.iter().any(|name| kind == name.as_bytes())
            }
        }
    }
}

/// Reads the name of an action.
///
/// # Errors
/// There is none of that name.
pub fn action(word: &str) -> Result<&'static str, FilterError> {
    ["OBSERVED", "ALLOWED", "BLOCKED", "WOULD_BLOCK"]
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(word))
        .ok_or(FilterError::Action)
}

/// A path and what lies below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(Vec<u8>);

impl Prefix {
    /// Of an absolute path. `.` and `..` are taken away by name alone, as paths in the log have none; links are not
    /// followed, for what they led to may be gone.
    pub fn new(path: &Path) -> Self {
        let mut names: Vec<&[u8]> = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name.as_bytes()),
                Component::ParentDir => _ = names.pop(),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Prefix(names.into_iter().flat_map(|name| [b"/", name].concat()).collect())
    }

    /// The path itself, without a slash at its end; empty for the root.
    pub fn path(&self) -> &[u8] {
        &self.0
    }

    /// Whether `path` is it or lies below it.
    pub fn matches(&self, path: &[u8]) -> bool {
        path.strip_prefix(&*self.0)
            .is_some_and(|rest| rest.first().map_or(!self.0.is_empty(), |b| *b == b'/'))
    }
}

/// An executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExeFilter {
    /// By its path, or that of a directory above.
    Prefix(Prefix),
    /// By the last component of its path.
    Name(Vec<u8>),
}

impl ExeFilter {
    /// Whether it means the executable at this path.
    pub fn matches(&self, exe: &[u8]) -> bool {
        match self {
            ExeFilter::Prefix(prefix) => prefix.matches(exe),
            ExeFilter::Name(name) => exe.rsplit(|byte| *byte == b'/').next() == Some(name),
        }
    }
}

/// Text to look for in lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needle {
    plain: String,
    /// As it stands in a string of a line, where that is another form.
    escaped: Option<String>,
}

impl Needle {
    /// Of a text that is not empty.
    ///
    /// # Errors
    /// It is empty.
    pub fn new(text: &[u8]) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Err(FilterError::Empty("--contains"));
        }
        let mut line = Vec::new();
        let mut object = audit_verify::canonical::ObjectWriter::new(&mut line);
        object.put("a", text);
        // One key alone is never out of order.
        let _ = object.finish();
        let line = String::from_utf8_lossy(&line).into_owned();
        let escaped = line["{\"a\": \"".len()..line.len() - "\"}".len()].to_owned();
        let plain = String::from_utf8_lossy(text).into_owned();
        Ok(Needle { escaped: Some(escaped).filter(|escaped| *escaped != plain), plain })
    }

    fn stands_in(&self, line: &str) -> bool {
        line.contains(&self.plain) || self.escaped.as_ref().is_some_and(|escaped| line.contains(escaped))
    }
}

impl Filter {
    /// Whether the event of a line is asked for. `row` is what the index keeps of it.
    pub fn matches(&self, line: &Line<'_>, row: &Row<'_>) -> bool {
        self.row_matches(row) && self.text_matches(line.text)
    }

    /// [`Filter::matches`], text left aside.
    pub fn row_matches(&self, row: &Row<'_>) -> bool {
        let string = |column: &str| row.string(column);
        fn any<T>(wanted: &[T], matches: impl Fn(&T) -> bool) -> bool {
            wanted.is_empty() || wanted.iter().any(matches)
        }
        let at = row.number("wall_ns").unwrap_or(0);
        any(&self.types, |kind| string("type").is_some_and(|found| kind.matches(found)))
            && any(&self.actions, |action| string("action") == Some(action.as_bytes()))
            && any(&self.rules, |rule| string("policy_rule").is_some_and(|found| rule_matches(rule, found)))
            && any(&self.pids, |pid| row.number("pid") == Some(*pid))
            && any(&self.exes, |exe| string("exe").is_some_and(|found| exe.matches(found)))
            && any(&self.paths, |path| {
                ["path", "path2"].iter().any(|key| string(key).is_some_and(|found| path.matches(found)))
            })
            && any(&self.destinations, |destination| {
                destination.matches(string("dst_ip"), [string("host"), string("sni")], row.number("dst_port"))
            })
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at <= until)
            && match self.outcome {
                Outcome::Any => true,
                Outcome::Failed => {
                    row.number("ret").is_some_and(|ret| ret < 0 && ret != UNDER_WAY)
                        || string("action") == Some(b"BLOCKED")
                }
            }
    }

    /// Whether any of the texts asked for stands in the line.
    pub fn text_matches(&self, line: &[u8]) -> bool {
        // A line that was proven canonical is ASCII.
        self.contains.is_empty()
            || std::str::from_utf8(line)
                .is_ok_and(|line| self.contains.iter().any(|needle| needle.stands_in(line)))
    }

    /// Whether nothing but text is asked for, so that the index cannot help.
    pub fn is_text_alone(&self) -> bool {
        !self.contains.is_empty() && *self == Filter { contains: self.contains.clone(), ..Filter::default() }
    }
}

/// Whether `wanted` names the rule `found`, which is `policy/rule`.
pub(super) fn rule_matches(wanted: &str, found: &[u8]) -> bool {
    let name = found.iter().position(|byte| *byte == b'/').map(|slash| &found[slash + 1..]);
    found == wanted.as_bytes() || name == Some(wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_means_what_lies_below_it_by_components() {
        let prefix = |path: &str| Prefix::new(Path::new(path));
        for (path, found, expected) in [
            ("/etc", "/etc", true),
            ("/etc/", "/etc/passwd", true),
            ("/etc", "/etcetera", false),
            ("/etc/passwd", "/etc", false),
            ("/", "/", true),
            ("/", "/x", true),
            ("/", "x", false),
            ("/", "", false),
        ] {
            assert_eq!(prefix(path).matches(found.as_bytes()), expected, "{path} {found}");
        }
    }

    #[test]
    fn a_word_that_means_nothing_is_an_error_that_says_what_does() {
        let error = TypeFilter::parse("file_opn").unwrap_err().to_string();
        assert!(
            error.contains("Groups are file, net, proc and dns") && error.contains("file_open"),
            "{error}"
        );
        assert!(TypeFilter::parse("proc").unwrap().matches(b"exec"));
        assert!(TypeFilter::parse("file").unwrap().matches(b"dir_create"));
        assert!(!TypeFilter::parse("file").unwrap().matches(b"exec"));
        assert_eq!(action("blocked"), Ok("BLOCKED"));
        assert!(action("block").is_err());
        assert!(Needle::new(b"").is_err());
    }

    #[test]
    fn text_is_found_as_it_was_typed_and_as_it_stands() {
        let stands = |text: &[u8], line: &str| Needle::new(text).unwrap().stands_in(line);
        let line = r#"{"argv": ["caf\u00e9", "a\nb", "\udcff"], "ret": -13}"#;
        assert!(stands("café".as_bytes(), line));
        assert!(stands(br"caf\u00e9", line));
        assert!(stands(b"a\nb", line));
        assert!(stands(b"\xff", line));
        assert!(stands(br#""ret": -13"#, line));
        assert!(!stands(b"ret: -13", line));
    }

    #[test]
    fn rules_and_programs_have_short_names() {
        assert!(rule_matches("no-keys", b"agent/no-keys"));
        assert!(rule_matches("agent/no-keys", b"agent/no-keys"));
        assert!(!rule_matches("keys", b"agent/no-keys"));
        let curl = ExeFilter::Name(b"curl".to_vec());
        assert!(curl.matches(b"/usr/bin/curl") && !curl.matches(b"/usr/bin/xcurl"));
    }
}
