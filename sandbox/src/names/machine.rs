//! What the machine says of its resolvers, of names that it knows itself, and of its own addresses.
//!
//! The files are read when the run begins, and never again: what is written to them later, perhaps by the run, has no
//! effect on it.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sandbox_ebpf::abi::resolver::PORT;

use super::NamesError;

/// resolv.conf(5).
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// hosts(5).
const HOSTS: &str = "/etc/hosts";

/// How long the machine's addresses are believed to stay the same.
const FRESH: Duration = Duration::from_secs(2);

/// The machine's resolvers, in order; without any, that of this machine (resolv.conf(5)).
pub fn resolvers() -> Result<Vec<SocketAddr>, NamesError> {
    let index = |name: &str| {
        let name = std::ffi::CString::new(name).ok()?;
        nix::net::if_::if_nametoindex(name.as_c_str()).ok()
    };
    let servers = ::names::nameservers(&read(RESOLV_CONF)?);
    let addresses = servers.iter().map(|server| {
        let mut address = server.socket_address(index);
        address.set_port(PORT);
        address
    });
    Ok(addresses.collect())
}

/// The names that the machine knows itself.
pub fn hosts() -> Result<Vec<(IpAddr, Vec<String>)>, NamesError> {
    Ok(::names::hosts(&read(HOSTS)?))
}

/// What a file holds; nothing where there is none.
fn read(file: &'static str) -> Result<Vec<u8>, NamesError> {
    match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|source| NamesError::Machine { file, source }),
    }
}

/// Whether it is an address of one of this machine's interfaces; where that cannot be read, every address is.
pub fn is_own(address: IpAddr) -> bool {
    static KNOWN: Mutex<Option<(Instant, Vec<IpAddr>)>> = Mutex::new(None);
    let Ok(mut known) = KNOWN.lock() else { return true };
    if known.as_ref().is_none_or(|(read, _)| read.elapsed() > FRESH) {
        let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return true };
        let addresses = interfaces.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        });
        *known = Some((Instant::now(), addresses.collect()));
    }
    known.as_ref().is_some_and(|(_, addresses)| addresses.contains(&address))
}
