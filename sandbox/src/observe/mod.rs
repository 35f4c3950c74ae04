//! Kernel bytes to [`RawEvent`]s.
//!
//! One ring buffer carries what the tracepoints saw and what the hooks judged; this stage only cuts it into
//! records and checks their sizes. Where no program can be loaded, [`notify`] makes the same records out of calls that
//! wait for it. What they mean is `event::decode`'s.

pub mod look;
pub mod notify;
pub mod trace;

use std::sync::Arc;

use sandbox_ebpf::abi::event::{DATA_MAX, HEADER_SIZE, Header};

/// Bits of [`Header::flags`] that the kernel's programs never set: what an observer outside the kernel has to say.
pub mod told {
    /// The call was seen before it ran: what came of it is not known, and `ret` means nothing.
    pub const NO_RESULT: u16 = 1 << 12;
    /// It is known that the call failed, but not why.
    pub const FAILED: u16 = 1 << 13;
    /// No file had this name when the call was seen.
    pub const ABSENT: u16 = 1 << 14;
    /// The caller's memory and descriptors are closed to the observer.
    pub const CLOSED: u16 = 1 << 15;
}

/// One record of the ring, checked for size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent {
    /// The fixed part.
    pub header: Header,
    /// The variable parts; empty where the record has none.
    pub parts: [Vec<u8>; 4],
    /// The executable of who acts, where the observer looked it up; the kernel's records do not have it.
    pub executable: Option<Arc<[u8]>>,
    /// Where the name of an execution led, where the observer looked it up.
    pub target: Option<Vec<u8>>,
}

/// A record that is not what the ABI says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than a header.
    #[error("a record of {0} bytes is shorter than its header")]
    Short(usize),
    /// Its parts are longer than it is.
    #[error("a record of {got} bytes says that it has {want}")]
    Parts {
        /// What the header says.
        want: usize,
        /// What came.
        got: usize,
    },
}

impl RawEvent {
    /// Cuts a record out of the ring's bytes.
    ///
    /// # Errors
    /// The sizes do not fit together.
    pub fn parse(bytes: &[u8]) -> Result<RawEvent, Malformed> {
        let (head, mut data) = bytes.split_at_checked(HEADER_SIZE).ok_or(Malformed::Short(bytes.len()))?;
        let header = header(head);
        let want: usize = header.parts.iter().map(|length| usize::from(*length)).sum();
        if want > data.len() || want > DATA_MAX {
            return Err(Malformed::Parts { want, got: data.len() });
        }
        let parts = header.parts.map(|length| {
            let (part, rest) = data.split_at(usize::from(length));
            data = rest;
            part.to_vec()
        });
        Ok(RawEvent { header, parts, executable: None, target: None })
    }
}

/// Reads a header field by field: bytes of the ring have no alignment that Rust could rely on.
fn header(bytes: &[u8]) -> Header {
    let mut fields = Fields(bytes);
    Header {
        kseq: fields.u64(),
        mono_ns: fields.u64(),
        start_ns: fields.u64(),
        ret: fields.u64() as i64,
        args: [fields.u64(), fields.u64(), fields.u64(), fields.u64()],
        ino: fields.u64(),
        dev: fields.u32(),
        pid: fields.u32(),
        tid: fields.u32(),
        ppid: fields.u32(),
        uid: fields.u32(),
        slot: fields.u32(),
        syscall: fields.u32(),
        flags: fields.u16(),
        access: fields.u16(),
        kind: fields.bytes::<1>()[0],
        judgement: fields.bytes::<1>()[0],
        cause: fields.bytes::<1>()[0],
        arch: fields.bytes::<1>()[0],
        parts: [fields.u16(), fields.u16(), fields.u16(), fields.u16()],
        policy: fields.u32(),
        comm: fields.bytes(),
    }
}

/// What is left of a header; reading past its end gives zeros.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *field
    }

    fn u16(&mut self) -> u16 {
        u16::from_ne_bytes(self.bytes())
    }

    fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.bytes())
    }

    fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        assert_eq!(RawEvent::parse(&[0; 10]), Err(Malformed::Short(10)));
        let mut bytes = vec![0; HEADER_SIZE];
        bytes[std::mem::offset_of!(Header, parts)] = 5;
        assert_eq!(RawEvent::parse(&bytes), Err(Malformed::Parts { want: 5, got: 0 }));
        bytes.extend(b"abcdefgh");
        assert_eq!(RawEvent::parse(&bytes).map(|raw| raw.parts[0].clone()), Ok(b"abcde".to_vec()));
    }

    #[test]
    fn every_field_is_read_from_its_own_place() {
        let bytes: Vec<u8> = (0..HEADER_SIZE as u32).map(|i| i as u8).collect();
        let header = header(&bytes);
        let u64_at = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(header.args[3], u64_at(std::mem::offset_of!(Header, args) + 24));
        assert_eq!(header.arch, bytes[std::mem::offset_of!(Header, arch)]);
        assert_eq!(header.parts[3].to_ne_bytes(), bytes[std::mem::offset_of!(Header, parts) + 6..][..2]);
        assert_eq!(header.comm, bytes[std::mem::offset_of!(Header, comm)..][..16]);
        assert_eq!(header.syscall.to_ne_bytes(), bytes[std::mem::offset_of!(Header, syscall)..][..4]);
    }
}
