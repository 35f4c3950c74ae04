//! What asks waits for an answer: the kernel stays the judge, and each answer stands in the record.

use crate::attempt::{ACCES, PERM};
use crate::log::{Log, show, text};
use crate::process::{Watched, executing};
use crate::run::{Finished, PROBE, Run, SANDBOX, complete, start};
use crate::{Trial, WORK, write};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub const TRIALS: &[Trial] = &[
    ("questions on the run's own terminal", crate::terminal::answered_there),
    ("nobody answers", timeout),
    ("a flood is one question", flood),
    ("arguments that change while a question is open", hammer),
    ("a program answers", by_program),
    ("what is denied is asked about", denials),
    ("executions, addresses and names", other_calls),
    ("a process of the run", from_inside),
    ("the collector dies while a question is open", collector_dies),
    ("who asked is killed", asker_dies),
];

/// The place of the trials' files.
pub const DATA: &str = "/srv/asking";

pub fn data(name: &str, content: &str) -> Result<String> {
    fs::create_dir_all(DATA)?;
    let path = format!("{DATA}/{name}");
    fs::write(&path, content)?;
    Ok(path)
}

/// A policy that asks about what lies in a directory of the trials.
pub fn asking(name: &str, timeout: &str) -> Result<String> {
    fs::create_dir_all(format!("{DATA}/{name}"))?;
    write(
        &format!("ask-{name}.yaml"),
        &format!(
            "version: 1\nname: asking\nfiles:\n  default: allow\n  rules:\n    \
             - {{ name: keys, ask: [read, write, create, delete], path: [\"{DATA}/{name}/**\"], timeout: {timeout}, because: a person decides }}\n"
        ),
    )
}

/// What `sandbox asks` said.
struct Said {
    code: Option<i32>,
    text: String,
}

fn asks(dir: &Path, arguments: &[&str]) -> Result<Said> {
    let mut command = Command::new(SANDBOX);
    let output =
        command.arg("asks").args(arguments).arg("--of").arg(dir).output().context("cannot run sandbox")?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Said { code: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() })
}

/// The questions that are open, as lines of JSON.
fn open(dir: &Path) -> Result<Vec<String>> {
    let said = asks(dir, &["--json"])?;
    // The runner listens a moment after the run's directory is there.
    Ok(said.text.lines().filter(|line| line.starts_with('{')).map(str::to_owned).collect())
}

