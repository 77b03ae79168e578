//! The server and its session: databases, roles, parameters, activity, and the views that list tables, indexes and views.

use quire_types::{Catalog, TableDef, ViewDef};

use super::oids::schema_name;
use super::rows::{Row, int, oid, text, truth};
use super::{DATABASE_OID, OWNER, Seen, constraints, oids, viewdef};
use crate::catalog::{DATABASE, ScopeCell};
use crate::engine::SUPERUSER;

/// `pg_database`.
pub(super) fn databases() -> Vec<Row> {
    vec![Row::from([
        ("oid", oid(DATABASE_OID)),
        ("datname", text(DATABASE)),
        ("datdba", oid(OWNER)),
        ("encoding", int(6)),
        ("datlocprovider", text("c")),
        ("datcollate", text("C.UTF-8")),
        ("datctype", text("C.UTF-8")),
        ("datallowconn", truth(true)),
        ("datconnlimit", int(-1)),
        ("dattablespace", oid(1663)),
    ])]
}

/// `pg_roles` and `pg_authid`.
pub(super) fn roles() -> Vec<Row> {
    vec![Row::from([
        ("oid", oid(OWNER)),
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

/// `pg_user` and `pg_shadow`.
pub(super) fn users() -> Vec<Row> {
    vec![Row::from([
        ("usename", text(SUPERUSER)),
        ("usesysid", oid(OWNER)),
        ("usecreatedb", truth(true)),
        ("usesuper", truth(true)),
        ("userepl", truth(true)),
        ("usebypassrls", truth(true)),
    ])]
}

/// `pg_settings`: the session's parameters.
pub(super) fn settings(cell: &ScopeCell) -> Vec<Row> {
    let all = cell.settings().lock().all();
    all.into_iter().map(|(name, value)| Row::from([("name", text(name)), ("setting", text(value))])).collect()
}

/// `pg_stat_activity`: this session; a node does not show the others'.
pub(super) fn activity(cell: &ScopeCell) -> Vec<Row> {
    let application = cell.settings().lock().get("application_name").unwrap_or_default();
    vec![Row::from([
        ("datid", oid(DATABASE_OID)),
        ("datname", text(DATABASE)),
        ("pid", int(cell.backend_pid())),
        ("usesysid", oid(OWNER)),
        ("usename", text(cell.user())),
        ("application_name", text(application)),
        ("state", text("active")),
        ("backend_type", text("client backend")),
    ])]
}

/// `pg_tables`.
pub(super) fn tables(catalog: &Catalog) -> Vec<Row> {
    let row = |t: &TableDef| {
        Row::from([
            ("schemaname", text(schema_name(catalog, t.schema))),
            ("tablename", text(&t.name)),
            ("tableowner", text(SUPERUSER)),
            ("hasindexes", truth(t.indexes().next().is_some())),
            ("hasrules", truth(false)),
            ("hastriggers", truth(constraints::has_foreign_key(catalog, t))),
            ("rowsecurity", truth(false)),
        ])
    };
    catalog.tables.values().map(|t| row(t)).collect()
}

/// `pg_indexes`.
pub(super) fn indexes(seen: &Seen<'_>) -> Vec<Row> {
    let mut rows = vec![];
    for table in seen.catalog.tables.values() {
        for (ordinal, name, _) in table.indexes() {
            let oid = oids::index_oid(table, ordinal as usize);
            rows.push(Row::from([
                ("schemaname", text(schema_name(seen.catalog, table.schema))),
                ("tablename", text(&table.name)),
                ("indexname", text(name)),
                ("indexdef", text(constraints::index_definition(seen, oid, 0, false).unwrap_or_default())),
            ]));
        }
    }
    rows
}

/// `pg_views`.
pub(super) fn views(seen: &Seen<'_>) -> Vec<Row> {
    let row = |v: &ViewDef| {
        Row::from([
            ("schemaname", text(schema_name(seen.catalog, v.schema))),
            ("viewname", text(&v.name)),
            ("viewowner", text(SUPERUSER)),
            ("definition", text(viewdef::definition(seen, v, false))),
        ])
    };
    seen.catalog.views.values().map(|v| row(v)).collect()
}
