//! A policy back to YAML: variables replaced, everything else as it was written.
//!
//! This is what is stored beside a run's record. Reading it gives the same policy without any variable.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::address::{Protocol, Target};
use crate::model::{Attempt, Example, Policy, Section, SectionKind};
use crate::pattern::{Pattern, escape};

/// What a section's rules are about, in the language's words.
trait Written {
    const KEY: &'static str;
    fn text(&self) -> String;
}

impl Written for Pattern {
    const KEY: &'static str = "path";
    fn text(&self) -> String {
        self.text().to_owned()
    }
}

impl Written for Target {
    const KEY: &'static str = "to";
    fn text(&self) -> String {
        // Nothing in a target is an escape; only a variable's value could hold `${`, and no target does.
        self.text().to_owned()
    }
}

impl Policy {
    /// The policy as YAML without variables. Equal policies give equal text.
    pub fn effective_yaml(&self) -> String {
        let mut out = String::from("version: 1\n");
        line(&mut out, "name", &self.name);
        if let Some(description) = &self.description {
            line(&mut out, "description", description);
        }
        for kind in SectionKind::ALL.into_iter().filter(|kind| self.present.contains(kind)) {
            match kind {
                SectionKind::Files => section(&mut out, kind, &self.files),
                SectionKind::Exec => section(&mut out, kind, &self.exec),
                SectionKind::Network => section(&mut out, kind, &self.network),
            }
        }
        if !self.examples.is_empty() {
            out.push_str("examples:\n");
            self.examples.iter().for_each(|entry| example(&mut out, entry));
        }
        out
    }
}

fn section<O: Written>(out: &mut String, kind: SectionKind, section: &Section<O>) {
    let _ = writeln!(out, "{}:\n  default: {}", kind.name(), section.default);
    if section.rules.is_empty() {
        return;
    }
    out.push_str("  rules:\n");
    // A rule whose objects were all left out (`:-none`) matches nothing, and cannot be written down.
    for rule in section.rules.iter().filter(|rule| !rule.objects.is_empty()) {
        let _ = writeln!(out, "    - name: {}", quoted(&rule.short_name));
        let accesses: Vec<&str> = rule.accesses.iter().map(|access| access.name()).collect();
        let _ = writeln!(out, "      {}: [{}]", rule.effect, accesses.join(", "));
        list(out, O::KEY, &rule.objects);
        if !rule.except.is_empty() {
            list(out, "except", &rule.except);
        }
        if let Some(because) = &rule.because {
            let _ = writeln!(out, "      because: {}", quoted(because));
        }
    }
}

fn list<O: Written>(out: &mut String, key: &str, objects: &[O]) {
    let texts: Vec<String> = objects.iter().map(|object| quoted(&object.text())).collect();
    let _ = writeln!(out, "      {key}: [{}]", texts.join(", "));
}

fn example(out: &mut String, example: &Example) {
    let object = match &example.attempt {
        Attempt::Open { path, accesses } => {
            format!("open: {}, access: [{accesses}]", quoted(&escape(path)))
        }
        Attempt::Run { path } => format!("run: {}", quoted(&escape(path))),
        Attempt::Network { access, address, port, protocol } => {
            let host = match address {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            };
            let suffix = if *protocol == Protocol::Udp { "/udp" } else { "/tcp" };
            format!("{access}: {}", quoted(&format!("{host}:{port}{suffix}")))
        }
    };
    let rule = example.rule.as_ref().map(|rule| format!(", rule: {}", quoted(rule))).unwrap_or_default();
    let _ = writeln!(out, "  - {{ {object}, verdict: {}{rule} }}", example.verdict);
}

fn line(out: &mut String, key: &str, value: &str) {
    let _ = writeln!(out, "{key}: {}", quoted(value));
}

/// A double-quoted scalar, on one line, of characters that every reader shows.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || crate::document::is_invisible(c) => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
