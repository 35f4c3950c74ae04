//! Namespaces of a run: what its first process leaves behind before it executes the command.
//!
//! ```text
//! collector ──Enter(Namespaces)──▶ child: unshare ──▶ loopback up ──▶ listeners
//!           ◀──Entered + listeners─┘
//! ```
//!
//! Root makes them directly. An ordinary user makes a user namespace with them, in which the ids are what they were
//! and setgroups(2) is closed; the capabilities that it gives are gone when the command is executed. All that is asked
//! for is made at once, or nothing is: then [`EnterError`] says why, and the run does not start.
//!
//! A network namespace has a loopback interface of its own and no other, so nothing leads out of it: no address, no
//! other family, and no abstract unix socket of the machine, since their names belong to a network namespace too. Unix
//! sockets with a path are files, and stay. What is reached from inside are the listeners made here, which belong to
//! the runner once they were handed over; what they do is `relay`'s and the crate `names`'.

pub mod families;
mod loopback;
pub mod proof;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

/// What a run's first process leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// The machine's network, and what it finds in its place.
    pub net: Option<Net>,
}

/// What is found in a network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Net {
    /// The machine's resolvers: questions to their addresses are answered inside.
    pub resolvers: Vec<SocketAddr>,
}

/// Listeners in a network namespace.
#[derive(Debug)]
pub struct Inside {
    /// That of the relay.
    pub relay: TcpListener,
    /// Those that take questions for the resolvers beside them.
    pub names: Vec<(SocketAddr, UdpSocket, TcpListener)>,
}

/// What listeners are handed over as, beside their descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// For which resolvers questions are taken, in the order of the descriptors: the relay's, then two for each.
    resolvers: Vec<SocketAddr>,
}

/// Why namespaces cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}{hint}")]
pub struct EnterError {
    step: &'static str,
    hint: String,
    source: io::Error,
}

impl EnterError {
    fn at(step: &'static str) -> impl Fn(io::Error) -> EnterError {
        move |source| EnterError { step, hint: String::new(), source }
    }
}

impl Namespaces {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.net.is_none()
    }

    fn flags(&self) -> CloneFlags {
        match self.net {
            Some(_) => CloneFlags::CLONE_NEWNET,
            None => CloneFlags::empty(),
        }
    }
}

/// Leaves what `namespaces` names, for good, and gives what listens in its place. The process must have one thread, and
/// must not yet have taken the ids of the command's user.
///
/// # Errors
/// Something is not to be had; the process may be in some of the namespaces then, and must end.
pub fn enter(namespaces: &Namespaces) -> Result<Option<Inside>, EnterError> {
    if namespaces.is_empty() {
        return Ok(None);
    }
    match rustix::process::geteuid().is_root() {
        true => unshare(namespaces.flags()).map_err(|errno| EnterError {
            step: "leave the machine's namespaces (unshare)",
            hint: refusal(errno.into()),
            source: errno.into(),
        })?,
        false => as_user(namespaces.flags())?,
    }
    namespaces.net.as_ref().map(inside).transpose()
}

/// With a user namespace, in which this process may make the others.
fn as_user(flags: CloneFlags) -> Result<(), EnterError> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER | flags).map_err(|errno| EnterError {
        step: "make a user namespace (unshare)",
        hint: refusal_of_users(&errno.into()),
        source: errno.into(),
    })?;
    // Without this, whoever gave up a group that a file denies could read it (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")
        .map_err(EnterError::at("close setgroups in the user namespace"))?;
    let keep = |id: u32| format!("{id} {id} 1\n");
    fs::write("/proc/self/uid_map", keep(uid))
        .map_err(EnterError::at("keep the user in the user namespace"))?;
    fs::write("/proc/self/gid_map", keep(gid)).map_err(EnterError::at("keep the group in the user namespace"))
}

/// What the machine says of why root may not.
fn refusal(error: io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) if is_filtered() => {
            ": a system call filter around the runner, that of a container perhaps, forbids it".to_owned()
        }
        Some(libc::EPERM) => ": it needs CAP_SYS_ADMIN, which containers take away".to_owned(),
        Some(libc::EINVAL) => ": this kernel has none (CONFIG_NET_NS)".to_owned(),
        Some(libc::ENOSPC) => limit("max_net_namespaces"),
        _ => String::new(),
    }
}

/// What the machine says of why an ordinary user may make no user namespace.
pub fn refusal_of_users(error: &io::Error) -> String {
    let setting = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let is = |path: &str, value: &str| setting(path).is_some_and(|found| found == value);
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if is("/proc/sys/kernel/unprivileged_userns_clone", "0") => {
            ": this machine keeps them from ordinary users (kernel.unprivileged_userns_clone is 0)".to_owned()
        }
        Some(libc::EPERM | libc::EACCES)
            if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") =>
        {
            ": AppArmor keeps them from programs without a profile \
             (kernel.apparmor_restrict_unprivileged_userns is 1)"
                .to_owned()
        }
        Some(libc::EPERM | libc::EACCES) if is_filtered() => {
            ": a system call filter around the runner, that of a container perhaps, forbids it".to_owned()
        }
        Some(libc::EPERM) => ": in a chroot nobody can make one (unshare(2))".to_owned(),
        Some(libc::EINVAL) => ": this kernel has none (CONFIG_USER_NS, CONFIG_NET_NS)".to_owned(),
        Some(libc::ENOSPC) => limit("max_user_namespaces"),
        _ => String::new(),
    }
}

