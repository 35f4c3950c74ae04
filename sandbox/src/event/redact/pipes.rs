//! What commands of a script say to each other: a secret, if the command that is given it reads one.
//!
//! ```text
//! echo X | docker login --password-stdin      docker login --password-stdin <<< X
//! { echo X; } | sudo -S …                     chpasswd <<EOF
//! ```

use std::{mem, ops::Range};

use super::{
    cuts::Read,
    names::{Secrecy, secrecy},
};

/// Groups within groups that are told apart.
const GROUPS: usize = 16;

/// A part of the script, and how it is read.
pub type Place = (Range<usize>, Read);

/// What is said.
#[derive(Clone, Debug)]
enum Part {
    Text(Place),
    /// The document with this number.
    Document(usize),
}

/// A text behind the end of the line.
#[derive(Debug, Default)]
struct Document {
    /// Who reads it reads a secret.
    secret: bool,
    /// Who reads it is a shell.
    script: bool,
    /// Where it stands, once it was come to.
    place: Option<Place>,
}

/// What a command does with what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Says its words.
    Says,
    /// Says what it is given.
    Passes,
    /// Something else.
    Other,
}

/// One command, or a group of them.
#[derive(Debug, Default)]
struct Command {
    /// None before its first word.
    kind: Option<Kind>,
    /// `sudo` or `passwd`, which ask for a password.
    asks: bool,
    /// Its last word is a `<`: what stands in parentheses behind it is given to it.
    takes: bool,
    /// Its words are flags of `printf` up to the one that says how.
    format: bool,
    /// It reads a secret.
    reads: bool,
    /// It is given something to read, whatever that is.
    fed: bool,
    input: Vec<Part>,
    output: Vec<Part>,
}

/// A group that is not closed yet.
#[derive(Debug)]
struct Group {
    /// The command that it stands in, or is.
    outer: Command,
    /// What its commands say.
    said: Vec<Part>,
}

/// A script, up to where it has been read.
#[derive(Debug, Default)]
pub struct Pipes {
    now: Command,
    groups: Vec<Group>,
    /// Groups that are too deep.
    deep: usize,
    documents: Vec<Document>,
    arrived: usize,
    secrets: Vec<Place>,
}

impl Pipes {
    /// The secrets that have shown since.
    pub fn secrets(&mut self) -> Vec<Place> {
        mem::take(&mut self.secrets)
    }

    /// A word of a command.
    pub fn word(&mut self, word: &[u8], place: Place) {
        self.now.word(word, place);
        if self.now.reads_by(word) {
            self.now.reads = true;
            let input = mem::take(&mut self.now.input);
            self.read(input);
        }
    }

    /// The command is given this to read.
    pub fn given(&mut self, place: Place) {
        self.give(Part::Text(place));
    }

    /// The command, which may be a shell, is given a document.
    pub fn awaited(&mut self, script: bool) {
        self.documents.push(Document { script, ..Document::default() });
        self.give(Part::Document(self.documents.len() - 1));
    }

    /// The next document; says whether a shell reads it.
    pub fn document(&mut self, place: Place) -> bool {
        let Some(document) = self.documents.get_mut(self.arrived) else { return false };
        self.arrived += 1;
        if document.secret {
            self.secrets.push(place);
        } else {
            document.place = Some(place);
        }
        document.script
    }

    fn give(&mut self, part: Part) {
        self.now.fed = true;
        if self.now.reads { self.read(vec![part]) } else { self.now.input.push(part) }
    }

    /// Somebody reads this as a secret.
    fn read(&mut self, parts: Vec<Part>) {
        for part in parts {
            match part {
                Part::Text(place) => self.secrets.push(place),
                Part::Document(number) => match self.documents.get_mut(number) {
                    Some(Document { place: Some(place), .. }) => self.secrets.push(place.clone()),
                    Some(document) => document.secret = true,
                    None => {}
                },
            }
        }
    }

