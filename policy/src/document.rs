//! YAML to a tree of marked nodes: every key and value knows its place.
//!
//! Knows nothing of the policy language, except that it needs little of YAML: no anchors, no aliases, no
//! tags, one document, [`MAX_DEPTH`] levels. That also bounds time and memory on hostile input: events are
//! taken one by one, and the first that goes too far ends the reading.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::error::{Error, Place, Problem};

/// Most bytes of a policy file.
pub const MAX_BYTES: usize = 4 << 20;
/// Most levels of collections; the language needs six.
pub const MAX_DEPTH: usize = 16;

/// A node of the document.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub place: Place,
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A scalar; `plain` when it was written without quotes, so that YAML may take it for a number, ….
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub place: Place,
    pub value: Node,
}

impl Node {
    /// What the node is, in words.
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar { text, plain: true } => surprise(text).unwrap_or("text"),
            Kind::Scalar { .. } => "text",
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "a mapping",
        }
    }

    /// True for a value left out, and for `null` and `~`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if surprise(text) == Some("null"))
    }
}

/// What YAML (1.1 or 1.2) takes an unquoted word for, where that is not text.
pub(crate) fn surprise(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "" | "~" | "null" => return Some("null"),
        "y" | "yes" | "n" | "no" | "on" | "off" | "true" | "false" => return Some("a boolean"),
        ".inf" | "+.inf" | "-.inf" | ".nan" => return Some("a number"),
        _ => {}
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let radix = |prefix: &str, radix: u32| {
        digits.strip_prefix(prefix).is_some_and(|d| !d.is_empty() && d.chars().all(|c| c.is_digit(radix)))
    };
    let sexagesimal = digits.contains(':')
        && digits
            .split(':')
            .all(|part| !part.is_empty() && part.len() <= 2 && part.bytes().all(|b| b.is_ascii_digit()));
    let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.contains(|c: char| c.is_ascii_digit())
        && (digits.parse::<f64>().is_ok() || digits.chars().all(|c| c.is_ascii_digit() || c == '_'));
    (number || sexagesimal || radix("0x", 16) || radix("0o", 8) || radix("0b", 2)).then_some("a number")
}

/// Characters that change what a reader sees: zero-width and direction controls.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// The text of a file's bytes.
pub(crate) fn decode(bytes: &[u8]) -> Result<&str, Error> {
    if bytes.len() > MAX_BYTES {
        let problem = Problem::TooLong { bytes: bytes.len(), limit: MAX_BYTES };
        return Err(Error { place: START, problem });
    }
    std::str::from_utf8(bytes).map_err(|fault| {
        let good = &bytes[..fault.valid_up_to()];
        let text = std::str::from_utf8(good).unwrap_or_default();
        let byte = bytes.get(fault.valid_up_to()).copied().unwrap_or_default();
        Error { place: place_at(text, text.len()), problem: Problem::NotUtf8 { byte } }
    })
}

/// The document in `text`.
///
/// # Errors
///
/// The first thing that makes the text unreadable, or all duplicate keys.
pub(crate) fn read(text: &str) -> Result<Node, Vec<Error>> {
    let single = |place, problem| vec![Error { place, problem }];
    decode(text.as_bytes()).map_err(|error| vec![error])?;
    if text.starts_with('\u{feff}') {
        return Err(single(START, Problem::ByteOrderMark));
    }
    let unseen = |c: char| (c.is_control() && !matches!(c, '\n' | '\r' | '\t')) || is_invisible(c);
    if let Some((at, c)) = text.char_indices().find(|(_, c)| unseen(*c)) {
        return Err(single(place_at(text, at), Problem::Invisible { code: c.into() }));
    }
    let tabbed = |line: &str| line.trim_start_matches(' ').starts_with('\t') && !line.trim().is_empty();
    if let Some((number, line)) = text.lines().enumerate().find(|(_, line)| tabbed(line)) {
        let column = line.chars().take_while(|c| *c == ' ').count() + 1;
        let place = Place { line: clamp(number + 1), column: clamp(column), width: 1 };
        return Err(single(place, Problem::Tab));
    }
    Builder::default().build(text)
}

