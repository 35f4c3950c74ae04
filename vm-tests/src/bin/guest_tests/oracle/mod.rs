//! The kernel's verdicts against the oracle's: generated policies, generated attempts under each, and for every
//! one of them the errno and the record that `policy::evaluate` asks for.
//!
//! Everything follows from a seed, which a failure prints: 1, or what `VM_TESTS_SEED` says. What a call needs
//! beyond single accesses is written down in [`model`].

mod attempts;
mod model;
mod network;
mod paths;
mod policies;
mod random;
mod record;
mod tree;

use crate::run::{self, Finished};
use crate::{Trial, WORK, write};
use anyhow::{Context, Result, bail, ensure};
use attempts::{ACTORS, Attempt, Plan};
use model::{Expected, Line, Model};
use network::Listeners;
use policy::{Policy, Variables};
use random::Random;
use std::collections::BTreeMap;
use vm_tests::{batch, wire};

pub const TRIALS: &[Trial] =
    &[("one policy after the other", one_after_the_other), ("several policies at once", at_once)];

/// Policies that are tried one after the other. Starting a run is what takes time here, so each has rules of its own
/// for each of so many directories.
const POLICIES: u64 = 3;
const REGIONS: usize = 16;
/// Attempts on files in each directory, and on addresses.
const FILES: usize = 36;
const NETWORK: usize = 200;
/// Pairs of a policy and an attempt that must at least be compared one after the other.
const PAIRS: usize = 2000;

/// Policies that hold at the same time, for so many directories.
const AT_ONCE: u64 = 2;
const REGIONS_AT_ONCE: usize = 4;
/// Times that each run of these makes its attempts.
const ROUNDS: usize = 3;

fn one_after_the_other() -> Result<()> {
    let listeners = Listeners::start()?;
    let mut tally = Tally::default();
    let mut failures = Vec::new();
    for number in 0..POLICIES {
        let seed = seed()? * 1000 + number;
        let case = Case::generate(seed, &format!("p{number}"))?;
        if let Err(error) = case.try_one(&listeners, &mut tally) {
            let text = if failures.is_empty() { shortened(&case.text) } else { String::new() };
            failures.push(format!("seed {seed}: {error:?}\n{text}"));
        }
    }
    // One policy is enough to begin with.
    ensure!(failures.is_empty(), "{} policies fail\n{}", failures.len(), failures.join("\n"));
    println!("       {tally:?}");
    let Tally { denied, allowed, moved, stayed } = tally;
    ensure!(denied + allowed >= PAIRS, "only {} pairs", denied + allowed);
    ensure!(denied >= PAIRS / 4 && allowed >= PAIRS / 4, "the pairs are lopsided");
    ensure!(moved + stayed > 0, "no directory was free to move");
    Ok(())
}

/// Each run has a policy of its own, and all make the same attempts at the same time, some times over.
fn at_once() -> Result<()> {
    let seed = seed()? * 1000 + 500;
    let regions = paths::regions(REGIONS_AT_ONCE);
    let plan = Plan::generate(&mut Random::new(seed), &regions, 20, 100);
    let mut cases = Vec::new();
    for number in 0..AT_ONCE {
        let name = format!("q{number}");
        let text = policies::generate(&mut Random::new(seed + 1 + number), &name, &regions, &plan);
        cases.push(Case::new(plan.clone(), name, text)?);
    }
    let about = || format!("seed {seed}");
    let disagree = |at: usize| cases.iter().map(|case| case.denies(at)).collect::<Vec<_>>();
    let contested = (0..plan.attempts.len())
        .map(disagree)
        .filter(|all| all.contains(&true) && all.contains(&false))
        .count();
    ensure!(contested >= 15, "the policies agree but for {contested} attempts: {}", about());
    plan.tree.make()?;
    let go = format!("{WORK}/at-once.go");
    let mut runs = Vec::new();
    for case in &cases {
        let ready = format!("{WORK}/{}.ready", case.name);
        let mut steps = vec![format!("touch={ready}"), format!("wait={go}")];
        steps.extend(case.steps(ROUNDS)?);
        let run = case.start(&steps)?;
        runs.push(run.once("the command starts", || Ok(std::fs::exists(&ready)?)).with_context(about)?);
    }
    // All policies hold by now, and none of the runs ends before this.
    std::fs::write(&go, "")?;
    let finished: Vec<Finished> = runs.into_iter().map(run::Run::finish).collect::<Result<_>>()?;
    let mut tally = Tally::default();
    for (case, finished) in cases.iter().zip(&finished) {
        if let Err(error) = case.check(finished, ROUNDS, &mut tally) {
            // The policy last: it is long, and what is printed of a failure may be cut.
            bail!("{}: {error:?}\n{}", about(), shortened(&case.text));
        }
    }
    println!("       {tally:?}, {contested} attempts contested");
    Ok(())
}

