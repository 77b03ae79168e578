//! The service on the wire: requests checked and turned into our types, answers turned into protobuf. No generated type goes further.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::replica::ProposeError;

pub(crate) mod admin;
pub(crate) mod pages;
pub(crate) mod raft;
pub(crate) mod storage;

/// Largest message of a client: a commit's rows are at most some megabytes, a page reply at most 16.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Metadata that names the leader in a refusal: `<node id>=<address>`, empty when unknown.
const LEADER_KEY: &str = "quire-leader";

fn propose_status(error: ProposeError) -> Status {
    match error {
        ProposeError::NotLeader(leader) => {
            let mut status = Status::new(Code::FailedPrecondition, "this node does not lead the log");
            let hint = leader.map(|(id, address)| format!("{id}={address}")).unwrap_or_default();
            if let Ok(value) = MetadataValue::try_from(hint) {
                status.metadata_mut().insert(LEADER_KEY, value);
            }
            status
        }
        ProposeError::Unknown(reason) => Status::unavailable(reason),
        ProposeError::Stopped(reason) => Status::unavailable(format!("this node has stopped: {reason}")),
    }
}
