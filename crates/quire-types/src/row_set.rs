//! A set of row ids of which copies are cheap.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

use arrow::buffer::{BooleanBuffer, Buffer};
use imbl::OrdMap;
use roaring::{RoaringBitmap, RoaringTreemap};

use crate::RowId;

/// Ids of one chunk: what one container of a roaring bitmap holds, 8 KiB at most.
const CHUNK_BITS: u32 = 16;
const CHUNK_MASK: u64 = (1 << CHUNK_BITS) - 1;
/// Of a chunk with more ids, who asks for many rows gets a bit for each.
const DENSE_ABOVE: u64 = 256;

/// A set of row ids. A clone shares everything; a change afterwards copies one chunk (8 KiB at most) and a path of a shallow tree.
///
/// Every commit that deletes a row makes a new version of its table's delete set while readers hold older ones, so the cost of
/// a version must not grow with the set. It is a roaring bitmap whose containers hang in a persistent map.
#[derive(Clone, Default, PartialEq)]
pub struct RowSet {
    /// By the ids' upper bits; no chunk is empty.
    chunks: OrdMap<u64, Arc<Chunk>>,
    len: u64,
}

/// The lower bits of some ids.
#[derive(Default)]
struct Chunk {
    ids: RoaringBitmap,
    /// A bit for each id that there could be, since somebody first asked for them. Scans ask again and again.
    words: OnceLock<Box<[u64]>>,
}

impl From<RoaringBitmap> for Chunk {
    fn from(ids: RoaringBitmap) -> Chunk {
        Chunk { ids, words: OnceLock::new() }
    }
}

/// To be changed, so without what would not follow.
impl Clone for Chunk {
    fn clone(&self) -> Chunk {
        self.ids.clone().into()
    }
}

impl PartialEq for Chunk {
    fn eq(&self, other: &Chunk) -> bool {
        self.ids == other.ids
    }
}

impl Chunk {
    fn insert(&mut self, low: u32) -> bool {
        self.words = OnceLock::new();
        self.ids.insert(low)
    }

    fn contains(&self, low: u32) -> bool {
        match self.ids.len() <= DENSE_ABOVE {
            true => self.ids.contains(low),
            false => self.words()[low as usize / 64] >> (low % 64) & 1 == 1,
        }
    }

    fn words(&self) -> &[u64] {
        self.words.get_or_init(|| {
            let mut words = vec![0; (1 << CHUNK_BITS) / 64];
            self.ids.iter().for_each(|low| words[low as usize / 64] |= 1 << (low % 64));
            words.into_boxed_slice()
        })
    }

