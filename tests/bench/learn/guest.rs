//! Enforcing what was learned for real: on a kernel with all hooks, in qemu (`vm-tests`).
//!
//! A guest gets the files that the recorded runs opened, executed or looked for, the laboratory, this program and the
//! policy. Inside, [`inside`] writes the same projects with the same seeds and runs them under `sandbox run --enforce`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use net_lab::{PYTHON, PYTHON_MODULES, Side};
use sandbox_tests::log::Log;
use serde_json::{Value, json};
use vm_tests::cpio::Kind;
use vm_tests::image::Image;
use vm_tests::kernel::{self, Series};
use vm_tests::machine::Boot;
use vm_tests::wire::LINK;
use vm_tests::{guest, laboratory, module, package_managers, programs};

use super::attacks;
use super::record::Recorded;
use super::site::{Purpose, Site};
use super::table::Enforced;
use super::workloads::{WORKLOADS, Workload};

/// The word for the side inside.
pub const KEY: &str = "learn-inside";

/// Where the guest has its orders, and the programs of the workspace.
const PLAN: &str = "/learn/plan.json";
const POLICY: &str = "/learn/policy.yaml";
const SANDBOX: &str = "/usr/bin/sandbox";

/// A guest's time for all of its runs.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);

/// What files of the host are none of a guest's: it has its own, or makes them.
const NOT_PACKED: [&str; 9] =
    ["/proc", "/sys", "/dev", "/run", "/tmp", "/var", "/home", "/etc/resolv.conf", "/etc/hosts"];

/// What a guest is to try.
pub struct Orders<'a> {
    /// Series of the kernel.
    pub kernel: &'a str,
    pub workload: &'a Workload,
    pub policy: &'a str,
    /// Programs of the runs.
    pub path: &'a str,
    pub seed: u64,
    /// Runs that it was learned from.
    pub lessons: usize,
    pub honest: usize,
    pub attacks: usize,
}

/// Enforces the policy on the runs that it was learned from, on as many honest ones, and on attacks.
pub fn enforce(place: &Path, orders: &Orders<'_>, recorded: &[&Recorded]) -> Enforced {
    let series = Series::named(orders.kernel).expect("a series of kernels");
    let kernel = series.find(&kernel::cache()).unwrap_or_else(|error| panic!("{error}"));
    let names = ["guest-init", "sandbox", "bench"];
    let built = guest::build(guest::PACKAGES, &names).expect("programs for a guest");
    let mut image = Image::new(&built[0], &kernel.config, &kernel.release).expect("an image");
    let scratch = place.join("scratch").join(orders.workload.name);
    let (files, modules) = touched(recorded);
    // Projects are made inside.
    for path in files.iter().filter(|path| !path.starts_with(place)) {
        pack(&mut image, path);
    }
    if orders.workload.programs.contains(&"npm") {
        // Also what it needs only where something fails: else nobody would be told what.
        package_managers::npm(&mut image).expect("npm");
    }
    laboratory::pack(&mut image, &kernel, &scratch).expect("the laboratory");
    let modules: Vec<&str> =
        PYTHON_MODULES.iter().copied().chain(modules.iter().map(String::as_str)).collect();
    programs::python(&mut image, Path::new(PYTHON), &modules, &scratch).expect("Python");
    // By a link, where it is one here: a policy has the path of the file.
    pack(&mut image, Path::new(PYTHON));
    for (name, path) in names.iter().zip(&built).skip(1) {
        image.copy(path, &format!("/usr/bin/{name}")).expect("a program");
    }
    let plan = json!({
        "workload": orders.workload.name, "path": orders.path, "seed": orders.seed,
        "lessons": orders.lessons, "honest": orders.honest, "attacks": orders.attacks,
    });
    image.put(PLAN, 0o644, 0, Kind::File(plan.to_string().into_bytes()));
    image.put(POLICY, 0o644, 0, Kind::File(orders.policy.as_bytes().to_vec()));
    image.merge_usr();
    let boot = Boot {
        kernel: &kernel,
        image: &image,
        argv: ["/usr/bin/bench", KEY].map(str::to_owned).to_vec(),
        cmdline: String::new(),
        memory: 3072,
        timeout: PATIENCE,
        dir: place.join("guest").join(orders.workload.name),
    };
    let mut enforced = Enforced::default();
    let mut said = String::new();
    let ended = boot.run(|line| {
        let text = String::from_utf8_lossy(line);
        match serde_json::from_str::<Value>(&text) {
            Ok(told) if told["run"].is_string() => {
                // A guest takes its time; whoever waits sees that it goes on.
                eprintln!("{} {}: {}", orders.workload.name, told["run"], enforced.add(&told));
            }
            _ => said.push_str(&text),
        }
        Ok(())
    });
    let done = ended.map(|outcome| outcome.code());
    assert!(matches!(done, Ok(0)), "{}: {done:?}\n{said}", orders.workload.name);
    enforced
}

