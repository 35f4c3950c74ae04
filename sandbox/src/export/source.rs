//! Reading a log that is exported: it is verified first, and each line again as it is handed out.
//!
//! Nothing of a log that somebody edited leaves it unless that is asked for, so the whole log is read twice. What is
//! handed out is proven again, because who can write the file could do so between the two.

use std::fs::File;
use std::path::{Path, PathBuf};

use audit_verify::Hash;
use audit_verify::canonical::scan;
use audit_verify::verify::{Question, Report, Verdict, Verifier};

use super::error::ExportError;
use crate::record::LOG;
use crate::record::lines::Lines;
use crate::record::store::open_regular;

/// A log, verified.
#[derive(Debug)]
pub struct Source {
    file: File,
    path: PathBuf,
    /// What verifying it said.
    pub report: Report,
}

/// What of a log is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The lines that hold.
    Proven,
    /// All whole lines, whatever they are.
    All,
}

impl Source {
    /// Opens the log of the run in `directory` and verifies it.
    pub fn open(directory: &Path) -> Result<Source, ExportError> {
        let path = directory.join(LOG);
        let file = open_regular(&path).map_err(ExportError::log("open", &path))?;
        let report = Verifier::new(Question::Log).run(&file).map_err(ExportError::log("verify", &path))?;
        Ok(Source { file, path, report })
    }

    /// Hands each line to `take`, without its newline.
    pub fn each(
        self,
        extent: Extent,
        mut take: impl FnMut(&[u8]) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let Source { file, path, report } = self;
        let mut left = match extent {
            Extent::Proven => holding(&report.verdict),
            Extent::All => u64::MAX,
        };
        let mut lines = Lines::new(file, 0);
        let mut proof = Proof::default();
        while left > 0 {
            let line = lines.next_line().map_err(ExportError::log("read", &path))?;
            match (line, extent) {
                (None, Extent::All) => return Ok(()),
                (Some(line), Extent::All) => take(line.text)?,
                (Some(line), Extent::Proven) if proof.holds(line.text) => take(line.text)?,
                (_, Extent::Proven) => {
                    return Err(ExportError::Changed { path: path.clone(), line: proof.lines + 1 });
                }
            }
            left -= 1;
        }
        Ok(())
    }
}

/// How many lines of the log hold, whole ones.
fn holding(verdict: &Verdict) -> u64 {
    match verdict {
        Verdict::Intact { events, .. } => *events,
        Verdict::Incomplete { events, why, .. } => match why {
            // A line without a newline is written or torn; where its bytes hold it was counted as an event.
            audit_verify::verify::Missing::LineRest { line } => (*events).min(line - 1),
            _ => *events,
        },
        _ => 0,
    }
}

/// The chain up to a line.
#[derive(Debug, Default)]
struct Proof {
    lines: u64,
    prev: Hash,
}

impl Proof {
    /// Whether `line` follows on those before it and has its own hash.
    fn holds(&mut self, line: &[u8]) -> bool {
        let (mut follows, mut own) = (false, None);
        let canonical = scan(line, |member| match member.key {
            "hash_prev" => follows = member.raw.as_text() == Some(self.prev.digits()),
            "hash_self" => own = member.raw.as_text().map(|text| (text, member.start, member.end)),
            _ => {}
        });
        let (Ok(()), true, Some((own, start, end))) = (canonical, follows, own) else { return false };
        // hash_prev stands before it, so a separator does too.
        let hash = Hash::of(&[&line[..start - b", ".len()], &line[end..]]);
        if own != hash.digits() {
            return false;
        }
        self.prev = hash;
        self.lines += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use audit_verify::chain::ChainWriter;

    use super::*;

    /// A log of three lines without a seal, and where it lies.
    fn log() -> (tempfile::TempDir, Vec<u8>) {
        let mut chain = ChainWriter::default();
        let mut log = Vec::new();
        for event_type in ["run_start", "fork", "exit"] {
            let fill = |line: &mut audit_verify::chain::EventWriter<'_>| {
                line.put("event_type", event_type).put("run_id", "r");
            };
            log.extend_from_slice(chain.append(fill).unwrap());
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(LOG), &log).unwrap();
        (directory, log)
    }

    fn lines(source: Source, extent: Extent) -> (Vec<u8>, Result<(), ExportError>) {
        let mut out = Vec::new();
        let read = source.each(extent, |line| {
            out.extend_from_slice(line);
            out.push(b'\n');
            Ok(())
        });
        (out, read)
    }

    #[test]
    fn what_was_edited_after_it_was_verified_is_not_handed_out() {
        let (directory, log) = log();
        let path = directory.path().join(LOG);
        let source = Source::open(directory.path()).unwrap();
        let second = log.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let at = second + log[second..].windows(4).position(|part| part == b"fork").unwrap();
        File::options().write(true).open(path).unwrap().write_at(b"exit", at as u64).unwrap();
        let (out, read) = lines(source, Extent::Proven);
        assert_eq!(out, log[..second]);
        assert!(matches!(read, Err(ExportError::Changed { line: 2, .. })), "{read:?}");
    }

    #[test]
    fn what_was_cut_off_meanwhile_ends_it_and_what_was_added_is_left() {
        let (directory, log) = log();
        let path = directory.path().join(LOG);
        let source = Source::open(directory.path()).unwrap();
        std::fs::write(&path, [&log[..], b"more\n"].concat()).unwrap();
        let (out, read) = lines(source, Extent::Proven);
        assert!(read.is_ok() && out == log);
        let (out, read) = {
            std::fs::write(&path, &log).unwrap();
            let source = Source::open(directory.path()).unwrap();
            std::fs::write(&path, &log[..log.len() - 1]).unwrap();
            lines(source, Extent::Proven)
        };
        assert!(matches!(read, Err(ExportError::Changed { line: 3, .. })), "{read:?}");
        assert!(log.starts_with(&out));
    }
}
