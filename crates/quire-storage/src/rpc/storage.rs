//! Snapshots, commits and delta reads.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use quire_kit::clock;
use quire_objects::{ObjectError, Objects};
use quire_proto::v1;
use quire_types::{Change, Commit, LogEntry, Lsn, Outcome, RowId, SegmentMeta, TableId, TxnId};
use tokio::sync::{RwLock, RwLockReadGuard, Semaphore};
use tonic::{Request, Response, Status};

use super::propose_status;
use crate::pressure::{self, PressureOptions};
use crate::replica::{Replica, Since};
use crate::space::Space;

/// Changes in one part of a snapshot; a segment's is some tens of kilobytes.
const PART_CHANGES: usize = 64;
/// Bytes of rows and manifests in one commit: above it a load should have been made segments.
const COMMIT_BYTES_MAX: usize = 48 << 20;
/// Proposals under way; more wait, and callers' deadlines push back.
const PROPOSALS_MAX: usize = 1024;
/// A read of delta rows waits so long for this node to catch up.
const CATCH_UP: Duration = Duration::from_secs(5);
/// Batches in one read.
const BATCHES_MAX: usize = 65_536;

/// Rows that go along with a snapshot. More is worth a request of its own.
const SNAPSHOT_ROWS_BYTES_MAX: usize = 128 << 10;

type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The log's service.
#[derive(Clone)]
pub(crate) struct StorageService {
    replica: Arc<Replica>,
    proposals: Arc<Semaphore>,
    guards: Guards,
}

/// What stands before the log.
#[derive(Clone)]
pub(crate) struct Guards {
    /// Room on this node's disk.
    pub(crate) space: Arc<Space>,
    /// When commits wait.
    pub(crate) pressure: PressureOptions,
    /// Where uploaded segments are.
    pub(crate) objects: Objects,
    /// Held for reading while a commit names uploaded segments; see `collect`.
    pub(crate) uploads: Arc<RwLock<()>>,
}

impl StorageService {
    pub(crate) fn new(replica: Arc<Replica>, guards: Guards) -> StorageService {
        StorageService { replica, proposals: Arc::new(Semaphore::new(PROPOSALS_MAX)), guards }
    }

    async fn take_snapshot(&self, request: v1::SnapshotRequest) -> Result<Since, Status> {
        self.replica.linearize().await.map_err(propose_status)?;
        let since = self.replica.published().since(&request.log_id, Lsn(request.known_lsn));
        since.ok_or_else(|| Status::unavailable("the log is being set up"))
    }

    async fn look_up(&self, request: v1::TransactionOutcomeRequest) -> Result<Option<Outcome>, Status> {
        if self.replica.published().log_name().is_some_and(|name| name != request.log_id) {
            return Err(Status::invalid_argument("the transaction is of another log"));
        }
        let txn_id = <[u8; 16]>::try_from(request.txn_id.as_ref()).map_err(|_| Status::invalid_argument("txn_id"))?;
        self.replica.linearize().await.map_err(propose_status)?;
        self.replica.outcome(TxnId(u128::from_be_bytes(txn_id))).await.map_err(propose_status)
    }

    async fn certify(&self, request: v1::CommitRequest) -> Result<Vec<Outcome>, Status> {
        let known = self.replica.published().log_name();
        if known.is_some_and(|name| name != request.log_id) {
            return Err(Status::invalid_argument("the commit is for another log"));
        }
        if request.commits.is_empty() {
            return Err(Status::invalid_argument("no commit in the request"));
        }
        let commits = request.commits.into_iter().map(Commit::try_from).collect::<Result<Vec<_>, _>>();
        let commits = commits.map_err(|e| Status::invalid_argument(e.to_string()))?;
        let bytes: usize = commits.iter().map(weight).sum();
        if bytes > COMMIT_BYTES_MAX {
            return Err(Status::out_of_range(format!("a commit of {bytes} bytes is larger than {COMMIT_BYTES_MAX}")));
        }
        self.replica.check_leads().map_err(propose_status)?;
        self.guards.space.check().map_err(Status::resource_exhausted)?;
        let view = self.replica.view();
        let delay = commits.iter().map(|commit| pressure::delay(&view, commit, &self.guards.pressure)).max().unwrap_or_default();
        drop(view);
        if !delay.is_zero() {
            metrics::counter!("quire_storage_delayed_commits_total").increment(commits.len() as u64);
            metrics::histogram!("quire_storage_commit_delay_seconds").record(delay.as_secs_f64());
            clock::sleep(delay).await;
        }
        let _kept = self.keep_uploads(&commits).await?;
        let _permit = self.proposals.acquire().await.map_err(|_| Status::unavailable("shutting down"))?;
        let brought: Vec<u64> = commits.iter().map(brought).collect();
        let entries: Vec<LogEntry> = commits.into_iter().map(LogEntry::Commit).collect();
        let outcomes = self.replica.propose_all(&entries).await.map_err(propose_status)?;
        let committed = outcomes.iter().zip(brought).filter(|(outcome, _)| outcome.committed().is_some());
        metrics::counter!("quire_storage_committed_bytes_total").increment(committed.map(|(_, bytes)| bytes).sum());
        Ok(outcomes)
    }

