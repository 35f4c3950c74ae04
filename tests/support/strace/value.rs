//! One call's text taken apart: `name(argument, …) = result`.

use super::{Outcome, errno};

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A string. `cut` says that strace printed only its beginning.
    Text {
        /// Its bytes, unescaped; an abstract socket's name begins with `@`.
        bytes: Vec<u8>,
        /// There was more.
        cut: bool,
    },
    /// A descriptor with what strace found behind it.
    Descriptor(String, Option<Vec<u8>>),
    /// `[a, b]`.
    List(Vec<Value>),
    /// `{name=value, word}`; the name is empty for a bare word.
    Struct(Vec<(String, Value)>),
    /// Anything else, as it stands: a number, flags, a pointer, `htons(80)`.
    Word(String),
}

impl Value {
    /// The bytes of a string.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Value::Text { bytes, .. } => Some(bytes),
            _ => None,
        }
    }

    /// The elements of a list.
    pub fn list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// A word as it stands.
    pub fn word(&self) -> Option<&str> {
        match self {
            Value::Word(word) => Some(word),
            _ => None,
        }
    }

    /// A field of a struct.
    pub fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Struct(fields) => fields.iter().find(|(n, _)| n == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The bare words of a struct.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let fields: &[(String, Value)] = match self {
            Value::Struct(fields) => fields,
            _ => &[],
        };
        fields.iter().filter(|(name, _)| name.is_empty()).filter_map(|(_, value)| value.word())
    }
}

