//! What `sandbox run` says at its end about what was denied: a few lines, the busiest rules first.
//!
//! Each rule has its count, its reason, its busiest object, and the line that would allow that one. What does not
//! fit is counted; `sandbox why` has it all.

use super::by_rule::{Ruled, arrange};
use super::group::{Effect, Group};
use super::{Denials, printable};
use crate::review::text::{self, cut, grouped, wrap};

/// The most lines, the caller's heading not among them.
pub const LINES: usize = 19;

/// The widest line, in characters.
pub const WIDTH: usize = 80;

/// What stands before the lines below a rule.
const INDENT: &str = "        ";

/// The summary's lines, none where nothing was denied. `remedy` finds the lines that would allow something.
pub fn lines(denials: &mut Denials, mut remedy: impl FnMut(&Group) -> Vec<String>) -> Vec<String> {
    // Each rule takes three lines at least.
    let wanted: Vec<usize> = {
        let ruled = arrange(denials.groups());
        let first = ruled.iter().take(LINES / 3).filter_map(|rule| rule.groups.first());
        first.filter(|(_, group)| group.remedy.is_none()).map(|(place, _)| *place).collect()
    };
    for place in wanted {
        let group = &denials.groups()[place];
        let (matter, found) = (group.matter.clone(), remedy(group));
        denials.note_remedy(place, &matter, found);
    }
    write(&arrange(denials.groups()), denials.more())
}

fn write(ruled: &[Ruled<'_>], more: u64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut told = 0;
    for rule in ruled {
        let block = block(rule);
        let rest = told + 1 < ruled.len() || more > 0;
        if lines.len() + block.len() + usize::from(rest) > LINES {
            break;
        }
        lines.extend(block);
        told += 1;
    }
    let untold = &ruled[told..];
    let attempts = untold.iter().fold(more, |sum, rule| sum.saturating_add(rule.count));
    if attempts > 0 {
        let noun = if untold.len() == 1 { "rule" } else { "rules" };
        let what = match untold.len() {
            0 => "attempts more, not told apart".to_owned(),
            rules => format!("by {rules} {noun} more"),
        };
        lines.push(format!("{:>6}  {what}", grouped(attempts)));
    }
    lines
}

fn block(rule: &Ruled<'_>) -> Vec<String> {
    let trial = if rule.effect == Effect::WouldBlock { " (would be)" } else { "" };
    let because = rule.because.map(|text| format!(": {}", text::safe(text.as_bytes()))).unwrap_or_default();
    let head = format!("{:>6}  {}{trial}{because}", grouped(rule.count), rule.decided);
    let mut lines = vec![cut(&head, WIDTH).into_owned()];
    let Some((_, group)) = rule.groups.first() else { return lines };
    let others = match rule.groups.len() - 1 {
        0 => String::new(),
        others => format!(" (+{} more)", grouped(others as u64)),
    };
    let room = WIDTH - INDENT.len() - others.chars().count();
    lines.push(format!("{INDENT}{}{others}", cut(&attempt(group), room)));
    lines.extend(allowing(group));
    lines
}

fn attempt(group: &Group) -> String {
    let by = match group.by() {
        by if by.is_empty() => by,
        by => format!(", by {by}"),
    };
    format!("{}{by}", group.matter.attempt())
}

/// The lines that would allow the group; where one does not fit the width, the way to it.
fn allowing(group: &Group) -> Vec<String> {
    let remedy = group.remedy.iter().flatten();
    let lines: Vec<String> = remedy.flat_map(|line| wrap(&printable(line), WIDTH - INDENT.len())).collect();
    let fits = lines.len() <= 4 && lines.iter().all(|line| line.chars().count() <= WIDTH - INDENT.len());
    match fits {
        true => lines.iter().map(|line| format!("{INDENT}{line}")).collect(),
        false => vec![format!("{INDENT}`sandbox why` has the line that would allow it")],
    }
}
