//! The enforcement suite on real kernels: every suite of `guest-tests`, each in a boot of its own, or in several with
//! other parameters; on every series, or on one of them where the series hardly matters.
//!
//! Without qemu or without kernels it passes and says what it skipped; `VM_TESTS=required` makes that a
//! failure. Arguments that are no options select trials by a part of their name. `VM_TESTS_SEED` is a number that
//! generated tests start from; without it they are the same each time. `VM_TESTS_BOOTS=all` boots each variant of a suite
//! on each series, which takes nearly twice as long; without it, those that name a series are booted on that one alone.

use std::fmt::Write as _;
use std::io::Write as _;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use vm_tests::image::Image;
use vm_tests::kernel::{self, Kernel, SERIES};
use vm_tests::machine::{Boot, QEMU};
use vm_tests::wire::{FAMILIES, NEXT_CMDLINE, Outcome, SEED, SPELLINGS};
use vm_tests::{guest, laboratory, programs, workspace};

/// How long one boot may take.
const TIMEOUT: Duration = Duration::from_secs(1200);

/// A suite of `guest-tests`, and the boots it wants.
struct Suite {
    name: &'static str,
    boots: &'static [Variant],
    /// A suite that runs on the same kernel afterwards, with the parameters that this one printed.
    then: Option<&'static str>,
}

/// A boot of a suite.
struct Variant {
    /// Told apart by it from the suite's others; empty where there is one.
    name: &'static str,
    /// Kernel parameters.
    cmdline: &'static str,
    /// The series that it is booted on where not all are asked for; all without.
    series: Option<&'static str>,
}

/// One boot of a stock kernel of each series: for what the kernel does differently from one to the other.
const STOCK: &[Variant] = &[Variant { name: "", cmdline: "", series: None }];

/// One boot of the older stock kernel.
const OLDER: &[Variant] = &[Variant { name: "", cmdline: "", series: Some("6.1") }];

/// One boot of the newer stock kernel.
const NEWER: &[Variant] = &[Variant { name: "", cmdline: "", series: Some("6.12") }];

/// Kernels with and without the modules that layers depend on: each once, and each module with both series.
const MODULES: &[Variant] = &[
    Variant {
        name: "lsm-landlock",
        cmdline: "lsm=lockdown,capability,landlock,yama,bpf",
        series: Some("6.12"),
    },
    Variant { name: "lsm", cmdline: "lsm=lockdown,capability,yama,bpf", series: Some("6.1") },
    Variant { name: "landlock", cmdline: "lsm=lockdown,capability,landlock,yama", series: Some("6.1") },
    Variant { name: "neither", cmdline: "lsm=lockdown,capability,yama", series: Some("6.12") },
    Variant {
        name: "landlock-apparmor",
        cmdline: "lsm=lockdown,capability,landlock,yama,apparmor",
        series: Some("6.12"),
    },
    Variant { name: "apparmor", cmdline: "lsm=lockdown,capability,yama,apparmor", series: Some("6.1") },
];

/// The suite whose guest has a network of its own, with servers and clients of this machine.
const LAB: &str = "lab";

/// The suite whose guest has package managers beside that.
const PACKAGES: &str = "packages";

/// The longest come first, so that none is left alone at the end.
const SUITES: &[Suite] = &[
    Suite { name: "asking", boots: OLDER, then: None },
    Suite { name: PACKAGES, boots: NEWER, then: None },
    Suite { name: LAB, boots: OLDER, then: None },
    Suite { name: "oracle", boots: STOCK, then: None },
    Suite { name: "answers", boots: NEWER, then: None },
    Suite { name: "matrix", boots: MODULES, then: None },
    Suite { name: "network", boots: NEWER, then: None },
    Suite { name: "denials", boots: STOCK, then: None },
    Suite { name: "names", boots: NEWER, then: None },
    Suite { name: "attributes", boots: OLDER, then: None },
    Suite { name: "acts", boots: OLDER, then: None },
    Suite { name: "why", boots: NEWER, then: None },
    Suite { name: "shipped", boots: NEWER, then: None },
    Suite { name: "settings", boots: OLDER, then: None },
    Suite { name: "subjects", boots: NEWER, then: None },
    Suite { name: "apply", boots: OLDER, then: None },
    Suite { name: "slots", boots: OLDER, then: None },
    Suite { name: "origins", boots: OLDER, then: None },
    Suite { name: "code", boots: OLDER, then: None },
    Suite { name: "peers", boots: NEWER, then: None },
    Suite { name: "races", boots: OLDER, then: None },
    Suite { name: "membership", boots: NEWER, then: None },
    Suite { name: "replay", boots: NEWER, then: None },
    Suite { name: "ends", boots: NEWER, then: None },
    Suite {
        name: "without-lsm",
        boots: &[Variant { name: "", cmdline: "lsm=lockdown,capability,landlock", series: None }],
        then: Some("with-lsm-again"),
    },
];

