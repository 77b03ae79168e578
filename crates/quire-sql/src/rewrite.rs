//! Rewrites of the syntax tree, before planning: casts, literals and forms that the planner takes otherwise than Postgres.
//!
//! What needs the types of operands is not here but in `operators`.

use std::ops::ControlFlow;

use crate::dialect::PgDialect;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    GroupByExpr, Ident, JoinConstraint, JoinOperator, ObjectName, Query, Select, SelectItem, SetExpr, SetOperator, SetQuantifier,
    TableFactor, UnaryOperator, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::parser::Parser;
use quire_types::SqlType;

use crate::SqlError;
use crate::bind::cast_to;
use crate::ddl::sql_type;
use crate::functions::CAST;
use crate::names::{name_apart, name_derived};
use crate::values::Home;
use crate::{aggregate_syntax, alike_rows, function_syntax, recursive, set_functions, window_names};

/// Digits of a number that the planner takes as numeric.
const DIGITS_MAX: usize = 38;
/// Functions whose result has their arguments' type: an integer literal among them must be an integer.
const POLYMORPHIC: [&str; 10] = ["coalesce", "nullif", "greatest", "least", "sum", "avg", "max", "min", "array_agg", "pg_typeof"];

/// Brings a statement or an expression to what the planner knows.
///
/// `typed_values` is off for the rows of an INSERT, whose types are the table's.
pub(crate) fn rewrite(tree: &mut impl VisitMut, typed_values: bool) -> Result<(), SqlError> {
    match tree.visit(&mut Rewriter { typed_values }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Rewriter {
    typed_values: bool,
}

impl VisitorMut for Rewriter {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        // Before their expressions change.
        query.with.iter_mut().flat_map(|with| &mut with.cte_tables).for_each(|cte| name_derived(&mut cte.query));
        query.with.iter_mut().for_each(recursive::separate);
        match window_names::complete(query).and_then(|()| self.body(&mut query.body)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        if let Expr::Cast { expr: inner, data_type, .. } = expr {
            exact_literal(inner, data_type);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        match expression(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Rewriter {
    fn body(&self, body: &mut SetExpr) -> Result<(), SqlError> {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Values(values) if self.typed_values => {
                alike_rows::agree(values);
                values.rows.iter_mut().flat_map(|row| row.iter_mut()).for_each(type_number);
                Ok(())
            }
            SetExpr::SetOperation { op, set_quantifier, left, right } => {
                let all = matches!(set_quantifier, SetQuantifier::All);
                if all && matches!(op, SetOperator::Intersect | SetOperator::Except) {
                    // The planner would make a join of it and forget how often a row comes.
                    return Err(SqlError::unsupported(format!("{op} ALL")));
                }
                name_apart(right);
                self.body(left)?;
                self.body(right)
            }
            _ => Ok(()),
        }
    }

    fn select(&self, select: &mut Select) -> Result<(), SqlError> {
        distinct_by_position(select);
        if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
            keys.iter_mut().for_each(rolled_up_once);
        }
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                type_number(expr);
            }
        }
        for join in select.from.iter().flat_map(|from| &from.joins) {
            if let JoinOperator::FullOuter(JoinConstraint::Using(_) | JoinConstraint::Natural) = &join.join_operator {
                // The planner would show the left side's key where only the right side has the row.
                return Err(SqlError::unsupported("FULL JOIN with USING").with_hint("Use ON, and coalesce(left.key, right.key)."));
            }
        }
        select.selection.iter_mut().try_for_each(rows_among)?;
        set_functions::in_select_list(select);
        aggregate_syntax::name_items(&mut select.projection);
        for from in &mut select.from {
            relation(&mut from.relation)?;
            from.joins.iter_mut().try_for_each(|join| relation(&mut join.relation))?;
        }
        Ok(())
    }
}

/// `DISTINCT ON (1)` means the first item, as ORDER BY does.
fn distinct_by_position(select: &mut Select) {
    let Some(ast::Distinct::On(keys)) = &mut select.distinct else { return };
    for key in keys {
        let Some(position) = integer_literal(key).and_then(|number| usize::try_from(number).ok()) else { continue };
        let items = select.projection.get(..position).unwrap_or_default();
        let is_named = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
        match items.last() {
            // What is behind a wildcard is not known here.
            _ if !items.iter().all(is_named) => {}
            Some(SelectItem::UnnamedExpr(expr)) => *key = expr.clone(),
            Some(SelectItem::ExprWithAlias { alias, .. }) => *key = Expr::Identifier(alias.clone()),
            _ => {}
        }
    }
}

/// `ROLLUP (s, s)` and `ROLLUP (x, (y, z))` as their grouping sets, each with what it says twice only once: the planner would take the columns of a
/// set for different ones, and knows no lists in ROLLUP.
fn rolled_up_once(key: &mut Expr) {
    let Expr::Rollup(parts) = key else { return };
    let without_repeated = |parts: &[Vec<Expr>]| {
        let mut once: Vec<Expr> = vec![];
        for part in parts.iter().flatten() {
            if !once.contains(part) {
                once.push(part.clone());
            }
        }
        once
    };
    let is_plain = parts.iter().all(|part| part.len() == 1) && without_repeated(parts).len() == parts.len();
    if !is_plain {
        *key = Expr::GroupingSets((0..=parts.len()).rev().map(|count| without_repeated(&parts[..count])).collect());
    }
}

fn relation(factor: &mut TableFactor) -> Result<(), SqlError> {
    if let TableFactor::Derived { subquery, .. } = factor {
        name_derived(subquery);
    }
    function_syntax::check_factor(factor)?;
    set_functions::in_from(factor)
}

/// A number under a cast to float or numeric is read by the type itself, so that no digit is lost on the way.
fn exact_literal(literal: &mut Expr, data_type: &DataType) {
    let Expr::Value(value) = literal else { return };
    let Value::Number(digits, _) = &value.value else { return };
    if matches!(sql_type(data_type), Ok(SqlType::Float4 | SqlType::Float8 | SqlType::Numeric { .. })) {
        *literal = Expr::Value(Value::SingleQuotedString(digits.replace('_', "")).into());
    }
}

fn integer_literal(expr: &Expr) -> Option<i32> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        Expr::Nested(inner) => integer_literal(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(value) => match &value.value {
                Value::Number(digits, _) => format!("-{digits}").parse().ok(),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// An integer literal is an integer when it fits; the planner would make it a bigint.
pub(crate) fn type_number(expr: &mut Expr) {
    if integer_literal(expr).is_some() {
        let number = Expr::Nested(Box::new(std::mem::replace(expr, null())));
        *expr = cast_to(number, SqlType::Int4);
    }
}

/// The operator by which `operators` makes an integer of a literal when it plans it, so that a function knows the constant from then on;
/// a cast would only become one when the plan is simplified.
pub(crate) const INTEGER: [&str; 2] = ["quire", "int4"];

/// An integer literal among a function's arguments is an integer when it fits.
pub(crate) fn type_argument(expr: &mut Expr) {
    if integer_literal(expr).is_some() {
        let number = Box::new(Expr::Nested(Box::new(taken(expr))));
        let op = BinaryOperator::PGCustomBinaryOperator(INTEGER.map(str::to_string).to_vec());
        *expr = Expr::BinaryOp { left: number, op, right: Box::new(Expr::Value(Value::Number("0".into(), false).into())) };
    }
}

fn null() -> Expr {
    Expr::Value(Value::Null.into())
}

fn taken(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, null())
}

fn text_literal(text: impl Into<String>) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.into()).into())
}

