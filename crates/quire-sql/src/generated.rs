//! Columns whose values a statement may not give (428C9), and those that are computed from the row's others.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{Expr, Insert, Value, Values};
use quire_types::{ColumnDef, Generated, SqlType, TableDef};

use crate::errors::datafusion_error;
use crate::insert::{has_subquery, is_default};
use crate::syntax_sequence::{OVERRIDING_SYSTEM, OVERRIDING_USER};
use crate::values::Home;
use crate::{Session, SqlError, bind, values};

/// GENERATED ALWAYS AS (expression) STORED: a table's columns that are computed, ready to evaluate.
pub(crate) struct StoredColumns {
    table: String,
    /// Of the rows that the expressions are over.
    schema: SchemaRef,
    columns: Vec<(usize, ColumnDef, Arc<dyn PhysicalExpr>)>,
    home: Home<'static>,
}

impl StoredColumns {
    /// The rows with the computed columns filled in, whatever was there.
    pub(crate) fn fill(&self, rows: RecordBatch) -> Result<RecordBatch, SqlError> {
        if self.columns.is_empty() {
            return Ok(rows);
        }
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for (position, column, expr) in &self.columns {
            let field = expr.return_field(&self.schema).map_err(datafusion_error)?;
            let array = expr.evaluate(&rows).and_then(|v| v.into_array(rows.num_rows())).map_err(datafusion_error)?;
            columns[*position] = values::coerce(array, &field, column, &self.table, &self.home)?;
        }
        RecordBatch::try_new(self.schema.clone(), columns).map_err(|e| SqlError::internal(e.to_string()))
    }
}

/// The expression of a column GENERATED ALWAYS AS (…) STORED.
pub(crate) fn stored_expression(column: &ColumnDef) -> Option<&str> {
    match &column.generated {
        Some(Generated::Stored(sql)) => Some(sql),
        _ => None,
    }
}

/// The positions of a table's computed columns.
pub(crate) fn stored_positions(table: &TableDef) -> impl Iterator<Item = usize> {
    table.columns.iter().enumerate().filter(|(_, column)| stored_expression(column).is_some()).map(|(position, _)| position)
}

impl Session {
    /// The computed columns of a table.
    pub(crate) fn stored_columns(&self, table: &TableDef) -> Result<StoredColumns, SqlError> {
        let mut columns = vec![];
        if stored_positions(table).next().is_none() {
            return Ok(StoredColumns { table: String::new(), schema: Arc::new(Schema::empty()), columns, home: Home::unknown() });
        }
        for (position, column) in table.columns.iter().enumerate() {
            let Some(sql) = stored_expression(column) else { continue };
            let expr = self.over_table(table, &[bind::parse_sql_expression(sql)?])?.pop();
            columns.push((position, column.clone(), expr.ok_or_else(|| SqlError::internal("an expression is gone"))?));
        }
        Ok(StoredColumns { table: table.name.clone(), schema: table.arrow_schema_nullable(), columns, home: self.statement_home() })
    }

    /// Whether the computed columns of a new definition can be computed, from the row's other columns and nothing else.
    pub(crate) fn check_stored(&self, table: &TableDef) -> Result<(), SqlError> {
        let mut schema = table.clone();
        schema.columns.retain(|c| stored_expression(c).is_none());
        for column in &table.columns {
            let Some(sql) = stored_expression(column) else { continue };
            let expr = bind::parse_sql_expression(sql)?;
            if has_subquery(&expr) {
                return Err(SqlError::new("0A000", "cannot use subquery in column generation expression"));
            }
            let mentioned = crate::ddl::mentioned_columns(&expr);
            if let Some(other) = table.columns.iter().find(|c| stored_expression(c).is_some() && mentioned.contains(&c.name)) {
                let message = format!("cannot use generated column \"{}\" in column generation expression", other.name);
                return Err(SqlError::new("42P17", message).with_detail("A generated column cannot reference another generated column."));
            }
            let logical = {
                let schema = DFSchema::try_from(schema.arrow_schema_nullable().as_ref().clone()).map_err(datafusion_error)?;
                let prepared = bind::prepare_sql_expression(sql)?;
                self.context.state().create_logical_expr(&prepared.to_string(), &schema).map_err(datafusion_error)?
            };
            let zoned = schema.columns.iter().any(|c| c.ty == SqlType::Timestamptz && mentioned.contains(&c.name));
            if !is_immutable(&logical, zoned) {
                return Err(SqlError::new("42P17", "generation expression is not immutable"));
            }
            if let Some(physical) = self.over_table(&schema, &[expr])?.pop() {
                let arrow = schema.arrow_schema_nullable();
                let field = physical.return_field(&arrow).map_err(datafusion_error)?;
                let none = RecordBatch::new_empty(arrow);
                let array = physical.evaluate(&none).and_then(|v| v.into_array(0)).map_err(datafusion_error)?;
                values::coerce(array, &field, column, &table.name, &self.statement_home())?;
            }
        }
        Ok(())
    }
}

/// Whether an expression has the same value whenever it is computed. A function that is stable is so for the session's time zone's sake, if it
/// is given something at all.
fn is_immutable(expr: &datafusion::logical_expr::Expr, zoned: bool) -> bool {
    use datafusion::common::tree_node::TreeNode;
    use datafusion::logical_expr::{Expr, Volatility};
    let changing = expr.exists(|e| match e {
        Expr::ScalarFunction(call) => Ok(match call.func.signature().volatility {
            Volatility::Immutable => false,
            Volatility::Stable => zoned || call.args.is_empty(),
            Volatility::Volatile => true,
        }),
        _ => Ok(false),
    });
    !changing.unwrap_or(true)
}

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
