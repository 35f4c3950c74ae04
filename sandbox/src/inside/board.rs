//! The board: memory that the runner writes and the run can only read.
//!
//! It has two halves. A text goes into the half that is not shown, then the turn is raised: a reader that finds the
//! same turn before and after has read one text whole.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};

/// Bytes that one text may have.
pub const ROOM: usize = 512 << 10;

/// Where the halves begin: one page.
const HEAD: usize = 4096;
const SIZE: usize = HEAD + 2 * ROOM;

/// What a board begins with.
const MARK: u64 = u64::from_le_bytes(*b"whyboard");

/// The words at the beginning.
#[repr(usize)]
#[derive(Clone, Copy)]
enum Word {
    Mark,
    Turn,
    /// Length of the text in the first half; that of the second follows.
    Length,
}

/// How often a reader tries while the runner writes.
const TRIES: usize = 8;

/// The runner's side.
#[derive(Debug)]
pub struct Board {
    file: OwnedFd,
    memory: NonNull<u8>,
}

// SAFETY: the mapping belongs to the board alone and stays where it is.
unsafe impl Send for Board {}

impl Board {
    /// An empty one.
    ///
    /// # Errors
    /// No memory, no descriptor, or a kernel that cannot seal it.
    pub fn new() -> io::Result<Board> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("sandbox-why", flags)?;
        rustix::fs::ftruncate(&file, SIZE as u64)?;
        // SAFETY: a new mapping at a place of the kernel's choice.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                file.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let board = Board { file, memory };
        // From here on this mapping alone can change it, whoever has a descriptor.
        rustix::fs::fcntl_add_seals(
            &board.file,
            SealFlags::FUTURE_WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
        )?;
        board.word(Word::Mark, 0).store(MARK, Ordering::Release);
        Ok(board)
    }

    fn word(&self, word: Word, behind: usize) -> &AtomicU64 {
        // SAFETY: the words lie in the first page of a mapping that is aligned to pages and lives as long as `self`;
        // they are only ever used as atomics.
        unsafe { &*self.memory.cast::<AtomicU64>().add(word as usize + behind).as_ptr() }
    }

    /// Shows another text; what is longer than [`ROOM`] is cut.
    pub fn show(&mut self, text: &[u8]) {
        let text = &text[..text.len().min(ROOM)];
        let turn = self.word(Word::Turn, 0).load(Ordering::Acquire) + 1;
        let half = (turn % 2) as usize;
        // SAFETY: the half lies in the mapping, no reference into it exists in this process, and readers of the file
        // notice by the turn.
        unsafe {
            let to = self.memory.add(HEAD + half * ROOM).as_ptr();
            std::ptr::copy_nonoverlapping(text.as_ptr(), to, text.len());
        }
        self.word(Word::Length, half).store(text.len() as u64, Ordering::Release);
        self.word(Word::Turn, 0).store(turn, Ordering::Release);
    }
}

impl AsFd for Board {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this size, and nothing refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), SIZE) };
    }
}

/// Reads the text that a board shows. The file's own offset, which all its readers share, is not used.
///
/// # Errors
/// It is no board, cannot be read, or changes too fast.
pub fn read(file: &File) -> io::Result<Vec<u8>> {
    let word = |word: Word, behind: usize| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, ((word as usize + behind) * 8) as u64)?;
        Ok::<u64, io::Error>(u64::from_le_bytes(bytes))
    };
    let fault = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    if word(Word::Mark, 0)? != MARK {
        return Err(fault("it is not what the runner shows"));
    }
    for _ in 0..TRIES {
        let turn = word(Word::Turn, 0)?;
        let half = (turn % 2) as usize;
        let length = usize::try_from(word(Word::Length, half)?).unwrap_or(usize::MAX).min(ROOM);
        let mut text = vec![0; length];
        file.read_exact_at(&mut text, (HEAD + half * ROOM) as u64)?;
        if word(Word::Turn, 0)? == turn {
            return Ok(text);
        }
    }
    Err(fault("it changes faster than it can be read"))
}
