//! The share of rows for which a predicate is true.

use std::collections::BTreeMap;

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::utils::{split_binary, split_conjunction};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};

use super::number::number;
use super::{ColumnEstimate, Estimate, share};

/// A predicate of which nothing is known; also one end of a range over a column without bounds.
const UNKNOWN: f64 = 1.0 / 3.0;
/// An expression equal to a value, where the expression's different values are not known.
const UNKNOWN_EQUAL: f64 = 0.05;
/// Both ends of a range over a column without bounds.
const UNKNOWN_BETWEEN: f64 = 0.1;
const UNKNOWN_NULL: f64 = 0.05;
/// LIKE 'x%' and LIKE '%x%'; each further fragment of a pattern takes `LIKE_FRAGMENT` of the rest.
const LIKE_PREFIX: f64 = 0.05;
const LIKE_CONTAINS: f64 = 0.1;
const LIKE_FRAGMENT: f64 = 0.3;
const SUBQUERY: f64 = 0.5;

/// The share of rows for which several predicates hold, and what is then known of the columns.
pub(super) struct Conjunction {
    pub(super) selectivity: f64,
    ranges: BTreeMap<usize, Range>,
}

/// What predicates leave of one column's values.
#[derive(Default)]
struct Range {
    low: Option<(f64, ScalarValue)>,
    high: Option<(f64, ScalarValue)>,
    /// At most so many different values, by equality or an IN list.
    values: Option<f64>,
    /// The share of the non-NULL rows that are within the range.
    share: f64,
}

/// The share of rows for which all `predicates` hold.
///
/// Ranges over one column are put together first, for `a > 5 AND a < 6` is one predicate and not two. What remains is taken as correlated:
/// the most selective counts whole, the next by its square root, and so on.
pub(super) fn conjunction(predicates: &[&Expr], schema: &DFSchema, input: &Estimate) -> Conjunction {
    let mut ranges: BTreeMap<usize, Range> = BTreeMap::new();
    let mut shares = vec![];
    for predicate in predicates {
        if let Some((index, low, high)) = range(predicate, schema, input) {
            let range = ranges.entry(index).or_default();
            merge(&mut range.low, low, f64::max);
            merge(&mut range.high, high, f64::min);
            continue;
        }
        let selectivity = one(predicate, schema, input);
        shares.push(selectivity);
        if let Some((index, values)) = listed(predicate, schema) {
            let range = ranges.entry(index).or_default();
            range.values = Some(range.values.map_or(values, |v| v.min(values)));
        }
    }
    for (index, range) in &mut ranges {
        let Some(column) = input.columns.get(*index) else { continue };
        range.share = match range.low.is_some() || range.high.is_some() {
            true => within(range, column, input.rows),
            false => 1.0,
        };
        if range.share < 1.0 {
            shares.push(range.share * (1.0 - column.nulls));
        }
    }
    shares.sort_by(f64::total_cmp);
    let mut exponent = 1.0;
    let mut selectivity = 1.0;
    for one in shares {
        selectivity *= share(one).powf(exponent);
        exponent /= 2.0;
    }
    Conjunction { selectivity: share(selectivity), ranges }
}

impl Conjunction {
    /// Columns that were compared have no NULLs left, and only values within the range.
    pub(super) fn narrow(&self, columns: &mut [ColumnEstimate]) {
        for (index, range) in &self.ranges {
            let Some(column) = columns.get_mut(*index) else { continue };
            column.nulls = 0.0;
            column.distinct *= range.share;
            if let Some(values) = range.values {
                column.distinct = column.distinct.min(values);
            }
            column.distinct = column.distinct.max(1.0);
            tighten(&mut column.min, &range.low, |old, new| new > old);
            tighten(&mut column.max, &range.high, |old, new| new < old);
        }
    }
}

/// Replaces a column's bound by a tighter one of the same type.
fn tighten(bound: &mut Option<ScalarValue>, by: &Option<(f64, ScalarValue)>, tighter: fn(f64, f64) -> bool) {
    let (Some(old), Some((new, value))) = (bound.as_ref(), by) else { return };
    if old.data_type() == value.data_type() && number(old).is_some_and(|old| tighter(old, *new)) {
        *bound = Some(value.clone());
    }
}

type Bound = Option<(f64, ScalarValue)>;

