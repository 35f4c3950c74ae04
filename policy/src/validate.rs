//! What the file says to what it means: names, variables, patterns, targets, accesses, examples.

mod example;

pub(crate) use example::examples;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::access::{Access, AccessSet, SectionKind};
use crate::address::Target;
use crate::digest::Digest;
use crate::error::{Place, Problem, Report};
use crate::extend::{self, Amend, Parent};
use crate::groups::{Groups, Of};
use crate::lint::Origin;
use crate::model::{Decision, Policy, Rule, RuleName, Section};
use crate::parse::{Placed, RawPolicy, RawRule, RawSection};
use crate::pattern::{MAX_NAME, Parsed, Pattern};
use crate::settings::Settings;
use crate::subject::Who;
use crate::variables::{Scope, Value, Variables};

/// The policy, unless something that everything hangs on is missing. Only valid without errors reported.
pub(crate) fn policy(
    raw: RawPolicy,
    parents: &[Parent],
    variables: &Variables,
    (source_name, source): (&str, &str),
    report: &mut Report,
) -> Option<Policy> {
    let name = raw.name.filter(|name| is_name(name, "the policy's name", report));
    let policy_name = name.map(|name| name.value).unwrap_or_default();
    let vars: Vec<(String, String)> =
        raw.vars.iter().map(|(name, text)| (name.value.clone(), text.value.clone())).collect();
    let (scope, faults) = Scope::new(variables, &vars);
    for (index, fault) in faults {
        let (name, text) = &raw.vars[index];
        let by_name = matches!(
            fault,
            crate::variables::VariableFault::Given { .. } | crate::variables::VariableFault::BadName { .. }
        );
        report.error(if by_name { name.place } else { text.place }, Problem::Variable(fault));
    }
    for (name, text) in &raw.vars {
        if text.value.contains(['*', '?']) {
            let note =
                format!("variable `{}` is literal text: its `*` and `?` match themselves only", name.value);
            report.warn(text.place, note);
        }
    }
    for (name, _) in &raw.groups {
        is_name(name, "the group's name", report);
    }
    let groups = Groups::new(raw.groups, report);
    let whole = parents.len() == raw.extends.len();
    let rule_lines = HashMap::new();
    let origins = BTreeMap::new();
    let mut reading =
        Reading { policy: &policy_name, scope: &scope, groups, whole, rule_lines, origins, report };
    let mut files = Section::absent(&policy_name, SectionKind::Files);
    let mut exec = Section::absent(&policy_name, SectionKind::Exec);
    let mut network = Section::absent(&policy_name, SectionKind::Network);
    let own: Vec<SectionKind> = raw.sections.iter().map(|section| section.kind).collect();
    let inherited = |kind| parents.iter().any(|parent| parent.policy.present.contains(&kind));
    let present =
        SectionKind::ALL.into_iter().filter(|kind| own.contains(kind) || inherited(*kind)).collect();
    let silent = SectionKind::ALL.into_iter().filter(|kind| !own.contains(kind)).map(RawSection::empty);
    for section in raw.sections.into_iter().chain(silent) {
        match section.kind {
            SectionKind::Files => files = reading.section(section, files, parents, Policy::files),
            SectionKind::Exec => exec = reading.section(section, exec, parents, Policy::exec),
            SectionKind::Network => network = reading.section(section, network, parents, Policy::network),
        }
    }
    reading.groups.note_unused(reading.report);
    let examples = raw.examples.into_iter().filter_map(|example| reading.example(example)).collect();
    let origins = reading.origins;
    Some(Policy {
        source_name: source_name.into(),
        source: source.into(),
        name: policy_name,
        description: raw.description,
        mode: raw.mode,
        present,
        files,
        exec,
        network,
        settings: settings(raw.settings, parents, report),
        examples,
        notes: Vec::new(),
        origins,
    })
}

/// The settings with those inherited. Of `tmp` the narrowest is: two that say it otherwise do not contradict each other.
fn settings(own: Settings, parents: &[Parent], report: &mut Report) -> Settings {
    let mut settings = extend::settings(own, parents, report);
    let inherited = parents.iter().filter_map(|parent| parent.policy.settings.tmp).max();
    settings.tmp = settings.tmp.or(inherited);
    settings
}

/// What a section's rules are about.
trait Object: Sized + Clone + PartialEq {
    const OF: Of;

