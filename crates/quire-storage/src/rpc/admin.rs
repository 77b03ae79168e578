//! Status.

use std::sync::Arc;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use quire_proto::v1;
use tonic::{Request, Response, Status};

use crate::replica::Replica;
use crate::report::Sizes;

/// Administration.
#[derive(Clone)]
pub(crate) struct AdminService {
    pub(crate) replica: Arc<Replica>,
    /// The object store's URL, without secrets.
    pub(crate) object_store: String,
}

#[tonic::async_trait]
impl v1::admin_server::Admin for AdminService {
    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        let metrics = self.replica.raft().metrics().borrow_watched().clone();
        let view = self.replica.view();
        let sizes = Sizes::of(&view);
        let members = metrics.membership_config.nodes().map(|(id, node)| {
            let role = match metrics.current_leader {
                Some(leader) if leader == *id => "leader",
                _ if *id == metrics.id && metrics.state == ServerState::Candidate => "candidate",
                Some(_) if metrics.membership_config.voter_ids().any(|v| v == *id) => "follower",
                Some(_) => "learner",
                None => "unknown",
            };
            let matched = metrics.replication.as_ref().and_then(|r| r.get(id)).and_then(|log_id| log_id.as_ref().map(|l| l.index));
            let matched = if *id == metrics.id { metrics.last_log_index } else { matched };
            v1::Member { node_id: *id, address: node.addr.clone(), role: role.to_string(), matched_index: matched }
        });
        Ok(Response::new(v1::StatusReply {
            node_id: metrics.id,
            log_id: self.replica.published().log_name().unwrap_or_default(),
            leader: metrics.current_leader.unwrap_or(0),
            term: metrics.current_term,
            applied_lsn: view.lsn.0,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index: metrics.last_applied.map_or(0, |l| l.index),
            members: members.collect(),
            segments: sizes.segments,
            object_bytes: sizes.segment_bytes,
            delta_rows: sizes.delta_rows,
            delta_bytes: sizes.delta_bytes,
            small_segments: sizes.small_segments,
            deleted_rows: sizes.deleted_rows,
            live_bytes: sizes.live_bytes,
            tables: view.catalog.tables.len() as u64,
            object_store: self.object_store.clone(),
        }))
    }
}
