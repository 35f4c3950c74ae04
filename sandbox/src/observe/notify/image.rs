//! What tells one execution of a process from the next, held from before it.
//!
//! What a process shows of itself it can change: its executable (PR_SET_MM), its auxiliary vector and the bytes that lead
//! from there. Two things it cannot: the kernel's flag of a process that has executed nothing yet, and which memory a
//! descriptor of /proc/PID/mem belongs to, which is gone when the process has another one. Memory that a process shares
//! with another one stays; then what it shows may say that nothing happened, and never that something did.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, StatxFlags};

use super::memory::Memory;
use super::task;

/// The entry of the auxiliary vector that leads to the random bytes which each exec gets (getauxval(3)).
const AT_RANDOM: u64 = 25;
/// The task is about to end (`PF_EXITING`, include/linux/sched.h).
const EXITING: u32 = 0x4;
/// The task was made and has executed nothing since (`PF_FORKNOEXEC`).
pub(super) const EXECUTED_NOTHING: u32 = 0x40;

/// A process before it executes something.
#[derive(Debug)]
pub struct Before {
    pid: u32,
    /// It has executed nothing since it was made: that tells all.
    fresh: bool,
    /// Else its memory, /proc/PID/mem, and what it shows.
    memory: Option<(File, Image)>,
}

/// What a process shows.
#[derive(Debug, PartialEq, Eq)]
struct Image {
    /// Device (as the kernel counts) and inode of the executable.
    file: Option<(u32, u64)>,
    /// Where the random bytes of this execution lie, and which they are.
    random: Option<(u64, [u8; 16])>,
}

impl Before {
    /// Of the process `pid`, one of whose threads is about to execute something; without `held` its memory is not held, and
    /// of a process that has executed something before nothing can be told.
    pub fn of(pid: u32, memory: Memory, held: bool) -> Before {
        // Whichever thread executes something becomes the first one.
        let fresh = task::flags(pid).is_some_and(|flags| flags & EXECUTED_NOTHING != 0);
        let hold = || Some((File::open(format!("/proc/{pid}/mem")).ok()?, Image::of(pid, memory)));
        Before { pid, fresh, memory: if fresh || !held { None } else { hold() } }
    }

    /// Whether the process, which is still there, has executed another program since; `None` where that cannot be told.
    pub fn is_over(&self, memory: Memory) -> Option<bool> {
        if self.fresh {
            return Some(task::flags(self.pid)? & EXECUTED_NOTHING == 0);
        }
        let (held, before) = self.memory.as_ref()?;
        if is_gone(held) {
            // Who ends loses memory as well.
            return (task::flags(self.pid)? & EXITING == 0).then_some(true);
        }
        let now = Image::of(self.pid, memory);
        (now.file.is_some() && now.random.is_some() && now == *before).then_some(false)
    }
}

/// Whether nobody has the memory any more that this descriptor was opened for: then it reads as empty, and else as an
/// address that is there or not (`mem_rw` of fs/proc/base.c).
fn is_gone(memory: &File) -> bool {
    matches!(memory.read_at(&mut [0], 0), Ok(0))
}

/// The executable of a process: device as the kernel counts, inode.
pub fn executable(pid: u32) -> Option<(u32, u64)> {
    let flags = AtFlags::STATX_DONT_SYNC;
    let found =
        rustix::fs::statx(rustix::fs::CWD, format!("/proc/{pid}/exe"), flags, StatxFlags::INO).ok()?;
    // The kernel's own dev_t: twenty bits of minor number.
    Some((found.stx_dev_major << 20 | found.stx_dev_minor & 0xf_ffff, found.stx_ino))
}

impl Image {
    fn of(pid: u32, memory: Memory) -> Image {
        let random = random_at(pid).and_then(|address| {
            let mut bytes = [0; 16];
            memory.exact(address, &mut bytes).ok().map(|()| (address, bytes))
        });
        Image { file: executable(pid), random }
    }
}

fn random_at(pid: u32) -> Option<u64> {
    let vector = fs::read(format!("/proc/{pid}/auxv")).ok()?;
    // Entries of 32-bit programs are half as long.
    let of_width = |width: usize| {
        vector.chunks_exact(2 * width).find_map(|pair| {
            let number = |bytes: &[u8]| {
                let mut wide = [0; 8];
                wide[..width].copy_from_slice(bytes);
                u64::from_le_bytes(wide)
            };
            (number(&pair[..width]) == AT_RANDOM).then(|| number(&pair[width..]))
        })
    };
    of_width(8).or_else(|| of_width(4))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Child, Command, Stdio};

    use super::super::memory::Way;
    use super::*;

    fn memory(pid: u32) -> Memory {
        Memory { tid: pid, way: Way::Call }
    }

    /// A shell that executes `program` when it reads a line, and has said so far that it is there.
    fn shell(program: &str) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", &format!("echo; read line; {program}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    fn say(child: &mut Child) {
        child.stdin.as_mut().unwrap().write_all(b"x\n").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn an_execution_is_told_from_none() {
        // The same program again, another one, and none.
        let tries = [
            ("exec sh -c 'echo; read line'", Some(true)),
            ("exec cat /dev/zero", Some(true)),
            ("exec /nowhere/at/all || echo; read line", Some(false)),
            ("echo; read line", Some(false)),
        ];
        for (program, over) in tries {
            let program = program.replace("exec /nowhere/at/all ||", "(exec /nowhere/at/all) ||");
            let mut child = shell(&program);
            let before = Before::of(child.id(), memory(child.id()), true);
            assert!(!before.fresh);
            assert_eq!(before.is_over(memory(child.id())), Some(false), "{program}");
            say(&mut child);
            assert_eq!(before.is_over(memory(child.id())), over, "{program}");
            end(child);
        }
    }

    #[test]
    fn who_has_ended_has_executed_nothing_more() {
        let mut child = shell("exit");
        let before = Before::of(child.id(), memory(child.id()), true);
        child.kill().unwrap();
        let ended = || task::flags(child.id()).is_some_and(|flags| flags & EXITING != 0);
        while !(ended() && is_gone(&before.memory.as_ref().unwrap().0)) {
            std::thread::yield_now();
        }
        // Nobody has waited for it: it is still there.
        assert_eq!(before.is_over(memory(child.id())), None);
        assert_eq!(executable(child.id()), None);
        child.wait().unwrap();
        assert_eq!(before.is_over(memory(child.id())), None);
    }
}
