//! What was learned as text: rules that a person could have written, each with how often it was needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::lessons::Draft;
use super::needs::Detail;
use super::place::Root;
use super::tree::Grant;
use super::{LearnedRule, LeftOut, Options, Tally};
use crate::access::{Access, AccessSet, SectionKind};
use crate::document::is_invisible;
use crate::edit::free_name;
use crate::print::quoted;

/// Longest line before a list is broken into several.
const WIDTH: usize = 110;
/// How far a rule stands in.
const INDENT: usize = 4;
/// Programs that a comment names.
const NAMED: usize = 4;
/// What is left out that is listed one by one.
const LISTED: usize = 500;

/// The policy without a head; `written` gives a rule by its name.
pub(super) fn policy(
    rules: &[LearnedRule],
    words: &BTreeSet<&'static str>,
    options: &Options<'_>,
    written: impl Fn(&LearnedRule, &str) -> String,
) -> String {
    let mut out = format!("version: 1\nname: {}\nextends: [{}]\n", options.name, options.base);
    for section in SectionKind::ALL {
        let _ = writeln!(out, "\n{}:\n  default: deny", section.name());
        let mut rules = rules.iter().filter(|rule| rule.section == section).peekable();
        if rules.peek().is_some() {
            out.push_str("  rules:\n");
        }
        for rule in rules {
            written(rule, &rule.name).lines().for_each(|line| _ = writeln!(out, "{:INDENT$}{line}", ""));
        }
    }
    if !words.is_empty() {
        let words: Vec<&str> = words.iter().copied().collect();
        let _ = writeln!(out, "\nkernel: {{ allow: [{}] }}", words.join(", "));
    }
    out
}

/// The policy with what is to be said of it, and with what it leaves out.
pub(super) fn with_head(about: &[String], text: String, left_out: &[LeftOut], runs: usize) -> String {
    let mut out = String::new();
    about.iter().for_each(|line| _ = writeln!(out, "# {}", comment(line)));
    if !left_out.is_empty() {
        let _ = writeln!(out, "#\n# Left out, although it was seen:");
        for left in left_out.iter().take(LISTED) {
            let _ = writeln!(out, "#   {}", comment(&left.line(runs)));
        }
        if left_out.len() > LISTED {
            let _ = writeln!(out, "#   and {} more", left_out.len() - LISTED);
        }
    }
    out + &text
}

