//! One client's conversation.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus as Status};
use pgwire::messages::startup::ParameterStatus;
use pgwire::messages::{PgWireBackendMessage as Out, PgWireFrontendMessage as In};
use quire_kit::{Shutdown, clock};
use quire_sql::{Parsed, Response, Rows, Session, SqlError, TransactionStatus};

use crate::extended::Extended;
use crate::rows::{Formats, check, data_row, row_description};
use crate::serve::{Door, Interrupt};
use crate::startup::{Who, refuse, shutting_down};
use crate::wire::{Wire, WireError, protocol_violation};
use crate::{copy, fields};

/// Characters of a query string in logs.
const LOGGED_CHARACTERS: usize = 500;

/// A connection past its startup.
pub(crate) struct Connection {
    pub(crate) door: Arc<Door>,
    pub(crate) wire: Wire,
    pub(crate) session: Session,
    pub(crate) extended: Extended,
    interrupt: Interrupt,
    /// What the request under way listens to: triggered by a cancel request.
    pub(crate) cancel: Shutdown,
    who: Who,
    /// Statements of the extended protocol since the last Sync are one transaction.
    pub(crate) pipeline: bool,
    /// An extended-protocol message failed: everything up to Sync is skipped.
    pub(crate) skipping: bool,
}

/// What a statement did, for its log event.
pub(crate) struct Done {
    /// Its command tag, still to be sent; `None` for an empty query string and for a portal that is suspended.
    pub(crate) tag: Option<String>,
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
    pub(crate) fn new(door: Arc<Door>, wire: Wire, session: Session, interrupt: Interrupt, who: Who) -> Connection {
        let cancel = interrupt.renew();
        Connection { door, wire, session, extended: Extended::default(), interrupt, cancel, who, pipeline: false, skipping: false }
    }

