//! One cell: what `sandbox doctor` promises, what `sandbox run` says that it holds, and what attempts meet.

use super::scene::{Identity, Machine, Scene};
use super::table::{POLICIES, Policy, Row, Who};
use crate::log::{Log, text};
use crate::run::PROBE;
use crate::write;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Output;

/// Exit status of `sandbox run` where it could not start.
const CANNOT_START: i32 = 125;

/// What is not held: a rule, and the access or the word in question.
type Unheld = BTreeSet<(String, String)>;

/// A cell of the matrix, beside what the boot decides.
pub struct Cell<'a> {
    pub name: &'a str,
    pub identity: Identity,
    /// Whether whoever asks may make user namespaces.
    pub userns: bool,
    /// Under how many of the policies attempts are made; doctor is asked about all.
    pub tried: usize,
}

/// What doctor says of one policy.
struct Promise {
    /// Layers by rule; none where something of it is not held.
    held_by: BTreeMap<String, BTreeSet<String>>,
    unheld: Unheld,
}

/// What a cell showed.
#[derive(Debug, Default)]
pub struct Found {
    /// Every layer that doctor named, with the rules that it holds.
    pub layers: BTreeMap<String, BTreeSet<String>>,
    /// Policies that are held whole.
    pub whole: BTreeSet<String>,
    /// What contradicts what.
    pub wrong: Vec<String>,
}

/// Runs a cell.
pub fn run(cell: &Cell<'_>, machine: &Machine) -> Result<Found> {
    let scene = Scene::new(cell.name, cell.identity)?;
    scene.make()?;
    let mut found = Found::default();
    let files: Vec<String> = POLICIES
        .iter()
        .map(|policy| write(&format!("{}-{}.yaml", cell.name, policy.name), &scene.fill(policy.text)))
        .collect::<Result<_>>()?;
    let promises = ask(&scene, &files)?;
    for (number, ((policy, file), promise)) in POLICIES.iter().zip(&files).zip(promises).enumerate() {
        if number < cell.tried {
            found.wrong.extend(attempt(cell, &scene, machine, (policy, file, &promise))?);
        }
        if promise.unheld.is_empty() {
            found.whole.insert(policy.name.to_owned());
        }
        for (rule, layers) in promise.held_by {
            for layer in layers {
                found.layers.entry(layer).or_default().insert(rule.clone());
            }
        }
    }
    Ok(found)
}

/// Makes the attempts on one policy, by its file; what is wrong then.
fn attempt(
    cell: &Cell<'_>,
    scene: &Scene,
    machine: &Machine,
    (policy, file, promise): (&Policy, &str, &Promise),
) -> Result<Vec<String>> {
    let rows: Vec<&Row> = policy.rows.iter().filter(|row| cell.may(row.who)).collect();
    let trial = Trial { cell, scene, machine, policy, file, rows, promise };
    trial.free().with_context(|| format!("{} outside of any run", policy.name))?;
    let tried = trial.enforced();
    let tried = tried.with_context(|| format!("policy {}, of which doctor says\n{promise}", policy.name))?;
    let unheld: BTreeSet<&str> = promise.unheld.iter().map(|(rule, _)| rule.as_str()).collect();
    let unheld: Vec<&str> = unheld.into_iter().collect();
    println!("       {}/{}: {tried} {}", cell.name, policy.name, unheld.join(" "));
    Ok(tried.wrong.into_iter().map(|wrong| format!("{}: {wrong}", policy.name)).collect())
}

impl Cell<'_> {
    fn may(&self, who: Who) -> bool {
        match who {
            Who::Anyone => true,
            Who::Root => self.identity == Identity::Root,
            Who::WithUserNamespaces => self.userns,
        }
    }
}

/// Asks doctor about all policies at once: its self-tests take a while.
fn ask(scene: &Scene, files: &[String]) -> Result<Vec<Promise>> {
    let mut arguments = vec!["doctor", "--json"];
    arguments.extend(files.iter().flat_map(|file| ["--policy", file]));
    let output = scene.sandbox(&arguments)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("doctor: {stderr}"))?;
    let policies = report["policies"].as_array().context("doctor says nothing of policies")?;
    policies.iter().map(Promise::read).collect()
}