/// One line, whatever a name holds.
fn comment(text: &str) -> String {
    let shown = |c: char| if c.is_control() || is_invisible(c) { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

impl LeftOut {
    /// As a person reads it.
    pub fn line(&self, runs: usize) -> String {
        let accesses: Vec<&str> = self.tally.accesses.iter().map(Access::name).collect();
        let mut line = accesses.join(", ");
        if !line.is_empty() {
            line.push(' ');
        }
        let _ = write!(line, "{} ({})", self.object, told(&self.tally, runs));
        if let Some(rule) = &self.rule {
            let _ = write!(line, ": {rule}");
        }
        if let Some(because) = &self.because {
            let _ = write!(line, ": {because}");
        }
        line
    }
}

/// A rule, before it is text.
struct Line<'d> {
    name: String,
    accesses: AccessSet,
    key: &'static str,
    objects: Vec<String>,
    /// The same one by one; without a tally of its own it is needed as often as all.
    parts: Vec<(String, Option<&'d Tally>)>,
    /// Who alone does it.
    by: Option<String>,
    tally: Tally,
    /// Why it is wider than what was seen.
    wide: BTreeSet<&'static str>,
}

/// The rules of all sections, in the order in which they stand in the policy.
pub(super) fn rules(draft: &Draft, runs: usize, detail: Detail) -> Vec<LearnedRule> {
    let mut all = Vec::new();
    let mut of_files = files(draft);
    of_files.extend(code(draft));
    let sections = [
        (SectionKind::Files, of_files),
        (SectionKind::Exec, programs(draft)),
        (SectionKind::Network, network(draft)),
    ];
    for (section, lines) in sections {
        let mut names = BTreeSet::new();
        for line in lines {
            let name = free_name(&line.name, &mut names);
            let rule = line.rule(section, name, runs);
            let parts = if detail == Detail::Whole { line.split(section, runs) } else { Vec::new() };
            all.push(LearnedRule { parts, ..rule });
        }
    }
    all
}

impl Line<'_> {
    /// Rules about one object each.
    fn split(&self, section: SectionKind, runs: usize) -> Vec<LearnedRule> {
        if self.parts.len() < 2 {
            return Vec::new();
        }
        let part = |(object, tally): &(String, Option<&Tally>)| {
            let tally = tally.unwrap_or(&self.tally).clone();
            let (name, by, wide) = (self.name.clone(), self.by.clone(), self.wide.clone());
            let objects = vec![object.clone()];
            let (accesses, key, parts) = (self.accesses, self.key, Vec::new());
            Line { name, accesses, key, objects, parts, by, tally, wide }.rule(
                section,
                self.name.clone(),
                runs,
            )
        };
        self.parts.iter().map(part).collect()
    }

    fn rule(&self, section: SectionKind, name: String, runs: usize) -> LearnedRule {
        let accesses: Vec<&str> = self.accesses.iter().map(Access::name).collect();
        let accesses = accesses.join(", ");
        let wide = self.wide.iter().fold(String::new(), |text, why| text + "; " + why);
        let comment = comment(&(told(&self.tally, runs) + &wide));
        let objects: Vec<String> = self.objects.iter().map(|object| quoted(object)).collect();
        let key = self.key;
        let by = self.by.as_deref().map(quoted);
        let also = by.as_ref().map_or(String::new(), |by| format!(", by: [{by}]"));
        let one = format!("allow: [{accesses}], {key}: [{}]{also} }}", objects.join(", "));
        let fits = INDENT + "- { name: , ".len() + name.len() + one.len() <= WIDTH;
        let body = if fits {
            one
        } else {
            let mut lines = format!("  allow: [{accesses}]\n  {key}: [");
            items(&mut lines, &objects);
            by.into_iter().for_each(|by| _ = writeln!(lines, "  by: [{by}]"));
            lines
        };
        LearnedRule { section, name, comment, parts: Vec::new(), body }
    }
}

impl LearnedRule {
    /// The rule by this name as an item of a list, with its comment, not indented.
    pub fn text(&self, name: &str) -> String {
        format!("# {}\n{}", self.comment, self.bare(name))
    }

    /// The same without its comment.
    pub(super) fn bare(&self, name: &str) -> String {
        let open = if self.body.ends_with('}') {
            format!("- {{ name: {name}, ")
        } else {
            format!("- name: {name}\n")
        };
        format!("{open}{}\n", self.body.trim_end())
    }
}

/// What a list holds, as many on a line as there is room for, and the list's end.
fn items(out: &mut String, quoted: &[String]) {
    let mut width = WIDTH;
    for (index, object) in quoted.iter().enumerate() {
        let last = index + 1 == quoted.len();
        if width + object.len() + 2 > WIDTH {
            out.push_str("\n    ");
            width = INDENT + 4;
        } else {
            out.push(' ');
        }
        width += object.len() + 2;
        out.push_str(object);
        out.push_str(if last { "]\n" } else { "," });
    }
}

/// How often, in how many runs, by which programs.
fn told(tally: &Tally, runs: usize) -> String {
    let times = match tally.count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    };
    let mut text = match runs {
        1 => times,
        _ => format!("{times} in {} of {runs} runs", tally.runs.len()),
    };
    let names: BTreeSet<String> = tally
        .programs
        .iter()
        .filter_map(|program| program.rsplit(|byte| *byte == b'/').next())
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    if !names.is_empty() {
        let shown: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
        let _ = write!(text, "; {}", shown.join(", "));
        if names.len() > NAMED {
            let _ = write!(text, " and {} more", names.len() - NAMED);
        }
    }
    text
}

fn area(root: Root) -> &'static str {
    match root {
        Root::Workspace => "workspace",
        Root::GitDir | Root::GitCommonDir => "repository",
        Root::Temporary => "temporary",
        Root::Home => "home",
        Root::Machine => "machine",
    }
}

fn files(draft: &Draft) -> Vec<Line<'_>> {
    // What is asked for of the same kind of place stands together.
    let mut groups: BTreeMap<(Root, AccessSet), Vec<&Grant>> = BTreeMap::new();
    for grant in &draft.files {
        groups.entry((grant.place.root, grant.tally.accesses)).or_default().push(grant);
    }
    let lines = groups.into_iter().map(|((root, accesses), grants)| {
        let reads = accesses == Access::Read.into();
        let name = format!("{}{}", area(root), if reads { "-read" } else { "" });
        line(name, accesses, &grants)
    });
    lines.collect()
}

