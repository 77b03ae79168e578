#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, BinaryViewArray};
use async_trait::async_trait;
use bytes::Bytes;
use quire_types::{ColumnId, PageError, PageId, PageRead, PageSource, SegmentId, TableId, Term, page_checksum};

use crate::{CacheError, CacheOptions, CacheStats, PageCache, Tier};

/// Serves pages made from their number, and counts.
#[derive(Default)]
struct Source(AtomicU64);

fn bytes(n: u32) -> Bytes {
    vec![n as u8; 100_000].into()
}

#[async_trait]
impl PageSource for Source {
    async fn page(&self, read: PageRead) -> Result<Bytes, PageError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        if read.page.row_group == 404 {
            return Err(PageError::Missing { object: "gone".into() });
        }
        Ok(bytes(read.page.row_group))
    }
}

fn read(n: u32) -> PageRead {
    PageRead {
        page: PageId { segment: SegmentId(9), row_group: n, column: ColumnId(1) },
        table: TableId(1),
        term: Term(1),
        offset: 4,
        length: 100_000,
        checksum: page_checksum(&bytes(n)),
    }
}

fn decode(bytes: Bytes) -> Result<ArrayRef, String> {
    Ok(Arc::new(BinaryViewArray::from_iter_values([bytes.as_ref()])))
}

async fn open(dir: Option<&Path>, memory: u64, source: &Arc<Source>) -> PageCache {
    let options = CacheOptions { dir: dir.map(Into::into), memory_bytes: memory, disk_bytes: 256 << 20, name: "test" };
    PageCache::open(options, source.clone()).await.unwrap()
}

#[tokio::test]
async fn a_page_is_fetched_and_decoded_once_for_all_who_ask() {
    let source = Arc::new(Source::default());
    let cache = open(None, 10 << 20, &source).await;
    let asks = (0..50).map(|i| {
        let cache = cache.clone();
        async move { cache.decoded(read(i % 2), decode).await.unwrap() }
    });
    let answers = futures::future::join_all(asks).await;
    assert_eq!(source.0.load(Ordering::Relaxed), 2);
    assert!(answers.iter().any(|(_, tier)| *tier == Tier::Remote));
    assert!(cache.decoded_if_resident(&read(1).page).is_some() && cache.has(&read(1).page) && !cache.has(&read(2).page));
    assert_eq!(cache.decoded(read(1), decode).await.unwrap().1, Tier::Memory);
}

#[tokio::test]
async fn errors_are_told_to_all_and_kept_by_none() {
    let source = Arc::new(Source::default());
    let cache = open(None, 10 << 20, &source).await;
    for _ in 0..2 {
        assert!(matches!(cache.decoded(read(404), decode).await, Err(CacheError::Page(PageError::Missing { .. }))));
    }
    assert_eq!(source.0.load(Ordering::Relaxed), 2);
    assert!(matches!(cache.decoded(read(1), |_| Err("bad".into())).await, Err(CacheError::Decode(_))));
    assert!(matches!(cache.decoded(read(2), |_| panic!("a bug in a decoder")).await, Err(CacheError::Decode(_))));
    assert!(cache.decoded(read(1), decode).await.is_ok());
}

#[tokio::test]
async fn the_latency_is_a_mean_of_late_reads() {
    struct Slow(AtomicU64);
    #[async_trait]
    impl PageSource for Slow {
        async fn page(&self, read: PageRead) -> Result<Bytes, PageError> {
            tokio::time::sleep(std::time::Duration::from_millis(self.0.load(Ordering::Relaxed))).await;
            Ok(bytes(read.page.row_group))
        }
    }
    let source = Arc::new(Slow(AtomicU64::new(40)));
    let options = CacheOptions { dir: None, memory_bytes: 1, disk_bytes: 0, name: "test" };
    let cache = PageCache::open(options, source.clone()).await.unwrap();
    assert!(cache.remote_latency().is_zero());
    cache.encoded(read(0)).await.unwrap();
    let first = cache.remote_latency();
    assert!(first.as_millis() >= 40, "{first:?}");
    source.0.store(0, Ordering::Relaxed);
    for n in 1..60 {
        cache.encoded(read(n)).await.unwrap();
    }
    assert!(cache.remote_latency() < first / 2, "{:?}", cache.remote_latency());
}

#[tokio::test]
async fn memory_stays_within_its_budget() {
    let source = Arc::new(Source::default());
    let cache = open(None, 2 << 20, &source).await;
    for n in 0..200 {
        cache.decoded(read(n), decode).await.unwrap();
    }
    assert!(cache.memory_bytes() <= 3 << 20, "{}", cache.memory_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_pages_are_found_again_and_bad_ones_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let source = Arc::new(Source::default());
    let cache = open(Some(dir.path()), 1 << 10, &source).await;
    for n in 0..20 {
        assert_eq!(cache.encoded(read(n)).await.unwrap(), (bytes(n), Tier::Remote));
    }
    cache.close().await;
    drop(cache);

    let cache = open(Some(dir.path()), 1 << 10, &source).await;
    assert!(cache.has(&read(7).page) && !cache.has(&read(20).page));
    for n in 0..20 {
        assert_eq!(cache.encoded(read(n)).await.unwrap(), (bytes(n), Tier::Disk));
    }
    let wrong = PageRead { checksum: 1, ..read(3) };
    assert_eq!(cache.encoded(wrong).await.unwrap().1, Tier::Remote);
    assert_eq!(cache.stats(), CacheStats { disk_hits: 20, remote_reads: 1, remote_bytes: 100_000, corrupt: 1, ..CacheStats::default() });
    cache.close().await;
    drop(cache);

    // Flip a bit in the middle of every kilobyte of every file.
    for file in std::fs::read_dir(dir.path()).unwrap().filter_map(|f| f.ok()).filter(|f| f.file_type().unwrap().is_file()) {
        let mut content = std::fs::read(file.path()).unwrap();
        content.iter_mut().skip(8192 + 512).step_by(1024).for_each(|b| *b ^= 1);
        std::fs::write(file.path(), content).unwrap();
    }
    let cache = open(Some(dir.path()), 1 << 10, &source).await;
    for n in 0..20 {
        assert_eq!(cache.encoded(read(n)).await.unwrap(), (bytes(n), Tier::Remote), "page {n}");
    }
}

#[tokio::test]
async fn an_unusable_directory_is_said_at_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let options = CacheOptions { dir: Some(file.path().join("cache")), memory_bytes: 1, disk_bytes: 1 << 30, name: "test" };
    let error = PageCache::open(options, Arc::new(Source::default())).await.err().unwrap();
    assert!(matches!(error, CacheError::Open(_)), "{error}");
}