impl Promise {
    fn read(policy: &Value) -> Result<Promise> {
        let words = |list: &Value| -> Vec<String> {
            let all = list.as_array().into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let mut promise = Promise { held_by: BTreeMap::new(), unheld: BTreeSet::new() };
        for rule in policy["rules"].as_array().context("no rules")? {
            let name = rule["rule"].as_str().context("a rule without a name")?.to_owned();
            let unheld = words(&rule["unheld"]);
            promise.unheld.extend(unheld.iter().flat_map(|said| parts(&name, said)));
            ensure!(
                unheld.is_empty() || words(&rule["held_by"]).is_empty(),
                "{name} is held and is not: {rule}"
            );
            promise.held_by.insert(name, words(&rule["held_by"]).into_iter().collect());
        }
        Ok(promise)
    }

    /// The layers that doctor promised to hold what a row attempts; none of them where it did not promise. Of a rule that
    /// is held in part it does not say by whom.
    fn of(&self, policy: &str, row: &Row) -> Option<BTreeSet<String>> {
        let rule = format!("{policy}/{}", row.rule);
        let mut unheld = self.unheld.iter().filter(|(name, _)| *name == rule);
        let broken = unheld.any(|(_, what)| row.what.is_empty() || what == row.what || !is_one(what));
        let any = || row.denials.iter().map(|(layer, _)| (*layer).to_owned()).collect();
        match self.held_by.get(&rule) {
            _ if broken => None,
            Some(layers) if !layers.is_empty() => Some(layers.clone()),
            Some(_) => Some(any()),
            None => None,
        }
    }
}

impl std::fmt::Display for Promise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (rule, layers) in &self.held_by {
            let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
            writeln!(f, "  {rule}: {}", layers.join("+"))?;
        }
        self.unheld.iter().try_for_each(|(rule, what)| writeln!(f, "  {rule}: not held: {what}"))
    }
}

/// Whether it is one access or one word, of which a rule may have others that are held.
fn is_one(what: &str) -> bool {
    policy::settings::KERNEL.contains(&what) || policy::Access::ALL.iter().any(|one| one.to_string() == what)
}

/// What a line for people says that is not held of a rule: each word in it.
fn parts(rule: &str, said: &str) -> Vec<(String, String)> {
    let words: Vec<&str> =
        said.split('`').skip(1).step_by(2).filter(|word| !word.contains(['/', ' '])).collect();
    match words.as_slice() {
        [] => vec![(rule.to_owned(), String::new())],
        words => words.iter().map(|word| (rule.to_owned(), (*word).to_owned())).collect(),
    }
}

/// The same of a line of a run's, which names the rule itself; what is about layers and not about rules is nothing.
fn said(policy: &str, line: &str) -> Vec<(String, String)> {
    let named = line.split('`').skip(1).step_by(2).find(|word| word.contains('/') && !word.contains(' '));
    let network =
        line.starts_with("`network: default: deny`") || line.contains("the machine's network again");
    match named {
        Some(rule) => parts(rule, line),
        None if network => vec![(format!("{policy}/network.default"), String::new())],
        None => Vec::new(),
    }
}

/// The attempts on one policy.
struct Trial<'a> {
    cell: &'a Cell<'a>,
    scene: &'a Scene,
    machine: &'a Machine,
    policy: &'a Policy,
    file: &'a str,
    rows: Vec<&'a Row>,
    promise: &'a Promise,
}

/// What came of them.
#[derive(Default)]
struct Tried {
    refused: bool,
    met: usize,
    unclaimed: usize,
    wrong: Vec<String>,
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = if self.refused { "refused, and without what is not held" } else { "held" };
        write!(f, "{how}: {} denials met, {} not claimed", self.met, self.unclaimed)
    }
}