/// `quire_cast(expr, 'type')`.
pub(crate) fn typed_cast(expr: Expr, ty: SqlType) -> Expr {
    function(CAST, vec![expr, text_literal(ty.name())])
}

/// The rows among which one is looked for, and what their columns are called with a number.
const ROWS: &str = "quire:rows";

/// `(a, b) IN (SELECT …)` in a condition as EXISTS of an equal row, and NOT IN as NOT EXISTS of one that may be equal: that is true in the same
/// cases, and where it is not, there is no telling false from NULL in a condition.
fn rows_among(condition: &mut Expr) -> Result<(), SqlError> {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
            rows_among(left)?;
            rows_among(right)
        }
        Expr::Nested(inner) => rows_among(inner),
        Expr::InSubquery { expr, subquery, negated } => {
            let Some(items) = function_syntax::row_items(expr) else { return Ok(()) };
            let names = (0..items.len()).map(|i| Ident::with_quote('"', format!("{ROWS}{i}")));
            let columns: Vec<String> = names.clone().map(|name| name.to_string()).collect();
            let pairs = items.into_iter().zip(names).map(|(item, name)| Expr::BinaryOp {
                left: Box::new(Expr::Nested(Box::new(item))),
                op: BinaryOperator::Eq,
                right: Box::new(Expr::Identifier(name)),
            });
            let equal = function_syntax::all_of(pairs, BinaryOperator::And);
            let found = if *negated { Expr::IsNotFalse(Box::new(equal)) } else { equal };
            let text = format!("SELECT 1 FROM (SELECT 1) AS \"{ROWS}\" ({}) WHERE true", columns.join(", "));
            let parsed = crate::parse::parse(&text)?.pop().map(|parsed| parsed.statement);
            let Some(ast::Statement::Query(mut among)) = parsed else { return Err(SqlError::internal("a select did not parse")) };
            if let SetExpr::Select(select) = among.body.as_mut()
                && let Some(TableFactor::Derived { subquery: rows, .. }) = select.from.first_mut().map(|from| &mut from.relation)
            {
                std::mem::swap(rows, subquery);
                select.selection = Some(found);
            }
            *condition = Expr::Exists { subquery: among, negated: *negated };
            Ok(())
        }
        _ => Ok(()),
    }
}

