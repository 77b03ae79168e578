use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::kernels::cmp;
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take_record_batch};
use quire_types::TableDef;

use crate::SegmentError;

/// The rows in the order of the table's clustering key (ascending, NULLs last), and whether they already were.
///
/// Nothing is copied when they were: bulk loads mostly come sorted.
pub fn sort_by_clustering(table: &TableDef, rows: RecordBatch) -> Result<(RecordBatch, bool), SegmentError> {
    let columns: Vec<_> = clustering(table).into_iter().map(|i| rows.column(i).clone()).collect();
    if sorted_prefix(&columns)? == columns.len() {
        return Ok((rows, true));
    }
    let options = Some(SortOptions { descending: false, nulls_first: false });
    let keys: Vec<SortColumn> = columns.into_iter().map(|values| SortColumn { values, options }).collect();
    let order = lexsort_to_indices(&keys, None)?;
    Ok((take_record_batch(&rows, &order)?, false))
}

/// Positions of the first columns of the clustering key, of which the rows ascend by each within equals of those before it, NULLs last.
pub(crate) fn sorted_by(table: &TableDef, rows: &RecordBatch) -> Result<Vec<usize>, SegmentError> {
    let mut positions = clustering(table);
    let columns: Vec<_> = positions.iter().map(|&i| rows.column(i).clone()).collect();
    positions.truncate(sorted_prefix(&columns)?);
    Ok(positions)
}

/// Positions of the clustering key's columns.
fn clustering(table: &TableDef) -> Vec<usize> {
    table.clustering.iter().filter_map(|id| table.columns.iter().position(|c| c.id == *id)).collect()
}

/// By how many of the first columns the rows are sorted. Compares neighbours column by column with vectorized kernels; a column with
/// NULLs is taken for one that is not sorted.
fn sorted_prefix(columns: &[ArrayRef]) -> Result<usize, SegmentError> {
    let rows = columns.first().map_or(0, |column| column.len());
    if rows < 2 {
        return Ok(columns.len());
    }
    // Neighbours that are equal in all columns so far; the next column decides only for them.
    let mut tied = BooleanArray::from(vec![true; rows - 1]);
    for (sorted, column) in columns.iter().enumerate() {
        if column.null_count() > 0 {
            return Ok(sorted);
        }
        let (before, after) = (column.slice(0, rows - 1), column.slice(1, rows - 1));
        let descends = arrow::compute::and(&tied, &cmp::gt(&before, &after)?)?;
        if descends.true_count() > 0 {
            return Ok(sorted);
        }
        tied = arrow::compute::and(&tied, &cmp::eq(&before, &after)?)?;
        if tied.true_count() == 0 {
            return Ok(columns.len());
        }
    }
    Ok(columns.len())
}
