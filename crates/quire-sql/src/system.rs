//! Postgres' system catalogs over our definitions.
//!
//! The tables that do not depend on what users define (types, operators, functions, …) come from `datafusion-pg-catalog`;
//! those that do are made here from the session's scope, so that oids, keys and defaults are the real ones. They are small and made
//! anew for each query that names them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, MemTable, SchemaProvider, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::prelude::SessionContext;
use quire_types::{Catalog, ColumnDef, ColumnId, ConstraintKind, Generated, ReferentialAction, SchemaId, SqlType, TableDef};

use crate::catalog::{DATABASE, Database, ScopeCell};
use crate::engine::SUPERUSER;
use crate::sequences::shown_default;
use crate::{ddl, sequence_functions, session_functions, system_functions, system_sequences, values};

/// oid of the superuser, as in Postgres.
pub(crate) const OWNER: i32 = 10;
const DATABASE_OID: i32 = 16_383;
pub(crate) const PG_CATALOG: SchemaId = SchemaId(11);
pub(crate) const INFORMATION_SCHEMA: SchemaId = SchemaId(13_000);

/// Puts the session's own `pg_catalog` in front of the shared one, and `information_schema` beside it.
pub(crate) fn register(database: &Arc<Database>, cell: &Arc<ScopeCell>, context: &SessionContext) -> Result<()> {
    if let Some(shared) = database.schema("pg_catalog") {
        let own = PgCatalog { shared, cell: cell.clone() };
        database.register_schema("pg_catalog", Arc::new(own))?;
    }
    database.register_schema("information_schema", Arc::new(InformationSchema { cell: cell.clone() }))?;
    system_functions::register(context, cell);
    session_functions::register(context, cell);
    sequence_functions::register(context, cell);
    Ok(())
}

/// An index that a PRIMARY KEY or UNIQUE constraint makes, as the catalogs show it.
pub(crate) fn index_oid(table: &TableDef, ordinal: usize) -> i32 {
    derived_oid(table, ordinal as u32, 1)
}

/// oids of things that have no id of their own: stable while the table's definition is. Above all ids that are handed out.
fn derived_oid(table: &TableDef, ordinal: u32, kind: u32) -> i32 {
    let mixed = (table.id.0 ^ (ordinal.wrapping_mul(0x9E37_79B1)) ^ kind.wrapping_mul(0x85EB_CA6B)) & 0x3FFF_FFFF;
    -((mixed | 0x4000_0000) as i32)
}

pub(crate) fn constraint_oid(table: &TableDef, ordinal: usize) -> i32 {
    derived_oid(table, ordinal as u32, 2)
}

/// Catalogs that are shown as relations themselves, with Postgres' oids.
const SYSTEM_CLASSES: [(i32, &str); 12] = [
    (1259, "pg_class"),
    (1249, "pg_attribute"),
    (1247, "pg_type"),
    (1255, "pg_proc"),
    (2615, "pg_namespace"),
    (2604, "pg_attrdef"),
    (2606, "pg_constraint"),
    (2610, "pg_index"),
    (1262, "pg_database"),
    (2609, "pg_description"),
    (2608, "pg_depend"),
    (1260, "pg_authid"),
];

pub(crate) fn system_class_oid(name: &str) -> Option<i32> {
    SYSTEM_CLASSES.iter().find(|(_, class)| *class == name).map(|(oid, _)| *oid)
}

/// The schema and name of the relation or index with that oid.
pub(crate) fn class_by_oid(catalog: &Catalog, oid: i64) -> Option<(String, String)> {
    if let Some((_, name)) = SYSTEM_CLASSES.iter().find(|(system, _)| i64::from(*system) == oid) {
        return Some(("pg_catalog".to_string(), (*name).to_string()));
    }
    if let Some(view) = catalog.views.values().find(|v| i64::from(v.id.0) == oid) {
        return Some((schema_name(catalog, view.schema), view.name.clone()));
    }
    if let Some(sequence) = catalog.sequences.values().find(|s| i64::from(s.id.0) == oid) {
        return Some((schema_name(catalog, sequence.schema), sequence.name.clone()));
    }
    for table in catalog.tables.values() {
        if i64::from(table.id.0) == oid {
            return Some((schema_name(catalog, table.schema), table.name.clone()));
        }
        if let Some((_, index, _)) = table.unique_keys().find(|(n, ..)| i64::from(index_oid(table, *n as usize)) == oid) {
            return Some((schema_name(catalog, table.schema), index.to_string()));
        }
    }
    None
}

