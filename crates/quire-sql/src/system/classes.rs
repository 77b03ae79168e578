//! Relations, their columns, types and defaults: `pg_class`, `pg_attribute`, `pg_attrdef`, `pg_type`, `pg_namespace`.
//!
//! Each kind of relation adds its rows in a function of its own.

use datafusion::common::ScalarValue;
use quire_types::{Catalog, ConstraintKind, Generated, SchemaId, SqlType, TableDef, View, ViewDef};

use super::oids::{default_oid, index_oid, row_type_oid};
use super::relations::{self, Relation};
use super::rows::{Row, count, int, oid, text, truth};
use super::{INFORMATION_SCHEMA, OWNER, PG_CATALOG, Seen, deparse, sequences, types};
use crate::temp::TEMP_SCHEMA;
use crate::values;

/// Access methods, by their oids in `pg_am`.
const HEAP: i64 = 2;
const BTREE: i64 = 403;
/// The collation `default`.
const DEFAULT_COLLATION: i64 = 100;
/// The collation `C`.
const C_COLLATION: i64 = 950;
/// Bytes in which sizes are counted in `relpages`.
const BLOCK_BYTES: u64 = 8192;

fn class(id: i64, name: &str, schema: SchemaId, kind: &str, columns: usize) -> Row {
    Row::from([
        ("oid", oid(id)),
        ("relname", text(name)),
        ("relnamespace", oid(schema.0)),
        ("relowner", oid(OWNER)),
        ("relkind", text(kind)),
        ("relpersistence", text(if schema == TEMP_SCHEMA { "t" } else { "p" })),
        ("relreplident", text("n")),
        ("relispopulated", truth(true)),
        ("relnatts", count(columns)),
        ("relfilenode", oid(if kind == "v" { 0 } else { id })),
        ("reltuples", ScalarValue::Float32(Some(if kind == "v" { 0.0 } else { -1.0 }))),
    ])
}

/// `pg_class` of what users made.
pub(super) fn classes(catalog: &Catalog, view: &View) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        rows.push(table_class(catalog, table, view));
        for (ordinal, name, columns) in table.indexes() {
            let mut row = class(index_oid(table, ordinal as usize), name, table.schema, "i", columns.len());
            row.insert("relam", oid(BTREE));
            rows.push(row);
        }
    }
    rows.extend(catalog.views.values().map(|view| view_class(view)));
    let columns = sequences::COLUMNS.len();
    rows.extend(catalog.sequences.values().map(|s| class(s.id.0.into(), &s.name, s.schema, "S", columns)));
    rows
}

fn table_class(catalog: &Catalog, table: &TableDef, view: &View) -> Row {
    let mut row = class(table.id.0.into(), &table.name, table.schema, "r", table.columns.len());
    let rows = view.tables.get(&table.id).map_or(0, |t| t.row_count());
    let is_check = |kind: &ConstraintKind| matches!(kind, ConstraintKind::Check(_));
    row.insert("reltuples", ScalarValue::Float32(Some(rows as f32)));
    row.insert("relpages", count((super::sizes::table_bytes(view, table) / BLOCK_BYTES) as usize));
    row.insert("reltype", oid(row_type_oid(table.id.0)));
    row.insert("relam", oid(HEAP));
    row.insert("relreplident", text("d"));
    row.insert("relhasindex", truth(table.indexes().next().is_some()));
    row.insert("relchecks", count(table.constraints.iter().filter(|c| is_check(&c.kind)).count()));
    // A foreign key is two triggers on either side.
    row.insert("relhastriggers", truth(super::constraints::has_foreign_key(catalog, table)));
    row
}

fn view_class(view: &ViewDef) -> Row {
    let mut row = class(view.id.0.into(), &view.name, view.schema, "v", view.columns.len());
    row.insert("reltype", oid(row_type_oid(view.id.0)));
    row.insert("relhasrules", truth(true));
    row
}

/// `pg_class` of the system relations.
pub(super) fn system_classes() -> Vec<Row> {
    let of = |relation: &Relation| {
        let mut row = class(relation.oid, relation.name, schema_of(relation), relation.kind, relation.columns.len());
        match relation.kind {
            "v" => row.insert("relhasrules", truth(true)),
            _ => row.insert("relam", oid(HEAP)),
        };
        row
    };
    relations::all().iter().map(of).collect()
}

fn schema_of(relation: &Relation) -> SchemaId {
    if relation.schema == "pg_catalog" { PG_CATALOG } else { INFORMATION_SCHEMA }
}

fn attribute(relation: i64, number: usize, name: &str, not_null: bool) -> Row {
    Row::from([
        ("attrelid", oid(relation)),
        ("attname", text(name)),
        ("attnum", count(number)),
        ("atttypmod", int(-1)),
        ("attnotnull", truth(not_null)),
        ("attislocal", truth(true)),
        ("attstattarget", int(-1)),
        ("attcacheoff", int(-1)),
    ])
}