    /// Clears the bits of the ids `from..to`, the first of which has the bit at `at`.
    fn clear(&self, from: usize, to: usize, mask: &mut [u64], at: usize) {
        if self.ids.len() <= DENSE_ABOVE {
            for low in self.ids.range(from as u32..to as u32) {
                let place = at + low as usize - from;
                mask[place / 64] &= !(1 << (place % 64));
            }
            return;
        }
        let words = self.words();
        let mut next = from;
        while next < to {
            // As many as one word has of both.
            let place = at + next - from;
            let bits = (64 - next % 64).min(64 - place % 64).min(to - next);
            let ids = words[next / 64] >> (next % 64) & (u64::MAX >> (64 - bits));
            mask[place / 64] &= !(ids << (place % 64));
            next += bits;
        }
    }
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
        self.chunks.get(&chunk).is_some_and(|chunk| chunk.ids.contains(low))
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
        other.chunks.iter().all(|(number, chunk)| self.chunks.get(number).is_some_and(|own| own.ids.is_superset(&chunk.ids)))
    }

    /// Puts in every id of `other`.
    pub fn add(&mut self, other: &RowSet) {
        for (number, chunk) in &other.chunks {
            match self.chunks.get(number) {
                None => {
                    self.chunks.insert(*number, chunk.clone());
                    self.len += chunk.ids.len();
                }
                Some(own) => {
                    let both = &own.ids | &chunk.ids;
                    self.len += both.len() - own.ids.len();
                    self.chunks.insert(*number, Arc::new(both.into()));
                }
            }
        }
    }

    /// Takes out every id of `other`; those that are not in the set do not matter.
    pub fn remove(&mut self, other: &RowSet) {
        for (number, chunk) in &other.chunks {
            let Some(own) = self.chunks.get(number) else { continue };
            let left = &own.ids - &chunk.ids;
            self.len -= own.ids.len() - left.len();
            if left.is_empty() {
                self.chunks.remove(number);
            } else {
                self.chunks.insert(*number, Arc::new(left.into()));
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
        self.chunks.range(first.0..=last.0).map(|(number, chunk)| within(*number, &chunk.ids)).sum()
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
        self.chunks.range(first..).flat_map(move |(number, chunk)| {
            let from = if *number == first { low } else { 0 };
            chunk.ids.range(from..).map(move |low| RowId((*number << CHUNK_BITS) | u64::from(low)))
        })
    }

    /// Which of so many consecutive ids, from this one on, are not in the set. `None` when none is near.
    pub fn absent(&self, first: RowId, rows: usize) -> Option<BooleanBuffer> {
        let end = first.0.saturating_add(rows as u64);
        let (from, to) = (split(first.0).0, split(end.saturating_sub(1)).0);
        let mut chunks = self.chunks.range(from..=to).filter(|_| rows > 0).peekable();
        chunks.peek()?;
        let mut absent = vec![u64::MAX; rows.div_ceil(64)];
        for (number, chunk) in chunks {
            let base = *number << CHUNK_BITS;
            let (from, to) = (base.max(first.0), end.min(base.saturating_add(1 << CHUNK_BITS)));
            chunk.clear((from - base) as usize, (to - base) as usize, &mut absent, (from - first.0) as usize);
        }
        Some(BooleanBuffer::new(Buffer::from_vec(absent), 0, rows))
    }

    /// Which of some ids are not in the set.
    pub fn absent_of<'a>(&'a self, ids: &'a [i64]) -> impl Iterator<Item = bool> + 'a {
        // Ids that were given out together lie together.
        let mut last: (u64, Option<&Arc<Chunk>>) = (u64::MAX, None);
        ids.iter().map(move |id| {
            let (number, low) = split(*id as u64);
            if number != last.0 {
                last = (number, self.chunks.get(&number));
            }
            last.1.is_none_or(|chunk| !chunk.contains(low))
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
            Some(found) => RowSet { len: found.ids.len(), chunks: OrdMap::unit(chunk, found.clone()) },
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
        fn absent_are_the_others(
            // Few in a chunk and many.
            (start, step, count) in (0..200_000u64, 1..2_000u64, 0..2_000usize),
            first in prop_oneof![0..300_000u64, Just(u64::MAX - 10)],
            rows in 0..140_000usize,
        ) {
            let set: RowSet = (start..).step_by(step as usize).take(count).map(RowId).collect();
            let ids: Vec<u64> = (first..first.saturating_add(rows as u64)).collect();
            let expected: Vec<bool> = ids.iter().map(|id| !set.contains(RowId(*id))).collect();
            let absent = set.absent(RowId(first), ids.len());
            prop_assert!(absent.is_some() || !expected.contains(&false));
            prop_assert!(absent.is_none_or(|absent| absent == BooleanBuffer::from(expected)));
            // A change is seen by those who ask after it, and by no others.
            let (mut changed, id) = (set.clone(), RowId(start + 1));
            changed.insert(id);
            prop_assert_eq!(changed.absent(id, 1), Some(BooleanBuffer::new_unset(1)));
            prop_assert_eq!(set.absent_of(&[id.0 as i64]).collect::<Vec<_>>(), [!set.contains(id)]);
        }

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
            let asked: Vec<i64> = (from..to).chain(b.iter().copied()).map(|row| row as i64).collect();
            prop_assert!(one.absent_of(&asked).zip(&asked).all(|(absent, id)| absent != a.contains(&(*id as u64))));
            prop_assert_eq!(one.to_treemap().iter().collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!(one.iter().map(|r| r.0).collect::<BTreeSet<_>>(), a, "the original stayed as it was");
        }
    }
}
