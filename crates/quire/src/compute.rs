//! `quire compute`: one compute node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use quire_kit::{Shutdown, task, telemetry};
use quire_pg::PgOptions;
use quire_sql::{Engine, EngineOptions};
use tokio::net::TcpListener;

use crate::cli::{Compute, ComputeMemory};
use crate::{allocator, http, life};

/// Runs until a signal.
pub(crate) fn run(args: Compute) -> anyhow::Result<ExitCode> {
    telemetry::init_logging();
    allocator::touch(args.memory.touched());
    let runtime = life::runtime("compute")?;
    let result = runtime.block_on(serve(args));
    // A query in the middle of a computation does not hold the process up.
    runtime.shutdown_background();
    result
}

async fn serve(args: Compute) -> anyhow::Result<ExitCode> {
    let metrics = http::collect_metrics()?;
    let shutdown = Shutdown::new();
    life::stop_at_signal(&shutdown)?;
    let node = start(args.listen, args.storage, args.cache_dir, args.cache_disk.as_u64(), args.memory, shutdown.clone()).await?;
    if let Some(address) = args.http {
        http::serve(address, metrics, vec![node.readiness()], shutdown.clone()).await?;
    }
    node.stopped().await?;
    Ok(ExitCode::SUCCESS)
}

/// A running compute node.
pub(crate) struct ComputeNode {
    engine: Arc<Engine>,
    door: task::JoinHandle<()>,
}

/// Starts a node. It listens when this returns; storage need not be there yet.
pub(crate) async fn start(
    listen: SocketAddr,
    storage: Vec<String>,
    cache_dir: Option<PathBuf>,
    cache_disk_bytes: u64,
    memory: ComputeMemory,
    shutdown: Shutdown,
) -> anyhow::Result<ComputeNode> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen} (--listen)"))?;
    let address = listener.local_addr()?;
    let options = EngineOptions {
        storage,
        cache_dir,
        cache_memory_bytes: memory.cache_memory.unwrap_or(memory.memory_limit).as_u64(),
        cache_disk_bytes,
        memory_limit_bytes: memory.memory_limit.as_u64(),
        target_partitions: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let engine = Engine::start(options).await.map_err(|e| anyhow::anyhow!("{e}"))?;
    let pg = PgOptions { connections_max: memory.max_connections as usize, ..PgOptions::default() };
    tracing::info!(%address, "compute node is listening");
    let door = task::spawn("postgres port", quire_pg::serve(listener, engine.clone(), pg, shutdown));
    Ok(ComputeNode { engine, door })
}

impl ComputeNode {
    /// Whether the node can serve: it reaches storage.
    pub(crate) fn readiness(&self) -> http::Ready {
        let engine = self.engine.clone();
        http::ready(move || {
            let engine = engine.clone();
            async move { engine.ready().await.map_err(|e| e.to_string()) }
        })
    }

    /// Completes when the node has stopped, after the shutdown was triggered.
    pub(crate) async fn stopped(self) -> anyhow::Result<()> {
        self.door.await.context("the Postgres port failed")?;
        self.engine.close().await;
        Ok(())
    }
}
