//! Numbers that look random and are the same each time: SplitMix64 (Steele, Lea, Flood 2014).

/// A stream of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// Words that people give names of.
const WORDS: [&str; 48] = [
    "amber", "anchor", "basil", "beacon", "birch", "candle", "cedar", "cipher", "comet", "copper", "coral",
    "delta", "ember", "falcon", "fennel", "garnet", "glade", "harbor", "hazel", "indigo", "ivory", "jasper",
    "juniper", "kestrel", "lagoon", "lantern", "linden", "maple", "marble", "meadow", "nectar", "nimbus",
    "olive", "onyx", "opal", "orchid", "pepper", "pine", "quartz", "raven", "saffron", "sierra", "slate",
    "thistle", "tundra", "velvet", "willow", "zephyr",
];

impl Random {
    /// The stream of one run: of a seed, a workload, what for, and the run's number.
    pub fn of(seed: u64, names: &[&str], number: usize) -> Self {
        let bytes = names.iter().flat_map(|name| name.bytes().chain([0]));
        let state = bytes.fold(seed, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut random = Self(state ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `from`, `from + 1`, … `to`.
    pub fn between(&mut self, from: usize, to: usize) -> usize {
        from + usize::try_from(self.next() % (to - from + 1) as u64).unwrap_or(0)
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    /// One of them.
    pub fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.between(0, from.len() - 1)]
    }

    /// In another order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.between(0, at));
        }
    }

    /// A word.
    pub fn word(&mut self) -> &'static str {
        WORDS[self.between(0, WORDS.len() - 1)]
    }

    /// So many words, none twice.
    pub fn words(&mut self, count: usize) -> Vec<&'static str> {
        let mut words = WORDS.to_vec();
        self.shuffle(&mut words);
        words.truncate(count);
        words
    }

    /// As mkstemp(3) makes names up.
    pub fn made_up(&mut self, characters: usize) -> String {
        let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        (0..characters).map(|_| char::from(*self.pick(letters))).collect()
    }

    /// As hashes and numbers of objects have them.
    pub fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from(b"0123456789abcdef"[self.between(0, 15)])).collect()
    }
}
