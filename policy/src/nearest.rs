//! The word that a misspelt one was most likely meant to be.

/// The candidate that `word` was most likely meant to be, if any is close.
pub(crate) fn nearest(word: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let scored = candidates.map(|candidate| (distance(&word, &candidate.to_ascii_lowercase()), candidate));
    let (best, candidate) = scored.min_by_key(|(distance, _)| *distance)?;
    let bound = (candidate.len().max(word.len()) / 3).clamp(1, 3);
    (best <= bound).then_some(candidate)
}

/// Damerau-Levenshtein distance (adjacent letters swapped count once).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}
