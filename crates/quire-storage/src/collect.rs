//! Garbage collection: objects that nothing names any more.
//!
//! Two kinds. Segments that left the manifest (compacted, truncated, dropped) stay for a retention time, because older snapshots read
//! them, and then go. Orphans were uploaded and never committed, or left the manifest while nobody watched: they go when they are older than
//! any transaction may be. Both only by the leader, after it has made sure that it still leads and has looked into the manifest again.
//!
//! A store that another log has written to is not swept: what looks like orphans may be all that is left of a database.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quire_kit::clock::{self, Instant};
use quire_kit::{Shutdown, task};
use quire_objects::{ObjectError, ObjectInfo, Objects, PutOutcome};
use quire_types::{SegmentMeta, View};
use tokio::sync::RwLock;

use crate::replica::Replica;
use crate::retired::RetiredSegments;

/// Names the log that the store belongs to.
const OWNER_KEY: &str = "quire/log";
/// Where segments are.
const SEGMENTS: &str = "segments";
/// Between two sweeps for orphans, at most: a listing of a large bucket is thousands of requests.
const SWEEP_MAX: Duration = Duration::from_secs(3600);
/// Between two looks for segments whose time is over, at most.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// And at least, of both.
const LOOK_MIN: Duration = Duration::from_millis(100);

/// How long what nobody needs is kept.
#[derive(Clone, Debug)]
pub struct KeepOptions {
    /// Delta rows and segments that no new snapshot names stay readable to older ones for so long.
    pub retention: Duration,
    /// An object that no manifest names is an orphan at this age. No transaction may upload rows and then stay open for longer.
    pub orphan_age: Duration,
}

impl Default for KeepOptions {
    fn default() -> Self {
        KeepOptions { retention: Duration::from_secs(600), orphan_age: Duration::from_secs(24 * 3600) }
    }
}

/// Removes objects while its node leads.
pub(crate) struct Collector {
    replica: Arc<Replica>,
    objects: Objects,
    retired: Arc<RetiredSegments>,
    options: KeepOptions,
    /// Held for reading by those who are about to commit uploaded segments: an orphan is not removed while one may become none.
    uploads: Arc<RwLock<()>>,
}

/// Collects until `shutdown`. Runs on every node, acts on the leader.
pub(crate) async fn run_collector(collector: Collector, shutdown: Shutdown) {
    let look = (collector.options.retention / 4).clamp(LOOK_MIN, LOOK_MAX);
    let sweep = (collector.options.orphan_age / 4).clamp(LOOK_MIN, SWEEP_MAX);
    let mut swept: Option<Instant> = None;
    let mut complained = false;
    loop {
        tokio::select! {
            () = shutdown.triggered() => return,
            () = clock::sleep(look) => {}
        }
        let round = async {
            collector.remove_retired().await;
            // What left the manifest before this node watched left it long enough ago.
            let watched = collector.retired.watched_for() >= collector.options.retention;
            if watched && collector.replica.is_leader() && swept.is_none_or(|at| at.elapsed() >= sweep) {
                swept = Some(clock::now());
                if let Err(error) = Box::pin(collector.sweep(&mut complained)).await {
                    tracing::warn!(%error, "cannot look for orphans in the object store, trying again later");
                }
            }
        };
        tokio::select! {
            () = shutdown.triggered() => return,
            () = Box::pin(round) => {}
        }
    }
}

impl Collector {
    pub(crate) fn new(
        replica: Arc<Replica>,
        objects: Objects,
        retired: Arc<RetiredSegments>,
        options: KeepOptions,
        uploads: Arc<RwLock<()>>,
    ) -> Collector {
        Collector { replica, objects, retired, options, uploads }
    }

    /// Removes segments whose retention is over. Another node than the leader only forgets them: the leader removes them.
    async fn remove_retired(&self) {
        let due = self.retired.take_due(self.options.retention);
        if due.is_empty() || !self.replica.is_leader() {
            return;
        }
        let leads = self.replica.linearize().await.is_ok();
        let named = named(&self.replica.view());
        for retired in due {
            if !leads {
                self.retired.put_back(retired);
                continue;
            }
            // A segment's id is drawn at random and used once, so it does not come back; but looking costs nothing.
            if named.contains(&retired.key) {
                continue;
            }
            match self.objects.delete(&retired.key).await {
                Ok(()) => count("retired", retired.bytes),
                Err(error) => {
                    tracing::info!(key = retired.key, %error, "cannot remove a segment yet");
                    self.retired.put_back(retired);
                }
            }
        }
    }

    /// Removes orphans.
    async fn sweep(&self, complained: &mut bool) -> Result<(), ObjectError> {
        if !self.owns_the_store().await? {
            if !std::mem::replace(complained, true) {
                tracing::warn!(
                    objects = self.objects.url(),
                    "the object store belongs to another log: what this one does not name is left there"
                );
            }
            return Ok(());
        }
        let found = self.objects.list(SEGMENTS).await?;
        let now = clock::wall();
        let (named_before, waiting) = (named(&self.replica.view()), self.retired.keys());
        let (age, objects) = (self.options.orphan_age, found.len());
        let is_orphan =
            move |o: &ObjectInfo| !named_before.contains(&o.key) && !waiting.contains(&o.key) && now.saturating_sub(o.modified) >= age;
        let orphans: Vec<ObjectInfo> = task::blocking(move || found.into_iter().filter(is_orphan).collect()).await;
        tracing::debug!(objects, orphans = orphans.len(), "swept the object store");
        for orphan in orphans {
            let _nobody_commits = self.uploads.write().await;
            if self.replica.linearize().await.is_err() {
                return Ok(());
            }
            if named(&self.replica.view()).contains(&orphan.key) {
                continue;
            }
            self.objects.delete(&orphan.key).await?;
            tracing::info!(key = orphan.key, bytes = orphan.bytes, "removed an orphan object");
            count("orphan", orphan.bytes);
        }
        Ok(())
    }

    /// True when no other log has written to this store. The first to ask owns it.
    async fn owns_the_store(&self) -> Result<bool, ObjectError> {
        let Some(log) = self.replica.published().log_name() else { return Ok(false) };
        let name = Bytes::from(log);
        if self.objects.put_if_absent(OWNER_KEY, name.clone()).await? == PutOutcome::Written {
            return Ok(true);
        }
        let length = self.objects.head(OWNER_KEY).await?.bytes;
        Ok(length == name.len() as u64 && self.objects.get_range(OWNER_KEY, 0..length).await? == name)
    }
}

/// The objects of all manifests.
fn named(view: &View) -> HashSet<String> {
    let segments = view.tables.values().flat_map(|rows| rows.segments.iter());
    segments.map(|s| SegmentMeta::object_key(s.table, s.id, s.term)).collect()
}

fn count(kind: &'static str, bytes: u64) {
    metrics::counter!("quire_storage_collected_objects_total", "kind" => kind).increment(1);
    metrics::counter!("quire_storage_collected_bytes_total", "kind" => kind).increment(bytes);
}
