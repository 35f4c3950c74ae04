//! The file of a baseline: JSON, one behaviour a line, the same bytes for the same runs.
//!
//! It may be anybody's when it is read: sizes are bounded, unknown fields and versions are refused, and numbers that
//! contradict each other too. What it says is never printed without being made safe.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::marker::PhantomData;

use audit_verify::text;
use policy::learn::KnownFault;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::fact::{Doing, Kind};
use super::index::Index;

/// The version of the form that is written and read.
pub const VERSION: u32 = 1;
/// Most behaviours of one baseline.
pub const MOST: usize = 100_000;
/// Longest file, in bytes.
pub const LONGEST: u64 = 64 << 20;
/// Most runs that a baseline may say it is of.
const RUNS: u64 = 1 << 32;
/// Longest name of a kind, an agent, an object or a program, in bytes.
const TEXT: usize = 32 << 10;

/// Why a file is no baseline.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// Longer than any.
    #[error("it is longer than {LONGEST} bytes, as no baseline is")]
    TooLong,
    /// No JSON, or not of this form.
    #[error("it is no baseline that this program wrote")]
    Form(#[from] serde_json::Error),
    /// Another version.
    #[error(
        "it is of version {0}, and this program reads version {VERSION}: make it again of its runs with \
         `sandbox baseline create`"
    )]
    Version(u64),
    /// A behaviour that there is none of.
    #[error("behaviour {at} ({kind} {access}): its object {fault}")]
    Object {
        /// Its place in the list, from 1.
        at: usize,
        /// Its kind.
        kind: String,
        /// What is done.
        access: &'static str,
        /// What is wrong.
        fault: KnownFault,
    },
    /// It contradicts itself.
    #[error("it contradicts itself: {0}")]
    Contradiction(&'static str),
}

/// What runs did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// [`VERSION`].
    #[serde(rename = "sandbox_baseline")]
    pub version: u32,
    /// The policy whose rules say what is sensitive.
    pub base: String,
    /// The version of the groups in it.
    pub groups: u32,
    /// How many runs.
    pub runs: u64,
    /// What all of them tell together.
    pub all: Agent,
    /// What those of each agent tell.
    #[serde(deserialize_with = "each_once")]
    pub agents: BTreeMap<String, Agent>,
    /// What they did, by kind and object.
    pub behaviours: Vec<Behaviour>,
}

/// What runs tell as a set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// How many.
    pub runs: u64,
    /// For each kind, how many of them did something of it that none of the others did.
    #[serde(deserialize_with = "each_once")]
    pub alone: BTreeMap<String, u64>,
    /// How much there was in a run.
    #[serde(deserialize_with = "each_once")]
    pub volumes: BTreeMap<Metric, Spread>,
}

impl Agent {
    /// The key in `alone` of a kind, or of who does what others do.
    pub fn key(kind: &Kind, by: bool) -> String {
        format!("{} {}{}", kind.name, kind.access.name(), if by { " by" } else { "" })
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Processes that were made.
    Processes,
    /// Files that were written or made.
    FilesWritten,
    /// Files that were removed, or lost their name.
    FilesDeleted,
    /// Bytes that went over TCP connections to others.
    BytesSent,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 4] = [Self::Processes, Self::FilesWritten, Self::FilesDeleted, Self::BytesSent];

    /// In words.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::FilesWritten => "files written",
            Self::FilesDeleted => "files deleted",
            Self::BytesSent => "bytes sent",
        }
    }
}

/// How much there was in runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// In the run with the least.
    pub least: u64,
    /// In the middle one.
    pub median: u64,
    /// In the run with the most.
    pub most: u64,
}

impl Spread {
    /// Of these; `None` of none.
    pub fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        Some(Self { least: *values.first()?, median: values[values.len() / 2], most: *values.last()? })
    }
}

/// Something that runs did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    /// A section of policies, or a rule of the base.
    pub kind: String,
    /// What was done.
    pub access: Doing,
    /// The object: a pattern, a target, a word.
    pub what: String,
    /// In how many runs of which agent.
    #[serde(deserialize_with = "each_once")]
    pub runs: BTreeMap<String, u64>,
    /// How often in all of them.
    pub times: u64,
    /// In how many runs by which program.
    #[serde(deserialize_with = "each_once")]
    pub by: BTreeMap<String, u64>,
    /// Programs that are not named.
    #[serde(default, skip_serializing_if = "is_none")]
    pub more_programs: u64,
}

fn is_none(number: &u64) -> bool {
    *number == 0
}

impl Behaviour {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        Kind::new(&self.kind, self.access)
    }

    /// In how many runs.
    pub fn in_runs(&self) -> u64 {
        self.runs.values().fold(0, |sum, runs| sum.saturating_add(*runs))
    }
}

