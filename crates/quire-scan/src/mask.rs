//! Evaluating predicates to a selection of rows.

use arrow::array::{Array, ArrayRef, BooleanArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::cast::as_boolean_array;

use crate::{Predicate, ScanError};

/// Below this share of rows left, the next predicate is evaluated on the survivors only.
const COMPACT_BELOW: f64 = 0.25;

/// The rows of a slice that satisfy every predicate; `None` when all do. `column` gives a table column's slice.
pub(crate) fn select(
    predicates: &[Predicate],
    rows: usize,
    mut selected: Option<BooleanBuffer>,
    column: impl Fn(usize) -> ArrayRef,
) -> Result<Option<BooleanBuffer>, ScanError> {
    for predicate in predicates {
        let left = selected.as_ref().map_or(rows, BooleanBuffer::count_set_bits);
        if left == 0 {
            break;
        }
        let columns = predicate.columns.iter().map(|&c| column(c)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(predicate.schema.clone(), columns, &options)?;
        selected = match selected {
            Some(mask) if (left as f64) < rows as f64 * COMPACT_BELOW => {
                let survivors = filter_record_batch(&batch, &BooleanArray::new(mask.clone(), None))?;
                let passed = evaluate(predicate, &survivors)?;
                Some(scatter(&mask, &passed))
            }
            Some(mask) => Some(&mask & &evaluate(predicate, &batch)?),
            None => Some(evaluate(predicate, &batch)?),
        };
    }
    Ok(selected.filter(|mask| mask.count_set_bits() < rows))
}

/// True where the predicate is true; NULL counts as false.
fn evaluate(predicate: &Predicate, batch: &RecordBatch) -> Result<BooleanBuffer, ScanError> {
    let result = predicate.expr.evaluate(batch)?.into_array(batch.num_rows())?;
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
