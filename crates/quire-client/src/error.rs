use quire_types::TxnId;
use tonic::{Code, Status};

use crate::node::BadAddress;

/// Why storage did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// No node could do it in time. Nothing was changed; try again later.
    #[error("storage is unavailable: {reason}")]
    Unavailable {
        /// What the last attempt said.
        reason: String,
    },
    /// No answer to a commit in time: it may have committed. Ask again with the same id.
    #[error("no answer from storage: the outcome of transaction {0} is unknown")]
    Unknown(TxnId),
    /// Storage will not do it, however often it is asked.
    #[error("storage refused the request: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The request does not fit in a message. Nothing was sent.
    #[error("{what} of {bytes} bytes is larger than the limit of {bytes_max} bytes")]
    TooLarge {
        /// What was to be sent.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The most there may be.
        bytes_max: u64,
    },
    /// A disk, quota or bucket has no room left. Nothing was changed.
    #[error("storage is full: {reason}")]
    Full {
        /// Which, and what it said.
        reason: String,
    },
}

/// What to do about a failed attempt.
pub(crate) enum Verdict {
    /// The node is not the leader; it named one, or knows none.
    NotLeader(Option<String>),
    /// This node cannot do it now; another may.
    Elsewhere,
    /// No room.
    Full,
    /// No node will do it.
    Refused,
}

/// The metadata key under which a node that is not the leader names the leader.
pub(crate) const LEADER_KEY: &str = "quire-leader";

impl Verdict {
    pub(crate) fn of(status: &Status) -> Verdict {
        match status.code() {
            Code::FailedPrecondition => match status.metadata().get(LEADER_KEY) {
                Some(hint) => Verdict::NotLeader(hint.to_str().ok().and_then(leader_address)),
                None => Verdict::Refused,
            },
            Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists | Code::Unimplemented | Code::PermissionDenied => {
                Verdict::Refused
            }
            Code::ResourceExhausted => Verdict::Full,
            _ => Verdict::Elsewhere,
        }
    }
}

/// The address in "<node id>=<address>".
fn leader_address(hint: &str) -> Option<String> {
    hint.split_once('=').map(|(_, address)| address.trim().to_string()).filter(|a| !a.is_empty())
}

/// True when the connection itself could not be made, so that the request cannot have had an effect.
pub(crate) fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() || error.is::<BadAddress>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// A status in words, with the causes that tonic keeps out of the message.
pub(crate) fn reason(address: &str, status: &Status) -> String {
    let mut text = format!("{address}: {}", status.message());
    if status.message().is_empty() {
        text = format!("{address}: {}", status.code());
    }
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_hint_is_an_address_or_nothing() {
        assert_eq!(leader_address("2=10.0.0.2:7101").as_deref(), Some("10.0.0.2:7101"));
        assert_eq!(leader_address(""), None);
        assert_eq!(leader_address("2="), None);
    }

    #[test]
    fn a_precondition_without_a_hint_is_a_refusal() {
        assert!(matches!(Verdict::of(&Status::failed_precondition("another log")), Verdict::Refused));
        let mut status = Status::failed_precondition("not the leader");
        status.metadata_mut().insert(LEADER_KEY, tonic::metadata::MetadataValue::from_static(""));
        assert!(matches!(Verdict::of(&status), Verdict::NotLeader(None)));
    }
}
