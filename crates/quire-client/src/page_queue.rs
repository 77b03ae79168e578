//! Pages wanted from one node, gathered into few requests.
//!
//! Callers put single pages in; up to [`WORKERS_MAX`] workers take what has gathered and ask for it with one request
//! each. While all are busy the queue grows, and the next request is larger: load makes batches, idleness adds no wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quire_kit::clock::{self, Instant};
use quire_proto::v1;
use quire_types::{PageRead, READ_BYTES_MAX, page_checksum};
use tokio::sync::oneshot;
use tonic::Status;

use crate::error::reason;
use crate::node::Node;

/// Pages in one request: what the page service accepts.
const READS_MAX: usize = 4096;
/// Requests on their way to one node. An answer has as many pages as had gathered, and ends with the slowest of them, which may come from
/// an object store; what a scan wants next does not wait for it.
const WORKERS_MAX: usize = 16;
/// Pages come in parts of so many bytes. gRPC keeps each message in memory of its own on both sides; pieces of this size are had again and
/// again without the kernel, a whole page is new memory each time.
const PART_BYTES_MAX: u32 = 64 << 10;
/// A node that failed is asked last for so long.
const DOWN: Duration = Duration::from_secs(1);

const NOT_ASKED_FOR: &str = "a page that was not asked for";

/// Why one node did not serve a page.
#[derive(Clone, Debug)]
pub(crate) enum Miss {
    /// Its bytes are not what the manifest says, in any tier.
    Corrupt,
    /// There is no such object.
    Missing,
    /// Trouble that may pass.
    Failed(String),
}

/// The pages wanted from one node.
#[derive(Debug)]
pub(crate) struct PageQueue {
    node: Arc<Node>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Wanted>,
    workers: usize,
    down_until: Option<Instant>,
}

#[derive(Debug)]
struct Wanted {
    read: PageRead,
    /// A request that brings nothing for so long has failed.
    patience: Duration,
    answer: oneshot::Sender<Result<Bytes, Miss>>,
}

impl PageQueue {
    pub(crate) fn new(node: Arc<Node>) -> PageQueue {
        PageQueue { node, state: Mutex::default() }
    }

    pub(crate) fn address(&self) -> &str {
        self.node.address()
    }

    /// True shortly after a failure.
    pub(crate) fn is_down(&self) -> bool {
        self.state.lock().down_until.is_some_and(|until| clock::now() < until)
    }

    /// Wants a page; dropping the future takes the wish back.
    pub(crate) async fn fetch(self: &Arc<Self>, read: PageRead, patience: Duration) -> Result<Bytes, Miss> {
        let (answer, receiver) = oneshot::channel();
        {
            let mut state = self.state.lock();
            state.waiting.push_back(Wanted { read, patience, answer });
            if state.workers < WORKERS_MAX {
                state.workers += 1;
                quire_kit::task::spawn("pages", work(Worker { queue: self.clone(), counted: true }));
            }
        }
        receiver.await.unwrap_or_else(|_| Err(Miss::Failed("the page request was abandoned".to_string())))
    }

    /// What the next request asks for.
    fn take(state: &mut State) -> Vec<Wanted> {
        let mut batch: Vec<Wanted> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = state.waiting.front() {
            let length = next.read.length as usize;
            let gone = next.answer.is_closed();
            if !gone && !batch.is_empty() && (bytes + length > READ_BYTES_MAX || batch.len() == READS_MAX) {
                break;
            }
            if let Some(next) = state.waiting.pop_front().filter(|_| !gone) {
                bytes += length;
                batch.push(next);
            }
        }
        batch
    }

    /// The node does not answer: everyone who waits for it tries another one now, and later ones try it last.
    fn fail(&self, status: &Status) {
        let waiting = {
            let mut state = self.state.lock();
            state.down_until = Some(clock::now() + DOWN);
            std::mem::take(&mut state.waiting)
        };
        let reason = reason(self.node.address(), status);
        tracing::debug!(reason, "a page request failed");
        metrics::counter!("quire_client_page_requests_failed_total").increment(1);
        for wanted in waiting {
            let _gone = wanted.answer.send(Err(Miss::Failed(reason.clone())));
        }
    }
}

/// Counts itself out, however it ends.
struct Worker {
    queue: Arc<PageQueue>,
    counted: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.counted {
            self.queue.state.lock().workers -= 1;
        }
    }
}

