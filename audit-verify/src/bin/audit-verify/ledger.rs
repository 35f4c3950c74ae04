//! The ledger of a store, and the runs that it speaks of.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use audit_verify::Hash;
use audit_verify::canonical::ObjectWriter;
use audit_verify::ledger::{FILE, Ledger, RunEntry, read};
use audit_verify::sign::PublicKey;
use audit_verify::verify::{Report, Verdict};

use crate::render::{BELOW, Style};
use crate::store::run_name;
use crate::target::open_regular;

/// The longest file of a key that is read, in bytes.
const KEY_MAX: u64 = 16 << 10;

/// The ledger of one store, judged.
pub struct StoreLedger {
    store: PathBuf,
    /// `None` where the store has none.
    ledger: Option<Result<Ledger, io::Error>>,
    /// Keys that lie in the store.
    keys: Vec<PublicKey>,
    demanded: Vec<PublicKey>,
}

/// Something beside the log that speaks against a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// 1, 2 or 3, as for logs.
    pub code: u8,
    /// What was found.
    pub message: String,
    /// Whether it is said of the store's ledger as a whole, so that one line is enough where the ledger is judged too.
    pub of_store: bool,
}

/// How a log is to be judged.
pub struct Keys {
    /// One of these must have signed, if there are any.
    pub demanded: Vec<PublicKey>,
    /// These can be checked.
    pub known: Vec<PublicKey>,
}

