//! Strays of a scan in order: rows that lie elsewhere, merged with those that lie in order.
//!
//! A stream has those of the range that it reads in memory, sorted by the key, before it reads the others. Each batch of these is then given
//! with the strays whose keys are below its last one between its rows. Strays are few, so most of the work is a copy of the batch.

use arrow::array::{BooleanArray, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, interleave_record_batch, take_record_batch};
use arrow::record_batch::RecordBatch;

use crate::morsel::Keys;
use crate::{ScanError, compact};

/// The strays of one stream that have been read and not given.
pub(super) struct Strays {
    /// The key's column in the output.
    key: usize,
    /// What has been read since `rows` were sorted.
    read: Vec<RecordBatch>,
    /// By their key.
    rows: RecordBatch,
    keys: Vec<i64>,
    /// How many of them have been given.
    given: usize,
}

impl Strays {
    /// None yet, of batches like this one.
    pub(super) fn new(key: usize, empty: RecordBatch) -> Strays {
        Strays { key, read: vec![], rows: empty, keys: vec![], given: 0 }
    }

    /// Takes rows of a range that has not been given from.
    pub(super) fn push(&mut self, rows: RecordBatch, mask: Option<&BooleanArray>) -> Result<(), ScanError> {
        let rows = mask.map_or(Ok(rows.clone()), |mask| filter_record_batch(&rows, mask))?;
        self.read.push(compact(&rows)?);
        Ok(())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len() - self.given + self.read.iter().map(RecordBatch::num_rows).sum::<usize>()
    }

    /// A batch in order together with the strays whose keys are below its last.
    pub(super) fn merged_with(&mut self, batch: RecordBatch) -> Result<RecordBatch, ScanError> {
        self.sort()?;
        if self.given == self.keys.len() {
            return Ok(batch);
        }
        let keys = Keys::known(batch.column(self.key))?.to_vec();
        let Some(last) = keys.last() else { return Ok(batch) };
        let end = self.given + self.keys[self.given..].partition_point(|key| key < last);
        if end == self.given {
            return Ok(batch);
        }
        let mut places = Vec::with_capacity(keys.len() + end - self.given);
        for (position, key) in keys.iter().enumerate() {
            while self.given < end && self.keys[self.given] < *key {
                places.push((1, self.given));
                self.given += 1;
            }
            places.push((0, position));
        }
        Ok(interleave_record_batch(&[&batch, &self.rows], &places)?)
    }

    /// All that are left, in their order.
    pub(super) fn rest(&mut self) -> Result<RecordBatch, ScanError> {
        self.sort()?;
        let rest = self.rows.slice(self.given, self.keys.len() - self.given);
        *self = Strays::new(self.key, RecordBatch::new_empty(rest.schema()));
        Ok(rest)
    }

    /// Those that were read among those that are sorted. The sort finds the ascending runs that they come in.
    fn sort(&mut self) -> Result<(), ScanError> {
        if self.read.is_empty() {
            return Ok(());
        }
        let rest = self.rows.slice(self.given, self.keys.len() - self.given);
        let all = compact(&concat_batches(&self.rows.schema(), [&rest].into_iter().chain(&self.read))?)?;
        let keys = Keys::known(all.column(self.key))?.to_vec();
        let mut order: Vec<(i64, u32)> = keys.into_iter().zip(0..).collect();
        order.sort();
        self.rows = take_record_batch(&all, &UInt32Array::from_iter_values(order.iter().map(|(_, position)| *position)))?;
        self.keys = order.into_iter().map(|(key, _)| key).collect();
        self.given = 0;
        self.read.clear();
        Ok(())
    }
}
