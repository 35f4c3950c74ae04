//! What host and guest agree on: where init finds its orders, and the line that ends a boot.
//!
//! The end line carries a token that the host made for this boot, so that nothing a command prints can be
//! taken for it by accident. It is no defence against a command that reads the orders.

/// Where init finds its [`Orders`].
pub const ORDERS: &str = "/vm/orders";

/// The serial port that carries the command's output and the end line.
pub const RESULT_PORT: &str = "/dev/ttyS1";

/// Begins a line by which a suite asks for kernel parameters in the boot that follows it.
pub const NEXT_CMDLINE: &str = "next boot: ";

/// Begins the kernel parameter that says what generated tests start from.
pub const SEED: &str = "vm_tests.seed=";

/// The module of the kernel for the link between a guest and the network of `net-lab`.
pub const LINK: &str = "veth";

/// Modules for families of sockets that stock kernels do not have built in, each behind those that it needs.
pub const FAMILIES: &[&str] = &["vsock", "libcrc32c", "udp_tunnel", "ip6_udp_tunnel", "sctp"];

/// Modules of a file system that takes several spellings for one name, and of a disk to have it on, in the order in which
/// they are loaded.
pub const SPELLINGS: &[&str] = &["loop", "nls_cp437", "nls_ascii", "fat", "vfat"];

/// What init is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orders {
    /// Goes into the end line.
    pub token: String,
    /// The command and its arguments; never empty.
    pub argv: Vec<String>,
}

impl Orders {
    /// Each item followed by a NUL: the token, then the arguments.
    pub fn encode(&self) -> Vec<u8> {
        let items = std::iter::once(&self.token).chain(&self.argv);
        items.flat_map(|item| item.bytes().chain([0])).collect()
    }

    /// The reverse of [`Orders::encode`]; `None` when the bytes are no orders.
    pub fn decode(bytes: &[u8]) -> Option<Orders> {
        let text = std::str::from_utf8(bytes.strip_suffix(&[0])?).ok()?;
        let mut items = text.split('\0').map(str::to_owned);
        let orders = Orders { token: items.next()?, argv: items.collect() };
        (!orders.argv.is_empty()).then_some(orders)
    }
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// It could not be started: errno.
    NotStarted(i32),
}

impl Outcome {
    /// The exit code of a shell that ran the command.
    pub fn code(self) -> i32 {
        match self {
            Outcome::Exited(code) => code,
            Outcome::Signaled(signal) => 128 + signal,
            Outcome::NotStarted(libc::ENOENT) => 127,
            Outcome::NotStarted(_) => 126,
        }
    }

    /// The end line, without its newline.
    pub fn end_line(self, token: &str) -> String {
        let (how, number) = match self {
            Outcome::Exited(code) => ("exited", code),
            Outcome::Signaled(signal) => ("signaled", signal),
            Outcome::NotStarted(errno) => ("not-started", errno),
        };
        format!("vm-end {token} {how} {number}")
    }

    /// Reads an end line; `None` for any other line.
    pub fn parse_end_line(line: &[u8], token: &str) -> Option<Outcome> {
        let line = std::str::from_utf8(line).ok()?.trim_end();
        let (how, number) =
            line.strip_prefix("vm-end ")?.strip_prefix(token)?.trim_start().split_once(' ')?;
        let number = number.parse().ok()?;
        match how {
            "exited" => Some(Outcome::Exited(number)),
            "signaled" => Some(Outcome::Signaled(number)),
            "not-started" => Some(Outcome::NotStarted(number)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Orders, Outcome};

    #[test]
    fn orders_come_back_as_they_were() {
        let orders =
            Orders { token: "t1".into(), argv: vec!["/bin/x".into(), String::new(), "a b\n".into()] };
        assert_eq!(Orders::decode(&orders.encode()), Some(orders));
        assert_eq!(Orders::decode(b"t1\0"), None);
        assert_eq!(Orders::decode(b""), None);
    }

    #[test]
    fn only_this_boots_end_line_is_one() {
        for outcome in [Outcome::Exited(3), Outcome::Signaled(9), Outcome::NotStarted(2)] {
            let line = outcome.end_line("cafe");
            assert_eq!(Outcome::parse_end_line(format!("{line}\r\n").as_bytes(), "cafe"), Some(outcome));
            assert_eq!(Outcome::parse_end_line(line.as_bytes(), "beef"), None);
        }
        assert_eq!(Outcome::parse_end_line(b"vm-end cafe exited", "cafe"), None);
        assert_eq!(Outcome::parse_end_line(b"vm-end cafe exited x", "cafe"), None);
    }
}
