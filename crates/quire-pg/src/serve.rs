//! Accepting connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{Counter, Histogram};
use parking_lot::Mutex;
use quire_kit::{Shutdown, clock, task};
use quire_sql::{CancelHandle, Engine};
use tokio::net::TcpListener;

use crate::startup::greet;

/// How long a client that is sent away may take to read why.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

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
    /// The time to drain is over: what still runs is abandoned.
    pub(crate) abandon: Shutdown,
    pub(crate) connections: AtomicUsize,
    pub(crate) statements: Statements,
    next_pid: AtomicI32,
    sessions: Mutex<HashMap<i32, Cancellable>>,
}

/// Figures of statements. Held, because finding one by its name and labels takes longer than counting.
pub(crate) struct Statements {
    pub(crate) ok: Counter,
    pub(crate) error: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) seconds: Histogram,
}

impl Statements {
    fn new() -> Statements {
        let counter = |outcome: &'static str| metrics::counter!("quire_pg_statements_total", "outcome" => outcome);
        Statements {
            ok: counter("ok"),
            error: counter("error"),
            cancelled: counter("cancelled"),
            seconds: metrics::histogram!("quire_pg_statement_seconds"),
        }
    }
}

/// What a cancel request needs.
struct Cancellable {
    secret: Vec<u8>,
    statement: CancelHandle,
    interrupt: Interrupt,
}

/// What a cancel request stops beside the session's own statement: rows of an older portal, a COPY that waits for its client.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    running: Arc<Mutex<Shutdown>>,
}

impl Interrupt {
    /// What requests listen to from now on; cancel requests that came before are forgotten.
    pub(crate) fn renew(&self) -> Shutdown {
        let fresh = Shutdown::new();
        *self.running.lock() = fresh.clone();
        fresh
    }
}

/// Counts a connection for as long as it lives, however it ends.
struct Counted(Arc<Door>);

impl Counted {
    fn new(door: &Arc<Door>) -> Counted {
        door.connections.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!("quire_pg_connections").increment(1.0);
        Counted(door.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("quire_pg_connections").decrement(1.0);
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Door {
    pub(crate) fn new_pid(&self) -> i32 {
        self.next_pid.fetch_add(1, Ordering::Relaxed) & i32::MAX
    }

    pub(crate) fn register(&self, pid: i32, secret: Vec<u8>, statement: CancelHandle) -> Interrupt {
        let interrupt = Interrupt::default();
        self.sessions.lock().insert(pid, Cancellable { secret, statement, interrupt: interrupt.clone() });
        interrupt
    }

    pub(crate) fn unregister(&self, pid: i32) {
        self.sessions.lock().remove(&pid);
    }

    /// Cancels what a session is doing, for one who knows its secret.
    pub(crate) fn cancel(&self, pid: i32, secret: &[u8]) {
        let sessions = self.sessions.lock();
        match sessions.get(&pid).filter(|session| same(&session.secret, secret)) {
            Some(session) => {
                session.interrupt.running.lock().trigger();
                session.statement.cancel();
            }
            None => tracing::info!(pid, "cancel request for no session or with a wrong key"),
        }
    }
}

/// Compares in a time that does not depend on where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

/// Serves Postgres clients until shutdown; then ends sessions with 57P01: idle ones at once, the others when their request is answered
/// or [`PgOptions::drain`] is over.
pub async fn serve(listener: TcpListener, engine: Arc<Engine>, options: PgOptions, shutdown: Shutdown) {
    let door = Arc::new(Door {
        engine,
        options,
        shutdown: shutdown.clone(),
        abandon: Shutdown::new(),
        connections: AtomicUsize::new(0),
        statements: Statements::new(),
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
                let counted = Counted::new(&door);
                task::spawn("connection", async move {
                    let door = &counted.0;
                    let overdue = async {
                        door.abandon.triggered().await;
                        clock::sleep(FAREWELL).await;
                    };
                    tokio::select! {
                        () = greet(door, stream, peer) => {}
                        () = overdue => tracing::info!(%peer, "connection dropped at shutdown: its client does not read"),
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: connections that end will make room.
                tracing::warn!(%error, "cannot accept a connection");
                clock::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    gone_within(&door, door.options.drain).await;
    door.abandon.trigger();
    gone_within(&door, 2 * FAREWELL).await;
}

/// Waits for the last connection to end.
async fn gone_within(door: &Door, patience: Duration) {
    let deadline = clock::now() + patience;
    while door.connections.load(Ordering::Relaxed) > 0 && clock::now() < deadline {
        clock::sleep(Duration::from_millis(10)).await;
    }
}