const BINARIES: &[&str] = &["guest-init", "guest-tests", "guest-probe", "sandbox", "audit-verify"];

/// Where built binaries go in the guest, beside /usr/bin and their own names.
const COPIES: &[(&str, &str)] = &[("guest-probe", "/usr/bin/wget"), ("guest-probe", "/usr/bin/other")];

struct Job<'a> {
    name: String,
    suite: &'a Suite,
    cmdline: &'static str,
    kernel: &'a Kernel,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters = filters(&arguments);
    let required = match std::env::var("VM_TESTS").as_deref() {
        Ok("required") => true,
        Err(_) | Ok("") => false,
        Ok(other) => {
            println!("vm-tests: VM_TESTS is {other:?}; it may be \"required\", or not be set");
            return ExitCode::FAILURE;
        }
    };
    let everywhere = match std::env::var("VM_TESTS_BOOTS").as_deref() {
        Ok("all") => true,
        Err(_) | Ok("") => false,
        Ok(other) => {
            println!("vm-tests: VM_TESTS_BOOTS is {other:?}; it may be \"all\", or not be set");
            return ExitCode::FAILURE;
        }
    };
    let (kernels, mut missing) = find();
    let lab_lacks = laboratory::missing();
    if !lab_lacks.is_empty() {
        missing.push(format!(
            "the suites {LAB} and {PACKAGES} need what is not installed: {}",
            lab_lacks.join(", ")
        ));
    }
    let boots = SUITES.iter().flat_map(|suite| suite.boots.iter().map(move |boot| (suite, boot)));
    let names = boots.flat_map(|boot| SERIES.iter().map(move |series| (*series, boot)));
    let names = names
        .filter(|(series, (_, boot))| everywhere || boot.series.is_none_or(|wanted| wanted == series.name));
    let mut jobs = Vec::new();
    for (series, (suite, boot)) in names {
        let name = match boot.name {
            "" => format!("{}::{}", series.name, suite.name),
            boot => format!("{}::{}::{boot}", series.name, suite.name),
        };
        if arguments.iter().any(|argument| argument == "--list") {
            println!("{name}: test");
        } else if filters.is_empty() || filters.iter().any(|filter| name.contains(filter)) {
            let kernel = kernels.iter().find(|(found, _)| *found == series.name);
            match kernel.filter(|_| ![LAB, PACKAGES].contains(&suite.name) || lab_lacks.is_empty()) {
                Some((_, kernel)) => jobs.push(Job { name, suite, cmdline: boot.cmdline, kernel }),
                None => println!("test {name} ... {}", if required { "FAILED" } else { "skipped" }),
            }
        }
    }
    if !missing.is_empty() && !arguments.iter().any(|argument| argument == "--list") {
        println!("\nvm-tests: {}", missing.join("\nvm-tests: "));
        if required {
            return ExitCode::FAILURE;
        }
        println!("vm-tests: skipped what needs it; VM_TESTS=required makes this a failure");
    }
    if jobs.is_empty() { ExitCode::SUCCESS } else { run_all(&jobs) }
}

/// The arguments that are neither options of cargo's usual harness nor their values.
fn filters(arguments: &[String]) -> Vec<&str> {
    const WITH_VALUE: [&str; 5] = ["--test-threads", "--skip", "--color", "--format", "--logfile"];
    let mut filters = Vec::new();
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(argument) = arguments.next() {
        if WITH_VALUE.contains(&argument) {
            arguments.next();
        } else if !argument.starts_with('-') {
            filters.push(argument);
        }
    }
    filters
}

/// The kernels that can be booted, by the name of their series, and what is missing for the others.
fn find() -> (Vec<(&'static str, Kernel)>, Vec<String>) {
    let qemu = Command::new(QEMU).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).status();
    if !qemu.is_ok_and(|status| status.success()) {
        return (Vec::new(), vec![format!("there is no {QEMU}: install Debian's qemu-system-x86")]);
    }
    let (mut kernels, mut missing) = (Vec::new(), Vec::new());
    for series in SERIES {
        match series.find(&kernel::cache()) {
            Ok(kernel) => kernels.push((series.name, kernel)),
            Err(error) => missing.push(error.to_string()),
        }
    }
    (kernels, missing)
}