/// A map in which no key stands twice, as a reader might take either.
fn each_once<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    struct Once<K, V>(PhantomData<(K, V)>);
    impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Once<K, V> {
        type Value = BTreeMap<K, V>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object with each key once")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = entries.next_entry()? {
                if map.insert(key, value).is_some() {
                    return Err(serde::de::Error::custom("a key stands twice"));
                }
            }
            Ok(map)
        }
    }
    deserializer.deserialize_map(Once(PhantomData))
}

/// The version alone, of whatever else there is.
#[derive(Deserialize)]
struct Versioned {
    sandbox_baseline: u64,
}

impl Baseline {
    /// Reads a file.
    ///
    /// # Errors
    /// It is none.
    pub fn read(file: &File) -> Result<Self, FileError> {
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes)?;
        Self::parse(&bytes)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, FileError> {
        if bytes.len() as u64 > LONGEST {
            return Err(FileError::TooLong);
        }
        let Versioned { sandbox_baseline: version } = serde_json::from_slice(bytes)?;
        if version != u64::from(VERSION) {
            return Err(FileError::Version(version));
        }
        serde_json::from_slice::<Self>(bytes)?.checked()
    }

    /// The file's text.
    ///
    /// # Errors
    /// It is longer than what is read.
    pub fn text(&self) -> Result<String, FileError> {
        let mut text = format!(
            "{{\n\"sandbox_baseline\": {},\n\"base\": {},\n\"groups\": {},\n\"runs\": {},\n\"all\": {},\n\"agents\": {{",
            self.version,
            json(&self.base)?,
            self.groups,
            self.runs,
            json(&self.all)?
        );
        let mut comma = "";
        for (name, agent) in &self.agents {
            // Writing to a String does not fail.
            let _ = write!(text, "{comma}\n{}: {}", json(name)?, json(agent)?);
            comma = ",";
        }
        text.push_str("\n},\n\"behaviours\": [");
        comma = "";
        for behaviour in &self.behaviours {
            let _ = write!(text, "{comma}\n{}", json(behaviour)?);
            comma = ",";
        }
        text.push_str("\n]\n}\n");
        match text.len() as u64 <= LONGEST {
            true => Ok(text),
            false => Err(FileError::TooLong),
        }
    }

    /// The same, if it does not contradict itself.
    pub(super) fn checked(self) -> Result<Self, FileError> {
        self.index()?;
        let wrong = |what| Err(FileError::Contradiction(what));
        if self.runs == 0 || self.runs > RUNS || self.all.runs != self.runs {
            return wrong("the number of its runs");
        }
        if self.behaviours.len() > MOST {
            return wrong("more behaviours than a baseline has");
        }
        let sum = self.agents.values().try_fold(0u64, |sum, agent| sum.checked_add(agent.runs));
        let named = |(name, agent): (&String, &Agent)| name.len() <= TEXT && agent.runs > 0;
        if sum != Some(self.runs) || !self.agents.iter().all(named) {
            return wrong("the runs of its agents");
        }
        for agent in self.agents.values().chain([&self.all]) {
            if agent.alone.iter().any(|(key, runs)| key.len() > TEXT || *runs == 0 || *runs > agent.runs) {
                return wrong("runs that did something alone");
            }
            if agent.volumes.values().any(|of| of.least > of.median || of.median > of.most) {
                return wrong("a median that is not between the least and the most");
            }
        }
        for behaviour in &self.behaviours {
            let known = |(name, runs): (&String, &u64)| {
                *runs > 0 && self.agents.get(name).is_some_and(|agent| *runs <= agent.runs)
            };
            if behaviour.runs.is_empty() || !behaviour.runs.iter().all(known) || behaviour.times == 0 {
                return wrong("the runs of a behaviour");
            }
            let runs = behaviour.in_runs();
            if behaviour.by.iter().any(|(name, by)| name.len() > TEXT || *by == 0 || *by > runs) {
                return wrong("the programs of a behaviour");
            }
            if behaviour.kind.len() > TEXT || behaviour.what.len() > TEXT {
                return wrong("a name that is too long");
            }
        }
        Ok(self)
    }

    /// Where each behaviour is found.
    pub(super) fn index(&self) -> Result<Index, FileError> {
        let mut index = Index::default();
        for (at, behaviour) in self.behaviours.iter().enumerate() {
            let kind = behaviour.kind();
            index.insert(&kind, &behaviour.what, at).map_err(|fault| FileError::Object {
                at: at + 1,
                kind: text::safe(kind.name.as_bytes()),
                access: kind.access.name(),
                fault,
            })?;
        }
        Ok(index)
    }
}

fn json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string(value).map(|json| text::json(&json))
}
