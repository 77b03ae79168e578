use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{Array, ArrayRef};
use bytes::Bytes;
use foyer::{Cache, CacheBuilder, S3FifoConfig};
use metrics::Counter;
use quire_kit::{clock, task};
use quire_types::{PageError, PageId, PageRead, PageSource, page_checksum};
use tokio::sync::Semaphore;

use crate::disk::DiskTier;
use crate::flight::Flights;

/// Pages larger than this are decoded off the runtime's threads: about 100 µs of work.
const INLINE_DECODE_BYTES: usize = 64 << 10;

/// How large, and where.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Directory of the disk tier; `None` for memory only.
    pub dir: Option<PathBuf>,
    /// Decoded bytes kept in memory.
    pub memory_bytes: u64,
    /// Encoded bytes kept on disk.
    pub disk_bytes: u64,
    /// Whose cache it is, in metrics.
    pub name: &'static str,
}

/// Where a page was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Decoded, in memory.
    Memory,
    /// Encoded, on disk.
    Disk,
    /// It had to be fetched from the source.
    Remote,
}

/// Why a page is not to be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CacheError {
    /// The source has not got it.
    #[error(transparent)]
    Page(#[from] PageError),
    /// It does not decode.
    #[error("{0}")]
    Decode(String),
    /// The cache's directory cannot be used.
    #[error("cannot use the cache directory {0}")]
    Open(String),
}

/// What the cache has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Pages found decoded.
    pub memory_hits: u64,
    /// Pages found on disk.
    pub disk_hits: u64,
    /// Pages fetched from the source.
    pub remote_reads: u64,
    /// Their encoded bytes.
    pub remote_bytes: u64,
    /// Disk pages whose checksum was wrong.
    pub corrupt: u64,
}

#[derive(Default)]
struct Counters {
    memory_hits: AtomicU64,
    disk_hits: AtomicU64,
    remote_reads: AtomicU64,
    remote_bytes: AtomicU64,
    corrupt: AtomicU64,
}

/// The two tiers and the source behind them. Cheap to clone.
#[derive(Clone)]
pub struct PageCache {
    inner: Arc<Inner>,
}

struct Inner {
    name: &'static str,
    memory: Cache<PageId, ArrayRef>,
    disk: Option<DiskTier>,
    source: Arc<dyn PageSource>,
    decoding: Flights<Result<(ArrayRef, Tier), CacheError>>,
    /// As many pages are decoded at once as there are processors. What a decoder needs beside the page is several times as large, and new to
    /// this process unless another decoder has let go of it: memory that the kernel must zero first takes longer than the decoding.
    decoders: Semaphore,
    fetching: Flights<Result<(Bytes, Tier), PageError>>,
    /// How long the source has taken for a page lately; 0 before the first one.
    remote_micros: AtomicU64,
    counters: Counters,
    /// Of the tiers, in their order. Held, because finding one by its name and labels takes longer than finding a page in memory.
    pages: [Counter; 3],
}

