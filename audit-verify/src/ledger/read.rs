//! Judging a ledger.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{self, Read};

use crate::Hash;
use crate::canonical::Record;
use crate::lines::{LineEnd, Lines};
use crate::sign::{KeyId, PublicKey, SignedLine};

/// What a ledger says, as far as it holds.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Lines that hold.
    pub entries: u64,
    /// `hash_self` of the last of them.
    pub head: Hash,
    /// The runs, in the order in which they began.
    pub runs: Vec<RunEntry>,
    /// Keys that signed it, or were named by one that did.
    pub keys: Vec<PublicKey>,
    /// The first line that is signed.
    pub signed_from: Option<u64>,
    /// The key that may sign what follows: the one that the last `key` entry named, or else the first that signed.
    pub in_force: Option<KeyId>,
    /// Bytes behind the last newline: a line that was torn.
    pub torn: bool,
    /// Why it does not hold.
    pub fault: Option<LedgerFault>,
}

/// A run of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEntry {
    /// The run.
    pub run_id: String,
    /// The line where it began, from 1.
    pub line: u64,
    /// The ledger's hash before that line, `ledger_prev` in the run's first line.
    pub ledger_prev: Hash,
    /// `hash_self` of the run's first line.
    pub first: Hash,
    /// How it ended, if that is known.
    pub outcome: Option<Outcome>,
    /// Whether it was removed on purpose.
    pub removed: Option<String>,
    /// The key that signed that line, and so the one that signs the run's log; `None` where none did.
    pub key: Option<KeyId>,
}

/// What a run's log was when it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it was sealed.
    pub sealed: bool,
    /// Events in it.
    pub events: u64,
    /// `hash_self` of the last of them.
    pub head: Hash,
}

/// The first line of a ledger that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerFault {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub why: WhyNot,
}

impl fmt::Display for LedgerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ledger line {}: {}", self.line, self.why)
    }
}

/// What is wrong with a line of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// It is not canonical, or ends with something else than a newline.
    Form(String),
    /// It lacks a key.
    Key(&'static str),
    /// It does not follow the line before.
    Link,
    /// Its hash is not its own.
    Itself,
    /// Its number is not its place.
    Sequence,
    /// It is of a kind that there is not.
    Kind(String),
    /// It speaks of a run that never began, or twice of one end.
    Order(String),
    /// It is not signed, and the lines before are, or signatures are demanded.
    Unsigned,
    /// Its signature is not that of a key that is known here.
    Signature(String),
    /// It is signed by another key than the one in force: that was replaced, or never introduced.
    NotInForce {
        /// Who signed.
        key: String,
        /// Who alone may sign there.
        in_force: String,
    },
    /// A key was handed in that the ledger never had in force: it is another store's, or this is the ledger without the
    /// entry that introduces it. There is no answer.
    Absent {
        /// That key.
        key: String,
    },
    /// No line is signed, and signatures are demanded.
    NeverSigned,
    /// It is signed by a key that was not handed in, and a later line, signed by that key, introduces one that was.
    /// Nothing speaks against the ledger, and nothing vouches for it: there is no answer.
    OlderKey {
        /// The key that the ledger begins with.
        first: String,
        /// The key that was handed in.
        given: String,
    },
}

