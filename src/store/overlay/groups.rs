//! The runs of all groups, in the groups' order.
//!
//! Users' numbers have next to no gaps, so the runs of neighbours lie side by side, in blocks. A run is found by a look at the
//! blocks, which are few enough to be in the processor's cache, and a touch of the run alone: commits come to
//! those of other users each time.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::run::Run;

/// What the numbers of a run have in common: their keys' beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    pub kind: u8,
    /// 0 where keys of the kind have no user.
    pub user: u32,
}

impl Group {
    /// Before all others.
    pub(super) const FIRST: Self = Self { kind: 0, user: 0 };
    /// Behind all others.
    pub(super) const LAST: Self = Self { kind: u8::MAX, user: u32::MAX };
}

/// So many users' runs make a block.
const BLOCK: usize = 32;

/// Which block, by the first group in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Block(Group);

impl Block {
    fn of(group: Group) -> Self {
        Self(Group { user: group.user - index(group) as u32, ..group })
    }

    fn group(self, index: usize) -> Group {
        Group { user: self.0.user + index as u32, ..self.0 }
    }
}

/// See the [module](self). A block stays when its runs are empty: the same users' next keys come into it.
#[derive(Debug, Clone, Default)]
pub(super) struct Groups(BTreeMap<Block, Box<[Run; BLOCK]>>);

impl Groups {
    /// A group's run, if there is a place for it already.
    pub(super) fn get(&self, group: Group) -> Option<&Run> {
        Some(&self.0.get(&Block::of(group))?[index(group)])
    }

    /// A group's run.
    pub(super) fn get_mut(&mut self, group: Group) -> &mut Run {
        &mut self.0.entry(Block::of(group)).or_default()[index(group)]
    }

    /// The runs from one group's to another's.
    pub(super) fn range(
        &self,
        groups: RangeInclusive<Group>,
    ) -> impl DoubleEndedIterator<Item = (Group, &Run)> {
        let (first, last) = groups.into_inner();
        self.0.range(Block::of(first)..=Block::of(last)).flat_map(move |(&block, runs)| {
            let begin = if block == Block::of(first) { index(first) } else { 0 };
            let end = if block == Block::of(last) { index(last) + 1 } else { BLOCK };
            (begin..end).map(move |index| (block.group(index), &runs[index]))
        })
    }

    /// All runs.
    #[cfg(test)]
    pub(super) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.0.values().flat_map(|runs| runs.iter())
    }
}

/// Where a group's run lies in its block.
fn index(group: Group) -> usize {
    group.user as usize % BLOCK
}
