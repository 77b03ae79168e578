//! Commits: the same transactions until there is an answer. Those that are at hand together share a request, and so a log entry, a flush
//! and a round trip between storage nodes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use quire_kit::clock;
use quire_proto::v1;
use quire_types::{CatalogChange, Commit, Outcome, TxnId};
use tokio::sync::{Notify, oneshot};
use tonic::Status;

use crate::client::{Inner, StorageClient};
use crate::error::ClientError;
use crate::leader::{Failed, FailedKind};
use crate::node::{MESSAGE_BYTES_MAX, Node};

/// A leader that is cut off from its followers would keep the call for ever; the next one may do better.
const ATTEMPT_MAX: Duration = Duration::from_secs(8);
/// gRPC frames and the request's own fields.
const OVERHEAD_BYTES: usize = 1 << 10;
/// A larger commit goes by itself: others do not wait for its bytes.
const SHARED_BYTES_MAX: usize = 64 << 10;
/// Commits in one request.
const SHARED_MAX: usize = 256;
/// Shared requests under way. While one is, commits gather for the next: the fewer requests, the more share a flush and a round trip.
const REQUESTS_MAX: usize = 1;
/// A request that carried fewer is no sign of many clients: the next one does not wait (`commit_siblings` of Postgres).
const SIBLINGS_MIN: usize = 4;
/// Nor does it wait longer for as many as the last one carried (`commit_delay`).
const DELAY_MAX: Duration = Duration::from_millis(2);

/// Commits that wait to be sent.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    queue: Mutex<Queue>,
    /// Said when as many wait as the last request carried.
    gathered: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    requests: usize,
    /// Commits that the last request carried, and how long its answer took.
    last: (usize, Duration),
}

impl Queue {
    /// How long the next request waits for more commits. What a request costs, in storage nodes' time more than in its own, hardly
    /// depends on how many it carries; so where many clients commit, it waits for as many as came last time, as long as that took.
    fn delay(&self) -> Duration {
        let (siblings, took) = self.last;
        if siblings < SIBLINGS_MIN || self.waiting.len() >= siblings { Duration::ZERO } else { took.min(DELAY_MAX) }
    }
}

#[derive(Debug)]
struct Waiting {
    commit: v1::Commit,
    txn_id: TxnId,
    /// To whoever asked, who may have gone.
    answer: oneshot::Sender<Result<Outcome, ClientError>>,
}

impl StorageClient {
    /// Commits a transaction, or learns why not.
    ///
    /// The answer is durable on a majority. Without an answer in time it is [`ClientError::Unknown`], and asking again
    /// with the same `txn_id` tells what became of it; any other error says that nothing happened.
    pub async fn commit(&self, commit: Commit) -> Result<Outcome, ClientError> {
        let moves_only = |change: &CatalogChange| matches!(change, CatalogChange::MoveSequence { .. });
        let defines = !commit.catalog.iter().all(moves_only) || commit.writes.iter().any(|write| write.truncate);
        let outcome = self.send_commit(commit).await;
        if defines || matches!(outcome, Err(ClientError::Refused { .. })) {
            self.outdate_view();
        }
        outcome
    }

    async fn send_commit(&self, commit: Commit) -> Result<Outcome, ClientError> {
        let txn_id = commit.txn_id;
        let log_id = self.known_log_id().await?;
        let alone = commit.writes.iter().any(|write| !write.segments.is_empty());
        let encoded = v1::Commit::from(&commit);
        drop(commit);
        let bytes = encoded.encoded_len();
        let bytes_max = MESSAGE_BYTES_MAX - OVERHEAD_BYTES;
        if bytes > bytes_max {
            return Err(ClientError::TooLarge { what: "a transaction", bytes: bytes as u64, bytes_max: bytes_max as u64 });
        }
        if alone || bytes > SHARED_BYTES_MAX {
            return Box::pin(send_one(&self.inner, log_id, encoded, txn_id)).await;
        }
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.inner.commits.queue.lock();
            queue.waiting.push(Waiting { commit: encoded, txn_id, answer });
            if queue.waiting.len() == queue.last.0 {
                self.inner.commits.gathered.notify_waiters();
            }
            if queue.requests < REQUESTS_MAX {
                queue.requests += 1;
                quire_kit::task::spawn("commits", send_waiting(self.inner.clone(), log_id));
            }
        }
        // Without an answer the runtime is shutting down, and the request may be on its way.
        answered.await.unwrap_or(Err(ClientError::Unknown(txn_id)))
    }
}

/// Says, should the task end before its work does, that its request is not under way any more; whoever waits is told that the outcome is
/// not known.
struct Sending {
    inner: Arc<Inner>,
    ended: bool,
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.ended {
            let mut queue = self.inner.commits.queue.lock();
            queue.requests -= 1;
            queue.waiting.clear();
        }
    }
}

/// Sends what waits, as one request after another, until nothing does.
async fn send_waiting(inner: Arc<Inner>, log_id: String) {
    let mut sending = Sending { inner: inner.clone(), ended: false };
    loop {
        gather(&inner.commits).await;
        let waiting = {
            let mut queue = inner.commits.queue.lock();
            if queue.waiting.is_empty() {
                // under the same lock as the check, so that a caller either is seen here or starts a task
                queue.requests -= 1;
                sending.ended = true;
                return;
            }
            let count = queue.waiting.len().min(SHARED_MAX);
            queue.waiting.drain(..count).collect::<Vec<_>>()
        };
        let (count, began) = (waiting.len(), clock::now());
        metrics::histogram!("quire_client_commits_per_request").record(count as f64);
        Box::pin(send_together(&inner, &log_id, waiting)).await;
        inner.commits.queue.lock().last = (count, began.elapsed());
    }
}

