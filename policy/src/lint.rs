//! What is valid and most likely a mistake: rules that never decide anything, exceptions that except nothing; and
//! rules that hold less than they seem to.
//!
//! A warning is given only where it is certain, for every path there can be; where finding out would take too
//! long, none is. Only what stands in the policy's own file is warned about: an inherited rule is no mistake of
//! its author's.

mod cover;
mod extent;

use crate::access::{AccessSet, SectionKind};
use crate::address::Target;
use crate::error::{Note, Place, Report};
use crate::model::{Decision, Mode, Policy, Rule, Section};
use crate::pattern::Pattern;
use cover::Search;
use extent::{Extent, Object};

/// False where a glance shows that nothing is meant by both.
pub(crate) fn could_meet(one: &Target, other: &Target) -> bool {
    Object::could_meet(one, other)
}

/// Most rules that are looked at together.
const MANY: usize = 64;
/// How many rules a warning names.
const NAMED: usize = 3;

/// Where a rule and its exceptions stand in the policy's own file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// The rule's name; `None` for an inherited one, which has a place only where it is amended.
    pub name: Option<Place>,
    /// Exceptions by their index.
    pub except: Vec<(usize, Place)>,
}

impl Policy {
    /// What is valid and most likely a mistake, found by comparing the rules with one another; at most a few
    /// seconds of work. [`Policy::notes`] are found while reading.
    pub fn warnings(&self) -> Vec<Note> {
        let mut lint = Lint { policy: self, search: Search::new(), report: Report::default() };
        lint.section(SectionKind::Files, &self.files);
        lint.section(SectionKind::Exec, &self.exec);
        lint.section(SectionKind::Network, &self.network);
        lint.report.notes(&self.source_name, &self.source)
    }
}

/// True only where certainly all that `pattern` matches is matched by some of `others`.
pub(crate) fn surely_covered(pattern: &Pattern, others: &[Pattern]) -> bool {
    if others.contains(pattern) {
        return true;
    }
    let near = others.iter().filter(|other| pattern.could_meet(other)).take(MANY);
    let near: Vec<Pattern> = near.cloned().collect();
    let own = Extent { objects: std::slice::from_ref(pattern), except: &[] };
    Pattern::surely_within(&mut Search::new(), own, &[Extent { objects: &near, except: &[] }])
}

/// True only where certainly nothing that `pattern` matches is matched by any of `others`.
pub(crate) fn surely_apart(pattern: &Pattern, others: &[Pattern]) -> bool {
    let mut search = Search::new();
    !others.iter().any(|other| Pattern::may_meet(&mut search, pattern, other))
}

struct Lint<'a> {
    policy: &'a Policy,
    search: Search,
    report: Report,
}

impl<'a> Lint<'a> {
    fn section<O: Object>(&mut self, kind: SectionKind, section: &'a Section<O>) {
        for rule in section.rules.iter().filter(|rule| !rule.is_void()) {
            let Some(origin) = self.policy.origins.get(&rule.name) else { continue };
            let mut void = self.exceptions(rule, origin);
            let Some(place) = origin.name else { continue };
            void |= self.nobody(rule, place);
            if void {
                continue;
            }
            self.denied_by_name(section, rule, place);
            // One warning for each rule: the others would only say it in other words.
            if !self.said_by_default(kind, section, rule, place) && !self.never_decides(section, rule, place)
            {
                self.said_twice(section, rule, place);
            }
        }
    }

    /// Exceptions that leave nothing out, or everything. True where the rule matches nothing.
    fn exceptions<O: Object>(&mut self, rule: &Rule<O>, origin: &Origin) -> bool {
        if rule.objects.is_empty() {
            return false;
        }
        for (index, place) in &origin.except {
            let Some(except) = rule.except.get(*index) else { continue };
            if !rule.objects.iter().any(|object| O::may_meet(&mut self.search, object, except)) {
                let text = format!(
                    "`{}` excepts nothing: rule `{}` is about nothing that it matches",
                    except.text(),
                    rule.name
                );
                self.report.warn(*place, text);
            }
        }
        let void = !rule.except.is_empty() && O::surely_within(&mut self.search, Extent::of(rule), &[]);
        if let (true, Some(place)) = (void, origin.name.or(origin.except.last().map(|(_, place)| *place))) {
            self.report
                .warn(place, format!("rule `{}` matches nothing: `except` leaves all of it out", rule.name));
        }
        void
    }

