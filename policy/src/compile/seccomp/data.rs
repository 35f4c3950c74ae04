//! The list of what the filter closes, and why: read from `seccomp.yaml`, which ships inside the program.
//!
//! It decides nothing: [`super::compile`] chooses from it. What is wrong in the file ends the program that asks for
//! it, since a filter without an entry would be weaker than it says; tests read it.

use std::sync::LazyLock;

use crate::document::{Entry as Key, Kind, Node};
use crate::settings::KERNEL;
use crate::syscalls;

const TEXT: &str = include_str!("../seccomp.yaml");

/// What the file says.
#[derive(Debug)]
pub struct Data {
    /// What is closed.
    pub closed: Vec<Group>,
    /// What was looked at and is open, by name, with the reason.
    pub left_open: Vec<(&'static str, String)>,
    /// What `strict` leaves.
    pub strict: Vec<Allowed>,
    /// What is left of a word of `kernel` that the filter alone closes.
    pub remains: Vec<(&'static str, String)>,
}

/// Entries that are closed for one reason and opened by the same words.
#[derive(Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What opens it.
    pub opened_by: OpenedBy,
    /// Where it is closed.
    pub closed: Where,
    /// Why it is closed.
    pub why: String,
    /// What is closed.
    pub entries: Vec<Entry>,
}

/// What of a policy opens a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenedBy {
    /// Nothing does.
    Nothing,
    /// Any of these words of the section `kernel`.
    Words(Vec<&'static str>),
    /// `syscalls: off`.
    Off,
}

/// Where a group is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In every run.
    Always,
    /// Where the hooks of the `lsm` layer do not judge.
    WithoutHooks,
}

/// One thing that is closed.
#[derive(Debug)]
pub struct Entry {
    /// What.
    pub what: What,
    /// How it is refused.
    pub answer: Answer,
    /// Why, in one line.
    pub why: String,
}

/// What a filter can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A call, whatever its arguments are.
    Call(&'static str),
    /// A call with this argument.
    Argument(ClosedArgument),
    /// Sockets of one kind.
    Socket(ClosedSocket),
}

impl What {
    /// The call that it is about.
    pub fn call(&self) -> &'static str {
        match self {
            What::Call(name) => name,
            What::Argument(argument) => argument.call,
            What::Socket(_) => SOCKET,
        }
    }
}

const SOCKET: &str = "socket";

/// A call whose argument is this. Values are Linux's, the same on every architecture; the kernel reads 32 bits of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedArgument {
    /// The call.
    pub call: &'static str,
    /// Which argument, counted from 0.
    pub index: u8,
    /// What it is where the call is closed.
    pub test: Test,
    /// Another argument, and what it is besides.
    pub also: Option<(u8, u32)>,
}

impl ClosedArgument {
    /// Arguments of a call that is closed; those that do not matter are `rest`.
    pub fn example(&self, rest: i64) -> [i64; 6] {
        let mut arguments = [rest; 6];
        let tested = (self.index, self.test.example());
        for (index, value) in std::iter::once(tested).chain(self.also) {
            if let Some(argument) = arguments.get_mut(usize::from(index)) {
                *argument = value.into();
            }
        }
        arguments
    }
}

/// What an argument is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is this.
    Is(u32),
    /// It is anything but this.
    IsNot(u32),
    /// It has all of these bits.
    Has {
        /// The bits.
        bits: u32,
        /// The whole argument that is open nevertheless.
        but_not: Option<u32>,
    },
}

impl Test {
    /// An argument that is closed.
    fn example(self) -> u32 {
        match self {
            Test::Is(value) | Test::Has { bits: value, .. } => value,
            Test::IsNot(value) => !value,
        }
    }
}

/// All arguments of socket(2) that are given must match. Numbers are Linux's, the same on every architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedSocket {
    /// Address family.
    pub family: u32,
    /// Type, without the flags in it.
    pub kind: Option<u32>,
    /// Protocol.
    pub protocol: Option<u32>,
}

/// How a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// EPERM.
    NotPermitted,
    /// ENOSYS, as on a kernel without it: programs go on with another call.
    NoSuchCall,
}

