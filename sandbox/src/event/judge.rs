//! Which rule decided, and what the policy says where no hook was asked.
//!
//! A hook's record carries a verdict and no rule: the rule is found here, by the evaluator that the kernel's
//! tables are tested against. Where only tracepoints watch, the evaluator judges what they saw. A verdict of
//! the kernel is never changed: where the evaluator disagrees, the event says `unattributed`.
//!
//! # Judging what was observed
//!
//! Attempts that succeeded are judged at the path that the record names. For opens and execs that is the
//! object itself; of calls that name a path (unlink, rename, …) the name was resolved before, by
//! [`super::resolve`]. Where that could not be done nothing is claimed to be allowed. This says what a policy would
//! deny, and enforces nothing. What a hook holds in this run is never judged this way.

mod law;
mod network;

use std::sync::Arc;

use policy::{AccessSet, Act, Decision, Digest, Policies, other_names::Marks};
use sandbox_ebpf::abi::{
    event::{Cause, Judgement},
    policy::{access, kernel},
};

use super::{
    Action, Event, EventType, Key, ProcId, Value,
    decode::{Decoded, Facts, UNKNOWN, reason},
    lines::{Line, Lines},
};
pub use law::precedes;
use law::{Law, Remembered, Said};
pub use network::{Apart, Names, QUESTION};

/// Laws that are remembered at most: records of one are in the ring for a moment after the next holds.
const LAWS: usize = 64;

/// Why nothing is said of what a policy allows, as the log has it.
pub const UNRESOLVED: &str = "where its name led is not known";

/// Who judges in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judging {
    /// Hooks, and they block: events are only told their rule.
    Enforced,
    /// Hooks, without blocking; accesses that have no hook are judged from what was observed.
    Audited,
    /// Nobody in the kernel: everything is judged from what was observed.
    Observed,
    /// Layers that hold policies and tell nobody what they refuse (Landlock, mounts): what was refused and a policy denies
    /// was blocked.
    Fenced,
    /// The same, and they hold all that the policies deny: an attempt whose result nobody sees was blocked, too. But for
    /// calls of the network that no layer refuses: what stays inside a network namespace (its loopback, binding and
    /// listening there, ends of unix sockets that lead nowhere) reaches nobody, and may succeed whatever the policies say.
    FencedWhole,
}

impl Judging {
    /// Whether events of a type that the kernel did not judge are judged here.
    fn observes(self, event_type: EventType) -> bool {
        let hooked = matches!(
            event_type,
            EventType::FileOpen
                | EventType::FileCreate
                | EventType::FileDelete
                | EventType::FileRename
                | EventType::FileLink
                | EventType::FileSymlink
                | EventType::FileTruncate
                | EventType::FileLoad
                | EventType::FileReceive
                | EventType::FileMode
                | EventType::FileOwner
                | EventType::FileTimes
                | EventType::FileXattr
                | EventType::FileFlags
                | EventType::DirCreate
                | EventType::DirDelete
                | EventType::Exec
                | EventType::NetConnect
                | EventType::NetSend
                | EventType::NetBind
                | EventType::NetListen
                | EventType::NetSocket
        );
        match self {
            Judging::Enforced => false,
            Judging::Audited => !hooked,
            Judging::Observed | Judging::Fenced | Judging::FencedWhole => true,
        }
    }
}

/// Adds verdicts and rules to events.
#[derive(Debug)]
pub struct Judge {
    /// By age; none where there is no policy.
    laws: Vec<Law>,
    /// Which of them holds for names that stay.
    lasting: Option<u32>,
    judging: Judging,
    marks: Marks,
    lines: Lines,
    names: Option<Box<dyn Names>>,
    /// The layer whose records are judged here.
    observer: &'static str,
    apart: Option<Apart>,
}

impl Judge {
    /// For a run that begins with `policies`, whose number in the kernel is `id`; without any it does nothing.
    pub fn new(policies: Option<&Policies>, id: u32, judging: Judging, first: ProcId) -> Self {
        Self {
            laws: policies.map(|policies| Law::new(id, 0, policies)).into_iter().collect(),
            lasting: Some(id),
            judging,
            marks: Marks::default(),
            lines: Lines::new(first),
            names: None,
            observer: "trace",
            apart: None,
        }
    }

