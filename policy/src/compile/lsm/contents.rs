//! Rules on contents: what holds for each digest, in each policy.

use std::collections::BTreeMap;

use sandbox_ebpf::abi::policy::MAX_ENTRIES;

use super::Names;
use super::block::{Blocks, Meaning, Said};
use crate::compile::CompileError;
use crate::digest::Digest;

/// What the rules on contents of one policy say, as they are collected.
#[derive(Default)]
pub(super) struct Contents(BTreeMap<Digest, (Said, Vec<u32>)>);

impl Contents {
    /// Adds what one rule says of its digests.
    pub fn add(&mut self, meaning: Meaning, digests: &[Digest], rule: u32) {
        for digest in digests {
            let (said, rules) = self.0.entry(*digest).or_default();
            said.add(meaning);
            rules.push(rule);
        }
    }

    /// The block of each digest, by number.
    pub fn blocks(&self, blocks: &mut Blocks, names: &Names) -> Result<Vec<(Digest, u32)>, CompileError> {
        let block = |(digest, (said, rules)): (&Digest, &(Said, Vec<u32>))| {
            let block = said.block();
            if block.entries.len() > MAX_ENTRIES {
                return Err(CompileError::ConditionsTooMany {
                    place: digest.to_string(),
                    limit: MAX_ENTRIES,
                    rules: names.heaviest(rules.iter().map(|rule| (*rule, 1))),
                });
            }
            Ok((*digest, blocks.number(block)))
        };
        self.0.iter().map(block).collect()
    }
}