    /// Sees to it that the segments which commits bring are there, and stay until these are decided: a transaction may have uploaded them
    /// so long ago that they were taken for orphans.
    async fn keep_uploads(&self, commits: &[Commit]) -> Result<Option<RwLockReadGuard<'_, ()>>, Status> {
        let segments = commits.iter().flat_map(|commit| &commit.writes).flat_map(|w| &w.segments);
        let keys: Vec<String> = segments.map(|s| SegmentMeta::object_key(s.table, s.id, s.term)).collect();
        if keys.is_empty() {
            return Ok(None);
        }
        let kept = self.guards.uploads.read().await;
        let heads = keys.into_iter().map(|key| {
            let objects = self.guards.objects.clone();
            async move { objects.head(&key).await }
        });
        match futures::future::try_join_all(heads).await {
            Ok(_) => Ok(Some(kept)),
            Err(ObjectError::NotFound { key }) => Err(Status::invalid_argument(format!(
                "uploaded rows are gone ({key}): the transaction was open for longer than such rows are kept"
            ))),
            Err(error) => Err(Status::unavailable(format!("cannot look for uploaded rows: {error}"))),
        }
    }
}

#[tonic::async_trait]
impl v1::storage_server::Storage for StorageService {
    type SnapshotStream = Parts<v1::SnapshotReply>;
    type ReadDeltasStream = Parts<v1::ReadDeltasReply>;

    async fn snapshot(&self, request: Request<v1::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let began = clock::now();
        let request = request.into_inner();
        let known_lsn = request.known_lsn;
        let result = self.take_snapshot(request).await;
        let milliseconds = began.elapsed().as_secs_f64() * 1e3;
        match &result {
            Ok(since) => tracing::debug!(rpc = "snapshot", known_lsn, lsn = since.lsn.0, full = since.full, milliseconds, outcome = "ok"),
            Err(status) => tracing::debug!(rpc = "snapshot", known_lsn, milliseconds, outcome = ?status.code()),
        }
        let since = result?;
        let rows = rows_along(&since);
        Ok(Response::new(Box::pin(futures::stream::iter(parts(since, rows).map(Ok)))))
    }

