//! Keys and constraints: `pg_index`, `pg_constraint`, and how they are written.
//!
//! Indexes are those that PRIMARY KEY and UNIQUE make, and those of CREATE INDEX, which are no constraints.

use std::collections::HashMap;
use std::sync::LazyLock;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use quire_types::{Catalog, ColumnId, ConstraintKind, Deferrable, ReferentialAction, TableDef};

use super::oids::{constraint_oid, index_oid, quoted};
use super::rows::{Row, count, numbers, oid, oids, text, truth};
use super::{Seen, deparse, fixed, relations};
use crate::{ddl, values};

/// The collation `default`.
const DEFAULT_COLLATION: i64 = 100;
const BTREE: i64 = 403;

fn attribute_number(table: &TableDef, id: ColumnId) -> i16 {
    table.columns.iter().position(|c| c.id == id).map_or(0, |i| i as i16 + 1)
}

fn key(table: &TableDef, columns: &[ColumnId]) -> Vec<i16> {
    columns.iter().map(|id| attribute_number(table, *id)).collect()
}

/// Whether the table is on either side of a foreign key.
pub(super) fn has_foreign_key(catalog: &Catalog, table: &TableDef) -> bool {
    let refers = |kind: &ConstraintKind| matches!(kind, ConstraintKind::ForeignKey { .. });
    let referred = |kind: &ConstraintKind| matches!(kind, ConstraintKind::ForeignKey { references, .. } if *references == table.id);
    table.constraints.iter().any(|c| refers(&c.kind)) || catalog.tables.values().any(|t| t.constraints.iter().any(|c| referred(&c.kind)))
}

/// The operator class by which a btree orders a type.
fn operator_class(type_oid: i64) -> i64 {
    static CLASSES: LazyLock<HashMap<i64, i64>> = LazyLock::new(|| {
        let batch = relations::find("pg_catalog", "pg_opclass").and_then(|r| fixed::batch(r).ok().flatten());
        let read = batch.as_ref().and_then(|batch| {
            let number = |name: &str| batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
            let (class, method, input) = (number("oid")?, number("opcmethod")?, number("opcintype")?);
            let default = batch.column_by_name("opcdefault")?.as_boolean_opt()?;
            let rows = (0..batch.num_rows()).filter(|row| default.value(*row) && method.value(*row) == BTREE);
            Some(rows.map(|row| (input.value(row), class.value(row))).collect())
        });
        read.unwrap_or_default()
    });
    // A varchar is ordered as text.
    let type_oid = if type_oid == 1043 { 25 } else { type_oid };
    CLASSES.get(&type_oid).copied().unwrap_or_default()
}

/// `pg_index`.
pub(super) fn indexes(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for (ordinal, _, columns) in table.indexes() {
            let kind = &table.constraints[ordinal as usize].kind;
            let types: Vec<i64> = columns.iter().filter_map(|id| table.column(*id)).map(|c| i64::from(values::oid_of(c.ty))).collect();
            let collation = |ty: &i64| super::types::by_oid(*ty).map_or(0, |t| if t.collation == 0 { 0 } else { DEFAULT_COLLATION });
            rows.push(Row::from([
                ("indexrelid", oid(index_oid(table, ordinal as usize))),
                ("indrelid", oid(table.id.0)),
                ("indnatts", count(columns.len())),
                ("indnkeyatts", count(columns.len())),
                ("indisunique", truth(kind.unique_columns().is_some())),
                ("indisprimary", truth(matches!(kind, ConstraintKind::PrimaryKey(_)))),
                ("indimmediate", truth(table.constraints[ordinal as usize].deferrable == Deferrable::Not)),
                ("indisvalid", truth(true)),
                ("indisready", truth(true)),
                ("indislive", truth(true)),
                ("indkey", numbers(key(table, columns))),
                ("indcollation", oids(types.iter().map(collation))),
                ("indclass", oids(types.iter().map(|ty| operator_class(*ty)))),
                ("indoption", numbers(columns.iter().map(|_| 0))),
            ]));
        }
    }
    rows
}

