//! SET, RESET, DISCARD, and what of the settings the planner is told.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    ContextModifier, DiscardObject, Expr, Reset, Set, TransactionAccessMode, TransactionIsolationLevel, TransactionMode,
};

use quire_kit::clock;

use crate::names::Resolver;
use crate::session::Block;
use crate::settings::InForce;
use crate::temp::TempObjects;
use crate::txn::Transaction;
use crate::values::Home;
use crate::{Response, Session, SqlError, show};

impl Session {
    pub(crate) fn search_path(&self) -> Arc<[String]> {
        self.settings.lock().search_path()
    }

    /// What of the parameters every statement asks for.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        self.settings.lock().in_force().clone()
    }

    pub(crate) fn resolver<'a>(&self, transaction: &'a Transaction, search_path: &'a [String]) -> Resolver<'a> {
        Resolver { catalog: transaction.catalog(), search_path }
    }

    /// Where and when text that the client sends is read: in its transaction, and outside of one now.
    pub fn home(&self) -> Home<'static> {
        let now = match &self.block {
            Block::Open(transaction) => transaction.began(),
            Block::None => {
                // What SET LOCAL set for the statement before is over, as it is when the next one begins.
                self.settings.lock().end_local();
                clock::wall().as_micros() as i64
            }
            Block::Failed => clock::wall().as_micros() as i64,
        };
        Home::new(self.in_force().time_zone.to_string(), now)
    }

    /// Likewise for the statement under way, whose transaction the block may not have.
    pub(crate) fn statement_home(&self) -> Home<'static> {
        Home::new(self.in_force().time_zone.to_string(), self.cell.transaction_began())
    }

    /// Tells the planner what it needs to know of the settings, when they have changed. Names are resolved before it sees them.
    pub(crate) fn apply_settings(&mut self) {
        let now = self.in_force();
        if self.applied.as_ref().is_some_and(|applied| Arc::ptr_eq(applied, &now)) {
            return;
        }
        let state = self.context.state_ref();
        let mut state = state.write();
        let options = state.config_mut().options_mut();
        options.execution.time_zone = Some(now.time_zone.to_string());
        options.extensions.insert(now.optimizer.clone());
        options.execution.target_partitions = now.target_partitions.unwrap_or(self.engine.target_partitions);
        drop(state);
        self.applied = Some(now);
    }

    pub(crate) fn set(&mut self, set: Set) -> Result<Response, SqlError> {
        match set {
            Set::SingleAssignment { scope, variable, values, .. } => {
                let name = variable.to_string().to_lowercase();
                let texts: Vec<String> = values.iter().map(show::setting_text).collect();
                self.assign(&name, &texts.join(", "), scope == Some(ContextModifier::Local))?;
            }
            Set::SetTimeZone { local, value } => {
                let value = match &value {
                    // INTERVAL '-08:00' HOUR TO MINUTE
                    Expr::Interval(interval) => show::setting_text(&interval.value).replace(":00", ""),
                    value => show::setting_text(value),
                };
                let value = if value.eq_ignore_ascii_case("local") { "default".to_string() } else { value };
                self.assign("timezone", &value, local)?;
            }
            Set::SetNames { charset_name, .. } => self.assign("client_encoding", &charset_name.value, false)?,
            Set::SetNamesDefault {} => self.assign("client_encoding", "default", false)?,
            Set::SetTransaction { modes, session, .. } => {
                if session {
                    for mode in &modes {
                        match mode {
                            TransactionMode::IsolationLevel(level) => {
                                self.assign("default_transaction_isolation", &level.to_string().to_lowercase(), false)?;
                            }
                            TransactionMode::AccessMode(mode) => {
                                let on = if *mode == TransactionAccessMode::ReadOnly { "on" } else { "off" };
                                self.assign("default_transaction_read_only", on, false)?;
                            }
                        }
                    }
                } else {
                    self.set_modes(&modes)?;
                }
            }
            Set::SetRole { role_name, .. } => match role_name {
                Some(role) if role.value != self.options.user => {
                    return Err(SqlError::new("22023", format!("role \"{}\" does not exist", role.value)));
                }
                _ => {}
            },
            other => return Err(SqlError::unsupported(format!("SET {other}"))),
        }
        self.apply_settings();
        Ok(Response::Complete("SET".into()))
    }

    /// SET [LOCAL] name = value.
    fn assign(&mut self, name: &str, value: &str, local: bool) -> Result<(), SqlError> {
        let in_block = matches!(self.block, Block::Open(_));
        if local && !in_block {
            self.notice("WARNING", "25P01", "SET LOCAL can only be used in transaction blocks");
            return Ok(());
        }
        let default = value.eq_ignore_ascii_case("default");
        if in_block && !default && matches!(name, "transaction_isolation" | "transaction_read_only") {
            // Checks the value; it is the transaction's, not the session's.
            self.settings.lock().clone().set(name, value)?;
            return self.set_modes(&[transaction_mode(name, value)]);
        }
        let mut settings = self.settings.lock();
        match (default, local) {
            (true, true) => {
                let value = settings.default_of(name)?;
                settings.set_local(name, &value)
            }
            (true, false) => settings.reset(Some(name)),
            (false, true) => settings.set_local(name, value),
            (false, false) => settings.set(name, value),
        }
    }

    pub(crate) fn reset(&mut self, reset: &Reset) -> Result<Response, SqlError> {
        match reset {
            Reset::ALL => self.settings.lock().reset(None)?,
            Reset::ConfigurationParameter(name) => self.settings.lock().reset(Some(&name.to_string()))?,
        }
        self.apply_settings();
        Ok(Response::Complete("RESET".into()))
    }

    /// DISCARD ALL: the session as it was when it began.
    pub(crate) fn discard(&mut self, what: &DiscardObject) -> Result<Response, SqlError> {
        if matches!(what, DiscardObject::ALL) {
            if !matches!(self.block, Block::None) {
                return Err(SqlError::new("25001", "DISCARD ALL cannot run inside a transaction block"));
            }
            self.statements.clear();
            self.cursors.clear();
            self.settings.lock().reset(None)?;
            self.apply_settings();
        }
        if matches!(what, DiscardObject::ALL | DiscardObject::SEQUENCES) {
            self.cell.own_sequences().lock().discard();
        }
        if matches!(what, DiscardObject::ALL | DiscardObject::TEMP) {
            match &mut self.block {
                Block::Open(transaction) => transaction.discard_temp(),
                Block::None | Block::Failed => self.temp = TempObjects::default(),
            }
        }
        if matches!(what, DiscardObject::ALL | DiscardObject::PLANS) {
            self.plans.clear();
        }
        Ok(Response::Complete(format!("DISCARD {what}")))
    }
}

fn transaction_mode(name: &str, value: &str) -> TransactionMode {
    if name == "transaction_read_only" {
        let on = matches!(value.to_lowercase().as_str(), "on" | "true" | "yes" | "1" | "t" | "y");
        return TransactionMode::AccessMode(if on { TransactionAccessMode::ReadOnly } else { TransactionAccessMode::ReadWrite });
    }
    TransactionMode::IsolationLevel(match value.to_lowercase().as_str() {
        "serializable" => TransactionIsolationLevel::Serializable,
        "repeatable read" => TransactionIsolationLevel::RepeatableRead,
        "read uncommitted" => TransactionIsolationLevel::ReadUncommitted,
        _ => TransactionIsolationLevel::ReadCommitted,
    })
}
