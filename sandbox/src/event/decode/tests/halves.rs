//! Calls of which two records tell: a verdict or the names first, the result after it.

use super::*;

/// A hook's record.
fn check(kind: Kind, judgement: Judgement, part: &[u8]) -> RawEvent {
    changed(raw(kind, "openat", 0, [part, b"", b"", b""]), |header| {
        header.judgement = judgement as u8;
        header.access = access::READ;
        if judgement == Judgement::WouldBlock {
            header.flags = flag::RESULT_FOLLOWS;
        }
    })
}

#[test]
fn verdicts_alone() {
    let blocked = decode(check(Kind::OpenCheck, Judgement::Blocked, b"/etc/shadow"));
    assert_eq!(details(&blocked), "file_open access=[read] flags=0 layer=lsm path=/etc/shadow ret=-13");
    assert_eq!(blocked.event.action, Action::Blocked);
    assert_eq!((blocked.facts.judgement, blocked.facts.access), (Judgement::Blocked, access::READ));
    let allowed = decode(check(Kind::OpenCheck, Judgement::Allowed, b"/x"));
    assert_eq!(
        details(&allowed),
        "file_open access=[read] flags=0 layer=lsm path=/x",
        "the result is not known"
    );
    assert_eq!(allowed.event.action, Action::Allowed);
    let exec = decode(check(Kind::ExecCheck, Judgement::Blocked, b"/usr/bin/wget"));
    assert_eq!(details(&exec), "exec layer=lsm path=/usr/bin/wget ret=-13");
    let connect = changed(check(Kind::ConnectCheck, Judgement::Blocked, &inet([1, 2, 3, 4], 5)), |header| {
        header.args = [3, 2, 1, 6];
        header.access = net_access::CONNECT.into();
    });
    let connect = decode(connect);
    assert_eq!(
        details(&connect),
        "net_connect dst_ip=1.2.3.4 dst_port=5 family=inet layer=lsm proto=tcp ret=-1"
    );
    assert_eq!(connect.facts.net_access, net_access::CONNECT);
    let cause = changed(check(Kind::OpenCheck, Judgement::Blocked, b""), |header| {
        header.cause = Cause::PathTooLong as u8
    });
    let cause = decode(cause);
    assert_eq!(
        details(&cause),
        "file_open access=[read] flags=0 layer=lsm reason=the path is too long to be judged ret=-13"
    );
    assert_eq!(cause.facts.cause, Cause::PathTooLong);
}

fn told(decoder: &mut Decoder, record: RawEvent) -> Vec<String> {
    let mut out = Vec::new();
    decoder.decode(record, 0, &mut out).unwrap();
    out.iter().map(|decoded| format!("{} {}", decoded.event.action.name(), details(decoded))).collect()
}

#[test]
fn a_verdict_and_its_result_are_one_event() {
    let mut decoder = Decoder::new();
    let would = || check(Kind::OpenCheck, Judgement::WouldBlock, b"/etc/shadow");
    let result = |ret| {
        changed(raw(Kind::Open, "openat", ret, [b"other\0", b"", b"", b""]), |header| {
            header.flags = flag::FOLLOWS_CHECK;
            header.judgement = Judgement::WouldBlock as u8;
        })
    };
    assert!(told(&mut decoder, would()).is_empty());
    assert_eq!(
        told(&mut decoder, result(3)),
        ["WOULD_BLOCK file_open access=[read] flags=0 layer=lsm path=/etc/shadow ret=3"]
    );
    assert!(told(&mut decoder, would()).is_empty());
    let aside = changed(check(Kind::OpenCheck, Judgement::Blocked, b"/x"), |header| header.kseq = 8);
    assert_eq!(told(&mut decoder, aside).len(), 1, "a verdict that stands for itself");
    assert_eq!(
        told(&mut decoder, result(-24)),
        ["WOULD_BLOCK file_open access=[read] flags=0 layer=lsm path=/etc/shadow ret=-24"]
    );
    let exec = raw(Kind::Exec, "", 0, [b"w\0", b"sh", b"dash\0bin\0", b"sh\0"]);
    assert!(told(&mut decoder, check(Kind::ExecCheck, Judgement::WouldBlock, b"/bin/dash")).is_empty());
    assert_eq!(
        told(&mut decoder, changed(exec, |header| header.flags = flag::FOLLOWS_CHECK)),
        [
            "WOULD_BLOCK exec argv=[sh] cwd=/w exe=/bin/dash exe_dev=0 exe_ino=0 layer=lsm path=/w/sh ret=0 target=/bin/dash"
        ]
    );
}

