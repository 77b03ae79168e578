use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion_common::DataFusionError;
use quire_types::{ColumnDef, ColumnId, PageError, SegmentMeta};

use crate::Order;

/// Where a column's page was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Decoded, in memory.
    Memory,
    /// Encoded, on this node's disk.
    Disk,
    /// Fetched from another node.
    Remote,
}

/// Why a scan stopped.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A page cannot be had.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The delta cannot be had.
    #[error("cannot read delta rows of table {table}: {reason}")]
    Delta {
        /// The table's name.
        table: String,
        /// Why.
        reason: String,
    },
    /// Rows of the snapshot's delta have been sealed, truncated or dropped, and are kept no longer.
    #[error("rows of table {table} as of this snapshot are kept no longer")]
    SnapshotTooOld {
        /// The table's name.
        table: String,
    },
    /// What was read does not decode.
    #[error("cannot decode {what}: {reason}")]
    Decode {
        /// The page or batch.
        what: String,
        /// Why.
        reason: String,
    },
    /// A predicate failed on a value (an overflow, say).
    #[error(transparent)]
    Expression(#[from] DataFusionError),
    /// An Arrow kernel failed.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// Decoded columns and delta rows, from wherever they are. Columns may be packed ([`quire_segment::decode_packed`]), row ids are not.
#[async_trait]
pub trait ColumnSource: Send + Sync + 'static {
    /// The whole column of one row group, if it is in memory already.
    fn resident(&self, segment: &SegmentMeta, row_group: usize, column: &ColumnDef) -> Option<ArrayRef>;

    /// Whether a column of a row group is not on this node, and takes so long to come that a scan asks for more than it knows it will read.
    fn is_far(&self, _segment: &SegmentMeta, _row_group: usize, _column: &ColumnDef) -> bool {
        false
    }

    /// The whole column of one row group; a column the segment does not have is all its `missing`.
    /// `bytes` is what moved between tiers for it, 0 from memory.
    async fn column(&self, segment: &Arc<SegmentMeta>, row_group: usize, column: &ColumnDef) -> Result<(ArrayRef, Tier, u64), ScanError>;

    /// Row ids of one row group that keeps them in the hidden column, as Int64.
    async fn row_ids(&self, segment: &Arc<SegmentMeta>, row_group: usize) -> Result<ArrayRef, ScanError>;

    /// In which order the values of a column's page ascend; `None` when nobody keeps that, and every row has to be looked at. Asked only of
    /// columns that an index begins with.
    fn order(
        &self,
        _segment: &SegmentMeta,
        _row_group: usize,
        _column: &ColumnDef,
        _values: &ArrayRef,
    ) -> Result<Option<Order>, ScanError> {
        Ok(None)
    }

    /// The column that the rows of each of a segment's row groups ascend by, NULLs last; `None` when nobody says.
    fn sorted_by(&self, _segment: &SegmentMeta) -> Result<Option<ColumnId>, ScanError> {
        Ok(None)
    }
}