    /// With another layer that observes than `trace`.
    #[must_use]
    pub fn observed_by(self, observer: &'static str) -> Self {
        Self { observer, ..self }
    }

    /// With somebody who knows by which names addresses are known.
    #[must_use]
    pub fn with_names(self, names: Box<dyn Names>) -> Self {
        Self { names: Some(names), ..self }
    }

    /// For a run in a network namespace of its own.
    #[must_use]
    pub fn with_namespace(self, apart: Option<Apart>) -> Self {
        Self { apart, ..self }
    }

    /// With the files that hooks deny by another name.
    #[must_use]
    pub fn with_marks(self, marks: Marks) -> Self {
        Self { marks, ..self }
    }

    /// Other policies hold from `since_ns` on (CLOCK_MONOTONIC); records that the kernel judged before it by earlier
    /// ones are still told by those.
    pub fn adopt(&mut self, policies: &Policies, id: u32, since_ns: u64, marks: Marks) {
        if self.laws.len() == LAWS {
            // What lasts is asked for as long as it does, whatever was open for a moment since.
            let oldest = self.laws.iter().position(|law| Some(law.id) != self.lasting).unwrap_or(0);
            self.laws.remove(oldest);
        }
        self.laws.push(Law::new(id, since_ns, policies));
        self.marks = marks;
    }

    /// The law of this number, adopted or to be, is what lasts: the kernel may name it until another does.
    pub fn lasts(&mut self, id: u32) {
        self.lasting = Some(id);
    }

    /// What was announced by the last [`Judge::adopt`] did not come.
    pub fn abandon(&mut self, id: u32) {
        self.laws.retain(|law| law.id != id);
    }

    /// Judges an event that was enriched, and learns from it. Events must come in the order in which the decoder
    /// gave them.
    pub fn judge(&mut self, decoded: &mut Decoded) {
        self.ask(decoded);
        if !self.laws.is_empty() {
            // Also where no rule depends on the process: one of the next policy may.
            self.lines.learn(decoded);
        }
    }

    fn ask(&mut self, decoded: &mut Decoded) {
        let Decoded { event, facts } = decoded;
        let names = self.names_of(event, facts);
        if facts.access | facts.access2 == 0 && facts.net_access == 0 && facts.kernel == 0 {
            return;
        }
        let found = match (facts.judgement, facts.policy) {
            (Judgement::None, _) | (_, 0) => self.laws.iter().rposition(|law| law.since_ns <= event.mono_ns),
            (_, id) => self.laws.iter().rposition(|law| law.id == id),
        };
        let Some(at) = found else {
            if facts.judgement != Judgement::None && facts.cause == Cause::Policy {
                event.set(Key::Reason, Value::Bytes(b"unattributed".to_vec()));
            }
            return;
        };
        let law = &mut self.laws[at];
        if let Some(apart) = &self.apart {
            apart.note(event, facts);
        }
        if self.judging != Judging::Enforced {
            facts.resolver |= network::asks(self.names.as_deref(), &law.policies, facts);
        }
        let unknown = self.lines.unknown();
        let line = if law.conditional { self.lines.of(event.process) } else { unknown };
        // What a process executed before the law held is not known to the kernel, if only this law asks for it.
        let or_line = (law.conditional && at > 0).then_some(unknown);
        // Only an execution looks at what a file holds.
        let digest = match event.event_type {
            EventType::Exec => facts.digest.map(Digest),
            _ => Some(Digest::UNNAMED),
        };
        let Law { policies, digests, remembered, .. } = law;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let names = names.as_slice();
        let observer = self.observer;
        let mut court = Court { policies, line, or_line, digests, digest, names, remembered, observer };
        match facts.judgement {
            // Whose names and listeners the kernel was not told of where nothing is blocked.
            Judgement::Allowed | Judgement::WouldBlock
                if self.judging == Judging::Audited
                    && facts.net_access != 0
                    && facts.cause == Cause::Policy =>
            {
                court.judge_again(event, facts);
            }
            // A file without a name is no layer's matter until it gets one.
            Judgement::None if self.judging == Judging::FencedWhole && facts.unseen && unnamed(event) => {
                event.set(Key::Reason, Value::Bytes(UNKNOWN.into()));
            }
            Judgement::None if self.judging == Judging::FencedWhole && facts.failed => {
                let _ = court.judge_refused(event, facts, observer);
            }
            Judgement::None if self.judging == Judging::FencedWhole && facts.unseen => {
                let refusable = facts.net_access == 0
                    || self.apart.as_ref().is_some_and(|apart| apart.leads_nowhere(facts));
                if !(refusable && court.judge_refused(event, facts, observer)) {
                    court.judge_observed(event, facts);
                }
            }
            Judgement::None if self.judging.observes(event.event_type) && succeeded(event, facts) => {
                court.judge_observed(event, facts);
            }
            Judgement::None if self.apart.is_some() && Apart::kept(event, facts) => {
                court.judge_kept(event, facts);
            }
            // In a network namespace no layer refuses a call of the network so that it would fail like this.
            Judgement::None if self.apart.is_some() && facts.net_access != 0 => {}
            Judgement::None if matches!(self.judging, Judging::Fenced | Judging::FencedWhole) => {
                if let Some(layer) = refuser(event) {
                    let _ = court.judge_refused(event, facts, layer);
                }
            }
            Judgement::None => {}
            _ if facts.cause == Cause::Link => court.name_linked(event, facts, &self.marks),
            // Families that no rule names fall to the default, which is told.
            _ if facts.cause != Cause::Policy && facts.cause != Cause::Family => {}
            judgement => court.name_rule(event, facts, judgement),
        }
    }
}

