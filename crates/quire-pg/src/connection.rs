//! One client's conversation.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::record_batch::RecordBatch;
use futures::{FutureExt, StreamExt};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus as Status};
use pgwire::messages::startup::ParameterStatus;
use pgwire::messages::{PgWireBackendMessage as Out, PgWireFrontendMessage as In};
use quire_kit::clock;
use quire_sql::{Response, Rows, Session, SqlError, TransactionStatus};

use crate::extended::Extended;
use crate::rows::{Formats, data_row, row_description};
use crate::serve::Door;
use crate::startup::refuse;
use crate::wire::{Wire, WireError};
use crate::{copy, fields};

/// Rows whose encoding may go on without a look at the clock or the client.
const ROWS_BETWEEN_FLUSHES: usize = 256;

/// A connection past its startup.
pub(crate) struct Connection {
    pub(crate) door: Arc<Door>,
    pub(crate) wire: Wire,
    pub(crate) session: Session,
    pub(crate) extended: Extended,
    peer: SocketAddr,
    /// An extended-protocol message failed: everything up to Sync is skipped.
    pub(crate) skipping: bool,
}

/// What a statement did, for its log event.
pub(crate) struct Done {
    pub(crate) tag: String,
    pub(crate) rows: u64,
}

/// How far sending a result came.
pub(crate) enum Sent {
    /// To its end.
    All(u64),
    /// To the row limit; the rest is still in the stream.
    Some(u64),
}

impl Connection {
    pub(crate) fn new(door: Arc<Door>, wire: Wire, session: Session, peer: SocketAddr) -> Connection {
        Connection { door, wire, session, extended: Extended::default(), peer, skipping: false }
    }

    /// Reads and answers until the client leaves or the server stops.
    pub(crate) async fn run(&mut self) -> Result<(), WireError> {
        self.ready().await?;
        loop {
            let message = tokio::select! {
                message = self.wire.read() => message?,
                () = self.door.shutdown.triggered() => {
                    return Err(WireError::Protocol(SqlError::new("57P01", "terminating connection due to administrator command")));
                }
            };
            let Some(message) = message else { return Ok(()) };
            match message {
                In::Terminate(_) => return Ok(()),
                In::Query(query) => {
                    self.skipping = false;
                    self.extended.forget_unnamed();
                    self.simple(&query.query).await?;
                    self.ready().await?;
                }
                In::Sync(_) => {
                    self.skipping = false;
                    if self.session.transaction_status() == TransactionStatus::Idle {
                        self.extended.close_portals();
                    }
                    self.ready().await?;
                }
                In::Flush(_) => self.wire.flush().await?,
                // What is left of a COPY that failed.
                In::CopyData(_) | In::CopyDone(_) | In::CopyFail(_) => {}
                _ if self.skipping => {}
                In::Parse(parse) => self.parse(parse).await?,
                In::Bind(bind) => self.bind(bind)?,
                In::Describe(describe) => self.describe(&describe)?,
                In::Execute(execute) => self.execute(execute).await?,
                In::Close(close) => self.close_target(&close),
                other => {
                    let error = SqlError::new("08P01", format!("unexpected message {}", name_of(&other)));
                    return Err(WireError::Protocol(error));
                }
            }
        }
    }

    /// The last words.
    pub(crate) async fn end(mut self, result: Result<(), WireError>) {
        self.session.close();
        match result {
            Ok(()) => self.wire.close().await,
            Err(error) => refuse(self.wire, error).await,
        }
    }

    async fn ready(&mut self) -> Result<(), WireError> {
        self.send_asides();
        let status = match self.session.transaction_status() {
            TransactionStatus::Idle => Status::Idle,
            TransactionStatus::InBlock => Status::Transaction,
            TransactionStatus::Failed => Status::Error,
        };
        self.wire.send(Out::ReadyForQuery(ReadyForQuery { status }));
        self.wire.flush().await
    }

    /// Notices and changed parameters.
    pub(crate) fn send_asides(&mut self) {
        for notice in self.session.take_notices() {
            self.wire.send(Out::NoticeResponse(fields::notice(&notice)));
        }
        for (name, value) in self.session.take_parameter_changes() {
            self.wire.send(Out::ParameterStatus(ParameterStatus { name, value }));
        }
    }

    pub(crate) fn send_error(&mut self, error: &SqlError) {
        for notice in self.session.take_notices() {
            self.wire.send(Out::NoticeResponse(fields::notice(&notice)));
        }
        self.wire.send(Out::ErrorResponse(fields::error(error, "ERROR")));
    }

    pub(crate) fn send_complete(&mut self, tag: String) {
        self.send_asides();
        self.wire.send(Out::CommandComplete(CommandComplete { tag }));
    }

    /// A query string: its statements one after the other, up to the first that fails.
    async fn simple(&mut self, sql: &str) -> Result<(), WireError> {
        let statements = match self.session.parse(sql) {
            Ok(statements) => statements,
            Err(error) => {
                self.log(sql, clock::now(), 0, Err(&error));
                self.send_error(&error);
                return Ok(());
            }
        };
        if statements.is_empty() {
            self.wire.send(Out::EmptyQueryResponse(EmptyQueryResponse));
            return Ok(());
        }
        let several = statements.len() > 1;
        if several {
            self.session.begin_implicit();
        }
        let mut failed = false;
        for statement in statements {
            let (began, sent) = (clock::now(), self.wire.sent);
            let summary = statement.summary();
            let ran = self.guarded(|session| session.run(statement).boxed()).await?;
            let outcome = match ran {
                Ok(response) => self.respond(response).await?,
                Err(error) => Err(error),
            };
            self.log(&summary, began, self.wire.sent - sent, outcome.as_ref());
            if let Err(error) = outcome {
                self.session.fail();
                self.send_error(&error);
                failed = true;
                break;
            }
        }
        if several
            && let Err(error) = self.session.end_implicit().await
            && !failed
        {
            self.send_error(&error);
        }
        Ok(())
    }

