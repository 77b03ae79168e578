//! The extended protocol: prepared statements and portals.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use pgwire::messages::PgWireBackendMessage as Out;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended, TARGET_TYPE_BYTE_PORTAL,
    TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::EmptyQueryResponse;
use quire_kit::clock;
use quire_sql::{ParamValue, Prepared, Response, Rows, SqlError, TransactionStatus};

use crate::connection::{Connection, Done, Sent, tag_of};
use crate::rows::{Formats, row_description};
use crate::types::{description, parameter_type};
use crate::wire::WireError;
use crate::{copy, params};

/// Portals a session may hold: far more than any driver keeps, and a bound on its memory.
const NAMES_MAX: usize = 100_000;

/// Portals of a connection, by name; the unnamed one is named "". Prepared statements are the session's.
#[derive(Default)]
pub(crate) struct Extended {
    portals: HashMap<String, Portal>,
}

struct Portal {
    /// Its statement; none for an empty query string.
    prepared: Option<Arc<Prepared>>,
    parameters: Vec<ParamValue>,
    formats: Formats,
    progress: Progress,
}

enum Progress {
    /// Not executed yet.
    Bound,
    /// Some of its rows were sent.
    Rows { rows: Rows, pending: Option<(RecordBatch, usize)> },
    /// All its rows were sent: executing it again finds none. The first word of its tag, and whether rows are counted.
    Exhausted(&'static str, bool),
    /// It had no rows, or failed, and cannot be run again.
    Done,
}

impl Extended {
    pub(crate) fn forget_unnamed(&mut self) {
        self.portals.remove("");
    }

    /// Portals end with their transaction.
    pub(crate) fn close_portals(&mut self) {
        self.portals.clear();
    }
}

fn no_portal(name: &str) -> SqlError {
    SqlError::new("34000", format!("portal \"{name}\" does not exist"))
}

impl Connection {
    /// Fails the message; the rest up to Sync is skipped. Portals end with the transaction that has failed.
    pub(crate) fn reject(&mut self, error: &SqlError) {
        self.session.fail();
        self.extended.close_portals();
        self.send_error(error);
        self.skipping = true;
    }

    pub(crate) async fn parse(&mut self, parse: Parse) -> Result<(), WireError> {
        let name = parse.name.unwrap_or_default();
        if let Err(error) = self.session.check_statement_name(&name) {
            self.reject(&error);
            return Ok(());
        }
        let parsed = match self.split(&parse.query) {
            Ok(mut statements) if statements.len() <= 1 => statements.pop(),
            Ok(_) => {
                self.reject(&SqlError::syntax("cannot insert multiple commands into a prepared statement"));
                return Ok(());
            }
            Err(error) => {
                self.reject(&error);
                return Ok(());
            }
        };
        let prepared = match parsed {
            None => None,
            Some(statement) => {
                let summary = statement.summary();
                let began = clock::now();
                let given: Vec<_> = parse.type_oids.iter().map(|oid| parameter_type(*oid)).collect();
                let kept_as = name.clone();
                match self.guarded(|session| async move { session.prepare(&kept_as, statement, &given).await }.boxed()).await? {
                    Ok(prepared) => Some(prepared),
                    Err(error) => {
                        self.log(|| summary, began, 0, Err(&error));
                        self.reject(&error);
                        return Ok(());
                    }
                }
            }
        };
        self.session.keep_statement(name, prepared);
        self.wire.send(Out::ParseComplete(ParseComplete::new()));
        Ok(())
    }

    pub(crate) fn bind(&mut self, bind: Bind) -> Result<(), WireError> {
        match self.portal(&bind) {
            Ok(portal) => {
                self.extended.portals.insert(bind.portal_name.unwrap_or_default(), portal);
                self.wire.send(Out::BindComplete(BindComplete::new()));
            }
            Err(error) => self.reject(&error),
        }
        Ok(())
    }

    fn portal(&self, bind: &Bind) -> Result<Portal, SqlError> {
        let name = bind.portal_name.as_deref().unwrap_or_default();
        if !name.is_empty() && self.extended.portals.contains_key(name) {
            return Err(SqlError::new("42P03", format!("cursor \"{name}\" already exists")));
        }
        if self.extended.portals.len() >= NAMES_MAX {
            return Err(SqlError::new("53400", format!("a session has at most {NAMES_MAX} portals")));
        }
        let prepared = self.session.statement_named(bind.statement_name.as_deref().unwrap_or_default())?;
        let types = prepared.as_ref().map(|p| p.parameters.as_slice()).unwrap_or_default();
        let parameters = params::decode(types, &bind.parameter_format_codes, &bind.parameters, &self.session.home())?;
        let columns = prepared.as_ref().and_then(|p| p.columns.as_ref()).map_or(0, |c| c.len());
        let codes: &[i16] = if columns == 0 { &[] } else { &bind.result_column_format_codes };
        Ok(Portal { formats: Formats::new(codes, columns)?, prepared, parameters, progress: Progress::Bound })
    }

    pub(crate) fn describe(&mut self, describe: &Describe) -> Result<(), WireError> {
        let name = describe.name.clone().unwrap_or_default();
        if !matches!(describe.target_type, TARGET_TYPE_BYTE_STATEMENT | TARGET_TYPE_BYTE_PORTAL) {
            self.reject(&SqlError::new("08P01", format!("invalid DESCRIBE message subtype {}", describe.target_type)));
            return Ok(());
        }
        let described = if describe.target_type == b'S' {
            self.session.statement_named(&name).map(|prepared| (prepared, None))
        } else {
            let portal = self.extended.portals.get(&name).ok_or_else(|| no_portal(&name));
            portal.map(|p| (p.prepared.clone(), Some(p.formats.clone())))
        };
        match described {
            Err(error) => self.reject(&error),
            Ok((prepared, formats)) => {
                if formats.is_none() {
                    let types = prepared.iter().flat_map(|p| p.parameters.iter().map(|t| description(*t).0)).collect();
                    self.wire.send(Out::ParameterDescription(ParameterDescription::new(types)));
                }
                match prepared.as_ref().and_then(|p| p.columns.as_ref()) {
                    Some(columns) => match row_description(columns, formats.as_ref()) {
                        Ok(description) => self.wire.send(Out::RowDescription(description)),
                        Err(error) => self.reject(&error),
                    },
                    None => self.wire.send(Out::NoData(NoData::new())),
                }
            }
        }
        Ok(())
    }

