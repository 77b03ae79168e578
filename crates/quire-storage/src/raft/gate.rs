//! Who may take part in the group.
//!
//! Raft rests on a node never forgetting its vote and its log. A node whose disk was lost, and that comes back empty under its old number, has
//! forgotten both: with its vote a leader of the past could be elected, with its acknowledgement that leader could commit. So a node without the
//! mark of membership on its disk listens to nobody until it has heard, from so many others that they meet every majority it may have been part
//! of, the latest term; then it takes entries of that term or later; and it votes again when it has what a leader of such a term had in its log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use quire_kit::{Backoff, Shutdown, clock};
use quire_proto::v1;
use quire_types::NodeId;
use tonic::Status;

use super::Raft;
use crate::store::{Family, OrderedStore, StoreFailure, Write};

const MEMBER: &[u8] = b"member";
/// For the status of another node.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// What a node may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its disk is new, and whether the group is new too is not known.
    Unknown,
    /// The group is not new: entries of this term or later are taken.
    CatchingUp { term: u64 },
    /// Everything.
    Member,
}

/// Stands before the Raft messages that come in.
#[derive(Clone)]
pub(crate) struct Gate {
    store: Arc<dyn OrderedStore>,
    standing: Arc<Mutex<Standing>>,
}

impl Gate {
    pub(crate) fn load(store: Arc<dyn OrderedStore>) -> Result<Gate, StoreFailure> {
        let standing = if store.get(Family::Meta, MEMBER)?.is_some() { Standing::Member } else { Standing::Unknown };
        Ok(Gate { store, standing: Arc::new(Mutex::new(standing)) })
    }

    pub(crate) fn is_member(&self) -> bool {
        *self.standing.lock() == Standing::Member
    }

    /// What only tells whether the node is a member, and does not keep the store open.
    pub(crate) fn membership(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let standing = self.standing.clone();
        move || *standing.lock() == Standing::Member
    }

    /// May entries of this term be taken?
    pub(crate) fn admit_entries(&self, term: u64) -> Result<(), Status> {
        match *self.standing.lock() {
            Standing::Member => Ok(()),
            Standing::CatchingUp { term: latest } if term >= latest => Ok(()),
            Standing::CatchingUp { .. } | Standing::Unknown => Err(Status::unavailable("this node has a new disk and waits for the group")),
        }
    }

    /// May this node be asked for its vote?
    pub(crate) fn admit_vote(&self) -> Result<(), Status> {
        if self.is_member() { Ok(()) } else { Err(Status::unavailable("this node has a new disk and does not vote yet")) }
    }

    /// From now on, and after restarts, a full member. Durable when it returns.
    async fn become_member(&self) -> Result<(), StoreFailure> {
        let store = self.store.clone();
        quire_kit::task::blocking(move || {
            store.write(vec![Write::Put(Family::Meta, MEMBER.to_vec(), Bytes::from_static(b"1"))])?;
            store.sync()
        })
        .await?;
        *self.standing.lock() = Standing::Member;
        Ok(())
    }
}

/// What to do, by what the others say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advice {
    /// Nobody has anything: the group is new.
    Form,
    /// Take entries of this term or later.
    CatchUp { term: u64 },
    /// Ask again.
    Wait,
}

/// `answers` are the others' (term, last log index), of `others` that were asked.
fn advise(answers: &[(u64, u64)], others: usize) -> Advice {
    let nodes = others + 1;
    let majority = nodes / 2 + 1;
    // A majority that this node was in has `majority - 1` of the others; so many of them meet each such.
    let enough = nodes - majority + 1;
    if answers.len() == others && answers.iter().all(|(_, last)| *last == 0) {
        return Advice::Form;
    }
    if answers.len() >= enough.min(others) && answers.iter().any(|(_, last)| *last > 0) {
        return Advice::CatchUp { term: answers.iter().map(|(term, _)| *term).max().unwrap_or(0) };
    }
    Advice::Wait
}

/// Makes this node a member: at once when the group is new, else when it has caught up. Ends when it is one, or at shutdown.
pub(crate) async fn join(
    gate: &Gate,
    raft: &Raft,
    node: NodeId,
    peers: &BTreeMap<NodeId, String>,
    shutdown: &Shutdown,
) -> Result<(), StoreFailure> {
    let others: Vec<&String> = peers.iter().filter(|(id, _)| **id != node).map(|(_, address)| address).collect();
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
    let mut target: Option<u64> = None;
    while !gate.is_member() && !shutdown.is_triggered() {
        let statuses: Vec<v1::StatusReply> = join_all(others.iter().map(|address| status(address))).await.into_iter().flatten().collect();
        let answers: Vec<(u64, u64)> = statuses.iter().map(|s| (s.term, s.last_log_index)).collect();
        let standing = *gate.standing.lock();
        match (standing, advise(&answers, others.len())) {
            (Standing::Unknown, Advice::Form) => gate.become_member().await?,
            (Standing::Unknown, Advice::CatchUp { term }) => {
                tracing::info!(term, "this node has a new disk; it joins the group's log before it votes");
                *gate.standing.lock() = Standing::CatchingUp { term };
            }
            (Standing::CatchingUp { term }, _) => {
                let leader = statuses.iter().find(|s| s.leader == s.node_id && s.leader != 0 && s.term >= term);
                target = target.or(leader.map(|s| s.last_log_index));
                let applied = raft.metrics().borrow_watched().last_applied.map(|id| id.index);
                if target.is_some_and(|target| applied >= Some(target)) {
                    gate.become_member().await?;
                    tracing::info!("this node has caught up with the group and votes again");
                }
            }
            (Standing::Unknown, Advice::Wait) | (Standing::Member, _) => {}
        }
        if !gate.is_member() {
            backoff.wait().await;
        }
    }
    Ok(())
}

async fn status(address: &str) -> Option<v1::StatusReply> {
    let ask = async {
        let mut client = v1::admin_client::AdminClient::connect(format!("http://{address}")).await.ok()?;
        Some(client.status(v1::StatusRequest {}).await.ok()?.into_inner())
    };
    clock::timeout(ASK_TIMEOUT, ask).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::{Advice, advise};

    #[test]
    fn a_group_is_new_only_when_everybody_says_so() {
        assert_eq!(advise(&[], 0), Advice::Form, "a group of one");
        assert_eq!(advise(&[(0, 0), (1, 0)], 2), Advice::Form);
        assert_eq!(advise(&[(0, 0)], 2), Advice::Wait);
    }

    #[test]
    fn a_new_disk_listens_to_enough_others_to_know_the_latest_term() {
        assert_eq!(advise(&[(3, 7)], 2), Advice::Wait, "the one that is silent may have elected a later leader with this node's vote");
        assert_eq!(advise(&[(3, 7), (5, 0)], 2), Advice::CatchUp { term: 5 });
        assert_eq!(advise(&[(3, 7), (5, 9)], 4), Advice::Wait);
        assert_eq!(advise(&[(3, 7), (5, 9), (4, 9)], 4), Advice::CatchUp { term: 5 });
    }
}
