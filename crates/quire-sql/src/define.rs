//! DDL statements: what they check at the session's snapshot, and the changes they record.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{Analyze, CascadeOption, CreateTable, CreateView, ObjectName, SchemaName, Statement, Truncate};
use quire_types::{CatalogChange, ConstraintKind, SchemaDef, SchemaId, SqlType, TableDef, TableId, ViewDef};

use crate::alter::drop_foreign_keys;
use crate::ddl;
use crate::define_sequence::drop_defaults;
use crate::depend;
use crate::names::{Resolver, fold, split};
use crate::temp::{TEMP_ALIAS, TEMP_SCHEMA, check_references};
use crate::txn::Transaction;
use crate::{Response, Session, SqlError, WireType, query, table_builder, view_reads};

impl Session {
    pub(crate) async fn create_table(&mut self, create: CreateTable, transaction: &mut Transaction) -> Result<Response, SqlError> {
        let path = self.search_path();
        let resolver = self.resolver(transaction, &path);
        let (schema, name) = split(&create.name)?;
        let schema = match schema.as_deref() {
            Some(TEMP_ALIAS) => transaction.temp_schema(self.options.backend_pid),
            None if create.temporary => transaction.temp_schema(self.options.backend_pid),
            Some(_) if create.temporary => {
                return Err(SqlError::new("42P16", "cannot create temporary relation in non-temporary schema"));
            }
            other => resolver.target_schema(other)?,
        };
        if transaction.catalog().name_taken(schema.id, &name) {
            if create.if_not_exists {
                self.notice("NOTICE", "42P07", format!("relation \"{name}\" already exists, skipping"));
                return Ok(Response::Complete(if create.query.is_some() { "CREATE TABLE AS" } else { "CREATE TABLE" }.into()));
            }
            return Err(SqlError::new("42P07", format!("relation \"{name}\" already exists")));
        }
        if create.query.is_some() {
            return self.create_table_as(create, schema.id, name, transaction).await;
        }
        let resolver = self.resolver(transaction, &path);
        let new = table_builder::create_table(&create, schema.id, name, &resolver)?;
        check_references(&new.def, transaction.catalog())?;
        self.check_expressions(&new.def).await?;
        if let (TEMP_SCHEMA, Some(on_commit)) = (schema.id, create.on_commit) {
            transaction.on_commit(new.def.id, on_commit);
        }
        for sequence in new.sequences {
            transaction.change("CREATE TABLE", CatalogChange::CreateSequence(sequence))?;
        }
        transaction.touch_referenced("CREATE TABLE", &new.def)?;
        transaction.change("CREATE TABLE", CatalogChange::CreateTable(new.def))?;
        transaction.say_again("CREATE TABLE", new.comments)?;
        Ok(Response::Complete("CREATE TABLE".into()))
    }

    /// Defaults and CHECKs must mean something before they are recorded.
    pub(crate) async fn check_expressions(&self, table: &TableDef) -> Result<(), SqlError> {
        self.compile_checks(table)?;
        self.check_stored(table)?;
        for column in &table.columns {
            // What takes a value from a sequence, say, is not tried out.
            if let Some(default) = &column.default
                && !self.is_volatile(default)?
            {
                self.default_values(table, column, 1).await.map_err(|e| default_mismatch(e, column))?;
            }
        }
        Ok(())
    }

