//! `information_schema`: the SQL standard's catalogs.

use quire_types::{Catalog, ColumnDef, ConstraintKind, Deferrable, Generated, ReferentialAction, SchemaId, SqlType, TableDef};

use super::oids::schema_name;
use super::rows::{Row, count, int, text};
use super::{Seen, deparse, sequences, viewdef};
use crate::catalog::DATABASE;
use crate::engine::SUPERUSER;
use crate::temp::TEMP_SCHEMA;
use crate::values;

/// Bytes that a text without a length may have, by the standard's count.
const OCTETS_MAX: i64 = 1 << 30;

/// Rows of one of its relations. Those of what does not exist here have none.
pub(super) fn rows(seen: &Seen<'_>, name: &str) -> Vec<Row> {
    let catalog = seen.catalog;
    match name {
        "information_schema_catalog_name" => vec![Row::from([("catalog_name", text(DATABASE))])],
        "schemata" => schemata(catalog),
        "tables" => tables(catalog),
        "columns" => columns(seen),
        "views" => views(seen),
        "sequences" => sequences::information_sequences(catalog),
        "table_constraints" => constraints(catalog),
        "key_column_usage" => key_columns(catalog),
        "referential_constraints" => references(catalog),
        "constraint_column_usage" => used_columns(catalog),
        "constraint_table_usage" => used_tables(catalog),
        "check_constraints" => checks(catalog),
        "table_privileges" | "role_table_grants" => grants(catalog),
        "column_privileges" | "role_column_grants" => column_grants(catalog),
        "enabled_roles" | "applicable_roles" => vec![Row::from([("role_name", text(SUPERUSER))])],
        _ => vec![],
    }
}

fn schemata(catalog: &Catalog) -> Vec<Row> {
    let names = catalog.schemas.values().map(|s| s.name.as_str()).chain(["pg_catalog", "information_schema"]);
    names.map(|n| Row::from([("catalog_name", text(DATABASE)), ("schema_name", text(n)), ("schema_owner", text(SUPERUSER))])).collect()
}

fn relation(catalog: &Catalog, schema: SchemaId, name: &str) -> Row {
    Row::from([("table_catalog", text(DATABASE)), ("table_schema", text(schema_name(catalog, schema))), ("table_name", text(name))])
}

/// Tables and views: schema, name, names of columns.
fn relations(catalog: &Catalog) -> Vec<(SchemaId, &str, Vec<&str>)> {
    let tables = catalog.tables.values().map(|t| (t.schema, t.name.as_str(), t.columns.iter().map(|c| c.name.as_str()).collect()));
    let views = catalog.views.values().map(|v| (v.schema, v.name.as_str(), v.columns.iter().map(|(n, _)| n.as_str()).collect()));
    tables.chain(views).collect()
}

fn granted(mut row: Row, privilege: &str) -> Row {
    row.insert("grantor", text(SUPERUSER));
    row.insert("grantee", text(SUPERUSER));
    row.insert("privilege_type", text(privilege));
    row.insert("is_grantable", text("YES"));
    row
}

/// The one role may do everything.
fn grants(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for (schema, name, _) in relations(catalog) {
        for privilege in ["INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"] {
            let mut row = granted(relation(catalog, schema, name), privilege);
            row.insert("with_hierarchy", text(if privilege == "SELECT" { "YES" } else { "NO" }));
            rows.push(row);
        }
    }
    rows
}

fn column_grants(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for (schema, name, columns) in relations(catalog) {
        for column in columns {
            for privilege in ["INSERT", "SELECT", "UPDATE", "REFERENCES"] {
                let mut row = granted(relation(catalog, schema, name), privilege);
                row.insert("column_name", text(column));
                rows.push(row);
            }
        }
    }
    rows
}

fn tables(catalog: &Catalog) -> Vec<Row> {
    let kind = |schema: SchemaId| if schema == TEMP_SCHEMA { "LOCAL TEMPORARY" } else { "BASE TABLE" };
    let tables = catalog.tables.values().map(|t| (t.schema, t.name.as_str(), kind(t.schema), "YES"));
    let views = catalog.views.values().map(|v| (v.schema, v.name.as_str(), "VIEW", "NO"));
    let rows = tables.chain(views).map(|(schema, name, kind, insertable)| {
        let mut row = relation(catalog, schema, name);
        row.insert("table_type", text(kind));
        row.insert("is_insertable_into", text(insertable));
        row.insert("is_typed", text("NO"));
        row
    });
    rows.collect()
}

