//! Values that only catalogs have: vectors, which count from 0, and arrays compared with literals.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, lit};

use super::FIELD_CATALOG_TYPE;

/// Our say in planning expressions over catalogs.
#[derive(Debug)]
pub(crate) struct CatalogValues;

impl ExprPlanner for CatalogValues {
    /// `indkey[0]` is the first.
    fn plan_field_access(&self, raw: RawFieldAccessExpr, schema: &DFSchema) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { field_access, expr } = raw;
        let GetFieldAccess::ListIndex { key } = field_access else {
            return Ok(PlannerResult::Original(RawFieldAccessExpr { field_access, expr }));
        };
        let is_vector = expr.to_field(schema).is_ok_and(|(_, field)| {
            field.metadata().get(FIELD_CATALOG_TYPE).is_some_and(|ty| matches!(ty.as_str(), "int2vector" | "oidvector"))
        });
        let key = if is_vector { Box::new(*key + lit(1_i64)) } else { key };
        Ok(PlannerResult::Original(RawFieldAccessExpr { field_access: GetFieldAccess::ListIndex { key }, expr }))
    }

    /// `polroles = '{0}'`: the literal is an array too.
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = raw;
        let item = |expr: &Expr| match expr.get_type(schema) {
            Ok(DataType::List(item)) => Some(item),
            _ => None,
        };
        let (left, right) = match (item(&left), item(&right)) {
            (Some(item), None) => (left, array_literal(right, &item)?),
            (None, Some(item)) => (array_literal(left, &item)?, right),
            _ => (left, right),
        };
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}

fn array_literal(expr: Expr, item: &Arc<Field>) -> Result<Expr> {
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = &expr else { return Ok(expr) };
    let Some(items) = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')) else { return Ok(expr) };
    let items = items.split(',').map(str::trim).filter(|i| !i.is_empty());
    let items = items.map(|i| ScalarValue::Utf8(Some(i.trim_matches('"').to_string())).cast_to(item.data_type()));
    let items = items.collect::<Result<Vec<_>>>()?;
    Ok(Expr::Literal(ScalarValue::List(ScalarValue::new_list_nullable(&items, item.data_type())), None))
}
