//! The page service on the wire: bounds, back-pressure, errors.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use quire_cache::Tier;
use quire_kit::clock;
use quire_objects::ObjectError;
use quire_proto::v1;
use quire_types::{PageError, PageRead, READ_BYTES_MAX, SegmentId, TableId, Term, page_checksum};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::pages::{PageStore, StoreError};

/// Pages in one request.
const READS_MAX: usize = 4096;
/// One page, when a single value made it larger than others: it must fit in a message of 64 MiB.
const PAGE_BYTES_LIMIT: usize = (64 << 20) - (1 << 10);
/// Pages of one request that are read at once.
const READS_AT_ONCE: usize = 64;
/// Page bytes that are read and not yet sent, of all requests: sixteen whole ones.
const READING_KIB_MAX: usize = 16 * (READ_BYTES_MAX >> 10);
/// Replies that wait for the connection to take them.
const REPLIES_WAITING_MAX: usize = 4;
/// Parts of a page are at least this large, whatever is asked for.
const PART_BYTES_MIN: usize = 4 << 10;
/// A caller that takes nothing for so long is gone, and its pages' room is wanted by others.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// An upload: a segment of a million rows is well below it.
const UPLOAD_BYTES_MAX: u64 = 512 << 20;
/// Uploads in memory, of all callers; others wait.
const UPLOADING_KIB_MAX: usize = 1 << 20;
/// Between two parts of an upload.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves pages and takes segments.
#[derive(Clone)]
pub(crate) struct PageService {
    store: Arc<PageStore>,
    /// The term this node believes is current.
    term: Arc<dyn Fn() -> Term + Send + Sync>,
    reading: Arc<Semaphore>,
    uploading: Arc<Semaphore>,
}

impl PageService {
    pub(crate) fn new(store: Arc<PageStore>, term: Arc<dyn Fn() -> Term + Send + Sync>) -> PageService {
        PageService {
            store,
            term,
            reading: Arc::new(Semaphore::new(READING_KIB_MAX)),
            uploading: Arc::new(Semaphore::new(UPLOADING_KIB_MAX)),
        }
    }
}

#[tonic::async_trait]
impl v1::pages_server::Pages for PageService {
    type ReadPagesStream = std::pin::Pin<Box<dyn Stream<Item = Result<v1::ReadPagesReply, Status>> + Send>>;

    async fn upload(&self, request: Request<Streaming<v1::UploadRequest>>) -> Result<Response<v1::UploadReply>, Status> {
        let start = clock::now();
        let mut parts = request.into_inner();
        let header = match next_part(&mut parts).await? {
            Some(v1::upload_request::Part::Header(header)) => header,
            _ => return Err(Status::invalid_argument("an upload begins with a header")),
        };
        if header.length == 0 || header.length > UPLOAD_BYTES_MAX {
            return Err(Status::invalid_argument(format!("an upload has 1 to {UPLOAD_BYTES_MAX} bytes, not {}", header.length)));
        }
        let _room = acquire(&self.uploading, header.length).await?;
        let bytes = collect(&mut parts, &header).await?;
        let term = (self.term)();
        let (table, segment) = (TableId(header.table), SegmentId(header.segment));
        self.store.store(table, segment, term, bytes).await.map_err(|e| upload_status(&e))?;
        metrics::counter!("quire_storage_upload_bytes_total").increment(header.length);
        tracing::debug!(
            rpc = "upload",
            table = table.0,
            segment = %format_args!("{:016x}", segment.0),
            bytes = header.length,
            term = term.0,
            elapsed_ms = start.elapsed().as_millis() as u64,
            "segment stored"
        );
        Ok(Response::new(v1::UploadReply { term: term.0 }))
    }

    async fn read_pages(&self, request: Request<v1::ReadPagesRequest>) -> Result<Response<Self::ReadPagesStream>, Status> {
        let request = request.into_inner();
        let part_bytes = if request.part_bytes_max == 0 { usize::MAX } else { (request.part_bytes_max as usize).max(PART_BYTES_MIN) };
        let reads = checked(request.reads)?;
        let (replies, receiver) = mpsc::channel(REPLIES_WAITING_MAX);
        quire_kit::task::spawn("read pages", send_pages(self.clone(), reads, part_bytes, replies));
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }
}

/// The request's reads as ours, within the bounds.
fn checked(reads: Vec<v1::PageRead>) -> Result<Vec<PageRead>, Status> {
    if reads.len() > READS_MAX {
        return Err(Status::invalid_argument(format!("{} pages asked for, at most {READS_MAX} at once", reads.len())));
    }
    let reads: Vec<PageRead> = reads.into_iter().map(PageRead::from).collect();
    let bytes: usize = reads.iter().map(|r| r.length as usize).sum();
    let bytes_max = if reads.len() == 1 { PAGE_BYTES_LIMIT } else { READ_BYTES_MAX };
    if bytes > bytes_max {
        return Err(Status::invalid_argument(format!("{bytes} bytes asked for, at most {bytes_max} at once")));
    }
    if reads.iter().any(|r| r.offset.checked_add(u64::from(r.length)).is_none()) {
        return Err(Status::invalid_argument("a page beyond the end of all objects"));
    }
    Ok(reads)
}

