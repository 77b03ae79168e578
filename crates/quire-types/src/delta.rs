//! A table's delta: committed rows that are in no segment yet.

use imbl::Vector;

use crate::{Lsn, RowId};

/// One batch of the delta: the rows of one commit, immutable, fetched by (table, first row id).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaMeta {
    /// Row id of its first row; the others follow without gap.
    pub first: RowId,
    /// Rows.
    pub rows: u64,
    /// Bytes of its encoded rows.
    pub bytes: u64,
    /// The table version whose schema the rows have.
    pub version: u64,
    /// The commit.
    pub lsn: Lsn,
}

/// The batches of one table by ascending row id. A clone shares everything, and a change afterwards costs O(log n): every commit makes a
/// new version of this list while readers hold older ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    batches: Vector<DeltaMeta>,
    rows: u64,
    bytes: u64,
}

impl Delta {
    /// Batches.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Rows of all batches.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of all batches.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The oldest batch.
    pub fn first(&self) -> Option<&DeltaMeta> {
        self.batches.front()
    }

    /// The batch at a position, the oldest first.
    pub fn get(&self, position: usize) -> Option<&DeltaMeta> {
        self.batches.get(position)
    }

    /// The batches, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &DeltaMeta> + '_ {
        self.batches.iter()
    }

    /// The batches that begin at or after `first` and before `end`, oldest first.
    pub fn within(&self, first: RowId, end: RowId) -> impl Iterator<Item = &DeltaMeta> + '_ {
        let from = self.position(first);
        self.batches.focus().narrow(from..self.position(end).max(from)).into_iter()
    }

    /// Adds the rows of one more commit.
    pub(crate) fn push(&mut self, batch: DeltaMeta) {
        self.rows += batch.rows;
        self.bytes += batch.bytes;
        self.batches.push_back(batch);
    }

    /// Takes out the batches that begin at or after `first` and before `end`.
    pub(crate) fn remove(&mut self, first: RowId, end: RowId) {
        let from = self.position(first);
        let count = self.position(end).saturating_sub(from);
        let mut gone = self.batches.split_off(from);
        self.batches.append(gone.split_off(count));
        self.rows -= gone.iter().map(|b| b.rows).sum::<u64>();
        self.bytes -= gone.iter().map(|b| b.bytes).sum::<u64>();
    }

    /// How many batches begin before `row`.
    fn position(&self, row: RowId) -> usize {
        self.batches.binary_search_by_key(&row, |b| b.first).unwrap_or_else(|at| at)
    }
}

impl FromIterator<DeltaMeta> for Delta {
    fn from_iter<I: IntoIterator<Item = DeltaMeta>>(batches: I) -> Self {
        let mut delta = Delta::default();
        batches.into_iter().for_each(|batch| delta.push(batch));
        delta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_go_by_the_row_ids_they_begin_with() {
        let batch = |first| DeltaMeta { first: RowId(first), rows: 2, bytes: 10, version: 1, lsn: Lsn(first) };
        let all: Delta = (0..300).map(|i| batch(i * 3)).collect();
        let firsts = |delta: &Delta| delta.iter().map(|b| b.first.0).collect::<Vec<_>>();
        for (from, to) in [(0, 0), (0, 900), (5, 3), (1, 10), (300, 600), (897, 2000)] {
            let mut left = all.clone();
            left.remove(RowId(from), RowId(to));
            let inside = |first: &u64| from <= *first && *first < to;
            assert_eq!(firsts(&left), firsts(&all).into_iter().filter(|f| !inside(f)).collect::<Vec<_>>(), "{from} to {to}");
            assert_eq!((left.rows(), left.bytes()), (left.len() as u64 * 2, left.len() as u64 * 10));
            let within: Vec<u64> = all.within(RowId(from), RowId(to)).map(|b| b.first.0).collect();
            assert_eq!(within, firsts(&all).into_iter().filter(inside).collect::<Vec<_>>());
        }
        assert_eq!(all.len(), 300);
    }
}
