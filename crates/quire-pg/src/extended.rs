//! The extended protocol: prepared statements and portals.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use pgwire::messages::PgWireBackendMessage as Out;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended};
use pgwire::messages::response::EmptyQueryResponse;
use quire_kit::clock;
use quire_sql::{ParamValue, Prepared, Response, Rows, SqlError};

use crate::connection::{Connection, Done, Sent, tag_of};
use crate::rows::{Formats, row_description};
use crate::types::{description, parameter_type};
use crate::wire::WireError;
use crate::{copy, params};

/// Prepared statements and portals of a connection, by name; the unnamed ones are named "".
#[derive(Default)]
pub(crate) struct Extended {
    statements: HashMap<String, Statement>,
    portals: HashMap<String, Portal>,
}

/// A prepared statement; none in it for an empty query string.
#[derive(Clone)]
struct Statement {
    prepared: Option<Arc<Prepared>>,
    sql: String,
}

struct Portal {
    statement: Statement,
    parameters: Vec<ParamValue>,
    formats: Formats,
    progress: Progress,
}

enum Progress {
    /// Not executed yet.
    Bound,
    /// Some of its rows were sent.
    Rows { rows: Rows, pending: Option<(RecordBatch, usize)>, sent: u64 },
    /// It has run to its end.
    Done,
}

impl Extended {
    pub(crate) fn forget_unnamed(&mut self) {
        self.statements.remove("");
        self.portals.remove("");
    }

    /// Portals end with their transaction.
    pub(crate) fn close_portals(&mut self) {
        self.portals.clear();
    }

    fn statement(&self, name: &str) -> Result<&Statement, SqlError> {
        let missing = || {
            let message = if name.is_empty() { "unnamed prepared statement does not exist".into() } else { format!("prepared statement \"{name}\" does not exist") };
            SqlError::new("26000", message)
        };
        self.statements.get(name).ok_or_else(missing)
    }
}

fn no_portal(name: &str) -> SqlError {
    SqlError::new("34000", format!("portal \"{name}\" does not exist"))
}

impl Connection {
    /// Fails the message; the rest up to Sync is skipped.
    fn reject(&mut self, error: &SqlError) {
        self.session.fail();
        self.send_error(error);
        self.skipping = true;
    }