/// Calls that `strict` leaves.
#[derive(Debug)]
pub struct Allowed {
    /// The group's name.
    pub name: String,
    /// Why it is needed.
    pub why: String,
    /// The calls.
    pub calls: Vec<&'static str>,
}

static DATA: LazyLock<Data> =
    LazyLock::new(|| read(TEXT).unwrap_or_else(|fault| panic!("the list of closed system calls: {fault}")));

/// The list that ships.
pub fn data() -> &'static Data {
    &DATA
}

type Fault = String;

pub(super) fn read(text: &str) -> Result<Data, Fault> {
    let document = crate::document::read(text).map_err(|errors| format!("{errors:?}"))?;
    let mut data =
        Data { closed: Vec::new(), left_open: Vec::new(), strict: Vec::new(), remains: Vec::new() };
    for key in mapping(document)? {
        match key.key.as_str() {
            "closed" => {
                data.closed = sequence(key.value)?.into_iter().map(group).collect::<Result<_, _>>()?
            }
            "strict" => {
                data.strict = sequence(key.value)?.into_iter().map(allowed).collect::<Result<_, _>>()?
            }
            "left_open" => {
                for entry in mapping(key.value)? {
                    data.left_open.push((call(&entry.key)?, text_of(entry.value)?));
                }
            }
            "remains" => {
                for entry in mapping(key.value)? {
                    data.remains.push((word(&entry.key)?, text_of(entry.value)?));
                }
            }
            other => return Err(format!("unknown key `{other}`")),
        }
    }
    Ok(data)
}

fn group(node: Node) -> Result<Group, Fault> {
    let mut group = Group {
        name: String::new(),
        opened_by: OpenedBy::Nothing,
        closed: Where::Always,
        why: String::new(),
        entries: Vec::new(),
    };
    for key in mapping(node)? {
        let name = group.name.clone();
        let about = |fault: Fault| format!("group `{name}`: {fault}");
        match key.key.as_str() {
            "group" => group.name = text_of(key.value)?,
            "why" => group.why = text_of(key.value)?,
            "opened_by" => group.opened_by = opened_by(key.value).map_err(about)?,
            "only" => match text_of(key.value)?.as_str() {
                "without-hooks" => group.closed = Where::WithoutHooks,
                other => return Err(about(format!("unknown place `{other}`"))),
            },
            kind @ ("calls" | "no_such_call") => {
                let answer = if kind == "calls" { Answer::NotPermitted } else { Answer::NoSuchCall };
                for entry in mapping(key.value).map_err(&about)? {
                    let what = What::Call(call(&entry.key).map_err(&about)?);
                    group.entries.push(Entry { what, answer, why: text_of(entry.value)? });
                }
            }
            "arguments" => {
                for node in sequence(key.value)? {
                    group.entries.push(argument(node).map_err(&about)?);
                }
            }
            "sockets" => {
                for node in sequence(key.value)? {
                    group.entries.push(socket(node).map_err(&about)?);
                }
            }
            other => return Err(about(format!("unknown key `{other}`"))),
        }
    }
    Ok(group)
}

fn opened_by(node: Node) -> Result<OpenedBy, Fault> {
    if let Kind::Scalar { text, .. } = &node.kind {
        return if text == "off" { Ok(OpenedBy::Off) } else { Err(format!("nothing is opened by `{text}`")) };
    }
    let words = texts(node)?.iter().map(|text| word(text)).collect::<Result<Vec<_>, _>>()?;
    if words.is_empty() { Err("an empty list of words".to_owned()) } else { Ok(OpenedBy::Words(words)) }
}