impl WhyNot {
    /// Whether it says that the ledger cannot be judged with the keys that were handed in, not that it was changed.
    pub fn is_unchecked(&self) -> bool {
        matches!(self, WhyNot::OlderKey { .. } | WhyNot::Absent { .. })
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNot::Form(why) => write!(f, "not as sandbox writes it: {why}"),
            WhyNot::Key(key) => write!(f, "no usable `{key}`"),
            WhyNot::Link => f.write_str("hash_prev is not the hash of the line before it"),
            WhyNot::Itself => f.write_str("hash_self is not the hash of the line"),
            WhyNot::Sequence => f.write_str("seq does not follow"),
            WhyNot::Kind(kind) => write!(f, "an entry of the unknown kind `{kind}`"),
            WhyNot::Order(why) => f.write_str(why),
            WhyNot::Unsigned => f.write_str("not signed, though it must be"),
            WhyNot::Signature(key) => write!(f, "its signature is not good for the key {key}"),
            WhyNot::NotInForce { key, in_force } => {
                write!(f, "signed by the key {key}, and there the key {in_force} alone may sign")
            }
            WhyNot::Absent { key } => write!(
                f,
                "the key {key}, which was given, never signed here nor was introduced: it is another store's, or this ledger \
                 was cut or written anew without it"
            ),
            WhyNot::NeverSigned => f.write_str("no line is signed"),
            WhyNot::OlderKey { first, given } => write!(
                f,
                "the ledger begins with the key {first}, and only {given} was given: give the first one too (--key may be \
                 given again), which vouches for those after it"
            ),
        }
    }
}

/// Whether the first bytes of a file are those of a ledger: what tells one from a log.
pub fn starts_with(line: &[u8]) -> bool {
    Record::parse(line).is_ok_and(|record| record.text("entry").is_some())
}

/// Reads and judges a whole ledger. Memory grows with the number of runs, not with the length of lines.
///
/// With `keys`, every line behind the first signed one must be signed by one of them, or by a key that a line signed by a
/// key before it names; lines before are bound by its hash. Without, signatures by keys that the ledger itself names must
/// be good all the same, and no line behind the first signed one may lack one.
///
/// In both cases a key signs only until the next is introduced: a replaced one may be in wrong hands. A `key` entry is signed
/// by the key in force, or by the one it introduces where that before it is lost; that one must then be in `keys`, if there
/// are any.
///
/// Each of `keys` must have been in force at some time: the fault is [`WhyNot::Absent`] otherwise, where all else holds. Who
/// has the newest key so finds out that a ledger was written anew with an older one.
///
/// Where the first signed line names its own key, not one of `keys`, and that key introduces one of `keys` later, the fault
/// is [`WhyNot::OlderKey`]: all else holds, and the keys are those that the ledger names.
///
/// # Errors
/// The source cannot be read.
pub fn read(source: impl Read, keys: &[PublicKey]) -> io::Result<Ledger> {
    let mut reader = Reader {
        handed_in: keys,
        by_id: HashMap::new(),
        older: None,
        introduced: None,
        replaced: HashSet::new(),
        ledger: Ledger::default(),
    };
    reader.ledger.keys = keys.to_vec();
    let mut lines = Lines::new(source);
    let mut number = 0;
    while let Some(line) = lines.next_line()? {
        number += 1;
        if line.end == LineEnd::File {
            reader.ledger.torn = true;
            break;
        }
        let judged = match line.end {
            LineEnd::Newline if line.len > super::LINE_MAX as u64 => {
                Err(WhyNot::Form(format!("it is longer than {} bytes", super::LINE_MAX)))
            }
            LineEnd::Newline => reader.line(number, line.bytes),
            _ => Err(WhyNot::Form("it does not end with a newline alone".to_owned())),
        };
        if let Err(why) = judged {
            reader.ledger.fault = Some(LedgerFault { line: number, why });
            break;
        }
        reader.ledger.entries = number;
    }
    let ledger = &mut reader.ledger;
    // An empty one is none that a key signed either: what was in it is gone.
    if !keys.is_empty() && ledger.fault.is_none() && ledger.signed_from.is_none() {
        ledger.fault = Some(LedgerFault { line: ledger.entries.max(1), why: WhyNot::NeverSigned });
    }
    if let Some((first, before)) = reader.older {
        let (line, first) = (before.entries + 1, first.to_string());
        let why = match (reader.introduced, &ledger.fault) {
            (Some(given), None) => WhyNot::OlderKey { first, given: given.to_string() },
            // The key is a stranger's, or what it signed does not hold: nothing from there on counts.
            _ => {
                *ledger = *before;
                WhyNot::Signature(first)
            }
        };
        ledger.fault = Some(LedgerFault { line, why });
    }
    let had = |key: &&PublicKey| ledger.in_force == Some(key.id()) || reader.replaced.contains(&key.id());
    if let (None, Some(key)) = (&ledger.fault, keys.iter().find(|key| !had(key))) {
        let why = WhyNot::Absent { key: key.id().to_string() };
        ledger.fault = Some(LedgerFault { line: ledger.entries.max(1), why });
    }
    Ok(reader.ledger)
}