impl StoreLedger {
    /// Reads the ledger of a store.
    pub fn of(store: &Path, demanded: &[PublicKey]) -> StoreLedger {
        let ledger = match open_regular(&store.join(FILE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            other => Some(other.and_then(|file| read(file, demanded))),
        };
        StoreLedger { store: store.to_owned(), ledger, keys: stored_keys(store), demanded: demanded.to_vec() }
    }

    /// The store.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The ledger, if nothing speaks against it.
    fn good(&self) -> Option<&Ledger> {
        let holds = |ledger: &&Ledger| ledger.fault.as_ref().is_none_or(|fault| fault.why.is_unchecked());
        self.ledger.as_ref()?.as_ref().ok().filter(holds)
    }

    /// The keys by which a run is judged. One that began before the store had a key is bound by its entry, which signed
    /// lines behind it bind in turn.
    pub fn keys_for(&self, run: &Path) -> Keys {
        let ledger = self.good();
        let entry = ledger.and_then(|ledger| ledger.run(&run_name(run)));
        let before_keys = match (ledger.and_then(|ledger| ledger.signed_from), entry) {
            (Some(signed_from), Some(entry)) => entry.line < signed_from && entry.outcome.is_some(),
            _ => false,
        };
        let named = ledger.map(|ledger| ledger.keys.clone()).unwrap_or_default();
        let demanded = match (self.demanded.is_empty(), before_keys) {
            (true, _) | (_, true) => Vec::new(),
            // The one that was in force when the run began, which a demanded key vouches for.
            (false, false) if ledger.is_some() => match entry.and_then(|entry| entry.key) {
                Some(own) => named.iter().filter(|key| key.id() == own).cloned().collect(),
                None => named.clone(),
            },
            (false, false) => self.demanded.clone(),
        };
        Keys { demanded, known: self.keys.iter().cloned().chain(named).collect() }
    }

    /// What the ledger says against a run whose log gave `report`, or that it cannot be asked with the keys that are here.
    pub fn against(&self, run: &Path, report: &Report) -> Option<Contradiction> {
        let unasked = self.good().and_then(|ledger| ledger.fault.as_ref()).map(|fault| Contradiction {
            code: 3,
            message: format!("the store's ledger cannot be judged: {fault}"),
            of_store: true,
        });
        match (self.contradiction(run, report), unasked) {
            (found, None) => found,
            (Some(found), Some(_)) if found.code == 1 => Some(found),
            (_, unasked) => unasked,
        }
    }

    fn contradiction(&self, run: &Path, report: &Report) -> Option<Contradiction> {
        let tampered = |message: String| Some(Contradiction { code: 1, message, of_store: false });
        let Some(ledger) = &self.ledger else {
            let begun = report.genesis.as_ref().is_some_and(|genesis| genesis.ledger_prev.is_some());
            let message = "the store has no ledger, and this run was entered into one".to_owned();
            return begun.then_some(Contradiction { code: 2, message, of_store: true });
        };
        let ledger = match ledger {
            Ok(ledger) => ledger,
            Err(error) => {
                let message = format!("the store's ledger cannot be read: {error}");
                return Some(Contradiction { code: 2, message, of_store: true });
            }
        };
        if let Some(fault) = ledger.fault.as_ref().filter(|fault| !fault.why.is_unchecked()) {
            let message = format!("the store's ledger does not hold: {fault}");
            return Some(Contradiction { code: 1, message, of_store: true });
        }
        let Some(entry) = ledger.run(&run_name(run)) else {
            return tampered("the store's ledger does not have this run".to_owned());
        };
        if let Some(reason) = &entry.removed {
            return Some(Contradiction {
                code: 2,
                message: format!("the ledger says it was removed ({reason})"),
                of_store: false,
            });
        }
        let Some(genesis) = &report.genesis else { return None };
        if genesis.first != entry.first || genesis.ledger_prev != Some(entry.ledger_prev) {
            return tampered(format!("it does not begin as line {} of the ledger says", entry.line));
        }
        if let (Some(key), Some(signer)) = (entry.key, report.signed.key())
            && key != signer
        {
            let line = entry.line;
            return tampered(format!(
                "it is signed by the key {signer}, and line {line} of the ledger by {key}"
            ));
        }
        self.against_end(entry, report)
    }

    fn against_end(&self, entry: &RunEntry, report: &Report) -> Option<Contradiction> {
        let Some(outcome) = &entry.outcome else {
            let sealed = matches!(report.verdict, Verdict::Intact { .. });
            let message = "the ledger does not have its end, which `sandbox recover` enters".to_owned();
            return sealed.then_some(Contradiction { code: 2, message, of_store: false });
        };
        let (events, head, sealed) = match &report.verdict {
            Verdict::Intact { events, head, .. } => (*events, *head, true),
            Verdict::Incomplete { events, head, why, .. } => {
                (*events, *head, matches!(why, audit_verify::verify::Missing::Events))
            }
            _ => return None,
        };
        let message = match (outcome.sealed, sealed) {
            (true, false) => "the ledger has its seal, and the log does not".to_owned(),
            (false, true) => "the ledger says it ended without a seal, and the log has one".to_owned(),
            _ if (outcome.events, outcome.head) != (events, head) => {
                format!("the ledger has {} events and the head {}", outcome.events, outcome.head)
            }
            _ => return None,
        };
        Some(Contradiction { code: 1, message, of_store: false })
    }

    /// What is to be said of the ledger itself, and of runs that it has and the store does not.
    pub fn findings(&self) -> Vec<StoreFinding> {
        let finding = |name: &str, code, message: String| StoreFinding {
            name: name.to_owned(),
            code,
            message,
            entries: None,
            head: None,
        };
        let ledger = match &self.ledger {
            // A store that no run was entered into yet has none.
            None if fs::read_dir(self.store.join("runs")).is_ok_and(|mut runs| runs.next().is_some()) => {
                return vec![finding(
                    FILE,
                    2,
                    "the store has runs, and no ledger that says which".to_owned(),
                )];
            }
            None => return Vec::new(),
            Some(Err(error)) => return vec![finding(FILE, 3, format!("failed to read it: {error}"))],
            Some(Ok(ledger)) => ledger,
        };
        let (code, message) = match &ledger.fault {
            Some(fault) if fault.why.is_unchecked() => (3, fault.to_string()),
            Some(fault) => (1, fault.to_string()),
            None if ledger.torn => (2, "its last line is torn; the next run cuts it off".to_owned()),
            None => (0, "the chain of the store's runs holds".to_owned()),
        };
        let mut findings = vec![StoreFinding {
            entries: Some(ledger.entries),
            head: Some(ledger.head.to_string()),
            ..finding(FILE, code, message)
        }];
        for run in ledger.runs.iter().filter(|run| run.removed.is_none()) {
            if self.store.join("runs").join(&run.run_id).symlink_metadata().is_err() {
                let message = format!("line {} of the ledger has this run, and the store does not", run.line);
                findings.push(finding(&run.run_id, 1, message));
            }
        }
        findings
    }
}

/// Something found about a store, beside its logs.
pub struct StoreFinding {
    /// The ledger, or a run.
    pub name: String,
    /// As for logs.
    pub code: u8,
    message: String,
    entries: Option<u64>,
    head: Option<String>,
}

impl StoreFinding {
    fn verdict(&self) -> &'static str {
        match self.code {
            0 => "intact",
            1 => "tampered",
            2 => "incomplete",
            _ => "unchecked",
        }
    }