fn limit(name: &str) -> String {
    let found = fs::read_to_string(format!("/proc/sys/user/{name}")).unwrap_or_default();
    format!(": there are as many as may be (user.{name} is {})", found.trim())
}

/// Whether a system call filter stands around this process.
fn is_filtered() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter_map(|line| line.strip_prefix("Seccomp:")).any(|mode| mode.trim() != "0")
}

/// Makes a new network namespace usable: this process is in it.
fn inside(net: &Net) -> Result<Inside, EnterError> {
    loopback::up().map_err(EnterError::at("bring up the loopback interface of the network namespace"))?;
    let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .map_err(EnterError::at("listen inside the network namespace"))?;
    let mut names: Vec<(SocketAddr, UdpSocket, TcpListener)> = Vec::new();
    for resolver in &net.resolvers {
        let address = reached(resolver.ip());
        let known = names.iter().any(|(known, ..)| reached(known.ip()) == address);
        if known || is_of_a_link(resolver) {
            continue;
        }
        match listen(address) {
            Ok((udp, tcp)) => names.push((*resolver, udp, tcp)),
            // Nobody can ask there then; other resolvers, and the relay, still answer.
            Err(_) if address.is_ipv6() && !loopback::has_ipv6() => {}
            Err(source) => return Err(EnterError::at("take questions for the machine's resolver")(source)),
        }
    }
    Ok(Inside { relay, names })
}

/// Where a question to a resolver's address arrives.
fn reached(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// Whether it is asked on an interface that the namespace does not have.
fn is_of_a_link(resolver: &SocketAddr) -> bool {
    matches!(resolver, SocketAddr::V6(v6) if v6.scope_id() != 0 || v6.ip().is_unicast_link_local())
}

fn listen(address: IpAddr) -> io::Result<(UdpSocket, TcpListener)> {
    const PORT: u16 = 53;
    if !address.is_loopback() {
        loopback::add(address)?;
    }
    let listeners = (UdpSocket::bind((address, PORT))?, TcpListener::bind((address, PORT))?);
    if address.is_ipv6() {
        loopback::reached(&listeners.1)?;
    }
    Ok(listeners)
}

impl Inside {
    /// What the descriptors are.
    pub fn description(&self) -> Description {
        Description { resolvers: self.names.iter().map(|(resolver, ..)| *resolver).collect() }
    }

    /// The descriptors, to be handed over.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let names = self.names.iter().flat_map(|(_, udp, tcp)| [udp.as_fd(), tcp.as_fd()]);
        std::iter::once(self.relay.as_fd()).chain(names).collect()
    }

    /// What was handed over, on the other side.
    ///
    /// # Errors
    /// The descriptors are not as described.
    pub fn receive(description: &Description, descriptors: Vec<OwnedFd>) -> io::Result<Inside> {
        let unfit = || io::Error::other("the listeners of the network namespace are not as described");
        if descriptors.len() != 1 + 2 * description.resolvers.len() {
            return Err(unfit());
        }
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().ok_or_else(unfit);
        let relay = TcpListener::from(next()?);
        let mut names = Vec::new();
        for resolver in &description.resolvers {
            names.push((*resolver, UdpSocket::from(next()?), TcpListener::from(next()?)));
        }
        Ok(Inside { relay, names })
    }

    /// Where the relay is found from inside.
    ///
    /// # Errors
    /// It is no socket.
    pub fn relay_address(&self) -> io::Result<SocketAddr> {
        self.relay.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_handed_over_in_order() {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let bound = || (UdpSocket::bind(loopback(0)).unwrap(), TcpListener::bind(loopback(0)).unwrap());
        let (udp, tcp) = bound();
        let expected = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let inside = Inside { relay: bound().1, names: vec![("192.0.2.1:53".parse().unwrap(), udp, tcp)] };
        let relay = inside.relay_address().unwrap();
        let copies = || inside.descriptors().iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
        let text = serde_json::to_string(&inside.description()).unwrap();
        let description: Description = serde_json::from_str(&text).unwrap();
        let received = Inside::receive(&description, copies()).unwrap();
        assert_eq!(received.relay_address().unwrap(), relay);
        let (resolver, udp, tcp) = &received.names[0];
        assert_eq!(resolver.to_string(), "192.0.2.1:53");
        assert_eq!((udp.local_addr().unwrap(), tcp.local_addr().unwrap()), expected);
        let mut more: Vec<OwnedFd> = copies();
        more.pop();
        assert!(Inside::receive(&description, more).is_err());
    }

    #[test]
    fn resolvers_of_a_link_are_left_out() {
        for (text, is) in [
            ("[fe80::1%2]:53", true),
            ("[fe80::1]:53", true),
            ("[2001:db8::1]:53", false),
            ("192.0.2.1:53", false),
        ] {
            assert_eq!(is_of_a_link(&text.parse().unwrap()), is, "{text}");
        }
        assert_eq!(reached("::ffff:192.0.2.1".parse().unwrap()).to_string(), "192.0.2.1");
        assert_eq!(reached("0.0.0.0".parse().unwrap()).to_string(), "127.0.0.1");
    }
}
