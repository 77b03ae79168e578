//! The state of the nodes, for people.

use std::time::Duration;

use futures::future::join_all;
use quire_kit::clock;
use quire_proto::v1;
use quire_types::{Lsn, NodeId, Term};

use crate::client::StorageClient;
use crate::error::{ClientError, reason};
use crate::node::Node;

/// A person waits for it.
const DEADLINE: Duration = Duration::from_secs(3);

/// The cluster as one storage node sees it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NodeStatus {
    /// The answering node.
    pub node_id: NodeId,
    /// The log's id; empty before the group has formed.
    pub log_id: String,
    /// The leader, when known.
    pub leader: Option<NodeId>,
    /// The current Raft term.
    pub term: Term,
    /// The last LSN this node has applied.
    pub applied_lsn: Lsn,
    /// The last log index it has appended.
    pub last_log_index: u64,
    /// The last log index it has applied.
    pub applied_index: u64,
    /// The group's members.
    pub members: Vec<MemberStatus>,
    /// Segments in all manifests.
    pub segments: u64,
    /// Their bytes in the object store.
    pub object_bytes: u64,
    /// Rows in deltas.
    pub delta_rows: u64,
    /// Bytes in deltas.
    pub delta_bytes: u64,
    /// Tables.
    pub tables: u64,
    /// The object store's URL, without secrets.
    pub object_store: String,
    /// Of the segments, those that wait to be merged with others.
    pub small_segments: u64,
    /// Deleted rows that are still stored.
    pub deleted_rows: u64,
    /// Of the bytes in the object store, those of rows that are not deleted: an estimate.
    pub live_bytes: u64,
}

/// A member of the Raft group.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemberStatus {
    /// Its id.
    pub node_id: NodeId,
    /// Its address.
    pub address: String,
    /// "leader", "follower", "learner", "candidate" or "unknown".
    pub role: String,
    /// The last log index known to be on it; only the leader knows.
    pub matched_index: Option<u64>,
}

impl StorageClient {
    /// What each configured node says of itself and the group, in the order of the addresses.
    pub async fn status(&self) -> Vec<(String, Result<NodeStatus, ClientError>)> {
        join_all(self.inner.nodes.iter().map(|node| async { (node.address().to_string(), ask(node).await) })).await
    }
}

async fn ask(node: &Node) -> Result<NodeStatus, ClientError> {
    let unavailable = |status: tonic::Status| ClientError::Unavailable { reason: reason(node.address(), &status) };
    let mut client = node.admin().map_err(unavailable)?;
    match clock::timeout(DEADLINE, client.status(v1::StatusRequest {})).await {
        Ok(Ok(reply)) => Ok(NodeStatus::from(reply.into_inner())),
        Ok(Err(status)) => Err(unavailable(status)),
        Err(_) => Err(ClientError::Unavailable { reason: format!("{}: no answer within {} s", node.address(), DEADLINE.as_secs()) }),
    }
}

impl From<v1::StatusReply> for NodeStatus {
    fn from(reply: v1::StatusReply) -> NodeStatus {
        let member =
            |m: v1::Member| MemberStatus { node_id: NodeId(m.node_id), address: m.address, role: m.role, matched_index: m.matched_index };
        NodeStatus {
            node_id: NodeId(reply.node_id),
            log_id: reply.log_id,
            leader: Some(NodeId(reply.leader)).filter(|id| id.0 != 0),
            term: Term(reply.term),
            applied_lsn: Lsn(reply.applied_lsn),
            last_log_index: reply.last_log_index,
            applied_index: reply.applied_index,
            members: reply.members.into_iter().map(member).collect(),
            segments: reply.segments,
            object_bytes: reply.object_bytes,
            delta_rows: reply.delta_rows,
            delta_bytes: reply.delta_bytes,
            tables: reply.tables,
            object_store: reply.object_store,
            small_segments: reply.small_segments,
            deleted_rows: reply.deleted_rows,
            live_bytes: reply.live_bytes,
        }
    }
}
