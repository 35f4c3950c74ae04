//! What the tests share: sample logs, a generator of numbers, and the oracle written in Python.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "this is test code, in a module that clippy does not know as such")]

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use audit_verify::Hash;
use audit_verify::chain::{ChainWriter, EventWriter};
use audit_verify::merkle::Tree;
use audit_verify::verify::{Question, Report, Verdict, Verifier};

/// The lines of a finished log of `lines` events (at least 2), each with its newline.
pub fn sample(lines: u64) -> Vec<Vec<u8>> {
    let mut chain = ChainWriter::default();
    let mut tree = Tree::default();
    let mut out = Vec::new();
    for seq in 1..lines {
        out.push(chain.append(|event| fill(event, seq)).unwrap().to_vec());
        tree.push(&chain.position().head);
    }
    let head = chain.position().head;
    let seal = chain.append(|event| {
        event.put("action", "OBSERVED").put("agent_id", "test").put("event_type", "run_end");
        event.put("events", lines).put("exit_code", 0).put("head", head.as_str()).put("lost", 0);
        event.put("merkle_root", tree.root().as_str());
        event.put("run_id", "20260721-101010-test").put("v", 1);
    });
    out.push(seal.unwrap().to_vec());
    out
}

fn fill(event: &mut EventWriter<'_>, seq: u64) {
    event.put("action", "OBSERVED").put("agent_id", "test");
    match seq {
        1 => event.put("event_type", "run_start"),
        _ if seq.is_multiple_of(3) => {
            event.list("argv", ["sh", "-c", "echo \"x\"\n"]).put("event_type", "exec")
        }
        _ => event.put("event_type", "file_open"),
    };
    let paths: [&[u8]; 4] =
        [b"/etc/passwd", "/home/j\u{f6}rg/\u{1f600}".as_bytes(), b"/tmp/\xff\x80", b"/a\tb\x7f"];
    event.put("kseq", seq * 3).put("mono_ns", 1_234_567_890 + seq).put("path", paths[seq as usize % 4]);
    event.put("pid", 4242).put("ret", -13 + (seq as i64 % 20)).put("run_id", "20260721-101010-test");
    event.put("v", 1);
}

/// The verdict about a log, asked as `question`.
pub fn ask(question: Question, log: &[u8]) -> Report {
    Verifier::new(question).run(log).unwrap()
}

/// The exit code of the verdict about a log.
pub fn code(log: &[u8]) -> u8 {
    ask(Question::Log, log).verdict.code()
}

/// How many lines hold and the head, if the chain holds.
pub fn chain_holds(log: &[u8]) -> Option<(u64, Hash)> {
    match ask(Question::Chain, log).verdict {
        Verdict::ChainHolds { lines, head } => Some((lines, head)),
        _ => None,
    }
}

/// SplitMix64: the same numbers for the same seed, everywhere.
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// One of them.
    pub fn of<'v, T: ?Sized>(&mut self, values: &[&'v T]) -> &'v T {
        values[self.below(values.len())]
    }
}

/// `oracle.py`, running. It answers one question at a time.
pub struct Oracle {
    process: Child,
    questions: ChildStdin,
    answers: ChildStdout,
}

impl Default for Oracle {
    fn default() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/oracle.py");
        let mut process = Command::new("python3")
            .args(["-I", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("these tests need python3: it is the judge of what is canonical");
        let questions = process.stdin.take().unwrap();
        let answers = process.stdout.take().unwrap();
        Oracle { process, questions, answers }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It ends by itself when its input does; this only makes sure.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Oracle {
    fn ask(&mut self, kind: u8, question: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind];
        frame.extend_from_slice(&(question.len() as u32).to_le_bytes());
        frame.extend_from_slice(question);
        self.questions.write_all(&frame).unwrap();
        self.questions.flush().unwrap();
        let mut len = [0; 4];
        self.answers.read_exact(&mut len).unwrap();
        let mut answer = vec![0; u32::from_le_bytes(len) as usize];
        self.answers.read_exact(&mut answer).unwrap();
        answer
    }

    /// How many lines hold and the head, if the chain of a file holds.
    pub fn chain_holds(&mut self, log: &[u8]) -> Option<(u64, Hash)> {
        let answer = String::from_utf8(self.ask(b'F', log)).unwrap();
        let (lines, head) = answer.strip_prefix("holds ")?.split_once(' ').unwrap();
        Some((lines.parse().unwrap(), head.parse().unwrap()))
    }

    /// One line without `hash_self`, printed canonically, if it is an object.
    pub fn print(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        self.ask(b'L', line).strip_prefix(b"+").map(<[u8]>::to_vec)
    }

    /// An object printed canonically. One member a line: kind, key, values, all but the kind in hexadecimal.
    pub fn object(&mut self, members: &str) -> Vec<u8> {
        self.ask(b'O', members.as_bytes())
    }
}
