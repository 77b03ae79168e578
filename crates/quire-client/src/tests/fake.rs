//! A storage node that does what a test tells it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use quire_proto::v1;
use quire_types::{CatalogChange, Change, ColumnId, PageId, PageRead, SchemaDef, SchemaId, SegmentId, TableId, Term, page_checksum};
use tokio::sync::{Notify, oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Once: the next commit happens and its reply is lost.
    CommitThenLoseTheReply,
    NeverAnswerCommits,
    RefuseCommits,
    /// Refuses requests that carry this transaction.
    RefuseCommit(u128),
    NeverAnswerPages,
    FailUploads,
    Full,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) hold_snapshots: AtomicBool,
    pub(super) snapshots: AtomicUsize,
    pub(super) page_requests: AtomicUsize,
    released: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    log_id: String,
    lsn: u64,
    hint: Option<String>,
    known: Vec<u64>,
    commits: Vec<u128>,
    /// Transactions of each request that was not refused.
    requests: Vec<Vec<u128>>,
    outcomes: HashMap<u128, u64>,
    pages: HashMap<PageId, Bytes>,
    uploads: HashMap<u64, Bytes>,
}

/// Stops when dropped.
#[derive(Debug)]
pub(super) struct Fake {
    inner: Arc<Inner>,
    address: String,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    stopped: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl std::ops::Deref for Fake {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.inner
    }
}

/// A request for a page that holds `content`.
pub(super) fn read(segment: u64, row_group: u32, content: &[u8]) -> PageRead {
    PageRead {
        page: PageId { segment: SegmentId(segment), row_group, column: ColumnId(1) },
        table: TableId(1),
        term: Term(1),
        offset: 4,
        length: content.len() as u32,
        checksum: page_checksum(content),
    }
}

impl Fake {
    pub(super) async fn start() -> Fake {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = State {
            fault: Fault::None,
            log_id: "log".to_string(),
            lsn: 0,
            hint: None,
            known: vec![],
            commits: vec![],
            requests: vec![],
            outcomes: HashMap::new(),
            pages: HashMap::new(),
            uploads: HashMap::new(),
        };
        let inner = Arc::new(Inner {
            hold_snapshots: AtomicBool::new(false),
            snapshots: AtomicUsize::new(0),
            page_requests: AtomicUsize::new(0),
            released: Notify::new(),
            state: Mutex::new(state),
        });
        let (stop, stopping) = oneshot::channel::<()>();
        let server = tonic::transport::Server::builder()
            .add_service(
                v1::storage_server::StorageServer::new(Service(inner.clone()))
                    .max_decoding_message_size(64 << 20)
                    .max_encoding_message_size(64 << 20),
            )
            .add_service(
                v1::pages_server::PagesServer::new(Service(inner.clone()))
                    .max_decoding_message_size(64 << 20)
                    .max_encoding_message_size(64 << 20),
            )
            .add_service(v1::admin_server::AdminServer::new(Service(inner.clone())))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let stopped = quire_kit::task::spawn("fake", async move {
            tokio::select! {
                served = server => served.unwrap(),
                _ = stopping => {}
            }
        });
        Fake { inner, address, stop: Mutex::new(Some(stop)), stopped: Mutex::new(Some(stopped)) }
    }

    pub(super) fn address(&self) -> String {
        self.address.clone()
    }

    /// Cuts all connections and stops listening.
    pub(super) async fn stop(&self) {
        drop(self.stop.lock().take());
        let stopped = self.stopped.lock().take();
        if let Some(stopped) = stopped {
            stopped.await.unwrap();
        }
    }
}

impl Inner {
    pub(super) fn fault(&self, fault: Fault) {
        self.state.lock().fault = fault;
    }

    pub(super) fn follow(&self, hint: &str) {
        self.state.lock().hint = Some(hint.to_string());
    }

    pub(super) fn replace_log(&self, log_id: &str) {
        let mut state = self.state.lock();
        state.log_id = log_id.to_string();
        state.lsn = 0;
    }

    pub(super) fn release_snapshots(&self) {
        self.hold_snapshots.store(false, SeqCst);
        self.released.notify_waiters();
    }

