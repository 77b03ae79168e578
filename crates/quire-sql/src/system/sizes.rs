//! How large things are: a table's bytes in the log and in segments.

use quire_types::{Catalog, TableDef, View};

pub(super) fn table_bytes(view: &View, table: &TableDef) -> u64 {
    view.tables.get(&table.id).map_or(0, |rows| rows.delta_bytes() + rows.segments.iter().map(|s| s.bytes).sum::<u64>())
}

/// `pg_table_size` and its kind. Keys are looked up in the table's own pages, so an index takes no bytes. `None` for what is no relation.
pub(super) fn relation_bytes(catalog: &Catalog, view: &View, oid: i64) -> Option<i64> {
    let table = catalog.tables.values().find(|t| i64::from(t.id.0) == oid);
    match table {
        Some(table) => i64::try_from(table_bytes(view, table)).ok(),
        None => super::oids::class_by_oid(catalog, oid).map(|_| 0),
    }
}

/// `pg_database_size`.
pub(super) fn database_bytes(catalog: &Catalog, view: &View) -> i64 {
    catalog.tables.values().map(|table| i64::try_from(table_bytes(view, table)).unwrap_or(i64::MAX)).fold(0, i64::saturating_add)
}
