//! Forms of SQL that are calls of functions: EXTRACT, AT TIME ZONE, OVERLAPS, SUBSTRING and their kind, operators that the planner
//! lacks, and arguments by name.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CeilFloorKind, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, TableFactor,
    UnaryOperator, Value,
};

use crate::SqlError;
use crate::assign::is_row;
use crate::functions;
use crate::names::fold;
use crate::rewrite::{function, type_argument};

/// `make_interval`'s arguments by name.
const INTERVAL_PARTS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];

pub(crate) fn rewrite(expr: &mut Expr) -> Result<(), SqlError> {
    let null = || Expr::Value(Value::Null.into());
    let taken = |expr: &mut Box<Expr>| std::mem::replace(expr.as_mut(), null());
    match expr {
        Expr::Extract { field, expr: value, .. } => {
            let unit = match field {
                DateTimeField::Custom(name) => name.value.clone(),
                other => other.to_string(),
            };
            *expr = function("extract", vec![text(unit.to_lowercase()), taken(value)]);
        }
        Expr::AtTimeZone { timestamp, time_zone } => {
            *expr = function("timezone", vec![taken(time_zone), taken(timestamp)]);
        }
        Expr::Substring { expr: value, substring_from, substring_for, .. } => {
            let mut arguments = vec![taken(value)];
            match (substring_from, substring_for) {
                (Some(from), length) => {
                    arguments.push(numbered(taken(from)));
                    arguments.extend(length.as_mut().map(|l| numbered(taken(l))));
                }
                (None, Some(length)) => arguments.extend([numbered(number("1")), numbered(taken(length))]),
                (None, None) => {}
            }
            *expr = function("substring", arguments);
        }
        Expr::Ceil { expr: value, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
            *expr = function("ceil", vec![numbered(taken(value))]);
        }
        Expr::Floor { expr: value, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
            *expr = function("floor", vec![numbered(taken(value))]);
        }
        Expr::UnaryOp { op, expr: value } => {
            let name = match op {
                UnaryOperator::PGSquareRoot => "sqrt",
                UnaryOperator::PGCubeRoot => "cbrt",
                UnaryOperator::PGAbs => "abs",
                UnaryOperator::BitwiseNot => "quire_not_bits",
                _ => return Ok(()),
            };
            *expr = function(name, vec![numbered(taken(value))]);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Overlaps, right } => {
            let (Expr::Tuple(one), Expr::Tuple(other)) = (left.as_mut(), right.as_mut()) else { return Ok(()) };
            for (side, name) in [(&one, "left"), (&other, "right")] {
                if side.len() != 2 {
                    return Err(SqlError::syntax(format!("wrong number of parameters on {name} side of OVERLAPS expression")));
                }
            }
            let arguments = one.drain(..).chain(other.drain(..)).collect();
            *expr = function("overlaps", arguments);
        }
        Expr::Like { any, negated, expr: value, pattern, .. } => {
            let like = |value, pattern| Expr::Like { negated: *negated, any: false, expr: value, pattern, escape_char: None };
            if let Some(alternatives) = like_each(value, pattern, *any, like) {
                *expr = alternatives;
            }
        }
        Expr::ILike { any, negated, expr: value, pattern, .. } => {
            let like = |value, pattern| Expr::ILike { negated: *negated, any: false, expr: value, pattern, escape_char: None };
            if let Some(alternatives) = like_each(value, pattern, *any, like) {
                *expr = alternatives;
            }
        }
        Expr::AnyOp { left, compare_op, right, .. } if !matches!(right.as_ref(), Expr::Subquery(_)) => {
            let (left, right) = (taken(left), taken(right));
            *expr = quantified(left, compare_op, right, true);
        }
        Expr::AllOp { left, compare_op, right } if !matches!(right.as_ref(), Expr::Subquery(_)) => {
            let (left, right) = (taken(left), taken(right));
            *expr = quantified(left, compare_op, right, false);
        }
        // A row is NULL when all of it is, and not NULL when none of it is.
        Expr::IsNull(row) | Expr::IsNotNull(row) => {
            let Some(items) = row_items(row) else { return Ok(()) };
            let null = matches!(expr, Expr::IsNull(_));
            let check = |item: Expr| if null { Expr::IsNull(Box::new(item)) } else { Expr::IsNotNull(Box::new(item)) };
            *expr = all_of(items.into_iter().map(check), BinaryOperator::And);
        }
        Expr::BinaryOp { left, op: op @ (BinaryOperator::Eq | BinaryOperator::NotEq), right } => {
            let (Some(one), Some(other)) = (row_items(left), row_items(right)) else { return Ok(()) };
            if one.len() != other.len() {
                return Err(SqlError::syntax("unequal number of entries in row expressions"));
            }
            let pairs = one.into_iter().zip(other).map(|(left, right)| Expr::BinaryOp {
                left: Box::new(Expr::Nested(Box::new(left))),
                op: op.clone(),
                right: Box::new(Expr::Nested(Box::new(right))),
            });
            let joined_by = if *op == BinaryOperator::Eq { BinaryOperator::And } else { BinaryOperator::Or };
            *expr = all_of(pairs.collect::<Vec<_>>().into_iter(), joined_by);
        }
        Expr::BinaryOp {
            left,
            op: op @ (BinaryOperator::Lt | BinaryOperator::LtEq | BinaryOperator::Gt | BinaryOperator::GtEq),
            right,
        } => {
            let (Some(one), Some(other)) = (row_items(left), row_items(right)) else { return Ok(()) };
            if one.len() != other.len() {
                return Err(SqlError::syntax("unequal number of entries in row expressions"));
            }
            if let Some(compared) = in_order(&one, &other, op) {
                *expr = compared;
            }
        }
        Expr::Function(call) => arguments(call)?,
        _ => {}
    }
    Ok(())
}

