//! A compiled policy into the kernel's maps.

use policy::compile::lsm::LsmPlan;
use sandbox_ebpf::abi::policy::{
    PORTS_PER_PAGE, PortRange, StateVerdict, TRANSITIONS_PER_PAGE, VERDICTS_PER_PAGE,
};

use crate::kernel::{
    bpf::{self, Plain, TrieKey},
    object::{Object, ObjectError, Sizes},
};

/// The map entries that a plan needs. One page is always there: the self-test denies by an empty one.
pub fn sizes(plan: &LsmPlan) -> Sizes {
    let pages = |length: usize, page: usize| length.div_ceil(page).max(1) as u32;
    Sizes {
        transitions: pages(plan.transitions.len(), TRANSITIONS_PER_PAGE),
        verdicts: pages(plan.verdicts.len(), VERDICTS_PER_PAGE),
        ports: pages(plan.ports.len(), PORTS_PER_PAGE),
        addresses: plan.addresses.len().max(1) as u32,
    }
}

/// Writes a plan's tables for the run in `slot`, and makes them read-only.
///
/// # Errors
/// The kernel refuses.
pub fn write_plan(object: &Object, slot: u32, plan: &LsmPlan) -> Result<(), ObjectError> {
    let fault = |source| ObjectError::Call { what: "write the policy's tables", source };
    bpf::update(object.map("CLASSES")?, slot, plan.classes).map_err(fault)?;
    write_pages::<u32, TRANSITIONS_PER_PAGE>(object, "TRANSITIONS", &plan.transitions, 0)?;
    write_pages::<StateVerdict, VERDICTS_PER_PAGE>(
        object,
        "VERDICTS",
        &plan.verdicts,
        StateVerdict::default(),
    )?;
    write_pages::<PortRange, PORTS_PER_PAGE>(object, "PORTS", &plan.ports, PortRange::default())?;
    let trie = object.map("ADDRESSES")?;
    for entry in &plan.addresses {
        bpf::update(trie, TrieKey { prefix_len: entry.prefix_len, data: entry.key }, entry.node)
            .map_err(fault)?;
    }
    for name in ["CLASSES", "TRANSITIONS", "VERDICTS", "PORTS", "ADDRESSES"] {
        bpf::freeze(object.map(name)?).map_err(fault)?;
    }
    Ok(())
}

/// Writes a table as pages of `N` cells, the last one filled up.
fn write_pages<T, const N: usize>(object: &Object, map: &str, cells: &[T], fill: T) -> Result<(), ObjectError>
where
    T: Copy,
    [T; N]: Plain,
{
    let fd = object.map(map)?;
    for (index, cells) in cells.chunks(N).enumerate() {
        let mut page = [fill; N];
        page[..cells.len()].copy_from_slice(cells);
        bpf::update(fd, index as u32, page)
            .map_err(|source| ObjectError::Call { what: "write the policy's tables", source })?;
    }
    Ok(())
}
