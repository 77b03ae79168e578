//! Groups that come one after the other: a row is compared with the one before, a column at a time.

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{concat, partition, take};
use datafusion::common::Result;

use super::Groups;

pub(super) struct Runs {
    /// So many are given at once, in the end; the first ones soon, since nobody may want more.
    batch_rows: usize,
    ready_above: usize,
    count: usize,
    /// For each key their values, in pieces.
    values: Vec<Vec<ArrayRef>>,
}

impl Runs {
    pub(super) fn new(keys: usize, batch_rows: usize) -> Runs {
        Runs { batch_rows, ready_above: 1, count: 0, values: vec![vec![]; keys] }
    }

    /// Whether the first row with these keys is of the last group.
    fn goes_on(&self, keys: &[ArrayRef]) -> Result<bool> {
        let mut both = Vec::with_capacity(keys.len());
        for (values, key) in self.values.iter().zip(keys) {
            let Some(last) = values.last() else { return Ok(false) };
            both.push(concat(&[&last.slice(last.len() - 1, 1), &key.slice(0, 1)])?);
        }
        Ok(partition(&both)?.len() == 1)
    }
}

impl Groups for Runs {
    fn number(&mut self, keys: &[ArrayRef], numbers: &mut Vec<usize>) -> Result<()> {
        let runs = partition(keys)?.ranges();
        let goes_on = usize::from(self.goes_on(keys)?);
        let first = self.count - goes_on;
        for (run, number) in runs.iter().zip(first..) {
            numbers.resize(run.end, number);
        }
        self.count = first + runs.len();
        let first_rows = UInt32Array::from_iter_values(runs.iter().skip(goes_on).map(|run| run.start as u32));
        if !first_rows.is_empty() {
            for (values, key) in self.values.iter_mut().zip(keys) {
                values.push(take(key, &first_rows, None)?);
            }
        }
        Ok(())
    }

    fn count(&self) -> usize {
        self.count
    }

    /// The last one may go on.
    fn ready(&self) -> usize {
        if self.count > self.ready_above { self.count - 1 } else { 0 }
    }

    fn give(&mut self, count: usize) -> Result<Vec<ArrayRef>> {
        let mut given = Vec::with_capacity(self.values.len());
        for values in &mut self.values {
            let all = concat(&values.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?;
            given.push(all.slice(0, count));
            *values = if count < self.count { vec![all.slice(count, self.count - count)] } else { vec![] };
        }
        self.count -= count;
        self.ready_above = (2 * self.ready_above).min(self.batch_rows);
        Ok(given)
    }
}
