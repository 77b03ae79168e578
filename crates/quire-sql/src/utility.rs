//! Small statements: LOCK TABLE, VACUUM.

use datafusion::sql::sqlparser::ast::{Lock, LockTableMode, ObjectName};

use crate::names::{Resolver, missing_relation};
use crate::txn::Transaction;
use crate::{Response, Session, SqlError};

impl Session {
    /// LOCK TABLE. A snapshot keeps a reader's rows as they are, so the readers' locks hold by themselves; the writers' would promise
    /// that others wait, and here the first to commit wins.
    pub(crate) fn lock_tables(&mut self, lock: &Lock, transaction: &Transaction) -> Result<Response, SqlError> {
        let path = self.search_path();
        let resolver = self.resolver(transaction, &path);
        for target in &lock.tables {
            if resolver.find_table(&target.name)?.is_none() && resolver.find_view(&target.name)?.is_none() {
                return Err(missing_relation(&target.name));
            }
        }
        match lock.lock_mode {
            Some(LockTableMode::AccessShare | LockTableMode::RowShare) => Ok(Response::Complete("LOCK TABLE".into())),
            _ => Err(SqlError::unsupported("LOCK TABLE in a mode other than ACCESS SHARE and ROW SHARE")
                .with_hint("Transactions that write the same rows or keys conflict at COMMIT; retry the one that fails.")),
        }
    }

    /// Storage compacts by itself: names are checked.
    pub(crate) fn vacuum(&mut self, table: Option<&ObjectName>) -> Result<Response, SqlError> {
        self.check_relation(table)?;
        Ok(Response::Complete("VACUUM".into()))
    }

    /// 42P01 for a relation that is named and not there.
    pub(crate) fn check_relation(&self, name: Option<&ObjectName>) -> Result<(), SqlError> {
        let Some(name) = name else { return Ok(()) };
        let path = self.search_path();
        let catalog = self.cell.get().catalog;
        let resolver = Resolver { catalog: &catalog, search_path: &path };
        if resolver.find_table(name)?.is_none() {
            return Err(missing_relation(name));
        }
        Ok(())
    }
}