pub(crate) fn namespace_by_oid(catalog: &Catalog, oid: i64) -> Option<String> {
    match u32::try_from(oid).map(SchemaId) {
        Ok(PG_CATALOG) => Some("pg_catalog".to_string()),
        Ok(INFORMATION_SCHEMA) => Some("information_schema".to_string()),
        Ok(id) => catalog.schemas.get(&id).map(|s| quoted(&s.name)),
        Err(_) => None,
    }
}

/// A name as SQL text: quoted where it must be.
pub(crate) fn quoted(name: &str) -> String {
    let plain = name.chars().enumerate().all(|(i, c)| c == '_' || c.is_ascii_lowercase() || i > 0 && c.is_ascii_digit());
    if plain && !name.is_empty() { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Relations of `pg_catalog` that the shared one lacks, or has with other columns than Postgres.
const ADDED: &[(&str, &[(&str, DataType)])] = &[
    ("pg_sequence", system_sequences::PG_SEQUENCE),
    ("pg_sequences", system_sequences::PG_SEQUENCES),
    (
        "pg_tables",
        &[
            ("schemaname", DataType::Utf8),
            ("tablename", DataType::Utf8),
            ("tableowner", DataType::Utf8),
            ("tablespace", DataType::Utf8),
            ("hasindexes", DataType::Boolean),
            ("hasrules", DataType::Boolean),
            ("hastriggers", DataType::Boolean),
            ("rowsecurity", DataType::Boolean),
        ],
    ),
    (
        "pg_indexes",
        &[
            ("schemaname", DataType::Utf8),
            ("tablename", DataType::Utf8),
            ("indexname", DataType::Utf8),
            ("tablespace", DataType::Utf8),
            ("indexdef", DataType::Utf8),
        ],
    ),
    (
        "pg_stat_activity",
        &[
            ("datid", DataType::Int32),
            ("datname", DataType::Utf8),
            ("pid", DataType::Int32),
            ("usesysid", DataType::Int32),
            ("usename", DataType::Utf8),
            ("application_name", DataType::Utf8),
            ("state", DataType::Utf8),
            ("query", DataType::Utf8),
            ("backend_type", DataType::Utf8),
        ],
    ),
];

pub(crate) fn is_added(name: &str) -> bool {
    ADDED.iter().any(|(n, _)| *n == name)
}

pub(crate) fn in_information_schema(name: &str) -> bool {
    INFORMATION_TABLES.iter().any(|(n, _)| *n == name)
}

/// The row type's oid (`pg_class.reltype`).
fn row_type_oid(id: u32) -> i32 {
    -((id & 0x3FFF_FFFF) as i32)
}

/// A row: the columns that matter; the others get the column's zero.
type Row = HashMap<&'static str, ScalarValue>;

fn text(value: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8(Some(value.into()))
}

fn int(value: i32) -> ScalarValue {
    ScalarValue::Int32(Some(value))
}

fn truth(value: bool) -> ScalarValue {
    ScalarValue::Boolean(Some(value))
}

/// Rows as a table of that schema.
fn table_of(schema: &SchemaRef, rows: Vec<Row>) -> Result<Arc<dyn TableProvider>> {
    let fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = schema.fields().iter().map(|field| column_of(field, &rows)).collect::<Result<Vec<_>>>()?;
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

fn column_of(field: &Field, rows: &[Row]) -> Result<ArrayRef> {
    if rows.is_empty() {
        return Ok(new_null_array(field.data_type(), 0));
    }
    let zero = match field.data_type() {
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Float32 | DataType::Float64 => {
            ScalarValue::new_zero(field.data_type())?
        }
        DataType::Boolean => truth(false),
        other => ScalarValue::try_from(other)?,
    };
    let values = rows.iter().map(|row| match row.get(field.name().as_str()) {
        Some(value) => value.cast_to(field.data_type()),
        None => Ok(zero.clone()),
    });
    ScalarValue::iter_to_array(values.collect::<Result<Vec<_>>>()?)
}

/// `pg_catalog` of one session.
struct PgCatalog {
    shared: Arc<dyn SchemaProvider>,
    cell: Arc<ScopeCell>,
}

impl fmt::Debug for PgCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PgCatalog")
    }
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        self.shared.table_names().into_iter().chain(ADDED.iter().map(|(n, _)| (*n).to_string())).collect()
    }

    fn table_exist(&self, name: &str) -> bool {
        self.shared.table_exist(name) || is_added(name)
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let catalog = self.cell.get().catalog;
        if let Some((_, columns)) = ADDED.iter().find(|(n, _)| *n == name) {
            let rows = match name {
                "pg_tables" => tables(&catalog),
                "pg_indexes" => index_definitions(&catalog),
                "pg_sequence" => system_sequences::pg_sequence(&catalog),
                "pg_sequences" => system_sequences::pg_sequences(&self.cell, &catalog),
                _ => self.activity(),
            };
            let fields: Vec<Field> = columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect();
            return table_of(&Arc::new(Schema::new(fields)), rows).map(Some);
        }
        let Some(shared) = self.shared.table(name).await? else { return Ok(None) };
        let rows = match name {
            "pg_class" => self.classes(&catalog),
            "pg_attribute" => attributes(&catalog),
            "pg_namespace" => namespaces(&catalog),
            "pg_index" => indexes(&catalog),
            "pg_constraint" => constraints(&catalog),
            "pg_attrdef" => defaults(&catalog, &self.cell.settings().lock().search_path()),
            "pg_database" => databases(),
            "pg_roles" | "pg_authid" => roles(),
            "pg_settings" => self.settings(),
            "pg_views" => views(&catalog),
            "pg_description" | "pg_shdescription" | "pg_depend" | "pg_rewrite" | "pg_trigger" | "pg_statistic" => vec![],
            _ => return Ok(Some(shared)),
        };
        let mut fields = shared.schema().fields().iter().map(|f| array_where_needed(name, f)).collect::<Vec<_>>();
        for (_, column) in MISSING_ARRAYS
            .iter()
            .filter(|(table, column)| *table == name && !fields.iter().any(|f| f.name() == column))
            .copied()
            .collect::<Vec<_>>()
        {
            fields.push(Field::new(column, DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))), true));
        }
        table_of(&Arc::new(Schema::new(fields)), rows).map(Some)
    }
}

