//! ALTER TABLE: which action does what, and how the result is put into the catalog.
//!
//! Most actions change the definition and nothing else: columns are matched by id, and one that came later reads as its default of
//! then in rows that were stored before. A constraint is checked against the rows of the snapshot, and the commit asserts that none was
//! written since. Only a change of type that changes values, and a default that is not one value, write the rows again.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, DropBehavior, GeneratedAs, Ident, ObjectName, Owner, RenameTableNameKind,
};
use quire_types::{CatalogChange, ColumnId, ConstraintKind, Generated, SchemaId, TableDef, TableId};

use crate::alteration::Alteration;
use crate::define_index::rename_index;
use crate::depend;
use crate::engine::SUPERUSER;
use crate::names::{Relation, Resolver, fold, missing_relation, relation_exists, split};
use crate::sequence_options::SequenceOptions;
use crate::syntax_sequence::SET_SCHEMA;
use crate::table_builder::NewTable;
use crate::txn::Transaction;
use crate::{Response, Session, SqlError};

impl Session {
    pub(crate) async fn alter_table(&mut self, alter: AlterTable, transaction: &mut Transaction) -> Result<Response, SqlError> {
        let done = Response::Complete("ALTER TABLE".into());
        let path = self.search_path();
        let catalog = transaction.catalog().clone();
        let resolver = Resolver { catalog: &catalog, search_path: &path };
        let Some(table) = resolver.find_table(&alter.name)? else {
            if self.rename_other(&alter, &resolver, transaction)? {
                return Ok(done);
            }
            if alter.if_exists {
                let name = split(&alter.name)?.1;
                self.notice("NOTICE", "00000", format!("relation \"{name}\" does not exist, skipping"));
                return Ok(done);
            }
            return Err(missing_relation(&alter.name));
        };
        let mut alteration = Alteration::new(table, &resolver);
        let mut operations = alter.operations;
        operations.sort_by_key(pass);
        for operation in operations {
            self.alter_step(&mut alteration, operation, transaction).await?;
        }
        self.carry_out(alteration, transaction).await?;
        Ok(done)
    }

    /// ALTER TABLE renames views, sequences and indexes too.
    fn rename_other(&mut self, alter: &AlterTable, resolver: &Resolver<'_>, transaction: &mut Transaction) -> Result<bool, SqlError> {
        let Some(other) = resolver.find_relation(&alter.name)? else { return Ok(false) };
        let [AlterTableOperation::RenameTable { table_name: RenameTableNameKind::To(to) }] = alter.operations.as_slice() else {
            let message = format!("ALTER action cannot be performed on relation \"{}\"", split(&alter.name)?.1);
            let detail = format!("This operation is not supported for {}.", other.kind().1);
            return Err(SqlError::new("42809", message).with_detail(detail));
        };
        let name = split(to)?.1;
        match other {
            Relation::Table(_) => return Ok(false),
            Relation::View(view) => {
                check_free(transaction, view.schema, &name)?;
                let renamed = quire_types::ViewDef { name, ..view.as_ref().clone() };
                let comments = transaction.catalog().comments_on(view.id).map(|(target, text)| (target.clone(), text.clone())).collect();
                transaction.change("ALTER TABLE", CatalogChange::DropView(view.id))?;
                transaction.change("ALTER TABLE", CatalogChange::CreateView { view: renamed, replace: false })?;
                transaction.say_again("ALTER TABLE", comments)?;
            }
            Relation::Sequence(sequence) => self.rename_sequence(&sequence, name, transaction)?,
            Relation::Index(table, ordinal) => rename_index(&table, ordinal, name, transaction)?,
        }
        Ok(true)
    }

