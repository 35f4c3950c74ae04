//! What `sandbox why` prints for a person: every group, under its rule.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::by_rule::{arrange, totals};
use super::group::{Effect, Group};
use super::printable;
use crate::record::time;
use crate::review::text::{grouped, safe, wrap};

/// Where long lines are broken, in characters. Names are never cut.
const WIDTH: usize = 80;

/// What stands before the lines below an attempt.
const INDENT: &str = "         ";

/// The page: `title` names the run, `more` are attempts that no group stands for.
pub fn page(title: &str, groups: &[Group], more: u64) -> String {
    let mut page = format!("{title}: {}\n", totals(groups, more));
    let mut told = HashSet::new();
    for rule in arrange(groups) {
        let effect = match rule.effect {
            Effect::Blocked => "blocked",
            Effect::WouldBlock => "would be blocked",
        };
        // Writing to a String does not fail.
        let layer = safe(rule.layer.as_bytes());
        let _ = writeln!(page, "\n{} ({effect} {}, layer {layer})", rule.decided, grouped(rule.count));
        if let Some(because) = rule.because {
            broken(&mut page, "  ", &format!("because {}", safe(because.as_bytes())));
        }
        for (_, group) in rule.groups {
            tell(&mut page, group, &mut told);
        }
    }
    page
}

/// `told` are the lines that the page has already.
fn tell<'g>(page: &mut String, group: &'g Group, told: &mut HashSet<&'g [String]>) {
    let _ = writeln!(page, "{:>7}x {}", grouped(group.count), group.matter.attempt());
    let by = match group.by() {
        by if by.is_empty() => by,
        by => format!("by {by}, "),
    };
    broken(page, INDENT, &format!("{by}{}", when(group.first_ns, group.last_ns)));
    let Some(remedy) = group.remedy.as_deref().filter(|lines| !lines.is_empty()) else { return };
    // The addresses of one name are opened by one line, and a policy takes it once.
    if !told.insert(remedy) {
        let _ = writeln!(page, "{INDENT}(a line above allows it too)");
        return;
    }
    for line in remedy {
        broken(page, INDENT, &printable(line));
    }
}

/// `2026-11-21 09:30:01 UTC`, or a span of time on one day.
fn when(first_ns: i64, last_ns: i64) -> String {
    let (first, last) = (time::format(first_ns), time::format(last_ns));
    let second = |text: &str| text.get(..19).unwrap_or(text).replace('T', " ");
    let (first, last) = (second(&first), second(&last));
    match last.strip_prefix(first.get(..11).unwrap_or(&first)) {
        _ if first == last => format!("{first} UTC"),
        Some(of_day) => format!("{first} to {of_day} UTC"),
        None => format!("{first} to {last} UTC"),
    }
}

fn broken(page: &mut String, indent: &str, text: &str) {
    for line in wrap(text, WIDTH - indent.len()) {
        let _ = writeln!(page, "{indent}{line}");
    }
}
