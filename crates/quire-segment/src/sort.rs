use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::kernels::cmp;
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take_record_batch};
use quire_types::TableDef;

use crate::SegmentError;

/// The rows in the order of the table's clustering key (ascending, NULLs last), and whether they already were.
///
/// Nothing is copied when they were: bulk loads mostly come sorted.
pub fn sort_by_clustering(table: &TableDef, rows: RecordBatch) -> Result<(RecordBatch, bool), SegmentError> {
    let position = |id| table.columns.iter().position(|c| c.id == id);
    let columns: Vec<_> = table.clustering.iter().filter_map(|id| position(*id)).map(|i| rows.column(i).clone()).collect();
    if columns.is_empty() || rows.num_rows() < 2 || is_sorted(&columns)? {
        return Ok((rows, true));
    }
    let options = Some(SortOptions { descending: false, nulls_first: false });
    let keys: Vec<SortColumn> = columns.into_iter().map(|values| SortColumn { values, options }).collect();
    let order = lexsort_to_indices(&keys, None)?;
    Ok((take_record_batch(&rows, &order)?, false))
}

/// Compares neighbours column by column with vectorized kernels.
fn is_sorted(columns: &[arrow::array::ArrayRef]) -> Result<bool, SegmentError> {
    let rows = columns[0].len();
    // Neighbours that are equal in all columns so far; the next column decides only for them.
    let mut tied = BooleanArray::from(vec![true; rows - 1]);
    for column in columns {
        if column.null_count() > 0 {
            return Ok(false);
        }
        let (before, after) = (column.slice(0, rows - 1), column.slice(1, rows - 1));
        let descends = arrow::compute::and(&tied, &cmp::gt(&before, &after)?)?;
        if descends.true_count() > 0 {
            return Ok(false);
        }
        tied = arrow::compute::and(&tied, &cmp::eq(&before, &after)?)?;
        if tied.true_count() == 0 {
            return Ok(true);
        }
    }
    Ok(true)
}
