//! The narrowest lines that would allow what a policy denies.
//!
//! A default that denies is answered by a rule about the one object; a rule of the file itself by an `except`,
//! an inherited one by an `amend`; the section `kernel` by the word that it lacks. Where several rules deny, each
//! needs its line. The lines open one object and nothing else. An `except` is about all accesses of its rule:
//! [`Suggestion::also`] names those that it loosens besides (one that was asked about may fall to a default that
//! denies).
//!
//! Whether an attempt should be allowed is not judged here.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

use crate::access::{Access, AccessSet, SectionKind};
use crate::address::{self, Target};
use crate::ends::{End, Owner};
use crate::evaluate::{self, Act, covers, executes, judge};
use crate::model::{Decision, Mode, Policy, Rule, RuleName, Section};
use crate::pattern::{Parsed, Pattern, escape};
use crate::print::quoted;
use crate::settings::KERNEL;
use crate::subject::Subject;
use crate::variables::{Scope, Variables};

/// The given variables that paths are written with, where they begin so.
const WRITTEN: [&str; 3] = ["WORKSPACE", "GIT_COMMON_DIR", "HOME"];
/// Most bytes of an object's part of a suggested rule's name.
const MAX_SLUG: usize = 40;

/// What would allow an attempt: all of the edits together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The rule or default that decided.
    pub rule: RuleName,
    /// The lines, at least one; each is needed.
    pub edits: Vec<Edit>,
    /// The other accesses that the lines loosen, at the object that they name.
    pub also: AccessSet,
    /// What the lines name: patterns or targets, not quoted.
    pub objects: Vec<String>,
}

/// One line, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Where.
    pub site: Site,
    /// The line: YAML, without indentation.
    pub line: String,
    /// The rule that it makes an exception from, where it makes one.
    pub from: Option<RuleName>,
}

/// Where a line goes in the policy's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// Into the section's `rules`, as one more entry.
    Rules(SectionKind),
    /// Into this rule of the file, or its entries behind those of the `except` that is there.
    Rule {
        /// The rule's section.
        section: SectionKind,
        /// Its name as the file has it.
        rule: String,
    },
    /// To the top, instead of the section `kernel` if there is one.
    Kernel,
}

impl Site {
    /// The section: `files`, `exec`, `network` or `kernel`.
    pub fn section(&self) -> &'static str {
        match self {
            Self::Rules(section) | Self::Rule { section, .. } => section.name(),
            Self::Kernel => "kernel",
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules(section) => write!(f, "in {}", section.name()),
            Self::Rule { rule, .. } => write!(f, "in rule {rule}"),
            Self::Kernel => f.write_str("at the top"),
        }
    }
}

/// The line, and as a comment of YAML where it goes.
impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  # {}", self.line, self.site)
    }
}

/// One line for each edit.
impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, edit) in self.edits.iter().enumerate() {
            write!(f, "{}{edit}", if at == 0 { "" } else { "\n" })?;
        }
        if !self.also.is_empty() {
            write!(f, "; opens {} too", self.also)?;
        }
        Ok(())
    }
}

/// Why there is no suggestion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoSuggestion {
    /// Nothing denies it.
    #[error("nothing denies it")]
    Allowed,
    /// A pipe, a path outside the mount namespace, one that is too long.
    #[error("no pattern can name it")]
    Path,
    /// No host has such a name.
    #[error("no host has such a name")]
    Host,
    /// An address family without words in the language.
    #[error("no target can name it")]
    Family,
    /// Not one of [`KERNEL`].
    #[error("the section `kernel` has no word for it")]
    Kernel,
}

/// The narrowest lines that make `policy` allow `act` of `subject`. Paths are written with `${WORKSPACE}`,
/// `${GIT_COMMON_DIR}` and `${HOME}` where `variables` has values for them.
///
/// Where the policy allows it and something on trial does not, the lines are those that would end that.
///
/// # Errors
///
/// Why there are none.
pub fn narrowest(
    policy: &Policy,
    subject: &Subject<'_>,
    act: &Act<'_>,
    variables: &Variables,
) -> Result<Suggestion, NoSuggestion> {
    Suggester::new(policy, variables).narrowest(subject, act)
}

