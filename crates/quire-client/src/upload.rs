//! Uploads: segments on their way to the object store.

use std::time::Duration;

use bytes::Bytes;
use quire_kit::{Backoff, clock};
use quire_proto::v1;
use quire_types::{SegmentId, TableId, Term, page_checksum};
use tonic::Status;

use crate::client::StorageClient;
use crate::error::{ClientError, Verdict, reason};
use crate::node::Node;

/// One message of an upload: large enough that framing disappears, small enough to interleave with others.
const PART_BYTES: usize = 1 << 20;
/// For one node.
const ATTEMPT_MAX: Duration = Duration::from_secs(45);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

impl StorageClient {
    /// Stores a segment's object; durable when this returns. The term is part of the object's name and belongs in the manifest.
    ///
    /// Idempotent: a retry stores the same bytes under the same id, under another term at worst, and the name that counts is
    /// the one in the last answer. An object that no commit names is an orphan, for garbage collection to find.
    pub async fn upload(&self, table: TableId, segment: SegmentId, bytes: Bytes) -> Result<Term, ClientError> {
        let end = clock::now() + self.inner.deadlines.upload;
        let header = v1::UploadHeader { table: table.0, segment: segment.0, length: bytes.len() as u64, checksum: page_checksum(&bytes) };
        let nodes = self.nodes_for(segment.0, 0).into_iter().cycle();
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MAX);
        let mut last = String::from("no storage address is configured");
        for node in nodes {
            let left = end.saturating_duration_since(clock::now());
            if left.is_zero() {
                break;
            }
            let status = match clock::timeout(left.min(ATTEMPT_MAX), send(&node, header, bytes.clone())).await {
                Ok(Ok(term)) => return Ok(term),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("the upload was not acknowledged in time"),
            };
            last = reason(node.address(), &status);
            match Verdict::of(&status) {
                Verdict::Full => return Err(ClientError::Full { reason: last }),
                Verdict::Refused => return Err(ClientError::Refused { reason: last }),
                Verdict::NotLeader(_) | Verdict::Elsewhere => {}
            }
            tracing::debug!(node = node.address(), reason = last, "upload failed, trying another node");
            metrics::counter!("quire_client_upload_retries_total").increment(1);
            clock::sleep(backoff.next_delay().min(end.saturating_duration_since(clock::now()))).await;
        }
        Err(ClientError::Unavailable { reason: last })
    }
}

async fn send(node: &Node, header: v1::UploadHeader, bytes: Bytes) -> Result<Term, Status> {
    let header = std::iter::once(v1::upload_request::Part::Header(header));
    let starts = (0..bytes.len()).step_by(PART_BYTES);
    let parts = starts.map(move |start| v1::upload_request::Part::Data(bytes.slice(start..(start + PART_BYTES).min(bytes.len()))));
    let requests = header.chain(parts).map(|part| v1::UploadRequest { part: Some(part) });
    let reply = node.pages()?.upload(futures::stream::iter(requests)).await?.into_inner();
    Ok(Term(reply.term))
}