/// `x NOT IN (1, NULL)` as `x NOT IN (1) AND x <> NULL`: beside `x IN (…)` the planner takes what the one list has off the other, and NULL for a
/// value that is not there.
fn not_among_nulls(expr: &mut Expr) {
    let Expr::InList { expr: value, list, .. } = expr else { return };
    let (nulls, others): (Vec<Expr>, Vec<Expr>) = std::mem::take(list).into_iter().partition(is_null);
    if nulls.is_empty() {
        *list = others;
        return;
    }
    let value = Box::new(Expr::Nested(Box::new(taken(value))));
    let among = match others.is_empty() {
        true => None,
        false => Some(Expr::InList { expr: value.clone(), list: others, negated: true }),
    };
    let unequal =
        |null: Expr| Expr::BinaryOp { left: value.clone(), op: BinaryOperator::NotEq, right: Box::new(Expr::Nested(Box::new(null))) };
    *expr = function_syntax::all_of(among.into_iter().chain(nulls.into_iter().map(unequal)), BinaryOperator::And);
}

/// Whether it is NULL, of whatever type.
fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(value.value, Value::Null),
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => is_null(inner),
        Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) if name.to_string() == CAST => {
            matches!(list.args.first(), Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(inner))) if is_null(inner))
        }
        _ => false,
    }
}

/// `EXISTS (SELECT * …)` asks for no column: of two with one name the planner's join might read the wrong one.
fn selects_nothing(subquery: &mut Query) {
    let SetExpr::Select(select) = subquery.body.as_mut() else { return };
    let is_grouped = !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty()) || select.having.is_some();
    if select.distinct.is_none()
        && !is_grouped
        && !select.from.is_empty()
        && matches!(select.projection.as_slice(), [SelectItem::Wildcard(_)])
    {
        select.projection = vec![SelectItem::UnnamedExpr(Expr::Value(Value::Number("1".into(), false).into()))];
    }
}

