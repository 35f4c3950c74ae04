//! The words of a text that a shell reads, as ranges of it.
//!
//! No shell: what stands for something else is not looked up, and here-documents are words like others.

use std::ops::Range;

/// One word, or what ends a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A word without the quotes around all of it, and whether the shell puts nothing in the place of names in it.
    Word(Range<usize>, Quotes),
    /// `|`: what this command says, the next one reads.
    Pipe,
    /// `;`, `&`, a parenthesis, the end of a line.
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

/// Cuts a text into its words.
#[derive(Debug)]
pub struct Tokens<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Tokens<'t> {
    /// Of this text.
    pub fn of(text: &'t [u8]) -> Self {
        Self { text, at: 0 }
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

    fn word(&mut self) -> Token {
        let begin = self.at;
        while self.at < self.text.len() {
            self.at = match self.text[self.at] {
                b'"' | b'\'' => self.quoted(self.at),
                b'\\' => self.at + 2,
                byte if byte.is_ascii_whitespace() || is_end(byte) => break,
                _ => self.at + 1,
            };
        }
        self.at = self.at.min(self.text.len());
        let word = begin..self.at;
        let first = self.text[begin];
        let closes = matches!(first, b'"' | b'\'') && self.quoted(begin) == self.at;
        if !closes {
            return Token::Word(word, Quotes::Other);
        }
        let closed = self.at > begin + 1 && self.text[self.at - 1] == first;
        let inner = begin + 1..if closed { self.at - 1 } else { self.at };
        Token::Word(inner, if first == b'\'' { Quotes::Single } else { Quotes::Other })
    }
}

fn is_end(byte: u8) -> bool {
    matches!(byte, b';' | b'|' | b'&' | b'(' | b')' | b'\n' | b'`')
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        while self.at < self.text.len() {
            match self.text[self.at] {
                byte if is_end(byte) => {
                    self.at += 1;
                    return Some(if byte == b'|' { Token::Pipe } else { Token::End });
                }
                byte if byte.is_ascii_whitespace() => self.at += 1,
                _ => return Some(self.word()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        let text = br#"a 'b c'|d="e f" "g \" h"
i\ j 'k"#;
        let words: Vec<_> = Tokens::of(text)
            .map(|token| match token {
                Token::Word(range, _) => String::from_utf8(text[range].to_vec()).unwrap(),
                Token::Pipe => "|".to_owned(),
                Token::End => ";".to_owned(),
            })
            .collect();
        assert_eq!(words, ["a", "b c", "|", "d=\"e f\"", "g \\\" h", ";", "i\\ j", "k"]);
    }
}
