//! Back-pressure: commits to a table whose delta or small segments outgrow their bounds wait a little before they are proposed.
//!
//! The wait grows with the excess, so writers come down to the pace at which rows are sealed and merged. It is never an error, and other
//! tables' commits do not wait.

use std::time::Duration;

use quire_types::{Commit, TableView, View};

use crate::compact::choose::is_small;

/// Longest wait of one commit. A client has 30 s for an answer, in which it asks a few times.
const DELAY_MAX: Duration = Duration::from_secs(1);
/// The wait is longest at so many times a bound.
const WORST: f64 = 4.0;

/// Bounds of one table above which commits to it wait.
#[derive(Clone, Debug)]
pub struct PressureOptions {
    /// Rows in its delta.
    pub delta_rows_max: u64,
    /// Bytes of encoded rows in its delta.
    pub delta_bytes_max: u64,
    /// Batches in its delta, one a commit.
    pub delta_batches_max: u64,
    /// Segments that wait to be merged.
    pub small_segments_max: u64,
}

impl Default for PressureOptions {
    /// Four times what makes a seal due (eight times for batches: ten thousand commits a second bring 1,000 between two looks), and four
    /// times the small segments that compaction leaves.
    fn default() -> Self {
        PressureOptions { delta_rows_max: 524_288, delta_bytes_max: 256 << 20, delta_batches_max: 8192, small_segments_max: 128 }
    }
}

/// How long the commit waits: as the worst of the tables demands that it inserts into or deletes from.
pub(crate) fn delay(view: &View, commit: &Commit, options: &PressureOptions) -> Duration {
    let written = commit.writes.iter().filter(|w| w.row_count > 0 || !w.segments.is_empty() || !w.deletes.is_empty());
    let worst = written.filter_map(|w| view.tables.get(&w.table)).map(|rows| excess(rows, options)).fold(0.0, f64::max);
    DELAY_MAX.mul_f64(((worst - 1.0) / (WORST - 1.0)).clamp(0.0, 1.0))
}

/// The largest of the table's measures as a multiple of its bound.
fn excess(rows: &TableView, options: &PressureOptions) -> f64 {
    let share = |measure: u64, bound: u64| measure as f64 / bound.max(1) as f64;
    // Segments are counted only when there are enough of them to matter.
    let small = match rows.segments.len() as u64 > options.small_segments_max {
        true => rows.segments.iter().filter(|s| is_small(s)).count() as u64,
        false => 0,
    };
    share(rows.delta.rows(), options.delta_rows_max)
        .max(share(rows.delta.bytes(), options.delta_bytes_max))
        .max(share(rows.delta.len() as u64, options.delta_batches_max))
        .max(share(small, options.small_segments_max))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use quire_types::{DeltaMeta, Isolation, Lsn, RowId, TableId, TableWrite, TxnId};

    use super::*;

    fn commit(table: u32, row_count: u64) -> Commit {
        let write = TableWrite { table: TableId(table), row_count, ..TableWrite::default() };
        Commit {
            txn_id: TxnId(1),
            snapshot: Lsn(0),
            isolation: Isolation::ReadCommitted,
            catalog: vec![],
            writes: vec![write],
            reads: vec![],
        }
    }

    fn view(delta_rows: u64) -> View {
        let delta = DeltaMeta { first: RowId(0), rows: delta_rows, bytes: 1, version: 1, lsn: Lsn(1) };
        let mut view = View::default();
        view.tables.insert(TableId(1), Arc::new(TableView { delta: std::iter::once(delta).collect(), ..TableView::default() }));
        view.tables.insert(TableId(2), Arc::default());
        view
    }

    #[test]
    fn the_wait_grows_with_the_excess_and_no_further_than_its_bound() {
        let options = PressureOptions { delta_rows_max: 1000, ..PressureOptions::default() };
        let waits = |rows| delay(&view(rows), &commit(1, 1), &options).as_millis();
        assert_eq!([0, 1000, 1003, 2500, 4000, 1_000_000].map(waits), [0, 0, 1, 500, 1000, 1000]);
    }

    #[test]
    fn who_writes_elsewhere_or_not_at_all_does_not_wait() {
        let options = PressureOptions { delta_rows_max: 1000, ..PressureOptions::default() };
        for commit in [commit(2, 1), commit(3, 1), commit(1, 0)] {
            assert_eq!(delay(&view(1_000_000), &commit, &options), Duration::ZERO);
        }
    }
}
