//! Denials of the same rule at the same object, put together, with the line that would allow each.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use policy::suggest::{self, Suggester, Suggestion};
use policy::{Access, AccessSet, Act, Digest, End, Policy, Protocol, RuleName, Subject, Variables};

use super::attempt::Asked;
use super::court::{Judged, Outcome, Ruling};
use crate::event::lines::Line;
use crate::review::text::safe;

/// Programs that are named in a group at most.
const PROGRAMS: usize = 3;
/// Different lines of processes for which a suggestion is made at most; for more it is made for everybody.
const ACTORS: usize = 32;

/// What a group is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    File(Vec<u8>),
    Run(Vec<u8>),
    /// A new name for what is here.
    NewName(Vec<u8>),
    Address(std::net::IpAddr, u16, Protocol),
    /// A port of a name.
    Named(String, u16, Protocol),
    Question(String),
    Socket(Vec<u8>),
    Abstract(Vec<u8>),
    Family,
    Kernel(&'static [&'static str]),
    /// Nothing that a rule is about.
    Nothing,
}

impl Object {
    fn of(asked: &Asked<'_>) -> Self {
        match *asked {
            Asked::File(_, path) => Self::File(path.to_vec()),
            Asked::Run(path) => Self::Run(path.to_vec()),
            Asked::NewName { old, .. } => Self::NewName(old.to_vec()),
            Asked::End(_, End::Address { address, port, protocol, .. }, host) => match host {
                Some(host) => Self::Named(host.to_owned(), port, protocol),
                None => Self::Address(address, port, protocol),
            },
            Asked::Question(name, _) => Self::Question(name.to_owned()),
            Asked::End(_, End::Path(path), _) => Self::Socket(path.to_vec()),
            Asked::End(_, End::Abstract(name), _) => Self::Abstract(name.to_vec()),
            Asked::End(_, End::Other, _) => Self::Family,
            Asked::Kernel(words) => Self::Kernel(words),
            Asked::Unjudged(_) => Self::Nothing,
        }
    }

    /// For people, safe on a terminal.
    fn text(&self) -> String {
        match self {
            Self::File(path) | Self::Run(path) => safe(path),
            Self::NewName(path) => format!("{} (by another name)", safe(path)),
            Self::Address(address, port, protocol) => {
                let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
                format!("{host}:{port}{}", protocol.suffix())
            }
            Self::Named(host, port, protocol) => {
                format!("{}:{port}{}", safe(host.as_bytes()), protocol.suffix())
            }
            Self::Question(name) => format!("the name {}", safe(name.as_bytes())),
            Self::Socket(path) => format!("unix:{}", safe(path)),
            Self::Abstract(name) => format!("unix:@{}", safe(name)),
            Self::Family => "a socket of another family".to_owned(),
            Self::Kernel(words) => words.first().copied().unwrap_or_default().to_owned(),
            Self::Nothing => "what could not be judged".to_owned(),
        }
    }
}

/// Denials of one rule at one object.
#[derive(Clone, Debug)]
pub struct Group {
    /// What becomes of them.
    pub outcome: Outcome,
    /// The rule or default; `None` where the kernel could not judge.
    pub rule: Option<RuleName>,
    /// The rule's own explanation.
    pub because: Option<String>,
    /// The object in words, safe to print.
    pub object: String,
    /// What was tried; empty for what is no access.
    pub accesses: AccessSet,
    /// How often.
    pub count: u64,
    /// The programs that tried it, as paths safe to print: some of them.
    pub programs: Vec<String>,
    /// What would allow it, or why nothing is suggested.
    pub suggestion: Result<Suggestion, String>,
}

#[derive(Debug)]
struct Pile {
    accesses: AccessSet,
    count: u64,
    because: Option<String>,
    /// Who tried it, each once: the suggestion is made for all of them.
    who: Vec<Arc<Line>>,
    owner: policy::Owner,
    /// Of a name, one of its addresses.
    address: Option<std::net::IpAddr>,
    programs: Vec<String>,
}

/// Collects denials.
#[derive(Debug, Default)]
pub struct Groups {
    piles: BTreeMap<(Outcome, Option<RuleName>, Object), Pile>,
}

impl Groups {
    /// Adds an event that would not just be allowed.
    pub fn add(&mut self, judged: &Judged<'_, '_>, who: &Arc<Line>, count: u64) {
        let Ruling { outcome, rule, because } = &*judged.ruling;
        let accesses = match judged.about {
            Asked::File(accesses, _) => *accesses,
            Asked::Run(_) => Access::Run.into(),
            Asked::End(access, ..) => (*access).into(),
            Asked::NewName { .. } => judged.gained,
            Asked::Kernel(_) | Asked::Unjudged(_) | Asked::Question(..) => AccessSet::EMPTY,
        };
        let (owner, address) = match judged.about {
            Asked::End(_, End::Address { owner, address, .. }, _) => (*owner, Some(*address)),
            _ => (policy::Owner::Elsewhere, None),
        };
        let key = (*outcome, rule.clone(), Object::of(judged.about));
        let pile = self.piles.entry(key).or_insert_with(|| Pile {
            accesses: AccessSet::EMPTY,
            count: 0,
            because: because.as_deref().map(str::to_owned),
            who: Vec::new(),
            owner,
            address,
            programs: Vec::new(),
        });
        // One more than are looked at says that there are too many.
        if pile.who.len() <= ACTORS && !pile.who.contains(who) {
            pile.who.push(Arc::clone(who));
        }
        pile.accesses = pile.accesses.union(accesses);
        pile.count = pile.count.saturating_add(count);
        if pile.programs.len() < PROGRAMS {
            let exe = safe(who.exe());
            if !exe.is_empty() && !pile.programs.contains(&exe) {
                pile.programs.push(exe);
            }
        }
    }

