//! The disk tier: encoded pages in foyer's block engine.

use std::io::{Read, Write};
use std::path::Path;

use bytes::Bytes;
use foyer::{
    BlockEngineConfig, Code, Compression, DeviceBuilder, Error, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    PsyncIoEngineConfig, RecoverMode,
};
use quire_types::PageId;

/// The page is as it is in the segment: a Parquet column chunk.
const CODEC_PARQUET: u8 = 0;
/// Blocks are the unit of eviction; a page must fit in one.
const BLOCK_BYTES: usize = 32 << 20;
const _: () = assert!(quire_types::PAGE_BYTES_MAX < BLOCK_BYTES, "a page fits in a block");
/// Pages on their way to disk wait here; beyond it they are not written (and will be fetched again).
const WRITE_QUEUE_BYTES: usize = 256 << 20;
/// Encoded pages that foyer keeps in memory in front of the disk. Few: the decoded tier is the real one, pages on their way to disk are found
/// there, and each that is kept is memory that the next one cannot have and the kernel has to zero.
const FRONT_BYTES: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DiskKey(PageId);

impl Code for DiskKey {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        self.0.segment.0.encode(writer)?;
        self.0.row_group.encode(writer)?;
        self.0.column.0.encode(writer)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        Ok(DiskKey(PageId {
            segment: quire_types::SegmentId(u64::decode(reader)?),
            row_group: u32::decode(reader)?,
            column: quire_types::ColumnId(u32::decode(reader)?),
        }))
    }

    fn estimated_size(&self) -> usize {
        16
    }
}

/// A codec byte, a length, the bytes.
#[derive(Clone, Debug)]
pub(crate) struct DiskPage(Bytes);

impl Code for DiskPage {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        CODEC_PARQUET.encode(writer)?;
        (self.0.len() as u32).encode(writer)?;
        writer.write_all(&self.0).map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let codec = u8::decode(reader)?;
        let length = u32::decode(reader)? as usize;
        if codec != CODEC_PARQUET || length > BLOCK_BYTES {
            // Written by a later version, or damaged: the caller reads the page from its source.
            return Ok(DiskPage(Bytes::new()));
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes).map_err(Error::io_error)?;
        Ok(DiskPage(bytes.into()))
    }

    fn estimated_size(&self) -> usize {
        5 + self.0.len()
    }
}

/// Encoded pages on disk.
pub(crate) struct DiskTier {
    cache: HybridCache<DiskKey, DiskPage>,
    /// Held as long as the directory is ours.
    _lock: std::fs::File,
}

impl DiskTier {
    pub(crate) async fn open(dir: &Path, bytes: u64, name: &'static str) -> Result<DiskTier, String> {
        let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", dir.display());
        std::fs::create_dir_all(dir).map_err(|e| failed(&e))?;
        // Two processes would write over one another's blocks.
        let lock = std::fs::File::create(dir.join(".lock")).map_err(|e| failed(&e))?;
        lock.try_lock().map_err(|_| format!("{} is in use by another process", dir.display()))?;
        // foyer reports an unwritable directory only when it first writes; better to know now.
        let probe = dir.join(".writable");
        std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)).map_err(|e| failed(&e))?;
        let capacity = (bytes as usize).max(4 * BLOCK_BYTES);
        let device = FsDeviceBuilder::new(dir).with_capacity(capacity).build().map_err(|e| failed(&e))?;
        let engine = BlockEngineConfig::new(device)
            .with_block_size(BLOCK_BYTES)
            .with_buffer_pool_size(64 << 20)
            .with_submit_queue_size_threshold(WRITE_QUEUE_BYTES);
        let cache = HybridCacheBuilder::new()
            .with_name(name)
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(true)
            .memory(FRONT_BYTES)
            .with_shards(4)
            .with_weighter(|_: &DiskKey, page: &DiskPage| page.0.len() + 64)
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(engine)
            .with_compression(Compression::None)
            .with_recover_mode(RecoverMode::Quiet)
            .build()
            .await
            .map_err(|e| failed(&e))?;
        Ok(DiskTier { cache, _lock: lock })
    }

    /// The bytes, unverified. A read error is a miss: the source has the page.
    pub(crate) async fn get(&self, page: PageId) -> Option<Bytes> {
        match self.cache.get(&DiskKey(page)).await {
            Ok(entry) => entry.map(|e| e.value().0.clone()),
            Err(error) => {
                tracing::warn!(%page, %error, "cannot read a cached page, reading the next tier");
                None
            }
        }
    }

    /// Whether it is there, or was until a moment ago.
    pub(crate) fn has(&self, page: PageId) -> bool {
        self.cache.contains(&DiskKey(page))
    }

    pub(crate) fn put(&self, page: PageId, bytes: Bytes) {
        self.cache.insert(DiskKey(page), DiskPage(bytes));
    }

    pub(crate) fn remove(&self, page: PageId) {
        self.cache.remove(&DiskKey(page));
    }

    pub(crate) async fn close(&self) {
        if let Err(error) = self.cache.close().await {
            tracing::warn!(%error, "cannot close the page cache cleanly; pages will be fetched again");
        }
    }
}
