//! PID 1 of the guest: mounts what a Linux system has, runs one command, says how it ended, powers off.
//!
//! Every failure is a line on the console and no end line, which the host takes as failure. It does not
//! restart anything, and knows nothing of what the command does.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, sync};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use vm_tests::wire::{ORDERS, Orders, Outcome, RESULT_PORT};

/// File system type, where, options.
const MOUNTS: &[(&str, &str, &str)] = &[
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", "mode=755"),
    ("devpts", "/dev/pts", "mode=620,ptmxmode=666"),
    ("tmpfs", "/dev/shm", "mode=1777"),
    ("tmpfs", "/tmp", "mode=1777"),
    ("tmpfs", "/run", "mode=755"),
    ("securityfs", "/sys/kernel/security", ""),
    ("tracefs", "/sys/kernel/tracing", ""),
    ("cgroup2", "/sys/fs/cgroup", ""),
    ("bpf", "/sys/fs/bpf", "mode=700"),
];

fn main() {
    if std::process::id() != 1 {
        eprintln!("guest-init: is PID 1 of a test guest, and nothing else");
        std::process::exit(2);
    }
    if let Err(error) = run() {
        eprintln!("guest-init: {error:#}");
    }
    sync();
    // Returns only when it fails; the kernel then panics because PID 1 ends, which ends the guest too.
    let _ = reboot(RebootMode::RB_POWER_OFF);
}

fn run() -> Result<()> {
    mount_all()?;
    // The kernel makes the root of an initramfs world-writable.
    fs::set_permissions("/", Permissions::from_mode(0o755)).context("cannot set the mode of /")?;
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, format!("/dev/{link}")).with_context(|| format!("cannot make /dev/{link}"))?;
    }
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +memory +pids")
        .context("cannot enable controllers")?;
    nix::unistd::sethostname("guest").context("cannot set the host name")?;
    loopback_up().context("cannot bring up lo")?;
    let bytes = fs::read(ORDERS).with_context(|| format!("cannot read {ORDERS}"))?;
    let Some(orders) = Orders::decode(&bytes) else { bail!("{ORDERS} holds no orders") };
    fs::remove_file(ORDERS).with_context(|| format!("cannot remove {ORDERS}"))?;
    let port = open_port().with_context(|| format!("cannot open {RESULT_PORT}"))?;
    let outcome = run_command(&orders, &port)?;
    writeln!(&port, "{}", outcome.end_line(&orders.token)).context("cannot write the end line")?;
    termios::tcdrain(&port).context("cannot drain the result port")?;
    Ok(())
}

fn mount_all() -> Result<()> {
    for (kind, path, options) in MOUNTS {
        fs::create_dir_all(path).with_context(|| format!("cannot make {path}"))?;
        let flags = MsFlags::MS_NOSUID;
        mount(Some(*kind), *path, Some(*kind), flags, Some(*options))
            .with_context(|| format!("cannot mount {kind} on {path}"))?;
    }
    Ok(())
}

fn open_port() -> Result<File> {
    let port = OpenOptions::new().read(true).write(true).open(RESULT_PORT)?;
    let mut settings = termios::tcgetattr(&port)?;
    termios::cfmakeraw(&mut settings);
    termios::tcsetattr(&port, termios::SetArg::TCSANOW, &settings)?;
    Ok(port)
}

/// Sets IFF_UP on lo; the kernel then gives it 127.0.0.1/8 and ::1.
fn loopback_up() -> io::Result<()> {
    // SAFETY: socket(2) takes no pointers; the descriptor is checked before it is owned.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: ifreq is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives through the call.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs the command with its output on the port, reaps whatever becomes init's child, and when the command
/// has ended kills what it left.
fn run_command(orders: &Orders, port: &File) -> Result<Outcome> {
    let (mut reader, writer) = io::pipe().context("cannot make a pipe")?;
    let mut command = Command::new(&orders.argv[0]);
    command.args(&orders.argv[1..]).env_clear();
    command.envs([
        ("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"),
        ("HOME", "/root"),
        ("USER", "root"),
        ("TERM", "dumb"),
    ]);
    command.current_dir("/root").stdin(Stdio::null());
    command.stdout(writer.try_clone().context("cannot copy a pipe")?).stderr(writer);
    let spawned = command.spawn();
    drop(command); // holds the writing ends
    let child = match spawned {
        Ok(child) => Pid::from_raw(child.id().cast_signed()),
        Err(error) => {
            writeln!(&*port, "guest-init: cannot run {}: {error}", orders.argv[0])?;
            return Ok(Outcome::NotStarted(error.raw_os_error().unwrap_or(0)));
        }
    };
    let mut copy = port.try_clone().context("cannot copy the result port")?;
    let copier = std::thread::spawn(move || copy_output(&mut reader, &mut copy));
    let outcome = reap_until(child)?;
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => return Err(error).context("cannot kill what the command left"),
    }
    while waitpid(None, None) != Err(Errno::ECHILD) {}
    match copier.join() {
        Ok(done) => done.context("cannot write to the result port")?,
        Err(_) => bail!("the copier of the output panicked"),
    }
    Ok(outcome)
}

/// Waits for every child that ends, until it is this one.
fn reap_until(child: Pid) -> Result<Outcome> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => return Ok(Outcome::Exited(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                return Ok(Outcome::Signaled(signal as i32));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for the command"),
        }
    }
}

/// Copies until the last writer is gone; ends with a newline, so that the end line has a line of its own.
fn copy_output(from: &mut impl Read, port: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut last = b'\n';
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        port.write_all(&buffer[..count])?;
        last = buffer[count - 1];
    }
    if last == b'\n' { Ok(()) } else { port.write_all(b"\n") }
}
