//! `quire storage`: one storage node, and how `quire dev` runs several.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use quire_kit::{Backoff, Shutdown, telemetry};
use quire_storage::{CompactOptions, KeepOptions, PressureOptions, SealOptions, StorageError, StorageNode, StorageOptions};

use crate::cli::{Seal, Storage, Upkeep};
use crate::{allocator, http, life};

/// Between the end of a node whose log has failed and its next start.
const RESTART_FIRST: Duration = Duration::from_millis(500);
const RESTART_MAX: Duration = Duration::from_secs(15);

/// Runs until a signal.
pub(crate) fn run(args: Storage) -> anyhow::Result<ExitCode> {
    telemetry::init_logging();
    allocator::touch(args.touch_memory);
    life::runtime("storage")?.block_on(serve(args))
}

async fn serve(args: Storage) -> anyhow::Result<ExitCode> {
    let metrics = http::collect_metrics()?;
    let shutdown = Shutdown::new();
    life::stop_at_signal(&shutdown)?;
    let http_address = args.http;
    let node = Supervised::start(options(args)?, shutdown.clone()).await?;
    tracing::info!(address = %node.address, "storage node is listening");
    if let Some(address) = http_address {
        http::serve(address, metrics, vec![node.readiness()], shutdown).await?;
    }
    node.run().await;
    Ok(ExitCode::SUCCESS)
}

/// Whether a node can serve, or why not.
type Readiness = Box<dyn Fn() -> Result<(), &'static str> + Send>;

/// A node that is started again when its log has failed (a full disk, most likely), until shutdown.
pub(crate) struct Supervised {
    pub(crate) address: SocketAddr,
    options: StorageOptions,
    shutdown: Shutdown,
    node: StorageNode,
    ready: Arc<Mutex<Readiness>>,
}

impl Supervised {
    /// Starts the node. It listens when this returns.
    pub(crate) async fn start(options: StorageOptions, shutdown: Shutdown) -> Result<Supervised, StorageError> {
        let node = StorageNode::start(options.clone(), shutdown.clone()).await?;
        let ready: Readiness = Box::new(node.readiness());
        Ok(Supervised { address: node.local_addr(), options, shutdown, node, ready: Arc::new(Mutex::new(ready)) })
    }

    /// Whether the node can serve.
    pub(crate) fn readiness(&self) -> http::Ready {
        let ready = self.ready.clone();
        http::ready(move || {
            let readiness = (ready.lock().unwrap_or_else(PoisonError::into_inner))();
            std::future::ready(readiness.map_err(str::to_string))
        })
    }

    /// Completes when the node has stopped, after the shutdown was triggered.
    pub(crate) async fn run(self) {
        let Supervised { options, shutdown, mut node, ready, .. } = self;
        let mut backoff = Backoff::new(RESTART_FIRST, RESTART_MAX);
        loop {
            node.stopped().await;
            node = loop {
                if shutdown.is_triggered() {
                    return;
                }
                tokio::select! {
                    () = backoff.wait() => {}
                    () = shutdown.triggered() => return,
                }
                match StorageNode::start(options.clone(), shutdown.clone()).await {
                    Ok(node) => break node,
                    Err(error) => {
                        tracing::error!(%error, page = "docs/operating/disk-full.md", "the storage node does not start again yet")
                    }
                }
            };
            tracing::info!(node = %options.node_id, "the storage node runs again");
            *ready.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(node.readiness());
        }
    }
}

pub(crate) fn seal_options(seal: Seal) -> SealOptions {
    SealOptions { rows_max: seal.seal_rows, age_max: seal.seal_age, ..SealOptions::default() }
}

pub(crate) fn keep_options(upkeep: Upkeep) -> KeepOptions {
    KeepOptions { retention: upkeep.retention, orphan_age: upkeep.orphan_age }
}

pub(crate) fn pressure_options(upkeep: Upkeep) -> PressureOptions {
    PressureOptions {
        delta_rows_max: upkeep.delta_rows_max,
        delta_bytes_max: upkeep.delta_size_max.as_u64(),
        small_segments_max: upkeep.small_segments_max,
        ..PressureOptions::default()
    }
}

fn options(args: Storage) -> anyhow::Result<StorageOptions> {
    let count = args.peers.len();
    let peers: BTreeMap<_, _> = args.peers.into_iter().collect();
    ensure!(peers.len() == count, "--peers names a node twice");
    let own = peers.get(&args.node_id).with_context(|| format!("--peers does not name node {} (--node-id)", args.node_id))?;
    if let Some(advertise) = args.advertise {
        ensure!(advertise == *own, "--advertise {advertise} is not the address that --peers has for node {}, {own}", args.node_id);
    }
    Ok(StorageOptions {
        node_id: args.node_id,
        listen: args.listen,
        peers,
        data_dir: args.data_dir,
        object_store: args.object_store,
        cache_disk_bytes: args.cache_disk.as_u64(),
        seal: seal_options(args.seal),
        compact: CompactOptions::default(),
        keep: keep_options(args.upkeep),
        pressure: pressure_options(args.upkeep),
    })
}
