//! Much of one thing: for the benchmark, and for counting.

use std::fs::File;
use std::process::Command;

/// Opens and closes `file`, `count` times.
pub fn open_close(count: u32, file: &str) {
    for _ in 0..count {
        drop(File::open(file).expect("open"));
    }
}

/// Forks, execs `program` and waits for it, `count` times.
pub fn spawn(count: u32, program: &str) {
    for _ in 0..count {
        assert!(Command::new(program).status().expect("spawn").success(), "{program} failed");
    }
}

/// Starts `processes` of this program, each of which opens `file` `count` times, all at once.
pub fn flood(processes: u32, count: u32, file: &str) {
    let this = std::env::current_exe().expect("its own path");
    let count = count.to_string();
    let start = || Command::new(&this).args(["open-close", &count, file]).spawn().expect("spawn");
    let children: Vec<_> = (0..processes).map(|_| start()).collect();
    for mut child in children {
        assert!(child.wait().expect("wait").success(), "a process of the flood failed");
    }
}