/// Columns that the shared tables lack: access rights and options, of which nothing has any.
const MISSING_ARRAYS: [(&str, &str); 4] =
    [("pg_class", "relacl"), ("pg_class", "reloptions"), ("pg_attribute", "attacl"), ("pg_namespace", "nspacl")];

/// Key columns are arrays (`int2vector`, `int2[]`), whatever the shared table made of them.
fn array_where_needed(table: &str, field: &Field) -> Field {
    let is_array = matches!((table, field.name().as_str()), ("pg_index", "indkey") | ("pg_constraint", "conkey" | "confkey"));
    if is_array {
        return Field::new(field.name(), DataType::List(Arc::new(Field::new("item", DataType::Int16, true))), true);
    }
    field.clone()
}

fn numbers(table: &TableDef, columns: &[ColumnId]) -> ScalarValue {
    let items: Vec<ScalarValue> = columns.iter().map(|id| ScalarValue::Int16(Some(attribute_number(table, *id)))).collect();
    ScalarValue::List(ScalarValue::new_list_nullable(&items, &DataType::Int16))
}

fn attribute_number(table: &TableDef, id: ColumnId) -> i16 {
    table.columns.iter().position(|c| c.id == id).map_or(0, |i| i as i16 + 1)
}

impl PgCatalog {
    fn classes(&self, catalog: &Catalog) -> Vec<Row> {
        let view = self.cell.get().view;
        let class = |oid: i32, name: &str, schema: SchemaId, kind: &str, columns: usize| {
            Row::from([
                ("oid", int(oid)),
                ("relname", text(name)),
                ("relnamespace", int(schema.0 as i32)),
                ("relowner", int(OWNER)),
                ("relkind", text(kind)),
                ("relpersistence", text("p")),
                ("relreplident", text("d")),
                ("relispopulated", truth(true)),
                ("relnatts", ScalarValue::Int16(Some(columns as i16))),
            ])
        };
        let mut rows = vec![];
        for table in catalog.tables.values() {
            let mut row = class(table.id.0 as i32, &table.name, table.schema, "r", table.columns.len());
            let count = view.tables.get(&table.id).map_or(0, |t| t.row_count());
            row.insert("reltuples", ScalarValue::Float64(Some(count as f64)));
            row.insert("reltype", int(row_type_oid(table.id.0)));
            row.insert("relam", int(2));
            row.insert("relhasindex", truth(table.unique_keys().next().is_some()));
            row.insert(
                "relchecks",
                ScalarValue::Int16(Some(table.constraints.iter().filter(|c| matches!(c.kind, ConstraintKind::Check(_))).count() as i16)),
            );
            row.insert("relhastriggers", truth(table.constraints.iter().any(|c| matches!(c.kind, ConstraintKind::ForeignKey { .. }))));
            rows.push(row);
            for (ordinal, name, columns) in table.unique_keys() {
                let mut row = class(index_oid(table, ordinal as usize), name, table.schema, "i", columns.len());
                row.insert("relam", int(403));
                rows.push(row);
            }
        }
        for view in catalog.views.values() {
            let mut row = class(view.id.0 as i32, &view.name, view.schema, "v", view.columns.len());
            row.insert("reltype", int(row_type_oid(view.id.0)));
            rows.push(row);
        }
        for sequence in catalog.sequences.values() {
            rows.push(class(sequence.id.0 as i32, &sequence.name, sequence.schema, "S", 3));
        }
        for (oid, name) in SYSTEM_CLASSES {
            rows.push(class(oid, name, PG_CATALOG, "r", 0));
        }
        rows
    }

