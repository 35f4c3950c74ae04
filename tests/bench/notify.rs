//! What it costs an ordinary user: bare, by notify, and under strace of the same calls, side by side.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use sandbox_tests::binaries::binary;
use sandbox_tests::log::Log;
use sandbox_tests::project;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::Scene;

use crate::table::{median, show};

/// Name for `--only`.
pub const KEY: &str = "notify";

/// Everybody's "nobody".
const USER: u32 = 65534;

/// The calls that notify observes, as strace names them.
const CALLS: &str = "trace=execve,execveat,open,openat,openat2,creat,unlink,unlinkat,rename,renameat,renameat2,link,\
                     linkat,symlink,symlinkat,mkdir,mkdirat,rmdir,mknod,mknodat,truncate,ftruncate,chmod,fchmod,\
                     fchmodat,chown,fchown,lchown,fchownat,utime,utimes,futimesat,utimensat,setxattr,lsetxattr,\
                     fsetxattr,removexattr,lremovexattr,fremovexattr,connect,bind,listen,sendto,sendmsg,sendmmsg,\
                     io_uring_setup";

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Bare,
    Notify,
    Strace,
}

const VARIANTS: [(Variant, &str); 3] = [
    (Variant::Bare, "bare"),
    (Variant::Notify, "sandbox, by notify"),
    (Variant::Strace, "strace -f -e trace=…"),
];

struct Place {
    scene: Scene,
    bin: PathBuf,
}

/// Measures and prints; false where something is missing.
pub fn run(repetitions: usize) -> bool {
    if !met(
        "the benchmark of notify",
        &[Need::Root, Need::Program("strace"), Need::Program("gcc"), Need::Program("make")],
    ) {
        return false;
    }
    let scene = Scene::new();
    let bin = scene.path("bin");
    fs::create_dir(&bin).expect("a directory for binaries");
    for name in ["sandbox", "workload"] {
        fs::copy(binary(name), bin.join(name)).expect("a binary that the user can read");
    }
    fs::create_dir(scene.store()).expect("the store");
    fs::write(scene.work().join("target"), "").expect("a file to open");
    project::write(&scene.work(), 20);
    give(&scene.work());
    give(&scene.store());
    let place = Place { scene, bin };
    let workload = || place.bin.join("workload").into_os_string();
    let target = place.scene.work().join("target").into_os_string();
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let works = [
        ("20,000 open and close", [vec![workload()], words(&["open-close", "20000"]), vec![target]].concat()),
        (
            "500 fork and exec of /bin/true",
            [vec![workload()], words(&["spawn", "500", "/bin/true"])].concat(),
        ),
        ("compile of 20 C files, make -j2", words(&["make", "-s", "-B", "-j2"])),
    ];
    for (title, command) in works {
        print(title, &place, &command, repetitions);
    }
    true
}

fn print(title: &str, place: &Place, command: &[OsString], repetitions: usize) {
    let mut times = VARIANTS.map(|_| Vec::new());
    let mut events = None;
    for round in 0..=repetitions {
        for turn in 0..VARIANTS.len() {
            let at = (round + turn) % VARIANTS.len();
            let took = once(place, VARIANTS[at].0, command);
            if VARIANTS[at].0 == Variant::Notify {
                events = Some(look(place));
            }
            // Round 0 warms the caches.
            if round > 0 {
                times[at].push(took);
            }
        }
    }
    println!("\n{title}, as an ordinary user");
    let bare = median(&times[0]).as_secs_f64();
    for ((variant, name), times) in VARIANTS.iter().zip(&times) {
        let median = median(times);
        let told = match (variant, events) {
            (Variant::Notify, Some((events, lost))) => format!("{events} events, {lost} lost"),
            _ => String::new(),
        };
        println!("  {name:<22}{:>9}{:>8.2}  {told}", show(median), median.as_secs_f64() / bare);
    }
}

fn once(place: &Place, variant: Variant, words: &[OsString]) -> Duration {
    let mut all: Vec<OsString> = match variant {
        Variant::Bare => Vec::new(),
        Variant::Notify => {
            let sandbox = place.bin.join("sandbox").into_os_string();
            [vec![sandbox], ["run", "--audit-only", "--quiet", "--"].map(OsString::from).to_vec()].concat()
        }
        Variant::Strace => ["strace", "-f", "-o", "/dev/null", "-e", CALLS].map(OsString::from).to_vec(),
    };
    all.extend(words.iter().cloned());
    let mut command: Command = place.scene.command(&all[0], &all[1..]);
    command.env("HOME", place.scene.work()).stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: system calls only.
    unsafe {
        command.pre_exec(|| {
            setgroups(&[])?;
            setresgid(Gid::from_raw(USER), Gid::from_raw(USER), Gid::from_raw(USER))?;
            setresuid(Uid::from_raw(USER), Uid::from_raw(USER), Uid::from_raw(USER))?;
            Ok(())
        });
    }
    let start = Instant::now();
    let status = command.status().expect("the command must start");
    let took = start.elapsed();
    assert!(status.success(), "{variant:?} failed: {status}");
    took
}

/// Events of the last run, and how many were lost.
fn look(place: &Place) -> (u64, u64) {
    let run = place.scene.run();
    let log = Log::of_run(&run);
    let seal = log.seal();
    let counts = seal.uint("events").zip(seal.uint("lost")).expect("a sealed run");
    fs::remove_dir_all(run).expect("remove the run");
    counts
}

fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).expect("a file for the user");
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => give(&entry.path()),
            _ => chown(entry.path(), Some(USER), Some(USER)).expect("a file for the user"),
        }
    }
}