struct Reader<'k> {
    /// One of these, or one that it vouches for, must have signed, if there are any.
    handed_in: &'k [PublicKey],
    /// Where a run stands in `ledger.runs`.
    by_id: HashMap<String, usize>,
    /// The key of the first signed line, where that names itself and was not handed in, with what the ledger was before.
    older: Option<(KeyId, Box<Ledger>)>,
    /// A key that was handed in and that a later line introduces.
    introduced: Option<KeyId>,
    /// Keys that were in force and are not any more.
    replaced: HashSet<KeyId>,
    ledger: Ledger,
}

/// What a line says of a run that begins with it, beside its own members.
struct Begun {
    /// The hash before it.
    prev: Hash,
    /// Who signed it.
    key: Option<KeyId>,
}

impl Reader<'_> {
    fn line(&mut self, number: u64, bytes: &[u8]) -> Result<(), WhyNot> {
        let form = |why: crate::canonical::Deviation| WhyNot::Form(why.to_string());
        let record = Record::parse(bytes).map_err(form)?;
        let hash = |key| record.text(key).and_then(|text| Hash::from_digits(text.as_bytes()));
        let prev = hash("hash_prev").ok_or(WhyNot::Key("hash_prev"))?;
        let itself = hash("hash_self").ok_or(WhyNot::Key("hash_self"))?;
        if prev != self.ledger.head {
            return Err(WhyNot::Link);
        }
        if crate::chain::own_hash(bytes) != Some(itself) {
            return Err(WhyNot::Itself);
        }
        if record.uint("seq") != Some(number) {
            return Err(WhyNot::Sequence);
        }
        let signed = SignedLine::read(bytes).map_err(form)?;
        let kind = record.text("entry").ok_or(WhyNot::Key("entry"))?;
        let named = match kind {
            "key" => {
                let pem = record.text("public_key").ok_or(WhyNot::Key("public_key"))?;
                Some(PublicKey::from_pem(pem).map_err(|_| WhyNot::Key("public_key"))?)
            }
            _ => None,
        };
        self.signature(number, &signed, named.as_ref())?;
        let signer = signed.signature.and(signed.key_id);
        if let Some(key) = named {
            self.replace(key.id())?;
            self.trust(key);
        } else {
            self.ledger.in_force = self.ledger.in_force.or(signer);
            self.entry(number, kind, &record, Begun { prev, key: signer })?;
        }
        self.ledger.head = itself;
        Ok(())
    }

    /// Judges the signature. `named`: the key that the line itself names; without other keys it may sign for itself.
    fn signature(
        &mut self,
        number: u64,
        line: &SignedLine<'_>,
        named: Option<&PublicKey>,
    ) -> Result<(), WhyNot> {
        let Some(signature) = line.signature else {
            return if self.ledger.signed_from.is_some() { Err(WhyNot::Unsigned) } else { Ok(()) };
        };
        let key_id = line.key_id.ok_or(WhyNot::Key("key_id"))?;
        let bad = || WhyNot::Signature(key_id.to_string());
        let introduces_itself = named.is_some_and(|named| named.id() == key_id);
        if let Some(in_force) = self.ledger.in_force.filter(|key| *key != key_id && !introduces_itself) {
            let (key, in_force) = (key_id.to_string(), in_force.to_string());
            return Err(WhyNot::NotInForce { key, in_force });
        }
        let known = self.ledger.keys.iter().find(|key| key.id() == key_id);
        // A key that the line itself names may sign for itself where nobody handed one in. The first one may in any case:
        // whether it introduces one that was handed in is known at the end.
        let demanded = !self.handed_in.is_empty();
        let may = !demanded || self.ledger.signed_from.is_none();
        let key = known.or(named.filter(|named| may && named.id() == key_id));
        match key {
            Some(key) if !key.verifies(&line.unsigned, signature) => return Err(bad()),
            None if demanded => return Err(bad()),
            Some(_) if demanded && known.is_none() => {
                self.older = Some((key_id, Box::new(self.ledger.clone())));
            }
            // Signed by a key that nobody knows here: no proof, and no sign of an edit.
            Some(_) | None => {}
        }
        self.ledger.signed_from.get_or_insert(number);
        Ok(())
    }

    /// Another key is in force from here on. One that was so before does not come back: whoever has it could sign for it.
    fn replace(&mut self, key: KeyId) -> Result<(), WhyNot> {
        if self.replaced.contains(&key) || self.ledger.in_force == Some(key) {
            return Err(WhyNot::Order(format!("the key {key} was introduced before")));
        }
        self.replaced.extend(self.ledger.in_force.replace(key));
        Ok(())
    }

    fn trust(&mut self, key: PublicKey) {
        if self.older.is_some() && self.handed_in.iter().any(|given| given.id() == key.id()) {
            self.introduced.get_or_insert(key.id());
        }
        if !self.ledger.keys.iter().any(|known: &PublicKey| known.id() == key.id()) {
            self.ledger.keys.push(key);
        }
    }

    fn entry(&mut self, number: u64, kind: &str, record: &Record<'_>, begun: Begun) -> Result<(), WhyNot> {
        if kind == "repair" {
            return Ok(());
        }
        let run_id = record.text("run_id").filter(|id| is_name(id)).ok_or(WhyNot::Key("run_id"))?.to_owned();
        let hash = |key| {
            record.text(key).and_then(|text| Hash::from_digits(text.as_bytes())).ok_or(WhyNot::Key(key))
        };
        if kind == "begin" {
            if self.by_id.contains_key(&run_id) {
                return Err(WhyNot::Order(format!("run {run_id} began before")));
            }
            let run = RunEntry {
                run_id: run_id.clone(),
                line: number,
                ledger_prev: begun.prev,
                first: hash("first")?,
                outcome: None,
                removed: None,
                key: begun.key,
            };
            let at = self.ledger.runs.len();
            self.ledger.runs.push(run);
            self.by_id.insert(run_id, at);
            return Ok(());
        }
        let Some(at) = self.by_id.get(&run_id) else {
            return Err(WhyNot::Order(format!("run {run_id} never began")));
        };
        let run = &mut self.ledger.runs[*at];
        let events = record.uint("events").ok_or(WhyNot::Key("events"))?;
        let outcome = Outcome { sealed: kind == "end", events, head: hash("head")? };
        if run.removed.is_some() {
            return Err(WhyNot::Order(format!("run {run_id} was removed before")));
        }
        match kind {
            "end" | "incomplete" if run.outcome.is_some() => {
                return Err(WhyNot::Order(format!("run {run_id} ended before")));
            }
            "end" | "incomplete" => run.outcome = Some(outcome),
            "removed" => {
                run.removed = Some(record.text("reason").ok_or(WhyNot::Key("reason"))?.to_owned());
            }
            other => return Err(WhyNot::Kind(other.to_owned())),
        }
        Ok(())
    }
}

/// Whether a run's id can be the name of its directory, and of nothing elsewhere.
fn is_name(run_id: &str) -> bool {
    !run_id.is_empty() && !run_id.starts_with('.') && !run_id.contains(['/', '\0'])
}

impl Ledger {
    /// The entry of a run.
    pub fn run(&self, run_id: &str) -> Option<&RunEntry> {
        self.runs.iter().find(|run| run.run_id == run_id)
    }

    /// Whether `key` signed here, or was named by one that did.
    pub fn knows(&self, key: KeyId) -> bool {
        self.keys.iter().any(|known| known.id() == key)
    }
}
