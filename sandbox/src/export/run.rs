//! What the first line of a log says about its machine: the other lines do not repeat it, most forms want it.

use super::entry::Entry;

/// The machine of a run, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Name of the host.
    pub hostname: Option<String>,
    /// The machine's id.
    pub machine_id: Option<String>,
    /// Kernel release.
    pub kernel: Option<String>,
    /// Version of the runner.
    pub version: Option<String>,
}

impl Run {
    /// Learns from a `run_start`; other lines say nothing new.
    pub fn learn(&mut self, entry: &Entry<'_>) {
        if entry.event_type() != "run_start" {
            return;
        }
        let text = |key| {
            let text = entry.peek_text(key)?;
            Some(text.shown().to_owned()).filter(|text| !text.is_empty())
        };
        *self = Run {
            hostname: text("hostname"),
            machine_id: text("machine_id"),
            kernel: text("kernel"),
            version: text("version"),
        };
    }

    /// The runner's version, empty where no line said it.
    pub fn version(&self) -> &str {
        self.version.as_deref().unwrap_or_default()
    }
}
