//! Globs over the bytes of absolute paths: reading them, and matching them one by one.
//!
//! `*` and `?` stay inside one component, `**` crosses them, `[a-z]` and `[!a-z]` are one byte of a
//! component, `{a,b}` is either, `\` takes the next character literally, `\xHH` is a byte. `/a/**` is `/a`
//! and everything below it; `/a/**/b` is also `/a/b`; `**/b` is `/b` at any depth. A component that is just
//! `*` is never empty. Names that begin with a dot are names like others.
//!
//! [`Pattern::matches`] is the oracle's matcher. The kernel's automaton is built from the same elements by
//! [`crate::compile::lsm`], with nothing else in common.

mod fault;
mod read;

pub use fault::PatternFault;

use crate::variables::Scope;

/// Longest path the kernel knows, without its NUL.
pub const MAX_PATH: usize = 4095;
/// Longest name of a directory entry (NAME_MAX).
pub const MAX_NAME: usize = 255;
/// Most alternatives that the braces of one pattern may make.
pub const MAX_ALTERNATIVES: usize = 1024;
/// Most braces inside braces.
const MAX_NESTING: usize = 8;
/// Most bytes of all the alternatives of one pattern.
const MAX_EXPANDED: usize = 1 << 20;

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ByteSet([u64; 4]);

impl ByteSet {
    pub fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    pub fn remove(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] &= !(1 << (byte & 63));
    }

    pub fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }

    pub fn negated(self) -> Self {
        Self(self.0.map(|word| !word))
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    pub fn all_but_slash() -> Self {
        let mut set = Self::default().negated();
        set.remove(b'/');
        set
    }
}

/// One step of a glob without braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Element {
    /// This byte.
    Byte(u8),
    /// One byte of the set, which never holds a slash.
    Set(ByteSet),
    /// Any number of bytes that are not slashes.
    Star,
    /// Any number of bytes.
    Any,
    /// After a slash: nothing, or whole components with a slash behind each.
    Deep,
    /// At the end: nothing, or a slash and anything.
    Below,
}

impl Element {
    /// The byte, of one that is literal.
    pub fn byte(&self) -> Option<u8> {
        match self {
            Self::Byte(byte) => Some(*byte),
            _ => None,
        }
    }
}

/// A glob, braces resolved into alternatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    globs: Vec<Vec<Element>>,
    /// What each glob begins with literally.
    begins: Vec<Box<[u8]>>,
}

impl Pattern {
    /// Reads `text`. `None`: a variable with `:-none` has no value, so that the pattern is left out.
    pub(crate) fn parse(text: &str, scope: &Scope<'_>) -> Result<Parsed, PatternFault> {
        if text.is_empty() {
            return Err(PatternFault::Empty);
        }
        if let Some(rest) = text.strip_prefix('~') {
            let own = rest.is_empty() || rest.starts_with('/');
            let instead = if own { format!("${{HOME}}{rest}") } else { format!("/home/{rest}") };
            return Err(PatternFault::Tilde { instead });
        }
        read::pattern(text, scope)
    }

    /// A pattern that stands in the program's own text: no variables. `None` where it is none.
    pub(crate) fn known(text: &str) -> Option<Self> {
        let variables = crate::variables::Variables::new();
        match Self::parse(text, &Scope::new(&variables, &[]).0) {
            Ok(Parsed::Read(pattern)) => Some(pattern),
            _ => None,
        }
    }

    /// An absolute path, taken literally.
    pub fn exactly(path: &[u8]) -> Self {
        Self::of_glob(path.iter().map(|byte| Element::Byte(*byte)).collect())
    }

    /// An absolute path, taken literally, and everything below it.
    pub fn beneath(path: &[u8]) -> Self {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let mut glob: Vec<Element> = path.iter().map(|byte| Element::Byte(*byte)).collect();
        match glob.is_empty() {
            true => glob.extend([Element::Byte(b'/'), Element::Any]),
            false => glob.push(Element::Below),
        }
        Self::of_glob(glob)
    }