    /// The session's parameters.
    fn settings(&self) -> Vec<Row> {
        let all = self.cell.settings().lock().all();
        all.into_iter().map(|(name, value)| Row::from([("name", text(name)), ("setting", text(value))])).collect()
    }

    /// This session: a node does not show the others'.
    fn activity(&self) -> Vec<Row> {
        let application = self.cell.settings().lock().get("application_name").unwrap_or_default();
        vec![Row::from([
            ("datid", int(DATABASE_OID)),
            ("datname", text(DATABASE)),
            ("pid", int(self.cell.backend_pid())),
            ("usesysid", int(OWNER)),
            ("usename", text(self.cell.user())),
            ("application_name", text(application)),
            ("state", text("active")),
            ("backend_type", text("client backend")),
        ])]
    }
}

fn attributes(catalog: &Catalog) -> Vec<Row> {
    let attribute = |relation: i32, number: usize, name: &str, ty: SqlType, not_null: bool, default: bool| {
        Row::from([
            ("attrelid", int(relation)),
            ("attname", text(name)),
            ("atttypid", int(values::oid_of(ty) as i32)),
            ("attnum", ScalarValue::Int16(Some(number as i16))),
            ("attlen", ScalarValue::Int16(Some(values::typlen(ty)))),
            ("atttypmod", int(values::typmod(ty))),
            ("attnotnull", truth(not_null)),
            ("atthasdef", truth(default)),
            ("attislocal", truth(true)),
            ("attstattarget", int(-1)),
            ("attcacheoff", int(-1)),
            ("attidentity", text("")),
            ("attgenerated", text("")),
            ("attstorage", text(if values::typlen(ty) < 0 { "x" } else { "p" })),
            ("attalign", text("i")),
            ("attcompression", text("")),
            ("attcollation", int(if matches!(ty, SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_)) { 100 } else { 0 })),
        ])
    };
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for (i, column) in table.columns.iter().enumerate() {
            let mut row = attribute(table.id.0 as i32, i + 1, &column.name, column.ty, !column.nullable, column.default.is_some());
            row.insert("atthasmissing", truth(column.missing.is_some()));
            if let Some(Generated::Identity { always, .. }) = &column.generated {
                row.insert("attidentity", text(if *always { "a" } else { "d" }));
            }
            rows.push(row);
        }
        for (ordinal, _, columns) in table.unique_keys() {
            for (i, column) in columns.iter().filter_map(|id| table.column(*id)).enumerate() {
                rows.push(attribute(index_oid(table, ordinal as usize), i + 1, &column.name, column.ty, false, false));
            }
        }
    }
    for view in catalog.views.values() {
        for (i, (name, ty)) in view.columns.iter().enumerate() {
            rows.push(attribute(view.id.0 as i32, i + 1, name, *ty, false, false));
        }
    }
    rows
}

