use std::sync::Arc;
use std::time::Duration;

use crate::along::Along;
use crate::commit::Commits;
use crate::leader::Leader;
use crate::node::Node;
use crate::pages::Pages;
use crate::snapshot::Snapshots;

/// The way to one storage service. Cheap to clone; clones share connections, the last view and the page queues.
///
/// Its methods need a tokio runtime; making one does not.
#[derive(Clone, Debug)]
pub struct StorageClient {
    pub(crate) inner: Arc<Inner>,
}

/// How long each kind of call may take in all, retries included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// Long enough for an election and a slow one after it; short enough for a person to wait for the error.
    pub(crate) snapshot: Duration,
    /// Long enough for a failover and the backlog after it.
    pub(crate) commit: Duration,
    /// A segment is tens of megabytes; an object store that takes longer is as good as gone.
    pub(crate) upload: Duration,
    /// As a snapshot.
    pub(crate) deltas: Duration,
    /// One page, all replicas.
    pub(crate) page: Duration,
}

const DEADLINES: Deadlines = Deadlines {
    snapshot: Duration::from_secs(15),
    commit: Duration::from_secs(30),
    upload: Duration::from_secs(120),
    deltas: Duration::from_secs(15),
    page: Duration::from_secs(30),
};

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) deadlines: Deadlines,
    /// As configured. Pages, deltas and uploads go to these.
    pub(crate) nodes: Vec<Arc<Node>>,
    /// Who is believed to lead.
    pub(crate) leader: Leader,
    /// The last view, and who waits for the next one.
    pub(crate) snapshots: Snapshots,
    /// Who waits to commit.
    pub(crate) commits: Commits,
    /// Page requests on their way.
    pub(crate) pages: Pages,
    /// Delta rows that came with snapshots.
    pub(crate) along: Along,
}

impl StorageClient {
    /// A client of the nodes at these addresses (`host:port`). Connects when first used; an address that is none is
    /// said when it is used.
    pub fn new(addresses: Vec<String>) -> StorageClient {
        StorageClient::with_deadlines(addresses, DEADLINES)
    }

    pub(crate) fn with_deadlines(addresses: Vec<String>, deadlines: Deadlines) -> StorageClient {
        let nodes: Vec<Arc<Node>> = addresses.iter().map(|a| Arc::new(Node::new(a))).collect();
        let inner = Inner {
            deadlines,
            leader: Leader::new(nodes.clone()),
            snapshots: Snapshots::default(),
            commits: Commits::default(),
            pages: Pages::new(&nodes),
            along: Along::default(),
            nodes,
        };
        StorageClient { inner: Arc::new(inner) }
    }

    /// The addresses it was made with.
    pub fn addresses(&self) -> Vec<String> {
        self.inner.nodes.iter().map(|n| n.address().to_string()).collect()
    }
}
