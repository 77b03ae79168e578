//! DEFERRABLE constraints: what is checked at the end of the transaction, and SET CONSTRAINTS.
//!
//! For a foreign key a statement leaves the keys that its new rows point at, and those that it took away. At the end only those count that
//! are missing then and that a row points at then: what the transaction has put right in between is right. For a unique key it leaves the
//! keys of its new rows, of which none may then be of two rows. They are claimed for the commit then, as others are by the statement: no
//! other transaction has the key of a row that this one has seen alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dialect::PgDialect;
use arrow::array::BooleanArray;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, Value};
use datafusion::sql::sqlparser::parser::Parser;
use quire_types::{Catalog, ConstraintDef, ConstraintKind, Deferrable, TableDef, TableId};

use crate::define_sequence::function_name;
use crate::errors::parser_error;
use crate::foreign_keys::{distinct, parent_key, points_nowhere};
use crate::keys::{KeyRows, UniqueKey, arrow_error};
use crate::names::split;
use crate::syntax_sequence::SET_CONSTRAINTS;
use crate::temp::TEMP_SCHEMA;
use crate::txn::Transaction;
use crate::{Response, Session, SqlError};

/// A constraint: its table and name.
type Key = (TableId, String);

/// What waits for the end of a transaction.
#[derive(Clone, Default)]
pub(crate) struct Deferred {
    /// SET CONSTRAINTS ALL: whether they are deferred.
    all: Option<bool>,
    /// SET CONSTRAINTS name, since then.
    named: BTreeMap<Key, bool>,
    waiting: BTreeMap<Key, Waiting>,
}

/// What a constraint will have to look at: keys, in the order of its columns.
#[derive(Clone, Default)]
struct Waiting {
    /// New rows point at them.
    pointed: Vec<RecordBatch>,
    /// They were taken away.
    gone: Vec<RecordBatch>,
    /// New rows have them.
    added: Vec<RecordBatch>,
}

impl Deferred {
    /// Whether a constraint is checked at the end of the transaction.
    pub(crate) fn is_deferred(&self, table: TableId, constraint: &ConstraintDef) -> bool {
        if constraint.deferrable == Deferrable::Not {
            return false;
        }
        let said = self.named.get(&(table, constraint.name.clone())).copied().or(self.all);
        said.unwrap_or(constraint.deferrable == Deferrable::InitiallyDeferred)
    }

    /// New rows of the table point at keys.
    pub(crate) fn pointed(&mut self, table: TableId, name: &str, keys: Vec<RecordBatch>) {
        self.waiting.entry((table, name.to_string())).or_default().pointed.extend(keys);
    }

    /// Keys that rows of the table may point at are gone.
    pub(crate) fn gone(&mut self, table: TableId, name: &str, keys: RecordBatch) {
        self.waiting.entry((table, name.to_string())).or_default().gone.push(keys);
    }

    /// New rows of the table have keys.
    pub(crate) fn added(&mut self, table: TableId, name: &str, keys: Vec<RecordBatch>) {
        self.waiting.entry((table, name.to_string())).or_default().added.extend(keys);
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A constraint has another name from now on.
    pub(crate) fn renamed(&mut self, table: TableId, old: &str, new: &str) {
        let (old, new) = ((table, old.to_string()), (table, new.to_string()));
        if let Some(waiting) = self.waiting.remove(&old) {
            self.waiting.insert(new.clone(), waiting);
        }
        if let Some(deferred) = self.named.remove(&old) {
            self.named.insert(new, deferred);
        }
    }

    fn set(&mut self, keys: Option<&[Key]>, deferred: bool) {
        match keys {
            None => {
                self.all = Some(deferred);
                self.named.clear();
            }
            Some(keys) => self.named.extend(keys.iter().map(|key| (key.clone(), deferred))),
        }
    }

    fn take(&mut self, keys: Option<&[Key]>) -> BTreeMap<Key, Waiting> {
        match keys {
            None => std::mem::take(&mut self.waiting),
            Some(keys) => keys.iter().filter_map(|key| self.waiting.remove_entry(key)).collect(),
        }
    }
}

impl Session {
    /// Does the checks that have waited: of all constraints, or of these.
    pub(crate) async fn check_deferred(&mut self, keys: Option<&[Key]>, transaction: &mut Transaction) -> Result<(), SqlError> {
        for ((table, name), waiting) in transaction.deferred.take(keys) {
            // What has been dropped since asks for nothing.
            let Some(child) = transaction.catalog().tables.get(&table).cloned() else { continue };
            let Some(constraint) = child.constraints.iter().find(|c| c.name == name) else { continue };
            if constraint.kind.unique_columns().is_some() {
                self.check_distinct(&child, &name, &waiting.added, transaction).await?;
                continue;
            }
            let ConstraintKind::ForeignKey { columns, references, referenced, .. } = &constraint.kind else { continue };
            let parent = self.referenced_table(*references, transaction)?;
            for (keys, gone) in [(waiting.pointed, false), (waiting.gone, true)] {
                let Some(first) = keys.first() else { continue };
                let keys = distinct(&concat_batches(&first.schema(), &keys).map_err(arrow_error)?)?;
                let (key, wanted) = parent_key(&parent, referenced, &keys)?;
                let there = self.present(&parent, &key, &wanted, transaction).await?;
                let missing: BooleanArray = there.iter().map(|there| Some(!there)).collect();
                let missing = filter_record_batch(&keys, &missing).map_err(arrow_error)?;
                if gone && missing.num_rows() > 0 {
                    self.refuse_referenced((&parent, referenced), &missing, (&child, &name), transaction).await?;
                }
                if !gone {
                    if missing.num_rows() > 0
                        && let Some(row) = self.pointing_row(&child, columns, &missing, transaction).await?
                    {
                        return Err(points_nowhere((&child, columns, &name), &parent, &row)?);
                    }
                    transaction.write("INSERT", parent.id, parent.version)?.read_keys(&key, &wanted)?;
                }
            }
        }
        Ok(())
    }

