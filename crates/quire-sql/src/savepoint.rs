//! Savepoints: a block's state as it was, to go back to.
//!
//! A savepoint is a copy of the transaction, so that going back is forgetting: nothing of a transaction is anywhere else before it commits
//! (segments that it uploaded in between stay as orphans). Rows are shared between the copies.

use std::sync::{Arc, Weak};

use datafusion::sql::sqlparser::ast::Ident;
use quire_types::Isolation;

use crate::cursor::CursorRows;
use crate::names::fold;
use crate::session::Block;
use crate::settings::Settings;
use crate::txn::Transaction;
use crate::{Response, Session, SqlError};

/// Savepoints in one block. Drivers that set one before every statement keep them all: far more statements than a block should have.
const SAVEPOINTS_MAX: usize = 65_536;

/// A place in a block to go back to.
pub(crate) struct Savepoint {
    name: String,
    transaction: Transaction,
    settings: Settings,
    /// The cursors that were open. Those that were closed since stay so.
    cursors: Vec<(String, Weak<CursorRows>)>,
}

impl Session {
    /// SAVEPOINT name. An older one of the same name is hidden until this one is released.
    pub(crate) async fn savepoint(&mut self, name: &Ident) -> Result<Response, SqlError> {
        self.in_explicit_block("SAVEPOINT")?;
        let Block::Open(transaction) = &self.block else { return Err(SqlError::aborted_block()) };
        if self.savepoints.len() >= SAVEPOINTS_MAX {
            return Err(SqlError::new("53400", format!("a transaction block has at most {SAVEPOINTS_MAX} savepoints")));
        }
        let mut transaction = transaction.as_ref().clone();
        if transaction.isolation != Isolation::ReadCommitted && !transaction.queried {
            // Going back must not take the one snapshot back with it.
            transaction.refresh(self.snapshot().await?)?;
        }
        transaction.queried = true;
        self.block = Block::Open(Box::new(transaction.clone()));
        let cursors = self.cursors.iter().map(|(name, cursor)| (name.clone(), Arc::downgrade(&cursor.rows))).collect();
        let settings = self.settings.lock().clone();
        self.savepoints.push(Savepoint { name: fold(name), transaction, settings, cursors });
        Ok(Response::Complete("SAVEPOINT".into()))
    }

    /// RELEASE name: it and those after it are forgotten, what was done since stays.
    pub(crate) fn release(&mut self, name: &Ident) -> Result<Response, SqlError> {
        self.in_explicit_block("RELEASE SAVEPOINT")?;
        let at = self.savepoint_named(name)?;
        self.savepoints.truncate(at);
        Ok(Response::Complete("RELEASE".into()))
    }

    /// ROLLBACK TO name: the block as it was, also when it has failed since. The savepoint stays.
    pub(crate) fn rollback_to(&mut self, name: &Ident) -> Result<Response, SqlError> {
        self.in_explicit_block("ROLLBACK TO SAVEPOINT")?;
        let at = self.savepoint_named(name)?;
        self.savepoints.truncate(at + 1);
        let Savepoint { transaction, settings, cursors, .. } = &self.savepoints[at];
        self.block = Block::Open(Box::new(transaction.clone()));
        self.settings.lock().restore(settings.clone());
        self.cursors
            .retain(|name, cursor| cursors.iter().any(|(n, rows)| n == name && std::ptr::eq(rows.as_ptr(), Arc::as_ptr(&cursor.rows))));
        self.apply_settings();
        Ok(Response::Complete("ROLLBACK".into()))
    }

    /// 25P01 outside a block, and where only a query string of several statements makes one.
    fn in_explicit_block(&self, what: &str) -> Result<(), SqlError> {
        if self.implicit || matches!(self.block, Block::None) {
            return Err(SqlError::new("25P01", format!("{what} can only be used in transaction blocks")));
        }
        Ok(())
    }

    fn savepoint_named(&self, name: &Ident) -> Result<usize, SqlError> {
        let name = fold(name);
        let found = self.savepoints.iter().rposition(|savepoint| savepoint.name == name);
        found.ok_or_else(|| SqlError::new("3B001", format!("savepoint \"{name}\" does not exist")))
    }
}
