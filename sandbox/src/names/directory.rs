//! Which names addresses have, here and in the kernel's map.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::names::Book;
use policy::{Policies, compile::lsm::LsmPlan};
use sandbox_ebpf::abi::policy::{HostKey, HostLease, HostLeases, MAX_LEASES};

use crate::enforce::group::address_bytes;
use crate::event::judge;
use crate::kernel::bpf;
use crate::record::time;

/// How often ended leases are looked for.
const PRUNE_NS: u64 = 60_000_000_000;

/// By which names addresses are known.
#[derive(Debug)]
pub struct Directory {
    /// The kernel's map, where names open addresses.
    hosts: Option<OwnedFd>,
    /// The machine's resolvers.
    resolvers: Vec<IpAddr>,
    state: Mutex<State>,
    /// Answers of which nobody could be told.
    lost: AtomicU64,
}

#[derive(Debug)]
struct State {
    book: Book,
    law: Option<Law>,
    pruned_ns: u64,
}

/// The policies in force, and their tables.
#[derive(Clone, Debug)]
pub struct Law {
    /// Their tables, where the kernel opens addresses by them.
    pub plan: Option<Arc<LsmPlan>>,
    /// Themselves.
    pub policies: Policies,
}

impl Directory {
    /// Of a run that is judged by `law`; `hosts` is the kernel's map. Nothing is known yet.
    pub fn new(hosts: OwnedFd, law: Law, resolvers: Vec<IpAddr>) -> Self {
        Self::with(Some(hosts), Some(law), resolvers)
    }

    /// Of a run that is only watched, with what it is judged by.
    pub fn of_watched(policies: Option<Policies>, resolvers: Vec<IpAddr>) -> Self {
        Self::with(None, policies.map(|policies| Law { plan: None, policies }), resolvers)
    }

    fn with(hosts: Option<OwnedFd>, law: Option<Law>, resolvers: Vec<IpAddr>) -> Self {
        let state = State { book: Book::default(), law, pruned_ns: 0 };
        Self { hosts, resolvers, state: Mutex::new(state), lost: AtomicU64::new(0) }
    }

    /// What is known; a thread that panicked has left it as it was between two steps.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more answer of which nobody could be told.
    pub fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Asks the policies in force; `None` where there are none.
    pub fn ask<T>(&self, question: impl FnOnce(&Policies) -> T) -> Option<T> {
        self.state().law.as_ref().map(|law| question(&law.policies))
    }

    /// The policies in force; `None` where there are none.
    pub fn policies(&self) -> Option<Policies> {
        self.state().law.as_ref().map(|law| law.policies.clone())
    }

    /// By which names an address is open now.
    pub fn names_of(&self, address: IpAddr) -> Vec<String> {
        let state = self.state();
        let live = state.book.live(address, time::boot_now_ns());
        live.into_iter().map(|(name, _)| name.to_owned()).collect()
    }

    /// Opens addresses by a name, each for so long.
    ///
    /// # Errors
    /// There is no room for them, here or in the kernel; what was opened of them by then is as the policy has it.
    pub fn open(&self, name: &str, addresses: &[(IpAddr, Duration)]) -> io::Result<()> {
        self.open_at(name, addresses, time::boot_now_ns())
    }

    /// The same from a moment on that is not before that of the last call, CLOCK_BOOTTIME.
    ///
    /// # Errors
    /// As [`Directory::open`].
    pub fn open_at(&self, name: &str, addresses: &[(IpAddr, Duration)], now: u64) -> io::Result<()> {
        let until = |life: &Duration| now.saturating_add(u64::try_from(life.as_nanos()).unwrap_or(u64::MAX));
        let addresses: Vec<(IpAddr, u64)> =
            addresses.iter().map(|(address, life)| (*address, until(life))).collect();
        self.write(name, &addresses, now)
    }

    /// Opens an address by a name for good.
    ///
    /// # Errors
    /// As [`Directory::open`].
    pub fn keep(&self, name: &str, address: IpAddr) -> io::Result<()> {
        self.write(&name.to_ascii_lowercase(), &[(address, u64::MAX)], time::boot_now_ns())
    }

