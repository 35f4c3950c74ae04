//! Proof that namespaces hold on this machine now, for this user: a child goes in, finds what is outside gone, and what
//! listens inside is the runner's.
//!
//! Nothing of this process changes. It must have one thread.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::time::Duration;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use serde::{Deserialize, Serialize};

use super::{Description, Inside, Namespaces, Net, enter};
use crate::launch::handshake::{self, Channel, Received};
use crate::layers::selftest::HELD;
use crate::record::SelfTest;

/// How long the other side of the proof may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// An address that stands in no network (RFC 5737), as one that only a route leads to.
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// What the child found; errnos, or 0 for what succeeded.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Found {
    /// It could not go in.
    Nothing(String),
    /// The listeners travel along.
    Inside { description: Description, elsewhere: i32, outside: i32, outside_name: i32 },
}

/// Makes a network namespace and looks out of it; gives each check with what was found.
///
/// # Errors
/// Why there can be none, in words.
pub fn net() -> Result<Vec<SelfTest>, String> {
    tried().map_err(|error| format!("its self-test cannot be run: {error}"))?
}

fn tried() -> io::Result<Result<Vec<SelfTest>, String>> {
    // Two: the relay inside may get the port of one.
    let outside =
        [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
    let addresses = [outside[0].local_addr()?, outside[1].local_addr()?];
    let name = UnixAddr::from_abstract_name(format!("sandbox-selftest-{}-namespace", std::process::id()))?;
    let _outside_name = UnixListener::bind_addr(&name)?;
    // The controls: both are there.
    for address in &addresses {
        drop(TcpStream::connect_timeout(address, PATIENCE)?);
    }
    drop(UnixStream::connect_addr(&name)?);
    let (parent, child) = handshake::pair::<(), Found>()?;
    // SAFETY: this process has one thread (see the module), and the child ends by _exit.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(parent);
            let done = look(&child, addresses, &name).is_ok();
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(i32::from(!done)) }
        }
        ForkResult::Parent { child: pid } => {
            drop(child);
            let found = found(&parent);
            drop(parent);
            let _ = waitpid(pid, None);
            found
        }
    }
}

/// In the child: goes in, tries, tells, and then talks to the listener that it handed over.
fn look(to: &Channel<Found, ()>, outside: [SocketAddr; 2], name: &UnixAddr) -> io::Result<()> {
    let entered = enter(&Namespaces { net: Some(Net::default()) });
    let inside = match entered {
        Ok(Some(inside)) => inside,
        Ok(None) => return Err(io::ErrorKind::Unsupported.into()),
        Err(error) => return to.send(&Found::Nothing(format!("{:#}", anyhow::Error::new(error)))),
    };
    let relay = inside.relay_address()?;
    let outside = outside.into_iter().find(|address| address.port() != relay.port());
    let found = Found::Inside {
        description: inside.description(),
        elsewhere: errno(TcpStream::connect(ELSEWHERE)),
        outside: outside.map_or(libc::EIO, |address| errno(reached(address))),
        outside_name: errno(UnixStream::connect_addr(name)),
    };
    to.send_with(&found, &inside.descriptors())?;
    let mut relay = TcpStream::connect_timeout(&relay, PATIENCE)?;
    relay.set_read_timeout(Some(PATIENCE))?;
    relay.write_all(b"?")?;
    relay.read_exact(&mut [0])
}

/// Connects to somebody else: a connection whose own port happens to be the one that it goes to meets itself.
fn reached(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    match stream.local_addr()? == stream.peer_addr()? {
        true => Err(io::Error::from_raw_os_error(libc::ECONNREFUSED)),
        false => Ok(stream),
    }
}

fn errno<T>(tried: io::Result<T>) -> i32 {
    tried.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO))
}

/// In the parent: what was told, and whether the listener inside can be served from here.
fn found(from: &Channel<(), Found>) -> io::Result<Result<Vec<SelfTest>, String>> {
    let (told, descriptors) = match from.receive()? {
        Received::Message(told, descriptors) => (told, descriptors),
        Received::Closed => return Ok(Err("the process that tried it ended".to_owned())),
    };
    let (description, elsewhere, outside, outside_name) = match told {
        Found::Nothing(why) => return Ok(Err(why)),
        Found::Inside { description, elsewhere, outside, outside_name } => {
            (description, elsewhere, outside, outside_name)
        }
    };
    let served = serve(&Inside::receive(&description, descriptors)?);
    let check = |check: &str, holds: bool, otherwise: String| SelfTest {
        check: check.to_owned(),
        result: if holds { HELD.to_owned() } else { otherwise },
    };
    let said = |errno: i32| match errno {
        0 => "it was reached".to_owned(),
        errno => io::Error::from_raw_os_error(errno).to_string(),
    };
    Ok(Ok(vec![
        check("other addresses", elsewhere == libc::ENETUNREACH, said(elsewhere)),
        check("the machine's loopback", outside == libc::ECONNREFUSED, said(outside)),
        check("abstract sockets", outside_name == libc::ECONNREFUSED, said(outside_name)),
        check(
            "the relay's listener",
            served.is_ok(),
            served.err().map(|e| e.to_string()).unwrap_or_default(),
        ),
    ]))
}

