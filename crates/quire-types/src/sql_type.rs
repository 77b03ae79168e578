use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};

/// Metadata key on an Arrow field: the SQL type, in the form [`SqlType::name`] prints, where Arrow cannot tell.
pub const FIELD_SQL_TYPE: &str = "quire.sql_type";
/// Metadata key on an Arrow field: the column's id.
pub const FIELD_COLUMN_ID: &str = "quire.column_id";

/// A column's type as SQL knows it. Two SQL types may share one Arrow type (text, varchar, json).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum SqlType {
    /// boolean
    Bool,
    /// smallint
    Int2,
    /// integer
    Int4,
    /// bigint
    Int8,
    /// real
    Float4,
    /// double precision
    Float8,
    /// numeric(precision, scale), precision at most 38. Bare `numeric` is stored as (38, 9).
    Numeric {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: i8,
    },
    /// text
    Text,
    /// varchar(n); without a length it is `None`
    Varchar(Option<u32>),
    /// char(n): kept without trailing blanks, which do not count in comparisons, and padded when shown
    Char(u32),
    /// bytea
    Bytea,
    /// date
    Date,
    /// time without time zone, microseconds
    Time,
    /// timestamp without time zone, microseconds
    Timestamp,
    /// timestamp with time zone, microseconds UTC
    Timestamptz,
    /// interval
    Interval,
    /// uuid, kept in its canonical text form, which sorts as the bytes do
    Uuid,
    /// json, kept as the text that was given
    Json,
}

impl SqlType {
    /// Precision and scale of a bare `numeric`.
    pub const NUMERIC_DEFAULT: SqlType = SqlType::Numeric { precision: 38, scale: 9 };

    /// The Arrow type of a decoded column.
    pub fn arrow(self) -> DataType {
        match self {
            SqlType::Bool => DataType::Boolean,
            SqlType::Int2 => DataType::Int16,
            SqlType::Int4 => DataType::Int32,
            SqlType::Int8 => DataType::Int64,
            SqlType::Float4 => DataType::Float32,
            SqlType::Float8 => DataType::Float64,
            SqlType::Numeric { precision, scale } => DataType::Decimal128(precision, scale),
            SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Json | SqlType::Uuid => DataType::Utf8View,
            SqlType::Bytea => DataType::BinaryView,
            SqlType::Date => DataType::Date32,
            SqlType::Time => DataType::Time64(TimeUnit::Microsecond),
            SqlType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            SqlType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
            SqlType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        }
    }

    /// The type's name as `format_type` prints it: `numeric(15,2)`, `character varying(44)`.
    pub fn name(self) -> String {
        match self {
            SqlType::Bool => "boolean".into(),
            SqlType::Int2 => "smallint".into(),
            SqlType::Int4 => "integer".into(),
            SqlType::Int8 => "bigint".into(),
            SqlType::Float4 => "real".into(),
            SqlType::Float8 => "double precision".into(),
            SqlType::NUMERIC_DEFAULT => "numeric".into(),
            SqlType::Numeric { precision, scale } => format!("numeric({precision},{scale})"),
            SqlType::Text => "text".into(),
            SqlType::Varchar(None) => "character varying".into(),
            SqlType::Varchar(Some(n)) => format!("character varying({n})"),
            SqlType::Char(n) => format!("character({n})"),
            SqlType::Bytea => "bytea".into(),
            SqlType::Date => "date".into(),
            SqlType::Time => "time without time zone".into(),
            SqlType::Timestamp => "timestamp without time zone".into(),
            SqlType::Timestamptz => "timestamp with time zone".into(),
            SqlType::Interval => "interval".into(),
            SqlType::Uuid => "uuid".into(),
            SqlType::Json => "json".into(),
        }
    }

