//! What lines with the same keys have in common, written once.

use std::ops::Range;

use super::draft::{EventWriter, Links, ValueWriter};
use crate::canonical::{Field, WriteError};

/// A line with places for the values that differ from line to line. Its keys were proven when it was made.
#[derive(Clone, Debug)]
pub struct Template {
    text: Vec<u8>,
    /// Where the values belong in the text, ascending.
    values: Vec<usize>,
    links: Links,
    /// How many values stand before each link.
    before: [usize; 3],
}

/// The length of what mostly stands between two values, at most.
const SHORT: usize = 32;

/// Takes the keys of a [`Template`], ascending.
#[derive(Debug)]
pub struct TemplateWriter<'t, 'b>(&'t mut EventWriter<'b>);

impl TemplateWriter<'_, '_> {
    /// Writes a key whose value is the same on every line.
    pub fn put<'v>(&mut self, key: &str, value: impl Into<Field<'v>>) {
        self.0.put(key, value);
    }

    /// Writes a key whose value differs.
    pub fn leave(&mut self, key: &str) {
        self.0.leave(key);
    }
}

impl Template {
    /// Made of the keys that `fill` pushes, ascending; not those of the chain.
    ///
    /// # Errors
    /// A mistake in the keys.
    pub fn new(fill: impl FnOnce(&mut TemplateWriter<'_, '_>)) -> Result<Self, WriteError> {
        let mut text = Vec::new();
        let mut event = EventWriter::new(&mut text);
        fill(&mut TemplateWriter(&mut event));
        let (links, values) = event.finish()?;
        let before =
            [links.prev, links.itself, links.seq].map(|link| values.partition_point(|at| *at <= link));
        Ok(Template { text, values, links, before })
    }

    /// Writes a line behind `bytes`, and says where its links are.
    #[inline]
    pub(super) fn write(
        &self,
        bytes: &mut Vec<u8>,
        mut value: impl FnMut(usize, &mut ValueWriter<'_>),
    ) -> Links {
        let Template { text, values, links, before: [prev, itself, seq] } = self;
        let begin = bytes.len();
        let mut copied = 0;
        // Up to a value, and the value. Returns by how much what follows has moved.
        let mut values_in = |bytes: &mut Vec<u8>, range: Range<usize>| {
            for number in range {
                let end = values[number];
                match text[copied..].first_chunk::<SHORT>() {
                    // A copy of a fixed length takes a few instructions.
                    Some(short) if end - copied <= SHORT => {
                        let behind = bytes.len() + end - copied;
                        bytes.extend_from_slice(short);
                        bytes.truncate(behind);
                    }
                    _ => bytes.extend_from_slice(&text[copied..end]),
                }
                copied = end;
                value(number, &mut ValueWriter(bytes));
            }
            bytes.len() - begin - copied
        };
        let links = Links {
            prev: links.prev + values_in(bytes, 0..*prev),
            itself: links.itself + values_in(bytes, *prev..*itself),
            seq: links.seq + values_in(bytes, *itself..*seq),
        };
        values_in(bytes, *seq..values.len());
        bytes.extend_from_slice(&text[copied..]);
        links
    }
}
