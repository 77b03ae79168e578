//! The Raft group: openraft behind one module, its log and state machine in the ordered store.
//!
//! Acknowledged means fsynced on a majority. A proposal is appended to the log, where concurrent ones share an fsync, replicated, and
//! applied by `state_machine`, which alone decides what it does.

use std::fmt;

use bytes::Bytes;
use quire_types::Outcome;
use serde::{Deserialize, Serialize};

pub(crate) mod gate;

pub(crate) mod codec;
pub(crate) mod log_store;
pub(crate) mod network;
pub(crate) mod state_machine;

openraft::declare_raft_types!(
    /// The types of this group.
    pub(crate) Group:
        D = Proposal,
        R = Reply,
);

pub(crate) type Raft = openraft::Raft<Group, state_machine::StateMachine>;

/// What goes into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Proposal {
    /// A `LogEntry` of model.proto.
    Entry(Bytes),
    /// Several, each with an LSN and an outcome of its own: they share a flush and a round trip.
    Entries(Vec<Bytes>),
    /// Names the log; the first one counts.
    Name(String),
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proposal::Entry(bytes) => write!(f, "entry of {} bytes", bytes.len()),
            Proposal::Entries(entries) => write!(f, "{} entries of {} bytes", entries.len(), entries.iter().map(Bytes::len).sum::<usize>()),
            Proposal::Name(name) => write!(f, "log name {name}"),
        }
    }
}

/// What applying it answered: an outcome for each entry, none for Raft's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply(pub(crate) Vec<Outcome>);
