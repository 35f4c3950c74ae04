//! Where a path lies: below one of the places that a policy names by a variable, or on the machine.
//!
//! Two runs of one command differ in their directories; what they have in common shows only below these.

use crate::pattern::{escape, escape_into};
use crate::variables::Variables;

/// What a path lies below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Root {
    Workspace,
    GitDir,
    GitCommonDir,
    Temporary,
    Home,
    Machine,
}

impl Root {
    /// All of them; the machine, which every path lies below, is the last.
    pub const ALL: [Root; 6] =
        [Self::Workspace, Self::GitDir, Self::GitCommonDir, Self::Temporary, Self::Home, Self::Machine];

    /// As a pattern begins with it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Workspace => "${WORKSPACE}",
            Self::GitDir => "${GIT_DIR:-none}",
            Self::GitCommonDir => "${GIT_COMMON_DIR:-none}",
            Self::Temporary => "{/tmp,/var/tmp,${TMP}}",
            Self::Home => "${HOME}",
            Self::Machine => "",
        }
    }
}

/// A component of a path, or what components have in common, as a pattern writes it.
pub(super) type Part = String;

/// A path below a root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub(super) root: Root,
    /// Components, each written as a pattern.
    pub(super) parts: Vec<Part>,
}

impl Place {
    /// As a pattern.
    pub fn pattern(&self) -> String {
        if self.parts.is_empty() && self.root == Root::Machine {
            return "/".to_owned();
        }
        let mut text = self.root.text().to_owned();
        for part in &self.parts {
            text.push('/');
            text.push_str(part);
        }
        text
    }

    /// The directory that it lies in; none for a root.
    pub(super) fn directory(&self) -> Option<Place> {
        let (_, above) = self.parts.split_last()?;
        Some(Place { root: self.root, parts: above.to_vec() })
    }
}

/// The roots of one run.
#[derive(Debug)]
pub struct Roots(Vec<(Vec<u8>, Root)>);

impl Roots {
    /// By the run's variables.
    pub fn of(variables: &Variables) -> Self {
        let known = [
            ("WORKSPACE", Root::Workspace),
            ("GIT_DIR", Root::GitDir),
            ("GIT_COMMON_DIR", Root::GitCommonDir),
            ("TMP", Root::Temporary),
            ("HOME", Root::Home),
        ];
        let named = known.into_iter().filter_map(|(name, root)| Some((variables.get(name)?.to_vec(), root)));
        let fixed = [&b"/tmp"[..], b"/var/tmp"].map(|path| (path.to_vec(), Root::Temporary));
        let mut all: Vec<(Vec<u8>, Root)> = named.chain(fixed).filter(|(path, _)| path.len() > 1).collect();
        // The longest first; of one directory with two names the first one of the list above.
        all.sort_by(|(one, a), (other, b)| other.len().cmp(&one.len()).then(a.cmp(b)));
        Self(all)
    }

    /// Where a path lies; `None` for what is no absolute path.
    pub fn place(&self, path: &[u8]) -> Option<Place> {
        let (root, rest) = self.below(path)?;
        Some(Place { root, parts: names(rest).map(escape).collect() })
    }

    /// The same with the components in one text, slashes between them.
    pub(super) fn written(&self, path: &[u8]) -> Option<(Root, String)> {
        let (root, rest) = self.below(path)?;
        let mut text = String::with_capacity(rest.len());
        for name in names(rest) {
            if !text.is_empty() {
                text.push('/');
            }
            escape_into(&mut text, name);
        }
        Some((root, text))
    }

    /// The root, and what is left of the path below it.
    fn below<'b>(&self, path: &'b [u8]) -> Option<(Root, &'b [u8])> {
        let on_machine = path.strip_prefix(b"/")?;
        let mut roots = self.0.iter().filter_map(|(prefix, root)| {
            let rest = path.strip_prefix(prefix.as_slice())?;
            (rest.is_empty() || rest.starts_with(b"/")).then_some((*root, rest))
        });
        Some(roots.next().unwrap_or((Root::Machine, on_machine)))
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> Roots {
        let mut variables = Variables::new();
        for (name, value) in [("HOME", "/home/u"), ("TMP", "/tmp"), ("WORKSPACE", "/home/u/work/x")] {
            variables.set(name, value).unwrap();
        }
        Roots::of(&variables)
    }

    #[test]
    fn the_longest_root_takes_a_path() {
        let roots = roots();
        for (path, pattern) in [
            ("/home/u/work/x/src/a.c", "${WORKSPACE}/src/a.c"),
            ("/home/u/work/x", "${WORKSPACE}"),
            ("/home/u/work/xy", "${HOME}/work/xy"),
            ("/tmp/a b", "{/tmp,/var/tmp,${TMP}}/a b"),
            ("/tmpfile", "/tmpfile"),
            ("/usr/lib/x{1}*", "/usr/lib/x\\{1\\}\\*"),
            ("/", "/"),
        ] {
            assert_eq!(roots.place(path.as_bytes()).unwrap().pattern(), pattern);
        }
        assert_eq!(roots.place(b"pipe:[3]"), None);
    }
}
