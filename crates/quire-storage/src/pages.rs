//! Pages of sealed segments: this node's own cache over the object tier.
//!
//! Any node serves any page: a request names the object, so nothing need be applied first. Bytes are checked against
//! the manifest's checksum wherever they come from; what fails is read again from the tier below and never given out.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use quire_cache::{CacheError, CacheOptions, PageCache, Tier};
use quire_kit::clock;
use quire_objects::{ObjectError, Objects, PutOutcome};
use quire_types::{PageError, PageRead, PageSource, SegmentId, SegmentMeta, TableId, Term, page_checksum};
use tokio::sync::oneshot;

/// Bytes of one read from the object tier; a few run at once.
const PIECE_BYTES_MAX: u64 = 4 << 20;
/// Pieces of one batch at once.
const PIECES_AT_ONCE: usize = 4;
/// Batches of one object at once. While they are busy the next batch gathers: with few, a scan waits for the object store once for each
/// pair of them.
const BATCHES_MAX: usize = 8;
/// For one page, the object store's retries included. Callers give up sooner and ask again.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The pages this node can serve, and the way in for new segments. Cheap to share.
pub(crate) struct PageStore {
    objects: Objects,
    cache: PageCache,
}

/// Why a segment was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The object store would not take it.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Another object has this name: two writers chose one segment id.
    #[error("object {key} exists with other content")]
    Taken {
        /// The object's key.
        key: String,
    },
}

impl PageStore {
    /// Opens the cache over `objects`.
    pub(crate) async fn open(objects: Objects, cache: CacheOptions) -> Result<PageStore, CacheError> {
        let source = Arc::new(ObjectPages { objects: objects.clone(), gathering: Arc::default() });
        Ok(PageStore { objects, cache: PageCache::open(cache, source).await? })
    }

    /// One page, checksum verified, and where it was found.
    pub(crate) async fn read(&self, read: PageRead) -> Result<(Bytes, Tier), PageError> {
        match clock::timeout(READ_TIMEOUT, self.cache.encoded(read)).await {
            Ok(result) => result,
            Err(_) => Err(unavailable(&read, format!("not read within {} s", READ_TIMEOUT.as_secs()))),
        }
    }

    /// Stores a segment's object. Storing the same bytes again succeeds.
    pub(crate) async fn store(&self, table: TableId, segment: SegmentId, term: Term, bytes: Bytes) -> Result<(), StoreError> {
        let key = SegmentMeta::object_key(table, segment, term);
        if self.objects.put_if_absent(&key, bytes.clone()).await? == PutOutcome::Written {
            return Ok(());
        }
        let length = bytes.len() as u64;
        if self.objects.head(&key).await?.bytes == length && self.objects.get_range(&key, 0..length).await? == bytes {
            return Ok(());
        }
        Err(StoreError::Taken { key })
    }
}

/// The object tier as a source of pages. Pages of one object that are wanted at the same time are read together.
struct ObjectPages {
    objects: Objects,
    gathering: Arc<Mutex<HashMap<Object, Gathering>>>,
}

/// What names an object.
type Object = (TableId, SegmentId, Term);

/// Pages of one object that are wanted, and how many batches are being read.
#[derive(Default)]
struct Gathering {
    wanted: Vec<Wanted>,
    batches: usize,
}

struct Wanted {
    read: PageRead,
    answer: oneshot::Sender<Result<Bytes, PageError>>,
}

#[async_trait]
impl PageSource for ObjectPages {
    async fn page(&self, read: PageRead) -> Result<Bytes, PageError> {
        let object = (read.table, read.page.segment, read.term);
        let (answer, receiver) = oneshot::channel();
        {
            let mut gathering = self.gathering.lock();
            let entry = gathering.entry(object).or_default();
            entry.wanted.push(Wanted { read, answer });
            if entry.batches < BATCHES_MAX {
                entry.batches += 1;
                let batch = Batch { objects: self.objects.clone(), gathering: self.gathering.clone(), object, counted: true };
                quire_kit::task::spawn("object pages", batch.run());
            }
        }
        receiver.await.unwrap_or_else(|_| Err(unavailable(&read, "the read was abandoned".to_string())))
    }
}

/// Reads what is wanted of one object until nothing is.
struct Batch {
    objects: Objects,
    gathering: Arc<Mutex<HashMap<Object, Gathering>>>,
    object: Object,
    counted: bool,
}

