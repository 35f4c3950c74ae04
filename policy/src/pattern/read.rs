//! The text of a pattern to its elements: variables put in, braces made into alternatives, every component
//! checked. What is read is also written down again, variables replaced.

use super::fault::PatternFault;
use super::{
    ByteSet, Element, MAX_ALTERNATIVES, MAX_EXPANDED, MAX_NESTING, MAX_PATH, Parsed, Pattern, escape,
};
use crate::variables::{Scope, Value, VariableFault};

/// Reads a pattern that is not empty.
pub(super) fn pattern(text: &str, scope: &Scope<'_>) -> Result<Parsed, PatternFault> {
    let mut reader = Reader { rest: text, text: String::new(), scope, depth: 0, outcome: None };
    let pieces = reader.sequence()?;
    if let Some(outcome) = reader.outcome {
        return Ok(outcome);
    }
    let text = reader.text;
    let mut globs = Vec::new();
    for tokens in expand(&pieces)? {
        globs.push(elements(&tokens, &text)?);
    }
    globs.sort();
    globs.dedup();
    Ok(Parsed::Read(Pattern::of(text, globs)))
}

/// A piece of a pattern before braces are resolved.
enum Piece {
    Token(Token),
    Alternatives(Vec<Vec<Piece>>),
}

/// A piece without braces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Byte(u8),
    Set(ByteSet),
    Star,
    StarStar,
}

