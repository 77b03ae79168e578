//! Values that only catalogs have: vectors, which count from 0, arrays compared with literals, functions by name compared with oids.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, GetFieldAccess, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::{FIELD_CATALOG_TYPE, functions};
use crate::functions::sql_error;
use crate::operators::operand_field;

pub(super) fn register(context: &SessionContext) {
    context.register_udf(ScalarUDF::from(Subscripts { signature: Signature::any(1, Volatility::Immutable) }));
    context.register_udf(ScalarUDF::from(super::json::JsonObject::default()));
}

fn is_vector(field: &Field) -> bool {
    field.metadata().get(FIELD_CATALOG_TYPE).is_some_and(|ty| matches!(ty.as_str(), "int2vector" | "oidvector"))
}

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
        let key = if operand_field(&expr, schema).is_ok_and(|field| is_vector(&field)) { Box::new(*key + lit(1_i64)) } else { key };
        Ok(PlannerResult::Original(RawFieldAccessExpr { field_access: GetFieldAccess::ListIndex { key }, expr }))
    }

    /// `polroles = '{0}'`: the literal is an array too. `proc.oid = typreceive`: the function's number is meant.
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = raw;
        if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        }
        let field = |expr: &Expr| operand_field(expr, schema).ok();
        let (of_left, of_right) = (field(&left), field(&right));
        let item = |field: &Option<FieldRef>| match field.as_ref()?.data_type() {
            DataType::List(item) => Some(item.clone()),
            _ => None,
        };
        let (left, right) = match (item(&of_left), item(&of_right)) {
            (Some(item), None) => (left, array_literal(right, &item)?),
            (None, Some(item)) => (array_literal(left, &item)?, right),
            _ => (left, right),
        };
        let catalog_type = |field: &Option<FieldRef>| field.as_ref()?.metadata().get(FIELD_CATALOG_TYPE).cloned();
        let is_function = |field: &Option<FieldRef>| catalog_type(field).is_some_and(|ty| ty == "regproc");
        let is_number = |field: &Option<FieldRef>| field.as_ref().is_some_and(|field| field.data_type().is_numeric());
        let number_of = |expr: Expr| FUNCTION_OID.call(vec![expr]);
        let (left, right) = match (is_function(&of_left), is_function(&of_right)) {
            (true, false) if is_number(&of_right) => (number_of(left), right),
            (false, true) if is_number(&of_left) => (left, number_of(right)),
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

static FUNCTION_OID: LazyLock<ScalarUDF> =
    LazyLock::new(|| ScalarUDF::from(FunctionOid { signature: Signature::any(1, Volatility::Immutable) }));

/// A `regproc`, which the catalogs keep by name, as the number that it is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FunctionOid {
    signature: Signature,
}

impl ScalarUDFImpl for FunctionOid {
    fn name(&self) -> &str {
        "quire_function_oid"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let names = cast(&args.args[0].to_array(args.number_rows)?, &DataType::Utf8)?;
        let oids: Int64Array = names.as_string::<i32>().iter().map(|name| functions::function_oid(name?)).collect();
        Ok(ColumnarValue::Array(Arc::new(oids) as ArrayRef))
    }
}

/// `generate_subscripts(x, 1)` as a list: from 1, of a vector from 0.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Subscripts {
    signature: Signature,
}

impl ScalarUDFImpl for Subscripts {
    fn name(&self) -> &str {
        "quire_subscripts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let first = if args.arg_fields.first().is_some_and(|field| is_vector(field)) { 0 } else { 1 };
        let list = args.args[0].to_array(args.number_rows)?;
        functions::ordinals(&list, first).map(ColumnarValue::Array).map_err(sql_error)
    }
}
