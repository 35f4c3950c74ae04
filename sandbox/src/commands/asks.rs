//! `sandbox asks`: what waits for an answer, and the answers.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write};

use serde::Serialize;

use crate::asking::always::{self, Planned};
use crate::asking::{Answer, Open};
use crate::cli::{AllowArgs, AsksArgs, AsksCommand};
use crate::control::ask::{AskError, Talk};
use crate::error::{report, say};
use crate::exit::Exit;
use crate::record::meta::Meta;
use crate::record::store::Found;
use crate::review::{stores, text};
use crate::terminal::{self, Prompt, Typed};

/// A question, and whose it is.
#[derive(Debug, Serialize)]
struct Listed {
    run: String,
    #[serde(flatten)]
    open: Open,
    #[serde(skip)]
    found: Found,
}

/// Runs `sandbox asks`.
///
/// # Errors
/// There is no such run, or its runner cannot be talked to.
pub fn execute(args: &AsksArgs) -> anyhow::Result<Exit> {
    let listed = open(args.of.as_deref())?;
    match &args.answer {
        Some(AsksCommand::Allow(AllowArgs { number, always: true, .. })) => {
            with(&listed, *number, |question| lasting(question, |_| Ok(true)))
        }
        Some(AsksCommand::Allow(AllowArgs { number, run, .. })) => {
            let answer = if *run { Answer::Run } else { Answer::Once };
            with(&listed, *number, |question| settle(question, answer))
        }
        Some(AsksCommand::Deny { number }) => {
            with(&listed, *number, |question| settle(question, Answer::Deny))
        }
        None if args.json => {
            for question in &listed {
                print(&(text::json(&serde_json::to_string(question)?) + "\n"))?;
            }
            Ok(Exit::SUCCESS)
        }
        None if listed.is_empty() => {
            say("no question is open");
            Ok(Exit::SUCCESS)
        }
        None if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() => interact(&listed),
        None => {
            print(&table(&listed))?;
            Ok(Exit::SUCCESS)
        }
    }
}

/// The questions of one run, or of all that can be talked to.
fn open(run: Option<&str>) -> anyhow::Result<Vec<Listed>> {
    let stores = stores();
    let runs = match run {
        Some(run) => vec![stores.find(run)?],
        None => stores.runs()?,
    };
    let (mut listed, mut refused) = (Vec::new(), None);
    for found in runs {
        if Meta::read(&found.path).is_ok_and(|meta| meta.end.is_some()) {
            continue;
        }
        match of_run(&found) {
            Ok(questions) => listed.extend(questions),
            // It has ended, or asks nothing.
            Err(AskError::Nobody) => {}
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if listed.is_empty() => Err(error.into()),
        _ => Ok(listed),
    }
}

/// The questions of one run.
fn of_run(found: &Found) -> Result<Vec<Listed>, AskError> {
    let open = Talk::begin(&found.path).and_then(Talk::questions)?;
    let listed = |open| Listed { run: found.id.clone(), open, found: found.clone() };
    Ok(open.into_iter().map(listed).collect())
}

/// Answers the question of this number, if there is one and no other.
fn with(
    listed: &[Listed],
    number: u64,
    answer: impl FnOnce(&Listed) -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    let mut meant = listed.iter().filter(|question| question.open.number == number);
    let Some(question) = meant.next() else {
        say(&format!("there is no open question {number}"));
        return Ok(Exit::FAILURE);
    };
    let others: Vec<&str> = meant.map(|other| other.run.as_str()).collect();
    if !others.is_empty() {
        say(&format!(
            "several runs have an open question {number}: {}, {}; say which with --of RUN",
            question.run,
            others.join(", ")
        ));
        return Ok(Exit::FAILURE);
    }
    answer(question)
}

fn settle(question: &Listed, answer: Answer) -> anyhow::Result<Exit> {
    let told = Talk::begin(&question.found.path).and_then(|talk| talk.answer(question.open.number, answer));
    match told {
        Ok(told) => {
            let lines: Vec<String> = told.lines().map(|line| text::safe(line.as_bytes())).collect();
            print(&format!("{}: {}\n", question.run, lines.join("\n")))?;
            Ok(Exit::SUCCESS)
        }
        Err(AskError::Refused(message)) => {
            say(&format!("{}: {}", question.run, text::safe(message.as_bytes())));
            Ok(Exit::FAILURE)
        }
        Err(error) => Err(error.into()),
    }
}

/// Allows what a question asks, for the run and by a rule in its policy's file for all that follow. What is to be written is
/// shown first, and written where `wanted` says so; where it cannot be, nothing is answered.
fn lasting(question: &Listed, wanted: impl FnOnce(&Planned) -> anyhow::Result<bool>) -> anyhow::Result<Exit> {
    let run = &question.run;
    let not_written = |why: &str| {
        say(&format!("{run}: not answered, since nothing can be written: {}", text::safe(why.as_bytes())));
        Ok(Exit::FAILURE)
    };
    let talk = Talk::begin(&question.found.path)?;
    let variables = talk.variables().clone();
    let about = match talk.about(question.open.number) {
        Ok(about) => about,
        Err(AskError::Refused(message)) => return not_written(&message),
        Err(error) => return Err(error.into()),
    };
    let planned = match always::plan(&about, &variables) {
        Ok(planned) => planned,
        Err(error) => return not_written(&error.to_string()),
    };
    let file = text::safe(about.file().as_os_str().as_encoded_bytes());
    let mut lines = format!("{file}:\n");
    for line in planned.changes() {
        let _ = writeln!(lines, "  {}", text::safe(line.as_bytes()));
    }
    print(&lines)?;
    if !wanted(&planned)? {
        return Ok(Exit::SUCCESS);
    }
    let sha256 = planned.sha256();
    let staged = match planned.stage() {
        Ok(staged) => staged,
        Err(error) => return not_written(&error.to_string()),
    };
    // First the run: what it refuses is not written, and what is written stands in its record.
    let exit = settle(question, Answer::Always { sha256 })?;
    if exit.code() != 0 {
        say(&format!("{file} is as it was"));
        return Ok(exit);
    }
    match staged.put() {
        Ok(()) => print(&format!("wrote {file}\n"))?,
        Err(error) => {
            let why = error.to_string();
            say(&format!("{run}: allowed for this run only: {}", text::safe(why.as_bytes())));
            return Ok(Exit::FAILURE);
        }
    }
    Ok(exit)
}

/// What is asked of whoever is at a terminal.
const ANSWERS: &str = "allow [o]nce, for this [r]un, [a]lways, [d]eny, or leave it? ";

/// Goes through the questions, and takes an answer to each.
fn interact(listed: &[Listed]) -> anyhow::Result<Exit> {
    let mut exit = Exit::SUCCESS;
    for question in listed {
        print(&format!("{}{ANSWERS}", told(question)))?;
        let Typed::Line(line) = typed()? else {
            print("\n")?;
            break;
        };
        if let Some(done) = answered(question, &line, &mut typed)?
            && done.code() != 0
        {
            exit = Exit::FAILURE;
        }
    }
    Ok(exit)
}

/// Does what was typed as the answer to a question; nothing, where it is none.
fn answered(
    question: &Listed,
    line: &str,
    typed: &mut dyn FnMut() -> std::io::Result<Typed>,
) -> anyhow::Result<Option<Exit>> {
    Ok(Some(match line {
        "o" | "once" => settle(question, Answer::Once)?,
        "r" | "run" => settle(question, Answer::Run)?,
        "a" | "always" => lasting(question, |_| {
            print("  write it, and allow it from now on? [y]es, or leave it: ")?;
            loop {
                match typed()? {
                    Typed::Line(line) => return Ok(["y", "yes"].contains(&line.as_str())),
                    Typed::Changed => {}
                    Typed::Left => return Ok(false),
                }
            }
        })?,
        "d" | "deny" => settle(question, Answer::Deny)?,
        _ => return Ok(None),
    }))
}

/// What somebody types on stdin.
fn typed() -> std::io::Result<Typed> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line)?;
    Ok(if read == 0 { Typed::Left } else { Typed::Line(line.trim().to_owned()) })
}

