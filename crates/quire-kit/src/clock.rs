//! Time. Monotonic time is tokio's, so that a paused runtime controls it.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

/// The time passed is over: see [`timeout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct TimedOut;

/// Monotonic now.
pub fn now() -> Instant {
    Instant::now()
}

/// Wall-clock now, as time since 1970-01-01 UTC.
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Waits.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// The future's output, unless `duration` passes first; then the future is dropped.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, TimedOut> {
    tokio::time::timeout(duration, future).await.map_err(|_| TimedOut)
}
