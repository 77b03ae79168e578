//! This node's copy of the database as the rest of the service uses it: read the view, propose to the log.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError};
use parking_lot::Mutex;
use quire_proto::encode_entry;
use quire_types::{Change, DeltaMeta, LogEntry, Lsn, NodeId, Outcome, RowId, TableId, Term, TxnId, View};

use crate::persist::delta_key;
use crate::raft::{Group, Proposal, Raft};
use crate::store::{Family, OrderedStore, StoreFailure};

/// Log entries whose changes are kept for callers that are a little behind; others get everything.
const RECENT_MAX: usize = 4096;
/// Changes in them.
const RECENT_CHANGES_MAX: usize = 65_536;
/// The rows of an entry of at most so many bytes are kept with its changes, since who reads these will want them next: 32 MiB in all. More is
/// worth a request of its own.
pub(crate) const RECENT_ENTRY_BYTES_MAX: usize = 8 << 10;

/// What the state machine shows the rest of the node.
#[derive(Default)]
pub(crate) struct Published {
    inner: Mutex<Shown>,
    advanced: tokio::sync::Notify,
}

#[derive(Default)]
struct Shown {
    view: Arc<View>,
    log_name: Option<String>,
    /// What happened, oldest first, without gaps.
    recent: VecDeque<Arc<Told>>,
    recent_changes: usize,
}

/// What an entry did.
pub(crate) struct Told {
    pub(crate) lsn: Lsn,
    pub(crate) changes: Vec<Change>,
    /// Of a small entry, the delta rows that it brought: table, first row id, encoded rows.
    pub(crate) rows: Vec<(TableId, RowId, Bytes)>,
}

/// What happened since an LSN.
pub(crate) struct Since {
    /// The log's name.
    pub(crate) log_name: String,
    /// The view that the changes lead to.
    pub(crate) lsn: Lsn,
    /// True when they begin from nothing.
    pub(crate) full: bool,
    /// What happened, in order.
    pub(crate) told: Vec<Arc<Told>>,
}

impl Published {
    /// A state that did not come by applying entries: at start, or from another node.
    pub(crate) fn reset(&self, view: View, log_name: Option<String>) {
        *self.inner.lock() = Shown { view: Arc::new(view), log_name, ..Shown::default() };
        self.advanced.notify_waiters();
    }

    /// Entries were applied.
    pub(crate) fn advance(&self, view: View, told: Vec<Told>) {
        let mut shown = self.inner.lock();
        for told in told {
            shown.recent_changes += told.changes.len();
            shown.recent.push_back(Arc::new(told));
        }
        while shown.recent.len() > RECENT_MAX || shown.recent_changes > RECENT_CHANGES_MAX {
            let Some(forgotten) = shown.recent.pop_front() else { break };
            shown.recent_changes -= forgotten.changes.len();
        }
        shown.view = Arc::new(view);
        drop(shown);
        self.advanced.notify_waiters();
    }

    pub(crate) fn name(&self, log_name: Option<String>) {
        self.inner.lock().log_name = log_name;
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.inner.lock().view.clone()
    }

    pub(crate) fn log_name(&self) -> Option<String> {
        self.inner.lock().log_name.clone()
    }

    /// What a caller must be told who knows the log up to `known`; `None` while the log has no name.
    pub(crate) fn since(&self, log_name: &str, known: Lsn) -> Option<Since> {
        let shown = self.inner.lock();
        let name = shown.log_name.clone()?;
        let lsn = shown.view.lsn;
        let continues =
            name == log_name && known <= lsn && (known == lsn || shown.recent.front().is_some_and(|first| first.lsn.0 <= known.0 + 1));
        if continues && known > Lsn(0) {
            // By LSN and without gaps, and most callers are a few behind: no walk over all of them under the lock.
            let from = shown.recent.partition_point(|told| told.lsn <= known);
            let told = shown.recent.range(from..).cloned().collect();
            return Some(Since { log_name: name, lsn, full: false, told });
        }
        let view = shown.view.clone();
        drop(shown);
        let told = Told { lsn, changes: view.dump(), rows: vec![] };
        Some(Since { log_name: name, lsn, full: true, told: vec![Arc::new(told)] })
    }

    /// Completes when the view is at `lsn` or later.
    pub(crate) async fn reached(&self, lsn: Lsn) {
        loop {
            let advanced = self.advanced.notified();
            if self.view().lsn >= lsn {
                return;
            }
            advanced.await;
        }
    }
}

/// Why a proposal has no outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ProposeError {
    /// Another node leads, or none does. Nothing was written.
    #[error("this node does not lead the log")]
    NotLeader(Option<(NodeId, String)>),
    /// The entry may or may not come to be applied. Ask again with the same transaction id.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
    /// This node's storage has failed.
    #[error("this node has stopped: {0}")]
    Stopped(String),
}

/// One node's copy.
pub(crate) struct Replica {
    raft: Raft,
    store: Arc<dyn OrderedStore>,
    published: Arc<Published>,
}

impl Replica {
    pub(crate) fn new(raft: Raft, store: Arc<dyn OrderedStore>, published: Arc<Published>) -> Replica {
        Replica { raft, store, published }
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }

