//! Cursors: a query's rows, fetched a few at a time within one transaction block.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::ast::{CloseCursor, Declare, FetchDirection, Ident, ObjectName, Statement, Value, ValueWithSpan};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::Mutex;

use crate::lock::{Lock, locking};
use crate::names::fold;
use crate::session::Block;
use crate::syntax::MOVE_TARGET;
use crate::{OutputColumn, Response, Rows, Session, SqlError, query};

/// Cursors that a session may have open; each holds a plan under way.
const CURSORS_MAX: usize = 1000;

pub(crate) type Cursors = HashMap<String, Cursor>;

/// One cursor. A FETCH's rows are taken from it as they are sent, so both hold it.
pub(crate) struct Cursor {
    pub(crate) columns: Arc<Vec<OutputColumn>>,
    pub(crate) rows: Arc<CursorRows>,
}

/// A cursor's rows, wherever they are held.
pub(crate) type CursorRows = Mutex<Remaining>;

/// What was not fetched yet.
pub(crate) struct Remaining {
    stream: BoxStream<'static, Result<RecordBatch, SqlError>>,
    /// The part of a batch that the last FETCH left.
    left: Option<RecordBatch>,
}

impl Remaining {
    /// Up to so many rows; none at the end.
    async fn next(&mut self, limit: usize) -> Option<Result<RecordBatch, SqlError>> {
        loop {
            let batch = match self.left.take() {
                Some(batch) => batch,
                None => match self.stream.next().await? {
                    Ok(batch) => batch,
                    Err(error) => return Some(Err(error)),
                },
            };
            let rows = batch.num_rows();
            if rows == 0 {
                continue;
            }
            if rows > limit {
                self.left = Some(batch.slice(limit, rows - limit));
                return Some(Ok(batch.slice(0, limit)));
            }
            return Some(Ok(batch));
        }
    }
}

impl Session {
    /// DECLARE name CURSOR FOR query. The query runs on the snapshot it is declared at.
    pub(crate) async fn declare(&mut self, mut declared: Vec<Declare>, locks: Vec<Arc<Lock>>) -> Result<Response, SqlError> {
        let Some(declare) = declared.pop() else { return Err(SqlError::internal("a DECLARE of nothing")) };
        let (Some(name), Some(query)) = (declare.names.first().map(fold), declare.for_query) else {
            return Err(SqlError::syntax("DECLARE needs a name and a query"));
        };
        for (given, what) in [
            (declare.hold == Some(true), "DECLARE CURSOR ... WITH HOLD"),
            (declare.scroll == Some(true), "DECLARE SCROLL CURSOR"),
            (declare.binary == Some(true), "DECLARE BINARY CURSOR"),
        ] {
            if given {
                return Err(SqlError::unsupported(what));
            }
        }
        if self.cursors.contains_key(&name) {
            return Err(SqlError::new("42P03", format!("cursor \"{name}\" already exists")));
        }
        if self.cursors.len() >= CURSORS_MAX {
            return Err(SqlError::new("53400", format!("a session has at most {CURSORS_MAX} cursors")));
        }
        let planned = query::plan(&self.context, Statement::Query(query)).await?;
        let (plan, stream) = query::start(&self.context, &planned).await?;
        self.work.plan = Some(plan);
        let columns = planned.columns_before(locks.len());
        let rows = self.rows(columns.clone(), locking(stream, locks), "FETCH", true);
        let remaining = Remaining { stream: rows.stream, left: None };
        self.cursors.insert(name, Cursor { columns, rows: Arc::new(Mutex::new(remaining)) });
        Ok(Response::Complete("DECLARE CURSOR".into()))
    }

    pub(crate) fn cursor(&self, name: &Ident) -> Result<&Cursor, SqlError> {
        let name = fold(name);
        self.cursors.get(&name).ok_or_else(|| SqlError::new("34000", format!("cursor \"{name}\" does not exist")))
    }

    /// FETCH and MOVE: forward only.
    pub(crate) async fn fetch(
        &mut self,
        name: &Ident,
        direction: &FetchDirection,
        into: Option<&ObjectName>,
    ) -> Result<Response, SqlError> {
        if matches!(self.block, Block::Failed) {
            return Err(SqlError::aborted_block());
        }
        let cursor = self.cursor(name)?;
        let limit = forward(direction)?;
        let (columns, rows) = (cursor.columns.clone(), cursor.rows.clone());
        let stream = stream::unfold((rows, limit), |(rows, limit)| async move {
            if limit == 0 {
                return None;
            }
            let next = rows.lock().await.next(limit).await?;
            let taken = next.as_ref().map_or(limit, RecordBatch::num_rows);
            Some((next, (rows, limit - taken)))
        });
        match into.map(crate::names::split).transpose()? {
            None => Ok(Response::Rows(Rows { columns, stream: stream.boxed(), tag: "FETCH", counted: true })),
            Some((None, target)) if target == MOVE_TARGET => {
                let mut stream = stream.boxed();
                let mut moved = 0;
                while let Some(batch) = stream.next().await {
                    moved += batch?.num_rows();
                }
                Ok(Response::Complete(format!("MOVE {moved}")))
            }
            Some(_) => Err(SqlError::syntax("syntax error at or near \"INTO\"")),
        }
    }

    /// CLOSE name, CLOSE ALL.
    pub(crate) fn close_cursor(&mut self, cursor: &CloseCursor) -> Result<Response, SqlError> {
        match cursor {
            CloseCursor::All => {
                self.cursors.clear();
                Ok(Response::Complete("CLOSE CURSOR ALL".into()))
            }
            CloseCursor::Specific { name } => {
                self.cursor(name)?;
                self.cursors.remove(&fold(name));
                Ok(Response::Complete("CLOSE CURSOR".into()))
            }
        }
    }
}

/// How many rows a direction asks for.
fn forward(direction: &FetchDirection) -> Result<usize, SqlError> {
    let backward =
        || SqlError::new("55000", "cursor can only scan forward").with_hint("Declare it with SCROLL option to enable backward scan.");
    let count = |limit: &ValueWithSpan| -> Result<usize, SqlError> {
        let Value::Number(digits, _) = &limit.value else { return Err(SqlError::syntax("FETCH needs a number")) };
        if digits.starts_with('-') {
            return Err(backward());
        }
        match digits.parse() {
            Ok(0) => Err(SqlError::unsupported("FETCH 0")),
            Ok(rows) => Ok(rows),
            Err(_) => Err(SqlError::new("22003", format!("value \"{digits}\" is out of range for type integer"))),
        }
    };
    match direction {
        FetchDirection::Next | FetchDirection::Forward { limit: None } => Ok(1),
        FetchDirection::All | FetchDirection::ForwardAll => Ok(usize::MAX),
        FetchDirection::Count { limit } | FetchDirection::Forward { limit: Some(limit) } => count(limit),
        FetchDirection::Prior | FetchDirection::Backward { .. } | FetchDirection::BackwardAll | FetchDirection::First => Err(backward()),
        FetchDirection::Last | FetchDirection::Absolute { .. } | FetchDirection::Relative { .. } => {
            Err(SqlError::unsupported(format!("FETCH {direction}")))
        }
    }
}
