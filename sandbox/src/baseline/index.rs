//! Finding behaviours again: by kind, and by where.

use std::collections::HashMap;

use policy::learn::{Known, KnownFault};

use super::fact::{Classes, Doing, Fact, Kind, Object};

/// The places of behaviours in a list.
#[derive(Clone, Debug, Default)]
pub struct Index {
    kinds: HashMap<Kind, Objects>,
}

#[derive(Clone, Debug, Default)]
struct Objects {
    places: Known<(usize, String)>,
    texts: HashMap<String, usize>,
    count: u64,
}

impl Index {
    /// Adds the behaviour at this place of the list.
    ///
    /// # Errors
    /// It is there already, or its object cannot be read.
    pub fn insert(&mut self, kind: &Kind, what: &str, at: usize) -> Result<(), KnownFault> {
        let objects = self.kinds.entry(kind.clone()).or_default();
        objects.count += 1;
        if kind.access.is_at_places() {
            return objects.places.insert(what, (at, what.to_owned()));
        }
        match objects.texts.insert(what.to_owned(), at) {
            None => Ok(()),
            Some(_) => Err(KnownFault::Twice),
        }
    }

    /// Which behaviour a fact is.
    pub fn find(&self, fact: &Fact) -> Option<usize> {
        let objects = self.kinds.get(&fact.kind)?;
        match &fact.object {
            Object::Place(place) if fact.kind.access.is_at_places() => {
                objects.places.find(place).map(|(at, _)| *at)
            }
            object => object.texts().iter().find_map(|text| objects.texts.get(text).copied()),
        }
    }

    /// How many behaviours there are of a kind.
    pub fn count(&self, kind: &Kind) -> u64 {
        self.kinds.get(kind).map_or(0, |objects| objects.count)
    }

    /// How a program is called: as it is among those that were executed, else by its own place.
    pub fn program(&self, path: &[u8], classes: &Classes) -> String {
        let Some(place) = classes.place(path) else { return String::from_utf8_lossy(path).into_owned() };
        let executed = self.kinds.get(&Kind::new("exec", Doing::Run));
        match executed.and_then(|objects| objects.places.find(&place)) {
            Some((_, pattern)) => pattern.clone(),
            None => place.pattern(),
        }
    }
}