    /// Reads one entry of `path` or `to`; reports what is wrong with it.
    fn read(text: &Placed<String>, rule: &str, reading: &mut Reading<'_>) -> Option<Self>;

    /// What is most likely a mistake about it, in a rule with this effect on these accesses.
    fn doubt(&self, _effect: Decision, _accesses: AccessSet) -> Option<String> {
        None
    }

    /// Why what it matches cannot be looked up when a run starts.
    fn cannot_be_looked_up(&self) -> Option<Problem> {
        None
    }
}

impl Object for Pattern {
    const OF: Of = Of::Paths;

    fn read(text: &Placed<String>, rule: &str, reading: &mut Reading<'_>) -> Option<Self> {
        match Pattern::parse(&text.value, reading.scope) {
            Ok(Parsed::Read(pattern)) => {
                if let Some(word) = pattern.word_in_set() {
                    let note = format!(
                        "`[{word}]` is one of these bytes; a directory of that name is `\\[{word}\\]`"
                    );
                    reading.report.warn(text.place, note);
                }
                if pattern.has_long_name() {
                    let note = format!(
                        "`{}` matches nothing: no file system has names of more than {MAX_NAME} bytes",
                        crate::error::cut(&text.value)
                    );
                    reading.report.warn(text.place, note);
                }
                Some(pattern)
            }
            Ok(Parsed::None) => {
                reading.left_out(text, rule);
                None
            }
            Ok(Parsed::Broken) => None,
            Err(fault) => {
                reading.report.error(text.place, Problem::Pattern { pattern: text.value.clone(), fault });
                None
            }
        }
    }

    fn cannot_be_looked_up(&self) -> Option<Problem> {
        let everywhere = crate::existing::looks_everywhere(self);
        everywhere.then(|| Problem::LooksEverywhere { pattern: self.text().to_owned() })
    }
}

impl Object for Target {
    const OF: Of = Of::Targets;

    fn read(text: &Placed<String>, rule: &str, reading: &mut Reading<'_>) -> Option<Self> {
        let parsed = match text.value.strip_prefix("unix:") {
            Some(rest) => Target::parse_unix(rest, reading.scope),
            None => match reading.literal(text)? {
                Some(literal) => Target::parse(&String::from_utf8_lossy(&literal)).map(Parsed::Read),
                None => Ok(Parsed::None),
            },
        };
        match parsed {
            Ok(Parsed::None) => {
                reading.left_out(text, rule);
                None
            }
            Ok(Parsed::Broken) => None,
            Ok(Parsed::Read(target)) => {
                if let Some(instead) = target.port_in_address() {
                    let note =
                        format!("`{}` is an address without a port; with one it is `{instead}`", text.value);
                    reading.report.warn(text.place, note);
                }
                Some(target)
            }
            Err(fault) => {
                reading.report.error(text.place, Problem::Target { target: text.value.clone(), fault });
                None
            }
        }
    }

    fn doubt(&self, effect: Decision, accesses: AccessSet) -> Option<String> {
        let reaches = [Access::Connect, Access::Send].into_iter().any(|access| accesses.contains(access));
        let text = crate::error::cut(self.text());
        if self.is_port_zero() {
            return Some(format!(
                "`{text}`: nothing is reached at port 0, and binding to it is not judged; without a port it is every one"
            ));
        }
        if self.is_host() && !reaches {
            return Some(format!(
                "`{text}` matches nothing here: what is bound or listens has an address, and no name"
            ));
        }
        let below = self.below_public_domain().filter(|_| effect == Decision::Allow && reaches)?;
        Some(format!("`{text}` allows every name below `{below}`, whoever has it"))
    }
}

struct Reading<'a> {
    policy: &'a str,
    scope: &'a Scope<'a>,
    groups: Groups,
    /// What is extended could be read: else it is not known what is inherited.
    whole: bool,
    rule_lines: HashMap<String, u32>,
    origins: BTreeMap<RuleName, Origin>,
    report: &'a mut Report,
}

