//! Secrets in command lines, cut out before anything is written.
//!
//! ```text
//! argv ──▶ words ──▶ flags and programs (what takes a secret) ──▶ cuts ──▶ argv with `[redacted]`
//!               └──▶ inside a word (NAME=VALUE, headers, addresses, shapes)
//! ```
//!
//! Only the secret's characters go: flag, name, user, host and the beginning that tells what kind of token it was stay.
//! What a shell is given to read is looked through word by word. Time is bounded by the size of the arguments, and they
//! may be any bytes. Nobody is asked whether a secret is a real one, and a secret that nothing points at, a password as a
//! plain word, is not found: it has no mark of one.

mod cuts;
mod documents;
mod inside;
mod names;
mod pipes;
mod replaced;
mod script;
mod shapes;
mod shell;
#[cfg(test)]
mod tests;
mod tools;

pub use cuts::REDACTED;
use cuts::{Cuts, Read};
pub use names::{Secrecy, secrecy};
use shell::Shell;
use tools::{Operands, Tool};

/// Scripts within scripts that are looked into.
const DEPTH: usize = 4;

/// How often a command line is read at most, as long as something new is cut out of it each time.
const PASSES: usize = 8;

/// What a flag or a word takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// Nothing that is secret, whatever it is called.
    Nothing,
    /// A secret.
    Secret,
    /// A key, or the path to one.
    UnlessPath,
    /// A key, or its name.
    ByValue,
    /// A secret in the same word only.
    Attached,
    /// `user:password`.
    UserPassword,
    /// `user%password`.
    Percent,
    /// `user,password`.
    Comma,
    /// `file:password`, `key:value`.
    LastColon,
    /// `pass:password`, and other ways that lead to one.
    PassScheme,
    /// `name=value`, where the value is a secret whatever its name.
    Literal,
    /// `user:password@host`.
    Proxy,
    /// The name of what the next word is.
    Name,
    /// `Name: value`.
    Header,
    /// The value of an `Authorization` header, or its scheme.
    Authorization,
    /// `name=value; …`, or a file.
    Cookie,
    /// What a shell reads.
    Script,
    /// From here on `-p` takes a secret.
    Login,
    /// From here on `-b` and `--body` take a secret.
    Body,
    /// Code of a program's own language.
    Code,
    /// The operands of which the last may be a secret.
    Operands,
}

/// What is left to do with a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    /// What it means among the others was looked at; what stands within it is still to be.
    ByMeaning,
    /// All of it was looked at.
    Done,
}

/// Cuts the secrets out of a command line; says whether there were any.
pub fn arguments(argv: &mut [Vec<u8>]) -> bool {
    let (found, mut changed) = pass(argv);
    // What was cut out may have given the words behind it another meaning, so that only now they say what they are: the
    // end of a password that looks like a program's name.
    for _ in 1..PASSES {
        if !changed {
            break;
        }
        changed = pass(argv).1;
    }
    found
}

/// Reads a command line once, cutting. Says whether there was anything to cut, and whether anything is different now.
fn pass(argv: &mut [Vec<u8>]) -> (bool, bool) {
    let mut line = Line { aws: argv.iter().any(|word| shapes::has_aws_key_id(word)), ..Line::default() };
    let mut cuts = Cuts::default();
    let (mut found, mut changed) = (false, false);
    for word in argv {
        line.word(word, &mut cuts, 0);
        if !cuts.is_empty() {
            if let Some(without) = cuts.apply(word) {
                *word = without;
                changed = true;
            }
            found = true;
            cuts.clear();
        }
    }
    (found, changed)
}

/// One command line, up to where it has been read.
#[derive(Debug, Default)]
struct Line {
    /// The program that flags are for, where it has some of its own.
    tool: Option<&'static Tool>,
    /// What the next word is.
    expects: Option<Takes>,
    /// The first word was read.
    begun: bool,
    /// `login` was said.
    login: bool,
    /// Secrets of a service are set.
    body: bool,
    /// `set`, `config` or the like was said: the name of a setting may follow.
    setting: bool,
    /// The id of an AWS key stands in it.
    aws: bool,
    /// How much was said of an entry of a netrc.
    entry: usize,
    /// Of a program whose last operand may be a secret.
    operands: Operands,
}

/// Words of an entry of a netrc, in their order; what follows is a secret.
const ENTRY: &[&[u8]] = &[b"machine", b"login", b"password"];

