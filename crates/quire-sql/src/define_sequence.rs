//! CREATE, ALTER and DROP SEQUENCE, and what becomes of sequences when their owners go.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, ObjectNamePart, Value};
use quire_types::{CatalogChange, ColumnId, Generated, SchemaId, SequenceDef, SqlType, TableDef, TableId};

use crate::alter::{check_free, check_owner, depended_on};
use crate::names::{Resolver, fold, missing_relation, split};
use crate::sequence_options::{SequenceAction, SequenceStatement, parse};
use crate::sequences::{not_a_sequence, sequences_of};
use crate::syntax_sequence::{ALTER_SEQUENCE, CREATE_SEQUENCE};
use crate::txn::Transaction;
use crate::{Response, Session, SqlError};

pub(crate) fn function_name(function: &Function) -> Option<&str> {
    match function.name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => Some(ident.value.as_str()),
        _ => None,
    }
}

/// Whether a CALL stands for a statement on a sequence (see `syntax_sequence`).
pub(crate) fn is_sequence_statement(function: &Function) -> bool {
    matches!(function_name(function), Some(CREATE_SEQUENCE | ALTER_SEQUENCE))
}

fn statement_of(function: &Function) -> Result<SequenceStatement, SqlError> {
    if let FunctionArguments::List(list) = &function.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] = list.args.as_slice()
        && let Value::SingleQuotedString(text) = &value.value
    {
        return parse(text);
    }
    Err(SqlError::syntax("syntax error at or near \"SEQUENCE\""))
}

impl Session {
    pub(crate) fn define_sequence(&mut self, function: &Function, transaction: &mut Transaction) -> Result<Response, SqlError> {
        let statement = statement_of(function)?;
        match function_name(function) {
            Some(CREATE_SEQUENCE) => self.create_sequence(statement, transaction),
            _ => self.alter_sequence(statement, transaction),
        }
    }

    fn create_sequence(&mut self, statement: SequenceStatement, transaction: &mut Transaction) -> Result<Response, SqlError> {
        let done = Response::Complete("CREATE SEQUENCE".into());
        let path = self.search_path();
        let resolver = self.resolver(transaction, &path);
        let (schema, name) = split(&statement.name)?;
        let schema = resolver.target_schema(schema.as_deref())?.id;
        if transaction.catalog().name_taken(schema, &name) {
            if statement.lenient {
                self.notice("NOTICE", "42P07", format!("relation \"{name}\" already exists, skipping"));
                return Ok(done);
            }
            return Err(SqlError::new("42P07", format!("relation \"{name}\" already exists")));
        }
        let mut sequence = statement.options.create(schema, name, SqlType::Int8)?;
        if let Some(Some(owner)) = &statement.options.owned_by {
            sequence.owner = Some(owner_named(owner, schema, &resolver)?);
        }
        transaction.change("CREATE SEQUENCE", CatalogChange::CreateSequence(sequence))?;
        Ok(done)
    }

    fn alter_sequence(&mut self, statement: SequenceStatement, transaction: &mut Transaction) -> Result<Response, SqlError> {
        let done = Response::Complete("ALTER SEQUENCE".into());
        let path = self.search_path();
        let resolver = self.resolver(transaction, &path);
        let Some(old) = resolver.find_sequence(&statement.name)? else {
            if resolver.find_table(&statement.name)?.is_some() || resolver.find_view(&statement.name)?.is_some() {
                return Err(not_a_sequence(&statement.name));
            }
            if statement.lenient {
                let name = split(&statement.name)?.1;
                self.notice("NOTICE", "00000", format!("relation \"{name}\" does not exist, skipping"));
                return Ok(done);
            }
            return Err(missing_relation(&statement.name));
        };
        match &statement.action {
            SequenceAction::Rename(to) => {
                self.rename_sequence(&old, fold(to), transaction)?;
                return Ok(done);
            }
            SequenceAction::SetSchema(schema) => {
                let schema = resolver.target_schema(Some(&fold(schema)))?.id;
                if old.owner.is_some() {
                    return Err(SqlError::new("0A000", "cannot move an owned sequence into another schema"));
                }
                check_free(transaction, schema, &old.name)?;
                self.move_sequence_to(&old, schema, transaction)?;
                return Ok(done);
            }
            SequenceAction::Owner(owner) => {
                check_owner(owner)?;
                return Ok(done);
            }
            SequenceAction::Options => {}
        }
        let mut here = old.as_ref().clone();
        here.position = self.cell.own_sequences().lock().uncommitted(old.id).unwrap_or(old.position);
        let mut sequence = statement.options.alter(&here)?;
        match &statement.options.owned_by {
            None => {}
            Some(None) => sequence.owner = None,
            Some(Some(owner)) => sequence.owner = Some(owner_named(owner, sequence.schema, &resolver)?),
        }
        self.replace_sequence(&old, sequence, transaction)?;
        Ok(done)
    }

