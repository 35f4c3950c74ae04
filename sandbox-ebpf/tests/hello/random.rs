//! Generated, damaged and random bytes: the machine agrees with the oracle, and never panics.

use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::{
    agreed,
    make::{Client, record, records, server_name},
    read_cut,
};

fn names() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => select(vec![&b"good.example"[..], b"Good.Example.", b"evil.example", b"192.0.2.1", b"::1"])
            .prop_map(<[u8]>::to_vec),
        1 => "[a-zA-Z0-9._:-]{0,12}".prop_map(String::into_bytes),
    ]
}

fn extension() -> impl Strategy<Value = (u16, Vec<u8>)> {
    prop_oneof![
        2 => names().prop_map(|name| (0, server_name(&name))),
        3 => (select(vec![42u16, 0xfe0d, 16, 43, 51]), vec(any::<u8>(), 0..40)),
    ]
}

fn client() -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 0..33), vec(any::<u8>(), 0..6), option::weighted(0.9, vec(extension(), 0..4))).prop_map(
        |(session, mut suites, extensions)| {
            suites.extend([1, 2]);
            suites.truncate(suites.len() & !1);
            Client { version: 0x303, session, suites, methods: vec![0], extensions }.message()
        },
    )
}

fn stream_of_records() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => (client(), vec(0..200usize, 0..4)).prop_map(|(message, mut cuts)| {
            cuts.retain(|&cut| cut < message.len());
            cuts.sort_unstable();
            records(&message, &cuts)
        }),
        2 => (select(vec![20u8, 21, 23, 22, 24]), vec(any::<u8>(), 0..50)).prop_map(|(kind, body)| record(kind, &body)),
    ];
    (client(), vec(piece, 0..4)).prop_map(|(first, more)| {
        let mut bytes = records(&first, &[]);
        bytes.extend(more.concat());
        bytes
    })
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let line = select(vec![
        "GET / HTTP/1.1",
        "GET / HTTP/1.0",
        "POST /x HTTP/1.1",
        "GET http://good.example/ HTTP/1.1",
        "GET http://evil.example:80 HTTP/1.1",
        "CONNECT good.example:443 HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "PRI * HTTP/2.0",
        "GET /",
        "EHLO x",
    ]);
    let header = select(vec![
        "Host: good.example",
        "host:Good.Example:80",
        "Host: evil.example",
        "Host: [::1]:1",
        "X: y",
        "Cookie: 0123456789abcdef; 0123456789abcdef; 0123456789abcdef",
        "X:",
        "Content-Length: 4",
        "Content-Length: 0",
        "Transfer-Encoding: chunked",
        "Upgrade: websocket",
        " folded",
    ]);
    let end = select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n"]);
    let body =
        select(vec!["", "abcd", "4\r\nabcd\r\n0\r\n\r\n", "0\r\n\r\n", "\r\n", "\x16\x03\x01", "\x01"]);
    (line, vec((header, end), 0..4), body).prop_map(|(line, headers, body)| {
        let mut text = format!("{line}\r\n");
        for (header, end) in headers {
            text.extend([header, end]);
        }
        text.extend(["\r\n", body]);
        text.into_bytes()
    })
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        stream_of_records(),
        vec(request(), 1..4).prop_map(|requests| requests.concat()),
        (vec(request(), 1..3), stream_of_records())
            .prop_map(|(requests, rest)| [requests.concat(), rest].concat()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(4_000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn streams_agree(bytes in stream(), cuts in vec(any::<prop::sample::Index>(), 0..4)) {
        let expected = agreed(&bytes);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(read_cut(&bytes, &cuts), expected);
    }

    #[test]
    fn damaged_streams_agree(
        mut bytes in stream(),
        damage in vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), select(b"\0\r\n \t:/.@[]HTP01\x16".to_vec())]), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let expected = agreed(&bytes);
        let cut = cut.index(bytes.len());
        prop_assert_eq!(read_cut(&bytes, &[cut]), expected);
        agreed(&bytes[..cut]);
    }

    #[test]
    fn random_bytes_agree(
        first in select(b"\x16\x80\xffGPC\r\n0".to_vec()),
        bytes in vec(prop_oneof![any::<u8>(), select(b"\x03\x01\0 /HTP1.:\r\n".to_vec())], 0..200),
    ) {
        let bytes = [vec![first], bytes].concat();
        let expected = agreed(&bytes);
        prop_assert_eq!(read_cut(&bytes, &[]), expected);
    }
}
