//! `sandbox export` of runs that were really recorded; made-up logs are tested beside the exporter.

use std::path::Path;

use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

const FORMATS: &[&str] = &["jsonl", "csv", "parquet", "ocsf", "ecs", "cef", "otlp-json"];

fn export(scene: &Scene, args: &[&str]) -> Done {
    finish(scene.sandbox([&["export"], args].concat()))
}

fn documents(scene: &Scene, format: &str) -> Vec<serde_json::Value> {
    let done = export(scene, &["--format", format]).expect(0);
    assert_eq!(done.stderr, "", "a log that verifies is exported without a word");
    done.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn record(scene: &Scene) {
    let script =
        "printf x > \"$(printf 'a\\n=b|\\377')\"; mv a* b; rm b; cat /etc/hostname /nonexistent; exit 3";
    scene.record(["sh", "-c", script]).expect(3);
}

#[test]
fn a_real_run_is_told_by_its_events() {
    if !met("the export of a real run", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    record(&scene);
    let run = scene.run();
    let events = Log::of_run(&run).len();

    let ecs = documents(&scene, "ecs");
    assert_eq!(ecs.len(), events);
    let created = ecs.iter().find(|document| document["event"]["type"][0] == "creation").expect("a creation");
    assert_eq!(created["file"]["path"], format!("{}/a\\n=b|\\udcff", scene.work().display()));
    assert_eq!(created["sandbox"]["escaped"], serde_json::json!(["path"]));
    let missing = ecs.iter().find(|document| document["file"]["path"] == "/nonexistent").expect("a look-up");
    assert_eq!(
        (&missing["event"]["outcome"], &missing["error"]["code"]),
        (&"failure".into(), &"ENOENT".into())
    );

    let ocsf = documents(&scene, "ocsf");
    assert_eq!(ocsf.len(), events);
    let renamed = ocsf.iter().find(|event| event["type_uid"] == 100_105).expect("a rename");
    assert_eq!(renamed["file_result"]["name"], "b");
    assert_eq!(ocsf.last().expect("an event")["type_uid"], 600_204);
    for document in ocsf {
        assert_ne!(document["device"]["hostname"], serde_json::Value::Null, "each tells of its machine");
    }
}

#[test]
fn what_is_exported_as_lines_still_verifies() {
    if !met("the export of a log as it is", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    record(&scene);
    let place = scene.path("copy.jsonl");
    let to = place.to_str().expect("UTF-8");
    export(&scene, &["last", "--format", "jsonl", "-o", to]).expect(0);
    finish(scene.audit_verify([Path::new(to)])).expect(0);
    assert_eq!(std::fs::read(&place).ok(), std::fs::read(scene.run().join("events.jsonl")).ok());
}

#[test]
fn a_run_that_was_edited_is_exported_in_no_form() {
    if !met("the export of an edited log", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    record(&scene);
    let log = scene.run().join("events.jsonl");
    let whole = std::fs::read_to_string(&log).expect("the log is ASCII");
    let edited = whole.replacen("/nonexistent\"", "/nonexistenz\"", 1);
    assert_ne!(whole, edited);
    std::fs::write(&log, edited).expect("edit the log");
    for format in FORMATS {
        let done = export(&scene, &["--format", format]).expect(1);
        assert_eq!(done.stdout, "");
        assert!(done.stderr.contains("TAMPERED"), "{}", done.stderr);
    }
}