fn typed_attribute(relation: i64, number: usize, name: &str, ty: SqlType, not_null: bool) -> Row {
    let mut row = attribute(relation, number, name, not_null);
    let type_oid = i64::from(values::oid_of(ty));
    row.insert("atttypid", oid(type_oid));
    row.insert("atttypmod", int(values::typmod(ty)));
    row.insert("attlen", int(values::typlen(ty)));
    if let Some(info) = types::by_oid(type_oid) {
        row.insert("attstorage", text(&info.storage));
        row.insert("attalign", text(&info.align));
        row.insert("attbyval", truth(info.by_value));
    }
    if matches!(ty, SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_)) {
        row.insert("attcollation", oid(DEFAULT_COLLATION));
    }
    row
}

/// `pg_attribute` of what users made.
pub(super) fn attributes(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for (i, column) in table.columns.iter().enumerate() {
            let mut row = typed_attribute(table.id.0.into(), i + 1, &column.name, column.ty, !column.nullable);
            row.insert("atthasdef", truth(column.default.is_some() || matches!(column.generated, Some(Generated::Stored(_)))));
            row.insert("atthasmissing", truth(column.missing.is_some()));
            if let Some(Generated::Identity { always, .. }) = &column.generated {
                row.insert("attidentity", text(if *always { "a" } else { "d" }));
            }
            if let Some(Generated::Stored(_)) = &column.generated {
                row.insert("attgenerated", text("s"));
            }
            rows.push(row);
        }
        for (ordinal, _, columns) in table.indexes() {
            let index = index_oid(table, ordinal as usize);
            let columns = columns.iter().filter_map(|id| table.column(*id));
            rows.extend(columns.enumerate().map(|(i, column)| typed_attribute(index, i + 1, &column.name, column.ty, false)));
        }
    }
    for sequence in catalog.sequences.values() {
        let columns = sequences::COLUMNS.iter().enumerate();
        rows.extend(columns.map(|(i, (name, ty))| typed_attribute(sequence.id.0.into(), i + 1, name, *ty, true)));
    }
    for view in catalog.views.values() {
        let columns = view.columns.iter().enumerate();
        rows.extend(columns.map(|(i, (name, ty))| typed_attribute(view.id.0.into(), i + 1, name, *ty, false)));
    }
    rows
}

/// `pg_attribute` of the system relations.
pub(super) fn system_attributes() -> Vec<Row> {
    let mut rows = vec![];
    for relation in relations::all() {
        for (i, column) in relation.columns.iter().enumerate() {
            let mut row = attribute(relation.oid, i + 1, column.name, column.not_null);
            if let Some(info) = types::by_name(column.ty) {
                row.insert("atttypid", oid(info.oid));
                row.insert("attlen", int(info.len));
                row.insert("attstorage", text(&info.storage));
                row.insert("attalign", text(&info.align));
                row.insert("attbyval", truth(info.by_value));
                // Catalogs are sorted byte by byte.
                row.insert("attcollation", oid(if info.collation == 0 { 0 } else { C_COLLATION }));
            }
            rows.push(row);
        }
    }
    rows
}

/// `pg_attrdef`.
pub(super) fn defaults(seen: &Seen<'_>) -> Vec<Row> {
    let mut rows = vec![];
    for table in seen.catalog.tables.values() {
        for (i, column) in table.columns.iter().enumerate() {
            let text_of = match (&column.default, &column.generated) {
                (_, Some(Generated::Stored(sql))) => deparse::check(table, sql, false),
                (Some(default), _) => sequences::default(seen, default, column.ty),
                (None, _) => continue,
            };
            rows.push(Row::from([
                ("oid", oid(default_oid(table, i))),
                ("adrelid", oid(table.id.0)),
                ("adnum", count(i + 1)),
                ("adbin", text(text_of)),
            ]));
        }
    }
    rows
}

/// `pg_type`: the type of each relation's rows.
pub(super) fn row_types(catalog: &Catalog) -> Vec<Row> {
    let tables = catalog.tables.values().map(|t| (t.id.0, t.schema, &t.name));
    let views = catalog.views.values().map(|v| (v.id.0, v.schema, &v.name));
    let row = |(id, schema, name): (u32, SchemaId, &String)| {
        Row::from([
            ("oid", oid(row_type_oid(id))),
            ("typname", text(name)),
            ("typnamespace", oid(schema.0)),
            ("typowner", oid(OWNER)),
            ("typlen", int(-1)),
            ("typtype", text("c")),
            ("typcategory", text("C")),
            ("typisdefined", truth(true)),
            ("typdelim", text(",")),
            ("typrelid", oid(id)),
            ("typsubscript", text("-")),
            ("typinput", text("record_in")),
            ("typoutput", text("record_out")),
            ("typreceive", text("record_recv")),
            ("typsend", text("record_send")),
            ("typmodin", text("-")),
            ("typmodout", text("-")),
            ("typanalyze", text("-")),
            ("typalign", text("d")),
            ("typstorage", text("x")),
            ("typtypmod", int(-1)),
        ])
    };
    tables.chain(views).map(row).collect()
}

/// `pg_namespace`.
pub(super) fn namespaces(catalog: &Catalog) -> Vec<Row> {
    let system = [(PG_CATALOG, "pg_catalog"), (INFORMATION_SCHEMA, "information_schema")];
    let user = catalog.schemas.values().map(|s| (s.id, s.name.as_str()));
    let row = |(id, name): (SchemaId, &str)| Row::from([("oid", oid(id.0)), ("nspname", text(name)), ("nspowner", oid(OWNER))]);
    system.into_iter().chain(user).map(row).collect()
}
