//! What hooks judged, beyond opens and addresses: names, and acts of other kinds.

use sandbox_ebpf::abi::{
    event::{Cause, Header, Kind, flag},
    policy::kernel,
};

use super::{Builder, Record};
use crate::event::{EventType, Key, Value};

impl Record<'_> {
    pub(super) fn checked_path(&self, to: &mut Builder) {
        let path = self.parts[0].strip_suffix(&[0]).unwrap_or(&self.parts[0]);
        if !path.is_empty() {
            to.facts.detached = path.first() != Some(&b'/') || self.has(flag::DETACHED);
            to.bytes(Key::Path, path);
        }
        let asked = self.header.access;
        to.facts.access = asked;
        to.facts.digest = self.parts[1].as_slice().try_into().ok();
        if matches!(self.kind, Kind::OpenCheck | Kind::ReceiveCheck) {
            to.number(Key::Flags, self.header.args[0] & 0xffff_ffff);
            self.access_words(asked, to);
        }
    }

    /// One name or two, as a hook judged them.
    pub(super) fn checked_names(&self, to: &mut Builder) {
        let [_, second, gained, flags] = self.header.args;
        // An extended attribute is no second name of the file.
        let second_key = if self.header.args[0] == Kind::Xattr as u64 { Key::Target } else { Key::Path2 };
        for (key, part) in [(Key::Path, 0), (second_key, 1)] {
            if !self.parts[part].is_empty() {
                to.bytes(key, &self.parts[part]);
            }
        }
        // Where another name of the object is denied, the number is the mark's.
        if flags != 0 && self.header.cause != Cause::Link as u8 {
            to.number(Key::Flags, flags);
        }
        to.facts.access = self.header.access;
        to.facts.access2 = second as u16;
        to.facts.gained = Some(gained as u16);
    }

    /// An act beyond files and addresses.
    pub(super) fn kernel(&self, to: &mut Builder) {
        let [act, pid, number, _] = self.header.args;
        to.facts.kernel = act as u32;
        if !self.parts[0].is_empty() {
            to.bytes(Key::Path, &self.parts[0]);
        }
        if pid != 0 {
            to.put(Key::TargetPid, Value::Int(pid as i64));
        }
        if to.facts.kernel == kernel::SIGNAL_OUTSIDE {
            to.put(Key::Signal, Value::Int(number as i64));
        } else if number != 0 {
            to.number(Key::Flags, number);
        }
    }
}

/// The event of a call whose names a hook judged.
pub(super) fn checked_call(header: &Header) -> EventType {
    let plain = Header { args: [0; 4], ..*header };
    match u8::try_from(header.args[0]).map_or(Kind::Unknown, Kind::from_raw) {
        Kind::PathCheck => EventType::ProcCompat,
        call => super::event_type(&plain, call),
    }
}

/// The event of an act beyond files and addresses.
pub(super) fn kernel_act(header: &Header) -> EventType {
    match header.args[0] as u32 {
        kernel::MOUNT => EventType::ProcMount,
        kernel::USERNS => EventType::ProcUserns,
        kernel::CHROOT => EventType::ProcChroot,
        kernel::BPF => EventType::ProcBpf,
        kernel::SIGNAL_OUTSIDE => EventType::ProcSignal,
        kernel::RAW_DEVICES | kernel::SYSCTL_WRITE => EventType::FileOpen,
        _ => EventType::ProcPtrace,
    }
}
