//! A policy back to YAML: variables replaced, everything else as it was written.
//!
//! This is what is stored beside a run's record. Reading it gives the same policy without any variable.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::access::SectionKind;
use crate::address::{Protocol, Target};
use crate::ends::Owner;
use crate::model::{Attempt, Example, Mode, Policy, Rule, Section};
use crate::pattern::{Pattern, escape};
use crate::settings::{Fold, Landlock, Settings, Syscalls, Tmp};
use crate::units::{write_bytes, write_duration};

/// What a section's rules are about, in the language's words.
pub(crate) trait Written {
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
        if self.mode == Mode::Audit {
            out.push_str("mode: audit\n");
        }
        for kind in SectionKind::ALL.into_iter().filter(|kind| self.present.contains(kind)) {
            match kind {
                SectionKind::Files => section(&mut out, kind, &self.files),
                SectionKind::Exec => section(&mut out, kind, &self.exec),
                SectionKind::Network => section(&mut out, kind, &self.network),
            }
        }
        settings(&mut out, &self.settings);
        if !self.examples.is_empty() {
            out.push_str("examples:\n");
            self.examples.iter().for_each(|entry| example(&mut out, entry));
        }
        out
    }
}

/// The sections that are no rules, each on a line.
pub(crate) fn settings(out: &mut String, settings: &Settings) {
    let quote = |texts: &[String]| texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
    if let Some(allowed) = &settings.kernel {
        let _ = writeln!(out, "kernel: {{ allow: [{}] }}", allowed.join(", "));
    }
    match &settings.syscalls {
        None => {}
        Some(Syscalls::Default) => out.push_str("syscalls: default\n"),
        Some(Syscalls::Strict) => out.push_str("syscalls: strict\n"),
        Some(Syscalls::Off) => out.push_str("syscalls: off\n"),
        Some(Syscalls::Deny(names)) => _ = writeln!(out, "syscalls: {{ deny: [{}] }}", quote(names)),
    }
    match settings.landlock {
        None => {}
        Some(Landlock::Auto) => out.push_str("landlock: auto\n"),
        Some(Landlock::Off) => out.push_str("landlock: off\n"),
    }
    match settings.tmp {
        None => {}
        Some(Tmp::Shared) => out.push_str("tmp: shared\n"),
        Some(Tmp::Private) => out.push_str("tmp: private\n"),
    }
    if let Some(limits) = &settings.limits {
        let all = [
            limits.memory.map(|bytes| format!("memory: {}", write_bytes(bytes))),
            limits.processes.map(|count| format!("processes: {count}")),
            limits.cpu.map(|percent| format!("cpu: {percent}%")),
            limits.time.map(|time| format!("time: {}", write_duration(time))),
        ];
        let _ = writeln!(out, "limits: {{ {} }}", all.into_iter().flatten().collect::<Vec<_>>().join(", "));
    }
    if let Some(env) = &settings.env {
        let set: Vec<String> =
            env.set.iter().map(|(name, value)| format!("{}: {}", quoted(name), quoted(value))).collect();
        let lists = [("drop", &env.drop), ("keep", &env.keep)];
        let lists = lists.into_iter().filter(|(_, names)| !names.is_empty());
        let lists = lists.map(|(key, names)| format!("{key}: [{}]", quote(names)));
        let set = (!set.is_empty()).then(|| format!("set: {{ {} }}", set.join(", ")));
        let _ = writeln!(out, "env: {{ {} }}", lists.chain(set).collect::<Vec<_>>().join(", "));
    }
    match settings.fold {
        None => {}
        Some(Fold::On) => out.push_str("observe: { fold: true }\n"),
        Some(Fold::Off) => out.push_str("observe: { fold: false }\n"),
    }
}

fn section<O: Written + PartialEq>(out: &mut String, kind: SectionKind, section: &Section<O>) {
    let _ = writeln!(out, "{}:\n  default: {}", kind.name(), section.default);
    // A rule whose objects were all left out (`:-none`) matches nothing, and cannot be written down.
    let mut rules = section.rules.iter().filter(|rule| !rule.is_void()).peekable();
    if rules.peek().is_some() {
        out.push_str("  rules:\n");
    }
    rules.for_each(|entry| rule(out, entry));
}

