//! Strays of a scan in order: rows that lie elsewhere, merged with those that lie in order.
//!
//! A stream has those of the range that it reads in memory, sorted by the key, before it reads the others. Each batch of these is then given
//! with the strays whose keys are below its last one between its rows. Strays are few, so most of the work is a copy of the batch.

use std::ops::Range;

use arrow::array::{Array, ArrayData, ArrayRef, BooleanArray, MutableArrayData, UInt32Array, make_array};
use arrow::buffer::MutableBuffer;
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::error::ArrowError;
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

    /// The rows of a batch that are in the mask, in order, together with the strays whose keys are below the last one's.
    pub(super) fn merged_with(&mut self, batch: &RecordBatch, mask: Option<&BooleanArray>) -> Result<RecordBatch, ScanError> {
        self.sort()?;
        let keys = Keys::known(batch.column(self.key))?.widened();
        let last = match mask {
            Some(mask) => mask.values().set_slices().last().map(|(_, below)| below),
            None => Some(keys.len()),
        };
        let last = last.and_then(|below| below.checked_sub(1)).map(|row| keys[row]);
        let end = last.map_or(self.given, |last| self.given + self.keys[self.given..].partition_point(|key| *key < last));
        if end == self.given {
            return Ok(mask.map_or(Ok(batch.clone()), |mask| filter_record_batch(batch, mask))?);
        }
        let runs = match mask {
            Some(mask) => self.runs(&keys, mask.values().set_slices(), end),
            None => self.runs(&keys, [(0, keys.len())], end),
        };
        self.given = end;
        let rows = runs.iter().map(|run| run.rows.len()).sum();
        let columns = batch.columns().iter().zip(self.rows.columns()).map(|(batch, strays)| spliced([batch, strays], &runs, rows));
        Ok(RecordBatch::try_new(batch.schema(), columns.collect::<Result<_, _>>()?)?)
    }

    /// The rows of a batch with these keys that are in some ranges, and the strays before `end`, by their keys: a stray comes behind rows with
    /// its own.
    fn runs(&self, keys: &[i64], ranges: impl IntoIterator<Item = (usize, usize)>, end: usize) -> Vec<Run> {
        let mut runs = Vec::with_capacity(2 * (end - self.given) + 1);
        let mut next = self.given;
        for (mut at, below) in ranges {
            while at < below {
                let strays = self.keys[next..end].iter().take_while(|stray| **stray < keys[at]).count();
                if strays > 0 {
                    runs.push(Run { of: STRAYS, rows: next..next + strays });
                    next += strays;
                }
                let upto = match self.keys[next..end].first() {
                    Some(stray) => at + not_above(&keys[at..below], *stray),
                    None => below,
                };
                runs.push(Run { of: BATCH, rows: at..upto });
                at = upto;
            }
        }
        runs
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
        let keys = Keys::known(all.column(self.key))?.widened();
        let mut order: Vec<(i64, u32)> = keys.iter().copied().zip(0..).collect();
        order.sort();
        self.rows = take_record_batch(&all, &UInt32Array::from_iter_values(order.iter().map(|(_, position)| *position)))?;
        self.keys = order.into_iter().map(|(key, _)| key).collect();
        self.given = 0;
        self.read.clear();
        Ok(())
    }
}

/// Where a run's rows are.
const BATCH: usize = 0;
const STRAYS: usize = 1;

/// Rows that lie one after the other, and are given so.
struct Run {
    of: usize,
    rows: Range<usize>,
}

/// How many of ascending keys, which begin with such ones, are not above a bound. Mostly few: so the search begins at the first.
fn not_above(keys: &[i64], bound: i64) -> usize {
    let mut reach = 8;
    while reach < keys.len() && keys[reach - 1] <= bound {
        reach *= 2;
    }
    let known = reach / 2;
    match keys.get(known - 1) {
        Some(key) if *key <= bound => known + keys[known..reach.min(keys.len())].partition_point(|key| *key <= bound),
        _ => keys[..known.min(keys.len())].partition_point(|key| *key <= bound),
    }
}

/// A column of the runs' rows. Most runs are of a few rows: values of one width are copied without more ado.
fn spliced(sources: [&ArrayRef; 2], runs: &[Run], rows: usize) -> Result<ArrayRef, ArrowError> {
    let data = sources.map(|source| source.to_data());
    let data_type = data[BATCH].data_type();
    let width = data_type.primitive_width().filter(|_| data.iter().all(|data| data.null_count() == 0));
    let Some(width) = width else {
        let mut spliced = MutableArrayData::new(data.iter().collect(), false, rows);
        for run in runs {
            spliced.try_extend(run.of, run.rows.start, run.rows.end)?;
        }
        return Ok(make_array(spliced.freeze()));
    };
    let values = data.each_ref().map(|data| &data.buffers()[0].as_slice()[data.offset() * width..]);
    let mut spliced = MutableBuffer::with_capacity(rows * width);
    for run in runs {
        spliced.extend_from_slice(&values[run.of][run.rows.start * width..run.rows.end * width]);
    }
    let spliced = ArrayData::try_new(data_type.clone(), rows, None, 0, vec![spliced.into()], vec![])?;
    Ok(make_array(spliced))
}
