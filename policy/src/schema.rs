//! A JSON Schema (draft 2020-12) of the language, for editors: keys, words and the shapes of values, from the tables
//! that the parser goes by.
//!
//! What depends on other files, on variables or on two places of a file (a rule's name used twice, a pattern that
//! cannot be) only `sandbox policy check` knows.

use std::fmt::Write as _;

use crate::access::{Access, SectionKind};
use crate::parse::example::{EXAMPLE, OBJECTS};
use crate::parse::rule::{AMEND, RULE};
use crate::parse::settings::{ENV, LIMITS};
use crate::parse::{POLICY, SECTION};
use crate::settings::KERNEL;

/// The schema as JSON text, indented, with a newline at its end.
pub fn json() -> String {
    let mut out = String::new();
    policy().write(&mut out, 0);
    out.push('\n');
    out
}

/// A JSON value.
enum Json {
    True,
    False,
    Number(u64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Json {
    fn write(&self, out: &mut String, depth: usize) {
        match self {
            Self::True => out.push_str("true"),
            Self::False => out.push_str("false"),
            Self::Number(number) => _ = write!(out, "{number}"),
            Self::Text(text) => string(out, text),
            Self::List(items) => {
                let items = items.iter().map(|item| (None, item));
                block(out, ['[', ']'], items, depth);
            }
            Self::Object(members) => {
                let members = members.iter().map(|(key, value)| (Some(key.as_str()), value));
                block(out, ['{', '}'], members, depth);
            }
        }
    }
}

fn block<'j>(
    out: &mut String,
    [open, close]: [char; 2],
    items: impl Iterator<Item = (Option<&'j str>, &'j Json)>,
    depth: usize,
) {
    out.push(open);
    let mut any = false;
    for (key, value) in items {
        out.push_str(if any { ",\n" } else { "\n" });
        any = true;
        out.push_str(&"  ".repeat(depth + 1));
        if let Some(key) = key {
            string(out, key);
            out.push_str(": ");
        }
        value.write(out, depth + 1);
    }
    if any {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    }
    out.push(close);
}

fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn list<'t>(texts: impl IntoIterator<Item = &'t str>) -> Json {
    Json::List(texts.into_iter().map(Json::from).collect())
}

fn one_of<'t>(words: impl IntoIterator<Item = &'t str>) -> Json {
    object([("enum", list(words))])
}

fn text(description: &str) -> Json {
    object([("type", "string".into()), ("minLength", Json::Number(1)), ("description", description.into())])
}

fn matching(pattern: &str, description: &str) -> Json {
    object([("type", "string".into()), ("pattern", pattern.into()), ("description", description.into())])
}

fn some(items: Json, description: &str) -> Json {
    object([
        ("type", "array".into()),
        ("minItems", Json::Number(1)),
        ("items", items),
        ("description", description.into()),
    ])
}

/// A mapping with these keys and no others; `of` gives the schema of each.
fn mapping(keys: &[&str], required: &[&str], of: impl Fn(&str) -> Json) -> Vec<(String, Json)> {
    let properties = keys.iter().map(|key| ((*key).to_owned(), of(key))).collect();
    let mut members = vec![
        ("type".to_owned(), "object".into()),
        ("properties".to_owned(), Json::Object(properties)),
        ("additionalProperties".to_owned(), Json::False),
    ];
    if !required.is_empty() {
        members.push(("required".to_owned(), list(required.iter().copied())));
    }
    members
}

const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]*$";
/// An inherited rule's name too.
const RULE_NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$";
const DURATION: &str = "^[1-9][0-9]*[smhd]$";

