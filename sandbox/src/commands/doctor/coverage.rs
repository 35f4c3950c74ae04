//! Rule by rule, what of a policy this machine holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use policy::compile::landlock::{self, Command, LandlockPlan};
use policy::compile::layers::Kept;
use policy::compile::{CompileError, Unheld, layers, lsm};
use policy::settings::{Landlock, Limit, LimitSet, Syscalls, Tmp};
use policy::{Decision, Policies, Policy, RuleName, Section};
use serde::Serialize;

use super::guarded::Guarded;
use crate::enforce::landlock as enforce;
use crate::enforce::tmp::PrivateTmp;
use crate::launch::limits;
use crate::record::LayerReport;
use crate::sensor::{
    FILTER, TMP, covers, groups_are_kept, held, is_closed, keeps_mounts, spellings, time_is_held,
    with_namespace, words,
};
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
    /// The layers that hold it together; none where something of it is not held.
    held_by: Vec<&'static str>,
    /// What of it is not held.
    unheld: Vec<String>,
}

impl Coverage {
    /// Compares a policy, and what the runner keeps beside it, with the layers that were proven.
    ///
    /// # Errors
    /// The policy does not fit the kernel's tables.
    pub fn of(
        policy: &Policy,
        guarded: &Guarded,
        layers: &[LayerReport],
        tmp: &Result<PrivateTmp, String>,
    ) -> Result<Coverage, CompileError> {
        let together = [policy, &guarded.policy];
        let works = |layer: Layer| {
            layers.iter().any(|report: &LayerReport| report.name == layer.name() && !report.is_off())
        };
        let (lsm, group) = (works(Layer::Lsm), works(Layer::CgroupNet));
        let plan = lsm::compile(&together, 0, &mut lsm::SetTable::new())?;
        // Where hooks are it is not used.
        let fenced = works(Layer::Landlock) && !lsm && policy.settings().landlock != Some(Landlock::Off);
        let abi = fenced.then(enforce::abi).and_then(Result::ok);
        let fence = abi.map(|abi| together.map(|policy| landlock::compile(policy, abi)));
        let landlock: &[LandlockPlan] = fence.as_ref().map_or(&[], |plans| plans);
        let bare = words(lsm, landlock, guarded.command, &[]);
        // Root, for whom most runs are, leaves its groups where nothing keeps it; others are counted.
        let kept = groups_are_kept(&bare, policy.settings().kernel_allowed());
        let grouped = if kept { limits::possible() } else { LimitSet::EMPTY };
        let counted = match guarded.command {
            Command::Root => grouped,
            Command::User => grouped.with(Limit::Processes),
        };
        let timed = time_is_held(&bare, policy.settings().kernel_allowed(), kept && group);
        let others = counted.iter().filter(|limit| *limit != Limit::Time);
        let limits: LimitSet = others.chain(timed.then_some(Limit::Time)).collect();
        let private = policy.settings().tmp == Some(Tmp::Private);
        let own_tmp = laid(layers, tmp).filter(|_| private);
        let keeps = keeps_mounts(&bare, policy.settings().kernel_allowed(), guarded.command == Command::Root);
        // Where there are no hooks, a closed network is held by a namespace.
        let alone = Policies::from(policy.clone());
        let netns = !lsm && works(Layer::Netns) && is_closed(&alone);
        // Whoever looks into processes outside is out of it again.
        let leaves = netns && guarded.command == Command::Root && !bare.contains_key("ptrace-any");
        let with = |group: bool| {
            let programs = held(lsm, group && !netns, limits);
            let programs = lsm::Held { tmp: own_tmp.is_some() && keeps.is_ok(), ..programs };
            layers::Layers {
                programs: if netns { with_namespace(programs, &alone) } else { programs },
                judges: (
                    lsm.then_some(layers::Layer::Lsm),
                    match (lsm, netns, group) {
                        (true, ..) => Some(layers::Layer::Lsm),
                        (false, true, _) => Some(layers::Layer::Netns),
                        (false, false, true) => Some(layers::Layer::CgroupNet),
                        (false, false, false) => None,
                    },
                ),
                landlock,
                kept: &guarded.kept,
                unix: match netns && alone.closes_unix_sockets() {
                    true => layers::UnixSockets::Closed,
                    false => layers::UnixSockets::Open,
                },
                words: &bare,
            }
        };
        // What is there now would be covered.
        let covers = match !lsm && works(Layer::Mountns) {
            true => covers::plan(&with(group), &together, own_tmp),
            false => covers::Covers::default(),
        };
        let covering =
            !lsm && works(Layer::Mountns) && covers::NEEDED.iter().all(|word| bare.contains_key(word));
        let made = guarded.made.iter().filter(|_| covering);
        let kept: Vec<Kept> = guarded.kept.iter().chain(&covers.kept).chain(made).cloned().collect();
        let words = words(lsm, landlock, guarded.command, &kept);
        let with = |group: bool| layers::Layers { kept: &kept, words: &words, ..with(group) };
        let mut unheld = with(group).unheld(&plan, &together);
        if lsm {
            // Where the mounts cannot be read no run starts.
            unheld.extend(spellings::look(&together).unwrap_or_default().unheld);
        }
        // The plan of Landlock that a policy has stands first.
        let turned: Vec<LandlockPlan> = landlock.iter().rev().cloned().collect();
        let holding = |group: bool| {
            let mut all = with(group).holding(&plan, policy);
            let own = layers::Layers { landlock: &turned, ..with(group) };
            all.extend(own.holding(&plan, &guarded.policy));
            all
        };
        let (all, beyond) = (holding(group), holding(false));
        let mut names: BTreeSet<&RuleName> = unheld.iter().map(|unheld| &unheld.rule).collect();
        add(&mut names, policy.files());
        add(&mut names, policy.exec());
        add(&mut names, policy.network());
        names.extend(guarded.policy.files().rules().iter().map(policy::Rule::name));
        names.extend(guarded.policy.network().rules().iter().map(policy::Rule::name));
        let kernel = policy.kernel_default();
        names.insert(&kernel);
        // `off` asks for nothing.
        let asks = policy.settings().syscalls.as_ref().is_some_and(|said| *said != Syscalls::Off);
        let syscalls = policy.syscalls_section();
        if asks {
            names.insert(&syscalls);
        }
        let tmp_section = policy.tmp_section();
        if private {
            names.insert(&tmp_section);
        }
        let filter = layers.iter().find(|report| report.name == FILTER);
        let rules = names.into_iter().map(|name| {
            if *name == syscalls {
                return by_filter(name, filter, alone.rings_pass());
            }
            if *name == tmp_section && private {
                return by_mounts(name, layers, tmp, &keeps);
            }
            let mut unheld: Vec<String> =
                unheld.iter().filter(|unheld| unheld.rule == *name).map(what).collect();
            if netns && !alone.closes_unix_sockets() && name == policy.network().default_name() {
                unheld.push("closes unix sockets with a path, too".to_owned());
            }
            if leaves && name == policy.network().default_name() {
                unheld.push("root inside gets out of the network by another process of it".to_owned());
            }
            let of = |all: &BTreeMap<RuleName, BTreeSet<layers::Layer>>| -> Vec<&'static str> {
                all.get(name).into_iter().flatten().map(|layer| layer.name()).collect()
            };
            let held_by = match (unheld.is_empty(), of(&beyond)) {
                (false, _) => Vec::new(),
                // Only with the programs of the group: it is theirs.
                (true, without) if without.is_empty() && lsm => vec![Layer::CgroupNet.name()],
                (true, _) => of(&all),
            };
            Covered { rule: name.to_string(), held_by, unheld }
        });
        Ok(Coverage { policy: policy.name().to_owned(), rules: rules.collect() })
    }

    /// Whether an enforced run would hold all of it.
    pub fn is_complete(&self) -> bool {
        self.rules.iter().all(|rule| rule.unheld.is_empty())
    }

    /// For people: a line for each rule, and one for each thing that is not held.
    pub fn table(&self) -> String {
        let mut text = format!("policy {}", self.policy);
        for rule in &self.rules {
            // Writing to a String does not fail.
            let _ = match (rule.unheld.is_empty(), rule.held_by.as_slice()) {
                // It denies nothing.
                (true, []) => write!(text, "\n  allows       {}", rule.rule),
                (true, layers) => write!(text, "\n  held by {}  {}", layers.join("+"), rule.rule),
                (false, _) => write!(text, "\n  NOT HELD     {}", rule.rule),
            };
            for what in &rule.unheld {
                let _ = write!(text, "\n               {what}");
            }
        }
        let unheld = self.rules.iter().filter(|rule| !rule.unheld.is_empty()).count();
        text.push_str(match unheld {
            0 => "\n  an enforced run starts: all of it is held",
            _ => "\n  an enforced run is refused: not all of it is held",
        });
        text
    }
}

