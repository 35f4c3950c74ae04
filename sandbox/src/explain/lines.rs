//! Groups as lines of JSON: what `sandbox why --json` prints, and what a run is told of itself.
//!
//! A line is a flat object in the form of the log ([`audit_verify::canonical`]): keys ascending, ASCII, bytes that
//! are no UTF-8 as `\udcXX`. `docs/why.md` lists the keys.

use audit_verify::canonical::{ObjectWriter, Record};

use super::group::{Effect, Group, Matter};
use crate::record::time;

/// The key of the last line, where not every denial has a group.
const MORE: &str = "more_denials";

/// A line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A group.
    Group(Box<Group>),
    /// Denied attempts that no line stands for.
    More(u64),
}

/// Writes a group as a line, with its newline.
pub fn write(group: &Group, out: &mut Vec<u8>) {
    let Group { matter, count, first_ns, last_ns, programs, more_programs, remedy } = group;
    let mut object = ObjectWriter::new(out);
    object.list("accesses", &matter.accesses).put("action", matter.effect.action());
    let text = |value: &Option<String>| value.as_ref().map(|text| text.clone().into_bytes());
    let optional = |object: &mut ObjectWriter<'_>, key: &str, value: Option<Vec<u8>>| {
        if let Some(value) = value {
            object.put(key, value.as_slice());
        }
    };
    optional(&mut object, "address", text(&matter.address));
    object.list("allow", remedy.iter().flatten());
    optional(&mut object, "because", text(&matter.because));
    object.put("count", *count).put("event_type", matter.kind.as_str()).list("exes", programs);
    object.put("exes_truncated", *more_programs);
    optional(&mut object, "family", text(&matter.family));
    object.put("first", time::format(*first_ns).as_str());
    optional(&mut object, "host", text(&matter.host));
    object.put("last", time::format(*last_ns).as_str());
    object.put("layer", matter.layer.as_str());
    if matter.own {
        object.put("own", true);
    }
    optional(&mut object, "path", matter.path.clone());
    optional(&mut object, "path2", matter.path2.clone());
    if let Some(port) = matter.port {
        object.put("port", port);
    }
    optional(&mut object, "proto", text(&matter.protocol));
    optional(&mut object, "reason", text(&matter.reason));
    optional(&mut object, "rule", text(&matter.rule));
    // The keys are constants in order.
    let _ = object.finish();
    out.push(b'\n');
}

/// Writes the line about those that no group stands for, if there are any.
pub fn write_more(more: u64, out: &mut Vec<u8>) {
    if more > 0 {
        let mut object = ObjectWriter::new(out);
        object.put(MORE, more);
        let _ = object.finish();
        out.push(b'\n');
    }
}

/// Reads a line without its newline; `None` for one that is none of ours.
pub fn read(line: &[u8]) -> Option<Line> {
    let record = Record::parse(line).ok()?;
    if let Some(more) = record.uint(MORE) {
        return Some(Line::More(more));
    }
    let text = |key| record.bytes(key).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let bytes = |key| record.bytes(key).map(<[u8]>::to_vec);
    let words = |key| {
        let list = record.list(key)?.iter();
        Some(list.map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>())
    };
    let matter = Matter {
        effect: Effect::of_action(record.text("action")?)?,
        kind: text("event_type")?,
        rule: text("rule"),
        because: text("because"),
        reason: text("reason"),
        layer: text("layer")?,
        accesses: words("accesses")?,
        path: bytes("path"),
        path2: bytes("path2"),
        address: text("address"),
        port: record.uint("port").and_then(|port| u16::try_from(port).ok()),
        protocol: text("proto"),
        host: text("host"),
        own: record.flag("own").unwrap_or(false),
        family: text("family"),
    };
    Some(Line::Group(Box::new(Group {
        matter,
        count: record.uint("count")?,
        first_ns: time::parse(record.bytes("first")?)?,
        last_ns: time::parse(record.bytes("last")?)?,
        programs: record.list("exes")?.to_vec(),
        more_programs: record.flag("exes_truncated")?,
        remedy: Some(words("allow")?),
    })))
}