#[test]
fn a_hooks_names_take_the_place_of_those_taken_on_entry() {
    let mut decoder = Decoder::new();
    told(&mut decoder, entry(7));
    let judged = changed(raw(Kind::PathCheck, "rename", 0, [b"/real/x", b"/real/y", b"", b""]), |header| {
        header.judgement = Judgement::Blocked as u8;
        header.flags = flag::FOLLOWS_CHECK | flag::RESULT_FOLLOWS;
        header.access = access::DELETE;
        header.args =
            [Kind::Rename as u64, access::CREATE.into(), access::READ.into(), libc::RENAME_EXCHANGE.into()];
    });
    assert!(told(&mut decoder, judged.clone()).is_empty());
    let result = changed(raw(Kind::Rename, "rename", -13, [b""; 4]), |header| {
        (header.flags, header.judgement) = (flag::FOLLOWS_CHECK, Judgement::Blocked as u8);
        header.args[0] = libc::RENAME_EXCHANGE.into();
    });
    assert_eq!(
        told(&mut decoder, result),
        ["BLOCKED file_rename flags=2 layer=lsm path=/real/x path2=/real/y ret=-13"]
    );
    // Where nothing was taken on entry, and no result comes, the hook's word stands for itself.
    let mut out = Vec::new();
    decoder.decode(judged, 0, &mut out).unwrap();
    decoder.finish(0, &mut out);
    let [alone] = &out[..] else { panic!("{out:?}") };
    assert_eq!(details(alone), "file_rename flags=2 layer=lsm path=/real/x path2=/real/y ret=-13");
    let facts = alone.facts;
    assert_eq!(
        (facts.access, facts.access2, facts.gained),
        (access::DELETE, access::CREATE, Some(access::READ))
    );
}

#[test]
fn names_taken_on_entry_and_the_result_are_one_event() {
    let mut decoder = Decoder::new();
    assert!(told(&mut decoder, entry(7)).is_empty());
    let result = || {
        changed(raw(Kind::Rename, "rename", -18, [b""; 4]), |header| {
            header.flags = flag::FOLLOWS_CHECK;
            header.mono_ns = 2_000;
        })
    };
    assert_eq!(told(&mut decoder, result()), ["OBSERVED file_rename path=/a/x path2=/a/y ret=-18"]);
    assert_eq!(told(&mut decoder, result()), ["OBSERVED file_rename ret=-18"], "its names are lost");
}

#[test]
fn a_record_whose_result_never_comes_is_told_alone() {
    let alone = "OBSERVED file_rename path=/a/x path2=/a/y";
    let other = || changed(raw(Kind::Rmdir, "rmdir", 0, [b"", b"/x", b"", b""]), |header| header.kseq = 8);
    let mut decoder = Decoder::new();
    // Another record of the thread.
    told(&mut decoder, entry(7));
    let of_another_thread = changed(other(), |header| header.tid = 12);
    assert_eq!(told(&mut decoder, of_another_thread).len(), 1);
    assert_eq!(told(&mut decoder, other()), [alone, "OBSERVED dir_delete path=/x ret=0"]);
    // Another record that waits too.
    told(&mut decoder, entry(7));
    assert_eq!(told(&mut decoder, entry(9)), [alone]);
    // The end of the process, told by another thread.
    let exit = changed(raw(Kind::Exit, "", 0, [b""; 4]), |header| (header.kseq, header.tid) = (10, 12));
    assert_eq!(told(&mut decoder, exit), [alone, "OBSERVED exit exit_code=0"]);
    // The end of the run.
    told(&mut decoder, entry(7));
    let mut out = Vec::new();
    decoder.finish(0, &mut out);
    decoder.finish(0, &mut out);
    assert_eq!(out.len(), 1);
}

#[test]
fn a_call_that_takes_too_long_is_told_once() {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    told(&mut decoder, entry(7));
    decoder.expire(1_000 + HOLD_NS, 0, &mut out);
    assert!(out.is_empty());
    for _ in 0..2 {
        decoder.expire(1_001 + HOLD_NS, 0, &mut out);
        assert_eq!(out.len(), 1);
    }
    let late = changed(raw(Kind::Rename, "rename", 0, [b""; 4]), |header| header.flags = flag::FOLLOWS_CHECK);
    assert!(told(&mut decoder, late).is_empty(), "its attempt was told");
    decoder.finish(0, &mut out);
    assert_eq!(out.len(), 1);
}

#[test]
fn two_verdicts_of_one_call_are_two_events() {
    let mut decoder = Decoder::new();
    told(&mut decoder, check(Kind::ExecCheck, Judgement::WouldBlock, b"/a.sh"));
    assert_eq!(
        told(&mut decoder, check(Kind::ExecCheck, Judgement::WouldBlock, b"/bin/sh")),
        ["WOULD_BLOCK exec layer=lsm path=/a.sh"]
    );
}
