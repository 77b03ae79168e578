//! The beginning of a connection: encryption refused, cancel requests, who is there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey, Startup};
use pgwire::messages::{PgWireBackendMessage as Out, PgWireFrontendMessage as In};
use quire_kit::clock;
use quire_sql::{Session, SessionOptions, SqlError};
use tokio::net::TcpStream;

use crate::connection::Connection;
use crate::fields;
use crate::serve::Door;
use crate::wire::{Wire, WireError, protocol_violation};

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// Talks to a client from its first byte to its last.
pub(crate) async fn greet(door: &Arc<Door>, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let mut wire = Wire::new(stream);
    let opened = match clock::timeout(door.options.startup_timeout, open(door, &mut wire, peer)).await {
        Ok(opened) => opened,
        Err(_) => Err(WireError::Protocol(SqlError::new("08P01", "no startup packet in time"))),
    };
    match opened {
        Ok(Some((session, pid))) => {
            let mut connection = Connection::new(door.clone(), wire, session, peer);
            let ended = connection.run().await;
            door.unregister(pid);
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
            if wire.flush().await.is_err() {
                tracing::debug!("the client did not wait for the reason");
            }
        }
    }
    wire.close().await;
}

async fn open(door: &Arc<Door>, wire: &mut Wire, peer: SocketAddr) -> Result<Option<(Session, i32)>, WireError> {
    loop {
        match wire.peek_request_code().await? {
            None => return Ok(None),
            Some(SSL_REQUEST | GSS_REQUEST) => wire.refuse_encryption().await?,
            Some(_) => break,
        }
    }
    match wire.read().await? {
        Some(In::CancelRequest(cancel)) => {
            door.cancel(cancel.pid, &secret_bytes(&cancel.secret_key));
            Ok(None)
        }
        Some(In::Startup(startup)) => start(door, wire, peer, startup).await.map(Some),
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

async fn start(door: &Arc<Door>, wire: &mut Wire, peer: SocketAddr, startup: Startup) -> Result<(Session, i32), WireError> {
    if startup.protocol_number_major != 3 {
        let message = format!("unsupported frontend protocol {}.{}: server supports 3.0", startup.protocol_number_major, startup.protocol_number_minor);
        return Err(WireError::Protocol(SqlError::new("0A000", message)));
    }
    if startup.protocol_number_minor > 0 {
        let unsupported_options = startup.parameters.keys().filter(|k| k.starts_with("_pq_.")).cloned().collect();
        wire.send(Out::NegotiateProtocolVersion(NegotiateProtocolVersion { newest_minor_protocol: 0, unsupported_options }));
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
        parameters: startup.parameters.iter().filter(|(k, _)| *k != "user" && *k != "database").map(|(k, v)| (k.clone(), v.clone())).collect(),
        peer: peer.to_string(),
        backend_pid: pid,
    };
    let session = door.engine.session(options).map_err(WireError::Protocol)?;
    let mut secret = [0; 4];
    quire_kit::random::fill(&mut secret);
    door.register(pid, secret.to_vec(), session.cancel_handle());
    wire.started();
    wire.send(Out::Authentication(Authentication::Ok));
    for (name, value) in session.parameters() {
        wire.send(Out::ParameterStatus(ParameterStatus { name, value }));
    }
    wire.send(Out::BackendKeyData(BackendKeyData { pid, secret_key: SecretKey::I32(i32::from_be_bytes(secret)) }));
    Ok((session, pid))
}
