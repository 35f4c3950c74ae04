//! `sandbox policy eval`: what a policy decides about one attempt, by which rule, which layers hold that rule, and
//! what would allow it.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use policy::compile::{Unheld, Unsupported, lsm};
use policy::settings::LimitSet;
use policy::suggest::{self, NoSuggestion, Suggestion};
use policy::{
    Access, AccessSet, Act, Decision, Policy, Protocol, RuleName, SectionKind, Subject, Verdict, evaluate,
};
use serde::Serialize;

use super::socket::Socket;
use super::suggested::{self, Line};
use super::{Place, print, print_json};
use crate::cli::PolicyEvalArgs;
use crate::exit::Exit;
use crate::launch::program::Program;
use crate::review::text::safe;
use crate::sensor::held;

/// The answer, for programs.
#[derive(Serialize)]
struct Answer<'a> {
    verdict: &'static str,
    /// What was asked, in words.
    attempt: String,
    rule: &'a str,
    because: Option<&'a str>,
    /// What would become of it if everything on trial were law.
    on_trial: Option<OnTrial<'a>>,
    /// The layers that hold the rule in an enforced run, each by itself.
    layers: Vec<&'static str>,
    /// Why no layer holds it.
    not_held: Vec<String>,
    allow_with: Vec<Line>,
    opens_too: Vec<&'static str>,
}

#[derive(Serialize)]
struct OnTrial<'a> {
    verdict: &'static str,
    rule: &'a str,
    because: Option<&'a str>,
}

pub fn execute(args: &PolicyEvalArgs) -> anyhow::Result<Exit> {
    let place = Place::here(&args.place)?;
    let policy = place.read(&args.file)?;
    let exe = args.by.as_deref().map(|by| program(&place, by)).transpose()?.unwrap_or_default();
    // Who is named acts by itself; of one who is not nothing is known.
    let known: &[&[u8]] = if args.by.is_some() { &[] } else { Subject::UNKNOWN.ancestors };
    let subject = Subject { exe: exe.as_os_str().as_bytes(), ancestors: known };
    let (attempt, words) = attempt(&place, args)?;
    let names = attempt.names();
    let mut act = attempt.act(&names);
    let mut verdict = evaluate::judge(&policy, &subject, &act);
    if let Some(also) = attempt.also() {
        let said = evaluate::judge(&policy, &subject, &also);
        if verdict.decision == Decision::Allow && said.decision != Decision::Allow && !said.rule.is_default()
        {
            (act, verdict) = (also, said);
        }
    }
    let suggestion = suggest::narrowest(&policy, &subject, &act, &place.variables()?);
    let trial = verdict.audited.as_ref();
    let deciding =
        trial.filter(|_| verdict.decision == Decision::Allow).map_or(verdict.rule, |trial| trial.rule);
    let not_held = not_held(&policy, deciding, &act)?;
    let layers = if not_held.is_empty() { attempt.layers(&policy, deciding) } else { Vec::new() };
    if args.json {
        let found = suggestion.as_ref().ok();
        print_json(&Answer {
            verdict: verdict.decision.name(),
            attempt: words,
            rule: verdict.rule.as_str(),
            because: verdict.because,
            on_trial: trial.map(|trial| OnTrial {
                verdict: trial.decision.name(),
                rule: trial.rule.as_str(),
                because: trial.because,
            }),
            layers,
            not_held,
            allow_with: found.map(suggested::lines).unwrap_or_default(),
            opens_too: found.map(suggested::also).unwrap_or_default(),
        })?;
    } else {
        print(&told(&verdict, &words, (&layers, &not_held), &suggestion))?;
    }
    Ok(if verdict.decision == Decision::Allow { Exit::SUCCESS } else { Exit::FAILURE })
}

/// What the arguments describe.
enum Attempt {
    Open(AccessSet, PathBuf),
    Run(PathBuf),
    End(Access, Socket),
}

impl Attempt {
    fn act<'a>(&'a self, names: &'a [&'a str]) -> Act<'a> {
        match self {
            Self::Open(accesses, path) => {
                Act::File { accesses: *accesses, path: path.as_os_str().as_bytes() }
            }
            Self::Run(path) => Act::Exec { path: path.as_os_str().as_bytes(), sha256: None },
            Self::End(access, socket) => Act::Network { accesses: (*access).into(), end: socket.end(names) },
        }
    }

    /// The names by which its end is known.
    fn names(&self) -> Vec<&str> {
        match self {
            Self::End(_, socket) => socket.names(),
            _ => Vec::new(),
        }
    }

    /// The layers that hold the rule, each by itself, where one does.
    fn layers(&self, policy: &Policy, rule: &RuleName) -> Vec<&'static str> {
        let mut rules = policy.network().rules().iter();
        let bound = rules.any(|one| one.name() == rule && !one.who().is_anyone());
        match self {
            Self::End(access, socket) => socket.layers(*access, bound),
            _ => vec!["lsm"],
        }
    }

    /// What files say of it as well: a path socket that a rule keeps from being read is not reached either.
    fn also(&self) -> Option<Act<'_>> {
        match self {
            Self::End(Access::Connect | Access::Send, Socket::Path(path)) => {
                Some(Act::File { accesses: Access::Read.into(), path: path.as_os_str().as_bytes() })
            }
            _ => None,
        }
    }
}

