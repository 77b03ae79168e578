//! Logs and metrics.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Libraries that say at every heartbeat what we say once, or every NOTICE that a server sends. In a clean stop the parts of openraft end one after the other, and each says at ERROR
/// that the next one is gone; that its core ended without being told to is said by the storage node.
const DEFAULT_FILTER: &str = "info,openraft=error,openraft::core::heartbeat=off,openraft::raft=off,foyer=error,foyer_memory=error,foyer_storage=error,tokio_postgres=warn";

/// Starts logging to standard error: for people on a terminal, as JSON otherwise. `QUIRE_LOG` filters.
///
/// Does nothing when a subscriber is already there.
pub fn init_logging() {
    let filter = EnvFilter::try_from_env("QUIRE_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if std::io::stderr().is_terminal() { builder.try_init() } else { builder.json().flatten_event(true).try_init() };
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
}

/// Installs the process-wide metrics recorder; the handle renders `/metrics`.
pub fn init_metrics() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new().install_recorder()
}
