//! CREATE INDEX, DROP INDEX, ALTER INDEX.
//!
//! An index is kept among the constraints of its table. A unique one is a key as UNIQUE makes it; any other is a promise that the
//! columns will be looked up, and lets compute nodes prepare for it. No rows are written for either.

use datafusion::sql::sqlparser::ast::{CreateIndex, Expr, Ident, IndexColumn, IndexType, ObjectName};
use quire_types::{ColumnDef, ColumnId, SqlType, TableDef, TableId};

use crate::alter::{ForeignKeyOf, check_free, depended_on, drop_foreign_keys, foreign_keys_onto, take_out};
use crate::alteration::Alteration;
use crate::depend;
use crate::names::{Relation, Resolver, fold, not_a, relation_exists, split};
use crate::session::Block;
use crate::syntax_define::{CONCURRENTLY, IF_EXISTS};
use crate::table_builder::constraint_exists;
use crate::txn::Transaction;
use crate::{Response, Session, SqlError};

/// Columns of an index, as in Postgres.
const INDEX_COLUMNS_MAX: usize = 32;

/// What DROP INDEX says beside the names.
#[derive(Clone, Copy)]
pub(crate) struct DropOptions {
    pub(crate) if_exists: bool,
    pub(crate) cascade: bool,
}

impl Session {
    pub(crate) async fn create_index(&mut self, create: CreateIndex, transaction: &mut Transaction) -> Result<Response, SqlError> {
        let done = Response::Complete("CREATE INDEX".into());
        if create.concurrently {
            self.outside_blocks("CREATE INDEX CONCURRENTLY")?;
        }
        transaction.check_writable("CREATE INDEX")?;
        let path = self.search_path();
        let catalog = transaction.catalog().clone();
        let resolver = Resolver { catalog: &catalog, search_path: &path };
        let table = match resolver.find_relation(&create.table_name)? {
            Some(Relation::Table(table)) => table,
            Some(other) => {
                let name = split(&create.table_name)?.1;
                return Err(SqlError::new("42809", format!("cannot create index on relation \"{name}\""))
                    .with_detail(format!("This operation is not supported for {}.", other.kind().1)));
            }
            None => return Err(resolver.missing(&create.table_name)),
        };
        check_form(&create)?;
        let columns = create.columns.iter().map(|column| key_column(column, &table)).collect::<Result<Vec<_>, _>>()?;
        let included = create.include.iter().map(|ident| column_named(ident, &table).map(|c| c.id)).collect::<Result<Vec<_>, _>>()?;
        if let Some(id) = columns.iter().enumerate().find_map(|(i, id)| columns[..i].contains(id).then_some(*id)) {
            let name = table.column(id).map_or("", |c| c.name.as_str());
            return Err(SqlError::unsupported(format!("an index with column \"{name}\" twice")));
        }
        let name = create.name.as_ref().map(bare).transpose()?;
        if let Some(name) = &name
            && catalog.name_taken(table.schema, name)
        {
            if create.if_not_exists {
                self.notice("NOTICE", "42P07", format!("relation \"{name}\" already exists, skipping"));
                return Ok(done);
            }
            return Err(relation_exists(name));
        }
        let named_by: Vec<ColumnId> = columns.iter().chain(&included).copied().collect();
        let mut alteration = Alteration::new(table, &resolver);
        alteration.builder.index(name, columns, &named_by, create.unique);
        self.carry_out(alteration, transaction).await?;
        Ok(done)
    }