/// One rule, as an item of a list that is indented by four.
pub(crate) fn rule<O: Written + PartialEq>(out: &mut String, rule: &Rule<O>) {
    let _ = writeln!(out, "    - name: {}", quoted(&rule.short_name));
    let accesses: Vec<&str> = rule.accesses.iter().map(|access| access.name()).collect();
    let _ = writeln!(out, "      {}: [{}]", rule.effect, accesses.join(", "));
    list(out, O::KEY, rule.lasting().map(Written::text));
    list(out, "existing", rule.existing.iter().map(Written::text));
    list(out, "sha256", rule.sha256.iter().map(ToString::to_string));
    list(out, "except", rule.except.iter().map(Written::text));
    let patterns = |patterns: &[Pattern]| patterns.iter().map(Written::text).collect::<Vec<_>>();
    list(out, "by", patterns(rule.who.by().unwrap_or_default()));
    list(out, "unless_by", patterns(rule.who.unless_by()));
    list(out, "under", patterns(rule.who.under().unwrap_or_default()));
    if let Some(timeout) = rule.timeout {
        let _ = writeln!(out, "      timeout: {}", quoted(&write_duration(timeout)));
    }
    if rule.mode == Mode::Audit {
        out.push_str("      mode: audit\n");
    }
    if let Some(because) = &rule.because {
        let _ = writeln!(out, "      because: {}", quoted(because));
    }
}

/// A list that stands only where it has entries.
fn list(out: &mut String, key: &str, texts: impl IntoIterator<Item = String>) {
    let texts: Vec<String> = texts.into_iter().map(|text| quoted(&text)).collect();
    if !texts.is_empty() {
        let _ = writeln!(out, "      {key}: [{}]", texts.join(", "));
    }
}

fn example(out: &mut String, example: &Example) {
    let _ = writeln!(out, "  - {}", example_text(example));
}

/// An example on one line.
pub(crate) fn example_text(example: &Example) -> String {
    let object = match &example.attempt {
        Attempt::Open { path, accesses } => {
            format!("open: {}, access: [{accesses}]", quoted(&escape(path)))
        }
        Attempt::Run { path, sha256 } => {
            let sha256 = sha256.map(|digest| format!(", sha256: \"{digest}\"")).unwrap_or_default();
            format!("run: {}{sha256}", quoted(&escape(path)))
        }
        Attempt::Network { access, address, port, protocol, host: name, owner } => {
            let host = match address {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            };
            let host = if *owner == Owner::Run { "own".to_owned() } else { host };
            let name = name.as_ref().map(|name| format!(", host: {}", quoted(name))).unwrap_or_default();
            let suffix = if *protocol == Protocol::Udp { "/udp" } else { "/tcp" };
            format!("{access}: {}", quoted(&format!("{host}:{port}{suffix}"))) + &name
        }
        Attempt::Unix { access, socket } => {
            let (sign, name) = socket.strip_prefix(b"@").map_or(("", socket.as_slice()), |name| ("@", name));
            format!("{access}: {}", quoted(&format!("unix:{sign}{}", escape(name))))
        }
    };
    let rule = example.rule.as_ref().map(|rule| format!(", rule: {}", quoted(rule))).unwrap_or_default();
    let by = example.by.as_ref().map(|by| format!(", by: {}", quoted(&escape(by)))).unwrap_or_default();
    let under = example.under.as_ref().map(|under| {
        let paths: Vec<String> = under.iter().map(|path| quoted(&escape(path))).collect();
        format!(", under: [{}]", paths.join(", "))
    });
    let under = under.unwrap_or_default();
    format!("{{ {object}{by}{under}, verdict: {}{rule} }}", example.verdict)
}

fn line(out: &mut String, key: &str, value: &str) {
    let _ = writeln!(out, "{key}: {}", quoted(value));
}

/// A double-quoted scalar, on one line, of characters that every reader shows.
pub fn quoted(text: &str) -> String {
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
