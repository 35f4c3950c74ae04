//! What was made of a run's events, with a machine that answers what it is told to.

use std::collections::HashMap;

use super::*;
use crate::event::Action;

const RUN: ProcId = ProcId { pid: 7, start_ns: 70 };

/// A machine, and what comes while it is looked at.
#[derive(Default)]
struct Machine {
    seen: HashMap<&'static str, Seen>,
    looks: Vec<String>,
    later: Vec<Decoded>,
    flying: Option<&'static str>,
    flood: bool,
    away: HashSet<u32>,
    gone: HashSet<u32>,
    now_ns: u64,
}

impl Machine {
    fn with(seen: &[(&'static str, Seen)]) -> Machine {
        Machine { seen: seen.iter().cloned().collect(), ..Machine::default() }
    }
}

impl World for Machine {
    fn look(&mut self, path: &[u8], _: i64) -> Seen {
        let path = std::str::from_utf8(path).unwrap();
        self.looks.push(path.to_owned());
        self.seen.get(path).cloned().unwrap_or(Seen::Directory)
    }

    fn at_home(&mut self, process: ProcId) -> Option<bool> {
        (!self.gone.contains(&process.pid)).then(|| !self.away.contains(&process.pid))
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn more(&mut self, to: &mut VecDeque<Decoded>) -> bool {
        to.extend(self.later.drain(..));
        !self.flood
    }

    fn in_flight(&self, is: &dyn Fn(&[u8]) -> bool) -> bool {
        self.flying.is_some_and(|name| is(name.as_bytes()))
    }
}

/// An event of a call that took absolute names.
fn call(event_type: EventType, names: &[&str], ret: i64) -> Decoded {
    let mut details = vec![(Key::Ret, Value::Int(ret))];
    let mut ways = [None; 2];
    for ((key, name), way) in [Key::Path, Key::Path2].into_iter().zip(names).zip(&mut ways) {
        details.push((key, Value::Bytes(name.as_bytes().to_vec())));
        let text = key == Key::Path2 && event_type == EventType::FileSymlink;
        let last = match event_type {
            EventType::FileMode => Last::Followed,
            _ => Last::Itself,
        };
        *way = (!text).then_some(Way { known: 0, last });
    }
    let action = Action::Observed;
    let event = Event { event_type, action, wall_ns: 0, mono_ns: 0, kseq: 1, process: RUN, details };
    Decoded { event, facts: Facts { ways, ..Facts::default() } }
}

fn opened(path: &str) -> Decoded {
    let mut open = call(EventType::FileOpen, &[path], 3);
    open.facts.ways = [None; 2];
    open
}

fn symlink(at: &str, text: &str) -> Decoded {
    call(EventType::FileSymlink, &[at, text], 0)
}

fn rename(from: &str, to: &str) -> Decoded {
    call(EventType::FileRename, &[from, to], 0)
}

fn delete(path: &str) -> Decoded {
    call(EventType::FileDelete, &[path], 0)
}

/// What is told of each event: its paths, and a `?` where one is not known.
fn told(resolver: &mut Resolver, machine: &mut Machine, events: Vec<Decoded>) -> Vec<String> {
    let mut events = events;
    resolver.resolve(&mut events, machine);
    let told = events.iter().map(|Decoded { event, .. }| {
        let text = |key| String::from_utf8(bytes(event, key).unwrap_or_default().to_vec()).unwrap();
        let doubt = if event.get(Key::PathUnresolved).is_some() { " ?" } else { "" };
        format!("{}{doubt}", format!("{} {}", text(Key::Path), text(Key::Path2)).trim_end())
    });
    told.collect()
}

fn once(machine: &mut Machine, events: Vec<Decoded>) -> Vec<String> {
    told(&mut Resolver::default(), machine, events)
}

#[test]
fn a_link_of_the_runs_own_is_followed_though_it_has_gone() {
    let mut machine = Machine::with(&[("/w/l", Seen::Absent)]);
    let events =
        vec![opened("/w/p"), symlink("/w/l", "/home/auto"), rename("/w/p", "/w/l/evil"), delete("/w/l")];
    let expected = ["/w/p", "/w/l /home/auto", "/w/p /home/auto/evil", "/w/l"];
    assert_eq!(once(&mut machine, events), expected);
    assert_eq!(machine.looks, ["/home", "/home/auto"], "what the run told is not looked for");
}

#[test]
fn a_link_that_was_there_before_is_looked_at_and_remembered() {
    let mut machine = Machine::with(&[("/w/l", Seen::Link(b"t".into()))]);
    let mut resolver = Resolver::default();
    assert_eq!(told(&mut resolver, &mut machine, vec![delete("/w/l/x")]), ["/w/t/x"]);
    machine.seen.insert("/w/l", Seen::Absent);
    assert_eq!(told(&mut resolver, &mut machine, vec![delete("/w/l/y"), delete("/w/l")]), ["/w/t/y", "/w/l"]);
    assert_eq!(told(&mut resolver, &mut machine, vec![delete("/w/l/z")]), ["/w/l/z ?"]);
    let mut failed = call(EventType::FileDelete, &["/w/no/z"], -2);
    failed.event.wall_ns = 1;
    machine.seen.insert("/w/no", Seen::Absent);
    assert_eq!(told(&mut resolver, &mut machine, vec![failed]), ["/w/no/z"], "nothing was there then either");
}

#[test]
fn a_call_that_found_nothing_leaves_no_doubt() {
    // As mkdir -p does it: the last directory first, then those above it.
    for (errno, told) in [(libc::ENOENT, "/w/a/b"), (libc::ENOTDIR, "/w/a/b"), (libc::EACCES, "/w/a/b ?")] {
        let tried = call(EventType::DirCreate, &["/w/a/b"], -i64::from(errno));
        let made = call(EventType::DirCreate, &["/w/a"], 0);
        assert_eq!(once(&mut Machine::default(), vec![tried, made])[0], told, "{errno}");
    }
}

#[test]
fn what_the_run_did_since_makes_a_look_worthless() {
    // The directory that is there now was put in the place of a link.
    let mut swap = rename("/w/l", "/w/d");
    swap.event.set(Key::Flags, Value::Uint(libc::RENAME_EXCHANGE.into()));
    for later in [rename("/w/d", "/elsewhere/l"), swap, symlink("/w/l", "x"), opened_new("/w/l")] {
        let mut machine = Machine { later: vec![later.clone()], ..Machine::default() };
        assert_eq!(once(&mut machine, vec![delete("/w/l/x")])[0], "/w/l/x ?", "{later:?}");
        let mut machine = Machine::default();
        assert_eq!(once(&mut machine, vec![delete("/w/l/x"), later])[0], "/w/l/x ?");
    }
    let mut failed = rename("/w/d", "/w/l");
    failed.event.set(Key::Ret, Value::Int(-1));
    // What is there though its name was taken away was there before, or the name was taken after the look.
    for later in [failed, delete("/w/other"), delete("/w/l"), rename("/w/l", "/w/other")] {
        let mut machine = Machine { later: vec![later.clone()], ..Machine::default() };
        assert_eq!(once(&mut machine, vec![delete("/w/l/x")])[0], "/w/l/x", "{later:?}");
    }
    for (later, told) in [(call(EventType::DirDelete, &["/w/l"], 0), "/w/l/x"), (delete("/w/l"), "/w/l/x ?")]
    {
        let mut machine = Machine::with(&[("/w/l", Seen::Absent)]);
        machine.later.push(later);
        assert_eq!(
            once(&mut machine, vec![delete("/w/l/x")])[0],
            told,
            "only a directory is removed by rmdir(2)"
        );
    }
    let mut machine = Machine { flying: Some("l"), ..Machine::default() };
    assert_eq!(once(&mut machine, vec![delete("/w/l/x")]), ["/w/l/x ?"], "a call that has begun");
    let mut machine = Machine { flood: true, ..Machine::default() };
    assert_eq!(once(&mut machine, vec![delete("/w/l/x")]), ["/w/l/x ?"], "not all that came was seen");
}

fn opened_new(path: &str) -> Decoded {
    let mut open = call(EventType::FileCreate, &[path], 3);
    open.facts.ways = [None; 2];
    open
}

#[test]
fn what_a_doubtful_name_changed_is_not_known_any_more() {
    let mut machine = Machine::with(&[("/w/q", Seen::Absent), ("/w/l", Seen::Absent)]);
    let events = vec![symlink("/w/l", "/t"), delete("/w/q/l"), delete("/w/l/x")];
    assert_eq!(once(&mut machine, events), ["/w/l /t", "/w/q/l ?", "/w/l/x ?"]);
    let mut resolver = Resolver::default();
    told(&mut resolver, &mut machine, vec![symlink("/w/l", "/t")]);
    resolver.lost();
    assert_eq!(told(&mut resolver, &mut machine, vec![delete("/w/l/x")]), ["/w/l/x ?"]);
}

#[test]
fn failed_calls_change_nothing_and_links_at_the_end_are_followed_where_the_call_does() {
    let mut machine = Machine::default();
    let mut failed = symlink("/w/d", "/t");
    failed.event.set(Key::Ret, Value::Int(-17));
    let mode = |path| call(EventType::FileMode, &[path], 0);
    let events = vec![failed, symlink("/w/l", "f"), mode("/w/l"), mode("/w/d"), delete("/w/l")];
    assert_eq!(once(&mut machine, events)[1..], ["/w/l f", "/w/f", "/w/d", "/w/l"]);
}

#[test]
fn a_process_with_another_root_is_told_as_it_called() {
    let mut machine = Machine { away: [7].into(), ..Machine::default() };
    let mut resolver = Resolver::default();
    let mut near = delete("/w/x");
    near.facts.ways[0] = Some(Way { known: 2, last: Last::Itself });
    assert_eq!(told(&mut resolver, &mut machine, vec![delete("/w/l/x"), near]), ["/w/l/x ?", "/w/x"]);
    machine.gone.insert(7);
    assert_eq!(
        told(&mut resolver, &mut machine, vec![delete("/w/l/x")]),
        ["/w/l/x ?"],
        "the last answer counts"
    );
}