    pub(crate) fn drop_indexes(
        &mut self,
        names: &[ObjectName],
        table: Option<&ObjectName>,
        options: DropOptions,
        transaction: &mut Transaction,
    ) -> Result<Response, SqlError> {
        let DropOptions { if_exists, cascade } = options;
        if let Some(marker) = table {
            if bare(marker)? != CONCURRENTLY {
                return Err(SqlError::syntax("syntax error at or near \"ON\""));
            }
            self.outside_blocks("DROP INDEX CONCURRENTLY")?;
            if names.len() > 1 {
                return Err(SqlError::new("0A000", "DROP INDEX CONCURRENTLY does not support dropping multiple objects"));
            }
            if cascade {
                return Err(SqlError::new("0A000", "DROP INDEX CONCURRENTLY does not support CASCADE"));
            }
        }
        let path = self.search_path();
        let mut indexes: Vec<(TableId, u32, String)> = vec![];
        for name in names {
            let shown = split(name)?.1;
            let resolver = self.resolver(transaction, &path);
            match resolver.find_relation(name)? {
                Some(Relation::Index(table, ordinal)) => {
                    if table.constraints[ordinal as usize].is_constraint() {
                        let constraint = format!("constraint {shown} on {}", depend::described(resolver.catalog, &path, table.id));
                        return Err(SqlError::new("2BP01", format!("cannot drop index {shown} because {constraint} requires it"))
                            .with_hint(format!("You can drop {constraint} instead.")));
                    }
                    if !indexes.iter().any(|(id, _, index)| (*id, index) == (table.id, &shown)) {
                        indexes.push((table.id, ordinal, shown));
                    }
                }
                Some(other) => return Err(other.not_dropped_as("an index", name)),
                None => {
                    let (code, missing) = match resolver.missing_schema(name) {
                        Some(schema) => ("3F000", format!("schema \"{schema}\" does not exist")),
                        None => ("42704", format!("index \"{shown}\" does not exist")),
                    };
                    if !if_exists {
                        return Err(SqlError::new(code, missing));
                    }
                    self.notice("NOTICE", "00000", format!("{missing}, skipping"));
                }
            }
        }
        let mut keys: Vec<ForeignKeyOf> = vec![];
        let mut lines = vec![];
        for (id, ordinal, index) in &indexes {
            let Some(table) = transaction.catalog().tables.get(id).cloned() else { continue };
            let Some(columns) = table.constraints[*ordinal as usize].kind.unique_columns() else { continue };
            let dropped = |other: u32| indexes.iter().any(|(of, n, _)| (of, *n) == (id, other));
            let same = |key: &[ColumnId]| key.len() == columns.len() && key.iter().all(|id| columns.contains(id));
            if table.certain_keys().any(|(other, _, key)| !dropped(other) && same(key)) {
                continue;
            }
            for (other, key) in foreign_keys_onto(transaction, &table, columns) {
                if !keys.iter().any(|(of, name)| of.id == other.id && *name == key) {
                    lines.push(format!("constraint {key} on table {} depends on index {index}", other.name));
                    keys.push((other, key));
                }
            }
        }
        if !cascade && !keys.is_empty() {
            let what = match indexes.as_slice() {
                [(_, _, index)] => format!("index {index}"),
                _ => "desired object(s)".to_string(),
            };
            return Err(depended_on(&what, &lines));
        }
        transaction.check_writable("DROP INDEX")?;
        let dropped = drop_foreign_keys(&keys, transaction)?;
        for (table, _, index) in &indexes {
            take_out(*table, index, transaction)?;
        }
        self.notice_cascade(&dropped);
        Ok(Response::Complete("DROP INDEX".into()))
    }

    /// ALTER INDEX … RENAME TO.
    pub(crate) fn alter_index(&mut self, name: &ObjectName, to: &ObjectName, transaction: &mut Transaction) -> Result<Response, SqlError> {
        let done = Response::Complete("ALTER INDEX".into());
        let (marker, new) = split(to)?;
        if marker.as_deref().is_some_and(|marker| marker != IF_EXISTS) {
            return Err(SqlError::syntax("syntax error at or near \".\""));
        }
        let path = self.search_path();
        let resolver = self.resolver(transaction, &path);
        let (found, missing) = (resolver.find_relation(name)?, resolver.missing(name));
        match found {
            Some(Relation::Index(table, ordinal)) => rename_index(&table, ordinal, new, transaction)?,
            Some(_) => return Err(not_a("an index", name)),
            None if marker.is_some() => {
                let shown = split(name)?.1;
                self.notice("NOTICE", "00000", format!("relation \"{shown}\" does not exist, skipping"));
            }
            None => return Err(missing),
        }
        Ok(done)
    }

    /// 25001 in a transaction block, where Postgres could not let go of its locks.
    fn outside_blocks(&self, what: &str) -> Result<(), SqlError> {
        match self.block {
            Block::None => Ok(()),
            Block::Open(_) | Block::Failed => Err(SqlError::new("25001", format!("{what} cannot run inside a transaction block"))),
        }
    }
}

/// A constraint's index and the constraint have one name.
pub(crate) fn rename_index(table: &TableDef, ordinal: u32, name: String, transaction: &mut Transaction) -> Result<(), SqlError> {
    check_free(transaction, table.schema, &name)?;
    if table.constraints.iter().any(|c| c.name == name) {
        return Err(constraint_exists(&name, &table.name));
    }
    let mut def = table.clone();
    let old = std::mem::replace(&mut def.constraints[ordinal as usize].name, name.clone());
    transaction.deferred.renamed(table.id, &old, &name);
    def.version += 1;
    let ordinals: Vec<Option<u32>> = (0..def.constraints.len() as u32).map(Some).collect();
    transaction.redefine("ALTER INDEX", def, &ordinals)
}