impl Trial<'_> {
    /// Each attempt, and its control behind it.
    fn steps(&self) -> Vec<String> {
        self.rows
            .iter()
            .flat_map(|row| [row.attempt, row.control])
            .map(|step| self.scene.fill(step))
            .collect()
    }

    /// An attempt proves something only where it works outside.
    fn free(&self) -> Result<()> {
        let steps = self.steps();
        self.machine.arrived();
        let output = self.scene.outside(&steps)?;
        let answers = self.answers(&output)?;
        for (row, (attempt, control)) in self.rows.iter().zip(answers) {
            ensure!(attempt == row.free, "{} gave {attempt} outside, not {}", row.attempt, row.free);
            ensure!(control == 0, "the control {} gave {control} outside", row.control);
        }
        let sent = steps.iter().filter(|step| step.starts_with("udp=")).count();
        let arrived = self.machine.arrived();
        ensure!(arrived == sent, "{arrived} of {sent} datagrams arrived");
        Ok(())
    }

    /// The errnos of attempts and controls.
    fn answers(&self, output: &str) -> Result<Vec<(i32, i32)>> {
        let errno = |line: &str| line.rsplit_once('\t').and_then(|(_, number)| number.parse::<i32>().ok());
        let all: Vec<i32> = output.lines().filter_map(errno).map(|number| -number).collect();
        ensure!(
            all.len() == 2 * self.rows.len(),
            "{} answers to {} rows:\n{output}",
            all.len(),
            self.rows.len()
        );
        Ok(all.chunks_exact(2).map(|two| (two[0], two[1])).collect())
    }

    fn start(&self, options: &[&str], steps: &[String]) -> Result<Output> {
        self.scene.make()?;
        let mut arguments = vec!["run"];
        arguments.extend(options);
        arguments.extend(["--enforce", self.file, "--", PROBE]);
        arguments.extend(steps.iter().map(String::as_str));
        self.scene.sandbox(&arguments)
    }

    /// Runs it as the promise says that it can be run.
    fn enforced(&self) -> Result<Tried> {
        let mut tried = Tried { refused: !self.promise.unheld.is_empty(), ..Tried::default() };
        if tried.refused {
            self.refused(&mut tried)?;
        }
        let options: &[&str] = if tried.refused { &["--best-effort"] } else { &[] };
        let before = self.cell.identity.runs()?;
        self.machine.arrived();
        let output = self.start(options, &self.steps())?;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.code() == Some(CANNOT_START) && !tried.refused {
            tried.wrong.push(format!("doctor says that all is held, and the run does not start: {stderr}"));
            return Ok(tried);
        }
        ensure!(output.status.code() == Some(0), "sandbox ended with {}: {stderr}\n{stdout}", output.status);
        self.judge(&self.answers(&stdout)?, &mut tried)?;
        let runs = self.cell.identity.runs()?;
        let mut new = runs.difference(&before);
        let directory = new.next().context("the run left no record")?;
        self.compare_record(directory, &mut tried)?;
        Ok(tried)
    }

    /// A run that does not start, and names what is not held.
    fn refused(&self, tried: &mut Tried) -> Result<()> {
        let started = format!("{}/work/started", self.scene.top);
        let output = self.start(&[], &[format!("touch={started}")])?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.code() != Some(CANNOT_START) || fs::exists(&started)? {
            tried
                .wrong
                .push(format!("doctor says that not all is held, and the run ended with {}", output.status));
            return Ok(());
        }
        ensure!(output.stdout.is_empty(), "a refused run printed something");
        let lines = stderr.lines().filter_map(|line| line.strip_prefix("  "));
        let names: Unheld = lines.flat_map(|line| said(self.policy.name, line)).collect();
        self.compare("the refusal", &names, tried);
        Ok(())
    }

    fn compare(&self, who: &str, names: &Unheld, tried: &mut Tried) {
        let show = |(rule, what): &(String, String)| format!("{rule} {what}");
        let more: Vec<String> = names.difference(&self.promise.unheld).map(show).collect();
        let less: Vec<String> = self.promise.unheld.difference(names).map(show).collect();
        if !more.is_empty() {
            tried.wrong.push(format!("not held by {who}, and not so by doctor: {}", more.join(", ")));
        }
        if !less.is_empty() {
            tried.wrong.push(format!("not held by doctor, and not so by {who}: {}", less.join(", ")));
        }
    }

    fn judge(&self, answers: &[(i32, i32)], tried: &mut Tried) -> Result<()> {
        let mut datagrams = 0;
        for (row, (attempt, control)) in self.rows.iter().zip(answers) {
            let rule = format!("{}/{}", self.policy.name, row.rule);
            ensure!(self.promise.held_by.contains_key(&rule), "doctor does not know of {rule}");
            let promised = self.promise.of(self.policy.name, row);
            if let Some(layers) = &promised {
                let known = row.denials.iter().filter(|(layer, _)| layers.contains(*layer));
                let right = known.flat_map(|(_, errnos)| *errnos).any(|errno| errno == attempt);
                if right {
                    tried.met += 1;
                } else {
                    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
                    tried.wrong.push(format!(
                        "{} `{}`, held by {}: {} gave {attempt}",
                        row.rule,
                        row.what,
                        layers.join("+"),
                        row.attempt
                    ));
                }
            } else {
                tried.unclaimed += 1;
            }
            if *control != 0 {
                tried.wrong.push(format!("the control {} gave {control}", row.control));
            }
            let udp = |step: &str| usize::from(step.starts_with("udp="));
            datagrams += udp(row.control) + if promised.is_none() { udp(row.attempt) } else { 0 };
        }
        let arrived = self.machine.arrived();
        if arrived > datagrams {
            tried.wrong.push(format!("{arrived} datagrams arrived, where {datagrams} may"));
        }
        Ok(())
    }

    /// The record names the same layers, and says the same of what is not held.
    fn compare_record(&self, directory: &Path, tried: &mut Tried) -> Result<()> {
        let meta: Value = serde_json::from_slice(&fs::read(directory.join("meta.json"))?)?;
        let layers = meta["layers"].as_array().context("meta.json names no layers")?;
        let works: BTreeSet<&str> =
            layers.iter().filter(|one| one["role"] != "off").filter_map(|one| one["name"].as_str()).collect();
        let log = Log::read(directory)?;
        let events = log.events()?;
        let first = events.first().context("the log is empty")?;
        let told: BTreeSet<String> = list(first.list("layers"));
        if !works.iter().copied().eq(told.iter().map(String::as_str)) {
            tried.wrong.push(format!("meta.json has the layers {works:?}, run_start {told:?}"));
        }
        for (rule, layers) in &self.promise.held_by {
            // What owners and modes keep is no layer of the run's.
            let missing =
                layers.iter().find(|layer| *layer != "permissions" && !works.contains(layer.as_str()));
            if let Some(layer) = missing {
                tried.wrong.push(format!("{rule} is held by {layer}, which the run has not: {works:?}"));
            }
        }
        let names = list(first.list("unheld")).iter().flat_map(|line| said(self.policy.name, line)).collect();
        self.compare("run_start", &names, tried);
        // Of two that hold a rule either may be asked first; a third there is not.
        // Where calls are judged as they are made, the record names who judged: who refused them is not known then.
        let held_by = self.promise.held_by.values().flatten().map(String::as_str);
        let named: BTreeSet<&str> = held_by.chain(works.get("notify").copied()).collect();
        for event in events.iter().filter(|event| text(event, "action") == "BLOCKED") {
            let (rule, layer) = (text(event, "policy_rule"), text(event, "layer"));
            if self.promise.held_by.contains_key(rule) && !named.contains(layer) {
                tried
                    .wrong
                    .push(format!("{rule} blocked something by {layer}, of which doctor knows nothing"));
            }
        }
        Ok(())
    }
}

fn list(items: Option<&[Vec<u8>]>) -> BTreeSet<String> {
    items.into_iter().flatten().map(|item| String::from_utf8_lossy(item).into_owned()).collect()
}