    /// `by` and `unless_by` that no executable satisfies both.
    fn nobody<O>(&mut self, rule: &Rule<O>, place: Place) -> bool {
        let Some(by) = rule.who.by() else { return false };
        let unless = rule.who.unless_by();
        let nobody = !unless.is_empty()
            && Object::surely_within(&mut self.search, Extent { objects: by, except: unless }, &[]);
        if nobody {
            let text =
                format!("rule `{}` is about nobody: `unless_by` matches all that `by` matches", rule.name);
            self.report.warn(place, text);
        }
        nobody
    }

    /// A host that is denied where everything else is open: its addresses are, to whoever knows them.
    fn denied_by_name<O: Object>(&mut self, section: &Section<O>, rule: &Rule<O>, place: Place) {
        let closes = section.default == Decision::Allow && rule.effect != Decision::Allow;
        let Some(host) = rule.objects.iter().find(|object| closes && object.is_host()) else { return };
        let text = format!(
            "rule `{}` knows `{}` by its name only, and `network` is `default: allow`: it holds for names that are \
             asked and names that are seen; an address that is known otherwise passes",
            rule.name,
            host.text(),
        );
        self.report.warn(place, text);
    }

    /// A rule that says what the default says, with nothing around it that says otherwise.
    fn said_by_default<O: Object>(
        &mut self,
        kind: SectionKind,
        section: &Section<O>,
        rule: &Rule<O>,
        place: Place,
    ) -> bool {
        // What may not be executed is not loaded either, whatever the default is.
        let reaches_further = kind == SectionKind::Exec && rule.effect == Decision::Deny;
        if rule.effect != section.default || rule.mode == Mode::Audit || reaches_further {
            return false;
        }
        let default = &section.default_name;
        if rule.effect == Decision::Allow {
            let text = format!(
                "rule `{}` changes nothing: `{}` is `default: allow`, so that only rules that deny or ask matter",
                rule.name,
                kind.name(),
            );
            self.report.warn(place, text);
            return true;
        }
        let weaker = section.rules.iter().filter(|other| other.effect < Decision::Deny);
        let around = weaker.filter(|other| other.accesses.overlaps(rule.accesses));
        for other in around {
            if other.objects.is_empty() || rule.objects.is_empty() || self.meet(&rule.objects, &other.objects)
            {
                return false;
            }
        }
        let text = format!(
            "rule `{}` changes nothing: `{default}` denies all of it, and no rule allows any of it",
            rule.name
        );
        self.report.warn(place, text);
        true
    }

    fn meet<O: Object>(&mut self, some: &[O], others: &[O]) -> bool {
        some.iter().any(|one| others.iter().any(|other| O::may_meet(&mut self.search, one, other)))
    }

