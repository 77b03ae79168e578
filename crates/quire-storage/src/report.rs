//! What a node knows of itself, as metrics: positions in the log, room on the disk, and the sizes that sealing, compaction and garbage
//! collection keep within bounds.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use quire_kit::{Shutdown, clock};
use quire_types::{TableView, View};

use crate::compact::choose::{deleted_at_most, is_small};
use crate::replica::Replica;
use crate::retired::RetiredSegments;
use crate::space::Space;

/// Between two reports. Prometheus asks every 15 s or so.
const EVERY: Duration = Duration::from_secs(2);

/// Sizes of all tables.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sizes {
    /// Rows in deltas.
    pub(crate) delta_rows: u64,
    /// Bytes in deltas.
    pub(crate) delta_bytes: u64,
    /// Batches in deltas.
    pub(crate) delta_batches: u64,
    /// Rows in the largest delta.
    pub(crate) delta_rows_largest: u64,
    /// Segments.
    pub(crate) segments: u64,
    /// Of them, those that are merged further.
    pub(crate) small_segments: u64,
    /// Bytes of segments.
    pub(crate) segment_bytes: u64,
    /// Of them, those of rows that are not deleted: an estimate.
    pub(crate) live_bytes: u64,
    /// Deleted rows that are still stored.
    pub(crate) deleted_rows: u64,
}

impl Sizes {
    /// What the view has.
    pub(crate) fn of(view: &View) -> Sizes {
        let mut sizes = Sizes::default();
        view.tables.values().for_each(|rows| sizes.add(rows));
        sizes
    }

    fn add(&mut self, rows: &TableView) {
        self.delta_rows += rows.delta.rows();
        self.delta_bytes += rows.delta.bytes();
        self.delta_batches += rows.delta.len() as u64;
        self.delta_rows_largest = self.delta_rows_largest.max(rows.delta.rows());
        self.segments += rows.segments.len() as u64;
        self.small_segments += rows.segments.iter().filter(|s| is_small(s)).count() as u64;
        self.deleted_rows += rows.deleted.len();
        let (mut stored, mut bytes, mut deleted) = (0, 0, 0);
        for segment in rows.segments.iter() {
            stored += segment.rows;
            bytes += segment.bytes;
            deleted += deleted_at_most(segment, &rows.deleted);
        }
        // Ids of one segment may lie between those of another: no more rows of segments are deleted than rows are.
        let live = 1.0 - deleted.min(rows.deleted.len()).min(stored) as f64 / stored.max(1) as f64;
        self.segment_bytes += bytes;
        self.live_bytes += (bytes as f64 * live) as u64;
    }
}

/// Reports until `shutdown`. Each node's gauges have its number, since `quire dev` runs several in one process.
pub(crate) async fn run_reporter(replica: Arc<Replica>, retired: Arc<RetiredSegments>, space: Arc<Space>, shutdown: Shutdown) {
    loop {
        report(&replica, &retired, &space);
        tokio::select! {
            () = shutdown.triggered() => return,
            () = clock::sleep(EVERY) => {}
        }
    }
}

fn report(replica: &Replica, retired: &RetiredSegments, space: &Space) {
    let raft = replica.raft().metrics().borrow_watched().clone();
    let node = raft.id.to_string();
    let view = replica.view();
    let set = |name: &'static str, value: f64| metrics::gauge!(name, "node" => node.clone()).set(value);
    let leads = raft.current_leader == Some(raft.id);
    set("quire_storage_leader", f64::from(u8::from(leads)));
    set("quire_storage_leader_known", f64::from(u8::from(raft.current_leader.is_some())));
    set("quire_storage_term", raft.current_term as f64);
    set("quire_storage_applied_lsn", view.lsn.0 as f64);
    let last = raft.last_log_index.unwrap_or(0);
    set("quire_storage_log_index", last as f64);
    set("quire_storage_apply_lag_entries", last.saturating_sub(raft.last_applied.map_or(0, |l| l.index)) as f64);
    // Only the leader knows; what a node said when it led is taken back.
    for (member, _) in raft.membership_config.nodes().filter(|(id, _)| **id != raft.id) {
        let matched = raft.replication.as_ref().and_then(|r| r.get(member)?.as_ref().map(|l| l.index));
        let lag = if leads { last.saturating_sub(matched.unwrap_or(0)) } else { 0 };
        metrics::gauge!("quire_storage_follower_lag_entries", "node" => node.clone(), "follower" => member.to_string()).set(lag as f64);
    }
    if let Some((free, total)) = space.measure() {
        set("quire_storage_disk_free_bytes", free as f64);
        set("quire_storage_disk_total_bytes", total as f64);
    }
    let sizes = Sizes::of(&view);
    let (waiting, waiting_bytes) = retired.size();
    set("quire_storage_tables", view.tables.len() as f64);
    set("quire_storage_delta_rows", sizes.delta_rows as f64);
    set("quire_storage_delta_bytes", sizes.delta_bytes as f64);
    set("quire_storage_delta_batches", sizes.delta_batches as f64);
    set("quire_storage_delta_rows_largest", sizes.delta_rows_largest as f64);
    set("quire_storage_segments", sizes.segments as f64);
    set("quire_storage_small_segments", sizes.small_segments as f64);
    set("quire_storage_segment_bytes", sizes.segment_bytes as f64);
    set("quire_storage_live_bytes", sizes.live_bytes as f64);
    set("quire_storage_deleted_rows", sizes.deleted_rows as f64);
    set("quire_storage_retired_segments", waiting as f64);
    set("quire_storage_retired_bytes", waiting_bytes as f64);
}