impl Reading<'_> {
    fn left_out(&mut self, text: &Placed<String>, rule: &str) {
        let note = format!("rule `{rule}`: `{}` is left out, a variable in it has no value", text.value);
        self.report.remark(text.place, note);
    }

    /// `None`: an error, reported. `Some(None)`: a variable with `:-none` has no value.
    fn literal(&mut self, text: &Placed<String>) -> Option<Option<Vec<u8>>> {
        match self.scope.literal(&text.value) {
            Ok(Value::Bytes(bytes)) => Some(Some(bytes)),
            Ok(Value::None) => Some(None),
            Ok(Value::Broken) => None,
            Err(fault) => {
                self.report.error(text.place, Problem::Variable(fault));
                None
            }
        }
    }

    /// A section with what it inherits; `section` is as if the file left it out.
    fn section<O: Object>(
        &mut self,
        raw: RawSection,
        mut section: Section<O>,
        parents: &[Parent],
        of: fn(&Policy) -> &Section<O>,
    ) -> Section<O> {
        let kind = raw.kind;
        section.rules.extend(raw.rules.into_iter().filter_map(|rule| self.rule(kind, rule)));
        let inherited = parents.iter().any(|parent| parent.policy.present.contains(&kind));
        if raw.lacks_default && !inherited && self.whole {
            let problem = Problem::Missing {
                context: format!("`{}`", kind.name()),
                key: "default",
                instead: "say `default: allow` or `default: deny` for what no rule matches",
            };
            self.report.error(raw.place, problem);
        }
        if let Some(default) = raw.default {
            section.default = default;
        }
        let amends = raw.amends.into_iter().map(|amend| Amend {
            place: amend.rule.place,
            except: self.placed(&amend.except, &amend.rule.value),
            rule: amend.rule.value,
            disable: amend.disable,
        });
        let mut amends: Vec<_> = amends.collect();
        if !self.whole {
            amends.clear();
        }
        let own = extend::Own { section, kind, default: raw.default, amends };
        extend::section(own, parents, of, &mut self.origins, self.report)
    }

    fn rule<O: Object>(&mut self, kind: SectionKind, raw: RawRule) -> Option<Rule<O>> {
        let name = raw.name.as_ref().filter(|name| self.is_rule_name(name)).map(|name| name.value.clone());
        let short_name = name.clone().unwrap_or_default();
        let (effect, accesses) = match raw.effect {
            Some((effect, words)) => (Some(effect), self.accesses(&words, kind)),
            None => (None, AccessSet::EMPTY),
        };
        let objects: Vec<(Place, O)> = self.placed(raw.objects.as_deref().unwrap_or_default(), &short_name);
        let existing: Vec<(Place, O)> = self.placed(raw.existing.as_deref().unwrap_or_default(), &short_name);
        for (place, object) in &existing {
            if let Some(problem) = object.cannot_be_looked_up() {
                self.report.error(*place, problem);
            }
        }
        for (place, object) in objects.iter().chain(&existing) {
            if let Some(doubt) = effect.and_then(|effect| object.doubt(effect, accesses)) {
                self.report.warn(*place, doubt);
            }
        }
        let mut objects: Vec<O> = objects.into_iter().map(|(_, object)| object).collect();
        let existing = existing.into_iter().map(|(_, object)| object);
        let existing: Vec<O> = existing.filter(|object| !objects.contains(object)).collect();
        objects.extend_from_slice(&existing);
        let (except_places, except): (Vec<Place>, Vec<O>) =
            self.placed(&raw.except, &short_name).into_iter().unzip();
        let mut executables = |texts: &Option<Vec<Placed<String>>>| -> Option<Vec<Pattern>> {
            let texts = texts.as_ref()?;
            Some(self.list(texts, &short_name))
        };
        let who = Who {
            by: executables(&raw.by),
            unless_by: executables(&raw.unless_by).unwrap_or_default(),
            under: executables(&raw.under),
        };
        let sha256 = raw.sha256.iter().flatten().filter_map(|text| self.digest(text)).collect();
        let timeout = raw.timeout.as_ref().and_then(|text| self.timeout(text));
        let (Some(name), Some(effect)) = (name, effect) else {
            // Something was wrong with it. A rule never goes missing without an error.
            if self.report.errors.is_empty() {
                let (context, instead) = ("a rule".to_owned(), "a name, and `allow`, `ask` or `deny`");
                self.report.error(raw.place, Problem::Missing { context, key: "name", instead });
            }
            return None;
        };
        let place = raw.name.as_ref().map(|name| name.place);
        let name = RuleName::new(self.policy, &name);
        let except_places = except_places.into_iter().enumerate().collect();
        self.origins.insert(name.clone(), Origin { name: place, except: except_places });
        Some(Rule {
            name,
            short_name,
            effect,
            accesses,
            objects,
            existing,
            except,
            sha256,
            who,
            mode: raw.mode,
            timeout,
            because: raw.because,
        })
    }

    /// Patterns or targets, with those of the groups among them.
    fn list<O: Object>(&mut self, texts: &[Placed<String>], rule: &str) -> Vec<O> {
        self.placed(texts, rule).into_iter().map(|(_, object)| object).collect()
    }

    /// The same with their places; those of what a shipped group stands for are the group's.
    fn placed<O: Object>(&mut self, texts: &[Placed<String>], rule: &str) -> Vec<(Place, O)> {
        let texts = self.groups.expand(texts, O::OF, self.report);
        texts.iter().filter_map(|text| Some((text.place, O::read(text, rule, self)?))).collect()
    }

    fn digest(&mut self, text: &Placed<String>) -> Option<Digest> {
        let digest = Digest::parse(&text.value);
        if digest.is_none() {
            self.bad_word(text, "SHA-256", "its 64 hexadecimal digits, as `sha256sum` prints them");
        }
        digest
    }

    fn timeout(&mut self, text: &Placed<String>) -> Option<Duration> {
        let timeout = crate::units::duration(&text.value);
        if timeout.is_none() {
            self.bad_word(text, "timeout", &crate::units::wanted_duration(&text.value, "5m"));
        }
        timeout
    }

    fn bad_word(&mut self, text: &Placed<String>, what: &'static str, wanted: &str) {
        let problem = Problem::BadWord { found: text.value.clone(), what, wanted: wanted.to_owned() };
        self.report.error(text.place, problem);
    }

    fn is_rule_name(&mut self, name: &Placed<String>) -> bool {
        // With a slash it is an inherited rule's, as it stands beside a record.
        let (policy, rule) = name.value.split_once('/').unwrap_or(("policy", &name.value));
        let good = could_be_name(policy) && could_be_name(rule);
        if !good && !is_name(name, "the rule's name", self.report) {
            return false;
        }
        let full = RuleName::new(self.policy, &name.value);
        let short = full.as_str().rsplit('/').next().unwrap_or_default();
        let reserved = SectionKind::ALL.iter().any(|kind| short == format!("{}.default", kind.name()));
        if reserved {
            self.report.error(name.place, Problem::ReservedName { name: name.value.clone() });
            return false;
        }
        if let Some(first) = self.rule_lines.get(full.as_str()) {
            let problem = Problem::DuplicateRule { name: name.value.clone(), first: *first };
            self.report.error(name.place, problem);
            return false;
        }
        self.rule_lines.insert(full.to_string(), name.place.line);
        true
    }

    fn accesses(&mut self, words: &[Placed<String>], kind: SectionKind) -> AccessSet {
        let mut set = AccessSet::EMPTY;
        for word in words {
            if word.value == "all" {
                set = set.union(kind.accesses());
                continue;
            }
            let wanted = || {
                let names: Vec<String> = kind.accesses().iter().map(|access| format!("`{access}`")).collect();
                format!("{} or `all`", names.join(", "))
            };
            match Access::ALL.into_iter().find(|access| access.name() == word.value) {
                Some(access) if access.section() == kind => set.insert(access),
                Some(access) => {
                    let (section, access) = (access.section().name(), access.name());
                    self.report
                        .error(word.place, Problem::AccessElsewhere { access, section, wanted: wanted() });
                }
                None => {
                    let what = match kind {
                        SectionKind::Files => "file access",
                        SectionKind::Exec => "exec access",
                        SectionKind::Network => "network access",
                    };
                    let problem = Problem::BadWord { found: word.value.clone(), what, wanted: wanted() };
                    self.report.error(word.place, problem);
                }
            }
        }
        set
    }
}

/// True for a word that can stand in `policy/rule`.
fn is_name(name: &Placed<String>, what: &'static str, report: &mut Report) -> bool {
    let good = could_be_name(&name.value);
    if !good {
        report.error(name.place, Problem::BadName { what, name: name.value.clone() });
    }
    good
}

fn could_be_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 128 && name.chars().all(fits)
}
