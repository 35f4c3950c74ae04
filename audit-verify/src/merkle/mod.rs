//! A Merkle tree over the lines of a log, so that one event can be shown without the others.
//!
//! Hashing and shape are those of RFC 6962, section 2.1: a leaf is SHA-256(0x00 ‖ entry), a node
//! SHA-256(0x01 ‖ left ‖ right), and the left part of n entries is the largest power of two below n. The entry of a
//! line is the 32 bytes of its `hash_self`: a line is canonical, so its hash stands for all of its bytes. The tree is
//! over all lines before the seal, and the seal carries its root as `merkle_root`.
//!
//! Nothing here reads a log. [`crate::verify`] compares the root, [`crate::proof`] writes and checks proofs.

mod path;

pub use path::{Path, PathBuilder, PathError};

use crate::Hash;
use crate::hash::sha256;
use crate::lanes;

/// The bytes of a leaf or a node.
pub(crate) type Node = [u8; 32];

/// A leaf, of an entry of any length.
pub(crate) fn leaf(entry: &[u8]) -> Node {
    sha256(&[&[0], entry])
}

/// The node above two others.
pub(crate) fn above(left: &Node, right: &Node) -> Node {
    sha256(&[&[1], left, right])
}

/// The tree over the lines so far. It takes memory for the logarithm of their number.
///
/// ```
/// use audit_verify::Hash;
/// use audit_verify::merkle::Tree;
///
/// let mut tree = Tree::default();
/// assert_eq!(tree.root(), Hash::of(&[]));
/// tree.push(&Hash::of(&[b"a line"]));
/// assert_eq!(tree.len(), 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Tree {
    span: Span,
    /// Entries behind the span. Many at once are hashed in less time than one by one.
    waiting: Vec<Node>,
}

/// How many entries wait to be hashed at once.
const WAITING: usize = 64;

impl Tree {
    /// Adds the line whose `hash_self` this is.
    pub fn push(&mut self, hash: &Hash) {
        self.push_bytes(&hash.to_bytes());
    }

    /// The same with the hash as its 32 bytes.
    #[inline]
    pub fn push_bytes(&mut self, hash: &[u8; 32]) {
        self.waiting.push(*hash);
        if self.waiting.len() == WAITING {
            self.settle();
        }
    }

    /// Adds the lines of `span`, which must be those that come next.
    pub(crate) fn extend(&mut self, span: &Span) {
        self.settle();
        self.span.extend(span);
    }

    /// How many lines it has.
    pub fn len(&self) -> u64 {
        self.span.end + self.waiting.len() as u64
    }

    /// Whether it has no line.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The hash of all of it; that of nothing, SHA-256 of no bytes, for a tree without lines.
    pub fn root(&self) -> Hash {
        let mut span = self.span.clone();
        span.extend(&Span::of(span.end, &self.waiting));
        Hash::from_bytes(&span.folded().unwrap_or_else(|| sha256(&[])))
    }

    /// Hashes what waits.
    fn settle(&mut self) {
        if !self.waiting.is_empty() {
            self.span.extend(&Span::of(self.span.end, &self.waiting));
            self.waiting.clear();
        }
    }
}

/// Lines from anywhere in a log, as the fewest whole subtrees that have them, left to right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// The line behind the last one, from 0.
    end: u64,
    /// Height and hash of each subtree; one of height h has 2^h lines and begins at a multiple of that.
    subtrees: Vec<(u32, Node)>,
}

impl Span {
    /// No lines, and the next one is line `begin` of the log, from 0.
    pub fn at(begin: u64) -> Span {
        Span { end: begin, subtrees: Vec::new() }
    }

    /// The lines from `begin` on that have these entries.
    pub fn of(begin: u64, entries: &[Node]) -> Span {
        let mut nodes = Vec::with_capacity(entries.len());
        lanes::all(
            const { lanes::padded::<33, 1>(0) },
            entries,
            |leaf, entry| leaf[1..33].copy_from_slice(entry),
            &mut nodes,
        );
        let end = begin + entries.len() as u64;
        // At each height what has its other half elsewhere stays, at the left or at the right end.
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let (mut at, mut height) = (begin, 0);
        while !nodes.is_empty() {
            let mut pairs = &nodes[..];
            if at & 1 == 1 {
                left.push((height, pairs[0]));
                pairs = &pairs[1..];
            }
            let (pairs, single) = pairs.as_chunks::<2>();
            right.extend(single.iter().map(|node| (height, *node)));
            let mut above = Vec::with_capacity(pairs.len());
            let put = |node: &mut [u8], [left, right]: &[Node; 2]| {
                node[1..33].copy_from_slice(left);
                node[33..65].copy_from_slice(right);
            };
            lanes::all(const { lanes::padded::<65, 2>(1) }, pairs, put, &mut above);
            nodes = above;
            at = (at + 1) >> 1;
            height += 1;
        }
        left.extend(right.into_iter().rev());
        Span { end, subtrees: left }
    }

    /// Adds the leaf of the next line.
    pub fn push(&mut self, leaf: Node) {
        self.push_subtree(0, leaf);
    }

    /// Adds all of the span that comes next.
    pub fn extend(&mut self, next: &Span) {
        for (height, hash) in &next.subtrees {
            self.push_subtree(*height, *hash);
        }
    }

    fn push_subtree(&mut self, mut height: u32, mut hash: Node) {
        let mut begin = self.end;
        self.end += 1 << height;
        // A right half whose left half is here makes a whole.
        while begin >> height & 1 == 1
            && let Some((_, left)) = self.subtrees.pop_if(|(left, _)| *left == height)
        {
            hash = above(&left, &hash);
            begin -= 1 << height;
            height += 1;
        }
        self.subtrees.push((height, hash));
    }

    /// The hash over all subtrees; `None` if there is none.
    fn folded(&self) -> Option<Node> {
        fold(&self.subtrees)
    }
}

/// The hash over subtrees that stand side by side: what is left of the largest is its left half.
fn fold(subtrees: &[(u32, Node)]) -> Option<Node> {
    let ((_, last), before) = subtrees.split_last()?;
    Some(before.iter().rev().fold(*last, |right, (_, left)| above(left, &right)))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