fn columns(seen: &Seen<'_>) -> Vec<Row> {
    let catalog = seen.catalog;
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for (i, c) in table.columns.iter().enumerate() {
            let mut row = column(relation(catalog, table.schema, &table.name), i + 1, &c.name, c.ty, c.nullable);
            if let Some(default) = &c.default {
                row.insert("column_default", text(sequences::default(seen, default, c.ty)));
            }
            if let Some(Generated::Identity { sequence, always }) = &c.generated {
                row.insert("is_identity", text("YES"));
                row.insert("identity_generation", text(if *always { "ALWAYS" } else { "BY DEFAULT" }));
                row.extend(catalog.sequences.get(sequence).into_iter().flat_map(|s| sequences::identity(s)));
            }
            if let Some(Generated::Stored(sql)) = &c.generated {
                row.insert("is_generated", text("ALWAYS"));
                row.insert("generation_expression", text(deparse::check(table, sql, false)));
            }
            rows.push(row);
        }
    }
    for view in catalog.views.values() {
        for (i, (name, ty)) in view.columns.iter().enumerate() {
            rows.push(column(relation(catalog, view.schema, &view.name), i + 1, name, *ty, true));
        }
    }
    rows
}

fn column(mut row: Row, number: usize, name: &str, ty: SqlType, nullable: bool) -> Row {
    row.insert("column_name", text(name));
    row.insert("ordinal_position", count(number));
    row.insert("is_nullable", text(if nullable { "YES" } else { "NO" }));
    let full = ty.name();
    row.insert("data_type", text(full.split('(').next().unwrap_or(&full)));
    match ty {
        SqlType::Varchar(Some(n)) | SqlType::Char(n) => {
            row.insert("character_maximum_length", int(n));
            row.insert("character_octet_length", int(i64::from(n) * 4));
        }
        SqlType::Text | SqlType::Varchar(None) => {
            row.insert("character_octet_length", int(OCTETS_MAX));
        }
        SqlType::Numeric { precision, scale } => {
            row.insert("numeric_precision_radix", int(10));
            // The greatest precision stands for none.
            if precision < 38 {
                row.insert("numeric_precision", int(precision));
                row.insert("numeric_scale", int(scale));
            }
        }
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Float4 | SqlType::Float8 => {
            let bits = match ty {
                SqlType::Int2 => 16,
                SqlType::Int4 => 32,
                SqlType::Int8 => 64,
                SqlType::Float4 => 24,
                _ => 53,
            };
            row.insert("numeric_precision", int(bits));
            row.insert("numeric_precision_radix", int(2));
            if !matches!(ty, SqlType::Float4 | SqlType::Float8) {
                row.insert("numeric_scale", int(0));
            }
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
    row.insert("dtd_identifier", text(number.to_string()));
    row.insert("is_self_referencing", text("NO"));
    row.insert("is_identity", text("NO"));
    row.insert("identity_cycle", text("NO"));
    row.insert("is_generated", text("NEVER"));
    row.insert("is_updatable", text("YES"));
    row
}

fn views(seen: &Seen<'_>) -> Vec<Row> {
    let rows = seen.catalog.views.values().map(|view| {
        let mut row = relation(seen.catalog, view.schema, &view.name);
        row.insert("view_definition", text(viewdef::definition(seen, view, false)));
        row.insert("check_option", text("NONE"));
        for column in ["is_updatable", "is_insertable_into", "is_trigger_updatable", "is_trigger_deletable", "is_trigger_insertable_into"] {
            row.insert(column, text("NO"));
        }
        row
    });
    rows.collect()
}

/// The constraint by its name, and no table.
fn constraint_name(catalog: &Catalog, table: &TableDef, name: &str) -> Row {
    Row::from([
        ("constraint_catalog", text(DATABASE)),
        ("constraint_schema", text(schema_name(catalog, table.schema))),
        ("constraint_name", text(name)),
    ])
}

fn constraint_row(catalog: &Catalog, table: &TableDef, name: &str) -> Row {
    let mut row = relation(catalog, table.schema, &table.name);
    row.extend(constraint_name(catalog, table, name));
    row
}

fn constraints(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for constraint in &table.constraints {
            let mut row = constraint_row(catalog, table, &constraint.name);
            let kind = match constraint.kind {
                ConstraintKind::PrimaryKey(_) => "PRIMARY KEY",
                ConstraintKind::Unique(_) => "UNIQUE",
                ConstraintKind::Check(_) => "CHECK",
                ConstraintKind::ForeignKey { .. } => "FOREIGN KEY",
                ConstraintKind::Index { .. } => continue,
            };
            row.insert("constraint_type", text(kind));
            let deferrable = constraint.deferrable;
            let yes_or_no = |yes: bool| text(if yes { "YES" } else { "NO" });
            row.insert("is_deferrable", yes_or_no(deferrable != Deferrable::Not));
            row.insert("initially_deferred", yes_or_no(deferrable == Deferrable::InitiallyDeferred));
            row.insert("enforced", text("YES"));
            rows.push(row);
        }
    }
    rows
}

fn key_columns(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for constraint in &table.constraints {
            let columns = match &constraint.kind {
                ConstraintKind::PrimaryKey(columns) | ConstraintKind::Unique(columns) | ConstraintKind::ForeignKey { columns, .. } => {
                    columns
                }
                ConstraintKind::Check(_) | ConstraintKind::Index { .. } => continue,
            };
            let names: Vec<&ColumnDef> = columns.iter().filter_map(|id| table.column(*id)).collect();
            for (i, column) in names.into_iter().enumerate() {
                let mut row = constraint_row(catalog, table, &constraint.name);
                row.insert("column_name", text(&column.name));
                row.insert("ordinal_position", count(i + 1));
                if let Some(position) = position_in_key(catalog, &constraint.kind, i) {
                    row.insert("position_in_unique_constraint", count(position));
                }
                rows.push(row);
            }
        }
    }
    rows
}

