//! Columns whose values a statement may not give: 428C9.

use datafusion::sql::sqlparser::ast::{Expr, Insert, Value, Values};
use quire_types::{ColumnDef, Generated, TableDef};

use crate::SqlError;
use crate::insert::is_default;
use crate::syntax_sequence::{OVERRIDING_SYSTEM, OVERRIDING_USER};

/// OVERRIDING … VALUE of an INSERT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Overriding {
    #[default]
    None,
    /// Values given for GENERATED ALWAYS count.
    System,
    /// Values given for identity columns do not count.
    User,
}

/// Takes the marker that `syntax_sequence` put into the statement.
pub(crate) fn take_overriding(insert: &mut Insert) -> Overriding {
    let marker = match (&insert.partitioned, &insert.table_alias) {
        (Some(marks), _) => match marks.as_slice() {
            [Expr::Value(value)] => match &value.value {
                Value::SingleQuotedString(text) => text.clone(),
                _ => return Overriding::None,
            },
            _ => return Overriding::None,
        },
        (None, Some(alias)) => alias.alias.value.clone(),
        (None, None) => return Overriding::None,
    };
    let overriding = match marker.as_str() {
        OVERRIDING_SYSTEM => Overriding::System,
        OVERRIDING_USER => Overriding::User,
        _ => return Overriding::None,
    };
    match insert.partitioned.is_some() {
        true => insert.partitioned = None,
        false => insert.table_alias = None,
    }
    overriding
}

/// Refuses values for columns GENERATED ALWAYS, other than DEFAULT. With OVERRIDING USER VALUE, the positions of the identity columns, whose
/// values are left aside.
pub(crate) fn check_insert(
    table: &TableDef,
    targets: &[usize],
    rows: Option<&Values>,
    overriding: Overriding,
) -> Result<Vec<usize>, SqlError> {
    let mut ignored = vec![];
    for (position, &target) in targets.iter().enumerate() {
        let column = &table.columns[target];
        let Some(generated) = &column.generated else { continue };
        match generated {
            Generated::Identity { .. } if overriding == Overriding::User => ignored.push(position),
            Generated::Identity { always: false, .. } => {}
            Generated::Identity { .. } if overriding == Overriding::System => {}
            _ => {
                // Of VALUES the words tell; a query gives values.
                let given = |rows: &Values| rows.rows.iter().filter_map(|row| row.get(position)).any(|e| !is_default(e));
                if rows.is_none_or(given) {
                    return Err(not_given(column));
                }
            }
        }
    }
    Ok(ignored)
}

fn not_given(column: &ColumnDef) -> SqlError {
    let error = SqlError::new("428C9", format!("cannot insert a non-DEFAULT value into column \"{}\"", column.name));
    match column.generated {
        Some(Generated::Identity { .. }) => error
            .with_detail(format!("Column \"{}\" is an identity column defined as GENERATED ALWAYS.", column.name))
            .with_hint("Use OVERRIDING SYSTEM VALUE to override."),
        _ => error.with_detail(format!("Column \"{}\" is a generated column.", column.name)),
    }
}

/// Refuses an UPDATE of a column GENERATED ALWAYS, other than to DEFAULT.
pub(crate) fn check_assignment(column: &ColumnDef, value: &Expr) -> Result<(), SqlError> {
    let detail = match &column.generated {
        Some(Generated::Identity { always: true, .. }) => {
            format!("Column \"{}\" is an identity column defined as GENERATED ALWAYS.", column.name)
        }
        Some(Generated::Stored(_)) => format!("Column \"{}\" is a generated column.", column.name),
        _ => return Ok(()),
    };
    if is_default(value) {
        return Ok(());
    }
    Err(SqlError::new("428C9", format!("column \"{}\" can only be updated to DEFAULT", column.name)).with_detail(detail))
}
