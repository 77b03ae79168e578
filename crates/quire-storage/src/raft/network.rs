//! Raft's messages over gRPC.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use quire_proto::v1;
use quire_proto::v1::raft_client::RaftClient;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::transport::{Channel, Endpoint};

use super::Group;
use super::codec::{decode, encode};

/// Parts of a snapshot transfer.
const PART_BYTES: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest message between nodes: an entry of the largest commit, with room.
pub(crate) const MESSAGE_BYTES_MAX: usize = 96 << 20;

/// Makes connections to the other nodes.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) cluster: String,
}

impl RaftNetworkFactory<Group> for Network {
    type Network = Peer;

    async fn new_client(&mut self, _target: u64, node: &BasicNode) -> Peer {
        let client = Endpoint::from_shared(format!("http://{}", node.addr)).map(|endpoint| {
            let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).connect_lazy();
            RaftClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
        });
        Peer { cluster: self.cluster.clone(), address: node.addr.clone(), client: client.ok(), reachable: AtomicBool::new(true) }
    }
}

/// A connection to one node.
pub(crate) struct Peer {
    cluster: String,
    address: String,
    /// `None` when the address is none.
    client: Option<RaftClient<Channel>>,
    /// As of the last call.
    reachable: AtomicBool,
}

enum Call {
    Append,
    Vote,
    PreVote,
}

impl Peer {
    fn client(&self) -> Result<RaftClient<Channel>, Unreachable<Group>> {
        let bad = || Unreachable::new(&std::io::Error::other(format!("{} is no address", self.address)));
        self.client.clone().ok_or_else(bad)
    }

    /// Says once, not at every heartbeat, that a node cannot be reached, and when it can be again.
    fn note(&self, failure: Option<&tonic::Status>) {
        let was_reachable = self.reachable.swap(failure.is_none(), Ordering::Relaxed);
        match failure {
            Some(status) if was_reachable => {
                tracing::info!(node = self.address, reason = status.message(), "another storage node does not answer")
            }
            None if !was_reachable => tracing::info!(node = self.address, "another storage node answers again"),
            _ => {}
        }
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(&self, call: Call, request: &Q, option: &RPCOption) -> Result<A, RPCError<Group>> {
        let payload = encode(request).map_err(|e| NetworkError::new(&e))?;
        let mut message = tonic::Request::new(v1::RaftMessage { cluster: self.cluster.clone(), payload });
        message.set_timeout(option.hard_ttl());
        let mut client = self.client()?;
        let answer = match call {
            Call::Append => client.append(message).await,
            Call::Vote => client.vote(message).await,
            Call::PreVote => client.pre_vote(message).await,
        };
        self.note(answer.as_ref().err());
        let answer = answer.map_err(|status| match status.code() {
            tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::FailedPrecondition => {
                RPCError::Unreachable(Unreachable::new(&status))
            }
            _ => RPCError::Network(NetworkError::new(&status)),
        })?;
        Ok(decode(&answer.into_inner().payload).map_err(|e| NetworkError::new(&e))?)
    }
}

impl RaftNetworkV2<Group> for Peer {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Group>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Group>, RPCError<Group>> {
        self.call(Call::Append, &rpc, &option).await
    }

    async fn vote(&mut self, rpc: VoteRequest<Group>, option: RPCOption) -> Result<VoteResponse<Group>, RPCError<Group>> {
        self.call(Call::Vote, &rpc, &option).await
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<Group>, option: RPCOption) -> Result<VoteResponse<Group>, RPCError<Group>> {
        self.call(Call::PreVote, &rpc, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Group>,
        snapshot: SnapshotOf<Group, Bytes>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Group>, StreamingError<Group>> {
        let header = encode(&(vote, &snapshot.meta)).map_err(|e| NetworkError::new(&e))?;
        let header = v1::snapshot_part::Part::Header(v1::RaftMessage { cluster: self.cluster.clone(), payload: header });
        let bytes = snapshot.snapshot;
        let parts = (0..bytes.len()).step_by(PART_BYTES).map(move |at| bytes.slice(at..(at + PART_BYTES).min(bytes.len())));
        let parts = std::iter::once(header).chain(parts.map(v1::snapshot_part::Part::Data));
        let mut request = tonic::Request::new(futures::stream::iter(parts.map(|part| v1::SnapshotPart { part: Some(part) })));
        request.set_timeout(option.hard_ttl());
        let mut client = self.client()?;
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            answer = client.install_snapshot(request) => {
                let answer = answer.map_err(|status| Unreachable::new(&status))?;
                Ok(decode(&answer.into_inner().payload).map_err(|e| NetworkError::new(&e))?)
            }
        }
    }
}