fn expression(expr: &mut Expr) -> Result<(), SqlError> {
    function_syntax::rewrite(expr)?;
    aggregate_syntax::rewrite(expr)?;
    match expr {
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr: inner, data_type, .. } => {
            if let Some(cast) = cast(inner, data_type)? {
                *expr = cast;
            }
        }
        Expr::TypedString(typed) => {
            if let Ok(ty) = sql_type(&typed.data_type) {
                *expr = with_precision(typed_cast(Expr::Value(typed.value.clone()), ty), &typed.data_type);
            }
        }
        Expr::Exists { subquery, .. } => selects_nothing(subquery),
        Expr::InList { negated: true, .. } => not_among_nulls(expr),
        Expr::Interval(interval) => {
            if let Some(text) = interval_text(interval) {
                *expr = typed_cast(text_literal(text), SqlType::Interval);
            }
        }
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) if !name.starts_with('$') => {
                return Err(SqlError::syntax(format!("syntax error at or near \"{name}\"")));
            }
            Value::Number(digits, long) if digits.contains(['e', 'E']) => {
                if let Some(plain) = without_exponent(digits) {
                    value.value = Value::Number(plain, *long);
                }
            }
            _ => {}
        },
        Expr::BinaryOp { left, op, right } => {
            let (negated, insensitive) = match op {
                BinaryOperator::PGLikeMatch => (false, false),
                BinaryOperator::PGNotLikeMatch => (true, false),
                BinaryOperator::PGILikeMatch => (false, true),
                BinaryOperator::PGNotILikeMatch => (true, true),
                _ => return Ok(()),
            };
            let (subject, pattern) = (Box::new(taken(left)), Box::new(taken(right)));
            *expr = match insensitive {
                true => Expr::ILike { negated, any: false, expr: subject, pattern, escape_char: None },
                false => Expr::Like { negated, any: false, expr: subject, pattern, escape_char: None },
            };
        }
        // Comparisons are planned with their operands' types; BETWEEN is not.
        Expr::Between { expr: value, negated, low, high } => {
            let (below, above, both) = match negated {
                true => (BinaryOperator::Lt, BinaryOperator::Gt, BinaryOperator::Or),
                false => (BinaryOperator::GtEq, BinaryOperator::LtEq, BinaryOperator::And),
            };
            let compare = |op: BinaryOperator, bound: &mut Expr| Expr::BinaryOp {
                left: Box::new(Expr::Nested(value.clone())),
                op,
                right: Box::new(Expr::Nested(Box::new(taken(bound)))),
            };
            let (left, right) = (Box::new(compare(below, low)), Box::new(compare(above, high)));
            *expr = Expr::Nested(Box::new(Expr::BinaryOp { left, op: both, right }));
        }
        Expr::Case { conditions, else_result, .. } => {
            conditions.iter_mut().for_each(|when| type_number(&mut when.result));
            if let Some(result) = else_result {
                type_number(result);
            }
        }
        Expr::Array(array) => array.elem.iter_mut().for_each(type_number),
        Expr::Function(call) => {
            if let Some(name) = call.name.0.last().and_then(|p| p.as_ident())
                && POLYMORPHIC.iter().any(|p| name.value.eq_ignore_ascii_case(p))
                && let FunctionArguments::List(list) = &mut call.args
            {
                for arg in &mut list.args {
                    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) = arg {
                        type_number(arg);
                    }
                }
            }
        }
        Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => {
            if let Expr::Subquery(query) = right.as_mut() {
                separate(query)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn cast(inner: &mut Expr, data_type: &DataType) -> Result<Option<Expr>, SqlError> {
    let (ty, array) = match data_type {
        DataType::Array(ast::ArrayElemTypeDef::SquareBracket(item, _)) => (sql_type(item), true),
        other => (sql_type(other), false),
    };
    let ty = match ty {
        Ok(ty) => ty,
        // System types (regclass, oid, name, …) have planners of their own.
        Err(error) if error.code == "42704" => return Ok(None),
        Err(error) => return Err(error),
    };
    if !array {
        check_literal(inner, ty)?;
    }
    // What `type_number` makes.
    if ty == SqlType::Int4 && !array && integer_literal(inner).is_some() {
        return Ok(None);
    }
    type_number(inner);
    let name = format!("{}{}", ty.name(), if array { "[]" } else { "" });
    let cast = function(CAST, vec![taken(inner), text_literal(name)]);
    Ok(Some(if array { cast } else { with_precision(cast, data_type) }))
}

/// `timestamp(3)`: rounded to so many digits of a second.
fn with_precision(value: Expr, data_type: &DataType) -> Expr {
    match data_type {
        DataType::Timestamp(Some(digits), _) | DataType::Time(Some(digits), _) if *digits < 6 => {
            let digits = Expr::Value(Value::Number(digits.to_string(), false).into());
            function("quire_precision", vec![value, cast_to(digits, SqlType::Int4)])
        }
        _ => value,
    }
}

/// A literal in quotes that is no value of the type is an error where it stands, whether or not it is ever evaluated.
fn check_literal(inner: &Expr, ty: SqlType) -> Result<(), SqlError> {
    let Expr::Value(value) = inner else { return Ok(()) };
    let Value::SingleQuotedString(text) = &value.value else { return Ok(()) };
    if ty == SqlType::Timestamptz {
        // The session's zone has a say in it.
        return Ok(());
    }
    match crate::values::parse_text(ty, text, &Home::unknown()).map_err(SqlError::from) {
        Err(error) if matches!(error.code, "22P02" | "22007") => Err(error.at_span(value.span)),
        _ => Ok(()),
    }
}

/// `INTERVAL '90' DAY` is '90 day'; with two fields the text says what is meant.
fn interval_text(interval: &ast::Interval) -> Option<String> {
    let Expr::Value(value) = interval.value.as_ref() else { return None };
    let text = value.clone().into_string()?;
    let bare = text.trim().parse::<f64>().is_ok();
    match (&interval.leading_field, &interval.last_field) {
        (Some(field), None) if bare => Some(format!("{text} {}", field.to_string().to_lowercase())),
        _ => Some(text),
    }
}

/// 1.5e3 is 1500. `None` when that takes more digits than a numeric has.
fn without_exponent(number: &str) -> Option<String> {
    let (mantissa, exponent) = number.split_once(['e', 'E'])?;
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = i64::try_from(whole.len()).ok()? + exponent;
    let length = i64::try_from(digits.len()).ok()?;
    if !(-(DIGITS_MAX as i64)..=DIGITS_MAX as i64).contains(&point) {
        return None;
    }
    let plain = if point <= 0 {
        format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize))
    } else if point >= length {
        format!("{digits}{}.", "0".repeat((point - length) as usize))
    } else {
        format!("{}.{}", &digits[..point as usize], &digits[point as usize..])
    };
    (plain.len() <= DIGITS_MAX + 2).then_some(plain)
}

