//! Reads what a client sends through a tunnel for the server that it names, before it goes on.
//!
//! A tunnel that is open because of a name carries what is for that name only: the server_name of a TLS hello, and the
//! Host of HTTP/1 requests, each of those that follow each other. Until it is known which, nothing goes on. What is
//! open by its address is read for the record alone. The machine that reads is that of the programs
//! ([`sandbox_ebpf::hello`]); what it cannot see is written there: what is inside of encryption, the inner hello of ECH
//! among it, whose outer name counts.

use sandbox_ebpf::hello::{Hello, flag, outcome};

/// Most bytes that wait for a decision; a hello of the greatest size in the smallest records has more.
const MAX_HELD: usize = 256 * 1024;

/// What a port is for, as far as that says what must be readable there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Open by its address: it is only read.
    Observe,
    /// Open by a name, at a port where other protocols than TLS and HTTP/1 are spoken: these name nobody, and pass.
    Named,
    /// Open by a name, at the port of TLS: what names nobody does not pass.
    NamedTls,
}

impl Strictness {
    /// Of a connection that is open by a name, to this port.
    pub fn of_named(port: u16) -> Self {
        const HTTPS: u16 = 443;
        if port == HTTPS { Strictness::NamedTls } else { Strictness::Named }
    }
}

/// A server that was named, or that none was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// By which name; none where no server was named.
    pub name: Option<String>,
    /// `tls`, `http` or `tcp`.
    pub protocol: &'static str,
    /// The hello has an inner part that only the server can read.
    pub ech: bool,
    /// Why it does not pass, or what there is to say of it.
    pub reason: Option<&'static str>,
}

/// What becomes of bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// These go on.
    Pass(Vec<u8>),
    /// It is not known yet.
    Wait,
    /// Nothing goes on any more.
    Cut(Named),
}

/// Reads one tunnel.
#[derive(Debug)]
pub struct Reader {
    hello: Box<Hello>,
    strictness: Strictness,
    /// Names of which one must be told, in lower case.
    names: Vec<String>,
    seen: u32,
    held: Vec<u8>,
    first: Option<Named>,
}

impl Reader {
    /// For a tunnel that is open by these names.
    pub fn new(strictness: Strictness, names: Vec<String>) -> Self {
        Self { hello: Box::new(Hello::START), strictness, names, seen: 0, held: Vec::new(), first: None }
    }

    /// The first decision, once it is there and until it is taken.
    pub fn take_first(&mut self) -> Option<Named> {
        self.first.take()
    }

    /// Takes bytes of the client's.
    pub fn take(&mut self, bytes: &[u8]) -> Next {
        let mut at = 0;
        while at < bytes.len() && self.hello.over == 0 {
            let skipped = self.hello.skip((bytes.len() - at) as u64) as usize;
            at += skipped;
            let Some(byte) = bytes.get(at) else { break };
            self.hello.step(*byte);
            at += 1;
            if self.hello.decisions != self.seen {
                let first = self.seen == 0;
                self.seen = self.hello.decisions;
                let named = self.decided();
                if self.strictness != Strictness::Observe && !self.passes(&named) {
                    return Next::Cut(self.cut(named));
                }
                if first {
                    self.first = Some(named);
                }
            }
        }
        if self.strictness == Strictness::Observe {
            return Next::Pass(bytes.to_vec());
        }
        if self.seen == 0 {
            self.held.extend_from_slice(bytes);
            if self.held.len() > MAX_HELD {
                let reason = Some("it is too long to be read");
                return Next::Cut(Named { name: None, protocol: "tcp", ech: false, reason });
            }
            return Next::Wait;
        }
        // What waited for the first decision is passed with it; what comes later is read as a whole before it goes on.
        let mut pass = std::mem::take(&mut self.held);
        pass.extend_from_slice(bytes);
        Next::Pass(pass)
    }

    /// The client sends nothing more: whether what it sent was enough.
    pub fn end(&self) -> Option<Named> {
        let undecided = self.strictness != Strictness::Observe && self.seen == 0 && !self.held.is_empty();
        let reason = Some("it ended before it had named a server");
        undecided.then_some(Named { name: None, protocol: "tcp", ech: false, reason })
    }

    fn decided(&self) -> Named {
        let flags = self.hello.flags;
        let protocol = match flags {
            flags if flags & flag::TLS != 0 => "tls",
            flags if flags & flag::HTTP != 0 => "http",
            _ => "tcp",
        };
        let name = (self.hello.outcome == outcome::NAME)
            .then(|| String::from_utf8_lossy(self.hello.name()).into_owned());
        let reason = match self.hello.outcome {
            outcome::NO_NAME => Some("it names no server"),
            outcome::NOT_KNOWN => Some("neither TLS nor HTTP/1"),
            outcome::REFUSED => Some("it can be read in more than one way"),
            _ => None,
        };
        Named { name, protocol, ech: flags & flag::ECH != 0, reason }
    }

