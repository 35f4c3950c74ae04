//! Questions and answers of a run, as a person reads them.

use audit_verify::canonical::Record;

use super::text;

/// A word, and what it was about, safe to print.
pub(super) fn what_and_text(event: &Record<'_>) -> (&'static str, String) {
    let safe = |key| event.bytes(key).map(text::safe).unwrap_or_default();
    let number = event.uint("ask_id").unwrap_or(0);
    if event.text("event_type") == Some("ask") {
        let words: Vec<String> =
            event.list("access").unwrap_or_default().iter().map(|word| text::safe(word)).collect();
        let object = match (event.bytes("path"), event.text("dst_ip")) {
            (Some(path), _) => text::safe(path),
            (None, Some(_)) => {
                format!("{} port {}", safe("dst_ip"), event.uint("dst_port").unwrap_or(0))
            }
            (None, None) => String::new(),
        };
        return ("ask", format!("{number}: {} {object} ({})", words.join(","), safe("policy_rule")));
    }
    let scope = event.bytes("scope").map(|scope| format!(" {}", text::safe(scope))).unwrap_or_default();
    let file = event.bytes("target").map(|file| format!(" in {}", text::safe(file))).unwrap_or_default();
    let why = event.bytes("reason").map(|why| format!(": {}", text::safe(why))).unwrap_or_default();
    ("answer", format!("{number}: {}{scope}{file}, by {}{why}", safe("verdict"), safe("answered_by")))
}