fn namespaces(catalog: &Catalog) -> Vec<Row> {
    let system = [(PG_CATALOG, "pg_catalog"), (INFORMATION_SCHEMA, "information_schema")];
    let user = catalog.schemas.values().map(|s| (s.id, s.name.as_str()));
    system
        .into_iter()
        .chain(user)
        .map(|(id, name)| Row::from([("oid", int(id.0 as i32)), ("nspname", text(name)), ("nspowner", int(OWNER))]))
        .collect()
}

fn indexes(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for (ordinal, _, columns) in table.unique_keys() {
            rows.push(Row::from([
                ("indexrelid", int(index_oid(table, ordinal as usize))),
                ("indrelid", int(table.id.0 as i32)),
                ("indnatts", ScalarValue::Int16(Some(columns.len() as i16))),
                ("indnkeyatts", ScalarValue::Int16(Some(columns.len() as i16))),
                ("indisunique", truth(true)),
                ("indisprimary", truth(table.primary_key() == Some(columns))),
                ("indimmediate", truth(true)),
                ("indisvalid", truth(true)),
                ("indisready", truth(true)),
                ("indislive", truth(true)),
                ("indkey", numbers(table, columns)),
            ]));
        }
    }
    rows
}

fn constraints(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for (ordinal, constraint) in table.constraints.iter().enumerate() {
            let mut row = Row::from([
                ("oid", int(constraint_oid(table, ordinal))),
                ("conname", text(&constraint.name)),
                ("connamespace", int(table.schema.0 as i32)),
                ("conrelid", int(table.id.0 as i32)),
                ("convalidated", truth(true)),
                ("conislocal", truth(true)),
                ("connoinherit", truth(true)),
                ("confupdtype", text(" ")),
                ("confdeltype", text(" ")),
                ("confmatchtype", text(" ")),
            ]);
            let kind = match &constraint.kind {
                ConstraintKind::PrimaryKey(columns) | ConstraintKind::Unique(columns) => {
                    row.insert("conindid", int(index_oid(table, ordinal)));
                    row.insert("conkey", numbers(table, columns));
                    if matches!(constraint.kind, ConstraintKind::PrimaryKey(_)) { "p" } else { "u" }
                }
                ConstraintKind::Check(sql) => {
                    row.insert("conkey", numbers(table, &ddl::check_columns(table, sql)));
                    "c"
                }
                ConstraintKind::ForeignKey { columns, references, referenced, on_delete, on_update } => {
                    row.insert("confrelid", int(references.0 as i32));
                    row.insert("conkey", numbers(table, columns));
                    if let Some(parent) = catalog.tables.get(references) {
                        row.insert("confkey", numbers(parent, referenced));
                    }
                    row.insert("confupdtype", text(action_letter(*on_update)));
                    row.insert("confdeltype", text(action_letter(*on_delete)));
                    row.insert("confmatchtype", text("s"));
                    "f"
                }
            };
            row.insert("contype", text(kind));
            rows.push(row);
        }
    }
    rows
}

fn action_letter(action: ReferentialAction) -> &'static str {
    match action {
        ReferentialAction::NoAction => "a",
        ReferentialAction::Restrict => "r",
        ReferentialAction::Cascade => "c",
        ReferentialAction::SetNull => "n",
        ReferentialAction::SetDefault => "d",
    }
}

fn defaults(catalog: &Catalog, path: &[String]) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for (i, column) in table.columns.iter().enumerate() {
            if let Some(default) = &column.default {
                rows.push(Row::from([
                    ("oid", int(derived_oid(table, i as u32, 3))),
                    ("adrelid", int(table.id.0 as i32)),
                    ("adnum", ScalarValue::Int16(Some(i as i16 + 1))),
                    ("adbin", text(shown_default(default, catalog, path))),
                ]));
            }
        }
    }
    rows
}

fn databases() -> Vec<Row> {
    vec![Row::from([
        ("oid", int(DATABASE_OID)),
        ("datname", text(DATABASE)),
        ("datdba", int(OWNER)),
        ("encoding", int(6)),
        ("datlocprovider", text("c")),
        ("datcollate", text("C.UTF-8")),
        ("datctype", text("C.UTF-8")),
        ("datallowconn", truth(true)),
        ("datconnlimit", int(-1)),
        ("dattablespace", int(1663)),
    ])]
}