/// Reads a pattern's text, and writes it down again with its variables replaced.
struct Reader<'a> {
    rest: &'a str,
    text: String,
    scope: &'a Scope<'a>,
    depth: usize,
    outcome: Option<Parsed>,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        self.text.push(c);
        Some(c)
    }

    /// Pieces up to the end, or up to a `,` or `}` of the alternatives around them.
    fn sequence(&mut self) -> Result<Vec<Piece>, PatternFault> {
        let mut pieces = Vec::new();
        while let Some(c) = self.rest.chars().next() {
            if self.depth > 0 && (c == ',' || c == '}') {
                break;
            }
            if self.rest.starts_with("${") {
                self.variable(&mut pieces)?;
                if self.outcome.is_some() {
                    return Ok(pieces);
                }
                continue;
            }
            self.next();
            let token = match c {
                '*' => {
                    if self.rest.starts_with("**") {
                        return Err(PatternFault::ThreeStars);
                    }
                    if self.rest.starts_with('*') {
                        self.next();
                        Token::StarStar
                    } else {
                        Token::Star
                    }
                }
                '?' => Token::Set(ByteSet::all_but_slash()),
                '[' => Token::Set(self.set()?),
                '{' => {
                    pieces.push(self.alternatives()?);
                    if self.outcome.is_some() {
                        return Ok(pieces);
                    }
                    continue;
                }
                '}' => return Err(PatternFault::StrayBrace),
                c => {
                    let mut buffer = [0; 4];
                    let bytes = match c {
                        '\\' => self.escaped(&mut buffer)?,
                        c => c.encode_utf8(&mut buffer).as_bytes(),
                    };
                    pieces.extend(bytes.iter().map(|byte| Piece::Token(Token::Byte(*byte))));
                    continue;
                }
            };
            pieces.push(Piece::Token(token));
        }
        Ok(pieces)
    }

    fn variable(&mut self, pieces: &mut Vec<Piece>) -> Result<(), PatternFault> {
        let (inside, after) = self.rest[2..].split_once('}').ok_or(VariableFault::Unclosed)?;
        let mut value = match self.scope.lookup(inside)? {
            Value::Bytes(value) => value,
            Value::None => {
                self.outcome = Some(Parsed::None);
                return Ok(());
            }
            Value::Broken => {
                self.outcome = Some(Parsed::Broken);
                return Ok(());
            }
        };
        if value.contains(&0) {
            return Err(PatternFault::Nul);
        }
        self.rest = after;
        // HOME may be `/`, and `${HOME}/x` is `/x` then.
        if value.ends_with(b"/") && after.starts_with('/') {
            value.pop();
        }
        self.text.push_str(&escape(&value));
        pieces.extend(value.iter().map(|byte| Piece::Token(Token::Byte(*byte))));
        Ok(())
    }

    /// What follows a backslash.
    fn escaped<'b>(&mut self, buffer: &'b mut [u8; 4]) -> Result<&'b [u8], PatternFault> {
        let c = self.next().ok_or(PatternFault::LoneEscape)?;
        match c {
            'x' => {
                let digits = self.rest.get(..2).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                let digits = digits.ok_or(PatternFault::BadHex)?;
                let byte = u8::from_str_radix(digits, 16).map_err(|_| PatternFault::BadHex)?;
                self.next();
                self.next();
                if byte == 0 {
                    return Err(PatternFault::Nul);
                }
                buffer[0] = byte;
                Ok(&buffer[..1])
            }
            c if c.is_ascii_alphanumeric() => Err(PatternFault::BadEscape { found: c }),
            c => Ok(c.encode_utf8(buffer).as_bytes()),
        }
    }

    /// The bytes of a set, after its `[`.
    fn set(&mut self) -> Result<ByteSet, PatternFault> {
        let negated = self.rest.starts_with('!');
        if negated {
            self.next();
        }
        if self.rest.starts_with('^') {
            return Err(PatternFault::CaretSet);
        }
        if self.rest.starts_with(']') {
            return Err(PatternFault::EmptySet);
        }
        let mut set = ByteSet::default();
        loop {
            let low = self.member()?;
            let range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            let high = if range {
                self.next();
                self.member()?
            } else {
                low
            };
            if low > high {
                return Err(PatternFault::BackwardRange { low: escape(&[low]), high: escape(&[high]) });
            }
            (low..=high).for_each(|byte| set.insert(byte));
            if self.rest.starts_with(']') {
                self.next();
                break;
            }
        }
        if negated {
            set = set.negated();
        }
        // A range such as `[+-9]` runs over the slash; a component never has one.
        set.remove(b'/');
        if set.is_empty() { Err(PatternFault::EmptySet) } else { Ok(set) }
    }

    fn member(&mut self) -> Result<u8, PatternFault> {
        let mut buffer = [0; 4];
        let bytes = match self.next().ok_or(PatternFault::UnclosedSet)? {
            '\\' => self.escaped(&mut buffer)?,
            '[' => return Err(PatternFault::UnclosedSet),
            c => c.encode_utf8(&mut buffer).as_bytes(),
        };
        match *bytes {
            [b'/'] => Err(PatternFault::SlashInSet),
            [byte] => Ok(byte),
            _ => {
                let character = std::str::from_utf8(bytes).ok().and_then(|s| s.chars().next());
                Err(PatternFault::WideInSet { character: character.unwrap_or('?') })
            }
        }
    }

    /// Alternatives, after their `{`.
    fn alternatives(&mut self) -> Result<Piece, PatternFault> {
        if self.rest.starts_with('}') {
            return Err(PatternFault::EmptyBrace);
        }
        if self.depth == MAX_NESTING {
            return Err(PatternFault::DeepBraces);
        }
        self.depth += 1;
        let mut alternatives = Vec::new();
        loop {
            alternatives.push(self.sequence()?);
            if self.outcome.is_some() {
                break;
            }
            match self.next() {
                Some(',') => {}
                Some(_) => break,
                None => return Err(PatternFault::UnclosedBrace),
            }
        }
        self.depth -= 1;
        Ok(Piece::Alternatives(alternatives))
    }
}

/// Every combination of the alternatives.
fn expand(pieces: &[Piece]) -> Result<Vec<Vec<Token>>, PatternFault> {
    let mut all: Vec<Vec<Token>> = vec![Vec::new()];
    for piece in pieces {
        match piece {
            Piece::Token(token) => all.iter_mut().for_each(|tokens| tokens.push(*token)),
            Piece::Alternatives(alternatives) => {
                let mut choices = Vec::new();
                for alternative in alternatives {
                    choices.extend(expand(alternative)?);
                }
                let bytes = |many: &[Vec<Token>]| many.iter().map(|tokens| tokens.len() + 1).sum::<usize>();
                let size = bytes(&all) * choices.len() + bytes(&choices) * all.len();
                if all.len() * choices.len() > MAX_ALTERNATIVES || size > MAX_EXPANDED {
                    return Err(PatternFault::ManyAlternatives);
                }
                all = all
                    .iter()
                    .flat_map(|tokens| choices.iter().map(move |choice| [&tokens[..], &choice[..]].concat()))
                    .collect();
            }
        }
    }
    Ok(all)
}