/// Reads the pages, several at once, and sends each as soon as it is there.
async fn send_pages(
    service: PageService,
    reads: Vec<PageRead>,
    part_bytes: usize,
    replies: mpsc::Sender<Result<v1::ReadPagesReply, Status>>,
) {
    let start = clock::now();
    let count = reads.len();
    let (mut bytes, mut from_objects, mut failed) = (0, 0, 0);
    let read = |(index, read): (usize, PageRead)| {
        let service = &service;
        async move {
            let room = acquire(&service.reading, u64::from(read.length)).await;
            let result = match &room {
                Ok(_) => service.store.read(read).await,
                Err(status) => Err(PageError::Unavailable { page: read.page, reason: status.message().to_string() }),
            };
            (index, result, room)
        }
    };
    let mut pages = std::pin::pin!(futures::stream::iter(reads.into_iter().enumerate()).map(read).buffer_unordered(READS_AT_ONCE));
    while let Some((index, result, _room)) = pages.next().await {
        match &result {
            Ok((page, tier)) => {
                bytes += page.len() as u64;
                from_objects += u64::from(matches!(tier, Tier::Remote));
            }
            Err(_) => failed += 1,
        }
        let send = async {
            for reply in in_replies(index, result, part_bytes) {
                replies.send(Ok(reply)).await?;
            }
            Ok::<_, mpsc::error::SendError<_>>(())
        };
        if !matches!(clock::timeout(SEND_TIMEOUT, send).await, Ok(Ok(()))) {
            break; // the caller is gone, or as good as
        }
    }
    metrics::counter!("quire_storage_pages_total").increment(count as u64);
    metrics::counter!("quire_storage_page_bytes_total").increment(bytes);
    metrics::counter!("quire_storage_pages_failed_total").increment(failed);
    tracing::debug!(
        rpc = "read_pages",
        pages = count,
        bytes,
        from_objects,
        failed,
        elapsed_ms = start.elapsed().as_millis() as u64,
        "pages read"
    );
}

/// A page as replies of at most so many bytes, or one that says why it could not be read.
fn in_replies(index: usize, result: Result<(Bytes, Tier), PageError>, part_bytes: usize) -> Vec<v1::ReadPagesReply> {
    use v1::page_failure::Kind;
    use v1::read_pages_reply::Result as Reply;
    let reply = |result: Reply, tier: v1::Tier| v1::ReadPagesReply { index: index as u32, result: Some(result), tier: tier as i32 };
    match result {
        Ok((bytes, tier)) => {
            let tier = match tier {
                Tier::Remote => v1::Tier::ObjectStore,
                Tier::Memory | Tier::Disk => v1::Tier::StorageCache,
            };
            let part = |start: usize| bytes.slice(start..bytes.len().min(start.saturating_add(part_bytes)));
            (0..bytes.len().max(1)).step_by(part_bytes).map(|start| reply(Reply::Data(part(start)), tier)).collect()
        }
        Err(error) => {
            let kind = match &error {
                PageError::Corrupt { .. } => Kind::Corrupt,
                PageError::Missing { .. } => Kind::Missing,
                PageError::Unavailable { .. } => Kind::Unavailable,
            };
            let failure = v1::PageFailure { kind: kind as i32, message: error.to_string() };
            vec![reply(Reply::Failure(failure), v1::Tier::Unspecified)]
        }
    }
}

/// Room for `bytes`, as long as the permit lives.
async fn acquire(room: &Arc<Semaphore>, bytes: u64) -> Result<tokio::sync::OwnedSemaphorePermit, Status> {
    let kib = bytes.div_ceil(1 << 10).max(1);
    let kib = u32::try_from(kib).map_err(|_| Status::invalid_argument("too many bytes"))?;
    room.clone().acquire_many_owned(kib).await.map_err(|_| Status::unavailable("shutting down"))
}

async fn next_part(parts: &mut Streaming<v1::UploadRequest>) -> Result<Option<v1::upload_request::Part>, Status> {
    let late = |_| Status::deadline_exceeded("the next part of the upload did not come");
    match clock::timeout(PART_TIMEOUT, parts.message()).await.map_err(late)?? {
        Some(message) => message.part.map(Some).ok_or_else(|| Status::invalid_argument("an empty part")),
        None => Ok(None),
    }
}

/// The whole upload, as long and as intact as its header says.
async fn collect(parts: &mut Streaming<v1::UploadRequest>, header: &v1::UploadHeader) -> Result<Bytes, Status> {
    let length = header.length as usize;
    let mut bytes = Vec::with_capacity(length);
    while let Some(part) = next_part(parts).await? {
        let v1::upload_request::Part::Data(data) = part else {
            return Err(Status::invalid_argument("a second header"));
        };
        if bytes.len() + data.len() > length {
            return Err(Status::invalid_argument(format!("an upload longer than the {length} bytes announced")));
        }
        bytes.extend_from_slice(&data);
    }
    if bytes.len() != length {
        // the caller may have been cut off; one that is alive tries again
        return Err(Status::aborted(format!("the upload ended after {} of {length} bytes", bytes.len())));
    }
    if page_checksum(&bytes) != header.checksum {
        return Err(Status::aborted("the upload's bytes were damaged on the way"));
    }
    Ok(Bytes::from(bytes))
}

fn upload_status(error: &StoreError) -> Status {
    let message = error.to_string();
    match error {
        StoreError::Taken { .. } => Status::already_exists(message),
        StoreError::Object(ObjectError::Full { .. }) => Status::resource_exhausted(message),
        StoreError::Object(ObjectError::Denied { .. }) => Status::permission_denied(message),
        StoreError::Object(_) => Status::unavailable(message),
    }
}

#[cfg(test)]
mod tests;