fn roles() -> Vec<Row> {
    vec![Row::from([
        ("oid", int(OWNER)),
        ("rolname", text(SUPERUSER)),
        ("rolsuper", truth(true)),
        ("rolinherit", truth(true)),
        ("rolcreaterole", truth(true)),
        ("rolcreatedb", truth(true)),
        ("rolcanlogin", truth(true)),
        ("rolreplication", truth(true)),
        ("rolbypassrls", truth(true)),
        ("rolconnlimit", int(-1)),
    ])]
}

fn schema_name(catalog: &Catalog, id: SchemaId) -> String {
    catalog.schemas.get(&id).map(|s| s.name.clone()).unwrap_or_default()
}

fn tables(catalog: &Catalog) -> Vec<Row> {
    let row = |t: &Arc<TableDef>| {
        Row::from([
            ("schemaname", text(schema_name(catalog, t.schema))),
            ("tablename", text(&t.name)),
            ("tableowner", text(SUPERUSER)),
            ("hasindexes", truth(t.unique_keys().next().is_some())),
        ])
    };
    catalog.tables.values().map(row).collect()
}

fn index_definitions(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for (ordinal, name, _) in table.unique_keys() {
            let oid = i64::from(index_oid(table, ordinal as usize));
            rows.push(Row::from([
                ("schemaname", text(schema_name(catalog, table.schema))),
                ("tablename", text(&table.name)),
                ("indexname", text(name)),
                ("indexdef", text(system_functions::index_definition(catalog, oid).unwrap_or_default())),
            ]));
        }
    }
    rows
}

fn views(catalog: &Catalog) -> Vec<Row> {
    let row = |v: &Arc<quire_types::ViewDef>| {
        Row::from([
            ("schemaname", text(schema_name(catalog, v.schema))),
            ("viewname", text(&v.name)),
            ("viewowner", text(SUPERUSER)),
            ("definition", text(&v.sql)),
        ])
    };
    catalog.views.values().map(row).collect()
}

/// The SQL standard's catalogs.
struct InformationSchema {
    cell: Arc<ScopeCell>,
}

impl fmt::Debug for InformationSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InformationSchema")
    }
}

