//! The report: on stdout.

use super::score::{LINES, Score};

/// One line of it.
pub struct Row {
    pub title: String,
    /// How many runs it was learned from; none for a policy that nobody learned.
    pub runs: Option<usize>,
    pub score: Score,
}

/// Prints it.
pub fn print(rows: &[Row]) {
    println!(
        "\n{:<30}{:>6}{:>5}{:>16}{:>17}{:>7}{:>6}",
        "workload", "runs", "own", "honest blocked", "attacks stopped", "lines", "wide"
    );
    let mut last = "";
    for row in rows {
        let score = &row.score;
        println!(
            "{:<30}{:>6}{:>5}{:>16}{:>17}{:>7}{:>6}",
            if last == row.title { "" } else { row.title.as_str() },
            row.runs.map_or_else(String::new, |runs| runs.to_string()),
            score.own,
            format!("{} of {}", score.blocked, score.honest),
            format!("{} of {}", score.stopped, score.attacks),
            score.lines,
            score.wide.len(),
        );
        last = &row.title;
    }
    println!(
        "own: runs learned from that it would block; wide: of things that no such run has to do with, those it opens"
    );
    println!("goal: nothing in own, honest blocked and wide; all attacks stopped; under {LINES} lines");
}

/// What keeps a learned policy from its goal.
pub fn explain(row: &Row) {
    let score = &row.score;
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
