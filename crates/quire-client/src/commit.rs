//! Commits: the same transaction until there is an answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use quire_proto::v1;
use quire_types::{Commit, Outcome, TxnId};
use tonic::Status;

use crate::client::StorageClient;
use crate::error::ClientError;
use crate::leader::FailedKind;
use crate::node::{MESSAGE_BYTES_MAX, Node};

/// A leader that is cut off from its followers would keep the call for ever; the next one may do better.
const ATTEMPT_MAX: Duration = Duration::from_secs(8);
/// gRPC frames and the request's own fields.
const OVERHEAD_BYTES: usize = 1 << 10;

impl StorageClient {
    /// Commits a transaction, or learns why not.
    ///
    /// The answer is durable on a majority. Without an answer in time it is [`ClientError::Unknown`], and asking again
    /// with the same `txn_id` tells what became of it; any other error says that nothing happened.
    pub async fn commit(&self, commit: Commit) -> Result<Outcome, ClientError> {
        let txn_id = commit.txn_id;
        let log_id = self.known_log_id().await?;
        let request = v1::CommitRequest { log_id, commit: Some(v1::Commit::from(&commit)) };
        drop(commit);
        let bytes = request.encoded_len();
        let bytes_max = MESSAGE_BYTES_MAX - OVERHEAD_BYTES;
        if bytes > bytes_max {
            return Err(ClientError::TooLarge { what: "a transaction", bytes: bytes as u64, bytes_max: bytes_max as u64 });
        }
        let attempt = |node: Arc<Node>| {
            let request = request.clone(); // shares the rows
            async move { send(&node, request).await }
        };
        match Box::pin(self.inner.leader.call(self.inner.deadlines.commit, ATTEMPT_MAX, attempt)).await {
            Ok(outcome) => Ok(outcome),
            Err(failed) if failed.without_effect => Err(match failed.kind {
                FailedKind::Deadline => ClientError::Unavailable { reason: failed.reason },
                FailedKind::Refused => ClientError::Refused { reason: failed.reason },
                FailedKind::Full => ClientError::Full { reason: failed.reason },
            }),
            Err(failed) => {
                tracing::info!(txn = %format_args!("{:032x}", txn_id.0), reason = failed.reason, "no answer to a commit");
                Err(ClientError::Unknown(txn_id))
            }
        }
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

async fn send(node: &Node, request: v1::CommitRequest) -> Result<Outcome, Status> {
    let reply = node.storage()?.commit(request).await?.into_inner();
    let outcome = reply.outcome.ok_or_else(|| Status::data_loss("a commit without an outcome"))?;
    Outcome::try_from(outcome).map_err(|e| Status::data_loss(format!("malformed outcome: {e}")))
}
