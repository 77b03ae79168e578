//! Parts of definitions: types, ids, names in expressions.

use std::collections::BTreeSet;

use crate::dialect::PgDialect;
use datafusion::sql::sqlparser::ast::{self, CharacterLength, DataType, ExactNumberInfo, Expr, ObjectName, TimezoneInfo};
use datafusion::sql::sqlparser::parser::Parser;
use quire_types::{ColumnDef, ColumnId, SqlType, TableDef, TableId};

use crate::SqlError;
use crate::names::{fold, split};

/// Ids below this are Postgres' own objects'.
const FIRST_USER_OID: u64 = 16_384;
/// Columns of a table, as in Postgres.
pub(crate) const COLUMNS_MAX: usize = 1600;

/// A random id for a new schema, table or view; a collision is refused by the log and tried again.
pub(crate) fn new_oid() -> u32 {
    let span = u64::from(i32::MAX as u32) - FIRST_USER_OID;
    (FIRST_USER_OID + quire_kit::random::below(span)) as u32
}

/// A SQL type of the syntax tree as one of ours; 42704 or 0A000 when there is none.
pub(crate) fn sql_type(data_type: &DataType) -> Result<SqlType, SqlError> {
    let length = |l: &Option<CharacterLength>| -> Result<Option<u32>, SqlError> {
        match l {
            None | Some(CharacterLength::Max) => Ok(None),
            Some(CharacterLength::IntegerLength { length, .. }) => match u32::try_from(*length) {
                Ok(n @ 1..=10_485_760) => Ok(Some(n)),
                Ok(0) => Err(SqlError::new("22023", "length for type varchar must be at least 1")),
                _ => Err(SqlError::new("22023", "length for type varchar cannot exceed 10485760")),
            },
        }
    };
    let numeric = |info: &ExactNumberInfo| -> Result<SqlType, SqlError> {
        let (precision, scale) = match info {
            ExactNumberInfo::None => return Ok(SqlType::NUMERIC_DEFAULT),
            ExactNumberInfo::Precision(p) => (*p, 0),
            ExactNumberInfo::PrecisionAndScale(p, s) => (*p, *s),
        };
        if !(1..=1000).contains(&precision) {
            return Err(SqlError::new("22023", format!("NUMERIC precision {precision} must be between 1 and 1000")));
        }
        if precision > 38 {
            return Err(
                SqlError::new("0A000", format!("NUMERIC precision {precision} is not supported")).with_hint("Precision is at most 38.")
            );
        }
        if scale < 0 || scale as u64 > precision {
            return Err(SqlError::new("22023", format!("NUMERIC scale {scale} must be between 0 and precision {precision}")));
        }
        Ok(SqlType::Numeric { precision: precision as u8, scale: scale as i8 })
    };
    Ok(match data_type {
        DataType::Boolean | DataType::Bool => SqlType::Bool,
        DataType::SmallInt(_) | DataType::Int2(_) => SqlType::Int2,
        DataType::Int(_) | DataType::Integer(_) | DataType::Int4(_) => SqlType::Int4,
        DataType::BigInt(_) | DataType::Int8(_) => SqlType::Int8,
        DataType::Real | DataType::Float4 => SqlType::Float4,
        DataType::DoublePrecision | DataType::Float8 | DataType::Double(_) => SqlType::Float8,
        DataType::Float(ExactNumberInfo::Precision(1..=24)) => SqlType::Float4,
        DataType::Float(_) => SqlType::Float8,
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => numeric(info)?,
        DataType::Text => SqlType::Text,
        DataType::Varchar(l) | DataType::CharacterVarying(l) | DataType::CharVarying(l) => SqlType::Varchar(length(l)?),
        DataType::Char(l) | DataType::Character(l) => SqlType::Char(length(l)?.unwrap_or(1)),
        DataType::Bytea => SqlType::Bytea,
        DataType::Date => SqlType::Date,
        DataType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => SqlType::Time,
        DataType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => SqlType::Timestamp,
        DataType::Timestamp(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => SqlType::Timestamptz,
        DataType::Interval { .. } => SqlType::Interval,
        DataType::Uuid => SqlType::Uuid,
        DataType::JSON => SqlType::Json,
        DataType::Custom(name, modifiers) => return custom_type(name, modifiers),
        other => return Err(SqlError::new("0A000", format!("type {} is not supported", other.to_string().to_lowercase()))),
    })
}

fn custom_type(name: &ObjectName, modifiers: &[String]) -> Result<SqlType, SqlError> {
    let (schema, name) = split(name)?;
    if schema.as_deref().is_none_or(|s| s == "pg_catalog") {
        match (name.as_str(), modifiers.first().and_then(|m| m.parse().ok())) {
            ("bpchar", None) => return Ok(SqlType::Text),
            ("bpchar", Some(n)) => return Ok(SqlType::Char(n)),
            ("varchar", n) => return Ok(SqlType::Varchar(n)),
            ("bool", None) => return Ok(SqlType::Bool),
            ("int2", None) => return Ok(SqlType::Int2),
            ("int4", None) => return Ok(SqlType::Int4),
            ("int8", None) => return Ok(SqlType::Int8),
            ("float4", None) => return Ok(SqlType::Float4),
            ("float8", None) => return Ok(SqlType::Float8),
            ("timestamptz", None) => return Ok(SqlType::Timestamptz),
            ("text" | "name", None) => return Ok(SqlType::Text),
            ("jsonb" | "money" | "xml" | "timetz" | "inet" | "cidr", _) => {
                return Err(SqlError::new("0A000", format!("type {name} is not supported")));
            }
            _ => {}
        }
    }
    Err(SqlError::new("42704", format!("type \"{name}\" does not exist")))
}

/// A table with just columns, for CREATE TABLE AS.
pub(crate) fn plain_table(schema: quire_types::SchemaId, name: String, columns: Vec<(String, SqlType)>) -> Result<TableDef, SqlError> {
    let mut seen = BTreeSet::new();
    for (column, _) in &columns {
        if !seen.insert(column.clone()) {
            return Err(duplicate_column(column));
        }
    }
    let columns: Vec<ColumnDef> =
        columns.into_iter().enumerate().map(|(i, (name, ty))| ColumnDef::new(ColumnId(i as u32 + 1), name, ty)).collect();
    Ok(TableDef {
        id: TableId(new_oid()),
        schema,
        name,
        version: 1,
        next_column_id: ColumnId(columns.len() as u32 + 1),
        columns,
        constraints: vec![],
        clustering: vec![],
        arrow: Default::default(),
    })
}

pub(crate) fn duplicate_column(name: &str) -> SqlError {
    SqlError::new("42701", format!("column \"{name}\" specified more than once"))
}

/// The columns of a table that the text of one of its CHECKs mentions.
pub(crate) fn check_columns(table: &TableDef, sql: &str) -> Vec<ColumnId> {
    let parsed = Parser::new(&PgDialect).try_with_sql(sql).and_then(|mut p| p.parse_expr());
    let names = parsed.map(|expr| mentioned_columns(&expr)).unwrap_or_default();
    table.columns.iter().filter(|c| names.contains(&c.name)).map(|c| c.id).collect()
}

/// Column names that an expression mentions.
pub(crate) fn mentioned_columns(expr: &Expr) -> Vec<String> {
    let mut names = vec![];
    let _: std::ops::ControlFlow<()> = ast::visit_expressions(expr, |e| {
        if let Expr::Identifier(ident) = e {
            let name = fold(ident);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        std::ops::ControlFlow::Continue(())
    });
    names
}
