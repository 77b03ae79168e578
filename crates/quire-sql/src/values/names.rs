//! Postgres' numbers and names for types (pg_type).

use quire_types::SqlType;

/// The type's oid.
pub fn oid_of(ty: SqlType) -> u32 {
    match ty {
        SqlType::Bool => 16,
        SqlType::Bytea => 17,
        SqlType::Int8 => 20,
        SqlType::Int2 => 21,
        SqlType::Int4 => 23,
        SqlType::Text => 25,
        SqlType::Json => 114,
        SqlType::Float4 => 700,
        SqlType::Float8 => 701,
        SqlType::Char(_) => 1042,
        SqlType::Varchar(_) => 1043,
        SqlType::Date => 1082,
        SqlType::Time => 1083,
        SqlType::Timestamp => 1114,
        SqlType::Timestamptz => 1184,
        SqlType::Interval => 1186,
        SqlType::Numeric { .. } => 1700,
        SqlType::Uuid => 2950,
    }
}

/// The type with this oid, without modifier.
pub fn sql_type_of_oid(oid: u32) -> Option<SqlType> {
    Some(match oid {
        16 => SqlType::Bool,
        17 => SqlType::Bytea,
        20 => SqlType::Int8,
        21 => SqlType::Int2,
        23 => SqlType::Int4,
        25 | 1042 => SqlType::Text,
        114 => SqlType::Json,
        700 => SqlType::Float4,
        701 => SqlType::Float8,
        1043 => SqlType::Varchar(None),
        1082 => SqlType::Date,
        1083 => SqlType::Time,
        1114 => SqlType::Timestamp,
        1184 => SqlType::Timestamptz,
        1186 => SqlType::Interval,
        1700 => SqlType::NUMERIC_DEFAULT,
        2950 => SqlType::Uuid,
        _ => return None,
    })
}

/// `pg_type.typname`.
pub fn type_name(ty: SqlType) -> &'static str {
    match ty {
        SqlType::Bool => "bool",
        SqlType::Bytea => "bytea",
        SqlType::Int8 => "int8",
        SqlType::Int2 => "int2",
        SqlType::Int4 => "int4",
        SqlType::Text => "text",
        SqlType::Json => "json",
        SqlType::Float4 => "float4",
        SqlType::Float8 => "float8",
        SqlType::Char(_) => "bpchar",
        SqlType::Varchar(_) => "varchar",
        SqlType::Date => "date",
        SqlType::Time => "time",
        SqlType::Timestamp => "timestamp",
        SqlType::Timestamptz => "timestamptz",
        SqlType::Interval => "interval",
        SqlType::Numeric { .. } => "numeric",
        SqlType::Uuid => "uuid",
    }
}

/// Bytes of a value, -1 for variable.
pub fn typlen(ty: SqlType) -> i16 {
    match ty {
        SqlType::Bool => 1,
        SqlType::Int2 => 2,
        SqlType::Int4 | SqlType::Float4 | SqlType::Date => 4,
        SqlType::Int8 | SqlType::Float8 | SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz => 8,
        SqlType::Interval | SqlType::Uuid => 16,
        SqlType::Numeric { .. } | SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Bytea | SqlType::Json => -1,
    }
}

/// The type modifier (`atttypmod`), -1 for none.
pub fn typmod(ty: SqlType) -> i32 {
    match ty {
        // The greatest precision is what a numeric without one is kept with, and what is computed has.
        SqlType::Numeric { precision: 38, .. } => -1,
        SqlType::Numeric { precision, scale } => ((i32::from(precision) << 16) | i32::from(scale)) + 4,
        SqlType::Varchar(Some(n)) | SqlType::Char(n) => n as i32 + 4,
        _ => -1,
    }
}
