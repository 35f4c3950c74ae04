//! Questions and answers in words: for people, and in the record.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use policy::RuleName;

use super::Answer;
use super::calls::Tried;
use super::desk::By;
use crate::event::{Event, EventType, Key, ProcId, Value};
use crate::record::runner_event;

/// What is asked for, as in `read /etc/hosts`.
pub(super) fn act(tried: &[Tried]) -> String {
    let mut text = String::new();
    for (at, tried) in tried.iter().enumerate() {
        let between = if at == 0 { "" } else { "; " };
        let lossy = String::from_utf8_lossy;
        let _ = match tried {
            Tried::File { accesses, path } => write!(text, "{between}{accesses} {}", lossy(path)),
            Tried::Exec { path } => write!(text, "{between}run {}", lossy(path)),
            Tried::Address { accesses, address, port, protocol, names } => {
                let end = std::net::SocketAddr::new(*address, *port);
                let name = names.first().map(|name| format!(" ({name})")).unwrap_or_default();
                write!(text, "{between}{accesses} {end}{}{name}", protocol.suffix())
            }
            Tried::Socket { accesses, path, .. } => write!(text, "{between}{accesses} unix:{}", lossy(path)),
        };
    }
    text
}

/// Longest text of what is asked for, in characters.
const LONGEST: usize = 1024;

/// Whether a question shows whoever answers all that is asked for, and the record tells it: one address, or two paths. What is
/// more than that is not asked about.
pub(super) fn is_whole(tried: &[Tried]) -> bool {
    let mut different: Vec<&Tried> = Vec::new();
    for tried in tried {
        if !different.contains(&tried) {
            different.push(tried);
        }
    }
    let addresses = different.iter().filter(|tried| matches!(tried, Tried::Address { .. })).count();
    let text = act(tried);
    addresses <= 1 && different.len() - addresses <= 2 && text.chars().nth(LONGEST).is_none()
}

/// A question, as far as records tell of it.
pub(super) struct Told<'a> {
    pub number: u64,
    pub rules: &'a [RuleName],
    pub because: Option<&'a str>,
    pub pid: u32,
    pub exe: Option<&'a [u8]>,
    pub tried: &'a [Tried],
    /// The run's first process.
    pub process: ProcId,
    /// The file of its policy, where answers may be written into it.
    pub policy: Option<&'a Path>,
}

impl Told<'_> {
    fn event(&self, event_type: EventType) -> Event {
        let mut event = runner_event(event_type, self.process);
        let text = |text: &str| Value::Bytes(text.as_bytes().to_vec());
        event.set(Key::AskId, Value::Uint(self.number));
        if let Some(rule) = self.rules.first() {
            event.set(Key::PolicyRule, text(rule.as_str()));
        }
        event.set(Key::TargetPid, Value::Uint(self.pid.into()));
        event
    }

    /// The question.
    pub fn ask(&self, seconds: u64) -> Event {
        let mut event = self.event(EventType::Ask);
        event.set(Key::TimeoutS, Value::Uint(seconds));
        if let Some(because) = self.because {
            event.set(Key::Because, Value::Bytes(because.as_bytes().to_vec()));
        }
        if self.rules.len() > 1 {
            let others: Vec<&str> = self.rules.iter().skip(1).map(RuleName::as_str).collect();
            let also = format!("also asked about: {}", others.join(", "));
            event.set(Key::Reason, Value::Bytes(also.into_bytes()));
        }
        if let Some(exe) = self.exe {
            event.set(Key::Exe, Value::Bytes(exe.to_vec()));
        }
        self.objects(&mut event);
        event
    }

    /// What it is about, in the words of the events of such acts.
    fn objects(&self, event: &mut Event) {
        let mut paths = Vec::new();
        let mut accesses: Vec<Vec<u8>> = Vec::new();
        let mut add = |all: &policy::AccessSet| {
            for access in all.iter() {
                let word = access.name().as_bytes().to_vec();
                if !accesses.contains(&word) {
                    accesses.push(word);
                }
            }
        };
        for tried in self.tried {
            match tried {
                Tried::File { accesses, path } => {
                    add(accesses);
                    paths.push(path.clone());
                }
                Tried::Exec { path } => {
                    add(&policy::Access::Run.into());
                    paths.push(path.clone());
                }
                Tried::Address { accesses, address, port, protocol, names } => {
                    add(accesses);
                    event.set(Key::DstIp, Value::Bytes(address.to_string().into_bytes()));
                    event.set(Key::DstPort, Value::Int((*port).into()));
                    let word = protocol.suffix().trim_start_matches('/');
                    if !word.is_empty() {
                        event.set(Key::Proto, Value::Bytes(word.as_bytes().to_vec()));
                    }
                    if let Some(name) = names.first() {
                        event.set(Key::Host, Value::Bytes(name.as_bytes().to_vec()));
                    }
                }
                Tried::Socket { accesses, path, .. } => {
                    add(accesses);
                    paths.push(path.clone());
                }
            }
        }
        let mut paths = paths.into_iter();
        for key in [Key::Path, Key::Path2] {
            if let Some(path) = paths.next() {
                event.set(key, Value::Bytes(path));
            }
        }
        event.set(Key::Access, Value::List(accesses));
    }

    /// The answer, and how many calls it settles.
    pub fn answer(&self, verdict: Verdict, why: Option<&str>, calls: u64) -> Event {
        let mut event = self.event(EventType::Answer);
        let text = |text: String| Value::Bytes(text.into_bytes());
        let (word, scope, by) = match verdict {
            Verdict::Given(answer, by) => {
                let by = match by {
                    By::Person(peer) => {
                        event.set(Key::Uid, Value::Uint(peer.uid.into()));
                        format!("person (process {})", peer.pid)
                    }
                    By::Command => "command".to_owned(),
                };
                match answer {
                    Answer::Once => ("allow", Some("once"), by),
                    Answer::Run => ("allow", Some("run"), by),
                    Answer::Always { sha256 } => {
                        event.set(Key::PolicySha256, text(crate::record::hex(&sha256)));
                        if let Some(file) = self.policy {
                            event.set(Key::Target, Value::Bytes(file.as_os_str().as_bytes().to_vec()));
                        }
                        ("allow", Some("always"), by)
                    }
                    Answer::Deny => ("deny", None, by),
                }
            }
            Verdict::Timeout => ("deny", None, "timeout".to_owned()),
            Verdict::Withdrawn => ("withdrawn", None, "nobody: who asked has ended".to_owned()),
            Verdict::End => ("withdrawn", None, "nobody: the run has ended".to_owned()),
        };
        event.set(Key::Verdict, text(word.to_owned()));
        event.set(Key::AnsweredBy, text(by));
        if let Some(scope) = scope {
            event.set(Key::Scope, text(scope.to_owned()));
        }
        if let Some(why) = why {
            event.set(Key::Reason, text(why.to_owned()));
        }
        event.set(Key::Count, Value::Uint(calls));
        event
    }
}

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Somebody answered.
    Given(Answer, By),
    /// Nobody did in time.
    Timeout,
    /// Nobody waits for the answer any more.
    Withdrawn,
    /// The run has ended.
    End,
}