    /// Reads and answers until the client leaves or the server stops.
    pub(crate) async fn run(&mut self) -> Result<(), WireError> {
        self.ready().await?;
        loop {
            let incoming = tokio::select! {
                biased;
                // A message that is here already waits for nothing, and is answered.
                incoming = self.wire.read() => incoming?,
                () = self.door.shutdown.triggered() => return Err(WireError::Protocol(shutting_down())),
            };
            let Some(incoming) = incoming else { return Ok(()) };
            if self.skipping && !incoming.ends_skipping() {
                continue;
            }
            let extended = incoming.is_extended();
            let message = match incoming.message {
                Ok(message) => message,
                Err(error) if extended => {
                    self.reject(&error);
                    self.wire.flush().await?;
                    continue;
                }
                Err(error) => {
                    self.session.fail();
                    self.send_error(&error);
                    self.ready().await?;
                    continue;
                }
            };
            if self.cancel.is_triggered() {
                self.cancel = self.interrupt.renew();
            }
            match message {
                In::Terminate(_) => return Ok(()),
                In::Query(query) => {
                    self.end_pipeline().await?;
                    self.extended.forget_unnamed();
                    self.session.close_statement("");
                    self.simple(&query.query).await?;
                    self.ready().await?;
                }
                In::Sync(_) => {
                    self.skipping = false;
                    self.end_pipeline().await?;
                    self.ready().await?;
                }
                In::Flush(_) => self.wire.flush().await?,
                // What is left of a COPY that failed.
                In::CopyData(_) | In::CopyDone(_) | In::CopyFail(_) => {}
                In::Parse(parse) => self.parse(parse).await?,
                In::Bind(bind) => self.bind(bind)?,
                In::Describe(describe) => self.describe(&describe)?,
                In::Execute(execute) => self.execute(execute).await?,
                In::Close(close) => self.close_target(&close),
                _ => return Err(protocol_violation("unexpected message type")),
            }
            if self.skipping {
                // A client that sent Flush, not Sync, waits for the error.
                self.wire.flush().await?;
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

    /// Commits what a pipeline of the extended protocol did, or rolls back when part of it failed.
    async fn end_pipeline(&mut self) -> Result<(), WireError> {
        if std::mem::take(&mut self.pipeline)
            && let Err(error) = self.guarded(|session| session.end_implicit().boxed()).await?
        {
            self.send_error(&error);
        }
        Ok(())
    }

    async fn ready(&mut self) -> Result<(), WireError> {
        self.send_asides();
        if self.session.transaction_status() == TransactionStatus::Idle {
            self.extended.close_portals();
        }
        let status = match self.session.transaction_status() {
            TransactionStatus::Idle => Status::Idle,
            TransactionStatus::InBlock => Status::Transaction,
            TransactionStatus::Failed => Status::Error,
        };
        self.wire.send(Out::ReadyForQuery(ReadyForQuery::new(status)));
        self.wire.flush().await
    }

    /// Notices and changed parameters.
    pub(crate) fn send_asides(&mut self) {
        for notice in self.session.take_notices() {
            self.wire.send(Out::NoticeResponse(fields::notice(&notice)));
        }
        for (name, value) in self.session.take_parameter_changes() {
            self.wire.send(Out::ParameterStatus(ParameterStatus::new(name, value)));
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
        self.wire.send(Out::CommandComplete(CommandComplete::new(tag)));
    }

    /// A query string: its statements one after the other, up to the first that fails.
    async fn simple(&mut self, sql: &str) -> Result<(), WireError> {
        let statements = match self.split(sql) {
            Ok(statements) => statements,
            Err(error) => {
                self.send_error(&error);
                return Ok(());
            }
        };
        if statements.is_empty() {
            self.wire.send(Out::EmptyQueryResponse(EmptyQueryResponse::new()));
            return Ok(());
        }
        let several = statements.len() > 1;
        if several {
            self.session.begin_implicit();
        }
        // The last statement is not complete before the transaction that it shares with the others.
        let mut last_tag = None;
        let mut failed = false;
        for statement in statements {
            if let Some(tag) = last_tag.take() {
                self.send_complete(tag);
            }
            let (began, sent) = (clock::now(), self.wire.total());
            let summary = statement.summary();
            let ran = self.guarded(|session| session.run(statement).boxed()).await?;
            let outcome = match ran {
                Ok(response) => self.respond(response).await?,
                Err(error) => Err(error),
            };
            self.log(|| summary, began, self.wire.total() - sent, outcome.as_ref());
            match outcome {
                Ok(done) => last_tag = done.tag,
                Err(error) => {
                    self.session.fail();
                    self.send_error(&error);
                    failed = true;
                    break;
                }
            }
        }
        if several && let Err(error) = self.guarded(|session| session.end_implicit().boxed()).await? {
            if !failed {
                self.send_error(&error);
            }
            return Ok(());
        }
        if let Some(tag) = last_tag {
            self.send_complete(tag);
        }
        Ok(())
    }

    /// Parses; a failure is in the log.
    pub(crate) fn split(&mut self, sql: &str) -> Result<Vec<Parsed>, SqlError> {
        let began = clock::now();
        let parsed = catch_unwind(AssertUnwindSafe(|| self.session.parse(sql)));
        let parsed = parsed.unwrap_or_else(|_| Err(self.panicked()));
        if let Err(error) = &parsed {
            self.log(|| sql.trim().chars().take(LOGGED_CHARACTERS).collect(), began, 0, Err(error));
        }
        parsed
    }

    /// A panic of the engine, as an error and in the log.
    pub(crate) fn panicked(&mut self) -> SqlError {
        tracing::error!(peer = %self.who.peer, pid = self.who.pid, page = "docs/operating/statement-panic.md", "a statement panicked; its session goes on");
        self.session.fail();
        SqlError::internal("the statement failed because of a bug; the server's log has more")
    }

    /// Runs a piece of the session's work. A panic in it ends the statement, not the connection; a client that leaves ends it too.
    pub(crate) async fn guarded<T>(
        &mut self,
        work: impl for<'a> FnOnce(&'a mut Session) -> futures::future::BoxFuture<'a, Result<T, SqlError>>,
    ) -> Result<Result<T, SqlError>, WireError> {
        let work = AssertUnwindSafe(work(&mut self.session)).catch_unwind();
        let result = tokio::select! {
            biased;
            result = work => result,
            () = self.wire.gone() => return Err(WireError::Io(std::io::ErrorKind::ConnectionReset.into())),
            () = self.door.abandon.triggered() => return Err(WireError::Protocol(shutting_down())),
        };
        Ok(result.unwrap_or_else(|_| Err(self.panicked())))
    }

    /// The next piece of a result; 57014 when a cancel request comes first.
    pub(crate) async fn next<T>(
        &mut self,
        stream: &mut BoxStream<'static, Result<T, SqlError>>,
    ) -> Result<Result<Option<T>, SqlError>, WireError> {
        let next = tokio::select! {
            biased;
            () = self.cancel.triggered() => return Ok(Err(SqlError::cancelled())),
            next = AssertUnwindSafe(stream.next()).catch_unwind() => next,
            () = self.wire.gone() => return Err(WireError::Io(std::io::ErrorKind::ConnectionReset.into())),
            () = self.door.abandon.triggered() => return Err(WireError::Protocol(shutting_down())),
        };
        Ok(match next {
            Ok(item) => item.transpose(),
            Err(_) => Err(self.panicked()),
        })
    }

    /// Sends a simple-protocol response, all but its CommandComplete.
    async fn respond(&mut self, response: Response) -> Result<Result<Done, SqlError>, WireError> {
        match response {
            Response::Empty => {
                self.wire.send(Out::EmptyQueryResponse(EmptyQueryResponse::new()));
                Ok(Ok(Done { tag: None, rows: 0 }))
            }
            Response::Complete(tag) => Ok(Ok(Done { tag: Some(tag), rows: 0 })),
            Response::Rows(mut rows) => {
                match row_description(&rows.columns, None) {
                    Ok(description) => self.wire.send(Out::RowDescription(description)),
                    Err(error) => return Ok(Err(error)),
                }
                let formats = Formats::text(rows.columns.len());
                match self.send_rows(&mut rows, &mut None, &formats, usize::MAX).await? {
                    Ok(Sent::All(count) | Sent::Some(count)) => {
                        Ok(Ok(Done { tag: Some(tag_of(rows.tag, rows.counted, count)), rows: count }))
                    }
                    Err(error) => Ok(Err(error)),
                }
            }
            Response::CopyIn(copy) => copy::copy_in(self, copy).await,
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
                // As in Postgres, a limit that is met exactly suspends: whether there is more is not asked.
                None if sent == limit => return Ok(Ok(Sent::Some(sent as u64))),
                None => match self.next(&mut rows.stream).await? {
                    Ok(Some(batch)) => (batch, 0),
                    Ok(None) => return Ok(Ok(Sent::All(sent as u64))),
                    Err(error) => return Ok(Err(error)),
                },
            };
            if let Err(error) = check(&batch, &rows.columns, formats) {
                return Ok(Err(error));
            }
            while at < batch.num_rows() {
                if sent == limit {
                    *pending = Some((batch, at));
                    return Ok(Ok(Sent::Some(sent as u64)));
                }
                let start = self.wire.output.len();
                let encoded = catch_unwind(AssertUnwindSafe(|| data_row(&batch, at, &rows.columns, formats, &mut self.wire.output)));
                if let Err(error) = encoded.unwrap_or_else(|_| Err(self.panicked())) {
                    self.wire.output.truncate(start);
                    return Ok(Err(error));
                }
                at += 1;
                sent += 1;
                // After each row: a few may be as large as a thousand.
                if self.wire.is_full() {
                    self.wire.flush().await?;
                }
            }
        }
    }

    /// Counts a statement, and writes its wide event: `sql` is asked for then.
    pub(crate) fn log(&mut self, sql: impl FnOnce() -> String, began: clock::Instant, bytes: u64, outcome: Result<&Done, &SqlError>) {
        let seconds = began.elapsed().as_secs_f64();
        let statements = &self.door.statements;
        let counter = match outcome {
            Ok(_) => &statements.ok,
            Err(error) if error.code == "57014" => &statements.cancelled,
            Err(_) => &statements.error,
        };
        counter.increment(1);
        statements.seconds.record(seconds);
        let milliseconds = seconds * 1e3;
        let (tag, rows, sqlstate, error) = match outcome {
            Ok(done) => (done.tag.as_deref(), done.rows, "00000", None),
            Err(error) => (None, 0, error.code, Some(error.message.as_str())),
        };
        let work = self.session.take_work();
        if !tracing::enabled!(target: "quire::statement", tracing::Level::INFO) {
            return;
        }
        let sql = sql();
        let Who { user, database, peer, pid } = &self.who;
        tracing::info!(
            target: "quire::statement",
            user,
            database,
            %peer,
            pid,
            sql,
            tag,
            milliseconds,
            rows,
            bytes,
            sqlstate,
            error,
            retries = work.retries,
            rows_scanned = work.rows_scanned,
            pages_memory = work.pages_memory,
            pages_disk = work.pages_disk,
            pages_remote = work.pages_remote,
            bytes_memory = work.bytes_memory,
            bytes_disk = work.bytes_disk,
            bytes_remote = work.bytes_remote,
        );
    }
}

/// `SELECT 5`, `INSERT 0 5`, `SHOW`.
pub(crate) fn tag_of(word: &str, counted: bool, count: u64) -> String {
    match (counted, word) {
        (false, _) => word.to_string(),
        (true, "INSERT") => format!("INSERT 0 {count}"),
        (true, _) => format!("{word} {count}"),
    }
}

pub(crate) fn count(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::tag_of;

    #[test]
    fn tags() {
        assert_eq!(tag_of("SELECT", true, 5), "SELECT 5");
        assert_eq!(tag_of("INSERT", true, 5), "INSERT 0 5");
        assert_eq!(tag_of("SHOW", false, 1), "SHOW");
    }
}