    async fn commit(&self, request: Request<v1::CommitRequest>) -> Result<Response<v1::CommitReply>, Status> {
        let began = clock::now();
        let result = self.certify(request.into_inner()).await;
        let seconds = began.elapsed().as_secs_f64();
        let count = |label: &'static str, count: usize| {
            metrics::counter!("quire_storage_commits_total", "outcome" => label).increment(count as u64)
        };
        metrics::histogram!("quire_storage_commit_seconds").record(seconds);
        match &result {
            Ok(outcomes) => {
                metrics::histogram!("quire_storage_commits_per_request").record(outcomes.len() as f64);
                outcomes.iter().for_each(|outcome| count(label(outcome), 1));
                tracing::debug!(rpc = "commit", milliseconds = seconds * 1e3, ?outcomes);
            }
            Err(status) => {
                count("error", 1);
                tracing::debug!(rpc = "commit", milliseconds = seconds * 1e3, outcome = ?status.code(), reason = status.message());
            }
        }
        Ok(Response::new(v1::CommitReply { outcomes: result?.iter().map(Into::into).collect() }))
    }

    async fn transaction_outcome(
        &self,
        request: Request<v1::TransactionOutcomeRequest>,
    ) -> Result<Response<v1::TransactionOutcomeReply>, Status> {
        let outcome = self.look_up(request.into_inner()).await?;
        tracing::debug!(rpc = "transaction_outcome", ?outcome);
        Ok(Response::new(v1::TransactionOutcomeReply { outcome: outcome.as_ref().map(Into::into) }))
    }

    async fn read_deltas(&self, request: Request<v1::ReadDeltasRequest>) -> Result<Response<Self::ReadDeltasStream>, Status> {
        let request = request.into_inner();
        if request.first.len() > BATCHES_MAX {
            return Err(Status::invalid_argument(format!("more than {BATCHES_MAX} batches in one read")));
        }
        let caught_up = self.replica.published().reached(Lsn(request.lsn));
        clock::timeout(CATCH_UP, caught_up).await.map_err(|_| Status::unavailable("this node has not caught up with the log"))?;
        tracing::debug!(rpc = "read_deltas", table = request.table, batches = request.first.len(), lsn = request.lsn);
        let (replica, table) = (self.replica.clone(), TableId(request.table));
        let replies = request.first.into_iter().map(move |first| match replica.delta(table, RowId(first)) {
            Ok(rows) => Ok(v1::ReadDeltasReply { first, rows: rows.unwrap_or_default() }),
            Err(error) => {
                tracing::warn!(%error, %table, first, "cannot read a delta batch");
                Err(Status::unavailable(format!("this node cannot read its delta: {error}")))
            }
        });
        Ok(Response::new(Box::pin(futures::stream::iter(replies))))
    }
}

/// What a commit holds in memory, in bytes: its rows, row ids and key hashes.
fn weight(commit: &Commit) -> usize {
    let written: usize = commit.writes.iter().map(|w| w.rows.len() + w.deletes.len() * 8 + w.keys.len() * 12).sum();
    let rows_read = |r: &quire_types::TableRead| r.rows.len() + r.locked.len() + r.shared.len();
    written + commit.reads.iter().map(|r| rows_read(r) * 8 + r.absent.len() * 12).sum::<usize>()
}

/// Bytes of rows that a commit brings, in the log or as segments.
fn brought(commit: &Commit) -> u64 {
    commit.writes.iter().map(|w| w.rows.len() as u64 + w.segments.iter().map(|s| s.bytes).sum::<u64>()).sum()
}

fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Committed(_) => "committed",
        outcome if outcome.retryable() => "conflict",
        _ => "refused",
    }
}

/// The rows that a snapshot's reader will want next, while they are few: those of the small commits since its last one.
fn rows_along(since: &Since) -> Vec<v1::SnapshotRows> {
    let mut left = SNAPSHOT_ROWS_BYTES_MAX;
    let mut along = vec![];
    for (table, first, rows) in since.told.iter().flat_map(|told| &told.rows) {
        if rows.len() <= left {
            left -= rows.len();
            along.push(v1::SnapshotRows { table: table.0, first: first.0, rows: rows.clone() });
        }
    }
    along
}

/// Cuts what happened into messages; at least one, for the LSN.
fn parts(since: Since, rows: Vec<v1::SnapshotRows>) -> impl Iterator<Item = v1::SnapshotReply> + Send {
    let Since { log_name, lsn, full, told } = since;
    let part = move |changes: &[Change]| v1::SnapshotReply {
        log_id: log_name.clone(),
        lsn: lsn.0,
        full,
        changes: changes.iter().map(Into::into).collect(),
        rows: vec![],
    };
    let mut parts: Vec<v1::SnapshotReply> = vec![];
    for told in &told {
        for chunk in told.changes.chunks(PART_CHANGES) {
            match parts.last_mut() {
                Some(last) if last.changes.len() + chunk.len() <= PART_CHANGES => last.changes.extend(chunk.iter().map(v1::Change::from)),
                _ => parts.push(part(chunk)),
            }
        }
    }
    if parts.is_empty() {
        parts.push(part(&[]));
    }
    if let Some(last) = parts.last_mut() {
        last.rows = rows;
    }
    parts.into_iter()
}