/// A name without a schema.
fn bare(name: &ObjectName) -> Result<String, SqlError> {
    match split(name)? {
        (None, name) => Ok(name),
        (Some(_), _) => Err(SqlError::syntax("syntax error at or near \".\"")),
    }
}

/// What there is no index for. Order, NULLS FIRST and what INCLUDE adds make no difference here, nor do parameters of storage.
fn check_form(create: &CreateIndex) -> Result<(), SqlError> {
    if !create.index_options.is_empty() || !create.alter_options.is_empty() {
        return Err(SqlError::syntax("syntax error in CREATE INDEX"));
    }
    let method = match &create.using {
        None => "btree".to_string(),
        Some(IndexType::Custom(name)) => fold(name),
        Some(other) => other.to_string().to_lowercase(),
    };
    match method.as_str() {
        "btree" => {}
        "hash" if create.unique => return Err(SqlError::new("0A000", "access method \"hash\" does not support unique indexes")),
        "hash" if create.columns.len() > 1 => {
            return Err(SqlError::new("0A000", "access method \"hash\" does not support multicolumn indexes"));
        }
        "hash" => {}
        "gin" | "gist" | "spgist" | "brin" => return Err(SqlError::unsupported(format!("access method \"{method}\""))),
        _ => return Err(SqlError::new("42704", format!("access method \"{method}\" does not exist"))),
    }
    if create.nulls_distinct == Some(false) {
        return Err(SqlError::unsupported("NULLS NOT DISTINCT"));
    }
    if create.predicate.is_some() {
        return Err(SqlError::unsupported("a partial index (CREATE INDEX … WHERE)"));
    }
    if create.columns.len() + create.include.len() > INDEX_COLUMNS_MAX {
        return Err(SqlError::new("54011", format!("cannot use more than {INDEX_COLUMNS_MAX} columns in an index")));
    }
    Ok(())
}

fn column_named<'a>(ident: &Ident, table: &'a TableDef) -> Result<&'a ColumnDef, SqlError> {
    let name = fold(ident);
    let found = table.columns.iter().find(|c| c.name == name);
    found.ok_or_else(|| SqlError::new("42703", format!("column \"{name}\" does not exist")))
}

fn key_column(column: &IndexColumn, table: &TableDef) -> Result<ColumnId, SqlError> {
    let ident = match plain(&column.column.expr) {
        Some(ident) => ident,
        None if matches!(column.column.expr, Expr::Collate { .. }) => return Err(SqlError::unsupported("an index with a collation")),
        None => return Err(SqlError::unsupported("an index over an expression")),
    };
    let found = column_named(ident, table)?;
    let Some(class) = operator_class(found.ty) else {
        let message = format!("data type {} has no default operator class for access method \"btree\"", found.ty.name());
        return Err(SqlError::new("42704", message)
            .with_hint("You must specify an operator class for the index or define a default operator class for the data type."));
    };
    if let Some(name) = &column.operator_class {
        let given = split(name)?.1;
        if given != class && !(given == "text_ops" && class == "varchar_ops") {
            return Err(SqlError::unsupported(format!("operator class \"{given}\"")));
        }
    }
    Ok(found.id)
}

/// The column that an expression is, with parentheses or without.
fn plain(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(ident) => Some(ident),
        Expr::Nested(inner) => plain(inner),
        _ => None,
    }
}

/// The operator class by which a type is ordered when none is named.
fn operator_class(ty: SqlType) -> Option<&'static str> {
    Some(match ty {
        SqlType::Bool => "bool_ops",
        SqlType::Int2 => "int2_ops",
        SqlType::Int4 => "int4_ops",
        SqlType::Int8 => "int8_ops",
        SqlType::Float4 => "float4_ops",
        SqlType::Float8 => "float8_ops",
        SqlType::Numeric { .. } => "numeric_ops",
        SqlType::Text => "text_ops",
        SqlType::Varchar(_) => "varchar_ops",
        SqlType::Char(_) => "bpchar_ops",
        SqlType::Bytea => "bytea_ops",
        SqlType::Date => "date_ops",
        SqlType::Time => "time_ops",
        SqlType::Timestamp => "timestamp_ops",
        SqlType::Timestamptz => "timestamptz_ops",
        SqlType::Interval => "interval_ops",
        SqlType::Uuid => "uuid_ops",
        SqlType::Json => return None,
    })
}
