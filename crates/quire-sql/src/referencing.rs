//! Rows that point at some keys, in words that a scan can look for: the keys' values, as constants.

use std::collections::HashSet;

use arrow::array::Array;
use arrow::compute::cast;
use arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::ast::Expr;
use quire_types::{SqlType, TableDef};

use crate::SqlError;
use crate::bind::scalar_literal;
use crate::keys::arrow_error;

/// Keys whose values are listed; for more, a scan of the referencing table costs less than a look for each.
const LISTED_MAX: usize = 1000;

/// `column IN (values)` for the columns of a foreign key, at these positions of its table: true of every row that points at one of the keys.
/// It goes beside the comparison with the keys themselves, so a column whose values are not listed takes nothing away.
pub(crate) fn among_keys(
    child: &TableDef,
    positions: &[usize],
    keys: &RecordBatch,
    column: impl Fn(&str) -> Expr,
) -> Result<Vec<Expr>, SqlError> {
    let mut conditions = vec![];
    if keys.num_rows() > LISTED_MAX {
        return Ok(conditions);
    }
    for (&position, values) in positions.iter().zip(keys.columns()) {
        let def = &child.columns[position];
        let numbers = is_number(def.ty) && values.data_type().is_numeric() && !values.data_type().is_floating();
        let same = *values.data_type() == def.ty.arrow() && is_listed(def.ty);
        if !numbers && !same {
            continue;
        }
        // A value that the type has not is NULL, which no row points with.
        let values = cast(values, &def.ty.arrow()).map_err(arrow_error)?;
        let mut seen = HashSet::new();
        let valid = (0..values.len()).filter(|&row| values.is_valid(row)).map(|row| scalar_literal(&values, row, def.ty));
        let list: Vec<Expr> = valid.filter(|value| seen.insert(value.to_string())).collect();
        // Text with quotes does not always survive being written as SQL and read again.
        let is_plain = seen.iter().all(|text| text.matches('\'').count() <= 2);
        if !list.is_empty() && is_plain {
            conditions.push(Expr::InList { expr: Box::new(column(&def.name)), list, negated: false });
        }
    }
    Ok(conditions)
}

fn is_number(ty: SqlType) -> bool {
    matches!(ty, SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Numeric { .. })
}

/// Types of which a literal is a constant of just that type, whatever the session's settings.
fn is_listed(ty: SqlType) -> bool {
    matches!(ty, SqlType::Text | SqlType::Varchar(_) | SqlType::Uuid | SqlType::Date | SqlType::Timestamp)
}
