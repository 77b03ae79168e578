//! Segments that left the manifest. Their objects stay for a time: older snapshots still read them.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quire_kit::clock::{self, Instant};
use quire_types::SegmentMeta;

/// What one node has seen leave since it started. Every node keeps it, so that whoever leads next knows.
pub(crate) struct RetiredSegments {
    inner: Mutex<Inner>,
}

struct Inner {
    /// Oldest first.
    waiting: VecDeque<Retired>,
    bytes: u64,
    /// Nothing has left unseen since then.
    watching_since: Instant,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Retired {
    /// When it left.
    pub(crate) since: Instant,
    /// Its object.
    pub(crate) key: String,
    /// The object's length.
    pub(crate) bytes: u64,
}

impl RetiredSegments {
    /// Nothing has left yet.
    pub(crate) fn new() -> RetiredSegments {
        RetiredSegments { inner: Mutex::new(Inner { waiting: VecDeque::new(), bytes: 0, watching_since: clock::now() }) }
    }

    /// These left at `now`.
    pub(crate) fn add(&self, now: Instant, segments: Vec<Arc<SegmentMeta>>) {
        if segments.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        for segment in segments {
            let key = SegmentMeta::object_key(segment.table, segment.id, segment.term);
            inner.bytes += segment.bytes;
            inner.waiting.push_back(Retired { since: now, key, bytes: segment.bytes });
        }
    }

    /// Something may have left unseen before `now`.
    pub(crate) fn begin_again(&self, now: Instant) {
        self.inner.lock().watching_since = now;
    }

    /// Takes those that left `retention` ago or longer.
    pub(crate) fn take_due(&self, retention: Duration) -> Vec<Retired> {
        let mut inner = self.inner.lock();
        let due = inner.waiting.iter().take_while(|r| r.since.elapsed() >= retention).count();
        let taken: Vec<Retired> = inner.waiting.drain(..due).collect();
        inner.bytes -= taken.iter().map(|r| r.bytes).sum::<u64>();
        taken
    }

    /// Puts one back that could not be removed; it is tried again at once next time.
    pub(crate) fn put_back(&self, retired: Retired) {
        let mut inner = self.inner.lock();
        inner.bytes += retired.bytes;
        inner.waiting.push_front(retired);
    }

    /// The objects that wait.
    pub(crate) fn keys(&self) -> HashSet<String> {
        self.inner.lock().waiting.iter().map(|r| r.key.clone()).collect()
    }

    /// How many wait, and their bytes.
    pub(crate) fn size(&self) -> (usize, u64) {
        let inner = self.inner.lock();
        (inner.waiting.len(), inner.bytes)
    }

    /// How long every segment that left has been seen leaving.
    pub(crate) fn watched_for(&self) -> Duration {
        self.inner.lock().watching_since.elapsed()
    }
}
