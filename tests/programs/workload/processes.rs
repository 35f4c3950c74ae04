//! Processes: how they come, exec and go.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::ptr::null;

use libc::{AT_EMPTY_PATH, AT_FDCWD, EACCES, ENOENT, ENOEXEC, ENOTDIR, O_PATH, O_RDONLY};

use crate::sys::{call, fails, in_child, never, status_of_child, works};

/// Everything, below `dir`, which must be empty.
pub fn run(dir: &Path) {
    let dir = CString::new(dir.as_os_str().as_bytes()).expect("no NUL in a path");
    works(call!(chdir, &*dir));
    std::fs::create_dir("bin").expect("mkdir");
    std::fs::copy("/bin/true", "bin/copy").expect("copy");
    std::os::unix::fs::symlink("copy", "bin/link").expect("symlink");
    script("bin/script", "#!/bin/sh\n:\n");
    script("bin/chain", &format!("#!{}/bin/script\n", dir.to_string_lossy()));
    script("bin/orphan", "#!/no/such/interpreter\n");
    script("bin/nothing", "neither a script nor a program\n");
    std::fs::write("bin/plain", "not executable\n").expect("write");
    failures();
    forms();
    spawned();
    threads();
}

fn script(name: &str, text: &str) {
    std::fs::write(name, text).expect("write");
    std::fs::set_permissions(name, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
}

fn failures() {
    let argv = [c"name".as_ptr(), c"an argument".as_ptr(), c"".as_ptr(), c"\xff\n\"".as_ptr(), null()];
    let argv = &argv[..];
    fails(call!(execve, c"missing", argv, 0), ENOENT);
    fails(call!(execve, c"/no/such/program", argv, 0), ENOENT);
    fails(call!(execve, c"bin/plain", argv, 0), EACCES);
    fails(call!(execve, c"./bin", argv, 0), EACCES);
    fails(call!(execve, c"bin/copy/x", argv, 0), ENOTDIR);
    fails(call!(execve, c"bin/orphan", argv, 0), ENOENT);
    fails(call!(execve, c"bin/nothing", argv, 0), ENOEXEC);
    fails(call!(execve, c"../bin/../nothing", argv, 0), ENOENT);
    fails(call!(execveat, AT_FDCWD, c"missing", argv, 0, 0), ENOENT);
    let bin = works(call!(openat, AT_FDCWD, c"bin", O_RDONLY));
    fails(call!(execveat, bin, c"plain", argv, 0, 0), EACCES);
    fails(call!(execveat, bin, c"../missing", argv, 0, 0), ENOENT);
    nix::unistd::close(bin).expect("close");
}

fn forms() {
    let one =
        [c"argv0 is a word".as_ptr(), c"--flag=value".as_ptr(), c"".as_ptr(), c"\xff\n\"".as_ptr(), null()];
    let exec = |name: &'static CStr| in_child(|| never(call!(execve, name, &one[..], 0)));
    exec(c"bin/copy");
    exec(c"./bin/link");
    exec(c"bin//./copy");
    exec(c"bin/script");
    exec(c"bin/chain");
    exec(c"/bin/true");
    exec(c"/proc/self/cwd/bin/copy");
    in_child(|| {
        works(call!(chdir, c"bin"));
        never(call!(execve, c"../bin/copy", &one[..], 0));
    });
    in_child(|| {
        let bin = works(call!(openat, AT_FDCWD, c"bin", O_RDONLY));
        never(call!(execveat, bin, c"copy", &one[..], 0, 0));
    });
    in_child(|| {
        let file = works(call!(openat, AT_FDCWD, c"bin/copy", O_PATH));
        never(call!(execveat, file, c"", &one[..], 0, AT_EMPTY_PATH));
    });
    let many: Vec<CString> =
        (0..120).map(|n| CString::new(format!("argument-{n}")).expect("no NUL")).collect();
    let mut many: Vec<_> = many.iter().map(|arg| arg.as_ptr()).collect();
    many.push(null());
    in_child(|| never(call!(execve, c"bin/copy", &many[..], 0)));
    let long = CString::new(vec![b'L'; 1500]).expect("no NUL");
    let long = [c"copy".as_ptr(), long.as_ptr(), null()];
    in_child(|| never(call!(execve, c"bin/copy", &long[..], 0)));
    assert_eq!(status_of_child(|| std::process::exit(7)), 7);
}

/// Children by vfork (the way of posix_spawn), by fork and by a shell.
fn spawned() {
    for _ in 0..3 {
        assert!(Command::new("bin/copy").arg("spawned").status().expect("spawn").success());
        assert!(Command::new("/bin/true").current_dir("bin").status().expect("spawn").success());
        assert!(Command::new("true").arg("by PATH").status().expect("spawn").success());
    }
    assert!(Command::new("no-such-program").status().is_err());
    let status =
        Command::new("/bin/sh").args(["-c", "cd bin && ./copy && ../bin/script; ./missing"]).status();
    assert_eq!(status.expect("spawn").code(), Some(127));
}

/// An exec from a thread that is not the first, and threads that outlive the first.
fn threads() {
    in_child(|| {
        let thread = std::thread::spawn(|| {
            fails(call!(open, c"before-exec", O_RDONLY), ENOENT);
            Command::new("bin/copy").arg("from a thread").exec()
        });
        panic!("exec failed: {:?}", thread.join());
    });
    in_child(|| {
        std::thread::spawn(|| {
            let leader = format!("/proc/{}/stat", std::process::id());
            while !std::fs::read_to_string(&leader).is_ok_and(|stat| stat.contains(") Z ")) {
                std::thread::yield_now();
            }
            for _ in 0..4 {
                fails(call!(open, c"without-leader", O_RDONLY), ENOENT);
            }
            in_child(|| never(call!(execve, c"bin/copy", &[c"orphan's child".as_ptr(), null()][..], 0)));
            std::process::exit(0);
        });
        never(call!(exit, 0));
    });
}
