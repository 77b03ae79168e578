//! The HTTP port: `/metrics`, `/healthz`, `/readyz`.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use quire_kit::{Shutdown, clock, task, telemetry};
use tokio::net::TcpListener;

/// Histograms are made smaller so often, whether somebody reads them or not.
const UPKEEP: Duration = Duration::from_secs(5);
/// `/readyz` gives up on a part that does not say.
const READY_TIMEOUT: Duration = Duration::from_secs(3);

/// Whether one part of the process can serve: a reason when it cannot.
pub(crate) type Ready = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// Makes a [`Ready`] of a function that gives a future.
pub(crate) fn ready<F, R>(check: F) -> Ready
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), String>> + Send + 'static,
{
    Arc::new(move || Box::pin(check()))
}

#[derive(Clone)]
struct Port {
    metrics: PrometheusHandle,
    parts: Arc<Vec<Ready>>,
}

/// Starts to collect metrics. Once a process, before anything is counted.
pub(crate) fn collect_metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = telemetry::init_metrics().context("cannot collect metrics")?;
    let upkeep = handle.clone();
    task::spawn("metrics upkeep", async move {
        loop {
            clock::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// Serves until shutdown.
pub(crate) async fn serve(address: SocketAddr, metrics: PrometheusHandle, parts: Vec<Ready>, shutdown: Shutdown) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (--http)"))?;
    tracing::info!(address = %listener.local_addr()?, "HTTP port is open");
    let port = Port { metrics, parts: Arc::new(parts) };
    let router = Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .with_state(port);
    task::spawn("http", async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.triggered().await });
        if let Err(error) = served.await {
            tracing::warn!(%error, "the HTTP port ended");
        }
    });
    Ok(())
}

async fn render(State(port): State<Port>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], port.metrics.render()).into_response()
}

async fn readiness(State(port): State<Port>) -> Response {
    for part in port.parts.iter() {
        let answer = clock::timeout(READY_TIMEOUT, part()).await;
        if let Err(reason) = answer.unwrap_or_else(|_| Err("no answer in time".to_string())) {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response();
        }
    }
    "ready\n".into_response()
}