    pub(super) fn known(&self) -> Vec<u64> {
        self.state.lock().known.clone()
    }

    pub(super) fn commits(&self) -> Vec<u128> {
        self.state.lock().commits.clone()
    }

    pub(super) fn commit_requests(&self) -> Vec<Vec<u128>> {
        self.state.lock().requests.clone()
    }

    pub(super) fn uploaded(&self, segment: u64) -> Option<Bytes> {
        self.state.lock().uploads.get(&segment).cloned()
    }

    pub(super) fn put_page(&self, read: PageRead, content: &[u8]) {
        self.state.lock().pages.insert(read.page, Bytes::copy_from_slice(content));
    }

    pub(super) async fn until(&self, condition: impl Fn(&Inner) -> bool) {
        while !condition(self) {
            quire_kit::clock::sleep(Duration::from_millis(1)).await;
        }
    }

    fn leads(&self) -> Result<(), Status> {
        let Some(hint) = self.state.lock().hint.clone() else { return Ok(()) };
        let mut status = Status::failed_precondition("not the leader");
        status.metadata_mut().insert("quire-leader", hint.parse().unwrap());
        Err(status)
    }

    fn faulty(&self, fault: Fault) -> bool {
        self.state.lock().fault == fault
    }
}

#[derive(Clone)]
struct Service(Arc<Inner>);

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl v1::storage_server::Storage for Service {
    type SnapshotStream = Replies<v1::SnapshotReply>;
    type ReadDeltasStream = Replies<v1::ReadDeltasReply>;

    async fn snapshot(&self, request: Request<v1::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        self.0.leads()?;
        let request = request.into_inner();
        let parts: Vec<Result<v1::SnapshotReply, Status>> = {
            let mut state = self.0.state.lock();
            state.lsn += 1;
            state.known.push(request.known_lsn);
            let full = request.log_id != state.log_id;
            let from = if full { 0 } else { request.known_lsn };
            (from + 1..=state.lsn)
                .map(|lsn| {
                    let schema = SchemaDef { id: SchemaId(1000 + lsn as u32), name: format!("s{lsn}") };
                    let change = Change::Catalog(CatalogChange::CreateSchema(schema));
                    Ok(v1::SnapshotReply {
                        log_id: state.log_id.clone(),
                        lsn: state.lsn,
                        full,
                        changes: vec![v1::Change::from(&change)],
                        rows: vec![],
                    })
                })
                .collect()
        };
        let released = self.0.released.notified();
        self.0.snapshots.fetch_add(1, SeqCst);
        if self.0.hold_snapshots.load(SeqCst) {
            released.await;
        }
        Ok(Response::new(futures::stream::iter(parts).boxed()))
    }

    async fn commit(&self, request: Request<v1::CommitRequest>) -> Result<Response<v1::CommitReply>, Status> {
        self.0.leads()?;
        if self.0.faulty(Fault::NeverAnswerCommits) {
            futures::future::pending::<()>().await;
        }
        let mut state = self.0.state.lock();
        let commits = request.into_inner().commits;
        let txns: Vec<u128> = commits.iter().map(|c| u128::from_be_bytes(c.txn_id.as_ref().try_into().unwrap())).collect();
        let refused = state.fault == Fault::RefuseCommits || txns.iter().any(|txn| state.fault == Fault::RefuseCommit(*txn));
        if refused {
            return Err(Status::invalid_argument("nonsense"));
        }
        state.requests.push(txns.clone());
        let mut outcomes = vec![];
        for txn in txns {
            state.commits.push(txn);
            let next = state.lsn + 1;
            let lsn = *state.outcomes.entry(txn).or_insert(next);
            state.lsn = state.lsn.max(lsn);
            outcomes.push(v1::Outcome::from(&quire_types::Outcome::Committed(quire_types::Lsn(lsn))));
        }
        if state.fault == Fault::CommitThenLoseTheReply {
            state.fault = Fault::None;
            return Err(Status::unavailable("the reply was lost"));
        }
        Ok(Response::new(v1::CommitReply { outcomes }))
    }

    async fn transaction_outcome(
        &self,
        request: Request<v1::TransactionOutcomeRequest>,
    ) -> Result<Response<v1::TransactionOutcomeReply>, Status> {
        self.0.leads()?;
        let txn = u128::from_be_bytes(request.into_inner().txn_id.as_ref().try_into().unwrap());
        let lsn = self.0.state.lock().outcomes.get(&txn).copied();
        let outcome = lsn.map(|lsn| v1::Outcome::from(&quire_types::Outcome::Committed(quire_types::Lsn(lsn))));
        Ok(Response::new(v1::TransactionOutcomeReply { outcome }))
    }

    async fn read_deltas(&self, request: Request<v1::ReadDeltasRequest>) -> Result<Response<Self::ReadDeltasStream>, Status> {
        let replies = request.into_inner().first.into_iter().map(|first| {
            let rows = if first % 2 == 0 { Bytes::from(first.to_string()) } else { Bytes::new() };
            Ok(v1::ReadDeltasReply { first, rows })
        });
        Ok(Response::new(futures::stream::iter(replies.collect::<Vec<_>>()).boxed()))
    }
}

