//! Rule by rule, what of a policy this machine holds.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use policy::compile::{CompileError, Unheld, lsm};
use policy::settings::{Limit, LimitSet};
use policy::{Decision, Policy, RuleName, Section};
use serde::Serialize;

use crate::launch::limits;
use crate::record::LayerReport;
use crate::sensor::{groups_are_kept, held, is_closed, with_namespace};
use crate::settings::Layer;

/// A policy, and what an enforced run here would hold of it.
#[derive(Debug, Serialize)]
pub struct Coverage {
    /// The policy's name.
    policy: String,
    rules: Vec<Covered>,
}

/// A rule, a default or a section, and what holds it.
#[derive(Debug, Serialize)]
struct Covered {
    rule: String,
    /// The layer; none where something of it is not held.
    held_by: Option<&'static str>,
    /// What of it is not held.
    unheld: Vec<String>,
}

impl Coverage {
    /// Compares a policy with the layers that were proven.
    ///
    /// # Errors
    /// The policy does not fit the kernel's tables.
    pub fn of(policy: &Policy, layers: &[LayerReport]) -> Result<Coverage, CompileError> {
        let works = |layer: Layer| {
            layers.iter().any(|report: &LayerReport| report.name == layer.name() && !report.is_off())
        };
        let (lsm, group) = (works(Layer::Lsm), works(Layer::CgroupNet));
        let plan = lsm::compile(&[policy], 0, &mut lsm::SetTable::new())?;
        // Root, for whom most runs are, leaves its groups where no hook keeps it.
        let limits = match groups_are_kept(lsm, policy.settings().kernel_allowed()) {
            true => limits::possible(),
            false => LimitSet::EMPTY.with(Limit::Time),
        };
        // Where there are no hooks, a closed network is held by a namespace.
        let netns = !lsm && works(Layer::Netns) && is_closed(&policy.clone().into());
        let here = held(lsm, group && !netns, limits);
        let unheld = plan.unheld(&if netns { with_namespace(here) } else { here });
        let beyond_hooks = plan.unheld(&held(lsm, false, limits));
        let mut of_network = BTreeSet::new();
        add(&mut of_network, policy.network());
        let mut names: BTreeSet<&RuleName> = unheld.iter().map(|unheld| &unheld.rule).collect();
        add(&mut names, policy.files());
        add(&mut names, policy.exec());
        add(&mut names, policy.network());
        let kernel = policy.kernel_default();
        names.insert(&kernel);
        let rules = names.into_iter().map(|name| {
            let mut unheld: Vec<String> =
                unheld.iter().filter(|unheld| unheld.rule == *name).map(what).collect();
            if netns && name == policy.network().default_name() {
                unheld.push("closes unix sockets with a path, too".to_owned());
            }
            let hooks = lsm && !beyond_hooks.iter().any(|unheld| unheld.rule == *name);
            let held_by = match unheld.is_empty() {
                true if hooks => Some(Layer::Lsm.name()),
                true if netns && of_network.contains(name) => Some(Layer::Netns.name()),
                true if group && of_network.contains(name) => Some(Layer::CgroupNet.name()),
                _ => None,
            };
            Covered { rule: name.to_string(), held_by, unheld }
        });
        Ok(Coverage { policy: policy.name().to_owned(), rules: rules.collect() })
    }

    /// Whether an enforced run would hold all of it.
    pub fn is_complete(&self) -> bool {
        self.rules.iter().all(|rule| rule.held_by.is_some())
    }

    /// For people: a line for each rule, and one for each thing that is not held.
    pub fn table(&self) -> String {
        let mut text = format!("policy {}", self.policy);
        for rule in &self.rules {
            // Writing to a String does not fail.
            let _ = match rule.held_by {
                Some(layer) => write!(text, "\n  held by {layer}  {}", rule.rule),
                None => write!(text, "\n  NOT HELD     {}", rule.rule),
            };
            if rule.held_by.is_none() && rule.unheld.is_empty() {
                text.push_str("\n               needs the lsm layer");
            }
            for what in &rule.unheld {
                let _ = write!(text, "\n               {what}");
            }
        }
        text
    }
}

