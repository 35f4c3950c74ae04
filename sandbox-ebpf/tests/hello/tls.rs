//! ClientHellos.

use sandbox_ebpf::hello::{flag, outcome};

use crate::{
    agreed, cut_everywhere,
    make::{Client, record, records, server_name},
    one, oracle, read, refused,
};

/// Hellos of OpenSSL 3.0 and of rustls with aws-lc, as they send them.
const REAL: [(&[u8], &[u8]); 5] = [
    (include_bytes!("fixtures/rustls-pq.bin"), b"www.example.com"),
    (include_bytes!("fixtures/rustls-classic.bin"), b"www.example.com"),
    (include_bytes!("fixtures/openssl.bin"), b"www.example.com"),
    (include_bytes!("fixtures/openssl-tls12.bin"), b"api.example.com"),
    (include_bytes!("fixtures/openssl-no-name.bin"), b""),
];

fn name_of(bytes: &[u8]) -> Vec<u8> {
    let decision = one(bytes);
    assert_eq!((decision.outcome, decision.flags), (outcome::NAME, flag::TLS));
    decision.name
}

fn naming(name: &[u8]) -> Vec<u8> {
    Client::naming(name).bytes()
}

#[test]
fn real_hellos_are_read_wherever_they_are_cut() {
    for (bytes, name) in REAL {
        let decision = one(bytes);
        assert_eq!(decision.name, name);
        assert_eq!(decision.outcome, if name.is_empty() { outcome::NO_NAME } else { outcome::NAME });
        cut_everywhere(bytes);
    }
    // rustls leaves the name of an address out.
    assert_eq!(one(include_bytes!("fixtures/rustls-ip.bin")).outcome, outcome::NO_NAME);
}

#[test]
fn records_may_cut_a_hello_anywhere() {
    for (bytes, _) in REAL {
        let expected = agreed(bytes);
        let message = &bytes[5..];
        for cut in 0..message.len() {
            assert_eq!(agreed(&records(message, &[cut])), expected);
        }
        let single = records(message, &(0..message.len()).collect::<Vec<_>>());
        assert_eq!(agreed(&single), expected);
        cut_everywhere(&records(message, &[1, 2, 5, 60]));
    }
}

#[test]
fn large_hellos_are_read_to_the_end() {
    let mut extensions = vec![(51, vec![1; 1216 + 38]), (21, vec![0; 15_000])];
    extensions.push((0, server_name(b"large.example")));
    let message = Client::with(extensions).message();
    assert!(message.len() > 16_000);
    assert_eq!(name_of(&records(&message, &[16_000])), b"large.example");
    let longest = |more: usize| {
        Client::with(vec![(21, vec![0; 40_000]), (22, vec![0; 25_000 + more]), (0, server_name(b"x"))])
    };
    let spare = 65_536 - longest(0).message().len() + 4;
    let cuts = [16_384, 32_768, 49_152, 65_536];
    assert_eq!(name_of(&records(&longest(spare).message(), &cuts)), b"x");
    refused(&records(&longest(spare + 1).message(), &cuts));
}

#[test]
fn names_become_normal() {
    for (sent, name) in [
        (&b"Example.COM"[..], &b"example.com"[..]),
        (b"example.com.", b"example.com"),
        (b"xn--bcher-kva.example", b"xn--bcher-kva.example"),
        (b"_dmarc.a-b.example", b"_dmarc.a-b.example"),
        (b"localhost", b"localhost"),
        (b"192.0.2.1", b"192.0.2.1"),
        (b"2001:DB8::1", b"2001:db8::1"),
        (b"::ffff:192.0.2.1", b"::ffff:192.0.2.1"),
        (&[b'a'; 255], &[b'a'; 255]),
    ] {
        assert_eq!(name_of(&naming(sent)), name);
    }
}

#[test]
fn what_is_no_name_is_refused() {
    for name in [
        &b""[..],
        b".",
        b"..",
        b".example",
        b"a..example",
        b"example..",
        b"good.example\0.evil.example",
        b"good.example ",
        b"good.example/",
        b"*.example",
        b"user@good.example",
        b"good.example:443",
        b"[::1]",
        b"b\xc3\xbccher.example",
        b"a%00b",
        &[b'a'; 256],
    ] {
        refused(&naming(name));
    }
}

#[test]
fn lists_that_are_not_one_name_are_refused() {
    let with = |extension: &[u8]| Client::with(vec![(0, extension.to_vec())]).bytes();
    refused(&with(b""));
    refused(&with(b"\0\0"));
    // Two names, in one list and in two extensions.
    refused(&with(b"\0\x08\0\0\x01a\0\0\x01b"));
    refused(&Client::with(vec![(0, server_name(b"a")), (0, server_name(b"a"))]).bytes());
    // Another type of name, alone and before a name.
    refused(&with(b"\0\x04\x01\0\x01a"));
    refused(&with(b"\0\x08\x01\0\x01a\0\0\x01b"));
    // Bytes behind the list, and behind the name.
    refused(&with(b"\0\x04\0\0\x01ab"));
    refused(&with(b"\0\x05\0\0\x01ab"));
    // Lengths that reach beyond.
    refused(&with(b"\0\x04\0\0\x02a"));
    refused(&with(b"\0\x05\0\0\x01a"));
}