/// Whether an attempt went through, or will without another call, or may have: of what was seen before it happened it is
/// not known.
fn succeeded(event: &Event, facts: &Facts) -> bool {
    let begun = -i64::from(libc::EINPROGRESS);
    match event.get(Key::Ret) {
        Some(Value::Int(ret)) => *ret >= 0 || (*ret == begun && event.event_type == EventType::NetConnect),
        _ => facts.unseen,
    }
}

/// Whether an open makes a file that no directory has.
fn unnamed(event: &Event) -> bool {
    let temporary = libc::O_TMPFILE as u64;
    matches!(event.get(Key::Flags), Some(Value::Uint(flags)) if event.event_type == EventType::FileOpen && flags & temporary == temporary)
}

/// The layer that an attempt may have been refused by, as it failed: where permission was missing Landlock, where
/// something is mounted the covers.
fn refuser(event: &Event) -> Option<&'static str> {
    let Some(Value::Int(ret)) = event.get(Key::Ret) else { return None };
    match ret.checked_neg().and_then(|errno| i32::try_from(errno).ok())? {
        libc::EACCES | libc::EPERM | libc::EXDEV => Some("landlock"),
        libc::EROFS | libc::EBUSY => Some("mountns"),
        _ => None,
    }
}

/// The policies, and what they said before.
struct Court<'a> {
    policies: &'a Policies,
    /// Who acts.
    line: &'a Arc<Line>,
    /// Who acts as the kernel may see it, which saw less.
    or_line: Option<&'a Arc<Line>>,
    /// The contents that rules name.
    digests: &'a [Digest],
    /// What the executed file holds, where it is known.
    digest: Option<Digest>,
    /// By which names the other end is known.
    names: &'a [&'a str],
    remembered: &'a mut Remembered,
    /// The layer whose records are judged here.
    observer: &'static str,
}