    /// A row, and what is wrong below it.
    pub fn row(&self, style: Style) -> String {
        let entries = self.entries.map_or_else(|| " ".repeat(16), |entries| format!("{entries:>8} entries"));
        let pad = " ".repeat(11usize.saturating_sub(self.verdict().len()));
        let name = audit_verify::text::safe(self.name.as_bytes());
        let mut text = format!("{}{pad} {entries}  {name}\n", style.word(self.verdict(), self.code));
        if self.code != 0 {
            text.push_str(&style.told(BELOW, &self.message));
        }
        text
    }

    /// One JSON object, keys ascending.
    pub fn json(&self) -> String {
        let mut line = Vec::new();
        let mut object = ObjectWriter::new(&mut line);
        object.put("code", self.code);
        if let Some(entries) = self.entries {
            object.put("entries", entries);
        }
        if let Some(head) = &self.head {
            object.put("head", head.as_str());
        }
        object.put("message", self.message.as_str());
        if self.code != 0 {
            object.put("reason", "ledger");
        }
        object.put("target", self.name.as_str());
        object.put("verdict", self.verdict());
        // The keys above ascend, so nothing can fail.
        let _ = object.finish();
        line.push(b'\n');
        String::from_utf8(line).unwrap_or_default()
    }
}

/// Whether the policies beside a log, those that its run began with and those that were applied later, are still the ones
/// whose hashes it has.
pub fn policy_contradiction(run: &Path, report: &Report) -> Option<Contradiction> {
    let first = report.genesis.as_ref()?.policy_sha256.map(|sha256| ("policy.effective.yaml", sha256));
    let later = report.applied.iter().map(|applied| (applied.file.as_str(), applied.sha256));
    // The log may be anybody's: it names no file elsewhere.
    let own = |file: &str| file.starts_with("policy.effective.") && !file.contains('/');
    let mut found = first.into_iter().chain(later).filter(|(file, _)| own(file));
    let message = found.find_map(|(file, expected)| stored_otherwise(run, file, expected))?;
    Some(Contradiction { code: 1, message, of_store: false })
}

/// What is wrong with a policy beside a log.
fn stored_otherwise(run: &Path, file: &str, expected: Hash) -> Option<String> {
    const SIZE_MAX: u64 = 64 << 20;
    let mut bytes = Vec::new();
    match open_regular(&run.join(file)).and_then(|file| file.take(SIZE_MAX).read_to_end(&mut bytes)) {
        Ok(_) if Hash::of(&[&bytes]) == expected => None,
        Ok(_) => Some(format!("{file} is not the policy that the log names")),
        Err(error) => Some(format!("{file}, which the log names, cannot be read: {error}")),
    }
}

/// Reads a public key in PEM.
pub fn public_key(path: &Path) -> Result<PublicKey, String> {
    let mut pem = String::new();
    let read = File::open(path).and_then(|file| file.take(KEY_MAX).read_to_string(&mut pem));
    read.map_err(|error| format!("failed to read the key {}: {error}", path.display()))?;
    PublicKey::from_pem(&pem).map_err(|error| {
        let hint = if pem.contains("PRIVATE KEY") { "; this is the secret half" } else { "" };
        format!("{}: {error}{hint}", path.display())
    })
}

fn stored_keys(store: &Path) -> Vec<PublicKey> {
    let entries = fs::read_dir(store.join("keys")).into_iter().flatten().flatten();
    let public =
        entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(".pub.pem"));
    public.filter(|path| path.is_file()).filter_map(|path| public_key(&path).ok()).collect()
}