fn policy() -> Json {
    let sections = SectionKind::ALL.map(|kind| (kind.name(), required(&["default"])));
    let own_defaults = object([("properties", object(sections))]);
    let mut members = vec![
        ("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into()),
        ("title".to_owned(), "sandbox policy".into()),
        ("description".to_owned(), "A policy of sandbox, version 1".into()),
    ];
    members.extend(mapping(POLICY.read, &["version", "name"], top));
    // Without a parent each section says its default itself.
    members.push(("anyOf".to_owned(), Json::List(vec![required(&["extends"]), own_defaults])));
    Json::Object(members)
}

fn required(keys: &[&str]) -> Json {
    object([("required", list(keys.iter().copied()))])
}

fn mode() -> Json {
    one_of(["enforce", "audit"])
}

/// A key of the top.
fn top(key: &str) -> Json {
    match key {
        "version" => object([("const", Json::Number(1))]),
        "name" => matching(NAME, "Records name rules by it"),
        "description" => text("What the policy is for"),
        "mode" => mode(),
        "extends" => some(text("NAME@VERSION or a path"), "Policies to inherit from"),
        "vars" => object([
            ("type", "object".into()),
            ("propertyNames", object([("pattern", "^[A-Za-z][A-Za-z0-9_]*$".into())])),
            ("additionalProperties", object([("type", "string".into())])),
        ]),
        "groups" => object([
            ("type", "object".into()),
            ("propertyNames", object([("pattern", NAME.into())])),
            ("additionalProperties", some(text("A pattern, a target or @group"), "What @name stands for")),
        ]),
        "files" => section(SectionKind::Files),
        "exec" => section(SectionKind::Exec),
        "network" => section(SectionKind::Network),
        "kernel" => {
            let words = || object([("type", "array".into()), ("items", one_of(KERNEL))]);
            Json::Object(mapping(&["allow"], &[], |_| words()))
        }
        "syscalls" => {
            let deny = some(matching("^[a-z0-9_]{1,64}$", "A system call"), "Calls that are denied");
            let deny = Json::Object(vec![
                ("type".to_owned(), "object".into()),
                ("properties".to_owned(), object([("deny", deny)])),
                ("additionalProperties".to_owned(), Json::False),
            ]);
            object([("anyOf", Json::List(vec![one_of(["default", "strict", "off"]), deny]))])
        }
        "landlock" => one_of(["auto", "off"]),
        "tmp" => one_of(["shared", "private"]),
        "limits" => Json::Object(mapping(LIMITS.read, &[], limit)),
        "env" => Json::Object(mapping(ENV.read, &[], env)),
        "observe" => Json::Object(mapping(&["fold"], &[], |_| object([("type", "boolean".into())]))),
        "examples" => object([("type", "array".into()), ("items", example())]),
        _ => Json::True,
    }
}

fn limit(key: &str) -> Json {
    match key {
        "memory" => matching("^[1-9][0-9]*[KMGT]iB$", "As in 4GiB"),
        "processes" => object([("type", "integer".into()), ("minimum", Json::Number(1))]),
        "cpu" => matching("^[1-9][0-9]*%$", "Percent of one processor, as in 200%"),
        "time" => matching(DURATION, "As in 2h"),
        _ => Json::True,
    }
}

fn env(key: &str) -> Json {
    match key {
        "drop" | "keep" => some(matching("^\\*?[A-Za-z0-9_]+\\*?$", "A name, `*` at either end"), "Names"),
        "set" => {
            object([("type", "object".into()), ("additionalProperties", object([("type", "string".into())]))])
        }
        _ => Json::True,
    }
}

fn section(kind: SectionKind) -> Json {
    let rules = || {
        let either = Json::List(vec![rule(kind), amend()]);
        object([("type", "array".into()), ("items", object([("oneOf", either)]))])
    };
    Json::Object(mapping(SECTION.read, &[], |key| match key {
        "default" => one_of(["allow", "deny"]),
        "rules" => rules(),
        _ => Json::True,
    }))
}

fn accesses(kind: SectionKind) -> Json {
    let words = kind.accesses().iter().map(Access::name).chain(["all"]).collect::<Vec<_>>();
    some(one_of(words), "Accesses")
}

fn objects(kind: SectionKind) -> Json {
    match kind {
        SectionKind::Network => {
            some(text("ADDRESS, CIDR, HOST, localhost, own, any or unix:, :PORT, /tcp"), "Ends")
        }
        SectionKind::Files | SectionKind::Exec => {
            some(text("A pattern: absolute, or **/…, or @group"), "Paths")
        }
    }
}

fn rule(kind: SectionKind) -> Json {
    let own = |key: &&&str| match **key {
        "to" => kind == SectionKind::Network,
        "path" | "existing" => kind != SectionKind::Network,
        "sha256" => kind == SectionKind::Exec,
        _ => true,
    };
    let keys: Vec<&str> = RULE.read.iter().filter(own).copied().collect();
    let mut members = mapping(&keys, &["name"], |key| match key {
        "name" => matching(RULE_NAME, "Unique in the policy"),
        "allow" | "ask" | "deny" => accesses(kind),
        "path" | "to" | "except" => objects(kind),
        "existing" => some(text("A pattern, or @group"), "Paths: what is there when a run starts"),
        "sha256" => some(matching("^[0-9A-Fa-f]{64}$", "A digest of the file's contents"), "Contents"),
        "by" | "unless_by" | "under" => some(text("A pattern of executables"), "Whom the rule is about"),
        "mode" => mode(),
        "timeout" => matching(DURATION, "How long an ask waits"),
        "because" => text("Repeated in the record"),
        _ => Json::True,
    });
    let any_of = |keys: &[&str]| Json::List(keys.iter().map(|key| required(&[key])).collect());
    let one = |choices| object([("oneOf", choices)]);
    let paths = object([("anyOf", any_of(&["path", "existing"]))]);
    let objects = match kind {
        SectionKind::Files => paths,
        SectionKind::Exec => one(Json::List(vec![paths, required(&["sha256"])])),
        SectionKind::Network => required(&["to"]),
    };
    let both = Json::List(vec![one(any_of(&["allow", "ask", "deny"])), objects]);
    members.push(("allOf".to_owned(), both));
    members.push(("dependentRequired".to_owned(), object([("timeout", list(["ask"]))])));
    Json::Object(members)
}

fn amend() -> Json {
    let mut members = mapping(AMEND.read, &["amend"], |key| match key {
        "amend" => matching(RULE_NAME, "An inherited rule, policy/rule"),
        "except" => some(text("What the rule shall leave out"), "Exceptions"),
        "disable" => object([("const", Json::True)]),
        "because" => text("Why"),
        _ => Json::True,
    });
    let either = Json::List(vec![required(&["except"]), required(&["disable"])]);
    members.push(("anyOf".to_owned(), either));
    Json::Object(members)
}

fn example() -> Json {
    let words: Vec<&str> = SectionKind::Files.accesses().iter().map(Access::name).chain(["all"]).collect();
    let one_or_more = |one: &dyn Fn() -> Json| {
        let many = object([("type", "array".into()), ("items", one())]);
        object([("anyOf", Json::List(vec![one(), many]))])
    };
    let mut members = mapping(EXAMPLE.read, &["verdict"], |key| match key {
        "open" | "run" | "by" => text("One path"),
        "connect" | "send" | "bind" | "listen" => text("ADDRESS:PORT, own:PORT or unix:"),
        "access" => one_or_more(&|| one_of(words.clone())),
        "under" => one_or_more(&|| text("An executable")),
        "verdict" => one_of(["allow", "ask", "deny"]),
        "rule" => matching(RULE_NAME, "The rule that must decide"),
        "sha256" => matching("^[0-9A-Fa-f]{64}$", "What the file holds"),
        "host" => text("The name by which the end is known"),
        _ => Json::True,
    });
    let choices = OBJECTS.iter().map(|key| required(&[key])).collect();
    members.push(("oneOf".to_owned(), Json::List(choices)));
    members.push((
        "dependentRequired".to_owned(),
        object([("open", list(["access"])), ("access", list(["open"]))]),
    ));
    Json::Object(members)
}
