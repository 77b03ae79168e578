//! A set of row ids of which copies are cheap.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use imbl::OrdMap;
use roaring::{RoaringBitmap, RoaringTreemap};

use crate::RowId;

/// Ids of one chunk: what one container of a roaring bitmap holds, 8 KiB at most.
const CHUNK_BITS: u32 = 16;
const CHUNK_MASK: u64 = (1 << CHUNK_BITS) - 1;

/// A set of row ids. A clone shares everything; a change afterwards copies one chunk (8 KiB at most) and a path of a shallow tree.
///
/// Every commit that deletes a row makes a new version of its table's delete set while readers hold older ones, so the cost of
/// a version must not grow with the set. It is a roaring bitmap whose containers hang in a persistent map.
#[derive(Clone, Default, PartialEq)]
pub struct RowSet {
    /// By the ids' upper bits; no chunk is empty.
    chunks: OrdMap<u64, Arc<RoaringBitmap>>,
    len: u64,
}

fn split(row: u64) -> (u64, u32) {
    (row >> CHUNK_BITS, (row & CHUNK_MASK) as u32)
}

impl RowSet {
    /// Number of ids.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True when the id is in the set.
    pub fn contains(&self, row: RowId) -> bool {
        let (chunk, low) = split(row.0);
        self.chunks.get(&chunk).is_some_and(|bits| bits.contains(low))
    }

    /// Puts an id in; false when it was there.
    pub fn insert(&mut self, row: RowId) -> bool {
        let (chunk, low) = split(row.0);
        let new = Arc::make_mut(self.chunks.entry(chunk).or_default()).insert(low);
        self.len += u64::from(new);
        new
    }

    /// True when every id of `other` is in this set too.
    pub fn is_superset(&self, other: &RowSet) -> bool {
        other.chunks.iter().all(|(chunk, bits)| self.chunks.get(chunk).is_some_and(|own| own.is_superset(bits)))
    }

    /// Puts in every id of `other`.
    pub fn add(&mut self, other: &RowSet) {
        for (chunk, bits) in &other.chunks {
            match self.chunks.get(chunk) {
                None => {
                    self.chunks.insert(*chunk, bits.clone());
                    self.len += bits.len();
                }
                Some(own) => {
                    let both = own.as_ref() | bits.as_ref();
                    self.len += both.len() - own.len();
                    self.chunks.insert(*chunk, Arc::new(both));
                }
            }
        }
    }

    /// Takes out every id of `other`; those that are not in the set do not matter.
    pub fn remove(&mut self, other: &RowSet) {
        for (chunk, bits) in &other.chunks {
            let Some(own) = self.chunks.get(chunk) else { continue };
            let left = own.as_ref() - bits.as_ref();
            self.len -= own.len() - left.len();
            if left.is_empty() {
                self.chunks.remove(chunk);
            } else {
                self.chunks.insert(*chunk, Arc::new(left));
            }
        }
    }

    /// How many ids are within the range.
    pub fn count_in(&self, rows: RangeInclusive<RowId>) -> u64 {
        let (first, last) = (split(rows.start().0), split(rows.end().0));
        if first.0 > last.0 {
            return 0;
        }
        let within = |chunk: u64, bits: &RoaringBitmap| {
            let from = if chunk == first.0 { first.1 } else { 0 };
            let to = if chunk == last.0 { last.1 } else { CHUNK_MASK as u32 };
            if from == 0 && u64::from(to) == CHUNK_MASK { bits.len() } else { bits.range_cardinality(from..=to) }
        };
        self.chunks.range(first.0..=last.0).map(|(chunk, bits)| within(*chunk, bits)).sum()
    }

    /// True when any id is within the range.
    pub fn any_in(&self, rows: RangeInclusive<RowId>) -> bool {
        self.iter_from(*rows.start()).next().is_some_and(|first| first <= *rows.end())
    }