impl Enforced {
    /// Counts a run; what came of it, in a word.
    fn add(&mut self, told: &Value) -> &'static str {
        let (run, denied) = (told["run"].as_str().unwrap_or("?"), &told["denied"]);
        if told["kind"] == "attack" {
            self.attacks += 1;
            match (told["begun"] == true, told["through"] == true) {
                (true, false) => {
                    self.stopped += 1;
                    return "stopped";
                }
                (true, true) => self.told.push(format!("{run} came through")),
                (false, _) => self.told.push(format!(
                    "{run} was never begun, and ended with {}: {denied} {}",
                    told["status"], told["said"]
                )),
            }
            return "not stopped";
        }
        let (runs, blocked) = match told["kind"] == "lesson" {
            true => (&mut self.lessons, &mut self.own),
            false => (&mut self.honest, &mut self.blocked),
        };
        *runs += 1;
        if told["status"] != 0 || denied.as_array().is_none_or(|list| !list.is_empty()) {
            *blocked += 1;
            self.told.push(format!("{run} ended with {}: {denied} {}", told["status"], told["said"]));
            return "denied";
        }
        "not denied"
    }
}

/// Files that runs had to do with, and modules of Python's library among them.
fn touched(runs: &[&Recorded]) -> (BTreeSet<PathBuf>, BTreeSet<String>) {
    let (mut files, mut modules) = (BTreeSet::new(), BTreeSet::new());
    for run in runs {
        for (_, record) in Log::of_run(&run.record).records() {
            for key in ["path", "exe", "target"] {
                let Some(path) = record.bytes(key).and_then(|path| std::str::from_utf8(path).ok()) else {
                    continue;
                };
                if path.starts_with('/') {
                    files.insert(PathBuf::from(path));
                }
                // What was read for a module is not found without its source.
                let source = path
                    .strip_suffix(".cpython-311.pyc")
                    .map(|path| path.replace("__pycache__/", "") + ".py");
                files.extend(source.map(PathBuf::from));
                let below =
                    path.strip_prefix("/usr/lib/python3.11/").filter(|path| !path.contains("-packages"));
                if let Some(module) = below.and_then(|path| path.strip_suffix(".cpython-311.pyc")) {
                    let module = module.replace("__pycache__/", "").replace('/', ".");
                    modules.insert(module.trim_end_matches(".__init__").to_owned());
                }
            }
        }
    }
    // They end when they are imported.
    modules.retain(|name| !name.ends_with("__main__") && !name.starts_with("_sysconfigdata"));
    // A record has the path that a file has; programs ask for it by links beside it.
    let beside: Vec<PathBuf> = files.iter().filter_map(|path| Some(path.parent()?.to_owned())).collect();
    for directory in beside.into_iter().collect::<BTreeSet<_>>() {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let of_files =
            |link: &PathBuf| link.is_symlink() && link.canonicalize().is_ok_and(|real| files.contains(&real));
        // Compilers ask by access(2), which no record tells, whether these are there.
        let plugin = |path: &PathBuf| path.ends_with("liblto_plugin.so") || path.ends_with("lto-wrapper");
        let entries = entries.map(|entry| entry.path());
        let found: Vec<PathBuf> = entries.filter(|path| of_files(path) || plugin(path)).collect();
        files.extend(found);
    }
    files.insert("/lib64/ld-linux-x86-64.so.2".into());
    files.insert("/usr/bin/sleep".into());
    files.insert("/usr/bin/env".into());
    (files, modules)
}