    /// The pattern as the language writes it, variables replaced.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True when an absolute path, resolved and without slash at its end, is matched.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.starts().any(|start| start.matches(path))
    }

    /// Its globs, each with what it begins with.
    pub(crate) fn starts(&self) -> impl Iterator<Item = Start<'_>> {
        self.globs.iter().zip(&self.begins).map(|(glob, literal)| Start { glob, literal })
    }

    /// True for a pattern that every absolute path matches.
    pub fn is_everything(&self) -> bool {
        self.globs.iter().any(|glob| glob.as_slice() == [Element::Byte(b'/'), Element::Any])
    }

    /// The pattern of these globs, which the language writes so.
    fn of(text: String, globs: Vec<Vec<Element>>) -> Self {
        let begins = globs.iter().map(|glob| glob.iter().map_while(Element::byte).collect()).collect();
        Self { text, globs, begins }
    }

    /// The pattern of one glob that was made from others.
    pub(crate) fn of_glob(glob: Vec<Element>) -> Self {
        Self::of(write(&glob), vec![glob])
    }

    /// The one path that it matches, where it has no wildcards.
    pub(crate) fn literal(&self) -> Option<Vec<u8>> {
        let [glob] = self.globs.as_slice() else { return None };
        glob.iter().map(Element::byte).collect()
    }

    /// True where every path that it matches has a name that is too long for any file system.
    pub(crate) fn has_long_name(&self) -> bool {
        let long = |glob: &Vec<Element>| {
            let mut length = 0;
            glob.iter().any(|element| {
                match element {
                    Element::Byte(b'/') | Element::Any | Element::Deep | Element::Below => length = 0,
                    Element::Byte(_) | Element::Set(_) => length += 1,
                    Element::Star => {}
                }
                length > MAX_NAME
            })
        };
        self.globs.iter().all(long)
    }

    pub(crate) fn globs(&self) -> &[Vec<Element>] {
        &self.globs
    }

    /// A set that spells a whole component: most likely a directory of that name was meant.
    pub(crate) fn word_in_set(&self) -> Option<&str> {
        let inside = self.text.split('/').find_map(|part| part.strip_prefix('[')?.strip_suffix(']'))?;
        (inside.len() > 2 && inside.bytes().all(|b| b.is_ascii_alphabetic())).then_some(inside)
    }
}

/// One of a pattern's globs, and what it begins with literally.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start<'p> {
    glob: &'p [Element],
    literal: &'p [u8],
}

impl<'p> Start<'p> {
    /// As [`Pattern::matches`] of this glob alone.
    pub fn matches(&self, path: &[u8]) -> bool {
        // Most patterns begin with a literal directory, and most paths are elsewhere.
        // Where they differ they mostly do in the last byte as well, which is looked at without a call.
        let begins = match self.literal.last() {
            Some(last) => path.get(self.literal.len() - 1) == Some(last) && path.starts_with(self.literal),
            None => true,
        };
        begins && matches(self.glob, self.literal.len(), path)
    }

    /// The names of the directories from the root on that every path passes which it matches.
    pub fn directory(&self) -> impl Iterator<Item = &'p [u8]> + use<'p> {
        let whole = matches!(self.glob.get(self.literal.len()), None | Some(Element::Below));
        let literal = match self.literal.iter().rposition(|byte| *byte == b'/') {
            _ if whole => self.literal,
            Some(slash) => &self.literal[..slash],
            None => &[],
        };
        literal.strip_prefix(b"/").into_iter().flat_map(|names| names.split(|byte| *byte == b'/'))
    }
}

/// What reading a pattern gives.
pub(crate) enum Parsed<T = Pattern> {
    Read(T),
    /// A variable with `:-none` has no value.
    None,
    /// A variable is wrong, and reported where it is defined.
    Broken,
}

/// `bytes` written so that a pattern takes them literally.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    escape_into(&mut text, bytes);
    text
}

/// The same behind what is in `text`.
pub(crate) fn escape_into(text: &mut String, bytes: &[u8]) {
    // Most names are such.
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/' | b'+');
    if let (true, Ok(bytes)) = (bytes.iter().all(plain), std::str::from_utf8(bytes)) {
        return text.push_str(bytes);
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || crate::document::is_invisible(c) {
                let mut buffer = [0; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    text.push_str(&format!("\\x{byte:02x}"));
                }
                continue;
            }
            if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | ',' | '$' | '!' | '^') {
                text.push('\\');
            }
            text.push(c);
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
}

