//! Sums, differences and products of numerics in 64 bits where their values fit.
//!
//! Numerics are 128 bits wide, and arithmetic on those looks out for overflow at every step. The values of most columns need no more than 64
//! bits, and what two such numbers make (scaled by a power of ten of as many bits) cannot overflow 128. Each batch is looked at: with a wider
//! value in it, it goes the usual way. So results are the same, to the last digit and error.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::numeric::{add, mul, sub};
use arrow::datatypes::{DataType, Decimal128Type, FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_expr_common::datum::apply;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use crate::OptimizerOptions;

/// The most digits of a numeric.
const PRECISION_MAX: u8 = 38;
/// A power of ten of more digits does not fit into 64 bits.
const SCALING_DIGITS_MAX: i8 = 18;

/// Puts [`NarrowDecimals`] where projections and aggregates calculate with numerics.
#[derive(Debug)]
pub(crate) struct DecimalArithmetic;

impl PhysicalOptimizerRule for DecimalArithmetic {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if config.extensions.get::<OptimizerOptions>().is_some_and(|options| !options.narrow_decimals) {
            return Ok(plan);
        }
        Ok(plan.transform_up(|node| Ok(changed(&node)?.map_or_else(|| Transformed::no(node), Transformed::yes)))?.data)
    }

    fn name(&self) -> &str {
        "DecimalArithmetic"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn changed(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        let input = projection.input();
        let mut any = false;
        let exprs = projection.expr().iter().map(|projected| {
            let narrow = narrowed(&projected.expr, &input.schema())?;
            any |= narrow.transformed;
            Ok(ProjectionExpr { expr: narrow.data, alias: projected.alias.clone() })
        });
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        if !any {
            return Ok(None);
        }
        // Fields may have metadata that their expressions do not know of.
        let new = ProjectionExec::try_new_with_schema_metadata(exprs, input.clone(), &node.schema())?;
        return Ok(Some(Arc::new(new)));
    }
    let Some(aggregate) = node.downcast_ref::<AggregateExec>() else { return Ok(None) };
    if !matches!(aggregate.mode().input_mode(), AggregateInputMode::Raw) {
        return Ok(None);
    }
    let schema = aggregate.input().schema();
    let mut any = false;
    let functions = aggregate.aggr_expr().iter().map(|function| {
        if !function.order_bys().is_empty() {
            return Ok(function.clone());
        }
        let arguments = function.expressions().iter().map(|argument| narrowed(argument, &schema)).collect::<Result<Vec<_>>>()?;
        if !arguments.iter().any(|argument| argument.transformed) {
            return Ok(function.clone());
        }
        let new = function.with_new_expressions(arguments.into_iter().map(|argument| argument.data).collect(), vec![]);
        any |= new.is_some();
        Ok(new.map_or_else(|| function.clone(), Arc::new))
    });
    let functions = functions.collect::<Result<Vec<_>>>()?;
    Ok(if any { Some(Arc::new(aggregate.with_new_aggr_exprs(functions))) } else { None })
}

fn narrowed(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    expr.clone().transform_up(|node| {
        let narrow = node.downcast_ref::<BinaryExpr>().and_then(|binary| NarrowDecimals::of(binary, schema));
        Ok(match narrow {
            Some(narrow) => Transformed::yes(Arc::new(narrow) as Arc<dyn PhysicalExpr>),
            None => Transformed::no(node),
        })
    })
}

/// `left op right` of numerics.
#[derive(Debug, Clone, Eq)]
struct NarrowDecimals {
    binary: Arc<BinaryExpr>,
    operation: Operation,
    precision: u8,
    scale: i8,
}

/// What is done, with the powers of ten that bring both sides to one scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Add(i64, i64),
    Subtract(i64, i64),
    Multiply,
}

