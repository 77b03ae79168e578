//! Delta rows: committed, and in no segment yet.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use quire_kit::{Backoff, clock};
use quire_proto::v1;
use quire_types::{DeltaMeta, Lsn, TableId};
use tonic::Status;

use crate::client::StorageClient;
use crate::error::{ClientError, Verdict, reason};
use crate::node::Node;

/// Between two batches of one answer. A follower may have to catch up first, which it does within milliseconds or not soon.
const BATCH_TIMEOUT: Duration = Duration::from_secs(4);
/// Batches in one request: their ids are 32 KiB.
const BATCHES_MAX: usize = 4096;
/// Bytes asked for in one request, so that a retry repeats little.
const REQUEST_BYTES_MAX: u64 = 32 << 20;
/// Requests at once for one call.
const REQUESTS_MAX: usize = 4;
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(300);

impl StorageClient {
    /// The rows of delta batches, each encoded (`quire_segment::encode_rows`), in the order of `deltas`. `None` for a batch that was sealed
    /// or truncated since the view was taken: take a new snapshot.
    pub async fn deltas(&self, table: TableId, deltas: &[DeltaMeta], lsn: Lsn) -> Result<Vec<Option<Bytes>>, ClientError> {
        if let Some(rows) = self.inner.along.all(table, deltas) {
            return Ok(rows.into_iter().map(Some).collect());
        }
        let requests: Vec<_> = requests(deltas)
            .into_iter()
            .map(|part| v1::ReadDeltasRequest { table: table.0, first: part.iter().map(|d| d.first.0).collect(), lsn: lsn.0 })
            .map(|request| self.read(request))
            .collect();
        let answers: Vec<Vec<Option<Bytes>>> = futures::stream::iter(requests).buffered(REQUESTS_MAX).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn read(&self, request: v1::ReadDeltasRequest) -> Result<Vec<Option<Bytes>>, ClientError> {
        let end = clock::now() + self.inner.deadlines.deltas;
        // whoever leads has applied what it told us of; the others are as good a moment later
        let leader = self.inner.leader.believed();
        let others = self.inner.nodes.iter().filter(|n| leader.as_ref().is_none_or(|l| l.address() != n.address())).cloned();
        let nodes: Vec<_> = leader.iter().cloned().chain(others).collect();
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MAX);
        let mut last = String::from("no storage address is configured");
        for node in nodes.into_iter().cycle() {
            if end <= clock::now() {
                break;
            }
            let status = match ask(&node, request.clone()).await {
                Ok(rows) => return Ok(rows),
                Err(status) => status,
            };
            last = reason(node.address(), &status);
            if let Verdict::Refused = Verdict::of(&status) {
                return Err(ClientError::Refused { reason: last });
            }
            tracing::debug!(node = node.address(), reason = last, "delta read failed, trying another node");
            metrics::counter!("quire_client_delta_retries_total").increment(1);
            backoff.wait().await;
        }
        Err(ClientError::Unavailable { reason: last })
    }
}

/// Cuts what is wanted into requests.
fn requests(deltas: &[DeltaMeta]) -> Vec<&[DeltaMeta]> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (i, delta) in deltas.iter().enumerate() {
        if i > start && (bytes + delta.bytes > REQUEST_BYTES_MAX || i - start == BATCHES_MAX) {
            parts.push(&deltas[start..i]);
            (start, bytes) = (i, 0);
        }
        bytes += delta.bytes;
    }
    if start < deltas.len() {
        parts.push(&deltas[start..]);
    }
    parts
}

async fn ask(node: &Node, request: v1::ReadDeltasRequest) -> Result<Vec<Option<Bytes>>, Status> {
    let wanted = request.first.clone();
    let late = |_| Status::deadline_exceeded("no delta batch in time");
    let mut client = node.storage_bulk()?;
    let mut replies = clock::timeout(BATCH_TIMEOUT, client.read_deltas(request)).await.map_err(late)??.into_inner();
    let mut rows = Vec::with_capacity(wanted.len());
    while let Some(reply) = clock::timeout(BATCH_TIMEOUT, replies.message()).await.map_err(late)?? {
        if wanted.get(rows.len()) != Some(&reply.first) {
            return Err(Status::data_loss("delta batches out of order"));
        }
        rows.push(Some(reply.rows).filter(|bytes| !bytes.is_empty()));
    }
    if rows.len() != wanted.len() {
        return Err(Status::data_loss("delta batches are missing from the answer"));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use quire_types::RowId;

    use super::*;

    #[test]
    fn requests_are_cut_by_bytes_and_by_count() {
        let delta = |first, bytes| DeltaMeta { first: RowId(first), rows: 1, bytes, version: 1, lsn: Lsn(1) };
        let sizes = |deltas: &[DeltaMeta]| requests(deltas).iter().map(|r| r.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), Vec::<usize>::new());
        assert_eq!(sizes(&[delta(0, 40 << 20)]), [1]);
        assert_eq!(sizes(&[delta(0, 20 << 20), delta(1, 20 << 20), delta(2, 1)]), [1, 2]);
        let many: Vec<_> = (0..5000).map(|i| delta(i, 1)).collect();
        assert_eq!(sizes(&many), [4096, 904]);
    }
}
