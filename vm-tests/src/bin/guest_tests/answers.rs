//! What an answer opens, and for how long.

use crate::asking::{DATA, answer, asking, begin, data, end, expect, once_asked};
use crate::attempt::ACCES;
use crate::log::{show, text};
use crate::run::PROBE;
use crate::{Trial, WORK, write};
use anyhow::{Context, Result, ensure};
use audit_verify::Hash;
use std::fs;

pub const TRIALS: &[Trial] = &[
    ("allowed once, then denied", once),
    ("allowed for the run", for_the_run),
    ("allowed always", always),
    ("names that are made while something is open once", names_that_stay),
    ("what is renamed to where it was asked about", renamed_over),
];

fn once() -> Result<()> {
    let policy = asking("once", "200s")?;
    let (key, other) = (data("once/key", "secret")?, data("plain", "plain")?);
    let (read, plain) = (format!("read={key}"), format!("read={other}"));
    let run = begin("asking-once", &policy, &[], &[&plain, &read, &read])?;
    let run = once_asked(run, &["\"number\":1", &key, "asking/keys", "a person decides", PROBE])?;
    answer(&run.dir, &["allow", "7"], 1, "no open question 7")?;
    answer(&run.dir, &["allow", "1"], 0, "allowed once: read")?;
    // Once is once: the same again is another question.
    let run = once_asked(run, &["\"number\":2", &key])?;
    answer(&run.dir, &["deny", "2"], 0, "denied: read")?;
    let finished = end(run, &format!("{plain}\t0\n{read}\t0\n{read}\t{ACCES}\n"))?;
    expect(
        &finished,
        &[
            "ask 1 asking/keys",
            "answer 1 allow once person",
            "ask 2 asking/keys",
            "answer 2 deny person",
            "blocked asking/keys",
        ],
    )?;
    // Behind the answer the record has the act itself.
    let log = finished.log()?;
    let events = log.events()?;
    let at = events.iter().position(|event| text(event, "event_type") == "answer").context("no answer")?;
    let acted = events[at..]
        .iter()
        .any(|event| text(event, "path") == key && event.int("ret").is_some_and(|ret| ret >= 0));
    ensure!(acted, "the act does not stand behind its answer");
    ensure!(events[at].uint("uid") == Some(0), "{}", show(&events[at]));
    Ok(())
}

fn for_the_run() -> Result<()> {
    let policy = asking("run", "200s")?;
    let (one, two) = (data("run/one", "1")?, data("run/two", "2")?);
    let (read, write, other) = (format!("read={one}"), format!("write={one}"), format!("read={two}"));
    let run = begin("asking-run", &policy, &[], &[&read, &read, &write, &other])?;
    let run = once_asked(run, &["\"number\":1", &one])?;
    answer(&run.dir, &["allow", "1", "--run"], 0, "allowed for this run: read")?;
    // Neither another access nor another file is meant by it.
    let run = once_asked(run, &["\"number\":2", "write", &one])?;
    answer(&run.dir, &["deny", "2"], 0, "denied: write")?;
    let run = once_asked(run, &["\"number\":3", "read", &two])?;
    answer(&run.dir, &["deny", "3"], 0, "denied: read")?;
    let finished = end(run, &format!("{read}\t0\n{read}\t0\n{write}\t{ACCES}\n{other}\t{ACCES}\n"))?;
    expect(
        &finished,
        &[
            "ask 1 asking/keys",
            "answer 1 allow run person",
            "ask 2 asking/keys",
            "answer 2 deny person",
            "blocked asking/keys",
            "ask 3 asking/keys",
            "answer 3 deny person",
            "blocked asking/keys",
        ],
    )
}

/// An answer that holds for good: the rule stands in the policy's file, and the next run asks no more.
fn always() -> Result<()> {
    let policy = asking("always", "200s")?;
    let before = fs::read_to_string(&policy)?;
    let (key, other) = (data("always/key", "secret")?, data("always/other", "secret")?);
    let (read, write, kept) = (format!("read={key}"), format!("write={key}"), format!("write={policy}"));
    let next = format!("{WORK}/.ask-always.yaml.sandbox-next");
    let next = format!("create={next}");
    let run = begin("asking-always", &policy, &[], &[&read, &read, &write, &next, &kept])?;
    let run = once_asked(run, &["\"number\":1,", &key])?;
    answer(&run.dir, &["allow", "1", "--always"], 0, &format!("wrote {policy}"))?;
    // The other accesses of the rule ask as before; the file, and what its next text is made under, are not for the run.
    let run = once_asked(run, &["\"number\":2,", "write", &key])?;
    answer(&run.dir, &["deny", "2"], 0, "denied: write")?;
    let finished =
        end(run, &format!("{read}\t0\n{read}\t0\n{write}\t{ACCES}\n{next}\t{ACCES}\n{kept}\t{ACCES}\n"))?;
    let blocked = "blocked runner/policy";
    let asked = ["ask 1 asking/keys", "answer 1 allow always person", "ask 2 asking/keys"];
    let denied = ["answer 2 deny person", "blocked asking/keys", blocked, blocked];
    expect(&finished, &[&asked[..], &denied[..]].concat())?;
    let log = finished.log()?;
    let events = log.events()?;
    let event = events.iter().find(|event| text(event, "scope") == "always").context("no answer")?;
    let hash = Hash::of(&[&fs::read(&policy)?]);
    let written = (text(event, "target"), text(event, "policy_sha256"));
    ensure!(written == (policy.as_str(), hash.as_str()), "{}", show(event));

    // One line got an exception, and what is left of the rule stands behind.
    let after = fs::read_to_string(&policy)?;
    let excepted = before.replace("/**\"], timeout", &format!("/**\"], except: [\"{key}\"], timeout"));
    ensure!(excepted != before && after.starts_with(&excepted) && after.contains("keys-rest"), "{after}");
    let others = format!("read={other}");
    let run = begin("asking-always-again", &policy, &[], &[&read, &write, &others])?;
    let run = once_asked(run, &["\"number\":1,", "write", &key, "asking/keys-rest", "a person decides"])?;
    answer(&run.dir, &["deny", "1"], 0, "denied: write")?;
    let run = once_asked(run, &["\"number\":2,", "read", &other])?;
    answer(&run.dir, &["deny", "2"], 0, "denied: read")?;
    end(run, &format!("{read}\t0\n{write}\t{ACCES}\n{others}\t{ACCES}\n"))?;

    // What cannot be written is not answered, and the question stays.
    let second = write_second()?;
    let run = begin("asking-always-two", &policy, &["--enforce", &second], &[&others])?;
    let run = once_asked(run, &["\"number\":1,", &other])?;
    answer(&run.dir, &["allow", "1", "--always"], 1, "the run has 2 policies")?;
    answer(&run.dir, &["deny", "1"], 0, "denied: read")?;
    end(run, &format!("{others}\t{ACCES}\n"))?;
    let run = begin("asking-always-not", &policy, &[], &[&others])?;
    let run = once_asked(run, &["\"number\":1,", &other])?;
    std::os::unix::fs::chown(&policy, Some(1000), None)?;
    answer(&run.dir, &["allow", "1", "--always"], 1, "belongs to uid 1000")?;
    std::os::unix::fs::chown(&policy, Some(0), None)?;
    fs::write(&policy, format!("{after}# by hand\n"))?;
    answer(&run.dir, &["allow", "1", "--always"], 1, "was changed since the run began")?;
    ensure!(fs::read_to_string(&policy)? == format!("{after}# by hand\n"), "it was written nevertheless");
    answer(&run.dir, &["allow", "1", "--run"], 0, "allowed for this run: read")?;
    end(run, &format!("{others}\t0\n"))?;
    Ok(())
}

