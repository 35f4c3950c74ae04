//! The way from one leaf to the root: an audit path of RFC 6962, section 2.1.1.

use super::{Node, Span, above, fold, leaf};
use crate::Hash;

/// What is needed beside a line to compute the root: the hash of the other half at each height, from the leaf up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Number of the line, from 0.
    pub index: u64,
    /// Lines in the tree.
    pub size: u64,
    /// The hashes.
    pub hashes: Vec<Hash>,
}

/// Why a path leads to no root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The line is not one of the tree.
    #[error("line {index} (from 0) is not one of a tree of {size} lines")]
    Outside {
        /// Number of the line, from 0.
        index: u64,
        /// Lines in the tree.
        size: u64,
    },
    /// It has another length than such a path.
    #[error("a path of {found} hashes does not lead from line {index} (from 0) to the root of {size} lines")]
    Length {
        /// Number of the line, from 0.
        index: u64,
        /// Lines in the tree.
        size: u64,
        /// Hashes in the path.
        found: usize,
    },
}

impl Path {
    /// The root to which it leads from the line whose `hash_self` this is (RFC 9162, section 2.1.3.2).
    pub fn root(&self, hash: &Hash) -> Result<Hash, PathError> {
        self.root_of_entry(&hash.to_bytes())
    }

    /// The same from an entry of any kind.
    pub fn root_of_entry(&self, entry: &[u8]) -> Result<Hash, PathError> {
        let Path { index, size, .. } = *self;
        if index >= size {
            return Err(PathError::Outside { index, size });
        }
        let length = PathError::Length { index, size, found: self.hashes.len() };
        let (mut node, mut last) = (index, size - 1);
        let mut hash = leaf(entry);
        for other in &self.hashes {
            if last == 0 {
                return Err(length);
            }
            let other = other.to_bytes();
            if node & 1 == 1 || node == last {
                hash = above(&other, &hash);
                // Where there is no other half the node is its own parent.
                let own = node.trailing_zeros();
                (node, last) = (node.checked_shr(own).unwrap_or(0), last.checked_shr(own).unwrap_or(0));
            } else {
                hash = above(&hash, &other);
            }
            (node, last) = (node >> 1, last >> 1);
        }
        if last == 0 { Ok(Hash::from_bytes(&hash)) } else { Err(length) }
    }
}

/// Makes the path of one line while all lines pass by, in memory for the logarithm of their number.
#[derive(Clone, Debug)]
pub struct PathBuilder {
    index: u64,
    size: u64,
    before: Span,
    behind: Span,
}

impl PathBuilder {
    /// For line `index`, from 0.
    pub fn new(index: u64) -> Self {
        PathBuilder { index, size: 0, before: Span::at(0), behind: Span::at(index.saturating_add(1)) }
    }

    /// Adds the line whose `hash_self` this is.
    pub fn push(&mut self, hash: &Hash) {
        self.push_entry(&hash.to_bytes());
    }

    /// Adds an entry of any kind.
    pub fn push_entry(&mut self, entry: &[u8]) {
        match self.size.cmp(&self.index) {
            std::cmp::Ordering::Less => self.before.push(leaf(entry)),
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => self.behind.push(leaf(entry)),
        }
        self.size += 1;
    }

    /// The path; `None` if the line was not among those that passed.
    pub fn finish(self) -> Option<Path> {
        let PathBuilder { index, size, before, behind } = self;
        if index >= size {
            return None;
        }
        let mut left = before.subtrees.iter().rev();
        let mut right: &[(u32, Node)] = &behind.subtrees;
        let mut hashes = Vec::new();
        let (mut node, mut last) = (index, size - 1);
        while last > 0 {
            if node & 1 == 1 {
                hashes.extend(left.next().map(|(_, hash)| *hash));
            } else if node + 1 < last {
                let (whole, rest) = right.split_first()?;
                hashes.push(whole.1);
                right = rest;
            } else if node < last {
                // The last one at this height takes in all that is left, be it whole or not.
                hashes.extend(fold(right));
                right = &[];
            }
            (node, last) = (node >> 1, last >> 1);
        }
        let hashes = hashes.iter().map(Hash::from_bytes).collect();
        Some(Path { index, size, hashes })
    }
}
