//! Operators and aggregates in Postgres' types: what an operator means is decided here, where its operands' types are known.
//!
//! A literal in quotes has no type of its own and takes the other operand's; an integer literal is an integer when it fits.
//! Comparisons of plain numbers, dates and text are left to the planner: nothing is added to what a scan evaluates per row.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr, RawWindowExpr};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarUDF, WindowFunctionDefinition};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use quire_types::SqlType;

use crate::SqlError;
use crate::functions::{self, CAST, cast_scalar, common, shown_type, sql_error, written_scale};
use crate::rewrite::INTEGER;
use crate::values::{Home, is_relative};

/// Our say in planning expressions; it comes before the planner's own.
#[derive(Debug, Default)]
pub(crate) struct PgOperators {
    functions: OnceLock<Vec<Arc<ScalarUDF>>>,
}

impl ExprPlanner for PgOperators {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = raw;
        if matches!(&op, BinaryOperator::PGCustomBinaryOperator(name) if *name == INTEGER) {
            return Ok(PlannerResult::Planned(narrowed(Side::of(left, DataType::Int64)).expr));
        }
        let Some(kind) = Kind::of(&op) else { return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })) };
        let (left, right) = (folded(left)?, folded(right)?);
        let (Ok(left_field), Ok(right_field)) = (operand_field(&left, schema), operand_field(&right, schema)) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        let left = Side { ty: left_field.data_type().clone(), sql: SqlType::of_field(&left_field), expr: left };
        let right = Side { ty: right_field.data_type().clone(), sql: SqlType::of_field(&right_field), expr: right };
        let (left, right) = resolve_literals(kind, &op, left, right)?;
        match self.plan(kind, &op, &left, &right)? {
            Some(expr) => Ok(PlannerResult::Planned(expr)),
            None => match typed_zero(&op, &left, &right, schema) {
                Some(expr) => Ok(PlannerResult::Planned(expr)),
                None => Ok(PlannerResult::Original(RawBinaryExpr { op, left: left.expr, right: right.expr })),
            },
        }
    }

    fn plan_aggregate(&self, mut raw: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        // What is repeated orders nothing, and the accumulators count what rows are ordered by in two ways.
        let mut seen = HashSet::new();
        raw.order_by.retain(|sorted| seen.insert(sorted.expr.clone()));
        let name = raw.func.name().to_string();
        match (name.as_str(), raw.args.len()) {
            ("sum", 1) => Ok(PlannerResult::Planned(self.sum(&raw))),
            ("avg", 1) => {
                let count = aggregate(&raw, count_udaf(), raw.args.clone());
                Ok(PlannerResult::Planned(self.call("quire_average", vec![self.sum(&raw), count])))
            }
            ("regr_count", _) => {
                let count = aggregate(&raw, raw.func.clone(), raw.args.clone());
                Ok(PlannerResult::Planned(Expr::Cast(Cast::new(Box::new(count), DataType::Int64))))
            }
            _ => Ok(PlannerResult::Original(raw)),
        }
    }

    fn plan_window(&self, raw: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        let name = raw.func_def.name().to_string();
        match (name.as_str(), raw.args.len()) {
            ("sum", 1) => Ok(PlannerResult::Planned(self.window_sum(&raw))),
            ("avg", 1) => {
                let count = window(&raw, WindowFunctionDefinition::AggregateUDF(count_udaf()), raw.args.clone());
                Ok(PlannerResult::Planned(self.call("quire_average", vec![self.window_sum(&raw), count])))
            }
            ("row_number" | "rank" | "dense_rank" | "regr_count", _) => {
                let number = window(&raw, raw.func_def.clone(), raw.args.clone());
                Ok(PlannerResult::Planned(Expr::Cast(Cast::new(Box::new(number), DataType::Int64))))
            }
            ("ntile", _) => {
                let number = window(&raw, raw.func_def.clone(), raw.args.clone());
                Ok(PlannerResult::Planned(Expr::Cast(Cast::new(Box::new(number), DataType::Int32))))
            }
            _ => Ok(PlannerResult::Original(raw)),
        }
    }
}

fn aggregate(raw: &RawAggregateExpr, function: Arc<datafusion::logical_expr::AggregateUDF>, args: Vec<Expr>) -> Expr {
    let treatment = raw.null_treatment;
    Expr::AggregateFunction(AggregateFunction::new_udf(function, args, raw.distinct, raw.filter.clone(), raw.order_by.clone(), treatment))
}

