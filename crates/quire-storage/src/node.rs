//! One storage node: its parts put together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::impls::BasicNode;
use openraft::{Config, SnapshotPolicy};
use quire_cache::CacheOptions;
use quire_kit::{Backoff, Shutdown, clock, task};
use quire_objects::Objects;
use quire_proto::v1;
use quire_types::NodeId;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::collect::{Collector, run_collector};
use crate::compact::{Compactor, run_compactor};
use crate::pages::PageStore;
use crate::raft::Raft;
use crate::raft::gate::{self, Gate};
use crate::raft::log_store::LogStore;
use crate::raft::network::{MESSAGE_BYTES_MAX as RAFT_BYTES_MAX, Network};
use crate::raft::state_machine::StateMachine;
use crate::replica::{Published, Replica};
use crate::report::run_reporter;
use crate::retired::RetiredSegments;
use crate::rpc::MESSAGE_BYTES_MAX;
use crate::rpc::admin::AdminService;
use crate::rpc::pages::PageService;
use crate::rpc::raft::RaftService;
use crate::rpc::storage::{Guards, StorageService};
use crate::seal::{Sealer, run_sealer};
use crate::space::Space;
use crate::store::{OrderedStore, RocksStore};
use crate::{StorageError, StorageOptions};

/// Milliseconds between a leader's signs of life.
const HEARTBEAT_MS: u64 = 150;
/// Without one for this long, a follower asks for votes. Four heartbeats: a busy two-core machine delays one now and then.
const ELECTION_MS: (u64, u64) = (700, 1400);
const _: () = assert!(ELECTION_MS.0 > 4 * HEARTBEAT_MS, "a late heartbeat is no reason for an election");
/// Log entries between state machine snapshots, and entries kept behind one for followers a little behind.
const SNAPSHOT_ENTRIES: u64 = 20_000;
const KEEP_ENTRIES: u64 = 5_000;
/// Between two looks at whether Raft still runs. Who waits for its figures to change is woken several times a commit.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// A clean stop waits this long for requests under way.
const DRAIN: Duration = Duration::from_secs(5);

/// A running storage node.
pub struct StorageNode {
    address: SocketAddr,
    replica: Arc<Replica>,
    is_member: Arc<dyn Fn() -> bool + Send + Sync>,
    sealer: Arc<Sealer>,
    server: task::JoinHandle<()>,
    /// Completes when the store is closed, and with it the lock on its directory is gone.
    store_closed: oneshot::Receiver<()>,
}

