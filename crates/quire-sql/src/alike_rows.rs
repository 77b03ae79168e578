//! VALUES of which some rows say what Arrow's types do not: `VALUES (1.5::numeric(12,2)), (NULL)`.
//!
//! A `numeric(12,2)` is a decimal to Arrow, a `uuid` bytes; what they are besides is noted with them, and the planner takes no list in which one
//! row has a note and another has none, or another one.

use datafusion::sql::sqlparser::ast::{CastKind, DataType, Expr, UnaryOperator, Value, Values};
use quire_types::SqlType;

use crate::ddl::sql_type;
use crate::rewrite::function;

/// What a row says of its column's type.
#[derive(Clone, Copy, PartialEq)]
enum Said {
    /// A type with a note.
    Noted(SqlType),
    Null,
    /// A literal in quotes, which has the type of the others.
    Quoted,
    /// A type without a note.
    Plain,
    /// That is known when it is planned.
    Unknown,
}

/// Has the rows of each column say the same where they can. A type that is the only one is that of NULLs, and of literals in quotes if they are
/// not to be cut to its length. Of several, as of several lengths, the column is none.
pub(crate) fn agree(values: &mut Values) {
    let columns = values.rows.iter().map(|row| row.len()).min().unwrap_or_default();
    for column in 0..columns {
        let said: Vec<Said> = values.rows.iter().map(|row| of_item(&row[column]).0).collect();
        let Some(first) = said.iter().position(|said| matches!(said, Said::Noted(_))) else { continue };
        if said.iter().all(|other| *other == said[first]) || said.contains(&Said::Unknown) {
            continue;
        }
        let one_type =
            said.iter().all(|other| *other == said[first] || *other == Said::Null || *other == Said::Quoted && is_whole(said[first]));
        let Some(data_type) = of_item(&values.rows[first][column]).1.cloned() else { continue };
        for (row, said) in values.rows.iter_mut().zip(&said) {
            let item = &mut row[column];
            match said {
                Said::Null | Said::Quoted if one_type => *item = cast(item.clone(), data_type.clone()),
                // It gives what it is given, without a note.
                Said::Noted(SqlType::Numeric { .. } | SqlType::Varchar(_)) if !one_type => *item = function("coalesce", vec![item.clone()]),
                _ => {}
            }
        }
    }
}

/// Whether a type takes any text as it is.
fn is_whole(said: Said) -> bool {
    matches!(said, Said::Noted(SqlType::Uuid | SqlType::Json | SqlType::Varchar(None)))
}

/// What an item says, and the type that it names.
fn of_item(item: &Expr) -> (Said, Option<&DataType>) {
    match item {
        Expr::Nested(inner) => of_item(inner),
        Expr::Cast { data_type, .. } => (of_type(data_type), Some(data_type)),
        Expr::TypedString(typed) => (of_type(&typed.data_type), Some(&typed.data_type)),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } if matches!(expr.as_ref(), Expr::Value(_)) => {
            (Said::Plain, None)
        }
        Expr::Value(value) => match &value.value {
            Value::Null => (Said::Null, None),
            Value::SingleQuotedString(_) => (Said::Quoted, None),
            Value::Placeholder(_) => (Said::Unknown, None),
            _ => (Said::Plain, None),
        },
        _ => (Said::Unknown, None),
    }
}

fn of_type(data_type: &DataType) -> Said {
    match sql_type(data_type) {
        Ok(ty @ (SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Uuid | SqlType::Json)) => Said::Noted(ty),
        Ok(ty @ SqlType::Numeric { precision, .. }) if precision < 38 => Said::Noted(ty),
        Ok(_) => Said::Plain,
        Err(_) => Said::Unknown,
    }
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}