fn window(raw: &RawWindowExpr, fun: WindowFunctionDefinition, args: Vec<Expr>) -> Expr {
    let params = WindowFunctionParams {
        args,
        partition_by: raw.partition_by.clone(),
        order_by: raw.order_by.clone(),
        window_frame: raw.window_frame.clone(),
        filter: raw.filter.clone(),
        null_treatment: raw.null_treatment,
        distinct: raw.distinct,
    };
    Expr::WindowFunction(Box::new(WindowFunction { fun, params }))
}

/// One operand.
struct Side {
    expr: Expr,
    ty: DataType,
    sql: Option<SqlType>,
}

impl Side {
    fn of(expr: Expr, schema_free_type: DataType) -> Side {
        Side { sql: SqlType::of_arrow(&schema_free_type), ty: schema_free_type, expr }
    }

    /// A literal in quotes, which has no type yet.
    fn unknown(&self) -> Option<&ScalarValue> {
        match &self.expr {
            Expr::Literal(value @ ScalarValue::Utf8(Some(_)), None) => Some(value),
            _ => None,
        }
    }

    fn is_interval(&self) -> bool {
        matches!(self.ty, DataType::Interval(_))
    }

    fn is_number(&self) -> bool {
        self.ty.is_numeric()
    }

    fn is_text(&self) -> bool {
        matches!(self.ty, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
            && !matches!(self.sql, Some(SqlType::Uuid | SqlType::Json))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Arithmetic,
    Comparison,
    Concatenation,
    Bits,
    /// Of arrays and json.
    Nested,
}

impl Kind {
    fn of(op: &BinaryOperator) -> Option<Kind> {
        use BinaryOperator as Op;
        Some(match op {
            Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo => Kind::Arithmetic,
            Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq => Kind::Comparison,
            Op::StringConcat => Kind::Concatenation,
            Op::BitwiseAnd | Op::BitwiseOr | Op::PGBitwiseXor | Op::PGBitwiseShiftLeft | Op::PGBitwiseShiftRight => Kind::Bits,
            Op::PGOverlap | Op::AtArrow | Op::ArrowAt | Op::Arrow | Op::LongArrow | Op::HashArrow | Op::HashLongArrow => Kind::Nested,
            _ => return None,
        })
    }
}

/// What `to_field` says of an operand but its name. That names each level of it, each with all that is below: for a sum of 200 terms, whose
/// operands are asked for one after the other, this took seconds.
pub(crate) fn operand_field(operand: &Expr, schema: &DFSchema) -> Result<FieldRef> {
    let Expr::ScalarFunction(call) = operand else { return operand.to_field(schema).map(|(_, field)| field) };
    let fields = call.args.iter().map(|arg| operand_field(arg, schema)).collect::<Result<Vec<_>>>()?;
    let values: Vec<_> = call.args.iter().map(|arg| if let Expr::Literal(value, _) = arg { Some(value) } else { None }).collect();
    let coerced = fields_with_udf(&fields, call.func.as_ref())?;
    call.func.return_field_from_args(ReturnFieldArgs { arg_fields: &coerced, scalar_arguments: &values })
}

/// A product of numerics that is zero, or a remainder, which may be: the planner takes the zero as it was written, whose type has other digits than
/// that of the operation, by which all around it was planned. A cast to that type keeps it. `None` of all other operations.
fn typed_zero(op: &BinaryOperator, left: &Side, right: &Side, schema: &DFSchema) -> Option<Expr> {
    // What has no columns is a literal in the end.
    let may_be_zero = |side: &Side| match &side.expr {
        Expr::Literal(ScalarValue::Decimal128(value, ..), _) => value.is_none_or(|value| value == 0),
        Expr::Literal(ScalarValue::Int32(value), _) => value.is_none_or(|value| value == 0),
        Expr::Literal(ScalarValue::Int64(value), _) => value.is_none_or(|value| value == 0),
        expr => expr.column_refs().is_empty(),
    };
    let operator = match op {
        BinaryOperator::Multiply if may_be_zero(left) || may_be_zero(right) => Operator::Multiply,
        BinaryOperator::Modulo => Operator::Modulo,
        _ => return None,
    };
    if ![left, right].iter().any(|side| matches!(side.ty, DataType::Decimal128(..))) {
        return None;
    }
    let operation = Expr::BinaryExpr(BinaryExpr::new(Box::new(left.expr.clone()), operator, Box::new(right.expr.clone())));
    match operation.get_type(schema) {
        Ok(ty @ DataType::Decimal128(..)) => Some(Expr::Cast(Cast::new(Box::new(operation), ty))),
        _ => None,
    }
}

/// A cast of a constant, evaluated: so that `date '1998-12-01' - interval '90 days'` is a constant too.
fn folded(expr: Expr) -> Result<Expr> {
    let Expr::ScalarFunction(call) = &expr else { return Ok(expr) };
    let (CAST, [Expr::Literal(value, _), Expr::Literal(name, _)]) = (call.func.name(), call.args.as_slice()) else { return Ok(expr) };
    let ty = name.try_as_str().flatten().and_then(SqlType::parse_name);
    match ty {
        // What depends on the session or carries more than its Arrow type stays a call.
        Some(ty @ (SqlType::Date | SqlType::Timestamp | SqlType::Interval | SqlType::Time))
            if matches!(value, ScalarValue::Utf8(_)) && !says_when(value) =>
        {
            Ok(Expr::Literal(cast_scalar(value, ty, &Home::unknown())?, None))
        }
        _ => Ok(expr),
    }
}

/// Whether a literal is `now`, `today` or the like.
fn says_when(value: &ScalarValue) -> bool {
    value.try_as_str().flatten().is_some_and(is_relative)
}

/// An integer literal that fits is an integer, as the grammar makes it.
fn narrowed(side: Side) -> Side {
    match &side.expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), None) => match i32::try_from(*value) {
            Ok(value) => Side::of(Expr::Literal(ScalarValue::Int32(Some(value)), None), DataType::Int32),
            Err(_) => side,
        },
        Expr::Cast(cast) if cast.field.data_type() == &DataType::Int32 => match cast.expr.as_ref() {
            Expr::Literal(ScalarValue::Int64(Some(value)), None) => match i32::try_from(*value) {
                Ok(value) => Side::of(Expr::Literal(ScalarValue::Int32(Some(value)), None), DataType::Int32),
                Err(_) => side,
            },
            _ => side,
        },
        _ => side,
    }
}

