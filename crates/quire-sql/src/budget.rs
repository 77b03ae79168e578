//! One budget for decoded pages and for what queries work with: pages have what queries leave.

use std::fmt;

use datafusion::common::Result;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use parking_lot::Mutex;
use quire_cache::PageCache;

/// Pages keep this share of the limit however much queries want: a scan needs some to read ahead.
const PAGES_MIN: usize = 16;
/// Pages give and get room in steps of this share of the limit.
const STEP: usize = 64;

/// A pool that takes from the page cache what queries reserve, and gives it back.
pub(crate) struct Budget {
    queries: FairSpillPool,
    cache: PageCache,
    limit: usize,
    /// The most that pages may have.
    pages_max: usize,
    /// What they may have now.
    pages: Mutex<usize>,
}

impl Budget {
    /// `limit` bytes for both; `pages_max` of them, when queries leave so much, for decoded pages in `cache`.
    pub(crate) fn new(limit: usize, pages_max: usize, cache: PageCache) -> Budget {
        let pages_max = pages_max.min(limit);
        let queries = FairSpillPool::new(limit - pages_max.min(limit / PAGES_MIN));
        let budget = Budget { queries, cache, limit, pages_max, pages: Mutex::new(0) };
        budget.fit();
        budget
    }

    /// Brings the room for pages to what queries leave, in whole steps.
    fn fit(&self) {
        let step = (self.limit / STEP).max(1);
        let left = self.limit.saturating_sub(self.queries.reserved()) / step * step;
        let room = left.clamp(self.pages_max.min(self.limit / PAGES_MIN), self.pages_max);
        let mut pages = self.pages.lock();
        if *pages != room {
            self.cache.resize_memory(room);
            *pages = room;
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("limit", &self.limit).field("pages", &self.pages).field("queries", &self.queries).finish()
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "budget of {} bytes, {} of them for pages", self.limit, self.pages.lock())
    }
}

impl MemoryPool for Budget {
    fn name(&self) -> &str {
        "budget"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.queries.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.queries.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.queries.grow(reservation, additional);
        self.fit();
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.queries.shrink(reservation, shrink);
        self.fit();
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.queries.try_grow(reservation, additional)?;
        self.fit();
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.queries.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.queries.memory_limit()
    }
}

#[cfg(test)]
mod tests;
