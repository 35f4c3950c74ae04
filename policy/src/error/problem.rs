//! What can be wrong at one place of a policy file, in the words that its author reads.

use std::fmt;

/// What is wrong at one place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The bytes are not UTF-8.
    #[error("byte 0x{byte:02x} is not UTF-8 text; write other bytes of a path as `\\x{byte:02x}`")]
    NotUtf8 {
        /// The first byte that does not fit.
        byte: u8,
    },
    /// The file begins with U+FEFF.
    #[error("the file begins with a byte order mark; save it as plain UTF-8")]
    ByteOrderMark,
    /// A character that a reader cannot see.
    #[error(
        "the invisible character U+{code:04X} stands here; remove it, or write it as `\\x..` bytes in a pattern"
    )]
    Invisible {
        /// Its code point.
        code: u32,
    },
    /// The file is longer than [`crate::document::MAX_BYTES`].
    #[error("the file has {bytes} bytes, more than the {limit} that a policy may have")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Collections inside collections, deeper than the language ever needs.
    #[error("nested more than {limit} deep; a policy never needs that")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A tab where YAML wants spaces.
    #[error("a tab in the indentation; indent with spaces")]
    Tab,
    /// `existing` without a directory to look in.
    #[error(
        "`{pattern}` begins nowhere: what is there is looked up in a directory, as in `/home/me/work/**/.env`"
    )]
    LooksEverywhere {
        /// The pattern.
        pattern: String,
    },
    /// Not YAML at all.
    #[error("not valid YAML: {reason}")]
    Syntax {
        /// The parser's words.
        reason: String,
    },
    /// `&a`, `*a`, `<<`.
    #[error("YAML anchors, aliases and merges are not part of the language; write it out, or use `vars`")]
    Alias,
    /// `!tag`.
    #[error("YAML tags are not part of the language; leave the `!…` out")]
    Tag,
    /// `---` in the middle.
    #[error("a second document begins here; one file is one policy")]
    SecondDocument,
    /// Nothing but comments.
    #[error("the file is empty; a policy begins with `version: 1` and `name: …`")]
    Empty,
    /// A key that stands twice in one mapping.
    #[error("`{}` stands twice, first on line {first}; keep one", cut(.key))]
    DuplicateKey {
        /// The key.
        key: String,
        /// Line of the first.
        first: u32,
    },
    /// A mapping or sequence as a key.
    #[error("a key must be a plain word")]
    KeyNotText,
    /// A key that the language does not have.
    #[error("unknown key `{}` in {context}{}", cut(.key), Suggestion(.nearest))]
    UnknownKey {
        /// The key.
        key: String,
        /// What it stands in.
        context: &'static str,
        /// Keys that it may have meant.
        nearest: Vec<&'static str>,
    },
    /// A key of the language that this version cannot hold yet.
    #[error("`{word}` is not supported yet")]
    NotYet {
        /// The key or value.
        word: String,
    },
    /// A key that belongs elsewhere.
    #[error("`{key}` does not belong in a rule of `{section}`; write `{instead}`")]
    WrongSection {
        /// The key.
        key: &'static str,
        /// The section it stands in.
        section: &'static str,
        /// What belongs there.
        instead: &'static str,
    },
    /// A key that means nothing beside the others.
    #[error("`{key}` means nothing here: {instead}")]
    Misplaced {
        /// The key.
        key: &'static str,
        /// Why, and what to do.
        instead: &'static str,
    },
    /// A value of the wrong kind.
    #[error("{what} must be {wanted}, not {found}")]
    WrongKind {
        /// What the value is for.
        what: String,
        /// What it has to be.
        wanted: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A plain word that YAML reads as something other than text.
    #[error("{what}: {kind} where text is meant; write \"{}\" in quotes", cut(.text))]
    NotText {
        /// What the value is for.
        what: String,
        /// What YAML takes it for.
        kind: &'static str,
        /// The value.
        text: String,
    },
    /// No value where one is needed.
    #[error("{what} has no value")]
    NoValue {
        /// What the value is for.
        what: String,
    },
    /// A key that must be there.
    #[error("{context} needs `{key}`: {instead}")]
    Missing {
        /// What lacks it.
        context: String,
        /// The key.
        key: &'static str,
        /// What to write.
        instead: &'static str,
    },
    /// `version:` is not 1.
    #[error("version `{}` is not known here; write `version: 1`", cut(.found))]
    Version {
        /// What stands there.
        found: String,
    },
    /// A name with characters that names cannot have.
    #[error(
        "{what} `{}` may only have letters, digits, `-`, `_` and `.`, and begins with a letter or digit",
        cut(.name)
    )]
    BadName {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name that means something else.
    #[error("`{name}` is the name of a section's default; choose another")]
    ReservedName {
        /// The name.
        name: String,
    },
    /// Two rules of one name.
    #[error("a rule named `{name}` stands on line {first} already; names are unique in a policy")]
    DuplicateRule {
        /// The name.
        name: String,
        /// Line of the first.
        first: u32,
    },
    /// Several of `allow`, `ask` and `deny`.
    #[error("a rule says one of `allow`, `ask` and `deny`; make several rules of it")]
    TwoEffects,
    /// Something to extend that cannot be had.
    #[error("`{}` {reason}", cut(.reference))]
    Extends {
        /// As written.
        reference: String,
        /// Why not.
        reason: String,
    },
    /// The same twice.
    #[error("`{}` is extended twice; keep one", cut(.reference))]
    ExtendedTwice {
        /// As written.
        reference: String,
    },
    /// Two inherited rules of one name.
    #[error("two different rules named `{name}` are inherited; rename or amend one where it comes from")]
    InheritedTwice {
        /// `policy/rule`.
        name: String,
    },
    /// Two inherited defaults.
    #[error("`{second}` and `{first}` differ in their `default` of `{section}`; say your own")]
    DefaultsDiffer {
        /// The section.
        section: &'static str,
        /// What is extended first.
        first: String,
        /// What is extended after it.
        second: String,
    },
    /// Two inherited settings.
    #[error("`{second}` and `{first}` differ in `{section}`; say your own")]
    SettingsDiffer {
        /// The section.
        section: &'static str,
        /// What is extended first.
        first: String,
        /// What is extended after it.
        second: String,
    },
    /// `amend` of a rule that is not inherited.
    #[error(
        "no rule named `{}` is inherited in `{section}`{}", cut(.name),
        if .known.is_empty() { String::new() } else { format!("; there are {}", listed(.known)) }
    )]
    AmendsNothing {
        /// As written.
        name: String,
        /// The section.
        section: &'static str,
        /// What could be amended.
        known: Vec<String>,
    },
    /// A group that gives nothing.
    #[error("`{}` {fault}", cut(.name))]
    Group {
        /// As written, with its `@`.
        name: String,
        /// What is wrong.
        fault: crate::groups::GroupFault,
    },
    /// A group that ships already.
    #[error("a group `@{name}` ships already; choose another name")]
    ShippedGroup {
        /// Its name.
        name: String,
    },
    /// A list with nothing in it.
    #[error("{what} is empty; {instead}")]
    EmptyList {
        /// What is empty.
        what: String,
        /// What to do.
        instead: &'static str,
    },
    /// A word or quantity that cannot stand there.
    #[error("`{}` is no {what}; write {wanted}", cut(.found))]
    BadWord {
        /// What stands there.
        found: String,
        /// What it should be.
        what: &'static str,
        /// The words that may stand there.
        wanted: String,
    },
    /// An access that another section has.
    #[error("`{access}` is an access of `{section}`; rules here know {wanted}")]
    AccessElsewhere {
        /// The access.
        access: &'static str,
        /// Its section.
        section: &'static str,
        /// The accesses that belong here.
        wanted: String,
    },
    /// A pattern that cannot be.
    #[error("pattern `{}`: {fault}", cut(.pattern))]
    Pattern {
        /// As written.
        pattern: String,
        /// What is wrong.
        fault: crate::pattern::PatternFault,
    },
    /// A variable that cannot be.
    #[error("{0}")]
    Variable(#[from] crate::variables::VariableFault),
    /// A network target that cannot be.
    #[error("target `{}`: {fault}", cut(.target))]
    Target {
        /// As written.
        target: String,
        /// What is wrong.
        fault: crate::address::TargetFault,
    },
    /// An example with no object, or with several.
    #[error("an example has exactly one of `open`, `run`, `connect`, `send`, `bind` and `listen`")]
    ExampleObject,
    /// An example of which the policy says something else.
    #[error("the policy says {decision} by `{rule}`, the example says {wanted}")]
    ExampleFails {
        /// The policy's decision.
        decision: &'static str,
        /// The rule behind it.
        rule: String,
        /// The example's words.
        wanted: String,
    },
}

/// The beginning of text from the file, where all of it would hide the message.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Some of the names, quoted.
fn listed(names: &[String]) -> String {
    let mut shown: Vec<String> = names.iter().take(6).map(|name| format!("`{name}`")).collect();
    if names.len() > shown.len() {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

/// "; did you mean …?" or a list of what there is.
struct Suggestion<'a>(&'a [&'static str]);

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            [one] => write!(f, "; did you mean `{one}`?"),
            many => {
                f.write_str("; the keys here are ")?;
                for (i, key) in many.iter().enumerate() {
                    write!(f, "{}`{key}`", if i == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
    }
}