    pub(crate) fn published(&self) -> &Published {
        &self.published
    }

    /// What this node has applied.
    pub(crate) fn view(&self) -> Arc<View> {
        self.published.view()
    }

    /// A delta batch's encoded rows; `None` when it is not (or no longer) kept.
    pub(crate) fn delta(&self, table: TableId, first: RowId) -> Result<Option<Bytes>, StoreFailure> {
        self.store.get(Family::Delta, &delta_key(table, first))
    }

    /// The encoded rows of consecutive delta batches; `None` when one is not (or no longer) kept.
    pub(crate) fn deltas(&self, table: TableId, deltas: &[DeltaMeta]) -> Result<Option<Vec<Bytes>>, StoreFailure> {
        let (Some(first), Some(last)) = (deltas.first(), deltas.last()) else { return Ok(Some(vec![])) };
        // One walk: their keys lie side by side.
        let (start, end) = (delta_key(table, first.first), delta_key(table, RowId(last.first.0 + 1)));
        let mut pairs = self.store.scan(Family::Delta, &start, Some(end.as_slice()), usize::MAX)?.into_iter();
        let rows_of = |delta: &DeltaMeta| {
            let wanted = delta_key(table, delta.first);
            pairs.find(|(key, _)| *key == wanted).map(|(_, rows)| rows)
        };
        Ok(deltas.iter().map(rows_of).collect())
    }

    /// Whether this node leads, as far as it knows.
    pub(crate) fn is_leader(&self) -> bool {
        self.raft.is_leader()
    }

    /// An error that names the leader when this node does not lead, as far as it knows.
    pub(crate) fn check_leads(&self) -> Result<(), ProposeError> {
        if self.is_leader() {
            return Ok(());
        }
        let metrics = self.raft.metrics().borrow_watched().clone();
        let leader = metrics.current_leader.filter(|id| *id != metrics.id).and_then(|id| {
            let (_, node) = metrics.membership_config.nodes().find(|(member, _)| **member == id)?;
            Some((NodeId(id), node.addr.clone()))
        });
        Err(ProposeError::NotLeader(leader))
    }

    /// The term as far as this node knows.
    pub(crate) fn term(&self) -> Term {
        Term(self.raft.metrics().borrow_watched().current_term)
    }

    /// Puts an entry into the log; its outcome once it is fsynced on a majority and applied here.
    pub(crate) async fn propose(&self, entry: LogEntry) -> Result<Outcome, ProposeError> {
        let outcomes = self.write(Proposal::Entry(encode_entry(&entry))).await?;
        outcomes.into_iter().next().ok_or_else(no_outcome)
    }

    /// Puts several into the log at once; the outcome of each.
    pub(crate) async fn propose_all(&self, entries: &[LogEntry]) -> Result<Vec<Outcome>, ProposeError> {
        let outcomes = self.write(Proposal::Entries(entries.iter().map(encode_entry).collect())).await?;
        if outcomes.len() == entries.len() { Ok(outcomes) } else { Err(no_outcome()) }
    }

    /// What a transaction was told, as far as this node has applied the log; `None` when it was not met, or is no longer remembered.
    pub(crate) async fn outcome(&self, txn_id: TxnId) -> Result<Option<Outcome>, ProposeError> {
        let look = self.raft.with_state_machine(move |machine| {
            let outcome = machine.outcome(txn_id);
            Box::pin(async move { outcome })
        });
        look.await.map_err(|fatal| ProposeError::Stopped(fatal.to_string()))
    }

    /// Names the log, unless it has a name.
    pub(crate) async fn propose_name(&self, name: String) -> Result<(), ProposeError> {
        self.write(Proposal::Name(name)).await.map(|_| ())
    }

    async fn write(&self, proposal: Proposal) -> Result<Vec<Outcome>, ProposeError> {
        match self.raft.client_write(proposal).await {
            Ok(response) => Ok(response.data.0),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => Err(ProposeError::NotLeader(leader_of(&to))),
            Err(RaftError::APIError(other)) => Err(ProposeError::Unknown(other.to_string())),
            Err(RaftError::Fatal(fatal)) => Err(ProposeError::Stopped(fatal.to_string())),
        }
    }

    /// Waits until this node's view holds every commit acknowledged before the call. By the leader's lease when it is fresh, else by
    /// asking a majority (Raft dissertation, section 6.4).
    pub(crate) async fn linearize(&self) -> Result<(), ProposeError> {
        if self.raft.ensure_linearizable(ReadPolicy::LeaseRead).await.is_ok() {
            return Ok(());
        }
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => Err(ProposeError::NotLeader(leader_of(&to))),
            Err(RaftError::APIError(other)) => Err(ProposeError::Unknown(other.to_string())),
            Err(RaftError::Fatal(fatal)) => Err(ProposeError::Stopped(fatal.to_string())),
        }
    }
}

fn no_outcome() -> ProposeError {
    ProposeError::Unknown("the log gave no outcome".into())
}

fn leader_of(to: &ForwardToLeader<Group>) -> Option<(NodeId, String)> {
    Some((NodeId(to.leader_id?), to.leader_node.as_ref()?.addr.clone()))
}