    async fn alter_step(
        &mut self,
        alteration: &mut Alteration<'_>,
        operation: AlterTableOperation,
        transaction: &mut Transaction,
    ) -> Result<(), SqlError> {
        match operation {
            AlterTableOperation::RenameTable { table_name: RenameTableNameKind::To(to) } => {
                let name = split(&to)?.1;
                check_free(transaction, alteration.def().schema, &name)?;
                alteration.builder.def.name = name;
            }
            AlterTableOperation::SwapWith { table_name } => {
                let (marker, schema) = split(&table_name)?;
                if marker.as_deref() != Some(SET_SCHEMA) {
                    return Err(SqlError::syntax("syntax error at or near \"SWAP\""));
                }
                self.set_schema(alteration, &schema, transaction)?;
            }
            AlterTableOperation::OwnerTo { new_owner } => check_owner(&new_owner)?,
            AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
                alteration.rename_column(&old_column_name, &new_column_name)?;
            }
            AlterTableOperation::RenameConstraint { old_name, new_name } => alteration.rename_constraint(&old_name, &new_name)?,
            AlterTableOperation::AddColumn { if_not_exists, column_def, .. } => {
                let name = fold(&column_def.name);
                if if_not_exists && alteration.def().column_index(&name).is_some() {
                    let table = &alteration.def().name;
                    let message = format!("column \"{name}\" of relation \"{table}\" already exists, skipping");
                    self.notice("NOTICE", "42701", message);
                    return Ok(());
                }
                let id = alteration.add_column(&column_def)?;
                self.fill_added(alteration, id).await?;
            }
            AlterTableOperation::DropColumn { column_names, if_exists, drop_behavior, .. } => {
                for name in &column_names {
                    self.drop_column(alteration, name, if_exists, is_cascade(drop_behavior), transaction).await?;
                }
            }
            AlterTableOperation::AlterColumn { column_name, op } => self.alter_column(alteration, &column_name, op, transaction).await?,
            AlterTableOperation::AddConstraint { constraint, not_valid } => {
                if not_valid {
                    return Err(SqlError::unsupported("ADD CONSTRAINT … NOT VALID"));
                }
                alteration.builder.constraint(&constraint)?;
                alteration.note_constraints();
            }
            AlterTableOperation::DropConstraint { if_exists, name, drop_behavior } => {
                self.drop_constraint(alteration, &name, if_exists, is_cascade(drop_behavior), transaction)?;
            }
            // Storage has no parameters, and no triggers are there to be switched.
            AlterTableOperation::SetOptionsParens { .. }
            | AlterTableOperation::ReplicaIdentity { .. }
            | AlterTableOperation::DisableTrigger { .. }
            | AlterTableOperation::EnableTrigger { .. } => {}
            AlterTableOperation::ValidateConstraint { name } => {
                let name = fold(&name);
                if !alteration.def().constraints.iter().any(|c| c.is_constraint() && c.name == name) {
                    let message = format!("constraint \"{name}\" of relation \"{}\" does not exist", alteration.def().name);
                    return Err(SqlError::new("42704", message));
                }
            }
            other => return Err(SqlError::unsupported(format!("ALTER TABLE … {other}"))),
        }
        Ok(())
    }

    async fn alter_column(
        &mut self,
        alteration: &mut Alteration<'_>,
        column: &Ident,
        operation: AlterColumnOperation,
        transaction: &mut Transaction,
    ) -> Result<(), SqlError> {
        match operation {
            AlterColumnOperation::SetNotNull => alteration.set_not_null(column),
            AlterColumnOperation::DropNotNull => alteration.drop_not_null(column),
            AlterColumnOperation::SetDefault { value } => alteration.set_default(column, Some(&value)),
            AlterColumnOperation::DropDefault => alteration.set_default(column, None),
            AlterColumnOperation::SetDataType { data_type, using, .. } => {
                let found = alteration.column(column)?.clone();
                if let Some(view) = self.views_using(alteration, found.id, transaction).await?.first() {
                    let described = format!("rule _RETURN on view {} depends on column \"{}\"", view.name, found.name);
                    return Err(SqlError::new("0A000", "cannot alter type of a column used by a view or rule").with_detail(described));
                }
                if matches!(found.generated, Some(Generated::Stored(_))) {
                    return Err(SqlError::unsupported("ALTER TYPE of a generated column"));
                }
                alteration.set_type(column, &data_type, using)
            }
            AlterColumnOperation::AddGenerated { generated_as, sequence_options } => {
                let found = alteration.column(column)?.clone();
                if found.generated.is_some() {
                    let message =
                        format!("column \"{}\" of relation \"{}\" is already an identity column", found.name, alteration.def().name);
                    return Err(SqlError::new("55000", message));
                }
                if found.default.is_some() {
                    let message =
                        format!("column \"{}\" of relation \"{}\" already has a default value", found.name, alteration.def().name);
                    return Err(SqlError::new("55000", message));
                }
                if found.nullable {
                    let message = format!(
                        "column \"{}\" of relation \"{}\" must be declared NOT NULL before identity can be added",
                        found.name,
                        alteration.def().name
                    );
                    return Err(SqlError::new("55000", message));
                }
                let options = SequenceOptions::of_ast(&sequence_options.unwrap_or_default())?;
                alteration.builder.identity(found.id, matches!(generated_as, Some(GeneratedAs::Always)), options)
            }
        }
    }

    fn set_schema(&mut self, alteration: &mut Alteration<'_>, schema: &str, transaction: &mut Transaction) -> Result<(), SqlError> {
        let path = self.search_path();
        let schema = self.resolver(transaction, &path).target_schema(Some(schema))?;
        let def = &mut alteration.builder.def;
        if schema.id == def.schema {
            return Ok(());
        }
        let names = std::iter::once(def.name.as_str()).chain(def.indexes().map(|(_, index, _)| index));
        for name in names {
            if transaction.catalog().name_taken(schema.id, name) {
                let message = format!("relation \"{name}\" already exists in schema \"{}\"", schema.name);
                return Err(SqlError::new("42P07", message));
            }
        }
        def.schema = schema.id;
        let owned: Vec<_> =
            transaction.catalog().sequences.values().filter(|s| s.owner.is_some_and(|(table, _)| table == def.id)).cloned().collect();
        for sequence in owned {
            self.move_sequence_to(&sequence, schema.id, transaction)?;
        }
        Ok(())
    }

    async fn drop_column(
        &mut self,
        alteration: &mut Alteration<'_>,
        name: &Ident,
        if_exists: bool,
        cascade: bool,
        transaction: &mut Transaction,
    ) -> Result<(), SqlError> {
        let (table, shown) = (alteration.def().name.clone(), fold(name));
        if if_exists && alteration.def().column_index(&shown).is_none() {
            self.notice("NOTICE", "00000", format!("column \"{shown}\" of relation \"{table}\" does not exist, skipping"));
            return Ok(());
        }
        let column = alteration.column(name)?.clone();
        let what = format!("column {} of table {table}", column.name);
        let views = self.views_using(alteration, column.id, transaction).await?;
        let keys = foreign_keys_over(transaction, alteration.def(), &[column.id]);
        let mut lines: Vec<String> =
            keys.iter().map(|(other, key)| format!("constraint {key} on table {} depends on {what}", other.name)).collect();
        lines.extend(views.iter().map(|view| format!("view {} depends on {what}", view.name)));
        if !cascade && !lines.is_empty() {
            return Err(depended_on(&what, &lines));
        }
        let mut dropped = drop_foreign_keys(&keys, transaction)?;
        let ids: BTreeSet<_> = views.iter().map(|v| v.id).collect();
        if !ids.is_empty() {
            let path = self.search_path();
            let described: Vec<String> = ids.iter().map(|id| depend::described(transaction.catalog(), &path, *id)).collect();
            let further = self.drop_dependent_views(&ids, &what, true, transaction)?;
            for id in ids {
                transaction.change("ALTER TABLE", CatalogChange::DropView(id))?;
            }
            dropped.extend(described.into_iter().chain(further));
        }
        self.notice_cascade(&dropped);
        alteration.drop_column(column.id)?;
        self.drop_owned_sequences(&[(alteration.old.id, Some(column.id))], transaction)
    }

    fn drop_constraint(
        &mut self,
        alteration: &mut Alteration<'_>,
        name: &Ident,
        if_exists: bool,
        cascade: bool,
        transaction: &mut Transaction,
    ) -> Result<(), SqlError> {
        let (table, name) = (alteration.def().name.clone(), fold(name));
        let Some(position) = alteration.def().constraints.iter().position(|c| c.is_constraint() && c.name == name) else {
            let message = format!("constraint \"{name}\" of relation \"{table}\" does not exist");
            if if_exists {
                self.notice("NOTICE", "00000", format!("{message}, skipping"));
                return Ok(());
            }
            return Err(SqlError::new("42704", message));
        };
        if let ConstraintKind::PrimaryKey(columns) | ConstraintKind::Unique(columns) = &alteration.def().constraints[position].kind {
            let another = alteration.def().certain_keys().any(|(ordinal, _, key)| {
                ordinal as usize != position && key.len() == columns.len() && key.iter().all(|id| columns.contains(id))
            });
            let keys = if another { vec![] } else { foreign_keys_onto(transaction, alteration.def(), columns) };
            if !cascade && !keys.is_empty() {
                let lines: Vec<String> =
                    keys.iter().map(|(other, key)| format!("constraint {key} on table {} depends on index {name}", other.name)).collect();
                return Err(depended_on(&format!("constraint {name} on table {table}"), &lines));
            }
            let own = alteration.old.id;
            let (own_keys, keys): (Vec<_>, Vec<_>) = keys.into_iter().partition(|(other, _)| other.id == own);
            let dropped = drop_foreign_keys(&keys, transaction)?;
            self.notice_cascade(&dropped);
            let marked: Vec<bool> = alteration
                .def()
                .constraints
                .iter()
                .enumerate()
                .map(|(i, c)| i == position || own_keys.iter().any(|(_, k)| *k == c.name))
                .collect();
            alteration.drop_constraints(&marked);
            return Ok(());
        }
        let marked: Vec<bool> = (0..alteration.def().constraints.len()).map(|i| i == position).collect();
        alteration.drop_constraints(&marked);
        Ok(())
    }

    /// Checks the rows or writes them again, and records the new definition.
    pub(crate) async fn carry_out(&mut self, mut alteration: Alteration<'_>, transaction: &mut Transaction) -> Result<(), SqlError> {
        alteration.note_constraints();
        let added_keys: Vec<ColumnId> = alteration
            .def()
            .constraints
            .iter()
            .zip(&alteration.origins)
            .filter_map(|(c, origin)| match &c.kind {
                ConstraintKind::PrimaryKey(columns) if origin.is_none() => Some(columns.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        for id in added_keys {
            alteration.forbid_null(id)?;
        }
        let Alteration { old, builder, mut origins, not_null, conversions, added, rewrite, .. } = alteration;
        self.check_settled(&old, transaction).await?;
        let NewTable { mut def, sequences, .. } = builder.finish()?;
        origins.resize(def.constraints.len(), None);
        if def == *old && sequences.is_empty() {
            return Ok(());
        }
        def.version = old.version + 1;
        let rewrite = rewrite || added.iter().any(|id| def.column(*id).is_some_and(crate::alteration::takes_from_sequence));
        self.check_expressions(&def).await?;
        for sequence in sequences {
            transaction.change("ALTER TABLE", CatalogChange::CreateSequence(sequence))?;
        }
        if origins.iter().zip(&def.constraints).any(|(origin, c)| origin.is_none() && matches!(c.kind, ConstraintKind::ForeignKey { .. })) {
            transaction.touch_referenced("ALTER TABLE", &def)?;
        }
        let new = crate::alter_rows::NewDefinition { old, def, origins, not_null, conversions };
        match rewrite {
            true => self.rewrite_rows(new, transaction).await,
            false => self.check_rows(new, transaction).await,
        }
    }
}

/// Postgres' order of the actions: what goes goes first, and constraints come last.
fn pass(operation: &AlterTableOperation) -> u8 {
    match operation {
        AlterTableOperation::DropColumn { .. }
        | AlterTableOperation::DropConstraint { .. }
        | AlterTableOperation::AlterColumn { op: AlterColumnOperation::DropNotNull | AlterColumnOperation::DropDefault, .. } => 0,
        AlterTableOperation::AlterColumn { op: AlterColumnOperation::SetDataType { .. }, .. } => 1,
        AlterTableOperation::AddColumn { .. } => 2,
        AlterTableOperation::AddConstraint { .. } => 4,
        _ => 3,
    }
}

fn is_cascade(behavior: Option<DropBehavior>) -> bool {
    behavior == Some(DropBehavior::Cascade)
}

/// 42P07.
pub(crate) fn check_free(transaction: &Transaction, schema: SchemaId, name: &str) -> Result<(), SqlError> {
    if transaction.catalog().name_taken(schema, name) {
        return Err(relation_exists(name));
    }
    Ok(())
}

/// There is one role, and it owns everything. 42704.
pub(crate) fn check_owner(owner: &Owner) -> Result<(), SqlError> {
    match owner {
        Owner::Ident(ident) if fold(ident) != SUPERUSER => Err(SqlError::new("42704", format!("role \"{}\" does not exist", fold(ident)))),
        _ => Ok(()),
    }
}

/// 2BP01.
pub(crate) fn depended_on(what: &str, lines: &[String]) -> SqlError {
    SqlError::new("2BP01", format!("cannot drop {what} because other objects depend on it"))
        .with_detail(lines.join("\n"))
        .with_hint("Use DROP ... CASCADE to drop the dependent objects too.")
}

pub(crate) type ForeignKeyOf = (std::sync::Arc<TableDef>, String);

/// Foreign keys of other tables that point at any of these columns of the table.
fn foreign_keys_over(transaction: &Transaction, table: &TableDef, columns: &[ColumnId]) -> Vec<ForeignKeyOf> {
    let over = |kind: &ConstraintKind| match kind {
        ConstraintKind::ForeignKey { references, referenced, .. } => {
            *references == table.id && columns.iter().any(|id| referenced.contains(id))
        }
        _ => false,
    };
    foreign_keys(transaction, over).into_iter().filter(|(other, _)| other.id != table.id).collect()
}

/// Foreign keys that point at just this key, those of the table itself included.
pub(crate) fn foreign_keys_onto(transaction: &Transaction, table: &TableDef, key: &[ColumnId]) -> Vec<ForeignKeyOf> {
    let onto = |kind: &ConstraintKind| match kind {
        ConstraintKind::ForeignKey { references, referenced, .. } => {
            *references == table.id && referenced.len() == key.len() && referenced.iter().all(|id| key.contains(id))
        }
        _ => false,
    };
    foreign_keys(transaction, onto)
}

fn foreign_keys(transaction: &Transaction, wanted: impl Fn(&ConstraintKind) -> bool) -> Vec<ForeignKeyOf> {
    let of = |table: &std::sync::Arc<TableDef>| {
        let named: Vec<_> = table.constraints.iter().filter(|c| wanted(&c.kind)).map(|c| (table.clone(), c.name.clone())).collect();
        named
    };
    transaction.catalog().tables.values().flat_map(of).collect()
}

/// Takes foreign keys out of their tables; what went, described.
pub(crate) fn drop_foreign_keys(keys: &[ForeignKeyOf], transaction: &mut Transaction) -> Result<Vec<String>, SqlError> {
    let mut dropped = vec![];
    for (table, name) in keys {
        take_out(table.id, name, transaction)?;
        dropped.push(format!("constraint {name} on table {}", table.name));
    }
    Ok(dropped)
}

/// Takes the constraint or index of this name out of its table.
pub(crate) fn take_out(table: TableId, name: &str, transaction: &mut Transaction) -> Result<(), SqlError> {
    let Some(current) = transaction.catalog().tables.get(&table).cloned() else { return Ok(()) };
    let mut def = current.as_ref().clone();
    let ordinals: Vec<Option<u32>> =
        def.constraints.iter().enumerate().filter(|(_, c)| c.name != name).map(|(i, _)| Some(i as u32)).collect();
    def.constraints.retain(|c| c.name != name);
    def.version += 1;
    transaction.redefine("ALTER TABLE", def, &ordinals)
}

/// A relation's name in the planner's spelling.
pub(crate) fn planner_name(schema: &str, table: &str) -> String {
    let parts = [crate::catalog::DATABASE, schema, table].map(|part| Ident::with_quote('"', part));
    ObjectName::from(parts.to_vec()).to_string()
}