    /// Before a table's definition changes, nothing of it may wait: keys have the types of its columns. 55006; but for a unique key only when
    /// two rows have the same now, as Postgres waits for no other.
    pub(crate) async fn check_settled(&mut self, table: &Arc<TableDef>, transaction: &mut Transaction) -> Result<(), SqlError> {
        let pending = || SqlError::new("55006", format!("cannot ALTER TABLE \"{}\" because it has pending trigger events", table.name));
        for constraint in &table.constraints {
            let key = (table.id, constraint.name.clone());
            let Some(waiting) = transaction.deferred.waiting.remove(&key) else { continue };
            if constraint.kind.unique_columns().is_none() {
                return Err(pending());
            }
            match self.check_distinct(table, &constraint.name, &waiting.added, transaction).await {
                Err(error) if error.code == "23505" => return Err(pending()),
                checked => checked?,
            }
        }
        Ok(())
    }

    /// No two rows have one of the keys that new rows have; 23505.
    async fn check_distinct(
        &mut self,
        table: &Arc<TableDef>,
        name: &str,
        keys: &[RecordBatch],
        transaction: &mut Transaction,
    ) -> Result<(), SqlError> {
        let Some(key) = UniqueKey::of(table)?.into_iter().find(|key| key.name == name) else { return Ok(()) };
        let Some(first) = keys.first() else { return Ok(()) };
        let keys = key.distinct(&concat_batches(&first.schema(), keys).map_err(arrow_error)?)?;
        let counts = key.counted(&keys, &KeyRows::of(table, transaction), self.engine.source.as_ref(), 2).await?;
        if let Some(row) = counts.iter().position(|count| *count > 1) {
            if let Some(reads) = transaction.scope().reads_of(table.id) {
                // The transaction may go on from a savepoint, and knows now that a row has the key.
                reads.note_whole();
            }
            return Err(key.violation(table, key.describe(table, &keys, row)));
        }
        if table.schema == TEMP_SCHEMA {
            return Ok(());
        }
        transaction.write("INSERT", table.id, table.version)?.claim_keys(&key, &keys)
    }

    /// SET CONSTRAINTS … DEFERRED, or IMMEDIATE, which makes up for the checks.
    pub(crate) async fn set_constraints(&mut self, function: &Function, transaction: &mut Transaction) -> Result<Response, SqlError> {
        let (names, deferred) = asked(function)?;
        let keys = match names {
            None => None,
            Some(names) => {
                let path = self.search_path();
                let mut keys = vec![];
                for name in &names {
                    keys.extend(constraints_named(transaction.catalog(), &path, name)?);
                }
                Some(keys)
            }
        };
        transaction.deferred.set(keys.as_deref(), deferred);
        if !deferred {
            Box::pin(self.check_deferred(keys.as_deref(), transaction)).await?;
        }
        Ok(Response::Complete("SET CONSTRAINTS".into()))
    }
}

/// Whether a CALL stands for SET CONSTRAINTS (see `syntax_sequence`).
pub(crate) fn is_set_constraints(function: &Function) -> bool {
    function_name(function) == Some(SET_CONSTRAINTS)
}

/// The names (`None` for ALL), and whether they are to be deferred.
fn asked(function: &Function) -> Result<(Option<Vec<ObjectName>>, bool), SqlError> {
    let syntax = || SqlError::syntax("syntax error at or near \"CONSTRAINTS\"");
    let FunctionArguments::List(list) = &function.args else { return Err(syntax()) };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] = list.args.as_slice() else { return Err(syntax()) };
    let Value::SingleQuotedString(text) = &value.value else { return Err(syntax()) };
    let (list, mode) = text.rsplit_once(' ').ok_or_else(syntax)?;
    let deferred = mode.eq_ignore_ascii_case("deferred");
    if list.eq_ignore_ascii_case("all") {
        return Ok((None, deferred));
    }
    let mut parser = Parser::new(&PgDialect).try_with_sql(list).map_err(|e| parser_error(&e, list))?;
    let names = parser.parse_comma_separated(|parser| parser.parse_object_name(false)).map_err(|e| parser_error(&e, list))?;
    Ok((Some(names), deferred))
}

/// The constraints of that name in the first schema that has some.
fn constraints_named(catalog: &Catalog, path: &[String], name: &ObjectName) -> Result<Vec<Key>, SqlError> {
    let (schema, name) = split(name)?;
    let schemas = match schema {
        Some(schema) => vec![schema],
        None => catalog.schemas.get(&TEMP_SCHEMA).map(|temp| temp.name.clone()).into_iter().chain(path.iter().cloned()).collect(),
    };
    for schema in schemas.iter().filter_map(|schema| catalog.schema_by_name(schema)) {
        let mut found = vec![];
        for table in catalog.tables.values().filter(|table| table.schema == schema.id) {
            let Some(constraint) = table.constraints.iter().find(|c| c.is_constraint() && c.name == name) else { continue };
            if constraint.deferrable == Deferrable::Not {
                return Err(SqlError::new("42809", format!("constraint \"{name}\" is not deferrable")));
            }
            found.push((table.id, name.clone()));
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(SqlError::new("42704", format!("constraint \"{name}\" does not exist")))
}
