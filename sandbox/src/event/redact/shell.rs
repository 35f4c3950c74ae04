//! What a shell is given to read, command by command.

use std::ops::Range;

use super::{
    Line,
    cuts::{Cuts, Read},
    documents,
    pipes::Pipes,
    replaced,
    script::{Quotes, Token, Tokens},
    shapes,
};

/// A script, up to where it has been read.
#[derive(Debug)]
pub struct Shell<'t> {
    text: &'t [u8],
    /// How many scripts it stands in.
    depth: usize,
    /// The id of an AWS key stands beside it.
    aws: bool,
    line: Line,
    /// Lines that a group stands in.
    outer: Vec<Line>,
    pipes: Pipes,
}

impl<'t> Shell<'t> {
    /// Of this text.
    pub fn of(text: &'t [u8], aws: bool, depth: usize) -> Self {
        let line = Line { aws, ..Line::default() };
        Self { text, depth, aws, line, outer: Vec::new(), pipes: Pipes::default() }
    }

    /// Cuts its secrets.
    pub fn read(mut self, cuts: &mut Cuts) {
        for token in Tokens::of(self.text) {
            self.token(token, cuts);
            for (said, read) in self.pipes.secrets() {
                cuts.within(0, read, |cuts| cut_lines(self.text, said, cuts));
            }
        }
    }

    fn begin(&self) -> Line {
        Line { aws: self.aws, ..Line::default() }
    }

    fn token(&mut self, token: Token, cuts: &mut Cuts) {
        match token {
            Token::Word(range, quotes) => self.word(range, quotes, cuts),
            Token::Given(range, quotes) => {
                if self.line.is_shell() {
                    self.script(range.clone(), cuts);
                } else {
                    self.document(range.clone(), cuts);
                }
                self.pipes.given((range, read(quotes)));
            }
            Token::Awaited => self.pipes.awaited(self.line.is_shell()),
            Token::Document(range, quotes) => {
                if self.pipes.document((range.clone(), read(quotes))) {
                    self.script(range, cuts);
                } else {
                    // With the end of the line before it: it is a text of lines.
                    self.document(range.start.saturating_sub(1)..range.end, cuts);
                }
            }
            Token::End => {
                self.pipes.end();
                self.line = self.begin();
            }
            Token::Pipe => {
                self.pipes.pipe();
                self.line = self.begin();
            }
            Token::Open => {
                let begin = self.begin();
                let before = std::mem::replace(&mut self.line, begin);
                if self.pipes.open() {
                    self.outer.push(before);
                }
            }
            Token::Close => {
                let before = if self.pipes.close() { self.outer.pop() } else { None };
                self.line = before.unwrap_or_else(|| self.begin());
            }
        }
    }

    fn word(&mut self, range: Range<usize>, quotes: Quotes, cuts: &mut Cuts) {
        let word = &self.text[range.clone()];
        let read = read(quotes);
        cuts.within(range.start, read, |cuts| self.line.word(word, cuts, self.depth + 1));
        self.pipes.word(word, (range, read));
    }

    /// A text that a shell is given.
    fn script(&self, range: Range<usize>, cuts: &mut Cuts) {
        let text = &self.text[range.clone()];
        cuts.within(range.start, Read::Shell, |cuts| self.line.script(text, cuts, self.depth + 1));
    }

    /// A text that something else is given. It may become a script in its turn: names stand for something else in it.
    fn document(&self, range: Range<usize>, cuts: &mut Cuts) {
        let text = &self.text[range.clone()];
        cuts.within(range.start, Read::Shell, |cuts| {
            documents::scan(text, cuts);
            if self.aws {
                shapes::cut_aws_secrets(text, cuts);
            }
        });
    }
}

fn read(quotes: Quotes) -> Read {
    if quotes == Quotes::Single { Read::Plain } else { Read::Shell }
}

/// Cuts what is said as a secret, each line by itself: some may be names that are replaced, some a user's with such a
/// name behind it.
fn cut_lines(text: &[u8], said: Range<usize>, cuts: &mut Cuts) {
    let mut at = said.start;
    for line in text[said].split(|byte| *byte == b'\n') {
        let value = line.trim_ascii_start();
        let behind = value.iter().position(|byte| *byte == b':').map(|colon| &value[colon + 1..]);
        let replaced = |value: &[u8]| cuts.read() == Read::Shell && replaced::literal(value).is_empty();
        if !behind.is_some_and(replaced) {
            cuts.add_value(text, at + line.len() - value.len()..at + line.len());
        }
        at += line.len() + 1;
    }
}