const INFORMATION_TABLES: &[(&str, &[(&str, DataType)])] = &[
    ("sequences", system_sequences::INFORMATION_SEQUENCES),
    (
        "routines",
        &[
            ("routine_catalog", DataType::Utf8),
            ("routine_schema", DataType::Utf8),
            ("routine_name", DataType::Utf8),
            ("routine_type", DataType::Utf8),
        ],
    ),
    (
        "role_table_grants",
        &[
            ("grantor", DataType::Utf8),
            ("grantee", DataType::Utf8),
            ("table_catalog", DataType::Utf8),
            ("table_schema", DataType::Utf8),
            ("table_name", DataType::Utf8),
            ("privilege_type", DataType::Utf8),
            ("is_grantable", DataType::Utf8),
        ],
    ),
    ("schemata", &[("catalog_name", DataType::Utf8), ("schema_name", DataType::Utf8), ("schema_owner", DataType::Utf8)]),
    (
        "tables",
        &[
            ("table_catalog", DataType::Utf8),
            ("table_schema", DataType::Utf8),
            ("table_name", DataType::Utf8),
            ("table_type", DataType::Utf8),
            ("is_insertable_into", DataType::Utf8),
        ],
    ),
    (
        "columns",
        &[
            ("table_catalog", DataType::Utf8),
            ("table_schema", DataType::Utf8),
            ("table_name", DataType::Utf8),
            ("column_name", DataType::Utf8),
            ("ordinal_position", DataType::Int32),
            ("column_default", DataType::Utf8),
            ("is_nullable", DataType::Utf8),
            ("data_type", DataType::Utf8),
            ("character_maximum_length", DataType::Int32),
            ("numeric_precision", DataType::Int32),
            ("numeric_scale", DataType::Int32),
            ("datetime_precision", DataType::Int32),
            ("udt_catalog", DataType::Utf8),
            ("udt_schema", DataType::Utf8),
            ("udt_name", DataType::Utf8),
            ("is_identity", DataType::Utf8),
            ("identity_generation", DataType::Utf8),
            ("is_generated", DataType::Utf8),
            ("is_updatable", DataType::Utf8),
        ],
    ),
    (
        "views",
        &[
            ("table_catalog", DataType::Utf8),
            ("table_schema", DataType::Utf8),
            ("table_name", DataType::Utf8),
            ("view_definition", DataType::Utf8),
        ],
    ),
    (
        "table_constraints",
        &[
            ("constraint_catalog", DataType::Utf8),
            ("constraint_schema", DataType::Utf8),
            ("constraint_name", DataType::Utf8),
            ("table_catalog", DataType::Utf8),
            ("table_schema", DataType::Utf8),
            ("table_name", DataType::Utf8),
            ("constraint_type", DataType::Utf8),
            ("enforced", DataType::Utf8),
        ],
    ),
    (
        "key_column_usage",
        &[
            ("constraint_catalog", DataType::Utf8),
            ("constraint_schema", DataType::Utf8),
            ("constraint_name", DataType::Utf8),
            ("table_catalog", DataType::Utf8),
            ("table_schema", DataType::Utf8),
            ("table_name", DataType::Utf8),
            ("column_name", DataType::Utf8),
            ("ordinal_position", DataType::Int32),
        ],
    ),
];

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        INFORMATION_TABLES.iter().map(|(name, _)| (*name).to_string()).collect()
    }

    fn table_exist(&self, name: &str) -> bool {
        INFORMATION_TABLES.iter().any(|(n, _)| *n == name)
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some((_, columns)) = INFORMATION_TABLES.iter().find(|(n, _)| *n == name) else { return Ok(None) };
        let catalog = self.cell.get().catalog;
        let rows = match name {
            // None exists here yet.
            "routines" => vec![],
            "sequences" => system_sequences::information_sequences(&catalog),
            "role_table_grants" => information_grants(&catalog),
            "schemata" => information_schemata(&catalog),
            "tables" => information_tables(&catalog),
            "columns" => information_columns(&catalog, &self.cell.settings().lock().search_path()),
            "views" => information_views(&catalog),
            "table_constraints" => information_constraints(&catalog),
            _ => information_key_columns(&catalog),
        };
        let fields: Vec<Field> = columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect();
        // A missing number is NULL here, not zero.
        let nulls = fields.iter().filter(|f| *f.data_type() == DataType::Int32);
        let nulls: Vec<String> = nulls.map(|f| f.name().clone()).collect();
        let rows = rows.into_iter().map(|mut row| {
            for (name, _) in columns.iter().filter(|(n, _)| nulls.iter().any(|null| null == n)) {
                row.entry(name).or_insert(ScalarValue::Int32(None));
            }
            row
        });
        table_of(&Arc::new(Schema::new(fields)), rows.collect()).map(Some)
    }
}

fn information_schemata(catalog: &Catalog) -> Vec<Row> {
    let names = catalog.schemas.values().map(|s| s.name.as_str()).chain(["pg_catalog", "information_schema"]);
    names.map(|n| Row::from([("catalog_name", text(DATABASE)), ("schema_name", text(n)), ("schema_owner", text(SUPERUSER))])).collect()
}

/// The one role may do everything.
fn information_grants(catalog: &Catalog) -> Vec<Row> {
    let tables = catalog.tables.values().map(|t| (t.schema, t.name.as_str()));
    let views = catalog.views.values().map(|v| (v.schema, v.name.as_str()));
    let mut rows = vec![];
    for (schema, name) in tables.chain(views) {
        for privilege in ["INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"] {
            let mut row = relation(catalog, schema, name);
            row.insert("grantor", text(SUPERUSER));
            row.insert("grantee", text(SUPERUSER));
            row.insert("privilege_type", text(privilege));
            row.insert("is_grantable", text("YES"));
            rows.push(row);
        }
    }
    rows
}

fn relation(catalog: &Catalog, schema: SchemaId, name: &str) -> Row {
    Row::from([("table_catalog", text(DATABASE)), ("table_schema", text(schema_name(catalog, schema))), ("table_name", text(name))])
}

fn information_tables(catalog: &Catalog) -> Vec<Row> {
    let tables = catalog.tables.values().map(|t| (t.schema, t.name.as_str(), "BASE TABLE", "YES"));
    let views = catalog.views.values().map(|v| (v.schema, v.name.as_str(), "VIEW", "NO"));
    let rows = tables.chain(views).map(|(schema, name, kind, insertable)| {
        let mut row = relation(catalog, schema, name);
        row.insert("table_type", text(kind));
        row.insert("is_insertable_into", text(insertable));
        row
    });
    rows.collect()
}