impl Line {
    /// Reads the next word.
    fn word(&mut self, word: &[u8], cuts: &mut Cuts, depth: usize) {
        let looked = match self.expects.take() {
            Some(takes) if !is_flag(word) => self.take(takes, word, cuts, depth),
            _ if word.len() > 1 && word[0] == b'-' => self.flag(word, cuts, depth),
            _ => self.bare(word, cuts, depth),
        };
        if looked == Looked::ByMeaning {
            let code = self.tool.is_some_and(Tool::reads_code);
            let read = if code { Read::Code } else { cuts.read() };
            cuts.within(0, read, |cuts| inside::scan(word, cuts));
        }
        if self.aws {
            shapes::cut_aws_secrets(word, cuts);
        }
    }

    /// A word that is neither a flag nor one's value.
    fn bare(&mut self, word: &[u8], cuts: &mut Cuts, depth: usize) -> Looked {
        let first = !std::mem::replace(&mut self.begun, true);
        let name = program(word, first);
        if self.tool.is_some_and(Tool::has_operands) {
            if self.operands.is_secret() {
                cuts.add_value(word, 0..word.len());
            }
        } else if let Some(tool) = Tool::named(name) {
            self.tool = Some(tool);
            (self.login, self.body) = (false, false);
        } else if let Some(takes) = self.tool.and_then(|tool| tool.word(word)) {
            match takes {
                Takes::Login => self.login = true,
                Takes::Body => self.body = true,
                takes => self.expects = Some(takes),
            }
        } else if self.tool.is_some_and(Tool::reads_scripts) && word.contains(&b' ') {
            return self.script(word, cuts, depth);
        } else if self.setting && is_setting(word) {
            self.expects = Some(Takes::Secret);
        } else if matches!(word, b"set" | b"config" | b"configure" | b"add") {
            self.setting = true;
        } else if word.eq_ignore_ascii_case(b"bearer") {
            // A header whose parts stand in words of their own.
            self.expects = Some(Takes::ByValue);
        } else if word.starts_with(b"/p:") {
            cuts.add_value(word, 3..word.len());
        } else if !self.header(word) {
            self.entry(word);
        }
        Looked::ByMeaning
    }

    /// A word that begins with a dash.
    fn flag(&mut self, word: &[u8], cuts: &mut Cuts, depth: usize) -> Looked {
        self.begun = true;
        self.operands.flag(word);
        let equals = word.iter().take(names::NAME_MAX).position(|byte| *byte == b'=');
        let name = &word[..equals.unwrap_or(word.len())];
        if let (None, Some((takes, value))) = (self.own_flag(name), self.attached(word)) {
            return cuts.within(value, cuts.read(), |cuts| self.take(takes, &word[value..], cuts, depth));
        }
        match (self.own_flag(name).or_else(|| named_flag(name)), equals) {
            (Some(takes), Some(equals)) => {
                let value = &word[equals + 1..];
                // The name has had its say.
                return cuts.within(equals + 1, cuts.read(), |cuts| {
                    if self.take(takes, value, cuts, depth) == Looked::ByMeaning {
                        inside::scan(value, cuts);
                    }
                    Looked::Done
                });
            }
            (Some(Takes::Attached), None) => {}
            (Some(takes), None) => self.expects = Some(takes),
            (None, _) => self.expects = self.tool.and_then(|tool| tool.last_of(word)),
        }
        Looked::ByMeaning
    }

    /// What a short flag takes that has it in the same word, and where that begins.
    fn attached(&self, word: &[u8]) -> Option<(Takes, usize)> {
        if self.login && word.starts_with(b"-p") && word.len() > 2 && !word.starts_with(b"-pa") {
            return Some((Takes::Secret, 2));
        }
        if self.body && word.starts_with(b"-b") && word.len() > 2 {
            return Some((Takes::Secret, 2));
        }
        let takes = self.tool?.attached(word)?;
        let value = if word.starts_with(b"-hp") { 3 } else { 2 };
        (takes != Takes::Script).then_some((takes, value))
    }

    /// What a flag of the program takes.
    fn own_flag(&self, name: &[u8]) -> Option<Takes> {
        match name {
            b"-p" if self.login => Some(Takes::Secret),
            b"-b" | b"--body" if self.body => Some(Takes::Secret),
            _ => self.tool?.flag(name),
        }
    }

