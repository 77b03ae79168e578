//! COPY, both ways.

use futures::{FutureExt, StreamExt};
use pgwire::messages::copy::{CopyData, CopyDone, CopyInResponse, CopyOutResponse};
use pgwire::messages::{PgWireBackendMessage as Out, PgWireFrontendMessage as In};
use quire_sql::{CopyIn, CopyOut, SqlError};

use crate::connection::{Connection, Done, count};
use crate::wire::{WireError, protocol_violation};

/// Takes the client's data. An error goes out at once; what the client still sends is dropped by the main loop.
pub(crate) async fn copy_in(connection: &mut Connection, mut copy: CopyIn) -> Result<Result<Done, SqlError>, WireError> {
    let format = i8::from(copy.binary);
    let columns = copy.columns as i16;
    connection.wire.send(Out::CopyInResponse(CopyInResponse { format, columns, column_formats: vec![format.into(); copy.columns] }));
    connection.wire.flush().await?;
    loop {
        // A client that leaves here takes its rows with it: the COPY is dropped with the connection.
        let Some(message) = connection.wire.read().await? else { return Err(WireError::Io(std::io::ErrorKind::UnexpectedEof.into())) };
        match message {
            In::CopyData(CopyData { data }) => {
                if let Err(error) = copy.push(&mut connection.session, data).await {
                    return Ok(Err(error));
                }
            }
            In::CopyDone(_) => {
                let finished = connection.guarded(|session| copy.finish(session).boxed()).await?;
                return Ok(finished.map(|tag| {
                    connection.send_complete(tag.clone());
                    let rows = tag.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
                    Done { tag, rows }
                }));
            }
            In::CopyFail(fail) => return Ok(Err(copy.abort(&mut connection.session, &fail.message))),
            // The extended protocol allows these during COPY; they mean nothing yet.
            In::Flush(_) | In::Sync(_) => {}
            In::Terminate(_) => return Err(WireError::Io(std::io::ErrorKind::ConnectionAborted.into())),
            _ => return Err(protocol_violation("unexpected message type during COPY from stdin")),
        }
    }
}

/// Sends rows as they come.
pub(crate) async fn copy_out(connection: &mut Connection, mut copy: CopyOut) -> Result<Result<Done, SqlError>, WireError> {
    let format = i8::from(copy.binary);
    let columns = copy.columns as i16;
    connection.wire.send(Out::CopyOutResponse(CopyOutResponse { format, columns, column_formats: vec![format.into(); copy.columns] }));
    loop {
        let next = tokio::select! {
            next = copy.stream.next() => next,
            () = connection.wire.gone() => return Err(WireError::Io(std::io::ErrorKind::ConnectionReset.into())),
        };
        match next {
            Some(Ok(data)) => {
                connection.wire.send(Out::CopyData(CopyData { data }));
                connection.wire.flush_if_full().await?;
            }
            Some(Err(error)) => return Ok(Err(error)),
            None => break,
        }
    }
    connection.wire.send(Out::CopyDone(CopyDone));
    let rows = count(&copy.rows);
    let tag = format!("COPY {rows}");
    connection.send_complete(tag.clone());
    Ok(Ok(Done { tag, rows }))
}