/// A policy that closes nothing here.
fn write_second() -> Result<String> {
    write("ask-second.yaml", "version: 1\nname: second\nfiles: { default: allow }\n")
}

/// An answer is about what was there: another file that is renamed to that place meanwhile is not opened.
fn renamed_over() -> Result<()> {
    fs::create_dir_all(format!("{DATA}/over"))?;
    let policy = write(
        "ask-over.yaml",
        &format!(
            "version: 1\nname: asking\nfiles:\n  default: allow\n  rules:\n    \
             - {{ name: keys, ask: [read], path: [\"{DATA}/over/**\"], timeout: 200s }}\n"
        ),
    )?;
    for (name, swaps) in [("asking-over-not", false), ("asking-over", true)] {
        let (key, other) = (data("over/key", "asked")?, data("over/other", "secret")?);
        let read = format!("read={key}");
        let run = begin(name, &policy, &[], &[&read])?;
        let run = once_asked(run, &["\"number\":1,", &key])?;
        if swaps {
            // As another process of the run could: both are closed alike.
            fs::rename(&other, &key)?;
            answer(&run.dir, &["allow", "1", "--run"], 1, "another object")?;
            let finished = end(run, &format!("{read}\t{ACCES}\n"))?;
            expect(&finished, &["ask 1 asking/keys", "answer 1 deny person", "blocked asking/keys"])?;
        } else {
            answer(&run.dir, &["allow", "1", "--run"], 0, "allowed for this run")?;
            end(run, &format!("{read}\t0\n"))?;
        }
    }
    Ok(())
}

/// What stays open of what was open for a moment: a link or a directory elsewhere, made in that moment by another thread of
/// the run, must not.
fn names_that_stay() -> Result<()> {
    const ANSWERS: usize = 8;
    for (call, closed, old) in [("link", "names/**", "names/key"), ("rename", "moves/in/key", "moves/in")] {
        let name = format!("asking-stays-{call}");
        fs::create_dir_all(format!("{DATA}/names"))?;
        fs::create_dir_all(format!("{DATA}/moves/in"))?;
        let policy = write(
            &format!("ask-stays-{call}.yaml"),
            &format!(
                "version: 1\nname: asking\nfiles:\n  default: allow\n  rules:\n    \
                 - {{ name: keys, ask: [read], path: [\"{DATA}/{closed}\"], timeout: 200s }}\n"
            ),
        )?;
        let key = if call == "link" { "names/key" } else { "moves/in/key" };
        let (key, new) = (data(key, "secret")?, format!("{DATA}/out-{call}"));
        let step = format!("stays={call},{DATA}/{old},{new},{key},{ANSWERS}");
        let run = (1..=ANSWERS).try_fold(begin(&name, &policy, &[], &[&step])?, |run, number| {
            let run = once_asked(run, &[&format!("\"number\":{number},"), &key])?;
            answer(&run.dir, &["allow", &number.to_string()], 0, "allowed once: read")?;
            anyhow::Ok(run)
        })?;
        let finished = end(run, &format!("{step}\t{ACCES}\n"))?;
        ensure!(!fs::exists(&new)?, "{new} was made");
        let tries = finished.stderr.split_whitespace().find_map(|word| word.parse::<u64>().ok());
        ensure!(tries.is_some_and(|tries| tries >= ANSWERS as u64), "{}", finished.stderr);

        // The control: what is open for the rest of the run may have another name.
        let run = begin(&format!("{name}-run"), &policy, &[], &[&step])?;
        let run = once_asked(run, &["\"number\":1,", &key])?;
        answer(&run.dir, &["allow", "1", "--run"], 0, "allowed for this run: read")?;
        end(run, &format!("{step}\t0\n"))?;
        ensure!(fs::exists(&new)?, "{new} was not made");
    }
    Ok(())
}
