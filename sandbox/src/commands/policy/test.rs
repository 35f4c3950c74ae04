//! `sandbox policy test`: the examples of a policy, one by one.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;
use policy::examples::{Examples, Outcome};
use serde::Serialize;

use super::{Place, print, print_json};
use crate::cli::PolicyTestArgs;
use crate::exit::Exit;
use crate::launch::policy::read;
use crate::review::text::safe;

/// One example, for programs.
#[derive(Serialize)]
struct Tried<'a> {
    file: String,
    line: u32,
    example: &'a str,
    passed: bool,
    wanted: &'static str,
    wanted_rule: Option<&'a str>,
    found: &'static str,
    rule: &'a str,
    because: Option<&'a str>,
}

pub fn execute(args: &PolicyTestArgs) -> anyhow::Result<Exit> {
    let place = Place::here(&args.place)?;
    let policy = place.read(&args.file)?;
    let mut all: Vec<(&Path, Vec<Outcome>)> = vec![(&args.file, policy.try_examples().collect())];
    let variables = place.variables()?;
    for file in &args.examples {
        let bytes = read(file).with_context(|| format!("cannot read the examples {}", file.display()))?;
        let examples = Examples::parse(&file.display().to_string(), &bytes, &variables)?;
        all.push((file, policy.try_others(&examples).collect()));
    }
    let count = all.iter().map(|(_, outcomes)| outcomes.len()).sum::<usize>();
    let failed = all.iter().flat_map(|(_, outcomes)| outcomes).filter(|outcome| !outcome.passed).count();
    let mut text = String::new();
    for (file, outcomes) in &all {
        for outcome in outcomes {
            match args.json {
                true => print_json(&tried(file, outcome))?,
                false => tell(&mut text, file, outcome),
            }
        }
    }
    if !args.json {
        let verdict = match (count, failed) {
            (0, _) => "there are no examples: nothing was tried".to_owned(),
            (1, 0) => "the example holds".to_owned(),
            (count, 0) => format!("all {count} examples hold"),
            (count, failed) => format!("{failed} of {count} examples failed"),
        };
        let _ = writeln!(text, "{verdict}");
        print(&text)?;
    }
    Ok(if failed == 0 { Exit::SUCCESS } else { Exit::FAILURE })
}

fn shown(file: &Path) -> String {
    safe(file.as_os_str().as_bytes())
}

fn tried<'a>(file: &Path, outcome: &'a Outcome) -> Tried<'a> {
    Tried {
        file: shown(file),
        line: outcome.line,
        example: &outcome.text,
        passed: outcome.passed,
        wanted: outcome.wanted.name(),
        wanted_rule: outcome.wanted_rule.as_deref(),
        found: outcome.found.name(),
        rule: outcome.rule.as_str(),
        because: outcome.because.as_deref(),
    }
}

/// One line; where it failed, one more for each side.
fn tell(text: &mut String, file: &Path, outcome: &Outcome) {
    let Outcome { line, found, rule, .. } = outcome;
    let word = if outcome.passed { "ok    " } else { "FAILED" };
    let _ = writeln!(text, "{word} {}:{line}: {}", shown(file), outcome.text);
    if outcome.passed {
        return;
    }
    let by = outcome.wanted_rule.as_ref().map(|rule| format!(" by {rule}")).unwrap_or_default();
    let _ = writeln!(text, "       wanted {}{by}", outcome.wanted);
    let because = outcome.because.as_ref().map(|because| format!(", because {because}")).unwrap_or_default();
    let _ = writeln!(text, "       found {found} by {rule}{because}");
}