#[test]
fn lengths_that_lie_are_refused() {
    let good = naming(b"good.example");
    // Each length of the handshake message, made smaller and larger.
    for at in [8, 43, 77, 82, 85, 89, 96, 98, 101] {
        for change in [-1i8, 1] {
            let mut bytes = good.clone();
            bytes[at] = bytes[at].wrapping_add_signed(change);
            bytes.extend(record(23, &[0; 64]));
            refused(&bytes);
        }
    }
    // A block of extensions that ends early, or late.
    let mut client = Client::naming(b"good.example");
    client.extensions = Some(Vec::new());
    assert_eq!(one(&client.bytes()).outcome, outcome::NO_NAME);
    client.extensions = None;
    assert_eq!(one(&client.bytes()).outcome, outcome::NO_NAME);
    client.suites = vec![1];
    refused(&client.bytes());
    client.suites = Vec::new();
    refused(&client.bytes());
    client = Client { session: vec![0; 33], ..Client::naming(b"good.example") };
    refused(&client.bytes());
    client = Client { methods: Vec::new(), ..Client::naming(b"good.example") };
    refused(&client.bytes());
    client = Client { version: 0x403, ..Client::naming(b"good.example") };
    refused(&client.bytes());
}

#[test]
fn records_that_no_hello_has_are_refused() {
    let hello = naming(b"good.example");
    for kind in [0, 20, 21, 23, 24, 255] {
        // In the middle of a hello.
        let message = &hello[5..];
        let mut bytes = record(22, &message[..50]);
        bytes.extend(record(kind, &[1]));
        bytes.extend(record(22, &message[50..]));
        refused(&bytes);
    }
    // Before it: there are servers that leave out an alert.
    for kind in [20, 21, 23, 24] {
        refused(&[record(kind, &[1, 0]), hello.clone()].concat());
        assert_eq!(one(&[kind, 2]).outcome, outcome::NOT_KNOWN);
    }
    refused(b"\x16\x03\x01\0\0");
    refused(b"\x16\x03\x01\x40\x01");
    assert_eq!(agreed(b"\x16\x03\x01\x40\0"), []);
    // Another message than a ClientHello.
    for kind in [0, 2, 11, 16, 20, 254] {
        let mut bytes = hello.clone();
        bytes[5] = kind;
        refused(&bytes);
    }
    // Not the version of any TLS, in the first record and in a later one.
    assert_eq!(one(b"\x16\x02\x00\x00\x30").outcome, outcome::NOT_KNOWN);
    let mut bytes = record(22, &hello[5..50]);
    bytes.extend(b"\x16\x02");
    refused(&bytes);
    // SSL 2.0, and something that only begins like it.
    refused(b"\x80\x2e\x01\x03\x01");
    assert_eq!(one(b"\xf9\xbe\xb4\xd9").outcome, outcome::NOT_KNOWN);
}

#[test]
fn what_the_name_does_not_tell_is_flagged() {
    let decision =
        one(&Client::with(vec![(0xfe0d, vec![0; 200]), (0, server_name(b"outer.example"))]).bytes());
    assert_eq!(decision.flags, flag::TLS | flag::ECH);
    let decision = one(&Client::with(vec![(0, server_name(b"a.example")), (42, Vec::new())]).bytes());
    assert_eq!(decision.flags, flag::TLS | flag::EARLY);
}

#[test]
fn a_second_hello_has_the_same_name() {
    let first = naming(b"good.example");
    let changed = record(20, &[1]);
    let alert = record(21, &[1, 90]);
    let join = |parts: &[&[u8]]| parts.concat();
    for between in [&b""[..], &changed, &alert] {
        let same = join(&[&first, between, &naming(b"GOOD.example.")]);
        assert_eq!(name_of(&same), b"good.example");
        cut_everywhere(&same);
        for other in [&b"evil.example"[..], b"good.exampl", b"good.example1", b"good.example.a", b"good"] {
            refused(&join(&[&first, between, &naming(other)]));
        }
        refused(&join(&[&first, between, &Client::with(Vec::new()).bytes()]));
        refused(&join(&[&Client::with(Vec::new()).bytes(), between, &first]));
        // A third one.
        refused(&join(&[&first, between, &first, &naming(b"evil.example")]));
    }
    // In the same record.
    let both = [&first[5..], &naming(b"evil.example")[5..]].concat();
    refused(&record(22, &both));
    // Behind early data, when the first hello has some.
    let early = Client::with(vec![(0, server_name(b"good.example")), (42, Vec::new())]).bytes();
    let data = record(23, &[9; 300]);
    refused(&join(&[&early, &changed, &data, &data, &naming(b"evil.example")]));
    cut_everywhere(&join(&[&early, &changed, &data, &first]));
}

#[test]
fn what_follows_a_hello_ends_the_reading() {
    let first = naming(b"good.example");
    let over = |bytes: &[u8]| {
        agreed(bytes);
        let (hello, decisions) = read(bytes);
        assert_eq!(decisions.len(), 1);
        hello.over == 1
    };
    assert!(!over(&first));
    assert!(!over(&[first.clone(), record(20, &[1])].concat()));
    // Encrypted data, or the rest of an older handshake.
    assert!(over(&[first.clone(), record(23, &[1; 40])].concat()));
    assert!(over(&[first.clone(), record(22, &[16, 0, 0, 33])].concat()));
    // An encrypted Finished behind change_cipher_spec, whatever its bytes are.
    for begin in [&[0, 0, 0, 0][..], &[1, 9, 9, 9], &[1, 0, 9, 9, 0x77, 1], &[77, 1, 2, 3]] {
        let mut finished = begin.to_vec();
        finished.resize(40, 0xaa);
        assert!(over(&[first.clone(), record(20, &[1]), record(22, &finished)].concat()));
    }
    refused(&[first, record(99, &[1])].concat());
}

#[test]
fn a_name_that_is_not_whole_is_compared_by_the_oracle_too() {
    let both = [naming(b"good.example"), naming(b"good.exbmple")].concat();
    for cut in 0..both.len() {
        agreed(&both[..cut]);
    }
    assert!(!oracle::read(&both).open);
}
