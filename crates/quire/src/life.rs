//! A node's life: its runtime, its signals, its end.

use std::future::Future;
use std::process::ExitCode;

use anyhow::Context;
use quire_kit::{Shutdown, task, telemetry};
use tokio::runtime::{Builder, Runtime};

/// A runtime of its own for one side of a process, so that busy queries never hold up the log's heartbeats.
pub(crate) fn runtime(name: &'static str) -> anyhow::Result<Runtime> {
    runtime_with(name, |builder| builder)
}

/// The same where the process has two sides: storage waits more than it works, and fewer threads wake each other less.
pub(crate) fn half_runtime(name: &'static str) -> anyhow::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    runtime_with(name, |builder| builder.worker_threads(processors.div_ceil(2)))
}

/// Of each thread. A plan is walked by calling oneself for each level: 500 parts of a UNION ALL overflowed the 2 MiB that threads have by default,
/// which ends the process. Only what is used is memory.
const STACK_BYTES: usize = 32 << 20;

fn runtime_with(name: &'static str, change: impl Fn(&mut Builder) -> &mut Builder) -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    change(builder.enable_all().thread_name(name).thread_stack_size(STACK_BYTES))
        .build()
        .with_context(|| format!("cannot start the {name} threads"))
}

/// Runs a command that ends by itself.
pub(crate) fn short(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    telemetry::init_logging();
    runtime("quire")?.block_on(work)
}

/// Triggers `shutdown` at SIGINT or SIGTERM; a second signal ends the process at once.
pub(crate) fn stop_at_signal(shutdown: &Shutdown) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let shutdown = shutdown.clone();
    task::spawn("signals", async move {
        loop {
            let signal = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            if shutdown.is_triggered() {
                tracing::warn!(signal, "stopping at once");
                std::process::exit(130);
            }
            tracing::info!(signal, "stopping");
            shutdown.trigger();
        }
    });
    Ok(())
}