    /// The inverse of [`SqlType::name`]; `None` for anything it never prints.
    pub fn parse_name(name: &str) -> Option<SqlType> {
        let (base, args) = match name.split_once('(') {
            Some((base, rest)) => (base, Some(rest.strip_suffix(')')?)),
            None => (name, None),
        };
        let number = |s: &str| s.trim().parse::<u32>().ok();
        Some(match (base, args) {
            ("boolean", None) => SqlType::Bool,
            ("smallint", None) => SqlType::Int2,
            ("integer", None) => SqlType::Int4,
            ("bigint", None) => SqlType::Int8,
            ("real", None) => SqlType::Float4,
            ("double precision", None) => SqlType::Float8,
            ("numeric", None) => SqlType::NUMERIC_DEFAULT,
            ("numeric", Some(args)) => {
                let (precision, scale) = args.split_once(',')?;
                SqlType::Numeric { precision: precision.trim().parse().ok()?, scale: scale.trim().parse().ok()? }
            }
            ("text", None) => SqlType::Text,
            ("character varying", None) => SqlType::Varchar(None),
            ("character varying", Some(n)) => SqlType::Varchar(Some(number(n)?)),
            ("character", Some(n)) => SqlType::Char(number(n)?),
            ("bytea", None) => SqlType::Bytea,
            ("date", None) => SqlType::Date,
            ("time without time zone", None) => SqlType::Time,
            ("timestamp without time zone", None) => SqlType::Timestamp,
            ("timestamp with time zone", None) => SqlType::Timestamptz,
            ("interval", None) => SqlType::Interval,
            ("uuid", None) => SqlType::Uuid,
            ("json", None) => SqlType::Json,
            _ => return None,
        })
    }

    /// An Arrow field of this type that remembers the SQL type.
    pub fn field(self, name: &str, nullable: bool) -> Field {
        Field::new(name, self.arrow(), nullable).with_metadata([(FIELD_SQL_TYPE.to_string(), self.name())].into_iter().collect())
    }

    /// The SQL type of a field: what [`SqlType::field`] noted, else the nearest for its Arrow type.
    /// `None` for lists, structs and other types that no column can have.
    pub fn of_field(field: &Field) -> Option<SqlType> {
        field
            .metadata()
            .get(FIELD_SQL_TYPE)
            .and_then(|name| SqlType::parse_name(name))
            .filter(|t| t.arrow() == *field.data_type())
            .or_else(|| SqlType::of_arrow(field.data_type()))
    }

    /// The nearest SQL type that can hold every value of an Arrow type (the type of `CREATE TABLE AS` columns).
    pub fn of_arrow(data_type: &DataType) -> Option<SqlType> {
        Some(match data_type {
            DataType::Boolean => SqlType::Bool,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => SqlType::Int2,
            DataType::Int32 | DataType::UInt16 => SqlType::Int4,
            DataType::Int64 | DataType::UInt32 => SqlType::Int8,
            DataType::UInt64 => SqlType::Numeric { precision: 20, scale: 0 },
            DataType::Float16 | DataType::Float32 => SqlType::Float4,
            DataType::Float64 => SqlType::Float8,
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) if *s >= 0 => {
                SqlType::Numeric { precision: *p, scale: *s }
            }
            DataType::Decimal256(p, s) if *s >= 0 => SqlType::Numeric { precision: (*p).min(38), scale: *s },
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => SqlType::Text,
            DataType::Dictionary(_, value) => return SqlType::of_arrow(value),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => SqlType::Bytea,
            DataType::FixedSizeBinary(_) => SqlType::Bytea,
            DataType::Date32 | DataType::Date64 => SqlType::Date,
            DataType::Time32(_) | DataType::Time64(_) => SqlType::Time,
            DataType::Timestamp(_, None) => SqlType::Timestamp,
            DataType::Timestamp(_, Some(_)) => SqlType::Timestamptz,
            DataType::Interval(_) | DataType::Duration(_) => SqlType::Interval,
            _ => return None,
        })
    }

    /// True when min/max bounds are kept for pages of this type.
    pub fn has_bounds(self) -> bool {
        !matches!(self, SqlType::Bytea | SqlType::Interval | SqlType::Json)
    }
}

#[cfg(test)]
mod tests {
    use super::SqlType;

    #[test]
    fn every_name_parses_back() {
        let all = [
            SqlType::Bool,
            SqlType::Int2,
            SqlType::Int4,
            SqlType::Int8,
            SqlType::Float4,
            SqlType::Float8,
            SqlType::NUMERIC_DEFAULT,
            SqlType::Numeric { precision: 15, scale: 2 },
            SqlType::Text,
            SqlType::Varchar(None),
            SqlType::Varchar(Some(44)),
            SqlType::Char(1),
            SqlType::Bytea,
            SqlType::Date,
            SqlType::Time,
            SqlType::Timestamp,
            SqlType::Timestamptz,
            SqlType::Interval,
            SqlType::Uuid,
            SqlType::Json,
        ];
        for ty in all {
            assert_eq!(SqlType::parse_name(&ty.name()), Some(ty), "{ty:?}");
            assert_eq!(SqlType::of_field(&ty.field("c", true)), Some(ty), "{ty:?}");
        }
    }
}