    fn write(&self, name: &str, addresses: &[(IpAddr, u64)], now: u64) -> io::Result<()> {
        let mut state = self.state();
        self.prune(&mut state, now);
        state.book.open(name, addresses, now).map_err(io::Error::other)?;
        let State { book, law, .. } = &*state;
        let Some(plan) = law.as_ref().and_then(|law| law.plan.as_ref()) else { return Ok(()) };
        addresses.iter().try_for_each(|(address, _)| self.publish(book, plan, *address, now))
    }

    /// Writes an address's live names into the kernel's map, for the policies of a plan.
    fn publish(&self, book: &Book, plan: &LsmPlan, address: IpAddr, now: u64) -> io::Result<()> {
        let Some(hosts) = &self.hosts else { return Ok(()) };
        let mut leases = HostLeases::default();
        let mut count = 0;
        for (name, until_ns) in book.live(address, now) {
            let node = u64::from(plan.host_node(name).map_err(io::Error::other)?);
            if node == 0 {
                // No rule is about it.
                continue;
            }
            let known = &mut leases.leases[..count];
            if let Some(same) = known.iter_mut().find(|lease| lease.node == node) {
                same.until_ns = same.until_ns.max(until_ns);
                continue;
            }
            let Some(place) = leases.leases.get_mut(count) else {
                return Err(io::Error::other(format!(
                    "{address} has names under more than {MAX_LEASES} different rules"
                )));
            };
            *place = HostLease { until_ns, node };
            count += 1;
        }
        match count {
            0 => bpf::delete(hosts.as_fd(), key(plan, address)),
            _ => bpf::update(hosts.as_fd(), key(plan, address), leases),
        }
    }

    /// Takes addresses out of the kernel's map; what stays there has ended, or belongs to policies of before.
    fn withdraw(&self, plan: &LsmPlan, addresses: impl IntoIterator<Item = IpAddr>) {
        let Some(hosts) = &self.hosts else { return };
        for address in addresses {
            let _ = bpf::delete(hosts.as_fd(), key(plan, address));
        }
    }

    /// Forgets what ended long ago.
    fn prune(&self, state: &mut State, now: u64) {
        if now.saturating_sub(state.pruned_ns) < PRUNE_NS {
            return;
        }
        state.pruned_ns = now;
        let forgotten = state.book.prune(now);
        if let Some(plan) = state.law.as_ref().and_then(|law| law.plan.as_ref()) {
            self.withdraw(plan, forgotten);
        }
    }

    /// Puts other policies in force by `apply`: what is open by name then is so under them from the first moment.
    ///
    /// # Errors
    /// The kernel's map is full, or what `apply` says; then the policies before still hold.
    pub fn adopt<E>(
        &self,
        law: Law,
        apply: impl FnOnce() -> Result<(), E>,
        fault: impl FnOnce(io::Error) -> E,
    ) -> Result<(), E> {
        // Whoever asks meanwhile waits.
        let mut state = self.state();
        let now = time::boot_now_ns();
        let addresses: Vec<IpAddr> = state.book.addresses().collect();
        let publish = |plan: &LsmPlan| {
            addresses.iter().try_for_each(|address| self.publish(&state.book, plan, *address, now))
        };
        let written = law.plan.as_deref().map_or(Ok(()), publish);
        let applied = written.map_err(fault).and_then(|()| apply());
        let gone = match &applied {
            Ok(()) => state.law.replace(law),
            Err(_) => Some(law),
        };
        if let Some(plan) = gone.and_then(|law| law.plan) {
            self.withdraw(&plan, addresses);
        }
        applied
    }
}

fn key(plan: &LsmPlan, address: IpAddr) -> HostKey {
    HostKey { policy: plan.header.id, address: address_bytes(address) }
}

/// The directory as those see it who tell of events.
#[derive(Clone, Debug)]
pub struct Known(pub Arc<Directory>);

impl judge::Names for Known {
    fn at(&self, address: IpAddr, mono_ns: u64) -> Vec<String> {
        let state = self.0.state();
        state.book.names_at(address, boot_ns(mono_ns)).into_iter().map(str::to_owned).collect()
    }

    fn is_resolver(&self, address: IpAddr) -> bool {
        self.0.resolvers.contains(&address)
    }
}

/// A moment of CLOCK_MONOTONIC by CLOCK_BOOTTIME: they differ by the time that the machine was suspended.
pub fn boot_ns(mono_ns: u64) -> u64 {
    mono_ns.saturating_add(time::boot_now_ns().saturating_sub(time::mono_now_ns()))
}
