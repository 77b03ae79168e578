//! Finding the leader, and asking it until it answers or the time is over.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quire_kit::{Backoff, clock};
use tonic::Status;

use crate::error::{Verdict, never_sent, reason};
use crate::node::Node;

/// Nodes that disagree about who leads can send a caller in circles: after this many hints in a row it waits.
const HINTS_FOLLOWED_MAX: u32 = 3;
/// Waits between attempts: an election takes a second or two.
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(300);

/// Who is believed to lead.
#[derive(Debug)]
pub(crate) struct Leader {
    configured: Vec<Arc<Node>>,
    believed: Mutex<Belief>,
}

#[derive(Debug)]
struct Belief {
    node: Option<Arc<Node>>,
    /// The configured node that is tried next when the believed one fails.
    next: usize,
    /// A leader at an address that is not configured (a node may advertise another one than ours).
    other: Option<Arc<Node>>,
}

/// Why a call to the leader ended without an answer.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The last attempt's words.
    pub(crate) reason: String,
    /// True when no attempt can have had an effect.
    pub(crate) without_effect: bool,
    pub(crate) kind: FailedKind,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FailedKind {
    /// The time is over.
    Deadline,
    /// No node will do it.
    Refused,
    /// No room; the time is over.
    Full,
}

impl Leader {
    pub(crate) fn new(configured: Vec<Arc<Node>>) -> Leader {
        let belief = Belief { node: configured.first().cloned(), next: 1, other: None };
        Leader { configured, believed: Mutex::new(belief) }
    }

    /// The node believed to lead; `None` when no address is configured.
    pub(crate) fn believed(&self) -> Option<Arc<Node>> {
        self.believed.lock().node.clone()
    }

    /// `from` did not do it: unless somebody else moved on already, the next configured node is believed.
    fn rotate(&self, from: &Arc<Node>) {
        let mut belief = self.believed.lock();
        if belief.node.as_ref().is_some_and(|node| Arc::ptr_eq(node, from)) && !self.configured.is_empty() {
            let next = belief.next % self.configured.len();
            belief.node = Some(self.configured[next].clone());
            belief.next = next + 1;
        }
    }

    /// `from` says that the node at `address` leads.
    fn follow(&self, from: &Arc<Node>, address: &str) {
        let mut belief = self.believed.lock();
        if !belief.node.as_ref().is_some_and(|node| Arc::ptr_eq(node, from)) {
            return;
        }
        if let Some(node) = self.configured.iter().find(|n| n.address() == address) {
            belief.node = Some(node.clone());
            return;
        }
        let other = match &belief.other {
            Some(other) if other.address() == address => other.clone(),
            _ => Arc::new(Node::new(address)),
        };
        belief.other = Some(other.clone());
        belief.node = Some(other);
    }

    /// Makes attempts at whoever leads until one succeeds, one is refused, or `deadline` passes.
    /// Each attempt gets at most `attempt_max` of the time.
    pub(crate) async fn call<T, F, Fut>(&self, deadline: Duration, attempt_max: Duration, mut attempt: F) -> Result<T, Failed>
    where
        F: FnMut(Arc<Node>) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let end = clock::now() + deadline;
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MAX);
        let mut hints_followed = 0;
        let mut failed = Failed { reason: String::new(), without_effect: true, kind: FailedKind::Deadline };
        loop {
            let Some(node) = self.believed() else {
                failed.reason = "no storage address is configured".to_string();
                return Err(failed);
            };
            let left = end.saturating_duration_since(clock::now());
            if left.is_zero() {
                failed.reason = format!("no answer within {} s (last: {})", deadline.as_secs(), failed.reason);
                return Err(failed);
            }
            let status = match clock::timeout(left.min(attempt_max), attempt(node.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            let verdict = Verdict::of(&status);
            // a refusal, or "no room", comes instead of the effect
            failed.without_effect &= never_sent(&status) || matches!(verdict, Verdict::Refused | Verdict::Full);
            failed.reason = reason(node.address(), &status);
            failed.kind = FailedKind::Deadline;
            tracing::debug!(node = node.address(), status = %status.code(), reason = failed.reason, "the leader was not reached");
            metrics::counter!("quire_client_leader_retries_total").increment(1);
            match verdict {
                Verdict::NotLeader(Some(address)) if address != node.address() && hints_followed < HINTS_FOLLOWED_MAX => {
                    hints_followed += 1;
                    self.follow(&node, &address);
                    continue;
                }
                Verdict::Refused => {
                    failed.kind = FailedKind::Refused;
                    return Err(failed);
                }
                Verdict::Full => failed.kind = FailedKind::Full, // it may be emptied; stay with the leader
                Verdict::NotLeader(_) | Verdict::Elsewhere => self.rotate(&node),
            }
            hints_followed = 0;
            let left = end.saturating_duration_since(clock::now());
            clock::sleep(backoff.next_delay().min(left)).await;
        }
    }
}