/// A glob as the language writes it.
fn write(glob: &[Element]) -> String {
    let mut text = String::new();
    let mut literal: Vec<u8> = Vec::new();
    for element in glob {
        if let Element::Byte(byte) = element {
            literal.push(*byte);
            continue;
        }
        text.push_str(&escape(&std::mem::take(&mut literal)));
        match element {
            Element::Set(set) if *set == ByteSet::all_but_slash() => text.push('?'),
            Element::Set(set) => {
                text.push('[');
                for byte in (1..=u8::MAX).filter(|byte| set.contains(*byte)) {
                    text.push_str(&format!("\\x{byte:02x}"));
                }
                text.push(']');
            }
            Element::Star => text.push('*'),
            Element::Any => text.push_str("**"),
            Element::Deep => text.push_str("**/"),
            Element::Below => text.push_str("/**"),
            Element::Byte(_) => {}
        }
    }
    text.push_str(&escape(&literal));
    text
}

/// Follows all ways through the elements at once, one byte at a time; the first `literal` elements are what the path
/// begins with.
fn matches(glob: &[Element], literal: usize, path: &[u8]) -> bool {
    if glob.len() == literal {
        return path.len() == literal;
    }
    // Those that begin anywhere mostly end in a literal name.
    let literal_end = glob.iter().rev().zip(path.iter().rev());
    let ends = literal_end.take_while(|(e, b)| matches!(e, Element::Byte(x) if x == *b)).count();
    if let Some(Element::Byte(_)) = glob.iter().rev().nth(ends) {
        return false;
    }
    // Those that begin and end anywhere have a literal name between.
    if !has_literal(&glob[literal..], &path[literal..]) {
        return false;
    }
    let mut now = vec![false; glob.len() + 1];
    let mut next = vec![false; glob.len() + 1];
    enter(glob, literal, &mut now);
    for &byte in &path[literal..] {
        // Beyond the slash everything is below.
        if byte == b'/' && matches!(glob.last(), Some(Element::Below)) && now[glob.len() - 1] {
            return true;
        }
        next.fill(false);
        step(glob, &now, byte, &mut next);
        std::mem::swap(&mut now, &mut next);
        if !now.contains(&true) {
            return false;
        }
    }
    now[glob.len()]
}

/// Whether the longest literal part of a glob stands anywhere in a path.
fn has_literal(glob: &[Element], path: &[u8]) -> bool {
    let parts = glob.split(|element| !matches!(element, Element::Byte(_)));
    let longest = parts.max_by_key(|part| part.len()).unwrap_or_default();
    let is_it = |part: &[u8]| longest.iter().zip(part).all(|(e, b)| matches!(e, Element::Byte(x) if x == b));
    longest.is_empty() || path.windows(longest.len()).any(is_it)
}

/// Marks in `next` where the ways that are marked in `now` are after one more byte. What is [`Element::Below`] is not
/// followed beyond its slash, behind which everything matches.
pub(crate) fn step(glob: &[Element], now: &[bool], byte: u8, next: &mut [bool]) {
    for (i, element) in glob.iter().enumerate().filter(|(i, _)| now[*i]) {
        match element {
            Element::Byte(wanted) if *wanted == byte => enter(glob, i + 1, next),
            Element::Set(set) if set.contains(byte) => enter(glob, i + 1, next),
            Element::Star if byte != b'/' => enter(glob, i, next),
            Element::Any => enter(glob, i, next),
            Element::Deep => {
                next[i] = true;
                if byte == b'/' {
                    enter(glob, i + 1, next);
                }
            }
            _ => {}
        }
    }
}

/// Marks the element `at`, and those that can be reached from it without a byte.
pub(crate) fn enter(glob: &[Element], at: usize, marks: &mut [bool]) {
    let mut i = at;
    marks[i] = true;
    while let Some(Element::Star | Element::Any | Element::Deep | Element::Below) = glob.get(i) {
        i += 1;
        marks[i] = true;
    }
}