fn argument(node: Node) -> Result<Entry, Fault> {
    let (mut name, mut index, mut test, mut but_not, mut why) = (None, None, None, None, None);
    let (mut other, mut other_is) = (None, None);
    for key in mapping(node)? {
        match key.key.as_str() {
            "call" => name = Some(call(&text_of(key.value)?)?),
            "argument" => index = Some(number(key.value)?).filter(|index| *index < 6),
            "is" => test = Some(Test::Is(number(key.value)?)),
            "is_not" => test = Some(Test::IsNot(number(key.value)?)),
            "has" => test = Some(Test::Has { bits: number(key.value)?, but_not: None }),
            "but_not" => but_not = Some(number(key.value)?),
            "and_argument" => other = Some(number(key.value)?).filter(|index| *index < 6),
            "and_is" => other_is = Some(number(key.value)?),
            "why" => why = Some(text_of(key.value)?),
            other => return Err(format!("unknown key `{other}`")),
        }
    }
    let test = match (test, but_not) {
        (Some(Test::Has { bits, .. }), but_not) => Some(Test::Has { bits, but_not }),
        (_, Some(_)) => return Err("`but_not` goes with `has`".to_owned()),
        (test, None) => test,
    };
    let (Some(call), Some(index), Some(test), Some(why)) = (name, index, test, why) else {
        return Err("an argument needs `call`, `argument`, `is`, `is_not` or `has`, and `why`".to_owned());
    };
    let also = match (other, other_is) {
        (Some(other), Some(value)) if other != index => Some((other as u8, value)),
        (None, None) => None,
        _ => return Err("`and_argument` is another argument, and goes with `and_is`".to_owned()),
    };
    let index = index as u8;
    let what = What::Argument(ClosedArgument { call, index, test, also });
    Ok(Entry { what, answer: Answer::NotPermitted, why })
}

fn socket(node: Node) -> Result<Entry, Fault> {
    let (mut family, mut kind, mut protocol, mut why) = (None, None, None, None);
    for key in mapping(node)? {
        match key.key.as_str() {
            "family" => family = Some(number(key.value)?),
            "kind" => kind = Some(number(key.value)?),
            "protocol" => protocol = Some(number(key.value)?),
            "why" => why = Some(text_of(key.value)?),
            other => return Err(format!("unknown key `{other}`")),
        }
    }
    let (Some(family), Some(why)) = (family, why) else {
        return Err("a socket needs `family` and `why`".to_owned());
    };
    let what = What::Socket(ClosedSocket { family, kind, protocol });
    Ok(Entry { what, answer: Answer::NotPermitted, why })
}

fn allowed(node: Node) -> Result<Allowed, Fault> {
    let mut allowed = Allowed { name: String::new(), why: String::new(), calls: Vec::new() };
    for key in mapping(node)? {
        match key.key.as_str() {
            "group" => allowed.name = text_of(key.value)?,
            "why" => allowed.why = text_of(key.value)?,
            "calls" => {
                allowed.calls =
                    texts(key.value)?.iter().map(|name| call(name)).collect::<Result<Vec<_>, _>>()?;
            }
            other => return Err(format!("unknown key `{other}`")),
        }
    }
    Ok(allowed)
}

fn call(name: &str) -> Result<&'static str, Fault> {
    syscalls::find(name).map(|call| call.name).ok_or_else(|| format!("no system call `{name}`"))
}

fn word(text: &str) -> Result<&'static str, Fault> {
    KERNEL.into_iter().find(|word| *word == text).ok_or_else(|| format!("no word of `kernel` `{text}`"))
}

fn number(node: Node) -> Result<u32, Fault> {
    let text = text_of(node)?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is no number"))
}

fn mapping(node: Node) -> Result<Vec<Key>, Fault> {
    let line = node.place.line;
    match node.kind {
        Kind::Mapping(entries) => Ok(entries),
        _ => Err(format!("line {line} is no mapping")),
    }
}

fn sequence(node: Node) -> Result<Vec<Node>, Fault> {
    let line = node.place.line;
    match node.kind {
        Kind::Sequence(items) => Ok(items),
        _ => Err(format!("line {line} is no list")),
    }
}

fn texts(node: Node) -> Result<Vec<String>, Fault> {
    sequence(node)?.into_iter().map(text_of).collect()
}

fn text_of(node: Node) -> Result<String, Fault> {
    let line = node.place.line;
    match node.kind {
        Kind::Scalar { text, .. } if !text.is_empty() => Ok(text),
        _ => Err(format!("line {line} is no text")),
    }
}