    /// The command is over; gives what it says.
    fn finish(&mut self) -> Vec<Part> {
        let now = mem::take(&mut self.now);
        if let Some(group) = self.groups.last_mut() {
            // What a group is given, its commands read.
            group.outer.reads |= now.reads && !now.fed && group.outer.kind.is_none();
        }
        if now.kind == Some(Kind::Passes) { now.input } else { now.output }
    }

    /// What the command says, the next one reads.
    pub fn pipe(&mut self) {
        let input = self.finish();
        self.now = Command { input, fed: true, ..Command::default() };
    }

    /// The command is over.
    pub fn end(&mut self) {
        // A line may end behind a pipe.
        if self.now.kind.is_none() && self.now.fed {
            return;
        }
        let mut output = self.finish();
        if let Some(group) = self.groups.last_mut() {
            group.said.append(&mut output);
        }
    }

    /// A group begins; says whether it is one that will be closed.
    pub fn open(&mut self) -> bool {
        if self.groups.len() == GROUPS {
            self.deep += 1;
            self.end();
            return false;
        }
        let outer = mem::take(&mut self.now);
        self.groups.push(Group { outer, said: Vec::new() });
        true
    }

    /// A group ends; says whether there is one.
    pub fn close(&mut self) -> bool {
        if self.deep > 0 || self.groups.is_empty() {
            self.deep = self.deep.saturating_sub(1);
            self.end();
            return false;
        }
        let mut output = self.finish();
        let Some(mut group) = self.groups.pop() else { return false };
        group.said.append(&mut output);
        self.now = group.outer;
        if mem::take(&mut self.now.takes) {
            for part in group.said {
                self.give(part);
            }
            return true;
        }
        match self.now.kind {
            None => {
                self.now.kind = Some(Kind::Other);
                self.now.output = group.said;
            }
            // What stands in `$(…)` is one of its words.
            Some(Kind::Says) => self.now.output.append(&mut group.said),
            Some(_) => {}
        }
        if self.now.reads {
            let input = mem::take(&mut self.now.input);
            self.read(input);
        }
        true
    }
}

impl Command {
    fn word(&mut self, word: &[u8], place: Place) {
        self.asks |= matches!(word, b"sudo" | b"passwd");
        self.takes = word == b"<";
        match self.kind {
            None if stands_before(word) => {}
            None => {
                self.kind = Some(kind(word));
                self.format = word == b"printf";
            }
            Some(Kind::Says) if !is_sign(word) => {
                let format = mem::take(&mut self.format) && word.contains(&b'%');
                if !format {
                    self.output.push(Part::Text(place));
                }
            }
            Some(_) => {}
        }
    }

    /// Whether this word is one of a command that reads a secret.
    fn reads_by(&self, word: &[u8]) -> bool {
        match word {
            b"--with-token" | b"chpasswd" | b"--passphrase-fd" | b"--passphrase-fd=0" => true,
            b"--stdin" if self.asks => true,
            [b'-', flags @ ..] if self.asks && flags.contains(&b'S') => {
                flags.iter().all(|flag| b"ASEHbiknp".contains(flag))
            }
            _ => {
                word.starts_with(b"--") && word.ends_with(b"-stdin") && secrecy(&word[2..]) == Secrecy::Place
            }
        }
    }
}

/// Whether a word may stand before the name of a command.
fn stands_before(word: &[u8]) -> bool {
    let keyword: &[&[u8]] = &[b"then", b"do", b"else", b"if", b"while", b"until", b"!", b"time", b"command"];
    keyword.contains(&word) || word.contains(&b'=')
}

fn kind(word: &[u8]) -> Kind {
    match word.rsplit(|byte| *byte == b'/').next().unwrap_or_default() {
        b"echo" | b"printf" => Kind::Says,
        b"cat" | b"tee" | b"tr" | b"base64" | b"head" | b"tail" | b"sed" | b"cut" => Kind::Passes,
        _ => Kind::Other,
    }
}

/// Whether a word is a flag or sends what is said elsewhere.
fn is_sign(word: &[u8]) -> bool {
    let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
    word.first().is_none_or(|byte| *byte == b'-') || matches!(word.get(digits), Some(b'>' | b'<'))
}