/// Takes a call apart into its name, arguments and outcome.
pub fn parse_call(text: &str) -> Result<(String, Vec<Value>, Outcome), String> {
    let mut cursor = Cursor { bytes: text.as_bytes(), at: 0 };
    let name = cursor.identifier();
    if name.is_empty() || !cursor.take(b'(') {
        return Err("expected a call".to_owned());
    }
    let mut args = Vec::new();
    while !cursor.take(b')') {
        args.push(cursor.value()?);
        cursor.spaces();
        if cursor.take_str("=> ") {
            // What the kernel wrote into an argument; its value before the call is what counts here.
            cursor.value()?;
        }
        if !cursor.take(b',') && cursor.peek() != Some(b')') {
            return Err(format!("expected `,` or `)` at byte {}", cursor.at));
        }
        cursor.spaces();
    }
    cursor.spaces();
    if !cursor.take_str("= ") {
        return Err("expected ` = ` and a result".to_owned());
    }
    Ok((name, args, cursor.outcome()?))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn take_str(&mut self, text: &str) -> bool {
        let found = self.bytes[self.at..].starts_with(text.as_bytes());
        self.at += if found { text.len() } else { 0 };
        found
    }

    fn spaces(&mut self) {
        while self.take(b' ') {}
    }

    fn identifier(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') {
            self.at += 1;
        }
        String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned()
    }

    fn value(&mut self) -> Result<Value, String> {
        match self.peek() {
            Some(b'"') => self.string(Vec::new()),
            Some(b'@') => {
                self.at += 1;
                self.string(vec![b'@'])
            }
            Some(b'[') => self.list(),
            Some(b'{') => self.fields(),
            Some(_) => self.word(),
            None => Err("the line ends inside a call".to_owned()),
        }
    }

    fn string(&mut self, mut bytes: Vec<u8>) -> Result<Value, String> {
        if !self.take(b'"') {
            return Err("expected a string".to_owned());
        }
        self.unescape(b'"', &mut bytes)?;
        let cut = self.take_str("...");
        Ok(Value::Text { bytes, cut })
    }

    /// Reads escaped bytes up to and over `end`.
    fn unescape(&mut self, end: u8, out: &mut Vec<u8>) -> Result<(), String> {
        loop {
            let byte = self.peek().ok_or("the line ends inside a string")?;
            self.at += 1;
            if byte == end {
                return Ok(());
            }
            if byte != b'\\' {
                out.push(byte);
                continue;
            }
            let escape = self.peek().ok_or("the line ends inside an escape")?;
            self.at += 1;
            out.push(match escape {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'v' => 0x0b,
                b'f' => 0x0c,
                b'x' => self.digits(16, 2)?,
                b'0'..=b'7' => {
                    self.at -= 1;
                    self.digits(8, 3)?
                }
                other => other,
            });
        }
    }

    fn digits(&mut self, base: u32, most: usize) -> Result<u8, String> {
        let start = self.at;
        let mut number = 0u32;
        while self.at - start < most
            && let Some(digit) = self.peek().and_then(|b| char::from(b).to_digit(base))
        {
            number = number * base + digit;
            self.at += 1;
        }
        u8::try_from(number).map_err(|_| "an escape above 255".to_owned())
    }

    fn list(&mut self) -> Result<Value, String> {
        self.at += 1;
        let mut items = Vec::new();
        while !self.take(b']') {
            items.push(self.value()?);
            // A bit set is `[A B]`, a list is `[a, b]`; both may end in `...`.
            while self.take(b',') || self.take(b' ') {}
        }
        Ok(Value::List(items))
    }

    fn fields(&mut self) -> Result<Value, String> {
        self.at += 1;
        let mut fields = Vec::new();
        while !self.take(b'}') {
            let start = self.at;
            let name = self.identifier();
            if !name.is_empty() && self.take(b'=') {
                fields.push((name, self.value()?));
            } else {
                self.at = start;
                fields.push((String::new(), self.value()?));
            }
            while self.take(b',') || self.take(b' ') {}
        }
        Ok(Value::Struct(fields))
    }

    /// A word, with whatever brackets belong to it, up to a `,` or a closing bracket of its surroundings.
    fn word(&mut self) -> Result<Value, String> {
        let start = self.at;
        let mut depth = 0usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'<' if depth == 0 => return self.descriptor(start),
                b'"' => {
                    self.string(Vec::new())?;
                    continue;
                }
                b'(' => depth += 1,
                b')' if depth > 0 => depth -= 1,
                b',' | b')' | b']' | b'}' if depth == 0 => break,
                b' ' if depth == 0 && !self.bytes[self.at..].starts_with(b" /* ") => break,
                b' ' if depth == 0 => {
                    self.comment()?;
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
        if self.at == start {
            return Err(format!("expected a value at byte {start}"));
        }
        Ok(Value::Word(String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned()))
    }

    fn comment(&mut self) -> Result<(), String> {
        let rest = &self.bytes[self.at..];
        let length = rest.windows(2).position(|w| w == b"*/").ok_or("a comment without an end")?;
        self.at += length + 2;
        Ok(())
    }

    fn descriptor(&mut self, start: usize) -> Result<Value, String> {
        let word = String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned();
        Ok(Value::Descriptor(word, Some(self.behind()?)))
    }

    /// `<path>` or `<path>(deleted)`.
    fn behind(&mut self) -> Result<Vec<u8>, String> {
        self.at += 1;
        let mut path = Vec::new();
        self.unescape(b'>', &mut path)?;
        self.take_str("(deleted)");
        Ok(path)
    }

    fn outcome(&mut self) -> Result<Outcome, String> {
        if self.take(b'?') {
            self.spaces();
            return match self.identifier() {
                none if none.is_empty() => Ok(Outcome::None),
                name => errno::number(&name).map(Outcome::Failed).ok_or(format!("unknown error {name}")),
            };
        }
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'-') {
            self.at += 1;
        }
        let number = String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned();
        let value = match number.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).map_err(|_| "not a result")? as i64,
            None => number.parse().map_err(|_| format!("not a result: `{number}`"))?,
        };
        if value == -1 && self.take(b' ') {
            let name = self.identifier();
            return errno::number(&name).map(Outcome::Failed).ok_or(format!("unknown error {name}"));
        }
        let path = if self.peek() == Some(b'<') { Some(self.behind()?) } else { None };
        Ok(Outcome::Returned(value, path))
    }
}