const START: Place = Place { line: 1, column: 1, width: 1 };

fn clamp(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The place of the byte offset `at`.
fn place_at(text: &str, at: usize) -> Place {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    Place { line: clamp(line), column: clamp(text[line_start..at].chars().count() + 1), width: 1 }
}

/// A collection that is still open.
struct Open {
    place: Place,
    kind: OpenKind,
}

enum OpenKind {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<Entry>,
        key: Option<(String, Place)>,
        seen: std::collections::HashMap<String, u32>,
    },
}

/// Builds the tree from events.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    errors: Vec<Error>,
}

impl Builder {
    fn build(mut self, text: &str) -> Result<Node, Vec<Error>> {
        for event in Parser::new_from_str(text) {
            let stop = match event {
                Ok((event, span)) => self.event(event, span).err(),
                Err(fault) => {
                    let mark = fault.marker();
                    let place = Place { line: clamp(mark.line()), column: clamp(mark.col() + 1), width: 1 };
                    Some(Error { place, problem: Problem::Syntax { reason: fault.info().to_owned() } })
                }
            };
            if let Some(error) = stop {
                self.errors.push(error);
                return Err(self.errors);
            }
            if self.errors.len() >= crate::error::ENOUGH {
                return Err(self.errors);
            }
        }
        match self.root {
            _ if !self.errors.is_empty() => Err(self.errors),
            Some(root) if !root.is_null() => Ok(root),
            _ => Err(vec![Error { place: START, problem: Problem::Empty }]),
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Error> {
        let place = place_of(span);
        let fail = |problem| Err(Error { place, problem });
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 { fail(Problem::SecondDocument) } else { Ok(()) }
            }
            Event::Alias(_) => fail(Problem::Alias),
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                fail(Problem::Alias)
            }
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => fail(Problem::Tag),
            Event::Scalar(text, style, _, _) => {
                let kind = Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.node(Node { place, kind })
            }
            Event::SequenceStart(..) => self.start(place, OpenKind::Sequence(Vec::new())),
            Event::MappingStart(..) => {
                let seen = std::collections::HashMap::new();
                self.start(place, OpenKind::Mapping { entries: Vec::new(), key: None, seen })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open { place, kind: OpenKind::Sequence(items) }) => {
                    self.node(Node { place, kind: Kind::Sequence(items) })
                }
                Some(Open { place, kind: OpenKind::Mapping { entries, .. } }) => {
                    self.node(Node { place, kind: Kind::Mapping(entries) })
                }
                None => Ok(()),
            },
        }
    }

    fn start(&mut self, place: Place, kind: OpenKind) -> Result<(), Error> {
        if self.open.len() == MAX_DEPTH {
            return Err(Error { place, problem: Problem::TooDeep { limit: MAX_DEPTH } });
        }
        if let Some(Open { kind: OpenKind::Mapping { key: None, .. }, .. }) = self.open.last() {
            return Err(Error { place, problem: Problem::KeyNotText });
        }
        self.open.push(Open { place, kind });
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn node(&mut self, node: Node) -> Result<(), Error> {
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(OpenKind::Sequence(items)) => items.push(node),
            Some(OpenKind::Mapping { entries, key, seen }) => match key.take() {
                Some((key, place)) => entries.push(Entry { key, place, value: node }),
                None => {
                    let Kind::Scalar { text, plain } = node.kind else {
                        return Err(Error { place: node.place, problem: Problem::KeyNotText });
                    };
                    if plain && text == "<<" {
                        return Err(Error { place: node.place, problem: Problem::Alias });
                    }
                    if let Some(first) = seen.insert(text.clone(), node.place.line) {
                        let problem = Problem::DuplicateKey { key: text.clone(), first };
                        self.errors.push(Error { place: node.place, problem });
                    }
                    *key = Some((text, node.place));
                }
            },
        }
        Ok(())
    }
}

fn place_of(span: Span) -> Place {
    let (start, end) = (span.start, span.end);
    let width =
        if end.line() == start.line() { end.col().saturating_sub(start.col()).max(1) } else { usize::MAX };
    Place { line: clamp(start.line()), column: clamp(start.col() + 1), width: clamp(width) }
}
