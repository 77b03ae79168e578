//! The beginning of a connection: encryption refused, cancel requests, who is there.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey, Startup};
use pgwire::messages::{PgWireBackendMessage as Out, PgWireFrontendMessage as In, ProtocolVersion};
use quire_kit::clock;
use quire_sql::{Session, SessionOptions, SqlError};
use tokio::net::TcpStream;

use crate::connection::Connection;
use crate::fields;
use crate::serve::{Door, FAREWELL, Interrupt};
use crate::wire::{Wire, WireError, protocol_violation};

/// Bytes of a cancel key, up to protocol 3.0 and from 3.2 on.
const KEY_BYTES: usize = 4;
const LONG_KEY_BYTES: usize = 32;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// Who has come, once that is settled.
struct Opened {
    session: Session,
    pid: i32,
    interrupt: Interrupt,
    who: Who,
}

/// Who is connected, for logs.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) peer: SocketAddr,
    pub(crate) pid: i32,
}

/// Takes a session off the list of those that can be cancelled, however it ends.
struct Registered<'a>(&'a Door, i32);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.0.unregister(self.1);
    }
}

/// Talks to a client from its first byte to its last.
pub(crate) async fn greet(door: &Arc<Door>, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let mut wire = Wire::new(stream);
    let opening = tokio::select! {
        opening = clock::timeout(door.options.startup_timeout, open(door, &mut wire, peer)) => opening,
        () = door.shutdown.triggered() => Ok(Err(WireError::Protocol(shutting_down()))),
    };
    let opened = match opening {
        Ok(opened) => opened,
        Err(_) => Err(WireError::Protocol(SqlError::new("08P01", "no startup packet in time"))),
    };
    match opened {
        Ok(Some(Opened { session, pid, interrupt, who })) => {
            let registered = Registered(door, pid);
            let mut connection = Connection::new(door.clone(), wire, session, interrupt, who);
            let ended = connection.run().await;
            drop(registered);
            connection.end(ended).await;
        }
        Ok(None) => wire.close().await,
        Err(error) => refuse(wire, error).await,
    }
}

/// Says why, where that is possible, and closes.
pub(crate) async fn refuse(mut wire: Wire, error: WireError) {
    match error {
        WireError::Io(error) => tracing::debug!(%error, "connection lost"),
        WireError::Protocol(error) => {
            tracing::info!(sqlstate = error.code, message = error.message, "connection refused");
            wire.send(Out::ErrorResponse(fields::error(&error, "FATAL")));
            let told = clock::timeout(FAREWELL, async {
                wire.flush().await?;
                wire.close().await;
                // Who broke the protocol may still be sending.
                if error.code.starts_with("08") { wire.discard().await } else { Ok(()) }
            });
            if !matches!(told.await, Ok(Ok(()))) {
                tracing::debug!("the client did not wait for the reason");
            }
            return;
        }
    }
    wire.close().await;
}

/// 57P01.
pub(crate) fn shutting_down() -> SqlError {
    SqlError::new("57P01", "terminating connection due to administrator command")
}

async fn open(door: &Arc<Door>, wire: &mut Wire, peer: SocketAddr) -> Result<Option<Opened>, WireError> {
    loop {
        match wire.peek_request_code().await? {
            None => return Ok(None),
            Some(SSL_REQUEST | GSS_REQUEST) => wire.refuse_encryption().await?,
            Some(_) => break,
        }
    }
    match wire.read_startup().await? {
        Some(In::CancelRequest(cancel)) => {
            door.cancel(cancel.pid, &secret_bytes(&cancel.secret_key));
            Ok(None)
        }
        Some(In::Startup(startup)) => start(door, wire, peer, startup).map(Some),
        Some(_) => Err(protocol_violation("expected a startup packet")),
        None => Ok(None),
    }
}

fn secret_bytes(secret: &SecretKey) -> Vec<u8> {
    match secret {
        SecretKey::I32(key) => key.to_be_bytes().to_vec(),
        SecretKey::Bytes(bytes) => bytes.to_vec(),
    }
}

fn start(door: &Door, wire: &mut Wire, peer: SocketAddr, startup: Startup) -> Result<Opened, WireError> {
    if startup.protocol_number_major != 3 {
        let message = format!(
            "unsupported frontend protocol {}.{}: server supports 3.0",
            startup.protocol_number_major, startup.protocol_number_minor
        );
        return Err(WireError::Protocol(SqlError::new("0A000", message)));
    }
    // 3.1 was never in use: a client that offers it understands 3.0.
    let version = if startup.protocol_number_minor >= 2 { ProtocolVersion::PROTOCOL3_2 } else { ProtocolVersion::PROTOCOL3_0 };
    let unsupported_options: Vec<String> = startup.parameters.keys().filter(|k| k.starts_with("_pq_.")).cloned().collect();
    if version.version_number().1 != startup.protocol_number_minor || !unsupported_options.is_empty() {
        // The whole version number: Postgres sends it so, though its documentation says "minor".
        wire.send(Out::NegotiateProtocolVersion(NegotiateProtocolVersion::new(version.into(), unsupported_options)));
    }
    if startup.parameters.get("replication").is_some_and(|r| !matches!(r.as_str(), "off" | "false" | "no" | "0")) {
        return Err(WireError::Protocol(SqlError::unsupported("a replication connection")));
    }
    if door.connections.load(Ordering::Relaxed) > door.options.connections_max {
        return Err(WireError::Protocol(SqlError::new("53300", "sorry, too many clients already")));
    }
    if door.shutdown.is_triggered() {
        return Err(WireError::Protocol(SqlError::new("57P03", "the database system is shutting down")));
    }
    let Some(user) = startup.parameters.get("user").filter(|u| !u.is_empty()) else {
        return Err(WireError::Protocol(SqlError::new("28000", "no PostgreSQL user name specified in startup packet")));
    };
    let pid = door.new_pid();
    let options = SessionOptions {
        user: user.clone(),
        database: startup.parameters.get("database").filter(|d| !d.is_empty()).unwrap_or(user).clone(),
        parameters: startup
            .parameters
            .iter()
            .filter(|(k, _)| *k != "user" && *k != "database")
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        peer: peer.to_string(),
        backend_pid: pid,
    };
    let who = Who { user: options.user.clone(), database: options.database.clone(), peer, pid };
    let session = catch_unwind(AssertUnwindSafe(|| door.engine.session(options)));
    let session = session.unwrap_or_else(|_| {
        tracing::error!(%peer, page = "docs/operating/statement-panic.md", "opening a session panicked");
        Err(SqlError::internal("the session could not be opened because of a bug; the server's log has more"))
    });
    let session = session.map_err(WireError::Protocol)?;
    let mut secret = vec![0; if version == ProtocolVersion::PROTOCOL3_2 { LONG_KEY_BYTES } else { KEY_BYTES }];
    quire_kit::random::fill(&mut secret);
    let interrupt = door.register(pid, secret.clone(), session.cancel_handle());
    wire.send(Out::Authentication(Authentication::Ok));
    for (name, value) in session.parameters() {
        wire.send(Out::ParameterStatus(ParameterStatus::new(name, value)));
    }
    wire.send(Out::BackendKeyData(BackendKeyData::new(pid, SecretKey::Bytes(secret.into()))));
    Ok(Opened { session, pid, interrupt, who })
}