    /// A rule that allows or asks, where stricter rules have the last word about all of it.
    fn never_decides<O: Object>(&mut self, section: &'a Section<O>, rule: &Rule<O>, place: Place) -> bool {
        if rule.effect == Decision::Deny || rule.objects.is_empty() {
            return false;
        }
        let stricter: Vec<&Rule<O>> =
            section.rules.iter().filter(|other| other.effect > rule.effect && is_law(other)).collect();
        // The rules that decide instead, and about which accesses.
        let mut instead: Vec<(Vec<&Rule<O>>, AccessSet)> = Vec::new();
        for access in rule.accesses.iter() {
            let of_access: Vec<&Rule<O>> =
                stricter.iter().copied().filter(|other| other.accesses.contains(access)).collect();
            let rules = self.covering(rule, &of_access);
            if rules.is_empty() {
                continue;
            }
            match instead.iter_mut().find(|(found, _)| *found == rules) {
                Some((_, accesses)) => accesses.insert(access),
                None => instead.push((rules, access.into())),
            }
        }
        let covered = instead.iter().fold(AccessSet::EMPTY, |set, (_, accesses)| set.union(*accesses));
        for (rules, accesses) in &instead {
            let what = if *accesses == rule.accesses { String::new() } else { format!(" `{accesses}`") };
            let denied = rules.iter().all(|other| other.effect == Decision::Deny);
            let text = format!(
                "rule `{}` never {}s{what}: all of it is {} by {}",
                rule.name,
                rule.effect,
                if denied { "denied" } else { "asked about or denied" },
                listed(rules)
            );
            self.report.warn(place, text);
        }
        covered == rule.accesses
    }

    /// The rules that together are about all that `rule` is about; none where that is not certain.
    fn covering<'r, O: Object>(&mut self, rule: &Rule<O>, others: &[&'r Rule<O>]) -> Vec<&'r Rule<O>> {
        let mut near: Vec<&'r Rule<O>> = Vec::new();
        for other in others.iter().copied() {
            if near.len() == MANY {
                break;
            }
            if rule.objects.iter().any(|object| other.objects.iter().any(|one| object.could_meet(one))) {
                near.push(other);
            }
            if !self.search.spend(rule.objects.len() * other.objects.len()) {
                return Vec::new();
            }
        }
        let own = Extent::of(rule);
        let single = near.iter().find(|other| O::surely_within(&mut self.search, own, &[Extent::of(other)]));
        if let Some(single) = single {
            return vec![single];
        }
        let all: Vec<Extent<'_, O>> = near.iter().map(|other| Extent::of(other)).collect();
        if near.len() > 1 && O::surely_within(&mut self.search, own, &all) {
            return near;
        }
        Vec::new()
    }

    /// Two rules that say the same.
    fn said_twice<O: Object>(&mut self, section: &Section<O>, rule: &Rule<O>, place: Place) {
        let same_kind = |other: &&Rule<O>| {
            let decides_alike = other.effect == rule.effect && other.accesses == rule.accesses;
            decides_alike && other.who == rule.who && other.mode == rule.mode && other.sha256 == rule.sha256
        };
        for other in section.rules.iter().filter(same_kind).filter(|other| other.name != rule.name) {
            // Of two in this file the second is told.
            let first = self.policy.origins.get(&other.name).and_then(|origin| origin.name);
            if first.is_some_and(|first| first > place) {
                continue;
            }
            let (one, two) = (Extent::of(rule), Extent::of(other));
            if !self.search.spend(rule.objects.len() + other.objects.len()) {
                return;
            }
            let near =
                rule.objects.iter().any(|object| other.objects.iter().any(|one| object.could_meet(one)));
            let same = rule.objects.is_empty() && rule.except == other.except
                || near
                    && O::surely_within(&mut self.search, one, &[two])
                    && O::surely_within(&mut self.search, two, &[one]);
            if same {
                let text = format!("rule `{}` says the same as `{}`; keep one", rule.name, other.name);
                self.report.warn(place, text);
                return;
            }
        }
    }
}

/// True for a rule that holds for everyone, and about paths or targets.
fn is_law<O>(rule: &Rule<O>) -> bool {
    rule.mode == Mode::Enforce && rule.who.is_anyone() && !rule.objects.is_empty()
}

/// "`a`, `b` and `c`".
fn listed<O>(rules: &[&Rule<O>]) -> String {
    let quoted: Vec<String> = rules.iter().take(NAMED).map(|rule| format!("`{}`", rule.name)).collect();
    match (quoted.as_slice(), rules.len() - quoted.len()) {
        ([one], 0) => one.clone(),
        ([init @ .., last], 0) => format!("{} and {last}", init.join(", ")),
        (some, more) => format!("{} and {more} more", some.join(", ")),
    }
}