/// Where the column that a foreign key's column refers to stands in the key that it belongs to.
fn position_in_key(catalog: &Catalog, kind: &ConstraintKind, column: usize) -> Option<usize> {
    let ConstraintKind::ForeignKey { references, referenced, .. } = kind else { return None };
    let (_, _, key) = referenced_key(catalog.tables.get(references)?, referenced)?;
    key.iter().position(|id| *id == referenced[column]).map(|i| i + 1)
}

fn referenced_key<'a>(parent: &'a TableDef, referenced: &[quire_types::ColumnId]) -> Option<(u32, &'a str, &'a [quire_types::ColumnId])> {
    parent.certain_keys().find(|(_, _, columns)| columns.len() == referenced.len() && columns.iter().all(|c| referenced.contains(c)))
}

fn references(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for constraint in &table.constraints {
            let ConstraintKind::ForeignKey { references, referenced, on_delete, on_update, .. } = &constraint.kind else { continue };
            let mut row = constraint_name(catalog, table, &constraint.name);
            if let Some(parent) = catalog.tables.get(references)
                && let Some((ordinal, key, _)) = referenced_key(parent, referenced)
                && parent.constraints[ordinal as usize].is_constraint()
            {
                row.insert("unique_constraint_catalog", text(DATABASE));
                row.insert("unique_constraint_schema", text(schema_name(catalog, parent.schema)));
                row.insert("unique_constraint_name", text(key));
            }
            row.insert("match_option", text("NONE"));
            row.insert("update_rule", text(rule(*on_update)));
            row.insert("delete_rule", text(rule(*on_delete)));
            rows.push(row);
        }
    }
    rows
}

fn rule(action: ReferentialAction) -> &'static str {
    match action {
        ReferentialAction::NoAction => "NO ACTION",
        ReferentialAction::Restrict => "RESTRICT",
        ReferentialAction::Cascade => "CASCADE",
        ReferentialAction::SetNull => "SET NULL",
        ReferentialAction::SetDefault => "SET DEFAULT",
    }
}

/// Columns that constraints speak of: of a foreign key those that it refers to.
fn used_columns(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for constraint in &table.constraints {
            let (owner, columns) = match &constraint.kind {
                ConstraintKind::PrimaryKey(columns) | ConstraintKind::Unique(columns) => (Some(table), columns.clone()),
                ConstraintKind::Check(sql) => (Some(table), crate::ddl::check_columns(table, sql)),
                ConstraintKind::ForeignKey { references, referenced, .. } => (catalog.tables.get(references), referenced.clone()),
                ConstraintKind::Index { .. } => continue,
            };
            let Some(owner) = owner else { continue };
            for column in columns.iter().filter_map(|id| owner.column(*id)) {
                let mut row = relation(catalog, owner.schema, &owner.name);
                row.extend(constraint_name(catalog, table, &constraint.name));
                row.insert("column_name", text(&column.name));
                rows.push(row);
            }
        }
    }
    rows
}

fn used_tables(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for constraint in &table.constraints {
            let owner = match &constraint.kind {
                ConstraintKind::PrimaryKey(_) | ConstraintKind::Unique(_) => Some(table),
                ConstraintKind::ForeignKey { references, .. } => catalog.tables.get(references),
                ConstraintKind::Check(_) | ConstraintKind::Index { .. } => None,
            };
            let Some(owner) = owner else { continue };
            let mut row = relation(catalog, owner.schema, &owner.name);
            row.extend(constraint_name(catalog, table, &constraint.name));
            rows.push(row);
        }
    }
    rows
}

fn checks(catalog: &Catalog) -> Vec<Row> {
    let mut rows = vec![];
    for table in catalog.tables.values() {
        for constraint in &table.constraints {
            let ConstraintKind::Check(sql) = &constraint.kind else { continue };
            let mut row = constraint_name(catalog, table, &constraint.name);
            row.insert("check_clause", text(format!("({})", deparse::check(table, sql, false))));
            rows.push(row);
        }
    }
    rows
}