    async fn create_table_as(
        &mut self,
        create: CreateTable,
        schema: SchemaId,
        name: String,
        transaction: &mut Transaction,
    ) -> Result<Response, SqlError> {
        let Some(source) = create.query else { return Err(SqlError::internal("CREATE TABLE AS without a query")) };
        let query = query::plan(&self.context, Statement::Query(source)).await?;
        let mut columns = Vec::with_capacity(query.columns.len());
        for (i, column) in query.columns.iter().enumerate() {
            let name = create.columns.get(i).map_or_else(|| column.name.clone(), |c| fold(&c.name));
            let ty = match column.ty {
                WireType::Scalar(ty) => ty,
                WireType::Array(_) | WireType::Vector(_) => return Err(SqlError::unsupported(format!("column \"{name}\": array types"))),
                WireType::Oid => SqlType::Int8,
                WireType::Name | WireType::QuotedChar | WireType::Unknown => SqlType::Text,
            };
            columns.push((name, ty));
        }
        let def = ddl::plain_table(schema, name, columns)?;
        let id = def.id;
        if let (TEMP_SCHEMA, Some(on_commit)) = (schema, create.on_commit) {
            transaction.on_commit(id, on_commit);
        }
        transaction.change("CREATE TABLE AS", CatalogChange::CreateTable(def))?;
        let table = transaction.catalog().tables.get(&id).cloned().ok_or_else(|| SqlError::internal("the new table is gone"))?;
        let order = (0..table.columns.len()).collect();
        let rows = self.insert_query(&table, order, query, "CREATE TABLE AS", transaction).await?;
        Ok(Response::Complete(format!("SELECT {rows}")))
    }

    pub(crate) async fn create_view(&mut self, create: CreateView, transaction: &mut Transaction) -> Result<Response, SqlError> {
        if create.materialized || create.temporary {
            return Err(SqlError::unsupported(if create.materialized { "CREATE MATERIALIZED VIEW" } else { "CREATE TEMPORARY VIEW" }));
        }
        let path = self.search_path();
        let resolver = self.resolver(transaction, &path);
        let (schema, name) = split(&create.name)?;
        let schema = resolver.target_schema(schema.as_deref())?;
        let catalog = transaction.catalog();
        let existing = catalog.view_by_name(schema.id, &name).cloned();
        if catalog.name_taken(schema.id, &name) && !(create.or_replace && existing.is_some()) {
            return Err(SqlError::new("42P07", format!("relation \"{name}\" already exists")));
        }
        let statement = Statement::Query(create.query.clone());
        let planned = query::plan(&self.context, statement.clone()).await?;
        let mut columns = vec![];
        for (i, column) in planned.columns.iter().enumerate() {
            let name = create.columns.get(i).map_or_else(|| column.name.clone(), |c| fold(&c.name));
            if columns.iter().any(|(n, _)| *n == name) {
                return Err(SqlError::new("42701", format!("column \"{name}\" specified more than once")));
            }
            let ty = match column.ty {
                WireType::Scalar(ty) => ty,
                WireType::Array(_) | WireType::Vector(_) => return Err(SqlError::unsupported("a view with array columns")),
                WireType::Oid => SqlType::Int8,
                WireType::Name | WireType::QuotedChar | WireType::Unknown => SqlType::Text,
            };
            columns.push((name, ty));
        }
        if let Some(old) = &existing {
            check_replacement(old, &columns)?;
        }
        // Names of result columns are fixed now, as Postgres fixes them.
        let list: Vec<String> = columns.iter().map(|(n, _)| format!("\"{}\"", n.replace('"', "\"\""))).collect();
        let sql = format!("SELECT * FROM ({statement}) AS _view ({})", list.join(", "));
        let id = existing.map_or_else(|| TableId(ddl::new_oid()), |v| v.id);
        let reads = view_reads::reads(&statement, transaction.catalog());
        if reads.iter().any(|read| catalog.tables.get(&read.id).is_some_and(|table| table.schema == TEMP_SCHEMA)) {
            return Err(SqlError::unsupported("a view over temporary tables"));
        }
        let view = ViewDef { id, schema: schema.id, name, sql, columns, reads };
        transaction.change("CREATE VIEW", CatalogChange::CreateView { view, replace: create.or_replace })?;
        Ok(Response::Complete("CREATE VIEW".into()))
    }

