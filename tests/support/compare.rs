//! Two witnesses of one execution, side by side.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::attempt::{Attempt, Kind, Made};
use crate::log::Logged;
use crate::truth::Seen;

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// How many attempts of each kind both witnesses tell alike.
    pub agreed: BTreeMap<Kind, usize>,
    /// How many of these failed.
    pub failed: usize,
    /// What they do not tell alike, one a line.
    pub differences: Vec<String>,
}

/// Most differences that a report shows.
const SHOWN: usize = 60;

impl Comparison {
    /// Compares as multisets, per process.
    pub fn of(seen: &[Seen], logged: &[Logged]) -> Self {
        let mut table: BTreeMap<&Attempt, (Vec<&Seen>, Vec<&Logged>)> = BTreeMap::new();
        for one in seen {
            table.entry(&one.attempt).or_default().0.push(one);
        }
        for one in logged {
            let entry = table.entry(&one.attempt).or_default();
            entry.1.extend((0..one.count).map(|_| one));
        }
        let mut comparison = Comparison::default();
        let (mut missing, mut extra) = (Vec::new(), Vec::new());
        for (attempt, (seen, logged)) in table {
            let both = seen.len().min(logged.len());
            comparison.agree(attempt, both);
            missing.extend(&seen[both..]);
            extra.extend(&logged[both..]);
            comparison.check_made(attempt, &seen, &logged);
        }
        for alike in [begins as fn(&Seen, &Logged) -> bool, interpreted, led] {
            comparison.accept(&mut missing, &mut extra, alike);
        }
        comparison.report(&missing, &extra);
        comparison
    }

    fn agree(&mut self, attempt: &Attempt, count: usize) {
        *self.agreed.entry(attempt.kind).or_default() += count;
        self.failed += if attempt.ret < 0 { count } else { 0 };
    }

    /// Where it is known whether a file was made, both must say so.
    fn check_made(&mut self, attempt: &Attempt, seen: &[&Seen], logged: &[&Logged]) {
        let count = |wanted: Made| seen.iter().filter(|seen| seen.made == wanted).count();
        let made = logged.iter().filter(|logged| logged.made == Made::Yes).count();
        if seen.len() == logged.len() && (made < count(Made::Yes) || logged.len() - made < count(Made::No)) {
            let (yes, no) = (count(Made::Yes), count(Made::No));
            self.differences.push(format!(
                "created or opened: {attempt}: strace {yes} created, {no} opened; log {made} of {} created, line {}",
                logged.len(),
                logged[0].line,
            ));
        }
    }

    /// Takes away what is alike in another form.
    fn accept(
        &mut self,
        missing: &mut Vec<&Seen>,
        extra: &mut Vec<&Logged>,
        alike: fn(&Seen, &Logged) -> bool,
    ) {
        extra.retain(|logged| {
            let fits = missing.iter().position(|seen| alike(seen, logged));
            if let Some(index) = fits {
                let seen = missing.swap_remove(index);
                self.agree(&seen.attempt, 1);
            }
            fits.is_none()
        });
    }

    fn report(&mut self, missing: &[&Seen], extra: &[&Logged]) {
        let missing = missing
            .iter()
            .map(|seen| (seen.attempt.pid, format!("- {}  (strace line {})", seen.attempt, seen.line)));
        let extra = extra
            .iter()
            .map(|logged| (logged.attempt.pid, format!("+ {}  (log line {})", logged.attempt, logged.line)));
        let mut lines: Vec<_> = missing.chain(extra).collect();
        lines.sort_by(|a, b| (a.0, &a.1[2..]).cmp(&(b.0, &b.1[2..])));
        self.differences.extend(lines.into_iter().map(|(_, line)| line));
    }

    /// How many attempts of a kind agreed.
    pub fn count(&self, kind: Kind) -> usize {
        self.agreed.get(&kind).copied().unwrap_or(0)
    }

    /// One line: what was compared.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for kind in Kind::ALL.iter().filter(|kind| self.count(**kind) > 0) {
            let _ = write!(text, "{} {}, ", self.count(*kind), kind.name());
        }
        let _ = write!(text, "{} of them failed; {} differences", self.failed, self.differences.len());
        text
    }

    /// The differences: `-` only strace saw it, `+` only the log tells it.
    pub fn diff(&self) -> String {
        let mut text = self.differences.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
        if self.differences.len() > SHOWN {
            let _ = write!(text, "\n… and {} more", self.differences.len() - SHOWN);
        }
        text
    }
}

/// Whether all but the arguments is alike.
fn same_but_argv(seen: &Seen, logged: &Logged) -> bool {
    Attempt { argv: None, ..seen.attempt.clone() } == Attempt { argv: None, ..logged.attempt.clone() }
}

/// Whether the log's argv is a beginning of the real one, and the log says so.
fn begins(seen: &Seen, logged: &Logged) -> bool {
    let (Some(real), Some(told)) = (&seen.attempt.argv, &logged.attempt.argv) else { return false };
    let whole = told.len().saturating_sub(1);
    let last = told.last().zip(real.get(whole)).is_none_or(|(told, real)| real.starts_with(told));
    same_but_argv(seen, logged)
        && logged.argv_truncated
        && told.len() <= real.len()
        && real[..whole] == told[..whole]
        && last
}