    fn replace_sequence(&mut self, old: &SequenceDef, new: SequenceDef, transaction: &mut Transaction) -> Result<(), SqlError> {
        self.cell.own_sequences().lock().defined(old.id);
        transaction.redefine_sequence(old, new)
    }

    pub(crate) fn rename_sequence(&mut self, old: &Arc<SequenceDef>, name: String, transaction: &mut Transaction) -> Result<(), SqlError> {
        check_free(transaction, old.schema, &name)?;
        let here = self.cell.own_sequences().lock().uncommitted(old.id).unwrap_or(old.position);
        let sequence = SequenceDef { name, position: here, epoch: old.epoch + 1, ..old.as_ref().clone() };
        self.replace_sequence(old, sequence, transaction)
    }

    pub(crate) fn move_sequence_to(
        &mut self,
        old: &Arc<SequenceDef>,
        schema: SchemaId,
        transaction: &mut Transaction,
    ) -> Result<(), SqlError> {
        let here = self.cell.own_sequences().lock().uncommitted(old.id).unwrap_or(old.position);
        let sequence = SequenceDef { schema, position: here, epoch: old.epoch + 1, ..old.as_ref().clone() };
        self.replace_sequence(old, sequence, transaction)
    }

    pub(crate) fn drop_sequences(
        &mut self,
        names: &[ObjectName],
        if_exists: bool,
        cascade: bool,
        transaction: &mut Transaction,
    ) -> Result<Response, SqlError> {
        let path = self.search_path();
        let mut sequences: Vec<Arc<SequenceDef>> = vec![];
        for name in names {
            let resolver = self.resolver(transaction, &path);
            let shown = split(name)?.1;
            match resolver.find_sequence(name)? {
                Some(sequence) if sequences.iter().any(|s| s.id == sequence.id) => {}
                Some(sequence) => sequences.push(sequence),
                None => match resolver.find_relation(name)? {
                    Some(other) => return Err(other.not_dropped_as("a sequence", name)),
                    None if if_exists => self.notice("NOTICE", "00000", format!("sequence \"{shown}\" does not exist, skipping")),
                    None => return Err(SqlError::new("42P01", format!("sequence \"{shown}\" does not exist"))),
                },
            }
        }
        let ids: BTreeSet<TableId> = sequences.iter().map(|s| s.id).collect();
        let users = users_of(&ids, transaction);
        for (table, column, sequence, identity) in &users {
            if *identity {
                let what = format!("column {column} of table {}", table.name);
                return Err(SqlError::new("2BP01", format!("cannot drop sequence {sequence} because {what} requires it"))
                    .with_hint(format!("You can drop {what} instead.")));
            }
        }
        if !cascade && !users.is_empty() {
            let lines: Vec<String> = users
                .iter()
                .map(|(table, column, sequence, _)| {
                    format!("default value for column {column} of table {} depends on sequence {sequence}", table.name)
                })
                .collect();
            let what = match sequences.as_slice() {
                [one] => format!("sequence {}", one.name),
                _ => "desired object(s)".to_string(),
            };
            return Err(depended_on(&what, &lines));
        }
        let dropped = drop_defaults(&ids, &BTreeSet::new(), transaction)?;
        for sequence in sequences {
            transaction.change("DROP SEQUENCE", CatalogChange::DropSequence(sequence.id))?;
        }
        self.notice_cascade(&dropped);
        Ok(Response::Complete("DROP SEQUENCE".into()))
    }