fn run_all(jobs: &[Job<'_>]) -> ExitCode {
    let start = Instant::now();
    let built = match guest::build(guest::PACKAGES, BINARIES) {
        Ok(built) => built,
        Err(error) => {
            println!("vm-tests: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("built the guest's binaries in {:.1} s; {} boots", start.elapsed().as_secs_f32(), jobs.len());
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let print = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..workers().min(jobs.len()) {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = Instant::now();
                    let (passed, report) = run_job(job, &built);
                    let _only_one_prints = print.lock();
                    let result = if passed { "ok" } else { "FAILED" };
                    println!(
                        "test {} ... {result} ({:.1} s)\n{report}",
                        job.name,
                        began.elapsed().as_secs_f32()
                    );
                    if !passed {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{} passed, {failed} failed in {:.1} s", jobs.len() - failed, start.elapsed().as_secs_f32());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A guest keeps two thirds of a processor busy: the rest of the time it waits, as when hooks are taken off.
fn workers() -> usize {
    (std::thread::available_parallelism().map_or(1, NonZero::get) * 3).div_ceil(2)
}

/// Boots for the suite, and once more for the one that follows it; whether all passed, and what to print.
fn run_job(job: &Job<'_>, built: &[PathBuf]) -> (bool, String) {
    let mut report = String::new();
    let mut suites = vec![(job.suite.name, job.cmdline.to_owned())];
    while let Some((suite, cmdline)) = suites.pop() {
        match boot(job, built, suite, cmdline) {
            Ok((passed, output)) => {
                for line in output.lines() {
                    let _ = writeln!(report, "    {line}");
                }
                if !passed {
                    return (false, report);
                }
                let Some(then) = job.suite.then.filter(|then| *then != suite) else { continue };
                match output.lines().find_map(|line| line.strip_prefix(NEXT_CMDLINE)) {
                    Some(cmdline) => suites.push((then, cmdline.to_owned())),
                    None => {
                        let _ = writeln!(report, "    {suite} printed no parameters for {then}");
                        return (false, report);
                    }
                }
            }
            Err(error) => {
                let _ = writeln!(report, "    {suite}: {error}");
                return (false, report);
            }
        }
    }
    (true, report)
}

type Failure = Box<dyn std::error::Error>;

/// One boot: whether the suite passed, and all that it printed.
fn boot(job: &Job<'_>, built: &[PathBuf], suite: &str, cmdline: String) -> Result<(bool, String), Failure> {
    let mut image = Image::new(&built[0], &job.kernel.config, &job.kernel.release)?;
    for (name, path) in BINARIES.iter().zip(built).skip(1) {
        image.copy(path, &format!("/usr/bin/{name}"))?;
        for (_, copy) in COPIES.iter().filter(|(of, _)| of == name) {
            image.copy(path, copy)?;
        }
    }
    let mut memory = 1024;
    let dir = workspace().join(format!("target/vm/{}", job.name.replace("::", "-")));
    if [LAB, PACKAGES].contains(&suite) {
        laboratory::pack(&mut image, job.kernel, &dir.join("python"))?;
        memory = laboratory::MEMORY;
    }
    if suite == PACKAGES {
        laboratory::pack_managers(&mut image, &dir.join("pip"))?;
    }
    let modules = match suite {
        "network" => FAMILIES,
        "names" => SPELLINGS,
        _ => &[],
    };
    for module in modules {
        programs::module(&mut image, job.kernel, module)?;
    }
    let seed = std::env::var("VM_TESTS_SEED").map_or(String::new(), |seed| format!(" {SEED}{seed}"));
    let boot = Boot {
        kernel: job.kernel,
        image: &image,
        argv: vec!["/usr/bin/guest-tests".to_owned(), suite.to_owned()],
        cmdline: cmdline + &seed,
        memory,
        timeout: TIMEOUT,
        dir,
    };
    let mut output = Vec::new();
    // What a boot says can be read while it goes on.
    std::fs::create_dir_all(&boot.dir)?;
    let mut copy = std::fs::File::create(boot.dir.join("output.log"))?;
    let ended = boot.run(|line| {
        output.extend_from_slice(line);
        copy.write_all(line)
    });
    let output = String::from_utf8_lossy(&output).into_owned();
    match ended {
        Ok(outcome) => Ok((outcome == Outcome::Exited(0), output)),
        Err(error) => Ok((false, format!("{output}{error}\n"))),
    }
}
