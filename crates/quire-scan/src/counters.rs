use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef};

use crate::Tier;

/// What a scan did, counted while it runs; EXPLAIN ANALYZE and the statement's log event show it.
#[derive(Debug, Default)]
pub struct ScanCounters {
    /// Row groups in the manifest.
    pub row_groups: AtomicU64,
    /// Row groups that statistics excluded.
    pub row_groups_pruned: AtomicU64,
    /// Segments of which every row group was excluded before the first was read.
    pub segments_pruned: AtomicU64,
    /// Row groups of which no row survived the predicates, so that the remaining columns were never read.
    pub row_groups_filtered: AtomicU64,
    /// Rows looked at.
    pub rows_scanned: AtomicU64,
    /// Rows that the order of an indexed column found; of their row groups no others are looked at.
    pub rows_by_index: AtomicU64,
    /// Rows that predicates removed.
    pub rows_filtered: AtomicU64,
    /// Rows that came from the delta or the transaction's own writes.
    pub rows_delta: AtomicU64,
    /// Rows of which a predicate was answered from a table, or once for a run of equal numbers; a row counts once for each such predicate.
    pub rows_tabulated: AtomicU64,
    /// Rows of which a predicate was answered by the keys of a join's other side; a row counts once for each such predicate.
    pub rows_by_keys: AtomicU64,
    /// Pages from memory.
    pub pages_memory: AtomicU64,
    /// Pages from this node's disk.
    pub pages_disk: AtomicU64,
    /// Pages from storage.
    pub pages_remote: AtomicU64,
    /// Decoded bytes of the pages that were in memory.
    pub bytes_memory: AtomicU64,
    /// Encoded bytes from this node's disk.
    pub bytes_disk: AtomicU64,
    /// Encoded bytes from storage.
    pub bytes_remote: AtomicU64,
    /// Decoded bytes that were looked at: all of a column that predicates read, of another the share of the rows that are given.
    pub bytes_touched: AtomicU64,
}

impl ScanCounters {
    pub(crate) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// A page was had: `moved` bytes, encoded, or from memory.
    pub(crate) fn page(&self, tier: Tier, moved: u64, page: &dyn Array) {
        match tier {
            Tier::Memory => {
                self.pages_memory.fetch_add(1, Ordering::Relaxed);
                Self::add(&self.bytes_memory, page.get_buffer_memory_size());
            }
            Tier::Disk => {
                self.pages_disk.fetch_add(1, Ordering::Relaxed);
                self.bytes_disk.fetch_add(moved, Ordering::Relaxed);
            }
            Tier::Remote => {
                self.pages_remote.fetch_add(1, Ordering::Relaxed);
                self.bytes_remote.fetch_add(moved, Ordering::Relaxed);
            }
        }
    }

    /// Of `rows` rows of some columns, `used` were looked at.
    pub(crate) fn touched<'a>(&self, columns: impl Iterator<Item = &'a ArrayRef>, used: usize, rows: usize) {
        let bytes: usize = columns.map(|column| column.get_buffer_memory_size()).sum();
        Self::add(&self.bytes_touched, (bytes as u64 * used as u64 / rows.max(1) as u64) as usize);
    }

    /// Every counter with the name it is shown under.
    pub fn all(&self) -> [(&'static str, u64); 17] {
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        [
            ("row_groups", read(&self.row_groups)),
            ("row_groups_pruned", read(&self.row_groups_pruned)),
            ("segments_pruned", read(&self.segments_pruned)),
            ("row_groups_filtered", read(&self.row_groups_filtered)),
            ("rows_scanned", read(&self.rows_scanned)),
            ("rows_by_index", read(&self.rows_by_index)),
            ("rows_filtered", read(&self.rows_filtered)),
            ("rows_delta", read(&self.rows_delta)),
            ("rows_tabulated", read(&self.rows_tabulated)),
            ("rows_by_keys", read(&self.rows_by_keys)),
            ("pages_memory", read(&self.pages_memory)),
            ("pages_disk", read(&self.pages_disk)),
            ("pages_remote", read(&self.pages_remote)),
            ("bytes_memory", read(&self.bytes_memory)),
            ("bytes_disk", read(&self.bytes_disk)),
            ("bytes_remote", read(&self.bytes_remote)),
            ("bytes_touched", read(&self.bytes_touched)),
        ]
    }
}
