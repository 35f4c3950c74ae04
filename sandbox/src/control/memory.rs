//! Texts that pass between processes as memory that nobody can change any more (memfd_create(2), sealed): larger than
//! a message may be, and nothing that a reader could be made to wait for.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};

/// What a text must be sealed against.
const SEALED: SealFlags =
    SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// Puts a text into memory of its own.
///
/// # Errors
/// No memory, or no descriptor.
pub fn write(text: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create("sandbox-control", flags)?);
    file.write_all(text)?;
    rustix::fs::fcntl_add_seals(&file, SEALED)?;
    Ok(file.into())
}

/// Reads a text of at most `limit` bytes.
///
/// # Errors
/// It is longer, or no memory that is sealed: a file could change, a pipe could make the reader wait.
pub fn read(memory: OwnedFd, limit: u64) -> io::Result<Vec<u8>> {
    let fault = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let sealed = rustix::fs::fcntl_get_seals(&memory).is_ok_and(|seals| seals.contains(SEALED));
    if !sealed {
        return Err(fault("the text is not in sealed memory".to_owned()));
    }
    let mut file = File::from(memory);
    let length = file.metadata()?.len();
    if length > limit {
        return Err(fault(format!("the text has {length} bytes, and may have {limit}")));
    }
    file.rewind()?;
    let mut text = Vec::with_capacity(length as usize);
    file.read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sealed_memory_is_read() {
        let text = b"version: 1\n".repeat(100);
        assert_eq!(read(write(&text).unwrap(), 2000).unwrap(), text);
        assert!(read(write(&text).unwrap(), 1000).unwrap_err().to_string().contains("may have 1000"));
        let (reader, _writer) = io::pipe().unwrap();
        assert!(read(reader.into(), 1000).is_err());
        assert!(read(tempfile::tempfile().unwrap().into(), 1000).is_err());
        let open = rustix::fs::memfd_create("x", MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(read(open, 1000).is_err(), "it could be changed while it is read");
    }
}