/// The line that allows `act`, one of [`KERNEL`], in the section `kernel`.
///
/// # Errors
///
/// It is allowed already, or no such act.
pub fn kernel(policy: &Policy, act: &str) -> Result<Suggestion, NoSuggestion> {
    let act = KERNEL.into_iter().find(|known| *known == act).ok_or(NoSuggestion::Kernel)?;
    let mut allowed = policy.settings.kernel_allowed().to_vec();
    if allowed.contains(&act) {
        return Err(NoSuggestion::Allowed);
    }
    allowed.push(act);
    allowed.sort_unstable();
    let line = format!("kernel: {{ allow: [{}] }}", allowed.join(", "));
    let edits = vec![Edit { site: Site::Kernel, line, from: None }];
    Ok(Suggestion { rule: policy.kernel_default(), edits, also: AccessSet::EMPTY, objects: Vec::new() })
}

/// Makes suggestions that can all be put into the same file: no two name different rules alike, and what was suggested
/// before is suggested again by the same line.
#[derive(Debug)]
pub struct Suggester<'a> {
    policy: &'a Policy,
    scope: Scope<'a>,
    /// Values of [`WRITTEN`], the longest first.
    prefixes: Vec<(&'static str, &'a [u8])>,
    taken: BTreeSet<String>,
    /// The highest number that was put behind a name; all below it are taken.
    numbered: HashMap<String, usize>,
    /// Names by what their rules say.
    named: HashMap<String, String>,
}

impl<'a> Suggester<'a> {
    /// For one policy; `variables` are those that paths are written with.
    pub fn new(policy: &'a Policy, variables: &'a Variables) -> Self {
        let values = WRITTEN.into_iter().filter_map(|name| Some((name, variables.get(name)?)));
        let mut prefixes: Vec<_> = values.filter(|(_, value)| value.len() > 1 && value[0] == b'/').collect();
        prefixes.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        let mut taken: BTreeSet<String> = BTreeSet::new();
        let paths = policy.files.rules.iter().chain(&policy.exec.rules);
        taken.extend(paths.map(|rule| own_name(&rule.name).to_owned()));
        taken.extend(policy.network.rules.iter().map(|rule| own_name(&rule.name).to_owned()));
        Self {
            policy,
            scope: Scope::new(variables, &[]).0,
            prefixes,
            taken,
            numbered: HashMap::new(),
            named: HashMap::new(),
        }
    }

