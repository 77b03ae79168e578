//! The units of work that partitions share out.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
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
    /// Delta rows or the transaction's own.
    Rows {
        /// The batch.
        rows: RecordBatch,
        /// The id of its first row; those of the others follow.
        first: RowId,
        /// Which of its rows, and in which order; `None`: all as they are.
        positions: Option<UInt32Array>,
    },
}

/// Rows of a row group in which a key ascends. The parts of a row group are one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Those whose key is this or above; `None` in the first part.
    pub from: Option<i64>,
    /// Of them those whose key is below this; `None` in the last.
    pub below: Option<i64>,
}

impl Morsel {
    /// The row groups of a segment.
    pub(crate) fn row_groups(segment: &Arc<SegmentMeta>) -> impl Iterator<Item = Morsel> + '_ {
        let mut first_row = 0;
        segment.row_groups.iter().enumerate().map(move |(row_group, meta)| {
            let morsel = Morsel::RowGroup { segment: segment.clone(), row_group, first_row, part: Part::ALL };
            first_row += u64::from(meta.rows);
            morsel
        })
    }

    /// How many rows there are to read, at most.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Morsel::RowGroup { segment, row_group, .. } => segment.row_groups[*row_group].rows as usize,
            Morsel::Rows { rows, positions, .. } => positions.as_ref().map_or(rows.num_rows(), Array::len),
        }
    }

    /// Whether it is a row group, or the first part of one.
    pub(crate) fn begins_row_group(&self) -> bool {
        matches!(self, Morsel::RowGroup { part, .. } if part.is_first())
    }
}

impl Part {
    /// All rows, whether a key ascends or not.
    pub(crate) const ALL: Part = Part { from: None, below: None };

    /// Whether it is the only part of its row group or the first: what is counted by row groups is counted with it.
    pub(crate) fn is_first(self) -> bool {
        self.from.is_none()
    }

    /// The positions of its rows in a row group with these keys.
    pub(crate) fn positions(self, keys: &ArrayRef) -> Result<Range<usize>, ScanError> {
        if self == Part::ALL {
            return Ok(0..keys.len());
        }
        let length = keys.len();
        let keys = Keys::known(keys)?;
        Ok(self.from.map_or(0, |key| keys.below(key))..self.below.map_or(length, |key| keys.below(key)))
    }
}

/// The values of a column whose bounds are whole numbers.
pub(crate) enum Keys<'a> {
    Small(&'a [i16]),
    Medium(&'a [i32]),
    Large(&'a [i64]),
}

impl<'a> Keys<'a> {
    /// `None` when they are of another type. NULLs are not told apart.
    pub(crate) fn of(column: &'a ArrayRef) -> Option<Keys<'a>> {
        Some(match column.data_type() {
            DataType::Int16 => Keys::Small(column.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Keys::Medium(column.as_primitive::<Int32Type>().values()),
            DataType::Date32 => Keys::Medium(column.as_primitive::<Date32Type>().values()),
            DataType::Int64 => Keys::Large(column.as_primitive::<Int64Type>().values()),
            DataType::Time64(TimeUnit::Microsecond) => Keys::Large(column.as_primitive::<Time64MicrosecondType>().values()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Keys::Large(column.as_primitive::<TimestampMicrosecondType>().values()),
            _ => return None,
        })
    }

    /// The same, of a column that is known to be of such a type.
    pub(crate) fn known(column: &'a ArrayRef) -> Result<Keys<'a>, ScanError> {
        let wrong = || ScanError::Decode { what: "the clustering key".into(), reason: format!("its type is {}", column.data_type()) };
        Keys::of(column).ok_or_else(wrong)
    }

    /// As numbers of one width.
    pub(crate) fn widened(&self) -> Cow<'a, [i64]> {
        match self {
            Keys::Small(keys) => keys.iter().map(|key| i64::from(*key)).collect(),
            Keys::Medium(keys) => keys.iter().map(|key| i64::from(*key)).collect(),
            Keys::Large(keys) => Cow::Borrowed(keys),
        }
    }

    /// How many of ascending keys are below a number.
    fn below(&self, number: i64) -> usize {
        match self {
            Keys::Small(keys) => keys.partition_point(|key| i64::from(*key) < number),
            Keys::Medium(keys) => keys.partition_point(|key| i64::from(*key) < number),
            Keys::Large(keys) => keys.partition_point(|key| *key < number),
        }
    }
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