    pub(crate) fn create_schema(
        &mut self,
        name: &SchemaName,
        if_not_exists: bool,
        transaction: &mut Transaction,
    ) -> Result<Response, SqlError> {
        let name = match name {
            SchemaName::Simple(name) | SchemaName::NamedAuthorization(name, _) => split(name)?.1,
            SchemaName::UnnamedAuthorization(ident) => fold(ident),
        };
        if name.starts_with("pg_") {
            return Err(SqlError::new("42939", format!("unacceptable schema name \"{name}\""))
                .with_detail("The prefix \"pg_\" is reserved for system schemas."));
        }
        if transaction.catalog().schema_by_name(&name).is_some() || name == "information_schema" {
            if if_not_exists {
                self.notice("NOTICE", "42P06", format!("schema \"{name}\" already exists, skipping"));
                return Ok(Response::Complete("CREATE SCHEMA".into()));
            }
            return Err(SqlError::new("42P06", format!("schema \"{name}\" already exists")));
        }
        transaction.change("CREATE SCHEMA", CatalogChange::CreateSchema(SchemaDef { id: SchemaId(ddl::new_oid()), name }))?;
        Ok(Response::Complete("CREATE SCHEMA".into()))
    }

    pub(crate) fn drop_tables(
        &mut self,
        names: &[ObjectName],
        if_exists: bool,
        cascade: bool,
        transaction: &mut Transaction,
    ) -> Result<Response, SqlError> {
        let path = self.search_path();
        let mut tables: Vec<Arc<TableDef>> = vec![];
        for name in names {
            let resolver = self.resolver(transaction, &path);
            match resolver.find_table(name)? {
                Some(table) if tables.iter().any(|t| t.id == table.id) => {}
                Some(table) => tables.push(table),
                None => match resolver.find_relation(name)? {
                    Some(other) => return Err(other.not_dropped_as("a table", name)),
                    None if if_exists => self.notice("NOTICE", "00000", format!("table \"{}\" does not exist, skipping", split(name)?.1)),
                    None => return Err(SqlError::new("42P01", format!("table \"{}\" does not exist", split(name)?.1))),
                },
            }
        }
        let ids: BTreeSet<TableId> = tables.iter().map(|t| t.id).collect();
        let what = match tables.as_slice() {
            [table] => depend::described(transaction.catalog(), &path, table.id),
            _ => "desired object(s)".to_string(),
        };
        let mut dropped = self.drop_dependent_views(&ids, &what, cascade, transaction)?;
        for table in &tables {
            dropped.extend(drop_references(table, &ids, cascade, transaction)?);
        }
        let owners: Vec<_> = tables.iter().map(|t| (t.id, None)).collect();
        dropped.extend(self.drop_foreign_users(&owners, &what, cascade, transaction)?);
        self.drop_owned_sequences(&owners, transaction)?;
        for table in &tables {
            let version = transaction.catalog().tables.get(&table.id).map_or(table.version, |t| t.version);
            transaction.change("DROP TABLE", CatalogChange::DropTable { id: table.id, version })?;
        }
        self.notice_cascade(&dropped);
        Ok(Response::Complete("DROP TABLE".into()))
    }

    pub(crate) fn drop_views(
        &mut self,
        names: &[ObjectName],
        if_exists: bool,
        cascade: bool,
        transaction: &mut Transaction,
    ) -> Result<Response, SqlError> {
        let path = self.search_path();
        let mut views = BTreeSet::new();
        for name in names {
            let resolver = self.resolver(transaction, &path);
            match resolver.find_view(name)? {
                Some(view) => drop(views.insert(view.id)),
                None => match resolver.find_relation(name)? {
                    Some(other) => return Err(other.not_dropped_as("a view", name)),
                    None if if_exists => self.notice("NOTICE", "00000", format!("view \"{}\" does not exist, skipping", split(name)?.1)),
                    None => return Err(SqlError::new("42P01", format!("view \"{}\" does not exist", split(name)?.1))),
                },
            }
        }
        let what = match views.first() {
            Some(id) if views.len() == 1 => depend::described(transaction.catalog(), &path, *id),
            _ => "desired object(s)".to_string(),
        };
        let dropped = self.drop_dependent_views(&views, &what, cascade, transaction)?;
        for view in views {
            transaction.change("DROP VIEW", CatalogChange::DropView(view))?;
        }
        self.notice_cascade(&dropped);
        Ok(Response::Complete("DROP VIEW".into()))
    }

