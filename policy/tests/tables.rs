//! Tables that nobody compiled: reading them ends, whatever they hold.

mod generate;

use generate::{FILES, address, network_rule, parse, path, path_rule, section};
use policy::compile::lsm::{self, NetEnd, SetTable, Sets, Tables};
use policy::{Access, Digest, Protocol};
use proptest::prelude::*;

/// Reads the tables in every way.
fn read(tables: &Tables, path: &[u8], address: std::net::IpAddr, port: u16) {
    let all = Access::ALL.into_iter().collect();
    for sets in [Sets::UNKNOWN, Sets::FIRST] {
        let _ = tables.denied_at(&sets, all, path);
        let _ = tables.denied_exec(&sets, path, Some(&Digest([0xaa; 32])));
        let _ = tables.sets_of(Some(path), &sets);
        for protocol in Protocol::ALL {
            let nodes = [tables.host_node("a.example.com").unwrap_or(9), u32::from(port)];
            let end = NetEnd::Address { address, port, protocol, nodes: &nodes, own: true };
            let _ = tables.denied_to(&sets, all, &end);
        }
        for end in [NetEnd::Path(path), NetEnd::Abstract(path), NetEnd::Other] {
            let _ = tables.denied_to(&sets, all, &end);
        }
    }
    let _ = tables.keeps_below(path, b"/a");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn tables_that_were_changed_are_read_to_an_end(
        files in prop::collection::vec(path_rule(FILES), 1..4),
        network in prop::collection::vec(network_rule(), 1..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200),
        tries in prop::collection::vec((path(), address(), any::<u16>()), 1..20),
    ) {
        let digests = format!("exec: {{ default: allow, rules: [{{ name: x, deny: [run], sha256: [{}], except: [\"/a/**\"] }}] }}\n", "aa".repeat(32));
        let text = format!("version: 1\nname: p\n{}{digests}{}", section("files", true, &files), section("network", true, &network));
        let plan = lsm::compile(&[&parse(&text)], 9, &mut SetTable::new()).unwrap();
        let mut bytes = plan.to_bytes();
        prop_assert_eq!(&Tables::from_bytes(&bytes).unwrap(), &plan.tables);
        // Mostly where something is: the header, the first cells behind it, and the end.
        let used = plan.cells.iter().rposition(|cell| *cell != 0).unwrap() * 8 + 20;
        for (at, byte) in changes {
            let end = bytes.len();
            let at = if byte % 4 == 0 { end - 1 - at.index(end - plan.cells.len() * 8) } else { 20 + at.index(used - 20) };
            bytes[at] = byte;
        }
        if let Ok(tables) = Tables::from_bytes(&bytes) {
            for (path, address, port) in tries {
                read(&tables, &path, address, port);
            }
        }
    }

    #[test]
    fn any_cells_are_read_to_an_end(
        seed in any::<u64>(),
        small in any::<bool>(),
        tries in prop::collection::vec((path(), address(), any::<u16>()), 1..10),
    ) {
        let text = "version: 1\nname: p\nfiles: { default: deny }\n";
        let plan = lsm::compile(&[&parse(text)], 9, &mut SetTable::new()).unwrap();
        let mut bytes = plan.to_bytes();
        let mut state = seed | 1;
        for byte in &mut bytes[20..] {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            // Small numbers, so that some of them name cells that are there.
            *byte = if small && state >> 60 > 2 { 0 } else { (state >> 33) as u8 };
        }
        let tables = Tables::from_bytes(&bytes).unwrap();
        for (path, address, port) in tries {
            read(&tables, &path, address, port);
        }
    }
}
