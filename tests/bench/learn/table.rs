//! The report: on stdout.

use super::score::{LINES, Score};

/// One line of it.
pub struct Row {
    pub title: String,
    /// How many runs it was learned from; none for a policy that nobody learned.
    pub runs: Option<usize>,
    pub score: Score,
    /// What came of enforcing it.
    pub enforced: Option<Enforced>,
}

/// What came of enforcing a policy.
#[derive(Clone, Debug, Default)]
pub struct Enforced {
    /// Runs that it was learned from, and those that were denied something or failed.
    pub lessons: usize,
    pub own: usize,
    /// Honest runs, and those that were denied something or failed.
    pub honest: usize,
    pub blocked: usize,
    /// Attacks, and those that were begun and did not come through.
    pub attacks: usize,
    pub stopped: usize,
    /// What was otherwise than it should be.
    pub told: Vec<String>,
}

impl Enforced {
    /// Whether no honest run was denied anything, and every attack was stopped.
    pub fn reaches(&self) -> bool {
        self.own == 0 && self.blocked == 0 && self.stopped == self.attacks && self.lessons > 0
    }

    /// The table's words for it.
    fn words(&self) -> String {
        format!(
            "{}/{}, {}/{}, {}/{}",
            self.own, self.lessons, self.blocked, self.honest, self.stopped, self.attacks
        )
    }
}

/// Prints it.
pub fn print(rows: &[Row]) {
    let has_enforced = rows.iter().any(|row| row.enforced.is_some());
    let column = if has_enforced { "  enforced: own, honest, stopped" } else { "" };
    println!(
        "\n{:<30}{:>6}{:>5}{:>16}{:>17}{:>7}{:>6}{}",
        "workload", "runs", "own", "honest blocked", "attacks stopped", "lines", "wide", column
    );
    let mut last = "";
    for row in rows {
        let score = &row.score;
        println!(
            "{:<30}{:>6}{:>5}{:>16}{:>17}{:>7}{:>6}{}",
            if last == row.title { "" } else { row.title.as_str() },
            row.runs.map_or_else(String::new, |runs| runs.to_string()),
            score.own,
            format!("{} of {}", score.blocked, score.honest),
            format!("{} of {}", score.stopped, score.attacks),
            score.lines,
            score.wide.len(),
            row.enforced.as_ref().map_or_else(String::new, |enforced| format!("  {}", enforced.words())),
        );
        last = &row.title;
    }
    println!(
        "own: runs learned from that it would block; wide: of things that no such run has to do with, those it opens"
    );
    if has_enforced {
        println!(
            "enforced: runs learned from that were denied something, honest ones, and attacks stopped, of as many"
        );
    }
    println!("goal: nothing in own, honest blocked and wide; all attacks stopped; under {LINES} lines");
}

/// What keeps a learned policy from its goal.
pub fn explain(row: &Row) {
    let score = &row.score;
    let told = row.enforced.iter().flat_map(|enforced| &enforced.told);
    for told in told {
        println!("\n{}, enforced: {told}", row.title);
    }
    let Some(runs) = row.runs.filter(|_| !score.reaches()) else { return };
    println!("\n{}, {runs} runs:", row.title);
    for (object, runs) in score.denied.iter().take(12) {
        println!("  would block {runs} of {} honest runs: {object}", score.honest);
    }
    if score.denied.len() > 12 {
        println!("  and {} objects more", score.denied.len() - 12);
    }
    if !score.missed.is_empty() {
        println!("  would not stop: {}", score.missed.join(", "));
    }
    if !score.wide.is_empty() {
        println!("  opens: {}", score.wide.join(", "));
    }
}
