//! The system relations and their columns, all that PostgreSQL 15 has and in its order: tools read catalogs by `*` and by position.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Field metadata: the catalog's own type of a column, where Arrow's does not say it (`oid`, `name`, `char`, `int2vector`, …).
pub(crate) const FIELD_CATALOG_TYPE: &str = "quire.catalog_type";

/// A relation of `pg_catalog` or `information_schema`.
pub(crate) struct Relation {
    pub(crate) schema: &'static str,
    pub(crate) name: &'static str,
    pub(crate) oid: i64,
    /// `r` or `v`, as in `pg_class.relkind`.
    pub(crate) kind: &'static str,
    pub(crate) columns: Vec<Column>,
}

/// One of its columns.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// The name in `pg_type`.
    pub(crate) ty: &'static str,
    pub(crate) not_null: bool,
}

impl Relation {
    pub(crate) fn arrow(&self) -> SchemaRef {
        let fields = self.columns.iter().map(|column| {
            let field = Field::new(column.name, arrow_type(column.ty), true);
            match column.ty {
                "oid" | "name" | "char" | "int2vector" | "oidvector" | "regproc" => {
                    field.with_metadata(HashMap::from([(FIELD_CATALOG_TYPE.to_string(), column.ty.to_string())]))
                }
                _ => field,
            }
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

fn arrow_type(name: &str) -> DataType {
    let list = |item: DataType| DataType::List(Arc::new(Field::new_list_field(item, true)));
    match name {
        // Unsigned, and half of them may be beyond an int4.
        "oid" | "xid" => DataType::Int64,
        "int2vector" => list(DataType::Int16),
        "oidvector" => list(DataType::Int64),
        "bool" => DataType::Boolean,
        "int2" => DataType::Int16,
        "int4" => DataType::Int32,
        "int8" => DataType::Int64,
        "float4" => DataType::Float32,
        "float8" => DataType::Float64,
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => match name.strip_prefix('_') {
            Some(item) => list(arrow_type(item)),
            None if name == "anyarray" => list(DataType::Utf8),
            None => DataType::Utf8,
        },
    }
}

static RELATIONS: LazyLock<Vec<Relation>> = LazyLock::new(|| parse(include_str!("relations.txt")));

fn parse(text: &'static str) -> Vec<Relation> {
    let mut relations: Vec<Relation> = vec![];
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(second)) = (words.next(), words.next()) else { continue };
        if line.starts_with(' ') {
            let column = Column { name, ty: second, not_null: words.next().is_some() };
            if let Some(relation) = relations.last_mut() {
                relation.columns.push(column);
            }
        } else if let (Some((schema, name)), Ok(oid), Some(kind)) = (name.split_once('.'), second.parse(), words.next()) {
            relations.push(Relation { schema, name, oid, kind, columns: vec![] });
        }
    }
    relations
}

pub(crate) fn all() -> &'static [Relation] {
    &RELATIONS
}

pub(crate) fn find(schema: &str, name: &str) -> Option<&'static Relation> {
    static BY_NAME: LazyLock<HashMap<(&'static str, &'static str), &'static Relation>> =
        LazyLock::new(|| all().iter().map(|r| ((r.schema, r.name), r)).collect());
    BY_NAME.get(&(schema, name)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_relation_is_read() {
        assert_eq!(all().iter().filter(|r| r.schema == "pg_catalog").count(), 139);
        let class = find("pg_catalog", "pg_class").expect("it is there");
        assert_eq!((class.oid, class.kind, class.columns.len()), (1259, "r", 33));
        assert_eq!(class.columns[1].name, "relname");
        assert!(all().iter().all(|r| !r.columns.is_empty()));
    }
}
