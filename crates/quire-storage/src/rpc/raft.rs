//! Raft's messages, on the receiving side.

use bytes::{Bytes, BytesMut};
use openraft::storage::Snapshot;
use openraft::type_config::alias::{SnapshotMetaOf, VoteOf};
use quire_proto::v1;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Request, Response, Status, Streaming};

use openraft::raft::AppendEntriesRequest;

use crate::raft::codec::{decode, encode};
use crate::raft::gate::Gate;
use crate::raft::{Group, Raft};

/// A state machine larger than this is refused: manifests and deltas of some hundred million rows are well below it.
const SNAPSHOT_BYTES_MAX: usize = 4 << 30;

/// Hands messages of this group to openraft.
#[derive(Clone)]
pub(crate) struct RaftService {
    pub(crate) raft: Raft,
    pub(crate) cluster: String,
    pub(crate) gate: Gate,
}

impl RaftService {
    fn open<T: DeserializeOwned>(&self, message: v1::RaftMessage) -> Result<T, Status> {
        if message.cluster != self.cluster {
            return Err(Status::invalid_argument(format!("this node is of the group {}, not of {}", self.cluster, message.cluster)));
        }
        decode(&message.payload).map_err(|e| Status::invalid_argument(e.to_string()))
    }

    fn close<T: Serialize>(&self, answer: &T) -> Result<Response<v1::RaftMessage>, Status> {
        let payload = encode(answer).map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(v1::RaftMessage { cluster: self.cluster.clone(), payload }))
    }
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

#[tonic::async_trait]
impl v1::raft_server::Raft for RaftService {
    async fn append(&self, request: Request<v1::RaftMessage>) -> Result<Response<v1::RaftMessage>, Status> {
        let request: AppendEntriesRequest<Group> = self.open(request.into_inner())?;
        self.gate.admit_entries(request.vote.leader_id.term)?;
        self.close(&self.raft.append_entries(request).await.map_err(stopped)?)
    }

    async fn vote(&self, request: Request<v1::RaftMessage>) -> Result<Response<v1::RaftMessage>, Status> {
        self.gate.admit_vote()?;
        let request = self.open(request.into_inner())?;
        self.close(&self.raft.vote(request).await.map_err(stopped)?)
    }

    async fn pre_vote(&self, request: Request<v1::RaftMessage>) -> Result<Response<v1::RaftMessage>, Status> {
        self.gate.admit_vote()?;
        let request = self.open(request.into_inner())?;
        self.close(&self.raft.pre_vote(request).await.map_err(stopped)?)
    }

    async fn install_snapshot(&self, request: Request<Streaming<v1::SnapshotPart>>) -> Result<Response<v1::RaftMessage>, Status> {
        let mut parts = request.into_inner();
        let mut header: Option<(VoteOf<Group>, SnapshotMetaOf<Group>)> = None;
        let mut data = BytesMut::new();
        while let Some(part) = parts.message().await? {
            match (part.part, &header) {
                (Some(v1::snapshot_part::Part::Header(message)), None) => header = Some(self.open(message)?),
                (Some(v1::snapshot_part::Part::Data(bytes)), Some(_)) => {
                    if data.len() + bytes.len() > SNAPSHOT_BYTES_MAX {
                        return Err(Status::out_of_range("the snapshot is too large"));
                    }
                    data.extend_from_slice(&bytes);
                }
                _ => return Err(Status::invalid_argument("a snapshot is one header, then data")),
            }
        }
        let (vote, meta) = header.ok_or_else(|| Status::invalid_argument("a snapshot without header"))?;
        self.gate.admit_entries(vote.leader_id.term)?;
        let snapshot: Bytes = data.freeze();
        let answer = self.raft.install_full_snapshot(vote, Snapshot { meta, snapshot }).await.map_err(stopped)?;
        self.close(&answer)
    }
}