fn resolve_literals(kind: Kind, op: &BinaryOperator, left: Side, right: Side) -> Result<(Side, Side)> {
    let (left, right) = (narrowed(left), narrowed(right));
    let (left_unknown, right_unknown) = (left.unknown().is_some(), right.unknown().is_some());
    if left_unknown == right_unknown || kind == Kind::Nested {
        return Ok((left, right));
    }
    let (unknown, known) = if left_unknown { (&left, &right) } else { (&right, &left) };
    let Some(wanted) = literal_type(kind, op, known, left_unknown) else { return Ok((left, right)) };
    let Some(value) = unknown.unknown() else { return Ok((left, right)) };
    let typed = match wanted {
        // Trailing blanks do not count.
        SqlType::Char(_) => {
            let text = value.try_as_str().flatten().unwrap_or_default().trim_end_matches(' ').to_string();
            Side::of(Expr::Literal(ScalarValue::Utf8(Some(text)), None), DataType::Utf8)
        }
        // The zone is the session's, and so is the time: a call, evaluated when they are known.
        SqlType::Timestamptz | SqlType::Timestamp | SqlType::Date | SqlType::Time if wanted == SqlType::Timestamptz || says_when(value) => {
            let name = Expr::Literal(ScalarValue::Utf8(Some(wanted.name())), None);
            let call = ScalarFunction::new_udf(Arc::new(functions::cast_udf()), vec![unknown.expr.clone(), name]);
            Side::of(Expr::ScalarFunction(call), wanted.arrow())
        }
        SqlType::Uuid => {
            let value = cast_scalar(value, wanted, &Home::unknown())?;
            Side { ty: value.data_type(), sql: Some(SqlType::Uuid), expr: Expr::Literal(value, None) }
        }
        _ => {
            let written = value.try_as_str().flatten().and_then(written_scale);
            let wanted = match (wanted, written) {
                (SqlType::NUMERIC_DEFAULT, Some(scale)) => SqlType::Numeric { precision: 38, scale },
                _ => wanted,
            };
            let value = cast_scalar(value, wanted, &Home::unknown())?;
            Side::of(Expr::Literal(value, None), wanted.arrow())
        }
    };
    Ok(if left_unknown { (typed, right) } else { (left, typed) })
}

