//! `quire dev`: storage nodes and compute nodes in one process. Between them are the real protocols, on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use quire_kit::{Shutdown, clock, telemetry};
use quire_storage::{CompactOptions, StorageOptions};
use quire_types::NodeId;

use crate::cli::Dev;
use crate::compute::{self, ComputeNode};
use crate::storage::Supervised;
use crate::{allocator, http, life, storage};

/// Runs until a signal.
pub(crate) fn run(args: Dev) -> anyhow::Result<ExitCode> {
    telemetry::init_logging();
    allocator::touch(args.memory.touched());
    let storage_side = life::half_runtime("storage")?;
    let compute_side = life::runtime("compute")?;
    let result = compute_side.block_on(serve(args, storage_side.handle()));
    // A query in the middle of a computation does not hold the process up.
    compute_side.shutdown_background();
    storage_side.shutdown_background();
    result
}

async fn serve(args: Dev, storage_side: &tokio::runtime::Handle) -> anyhow::Result<ExitCode> {
    let metrics = http::collect_metrics()?;
    let stop_compute = Shutdown::new();
    life::stop_at_signal(&stop_compute)?;
    std::fs::create_dir_all(&args.data_dir).with_context(|| format!("cannot make the data directory {}", args.data_dir.display()))?;
    let data_dir = args.data_dir.canonicalize()?;

    // Compute stops first: what it has under way needs storage.
    let stop_storage = Shutdown::new();
    let mut storage_nodes = vec![];
    for options in storage_options(&args, &data_dir)? {
        let starting = storage_side.spawn(Supervised::start(options, stop_storage.clone()));
        storage_nodes.push(starting.await.context("a storage node failed to start")??);
    }
    let addresses: Vec<String> = storage_nodes.iter().map(|n| n.address.to_string()).collect();
    let mut compute_nodes: Vec<ComputeNode> = vec![];
    for i in 0..args.compute_nodes {
        let (listen, cache_dir) = (nth(args.listen, i)?, data_dir.join(format!("compute-{}", i + 1)));
        let node = compute::start(listen, addresses.clone(), Some(cache_dir), args.cache_disk.as_u64(), args.memory, stop_compute.clone());
        compute_nodes.push(node.await?);
    }
    let parts = storage_nodes.iter().map(Supervised::readiness).chain(compute_nodes.iter().map(ComputeNode::readiness));
    http::serve(args.http, metrics, parts.collect(), stop_compute.clone()).await?;
    let running: Vec<_> = storage_nodes.into_iter().map(|node| storage_side.spawn(node.run())).collect();
    announce(&args, &compute_nodes, &stop_compute).await;

    for node in compute_nodes {
        node.stopped().await?;
    }
    stop_storage.trigger();
    for node in running {
        node.await.context("a storage node failed to stop")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how to connect, once that would work.
async fn announce(args: &Dev, compute_nodes: &[ComputeNode], stop: &Shutdown) {
    let checks: Vec<_> = compute_nodes.iter().map(ComputeNode::readiness).collect();
    for check in &checks {
        while !stop.is_triggered() && check().await.is_err() {
            clock::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    if !stop.is_triggered() {
        let (host, port) = (args.listen.ip(), args.listen.port());
        eprintln!(
            "Quire is ready. From this machine the superuser quire needs no password:\n\n    psql -h {host} -p {port} -U quire quire\n"
        );
    }
}

fn storage_options(args: &Dev, data_dir: &Path) -> anyhow::Result<Vec<StorageOptions>> {
    let count: u16 = args.storage_nodes.parse()?;
    let listen: Vec<SocketAddr> = (0..count).map(|i| nth(args.storage_listen, i)).collect::<anyhow::Result<_>>()?;
    let peers: BTreeMap<NodeId, String> = (1..).map(NodeId).zip(listen.iter().map(ToString::to_string)).collect();
    let object_store = match &args.object_store {
        Some(url) => url.clone(),
        None => {
            let dir = data_dir.join("objects");
            // In a URL a percent sign stands for itself only in this form.
            format!("file://{}", dir.to_str().context("the data directory's name is not UTF-8")?.replace('%', "%25"))
        }
    };
    let options = (1..).map(NodeId).zip(listen).map(|(node_id, listen)| StorageOptions {
        node_id,
        listen,
        peers: peers.clone(),
        data_dir: data_dir.join(format!("storage-{node_id}")),
        object_store: object_store.clone(),
        cache_disk_bytes: args.cache_disk.as_u64(),
        seal: storage::seal_options(args.seal),
        compact: CompactOptions::default(),
        keep: storage::keep_options(args.upkeep),
        pressure: storage::pressure_options(args.upkeep),
    });
    Ok(options.collect())
}

/// The address `i` ports on.
fn nth(first: SocketAddr, i: u16) -> anyhow::Result<SocketAddr> {
    let port = first.port().checked_add(i).with_context(|| format!("there is no port {i} after {first}"))?;
    Ok(SocketAddr::new(first.ip(), port))
}