impl StorageNode {
    /// Starts a node that runs until `shutdown`, or until its log cannot be written. It listens when this returns; whether the group has a leader is another matter.
    pub async fn start(options: StorageOptions, shutdown: Shutdown) -> Result<StorageNode, StorageError> {
        if !options.peers.contains_key(&options.node_id) {
            return Err(StorageError::Options(format!("node {} is not among the peers", options.node_id)));
        }
        let shutdown = shutdown.child();
        let listen_error = |error| StorageError::Listen { address: options.listen.to_string(), error };
        let listener = TcpListener::bind(options.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let dir_error = |reason: String| StorageError::DataDir { dir: options.data_dir.display().to_string(), reason };
        std::fs::create_dir_all(&options.data_dir).map_err(|e| dir_error(e.to_string()))?;
        let (store, store_closed) = RocksStore::open(&options.data_dir.join("log")).map_err(|e| dir_error(e.to_string()))?;
        let store: Arc<dyn OrderedStore> = store;
        let objects = Objects::open(&options.object_store).map_err(|e| StorageError::ObjectStore(e.to_string()))?;
        let cache = CacheOptions {
            dir: Some(options.data_dir.join("pages")),
            memory_bytes: 0,
            disk_bytes: options.cache_disk_bytes,
            name: "storage",
        };
        let pages = PageStore::open(objects.clone(), cache).await.map_err(|e| dir_error(e.to_string()))?;

        let cluster = cluster_name(&options.peers);
        let published = Arc::new(Published::default());
        let retired = Arc::new(RetiredSegments::new());
        let machine = StateMachine::load(store.clone(), published.clone(), options.keep.retention, retired.clone());
        let machine = machine.map_err(|e| dir_error(e.to_string()))?;
        let log = LogStore::new(store.clone()).map_err(|e| dir_error(e.to_string()))?;
        let config = raft_config(&cluster).map_err(StorageError::Raft)?;
        let raft = Raft::new(options.node_id.0, config, Network { cluster: cluster.clone() }, log, machine);
        let raft = raft.await.map_err(|e| StorageError::Raft(e.to_string()))?;
        let gate = Gate::load(store.clone()).map_err(|e| dir_error(e.to_string()))?;
        raft.runtime_config().elect(gate.is_member());
        let replica = Arc::new(Replica::new(raft.clone(), store, published));

        let space = Arc::new(Space::new(options.data_dir.clone()));
        let uploads = Arc::new(tokio::sync::RwLock::new(()));
        let guards =
            Guards { space: space.clone(), pressure: options.pressure.clone(), objects: objects.clone(), uploads: uploads.clone() };
        let term = replica.clone();
        let page_service = PageService::new(Arc::new(pages), Arc::new(move || term.term()));
        let server = Server::builder()
            .tcp_nodelay(true)
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .add_service(sized_storage(StorageService::new(replica.clone(), guards)))
            .add_service(
                v1::pages_server::PagesServer::new(page_service)
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(
                v1::raft_server::RaftServer::new(RaftService { raft: raft.clone(), cluster, gate: gate.clone() })
                    .max_decoding_message_size(RAFT_BYTES_MAX)
                    .max_encoding_message_size(RAFT_BYTES_MAX),
            )
            .add_service(v1::admin_server::AdminServer::new(AdminService {
                replica: replica.clone(),
                object_store: objects.url().to_string(),
            }));
        task::spawn("raft watch", stop_when_raft_fails(raft.clone(), shutdown.clone()));
        let stop = shutdown.clone();
        let serving = server
            .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), async move { stop.triggered().await });
        let sealer = Arc::new(Sealer::new(replica.clone(), objects.clone(), options.seal.clone()));
        let compactor = Arc::new(Compactor::new(replica.clone(), objects.clone(), options.compact.clone()));
        let collector = Collector::new(replica.clone(), objects, retired.clone(), options.keep.clone(), uploads);
        let background = [
            task::spawn("seal", run_sealer(sealer.clone(), shutdown.clone())),
            task::spawn("compact", run_compactor(compactor, shutdown.clone())),
            task::spawn("collect", run_collector(collector, shutdown.clone())),
            task::spawn("report", run_reporter(replica.clone(), retired, space, shutdown.clone())),
        ];
        let is_member = Arc::new(gate.membership());
        task::spawn("set up the group", set_up(replica.clone(), gate, options.node_id, options.peers.clone(), shutdown.clone()));
        let stopping = shutdown.clone();
        let server = task::spawn("storage server", async move {
            tokio::pin!(serving);
            let drained = async {
                stopping.triggered().await;
                clock::sleep(DRAIN).await;
            };
            tokio::select! {
                result = &mut serving => {
                    if let Err(error) = result {
                        tracing::error!(%error, page = "docs/operating/ports.md", "the storage server ended");
                    }
                }
                () = drained => tracing::warn!("requests under way were cut off at shutdown"),
            }
            background.iter().for_each(|task| task.abort());
            if let Err(error) = raft.shutdown().await {
                tracing::warn!(%error, "raft did not stop cleanly");
            }
        });
        Ok(StorageNode { address, replica, is_member, sealer, server, store_closed })
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Tells whether the node is all that the group needs it for, or why not: there is a leader, this node has applied its log's beginning,
    /// and it votes, so that another may be stopped. What is returned does not keep the node alive.
    pub fn readiness(&self) -> impl Fn() -> Result<(), &'static str> + Send + Sync + 'static {
        let (replica, is_member) = (Arc::downgrade(&self.replica), self.is_member.clone());
        move || {
            let replica = replica.upgrade().ok_or("this node has stopped")?;
            let has_leader = replica.raft().metrics().borrow_watched().current_leader.is_some();
            match has_leader && replica.published().log_name().is_some() {
                true if is_member() => Ok(()),
                true => Err("this node has a new disk and has not caught up with the group yet"),
                false => Err("the storage group has no leader yet"),
            }
        }
    }

    /// Makes segments of every table's delta now, whatever its size; only the leader does. The number of tables sealed.
    pub async fn seal_all(&self) -> usize {
        let mut sealed = 0;
        for table in self.replica.view().catalog.tables.keys() {
            match self.sealer.seal_now(*table).await {
                Ok(_) => sealed += 1,
                Err(error) => tracing::warn!(%error, %table, "cannot seal"),
            }
        }
        sealed
    }

    /// Completes when the node has stopped, after the shutdown was triggered (or its storage failed).
    pub async fn stopped(self) {
        let StorageNode { replica, sealer, server, store_closed, .. } = self;
        drop((replica, sealer));
        if let Err(error) = server.await {
            tracing::warn!(%error, "the storage server's task failed");
        }
        // Connections and Raft's tasks end a moment later. The store says nothing when it is closed: it lets go.
        if clock::timeout(DRAIN, store_closed).await.is_err() {
            tracing::warn!("the log is still in use at shutdown");
        }
    }
}

/// A node whose log cannot be written serves nothing: it stops, and whoever runs it starts it again.
async fn stop_when_raft_fails(raft: Raft, shutdown: Shutdown) {
    let metrics = raft.metrics();
    loop {
        if let Err(error) = &metrics.borrow_watched().running_state {
            if !shutdown.is_triggered() {
                tracing::error!(%error, page = "docs/operating/disk-full.md", "this storage node stops: its log has failed");
                shutdown.trigger();
            }
            return;
        }
        tokio::select! {
            () = shutdown.triggered() => return,
            () = clock::sleep(WATCH_INTERVAL) => {}
        }
    }
}

fn sized_storage(service: StorageService) -> v1::storage_server::StorageServer<StorageService> {
    v1::storage_server::StorageServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Nodes with other peers are of another group: their messages are refused.
fn cluster_name(peers: &BTreeMap<NodeId, String>) -> String {
    peers.iter().map(|(id, address)| format!("{id}={address}")).collect::<Vec<_>>().join(",")
}

fn raft_config(cluster: &str) -> Result<Arc<Config>, String> {
    let config = Config {
        cluster_name: cluster.to_string(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.0,
        election_timeout_max: ELECTION_MS.1,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        max_in_snapshot_log_to_keep: KEEP_ENTRIES,
        install_snapshot_timeout: 60_000,
        enable_pre_vote: Some(true),
        // A node with a new disk has less than it had; `gate` sees to it that this is safe.
        allow_log_reversion: Some(true),
        // What a leader had not flushed when it was killed, its followers may have. Leading on in its old term, it would put other
        // entries under the same indexes and terms, which Raft takes for the same (dissertation, section 3.5): copies would differ.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|e| e.to_string())
}

/// Makes this node a member of the group. The node with the lowest number forms a new one; whoever leads names a log that has no name.
async fn set_up(replica: Arc<Replica>, gate: Gate, node: NodeId, peers: BTreeMap<NodeId, String>, shutdown: Shutdown) {
    if let Err(error) = gate::join(&gate, replica.raft(), node, &peers, &shutdown).await {
        tracing::error!(%error, page = "docs/operating/disk-full.md", "this node stops: it cannot note that it is a member");
        shutdown.trigger();
        return;
    }
    replica.raft().runtime_config().elect(gate.is_member());
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    if gate.is_member() && peers.keys().next() == Some(&node) && !replica.raft().is_initialized().await.unwrap_or(true) {
        let members: BTreeMap<u64, BasicNode> = peers.into_iter().map(|(id, address)| (id.0, BasicNode::new(address))).collect();
        if let Err(error) = replica.raft().initialize(members).await {
            tracing::warn!(%error, "cannot form the group; another node may have");
        }
    }
    while replica.published().log_name().is_none() && !shutdown.is_triggered() {
        if replica.is_leader() {
            let name = format!("{:032x}", quire_kit::random::u128());
            if let Err(error) = replica.propose_name(name).await {
                tracing::debug!(%error, "cannot name the log yet");
            }
        }
        backoff.wait().await;
    }
}