/// The same of a run that is watched elsewhere.
pub fn once_asked_in(dir: &Path, words: &[&str]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !open(dir)?.iter().any(|line| words.iter().all(|word| line.contains(word))) {
        ensure!(Instant::now() < deadline, "nothing asks about {words:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Waits until a question is open that has all of `words` in it.
pub fn once_asked(run: Run, words: &[&str]) -> Result<Run> {
    let dir = run.dir.clone();
    run.once(&format!("ask about {words:?}"), || {
        Ok(open(&dir)?.iter().any(|line| words.iter().all(|word| line.contains(word))))
    })
}

pub fn answer(dir: &Path, arguments: &[&str], code: i32, text: &str) -> Result<()> {
    let said = asks(dir, arguments)?;
    ensure!(
        said.code == Some(code) && said.text.contains(text),
        "{arguments:?}: {:?} {}",
        said.code,
        said.text
    );
    Ok(())
}

pub fn begin(name: &str, policy: &str, more: &[&str], steps: &[&str]) -> Result<Run> {
    let options = [&["--enforce", policy, "--require", "lsm"], more].concat();
    start(name, &options, steps)
}

pub fn end(run: Run, stdout: &str) -> Result<Finished> {
    let finished = run.finish()?;
    finished.expect_code(0)?;
    finished.expect_verdict(0)?;
    ensure!(finished.stdout == stdout, "{}{}", finished.stdout, finished.stderr);
    Ok(finished)
}

/// Questions, answers, and what was denied, in order.
fn story(log: &Log) -> Result<Vec<String>> {
    let mut story = Vec::new();
    for event in log.events()? {
        ensure!(text(&event, "reason") != "unattributed", "{}", show(&event));
        let number = event.uint("ask_id").unwrap_or(0);
        match (text(&event, "event_type"), text(&event, "action")) {
            ("ask", _) => story.push(format!("ask {number} {}", text(&event, "policy_rule"))),
            ("answer", _) => {
                let verdict = text(&event, "verdict");
                let by = text(&event, "answered_by").split(' ').next().unwrap_or_default().to_owned();
                story.push(format!("answer {number} {verdict} {}{by}", scope(text(&event, "scope"))));
            }
            (_, "BLOCKED") => story.push(format!("blocked {}", text(&event, "policy_rule"))),
            _ => {}
        }
    }
    Ok(story)
}

fn scope(scope: &str) -> String {
    if scope.is_empty() { String::new() } else { format!("{scope} ") }
}

pub fn expect(finished: &Finished, expected: &[&str]) -> Result<()> {
    let story = story(&finished.log()?)?;
    ensure!(story == expected, "{story:#?}");
    Ok(())
}

fn timeout() -> Result<()> {
    let policy = asking("timeout", "2s")?;
    let (key, plain) = (data("timeout/key", "secret")?, data("plain", "plain")?);
    let (read, plain) = (format!("read={key}"), format!("read={plain}"));
    let before = Instant::now();
    let run = begin("asking-timeout", &policy, &[], &[&read, &plain])?;
    let finished = end(run, &format!("{read}\t{ACCES}\n{plain}\t0\n"))?;
    ensure!(before.elapsed() >= Duration::from_secs(2), "it did not wait");
    expect(&finished, &["ask 1 asking/keys", "answer 1 deny timeout", "blocked asking/keys"])?;
    let log = finished.log()?;
    let events = log.events()?;
    let ask = events.iter().find(|event| text(event, "event_type") == "ask").context("no question")?;
    let told = (ask.uint("timeout_s"), text(ask, "because"), text(ask, "path"), text(ask, "exe"));
    ensure!(told == (Some(2), "a person decides", key.as_str(), PROBE), "{}", show(ask));
    Ok(())
}

/// Calls of one rule wait behind its question: one question, one answer, and all of them refused.
fn flood() -> Result<()> {
    const COUNT: usize = 200;
    /// How many are allowed afterwards, one by one.
    const FEW: usize = 24;
    let policy = asking("flood", "200s")?;
    for number in 0..COUNT {
        data(&format!("flood/{number}"), "x")?;
    }
    let (step, few) = (format!("flood={DATA}/flood,{COUNT}"), format!("flood={DATA}/flood,{FEW}"));
    let run = begin("asking-flood", &policy, &[], &[&step, &few])?;
    let all = format!("\"waiting\":{COUNT}");
    let run = once_asked(run, &["\"number\":1", &all])?;
    ensure!(open(&run.dir)?.len() == 1, "several questions");
    answer(&run.dir, &["deny", "1"], 0, &format!("({COUNT} calls)"))?;
    // The control: the same again, each allowed by an answer of its own.
    let run = once_asked(run, &["\"number\":2", &format!("\"waiting\":{FEW}")])?;
    for number in 2..2 + FEW {
        let asked = format!("\"number\":{number},");
        let dir = run.dir.clone();
        let mut tries = 0;
        while !open(&dir)?.iter().any(|line| line.contains(&asked)) {
            tries += 1;
            ensure!(tries < 200, "question {number} is not put: {:?}", open(&dir)?);
        }
        let scope = if number % 5 == 2 { "--run" } else { "--once" };
        answer(&run.dir, &["allow", &number.to_string(), scope], 0, "allowed")?;
    }
    let finished = end(run, &format!("{step}\t{ACCES}\n{few}\t0\n"))?;
    let log = finished.log()?;
    let events = log.events()?;
    let of = |kind: &str| events.iter().filter(|event| text(event, "event_type") == kind).count();
    ensure!(
        (of("ask"), of("answer")) == (1 + FEW, 1 + FEW),
        "{} questions, {} answers",
        of("ask"),
        of("answer")
    );
    let first = events.iter().find(|event| text(event, "event_type") == "answer").context("no answer")?;
    ensure!(first.uint("count") == Some(COUNT as u64), "{}", show(first));
    let blocked: u64 =
        events.iter().filter(|event| text(event, "action") == "BLOCKED").map(crate::log::attempts).sum();
    ensure!(blocked == COUNT as u64, "{blocked} denials");
    Ok(())
}

/// No call gets the file while a question about it is open, whatever becomes of its arguments on the way.
fn hammer() -> Result<()> {
    const CALLS: u64 = 10_000;
    let policy = asking("hammer", "1h")?;
    let denied = data("hammer/key", "secret")?;
    fs::create_dir_all(format!("{DATA}/hammex"))?;
    let allowed = data("hammex/key", "plain")?;
    ensure!(allowed.len() == denied.len(), "{allowed} {denied}");
    let counts = |stderr: &str| -> Result<[u64; 4]> {
        let line = stderr.lines().find(|line| line.contains(" calls: ")).context("the probe said nothing")?;
        let numbers: Vec<u64> =
            line.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
        numbers.try_into().map_err(|_| anyhow::anyhow!("{line}"))
    };
    let came_through = |stderr: &str| stderr.contains("the first came through");
    let done = format!("{WORK}/asking-hammer.done");
    let step = format!("hammer={allowed},{denied},{CALLS},{done}");
    let run = begin("asking-hammer", &policy, &[], &[&step])?;
    let run = run.once("make its calls", || Ok(fs::exists(&done)?))?;
    let questions = open(&run.dir)?;
    ensure!(questions.len() == 1 && questions[0].contains("\"number\":1,"), "{questions:?}");
    let waiting = questions[0].split("\"waiting\":").nth(1).and_then(|rest| rest.split(',').next());
    let waiting: u64 = waiting.context("no number of calls that wait")?.parse()?;
    answer(&run.dir, &["deny", "1"], 0, "denied: read")?;
    let finished = run.finish()?;
    finished.expect_code(0)?;
    finished.expect_verdict(0)?;
    let [made, opened, leaked, refused] = counts(&finished.stderr)?;
    println!(
        "       {made} calls while it was open: {opened} opened what is open, {refused} refused, of which \
         {waiting} had waited, {leaked} leaked"
    );
    ensure!(finished.stdout == format!("{step}\t{ACCES}\n"), "{}", finished.stdout);
    ensure!(
        made >= CALLS
            && leaked == 0
            && opened > 0
            && refused >= waiting
            && refused > 0
            && !came_through(&finished.stderr),
        "{made} {opened} {leaked} {refused}"
    );
    let log = finished.log()?;
    let last = log.events()?;
    let last = last.last().context("the log is empty")?;
    ensure!(last.uint("blocked") == Some(refused), "{refused} were refused, but{}", show(last));

    // The control: answered, the same calls do get it.
    let done = format!("{WORK}/asking-hammer-open.done");
    let step = format!("hammer={allowed},{denied},{CALLS},{done}");
    let run = begin("asking-hammer-open", &policy, &[], &[&step])?;
    let run = once_asked(run, &["\"number\":1,"])?;
    answer(&run.dir, &["allow", "1", "--run"], 0, "allowed for this run: read")?;
    let finished = end(run, &format!("{step}\t0\n"))?;
    let [made, opened, leaked, refused] = counts(&finished.stderr)?;
    println!(
        "       {made} calls once it was allowed: {opened} opened what is open, {leaked} the other, {refused} refused"
    );
    ensure!(came_through(&finished.stderr), "{}", finished.stderr);
    ensure!(leaked > 0, "the calls never meet the file: {}", finished.stderr);
    Ok(())
}

fn by_program() -> Result<()> {
    let policy = asking("program", "100s")?;
    let key = data("program/key", "secret")?;
    let read = format!("read={key}");
    // 0 allows once, 3 for the run; another status denies.
    for (code, results, verdicts) in [
        (0, [0, 0], ["allow once command", "allow once command"]),
        (3, [0, 0], ["allow run command", ""]),
        (1, [ACCES, ACCES], ["deny command", "deny command"]),
    ] {
        fs::create_dir_all("/srv/programs")?;
        let program = format!("/srv/programs/answer-{code}");
        fs::copy(PROBE, &program)?;
        let name = format!("asking-program-{code}");
        let run = begin(&name, &policy, &["--ask-cmd", &program], &[&read, &read])?;
        let finished = end(run, &format!("{read}\t{}\n{read}\t{}\n", results[0], results[1]))?;
        let story = story(&finished.log()?)?;
        let answers: Vec<String> = (1u64..)
            .zip(verdicts)
            .filter(|(_, verdict)| !verdict.is_empty())
            .map(|(number, verdict)| format!("answer {number} {verdict}"))
            .collect();
        let found: Vec<&String> = story.iter().filter(|line| line.starts_with("answer")).collect();
        ensure!(found.iter().copied().eq(&answers), "{story:#?}");
        let asked = fs::read_to_string(format!("{program}.asked"))?;
        for word in ["\"question\":", "\"asking/keys\"", &key, "a person decides", PROBE] {
            ensure!(asked.contains(word), "{asked}");
        }
    }
    // It is not for the command to change.
    let program = "/srv/programs/answer-0";
    let step = format!("write={program}");
    let finished = complete(
        "asking-program-kept",
        &["--enforce", &policy, "--require", "lsm", "--ask-cmd", program],
        &[&step],
    )?;
    ensure!(finished.stdout == format!("{step}\t{ACCES}\n"), "{}{}", finished.stdout, finished.stderr);
    Ok(())
}

fn denials() -> Result<()> {
    let secret = data("denied", "secret")?;
    let policy = write(
        "denials-asked.yaml",
        &format!(
            "version: 1\nname: closed\nfiles:\n  default: allow\n  rules:\n    - {{ name: secret, deny: [read], path: [{secret}] }}\n"
        ),
    )?;
    let read = format!("read={secret}");
    // Without --ask nothing is asked.
    let run = begin("asking-denials-not", &policy, &[], &[&read])?;
    expect(&end(run, &format!("{read}\t{ACCES}\n"))?, &["blocked closed/secret"])?;
    // The runner's own rules are never asked about.
    let own = format!("create={WORK}/asking-denials/mine");
    let run = begin("asking-denials", &policy, &["--ask"], &[&own, &read])?;
    let run = once_asked(run, &["\"number\":1,", "closed/secret", &secret])?;
    answer(&run.dir, &["allow", "1"], 0, "allowed once")?;
    let finished = end(run, &format!("{own}\t{ACCES}\n{read}\t0\n"))?;
    expect(&finished, &["blocked runner/record", "ask 1 closed/secret", "answer 1 allow once person"])
}

fn other_calls() -> Result<()> {
    let names = format!("{DATA}/names");
    fs::create_dir_all(&names)?;
    let moved = data("names/old", "x")?;
    let link = format!("{DATA}/link");
    let target = data("names/target", "x")?;
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&target, &link)?;
    let policy = write(
        "other-calls.yaml",
        &format!(
            "version: 1\nname: asking\nfiles:\n  default: allow\n  rules:\n    \
             - {{ name: names, ask: [read, create, delete, attributes], path: [\"{names}/**\"] }}\n\
             exec:\n  default: allow\n  rules: [{{ name: wget, ask: [run], path: [/usr/bin/wget] }}]\n\
             network:\n  default: allow\n  rules: [{{ name: out, ask: [connect, send], to: [any] }}]\n"
        ),
    )?;
    let steps = [
        format!("read={link}"),
        "run=/usr/bin/wget".to_owned(),
        "connect-tcp=127.0.0.1:9009".to_owned(),
        "udp=127.0.0.1:9010".to_owned(),
        format!("mkdir={names}/new"),
        format!("chmod={target}"),
        format!("rename={moved},{names}/moved"),
        format!("unlink={target}"),
    ];
    let asked = [
        format!("read {target}"),
        "run /usr/bin/wget".to_owned(),
        "connect 127.0.0.1:9009/tcp".to_owned(),
        "send 127.0.0.1:9010/udp".to_owned(),
        format!("create {names}/new"),
        format!("attributes {target}"),
        format!("delete {moved}; create {names}/moved"),
        format!("delete {target}"),
    ];
    let refused = [ACCES, ACCES, PERM, PERM, ACCES, ACCES, ACCES, ACCES];
    // Without an answer that allows, each has its errno; with one, what it gives outside.
    let passed = [0, 0, -libc::ECONNREFUSED, 0, 0, 0, 0, 0];
    for (name, how, results) in [("deny", "deny", refused), ("allow", "allow", passed)] {
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let mut run = begin(&format!("asking-others-{name}"), &policy, &[], &steps)?;
        for (number, what) in (1..).zip(&asked) {
            let words = [format!("\"number\":{number},"), what.clone()];
            run = once_asked(run, &[&words[0], &words[1]])?;
            let said = if how == "deny" { "denied" } else { "allowed once" };
            answer(&run.dir, &[how, &number.to_string()], 0, said)?;
        }
        let expected: String =
            steps.iter().zip(results).map(|(step, result)| format!("{step}\t{result}\n")).collect();
        end(run, &expected).with_context(|| name.to_owned())?;
    }
    Ok(())
}

fn from_inside() -> Result<()> {
    let policy = asking("inside", "200s")?;
    for (name, scope) in [("asking-inside", "--once"), ("asking-inside-always", "--always")] {
        let step = format!("become={SANDBOX},asks,allow,1,{scope},--of,{WORK}/{name}");
        let run = begin(name, &policy, &[], &[&step])?;
        let finished = run.finish()?;
        finished.expect_code(1)?;
        ensure!(
            finished.stderr.contains("a process of an enforced run cannot apply policies"),
            "{}",
            finished.stderr
        );
        finished.expect_verdict(0)?;
    }
    Ok(())
}

fn collector_dies() -> Result<()> {
    let policy = asking("dies", "200s")?;
    let key = data("dies/key", "secret")?;
    let leak = format!("{WORK}/asking-dies.leak");
    let (read, touch) = (format!("read={key}"), format!("touch={leak}"));
    let run = begin("asking-dies", &policy, &[], &[&read, &touch])?;
    let run = once_asked(run, &["\"number\":1,"])?;
    let front = run.front().pid;
    let runner = executing(SANDBOX)?;
    let collector =
        runner.iter().find(|process| process.pid != front && process.name.starts_with("sandbox-collec"));
    let Some(collector) = collector else { bail!("no collector among {runner:?}") };
    Watched::open(collector.pid)?.signal(libc::SIGKILL)?;
    let finished = run.finish()?;
    finished.expect_code(122)?;
    // The call that waited failed, or its process was ended first; it never got the file.
    ensure!(!finished.stdout.contains("\t0\n"), "{}", finished.stdout);
    finished.expect_verdict(2)
}

/// A question that nobody waits for any more is closed, and told.
fn asker_dies() -> Result<()> {
    let policy = asking("killed", "200s")?;
    let key = data("killed/key", "secret")?;
    let go = format!("{WORK}/asking-killed.go");
    let program = "/usr/bin/other";
    let run = begin(
        "asking-killed",
        &policy,
        &[],
        &[&format!("within={program}"), &format!("read={key}"), &format!("wait={go}")],
    )?;
    let run = once_asked(run, &["\"number\":1,"])?;
    let inside = executing(program)?;
    ensure!(!inside.is_empty(), "nobody executes {program}");
    for process in &inside {
        Watched::open(process.pid)?.signal(libc::SIGKILL)?;
    }
    let dir = run.dir.clone();
    let run = match run.once("forget the question", || Ok(open(&dir)?.is_empty())) {
        Ok(run) => run,
        // The run may have ended with it.
        Err(_) => {
            let log = Log::read(&dir)?;
            let story = story(&log)?;
            ensure!(story.iter().any(|line| line == "answer 1 withdrawn nobody:"), "{story:#?}");
            return Ok(());
        }
    };
    let finished = run.finish()?;
    let story = story(&finished.log()?)?;
    ensure!(story == ["ask 1 asking/keys", "answer 1 withdrawn nobody:"], "{story:#?}");
    finished.expect_verdict(0)
}
