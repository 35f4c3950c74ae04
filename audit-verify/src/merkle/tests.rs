use super::*;
use proptest::prelude::*;

/// MTH of RFC 6962, section 2.1, as it is written there.
fn root_of(entries: &[Vec<u8>]) -> Node {
    match entries {
        [] => sha256(&[]),
        [entry] => sha256(&[&[0], entry]),
        _ => {
            let (left, right) = entries.split_at(half(entries.len()));
            sha256(&[&[1], &root_of(left), &root_of(right)])
        }
    }
}

/// PATH of RFC 6962, section 2.1.1, as it is written there.
fn path_of(index: usize, entries: &[Vec<u8>]) -> Vec<Hash> {
    if entries.len() == 1 {
        return Vec::new();
    }
    let k = half(entries.len());
    let (left, right) = entries.split_at(k);
    let (mut path, other) = if index < k {
        (path_of(index, left), root_of(right))
    } else {
        (path_of(index - k, right), root_of(left))
    };
    path.push(Hash::from_bytes(&other));
    path
}

/// The largest power of two below `n`, which is above 1.
fn half(n: usize) -> usize {
    n.next_power_of_two() / 2
}

fn entries(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| sha256(&[&number.to_le_bytes()]).to_vec()).collect()
}

/// An entry of 32 bytes, as those of lines are.
fn hash(entry: &[u8]) -> Hash {
    Hash::from_bytes(entry.try_into().unwrap())
}

fn tree_of(entries: &[Vec<u8>]) -> Tree {
    let mut tree = Tree::default();
    entries.iter().for_each(|entry| tree.push(&hash(entry)));
    tree
}

fn built(index: usize, entries: &[Vec<u8>]) -> Option<Path> {
    let mut builder = PathBuilder::new(index as u64);
    entries.iter().for_each(|entry| builder.push_entry(entry));
    builder.finish()
}

/// The reference trees of the certificate-transparency project (`merkletree` tests).
#[test]
fn known_answers() {
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(Tree::default().root().as_str(), EMPTY);
    assert!(Tree::default().is_empty());
    let entries: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut span = Span::at(0);
    for (entry, root) in entries.iter().zip(roots) {
        span.push(leaf(entry));
        assert_eq!(Hash::from_bytes(&span.folded().unwrap()).as_str(), root);
    }
}

#[test]
fn a_line_is_its_hash() {
    let hash = Hash::of(&[b"a line"]);
    let mut tree = Tree::default();
    tree.push(&hash);
    assert_eq!(tree.root(), Hash::of(&[&[0], &hash.to_bytes()]));
}

#[test]
fn roots_and_paths_of_every_small_tree_are_the_rfcs() {
    let all = entries(150);
    for size in 0..=all.len() {
        let entries = &all[..size];
        let root = Hash::from_bytes(&root_of(entries));
        assert_eq!(tree_of(entries).root(), root, "{size}");
        for index in (0..size).filter(|_| size <= 70) {
            let path = built(index, entries).unwrap();
            assert_eq!(path.hashes, path_of(index, entries), "{index} of {size}");
            assert_eq!(path.root_of_entry(&entries[index]), Ok(root), "{index} of {size}");
        }
        assert_eq!(built(size, entries), None);
    }
}

proptest! {
    #[test]
    fn a_tree_is_the_same_from_spans_of_any_lengths(lengths in proptest::collection::vec(0usize..40, 0..12)) {
        let all = entries(lengths.iter().sum());
        let mut tree = Tree::default();
        let mut begin = 0;
        for length in lengths {
            let mut span = Span::at(begin as u64);
            all[begin..begin + length].iter().for_each(|entry| span.push(leaf(entry)));
            let at_once: Vec<Node> =
                all[begin..begin + length].iter().map(|entry| entry[..].try_into().unwrap()).collect();
            prop_assert_eq!(&Span::of(begin as u64, &at_once), &span);
            tree.extend(&span);
            begin += length;
        }
        prop_assert_eq!((tree.len(), tree.root()), (all.len() as u64, tree_of(&all).root()));
    }

    /// Another index, entry, hash or length never leads to the root.
    #[test]
    fn what_is_changed_leads_elsewhere(
        size in 1usize..200, at in any::<prop::sample::Index>(), change in 0usize..6, with in any::<u64>()
    ) {
        let entries = entries(size);
        let index = at.index(size);
        let root = tree_of(&entries).root();
        let path = built(index, &entries).unwrap();
        prop_assert_eq!(path.root_of_entry(&entries[index]), Ok(root));
        let mut other = path.clone();
        let mut entry = entries[index].clone();
        match change {
            0 => other.index = with % (2 * size as u64),
            1 => entry[with as usize % 32] ^= 1,
            2 => other.hashes.push(root),
            3 => _ = other.hashes.pop(),
            4 => other.index = with,
            _ if other.hashes.is_empty() => {}
            _ => {
                let at = with as usize % other.hashes.len();
                other.hashes[at] = Hash::of(&[other.hashes[at].digits()]);
            }
        }
        prop_assume!(other != path || entry != entries[index]);
        prop_assert_ne!(other.root_of_entry(&entry), Ok(root));
    }

    #[test]
    fn no_numbers_break_it(index in any::<u64>(), size in any::<u64>(), length in 0usize..70) {
        let path = Path { index, size, hashes: vec![Hash::ZERO; length] };
        let _ = path.root(&Hash::ZERO);
    }
}
