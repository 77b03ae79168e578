//! Types by oid and name, and how they are written.

use std::collections::HashMap;
use std::sync::LazyLock;

use arrow::array::AsArray;
use arrow::datatypes::{Int16Type, Int64Type};
use arrow::record_batch::RecordBatch;
use quire_types::Catalog;

use super::oids::{quoted, row_type_oid, schema_name};
use super::{fixed, relations};

/// What the catalogs say of a type.
pub(super) struct TypeInfo {
    pub(super) oid: i64,
    pub(super) name: String,
    pub(super) len: i16,
    pub(super) by_value: bool,
    pub(super) align: String,
    pub(super) storage: String,
    pub(super) collation: i64,
    element: i64,
}

/// The types that are always there; none when the library's table cannot be read, which queries of it then say.
static TYPES: LazyLock<Vec<TypeInfo>> = LazyLock::new(|| {
    let batch = relations::find("pg_catalog", "pg_type").and_then(|r| fixed::batch(r).ok().flatten());
    batch.as_ref().and_then(read).unwrap_or_default()
});

fn read(batch: &RecordBatch) -> Option<Vec<TypeInfo>> {
    let number = |name: &str| batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
    let word = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
    let (oid, element, collation) = (number("oid")?, number("typelem")?, number("typcollation")?);
    let (name, align, storage) = (word("typname")?, word("typalign")?, word("typstorage")?);
    let len = batch.column_by_name("typlen")?.as_primitive_opt::<Int16Type>()?;
    let by_value = batch.column_by_name("typbyval")?.as_boolean_opt()?;
    let rows = (0..batch.num_rows()).map(|row| TypeInfo {
        oid: oid.value(row),
        name: name.value(row).to_string(),
        len: len.value(row),
        by_value: by_value.value(row),
        align: align.value(row).to_string(),
        storage: storage.value(row).to_string(),
        collation: collation.value(row),
        element: element.value(row),
    });
    Some(rows.collect())
}

pub(super) fn by_oid(oid: i64) -> Option<&'static TypeInfo> {
    static BY_OID: LazyLock<HashMap<i64, &'static TypeInfo>> = LazyLock::new(|| TYPES.iter().map(|t| (t.oid, t)).collect());
    BY_OID.get(&oid).copied()
}

pub(super) fn by_name(name: &str) -> Option<&'static TypeInfo> {
    static BY_NAME: LazyLock<HashMap<&'static str, &'static TypeInfo>> =
        LazyLock::new(|| TYPES.iter().map(|t| (t.name.as_str(), t)).collect());
    BY_NAME.get(name).copied()
}

/// The oid of a type by the name that `pg_type` has for it.
pub(crate) fn oid_by_name(name: &str) -> Option<i64> {
    by_name(name).map(|t| t.oid)
}

/// `format_type`. A modifier of `None` is one that was not given, -1 one that says nothing.
pub(crate) fn format_type(catalog: &Catalog, oid: i64, modifier: Option<i64>) -> String {
    if oid == 0 {
        return "-".to_string();
    }
    let Some(ty) = by_oid(oid) else { return row_type_name(catalog, oid).unwrap_or_else(|| "???".to_string()) };
    if ty.element != 0 && ty.len == -1 && ty.name.starts_with('_') {
        return format!("{}[]", format_type(catalog, ty.element, modifier));
    }
    let given = modifier.filter(|m| *m >= 0);
    let length = given.map(|m| format!("({})", m - 4)).unwrap_or_default();
    let precision = given.map(|m| format!("({m})")).unwrap_or_default();
    match ty.name.as_str() {
        "bool" => "boolean".into(),
        "int2" => "smallint".into(),
        "int4" => "integer".into(),
        "int8" => "bigint".into(),
        "float4" => "real".into(),
        "float8" => "double precision".into(),
        "char" => "\"char\"".into(),
        // Without a length it is another type than character, which has one.
        "bpchar" if modifier.is_some() && given.is_none() => "bpchar".into(),
        "bpchar" => format!("character{length}"),
        "varchar" => format!("character varying{length}"),
        "bit" if modifier.is_some() && given.is_none() => "\"bit\"".into(),
        "bit" => format!("bit{precision}"),
        "varbit" => format!("bit varying{precision}"),
        "numeric" => match given.map(|m| m - 4) {
            Some(m) => format!("numeric({},{})", m >> 16, m & 0xFFFF),
            None => "numeric".into(),
        },
        "time" => format!("time{precision} without time zone"),
        "timetz" => format!("time{precision} with time zone"),
        "timestamp" => format!("timestamp{precision} without time zone"),
        "timestamptz" => format!("timestamp{precision} with time zone"),
        other => quoted(other),
    }
}

fn row_type_name(catalog: &Catalog, oid: i64) -> Option<String> {
    let tables = catalog.tables.values().map(|t| (t.id.0, t.schema, &t.name));
    let views = catalog.views.values().map(|v| (v.id.0, v.schema, &v.name));
    let (_, schema, name) = tables.chain(views).find(|(id, ..)| row_type_oid(*id) == oid)?;
    let schema = schema_name(catalog, schema);
    Some(if schema == "public" { quoted(name) } else { format!("{}.{}", quoted(&schema), quoted(name)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_as_postgres_writes_them() {
        let catalog = Catalog::default();
        let cases = [
            (23, Some(-1), "integer"),
            (1043, Some(34), "character varying(30)"),
            (1042, None, "character"),
            (1042, Some(-1), "bpchar"),
            (1042, Some(5), "character(1)"),
            (1700, Some(524_294), "numeric(8,2)"),
            (1007, None, "integer[]"),
            (18, None, "\"char\""),
            (1184, Some(3), "timestamp(3) with time zone"),
            (2205, None, "regclass"),
            (0, None, "-"),
            (999_999, None, "???"),
        ];
        for (oid, modifier, expected) in cases {
            assert_eq!(format_type(&catalog, oid, modifier), expected, "{oid} {modifier:?}");
        }
    }
}