    /// How many attempts have this outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.piles.iter().filter(|((found, ..), _)| *found == outcome).map(|(_, pile)| pile.count).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.piles.is_empty()
    }

    /// The groups in order: what rules deny before what defaults do, those of the rule that denies most first, and in it
    /// the object that is tried most.
    /// At most `limit` of them are told of.
    pub fn finish(self, policy: &Policy, variables: &Variables, limit: usize) -> Ranked {
        let mut by_rule: BTreeMap<(Outcome, Option<RuleName>), u64> = BTreeMap::new();
        for ((outcome, rule, _), pile) in &self.piles {
            *by_rule.entry((*outcome, rule.clone())).or_default() += pile.count;
        }
        let mut piles: Vec<_> = self.piles.into_iter().collect();
        piles.sort_by_cached_key(|((outcome, rule, object), pile)| {
            let of_rule = by_rule.get(&(*outcome, rule.clone())).copied().unwrap_or(0);
            let by_default = rule.as_ref().is_some_and(RuleName::is_default);
            let (of_rule, count) = (Reverse(of_rule), Reverse(pile.count));
            (Reverse(*outcome), by_default, of_rule, rule.clone(), count, object.clone())
        });
        let hidden = piles.len().saturating_sub(limit);
        let mut suggester = Suggester::new(policy, variables);
        let group = |((outcome, rule, object), pile): ((Outcome, Option<RuleName>, Object), Pile)| Group {
            outcome,
            rule,
            object: object.text(),
            suggestion: suggestion(&mut suggester, policy, &object, &pile),
            because: pile.because,
            accesses: pile.accesses,
            count: pile.count,
            programs: pile.programs,
        };
        // A suggestion takes longer than all else that is said of a group.
        let shown = piles.into_iter().take(limit).map(group).collect();
        Ranked { shown, hidden, by_rule }
    }
}

/// Groups in order, of which the first are told of.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// Those that are told of.
    pub shown: Vec<Group>,
    /// How many others there are.
    pub hidden: usize,
    by_rule: BTreeMap<(Outcome, Option<RuleName>), u64>,
}

impl Ranked {
    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.by_rule.is_empty()
    }

    /// How many attempts are in all groups.
    pub fn count(&self) -> u64 {
        self.by_rule.values().sum()
    }

    /// Whether there is a group with this outcome.
    pub fn has(&self, outcome: Outcome) -> bool {
        self.by_rule.keys().any(|(found, _)| *found == outcome)
    }

    /// How many attempts are in all groups of this one's rule and outcome.
    pub fn of_rule(&self, group: &Group) -> u64 {
        self.by_rule.get(&(group.outcome, group.rule.clone())).copied().unwrap_or(0)
    }
}

fn suggestion(
    suggester: &mut Suggester<'_>,
    policy: &Policy,
    object: &Object,
    pile: &Pile,
) -> Result<Suggestion, String> {
    let accesses = pile.accesses;
    let end = |end| Act::Network { accesses, end };
    let names = match object {
        Object::Named(host, ..) => vec![host.as_str()],
        _ => Vec::new(),
    };
    let act = match object {
        Object::File(path) => Act::File { accesses, path },
        Object::Run(path) => Act::Exec { path, sha256: Some(&Digest::UNNAMED) },
        Object::Address(address, port, protocol) => end(End::Address {
            address: *address,
            port: *port,
            protocol: *protocol,
            names: &[],
            owner: pile.owner,
        }),
        Object::Named(_, port, protocol) => {
            let Some(address) = pile.address else { return Err("its address is not known".to_owned()) };
            let (port, protocol) = (*port, *protocol);
            end(End::Address { address, port, protocol, names: &names, owner: pile.owner })
        }
        Object::Question(name) => return suggester.question(name).map_err(|why| why.to_string()),
        Object::Socket(path) => end(End::Path(path)),
        Object::Abstract(name) => end(End::Abstract(name)),
        Object::Family => end(End::Other),
        Object::Kernel(words) => {
            let word = words.first().copied().unwrap_or_default();
            return suggest::kernel(policy, word).map_err(|why| why.to_string());
        }
        Object::NewName(_) if accesses.is_empty() => {
            return Err("allow below both names what is allowed below either".to_owned());
        }
        Object::NewName(_) => return Err("the new name would open what the old one closes".to_owned()),
        Object::Nothing => return Err("no rule is about it".to_owned()),
    };
    let ancestors: Vec<Vec<&[u8]>> = pile.who.iter().map(|line| line.before().collect()).collect();
    let all = pile.who.iter().zip(&ancestors);
    let mut actors: Vec<Subject<'_>> =
        all.map(|(line, ancestors)| Subject { exe: line.exe(), ancestors }).collect();
    if actors.len() > ACTORS {
        // What holds for somebody of whom nothing is known holds for everybody.
        actors = vec![Subject::UNKNOWN];
    }
    suggester.narrowest_for(&actors, &act).map_err(|why| why.to_string())
}
