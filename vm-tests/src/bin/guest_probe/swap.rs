//! A name that changes under an open: a symbolic link that another process lets point to what is allowed and to
//! what is denied, in turns, as fast as it can.
//!
//! The link is one of two that swap places atomically: `LINK` and `LINK.other`.

use crate::places;
use crate::raw::{self, Errno};
use std::ffi::CString;
use std::io::Read;

/// `LINK,ALLOWED,DENIED,ROUNDS`: opens and reads LINK so many times. Fails with EACCES when what was opened was
/// never the denied file, and with EAGAIN when the opens met one of the two only. `None`: not such an object.
pub fn read(object: &str) -> Option<Result<(), Errno>> {
    let [link, allowed, denied, rounds] = object.split(',').collect::<Vec<_>>().try_into().ok()?;
    let other = format!("{link}.other");
    let make = |target, link: &str| std::os::unix::fs::symlink(target, link);
    if make(allowed, link).and_then(|()| make(denied, &other)).is_err() {
        return Some(Err(libc::EIO));
    }
    let names = [CString::new(link).ok()?, CString::new(other).ok()?];
    Some(race(&names, rounds.parse().ok()?))
}

fn race(names: &[CString; 2], rounds: u32) -> Result<(), Errno> {
    let swapper = places::fork()?;
    if swapper == 0 {
        loop {
            exchange(names);
        }
    }
    let (mut opened, mut refused, mut leaked) = (0u32, 0u32, 0u32);
    for _ in 0..rounds {
        match raw::open(&names[0], libc::O_RDONLY) {
            Ok(file) => {
                let mut content = [0; 1];
                let read = std::fs::File::from(file).read(&mut content);
                opened += 1;
                leaked += u32::from(read.is_err() || content != *b"a");
            }
            Err(libc::EACCES) => refused += 1,
            Err(_) => leaked += 1,
        }
    }
    // SAFETY: no pointers; the child is not waited for yet, so that its pid is its own.
    unsafe { libc::kill(swapper, libc::SIGKILL) };
    places::wait(swapper);
    eprintln!("{rounds} rounds: {opened} opened, {refused} refused, {leaked} leaked");
    match (opened, refused, leaked) {
        (_, _, 1..) => Ok(()),
        (1.., 1.., 0) => Err(libc::EACCES),
        _ => Err(libc::EAGAIN),
    }
}

fn exchange([one, two]: &[CString; 2]) {
    let at = libc::AT_FDCWD;
    // SAFETY: both names end with a NUL and live through the call.
    unsafe {
        libc::syscall(libc::SYS_renameat2, at, one.as_ptr(), at, two.as_ptr(), libc::RENAME_EXCHANGE);
    }
}