/// `pg_constraint`.
pub(super) fn constraints(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for (ordinal, constraint) in table.constraints.iter().enumerate() {
            let mut row = Row::from([
                ("oid", oid(constraint_oid(table, ordinal))),
                ("conname", text(&constraint.name)),
                ("connamespace", oid(table.schema.0)),
                ("conrelid", oid(table.id.0)),
                ("convalidated", truth(true)),
                ("conislocal", truth(true)),
                ("condeferrable", truth(constraint.deferrable != Deferrable::Not)),
                ("condeferred", truth(constraint.deferrable == Deferrable::InitiallyDeferred)),
                ("connoinherit", truth(!matches!(constraint.kind, ConstraintKind::Check(_)))),
                ("confupdtype", text(" ")),
                ("confdeltype", text(" ")),
                ("confmatchtype", text(" ")),
            ]);
            let kind = match &constraint.kind {
                ConstraintKind::PrimaryKey(columns) | ConstraintKind::Unique(columns) => {
                    row.insert("conindid", oid(index_oid(table, ordinal)));
                    row.insert("conkey", numbers(key(table, columns)));
                    if matches!(constraint.kind, ConstraintKind::PrimaryKey(_)) { "p" } else { "u" }
                }
                ConstraintKind::Check(sql) => {
                    row.insert("conkey", numbers(key(table, &ddl::check_columns(table, sql))));
                    row.insert("conbin", text(deparse::check(table, sql, false)));
                    "c"
                }
                ConstraintKind::ForeignKey { columns, references, referenced, on_delete, on_update } => {
                    row.insert("confrelid", oid(references.0));
                    row.insert("conkey", numbers(key(table, columns)));
                    if let Some(parent) = catalog.tables.get(references) {
                        row.insert("confkey", numbers(key(parent, referenced)));
                        if let Some(index) = referenced_index(parent, referenced) {
                            row.insert("conindid", oid(index));
                        }
                    }
                    row.insert("confupdtype", text(action_letter(*on_update)));
                    row.insert("confdeltype", text(action_letter(*on_delete)));
                    row.insert("confmatchtype", text("s"));
                    "f"
                }
                ConstraintKind::Index { .. } => continue,
            };
            row.insert("contype", text(kind));
            rows.push(row);
        }
    }
    rows
}

/// The index of the key that a foreign key refers to; its columns may stand in another order there.
fn referenced_index(parent: &TableDef, referenced: &[ColumnId]) -> Option<i64> {
    let same = |columns: &[ColumnId]| columns.len() == referenced.len() && columns.iter().all(|c| referenced.contains(c));
    parent.certain_keys().find(|(_, _, columns)| same(columns)).map(|(ordinal, ..)| index_oid(parent, ordinal as usize))
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

fn column_list(table: &TableDef, columns: &[ColumnId]) -> String {
    let names: Vec<String> = columns.iter().filter_map(|id| table.column(*id)).map(|c| quoted(&c.name)).collect();
    names.join(", ")
}

/// `pg_get_constraintdef`.
pub(super) fn constraint_definition(seen: &Seen<'_>, oid: i64, pretty: bool) -> Option<String> {
    for table in seen.catalog.tables.values() {
        let found = table.constraints.iter().enumerate().find(|(ordinal, _)| constraint_oid(table, *ordinal) == oid);
        let Some((_, constraint)) = found else { continue };
        let deferrable = match constraint.deferrable {
            Deferrable::Not => "",
            Deferrable::InitiallyImmediate => " DEFERRABLE",
            Deferrable::InitiallyDeferred => " DEFERRABLE INITIALLY DEFERRED",
        };
        return Some(match &constraint.kind {
            ConstraintKind::PrimaryKey(columns) => format!("PRIMARY KEY ({}){deferrable}", column_list(table, columns)),
            ConstraintKind::Unique(columns) => format!("UNIQUE ({}){deferrable}", column_list(table, columns)),
            ConstraintKind::Check(sql) => format!("CHECK ({})", deparse::check(table, sql, pretty)),
            ConstraintKind::ForeignKey { columns, references, referenced, on_delete, on_update } => {
                let keys = seen.catalog.tables.get(references).map(|parent| column_list(parent, referenced)).unwrap_or_default();
                let name = seen.class_name(references.0.into());
                let columns = column_list(table, columns);
                let (on_update, on_delete) = (on("UPDATE", *on_update), on("DELETE", *on_delete));
                format!("FOREIGN KEY ({columns}) REFERENCES {name}({keys}){on_update}{on_delete}{deferrable}")
            }
            ConstraintKind::Index { .. } => return None,
        });
    }
    None
}

fn on(event: &str, action: ReferentialAction) -> String {
    match action {
        ReferentialAction::NoAction => String::new(),
        ReferentialAction::Restrict => format!(" ON {event} RESTRICT"),
        ReferentialAction::Cascade => format!(" ON {event} CASCADE"),
        ReferentialAction::SetNull => format!(" ON {event} SET NULL"),
        ReferentialAction::SetDefault => format!(" ON {event} SET DEFAULT"),
    }
}

/// `pg_get_indexdef`: the whole statement, or one column from 1. The pretty form leaves out the schema where it can be.
pub(super) fn index_definition(seen: &Seen<'_>, oid: i64, column: i64, pretty: bool) -> Option<String> {
    for table in seen.catalog.tables.values() {
        let found = table.indexes().find(|(ordinal, ..)| index_oid(table, *ordinal as usize) == oid);
        let Some((ordinal, name, columns)) = found else { continue };
        if column != 0 {
            let id = usize::try_from(column - 1).ok().and_then(|i| columns.get(i));
            return Some(id.and_then(|id| table.column(*id)).map(|c| quoted(&c.name)).unwrap_or_default());
        }
        let schema = super::oids::schema_name(seen.catalog, table.schema);
        let on = match pretty {
            true => seen.class_name(table.id.0.into()),
            false => format!("{}.{}", quoted(&schema), quoted(&table.name)),
        };
        let unique = if table.constraints[ordinal as usize].kind.unique_columns().is_some() { "UNIQUE " } else { "" };
        return Some(format!("CREATE {unique}INDEX {} ON {on} USING btree ({})", quoted(name), column_list(table, columns)));
    }
    None
}