/// The items of `(a, b)` or `ROW (a, b)`.
pub(crate) fn row_items(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Tuple(items) => Some(items.clone()),
        Expr::Function(Function { name, args: FunctionArguments::List(list), over: None, .. }) if is_row(name) => {
            let item = |argument: &FunctionArg| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(item)) => Some(item.clone()),
                _ => None,
            };
            list.args.iter().map(item).collect()
        }
        _ => None,
    }
}

/// Rows compared by `<` or its kind: by their first items that are not equal, which gives NULL where it cannot be told whether these are.
fn in_order(one: &[Expr], other: &[Expr], op: &BinaryOperator) -> Option<Expr> {
    let strictly = match op {
        BinaryOperator::Lt | BinaryOperator::LtEq => BinaryOperator::Lt,
        _ => BinaryOperator::Gt,
    };
    let nested = |expr: Expr| Box::new(Expr::Nested(Box::new(expr)));
    let compared = |(left, right): (&Expr, &Expr), op: &BinaryOperator| Expr::BinaryOp {
        left: nested(left.clone()),
        op: op.clone(),
        right: nested(right.clone()),
    };
    let mut pairs = one.iter().zip(other).rev();
    let last = compared(pairs.next()?, op);
    let whole = pairs.fold(last, |rest, pair| {
        let equal = Expr::BinaryOp { left: nested(compared(pair, &BinaryOperator::Eq)), op: BinaryOperator::And, right: nested(rest) };
        Expr::BinaryOp { left: nested(compared(pair, &strictly)), op: BinaryOperator::Or, right: nested(equal) }
    });
    Some(*nested(whole))
}

/// The parts joined by AND or OR.
pub(crate) fn all_of(parts: impl Iterator<Item = Expr>, op: BinaryOperator) -> Expr {
    let joined = parts.reduce(|left, right| Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) });
    Expr::Nested(Box::new(joined.unwrap_or(Expr::Value(Value::Boolean(true).into()))))
}