/// The rules that say something, and the default where it denies.
fn add<'p, O>(names: &mut BTreeSet<&'p RuleName>, section: &'p Section<O>) {
    names.extend(section.rules().iter().map(policy::Rule::name));
    if section.default() != Decision::Allow {
        names.insert(section.default_name());
    }
}

/// The fact without the rule's name, which stands above it.
fn what(unheld: &Unheld) -> String {
    let text = unheld.to_string();
    let without = text.strip_suffix(", which no layer of this run holds").unwrap_or(&text);
    let name = format!(" `{}` ", unheld.rule);
    without.split_once(&name).map_or(without, |(_, what)| what).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::Variables;

    #[test]
    fn each_rule_has_its_line() {
        let text = "version: 1\nname: p\nfiles:\n  default: allow\n  rules:\n    \
                    - { name: keys, deny: [read], path: [\"/k\"] }\nsyscalls: strict\nlimits: { time: 5s }\n";
        let policy = Policy::parse("p.yaml", text, &Variables::new()).unwrap_or_else(|e| panic!("{e}"));
        let report =
            |role: &str| [LayerReport { name: "lsm".into(), role: role.into(), selftest: Vec::new() }];
        let here = Coverage::of(&policy, &report("observes and enforces")).unwrap();
        let table = here.table();
        assert!(
            table.contains("\n  held by lsm  p/keys") && table.contains("\n  held by lsm  p/kernel.default")
        );
        assert!(table.contains("\n  NOT HELD     p/syscalls\n               sets something"), "{table}");
        assert!(!here.is_complete() && !table.contains("p/limits"), "{table}");
        let nowhere = Coverage::of(&policy, &report(LayerReport::OFF)).unwrap().table();
        assert!(nowhere.contains("\n  NOT HELD     p/keys\n               denies `read`"), "{nowhere}");
        assert!(!nowhere.contains("held by"), "{nowhere}");
    }

    #[test]
    fn the_control_group_holds_rules_of_the_network() {
        let text = "version: 1\nname: p\nfiles: { default: allow }\nnetwork:\n  default: deny\n  rules:\n    \
                    - { name: address, allow: [connect], to: [\"10.0.0.1:80\"] }\n    \
                    - { name: host, allow: [connect], to: [\"a.example:443\"] }\n    \
                    - { name: socket, deny: [connect], to: [\"unix:/x\"] }\n";
        let policy = Policy::parse("p.yaml", text, &Variables::new()).unwrap_or_else(|e| panic!("{e}"));
        let layers = |lsm: &str| {
            [("lsm", lsm), ("cgroup-net", "enforces")].map(|(name, role)| LayerReport {
                name: name.into(),
                role: role.into(),
                selftest: Vec::new(),
            })
        };
        let alone = Coverage::of(&policy, &layers(LayerReport::OFF)).unwrap().table();
        for line in [
            "\n  held by cgroup-net  p/address",
            "\n  held by cgroup-net  p/host",
            "\n  NOT HELD     p/socket\n               is about `unix:`",
            "\n  NOT HELD     p/network.default\n               denies `listen`",
            "\n  NOT HELD     p/kernel.default\n               needs the lsm layer",
        ] {
            assert!(alone.contains(line), "{line}\n{alone}");
        }
        let mut apart = layers(LayerReport::OFF).to_vec();
        apart.push(LayerReport { name: "netns".into(), role: "enforces".into(), selftest: Vec::new() });
        let apart = Coverage::of(&policy, &apart).unwrap().table();
        for line in [
            "\n  held by netns  p/address",
            "\n  held by netns  p/host",
            "\n  NOT HELD     p/socket\n               is about `unix:`",
            "\n  NOT HELD     p/network.default\n               closes unix sockets with a path, too",
        ] {
            assert!(apart.contains(line), "{line}\n{apart}");
        }
        let both = Coverage::of(&policy, &layers("observes and enforces")).unwrap();
        let table = both.table();
        assert!(both.is_complete(), "{table}");
        assert!(
            table.contains("held by lsm  p/address") && table.contains("held by cgroup-net  p/host"),
            "{table}"
        );
    }
}