/// Whether a script was executed and the log tells the argv that its interpreter got (execve(2)): the
/// interpreter's own words, the name of the script, the caller's arguments but the first.
fn interpreted(seen: &Seen, logged: &Logged) -> bool {
    let (Some(real), Some(told)) = (&seen.attempt.argv, &logged.attempt.argv) else { return false };
    let Some(name) = &seen.name else { return false };
    let tail: Vec<&Vec<u8>> = std::iter::once(name).chain(real.iter().skip(1)).collect();
    same_but_argv(seen, logged)
        && seen.attempt.ret == 0
        && logged.exe != logged.attempt.path
        && told.len() > tail.len()
        && told[told.len() - tail.len()..].iter().eq(tail)
}

/// Whether the log tells where the names of the call led over links and `..`, which strace shows as they were given. It is
/// looked at when the workload is over.
fn led(seen: &Seen, logged: &Logged) -> bool {
    let (real, told) = (&seen.attempt, &logged.attempt);
    if matches!(real.kind, Kind::Exec | Kind::Open | Kind::Connect | Kind::Symlink) {
        return false;
    }
    let same = |real: &Option<Vec<u8>>, told: &Option<Vec<u8>>, followed: bool| match (real, told) {
        (Some(real), Some(told)) => real == told || leads(real, told, followed),
        (real, told) => real == told,
    };
    (real.pid, real.kind, real.ret) == (told.pid, told.kind, told.ret)
        && same(&real.path, &told.path, real.kind == Kind::Link)
        && same(&real.path2, &told.path2, false)
}

/// Whether a name leads to this path; `followed` says that a link in the last place may be, too.
fn leads(name: &[u8], path: &[u8], followed: bool) -> bool {
    let name = Path::new(OsStr::from_bytes(name));
    let path = Path::new(OsStr::from_bytes(path));
    let entry = || Some(name.parent()?.canonicalize().ok()?.join(name.file_name()?));
    entry().is_some_and(|entry| entry == path)
        || (followed && name.canonicalize().is_ok_and(|object| object == path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &str, ret: i64) -> Attempt {
        let path = Some(path.as_bytes().to_vec());
        Attempt { pid: 7, kind: Kind::Open, path, path2: None, argv: None, address: None, family: None, ret }
    }

    fn seen(attempt: Attempt, made: Made) -> Seen {
        Seen { attempt, made, name: Some(b"./x".to_vec()), line: 1 }
    }

    fn logged(attempt: Attempt, made: Made, count: u64) -> Logged {
        Logged { attempt, made, exe: None, argv_truncated: false, count, line: 1 }
    }

    #[test]
    fn every_difference_is_told() {
        let truth =
            [seen(open("/a", 3), Made::No), seen(open("/a", 3), Made::No), seen(open("/b", -2), Made::No)];
        let same = Comparison::of(
            &truth,
            &[logged(open("/a", 3), Made::No, 2), logged(open("/b", -2), Made::No, 1)],
        );
        assert_eq!((same.count(Kind::Open), same.failed, same.differences.len()), (3, 1, 0));
        let less = Comparison::of(
            &truth,
            &[logged(open("/a", 3), Made::No, 1), logged(open("/b", -13), Made::No, 1)],
        );
        assert_eq!(less.differences.len(), 3, "{}", less.diff());
        let more = Comparison::of(&truth[..1], &[logged(open("/a", 3), Made::No, 3)]);
        assert_eq!(more.differences.len(), 2);
    }

    #[test]
    fn created_is_not_opened() {
        let created = [seen(open("/a", 3), Made::Yes)];
        let wrong = Comparison::of(&created, &[logged(open("/a", 3), Made::No, 1)]);
        assert_eq!(wrong.differences.len(), 1);
        let unknown = [seen(open("/a", 3), Made::Unknown)];
        assert!(Comparison::of(&unknown, &[logged(open("/a", 3), Made::No, 1)]).differences.is_empty());
    }

    #[test]
    fn a_cut_argv_must_say_so() {
        let exec = |argv: &[&str]| Attempt {
            kind: Kind::Exec,
            argv: Some(argv.iter().map(|arg| arg.as_bytes().to_vec()).collect()),
            ..open("/x", 0)
        };
        let truth = [seen(exec(&["x", "long"]), Made::No)];
        let mut cut = logged(exec(&["x", "lo"]), Made::No, 1);
        assert_eq!(Comparison::of(&truth, std::slice::from_ref(&cut)).differences.len(), 2);
        cut.argv_truncated = true;
        assert!(Comparison::of(&truth, &[cut]).differences.is_empty());
    }

    #[test]
    fn a_script_is_told_with_its_interpreter() {
        let exec = |argv: &[&str]| Attempt {
            kind: Kind::Exec,
            argv: Some(argv.iter().map(|arg| arg.as_bytes().to_vec()).collect()),
            ..open("/x", 0)
        };
        let truth = [seen(exec(&["any word", "a"]), Made::No)];
        let mut told = logged(exec(&["/bin/sh", "./x", "a"]), Made::No, 1);
        told.exe = Some(b"/bin/dash".to_vec());
        assert!(Comparison::of(&truth, std::slice::from_ref(&told)).differences.is_empty());
        told.exe = Some(b"/x".to_vec());
        assert_eq!(Comparison::of(&truth, &[told]).differences.len(), 2, "it ran itself");
        let other = Logged { exe: None, ..logged(exec(&["/bin/sh", "./x", "b"]), Made::No, 1) };
        assert_eq!(Comparison::of(&truth, &[other]).differences.len(), 2);
    }
}