/// Adds a file with the links on its way, or a directory.
fn pack(image: &mut Image, path: &Path) {
    if NOT_PACKED.iter().any(|not| path.starts_with(not)) {
        return;
    }
    let mut at = PathBuf::from("/");
    let parts: Vec<Component<'_>> = path.components().skip(1).collect();
    for (index, part) in parts.iter().enumerate() {
        at.push(part);
        if let Ok(target) = at.read_link() {
            image.put(&at.display().to_string(), 0o777, 0, Kind::Symlink(target.display().to_string()));
            let rest: PathBuf = parts[index + 1..].iter().collect();
            let from = at.parent().unwrap_or(Path::new("/")).join(target);
            let next = if rest.as_os_str().is_empty() { from } else { from.join(rest) };
            // `..` in a link's target is resolved by whoever follows it.
            let Ok(directory) = next.parent().unwrap_or(Path::new("/")).canonicalize() else { return };
            return pack(image, &next.file_name().map_or(directory.clone(), |name| directory.join(name)));
        }
    }
    let Ok(about) = path.metadata() else { return };
    let name = path.display().to_string();
    if about.is_dir() {
        image.put(&name, 0o755, 0, Kind::Directory);
    } else if about.is_file() {
        match fs::read(path) {
            Ok(bytes) => image.put(&name, about.permissions().mode() & 0o7777, 0, Kind::File(bytes)),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// The side inside: runs what the plan says, and prints a line for each run.
pub fn inside() {
    let plan: Value = serde_json::from_slice(&fs::read(PLAN).expect("a plan")).expect("a plan in JSON");
    let number = |name: &str| usize::try_from(plan[name].as_u64().unwrap_or(0)).unwrap_or(0);
    let workload = WORKLOADS.iter().find(|workload| workload.name == plan["workload"]).expect("a workload");
    let seed = plan["seed"].as_u64().expect("a seed");
    module::load(LINK).expect("a module of the kernel");
    let place = Path::new("/home/learn");
    fs::create_dir_all("/var/tmp").expect("a temporary place");
    fs::create_dir_all(place.join("records")).expect("a place for records");
    let mut site = Site::new(place, Side::Machine, plan["path"].as_str().expect("a path"));
    let lessons = (0..number("lessons")).map(Purpose::Lesson);
    let honest = (0..number("honest")).map(Purpose::Honest);
    let attacks = attacks::some(number("attacks"));
    let attacks = attacks.map(|(number, attack)| Purpose::Attacked(attack, number));
    // The control: without a policy the guest has all that such a run needs.
    let control = std::iter::once((Purpose::Lesson(0), false));
    let enforced = lessons.chain(honest).chain(attacks).map(|purpose| (purpose, true));
    for (purpose, enforce) in control.chain(enforced) {
        let work = site.prepare(workload, &purpose, seed);
        site.forget(&purpose);
        let record = place.join("records").join(purpose.name());
        let how: &[&str] = match enforce {
            true => &["--enforce", POLICY, "--require", "lsm"],
            false => &["--audit-only"],
        };
        let record_at = record.display().to_string();
        let words =
            [&[SANDBOX, "run", "--quiet"], how, &["--run-dir", &record_at, "--", "sh", "job.sh"]].concat();
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let output = site.run(&work, &words);
        let (begun, through) = site.came_through(workload, &purpose, &work);
        let denied = denied(&record);
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let said: String = said.chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
        if !enforce {
            let (status, name) = (output.status, workload.name);
            assert!(status.success(), "without a policy {name} fails in the guest ({status}): {said}");
            let _ = fs::remove_dir_all(&record);
            let _ = fs::remove_dir_all(&work);
            continue;
        }
        let kind = match purpose {
            Purpose::Lesson(_) => "lesson",
            Purpose::Honest(_) => "honest",
            Purpose::Attacked(..) => "attack",
        };
        let told = json!({
            "run": purpose.name(), "kind": kind, "begun": begun,
            "through": through, "status": output.status.code(), "denied": denied, "said": said,
        });
        println!("{told}");
        let _ = fs::remove_dir_all(&record);
        let _ = fs::remove_dir_all(&work);
    }
}

/// What an enforced run was denied, a few of it.
fn denied(record: &Path) -> Vec<String> {
    if !record.join("events.jsonl").exists() {
        return vec!["no record".to_owned()];
    }
    let log = Log::of_run(record);
    let blocked = log.records().filter(|(_, record)| record.text("action") == Some("BLOCKED"));
    let told = blocked.map(|(_, record)| {
        let object = record.bytes("path").map(|path| String::from_utf8_lossy(path).into_owned());
        let object = object.or_else(|| record.text("dst_ip").map(str::to_owned)).unwrap_or_default();
        format!(
            "{} {object} ({})",
            record.text("event_type").unwrap_or("?"),
            record.text("policy_rule").or(record.text("reason")).unwrap_or("?")
        )
    });
    told.take(6).collect()
}
