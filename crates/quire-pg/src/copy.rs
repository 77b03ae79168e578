//! COPY, both ways. What the caller is given back still needs its CommandComplete.

use futures::FutureExt;
use pgwire::messages::copy::{CopyData, CopyDone, CopyInResponse, CopyOutResponse};
use pgwire::messages::{PgWireBackendMessage as Out, PgWireFrontendMessage as In};
use quire_kit::Shutdown;
use quire_sql::{CopyIn, CopyOut, SqlError};

use crate::connection::{Connection, Done, count};
use crate::startup::shutting_down;
use crate::wire::WireError;

/// Takes the client's data. An error goes out at once; what the client still sends is dropped by the main loop.
pub(crate) async fn copy_in(connection: &mut Connection, mut copy: Box<CopyIn>) -> Result<Result<Done, SqlError>, WireError> {
    let format = i8::from(copy.binary);
    let columns = match columns(copy.columns) {
        Ok(columns) => columns,
        Err(error) => return Ok(Err(error)),
    };
    connection.wire.send(Out::CopyInResponse(CopyInResponse::new(format, columns, vec![format.into(); copy.columns])));
    connection.wire.flush().await?;
    loop {
        // A client that leaves here takes its rows with it: the COPY is dropped with the connection.
        let incoming = tokio::select! {
            biased;
            () = connection.cancel.triggered() => return Ok(Err(SqlError::cancelled())),
            incoming = connection.wire.read() => incoming?,
            () = connection.door.abandon.triggered() => return Err(WireError::Protocol(shutting_down())),
        };
        let Some(incoming) = incoming else { return Err(WireError::Io(std::io::ErrorKind::UnexpectedEof.into())) };
        let message = match incoming.message {
            Ok(message) => message,
            Err(error) => return Ok(Err(error)),
        };
        let cancel = connection.cancel.clone();
        match message {
            // The next data is not read before this is taken: the client is slowed to what storage takes.
            In::CopyData(CopyData { data, .. }) => {
                // The session's work owns what it works on for as long as it runs.
                let pushed = connection.guarded(|session| {
                    async move {
                        cancellable(cancel, copy.push(session, data)).await?;
                        Ok(copy)
                    }
                    .boxed()
                });
                match pushed.await? {
                    Ok(taken) => copy = taken,
                    Err(error) => return Ok(Err(error)),
                }
            }
            In::CopyDone(_) => {
                let finished = connection.guarded(|session| async move { cancellable(cancel, copy.finish(session)).await }.boxed());
                return Ok(finished.await?.map(|tag| {
                    let rows = tag.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
                    Done { tag: Some(tag), rows }
                }));
            }
            In::CopyFail(fail) => return Ok(Err(copy.abort(&mut connection.session, &fail.message))),
            // The extended protocol allows these during COPY; they mean nothing yet.
            In::Flush(_) | In::Sync(_) => {}
            In::Terminate(_) => return Err(WireError::Io(std::io::ErrorKind::ConnectionAborted.into())),
            _ => {
                let message = format!("unexpected message type 0x{:02X} during COPY from stdin", incoming.kind);
                return Ok(Err(SqlError::new("08P01", message)));
            }
        }
    }
}

/// Sends rows as they come.
pub(crate) async fn copy_out(connection: &mut Connection, mut copy: CopyOut) -> Result<Result<Done, SqlError>, WireError> {
    let format = i8::from(copy.binary);
    let columns = match columns(copy.columns) {
        Ok(columns) => columns,
        Err(error) => return Ok(Err(error)),
    };
    connection.wire.send(Out::CopyOutResponse(CopyOutResponse::new(format, columns, vec![format.into(); copy.columns])));
    loop {
        match connection.next(&mut copy.stream).await? {
            Ok(Some(data)) => {
                connection.wire.send(Out::CopyData(CopyData::new(data)));
                connection.wire.flush_if_full().await?;
            }
            Ok(None) => break,
            Err(error) => return Ok(Err(error)),
        }
    }
    connection.wire.send(Out::CopyDone(CopyDone::new()));
    let rows = count(&copy.rows);
    Ok(Ok(Done { tag: Some(format!("COPY {rows}")), rows }))
}

fn columns(count: usize) -> Result<i16, SqlError> {
    i16::try_from(count).map_err(|_| SqlError::new("54011", format!("a COPY has at most {} columns", i16::MAX)))
}

/// The work, or 57014 when a cancel request comes first.
async fn cancellable<T>(cancel: Shutdown, work: impl Future<Output = Result<T, SqlError>>) -> Result<T, SqlError> {
    tokio::select! {
        biased;
        done = work => done,
        () = cancel.triggered() => Err(SqlError::cancelled()),
    }
}
