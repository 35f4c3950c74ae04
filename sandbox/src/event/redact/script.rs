//! The words of a text that a shell reads, as ranges of it.
//!
//! No shell: what stands for something else is not looked up.

use std::{collections::VecDeque, ops::Range};

/// One word, or what stands between words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A word without the quotes around all of it, and whether the shell puts nothing in the place of names in it.
    Word(Range<usize>, Quotes),
    /// `<<< word`: the command is given the word to read.
    Given(Range<usize>, Quotes),
    /// `<<EOF`: the command is given a text that follows behind the end of the line.
    Awaited,
    /// Of the texts that are awaited, the first.
    Document(Range<usize>, Quotes),
    /// `|`, `|&`: what this command says, the next one reads.
    Pipe,
    /// `(`, `{`.
    Open,
    /// `)`, `}`.
    Close,
    /// `;`, `&`, `||`, the end of a line.
    End,
}

/// What stands around a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotes {
    /// Single quotes: names stand for themselves.
    Single,
    /// Double quotes, or none around all of it.
    Other,
}

/// What ends a text that is awaited.
#[derive(Debug)]
struct Delimiter {
    line: Vec<u8>,
    /// Tabs before it do not count.
    tabs: bool,
    quotes: Quotes,
}

/// Cuts a text into its words.
#[derive(Debug)]
pub struct Tokens<'t> {
    text: &'t [u8],
    at: usize,
    awaited: VecDeque<Delimiter>,
    /// The line that asked for them has ended: texts are read.
    documents: bool,
    /// Within `((…))`, where `<<` shifts.
    arithmetic: bool,
}

impl<'t> Tokens<'t> {
    /// Of this text.
    pub fn of(text: &'t [u8]) -> Self {
        Self { text, at: 0, awaited: VecDeque::new(), documents: false, arithmetic: false }
    }

    /// Whether this stands here.
    fn is_at(&self, what: &[u8]) -> bool {
        self.text[self.at..].starts_with(what)
    }

    fn is_at_here(&self) -> bool {
        !self.arithmetic && self.is_at(b"<<")
    }

    /// The end of what begins with a quote at `at`; the end of the text where it is never closed.
    fn quoted(&self, at: usize) -> usize {
        let quote = self.text[at];
        let mut end = at + 1;
        while end < self.text.len() && self.text[end] != quote {
            end += if self.text[end] == b'\\' && quote == b'"' { 2 } else { 1 };
        }
        (end + 1).min(self.text.len())
    }

    /// The word that begins here, with its quotes.
    fn raw_word(&mut self) -> Range<usize> {
        let begin = self.at;
        while self.at < self.text.len() {
            let redirects = self.at > begin && matches!(self.text[self.at - 1], b'>' | b'<');
            self.at = match self.text[self.at] {
                b'"' | b'\'' => self.quoted(self.at),
                b'\\' => self.at + 2,
                // `2>&1`, `>|`
                b'&' | b'|' if redirects => self.at + 1,
                byte if byte.is_ascii_whitespace() || is_end(byte) || self.is_at_here() => break,
                _ => self.at + 1,
            };
        }
        self.at = self.at.min(self.text.len());
        begin..self.at
    }

    /// The word that begins here.
    fn word(&mut self) -> (Range<usize>, Quotes) {
        let word = self.raw_word();
        let (begin, end) = (word.start, word.end);
        let quote = self.text[word.clone()].first().copied().filter(|first| matches!(first, b'"' | b'\''));
        let Some(quote) = quote.filter(|_| self.quoted(begin) == end) else {
            return (word, Quotes::Other);
        };
        let closed = end > begin + 1 && self.text[end - 1] == quote;
        let inner = begin + 1..if closed { end - 1 } else { end };
        (inner, if quote == b'\'' { Quotes::Single } else { Quotes::Other })
    }

    fn skip_blanks(&mut self) {
        self.at += self.text[self.at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    }

    /// What begins with `<<`.
    fn here(&mut self) -> Option<Token> {
        self.at += 2;
        if self.is_at(b"<") {
            self.at += 1;
            self.skip_blanks();
            let (word, quotes) = self.word();
            return Some(Token::Given(word, quotes));
        }
        let tabs = self.is_at(b"-");
        self.at += usize::from(tabs);
        self.skip_blanks();
        let raw = self.raw_word();
        if raw.is_empty() {
            return None;
        }
        let len = raw.len();
        let quote = |byte: &u8| matches!(byte, b'"' | b'\'' | b'\\');
        let line: Vec<u8> = self.text[raw].iter().copied().filter(|byte| !quote(byte)).collect();
        let quotes = if line.len() < len { Quotes::Single } else { Quotes::Other };
        self.awaited.push_back(Delimiter { line, tabs, quotes });
        Some(Token::Awaited)
    }

    /// The text that begins here, up to its last line or to the end.
    fn document(&mut self, delimiter: &Delimiter) -> Token {
        let begin = self.at;
        let mut end = self.text.len();
        while self.at < self.text.len() {
            let line = &self.text[self.at..];
            let line = &line[..line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len())];
            let tabs = line.iter().take_while(|byte| delimiter.tabs && **byte == b'\t').count();
            let before = self.at;
            self.at = (self.at + line.len() + 1).min(self.text.len());
            if line[tabs..] == delimiter.line {
                end = before.saturating_sub(1).max(begin);
                break;
            }
        }
        Token::Document(begin..end, delimiter.quotes)
    }