fn information_columns(catalog: &Catalog, path: &[String]) -> Vec<Row> {
    let column = |mut row: Row, number: usize, name: &str, ty: SqlType, nullable: bool, default: Option<&String>| {
        let full = ty.name();
        let base = full.split('(').next().unwrap_or(&full);
        row.insert("column_name", text(name));
        row.insert("ordinal_position", int(number as i32));
        row.insert("is_nullable", text(if nullable { "YES" } else { "NO" }));
        row.insert("data_type", text(base));
        if let Some(default) = default {
            row.insert("column_default", text(shown_default(default, catalog, path)));
        }
        match ty {
            SqlType::Varchar(Some(n)) | SqlType::Char(n) => {
                row.insert("character_maximum_length", int(n as i32));
            }
            SqlType::Numeric { precision, scale } => {
                row.insert("numeric_precision", int(i32::from(precision)));
                row.insert("numeric_scale", int(i32::from(scale)));
            }
            SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => {
                let bits = match ty {
                    SqlType::Int2 => 16,
                    SqlType::Int4 => 32,
                    _ => 64,
                };
                row.insert("numeric_precision", int(bits));
                row.insert("numeric_scale", int(0));
            }
            SqlType::Date => {
                row.insert("datetime_precision", int(0));
            }
            SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz | SqlType::Interval => {
                row.insert("datetime_precision", int(6));
            }
            _ => {}
        }
        row.insert("udt_catalog", text(DATABASE));
        row.insert("udt_schema", text("pg_catalog"));
        row.insert("udt_name", text(values::type_name(ty)));
        row.insert("is_identity", text("NO"));
        row.insert("is_generated", text("NEVER"));
        row.insert("is_updatable", text("YES"));
        row
    };
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for (i, c) in table.columns.iter().enumerate() {
            let mut row = column(relation(catalog, table.schema, &table.name), i + 1, &c.name, c.ty, c.nullable, c.default.as_ref());
            if let Some(Generated::Identity { always, .. }) = &c.generated {
                row.insert("is_identity", text("YES"));
                row.insert("identity_generation", text(if *always { "ALWAYS" } else { "BY DEFAULT" }));
            }
            rows.push(row);
        }
    }
    for view in catalog.views.values() {
        for (i, (name, ty)) in view.columns.iter().enumerate() {
            rows.push(column(relation(catalog, view.schema, &view.name), i + 1, name, *ty, true, None));
        }
    }
    rows
}

fn information_views(catalog: &Catalog) -> Vec<Row> {
    let rows = catalog.views.values().map(|v| {
        let mut row = relation(catalog, v.schema, &v.name);
        row.insert("view_definition", text(&v.sql));
        row
    });
    rows.collect()
}

fn constraint_row(catalog: &Catalog, table: &TableDef, name: &str) -> Row {
    let mut row = relation(catalog, table.schema, &table.name);
    row.insert("constraint_catalog", text(DATABASE));
    row.insert("constraint_schema", text(schema_name(catalog, table.schema)));
    row.insert("constraint_name", text(name));
    row
}

fn information_constraints(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for constraint in &table.constraints {
            let mut row = constraint_row(catalog, table, &constraint.name);
            let (kind, enforced) = match constraint.kind {
                ConstraintKind::PrimaryKey(_) => ("PRIMARY KEY", "YES"),
                ConstraintKind::Unique(_) => ("UNIQUE", "YES"),
                ConstraintKind::Check(_) => ("CHECK", "YES"),
                ConstraintKind::ForeignKey { .. } => ("FOREIGN KEY", "YES"),
            };
            row.insert("constraint_type", text(kind));
            row.insert("enforced", text(enforced));
            rows.push(row);
        }
    }
    rows
}

fn information_key_columns(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for constraint in &table.constraints {
            let columns = match &constraint.kind {
                ConstraintKind::PrimaryKey(columns) | ConstraintKind::Unique(columns) | ConstraintKind::ForeignKey { columns, .. } => {
                    columns
                }
                ConstraintKind::Check(_) => continue,
            };
            let names: Vec<&ColumnDef> = columns.iter().filter_map(|id| table.column(*id)).collect();
            for (i, column) in names.into_iter().enumerate() {
                let mut row = constraint_row(catalog, table, &constraint.name);
                row.insert("column_name", text(&column.name));
                row.insert("ordinal_position", int(i as i32 + 1));
                rows.push(row);
            }
        }
    }
    rows
}