/// The type that an untyped literal takes beside a typed operand. `None` leaves it text.
fn literal_type(kind: Kind, op: &BinaryOperator, known: &Side, literal_first: bool) -> Option<SqlType> {
    let ty = known.sql?;
    match ty {
        SqlType::Text | SqlType::Varchar(_) | SqlType::Json => None,
        _ if kind == Kind::Concatenation => (ty == SqlType::Bytea).then_some(ty),
        // The literal may have digits that the column has not.
        SqlType::Numeric { .. } => Some(SqlType::NUMERIC_DEFAULT),
        SqlType::Timestamp | SqlType::Timestamptz | SqlType::Time if kind == Kind::Arithmetic && !literal_first => {
            Some(if *op == BinaryOperator::Minus && ty != SqlType::Time { ty } else { SqlType::Interval })
        }
        SqlType::Date if kind == Kind::Arithmetic && *op == BinaryOperator::Plus => Some(SqlType::Int4),
        SqlType::Interval if matches!(op, BinaryOperator::Multiply | BinaryOperator::Divide) => Some(SqlType::Float8),
        other => Some(other),
    }
}

fn no_operator(op: &BinaryOperator, left: &Side, right: &Side) -> datafusion::error::DataFusionError {
    let name = |side: &Side| side.sql.map_or_else(|| shown_type(&side.ty), SqlType::name);
    let message = format!("operator does not exist: {} {op} {}", name(left), name(right));
    sql_error(
        SqlError::new("42883", message)
            .with_hint("No operator matches the given name and argument types. You might need to add explicit type casts."),
    )
}

impl PgOperators {
    fn function(&self, name: &str) -> Arc<ScalarUDF> {
        let all = self.functions.get_or_init(|| functions::operators().into_iter().map(Arc::new).collect());
        let found = all.iter().find(|f| f.name() == name);
        found.cloned().unwrap_or_else(|| unreachable!("{name} is one of our functions"))
    }

    fn call(&self, name: &str, args: Vec<Expr>) -> Expr {
        Expr::ScalarFunction(ScalarFunction::new_udf(self.function(name), args))
    }

    fn sum(&self, raw: &RawAggregateExpr) -> Expr {
        aggregate(raw, sum_udaf(), vec![self.call("quire_addend", raw.args.clone())])
    }

    fn window_sum(&self, raw: &RawWindowExpr) -> Expr {
        window(raw, WindowFunctionDefinition::AggregateUDF(sum_udaf()), vec![self.call("quire_addend", raw.args.clone())])
    }

    fn plan(&self, kind: Kind, op: &BinaryOperator, left: &Side, right: &Side) -> Result<Option<Expr>> {
        match kind {
            Kind::Arithmetic => self.arithmetic(op, left, right),
            Kind::Comparison => self.comparison(op, left, right),
            Kind::Concatenation => concatenation(op, left, right),
            Kind::Bits => Ok(self.bits(op, left, right)),
            Kind::Nested => Ok(self.nested(op, left, right)),
        }
    }

    /// Functions of ours: of its own operators the planner knows rules that do not hold (`x # x` is 0 for NULL, too; `x & -x` is 0).
    fn bits(&self, op: &BinaryOperator, left: &Side, right: &Side) -> Option<Expr> {
        let name = match op {
            BinaryOperator::BitwiseAnd => "quire_and_bits",
            BinaryOperator::BitwiseOr => "quire_or_bits",
            BinaryOperator::PGBitwiseXor => "quire_xor_bits",
            _ => return None,
        };
        let is_integer = |side: &Side| matches!(side.ty, DataType::Int32 | DataType::Int64);
        (is_integer(left) && is_integer(right)).then(|| self.call(name, vec![left.expr.clone(), right.expr.clone()]))
    }

