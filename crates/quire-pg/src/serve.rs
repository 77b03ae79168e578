//! Accepting connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quire_kit::{Shutdown, clock, task};
use quire_sql::{CancelHandle, Engine};
use tokio::net::TcpListener;

use crate::startup::greet;

/// How the door behaves.
#[derive(Clone, Debug)]
pub struct PgOptions {
    /// Connections at once; more get 53300.
    pub connections_max: usize,
    /// A connection must have said who it is by then.
    pub startup_timeout: Duration,
    /// At shutdown, statements under way may take this long.
    pub drain: Duration,
}

impl Default for PgOptions {
    fn default() -> Self {
        PgOptions { connections_max: 500, startup_timeout: Duration::from_secs(30), drain: Duration::from_secs(5) }
    }
}

/// What connections share.
pub(crate) struct Door {
    pub(crate) engine: Arc<Engine>,
    pub(crate) options: PgOptions,
    pub(crate) shutdown: Shutdown,
    pub(crate) connections: AtomicUsize,
    next_pid: AtomicI32,
    sessions: Mutex<HashMap<i32, (Vec<u8>, CancelHandle)>>,
}

impl Door {
    pub(crate) fn new_pid(&self) -> i32 {
        self.next_pid.fetch_add(1, Ordering::Relaxed) & i32::MAX
    }

    pub(crate) fn register(&self, pid: i32, secret: Vec<u8>, cancel: CancelHandle) {
        self.sessions.lock().insert(pid, (secret, cancel));
    }

    pub(crate) fn unregister(&self, pid: i32) {
        self.sessions.lock().remove(&pid);
    }

    /// Cancels what a session is doing, for one who knows its secret.
    pub(crate) fn cancel(&self, pid: i32, secret: &[u8]) {
        let found = self.sessions.lock().get(&pid).filter(|(known, _)| known == secret).map(|(_, cancel)| cancel.clone());
        match found {
            Some(cancel) => cancel.cancel(),
            None => tracing::info!(pid, "cancel request for no session or with a wrong key"),
        }
    }
}

/// Serves Postgres clients until shutdown; then ends sessions with 57P01.
pub async fn serve(listener: TcpListener, engine: Arc<Engine>, options: PgOptions, shutdown: Shutdown) {
    let door = Arc::new(Door {
        engine,
        options,
        shutdown: shutdown.clone(),
        connections: AtomicUsize::new(0),
        next_pid: AtomicI32::new(1000),
        sessions: Mutex::default(),
    });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.triggered() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let door = door.clone();
                task::spawn("connection", async move {
                    door.connections.fetch_add(1, Ordering::Relaxed);
                    metrics::gauge!("quire_pg_connections").increment(1.0);
                    greet(&door, stream, peer).await;
                    metrics::gauge!("quire_pg_connections").decrement(1.0);
                    door.connections.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: connections that end will make room.
                tracing::warn!(%error, "cannot accept a connection");
                clock::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    let deadline = clock::now() + door.options.drain;
    while door.connections.load(Ordering::Relaxed) > 0 && clock::now() < deadline {
        clock::sleep(Duration::from_millis(10)).await;
    }
}
