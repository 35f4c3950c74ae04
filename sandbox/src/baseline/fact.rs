//! What a deed is a case of: which kind of behaviour, and where.
//!
//! A deed that a rule of the shipped `base` would deny is told by that rule: what is a credential, or runs later, stands
//! there and nowhere else. All others are told by the section of a policy that they would belong to.

use policy::learn::{Place, Reach, Roots, targets_of};
use policy::{Access, AccessSet, Act, Decision, Digest, End, Owner, Policy, Rule, Subject, evaluate};

use super::deeds::Deed;

/// A kind of behaviour.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// A section of policies, or a rule of [`super::BASE`].
    pub name: String,
    /// What is done.
    pub access: Doing,
}

/// What is done, as far as behaviours differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Doing {
    /// Reading a file.
    Read,
    /// Everything else that is done to one: writing, making, removing, attributes.
    Change,
    /// Executing one.
    Run,
    /// Connecting to another end, or sending there.
    Reach,
    /// Listening.
    Serve,
    /// Asking for a name.
    Ask,
    /// Connecting to a unix socket that has a path.
    Socket,
    /// Connecting to one that has none.
    Abstract,
    /// An act of the section `kernel`.
    Use,
}

impl Doing {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Change => "change",
            Self::Run => "run",
            Self::Reach => "reach",
            Self::Serve => "serve",
            Self::Ask => "ask",
            Self::Socket => "socket",
            Self::Abstract => "abstract",
            Self::Use => "use",
        }
    }

    /// Whether its objects are places of files.
    pub fn is_at_places(self) -> bool {
        matches!(self, Self::Read | Self::Change | Self::Run | Self::Socket)
    }
}

impl Kind {
    pub fn new(name: &str, access: Doing) -> Self {
        Self { name: name.to_owned(), access }
    }

    /// Whether it is told by a rule.
    pub fn is_of_rule(&self) -> bool {
        self.name.contains('/')
    }

    /// Whether a program that does it for the first time is new although others did it.
    pub fn is_by_program(&self) -> bool {
        self.name != "files" && self.access != Doing::Ask
    }
}

/// Where it is done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// At a file.
    Place(Place),
    /// At another end.
    End(Reach),
    /// What has one name alone.
    Text(String),
}

impl Object {
    /// The texts by which it may be known, the narrowest first.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Place(place) => vec![place.pattern()],
            Self::End(end) => targets_of(end),
            Self::Text(text) => vec![text.clone()],
        }
    }
}

/// A deed as a case of a kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    pub kind: Kind,
    pub object: Object,
}

/// What one run's deeds are cases of.
#[derive(Debug)]
pub struct Classes {
    roots: Roots,
    base: Policy,
}

impl Classes {
    pub fn new(roots: Roots, base: Policy) -> Self {
        Self { roots, base }
    }

    /// Where a path lies; `None` for what is none.
    pub fn place(&self, path: &[u8]) -> Option<Place> {
        self.roots.place(path)
    }

    /// What a deed is a case of; `None` for what concerns nobody but the run.
    pub fn fact(&self, deed: &Deed) -> Option<Fact> {
        let (kind, object) = match deed {
            Deed::File(access, path) => {
                let doing = if *access == Access::Read { Doing::Read } else { Doing::Change };
                let rule = self.rule(&Act::File { accesses: (*access).into(), path });
                (Kind::new(rule.as_deref().unwrap_or("files"), doing), Object::Place(self.place(path)?))
            }
            Deed::Run(path) => {
                let rule = self.rule(&Act::Exec { path, sha256: Some(&Digest::UNNAMED) });
                (Kind::new(rule.as_deref().unwrap_or("exec"), Doing::Run), Object::Place(self.place(path)?))
            }
            Deed::Reach(Reach::Address { own: true, listens: false, .. }) => return None,
            Deed::Reach(end) => self.reached(end),
            Deed::Kernel(word) => (Kind::new("kernel", Doing::Use), Object::Text((*word).to_owned())),
        };
        Some(Fact { kind, object })
    }

    fn reached(&self, end: &Reach) -> (Kind, Object) {
        let doing = match end {
            Reach::Address { listens: true, .. } => Doing::Serve,
            Reach::Address { .. } | Reach::Other => Doing::Reach,
            Reach::Socket(path) if path.starts_with(b"/") => Doing::Socket,
            Reach::Socket(_) => Doing::Abstract,
            Reach::Question(_) => Doing::Ask,
        };
        let access = if doing == Doing::Serve { Access::Listen } else { Access::Connect };
        let rule = with(end, |end| self.rule(&Act::Network { accesses: access.into(), end }));
        // Who may not write to a socket's file does not connect to it either.
        let file = || match end {
            Reach::Socket(path) if doing == Doing::Socket => {
                self.rule(&Act::File { accesses: Access::Write.into(), path })
            }
            _ => None,
        };
        if let Some(rule) = rule.or_else(file) {
            let doing = if doing == Doing::Serve { doing } else { Doing::Reach };
            return (Kind::new(&rule, doing), Object::Text(end.to_string()));
        }
        let object = match end {
            Reach::Address { .. } => Object::End(end.clone()),
            Reach::Question(name) => Object::Text(name.clone()),
            Reach::Socket(path) => match self.place(path) {
                Some(place) => Object::Place(place),
                None => Object::Text(end.to_string()),
            },
            Reach::Other => Object::Text(end.to_string()),
        };
        (Kind::new("network", doing), object)
    }

    /// The rule that denies an act to anybody.
    fn rule(&self, act: &Act<'_>) -> Option<String> {
        let verdict = evaluate::judge(&self.base, &Subject::UNKNOWN, act);
        let denied = verdict.decision != Decision::Allow && !verdict.rule.is_default();
        denied.then(|| verdict.rule.as_str().to_owned())
    }

    /// The reason that a rule gives.
    pub fn because(&self, rule: &str) -> Option<String> {
        fn of<T>(rules: &[Rule<T>], name: &str) -> Option<String> {
            rules.iter().find(|rule| rule.name().as_str() == name)?.because().map(str::to_owned)
        }
        let base = &self.base;
        of(base.files().rules(), rule)
            .or_else(|| of(base.exec().rules(), rule))
            .or_else(|| of(base.network().rules(), rule))
    }
}

/// Hands over an end as rules are asked about it; `None` for what no rule is about.
fn with<T>(end: &Reach, ask: impl FnOnce(End<'_>) -> Option<T>) -> Option<T> {
    match end {
        Reach::Address { address, port, protocol, host, own, .. } => {
            let name = host.as_deref();
            let owner = if *own { Owner::Run } else { Owner::Elsewhere };
            let (address, port, protocol) = (*address, *port, *protocol);
            ask(End::Address { address, port, protocol, names: name.as_slice(), owner })
        }
        Reach::Socket(path) => ask(match path.strip_prefix(b"@") {
            Some(name) => End::Abstract(name),
            None => End::Path(path),
        }),
        Reach::Question(_) | Reach::Other => None,
    }
}

/// The accesses by which targets are put together: those that are reached, and those that are listened on.
pub fn accesses(doing: Doing) -> AccessSet {
    match doing {
        Doing::Serve => Access::Listen.into(),
        _ => Access::Connect.into(),
    }
}