    pub(crate) fn close_target(&mut self, close: &Close) {
        let name = close.name.as_deref().unwrap_or_default();
        match close.target_type {
            TARGET_TYPE_BYTE_STATEMENT => self.session.close_statement(name),
            TARGET_TYPE_BYTE_PORTAL => drop(self.extended.portals.remove(name)),
            other => return self.reject(&SqlError::new("08P01", format!("invalid CLOSE message subtype {other}"))),
        }
        self.wire.send(Out::CloseComplete(CloseComplete::new()));
    }

    pub(crate) async fn execute(&mut self, execute: Execute) -> Result<(), WireError> {
        let name = execute.name.unwrap_or_default();
        // Out of the map while it runs: the session is needed beside it.
        let Some(mut portal) = self.extended.portals.remove(&name) else {
            self.reject(&no_portal(&name));
            return Ok(());
        };
        let (began, sent) = (clock::now(), self.wire.total());
        let began_in_block = self.session.transaction_status() != TransactionStatus::Idle;
        let limit = if execute.max_rows > 0 { execute.max_rows as usize } else { usize::MAX };
        let outcome = self.advance(&mut portal, limit).await?;
        let summary = || portal.prepared.as_ref().map(|p| p.summary()).unwrap_or_default();
        self.log(summary, began, self.wire.total() - sent, outcome.as_ref());
        match outcome {
            Ok(done) => {
                if self.session.transaction_status() == TransactionStatus::Idle {
                    // The pipeline's transaction is over (COMMIT): what follows begins another.
                    self.pipeline = false;
                    if began_in_block {
                        self.extended.close_portals();
                    }
                }
                self.extended.portals.insert(name, portal);
                if let Some(tag) = done.tag {
                    self.send_complete(tag);
                }
            }
            Err(error) => self.reject(&error),
        }
        self.wire.flush_if_full().await
    }

    async fn advance(&mut self, portal: &mut Portal, limit: usize) -> Result<Result<Done, SqlError>, WireError> {
        if matches!(portal.progress, Progress::Bound) {
            let Some(prepared) = portal.prepared.clone() else {
                self.wire.send(Out::EmptyQueryResponse(EmptyQueryResponse::new()));
                return Ok(Ok(Done { tag: None, rows: 0 }));
            };
            // Statements between two Syncs are one transaction. One that is alone needs none, and can then be tried again unseen.
            if !self.pipeline && !self.wire.syncs_next() {
                self.session.begin_implicit();
                self.pipeline = true;
            }
            let parameters = std::mem::take(&mut portal.parameters);
            let ran = self.guarded(|session| async move { session.execute(&prepared, parameters).await }.boxed()).await?;
            portal.progress = Progress::Done;
            match ran {
                Err(error) => return Ok(Err(error)),
                Ok(Response::Rows(rows)) if !same_shape(portal.prepared.as_deref(), &rows) => {
                    return Ok(Err(SqlError::new("0A000", "cached plan must not change result type")));
                }
                Ok(Response::Rows(rows)) => portal.progress = Progress::Rows { rows, pending: None },
                Ok(Response::Complete(tag)) => return Ok(Ok(Done { tag: Some(tag), rows: 0 })),
                Ok(Response::Empty) => {
                    self.wire.send(Out::EmptyQueryResponse(EmptyQueryResponse::new()));
                    return Ok(Ok(Done { tag: None, rows: 0 }));
                }
                Ok(Response::CopyIn(copy)) => return copy::copy_in(self, copy).await,
                Ok(Response::CopyOut(copy)) => return copy::copy_out(self, copy).await,
            }
        }
        let (rows, pending) = match &mut portal.progress {
            Progress::Rows { rows, pending } => (rows, pending),
            Progress::Exhausted(word, counted) => return Ok(Ok(Done { tag: Some(tag_of(word, *counted, 0)), rows: 0 })),
            Progress::Bound | Progress::Done => return Ok(Err(SqlError::new("55000", "portal cannot be run again"))),
        };
        match self.send_rows(rows, pending, &portal.formats, limit).await? {
            // The tag counts the rows of this Execute, as in Postgres.
            Ok(Sent::All(count)) => {
                let (word, counted) = (rows.tag, rows.counted);
                portal.progress = Progress::Exhausted(word, counted);
                Ok(Ok(Done { tag: Some(tag_of(word, counted, count)), rows: count }))
            }
            Ok(Sent::Some(count)) => {
                self.wire.send(Out::PortalSuspended(PortalSuspended::new()));
                Ok(Ok(Done { tag: None, rows: count }))
            }
            Err(error) => Ok(Err(error)),
        }
    }
}

/// The client was told the result's columns, and chose formats for them, when the statement was prepared.
fn same_shape(prepared: Option<&Prepared>, rows: &Rows) -> bool {
    let told = prepared.and_then(|p| p.columns.as_ref()).map(|c| c.as_slice()).unwrap_or_default();
    told.len() == rows.columns.len() && told.iter().zip(rows.columns.iter()).all(|(t, r)| description(t.ty).0 == description(r.ty).0)
}
