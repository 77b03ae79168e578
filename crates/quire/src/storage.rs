//! `quire storage`: one storage node.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use quire_kit::{Shutdown, telemetry};
use quire_storage::{SealOptions, StorageNode, StorageOptions};

use crate::cli::{Seal, Storage};
use crate::{http, life};

/// Runs until a signal.
pub(crate) fn run(args: Storage) -> anyhow::Result<ExitCode> {
    telemetry::init_logging();
    life::runtime("storage")?.block_on(serve(args))
}

async fn serve(args: Storage) -> anyhow::Result<ExitCode> {
    let metrics = http::collect_metrics()?;
    let shutdown = Shutdown::new();
    life::stop_at_signal(&shutdown)?;
    let http_address = args.http;
    let node = StorageNode::start(options(args)?, shutdown.clone()).await?;
    tracing::info!(address = %node.local_addr(), "storage node is listening");
    if let Some(address) = http_address {
        http::serve(address, metrics, vec![readiness(&node)], shutdown.clone()).await?;
    }
    node.stopped().await;
    // Without a signal, what ended it is in the log.
    Ok(if shutdown.is_triggered() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the node can serve.
pub(crate) fn readiness(node: &StorageNode) -> http::Ready {
    let ready = node.readiness();
    http::ready(move || {
        let answer = if ready() { Ok(()) } else { Err("the storage group has no leader yet".to_string()) };
        std::future::ready(answer)
    })
}

pub(crate) fn seal_options(seal: Seal) -> SealOptions {
    SealOptions { rows_max: seal.seal_rows, age_max: seal.seal_age, ..SealOptions::default() }
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
    })
}