/// What may be mapped as code: programs, libraries, and what is named like one.
fn code(draft: &Draft) -> Option<Line<'_>> {
    if draft.programs.is_empty() && draft.code.is_empty() {
        return None;
    }
    let grants: Vec<&Grant> = draft.programs.iter().chain(&draft.code).collect();
    let mut rule = line("code".to_owned(), Access::Load.into(), &grants);
    rule.objects.insert(0, "@libraries".to_owned());
    let mut seen = BTreeSet::new();
    rule.objects.retain(|object| seen.insert(object.clone()));
    rule.parts.insert(0, ("@libraries".to_owned(), None));
    seen.clear();
    rule.parts.retain(|(object, _)| seen.insert(object.clone()));
    Some(rule)
}

fn programs(draft: &Draft) -> Vec<Line<'_>> {
    let mut groups: BTreeMap<Root, Vec<&Grant>> = BTreeMap::new();
    draft.programs.iter().for_each(|grant| groups.entry(grant.place.root).or_default().push(grant));
    let name = |root| match root {
        Root::Machine => "programs".to_owned(),
        root => format!("programs-of-{}", area(root)),
    };
    groups.into_iter().map(|(root, grants)| line(name(root), Access::Run.into(), &grants)).collect()
}

fn network(draft: &Draft) -> Vec<Line<'_>> {
    let mut groups: BTreeMap<(String, AccessSet, Option<&str>), Line> = BTreeMap::new();
    for target in &draft.targets {
        let text = &target.text;
        let listens = target.accesses.contains(Access::Bind) || target.accesses.contains(Access::Listen);
        let name = match text {
            _ if listens => "servers",
            _ if text.starts_with("own") => "own-servers",
            _ if text.starts_with("unix:") => "sockets",
            _ => "hosts",
        };
        let name = target.by.as_deref().map_or(name.to_owned(), |by| format!("{name}-of-{}", rule_word(by)));
        let new = || Line {
            name: name.clone(),
            by: target.by.clone(),
            accesses: target.accesses,
            key: "to",
            objects: Vec::new(),
            parts: Vec::new(),
            tally: Tally::default(),
            wide: BTreeSet::new(),
        };
        let rule = groups.entry((name.clone(), target.accesses, target.by.as_deref())).or_insert_with(new);
        rule.objects.push(text.clone());
        rule.parts.push((text.clone(), Some(&target.tally)));
        rule.tally.add(&target.tally);
        rule.wide.extend(target.wide);
    }
    groups.into_values().collect()
}

fn line<'d>(name: String, accesses: AccessSet, grants: &[&'d Grant]) -> Line<'d> {
    let mut tally = Tally::default();
    grants.iter().for_each(|grant| tally.add(&grant.tally));
    let outermost = outermost(grants);
    let parts = outermost.iter().map(|grant| (grant.pattern(), Some(&grant.tally))).collect();
    let (objects, wide) = (braced(&outermost), BTreeSet::new());
    Line { name, accesses, key: "path", objects, parts, by: None, tally, wide }
}

/// Without what lies within another one.
fn outermost<'d>(grants: &[&'d Grant]) -> Vec<&'d Grant> {
    let trees: Vec<&Grant> = grants.iter().copied().filter(|grant| grant.below).collect();
    let is_within = |grant: &Grant| trees.iter().any(|tree| grant.is_within(tree));
    grants.iter().copied().filter(|grant| !is_within(grant)).collect()
}

/// A program's own name as part of a rule's.
fn rule_word(program: &str) -> String {
    let name = program.rsplit('/').next().unwrap_or_default();
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// Patterns, those that differ in their last component alone as one.
fn braced(grants: &[&Grant]) -> Vec<String> {
    let mut directories: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut patterns = Vec::new();
    for grant in grants {
        match (grant.place.directory(), grant.place.parts.last()) {
            (Some(directory), Some(name)) => {
                let below = if grant.below { "/**" } else { "" };
                directories.entry(prefix(&directory.pattern())).or_default().push(format!("{name}{below}"));
            }
            _ => patterns.push(grant.pattern()),
        }
    }
    for (directory, mut names) in directories {
        names.sort();
        names.dedup();
        let mut rest = names.as_slice();
        while !rest.is_empty() {
            // As many as a line has room for.
            let mut length = directory.len() + 16;
            let fits = rest.iter().take_while(|name| {
                length += name.len() + 1;
                length <= WIDTH
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            patterns.push(match now {
                [one] => format!("{directory}{one}"),
                several => format!("{directory}{{{}}}", several.join(",")),
            });
            rest = later;
        }
    }
    patterns.sort();
    patterns
}

/// A directory's pattern as what is in it begins with.
fn prefix(directory: &str) -> String {
    match directory {
        "/" => "/".to_owned(),
        directory => format!("{directory}/"),
    }
}
