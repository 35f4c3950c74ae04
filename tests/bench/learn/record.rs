//! Recording runs, each once: what lies in the place already is taken as it is.

use std::fs;
use std::path::PathBuf;

use sandbox_tests::binaries::binary;
use serde_json::{Value, json};

use super::site::{Purpose, Site};
use super::workloads::Workload;

/// A run that was recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub name: String,
    /// Its workspace.
    pub work: PathBuf,
    /// The run's directory.
    pub record: PathBuf,
    /// An attack in it was begun, and came through.
    pub begun: bool,
    pub through: bool,
}

/// Records a run.
pub fn record(site: &mut Site, workload: &Workload, purpose: &Purpose<'_>, seed: u64) -> Recorded {
    let name = purpose.name();
    let record = site.place.join("records").join(workload.name).join(&name);
    let about = record.with_extension("json");
    if let Ok(text) = fs::read_to_string(&about) {
        let told: Value = serde_json::from_str(&text).expect("what a run came to");
        let flag = |name: &str| told[name].as_bool().unwrap_or(false);
        let work = site.workspace(workload, purpose, seed);
        return Recorded { name, work, record, begun: flag("begun"), through: flag("through") };
    }
    let _ = fs::remove_dir_all(&record);
    fs::create_dir_all(record.parent().expect("a place")).expect("a place for records");
    let work = site.prepare(workload, purpose, seed);
    site.forget(purpose);
    let words = [
        &binary("sandbox").display().to_string(),
        "run",
        "--quiet",
        "--audit-only",
        "--run-dir",
        &record.display().to_string(),
        "--",
        "sh",
        "job.sh",
    ];
    let output = site.run(&work, &words.map(str::to_owned));
    let (begun, through) = site.came_through(workload, purpose, &work);
    if !output.status.success() && !matches!(purpose, Purpose::Attacked(..)) {
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        panic!("{} {name} failed without a policy: {said}", workload.name);
    }
    let told = json!({ "begun": begun, "through": through });
    fs::write(about, told.to_string()).expect("what the run came to");
    Recorded { name, work, record, begun, through }
}