/// What was compared.
#[derive(Debug, Default)]
struct Tally {
    denied: usize,
    allowed: usize,
    /// Moves of directories, which the oracle leaves open.
    moved: usize,
    stayed: usize,
}

/// One policy, and what is tried under it.
struct Case {
    name: String,
    text: String,
    policy: Policy,
    plan: Plan,
}

impl Case {
    fn generate(seed: u64, name: &str) -> Result<Case> {
        let mut random = Random::new(seed);
        let regions = paths::regions(REGIONS);
        let mut plan = Plan::generate(&mut random, &regions, FILES, 35);
        plan.speak(&mut random, NETWORK);
        let text = policies::generate(&mut random, name, &regions, &plan);
        Case::new(plan, name.to_owned(), text).with_context(|| format!("seed {seed}"))
    }

    fn new(plan: Plan, name: String, text: String) -> Result<Case> {
        let policy = match Policy::parse(&name, &text, &Variables::new()) {
            Ok(policy) => policy,
            Err(errors) => bail!("the generated policy is wrong: {errors}\n{text}"),
        };
        Ok(Case { name, text, policy, plan })
    }

    /// Outside a run everything succeeds; inside, what the oracle says.
    fn try_one(&self, listeners: &Listeners, tally: &mut Tally) -> Result<()> {
        self.plan.tree.make()?;
        let steps = self.steps(1)?;
        let outside = self.answers(&run::outside(&as_str(&steps))?)?;
        let failed = self.plan.attempts.iter().zip(&outside).filter(|(_, results)| results[0] != 0);
        let failed: Vec<String> =
            failed.map(|(attempt, results)| format!("  {} gave {}", attempt.show(), results[0])).collect();
        ensure!(failed.is_empty(), "fails without a policy:\n{}", failed.join("\n"));
        listeners.expect(&self.plan.attempts)?;
        self.plan.tree.make()?;
        let finished = self.start(&steps)?.finish()?;
        let results = self.check(&finished, 1, tally)?;
        let arrived = self.plan.attempts.iter().zip(&results).filter(|(_, result)| **result == 0);
        listeners.expect(arrived.map(|(attempt, _)| attempt))?;
        for (attempt, result) in self.plan.attempts.iter().zip(&results) {
            for (path, there) in model::afterwards(attempt, *result) {
                let found = tree::exists(path);
                ensure!(found == there, "{}: {} is there: {found}", attempt.show(), path.escape_ascii());
            }
        }
        Ok(())
    }

    /// Whether the oracle denies an attempt.
    fn denies(&self, at: usize) -> bool {
        let attempt = &self.plan.attempts[at];
        matches!(Model::new(&self.policy, attempt.actor).expect(attempt), Expected::Answer(result, _) if result != 0)
    }

    /// The file of an actor's attempts.
    fn batch(&self, actor: usize) -> String {
        format!("{WORK}/{}.{actor}", self.name)
    }

    /// The probe's steps: each actor's attempts, some times over.
    fn steps(&self, rounds: usize) -> Result<Vec<String>> {
        let mut steps = Vec::new();
        for (actor, (program, _)) in ACTORS.iter().enumerate() {
            let file = self.batch(actor);
            let own = self.plan.attempts.iter().filter(|attempt| attempt.actor == actor);
            let own: Vec<batch::Attempt> = own.map(Attempt::for_probe).collect();
            std::fs::write(&file, batch::encode(&own))?;
            if actor > 0 {
                steps.push(format!("within={program}"));
            }
            steps.extend(std::iter::repeat_n(format!("batch={file}"), rounds));
        }
        Ok(steps)
    }

