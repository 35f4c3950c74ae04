//! Calls that an observer of calls could miss: by a thread, by the 32-bit table, from a daemon, with names that are too
//! long, through descriptors, and executions that fail.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::sys::invoke;

/// Makes the calls of one kind below a directory.
pub fn run(what: &str, dir: &Path) {
    match what {
        "thread" => {
            let file = dir.join("from-thread");
            std::thread::spawn(move || fs::write(file, "").expect("a file")).join().expect("the thread");
        }
        "compat" => compat(dir),
        "dirfd" => dirfd(dir),
        "long" => {
            let name = CString::new(vec![b'x'; 5000]).expect("no NUL");
            assert_eq!(
                invoke(libc::SYS_openat, &[libc::AT_FDCWD.into(), name.as_c_str().into(), 0.into()]),
                Err(libc::ENAMETOOLONG)
            );
        }
        "daemon" => daemon(dir),
        "chain" => chain(dir),
        "failed-exec" => {
            let missing = CString::new(dir.join("missing").as_os_str().as_bytes()).expect("no NUL");
            let argv = [missing.as_ptr(), std::ptr::null()];
            let argv: &[*const libc::c_char] = &argv;
            assert_eq!(
                invoke(libc::SYS_execve, &[missing.as_c_str().into(), argv.into(), 0.into()]),
                Err(libc::ENOENT)
            );
            fs::write(dir.join("after"), "").expect("a file");
        }
        "link" => {
            std::os::unix::fs::symlink("target", dir.join("link")).expect("a link");
            fs::write(dir.join("target"), "").expect("a file");
            File::open(dir.join("link")).expect("the file behind the link");
            File::open(dir.join("nothing")).expect_err("there is none");
        }
        other => panic!("nothing odd is called {other}"),
    }
}

/// Leaves a process behind that makes another and ends, which makes another, without a pause and each in a session of
/// its own, until there is a file `stop` or the directory is gone. As long as any of them lives, it has the lock of the file `chain`.
fn chain(dir: &Path) {
    let file = File::create(dir.join("chain")).expect("a file");
    let path = |name| CString::new(dir.join(name).as_os_str().as_bytes()).expect("no NUL");
    let [stop, own] = ["stop", "chain"].map(path);
    // SAFETY: this process has one thread; the links make system calls only, and leave by _exit.
    unsafe {
        assert_eq!(libc::flock(file.as_raw_fd(), libc::LOCK_SH), 0);
        if libc::fork() == 0 {
            let is_there = |path: &CString| libc::access(path.as_ptr(), libc::F_OK) == 0;
            while is_there(&own) && !is_there(&stop) {
                libc::setsid();
                match libc::fork() {
                    0 => {}
                    // Where no process can be made just now this one goes on.
                    -1 => continue,
                    _ => libc::_exit(0),
                }
            }
            libc::_exit(0);
        }
    }
}

/// open(2) of the 32-bit table.
#[cfg(target_arch = "x86_64")]
fn compat(dir: &Path) {
    let name = CString::new(dir.join("from-compat").as_os_str().as_bytes()).expect("no NUL");
    let bytes = name.as_bytes_with_nul();
    // SAFETY: a new mapping, below 4 GiB because the call takes addresses of 32 bits.
    let place = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
            -1,
            0,
        )
    };
    assert_ne!(place, libc::MAP_FAILED);
    // SAFETY: the mapping has room for a path.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast(), bytes.len()) };
    let mut result: i64 = 5;
    // SAFETY: the call reads the string; rbx, which the compiler keeps for itself, is put back.
    unsafe {
        std::arch::asm!(
            "push rbx",
            "mov rbx, rdi",
            "int 0x80",
            "pop rbx",
            inout("rax") result,
            in("rdi") place as u64,
            in("rcx") i64::from(libc::O_CREAT | libc::O_WRONLY),
            in("rdx") 0o600i64,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    println!("{}", result as i32);
}

#[cfg(not(target_arch = "x86_64"))]
fn compat(_: &Path) {
    println!("{}", -libc::ENOSYS);
}

fn dirfd(dir: &Path) {
    fs::create_dir(dir.join("d")).expect("a directory");
    let held = File::open(dir.join("d")).expect("the directory");
    let fd = held.as_raw_fd();
    let made = invoke(
        libc::SYS_openat,
        &[fd.into(), c"one".into(), (libc::O_CREAT | libc::O_WRONLY).into(), 0o600.into()],
    );
    assert!(made.is_ok(), "{made:?}");
    let renamed = invoke(libc::SYS_renameat, &[fd.into(), c"one".into(), fd.into(), c"two".into()]);
    assert_eq!(renamed, Ok(0));
    assert_eq!(invoke(libc::SYS_unlinkat, &[fd.into(), c"two".into(), 0.into()]), Ok(0));
    std::env::set_current_dir(dir.join("d")).expect("the directory");
    fs::write("../up", "").expect("a file");
}

/// Leaves a process behind that has lost its parent and its session; it goes on until there is a file `stop`.
fn daemon(dir: &Path) {
    // Its end tells that the process has said who it is, or could not.
    let (mut told, telling) = std::io::pipe().expect("a pipe");
    // SAFETY: this process has one thread; the children leave by _exit.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            if libc::fork() == 0 {
                let _ = fs::write(dir.join("daemon"), format!("{}\n", std::process::id()));
                drop(telling);
                while dir.exists() && !dir.join("stop").exists() {
                    std::thread::sleep(Duration::from_millis(10));
                }
                let status = i32::from(fs::write(dir.join("from-daemon"), "").is_err());
                let _ = fs::write(dir.join("over"), format!("{status}\n"));
                libc::_exit(status);
            }
            libc::_exit(0);
        }
        libc::wait(std::ptr::null_mut());
    }
    drop(telling);
    let _ = told.read_to_end(&mut Vec::new());
}