#[tonic::async_trait]
impl v1::pages_server::Pages for Service {
    type ReadPagesStream = Replies<v1::ReadPagesReply>;

    async fn upload(&self, request: Request<Streaming<v1::UploadRequest>>) -> Result<Response<v1::UploadReply>, Status> {
        if self.0.faulty(Fault::FailUploads) {
            return Err(Status::unavailable("broken"));
        }
        if self.0.faulty(Fault::Full) {
            return Err(Status::resource_exhausted("no space left on device"));
        }
        let mut parts = request.into_inner();
        let Some(v1::upload_request::Part::Header(header)) = parts.message().await?.unwrap().part else {
            return Err(Status::invalid_argument("no header"));
        };
        let mut bytes = Vec::new();
        while let Some(part) = parts.message().await? {
            let Some(v1::upload_request::Part::Data(data)) = part.part else {
                return Err(Status::invalid_argument("no data"));
            };
            assert!(data.len() <= 1 << 20);
            bytes.extend_from_slice(&data);
        }
        assert_eq!((bytes.len() as u64, page_checksum(&bytes)), (header.length, header.checksum));
        self.0.state.lock().uploads.insert(header.segment, Bytes::from(bytes));
        Ok(Response::new(v1::UploadReply { term: 5 }))
    }

    async fn read_pages(&self, request: Request<v1::ReadPagesRequest>) -> Result<Response<Self::ReadPagesStream>, Status> {
        self.0.page_requests.fetch_add(1, SeqCst);
        if self.0.faulty(Fault::NeverAnswerPages) {
            futures::future::pending::<()>().await;
        }
        let v1::ReadPagesRequest { reads, part_bytes_max } = request.into_inner();
        let length: usize = reads.iter().map(|r| r.length as usize).sum();
        assert!(reads.len() <= 4096 && length <= 16 << 20, "{} pages, {length} bytes", reads.len());
        let inner = self.0.clone();
        // in reverse: replies may come in any order
        let replies = reads.into_iter().enumerate().rev().flat_map(move |(index, read)| {
            use v1::read_pages_reply::Result as Reply;
            let read = PageRead::from(read);
            let results = match inner.state.lock().pages.get(&read.page) {
                // storage nodes that know of no parts send whole pages
                Some(bytes) if index % 2 == 0 => vec![Reply::Data(bytes.clone())],
                Some(bytes) => bytes.chunks(part_bytes_max as usize).map(|part| Reply::Data(Bytes::copy_from_slice(part))).collect(),
                None => vec![Reply::Failure(v1::PageFailure { kind: v1::page_failure::Kind::Missing as i32, message: String::new() })],
            };
            results.into_iter().map(move |result| Ok(v1::ReadPagesReply { index: index as u32, result: Some(result), tier: 0 }))
        });
        Ok(Response::new(futures::stream::iter(replies.collect::<Vec<_>>()).boxed()))
    }
}

#[tonic::async_trait]
impl v1::admin_server::Admin for Service {
    async fn status(&self, _request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        Ok(Response::new(v1::StatusReply { applied_lsn: 42, ..Default::default() }))
    }
}