    fn start(&self, steps: &[String]) -> Result<run::Run> {
        let file = write(&format!("{}.yaml", self.name), &self.text)?;
        let options = ["--enforce", &file, "--require", "lsm"];
        run::start(&format!("oracle-{}", self.name), &options, &as_str(steps))
    }

    /// The results of each attempt, one for every round.
    fn answers(&self, stdout: &str) -> Result<Vec<Vec<i32>>> {
        let mut found: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for line in stdout.lines() {
            let (attempt, result) =
                line.split_once('\t').with_context(|| format!("the probe said {line:?}"))?;
            found.entry(attempt).or_default().push(result.parse()?);
        }
        let mut next = [0; ACTORS.len()];
        let number_in_batch = self.plan.attempts.iter().map(|attempt| {
            next[attempt.actor] += 1;
            format!("{}:{}", self.batch(attempt.actor), next[attempt.actor] - 1)
        });
        number_in_batch
            .map(|key| found.remove(key.as_str()).with_context(|| format!("the probe did not try {key}")))
            .collect()
    }

    /// Compares answers and record with the oracle; gives the results of the last round.
    fn check(&self, finished: &Finished, rounds: usize, tally: &mut Tally) -> Result<Vec<i32>> {
        finished.expect_code(0)?;
        let answers = self.answers(&finished.stdout)?;
        let mut lines: Vec<Line> = Vec::new();
        let mut wrong = Vec::new();
        for (attempt, results) in self.plan.attempts.iter().zip(&answers) {
            ensure!(results.len() == rounds, "{}: {results:?}", attempt.show());
            let expected = Model::new(&self.policy, attempt.actor).expect(attempt);
            for result in results {
                let (right, what, seen) = match &expected {
                    Expected::Answer(answer, lines) => {
                        (result == answer, answer.to_string(), lines.as_slice())
                    }
                    Expected::MoveOrNot { harmful, lines } if *result == 0 => {
                        (!harmful, "to stay".to_owned(), &lines[..1])
                    }
                    Expected::MoveOrNot { lines, .. } => {
                        (*result == -libc::EACCES, "EACCES".to_owned(), &lines[1..])
                    }
                };
                match (&expected, result) {
                    (Expected::Answer(0, _), _) => tally.allowed += 1,
                    (Expected::Answer(..), _) => tally.denied += 1,
                    (Expected::MoveOrNot { .. }, 0) => tally.moved += 1,
                    (Expected::MoveOrNot { .. }, _) => tally.stayed += 1,
                }
                lines.extend(seen.iter().cloned());
                if !right {
                    let rules: Vec<&str> = seen.iter().map(|line| line.rule.as_str()).collect();
                    wrong.push(format!("  {}: expected {what} by {rules:?}, found {result}", attempt.show()));
                }
            }
        }
        if !wrong.is_empty() {
            let told = record::unruled(&finished.log()?)?;
            bail!("{} answers differ\n{}\ndenied by no rule:\n{told}", wrong.len(), wrong.join("\n"));
        }
        record::compare(&finished.log()?, &lines)?;
        finished.expect_verdict(0)?;
        Ok(answers.into_iter().filter_map(|results| results.last().copied()).collect())
    }
}

/// What everything is generated from.
fn seed() -> Result<u64> {
    let cmdline = std::fs::read_to_string("/proc/cmdline")?;
    let given = cmdline.split_whitespace().find_map(|word| word.strip_prefix(wire::SEED));
    given.map_or(Ok(1), |seed| seed.parse().with_context(|| format!("the seed {seed:?}")))
}

fn as_str(steps: &[String]) -> Vec<&str> {
    steps.iter().map(String::as_str).collect()
}

/// A policy for people: names of thousands of bytes make no difference to see.
fn shortened(text: &str) -> String {
    let cut = |line: &str| match line.char_indices().nth(400) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    };
    text.lines().map(cut).collect::<Vec<_>>().join("\n")
}