    /// A value, by what it is expected to be.
    fn take(&mut self, takes: Takes, value: &[u8], cuts: &mut Cuts, depth: usize) -> Looked {
        let after = |sign: u8| value.iter().position(|byte| *byte == sign).map(|at| at + 1);
        let from = match takes {
            Takes::Nothing => return Looked::Done,
            Takes::Login | Takes::Body | Takes::Code | Takes::Operands => None,
            Takes::Secret | Takes::Attached => Some(0),
            Takes::UnlessPath => inside::is_secret_value(value, Secrecy::UnlessPath).then_some(0),
            Takes::ByValue => inside::is_secret_value(value, Secrecy::ByValue).then_some(0),
            Takes::UserPassword => after(b':'),
            Takes::Percent => after(b'%'),
            Takes::Comma => after(b','),
            Takes::LastColon => value.iter().rposition(|byte| *byte == b':').map(|at| at + 1),
            Takes::PassScheme => value.starts_with(b"pass:").then_some(5),
            Takes::Literal | Takes::Cookie => after(b'='),
            Takes::Proxy => {
                inside::proxy(value, cuts);
                None
            }
            Takes::Name => {
                self.expects = takes_by(secrecy(value));
                None
            }
            Takes::Header => {
                inside::header(value, cuts);
                self.header(value);
                None
            }
            Takes::Authorization if inside::is_scheme(value) => {
                self.expects = Some(Takes::Secret);
                None
            }
            Takes::Authorization => {
                inside::authorization_value(value, cuts);
                None
            }
            Takes::Script => return self.script(value, cuts, depth),
        };
        if let Some(from) = from {
            cuts.add_value(value, from..value.len());
        }
        Looked::ByMeaning
    }

    /// A word that may belong to an entry of a netrc.
    fn entry(&mut self, word: &[u8]) {
        if ENTRY[self.entry] == word {
            self.entry = (self.entry + 1) % ENTRY.len();
            if self.entry == 0 {
                self.expects = Some(Takes::Secret);
            }
        }
    }

    /// A word that may be the name of a header, whose value stands in words of its own.
    fn header(&mut self, word: &[u8]) -> bool {
        let is = inside::is_authorization_alone(word);
        if is {
            self.expects = Some(Takes::Authorization);
        }
        is
    }

    /// Reads what a shell is given to read.
    fn script(&self, text: &[u8], cuts: &mut Cuts, depth: usize) -> Looked {
        if depth >= DEPTH {
            return Looked::ByMeaning;
        }
        Shell::of(text, self.aws, depth).read(cuts);
        Looked::Done
    }

    /// Whether the program is a shell, or hands on to one what it reads.
    fn is_shell(&self) -> bool {
        self.tool.is_some_and(|tool| tool.reads_scripts() || tool.flag(b"-c") == Some(Takes::Script))
    }
}

/// The name of the program, if a word is one: not the end of a text, or of a value that may be cut.
fn program(word: &[u8], first: bool) -> &[u8] {
    if word.iter().any(|byte| matches!(byte, b' ' | b'=')) {
        return b"";
    }
    let name = word.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if first { name.strip_prefix(b"-").unwrap_or(name) } else { name }
}

/// Whether a word is a flag, and no value that happens to begin with a dash.
fn is_flag(word: &[u8]) -> bool {
    let named = |name: &[u8]| name.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'-');
    match word {
        [b'-', b'-', name @ ..] => name.first().is_none_or(u8::is_ascii_alphabetic),
        [b'-', _] => true,
        [b'-', name @ ..] => {
            name.iter().position(|byte| *byte == b'=').is_some_and(|end| named(&name[..end]))
        }
        _ => false,
    }
}

/// What a flag takes by its name alone.
fn named_flag(name: &[u8]) -> Option<Takes> {
    let bare = name.strip_prefix(b"--").or_else(|| name.strip_prefix(b"-").filter(|name| name.len() > 2))?;
    if bare == b"header" {
        return Some(Takes::Header);
    }
    if matches!(bare, b"passin" | b"passout") {
        return Some(Takes::PassScheme);
    }
    takes_by(names::flag(bare))
}

/// What a name says about the next word.
fn takes_by(secrecy: Secrecy) -> Option<Takes> {
    match secrecy {
        Secrecy::None | Secrecy::Place => None,
        Secrecy::ByValue => Some(Takes::ByValue),
        Secrecy::UnlessPath => Some(Takes::UnlessPath),
        Secrecy::Secret => Some(Takes::Secret),
    }
}

/// Whether a word is the name of a setting whose value is a secret: one that no text has by chance.
fn is_setting(word: &[u8]) -> bool {
    let compound = |byte: &u8| matches!(byte, b'_' | b'.' | b':' | b'-');
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || compound(byte) || *byte == b'/';
    let name = word.rsplit(|byte| *byte == b':').next().unwrap_or_default();
    word.len() <= 4 * names::NAME_MAX
        && word.iter().any(compound)
        && word.iter().all(plain)
        && !names::is_act(name)
        && matches!(secrecy(name), Secrecy::Secret | Secrecy::UnlessPath)
}