    pub(crate) async fn parse(&mut self, parse: Parse) -> Result<(), WireError> {
        let name = parse.name.unwrap_or_default();
        if !name.is_empty() && self.extended.statements.contains_key(&name) {
            self.reject(&SqlError::new("42P05", format!("prepared statement \"{name}\" already exists")));
            return Ok(());
        }
        let parsed = match self.session.parse(&parse.query) {
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
                let given: Vec<_> = parse.type_oids.iter().map(|oid| parameter_type(*oid)).collect();
                match self.guarded(|session| async move { session.prepare(statement, &given).await }.boxed()).await? {
                    Ok(prepared) => Some(prepared),
                    Err(error) => {
                        self.reject(&error);
                        return Ok(());
                    }
                }
            }
        };
        self.extended.statements.insert(name, Statement { prepared, sql: parse.query });
        self.wire.send(Out::ParseComplete(ParseComplete));
        Ok(())
    }

    pub(crate) fn bind(&mut self, bind: Bind) -> Result<(), WireError> {
        match self.portal(&bind) {
            Ok(portal) => {
                self.extended.portals.insert(bind.portal_name.unwrap_or_default(), portal);
                self.wire.send(Out::BindComplete(BindComplete));
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
        let statement = self.extended.statement(bind.statement_name.as_deref().unwrap_or_default())?.clone();
        let types = statement.prepared.as_ref().map(|p| p.parameters.as_slice()).unwrap_or_default();
        let parameters = params::decode(types, &bind.parameter_format_codes, &bind.parameters)?;
        let columns = statement.prepared.as_ref().and_then(|p| p.columns.as_ref()).map_or(0, |c| c.len());
        let codes: &[i16] = if columns == 0 { &[] } else { &bind.result_column_format_codes };
        Ok(Portal { formats: Formats::new(codes, columns)?, statement, parameters, progress: Progress::Bound })
    }

    pub(crate) fn describe(&mut self, describe: &Describe) -> Result<(), WireError> {
        let name = describe.name.clone().unwrap_or_default();
        let described = if describe.target_type == b'S' {
            self.extended.statement(&name).map(|s| (s.prepared.clone(), None))
        } else {
            let portal = self.extended.portals.get(&name).ok_or_else(|| no_portal(&name));
            portal.map(|p| (p.statement.prepared.clone(), Some(p.formats.clone())))
        };
        match described {
            Err(error) => self.reject(&error),
            Ok((prepared, formats)) => {
                if formats.is_none() {
                    let types = prepared.iter().flat_map(|p| p.parameters.iter().map(|t| description(*t).0)).collect();
                    self.wire.send(Out::ParameterDescription(ParameterDescription { types }));
                }
                match prepared.as_ref().and_then(|p| p.columns.as_ref()) {
                    Some(columns) => self.wire.send(Out::RowDescription(row_description(columns, formats.as_ref()))),
                    None => self.wire.send(Out::NoData(NoData)),
                }
            }
        }
        Ok(())
    }

    pub(crate) fn close_target(&mut self, close: &Close) {
        let name = close.name.as_deref().unwrap_or_default();
        if close.target_type == b'S' {
            self.extended.statements.remove(name);
        } else {
            self.extended.portals.remove(name);
        }
        self.wire.send(Out::CloseComplete(CloseComplete));
    }

    pub(crate) async fn execute(&mut self, execute: Execute) -> Result<(), WireError> {
        let name = execute.name.unwrap_or_default();
        // Out of the map while it runs: the session is needed beside it.
        let Some(mut portal) = self.extended.portals.remove(&name) else {
            self.reject(&no_portal(&name));
            return Ok(());
        };
        let (began, sent) = (clock::now(), self.wire.sent);
        let limit = if execute.max_rows > 0 { execute.max_rows as usize } else { usize::MAX };
        let outcome = self.advance(&mut portal, limit).await?;
        self.log(&portal.statement.sql, began, self.wire.sent - sent, outcome.as_ref());
        match outcome {
            Ok(_) => {
                self.extended.portals.insert(name, portal);
            }
            Err(error) => self.reject(&error),
        }
        self.wire.flush_if_full().await
    }

    async fn advance(&mut self, portal: &mut Portal, limit: usize) -> Result<Result<Done, SqlError>, WireError> {
        if matches!(portal.progress, Progress::Bound) {
            let Some(prepared) = portal.statement.prepared.clone() else {
                self.wire.send(Out::EmptyQueryResponse(EmptyQueryResponse));
                portal.progress = Progress::Done;
                return Ok(Ok(Done { tag: String::new(), rows: 0 }));
            };
            let parameters = std::mem::take(&mut portal.parameters);
            let ran = self.guarded(|session| async move { session.execute(&prepared, parameters).await }.boxed()).await?;
            portal.progress = Progress::Done;
            match ran {
                Err(error) => return Ok(Err(error)),
                Ok(Response::Rows(rows)) => portal.progress = Progress::Rows { rows, pending: None, sent: 0 },
                Ok(Response::Complete(tag)) => {
                    self.send_complete(tag.clone());
                    return Ok(Ok(Done { tag, rows: 0 }));
                }
                Ok(Response::Empty) => {
                    self.wire.send(Out::EmptyQueryResponse(EmptyQueryResponse));
                    return Ok(Ok(Done { tag: String::new(), rows: 0 }));
                }
                Ok(Response::CopyIn(copy)) => return copy::copy_in(self, *copy).await,
                Ok(Response::CopyOut(copy)) => return copy::copy_out(self, copy).await,
            }
        }
        let Progress::Rows { rows, pending, sent } = &mut portal.progress else {
            return Ok(Err(SqlError::new("55000", "portal cannot be run again")));
        };
        if rows.columns.len() != portal.formats.len() {
            return Ok(Err(SqlError::new("0A000", "cached plan must not change result type")));
        }
        match self.send_rows(rows, pending, &portal.formats, limit).await? {
            Ok(Sent::All(count)) => {
                *sent += count;
                let tag = tag_of(rows, *sent);
                let done = Done { tag: tag.clone(), rows: *sent };
                portal.progress = Progress::Done;
                self.send_complete(tag);
                Ok(Ok(done))
            }
            Ok(Sent::Some(count)) => {
                *sent += count;
                let done = Done { tag: "suspended".into(), rows: count };
                self.wire.send(Out::PortalSuspended(PortalSuspended));
                Ok(Ok(done))
            }
            Err(error) => Ok(Err(error)),
        }
    }
}