    /// The ids, ascending.
    pub fn iter(&self) -> impl Iterator<Item = RowId> + '_ {
        self.iter_from(RowId(0))
    }

    /// The ids from this one on, ascending.
    pub fn iter_from(&self, row: RowId) -> impl Iterator<Item = RowId> + '_ {
        let (first, low) = split(row.0);
        self.chunks.range(first..).flat_map(move |(chunk, bits)| {
            let from = if *chunk == first { low } else { 0 };
            bits.range(from..).map(move |low| RowId((*chunk << CHUNK_BITS) | u64::from(low)))
        })
    }

    /// The number of the chunk that an id belongs to. Chunks are the unit that a delete set is written down in.
    pub fn chunk_of(row: RowId) -> u64 {
        split(row.0).0
    }

    /// The numbers of the chunks that hold ids.
    pub fn chunks(&self) -> impl Iterator<Item = u64> + '_ {
        self.chunks.keys().copied()
    }

    /// The ids of one chunk as a set of their own; empty when there is none.
    pub fn chunk(&self, chunk: u64) -> RowSet {
        match self.chunks.get(&chunk) {
            Some(bits) => RowSet { len: bits.len(), chunks: OrdMap::unit(chunk, bits.clone()) },
            None => RowSet::default(),
        }
    }

    /// The same set as one roaring bitmap.
    pub fn to_treemap(&self) -> RoaringTreemap {
        self.iter().map(|row| row.0).collect()
    }
}

impl Extend<RowId> for RowSet {
    fn extend<I: IntoIterator<Item = RowId>>(&mut self, rows: I) {
        for row in rows {
            self.insert(row);
        }
    }
}

impl FromIterator<RowId> for RowSet {
    fn from_iter<I: IntoIterator<Item = RowId>>(rows: I) -> Self {
        let mut set = RowSet::default();
        set.extend(rows);
        set
    }
}

impl fmt::Debug for RowSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        let mut set = f.debug_set();
        set.entries(self.iter().take(SHOWN).map(|row| row.0));
        if self.len > SHOWN as u64 { set.finish_non_exhaustive() } else { set.finish() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Ids near the borders of chunks, and of what 32 bits hold.
    fn any_rows() -> impl Strategy<Value = BTreeSet<u64>> {
        let row = prop_oneof![0..8u64, 65_530..65_546u64, 131_070..131_074u64, (1 << 32) - 3..(1 << 32) + 3u64];
        prop::collection::btree_set(row, 0..24)
    }

    fn set(rows: &BTreeSet<u64>) -> RowSet {
        rows.iter().map(|row| RowId(*row)).collect()
    }

    proptest! {
        #[test]
        fn it_is_a_set(a in any_rows(), b in any_rows(), from in 0..140_000u64, to in 0..140_000u64) {
            let (one, two) = (set(&a), set(&b));
            prop_assert_eq!(one.iter().map(|r| r.0).collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!(one.len(), a.len() as u64);
            let mut both = one.clone();
            both.add(&two);
            prop_assert_eq!(&both, &set(&a.union(&b).copied().collect()));
            let mut left = one.clone();
            left.remove(&two);
            prop_assert_eq!(&left, &set(&a.difference(&b).copied().collect()));
            prop_assert_eq!(one.is_superset(&two), b.is_subset(&a));
            prop_assert!(both.is_superset(&one) && both.is_superset(&two));
            let within = a.iter().filter(|r| (from..=to).contains(*r)).count() as u64;
            prop_assert_eq!(one.count_in(RowId(from)..=RowId(to)), within);
            prop_assert_eq!(one.any_in(RowId(from)..=RowId(to)), within > 0);
            let rest: Vec<u64> = one.iter_from(RowId(from)).map(|r| r.0).collect();
            prop_assert_eq!(rest, a.iter().copied().filter(|r| *r >= from).collect::<Vec<_>>());
            let mut parts = RowSet::default();
            one.chunks().for_each(|chunk| parts.add(&one.chunk(chunk)));
            prop_assert_eq!(&parts, &one);
            prop_assert_eq!(one.to_treemap().iter().collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!(one.iter().map(|r| r.0).collect::<BTreeSet<_>>(), a, "the original stayed as it was");
        }
    }
}