    /// What would let a name be asked, and its host be reached by HTTPS: exceptions from the rules that deny it, and a
    /// rule that allows it where none does.
    ///
    /// # Errors
    ///
    /// No host has such a name, or nothing denies it.
    pub fn question(&mut self, name: &str) -> Result<Suggestion, NoSuggestion> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let target = format!("{name}:443/tcp");
        let means_it = Target::parse(&target).is_ok_and(|target| target.is_host());
        if !means_it {
            return Err(NoSuggestion::Host);
        }
        let network = &self.policy.network;
        let names = |target: &Target| target.names(&name);
        let of = |effect: Decision| {
            let rules = network.rules.iter().filter(move |rule| rule.effect == effect);
            rules.filter(|rule| covers(rule, names))
        };
        let list = quoted(&name);
        let denying: Vec<&Rule<Target>> = of(Decision::Deny).collect();
        let mut edits: Vec<Edit> =
            denying.iter().map(|rule| self.except(SectionKind::Network, &rule.name, &list)).collect();
        let mut rule = denying.first().map(|rule| rule.name.clone());
        if network.default != Decision::Allow && of(Decision::Allow).next().is_none() {
            let says = format!("allow: [connect], to: [{}]", quoted(&target));
            let line = self.rule(Access::Connect.into(), &slug(name.as_bytes()), &says);
            edits.push(Edit { site: Site::Rules(SectionKind::Network), line, from: None });
            rule = rule.or_else(|| Some(network.default_name.clone()));
        }
        match rule {
            Some(rule) => Ok(Suggestion { rule, edits, also: AccessSet::EMPTY, objects: vec![name] }),
            None => Err(NoSuggestion::Allowed),
        }
    }

    /// As [`narrowest`].
    ///
    /// # Errors
    ///
    /// As [`narrowest`].
    pub fn narrowest(&mut self, subject: &Subject<'_>, act: &Act<'_>) -> Result<Suggestion, NoSuggestion> {
        self.narrowest_for(&[*subject], act)
    }

    /// The same for several who try the same: the lines that allow it to each of them.
    ///
    /// # Errors
    ///
    /// As [`narrowest`]; it is allowed only where it is to all.
    pub fn narrowest_for(
        &mut self,
        subjects: &[Subject<'_>],
        act: &Act<'_>,
    ) -> Result<Suggestion, NoSuggestion> {
        let policy = self.policy;
        let mut decided: Option<(Mode, &RuleName)> = None;
        for verdict in subjects.iter().map(|subject| judge(policy, subject, act)) {
            match (verdict.decision, verdict.audited) {
                (Decision::Allow, None) => {}
                (Decision::Allow, Some(audited)) => _ = decided.get_or_insert((Mode::Audit, audited.rule)),
                // What is law comes before what is on trial.
                _ if decided.is_none_or(|(law, _)| law == Mode::Audit) => {
                    decided = Some((Mode::Enforce, verdict.rule));
                }
                _ => {}
            }
        }
        let (law, rule) = decided.ok_or(NoSuggestion::Allowed)?;
        let rule = rule.clone();
        let judged = match act {
            Act::Network { end, .. } => evaluate::judged_at(end),
            Act::File { .. } | Act::Exec { .. } => AccessSet::ALL,
        };
        let case = |kind: SectionKind, accesses: AccessSet| {
            let judged = judged.intersection(kind.accesses());
            Case { kind, judged, tried: accesses.intersection(judged), subjects, law, rule }
        };
        match *act {
            Act::File { accesses, path } => {
                let object = self.path(path)?;
                let matches = |pattern: &Pattern| pattern.matches(path);
                let case = case(SectionKind::Files, accesses);
                Ok(self.section(case, &policy.files, &object, |rule, _, _| covers(rule, matches)))
            }
            Act::Exec { path, sha256 } => {
                let object = self.path(path)?;
                let hits = |rule: &Rule<Pattern>, _, unknown| executes(rule, path, sha256, unknown);
                Ok(self.section(case(SectionKind::Exec, Access::Run.into()), &policy.exec, &object, hits))
            }
            Act::Network { accesses, end } => {
                let hits = |rule: &Rule<Target>, access, _| {
                    covers(rule, |target: &Target| target.matches_end(access, &end))
                };
                // An exception for `own` opens the port for binding as well, on every address.
                let binds = |rule: &&Rule<Target>| {
                    rule.effect != Decision::Allow
                        && [Access::Bind, Access::Listen].iter().any(|access| rule.accesses.contains(*access))
                        && accesses.iter().any(|access| hits(rule, access, true))
                };
                let object = match end {
                    End::Address { address, port, protocol, names, owner: Owner::Run }
                        if policy.network.rules.iter().any(|rule| binds(&rule)) =>
                    {
                        let owner = Owner::Elsewhere;
                        self.end(accesses, &End::Address { address, port, protocol, names, owner })?
                    }
                    end => self.end(accesses, &end)?,
                };
                let mut case = case(SectionKind::Network, accesses);
                // What a line says of a name is nothing to what is bound.
                if object.texts.iter().any(|text| Target::parse(text).is_ok_and(|target| target.is_host())) {
                    case.judged =
                        case.judged.intersection([Access::Connect, Access::Send].into_iter().collect());
                }
                Ok(self.section(case, &policy.network, &object, hits))
            }
        }
    }

    /// `hits` as in the evaluator.
    fn section<O>(
        &mut self,
        case: Case<'_>,
        section: &Section<O>,
        object: &Object,
        hits: impl Fn(&Rule<O>, Access, bool) -> bool,
    ) -> Suggestion {
        let tried = case.tried;
        let holds = |subject: &Subject<'_>, rule: &Rule<O>, access: Access, unknown: bool| {
            (rule.effect == Decision::Allow || case.law == Mode::Audit || rule.mode == Mode::Enforce)
                && rule.accesses.contains(access)
                && hits(rule, access, unknown)
                && rule.who.holds(subject, unknown)
        };
        let closes = |rule: &Rule<O>, access| {
            rule.effect != Decision::Allow
                && case.subjects.iter().any(|subject| holds(subject, rule, access, true))
        };
        let allowed_to = |subject: &Subject<'_>, access| {
            let opens =
                |rule: &Rule<O>| rule.effect == Decision::Allow && holds(subject, rule, access, false);
            section.default == Decision::Allow || section.rules.iter().any(opens)
        };
        let allowed = |access| case.subjects.iter().all(|subject| allowed_to(subject, access));
        // As the evaluator, with some of the rules that deny or ask.
        let decide = |subject: &Subject<'_>, rules: &[&Rule<O>], access| {
            let some = |effect, unknown| {
                rules.iter().any(|rule| rule.effect == effect && holds(subject, rule, access, unknown))
            };
            let silent = if allowed_to(subject, access) { Decision::Allow } else { Decision::Deny };
            match (some(Decision::Deny, true), some(Decision::Ask, false), some(Decision::Ask, true)) {
                (true, _, _) => Decision::Deny,
                (_, true, _) => Decision::Ask,
                (_, _, true) => silent.max(Decision::Ask),
                _ => silent,
            }
        };
        let all: Vec<&Rule<O>> = section.rules.iter().collect();
        let (closing, other): (Vec<&Rule<O>>, Vec<&Rule<O>>) =
            all.iter().partition(|rule| tried.iter().any(|access| closes(rule, access)));

        let list = object.texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
        let mut edits: Vec<Edit> =
            closing.iter().map(|rule| self.except(case.kind, &rule.name, &list)).collect();
        let missing: AccessSet = tried.iter().filter(|access| !allowed(*access)).collect();
        if !missing.is_empty() {
            let key = if case.kind == SectionKind::Network { "to" } else { "path" };
            let line = self.rule(missing, &object.slug, &format!("allow: [{missing}], {key}: [{list}]"));
            edits.push(Edit { site: Site::Rules(case.kind), line, from: None });
        }
        let also = |access: &Access| {
            let loosened =
                |subject: &Subject<'_>| decide(subject, &other, *access) < decide(subject, &all, *access);
            case.subjects.iter().any(loosened)
        };
        let also = case.judged.without(tried).iter().filter(also).collect();
        Suggestion { rule: case.rule, edits, also, objects: object.texts.clone() }
    }

    fn except(&self, section: SectionKind, name: &RuleName, list: &str) -> Edit {
        let own = name.as_str().strip_prefix(self.policy.name()).and_then(|rest| rest.strip_prefix('/'));
        match own {
            Some(rule) => {
                let site = Site::Rule { section, rule: rule.to_owned() };
                Edit { site, line: format!("except: [{list}]"), from: Some(name.clone()) }
            }
            None => {
                let line = format!("- {{ amend: {name}, except: [{list}] }}");
                Edit { site: Site::Rules(section), line, from: Some(name.clone()) }
            }
        }
    }

    /// The path as a pattern that means it alone.
    fn path(&self, path: &[u8]) -> Result<Object, NoSuggestion> {
        let text = self.written(path);
        match Pattern::parse(&text, &self.scope) {
            Ok(Parsed::Read(pattern)) if pattern.literal().as_deref() == Some(path) => {
                let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                Ok(Object { texts: vec![text], slug: slug(last) })
            }
            _ => Err(NoSuggestion::Path),
        }
    }

    fn written(&self, path: &[u8]) -> String {
        let below = |value: &[u8]| {
            path.strip_prefix(value).filter(|rest| rest.first().is_none_or(|first| *first == b'/'))
        };
        let found = self.prefixes.iter().find_map(|(name, value)| Some((name, below(value)?)));
        match found {
            Some((name, rest)) => format!("${{{name}}}{}", escape(rest)),
            None => escape(path),
        }
    }

    /// The other end as the target that means nothing else. A protocol that is neither TCP nor UDP has no word:
    /// its target means every protocol at that address and port.
    fn end(&self, accesses: AccessSet, end: &End<'_>) -> Result<Object, NoSuggestion> {
        match *end {
            End::Address { address, port, protocol, names, owner } => {
                let suffix = protocol.suffix();
                // A name and an owner are of what is reached; what is bound has an address.
                let reaches = accesses.iter().all(|access| matches!(access, Access::Connect | Access::Send));
                // What the run serves itself, and not whatever else is there some other day.
                if owner == Owner::Run && reaches {
                    let text = format!("own:{port}{suffix}");
                    return Ok(Object { texts: vec![text], slug: format!("own-{port}") });
                }
                // A name says more than the address that it has today.
                if let Some(name) = names.first().filter(|_| reaches) {
                    let text = format!("{name}:{port}{suffix}");
                    if Target::parse(&text).is_ok_and(|target| target.is_host()) {
                        return Ok(Object { texts: vec![text], slug: slug(name.as_bytes()) });
                    }
                }
                // What is reached at the unspecified address is not what is bound there.
                let meant = |access| match access {
                    Access::Connect | Access::Send => address::reached(address),
                    _ => address::unmapped(address),
                };
                let mut meant: Vec<IpAddr> = accesses.iter().map(meant).collect();
                meant.dedup();
                let host = |address: &IpAddr| match address {
                    IpAddr::V4(v4) => v4.to_string(),
                    IpAddr::V6(v6) => format!("[{v6}]"),
                };
                let texts = meant.iter().map(|address| format!("{}:{port}{suffix}", host(address)));
                let slug = slug(format!("{address}-{port}").as_bytes());
                Ok(Object { texts: texts.collect(), slug })
            }
            End::Path(path) => {
                let Object { texts, slug } = self.path(path)?;
                Ok(Object { texts: texts.iter().map(|text| format!("unix:{text}")).collect(), slug })
            }
            End::Abstract(name) => {
                let text = escape(name);
                match Target::parse_unix(&format!("@{text}"), &self.scope) {
                    Ok(Parsed::Read(target)) if target.matches_end(Access::Connect, end) => {}
                    _ => return Err(NoSuggestion::Path),
                }
                Ok(Object { texts: vec![format!("unix:@{text}")], slug: slug(name) })
            }
            End::Other => Err(NoSuggestion::Family),
        }
    }

    /// A rule that says so, with the name that it had before, or one that no rule has.
    fn rule(&mut self, accesses: AccessSet, slug: &str, says: &str) -> String {
        let name = match self.named.get(says) {
            Some(name) => name.clone(),
            None => {
                let name = self.name(accesses, slug);
                self.named.insert(says.to_owned(), name.clone());
                name
            }
        };
        format!("- {{ name: {name}, {says} }}")
    }

    /// A name that no rule has: `read-hosts`, `connect-10.2.3.4-443`.
    fn name(&mut self, accesses: AccessSet, slug: &str) -> String {
        let access = accesses.iter().next().map_or("allow", Access::name);
        let plain = if slug.is_empty() { access.to_owned() } else { format!("{access}-{slug}") };
        let mut name = plain.clone();
        if !self.taken.insert(name.clone()) {
            // Thousands of files may have the same name.
            let count = self.numbered.entry(plain.clone()).or_insert(1);
            loop {
                *count += 1;
                name = format!("{plain}-{count}");
                if self.taken.insert(name.clone()) {
                    break;
                }
            }
        }
        name
    }
}

/// One attempt at one section, of one or several.
struct Case<'s> {
    kind: SectionKind,
    /// The accesses that are judged at the object.
    judged: AccessSet,
    tried: AccessSet,
    subjects: &'s [Subject<'s>],
    /// With `Audit` what is on trial counts as law.
    law: Mode,
    rule: RuleName,
}

/// What an attempt is about.
struct Object {
    /// As patterns or targets, not quoted.
    texts: Vec<String>,
    /// For the rule's name.
    slug: String,
}

/// What stands behind the policy's name.
fn own_name(name: &RuleName) -> &str {
    name.as_str().rsplit('/').next().unwrap_or_default()
}

/// The bytes as a part of a name: what a name cannot have becomes `-`.
fn slug(bytes: &[u8]) -> String {
    let kept = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
    let mut slug = String::new();
    for byte in bytes {
        match kept(byte) {
            true => slug.push(char::from(*byte)),
            false if slug.ends_with('-') || slug.is_empty() => {}
            false => slug.push('-'),
        }
        if slug.len() == MAX_SLUG {
            break;
        }
    }
    slug.trim_matches(['-', '.']).to_owned()
}
