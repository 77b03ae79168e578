//! Messages in and out of a socket, within bounds.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Buf, BytesMut};
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion};
use quire_sql::SqlError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A message of a client: a COPY row or a parameter is well below it.
const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// The first message, as in Postgres.
const STARTUP_BYTES_MAX: usize = 10_000;
/// Output is sent when this much has gathered.
const FLUSH_BYTES: usize = 64 << 10;

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
    context: DecodeContext,
    started: bool,
    /// Bytes sent since the start.
    pub(crate) sent: u64,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Wire {
        let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
        context.awaiting_frontend_ssl = false;
        Wire { stream, input: BytesMut::with_capacity(64 << 10), output: Vec::with_capacity(FLUSH_BYTES * 2), scratch: BytesMut::new(), context, started: false, sent: 0 }
    }

    /// From now on messages have a type byte.
    pub(crate) fn started(&mut self) {
        self.context.awaiting_frontend_startup = false;
        self.started = true;
    }

    /// The next message; `None` when the client has closed the connection between messages.
    pub(crate) async fn read(&mut self) -> Result<Option<PgWireFrontendMessage>, WireError> {
        loop {
            if self.frame_complete()? {
                let context = &self.context;
                let input = &mut self.input;
                let decoded = catch_unwind(AssertUnwindSafe(|| PgWireFrontendMessage::decode(input, context)));
                return match decoded {
                    Ok(Ok(Some(message))) => Ok(Some(message)),
                    Ok(Ok(None)) => Err(protocol_violation("invalid message length")),
                    Ok(Err(error)) => Err(protocol_violation(error.to_string())),
                    Err(_) => Err(protocol_violation("invalid message format")),
                };
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return if self.input.is_empty() { Ok(None) } else { Err(WireError::Io(io::ErrorKind::UnexpectedEof.into())) };
            }
        }
    }

    /// Whether a whole message has arrived. Lengths are checked before anything is made room for.
    fn frame_complete(&self) -> Result<bool, WireError> {
        let (prefix, max) = if self.started { (1, MESSAGE_BYTES_MAX) } else { (0, STARTUP_BYTES_MAX) };
        let Some(mut header) = self.input.get(prefix..prefix + 4) else { return Ok(false) };
        let length = header.get_u32() as usize;
        if length < 4 || length > max {
            return Err(protocol_violation(if self.started { "invalid message length" } else { "invalid length of startup packet" }));
        }
        Ok(self.input.len() >= prefix + length)
    }

    /// The first eight bytes of a startup packet say what it is: `Some` with the request code once they are here.
    pub(crate) async fn peek_request_code(&mut self) -> Result<Option<u32>, WireError> {
        loop {
            self.frame_complete()?;
            if let Some(mut code) = self.input.get(4..8) {
                return Ok(Some(code.get_u32()));
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
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

    /// Sends what has gathered, if it is enough to be worth it. Waits for a slow reader.
    pub(crate) async fn flush_if_full(&mut self) -> Result<(), WireError> {
        if self.output.len() >= FLUSH_BYTES { self.flush().await } else { Ok(()) }
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

    /// Completes when the client has gone. Never, while it has sent something that was not read yet.
    pub(crate) async fn gone(&self) {
        let mut byte = [0];
        match self.stream.peek(&mut byte).await {
            Ok(0) | Err(_) => {}
            Ok(_) => std::future::pending().await,
        }
    }

    pub(crate) async fn close(mut self) {
        // The client may be gone already.
        if let Err(error) = self.stream.shutdown().await {
            tracing::debug!(%error, "connection ended before it was closed");
        }
    }
}
