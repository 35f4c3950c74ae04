//! The supervisor's part in an answer that is to hold for good: it says what would have to be written and where, and keeps
//! the run from the name by which that is made. The rule itself is made and written by whoever answers.

use policy::Subject;

use super::{Answer, Held, Work, with_subject};
use crate::asking::about::{About, PolicyFile};
use crate::launch::{aliases, guard};

/// What the supervisor knows of the policy's file.
pub(super) struct Always {
    /// The file, or why there is none.
    file: Result<PolicyFile, String>,
    /// What it may hold: as the run began, and as answers said that they leave it.
    sha256: Vec<String>,
    /// Whether the run is kept from the name of the next text.
    closed: bool,
}

impl Always {
    pub(super) fn new(file: Result<PolicyFile, String>) -> Always {
        let sha256 = file.iter().map(|file| file.sha256.clone()).collect();
        Always { file, sha256, closed: false }
    }

    /// The file, for the record.
    pub(super) fn file(&self) -> Option<&PolicyFile> {
        self.file.as_ref().ok()
    }

    /// Somebody says what the file will hold.
    pub(super) fn wrote(&mut self, sha256: &[u8; 32]) {
        let sha256 = crate::record::hex(sha256);
        if !self.sha256.contains(&sha256) {
            self.sha256.push(sha256);
        }
    }
}

impl Work {
    /// What is to be known for an answer that holds for good.
    pub(super) fn about(&mut self, number: u64) -> Result<About, String> {
        let open = self.open.iter().position(|asked| asked.number == number);
        let at = open.ok_or_else(|| format!("there is no open question {number}"))?;
        let file = self.always.file.clone()?;
        if !self.office().is_as_it_began() {
            return Err(
                "other policies were applied to this run since it began, and its file says less".to_owned()
            );
        }
        if !self.always.closed {
            let next = file.next();
            let names = aliases::of(&next).map_err(|error| format!("cannot read the mounts: {error}"))?;
            let own = guard::Own { policies: names, ..guard::Own::default() };
            let closing = own.policy(false).map_err(|errors| errors.to_string())?;
            self.office().keep(closing)?;
            self.always.closed = true;
        }
        let asked = self.open.get(at).ok_or("there is no such question")?;
        let Held { who, tried, .. } = &asked.first;
        let tell = |subject: &Subject<'_>| About::new(tried, subject, &file, self.always.sha256.clone());
        Ok(with_subject(&self.inquiry, who, self.process, tell))
    }

    /// Whether such an answer may come: whoever gives it has asked about the question before.
    pub(super) fn may_last(&self, answer: Answer) -> Result<(), String> {
        match answer {
            Answer::Always { .. } if !self.always.closed => {
                Err("it was not asked what would have to be written".to_owned())
            }
            _ => Ok(()),
        }
    }
}