fn merge(bound: &mut Bound, with: Bound, tighter: fn(f64, f64) -> f64) {
    let Some((new, value)) = with else { return };
    match bound {
        Some((old, _)) if tighter(*old, new) == *old => {}
        _ => *bound = Some((new, value)),
    }
}

/// A range over one column whose bounds can be interpolated: its column, low and high end.
fn range(predicate: &Expr, schema: &DFSchema, input: &Estimate) -> Option<(usize, Bound, Bound)> {
    let end = |expr: &Expr| literal(expr).and_then(|value| Some((number(value)?, value.clone())));
    let (index, low, high) = match predicate {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (column, op, value) = match (column_index(left, schema), column_index(right, schema)) {
                (Some(column), None) => (column, *op, end(right)?),
                (None, Some(column)) => (column, op.swap()?, end(left)?),
                _ => return None,
            };
            match op {
                Operator::Lt | Operator::LtEq => (column, None, Some(value)),
                Operator::Gt | Operator::GtEq => (column, Some(value), None),
                _ => return None,
            }
        }
        Expr::Between(Between { expr, negated: false, low, high }) => (column_index(expr, schema)?, Some(end(low)?), Some(end(high)?)),
        _ => return None,
    };
    input.columns.get(index)?;
    Some((index, low, high))
}

/// The share of a column's non-NULL rows within `range`.
fn within(range: &Range, column: &ColumnEstimate, rows: f64) -> f64 {
    let (low, high) = (range.low.as_ref().map(|l| l.0), range.high.as_ref().map(|h| h.0));
    let bounds = (column.min.as_ref().and_then(number), column.max.as_ref().and_then(number));
    let (Some(min), Some(max)) = bounds else {
        return if low.is_some() && high.is_some() { UNKNOWN_BETWEEN } else { UNKNOWN };
    };
    let (low, high) = (low.unwrap_or(min).max(min), high.unwrap_or(max).min(max));
    if low > high {
        return one_row(rows);
    }
    // A range that holds any value holds at least one of them.
    let least = 1.0 / column.distinct.max(1.0);
    if max > min { share((high - low) / (max - min)).max(least).min(1.0) } else { 1.0 }
}

/// A share for what statistics say does not exist: they may be older than the rows.
fn one_row(rows: f64) -> f64 {
    1.0 / rows.max(1.0)
}

/// A column that a predicate leaves only a few values, and how many.
fn listed(predicate: &Expr, schema: &DFSchema) -> Option<(usize, f64)> {
    match predicate {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (column_index(left, schema), column_index(right, schema)) {
            (Some(index), None) | (None, Some(index)) => Some((index, 1.0)),
            _ => None,
        },
        Expr::InList(InList { expr, list, negated: false }) => Some((column_index(expr, schema)?, list.len() as f64)),
        // `a = 1 OR a = 2`
        Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
            let mut parts = split_binary(predicate, Operator::Or).into_iter().map(|part| listed(part, schema));
            let (index, mut values) = parts.next()??;
            for part in parts {
                let (other, more) = part?;
                if other != index {
                    return None;
                }
                values += more;
            }
            Some((index, values))
        }
        _ => None,
    }
}