    /// Runs a piece of the session's work. A panic in it ends the statement, not the connection; a client that leaves ends it too.
    pub(crate) async fn guarded<T>(
        &mut self,
        work: impl for<'a> FnOnce(&'a mut Session) -> futures::future::BoxFuture<'a, Result<T, SqlError>>,
    ) -> Result<Result<T, SqlError>, WireError> {
        let wire = &self.wire;
        let result = tokio::select! {
            result = AssertUnwindSafe(work(&mut self.session)).catch_unwind() => result,
            () = wire.gone() => return Err(WireError::Io(std::io::ErrorKind::ConnectionReset.into())),
        };
        Ok(result.unwrap_or_else(|_| {
            tracing::error!(peer = %self.peer, page = "docs/operating/statement-panic.md", "a statement panicked; its session goes on");
            self.session.fail();
            Err(SqlError::internal("the statement failed because of a bug; the server's log has more"))
        }))
    }

    /// Sends a simple-protocol response.
    async fn respond(&mut self, response: Response) -> Result<Result<Done, SqlError>, WireError> {
        match response {
            Response::Empty => {
                self.wire.send(Out::EmptyQueryResponse(EmptyQueryResponse));
                Ok(Ok(Done { tag: String::new(), rows: 0 }))
            }
            Response::Complete(tag) => {
                self.send_complete(tag.clone());
                Ok(Ok(Done { tag, rows: 0 }))
            }
            Response::Rows(mut rows) => {
                self.wire.send(Out::RowDescription(row_description(&rows.columns, None)));
                let formats = Formats::text(rows.columns.len());
                match self.send_rows(&mut rows, &mut None, &formats, usize::MAX).await? {
                    Ok(Sent::All(count) | Sent::Some(count)) => {
                        let tag = tag_of(&rows, count);
                        self.send_complete(tag.clone());
                        Ok(Ok(Done { tag, rows: count }))
                    }
                    Err(error) => Ok(Err(error)),
                }
            }
            Response::CopyIn(copy) => copy::copy_in(self, *copy).await,
            Response::CopyOut(copy) => copy::copy_out(self, copy).await,
        }
    }

    /// Sends up to `limit` rows; `pending` holds what a batch had left over.
    pub(crate) async fn send_rows(
        &mut self,
        rows: &mut Rows,
        pending: &mut Option<(RecordBatch, usize)>,
        formats: &Formats,
        limit: usize,
    ) -> Result<Result<Sent, SqlError>, WireError> {
        let mut sent = 0;
        loop {
            let (batch, mut at) = match pending.take() {
                Some(left) => left,
                None => {
                    let next = tokio::select! {
                        next = AssertUnwindSafe(rows.stream.next()).catch_unwind() => next,
                        () = self.wire.gone() => return Err(WireError::Io(std::io::ErrorKind::ConnectionReset.into())),
                    };
                    match next {
                        Ok(Some(Ok(batch))) => (batch, 0),
                        Ok(Some(Err(error))) => return Ok(Err(error)),
                        Ok(None) => return Ok(Ok(Sent::All(sent as u64))),
                        Err(_) => {
                            tracing::error!(peer = %self.peer, page = "docs/operating/statement-panic.md", "a query panicked; its session goes on");
                            return Ok(Err(SqlError::internal("the query failed because of a bug; the server's log has more")));
                        }
                    }
                }
            };
            while at < batch.num_rows() {
                if sent == limit {
                    *pending = Some((batch, at));
                    return Ok(Ok(Sent::Some(sent as u64)));
                }
                if let Err(error) = data_row(&batch, at, &rows.columns, formats, &mut self.wire.output) {
                    return Ok(Err(error));
                }
                at += 1;
                sent += 1;
                if at % ROWS_BETWEEN_FLUSHES == 0 {
                    self.wire.flush_if_full().await?;
                }
            }
            self.wire.flush_if_full().await?;
        }
    }

    /// The wide event of a statement.
    pub(crate) fn log(&self, sql: &str, began: clock::Instant, bytes: u64, outcome: Result<&Done, &SqlError>) {
        let seconds = began.elapsed().as_secs_f64();
        let label = if outcome.is_ok() { "ok" } else { "error" };
        metrics::counter!("quire_pg_statements_total", "outcome" => label).increment(1);
        metrics::histogram!("quire_pg_statement_seconds").record(seconds);
        let milliseconds = seconds * 1e3;
        match outcome {
            Ok(done) => tracing::info!(target: "quire::statement", peer = %self.peer, sql, tag = done.tag, milliseconds, rows = done.rows, bytes, sqlstate = "00000"),
            Err(error) => tracing::info!(target: "quire::statement", peer = %self.peer, sql, milliseconds, bytes, sqlstate = error.code, error = error.message),
        }
    }
}

/// `SELECT 5`, `SHOW`.
pub(crate) fn tag_of(rows: &Rows, count: u64) -> String {
    if rows.counted { format!("{} {count}", rows.tag) } else { rows.tag.to_string() }
}

pub(crate) fn count(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn name_of(message: &In) -> &'static str {
    match message {
        In::Startup(_) => "Startup",
        In::PasswordMessageFamily(_) => "PasswordMessage",
        _ => "of that type",
    }
}