    fn arithmetic(&self, op: &BinaryOperator, left: &Side, right: &Side) -> Result<Option<Expr>> {
        use BinaryOperator as Op;
        let both = || vec![left.expr.clone(), right.expr.clone()];
        let swapped = || vec![right.expr.clone(), left.expr.clone()];
        if left.is_number() && right.is_number() {
            if *op == Op::Modulo && (left.ty.is_floating() || right.ty.is_floating()) {
                return Err(no_operator(op, left, right));
            }
            return Ok(self.numbers(op, left, right));
        }
        match (op, left.is_interval(), right.is_interval()) {
            (Op::Multiply, true, false) if right.is_number() => return Ok(Some(self.call("quire_interval_multiply", both()))),
            (Op::Multiply, false, true) if left.is_number() => return Ok(Some(self.call("quire_interval_multiply", swapped()))),
            (Op::Divide, true, false) if right.is_number() => return Ok(Some(self.call("quire_interval_divide", both()))),
            _ => {}
        }
        // A date and an interval make a timestamp; of constants it is computed here.
        let as_timestamp = |side: &Side| -> Result<Expr> {
            match &side.expr {
                Expr::Literal(value, _) => Ok(Expr::Literal(value.cast_to(&SqlType::Timestamp.arrow())?, None)),
                expr => Ok(Expr::Cast(Cast::new(Box::new(expr.clone()), SqlType::Timestamp.arrow()))),
            }
        };
        let operator = match op {
            Op::Plus => Operator::Plus,
            Op::Minus => Operator::Minus,
            _ => {
                let known = |side: &Side| side.is_number() || side.ty.is_temporal() || side.is_interval() || side.is_text();
                return if known(left) && known(right) { Err(no_operator(op, left, right)) } else { Ok(None) };
            }
        };
        let pair = match (&left.ty, &right.ty) {
            (DataType::Date32, DataType::Interval(_)) => Some((as_timestamp(left)?, right.expr.clone())),
            (DataType::Interval(_), DataType::Date32) if *op == Op::Plus => Some((left.expr.clone(), as_timestamp(right)?)),
            (DataType::Date32, DataType::Time64(_)) if *op == Op::Plus => return Ok(Some(self.call("quire_at_time", both()))),
            (DataType::Time64(_), DataType::Date32) if *op == Op::Plus => return Ok(Some(self.call("quire_at_time", swapped()))),
            _ => None,
        };
        let moment = |side: &Side| matches!(side.ty, DataType::Timestamp(_, _) | DataType::Date32);
        if *op == Op::Minus && moment(left) && moment(right) && (left.ty != DataType::Date32 || right.ty != DataType::Date32) {
            return Ok(Some(self.call(functions::SUBTRACT, both())));
        }
        if *op == Op::Minus && left.ty == DataType::Date32 && right.ty == DataType::Date32 {
            // Days between dates are an integer.
            let days = Expr::BinaryExpr(BinaryExpr::new(Box::new(left.expr.clone()), operator, Box::new(right.expr.clone())));
            return Ok(Some(Expr::Cast(Cast::new(Box::new(days), DataType::Int32))));
        }
        if let Some((l, r)) = pair {
            let sum = Expr::BinaryExpr(BinaryExpr::new(Box::new(l), operator, Box::new(r)));
            return Ok(Some(constant_sum(sum)));
        }
        let refused = |a: &Side, b: &Side| a.is_text() && a.unknown().is_none() && (b.is_number() || b.ty.is_temporal());
        if refused(left, right) || refused(right, left) {
            return Err(no_operator(op, left, right));
        }
        Ok(None)
    }