impl Batch {
    async fn run(mut self) {
        loop {
            // whoever is about to ask for a neighbouring page gets the chance
            tokio::task::yield_now().await;
            let mut wanted = {
                let mut gathering = self.gathering.lock();
                let wanted = gathering.get_mut(&self.object).map(|g| std::mem::take(&mut g.wanted)).unwrap_or_default();
                if wanted.is_empty() {
                    // under the same lock as the check, so that no page is put in unseen
                    Batch::leave(&mut gathering, self.object);
                    self.counted = false;
                    return;
                }
                wanted
            };
            wanted.retain(|w| !w.answer.is_closed());
            let pieces: Vec<_> = pieces(wanted).into_iter().map(|piece| read_piece(&self.objects, piece)).collect();
            futures::stream::iter(pieces).buffer_unordered(PIECES_AT_ONCE).collect::<()>().await;
        }
    }

    fn leave(gathering: &mut HashMap<Object, Gathering>, object: Object) {
        if let Some(entry) = gathering.get_mut(&object) {
            entry.batches -= 1;
            if entry.batches == 0 {
                // pages still in there (this batch was cancelled) get an error by being dropped
                gathering.remove(&object);
            }
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.counted {
            Batch::leave(&mut self.gathering.lock(), self.object);
        }
    }
}

/// Cuts wanted pages, by offset, into pieces of bounded size.
fn pieces(mut wanted: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    wanted.sort_by_key(|w| w.read.offset);
    let mut pieces: Vec<Vec<Wanted>> = Vec::new();
    let mut bytes = 0;
    for next in wanted {
        let length = u64::from(next.read.length);
        match pieces.last_mut() {
            Some(piece) if bytes + length <= PIECE_BYTES_MAX => {
                bytes += length;
                piece.push(next);
            }
            _ => {
                bytes = length;
                pieces.push(vec![next]);
            }
        }
    }
    pieces
}

async fn read_piece(objects: &Objects, piece: Vec<Wanted>) {
    let ranges: Vec<_> = piece.iter().map(|w| range(&w.read)).collect();
    let Some(first) = piece.first() else { return };
    let key = key(&first.read);
    match objects.get_ranges(&key, &ranges).await {
        Ok(pages) => {
            for (wanted, bytes) in piece.into_iter().zip(pages) {
                let answer = if is_intact(&wanted.read, &bytes) { Ok(bytes) } else { read_again(objects, &wanted.read).await };
                let _gone = wanted.answer.send(answer);
            }
        }
        Err(error) if piece.len() == 1 => {
            for wanted in piece {
                let _gone = wanted.answer.send(Err(page_error(&wanted.read, &error)));
            }
        }
        // one bad range must not spoil the others
        Err(_) => {
            for wanted in piece {
                let result = objects.get_range(&key, range(&wanted.read)).await;
                let answer = match result {
                    Ok(bytes) if is_intact(&wanted.read, &bytes) => Ok(bytes),
                    Ok(_) => read_again(objects, &wanted.read).await,
                    Err(error) => Err(page_error(&wanted.read, &error)),
                };
                let _gone = wanted.answer.send(answer);
            }
        }
    }
}

/// A page whose bytes were wrong: once more from the object, in case they were damaged on the way.
async fn read_again(objects: &Objects, read: &PageRead) -> Result<Bytes, PageError> {
    metrics::counter!("quire_storage_page_checksum_failures_total").increment(1);
    tracing::warn!(page = %read.page, table = read.table.0, "page checksum mismatch, reading the object again");
    match objects.get_range(&key(read), range(read)).await {
        Ok(bytes) if is_intact(read, &bytes) => Ok(bytes),
        Ok(_) => {
            tracing::error!(page = "docs/operating/page-corrupt.md", damaged = %read.page, object = key(read), "page is corrupt in the object store");
            Err(PageError::Corrupt { page: read.page, table: read.table })
        }
        Err(error) => Err(page_error(read, &error)),
    }
}

fn is_intact(read: &PageRead, bytes: &Bytes) -> bool {
    bytes.len() == read.length as usize && page_checksum(bytes) == read.checksum
}

fn key(read: &PageRead) -> String {
    SegmentMeta::object_key(read.table, read.page.segment, read.term)
}

fn range(read: &PageRead) -> Range<u64> {
    read.offset..read.offset.saturating_add(u64::from(read.length))
}

fn page_error(read: &PageRead, error: &ObjectError) -> PageError {
    match error {
        ObjectError::NotFound { key } => PageError::Missing { object: key.clone() },
        ObjectError::TooShort { .. } => {
            tracing::error!(page = "docs/operating/page-corrupt.md", damaged = %read.page, %error, "page is corrupt in the object store");
            PageError::Corrupt { page: read.page, table: read.table }
        }
        other => unavailable(read, other.to_string()),
    }
}

fn unavailable(read: &PageRead, reason: String) -> PageError {
    PageError::Unavailable { page: read.page, reason }
}

#[cfg(test)]
mod tests;