/// The questions of a run on its own terminal: each is put once.
#[derive(Debug, Default)]
pub struct OnTerminal {
    put: BTreeSet<u64>,
}

impl OnTerminal {
    /// Puts one that was not put yet; gives whether there was one.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn put(&mut self, run: &terminal::Here, prompt: &mut dyn Prompt) -> std::io::Result<bool> {
        let found = Found { id: run.run.clone(), path: run.directory.clone() };
        let open = || of_run(&found).unwrap_or_default();
        let next = open().into_iter().find(|listed| !self.put.contains(&listed.open.number));
        let Some(question) = next else { return Ok(false) };
        let number = question.open.number;
        if !prompt.begin()? {
            // Later, or elsewhere.
            return Ok(true);
        }
        self.put.insert(number);
        std::io::stdout().lock().write_all(terminal::readable())?;
        terminal::forget_typed()?;
        print(&format!("\nsandbox: a question, put by the runner:\n{}{ANSWERS}", told(&question)))?;
        let stays_open = format!("question {number} stays open: `sandbox asks` answers it\n");
        loop {
            match prompt.line()? {
                Typed::Line(line) => match answered(&question, &line, &mut || prompt.line()) {
                    Ok(Some(_)) => break,
                    Ok(None) if line.is_empty() => {
                        print(&stays_open)?;
                        break;
                    }
                    Ok(None) => print(&format!("o, r, a or d? {ANSWERS}"))?,
                    Err(error) => {
                        _ = report(&error, Exit::FAILURE);
                        break;
                    }
                },
                Typed::Changed if open().iter().any(|listed| listed.open.number == number) => {}
                Typed::Changed => {
                    print(&format!("\nquestion {number} is closed: answered elsewhere, or out of time\n"))?;
                    break;
                }
                Typed::Left => {
                    print(&stays_open)?;
                    break;
                }
            }
        }
        Ok(true)
    }
}

fn table(listed: &[Listed]) -> String {
    listed.iter().map(told).collect()
}

/// A question, in lines for people. What programs chose is never printed as it is.
fn told(question: &Listed) -> String {
    let open = &question.open;
    let safe = |text: &str| text::safe(text.as_bytes());
    let mut lines = format!("{:>4}  {} ({} s left)\n", open.number, safe(&open.act), open.seconds_left);
    let _ = writeln!(lines, "      by {} (pid {}) in {}", safe(&open.program), open.pid, question.run);
    let rules: Vec<String> = open.rules.iter().map(|rule| safe(rule)).collect();
    let because = open.because.as_ref().map(|because| format!(": {}", safe(because))).unwrap_or_default();
    let _ = writeln!(lines, "      {}{because}", rules.join(", "));
    if open.waiting > 1 {
        let _ = writeln!(lines, "      {} more calls wait behind it", open.waiting - 1);
    }
    lines
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