impl NarrowDecimals {
    /// `None` for anything but these operations on numerics.
    fn of(binary: &BinaryExpr, schema: &Schema) -> Option<NarrowDecimals> {
        let (left, right) = (binary.left().data_type(schema).ok()?, binary.right().data_type(schema).ok()?);
        let (DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)) = (left, right) else { return None };
        let power = |digits: i8| (0..=SCALING_DIGITS_MAX).contains(&digits).then(|| 10i64.pow(digits as u32));
        // By the rules of Arrow's kernels.
        let common = s1.max(s2);
        let summed = (common.saturating_add((p1 as i8 - s1).max(p2 as i8 - s2)) as u8).saturating_add(1).min(PRECISION_MAX);
        let (operation, precision, scale) = match binary.op() {
            Operator::Plus => (Operation::Add(power(common - s1)?, power(common - s2)?), summed, common),
            Operator::Minus => (Operation::Subtract(power(common - s1)?, power(common - s2)?), summed, common),
            Operator::Multiply => (Operation::Multiply, p1.saturating_add(p2 + 1).min(PRECISION_MAX), s1.checked_add(s2)?),
            _ => return None,
        };
        let same = binary.data_type(schema).ok()? == DataType::Decimal128(precision, scale);
        same.then(|| NarrowDecimals { binary: Arc::new(binary.clone()), operation, precision, scale })
    }

    /// `None` when a value is too wide, or both sides are constants.
    fn narrow(&self, left: &ColumnarValue, right: &ColumnarValue) -> Option<ArrayRef> {
        let (left, right) = (Side::of(left)?, Side::of(right)?);
        let values = match self.operation {
            Operation::Add(1, 1) => combine(&left, &right, |l, r| i128::from(l) + i128::from(r)),
            Operation::Subtract(1, 1) => combine(&left, &right, |l, r| i128::from(l) - i128::from(r)),
            Operation::Add(by_left, by_right) => combine(&left, &right, |l, r| scaled(l, by_left) + scaled(r, by_right)),
            Operation::Subtract(by_left, by_right) => combine(&left, &right, |l, r| scaled(l, by_left) - scaled(r, by_right)),
            Operation::Multiply => combine(&left, &right, scaled),
        }?;
        let nulls = NullBuffer::union(left.nulls(), right.nulls());
        let array = Decimal128Array::new(values.into(), nulls).with_precision_and_scale(self.precision, self.scale).ok()?;
        Some(Arc::new(array))
    }
}

/// A product of two 64-bit numbers has no more than 128 bits.
fn scaled(value: i64, by: i64) -> i128 {
    i128::from(value) * i128::from(by)
}

/// One side of an operation.
enum Side<'a> {
    Column(&'a Decimal128Array),
    Constant(i64),
}

impl<'a> Side<'a> {
    fn of(value: &'a ColumnarValue) -> Option<Side<'a>> {
        match value {
            ColumnarValue::Array(array) => array.as_primitive_opt::<Decimal128Type>().map(Side::Column),
            ColumnarValue::Scalar(ScalarValue::Decimal128(Some(value), ..)) => i64::try_from(*value).ok().map(Side::Constant),
            ColumnarValue::Scalar(_) => None,
        }
    }

    fn nulls(&self) -> Option<&NullBuffer> {
        match self {
            Side::Column(column) => column.nulls(),
            Side::Constant(_) => None,
        }
    }
}

/// Applies `operation` row by row. The loops have no branch: whether all values fit is found out on the way.
fn combine(left: &Side, right: &Side, operation: impl Fn(i64, i64) -> i128) -> Option<Vec<i128>> {
    let mut too_wide = 0i128;
    let mut narrow = |value: i128| {
        too_wide |= value ^ i128::from(value as i64);
        value as i64
    };
    let values = match (left, right) {
        (Side::Column(left), Side::Column(right)) => {
            left.values().iter().zip(right.values()).map(|(l, r)| operation(narrow(*l), narrow(*r))).collect()
        }
        (Side::Column(left), Side::Constant(right)) => left.values().iter().map(|l| operation(narrow(*l), *right)).collect(),
        (Side::Constant(left), Side::Column(right)) => right.values().iter().map(|r| operation(*left, narrow(*r))).collect(),
        (Side::Constant(_), Side::Constant(_)) => return None,
    };
    (too_wide == 0).then_some(values)
}

impl PartialEq for NarrowDecimals {
    fn eq(&self, other: &Self) -> bool {
        self.binary == other.binary
    }
}

impl Hash for NarrowDecimals {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.binary.hash(state);
    }
}

