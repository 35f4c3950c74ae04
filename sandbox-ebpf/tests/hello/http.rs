//! Requests of HTTP/1.

use sandbox_ebpf::hello::{MAX_HEAD, flag, outcome};

use crate::{agreed, cut_everywhere, make::Client, one, refused};

/// The names of the requests, none of which is refused.
fn names(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    cut_everywhere(bytes);
    agreed(bytes)
        .into_iter()
        .map(|decision| match decision.outcome {
            outcome::NAME => String::from_utf8(decision.name).expect("a name is ASCII"),
            outcome::NO_NAME => "-".into(),
            outcome => format!("{outcome}"),
        })
        .collect()
}

fn not_known(text: &[u8]) {
    assert_eq!(one(text).outcome, outcome::NOT_KNOWN, "{}", text.escape_ascii());
}

#[test]
fn host_is_the_name() {
    for (head, name) in [
        ("GET / HTTP/1.1\r\nHost: good.example\r\n\r\n", "good.example"),
        (
            "GET /a?b=//c:d@e HTTP/1.1\r\nAccept: */*\r\nhOSt:\t Good.Example:8080 \t\r\nX:\r\n\r\n",
            "good.example",
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: good.example.\r\n\r\n", "good.example"),
        ("get /HTTP/ HTTP/1.0\r\nHost:a\r\n\r\n", "a"),
        ("GET / HTTP/1.0\r\n\r\n", "-"),
        ("GET / HTTP/1.1\r\nHostile: a\r\nX-Host: b\r\nHos: c\r\n\r\n", "-"),
        ("GET / HTTP/1.1\r\nHost: [2001:DB8::1]:80\r\n\r\n", "2001:db8::1"),
        ("GET / HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n", "192.0.2.1"),
        ("GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "a"),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "a"),
        ("GET http://Good.Example:80/x HTTP/1.1\r\nHost: good.example\r\n\r\n", "good.example"),
        ("GET http://good.example HTTP/1.0\r\n\r\n", "good.example"),
        ("GET ws+x://good.example?y HTTP/1.1\r\nHost: good.example.:90\r\n\r\n", "good.example"),
        ("GET http://[::1]/ HTTP/1.1\r\n\r\n", "::1"),
        ("CONNECT good.example:443 HTTP/1.1\r\nHost: good.example:443\r\n\r\n", "good.example"),
        ("CONNECT [::1]:443 HTTP/1.0\r\nContent-Length: 0\r\n\r\n", "::1"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: A.\r\n\r\n", "a"),
    ] {
        assert_eq!(names(head), [name], "{head:?}");
        assert_eq!(one(head.as_bytes()).flags & flag::HTTP, flag::HTTP);
    }
}

#[test]
fn what_servers_read_in_two_ways_is_refused() {
    for head in [
        // Which of the two?
        "GET / HTTP/1.1\r\nHost: good\r\nHost: evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good\r\nHost: goods\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good\r\nHost: goo\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good, evil\r\n\r\n",
        "GET http://evil/ HTTP/1.1\r\nHost: good\r\n\r\n",
        "CONNECT evil:443 HTTP/1.1\r\nHost: good\r\n\r\n",
        "GET http://good@evil/ HTTP/1.1\r\nHost: good\r\n\r\n",
        "GET http://good:80@evil/ HTTP/1.1\r\nHost: good\r\n\r\n",
        "GET http://good\\@evil/ HTTP/1.1\r\nHost: good\r\n\r\n",
        "GET http://good#evil/ HTTP/1.1\r\nHost: good\r\n\r\n",
        "GET http:///x HTTP/1.1\r\nHost: good\r\n\r\n",
        "GET http:good HTTP/1.1\r\nHost: good\r\n\r\n",
        "GET good HTTP/1.1\r\nHost: good\r\n\r\n",
        "GET *x HTTP/1.1\r\nHost: good\r\n\r\n",
        "CONNECT good:443/x HTTP/1.1\r\n\r\n",
        "CONNECT /x HTTP/1.1\r\nHost: good\r\n\r\n",
        // Where does the name end?
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: :80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good/evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good:80x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good:800000\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good\0evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [good]\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]good\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n",
        // Where does the line end?
        "GET / HTTP/1.1\r\nHost: good\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: good\r\n\r\n",
        "GET / HTTP/1.1\nHost: good\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good\n\r\n",
        "GET / HTTP/1.1\r\nHost: good\r\nX: a\nHost: evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good\r\nX: a\rHost: evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good\r\nX: a\x0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good\r\n\rX\r\n",
        // Where does the header's name end?
        "GET / HTTP/1.1\r\nHost : good\r\n\r\n",
        "GET / HTTP/1.1\r\nHost\r\n\r\n",
        "GET / HTTP/1.1\r\n: good\r\n\r\n",
        "GET / HTTP/1.1\r\nHo\0st: good\r\n\r\n",
        // Is it a request?
        "GET / HTTP/1.2\r\nHost: good\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: good\r\n\r\n",
        "GET / http/1.1\r\nHost: good\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: good\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: good\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: good\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: good\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: good\r\n\r\n",
        "GET /\tHTTP/1.1\r\nHost: good\r\n\r\n",
        "GET\x0b/\x0bHTTP/1.1\r\nHost: good\r\n\r\n",
        "GET /\r HTTP/1.1\r\nHost: good\r\n\r\n",
        "GET / hthttp/1.1\r\nHost: good\r\n\r\n",
        // Where does it begin? Servers leave out line ends (nginx, node) and white space (Python, Twisted).
        "\nGET / HTTP/1.1\r\nHost: good\r\n\r\n",
        "\rGET / HTTP/1.1\r\nHost: good\r\n\r\n",
        "\r\r\nGET / HTTP/1.1\r\nHost: good\r\n\r\n",
        "\r\n\nGET / HTTP/1.1\r\nHost: good\r\n\r\n",
        " \t\x0b\x0c\x1c\x1f GET / HTTP/1.1\r\nHost: good\r\n\r\n",
        "\n POST http://evil/ HTTP/1.0\r\n\r\n",
        "\nGET /\n",
        // HTTP/0.9
        "GET /\r\n",
        "GET /\n",
        "GET\t/\n",
        "GET http://evil/\r\n",
    ] {
        refused(head.as_bytes());
    }
    refused(b"\xa0GET / HTTP/1.1\r\nHost: good\r\n\r\n");
    refused(b"\x85GET / HTTP/1.1\r\nHost: good\r\n\r\n");
    assert_eq!(names("\r\nGET / HTTP/1.1\r\nHost: good\r\n\r\n"), ["good"]);
}

#[test]
fn other_protocols_are_not_known() {
    for text in [
        &b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"[..],
        b"PRI * HTTP/2.0\r\n",
        b"EHLO client.example\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"PING\n",
        b"get key\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"\x10\x0c\0\x04MQTT",
        b"AMQP\0\0\x09\x01",
        b"{\"jsonrpc\"",
        b" GET\n",
        b"\nX\n",
        b"\rX\n",
        b"\n\x16",
        b"\xa0..x\n",
        b"GET\r\n",
        b"CONNECT {\"verbose\":false}\r\n",
    ] {
        not_known(text);
    }
    assert_eq!(one(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").flags, flag::HTTP2);
    assert_eq!(agreed(b"SSH-2.0-OpenSSH_9.2p1"), []);
    assert_eq!(agreed(b"\n\r\n \t"), []);
}

#[test]
fn heads_have_an_end() {
    let head = |length: usize| {
        let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
        head.resize(length - 4, b'x');
        head.extend(b"\r\n\r\n");
        head
    };
    assert_eq!(one(&head(MAX_HEAD as usize)).outcome, outcome::NAME);
    refused(&head(MAX_HEAD as usize + 1));
    refused(&[b'A'; MAX_HEAD as usize + 1]);
    refused(&[b"GET /".as_slice(), &[b'A'; MAX_HEAD as usize]].concat());
}

#[test]
fn requests_follow_each_other() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\nGET /\
        \r\n\r\nPUT / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nHost: c\r\n\r\n5\r\nGET /\r\n0a\r\n0123456789\r\n0\r\n\
        X: y\r\n\r\nHEAD / HTTP/1.0\r\n\r\n";
    assert_eq!(names(text), ["a", "b", "c", "-"]);
    for body in [
        // Which length holds?
        "Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
        "Content-Length: 5, 5\r\n\r\nabcde",
        "Content-Length: +5\r\n\r\nabcde",
        "Content-Length: \r\n\r\n",
        "Content-Length: 5 5\r\n\r\nabcde",
        "Content-Length: 99999999999999999999\r\n\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunke\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding:\r\n\r\n0\r\n\r\n",
        // Where does the chunk end?
        "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nabcde\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nabcdef\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n 5\r\nabcde\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\nX: a\nb\r\n\r\n",
        // Behind a request nothing but another one.
        "\r\n\x16\x03\x01",
        "\r\n\0",
        "\r\nSSH-2.0-x\r\n",
        "\r\nPRI * HTTP/2.0\r\n",
        "Content-Length: 2\r\n\r\nabc\r\n",
    ] {
        refused(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}").as_bytes());
    }
    refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    refused(b"CONNECT a:1 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx");
    refused(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\nHost: a\r\n\r\n");
}

#[test]
fn a_tunnel_and_another_protocol_begin_anew() {
    let connect = b"CONNECT good:443 HTTP/1.1\r\n\r\n".to_vec();
    let decisions = |more: &[u8]| {
        let bytes = [connect.clone(), more.to_vec()].concat();
        let decisions = agreed(&bytes);
        assert_eq!(
            (decisions[0].name.as_slice(), decisions[0].flags),
            (&b"good"[..], flag::HTTP | flag::TUNNEL)
        );
        decisions[1].clone()
    };
    let inner = decisions(&Client::naming(b"other").bytes());
    assert_eq!((inner.name.as_slice(), inner.flags), (&b"other"[..], flag::TLS | flag::TUNNEL));
    let inner = decisions(b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n");
    assert_eq!((inner.name.as_slice(), inner.flags), (&b"evil"[..], flag::HTTP | flag::TUNNEL));
    let inner = decisions(b"SSH-2.0-x\r\n");
    assert_eq!((inner.outcome, inner.flags), (outcome::NOT_KNOWN, flag::TUNNEL));

    let upgrade = b"GET / HTTP/1.1\r\nHost: good\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let frame = agreed(&[upgrade, &b"\x81\x85\x01\x02\x03\x04"[..]].concat());
    assert_eq!((frame[0].outcome, frame[0].flags), (outcome::NAME, flag::HTTP | flag::UPGRADE));
    assert_eq!((frame[1].outcome, frame[1].flags), (outcome::NOT_KNOWN, flag::UPGRADE));
    // It was not taken up: what follows is a request, and ends the permission.
    refused(&[upgrade, &b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n\x81\x85"[..]].concat());
}
