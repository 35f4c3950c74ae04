//! `audit-verify check-proof`: does this proof hold, and which head does it lead to?

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use audit_verify::Hash;
use audit_verify::canonical::{LINE_MAX, ObjectWriter};
use audit_verify::proof::{NotAProof, Proof, ProofFault, Shown};
use audit_verify::text::clean_lines;
use clap::Parser;

use crate::cli::Output;
use crate::target::TargetError;

/// No proof is longer: two lines, and a backslash before each byte of them.
const SIZE_MAX: u64 = 4 * LINE_MAX as u64 + (1 << 20);

const HELP: &str = "\
A proof shows that the event stood at its place in the log whose head is the
one that is printed. Whether that is the log that was meant only a head that
was kept elsewhere can tell.

  audit-verify check-proof event-42.json --expect-head \"$HEAD\"

Exit codes: 0 the proof holds, 1 it does not, or leads to another head, 3 it
could not be read, or is no proof.";

/// Checks the proof of one event, without its log
#[derive(Debug, Parser)]
#[command(
    name = "audit-verify check-proof",
    bin_name = "audit-verify check-proof",
    after_help = HELP,
    max_term_width = 80
)]
pub struct CheckProof {
    /// The proof, as prove wrote it; - is standard input
    #[arg(value_name = "FILE")]
    file: OsString,

    /// The head that the proof must lead to, else it does not hold (1)
    #[arg(long, value_name = "HASH")]
    expect_head: Option<Hash>,

    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Why a proof shows nothing.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error(transparent)]
    Read(#[from] TargetError),
    #[error(transparent)]
    NotAProof(#[from] NotAProof),
    #[error(transparent)]
    Fault(#[from] ProofFault),
    #[error("it leads to the head {found}, and {expected} is expected")]
    Head { expected: Box<Hash>, found: Box<Hash> },
}

impl Wrong {
    fn code(&self) -> u8 {
        match self {
            Wrong::Read(_) | Wrong::NotAProof(_) => 3,
            Wrong::Fault(_) | Wrong::Head { .. } => 1,
        }
    }

    /// One word.
    fn name(&self) -> &'static str {
        match self {
            Wrong::Read(error) => error.name(),
            Wrong::NotAProof(_) => "not-a-proof",
            Wrong::Fault(_) => "proof",
            Wrong::Head { .. } => "anchor",
        }
    }
}

impl CheckProof {
    /// Checks it and prints what was found; returns the exit code.
    pub fn run(&self, stdout: &mut impl Write) -> io::Result<u8> {
        let found = self.check();
        let text = match (self.output(), &found) {
            (Output::Json, found) => self.as_json(found),
            (Output::Text, Ok((proof, shown))) => self.as_text(proof, shown),
            (Output::Text, Err(wrong)) if wrong.code() == 1 => {
                format!("does not hold: {wrong}\n").into_bytes()
            }
            (Output::Text, Err(wrong)) => {
                eprintln!("audit-verify: {}", clean_lines(&format!("{}: {wrong}", self.name())));
                Vec::new()
            }
        };
        crate::left(stdout.write_all(&text).and_then(|()| stdout.flush()))?;
        Ok(found.map_or_else(|wrong| wrong.code(), |_| 0))
    }

    fn output(&self) -> Output {
        if self.json { Output::Json } else { Output::Text }
    }

    fn name(&self) -> String {
        self.file.to_string_lossy().escape_debug().to_string()
    }

    fn check(&self) -> Result<(Proof, Shown), Wrong> {
        let text = if self.file == "-" { bounded(io::stdin().lock()) } else { read(Path::new(&self.file)) };
        let proof = Proof::parse(&text.map_err(TargetError::read(Path::new(&self.file)))?)?;
        let shown = proof.check()?;
        match self.expect_head {
            Some(expected) if expected != shown.head => {
                Err(Wrong::Head { expected: expected.into(), found: shown.head.into() })
            }
            _ => Ok((proof, shown)),
        }
    }

    fn as_text(&self, proof: &Proof, shown: &Shown) -> Vec<u8> {
        let anchored = match self.expect_head {
            Some(_) => "yes: it leads to the expected head",
            None => "no: compare the head with one kept elsewhere (--expect-head)",
        };
        let mut text = format!(
            "holds: event {} of a log of {}\n  head      {}\n  anchored  {anchored}\n",
            shown.seq, shown.events, shown.head
        )
        .into_bytes();
        text.extend_from_slice(&proof.event);
        text.push(b'\n');
        text
    }

    fn as_json(&self, found: &Result<(Proof, Shown), Wrong>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut object = ObjectWriter::new(&mut out);
        match found {
            Ok((proof, shown)) => {
                object.put("anchored", self.expect_head.is_some()).put("code", 0);
                object.put("event", &proof.event[..]).put("events", shown.events);
                object.put("head", shown.head.as_str()).put("seq", shown.seq);
            }
            Err(wrong) => {
                object.put("code", wrong.code()).put("message", wrong.to_string().as_str());
                object.put("reason", wrong.name());
            }
        }
        object.put("target", self.file.as_encoded_bytes());
        object.put("verdict", if found.is_ok() { "holds" } else { "does-not-hold" });
        // The keys above ascend, so nothing can fail; a test prints both kinds.
        let _ = object.finish();
        out.push(b'\n');
        out
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    bounded(file)
}

fn bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    source.take(SIZE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > SIZE_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than any proof"));
    }
    Ok(text)
}
