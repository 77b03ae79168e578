//! The units of work that partitions share out.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{DataType, Date32Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use quire_types::{RowId, RowIds, RowSet, SegmentMeta};

use crate::ScanError;

/// One unit: a row group or a part of one, or rows in memory.
#[derive(Clone, Debug)]
pub(crate) enum Morsel {
    /// Rows of a row group of a segment.
    RowGroup {
        /// The segment.
        segment: Arc<SegmentMeta>,
        /// Its row group.
        row_group: usize,
        /// Rows of the segment before it.
        first_row: u64,
        /// Which of its rows.
        part: Part,
    },
    /// Delta rows or the transaction's own, and the id of the first.
    Rows(RecordBatch, RowId),
}

/// Rows of a row group in which a key ascends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of them, whether a key ascends or not.
    All,
    /// Those whose key is below this.
    Below(i64),
    /// The others: those whose key is this, or above.
    From(i64),
}

impl Morsel {
    /// The row groups of a segment.
    pub(crate) fn row_groups(segment: &Arc<SegmentMeta>) -> impl Iterator<Item = Morsel> + '_ {
        let mut first_row = 0;
        segment.row_groups.iter().enumerate().map(move |(row_group, meta)| {
            let morsel = Morsel::RowGroup { segment: segment.clone(), row_group, first_row, part: Part::All };
            first_row += u64::from(meta.rows);
            morsel
        })
    }

    /// Whether it is a row group, or the first part of one.
    pub(crate) fn begins_row_group(&self) -> bool {
        matches!(self, Morsel::RowGroup { part, .. } if part.is_first())
    }
}

impl Part {
    /// Whether it is the only part of its row group or the first: what is counted by row groups is counted with it.
    pub(crate) fn is_first(self) -> bool {
        !matches!(self, Part::From(_))
    }

    /// The positions of its rows in a row group with these keys.
    pub(crate) fn positions(self, keys: &ArrayRef) -> Result<Range<usize>, ScanError> {
        Ok(match self {
            Part::All => 0..keys.len(),
            Part::Below(key) => 0..rows_below(keys, key)?,
            Part::From(key) => rows_below(keys, key)?..keys.len(),
        })
    }
}

/// How many of ascending keys, of a type whose bounds are whole numbers, are below a number.
fn rows_below(keys: &ArrayRef, key: i64) -> Result<usize, ScanError> {
    fn search<T>(keys: &ArrayRef, key: i64) -> usize
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i64>,
    {
        keys.as_primitive::<T>().values().partition_point(|value| (*value).into() < key)
    }
    Ok(match keys.data_type() {
        DataType::Int16 => search::<Int16Type>(keys, key),
        DataType::Int32 => search::<Int32Type>(keys, key),
        DataType::Int64 => search::<Int64Type>(keys, key),
        DataType::Date32 => search::<Date32Type>(keys, key),
        DataType::Time64(TimeUnit::Microsecond) => search::<Time64MicrosecondType>(keys, key),
        DataType::Timestamp(TimeUnit::Microsecond, _) => search::<TimestampMicrosecondType>(keys, key),
        other => return Err(ScanError::Decode { what: "the clustering key".into(), reason: format!("its type is {other}") }),
    })
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