impl Court<'_> {
    /// Finds the rule behind the kernel's verdict.
    fn name_rule(&mut self, event: &mut Event, facts: &Facts, judgement: Judgement) {
        let allowed = judgement == Judgement::Allowed;
        if facts.kernel != 0 {
            // What is allowed is so by the section's own words.
            if !allowed {
                let (key, value) = match self.policies.kernel_closing(words(facts.kernel)) {
                    Some(rule) => (Key::PolicyRule, rule.as_str().into()),
                    None => (Key::Reason, b"unattributed".to_vec()),
                };
                event.set(key, Value::Bytes(value));
            }
            return;
        }
        loop {
            let said = if allowed { self.decide_allowed(event, facts) } else { self.decide(event, facts) };
            match (said, self.or_line.take()) {
                // What asks is denied where nobody can be asked.
                (Some(said), _) if (said.decision == Decision::Allow) == allowed => {
                    if said.on_trial {
                        event.action = Action::WouldBlock;
                    }
                    return name(event, &said);
                }
                (_, Some(line)) => self.line = line,
                (_, None) => return event.set(Key::Reason, Value::Bytes(b"unattributed".to_vec())),
            }
        }
    }

    /// Finds the name by which a file is denied that was opened by another one, and the rule behind it.
    fn name_linked(&mut self, event: &mut Event, facts: &Facts, marks: &Marks) {
        let loads = facts.access & access::LOAD != 0;
        let wanted = if loads { facts.access | access::RUN } else { facts.access };
        let mut found: Option<(Said, &[u8])> = None;
        for name in marks.names(facts.mark) {
            for part in [wanted & access::RUN, wanted & !access::RUN].into_iter().filter(|part| *part != 0) {
                let said = self.at(part, name, false);
                let first = found.as_ref().is_none_or(|(other, _)| precedes(&said.rule, &other.rule));
                if said.decision != Decision::Allow && first {
                    found = Some((said, name));
                }
            }
        }
        match found {
            Some((said, denied)) => {
                event.set(Key::Target, Value::Bytes(denied.to_vec()));
                name(event, &said);
            }
            None => event.set(Key::Reason, Value::Bytes(b"unattributed".to_vec())),
        }
    }

    /// Judges in the kernel's stead.
    fn judge_observed(&mut self, event: &mut Event, facts: &Facts) {
        let cut = event.get(Key::PathTruncated).is_some();
        let said = if cut { None } else { self.decide(event, facts) };
        match said {
            // What is allowed at the name as it was called may be denied where that led.
            Some(said) if said.decision == Decision::Allow && event.get(Key::PathUnresolved).is_some() => {
                return event.set(Key::Reason, Value::Bytes(UNRESOLVED.into()));
            }
            Some(said) => {
                event.action = match said.decision {
                    Decision::Allow if !said.on_trial => Action::Allowed,
                    _ => Action::WouldBlock,
                };
                name(event, &said);
            }
            None if cut => {
                event.action = Action::WouldBlock;
                let why = reason(Cause::PathTooLong).unwrap_or_default();
                event.set(Key::Reason, Value::Bytes(why.into()));
            }
            None => return,
        }
        event.set(Key::Layer, Value::Bytes(self.observer.into()));
    }

    /// Judges what was refused by somebody who says nothing of it; whether a policy denies it. Else others refused it.
    fn judge_refused(&mut self, event: &mut Event, facts: &Facts, layer: &str) -> bool {
        if event.get(Key::PathTruncated).is_some() {
            return false;
        }
        let denied = |said: &Said| said.decision != Decision::Allow && !said.on_trial;
        let Some(said) = self.decide(event, facts).filter(denied) else { return false };
        event.action = Action::Blocked;
        name(event, &said);
        event.set(Key::Layer, Value::Bytes(layer.into()));
        true
    }

    /// What the policy says about an event; `None` where the event does not name its object.
    fn decide(&mut self, event: &mut Event, facts: &Facts) -> Option<Said> {
        let mut said = None;
        let mut add = |next: Said| {
            said = Some(match said.take() {
                Some(said) => Said::and(said, next),
                None => next,
            });
        };
        // Executing is another section's matter than what is done to files.
        for part in [facts.access & access::RUN, facts.access & !access::RUN] {
            if part != 0 {
                add(self.at(part, object(event, facts)?, facts.detached));
            }
        }
        if facts.script {
            // The interpreter was the object; the text it reads was executed too.
            let looked_up = bytes(event, Key::Target).filter(|_| facts.judgement == Judgement::None);
            if let Some(path) = looked_up.or_else(|| bytes(event, Key::Path)) {
                add(self.at(facts.access, path, false));
            }
        }
        if facts.access2 != 0 {
            add(self.at(facts.access2, bytes(event, Key::Path2)?, false));
        }
        if facts.gained != Some(0) {
            self.gained(event, facts.gained)?.into_iter().for_each(&mut add);
        }
        if facts.net_access != 0 {
            add(self.network(event, facts)?);
        }
        said
    }

    /// Why an object may not have a second name: what is denied at the first and not at the second. The
    /// kernel says which accesses those are; where it was not asked, all are tried.
    fn gained(&mut self, event: &Event, gained: Option<u16>) -> Option<Vec<Said>> {
        let (old, new) = (bytes(event, Key::Path)?, bytes(event, Key::Path2)?);
        let flags = match event.get(Key::Flags) {
            Some(Value::Uint(flags)) => *flags,
            _ => 0,
        };
        let exchange =
            flags & u64::from(libc::RENAME_EXCHANGE) != 0 && event.event_type == EventType::FileRename;
        let wanted = gained.unwrap_or(access::OBJECT) & access::OBJECT;
        let bits = (0..u16::BITS).map(|bit| 1 << bit).filter(|bit| wanted & bit != 0);
        Some(
            bits.filter_map(|bit| {
                let (at_old, at_new) = (self.at(bit, old, false), self.at(bit, new, false));
                match (at_old.decision, at_new.decision) {
                    (Decision::Deny, Decision::Allow) => Some(at_old),
                    (Decision::Allow, Decision::Deny) if exchange => Some(at_new),
                    _ => None,
                }
            })
            .collect(),
        )
    }

    /// Accesses to a path.
    fn at(&mut self, accesses: u16, path: &[u8], detached: bool) -> Said {
        if detached && (path.first() != Some(&b'/') || accesses & access::RUN == 0) {
            // Pipes and the like belong to the run.
            return Said::OWN;
        }
        if accesses == access::RUN && !self.digests.is_empty() {
            return self.ask(&Act::Exec { path, sha256: self.digest.as_ref() });
        }
        let asked = (accesses, Arc::clone(self.line));
        if let Some(said) = self.remembered.get(&asked, path) {
            return said.clone();
        }
        let act = if accesses == access::RUN {
            Act::Exec { path, sha256: None }
        } else {
            Act::File { accesses: AccessSet::from_path_bits(accesses), path }
        };
        let said = self.ask(&act);
        self.remembered.insert(asked, path, said.clone());
        said
    }

    /// What the policies say about an act of the one who acts.
    fn ask(&self, act: &Act<'_>) -> Said {
        self.line.with(|subject| Said::of(&self.policies.judge(subject, act)))
    }

    /// The same as [`Court::decide`] for an exec that a hook let pass without telling what the file holds: whatever
    /// rules name, or nothing of it.
    fn decide_allowed(&mut self, event: &mut Event, facts: &Facts) -> Option<Said> {
        if self.digest.is_some() || self.digests.is_empty() || facts.access & access::RUN == 0 {
            return self.decide(event, facts);
        }
        let mut said = None;
        for digest in std::iter::once(&Digest::UNNAMED).chain(self.digests) {
            self.digest = Some(*digest);
            said = self.decide(event, facts);
            if said.as_ref().is_some_and(|said| said.decision == Decision::Allow) {
                break;
            }
        }
        said
    }
}