/// Lets commits come that are about to.
async fn gather(commits: &Commits) {
    let gathered = commits.gathered.notified();
    let delay = commits.queue.lock().delay();
    if !delay.is_zero() {
        // late or gathered, what is there is sent
        let _either = clock::timeout(delay, gathered).await;
    }
}

async fn send_together(inner: &Inner, log_id: &str, waiting: Vec<Waiting>) {
    let (mut commits, mut callers) = (Vec::with_capacity(waiting.len()), Vec::with_capacity(waiting.len()));
    for Waiting { commit, txn_id, answer } in waiting {
        commits.push(commit);
        callers.push((txn_id, answer));
    }
    let request = v1::CommitRequest { log_id: log_id.to_string(), commits };
    match ask(inner, &request).await {
        Ok(outcomes) => {
            for ((_, answer), outcome) in callers.into_iter().zip(outcomes) {
                // a caller that gave up has dropped its end
                let _gone = answer.send(Ok(outcome));
            }
        }
        // One that storage will not have must not take the others with it.
        Err(failed) if failed.kind == FailedKind::Refused && callers.len() > 1 => {
            for (commit, (txn_id, answer)) in request.commits.into_iter().zip(callers) {
                let _gone = answer.send(send_one(inner, log_id.to_string(), commit, txn_id).await);
            }
        }
        Err(failed) => {
            for (txn_id, answer) in callers {
                let _gone = answer.send(Err(error(&failed, txn_id)));
            }
        }
    }
}

async fn send_one(inner: &Inner, log_id: String, commit: v1::Commit, txn_id: TxnId) -> Result<Outcome, ClientError> {
    let outcomes = ask(inner, &v1::CommitRequest { log_id, commits: vec![commit] }).await;
    let outcomes = outcomes.map_err(|failed| error(&failed, txn_id))?;
    outcomes.into_iter().next().ok_or(ClientError::Unknown(txn_id))
}

/// One outcome for each commit of the request.
async fn ask(inner: &Inner, request: &v1::CommitRequest) -> Result<Vec<Outcome>, Failed> {
    let attempt = |node: Arc<Node>| {
        let request = request.clone(); // shares the rows
        async move { send(&node, request).await }
    };
    inner.leader.call(inner.deadlines.commit, ATTEMPT_MAX, attempt).await
}

fn error(failed: &Failed, txn_id: TxnId) -> ClientError {
    let reason = failed.reason.clone();
    if !failed.without_effect {
        tracing::info!(txn = %format_args!("{:032x}", txn_id.0), reason, "no answer to a commit");
        return ClientError::Unknown(txn_id);
    }
    match failed.kind {
        FailedKind::Deadline => ClientError::Unavailable { reason },
        FailedKind::Refused => ClientError::Refused { reason },
        FailedKind::Full => ClientError::Full { reason },
    }
}

impl StorageClient {
    async fn known_log_id(&self) -> Result<String, ClientError> {
        if let Some(log_id) = self.log_id() {
            return Ok(log_id);
        }
        self.snapshot().await?;
        Ok(self.log_id().unwrap_or_default())
    }

    /// What the log told a transaction; `None` when it has not met it, or no longer remembers.
    pub async fn transaction_outcome(&self, txn_id: TxnId) -> Result<Option<Outcome>, ClientError> {
        let txn_id = Bytes::copy_from_slice(&txn_id.0.to_be_bytes());
        let request = v1::TransactionOutcomeRequest { log_id: self.known_log_id().await?, txn_id };
        let attempt = |node: Arc<Node>| {
            let request = request.clone();
            async move {
                let reply = node.storage()?.transaction_outcome(request).await?.into_inner();
                let outcome = reply.outcome.map(Outcome::try_from).transpose();
                outcome.map_err(|e| Status::data_loss(format!("malformed outcome: {e}")))
            }
        };
        let answer = self.inner.leader.call(self.inner.deadlines.snapshot, ATTEMPT_MAX, attempt).await;
        answer.map_err(|failed| match failed.kind {
            FailedKind::Refused => ClientError::Refused { reason: failed.reason },
            FailedKind::Deadline | FailedKind::Full => ClientError::Unavailable { reason: failed.reason },
        })
    }
}

async fn send(node: &Node, request: v1::CommitRequest) -> Result<Vec<Outcome>, Status> {
    let asked = request.commits.len();
    let reply = node.storage()?.commit(request).await?.into_inner();
    if reply.outcomes.len() != asked {
        return Err(Status::data_loss("a commit without an outcome"));
    }
    let outcomes = reply.outcomes.into_iter().map(Outcome::try_from).collect::<Result<_, _>>();
    outcomes.map_err(|e| Status::data_loss(format!("malformed outcome: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_waits_for_as_many_as_the_last_one_carried() {
        let ms = Duration::from_millis;
        let queue = |last, waiting: usize| {
            let one = || Waiting { commit: v1::Commit::default(), txn_id: TxnId(0), answer: oneshot::channel().0 };
            Queue { last, waiting: std::iter::repeat_with(one).take(waiting).collect(), requests: 0 }
        };
        assert_eq!(Queue::default().delay(), ms(0));
        assert_eq!(queue((SIBLINGS_MIN - 1, ms(1)), 1).delay(), ms(0), "few clients");
        assert_eq!(queue((20, ms(1)), 5).delay(), ms(1));
        assert_eq!(queue((20, ms(100)), 5).delay(), DELAY_MAX, "a slow answer");
        assert_eq!(queue((20, ms(1)), 20).delay(), ms(0), "they are here");
    }
}