/// `x = ANY (ARRAY[a, b])` is `x IN (a, b)`; other comparisons, and other arrays, are left to a function.
fn quantified(value: Expr, op: &BinaryOperator, array: Expr, any: bool) -> Expr {
    let inner = match &array {
        Expr::Nested(inner) => inner.as_ref(),
        other => other,
    };
    let in_list = matches!((op, any), (BinaryOperator::Eq, true) | (BinaryOperator::NotEq, false));
    match inner {
        Expr::Array(list) if in_list && !list.elem.is_empty() && !list.elem.iter().any(|e| matches!(e, Expr::Array(_))) => {
            Expr::InList { expr: Box::new(value), list: list.elem.clone(), negated: !any }
        }
        _ => {
            let arguments = vec![text(op.to_string()), numbered(value), array];
            function(if any { "quire_any" } else { "quire_all" }, arguments)
        }
    }
}

fn text(value: String) -> Expr {
    Expr::Value(Value::SingleQuotedString(value).into())
}

fn number(digits: &str) -> Expr {
    Expr::Value(Value::Number(digits.to_string(), false).into())
}

/// An integer literal with its type.
fn numbered(mut expr: Expr) -> Expr {
    type_argument(&mut expr);
    expr
}

/// `x LIKE ANY (ARRAY[a, b])` is `x LIKE a OR x LIKE b`, and with ALL, which the parser takes for a function, AND. `None` when it is
/// neither, or the array is not written out.
fn like_each(value: &Expr, pattern: &Expr, any: bool, like: impl Fn(Box<Expr>, Box<Expr>) -> Expr) -> Option<Expr> {
    let patterns = match pattern {
        Expr::Nested(inner) if any => return like_each(value, inner, any, like),
        Expr::Array(array) if any => array.elem.clone(),
        Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) if !any => {
            let all = name.0.last().and_then(|p| p.as_ident()).is_some_and(|name| fold(name) == "all");
            match list.args.as_slice() {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Array(array)))] if all => array.elem.clone(),
                _ => return None,
            }
        }
        _ => return None,
    };
    let alternatives = patterns.into_iter().map(|pattern| like(Box::new(value.clone()), Box::new(pattern)));
    Some(all_of(alternatives.collect::<Vec<_>>().into_iter(), if any { BinaryOperator::Or } else { BinaryOperator::And }))
}

/// Gives integer literals among the arguments of a function of ours their type, and named arguments their places.
fn arguments(call: &mut Function) -> Result<(), SqlError> {
    let Some(name) = call.name.0.last().and_then(|p| p.as_ident()).map(fold) else { return Ok(()) };
    let FunctionArguments::List(list) = &mut call.args else { return Ok(()) };
    if name == "make_interval" && list.args.iter().any(|a| !matches!(a, FunctionArg::Unnamed(_))) {
        list.args = by_place(std::mem::take(&mut list.args))?;
    }
    if name == "pg_typeof" {
        // A constant in quotes has no type, as NULL has none.
        for argument in &mut list.args {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr @ Expr::Value(_))) = argument
                && matches!(expr, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)))
            {
                *expr = Expr::Value(Value::Null.into());
            }
        }
    }
    if functions::is_ours(&name) {
        for argument in &mut list.args {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument {
                type_argument(argument);
            }
        }
    }
    Ok(())
}

fn by_place(given: Vec<FunctionArg>) -> Result<Vec<FunctionArg>, SqlError> {
    let mut parts: Vec<Expr> = INTERVAL_PARTS.iter().map(|_| number("0")).collect();
    for (position, argument) in given.into_iter().enumerate() {
        let (at, value) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (Some(position), value),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                (INTERVAL_PARTS.iter().position(|part| *part == fold(&name)), value)
            }
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(value), .. } => {
                (INTERVAL_PARTS.iter().position(|part| *part == fold(&name)), value)
            }
            _ => (None, number("0")),
        };
        let place = at.and_then(|at| parts.get_mut(at));
        *place.ok_or_else(|| SqlError::new("42883", "function make_interval has no argument of that name"))? = value;
    }
    Ok(parts.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect())
}

/// 0A000 for what a relation in FROM may ask for and would not get.
pub(crate) fn check_factor(factor: &TableFactor) -> Result<(), SqlError> {
    match factor {
        TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
            Err(SqlError::unsupported("TABLESAMPLE"))
        }
        _ => Ok(()),
    }
}