impl PageCache {
    /// Opens the cache; what an earlier process left on disk is found again.
    pub async fn open(options: CacheOptions, source: Arc<dyn PageSource>) -> Result<PageCache, CacheError> {
        let disk = match &options.dir {
            Some(dir) if options.disk_bytes > 0 => {
                Some(DiskTier::open(dir, options.disk_bytes, options.name).await.map_err(CacheError::Open)?)
            }
            _ => None,
        };
        // S3-FIFO: a page must be asked for twice to push out those that were, so one scan larger than memory leaves the working set alone.
        let memory = CacheBuilder::new(options.memory_bytes as usize)
            .with_name(options.name)
            .with_shards(if options.memory_bytes == 0 { 1 } else { 16 })
            .with_eviction_config(S3FifoConfig::default())
            .with_weighter(|_: &PageId, array: &ArrayRef| array.get_array_memory_size() + 128)
            .build();
        let pages = |tier: &'static str| metrics::counter!("quire_cache_pages_total", "cache" => options.name, "tier" => tier);
        let inner = Inner {
            pages: ["memory", "disk", "remote"].map(pages),
            name: options.name,
            memory,
            disk,
            source,
            decoding: Flights::new(),
            decoders: Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)),
            fetching: Flights::new(),
            remote_micros: AtomicU64::new(0),
            counters: Counters::default(),
        };
        Ok(PageCache { inner: Arc::new(inner) })
    }

    /// Changes how many decoded bytes are kept in memory; what is too much goes, but not while somebody reads it.
    pub fn resize_memory(&self, bytes: usize) {
        if let Err(error) = self.inner.memory.resize(bytes) {
            tracing::warn!(%error, bytes, "the page cache keeps its size");
        }
    }

    /// The decoded page, if it is in memory. Takes under a microsecond and never waits.
    pub fn decoded_if_resident(&self, page: &PageId) -> Option<ArrayRef> {
        let entry = self.inner.memory.get(page)?;
        self.inner.hit(Tier::Memory, 0);
        Some(entry.value().clone())
    }

    /// Whether the page is in one of the tiers. It may be wrong about the disk, and does not count as use of the page.
    pub fn has(&self, page: &PageId) -> bool {
        self.inner.memory.contains(page) || self.inner.disk.as_ref().is_some_and(|disk| disk.has(*page))
    }

    /// The decoded page, and the tier it came from.
    pub async fn decoded<F>(&self, read: PageRead, decode: F) -> Result<(ArrayRef, Tier), CacheError>
    where
        F: FnOnce(Bytes) -> Result<ArrayRef, String> + Send + 'static,
    {
        if let Some(array) = self.decoded_if_resident(&read.page) {
            return Ok((array, Tier::Memory));
        }
        let cache = self.clone();
        let work = || async move {
            if let Some(entry) = cache.inner.memory.get(&read.page) {
                return Ok((entry.value().clone(), Tier::Memory));
            }
            let (bytes, tier) = cache.encoded(read).await?;
            let array = cache.inner.decode(bytes, decode).await?;
            cache.inner.memory.insert(read.page, array.clone());
            metrics::gauge!("quire_cache_memory_bytes", "cache" => cache.inner.name).set(cache.memory_bytes() as f64);
            Ok((array, tier))
        };
        let flight = self.inner.decoding.join(read.page, work).await;
        flight.unwrap_or_else(|| Err(CacheError::Decode(format!("decoding page {} failed", read.page))))
    }

    /// The page as it is in the segment, from disk or the source. For storage nodes, which do not decode.
    pub async fn encoded(&self, read: PageRead) -> Result<(Bytes, Tier), PageError> {
        let cache = self.clone();
        let flight = self.inner.fetching.join(read.page, || async move { cache.inner.fetch(read).await }).await;
        let gone = || PageError::Unavailable { page: read.page, reason: "the read was abandoned".into() };
        flight.unwrap_or_else(|| Err(gone()))
    }

    /// What the cache has done.
    pub fn stats(&self) -> CacheStats {
        let counters = &self.inner.counters;
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        CacheStats {
            memory_hits: read(&counters.memory_hits),
            disk_hits: read(&counters.disk_hits),
            remote_reads: read(&counters.remote_reads),
            remote_bytes: read(&counters.remote_bytes),
            corrupt: read(&counters.corrupt),
        }
    }

    /// How long the source has taken for a page lately, waiting in queues included: a mean in which each read weighs an eighth less than the
    /// next. Zero before the first one.
    pub fn remote_latency(&self) -> Duration {
        Duration::from_micros(self.inner.remote_micros.load(Ordering::Relaxed))
    }

    /// Bytes of decoded pages in memory now.
    pub fn memory_bytes(&self) -> u64 {
        self.inner.memory.usage() as u64
    }

    /// Writes what is still on its way to disk.
    pub async fn close(&self) {
        if let Some(disk) = &self.inner.disk {
            disk.close().await;
        }
    }
}

impl Inner {
    async fn decode<F>(&self, bytes: Bytes, decode: F) -> Result<ArrayRef, CacheError>
    where
        F: FnOnce(Bytes) -> Result<ArrayRef, String> + Send + 'static,
    {
        if bytes.len() <= INLINE_DECODE_BYTES {
            return decode(bytes).map_err(CacheError::Decode);
        }
        let _turn = self.decoders.acquire().await.map_err(|e| CacheError::Decode(e.to_string()))?;
        task::blocking(move || decode(bytes)).await.map_err(CacheError::Decode)
    }

    async fn fetch(&self, read: PageRead) -> Result<(Bytes, Tier), PageError> {
        if let Some(disk) = &self.disk
            && let Some(bytes) = disk.get(read.page).await
        {
            if bytes.len() == read.length as usize && page_checksum(&bytes) == read.checksum {
                self.hit(Tier::Disk, 0);
                return Ok((bytes, Tier::Disk));
            }
            tracing::warn!(page = %read.page, cache = self.name, "page checksum mismatch, reading the next tier");
            self.counters.corrupt.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("quire_cache_corrupt_pages_total", "cache" => self.name).increment(1);
            disk.remove(read.page);
        }
        let start = clock::now();
        let bytes = self.source.page(read).await?;
        self.took(start.elapsed());
        self.hit(Tier::Remote, bytes.len() as u64);
        if let Some(disk) = &self.disk {
            disk.put(read.page, bytes.clone());
        }
        Ok((bytes, Tier::Remote))
    }

    fn took(&self, elapsed: Duration) {
        let took = elapsed.as_micros() as u64;
        let mean = self.remote_micros.load(Ordering::Relaxed);
        // two that end at the same moment may count as one
        self.remote_micros.store(if mean == 0 { took } else { (7 * mean + took) / 8 }, Ordering::Relaxed);
    }

    fn hit(&self, tier: Tier, bytes: u64) {
        let counter = match tier {
            Tier::Memory => &self.counters.memory_hits,
            Tier::Disk => &self.counters.disk_hits,
            Tier::Remote => &self.counters.remote_reads,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.pages[tier as usize].increment(1);
        if tier == Tier::Remote {
            self.counters.remote_bytes.fetch_add(bytes, Ordering::Relaxed);
            metrics::counter!("quire_cache_remote_bytes_total", "cache" => self.name).increment(bytes);
        }
    }
}
