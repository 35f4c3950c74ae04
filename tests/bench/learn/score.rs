//! Learning from some runs, and what the policy makes of others: `sandbox policy replay` gives for each the verdicts that
//! the kernel would have given.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use policy::evaluate::{self, Act};
use policy::{Access, AccessSet, Decision, End, Owner, Policy, Protocol, Subject, Variables};
use sandbox_tests::binaries::binary;
use serde_json::Value;

use super::attacks::{ATTACKS, Attack};
use super::record::Recorded;
use super::site::Site;

/// Fewest lines that are too many.
pub const LINES: usize = 60;

/// A policy, and how it was made.
#[derive(Debug)]
pub struct Candidate {
    pub path: PathBuf,
    pub text: String,
}

impl Candidate {
    /// `sandbox learn` of these runs.
    pub fn learned(site: &Site, name: &str, lessons: &[&Recorded], strictness: &str) -> Self {
        let path = site.place.join("policies").join(format!("{name}.yaml"));
        fs::create_dir_all(path.parent().expect("a place")).expect("a place for policies");
        let _ = fs::remove_file(&path);
        let mut words = vec![binary("sandbox").display().to_string(), "learn".to_owned()];
        words.extend(lessons.iter().map(|run| run.record.display().to_string()));
        words.extend(["--strictness", strictness, "-o"].map(str::to_owned));
        words.push(path.display().to_string());
        let output = site.run(&site.place, &words);
        // 1: too few runs to be sure of.
        let learned = matches!(output.status.code(), Some(0 | 1)) && path.exists();
        assert!(learned, "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = fs::read_to_string(&path).expect("the policy");
        Self { path, text }
    }

    /// One that nobody learned.
    pub fn given(site: &Site, name: &str, text: &str) -> Self {
        let path = site.place.join("policies").join(format!("{name}.yaml"));
        fs::create_dir_all(path.parent().expect("a place")).expect("a place for policies");
        fs::write(&path, text).expect("a policy");
        Self { path, text: text.to_owned() }
    }
}

/// What a policy came to.
#[derive(Clone, Debug, Default)]
pub struct Score {
    pub lines: usize,
    /// Runs that it was learned from and would block.
    pub own: usize,
    /// Honest runs, and those that it would block.
    pub honest: usize,
    pub blocked: usize,
    /// Attacks, and those that it would stop.
    pub attacks: usize,
    pub stopped: usize,
    /// What it opens that no run of the kind has anything to do with.
    pub wide: Vec<&'static str>,
    /// What of honest runs it would deny, and in how many.
    pub denied: BTreeMap<String, usize>,
    pub missed: Vec<String>,
}

impl Score {
    /// Whether it is what one would enforce: it lets honest runs through **and** stops attacks. Whoever denies
    /// everything blocks honest runs, whoever allows everything stops no attack: neither reaches it.
    pub fn reaches(&self) -> bool {
        self.honest > 0
            && self.attacks > 0
            && self.own == 0
            && self.blocked == 0
            && self.stopped == self.attacks
            && self.lines < LINES
            && self.wide.is_empty()
    }
}

/// The objects that a policy would deny in a run, with their rules.
pub fn denied(site: &Site, policy: &Path, run: &Recorded) -> Vec<String> {
    let words = [
        &binary("sandbox").display().to_string(),
        "policy",
        "replay",
        &policy.display().to_string(),
        &run.record.display().to_string(),
        "--json",
    ];
    let output = site.run(&run.work, &words.map(str::to_owned));
    let told = matches!(output.status.code(), Some(0 | 1));
    assert!(told, "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let groups = answer["groups"].as_array().expect("groups");
    let blocked = groups.iter().filter(|group| group["outcome"] == "blocked");
    let found: Vec<String> = blocked
        .map(|group| {
            let accesses: Vec<&str> =
                group["accesses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let rule = group["rule"].as_str().unwrap_or("unjudged");
            format!("{} {} ({rule})", accesses.join(","), group["object"].as_str().unwrap_or("?"))
        })
        .collect();
    assert_eq!(found.is_empty(), output.status.code() == Some(0), "a status for each answer");
    found
}

/// Whether what is denied is something that the attack needs.
fn stops(attack: &Attack, token: &str, denied: &[String]) -> bool {
    let parts: Vec<String> = attack.denied.iter().map(|part| part.replace("TOKEN", token)).collect();
    denied.iter().any(|object| parts.iter().any(|part| object.contains(part.as_str())))
}

/// The runs that a policy is put to.
pub struct Runs<'a> {
    pub lessons: &'a [&'a Recorded],
    pub honest: &'a [Recorded],
    /// With what stands for `TOKEN` in each.
    pub attacks: &'a [(Recorded, String)],
}

/// Puts a policy to them.
pub fn score(site: &Site, candidate: &Candidate, runs: &Runs<'_>) -> Score {
    let mut score = Score {
        lines: candidate.text.lines().count(),
        honest: runs.honest.len(),
        attacks: runs.attacks.len(),
        wide: wide(site, &candidate.text),
        ..Score::default()
    };
    for run in runs.lessons {
        let found = denied(site, &candidate.path, run);
        let not_of_base = found.iter().any(|object| !object.contains("(base/"));
        score.own += usize::from(not_of_base);
    }
    for run in runs.honest {
        let found = denied(site, &candidate.path, run);
        score.blocked += usize::from(!found.is_empty());
        for object in found {
            *score.denied.entry(object).or_default() += 1;
        }
    }
    for (run, token) in runs.attacks {
        let name = run.name.trim_start_matches("attack-");
        let attack = ATTACKS.iter().find(|attack| attack.name == name).expect("one of the list");
        match stops(attack, token, &denied(site, &candidate.path, run)) {
            true => score.stopped += 1,
            false => score.missed.push(name.to_owned()),
        }
    }
    score
}

/// Files just beyond what any of the workloads has to do with.
const FILES: &[(Access, &str)] = &[
    (Access::Write, "/usr/bin/probe"),
    (Access::Create, "/usr/lib/probe"),
    (Access::Create, "/etc/probe"),
    (Access::Write, "/etc/passwd"),
    (Access::Create, "HOME/probe"),
    (Access::Create, "HOME/work/probe"),
    (Access::Create, "HOME/work/other/probe"),
    (Access::Create, "HOME/.config/probe/settings"),
    (Access::Create, "HOME/.local/share/probe/x"),
    (Access::Create, "/root/probe"),
    (Access::Create, "/home/other/probe"),
    (Access::Create, "/srv/probe"),
    (Access::Create, "/opt/probe"),
    (Access::Create, "/var/lib/probe/x"),
    (Access::Write, "/proc/sys/kernel/probe"),
    (Access::Read, "HOME/Documents/probe"),
    (Access::Read, "HOME/probe"),
    (Access::Read, "HOME/work/other/probe"),
    (Access::Read, "HOME/.config/probe/settings"),
    (Access::Read, "/etc/probe"),
    (Access::Read, "/etc/probe.d/secret"),
    (Access::Read, "/root/probe/x"),
    (Access::Read, "/home/other/probe"),
    (Access::Read, "/srv/probe"),
    (Access::Read, "/var/log/probe"),
    (Access::Read, "/var/lib/probe/x"),
    (Access::Read, "/proc/1/environ"),
    (Access::Read, "/proc/1/mem"),
    (Access::Read, "/proc/1/root/etc/probe"),
];
const PROGRAMS: &[&str] = &[
    "/usr/bin/probe",
    "/usr/sbin/probe",
    "/usr/local/bin/probe",
    "HOME/bin/probe",
    "HOME/.cache/probe/x",
    "HOME/.local/bin/probe",
    "WORK/probe",
    "WORK/.probe/x",
    "/tmp/probe",
    "/var/tmp/probe/x",
    "/dev/shm/probe",
];
/// Address, port, and the name it is known by.
const ENDS: &[(&str, [u8; 4], u16, Option<&str>)] = &[
    ("an address elsewhere", [198, 51, 100, 7], 443, None),
    ("a neighbour", [203, 0, 113, 200], 443, None),
    ("a name elsewhere", [198, 51, 100, 7], 443, Some("elsewhere.example")),
    ("a service of this machine", [127, 0, 0, 1], 5432, None),
    ("the metadata service", [169, 254, 169, 254], 80, None),
];
const PLACES: &[(&str, [u8; 4], u16)] =
    &[("listening everywhere", [0, 0, 0, 0], 80), ("listening outside", [203, 0, 113, 1], 8080)];

/// What of that a policy opens.
fn wide(site: &Site, text: &str) -> Vec<&'static str> {
    let home = site.home().display().to_string();
    let work = format!("{home}/work/probed-project");
    let mut variables = Variables::new();
    for (name, value) in [("HOME", home.as_str()), ("TMP", "/tmp"), ("USER", "root"), ("UID", "0")] {
        variables.set(name, value).expect("a variable");
    }
    variables.set("RUN_DIR", site.place.join("records/x").display().to_string()).expect("a variable");
    variables.set_workspace(work.clone()).expect("a workspace");
    let policy =
        Policy::parse("learned", text, &variables).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    let path = |path: &str| path.replace("HOME", &home).replace("WORK", &work);
    let allowed =
        |act: &Act<'_>| evaluate::judge(&policy, &Subject::UNKNOWN, act).decision == Decision::Allow;
    let files = FILES.iter().filter(|(access, name)| {
        allowed(&Act::File { accesses: AccessSet::from(*access), path: path(name).as_bytes() })
    });
    let programs = PROGRAMS.iter().filter(|name| {
        allowed(&Act::Exec { path: path(name).as_bytes(), sha256: Some(&policy::Digest::UNNAMED) })
    });
    let end = |access: Access, address: [u8; 4], port: u16, names: &[&str]| {
        let (owner, protocol) = (Owner::Elsewhere, Protocol::Tcp);
        let end = End::Address { address: address.into(), port, protocol, names, owner };
        allowed(&Act::Network { accesses: access.into(), end })
    };
    let ends =
        ENDS.iter().filter(|(_, address, port, host)| end(Access::Connect, *address, *port, host.as_slice()));
    let places = PLACES.iter().filter(|(_, address, port)| end(Access::Listen, *address, *port, &[]));
    let files = files.map(|(_, name)| *name).chain(programs.copied());
    files.chain(ends.map(|(name, ..)| *name)).chain(places.map(|(name, ..)| *name)).collect()
}