async fn work(mut worker: Worker) {
    let queue = worker.queue.clone();
    loop {
        // callers that are about to ask get the chance to be in the same request
        tokio::task::yield_now().await;
        let batch = {
            let mut state = queue.state.lock();
            let batch = PageQueue::take(&mut state);
            if batch.is_empty() {
                // under the same lock as the check, so that no page is put in unseen
                state.workers -= 1;
                worker.counted = false;
                return;
            }
            batch
        };
        if let Err(status) = Box::pin(ask(&queue.node, batch)).await {
            queue.fail(&status);
        }
    }
}

/// Asks for the pages of `batch` and hands them out as they come. Whoever got nothing when it fails is told.
async fn ask(node: &Node, batch: Vec<Wanted>) -> Result<(), Status> {
    let patience = batch.iter().map(|w| w.patience).max().unwrap_or_default();
    let reads = batch.iter().map(|w| v1::PageRead::from(&w.read)).collect();
    let request = v1::ReadPagesRequest { reads, part_bytes_max: PART_BYTES_MAX };
    metrics::counter!("quire_client_page_requests_total").increment(1);
    metrics::counter!("quire_client_pages_total").increment(batch.len() as u64);
    let mut open: Vec<Option<Open>> = batch.into_iter().map(|wanted| Some(Open { wanted, bytes: Vec::new() })).collect();
    let result = receive(node, request, patience, &mut open).await;
    if let Err(status) = &result {
        let reason = reason(node.address(), status);
        for open in open.into_iter().flatten() {
            let _gone = open.wanted.answer.send(Err(Miss::Failed(reason.clone())));
        }
    }
    result
}

/// A page that was asked for, and what has come of it.
struct Open {
    wanted: Wanted,
    bytes: Vec<u8>,
}

async fn receive(node: &Node, request: v1::ReadPagesRequest, patience: Duration, open: &mut [Option<Open>]) -> Result<(), Status> {
    let late = |_| Status::deadline_exceeded("no page in time");
    let mut client = node.pages()?;
    let mut replies = clock::timeout(patience, client.read_pages(request)).await.map_err(late)??.into_inner();
    let mut left = open.len();
    while left > 0 {
        let Some(reply) = clock::timeout(patience, replies.message()).await.map_err(late)?? else {
            return Err(Status::data_loss(format!("the answer ended with {left} pages missing")));
        };
        let Some(slot) = open.get_mut(reply.index as usize) else { return Err(Status::data_loss(NOT_ASKED_FOR)) };
        let Some(page) = slot.as_mut() else { return Err(Status::data_loss(NOT_ASKED_FOR)) };
        let Some(answer) = page.take(node, reply.result) else { continue };
        let Some(Open { wanted, .. }) = slot.take() else { continue };
        left -= 1;
        if wanted.answer.send(answer).is_err() && open.iter().flatten().all(|open| open.wanted.answer.is_closed()) {
            return Ok(()); // nobody waits any more: dropping the stream tells the node
        }
    }
    Ok(())
}

impl Open {
    /// What a reply says of the page; `None` while there is more to come.
    fn take(&mut self, node: &Node, result: Option<v1::read_pages_reply::Result>) -> Option<Result<Bytes, Miss>> {
        use v1::page_failure::Kind;
        use v1::read_pages_reply::Result as Reply;
        match result {
            Some(Reply::Data(part)) => self.add(part).map(|bytes| self.check(node, bytes)),
            Some(Reply::Failure(failure)) => Some(Err(match failure.kind() {
                Kind::Corrupt => Miss::Corrupt,
                Kind::Missing => Miss::Missing,
                Kind::Unavailable => Miss::Failed(format!("{}: {}", node.address(), failure.message)),
            })),
            None => Some(Err(Miss::Failed(format!("{}: an answer without a page", node.address())))),
        }
    }

    /// The page's bytes when nothing more of them is to follow.
    fn add(&mut self, part: Bytes) -> Option<Bytes> {
        let length = self.wanted.read.length as usize;
        if part.is_empty() || self.bytes.is_empty() && part.len() >= length {
            return Some(part);
        }
        self.bytes.reserve_exact(length - self.bytes.len());
        self.bytes.extend_from_slice(&part);
        (self.bytes.len() >= length).then(|| std::mem::take(&mut self.bytes).into())
    }

    fn check(&self, node: &Node, bytes: Bytes) -> Result<Bytes, Miss> {
        let read = &self.wanted.read;
        if bytes.len() == read.length as usize && page_checksum(&bytes) == read.checksum {
            metrics::counter!("quire_client_page_bytes_total").increment(bytes.len() as u64);
            return Ok(bytes);
        }
        tracing::warn!(node = node.address(), page = %read.page, "page checksum mismatch after transfer, asking another node");
        metrics::counter!("quire_client_page_checksum_failures_total").increment(1);
        Err(Miss::Corrupt)
    }
}
