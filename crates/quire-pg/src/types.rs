//! Postgres' numbers for types.

use quire_sql::{WireType, values};
use quire_types::SqlType;

/// (oid, typlen, typmod)
pub(crate) fn description(ty: WireType) -> (u32, i16, i32) {
    match ty {
        WireType::Scalar(ty) => (values::oid_of(ty), values::typlen(ty), values::typmod(ty)),
        WireType::Array(ty) => (array_oid(ty), -1, -1),
        WireType::Vector(SqlType::Int2) => (22, -1, -1),
        WireType::Vector(_) => (30, -1, -1),
        WireType::Oid => (26, 4, -1),
        WireType::Name => (19, 64, -1),
        WireType::QuotedChar => (18, 1, -1),
        WireType::Unknown => (25, -1, -1),
    }
}

const ARRAYS: [(SqlType, u32); 18] = [
    (SqlType::Bool, 1000),
    (SqlType::Int2, 1005),
    (SqlType::Int4, 1007),
    (SqlType::Int8, 1016),
    (SqlType::Float4, 1021),
    (SqlType::Float8, 1022),
    (SqlType::NUMERIC_DEFAULT, 1231),
    (SqlType::Text, 1009),
    (SqlType::Varchar(None), 1015),
    (SqlType::Char(1), 1014),
    (SqlType::Bytea, 1001),
    (SqlType::Date, 1182),
    (SqlType::Time, 1183),
    (SqlType::Timestamp, 1115),
    (SqlType::Timestamptz, 1185),
    (SqlType::Interval, 1187),
    (SqlType::Uuid, 2951),
    (SqlType::Json, 199),
];

fn array_oid(item: SqlType) -> u32 {
    let oid = values::oid_of(item);
    ARRAYS.iter().find(|(ty, _)| values::oid_of(*ty) == oid).map_or(1009, |(_, array)| *array)
}

/// The type that a client names by oid for a parameter; `None` for 0 (infer it) and for types that are not known here.
pub(crate) fn parameter_type(oid: u32) -> Option<WireType> {
    match oid {
        0 | 705 => None,
        26 => Some(WireType::Oid),
        19 => Some(WireType::Name),
        18 => Some(WireType::QuotedChar),
        _ => values::sql_type_of_oid(oid)
            .map(WireType::Scalar)
            .or_else(|| ARRAYS.iter().find(|(_, array)| *array == oid).map(|(ty, _)| WireType::Array(without_length(*ty)))),
    }
}

/// An oid says no length, and one must not be made up.
fn without_length(ty: SqlType) -> SqlType {
    if let SqlType::Char(_) = ty { SqlType::Text } else { ty }
}