    /// Defaults of other tables that need a sequence which goes with its owner: 2BP01, or with CASCADE they go too. Gives what went, described.
    pub(crate) fn drop_foreign_users(
        &mut self,
        owners: &[(TableId, Option<ColumnId>)],
        what: &str,
        cascade: bool,
        transaction: &mut Transaction,
    ) -> Result<Vec<String>, SqlError> {
        let gone: BTreeSet<TableId> = owners.iter().map(|(table, _)| *table).collect();
        let owned = transaction.catalog().sequences.values().filter(|s| s.owner.is_some_and(|(table, _)| gone.contains(&table)));
        let ids: BTreeSet<TableId> = owned.map(|s| s.id).collect();
        let users: Vec<_> = users_of(&ids, transaction).into_iter().filter(|(table, ..)| !gone.contains(&table.id)).collect();
        if !cascade && !users.is_empty() {
            let lines: Vec<String> = users
                .iter()
                .map(|(table, column, sequence, _)| {
                    format!("default value for column {column} of table {} depends on sequence {sequence}", table.name)
                })
                .collect();
            return Err(depended_on(what, &lines));
        }
        drop_defaults(&ids, &gone, transaction)
    }

    /// Drops the sequences that these tables, or a column of one, own.
    pub(crate) fn drop_owned_sequences(
        &mut self,
        owners: &[(TableId, Option<ColumnId>)],
        transaction: &mut Transaction,
    ) -> Result<(), SqlError> {
        let owned = |s: &&Arc<SequenceDef>| {
            s.owner.is_some_and(|(table, column)| owners.iter().any(|(t, c)| *t == table && c.is_none_or(|c| c == column)))
        };
        let ids: Vec<TableId> = transaction.catalog().sequences.values().filter(owned).map(|s| s.id).collect();
        for id in ids {
            transaction.change("DROP TABLE", CatalogChange::DropSequence(id))?;
        }
        Ok(())
    }
}

/// Columns whose values come from any of the sequences: table, column, sequence, and whether it is an identity column.
pub(crate) fn users_of(ids: &BTreeSet<TableId>, transaction: &Transaction) -> Vec<(Arc<TableDef>, String, String, bool)> {
    let catalog = transaction.catalog();
    let name = |id: &TableId| catalog.sequences.get(id).map(|s| s.name.clone()).unwrap_or_default();
    let mut users = vec![];
    for table in catalog.tables.values() {
        for column in &table.columns {
            if let Some(Generated::Identity { sequence, .. }) = &column.generated
                && ids.contains(sequence)
            {
                users.push((table.clone(), column.name.clone(), name(sequence), true));
            }
            let defaults = column.default.as_deref().map(sequences_of).unwrap_or_default();
            if let Some(sequence) = defaults.iter().find(|id| ids.contains(id)) {
                users.push((table.clone(), column.name.clone(), name(sequence), false));
            }
        }
    }
    users
}

/// Takes away the defaults that need any of the sequences, but for tables that go too; which, described.
pub(crate) fn drop_defaults(
    ids: &BTreeSet<TableId>,
    also_dropped: &BTreeSet<TableId>,
    transaction: &mut Transaction,
) -> Result<Vec<String>, SqlError> {
    let mut dropped = vec![];
    let tables: Vec<Arc<TableDef>> = transaction.catalog().tables.values().filter(|t| !also_dropped.contains(&t.id)).cloned().collect();
    for table in tables {
        let mut def = table.as_ref().clone();
        for column in &mut def.columns {
            if column.default.as_deref().is_some_and(|d| sequences_of(d).iter().any(|id| ids.contains(id))) {
                column.default = None;
                dropped.push(format!("default value for column {} of table {}", column.name, table.name));
            }
        }
        if def != *table {
            def.version += 1;
            let ordinals: Vec<Option<u32>> = (0..def.constraints.len() as u32).map(Some).collect();
            transaction.redefine("DROP SEQUENCE", def, &ordinals)?;
        }
    }
    Ok(dropped)
}

/// OWNED BY table.column.
fn owner_named(owner: &ObjectName, schema: SchemaId, resolver: &Resolver<'_>) -> Result<(TableId, ColumnId), SqlError> {
    let mut table = owner.clone();
    let column = match table.0.pop() {
        Some(ObjectNamePart::Identifier(column)) if !table.0.is_empty() => fold(&column),
        _ => {
            return Err(SqlError::syntax("invalid OWNED BY option").with_hint("Specify OWNED BY table.column or OWNED BY NONE."));
        }
    };
    let table = resolver.table(&table)?;
    if table.schema != schema {
        return Err(SqlError::new("55000", "sequence must be in same schema as table it is linked to"));
    }
    let missing = || SqlError::new("42703", format!("column \"{column}\" of relation \"{}\" does not exist", table.name));
    let found = table.columns.iter().find(|c| c.name == column).ok_or_else(missing)?;
    Ok((table.id, found.id))
}