/// The variable that a text begins with as shells write it.
fn unbraced(text: &str) -> Option<String> {
    let rest = text.strip_prefix('$')?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    (end > 0).then(|| rest[..end].to_owned())
}

/// The elements of one alternative.
fn elements(tokens: &[Token], text: &str) -> Result<Vec<Element>, PatternFault> {
    // Adjacent stars can also come from braces: `*{*,x}`.
    let stars = |token: &Token| matches!(token, Token::Star | Token::StarStar);
    if tokens.windows(2).any(|pair| pair.iter().all(stars)) {
        return Err(PatternFault::ThreeStars);
    }
    let components: Vec<&[Token]> = tokens.split(|token| *token == Token::Byte(b'/')).collect();
    let components = match components.as_slice() {
        [[], rest @ ..] if !rest.is_empty() => rest,
        [[Token::StarStar], _, ..] => components.as_slice(),
        [[Token::StarStar]] => return Err(PatternFault::Everything),
        _ if tokens.is_empty() => return Err(PatternFault::Empty),
        _ if let Some(name) = unbraced(text) => return Err(PatternFault::Unbraced { name }),
        _ => return Err(PatternFault::Relative { rest: text.strip_prefix("./").unwrap_or(text).to_owned() }),
    };
    if let [[]] = components {
        return Ok(vec![Element::Byte(b'/')]);
    }
    if let [first, second, ..] = components
        && let (b"proc", Some(name @ (b"self" | b"thread-self"))) =
            (literal(first).unwrap_or_default().as_slice(), literal(second).as_deref())
    {
        let name = String::from_utf8_lossy(name).into_owned();
        let place = if name == "self" { "[0-9]*" } else { "[0-9]*/task/[0-9]*" };
        let instead = text.replacen(&name, place, 1);
        return Err(PatternFault::ProcSelf { name, instead });
    }
    let mut out = Vec::new();
    let mut after_deep = false;
    for (i, component) in components.iter().enumerate() {
        let last = i + 1 == components.len();
        match component {
            [] if last => {
                let instead = text.trim_end_matches('/');
                return Err(PatternFault::TrailingSlash { instead: instead.to_owned() });
            }
            [] => return Err(PatternFault::DoubleSlash),
            [Token::Byte(b'.')] => return Err(PatternFault::Dots { component: "." }),
            [Token::Byte(b'.'), Token::Byte(b'.')] => return Err(PatternFault::Dots { component: ".." }),
            // `/**/**` and `**/**`: what was read as `Deep` is the tail.
            [Token::StarStar] if last && after_deep => {
                out.truncate(out.len() - 2);
                tail(&mut out);
            }
            [Token::StarStar] if last => tail(&mut out),
            [Token::StarStar] if after_deep => {}
            [Token::StarStar] => {
                out.extend([Element::Byte(b'/'), Element::Deep]);
                after_deep = true;
            }
            component => {
                if !after_deep {
                    out.push(Element::Byte(b'/'));
                }
                after_deep = false;
                if let [Token::Star] = component {
                    out.push(Element::Set(ByteSet::all_but_slash()));
                }
                out.extend(component.iter().map(|token| match token {
                    Token::Byte(byte) => Element::Byte(*byte),
                    Token::Set(set) => Element::Set(*set),
                    Token::Star => Element::Star,
                    Token::StarStar => Element::Any,
                }));
            }
        }
    }
    let shortest = out.iter().filter(|e| matches!(e, Element::Byte(_) | Element::Set(_))).count();
    if shortest > MAX_PATH { Err(PatternFault::TooLong) } else { Ok(out) }
}

/// The bytes of a component without wildcards.
fn literal(component: &[Token]) -> Option<Vec<u8>> {
    let byte = |token: &Token| match token {
        Token::Byte(byte) => Some(*byte),
        _ => None,
    };
    component.iter().map(byte).collect()
}

/// `/**` at the end: at the root everything, elsewhere the place and what is below it.
fn tail(out: &mut Vec<Element>) {
    if out.is_empty() {
        out.extend([Element::Byte(b'/'), Element::Any]);
    } else {
        out.push(Element::Below);
    }
}
