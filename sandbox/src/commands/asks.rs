//! `sandbox asks`: what waits for an answer, and the answers.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write};

use serde::Serialize;

use crate::asking::{Answer, Open};
use crate::cli::{AllowArgs, AsksArgs, AsksCommand};
use crate::control::ask::{AskError, Talk};
use crate::error::say;
use crate::exit::Exit;
use crate::record::meta::Meta;
use crate::record::store::Found;
use crate::review::{stores, text};

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
        Some(AsksCommand::Allow(AllowArgs { number, run, .. })) => {
            answer(&listed, *number, if *run { Answer::Run } else { Answer::Once })
        }
        Some(AsksCommand::Deny { number }) => answer(&listed, *number, Answer::Deny),
        None if args.json => {
            for question in &listed {
                print(&format!("{}\n", serde_json::to_string(question)?))?;
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
        match Talk::begin(&found.path).and_then(Talk::questions) {
            Ok(questions) => listed.extend(questions.into_iter().map(|open| Listed {
                run: found.id.clone(),
                open,
                found: found.clone(),
            })),
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

fn answer(listed: &[Listed], number: u64, answer: Answer) -> anyhow::Result<Exit> {
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
    settle(question, answer)
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

/// Goes through the questions, and takes an answer to each.
fn interact(listed: &[Listed]) -> anyhow::Result<Exit> {
    let mut exit = Exit::SUCCESS;
    for question in listed {
        print(&format!("{}allow [o]nce, for this [r]un, [d]eny, or leave it? ", told(question)))?;
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line)? == 0 {
            print("\n")?;
            break;
        }
        let answer = match line.trim() {
            "o" | "once" => Answer::Once,
            "r" | "run" => Answer::Run,
            "d" | "deny" => Answer::Deny,
            _ => continue,
        };
        if settle(question, answer)?.code() != 0 {
            exit = Exit::FAILURE;
        }
    }
    Ok(exit)
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