/// The words of the section `kernel` of which any opens this act.
fn words(act: u32) -> &'static [&'static str] {
    match act {
        kernel::MOUNT => &["mount"],
        kernel::USERNS => &["userns"],
        kernel::CHROOT => &["chroot"],
        kernel::PTRACE_OWN => &["ptrace-own", "ptrace-any"],
        kernel::PTRACE_ANY => &["ptrace-any"],
        kernel::BPF => &["bpf"],
        kernel::SIGNAL_OUTSIDE => &["signal-outside"],
        kernel::RAW_DEVICES => &["raw-devices"],
        kernel::SYSCTL_WRITE => &["sysctl-write"],
        _ => &[],
    }
}

/// The path that a verdict on an event is about.
fn object<'e>(event: &'e Event, facts: &Facts) -> Option<&'e [u8]> {
    if event.event_type != EventType::Exec {
        return bytes(event, Key::Path);
    }
    // A hook says what it judged; an observer where the name led, which of a text is not what was executed.
    let ran = if facts.judgement == Judgement::None { bytes(event, Key::Exe) } else { None };
    match event.get(Key::Target) {
        Some(Value::Bytes(_)) if facts.script && ran.is_some() => ran,
        Some(Value::Bytes(judged)) => Some(judged),
        // Only a successful exec's `exe` is the file that runs now.
        _ if matches!(event.get(Key::Ret), Some(Value::Int(0))) => bytes(event, Key::Exe),
        _ => bytes(event, Key::Path),
    }
}

fn bytes(event: &Event, key: Key) -> Option<&[u8]> {
    match event.get(key) {
        Some(Value::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}

/// Puts the rule on an event.
fn name(event: &mut Event, said: &Said) {
    if let Some(rule) = &said.rule {
        event.set(Key::PolicyRule, Value::Bytes(rule.as_str().into()));
    }
    if let Some(because) = &said.because {
        event.set(Key::Because, Value::Bytes(because.as_bytes().into()));
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