/// What the system call filter holds, where it was proven.
/// `rings`: the policy opens io_uring, which makes calls past the filter that it closes by name.
fn by_filter(name: &RuleName, filter: Option<&LayerReport>, rings: bool) -> Covered {
    let works = filter.is_some_and(|report| !report.is_off());
    let reason = filter.and_then(|report| report.selftest.first()).map(|check| check.result.clone());
    let unheld = match works {
        true if rings => vec!["rings of `io-uring` make the same calls past the filter".to_owned()],
        true => Vec::new(),
        false => vec![reason.unwrap_or_else(|| "needs the system call filter".to_owned())],
    };
    Covered {
        rule: name.to_string(),
        held_by: (works && !rings).then_some(FILTER).into_iter().collect(),
        unheld,
    }
}

/// The report of the run's own mounts, where they work.
fn mounts(layers: &[LayerReport]) -> Option<&LayerReport> {
    layers.iter().find(|report| report.name == Layer::Mountns.name() && !report.is_off())
}

/// The /tmp of its own that a run would have.
fn laid<'t>(layers: &[LayerReport], tmp: &'t Result<PrivateTmp, String>) -> Option<&'t PrivateTmp> {
    let works = |report: &LayerReport| report.selftest.iter().all(|check| check.check != TMP);
    mounts(layers).filter(|report| works(report)).and(tmp.as_ref().ok())
}

