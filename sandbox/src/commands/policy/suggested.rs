//! Suggestions as text and as JSON, the same in every answer.

use policy::suggest::{NoSuggestion, Suggestion};
use serde::Serialize;

/// A line, and where it goes.
#[derive(Debug, Serialize)]
pub struct Line {
    /// `files`, `exec`, `network` or `kernel`.
    pub section: &'static str,
    /// Where in it, in words.
    pub place: String,
    /// YAML.
    pub line: String,
}

/// The lines of a suggestion, for programs.
pub fn lines(suggestion: &Suggestion) -> Vec<Line> {
    let line = |edit: &policy::suggest::Edit| Line {
        section: edit.site.section(),
        place: edit.site.to_string(),
        line: edit.line.clone(),
    };
    suggestion.edits.iter().map(line).collect()
}

/// The accesses that it opens besides, for programs.
pub fn also(suggestion: &Suggestion) -> Vec<&'static str> {
    suggestion.also.iter().map(policy::Access::name).collect()
}

/// The suggestion for people, indented; nothing where there is nothing to say.
pub fn told(found: &Result<Suggestion, NoSuggestion>) -> String {
    match found {
        Err(NoSuggestion::Allowed) => String::new(),
        Err(why) => format!("  {why}\n"),
        Ok(suggestion) => {
            let lines = suggestion.to_string();
            lines.lines().fold("  allow it with\n".to_owned(), |text, line| text + "    " + line + "\n")
        }
    }
}
