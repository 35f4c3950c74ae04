//! What a process may want to do with an object, and the sections that judge it.

use std::fmt;

use sandbox_ebpf::abi::policy::{access, net_access};

/// The part of a policy that a rule or an access belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SectionKind {
    /// `files`.
    Files,
    /// `exec`.
    Exec,
    /// `network`.
    Network,
}

impl SectionKind {
    /// Every one, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Files, Self::Exec, Self::Network];

    /// The key of the section.
    pub fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Exec => "exec",
            Self::Network => "network",
        }
    }

    /// Every access of the section.
    pub fn accesses(self) -> AccessSet {
        Access::ALL.into_iter().filter(|access| access.section() == self).collect()
    }
}

/// What a process may want to do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Open for reading, list a directory.
    Read,
    /// Open for writing, truncate.
    Write,
    /// Make a new name.
    Create,
    /// Remove a name.
    Delete,
    /// Change mode, owner, times, extended attributes.
    Attributes,
    /// Map executable.
    Load,
    /// Execute.
    Run,
    /// connect(2).
    Connect,
    /// Send with an address.
    Send,
    /// bind(2).
    Bind,
    /// listen(2).
    Listen,
}

impl Access {
    /// Accesses to an object itself, whatever it is called: what another name of it must not open.
    pub const OBJECT: [Self; 5] = [Self::Read, Self::Write, Self::Attributes, Self::Load, Self::Run];

    /// Every one, in the order in which they are written.
    pub const ALL: [Self; 11] = [
        Self::Read,
        Self::Write,
        Self::Create,
        Self::Delete,
        Self::Attributes,
        Self::Load,
        Self::Run,
        Self::Connect,
        Self::Send,
        Self::Bind,
        Self::Listen,
    ];

    /// The word of the language.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Attributes => "attributes",
            Self::Load => "load",
            Self::Run => "run",
            Self::Connect => "connect",
            Self::Send => "send",
            Self::Bind => "bind",
            Self::Listen => "listen",
        }
    }

    /// The section whose rules judge it.
    pub fn section(self) -> SectionKind {
        match self {
            Self::Read | Self::Write | Self::Create | Self::Delete | Self::Attributes | Self::Load => {
                SectionKind::Files
            }
            Self::Run => SectionKind::Exec,
            Self::Connect | Self::Send | Self::Bind | Self::Listen => SectionKind::Network,
        }
    }

    /// The bit of the set: those of the kernel side, the network's shifted behind them.
    const fn bit(self) -> u16 {
        match self {
            Self::Read => access::READ,
            Self::Write => access::WRITE,
            Self::Create => access::CREATE,
            Self::Delete => access::DELETE,
            Self::Attributes => access::ATTRIBUTES,
            Self::Load => access::LOAD,
            Self::Run => access::RUN,
            Self::Connect => of_net(net_access::CONNECT),
            Self::Send => of_net(net_access::SEND),
            Self::Bind => of_net(net_access::BIND),
            Self::Listen => of_net(net_access::LISTEN),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const NET_SHIFT: u32 = 8;

/// Bits of the network as those of a set.
const fn of_net(bits: u8) -> u16 {
    (bits as u16) << NET_SHIFT
}

/// Some accesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessSet(u16);

impl AccessSet {
    /// None at all.
    pub const EMPTY: Self = Self(0);
    /// Every one.
    pub const ALL: Self = Self::of(&Access::ALL);
    /// Accesses to an object itself ([`Access::OBJECT`]).
    pub const OBJECT: Self = Self::of(&Access::OBJECT);

    const fn of(mut accesses: &[Access]) -> Self {
        let mut set = Self::EMPTY;
        while let [access, rest @ ..] = accesses {
            set.0 |= access.bit();
            accesses = rest;
        }
        set
    }

    /// Those whose bits ([`sandbox_ebpf::abi::policy::access`]) are set; unknown bits are left out.
    pub fn from_path_bits(bits: u16) -> Self {
        let known = SectionKind::Files.accesses().0 | SectionKind::Exec.accesses().0;
        Self(bits & known)
    }

    /// Those whose bits ([`sandbox_ebpf::abi::policy::net_access`]) are set; unknown bits are left out.
    pub fn from_net_bits(bits: u8) -> Self {
        Self(of_net(bits) & SectionKind::Network.accesses().0)
    }

    /// The file and exec accesses as bits of [`sandbox_ebpf::abi::policy::access`].
    pub fn path_bits(self) -> u16 {
        self.0 & ((1 << NET_SHIFT) - 1)
    }

    /// The network accesses as bits of [`sandbox_ebpf::abi::policy::net_access`].
    pub fn net_bits(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// True when `access` is among them.
    pub fn contains(self, access: Access) -> bool {
        self.0 & access.bit() != 0
    }

    /// Adds one.
    pub fn insert(&mut self, access: Access) {
        self.0 |= access.bit();
    }

    /// Those in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there are any in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Those in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// True when there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, in the order of [`Access::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Access> {
        Access::ALL.into_iter().filter(move |access| self.contains(*access))
    }
}

impl FromIterator<Access> for AccessSet {
    fn from_iter<I: IntoIterator<Item = Access>>(iter: I) -> Self {
        let mut set = Self::EMPTY;
        iter.into_iter().for_each(|access| set.insert(access));
        set
    }
}

impl From<Access> for AccessSet {
    fn from(access: Access) -> Self {
        Self(access.bit())
    }
}

impl fmt::Display for AccessSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, access) in self.iter().enumerate() {
            write!(f, "{}{access}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