    pub(crate) fn drop_schemas(
        &mut self,
        names: &[ObjectName],
        if_exists: bool,
        cascade: bool,
        transaction: &mut Transaction,
    ) -> Result<Response, SqlError> {
        let path = self.search_path();
        let mut dropped = vec![];
        for name in names {
            let (_, name) = split(name)?;
            let Some(schema) = transaction.catalog().schema_by_name(&name).cloned() else {
                if if_exists {
                    self.notice("NOTICE", "00000", format!("schema \"{name}\" does not exist, skipping"));
                    continue;
                }
                return Err(SqlError::new("3F000", format!("schema \"{name}\" does not exist")));
            };
            let catalog = transaction.catalog().clone();
            let tables: Vec<_> = catalog.tables.values().filter(|t| t.schema == schema.id).cloned().collect();
            let views: Vec<_> = catalog.views.values().filter(|v| v.schema == schema.id).cloned().collect();
            let sequences: Vec<_> = catalog.sequences.values().filter(|s| s.schema == schema.id).cloned().collect();
            let ids: BTreeSet<TableId> =
                tables.iter().map(|t| t.id).chain(views.iter().map(|v| v.id)).chain(sequences.iter().map(|s| s.id)).collect();
            // What a table owns goes with it, unsaid.
            let owned = |id: &TableId| catalog.sequences.get(id).is_some_and(|s| s.owner.is_some());
            let described: Vec<String> = ids.iter().filter(|id| !owned(id)).map(|id| depend::described(&catalog, &path, *id)).collect();
            if !cascade && !ids.is_empty() {
                let lines: Vec<String> = described.iter().map(|d| format!("{d} depends on schema {name}")).collect();
                return Err(SqlError::new("2BP01", format!("cannot drop schema {name} because other objects depend on it"))
                    .with_detail(lines.join("\n"))
                    .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            dropped.extend(described);
            dropped.extend(self.drop_dependent_views(&ids, &format!("schema {name}"), cascade, transaction)?);
            for table in &tables {
                dropped.extend(drop_references(table, &ids, cascade, transaction)?);
            }
            for view in views {
                transaction.change("DROP SCHEMA", CatalogChange::DropView(view.id))?;
            }
            dropped.extend(drop_defaults(&sequences.iter().map(|s| s.id).collect(), &ids, transaction)?);
            for sequence in sequences {
                transaction.change("DROP SCHEMA", CatalogChange::DropSequence(sequence.id))?;
            }
            for table in tables {
                let version = transaction.catalog().tables.get(&table.id).map_or(table.version, |t| t.version);
                transaction.change("DROP SCHEMA", CatalogChange::DropTable { id: table.id, version })?;
            }
            transaction.change("DROP SCHEMA", CatalogChange::DropSchema(schema.id))?;
        }
        self.notice_cascade(&dropped);
        Ok(Response::Complete("DROP SCHEMA".into()))
    }

    pub(crate) fn truncate(&mut self, truncate: &Truncate, transaction: &mut Transaction) -> Result<Response, SqlError> {
        let path = self.search_path();
        let resolver = self.resolver(transaction, &path);
        let mut tables = truncate.table_names.iter().map(|t| resolver.table(&t.name)).collect::<Result<Vec<_>, _>>()?;
        let cascade = matches!(truncate.cascade, Some(CascadeOption::Cascade));
        let mut cascaded = vec![];
        let mut at = 0;
        while let Some(table) = tables.get(at).cloned() {
            let references_it = |other: &TableDef| {
                let points_here =
                    |c: &ConstraintKind| matches!(c, ConstraintKind::ForeignKey { references, .. } if *references == table.id);
                other.constraints.iter().any(|c| points_here(&c.kind))
            };
            let others: Vec<Arc<TableDef>> = transaction.catalog().tables.values().filter(|other| references_it(other)).cloned().collect();
            for other in others {
                if tables.iter().any(|t| t.id == other.id) {
                    continue;
                }
                if !cascade {
                    return Err(SqlError::new("0A000", "cannot truncate a table referenced in a foreign key constraint")
                        .with_detail(format!("Table \"{}\" references \"{}\".", other.name, table.name))
                        .with_hint(format!("Truncate table \"{}\" at the same time, or use TRUNCATE ... CASCADE.", other.name)));
                }
                cascaded.push(format!("truncate cascades to table \"{}\"", other.name));
                tables.push(other);
            }
            at += 1;
        }
        for message in cascaded {
            self.notice("NOTICE", "00000", message);
        }
        for table in tables {
            let write = transaction.write("TRUNCATE TABLE", table.id, table.version)?;
            *write = crate::txn::PendingWrite { version: write.version, truncate: true, ..Default::default() };
        }
        Ok(Response::Complete("TRUNCATE TABLE".into()))
    }

    /// Statistics are kept by the writers of segments, so there is nothing to gather: names are checked.
    pub(crate) fn analyze(&mut self, analyze: &Analyze) -> Result<Response, SqlError> {
        self.check_relation(analyze.table_name.as_ref())?;
        if let Some(name) = &analyze.table_name {
            let path = self.search_path();
            let catalog = self.cell.get().catalog;
            let table = Resolver { catalog: &catalog, search_path: &path }.table(name)?;
            for column in analyze.columns.iter().map(fold) {
                if table.column_index(&column).is_none() {
                    return Err(SqlError::new("42703", format!("column \"{column}\" of relation \"{}\" does not exist", table.name)));
                }
            }
        }
        Ok(Response::Complete("ANALYZE".into()))
    }
}

/// 42804, in the words for a DEFAULT.
fn default_mismatch(error: SqlError, column: &quire_types::ColumnDef) -> SqlError {
    if error.code != "42804" {
        return error;
    }
    let message = error.message.replace("but expression is of type", "but default expression is of type");
    let named = format!("column \"{}\"", column.name);
    let message = if message.contains(&named) { message } else { error.message.clone() };
    SqlError { message, ..error }
}

/// Foreign keys that point at a table about to be dropped: an error, or with CASCADE they go too. Gives what went, described.
fn drop_references(
    table: &TableDef,
    also_dropped: &BTreeSet<TableId>,
    cascade: bool,
    transaction: &mut Transaction,
) -> Result<Vec<String>, SqlError> {
    let points_here = |kind: &ConstraintKind| matches!(kind, ConstraintKind::ForeignKey { references, .. } if *references == table.id);
    let others: Vec<Arc<TableDef>> = transaction.catalog().tables.values().cloned().collect();
    let mut dropped = vec![];
    for other in others.iter().filter(|t| !also_dropped.contains(&t.id)) {
        let constraints: Vec<_> = other.constraints.iter().filter(|c| points_here(&c.kind)).collect();
        let Some(first) = constraints.first() else { continue };
        if !cascade {
            return Err(SqlError::new("2BP01", format!("cannot drop table {} because other objects depend on it", table.name))
                .with_detail(format!("constraint {} on table {} depends on table {}", first.name, other.name, table.name))
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        dropped.extend(constraints.iter().map(|c| format!("constraint {} on table {}", c.name, other.name)));
        let keys: Vec<_> = constraints.iter().map(|c| (other.clone(), c.name.clone())).collect();
        drop_foreign_keys(&keys, transaction)?;
    }
    Ok(dropped)
}

/// CREATE OR REPLACE VIEW may add columns at the end, and change nothing of those that are there.
fn check_replacement(old: &ViewDef, new: &[(String, SqlType)]) -> Result<(), SqlError> {
    if new.len() < old.columns.len() {
        return Err(SqlError::new("42P16", "cannot drop columns from view"));
    }
    for ((old_name, old_type), (new_name, new_type)) in old.columns.iter().zip(new) {
        if old_name != new_name {
            return Err(SqlError::new("42P16", format!("cannot change name of view column \"{old_name}\" to \"{new_name}\""))
                .with_hint("Use ALTER VIEW ... RENAME COLUMN ... to change name of view column instead."));
        }
        if old_type != new_type {
            let (from, to) = (old_type.name(), new_type.name());
            return Err(SqlError::new("42P16", format!("cannot change data type of view column \"{old_name}\" from {from} to {to}")));
        }
    }
    Ok(())
}
