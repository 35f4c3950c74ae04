//! The decoder of plans, and the reader of their tables: any bytes are refused or read to an end.

use policy::compile::lsm::{NetEnd, Sets, Tables};
use policy::{Access, Digest, Protocol};

/// Decodes the bytes as the tables of a plan and asks them everything; true where they were tables.
pub fn run(data: &[u8]) -> bool {
    let Ok(tables) = Tables::from_bytes(data) else { return false };
    assert_eq!(Tables::from_bytes(&tables.to_bytes()).as_ref(), Ok(&tables), "written and read again");
    let all = Access::ALL.into_iter().collect();
    for sets in [Sets::UNKNOWN, Sets::FIRST] {
        for path in [b"/".as_slice(), b"/etc/shadow", b"/a/b/c.pem", &[0xff; 300]] {
            let _ = tables.denied_at(&sets, all, path);
            let _ = tables.denied_exec(&sets, path, Some(&Digest([0xaa; 32])));
            let _ = tables.sets_of(Some(path), &sets);
            let _ = tables.keeps_below(path, b"/a");
        }
        for protocol in Protocol::ALL {
            let nodes = [tables.host_node("a.example.com").unwrap_or(1)];
            let address = [127, 0, 0, 1].into();
            let end = NetEnd::Address { address, port: 80, protocol, nodes: &nodes, own: true };
            let _ = tables.denied_to(&sets, all, &end);
        }
        for end in [NetEnd::Path(b"/run/x.sock"), NetEnd::Abstract(b"x"), NetEnd::Other] {
            let _ = tables.denied_to(&sets, all, &end);
        }
    }
    true
}
