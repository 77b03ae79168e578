//! Numbers of things, and the things of numbers.

use quire_types::{Catalog, SchemaId, TableDef};

use super::{INFORMATION_SCHEMA, PG_CATALOG, relations};

/// An index, be it a constraint's or not.
pub(crate) fn index_oid(table: &TableDef, ordinal: usize) -> i64 {
    derived(table.id.0, ordinal, 1)
}

pub(crate) fn constraint_oid(table: &TableDef, ordinal: usize) -> i64 {
    derived(table.id.0, ordinal, 2)
}

pub(super) fn default_oid(table: &TableDef, column: usize) -> i64 {
    derived(table.id.0, column, 3)
}

/// The type of a relation's rows (`pg_class.reltype`).
pub(super) fn row_type_oid(relation: u32) -> i64 {
    derived(relation, 0, 4)
}

/// oids of things that have no id of their own: stable while the definition that they are part of is. Above 2³¹, where no id is
/// handed out.
fn derived(relation: u32, ordinal: usize, kind: u32) -> i64 {
    let mixed = relation ^ (ordinal as u32).wrapping_mul(0x9E37_79B1) ^ kind.wrapping_mul(0x85EB_CA6B);
    i64::from(mixed | 0x8000_0000)
}

/// A system relation by its bare name.
pub(crate) fn system_class_oid(name: &str) -> Option<i64> {
    relations::find("pg_catalog", name).map(|r| r.oid)
}

/// The schema and name of the relation or index with that oid.
pub(crate) fn class_by_oid(catalog: &Catalog, oid: i64) -> Option<(String, String)> {
    if let Some(relation) = relations::all().iter().find(|r| r.oid == oid) {
        return Some((relation.schema.to_string(), relation.name.to_string()));
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
        if let Some((_, index, _)) = table.indexes().find(|(n, ..)| index_oid(table, *n as usize) == oid) {
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

pub(super) fn schema_name(catalog: &Catalog, id: SchemaId) -> String {
    catalog.schemas.get(&id).map(|s| s.name.clone()).unwrap_or_default()
}

/// A name as SQL text: quoted where it must be.
pub(crate) fn quoted(name: &str) -> String {
    let plain = name.chars().enumerate().all(|(i, c)| c == '_' || c.is_ascii_lowercase() || i > 0 && c.is_ascii_digit());
    if plain && !name.is_empty() && !crate::resolve::is_reserved(name) {
        name.to_string()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}