/// What mounts hold of `tmp: private`, as far as nobody inside gets round them.
fn by_mounts(
    name: &RuleName,
    layers: &[LayerReport],
    tmp: &Result<PrivateTmp, String>,
    keeps: &Result<(), String>,
) -> Covered {
    let missing = || {
        let off = layers.iter().filter(|report| report.name == Layer::Mountns.name());
        let mut checks = off.flat_map(|report| &report.selftest);
        let said = checks.find(|check| check.check == TMP || check.check == "available");
        said.map_or_else(|| "needs the mountns layer".to_owned(), |check| check.result.clone())
    };
    let why = match (laid(layers, tmp), keeps) {
        (None, _) => Some(missing()),
        (Some(_), Err(why)) => Some(why.clone()),
        (Some(_), Ok(())) => None,
    };
    let held_by = why.is_none().then_some(Layer::Mountns.name()).into_iter().collect();
    Covered { rule: name.to_string(), held_by, unheld: why.into_iter().collect() }
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
    let name = format!("`{}` ", unheld.rule);
    without.split_once(&name).map_or(without, |(_, what)| what).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SelfTest;
    use policy::Variables;

    fn of(policy: &Policy, layers: &[LayerReport], command: Command) -> Coverage {
        let tmp = PrivateTmp::new(vec!["/tmp".into()], Vec::new(), Vec::new());
        Coverage::of(policy, &Guarded::elsewhere(command), layers, &Ok(tmp)).unwrap()
    }

    #[test]
    fn each_rule_has_its_line() {
        let text = "version: 1\nname: p\nfiles:\n  default: allow\n  rules:\n    \
                    - { name: keys, deny: [read], path: [\"/k\"] }\nsyscalls: strict\nlimits: { time: 5s }\n";
        let policy = Policy::parse("p.yaml", text, &Variables::new()).unwrap_or_else(|e| panic!("{e}"));
        let report = |role: &str| {
            ["lsm", FILTER].map(|name| LayerReport {
                name: name.into(),
                role: role.into(),
                selftest: Vec::new(),
            })
        };
        let here = of(&policy, &report("observes and enforces"), Command::Root);
        let table = here.table();
        assert!(
            table.contains("\n  held by lsm  p/keys")
                && table.contains("\n  held by lsm+seccomp  p/kernel.default")
        );
        assert!(table.contains("\n  held by seccomp  p/syscalls"), "{table}");
        assert!(here.is_complete() && !table.contains("p/limits"), "{table}");
        let nowhere = of(&policy, &report(LayerReport::OFF), Command::Root).table();
        assert!(nowhere.contains("\n  NOT HELD     p/keys\n               denies `read`"), "{nowhere}");
        let line = "\n  NOT HELD     p/syscalls\n               needs the system call filter";
        assert!(nowhere.contains(line), "{nowhere}");
        assert!(nowhere.contains("\n  held by permissions  runner/record"), "{nowhere}");
        let count = |text: &str| nowhere.matches(text).count();
        assert_eq!(count("held by"), count("held by permissions  runner/"), "{nowhere}");
    }

    #[test]
    fn a_private_tmp_is_held_by_mounts_that_nobody_gets_round() {
        let read = |kernel: &str| {
            let text = format!("version: 1\nname: p\nfiles: {{ default: allow }}\ntmp: private\n{kernel}");
            Policy::parse("p.yaml", &text, &Variables::new()).unwrap_or_else(|e| panic!("{e}"))
        };
        let report = |name: &str, role: &str, check: &str| LayerReport {
            name: name.into(),
            role: role.into(),
            selftest: vec![SelfTest { check: check.into(), result: "no such luck".into() }],
        };
        let lsm = report("lsm", "observes and enforces", "file_open");
        let (works, part) = (report("mountns", "enforces", "hidden"), report("mountns", "enforces", TMP));
        let off = report("mountns", LayerReport::OFF, "available");
        let table = |kernel: &str, layers: &[&LayerReport]| {
            let layers: Vec<LayerReport> = layers.iter().map(|report| (*report).clone()).collect();
            of(&read(kernel), &layers, Command::Root).table()
        };
        let held = table("", &[&lsm, &works]);
        assert!(held.contains("\n  held by mountns  p/tmp"), "{held}");
        for (kernel, layers, why) in [
            ("", [&lsm, &off], "no such luck"),
            ("", [&lsm, &part], "no such luck"),
            ("", [&off, &works], "processes outside show"),
            ("kernel: { allow: [mount] }\n", [&lsm, &works], "root inside can take it away"),
        ] {
            let table = table(kernel, &layers);
            let line = format!("\n  NOT HELD     p/tmp\n               {why}");
            assert!(table.contains(&line), "{line}\n{table}");
        }
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
        let alone = of(&policy, &layers(LayerReport::OFF), Command::Root).table();
        for line in [
            "\n  held by cgroup-net  p/address",
            "\n  held by cgroup-net  p/host",
            "\n  NOT HELD     p/socket\n               is about `unix:`",
            "\n  NOT HELD     p/network.default\n               denies `listen`",
            "\n  NOT HELD     p/kernel.default\n               closes `ptrace-any`",
        ] {
            assert!(alone.contains(line), "{line}\n{alone}");
        }
        let mut apart = layers(LayerReport::OFF).to_vec();
        apart.push(LayerReport { name: "netns".into(), role: "enforces".into(), selftest: Vec::new() });
        let root = of(&policy, &apart, Command::Root).table();
        let line = "\n  NOT HELD     p/network.default\n               root inside gets out of the network";
        assert!(root.contains(line), "{root}");
        let apart = of(&policy, &apart, Command::User).table();
        for line in [
            "\n  held by netns  p/address",
            "\n  held by netns  p/host",
            // None can be made.
            "\n  held by netns  p/socket",
            "\n  held by netns  p/network.default",
        ] {
            assert!(apart.contains(line), "{line}\n{apart}");
        }
        let both = of(&policy, &layers("observes and enforces"), Command::Root);
        let table = both.table();
        assert!(both.is_complete(), "{table}");
        assert!(
            table.contains("held by lsm  p/address") && table.contains("held by cgroup-net  p/host"),
            "{table}"
        );
    }
}
