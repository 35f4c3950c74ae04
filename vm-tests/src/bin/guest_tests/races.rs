//! Names that change while they are resolved: what is judged must be what is opened.

use crate::attempt::ACCES;
use crate::log::{attempts, show, text};
use crate::run::complete;
use crate::{Trial, write};
use anyhow::{Context, Result, ensure};
use std::fs;

pub const TRIALS: &[Trial] = &[("a symbolic link swapped under opens", swapped)];

/// Opens of the link; another process swaps it all the while. In an emulator 100,000 take more than a minute.
const ROUNDS: u64 = 30_000;

const POLICY: &str = r#"
version: 1
name: swap
files:
  default: allow
  rules:
    - { name: closed, deny: [read], path: ["/tmp/trial/swap/denied"] }
"#;

/// No open ever gets the denied file, each that met it is denied and counted, and nothing in the record says
/// otherwise. The log may lose events of such a flood, but then says how many.
fn swapped() -> Result<()> {
    const DENIED: &str = "/tmp/trial/swap/denied";
    fs::create_dir("/tmp/trial/swap")?;
    fs::write("/tmp/trial/swap/allowed", "a")?;
    fs::write(DENIED, "d")?;
    let policy = write("swap.yaml", POLICY)?;
    let step = format!("swap-read=/tmp/trial/swap/link,/tmp/trial/swap/allowed,{DENIED},{ROUNDS}");
    let finished = complete("swapped", &["--enforce", &policy, "--require", "lsm"], &[&step])?;
    finished.expect_code(0)?;
    ensure!(finished.stdout == format!("{step}\t{ACCES}\n"), "{}{}", finished.stdout, finished.stderr);
    let refused = number_before(&finished.stderr, " refused")?;
    let log = finished.log()?;
    let events = log.events()?;
    let mut told = 0;
    for event in events
        .iter()
        .filter(|event| text(event, "path") == DENIED && text(event, "event_type") == "file_open")
    {
        let right = text(event, "action") == "BLOCKED" && text(event, "policy_rule") == "swap/closed";
        ensure!(right && event.int("ret") == Some(i64::from(ACCES)), "the record has{}", show(event));
        told += attempts(event);
    }
    let last = events.last().context("the log is empty")?;
    let (blocked, lost) = (last.uint("blocked"), last.uint("lost").unwrap_or_default());
    println!("       {ROUNDS} rounds: {refused} refused, of them {told} told; {lost} events lost");
    ensure!(blocked == Some(refused), "{refused} opens were denied, but{}", show(last));
    ensure!(
        told <= refused && refused <= told + lost,
        "{told} denials told of {refused}, {lost} events lost"
    );
    Ok(())
}

/// The number that stands before a word.
fn number_before(text: &str, word: &str) -> Result<u64> {
    let before = text.split(word).next().unwrap_or_default();
    let number = before.rsplit(' ').next().unwrap_or_default();
    number.parse().with_context(|| format!("no number before {word:?} in {text:?}"))
}
