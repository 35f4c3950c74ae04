//! A compiled policy into the kernel's maps.
//!
//! A policy is written whole, into a map of its own and under a number of its own, before it is put in force by one
//! update of the slot. That update returns when no program looks at the policy before it any more; only then is
//! what belonged to that one taken away.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use policy::compile::lsm::{AddressEntry, LsmPlan};
use sandbox_ebpf::abi::policy::{DigestKey, lasting};

use crate::kernel::{
    bpf::{self, Page, TrieKey},
    object::{Object, ObjectError},
};

/// What of a slot a policy is put in force for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// For all that is judged.
    Whole,
    /// For what is judged now: it opens something for a moment, and what lasts is what it was.
    Now,
    /// For what lasts: whether a new name of something may open what its old one closes.
    Lasting,
}

/// A policy that is in force, and what of it must go when it is not.
#[derive(Debug)]
pub struct Installed {
    /// Its map. Programs that sleep may look at it after another has taken its place: it is kept as long as the run.
    _pages: OwnedFd,
    addresses: Vec<TrieKey>,
    digests: Vec<DigestKey>,
}

fn fault(source: std::io::Error) -> ObjectError {
    ObjectError::Call { what: "write the policy's tables", source }
}

/// Writes a plan and puts it in force for a slot.
///
/// # Errors
/// The kernel refuses; then what is judged now is judged as before.
pub fn install(object: &Object, slot: u32, plan: &LsmPlan, force: Force) -> Result<Installed, ObjectError> {
    let mut written = Installed { _pages: write(plan.pages())?, addresses: Vec::new(), digests: Vec::new() };
    let result = fill(object, plan, &mut written).and_then(|()| put(object, slot, &written._pages, force));
    match result {
        Ok(()) => Ok(written),
        Err(error) => {
            // What was written so far belongs to nobody.
            let _ = remove(object, &mut written);
            Err(error)
        }
    }
}

/// Takes away what belonged to a policy that is no longer in force.
///
/// # Errors
/// The kernel refuses.
pub fn remove(object: &Object, installed: &mut Installed) -> Result<(), ObjectError> {
    let trie = object.map("ADDRESSES")?;
    for key in installed.addresses.drain(..) {
        bpf::delete(trie, key).map_err(fault)?;
    }
    let digests = object.map("DIGESTS")?;
    for key in installed.digests.drain(..) {
        bpf::delete(digests, key).map_err(fault)?;
    }
    Ok(())
}

fn write(pages: impl Iterator<Item = Page>) -> Result<OwnedFd, ObjectError> {
    let pages: Vec<Page> = pages.collect();
    let map = bpf::create_pages(pages.len() as u32).map_err(fault)?;
    for (index, page) in pages.into_iter().enumerate() {
        bpf::update(map.as_fd(), index as u32, page).map_err(fault)?;
    }
    bpf::freeze(map.as_fd()).map_err(fault)?;
    Ok(map)
}

fn fill(object: &Object, plan: &LsmPlan, written: &mut Installed) -> Result<(), ObjectError> {
    let trie = object.map("ADDRESSES")?;
    for AddressEntry { prefix_len, key, node } in &plan.addresses {
        let key = TrieKey { prefix_len: *prefix_len, data: *key };
        bpf::update(trie, key, *node).map_err(fault)?;
        written.addresses.push(key);
    }
    let digests = object.map("DIGESTS")?;
    for (key, block) in &plan.digests {
        bpf::update(digests, *key, *block).map_err(fault)?;
        written.digests.push(*key);
    }
    Ok(())
}

fn put(object: &Object, slot: u32, pages: &OwnedFd, force: Force) -> Result<(), ObjectError> {
    let places: &[u32] = match force {
        Force::Whole => &[lasting(slot), slot],
        Force::Now => &[slot],
        Force::Lasting => &[lasting(slot)],
    };
    for place in places {
        bpf::update(object.map("POLICIES")?, *place, pages.as_raw_fd() as u32).map_err(fault)?;
    }
    Ok(())
}
