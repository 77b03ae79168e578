//! Messages in and out of a socket, within bounds.

use std::io;

use bytes::{Buf, BytesMut};
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion};
use quire_sql::SqlError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::frame::{self, Incoming};

/// A message of a client: a COPY row or a parameter is well below it.
const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// The first message, as in Postgres.
const STARTUP_BYTES_MAX: usize = 10_000;
/// Output is sent when this much has gathered.
const FLUSH_BYTES: usize = 64 << 10;
/// Asked of the socket at once; doubles while the client fills it, as in a COPY.
const READ_BYTES: usize = 8 << 10;
const READ_BYTES_MAX: usize = 256 << 10;

/// Why the conversation cannot go on.
#[derive(Debug)]
pub(crate) enum WireError {
    /// The socket failed or the client went.
    Io(io::Error),
    /// The client does not speak the protocol: told so, then closed.
    Protocol(SqlError),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        WireError::Io(error)
    }
}

pub(crate) fn protocol_violation(message: impl Into<String>) -> WireError {
    WireError::Protocol(SqlError::new("08P01", message))
}

/// One connection's socket and buffers.
pub(crate) struct Wire {
    stream: TcpStream,
    input: BytesMut,
    /// Messages not sent yet.
    pub(crate) output: Vec<u8>,
    scratch: BytesMut,
    read_bytes: usize,
    /// Bytes sent since the start.
    pub(crate) sent: u64,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Wire {
        Wire { stream, input: BytesMut::new(), output: vec![], scratch: BytesMut::new(), read_bytes: READ_BYTES, sent: 0 }
    }

    /// The next message; `None` when the client has closed the connection between messages. Loses nothing when dropped.
    pub(crate) async fn read(&mut self) -> Result<Option<Incoming>, WireError> {
        loop {
            if let Some(incoming) = frame::split(&mut self.input, MESSAGE_BYTES_MAX).map_err(WireError::Protocol)? {
                return Ok(Some(incoming));
            }
            if self.fill().await? == 0 {
                return if self.input.is_empty() { Ok(None) } else { Err(WireError::Io(io::ErrorKind::UnexpectedEof.into())) };
            }
        }
    }

    /// The first message, which has no type byte; `None` when the client has gone.
    pub(crate) async fn read_startup(&mut self) -> Result<Option<PgWireFrontendMessage>, WireError> {
        loop {
            if let Some(length) = self.startup_length()?
                && self.input.len() >= length
            {
                // Cut off, so that nothing in it can reach into what follows. Cancel keys are longer than four bytes from 3.2 on.
                let mut packet = self.input.split_to(length);
                let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_2);
                context.awaiting_frontend_ssl = false;
                return match PgWireFrontendMessage::decode(&mut packet, &context) {
                    Ok(Some(message)) => Ok(Some(message)),
                    Ok(None) => Err(protocol_violation("invalid length of startup packet")),
                    Err(error) => Err(protocol_violation(error.to_string())),
                };
            }
            if self.fill().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Its length is checked before anything is made room for.
    fn startup_length(&self) -> Result<Option<usize>, WireError> {
        let Some(mut header) = self.input.get(..4) else { return Ok(None) };
        let length = header.get_u32() as usize;
        if !(8..=STARTUP_BYTES_MAX).contains(&length) {
            return Err(protocol_violation("invalid length of startup packet"));
        }
        Ok(Some(length))
    }

    /// Reads what has come. Memory follows what has arrived, never what a length promises.
    async fn fill(&mut self) -> Result<usize, WireError> {
        self.input.reserve(self.read_bytes);
        let read = self.stream.read_buf(&mut self.input).await?;
        self.read_bytes = if read >= self.read_bytes { (self.read_bytes * 2).min(READ_BYTES_MAX) } else { READ_BYTES };
        Ok(read)
    }

    /// Whether a Sync has arrived already, before any further Execute: the statement about to run is alone in its pipeline.
    pub(crate) fn syncs_next(&self) -> bool {
        frame::syncs_next(&self.input)
    }

    /// Takes what a client goes on sending after it was told why the connection ends: closing with unread data would reset the
    /// connection, and the client might never see the reason.
    pub(crate) async fn discard(&mut self) -> Result<(), WireError> {
        loop {
            self.input.clear();
            if self.fill().await? == 0 {
                return Ok(());
            }
        }
    }

    /// The first eight bytes of a startup packet say what it is: `Some` with the request code once they are here.
    pub(crate) async fn peek_request_code(&mut self) -> Result<Option<u32>, WireError> {
        loop {
            self.startup_length()?;
            if let Some(mut code) = self.input.get(4..8) {
                return Ok(Some(code.get_u32()));
            }
            if self.fill().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Drops an eight-byte request (SSL, GSS encryption) and answers it with one byte.
    pub(crate) async fn refuse_encryption(&mut self) -> Result<(), WireError> {
        self.input.advance(8);
        self.stream.write_all(b"N").await?;
        Ok(())
    }

    /// Puts a message into the output.
    pub(crate) fn send(&mut self, message: PgWireBackendMessage) {
        self.scratch.clear();
        match message.encode(&mut self.scratch) {
            Ok(()) => self.output.extend_from_slice(&self.scratch),
            Err(error) => tracing::warn!(%error, "a message could not be encoded"),
        }
    }

    /// Whether what has gathered is enough to be sent.
    pub(crate) fn is_full(&self) -> bool {
        self.output.len() >= FLUSH_BYTES
    }

    /// Sends what has gathered, if it is enough to be worth it. Waits for a slow reader.
    pub(crate) async fn flush_if_full(&mut self) -> Result<(), WireError> {
        if self.is_full() { self.flush().await } else { Ok(()) }
    }

    /// Sends everything.
    pub(crate) async fn flush(&mut self) -> Result<(), WireError> {
        self.sent += self.output.len() as u64;
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        // One huge row must not keep its room for ever.
        if self.output.capacity() > 16 * FLUSH_BYTES {
            self.output.shrink_to(2 * FLUSH_BYTES);
        }
        Ok(())
    }

    /// Bytes sent or about to be.
    pub(crate) fn total(&self) -> u64 {
        self.sent + self.output.len() as u64
    }

    /// Completes when the client has gone. Never, while it has sent something that was not read yet.
    pub(crate) async fn gone(&self) {
        let mut byte = [0];
        match self.stream.peek(&mut byte).await {
            Ok(0) | Err(_) => {}
            Ok(_) => std::future::pending().await,
        }
    }

    pub(crate) async fn close(&mut self) {
        // The client may be gone already.
        if let Err(error) = self.stream.shutdown().await {
            tracing::debug!(%error, "connection ended before it was closed");
        }
    }
}