    fn passes(&self, named: &Named) -> bool {
        match (self.hello.outcome, self.strictness) {
            (outcome::NAME, _) => named.name.as_ref().is_some_and(|name| self.names.contains(name)),
            (outcome::NOT_KNOWN, Strictness::Named) => true,
            // Without TLS, whom it is for is all that there is to say; with it, a server shows its first one.
            (outcome::NO_NAME, Strictness::Named) => named.protocol != "tls",
            _ => false,
        }
    }

    fn cut(&mut self, named: Named) -> Named {
        self.held.clear();
        let another = named.name.is_some().then_some("another server than the one that it is open for");
        Named { reason: named.reason.or(another), ..named }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A ClientHello in one record, with this server name or none.
    fn hello(name: Option<&str>) -> Vec<u8> {
        let mut extensions = Vec::new();
        if let Some(name) = name {
            let length = name.len() as u16;
            extensions.extend([0, 0]);
            extensions.extend((length + 5).to_be_bytes());
            extensions.extend((length + 3).to_be_bytes());
            extensions.push(0);
            extensions.extend(length.to_be_bytes());
            extensions.extend(name.as_bytes());
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut record = vec![22, 3, 1];
        record.extend((body.len() as u16 + 4).to_be_bytes());
        record.extend([1, 0]);
        record.extend((body.len() as u16).to_be_bytes());
        record.extend(body);
        record
    }

    /// What goes on of bytes that come in parts of this size; an error where it is cut.
    fn through(strictness: Strictness, bytes: &[u8], size: usize) -> Result<Vec<u8>, Named> {
        let mut reader = Reader::new(strictness, vec!["good.example".to_owned()]);
        let mut passed = Vec::new();
        for part in bytes.chunks(size) {
            match reader.take(part) {
                Next::Pass(bytes) => passed.extend(bytes),
                Next::Wait => {}
                Next::Cut(named) => {
                    assert!(passed.len() < bytes.len());
                    return Err(named);
                }
            }
        }
        Ok(passed)
    }

    #[test]
    fn nothing_goes_on_before_the_name_is_known() {
        for size in [1, 2, 7, 1000] {
            for name in ["good.example", "GOOD.example"] {
                let bytes = [hello(Some(name)), vec![20, 3, 3, 0, 1, 1]].concat();
                assert_eq!(through(Strictness::NamedTls, &bytes, size).unwrap(), bytes, "{size}");
            }
            let mut reader = Reader::new(Strictness::NamedTls, vec!["good.example".to_owned()]);
            for part in hello(Some("bad.example")).chunks(size) {
                match reader.take(part) {
                    Next::Wait => {}
                    Next::Pass(_) => panic!("it passed"),
                    Next::Cut(named) => assert_eq!(named.name.as_deref(), Some("bad.example")),
                }
            }
        }
    }

    #[test]
    fn what_names_nobody() {
        let plain = b"SSH-2.0-client\r\n";
        assert_eq!(through(Strictness::Named, plain, 3).unwrap(), plain);
        assert!(through(Strictness::NamedTls, plain, 3).is_err());
        for strictness in [Strictness::Named, Strictness::NamedTls] {
            assert_eq!(through(strictness, &hello(None), 5).unwrap_err().reason, Some("it names no server"));
        }
        assert_eq!(
            through(Strictness::Observe, &hello(Some("x.example")), 5).unwrap(),
            hello(Some("x.example"))
        );
    }

    #[test]
    fn each_request_names_the_same_server() {
        let of = |host: &str| format!("POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\nabc");
        let same = of("good.example") + &of("Good.Example:80");
        for size in [1, 10, 500] {
            assert_eq!(through(Strictness::Named, same.as_bytes(), size).unwrap(), same.as_bytes());
            let other = of("good.example") + &of("bad.example");
            let named = through(Strictness::Named, other.as_bytes(), size).unwrap_err();
            assert_eq!((named.name.as_deref(), named.protocol), (Some("bad.example"), "http"));
        }
        let chunks = "POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(through(Strictness::Named, chunks.as_bytes(), 1).unwrap(), chunks.as_bytes());
    }

    #[test]
    fn an_end_before_a_decision() {
        let mut reader = Reader::new(Strictness::Named, vec!["good.example".to_owned()]);
        assert_eq!(reader.end(), None, "nothing was sent");
        assert_eq!(reader.take(b"GET"), Next::Wait);
        assert!(reader.end().is_some());
    }

    proptest! {
        #[test]
        fn what_goes_on_is_what_came(bytes in prop::collection::vec(any::<u8>(), 0..600), size in 1_usize..50) {
            for strictness in [Strictness::Observe, Strictness::Named, Strictness::NamedTls] {
                if let Ok(passed) = through(strictness, &bytes, size) {
                    prop_assert!(bytes.starts_with(&passed) || passed.is_empty());
                }
            }
        }

        #[test]
        fn a_hello_for_another_never_goes_on(name in "[a-z]{1,12}\\.example", size in 1_usize..80) {
            prop_assume!(name != "good.example");
            for strictness in [Strictness::Named, Strictness::NamedTls] {
                prop_assert!(through(strictness, &hello(Some(&name)), size).is_err());
            }
        }
    }
}
