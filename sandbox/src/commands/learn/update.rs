//! `sandbox learn --update`: what more runs needed is added to a policy's own text, rule by rule as a person decides.
//!
//! Nothing that is there is changed, and the file is replaced at once, or not at all.

use std::fs;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use policy::Variables;
use policy::edit::{EditError, add_rule, free_name, taken_names};
use policy::learn::LearnedRule;

use super::{Frame, gathered, learned, quoted, strictness, tell};
use crate::cli::LearnArgs;
use crate::exit::Exit;
use crate::launch::policy::{read_text, reference};

/// Adds to the policy what the runs needed besides, as far as whoever is asked wants it. Status 1: something of it is
/// not allowed by the policy.
///
/// # Errors
/// A run or the policy cannot be read, the policy ships with the program, or it cannot be written; then it is as before.
pub fn execute(args: &LearnArgs, policy: &Path) -> anyhow::Result<Exit> {
    // Reading it could wait for ever.
    if fs::metadata(policy).is_ok_and(|found| !found.is_file()) {
        bail!("{} is no regular file", policy.display());
    }
    if !reference(policy)?.contains('/') {
        bail!(
            "{0} ships with this program; make one of your own that extends it: sandbox learn --base {0} -o FILE RUN\u{2026}",
            policy.display()
        );
    }
    let path = fs::canonicalize(policy).with_context(|| format!("cannot find {}", policy.display()))?;
    let mut text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", policy.display()))?;
    let before = text.clone();
    let gathered = gathered(&args.runs)?;
    let read = |text: &str, variables: &Variables| read_text(&path, text, variables);
    let none = Variables::new();
    let own = read(&text, gathered.first().map_or(&none, |run| &run.variables))?;
    let base = quoted(&path)?;
    // Beside it, and never there.
    let file = path.with_file_name("learned.yaml");
    let defaults = [own.files().default(), own.exec().default(), own.network().default()];
    let frame = Frame { name: "learned", base: &base, file: &file, defaults };
    let learned = learned(&gathered, &frame, strictness(args.strictness))?;
    tell(&gathered, &learned);
    let mut names = taken_names(&own);
    let mut ask = Asking::new(args.yes);
    let (mut added, mut left) = (0usize, 0usize);
    let mut shown: Vec<&LearnedRule> = learned.rules.iter().rev().collect();
    while let Some(rule) = shown.pop() {
        let mut taken = names.clone();
        let name = free_name(&rule.name, &mut taken);
        show(rule, &name);
        match ask.wants(!rule.parts.is_empty())? {
            Wanted::All => {}
            Wanted::Some => {
                shown.extend(rule.parts.iter().rev());
                continue;
            }
            Wanted::None => {
                left += 1;
                continue;
            }
        }
        match add_rule(&text, rule.section, &rule.text(&name)) {
            Ok(more) => {
                names = taken;
                text = more;
                added += 1;
            }
            Err(error @ EditError::Form(_)) => {
                eprintln!("  {error}");
                left += 1;
            }
            Err(error) => return Err(error).context("cannot add the rule"),
        }
    }
    let words: Vec<&str> = learned
        .words
        .iter()
        .copied()
        .filter(|word| !own.settings().kernel_allowed().contains(word))
        .collect();
    if !words.is_empty() {
        eprintln!("to be added by hand: kernel: {{ allow: [{}] }}", words.join(", "));
        left += words.len();
    }
    if added > 0 {
        for run in &gathered {
            read(&text, &run.variables).context("with these rules it is no policy; nothing was written")?;
        }
        replace(&path, &before, &text)?;
        eprintln!("wrote {}: {added} more {}", policy.display(), if added == 1 { "rule" } else { "rules" });
    }
    // What a rule denies stays denied.
    let denied = learned.confidence.denied > 0;
    match (added, left) {
        (0, 0) if denied => eprintln!("nothing to add: what is left out above stays denied"),
        (0, 0) => eprintln!("nothing to add: the policy allows what these runs needed"),
        (_, 0) => {}
        (_, left) if ask.nobody => {
            eprintln!(
                "{left} not added: nobody is there to be asked; at a terminal: sandbox learn --update {} {}; with --yes \
                 all are added",
                policy.display(),
                args.runs.join(" ")
            );
        }
        (_, left) => eprintln!("{left} not added"),
    }
    Ok(if left == 0 && !denied { Exit::SUCCESS } else { Exit::FAILURE })
}

fn show(rule: &LearnedRule, name: &str) {
    eprintln!("{}:", rule.section.name());
    rule.text(name).lines().for_each(|line| eprintln!("+ {line}"));
}

/// What of a rule is to be added.
enum Wanted {
    All,
    /// Each of its objects is asked about.
    Some,
    None,
}

/// Who decides.
struct Asking {
    /// What is decided for all that follow.
    all: Option<bool>,
    /// Whether nobody is there to decide.
    nobody: bool,
}

impl Asking {
    fn new(yes: bool) -> Self {
        let somebody = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        match (yes, somebody) {
            (true, _) => Self { all: Some(true), nobody: false },
            (false, true) => Self { all: None, nobody: false },
            (false, false) => Self { all: Some(false), nobody: true },
        }
    }

    /// Whether a rule that was shown, and `has_parts` or not, is to be added. The end of the input means no.
    fn wants(&mut self, has_parts: bool) -> anyhow::Result<Wanted> {
        let split = if has_parts { ", [s]plit" } else { "" };
        loop {
            match self.all {
                Some(true) => return Ok(Wanted::All),
                Some(false) => return Ok(Wanted::None),
                None => {}
            }
            eprint!("  add it? [y]es, [n]o{split}, [a]ll that follow, [q]uit: ");
            std::io::stderr().flush().context("cannot ask")?;
            let mut answer = String::new();
            std::io::stdin().lock().read_line(&mut answer).context("cannot hear an answer")?;
            match answer.trim() {
                "y" | "yes" => return Ok(Wanted::All),
                "n" | "no" => return Ok(Wanted::None),
                "s" | "split" if has_parts => return Ok(Wanted::Some),
                "a" | "all" => self.all = Some(true),
                "q" | "quit" => self.all = Some(false),
                "" if answer.is_empty() => self.all = Some(false),
                _ => {}
            }
        }
    }
}

/// Puts a text in the place of another one in a file, with its owner and mode.
fn replace(path: &PathBuf, before: &str, after: &str) -> anyhow::Result<()> {
    let told = || format!("cannot write {}", path.display());
    let found = fs::metadata(path).with_context(told)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(told)?;
    file.write_all(after.as_bytes()).with_context(told)?;
    let own = file.as_file().metadata().with_context(told)?;
    if (own.uid(), own.gid()) != (found.uid(), found.gid()) {
        std::os::unix::fs::fchown(file.as_file(), Some(found.uid()), Some(found.gid())).with_context(told)?;
    }
    file.as_file().set_permissions(found.permissions()).with_context(told)?;
    file.as_file().sync_all().with_context(told)?;
    if fs::read(path).with_context(told)? != before.as_bytes() {
        bail!("{} was changed by somebody else meanwhile; nothing was written", path.display());
    }
    file.persist(path).with_context(told)?;
    Ok(())
}
