//! The units of work that partitions share out.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use quire_types::{RowId, RowIds, RowSet, SegmentMeta};

/// One unit: a row group, or rows in memory.
#[derive(Clone, Debug)]
pub(crate) enum Morsel {
    /// A row group of a segment.
    RowGroup {
        /// The segment.
        segment: Arc<SegmentMeta>,
        /// Its row group.
        row_group: usize,
        /// Rows of the segment before it.
        first_row: u64,
    },
    /// Delta rows or the transaction's own, and the id of the first.
    Rows(RecordBatch, RowId),
}

impl Morsel {
    /// The row groups of a segment.
    pub(crate) fn row_groups(segment: &Arc<SegmentMeta>) -> impl Iterator<Item = Morsel> + '_ {
        let mut first_row = 0;
        segment.row_groups.iter().enumerate().map(move |(row_group, meta)| {
            let morsel = Morsel::RowGroup { segment: segment.clone(), row_group, first_row };
            first_row += u64::from(meta.rows);
            morsel
        })
    }
}

/// Positions, within `rows` rows whose ids start at `first`, of deleted ones.
pub(crate) fn deleted_positions(deleted: &RowSet, first: RowId, rows: u64) -> Vec<usize> {
    deleted.iter_from(first).take_while(|id| id.0 < first.0 + rows).map(|id| (id.0 - first.0) as usize).collect()
}

/// Whether any row of the segment may have been deleted.
pub(crate) fn may_have_deletes(deleted: &RowSet, segment: &SegmentMeta) -> bool {
    segment.rows > 0 && deleted.any_in(segment.row_id_min..=segment.row_id_max)
}

/// The first row id of a row group when ids are implicit.
pub(crate) fn implicit_first(segment: &SegmentMeta, first_row: u64) -> Option<RowId> {
    match segment.row_ids {
        RowIds::Base(base) => Some(RowId(base.0 + first_row)),
        RowIds::Column => None,
    }
}
