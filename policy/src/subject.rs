//! Who acts: the process behind an attempt, and the conditions that a rule puts on it.
//!
//! `by` and `unless_by` speak of the acting executable, `under` of it or of any ancestor inside the run. All
//! conditions of a rule must hold. Of what is not known (an empty path), a condition is taken to hold in rules
//! that deny or ask, and to fail in rules that allow. A memfd has whatever name its maker chose: it is not known either.

use crate::pattern::Pattern;

/// The process behind an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Its executable, an absolute path; empty where it is not known.
    pub exe: &'a [u8],
    /// The executables of its ancestors inside the run, in any order; an empty one is not known.
    pub ancestors: &'a [&'a [u8]],
}

impl Subject<'_> {
    /// A process of which nothing is known.
    pub const UNKNOWN: Subject<'static> = Subject { exe: b"", ancestors: &[b""] };
}

/// What a rule demands of the process; without conditions it is about everyone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    pub(crate) by: Option<Vec<Pattern>>,
    pub(crate) unless_by: Vec<Pattern>,
    pub(crate) under: Option<Vec<Pattern>>,
}

impl Who {
    /// Globs of which one must match the executable.
    pub fn by(&self) -> Option<&[Pattern]> {
        self.by.as_deref()
    }

    /// Globs of which none may match the executable.
    pub fn unless_by(&self) -> &[Pattern] {
        &self.unless_by
    }

    /// Globs of which one must match the executable, or that of an ancestor inside the run.
    pub fn under(&self) -> Option<&[Pattern]> {
        self.under.as_deref()
    }

    /// True without any condition.
    pub fn is_anyone(&self) -> bool {
        self.by.is_none() && self.unless_by.is_empty() && self.under.is_none()
    }

    /// True where no process can be meant: every pattern of a condition was left out.
    pub(crate) fn is_nobody(&self) -> bool {
        [&self.by, &self.under].into_iter().flatten().any(Vec::is_empty)
    }

    /// The keys of the conditions that it has.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        let has = [
            ("by", self.by.is_some()),
            ("unless_by", !self.unless_by.is_empty()),
            ("under", self.under.is_some()),
        ];
        has.into_iter().filter(|(_, has)| *has).map(|(key, _)| key)
    }

    /// Whether the conditions hold for `subject`; `unknown` stands in for those on what is not known.
    pub(crate) fn holds(&self, subject: &Subject<'_>, unknown: bool) -> bool {
        let exe = |patterns: &[Pattern]| is_known(subject.exe).then(|| any(patterns, subject.exe));
        let by = self.by.as_deref().is_none_or(|by| !by.is_empty() && exe(by).unwrap_or(unknown));
        let unless = self.unless_by.is_empty() || exe(&self.unless_by).map_or(unknown, |matches| !matches);
        let under = self.under.as_deref().is_none_or(|under| {
            let mut chain = std::iter::once(&subject.exe).chain(subject.ancestors);
            let matches = chain.clone().any(|path| is_known(path) && any(under, path));
            matches || (unknown && !under.is_empty() && chain.any(|path| !is_known(path)))
        });
        by && unless && under
    }
}

/// Whether a path says which executable it is. `/memfd:NAME` is what the kernel shows of a memfd.
fn is_known(path: &[u8]) -> bool {
    !path.is_empty() && !path.starts_with(b"/memfd:")
}

fn any(patterns: &[Pattern], path: &[u8]) -> bool {
    patterns.iter().any(|pattern| pattern.matches(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memfd_is_whoever_its_name_does_not_say() {
        let pattern = || vec![Pattern::known("**/gpg").unwrap()];
        let memfd: &[u8] = b"/memfd:bin/gpg (deleted)";
        let by = Who { by: Some(pattern()), ..Who::default() };
        let unless = Who { unless_by: pattern(), ..Who::default() };
        let under = Who { under: Some(pattern()), ..Who::default() };
        for who in [by, unless, under] {
            for subject in [
                Subject { exe: memfd, ancestors: &[] },
                Subject { exe: b"", ancestors: &[] },
                Subject { exe: memfd, ancestors: &[memfd] },
            ] {
                assert_eq!((who.holds(&subject, false), who.holds(&subject, true)), (false, true), "{who:?}");
            }
        }
        let under = Who { under: Some(pattern()), ..Who::default() };
        let below = Subject { exe: memfd, ancestors: &[b"/usr/bin/gpg"] };
        assert!(under.holds(&below, false));
    }
}