    fn nested(&self, op: &BinaryOperator, left: &Side, right: &Side) -> Option<Expr> {
        use BinaryOperator as Op;
        let list = |side: &Side| matches!(side.ty, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _));
        let json = left.sql == Some(SqlType::Json);
        let (name, swapped) = match op {
            Op::PGOverlap if list(left) && list(right) => ("quire_array_overlaps", false),
            Op::AtArrow if list(left) && list(right) => ("quire_array_contains", false),
            Op::ArrowAt if list(left) && list(right) => ("quire_array_contains", true),
            Op::Arrow if json => ("quire_json_get", false),
            Op::LongArrow if json => ("quire_json_get_text", false),
            Op::HashArrow if json => ("quire_json_path", false),
            Op::HashLongArrow if json => ("quire_json_path_text", false),
            _ => return None,
        };
        let (first, second) = if swapped { (right, left) } else { (left, right) };
        Some(self.call(name, vec![first.expr.clone(), second.expr.clone()]))
    }

    fn numbers(&self, op: &BinaryOperator, left: &Side, right: &Side) -> Option<Expr> {
        use BinaryOperator as Op;
        let both = || vec![left.expr.clone(), right.expr.clone()];
        if common(&left.ty, &right.ty).is_some_and(|ty| ty.is_integer() || ty.is_floating()) {
            let name = match op {
                Op::Plus => "quire_add",
                Op::Minus => "quire_subtract",
                Op::Multiply => "quire_multiply",
                Op::Divide => "quire_divide",
                _ => return None,
            };
            return Some(self.call(name, both()));
        }
        let scale = |ty: &DataType| if let DataType::Decimal128(_, scale) = ty { *scale } else { 0 };
        match op {
            Op::Divide => Some(self.call("quire_divide", vec![decimal_literal(&left.expr), decimal_literal(&right.expr)])),
            // The planner's product would have no room before the point.
            Op::Multiply if scale(&left.ty) + scale(&right.ty) > 18 => Some(self.call("quire_multiply", both())),
            _ => None,
        }
    }

    fn comparison(&self, op: &BinaryOperator, left: &Side, right: &Side) -> Result<Option<Expr>> {
        let operator = operator_of(op);
        let compare = |l: Expr, r: Expr| Some(Expr::BinaryExpr(BinaryExpr::new(Box::new(l), operator, Box::new(r))));
        if left.is_interval() && right.is_interval() {
            let length = |side: &Side| self.call("quire_interval_length", vec![side.expr.clone()]);
            return Ok(compare(length(left), length(right)));
        }
        // A day against a moment that is a midnight: compare days, which is what scans and statistics hold.
        match (&left.ty, &right.expr) {
            (DataType::Date32, Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), None), _)) => {
                if let Some(day) = midnight(*micros) {
                    return Ok(compare(left.expr.clone(), day));
                }
            }
            _ => {
                if let (Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), None), _), DataType::Date32) = (&left.expr, &right.ty)
                    && let Some(day) = midnight(*micros)
                {
                    return Ok(compare(day, right.expr.clone()));
                }
            }
        }
        let refused = |a: &Side, b: &Side| {
            a.is_text() && a.unknown().is_none() && (b.is_number() || b.ty.is_temporal() || b.is_interval() || b.ty == DataType::Boolean)
        };
        if refused(left, right) || refused(right, left) {
            return Err(no_operator(op, left, right));
        }
        Ok(None)
    }
}

/// Anything can be appended to text, in its own text form.
fn concatenation(op: &BinaryOperator, left: &Side, right: &Side) -> Result<Option<Expr>> {
    let scalar = |side: &Side| side.is_number() || side.ty == DataType::Boolean || side.ty.is_temporal() || side.is_interval();
    let shown = |side: &Side| {
        let name = Expr::Literal(ScalarValue::Utf8(Some(SqlType::Text.name())), None);
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(functions::cast_udf()), vec![side.expr.clone(), name]))
    };
    let join = |l: Expr, r: Expr| Some(Expr::BinaryExpr(BinaryExpr::new(Box::new(l), Operator::StringConcat, Box::new(r))));
    match (scalar(left), scalar(right)) {
        (true, true) => Err(no_operator(op, left, right)),
        (true, false) if right.is_text() => Ok(join(shown(left), right.expr.clone())),
        (false, true) if left.is_text() => Ok(join(left.expr.clone(), shown(right))),
        _ => Ok(None),
    }
}

fn operator_of(op: &BinaryOperator) -> Operator {
    match op {
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        _ => Operator::Eq,
    }
}

fn midnight(micros: i64) -> Option<Expr> {
    let day = 86_400_000_000;
    let days = (micros % day == 0).then(|| i32::try_from(micros / day).ok()).flatten()?;
    Some(Expr::Literal(ScalarValue::Date32(Some(days)), None))
}

/// A numeric division of constants has Postgres' number of digits, so integers beside numerics become numerics here.
fn decimal_literal(expr: &Expr) -> Expr {
    match expr {
        Expr::Literal(ScalarValue::Int32(Some(value)), None) => {
            Expr::Literal(ScalarValue::Decimal128(Some(i128::from(*value)), 10, 0), None)
        }
        Expr::Literal(ScalarValue::Int64(Some(value)), None) => {
            Expr::Literal(ScalarValue::Decimal128(Some(i128::from(*value)), 20, 0), None)
        }
        other => other.clone(),
    }
}

/// The sum of two constants, when they are; the expression as it is when they are not, or when it fails (which running it will report).
fn constant_sum(expr: Expr) -> Expr {
    let Expr::BinaryExpr(sum) = &expr else { return expr };
    let (Expr::Literal(left, _), Expr::Literal(right, _)) = (sum.left.as_ref(), sum.right.as_ref()) else { return expr };
    let computed = if sum.op == Operator::Plus { left.add_checked(right) } else { left.sub_checked(right) };
    match computed {
        Ok(value) if value.data_type() == DataType::Timestamp(TimeUnit::Microsecond, None) => Expr::Literal(value, None),
        _ => expr,
    }
}
