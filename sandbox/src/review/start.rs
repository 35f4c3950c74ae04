//! What the first line of a log says that one wants to know before the others.

use audit_verify::canonical::Record;
use policy::Variables;

use super::view::{ViewError, log_error};
use crate::record::LOG;
use crate::record::lines::Lines;
use crate::record::store::{Found, open_regular};

/// What `run_start` says; nothing of what it does not.
#[derive(Debug, Default)]
pub struct Start {
    /// What the variables of policies stood for.
    pub variables: Variables,
    /// The command.
    pub command: Vec<Vec<u8>>,
    /// Who acts.
    pub agent: String,
    /// The layers that the run had.
    pub layers: Vec<Vec<u8>>,
}

impl Start {
    /// Of a recorded run.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn of(run: &Found) -> Result<Self, ViewError> {
        let path = run.path.join(LOG);
        let file = open_regular(&path).map_err(|error| log_error("open", &path, error))?;
        let mut lines = Lines::new(file, 0);
        let line = lines.next_line().map_err(|error| log_error("read", &path, error))?;
        Ok(line.map_or_else(Self::default, |line| Self::read(line.text)))
    }

    /// What is told of a record that does not say what a run's places were.
    pub fn note(&self, run: &Found) -> Option<String> {
        let unnamed = self.variables.get("WORKSPACE").is_none();
        unnamed.then(|| format!("{}: the record names no workspace: its paths are taken as they are", run.id))
    }

    /// Of the first line itself.
    pub fn read(line: &[u8]) -> Self {
        let mut start = Self::default();
        let Ok(record) = Record::parse(line) else { return start };
        if record.text("event_type") != Some("run_start") {
            return start;
        }
        start.command = record.list("command").unwrap_or_default().to_vec();
        start.agent = record.text("agent_id").unwrap_or_default().to_owned();
        start.layers = record.list("layers").unwrap_or_default().to_vec();
        for entry in record.list("variables").unwrap_or_default() {
            let Some(at) = entry.iter().position(|byte| *byte == b'=') else { continue };
            let (name, value) = (&entry[..at], &entry[at + 1..]);
            // A record may be anybody's: what is none of a run's variables is no variable.
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let _ = match name {
                "WORKSPACE" => start.variables.set_workspace(value),
                name => start.variables.set(name, value),
            };
        }
        start
    }
}
