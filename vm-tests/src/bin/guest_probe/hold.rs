//! A small tree of processes that keeps trying to read a file, for whoever ends runners outside.
//!
//! `hold=DIR,PATH`: this process, a child, and a grandchild in a session of its own try to open PATH about a
//! thousand times a second. Each counts its attempts in `DIR/PID`; a success makes `DIR/leak`. When `DIR/stop`
//! is there all end, this process with code 7.

use crate::places::{fork, wait};
use crate::raw;
use std::ffi::CString;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// See the module.
pub fn hold(object: &str) -> i32 {
    let Some((dir, path)) = object.split_once(',') else { return 2 };
    let Ok(path) = CString::new(path) else { return 2 };
    let dir = Path::new(dir);
    let Ok(child) = fork() else { return 1 };
    if child == 0 {
        std::process::exit(keep_trying(dir, &path));
    }
    let Ok(parent) = fork() else { return 1 };
    if parent == 0 {
        // SAFETY: takes no pointers.
        unsafe { libc::setsid() };
        match fork() {
            Ok(0) => std::process::exit(keep_trying(dir, &path)),
            _ => std::process::exit(0),
        }
    }
    wait(parent);
    let code = keep_trying(dir, &path);
    wait(child);
    code
}

fn keep_trying(dir: &Path, path: &CString) -> i32 {
    let Ok(counter) = std::fs::File::create(dir.join(std::process::id().to_string())) else {
        return 1;
    };
    let stop = dir.join("stop");
    for attempts in 1u64.. {
        if raw::open(path, libc::O_RDONLY).is_ok() {
            let _ = std::fs::write(dir.join("leak"), "");
        }
        let _ = counter.write_all_at(&attempts.to_ne_bytes(), 0);
        if stop.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    7
}
