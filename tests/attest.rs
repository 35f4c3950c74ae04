//! What makes a record one that others can trust: signatures, the ledger, anchors; and what happens to it when runs
//! crash or are removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use audit_verify::canonical::Record;
use audit_verify::chain::ChainWriter;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

/// Makes the store's key; gives the file of its public half, outside the store.
fn key(scene: &Scene) -> PathBuf {
    let made = finish(scene.sandbox(["key", "init"])).expect(0);
    let path = scene.path("key.pem");
    fs::write(&path, made.stdout).expect("a file");
    path
}

fn verify(scene: &Scene, key: &Path, target: &Path) -> Done {
    let (key, target) = (key.to_str().expect("UTF-8"), target.to_str().expect("UTF-8"));
    finish(scene.audit_verify(["--key", key, target]))
}

/// The lines of a log, without their newlines.
fn lines(run: &Path) -> Vec<Vec<u8>> {
    let text = fs::read(run.join("events.jsonl")).expect("a log");
    text.strip_suffix(b"\n").expect("whole lines").split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn write(run: &Path, lines: &[Vec<u8>]) {
    let text: Vec<u8> = lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
    fs::write(run.join("events.jsonl"), text).expect("a log");
}

/// A log with other content and hashes that fit: what somebody makes who may write the file and has no key.
fn forged(run: &Path) -> Vec<Vec<u8>> {
    let mut chain = ChainWriter::default();
    let mut tree = audit_verify::merkle::Tree::default();
    let own = ["hash_prev", "hash_self", "seq"];
    let mut lines = lines(run);
    for line in &mut lines {
        let record = Record::parse(line).expect("canonical");
        let (head, root) = (chain.position().head, tree.root());
        let made = chain.append(|event| {
            for (key, value) in record.fields().iter().filter(|(key, _)| !own.contains(key)) {
                match *key {
                    "path" => event.put(key, "/nothing/to/see/here"),
                    "head" => event.put(key, head.as_str()),
                    "merkle_root" => event.put(key, root.as_str()),
                    key => event.put(key, value),
                };
            }
        });
        *line = made.expect("a line").strip_suffix(b"\n").expect("a newline").to_vec();
        tree.push(&chain.position().head);
    }
    lines
}

/// The log with a seal that nobody signed, and that fits otherwise.
fn unsigned(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (seal, before) = lines.split_last().expect("a seal");
    let head = audit_verify::chain::own_hash(&before[before.len() - 1]).expect("a line");
    let mut chain = ChainWriter::at(audit_verify::chain::Position { seq: before.len() as u64, head });
    let record = Record::parse(seal).expect("canonical");
    let left_out = ["hash_prev", "hash_self", "seq", "key_id", "signature"];
    let made = chain.append(|event| {
        for (key, value) in record.fields().iter().filter(|(key, _)| !left_out.contains(key)) {
            event.put(key, value);
        }
    });
    let seal = made.expect("a line").strip_suffix(b"\n").expect("a newline").to_vec();
    before.iter().cloned().chain([seal]).collect()
}

#[test]
fn a_signed_run_cannot_be_written_anew_or_cut() {
    if !met("signed runs", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let key = key(&scene);
    scene.record(["ls", "/"]).expect(0);
    let run = scene.run();
    let done = verify(&scene, &key, &run).expect(0);
    assert!(done.stdout.contains("signed    yes, by "), "{}", done.stdout);
    let start =
        Log::of_run(&run).records().next().map(|(_, record)| record.text("key_reach").map(str::to_owned));
    // The command runs as root here, and nothing is enforced.
    assert_eq!(start.flatten().as_deref(), Some("within-reach"));

    let honest = lines(&run);
    // Outside the store no ledger speaks.
    let copy = scene.path("copy");
    fs::create_dir(&copy).expect("a directory");
    write(&copy, &honest);
    verify(&scene, &key, &copy).expect(0);
    write(&copy, &forged(&run));
    finish(scene.audit_verify([&copy])).expect(0);
    let done = verify(&scene, &key, &copy).expect(1);
    assert!(done.stdout.contains("its signature is not"), "{}", done.stdout);
    // The first line names the key, so a seal without its signature is not the recorder's, whoever has the key.
    write(&copy, &unsigned(&honest));
    let done = finish(scene.audit_verify([&copy])).expect(1);
    assert!(done.stdout.contains("it is not signed"), "{}", done.stdout);
    for cut in 1..honest.len() {
        write(&copy, &honest[..cut]);
        verify(&scene, &key, &copy).expect(2);
    }
    // In the store the ledger knows its head.
    write(&run, &forged(&run));
    let done = finish(scene.audit_verify([&run])).expect(1);
    assert!(
        done.stdout.contains("its signature is not the one") || done.stdout.contains("ledger"),
        "{}",
        done.stdout
    );
    write(&run, &honest);
    finish(scene.audit_verify([&run])).expect(0);

    let other = scene.path("other.pem");
    finish(scene.sandbox(["key", "init"])).expect(1);
    fs::write(&other, finish(scene.sandbox(["key", "rotate"])).expect(0).stdout).expect("a file");
    verify(&scene, &other, &copy_of(&scene, &run)).expect(1);
    // In its store the first key vouches for the second, not the second for the first.
    scene.record(["true"]).expect(0);
    verify(&scene, &key, &scene.store()).expect(0);
    let done = verify(&scene, &other, &scene.store()).expect(3);
    assert!(done.stdout.contains("the ledger begins with the key "), "{}", done.stdout);
    let both = ["--key", other.to_str().expect("UTF-8"), "--key", key.to_str().expect("UTF-8")];
    finish(scene.audit_verify([&both[..], &[scene.store().to_str().expect("UTF-8")]].concat())).expect(0);
}

/// Whoever has a key that was replaced, from a backup or a theft, signs nothing with it any more.
#[test]
fn a_replaced_key_is_of_no_use() {
    if !met("replaced keys", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let key = key(&scene);
    scene.record(["true"]).expect(0);
    let secret = scene.store().join("keys/signing.pem");
    let old = fs::read_to_string(&secret).expect("a key");
    finish(scene.sandbox(["key", "rotate"])).expect(0);
    scene.record(["true"]).expect(0);
    verify(&scene, &key, &scene.store()).expect(0);
    let new = fs::read_to_string(&secret).expect("a key");

    fs::write(&secret, &old).expect("the old key back");
    let done = scene.record(["true"]).expect(125);
    assert!(done.stderr.contains("the ledger has") && done.stderr.contains("in force"), "{}", done.stderr);
    assert_eq!(scene.runs().len(), 2);
    fs::write(&secret, &new).expect("the new key back");
    scene.record(["true"]).expect(0);
    verify(&scene, &key, &scene.store()).expect(0);

    // An entry that fits in every way, signed with the old key.
    let ledger = scene.store().join("ledger.jsonl");
    let honest = fs::read(&ledger).expect("a ledger");
    let judged = audit_verify::ledger::read(&honest[..], &[]).expect("a ledger");
    let at = audit_verify::chain::Position { seq: judged.entries, head: judged.head };
    let entry = audit_verify::ledger::Entry::Repair { reason: "nothing".to_owned() };
    for (pem, code) in [(&old, 1), (&new, 0)] {
        let signer = audit_verify::sign::SigningKey::from_pem(pem).expect("a key");
        let now = "2026-11-27T00:00:00.000000000Z";
        let line = audit_verify::ledger::line(&mut ChainWriter::at(at), &entry, now, Some(&signer));
        fs::write(&ledger, [&honest[..], &line.expect("a line")].concat()).expect("a ledger");
        finish(scene.audit_verify([&scene.store()])).expect(code);
        verify(&scene, &key, &scene.store()).expect(code);
    }
}

fn copy_of(scene: &Scene, run: &Path) -> PathBuf {
    let copy = scene.path("second-copy");
    fs::create_dir(&copy).expect("a directory");
    write(&copy, &lines(run));
    copy
}

/// Somebody who shares no code with this project checks a signature, as the documentation says.
#[test]
fn openssl_agrees_about_a_signature() {
    let needs = [Need::Trace, Need::Program("openssl"), Need::Program("python3")];
    if !met("signatures for openssl", &needs) {
        return;
    }
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verify.md")).expect("a page");
    let (_, keys) = page.split_once("## Keys").expect("a part about keys");
    let program =
        keys.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a program");
    let scene = Scene::new();
    let key = key(&scene);
    scene.record(["true"]).expect(0);
    // In the working directory, where the program looks.
    write(&scene.work(), &lines(&scene.run()));
    finish(scene.command("python3", ["-I", "-c", program])).expect(0);
    let openssl = || {
        let mut command = scene.command("openssl", ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"]);
        command.arg(&key).args(["-sigfile", "signature", "-in", "message"]);
        finish(command)
    };
    let done = openssl().expect(0);
    assert!(done.stdout.contains("Signature Verified Successfully"), "{}", done.stdout);
    let message = scene.work().join("message");
    let other = fs::read_to_string(&message).expect("a message").replace(['0', '1'], "2");
    fs::write(&message, other).expect("a file");
    openssl().expect(1);
}

#[test]
fn the_ledger_shows_what_became_of_runs() {
    if !met("the ledger", &[Need::Trace, Need::Program("python3")]) {
        return;
    }
    let scene = Scene::new();
    for _ in 0..3 {
        scene.record(["true"]).expect(0);
    }
    let whole = || finish(scene.audit_verify([&scene.store()]));
    whole().expect(0);
    let ledger = scene.store().join("ledger.jsonl");
    let honest = fs::read(&ledger).expect("a ledger");

    let runs = scene.runs();
    let hidden = scene.path("hidden");
    fs::rename(&runs[1], &hidden).expect("a run goes");
    let done = whole().expect(1);
    assert!(done.stdout.contains("of the ledger has this run, and the store does not"), "{}", done.stdout);
    fs::rename(&hidden, &runs[1]).expect("and comes back");

    // One run's log in the place of another's.
    let second = lines(&runs[1]);
    write(&runs[1], &lines(&runs[0]));
    let done = whole().expect(1);
    assert!(done.stdout.contains("it does not begin as line"), "{}", done.stdout);
    write(&runs[1], &second);

    // Every line of the ledger taken out or cut off behind.
    let entries: Vec<&[u8]> = honest.split_inclusive(|byte| *byte == b'\n').collect();
    for at in 0..entries.len() {
        let mut fewer = entries.clone();
        fewer.remove(at);
        fs::write(&ledger, fewer.concat()).expect("a ledger");
        let done = whole();
        if at + 1 < entries.len() {
            done.expect(1);
        } else {
            // The last entry is the end of a run, which its own seal still has: somebody took it out, or the runner
            // could not write it.
            let done = done.expect(2);
            assert!(done.stdout.contains("the ledger does not have its end"), "{}", done.stdout);
        }
    }
    fs::remove_file(&ledger).expect("no ledger");
    whole().expect(2);
    fs::write(&ledger, &honest).expect("a ledger");
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("check_chain.py");
    finish(scene.command("python3", [python.as_path(), &ledger])).expect(0);

    // A broken ledger takes no more runs, and says what to do.
    let text =
        String::from_utf8(honest.clone()).expect("ASCII").replace("\"entry\": \"end\"", "\"entry\": \"eND\"");
    fs::write(&ledger, &text).expect("a ledger");
    let done = scene.record(["true"]).expect(125);
    assert!(done.stderr.contains("move the ledger away to begin a new one"), "{}", done.stderr);
    assert_eq!(scene.runs().len(), 3);
}

#[test]
fn heads_go_to_anchors_as_they_happen() {
    if !met("anchors", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let kept = scene.path("kept");
    let command = format!("cat >> {}", kept.display());
    let script = "for i in 1 2 3 4 5 6 7 8; do ls / > /dev/null; done";
    let mut run = scene.sandbox(["run", "--checkpoint-events", "20", "--anchor-cmd", &command]);
    run.args(["--", "sh", "-c", script]);
    finish(run).expect(0);
    let log = lines(&scene.run());
    let text = fs::read_to_string(&kept).expect("heads were kept");
    let heads: Vec<Record<'_>> =
        text.lines().map(|line| Record::parse(line.as_bytes()).expect("JSON")).collect();
    let stages: Vec<&str> = heads.iter().filter_map(|head| head.text("stage")).collect();
    assert_eq!((stages.first(), stages.last()), (Some(&"start"), Some(&"seal")));
    for head in &heads {
        let events = head.uint("events").expect("a number") as usize;
        let line = Record::parse(&log[events - 1]).expect("canonical");
        assert_eq!(line.text("hash_self"), head.text("head"));
    }
    let checkpoints = log.iter().filter(|line| {
        Record::parse(line).is_ok_and(|record| record.text("event_type") == Some("checkpoint"))
    });
    assert!(checkpoints.count() >= 2);
    // An anchor's head is what --expect-head compares.
    let head = heads.last().and_then(|head| head.text("head")).expect("a head");
    finish(scene.audit_verify(["--expect-head", head, "last"])).expect(0);
    let first = heads.first().and_then(|head| head.text("head")).expect("a head");
    finish(scene.audit_verify(["--expect-head", first, "last"])).expect(1);
}

#[test]
fn an_anchor_that_does_not_work_refuses_the_run_and_the_ledger_says_so() {
    if !met("anchors that fail", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let ran = scene.path("ran");
    let mut run = scene.sandbox(["run", "--anchor-cmd", "exit 9", "--", "touch"]);
    run.arg(&ran);
    let done = finish(run).expect(125);
    assert!(done.stderr.contains("the command `exit 9`: it ended with exit status: 9"), "{}", done.stderr);
    assert!(!ran.exists() && scene.runs().is_empty());
    let ledger = fs::read_to_string(scene.store().join("ledger.jsonl")).expect("a ledger");
    assert!(ledger.contains("\"reason\": \"the command never started\""), "{ledger}");
    finish(scene.audit_verify([&scene.store()])).expect(0);
    for blank in ["", " \t"] {
        let done = finish(scene.sandbox(["run", "--anchor-cmd", blank, "--", "true"])).expect(125);
        assert!(done.stderr.contains("--anchor-cmd is empty"), "{}", done.stderr);
    }
    let mut later = scene.sandbox(["run", "--anchor-cmd", "test $SANDBOX_STAGE = start", "--", "true"]);
    later.env_remove("SANDBOX_STAGE");
    let done = finish(later).expect(0);
    assert!(done.stderr.contains("1 of 2 heads of this log were not anchored"), "{}", done.stderr);
}

/// Starts a run, kills its front-end, and waits until its record is closed.
fn crash(scene: &Scene) -> PathBuf {
    let script = "echo > ready; until [ -e stop ]; do sleep 0.01; done";
    let mut command = scene.sandbox(["run", "--", "sh", "-c", script]);
    let mut front = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("sandbox starts");
    let wait = |what: &str, so: &dyn Fn() -> bool| {
        let end = Instant::now() + Duration::from_secs(60);
        while !so() {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait("the command runs", &|| scene.work().join("ready").exists());
    // While it goes on nothing about it is recovered or removed.
    finish(scene.sandbox(["recover"])).expect(0);
    let done = finish(scene.sandbox(["gc", "--keep", "0"])).expect(0);
    let run = scene.runs().pop().expect("a run");
    assert!(run.is_dir() && done.stderr.contains(" of "), "{}", done.stderr);
    front.kill().expect("killed");
    front.wait().expect("ended");
    fs::write(scene.work().join("stop"), "").expect("a file");
    wait("the record is closed", &|| {
        let runs = finish(scene.sandbox(["runs", "--json"])).expect(0).stdout;
        runs.lines().last().is_some_and(|last| last.contains("\"incomplete\""))
    });
    run
}

#[test]
fn a_crashed_run_is_entered_as_it_is_and_never_sealed() {
    if !met("recovery", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let key = key(&scene);
    let run = crash(&scene);
    let done = finish(scene.sandbox(["recover"])).expect(0);
    assert!(done.stdout.contains("incomplete"), "{}", done.stdout);
    let done = finish(scene.sandbox(["recover"])).expect(0);
    assert_eq!(done.stdout, "");
    assert!(done.stderr.contains("nothing to recover"), "{}", done.stderr);
    verify(&scene, &key, &scene.store()).expect(2);
    let honest = lines(&run);
    // A seal that fits, made afterwards by somebody without the key.
    let mut sealed = honest.clone();
    let last = Record::parse(sealed.last().expect("a line")).expect("canonical");
    let head = last.text("hash_self").and_then(|text| text.parse().ok()).expect("a hash");
    let run_id = last.text("run_id").expect("an id").to_owned();
    let seq = honest.len() as u64;
    let mut chain = ChainWriter::at(audit_verify::chain::Position { seq, head });
    let root = merkle_root(&honest);
    let seal = chain.append(|event| {
        event.put("action", "OBSERVED").put("event_type", "run_end").put("events", seq + 1);
        event.put("head", head.as_str()).put("lost", 0);
        event.put("merkle_root", root.as_str());
        event.put("run_id", run_id.as_str());
    });
    sealed.push(seal.expect("a line").strip_suffix(b"\n").expect("a newline").to_vec());
    write(&run, &sealed);
    finish(scene.audit_verify([&scene.store()])).expect(1);
    write(&run, &honest[..honest.len() - 1]);
    finish(scene.audit_verify([&scene.store()])).expect(1);
    write(&run, &honest);
    finish(scene.audit_verify([&scene.store()])).expect(2);
}

/// What the seal of these lines would have as its root.
fn merkle_root(lines: &[Vec<u8>]) -> audit_verify::Hash {
    let mut tree = audit_verify::merkle::Tree::default();
    for line in lines {
        tree.push(&audit_verify::chain::own_hash(line).expect("a line"));
    }
    tree.root()
}

#[test]
fn removed_runs_leave_their_entries() {
    if !met("gc", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    for _ in 0..4 {
        scene.record(["true"]).expect(0);
    }
    let before = scene.runs();
    let done = finish(scene.sandbox(["gc", "--keep", "3", "--dry-run"])).expect(0);
    assert_eq!(done.stdout.lines().count(), 1, "{}", done.stdout);
    assert_eq!(scene.runs(), before);
    finish(scene.sandbox(["gc", "--keep", "3"])).expect(0);
    let removed = done.stdout.split_whitespace().next().expect("an id");
    let asked = finish(scene.sandbox(["view", removed])).expect(1);
    assert!(asked.stderr.contains("was removed (gc --keep 3)"), "{}", asked.stderr);
    assert_eq!(scene.runs().len(), 3);
    finish(scene.sandbox(["gc", "--older-than", "1h"])).expect(0);
    assert_eq!(scene.runs().len(), 3);
    let done = finish(scene.sandbox(["gc", "--max-size", "10"])).expect(2);
    assert!(done.stderr.contains("--max-size 10 has no unit; write 10M, 10G, or 10B"), "{}", done.stderr);
    assert_eq!(scene.runs().len(), 3);
    finish(scene.sandbox(["gc", "--max-size", "1B"])).expect(0);
    assert_eq!(scene.runs().len(), 0);
    let ledger = fs::read_to_string(scene.store().join("ledger.jsonl")).expect("a ledger");
    assert_eq!(ledger.matches("\"entry\": \"removed\"").count(), 4);
    finish(scene.audit_verify([&scene.store()])).expect(0);
    // Within one second too no id comes back.
    for _ in 0..3 {
        scene.record(["true"]).expect(0);
        finish(scene.sandbox(["gc", "--keep", "0"])).expect(0);
    }
    finish(scene.audit_verify([&scene.store()])).expect(0);
    // A directory that is no store does not become one.
    let elsewhere = scene.path("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    let mut gc = scene.sandbox(["gc", "--keep", "1"]);
    gc.env("SANDBOX_HOME", &elsewhere);
    let done = finish(gc).expect(0);
    assert!(done.stderr.contains("no store in "), "{}", done.stderr);
    assert_eq!(fs::read_dir(&elsewhere).expect("a directory").count(), 0);
    finish(scene.sandbox(["gc"])).expect(2);
    let done = finish(scene.sandbox(["gc", "--older-than", "soon"])).expect(2);
    assert!(done.stderr.contains("write it like 45m, 12h or 30d"), "{}", done.stderr);
}

/// Runs that begin and end while several tidy up: each goes through, and the ledger holds.
#[test]
fn who_tidies_up_beside_others_leaves_a_ledger_that_holds() {
    if !met("gc beside runs", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let start = |args: &[&str]| {
        let mut command = scene.sandbox(args.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("sandbox starts")
    };
    let went_well = |child: std::process::Child| {
        let output = child.wait_with_output().expect("wait");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {said}", output.status);
        said
    };
    for _ in 0..2 {
        for _ in 0..3 {
            scene.record(["true"]).expect(0);
        }
        let two = [start(&["gc", "--keep", "0"]), start(&["gc", "--keep", "0"])].map(went_well);
        let gone = |said: &str| {
            said.split_once(" of ").and_then(|(count, _)| count.rsplit(' ').next()?.parse().ok())
        };
        let gone: Vec<u32> = two.iter().filter_map(|said| gone(said)).collect();
        assert_eq!(gone.iter().sum::<u32>(), 3, "each run is gone once: {two:?}");
    }
    let mut runs: Vec<_> = (0..4).map(|_| start(&["run", "-q", "--", "sleep", "0.3"])).collect();
    while runs.iter_mut().any(|run| run.try_wait().expect("wait").is_none()) {
        finish(scene.sandbox(["gc", "--keep", "0"]));
    }
    runs.into_iter().for_each(|run| _ = went_well(run));
    finish(scene.audit_verify([&scene.store()])).expect(0);
    // Some may have ended after the last who tidied up had looked.
    finish(scene.sandbox(["gc", "--keep", "0"])).expect(0);
    // A run that the ledger does not have proves nothing, although its log holds by itself.
    scene.record(["true"]).expect(0);
    let (run, planted) = (scene.run(), scene.store().join("runs/20990101-000000-planted"));
    fs::create_dir(&planted).expect("a directory");
    fs::copy(run.join("events.jsonl"), planted.join("events.jsonl")).expect("a copy");
    let path = planted.to_str().expect("UTF-8");
    let done = finish(scene.audit_verify(["prove", path, "2"])).expect(1);
    assert!(done.stderr.contains("the store's ledger does not have this run"), "{}", done.stderr);
    fs::remove_dir_all(&planted).expect("removed");
    // Without its ledger a run is not what it was.
    let (ledger, aside) = (scene.store().join("ledger.jsonl"), scene.path("aside"));
    fs::rename(&ledger, &aside).expect("rename");
    let done = finish(scene.audit_verify(["last"])).expect(2);
    assert!(done.stdout.contains("the store has no ledger"), "{}", done.stdout);
    fs::rename(&aside, &ledger).expect("rename");
    // What lies behind a link is nobody's run.
    let elsewhere = scene.path("elsewhere");
    fs::create_dir_all(elsewhere.join("precious")).expect("a directory");
    let store = scene.store();
    fs::rename(store.join("runs"), store.join("x")).expect("rename");
    std::os::unix::fs::symlink(&elsewhere, store.join("runs")).expect("a link");
    finish(scene.sandbox(["gc", "--keep", "0"])).expect(1);
    assert!(elsewhere.join("precious").exists());
}
