//! Evaluating predicates to a selection of rows.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, BooleanArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::cast::as_boolean_array;
use datafusion_physical_expr_common::physical_expr::is_volatile;
use quire_segment::unpack;

use crate::tabulate::Tabulated;
use crate::verdicts::Verdicts;
use crate::{Predicate, ScanCounters, ScanError, ScanSpec};

/// Below this share of rows left, the next predicate is evaluated on the survivors only.
const COMPACT_BELOW: f64 = 0.25;

/// Rows after which a predicate is judged.
const JUDGED_AFTER: usize = 65_536;
/// An optional predicate that keeps more than this share of rows costs more than it saves.
const KEEPS_MOST: f64 = 0.8;

/// What a predicate has done so far in a scan.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    generation: AtomicU64,
    seen: AtomicUsize,
    kept: AtomicUsize,
    tabulated: Tabulated,
}

impl Tally {
    /// Whether to leave the predicate out from now on.
    fn is_useless(&self, predicate: &Predicate) -> bool {
        let seen = self.seen.load(Ordering::Relaxed);
        predicate.is_optional() && seen >= JUDGED_AFTER && self.kept.load(Ordering::Relaxed) as f64 > seen as f64 * KEEPS_MOST
    }

    fn note(&self, seen: usize, kept: usize) {
        self.seen.fetch_add(seen, Ordering::Relaxed);
        self.kept.fetch_add(kept, Ordering::Relaxed);
    }

    /// What the predicate says of the entries of a page's dictionary; `None` when it has to be asked row by row.
    pub(crate) fn verdicts(&self, predicate: &Predicate, column: impl Fn(usize) -> Option<ArrayRef>) -> Option<Verdicts> {
        if predicate.columns.len() != 1 || self.is_useless(predicate) || is_volatile(&predicate.expr) {
            return None;
        }
        Verdicts::of(predicate, &column(predicate.columns[0])?)
    }

    /// Begins again when the predicate is another than before. To be called now and then.
    pub(crate) fn look(&self, predicate: &Predicate) {
        if predicate.is_optional() {
            let generation = predicate.generation();
            if self.generation.swap(generation, Ordering::Relaxed) != generation {
                self.seen.store(0, Ordering::Relaxed);
                self.kept.store(0, Ordering::Relaxed);
            }
        }
    }
}

/// The rows of a slice that satisfy every predicate, but for those that are not worth it; `None` when all do. `column` gives a table column's
/// slice, packed; `verdicts` are what predicates say of a dictionary's entries. A predicate may fail on rows that are left out by others.
pub(crate) fn select(
    tallies: &[Tally],
    verdicts: &[Option<Verdicts>],
    rows: usize,
    mut selected: Option<BooleanBuffer>,
    spec: &ScanSpec,
    counters: &ScanCounters,
    column: impl Fn(usize) -> ArrayRef,
) -> Result<Option<BooleanBuffer>, ScanError> {
    let mut failed = Vec::new();
    for ((predicate, tally), verdicts) in spec.predicates.iter().zip(tallies).zip(verdicts) {
        let left = selected.as_ref().map_or(rows, BooleanBuffer::count_set_bits);
        if left == 0 {
            break;
        }
        if tally.is_useless(predicate) {
            continue;
        }
        let passed = match verdicts {
            Some(verdicts) => verdicts.rows(&column(predicate.columns[0])),
            None => {
                let among = selected.as_ref().filter(|_| (left as f64) < rows as f64 * COMPACT_BELOW);
                match passed(predicate, tally, rows, among, spec, counters, &column) {
                    Ok(passed) => passed,
                    Err(_) => {
                        failed.push((predicate, tally));
                        continue;
                    }
                }
            }
        };
        selected = Some(selected.map_or(passed.clone(), |mask| &mask & &passed));
        tally.note(left, selected.as_ref().map_or(rows, BooleanBuffer::count_set_bits));
    }
    // A row that is deleted, or that another predicate leaves out, is no reason to fail: now only those are asked about that are left.
    for (predicate, tally) in failed {
        if selected.as_ref().is_some_and(|mask| mask.count_set_bits() == 0) {
            break;
        }
        let passed = passed(predicate, tally, rows, selected.as_ref(), spec, counters, &column)?;
        selected = Some(selected.map_or(passed.clone(), |mask| &mask & &passed));
    }
    Ok(selected.filter(|mask| mask.count_set_bits() < rows))
}

/// The rows of a slice that satisfy a predicate; of those in `among`, if it is given, and no others are looked at.
fn passed(
    predicate: &Predicate,
    tally: &Tally,
    rows: usize,
    among: Option<&BooleanBuffer>,
    spec: &ScanSpec,
    counters: &ScanCounters,
    column: &impl Fn(usize) -> ArrayRef,
) -> Result<BooleanBuffer, ScanError> {
    let columns = predicate.columns.iter().zip(predicate.schema.fields()).map(|(&c, field)| unpack(&column(c), field.data_type()));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let all = RecordBatch::try_new_with_options(predicate.schema.clone(), columns, &options)?;
    let batch = match among {
        Some(mask) => filter_record_batch(&all, &BooleanArray::new(mask.clone(), None))?,
        None => all,
    };
    let passed = match predicate.rows_by_keys(&batch) {
        Some(rows) => {
            ScanCounters::add(&counters.rows_by_keys, rows.len());
            rows
        }
        None => tally.tabulated.current(predicate, spec)?.evaluate(predicate, &batch, counters)?,
    };
    Ok(match among {
        Some(mask) => scatter(mask, &passed),
        None => passed,
    })
}

/// True where a predicate's result is true; NULL counts as false.
pub(crate) fn truth(result: ArrayRef) -> Result<BooleanBuffer, ScanError> {
    let result = as_boolean_array(&result)?;
    Ok(match result.nulls() {
        Some(nulls) => result.values() & nulls.inner(),
        None => result.values().clone(),
    })
}

/// Spreads `passed` (a bit for each set bit of `mask`) back over the positions of `mask`.
fn scatter(mask: &BooleanBuffer, passed: &BooleanBuffer) -> BooleanBuffer {
    let mut out = BooleanBufferBuilder::new(mask.len());
    out.append_n(mask.len(), false);
    for (i, position) in mask.set_indices().enumerate() {
        if passed.value(i) {
            out.set_bit(position, true);
        }
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::scatter;
    use arrow::buffer::BooleanBuffer;

    #[test]
    fn scatter_puts_bits_back_where_they_came_from() {
        let mask = BooleanBuffer::from_iter([false, true, true, false, true]);
        let passed = BooleanBuffer::from_iter([true, false, true]);
        let expected = BooleanBuffer::from_iter([false, true, false, false, true]);
        assert_eq!(scatter(&mask, &passed), expected);
    }
}