impl fmt::Display for NarrowDecimals {
    /// Marked, so that EXPLAIN tells where it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "narrow({})", self.binary)
    }
}

impl PhysicalExpr for NarrowDecimals {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.binary.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.binary.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.binary.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let (left, right) = (self.binary.left().evaluate(batch)?, self.binary.right().evaluate(batch)?);
        if let Some(values) = self.narrow(&left, &right) {
            return Ok(ColumnarValue::Array(values));
        }
        match self.operation {
            Operation::Add(..) => apply(&left, &right, add),
            Operation::Subtract(..) => apply(&left, &right, sub),
            Operation::Multiply => apply(&left, &right, mul),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.binary.children()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let new = self.binary.clone().with_new_children(children)?;
        Ok(match new.downcast_ref::<BinaryExpr>() {
            Some(binary) => Arc::new(NarrowDecimals { binary: Arc::new(binary.clone()), ..self.as_ref().clone() }),
            None => new,
        })
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.binary.fmt_sql(f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::datatypes::Field;
    use datafusion::physical_expr::expressions::{col, lit};
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Option<i128>> {
        let limit = 10i128.pow(20);
        prop_oneof![
            Just(None),
            (-1_000_000i128..1_000_000).prop_map(Some),
            Just(Some(i128::from(i64::MAX))),
            Just(Some(i128::from(i64::MIN))),
            (-limit..limit).prop_map(Some),
        ]
    }

    proptest! {
        /// The same as DataFusion's own expression gives, errors included.
        #[test]
        fn results_are_those_of_the_wide_type(
            rows in prop::collection::vec((value(), value()), 1..20),
            constant in value(),
            scales in (0i8..6, 0i8..6),
            op in prop_oneof![Just(Operator::Plus), Just(Operator::Minus), Just(Operator::Multiply)],
            shape in 0..3,
        ) {
            let types = [DataType::Decimal128(22, scales.0), DataType::Decimal128(25, scales.1)];
            let schema = Arc::new(Schema::new(vec![Field::new("l", types[0].clone(), true), Field::new("r", types[1].clone(), true)]));
            let array = |values: Vec<Option<i128>>, ty: &DataType| {
                Arc::new(Decimal128Array::from(values).with_data_type(ty.clone())) as ArrayRef
            };
            let (left, right): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
            let batch = RecordBatch::try_new(schema.clone(), vec![array(left, &types[0]), array(right, &types[1])]).unwrap();
            let scalar = |scale| lit(ScalarValue::Decimal128(constant, 22, scale));
            let (l, r) = match shape {
                0 => (col("l", &schema).unwrap(), col("r", &schema).unwrap()),
                1 => (col("l", &schema).unwrap(), scalar(scales.1)),
                _ => (scalar(scales.0), col("r", &schema).unwrap()),
            };
            let binary = BinaryExpr::new(l, op, r);
            let narrow = NarrowDecimals::of(&binary, &schema).expect("it is an operation on numerics");
            let all = |value: Result<ColumnarValue>| value.and_then(|v| v.into_array(batch.num_rows()));
            match (all(binary.evaluate(&batch)), all(narrow.evaluate(&batch))) {
                (Ok(wide), Ok(narrow)) => prop_assert_eq!(&wide, &narrow),
                (wide, narrow) => prop_assert_eq!(wide.is_err(), narrow.is_err()),
            }
        }
    }
}