/// A column that a plain select asks for gets its name there: from a table in FROM the planner would not take conditions out that depend on the row
/// around.
fn name_item(query: &mut Query) -> bool {
    let is_plain = query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    let SetExpr::Select(select) = query.body.as_mut() else { return false };
    let is_grouped = !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty()) || select.having.is_some();
    if !is_plain || is_grouped || select.distinct.is_some() || select.from.is_empty() {
        return false;
    }
    let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] = select.projection.as_mut_slice() else { return false };
    // An aggregate, for one, has a row of no rows, too, and conditions cannot be taken out of that.
    if !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
        return false;
    }
    let expr = taken(expr);
    select.projection = vec![SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', "quire:item") }];
    true
}

/// `x > ANY (SELECT y …)`: the planner joins both sides, and would take a column of the same name in both for one.
fn separate(query: &mut Box<Query>) -> Result<(), SqlError> {
    if name_item(query) {
        return Ok(());
    }
    let sql = format!("SELECT \"quire:item\" FROM ({query}) AS \"quire:set\" (\"quire:item\")");
    let parsed = Parser::new(&PgDialect).try_with_sql(&sql).and_then(|mut p| p.parse_query());
    *query = parsed.map_err(|e| SqlError::internal(format!("a subquery did not survive being printed: {e}")))?;
    Ok(())
}

/// A call.
pub(crate) fn function(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}
