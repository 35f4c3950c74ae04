//! Where a run's questions for names go: to the runner, which stands in for each of the machine's resolvers at a port of
//! its own on loopback (127.0.0.1 for a resolver of IPv4, else ::1).

/// The port that questions go to.
pub const PORT: u16 = 53;
/// Most resolvers of all runs together.
pub const MAX_RESOLVERS: u32 = 256;

/// Key of the map of the machine's resolvers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResolverKey {
    /// Slot of the run.
    pub slot: u32,
    /// The resolver's address, IPv4 as IPv4-mapped.
    pub address: [u8; 16],
}

/// Value of that map: the ports on loopback where the runner stands in, host byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stub {
    /// For UDP.
    pub udp: u16,
    /// For TCP.
    pub tcp: u16,
}

/// Key of the map that leads from a port of the runner's back to the resolver's address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StubKey {
    /// Slot of the run.
    pub slot: u32,
    /// The port, host byte order.
    pub port: u16,
    /// One of [`super::policy::proto`].
    pub proto: u16,
}

const _: () = assert!(size_of::<ResolverKey>() == 20);
const _: () = assert!(size_of::<Stub>() == 4);
const _: () = assert!(size_of::<StubKey>() == 8);