    /// What ends a command, or a part of one.
    fn separator(&mut self, byte: u8) -> Token {
        let next = self.text.get(self.at + 1).copied();
        self.at += 1;
        match (byte, next) {
            (b'|', Some(b'&')) => self.at += 1,
            (b'|', Some(b'|')) => {
                self.at += 1;
                return Token::End;
            }
            (b'(', Some(b'(')) => self.arithmetic = true,
            (b')', Some(b')')) => self.arithmetic = false,
            _ => {}
        }
        match byte {
            b'|' => Token::Pipe,
            b'(' => Token::Open,
            b')' => Token::Close,
            _ => Token::End,
        }
    }
}

fn is_end(byte: u8) -> bool {
    matches!(byte, b';' | b'|' | b'&' | b'(' | b')' | b'\n' | b'`')
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            if self.documents {
                let delimiter = self.awaited.pop_front();
                self.documents = delimiter.is_some();
                return Some(delimiter.map_or(Token::End, |delimiter| self.document(&delimiter)));
            }
            match *self.text.get(self.at)? {
                b'\n' if !self.awaited.is_empty() => {
                    self.at += 1;
                    self.documents = true;
                }
                // The line goes on; `&>` is no end either.
                b'\\' if self.is_at(b"\\\n") => self.at += 2,
                b'&' if self.is_at(b"&>") => self.at += 1,
                b'<' if self.is_at_here() => {
                    if let Some(token) = self.here() {
                        return Some(token);
                    }
                }
                byte if is_end(byte) => return Some(self.separator(byte)),
                byte if byte.is_ascii_whitespace() => self.at += 1,
                _ => {
                    let (word, quotes) = self.word();
                    // A brace in quotes has its range one further in.
                    let alone = self.at == word.end && word.len() == 1;
                    return Some(match self.text[word.clone()] {
                        [b'{'] if alone => Token::Open,
                        [b'}'] if alone => Token::Close,
                        _ => Token::Word(word, quotes),
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &[u8]) -> Vec<String> {
        let of = |range: Range<usize>| String::from_utf8(text[range].to_vec()).unwrap();
        let shown = |token| match token {
            Token::Word(range, _) => of(range),
            Token::Given(range, _) => format!("<<<{}", of(range)),
            Token::Awaited => "<<".to_owned(),
            Token::Document(range, quotes) => format!("{quotes:?}:{}", of(range)),
            Token::Pipe => "|".to_owned(),
            Token::Open => "(".to_owned(),
            Token::Close => ")".to_owned(),
            Token::End => ";".to_owned(),
        };
        Tokens::of(text).map(shown).collect()
    }

    #[test]
    fn words_are_those_of_a_shell() {
        let text = br#"a 'b c'|d="e f" "g \" h"
i\ j 'k"#;
        assert_eq!(shown(text), ["a", "b c", "|", "d=\"e f\"", "g \\\" h", ";", "i\\ j", "k"]);
        assert_eq!(shown(b"a 2>&1 |& b &>c || d \\\n e"), ["a", "2>&1", "|", "b", ">c", ";", "d", "e"]);
        assert_eq!(shown(b"{ a; } | (b) '{' {}"), ["(", "a", ";", ")", "|", "(", "b", ")", "{", "{}"]);
    }

    #[test]
    fn a_document_stands_behind_the_line_that_asks_for_it() {
        let text = b"a <<X - <<-'Y Z' | b\n1\n\nX\n\t2\n\tY Z\nc<<<'d e' f";
        let expected = ["a", "<<", "-", "<<", "|", "b", "Other:1\n", "Single:\t2", ";", "c", "<<<d e", "f"];
        assert_eq!(shown(text), expected);
        assert_eq!(shown(b"a <<X\n1\nXY"), ["a", "<<", "Other:1\nXY", ";"]);
        assert_eq!(shown(b"a <<X\nX\nb"), ["a", "<<", "Other:", ";", "b"]);
        assert_eq!(shown(b"a <<"), ["a"]);
        assert_eq!(shown(b"((1<<2))\na"), ["(", "(", "1<<2", ")", ")", ";", "a"]);
    }
}