/// Takes a connection from inside, and answers it.
fn serve(inside: &Inside) -> io::Result<()> {
    let listener =
        [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&inside.relay), nix::poll::PollFlags::POLLIN)];
    let mut ready = listener;
    let wait = u16::try_from(PATIENCE.as_millis()).unwrap_or(u16::MAX);
    if nix::poll::poll(&mut ready, wait)? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let (mut stream, peer) = inside.relay.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_exact(&mut [0])?;
    stream.write_all(b"!")?;
    match peer.ip() {
        IpAddr::V4(v4) if v4.is_loopback() => Ok(()),
        _ => Err(io::Error::other("it was reached from elsewhere")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(checks: Result<Vec<SelfTest>, String>) -> bool {
        checks.is_ok_and(|checks| checks.len() == 4 && checks.iter().all(|check| check.result == HELD))
    }

    /// Runs `act` in a child that has one thread, as uid 65534 where that is asked for.
    fn in_child(user: bool, act: fn() -> bool) -> bool {
        // SAFETY: the child is a copy with one thread; what it does needs no lock that another thread could hold but the
        // allocator's, which glibc's fork takes care of.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let dropped = !user || drop_to_nobody().is_ok();
                let done = dropped && act();
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(i32::from(!done)) }
            }
            ForkResult::Parent { child } => {
                matches!(waitpid(child, None), Ok(nix::sys::wait::WaitStatus::Exited(_, 0)))
            }
        }
    }

    fn drop_to_nobody() -> nix::Result<()> {
        let (uid, gid) = (nix::unistd::Uid::from_raw(65534), nix::unistd::Gid::from_raw(65534));
        nix::unistd::setgroups(&[gid])?;
        nix::unistd::setresgid(gid, gid, gid)?;
        nix::unistd::setresuid(uid, uid, uid)?;
        // As for a process that was started so.
        nix::sys::prctl::set_dumpable(true)
    }

    fn is_root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    #[test]
    fn root_has_a_network_namespace() {
        if is_root() {
            assert!(in_child(false, || holds(net())));
        }
    }

    #[test]
    fn an_ordinary_user_has_one_too() {
        if is_root()
            && std::fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|n| n.trim() != "0")
        {
            assert!(in_child(true, || holds(net())));
        }
    }

    /// After exec nothing is left of the power over the namespace, and ids are what they were.
    #[test]
    fn a_user_keeps_ids_and_has_no_capabilities_after_exec() {
        fn act() -> bool {
            if enter(&Namespaces { net: Some(Net::default()) }).is_err() {
                return false;
            }
            let script = "test \"$(id -u):$(id -g)\" = 65534:65534 && grep -q '^CapEff:[[:space:]]*0*$' /proc/self/status \
                          && grep -qx deny /proc/self/setgroups && test \"$(wc -l < /proc/net/route)\" -le 1";
            let shell = [c"/bin/sh".to_owned(), c"-c".to_owned(), std::ffi::CString::new(script).unwrap()];
            let _ = nix::unistd::execv(c"/bin/sh", &shell);
            false
        }
        if is_root() {
            assert!(in_child(true, act));
        }
    }

    #[test]
    fn resolvers_addresses_are_there_and_nothing_around_them() {
        fn act() -> bool {
            let resolvers =
                ["10.1.2.3:53", "127.0.0.53:53", "[2001:db8::53]:53", "[fe80::1%2]:53", "10.1.2.3:53"];
            let resolvers = resolvers.iter().map(|text| text.parse().unwrap()).collect();
            let Ok(Some(inside)) = enter(&Namespaces { net: Some(Net { resolvers }) }) else { return false };
            let told: Vec<String> =
                inside.names.iter().map(|(resolver, ..)| resolver.ip().to_string()).collect();
            let ipv6 = super::super::loopback::has_ipv6();
            let reached = |address: &str| errno(TcpStream::connect(address));
            told.iter()
                .map(String::as_str)
                .eq(["10.1.2.3", "127.0.0.53", "2001:db8::53"].into_iter().take(if ipv6 { 3 } else { 2 }))
                && reached("10.1.2.3:53") == 0
                && (!ipv6 || reached("[2001:db8::53]:53") == 0)
                && reached("10.1.2.4:53") == libc::ENETUNREACH
                && reached("10.1.2.3:80") == libc::ECONNREFUSED
        }
        if is_root() {
            assert!(in_child(false, act));
            assert!(in_child(true, act));
        }
    }
}
