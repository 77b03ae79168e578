#![allow(clippy::unwrap_used)]
//! Pages and queries share one limit.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use quire_cache::{CacheOptions, PageCache};
use quire_types::{ColumnId, PageError, PageId, PageRead, PageSource, SegmentId, TableId, Term, page_checksum};

use super::Budget;

const MIB: usize = 1 << 20;
const LIMIT: usize = 64 * MIB;
/// Decoded; a shard of the cache has room for several even when queries have nearly all.
const PAGE: usize = MIB / 16;

/// A page counts until the last one who reads it is gone.
const SLACK: usize = MIB;

struct Source;

fn encoded() -> Bytes {
    Bytes::from_static(b"a page")
}

#[async_trait]
impl PageSource for Source {
    async fn page(&self, _: PageRead) -> Result<Bytes, PageError> {
        Ok(encoded())
    }
}

fn decode(_: Bytes) -> Result<ArrayRef, String> {
    Ok(Arc::new(Int64Array::from_value(7, PAGE / 8)))
}

/// Reads so many different pages into the cache.
async fn read(cache: &PageCache, pages: usize) {
    for n in 0..pages {
        let page = PageId { segment: SegmentId(1), row_group: n as u32, column: ColumnId(1) };
        let (length, checksum) = (encoded().len() as u32, page_checksum(&encoded()));
        let read = PageRead { page, table: TableId(1), term: Term(1), offset: 0, length, checksum };
        cache.decoded(read, decode).await.unwrap();
    }
}

struct Shared {
    budget: Arc<Budget>,
    pool: Arc<dyn MemoryPool>,
    cache: PageCache,
}

async fn shared(pages_max: usize) -> Shared {
    let options = CacheOptions { dir: None, memory_bytes: pages_max as u64, disk_bytes: 0, name: "test" };
    let cache = PageCache::open(options, Arc::new(Source)).await.unwrap();
    let budget = Arc::new(Budget::new(LIMIT, pages_max, cache.clone()));
    Shared { pool: budget.clone(), budget, cache }
}

impl Shared {
    fn query(&self) -> MemoryReservation {
        MemoryConsumer::new("query").register(&self.pool)
    }

    /// MiB that pages may have.
    fn room(&self) -> usize {
        *self.budget.pages.lock() / MIB
    }
}

#[tokio::test]
async fn pages_have_what_queries_leave_in_whole_steps() {
    let shared = shared(LIMIT).await;
    assert_eq!(shared.room(), 64);
    let (one, other) = (shared.query(), shared.query());
    one.try_grow(10 * MIB).unwrap();
    assert_eq!(shared.room(), 54);
    other.try_grow(MIB / 2).unwrap();
    assert_eq!(shared.room(), 53);
    other.grow(20 * MIB);
    assert_eq!(shared.room(), 33);
    one.shrink(5 * MIB);
    assert_eq!((shared.room(), shared.pool.reserved()), (38, 25 * MIB + MIB / 2));
}

#[tokio::test]
async fn queries_cannot_have_the_sixteenth_that_pages_keep() {
    let shared = shared(LIMIT).await;
    let query = shared.query();
    query.try_grow(60 * MIB).unwrap();
    assert_eq!(shared.room(), 4);
    let refused = query.try_grow(1).unwrap_err();
    assert!(matches!(refused.find_root(), DataFusionError::ResourcesExhausted(_)), "{refused}");
    assert_eq!((shared.room(), query.size()), (4, 60 * MIB));
}

#[tokio::test]
async fn pages_have_no_more_than_their_own_bound() {
    let shared = shared(16 * MIB).await;
    assert_eq!(shared.room(), 16);
    let query = shared.query();
    query.try_grow(48 * MIB).unwrap();
    assert_eq!(shared.room(), 16);
    query.try_grow(8 * MIB).unwrap();
    assert_eq!(shared.room(), 8);
}

#[tokio::test]
async fn pages_give_way_at_once() {
    let shared = shared(LIMIT).await;
    read(&shared.cache, 40 * MIB / PAGE).await;
    let before = shared.cache.memory_bytes() as usize;
    assert!(before > 30 * MIB, "{before} bytes of pages");
    let query = shared.query();
    query.try_grow(50 * MIB).unwrap();
    let after = shared.cache.memory_bytes() as usize;
    assert!(after + shared.pool.reserved() <= LIMIT + SLACK, "{after} bytes of pages beside the query's");
    // what is read while the query runs has the same bound
    read(&shared.cache, 40 * MIB / PAGE).await;
    let after = shared.cache.memory_bytes() as usize;
    assert!(after + shared.pool.reserved() <= LIMIT + SLACK, "{after} bytes of pages beside the query's");
    assert!(after > 0, "a page was read and is not there");
}

#[tokio::test]
async fn a_query_that_ends_gives_its_memory_back() {
    let shared = shared(LIMIT).await;
    for _ in 0..3 {
        let query = shared.query();
        query.try_grow(55 * MIB).unwrap();
        assert_eq!(shared.room(), 9);
        drop(query);
        assert_eq!((shared.room(), shared.pool.reserved()), (64, 0));
    }
    read(&shared.cache, 40 * MIB / PAGE).await;
    assert!(shared.cache.memory_bytes() as usize > 30 * MIB, "pages do not come back");
}