/// The share of rows for which one predicate, not a conjunction's several, holds.
fn one(predicate: &Expr, schema: &DFSchema, input: &Estimate) -> f64 {
    let nested = |expr: &Expr| conjunction(&split_conjunction(expr), schema, input).selectivity;
    let nulls = |expr: &Expr| match column(expr, schema, input) {
        Some(column) => column.nulls,
        None => UNKNOWN_NULL,
    };
    let selectivity = match predicate {
        Expr::Alias(alias) => nested(&alias.expr),
        Expr::Literal(ScalarValue::Boolean(Some(true)), _) => 1.0,
        Expr::Literal(..) => 0.0,
        Expr::Column(_) => column(predicate, schema, input).map_or(0.5, |c| (1.0 - c.nulls) / 2.0),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And => nested(predicate),
            Operator::Or => {
                let parts = split_binary(predicate, Operator::Or);
                1.0 - parts.into_iter().map(|part| 1.0 - nested(part)).product::<f64>()
            }
            Operator::Eq | Operator::IsNotDistinctFrom => equal(left, right, schema, input),
            Operator::NotEq | Operator::IsDistinctFrom => 1.0 - equal(left, right, schema, input),
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => match range(predicate, schema, input) {
                Some(_) => nested(predicate),
                None => UNKNOWN,
            },
            Operator::LikeMatch | Operator::ILikeMatch | Operator::RegexMatch | Operator::RegexIMatch => LIKE_CONTAINS,
            Operator::NotLikeMatch | Operator::NotILikeMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch => 1.0 - LIKE_CONTAINS,
            _ => UNKNOWN,
        },
        Expr::Not(expr) | Expr::IsFalse(expr) | Expr::IsNotTrue(expr) => 1.0 - nested(expr),
        Expr::IsTrue(expr) | Expr::IsNotFalse(expr) => nested(expr),
        Expr::IsNull(expr) | Expr::IsUnknown(expr) => nulls(expr),
        Expr::IsNotNull(expr) | Expr::IsNotUnknown(expr) => 1.0 - nulls(expr),
        Expr::Between(between) => {
            let positive = Between { negated: false, ..between.clone() };
            let positive = Expr::Between(positive);
            let inside = match range(&positive, schema, input) {
                Some(_) => nested(&positive),
                None => UNKNOWN_BETWEEN,
            };
            if between.negated { 1.0 - inside } else { inside }
        }
        Expr::InList(InList { expr, list, negated }) => {
            let inside = share(list.iter().map(|value| equal(expr, value, schema, input)).sum());
            if *negated { 1.0 - inside } else { inside }
        }
        Expr::Like(pattern) | Expr::SimilarTo(pattern) => like(pattern, schema, input),
        Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => SUBQUERY,
        Expr::Cast(cast) => nested(&cast.expr),
        _ => UNKNOWN,
    };
    share(selectivity)
}

fn equal(left: &Expr, right: &Expr, schema: &DFSchema, input: &Estimate) -> f64 {
    let (column, other) = match (column(left, schema, input), column(right, schema, input)) {
        (Some(a), Some(b)) => return (1.0 - a.nulls) * (1.0 - b.nulls) / a.distinct.max(b.distinct).max(1.0),
        (Some(column), None) => (column, right),
        (None, Some(column)) => (column, left),
        (None, None) => return UNKNOWN_EQUAL,
    };
    if let Some(value) = literal(other) {
        if value.is_null() {
            return 0.0;
        }
        let outside = |bound: &Option<ScalarValue>, is_outside: fn(f64, f64) -> bool| match (number(value), bound.as_ref().and_then(number))
        {
            (Some(value), Some(bound)) => is_outside(value, bound),
            _ => false,
        };
        if outside(&column.min, |value, min| value < min) || outside(&column.max, |value, max| value > max) {
            return one_row(input.rows);
        }
    }
    (1.0 - column.nulls) / column.distinct.max(1.0)
}

fn like(like: &Like, schema: &DFSchema, input: &Estimate) -> f64 {
    let pattern = literal(&like.pattern).and_then(|value| value.try_as_str().flatten());
    let matches = match pattern {
        None => LIKE_CONTAINS,
        Some(pattern) if !pattern.contains(['%', '_']) => equal(&like.expr, &like.pattern, schema, input),
        Some(pattern) => {
            let fragments = pattern.split(['%', '_']).filter(|fragment| !fragment.is_empty()).count();
            match (fragments, pattern.starts_with(['%', '_'])) {
                (0, _) => 1.0,
                (more, false) => LIKE_PREFIX * LIKE_FRAGMENT.powi(more as i32 - 1),
                (more, true) => LIKE_CONTAINS * LIKE_FRAGMENT.powi(more as i32 - 1),
            }
        }
    };
    if like.negated { 1.0 - matches } else { matches }
}

/// The column that an expression is, casts seen through: they keep how many values there are, and their order.
pub(super) fn column_index(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        Expr::Alias(alias) => column_index(&alias.expr, schema),
        Expr::Cast(cast) => column_index(&cast.expr, schema),
        Expr::TryCast(cast) => column_index(&cast.expr, schema),
        _ => None,
    }
}

fn column<'a>(expr: &Expr, schema: &DFSchema, input: &'a Estimate) -> Option<&'a ColumnEstimate> {
    input.columns.get(column_index(expr, schema)?)
}

pub(super) fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        Expr::Alias(alias) => literal(&alias.expr),
        Expr::Cast(cast) => literal(&cast.expr),
        Expr::TryCast(cast) => literal(&cast.expr),
        _ => None,
    }
}