/// The attempt, and its words.
fn attempt(place: &Place, args: &PolicyEvalArgs) -> anyhow::Result<(Attempt, String)> {
    if let Some(path) = &args.open {
        let (path, accesses) = (resolved(path)?, accesses(args.access.as_deref())?);
        let words = format!("{accesses} {}", shown(&path));
        return Ok((Attempt::Open(accesses, path), words));
    }
    if args.access.is_some() {
        bail!("--access says how to open a file: it goes with --open");
    }
    if let Some(path) = &args.run {
        let path = program(place, path)?;
        let words = format!("run {}", shown(&path));
        return Ok((Attempt::Run(path), words));
    }
    let ends = [
        (Access::Connect, &args.connect),
        (Access::Send, &args.send),
        (Access::Bind, &args.bind),
        (Access::Listen, &args.listen),
    ];
    let Some((access, end)) = ends.into_iter().find_map(|(access, end)| Some((access, end.as_ref()?))) else {
        bail!("nothing to judge: give one of --open, --run, --connect, --send, --bind, --listen");
    };
    // A send has an address of its own where there is no connection: that is UDP's way.
    let usual = if access == Access::Send { Protocol::Udp } else { Protocol::Tcp };
    let socket = Socket::parse(end, access, usual)?;
    let words = format!("{access} {}", socket.words());
    Ok((Attempt::End(access, socket), words))
}

/// Why an enforced run could not hold the rule for this attempt, each in one line.
fn not_held(policy: &Policy, rule: &RuleName, act: &Act<'_>) -> anyhow::Result<Vec<String>> {
    let tried = match act {
        Act::File { accesses, .. } | Act::Network { accesses, .. } => *accesses,
        Act::Exec { .. } => Access::Run.into(),
    };
    let plan = lsm::compile(&[policy], 0, &mut lsm::SetTable::new())?;
    let matters = |unheld: &Unheld| {
        let other = matches!(unheld.what, Unsupported::Access(access) if !tried.contains(access));
        unheld.rule == *rule && !other
    };
    let held = held(true, true, LimitSet::ALL);
    let unheld = plan.unheld(&held).into_iter().filter(matters);
    let lines: Vec<String> = unheld.map(|unheld| unheld.to_string()).collect();
    if !lines.is_empty() {
        return Ok(lines);
    }
    // What is allowed is not held either, where nobody asks.
    Ok(tried.without(held.accesses).iter().map(|access| format!("no layer judges `{access}`")).collect())
}

/// The verdict, its reason, what is on trial, what holds it, what would allow it.
fn told(
    verdict: &Verdict<'_>,
    act: &str,
    (layers, not_held): (&[&str], &[String]),
    suggestion: &Result<Suggestion, NoSuggestion>,
) -> String {
    let mut text = format!("{}: {act}\n  by {}\n", verdict.decision, verdict.rule);
    if let Some(because) = verdict.because {
        let _ = writeln!(text, "  because {because}");
    }
    if let Some(trial) = &verdict.audited {
        let _ = writeln!(text, "  on trial: {} by {}", trial.decision, trial.rule);
    }
    match not_held {
        [] => {
            let layers = layers.join(" or ");
            let _ = writeln!(text, "  held by {layers}; on this machine: see `sandbox doctor --policy`");
        }
        lines => lines.iter().for_each(|line| _ = writeln!(text, "  not held: {line}")),
    }
    text + &suggested::told(suggestion)
}

/// A program: a bare name is looked up as a run would.
fn program(place: &Place, name: &Path) -> anyhow::Result<PathBuf> {
    if name.components().count() != 1 || name.as_os_str().as_bytes().contains(&b'/') {
        return resolved(name);
    }
    let found = Program::find(&[name.as_os_str().to_owned()], place.target.environment());
    match found {
        Ok(program) => resolved(Path::new(OsStr::from_bytes(program.candidates()[0].as_bytes()))),
        Err(error) => bail!("{error}; write ./{} for the file in this directory", shown(name)),
    }
}

/// The path as the kernel would resolve it; where it is not there, only made absolute.
pub(super) fn resolved(path: &Path) -> anyhow::Result<PathBuf> {
    if path.starts_with("~") {
        bail!("{}: only a shell knows what `~` means; leave it without quotes", shown(path));
    }
    let absolute = || std::path::absolute(path).context("cannot read the current directory");
    path.canonicalize().or_else(|_| absolute())
}

fn accesses(words: Option<&[String]>) -> anyhow::Result<AccessSet> {
    let files = SectionKind::Files.accesses();
    let Some(words) = words else { return Ok(Access::Read.into()) };
    let mut set = AccessSet::EMPTY;
    for word in words {
        match files.iter().find(|access| access.name() == word) {
            Some(access) => set.insert(access),
            None => bail!("--access takes {files}, not {word:?}"),
        }
    }
    Ok(set)
}

fn shown(path: &Path) -> String {
    safe(path.as_os_str().as_bytes())
}
