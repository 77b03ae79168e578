//! Postgres' system catalogs over our definitions.
//!
//! `relations` knows every relation and its columns; `fixed` has the rows that are the same everywhere (types, functions, operators);
//! the other files make rows from what the session sees, by subject, so that oids, keys and defaults are the real ones. They are small
//! and made anew for each query that names them. What is not mentioned in [`SystemSchema::rows`] has no rows.

mod classes;
mod comments;
mod constraints;
mod deparse;
mod fixed;
mod functions;
mod information;
mod json;
mod oids;
mod procs;
mod relations;
mod rows;
mod sequences;
mod server;
mod sizes;
mod types;
mod values;
mod viewdef;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, MemTable, SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::prelude::SessionContext;
use parking_lot::Mutex;
use quire_types::{Catalog, SchemaId, View};

pub(crate) use oids::{class_by_oid, index_oid, namespace_by_oid, quoted, system_class_oid};
pub(crate) use relations::FIELD_CATALOG_TYPE;
pub(crate) use sequences::as_relation as sequence_relation;
pub(crate) use types::{format_type, oid_by_name};
pub(crate) use values::CatalogValues;

use crate::catalog::{Database, ScopeCell};
use crate::{regtypes, sequence_functions, session_functions};
use relations::Relation;
use rows::Row;

/// oid of the superuser, as in Postgres.
pub(crate) const OWNER: i32 = 10;
const DATABASE_OID: i32 = 16_383;
pub(crate) const PG_CATALOG: SchemaId = SchemaId(11);
pub(crate) const INFORMATION_SCHEMA: SchemaId = SchemaId(13_000);

/// Puts the session's `pg_catalog` in the place of the library's, and `information_schema` beside it.
pub(crate) fn register(database: &Arc<Database>, cell: &Arc<ScopeCell>, context: &SessionContext) -> Result<()> {
    for schema in ["pg_catalog", "information_schema"] {
        database.register_schema(schema, Arc::new(SystemSchema { schema, cell: cell.clone() }))?;
    }
    session_functions::register(context, cell);
    functions::register(context, cell);
    sequence_functions::register(context, cell);
    Ok(())
}

/// Whether `pg_catalog` has a relation of that name.
pub(crate) fn in_pg_catalog(name: &str) -> bool {
    relations::find("pg_catalog", name).is_some()
}

pub(crate) fn in_information_schema(name: &str) -> bool {
    relations::find("information_schema", name).is_some()
}

/// What catalogs are made from.
pub(crate) struct Seen<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) view: &'a View,
    pub(crate) path: &'a [String],
}

impl Seen<'_> {
    /// The name of a relation, with its schema when the search path does not find it.
    fn class_name(&self, oid: i64) -> String {
        regtypes::class_name(oid, self.catalog, self.path)
    }
}

/// `pg_catalog` or `information_schema` of one session.
struct SystemSchema {
    schema: &'static str,
    cell: Arc<ScopeCell>,
}

impl fmt::Debug for SystemSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.schema)
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        relations::all().iter().filter(|r| r.schema == self.schema).map(|r| r.name.to_string()).collect()
    }

    fn table_exist(&self, name: &str) -> bool {
        relations::find(self.schema, name).is_some()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(relation) = relations::find(self.schema, name) else { return Ok(None) };
        let schema = relation.arrow();
        let mut batches = vec![];
        let known = match (name, fixed::batch(relation)?) {
            ("pg_description", Some(rows)) => Some(comments::fixed_descriptions(&self.cell.get().catalog, rows)?),
            (_, rows) => rows,
        };
        batches.extend(known);
        batches.extend(system_batch(relation)?);
        batches.push(rows::batch(relation, &schema, &self.rows(name))?);
        Ok(Some(Arc::new(MemTable::try_new(schema, vec![batches])?)))
    }
}

impl SystemSchema {
    fn rows(&self, name: &str) -> Vec<Row> {
        let scope = self.cell.get();
        let path = self.cell.settings().lock().search_path();
        let seen = Seen { catalog: &scope.catalog, view: &scope.view, path: &path };
        if self.schema == "information_schema" {
            return information::rows(&seen, name);
        }
        match name {
            "pg_class" => classes::classes(seen.catalog, seen.view),
            "pg_attribute" => classes::attributes(seen.catalog),
            "pg_attrdef" => classes::defaults(&seen),
            "pg_type" => classes::row_types(seen.catalog),
            "pg_namespace" => classes::namespaces(seen.catalog),
            "pg_index" => constraints::indexes(seen.catalog),
            "pg_constraint" => constraints::constraints(seen.catalog),
            "pg_description" => comments::descriptions(seen.catalog),
            "pg_shdescription" => comments::shared(seen.catalog),
            "pg_database" => server::databases(),
            "pg_roles" | "pg_authid" => server::roles(),
            "pg_user" | "pg_shadow" => server::users(),
            "pg_settings" => server::settings(&self.cell),
            "pg_stat_activity" => server::activity(&self.cell),
            "pg_tables" => server::tables(seen.catalog),
            "pg_indexes" => server::indexes(&seen),
            "pg_views" => server::views(&seen),
            "pg_sequence" => sequences::pg_sequence(seen.catalog),
            "pg_sequences" => sequences::pg_sequences(&self.cell, seen.catalog),
            _ => vec![],
        }
    }
}

/// Rows about the system relations themselves, made once.
fn system_batch(relation: &'static Relation) -> Result<Option<RecordBatch>> {
    static MADE: LazyLock<Mutex<HashMap<&'static str, RecordBatch>>> = LazyLock::new(Mutex::default);
    let rows: fn() -> Vec<Row> = match (relation.schema, relation.name) {
        ("pg_catalog", "pg_class") => classes::system_classes,
        ("pg_catalog", "pg_attribute") => classes::system_attributes,
        _ => return Ok(None),
    };
    if let Some(made) = MADE.lock().get(relation.name) {
        return Ok(Some(made.clone()));
    }
    let made = rows::batch(relation, &relation.arrow(), &rows())?;
    MADE.lock().insert(relation.name, made.clone());
    Ok(Some(made))
}
