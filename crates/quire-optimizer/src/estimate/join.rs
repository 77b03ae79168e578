//! What joins give.

use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Join};

use super::{ColumnEstimate, Estimate, column_of, damped, predicate};

/// An anti join never takes all rows, whatever the keys' numbers say: that keys are contained is a guess.
const ANTI_LEFT_MIN: f64 = 0.1;
/// A filter over both sides of which nothing can be said.
const UNKNOWN_FILTER: f64 = 1.0 / 3.0;

/// How many different values a join's keys have together, given for each key how many it has on the side that has more.
///
/// Keys of several columns are correlated: that of a table of parts' suppliers has not parts times suppliers values but as many as the
/// table has rows. So the product is damped, and not above the rows of the smaller table ([`rows_of_smaller`]), but never below the one
/// largest key's.
pub(crate) fn different_keys(keys: Vec<f64>, rows_of_smaller: f64) -> f64 {
    let largest = keys.iter().copied().fold(1.0, f64::max);
    match keys.len() {
        0 | 1 => largest,
        _ => damped(keys).min(rows_of_smaller.max(largest)),
    }
}

/// What the smaller of two tables has of rows whose keys can be on both sides. What was left out of one side alone does not count: the other
/// side's keys are of all rows.
pub(crate) fn rows_of_smaller<'a>(keys: impl Iterator<Item = (&'a ColumnEstimate, &'a ColumnEstimate)>) -> f64 {
    let (mut left, mut right, mut share) = (1.0_f64, 1.0_f64, 1.0);
    for (l, r) in keys {
        // A side's columns may be of several tables.
        left = left.max(l.of_rows);
        right = right.max(r.of_rows);
        share *= l.distinct.max(r.distinct) / l.of_distinct.max(r.of_distinct).max(1.0);
    }
    left.min(right) * share
}

/// The share of a semi join's left rows that find a match.
///
/// `keys` tells for each key how many values it has left and right; the fewer are contained in the more. `filter` is the share of pairs of
/// equal keys that pass the join's further condition: a row is out only if all its `right_rows / right keys` partners fail it.
pub(crate) fn contained(keys: &[(f64, f64)], right_rows: f64, filter: f64) -> f64 {
    let right_keys = different_keys(keys.iter().map(|k| k.1).collect(), right_rows).max(1.0);
    let found = keys.iter().map(|(left, right)| (right / left.max(1.0)).min(1.0)).fold(1.0, f64::min);
    let partners = (right_rows / right_keys).max(1.0);
    let passed = 1.0 - (1.0 - filter.clamp(0.0, 1.0)).powf(partners);
    if right_rows < 1.0 { found * right_rows } else { found * passed }
}

/// The share of an anti join's left rows that stay, if a semi join would keep `contained` of them.
pub(crate) fn not_contained(contained: f64) -> f64 {
    (1.0 - contained).max(ANTI_LEFT_MIN)
}

/// One pair of keys: what is known of it on each side.
struct Key {
    left: ColumnEstimate,
    right: ColumnEstimate,
}

/// What a join gives of inputs that give this.
pub(super) fn joined(join: &Join, left: Estimate, right: Estimate) -> Estimate {
    let key =
        |(l, r): &(Expr, Expr)| Key { left: column_of(l, join.left.schema(), &left), right: column_of(r, join.right.schema(), &right) };
    let keys: Vec<Key> = join.on.iter().map(key).collect();
    let filter = filter_share(join, &left, &right);

    let mut inner = inner_rows(&keys, join.null_equality, &left, &right) * filter;
    let pairs: Vec<(f64, f64)> = keys.iter().map(|k| (k.left.distinct, k.right.distinct)).collect();
    let left_found = contained(&pairs, right.rows, filter);
    let swapped: Vec<(f64, f64)> = pairs.iter().map(|(l, r)| (*r, *l)).collect();
    let right_found = contained(&swapped, left.rows, filter);
    let (left_alone, right_alone) = (left.rows * (1.0 - left_found), right.rows * (1.0 - right_found));

    match join.join_type {
        JoinType::LeftSemi => left_with_keys(left, left_found),
        JoinType::RightSemi => left_with_keys(right, right_found),
        JoinType::LeftAnti => left_with_keys(left, not_contained(left_found)),
        JoinType::RightAnti => left_with_keys(right, not_contained(right_found)),
        // The mark is the one column more; the schema's length adds it.
        JoinType::LeftMark => left,
        JoinType::RightMark => right,
        JoinType::Inner => both(left, right, inner),
        JoinType::Left => {
            inner = inner.max(left.rows * left_found);
            both(left, with_nulls(right, left_alone, inner), inner + left_alone)
        }
        JoinType::Right => {
            inner = inner.max(right.rows * right_found);
            both(with_nulls(left, right_alone, inner), right, inner + right_alone)
        }
        JoinType::Full => {
            let rows = inner + left_alone + right_alone;
            both(with_nulls(left, right_alone, rows), with_nulls(right, left_alone, rows), rows)
        }
    }
}

/// Rows of an inner join without its filter.
fn inner_rows(keys: &[Key], null_equality: NullEquality, left: &Estimate, right: &Estimate) -> f64 {
    let larger = keys.iter().map(|k| k.left.distinct.max(k.right.distinct)).collect();
    let different = different_keys(larger, rows_of_smaller(keys.iter().map(|k| (&k.left, &k.right)))).max(1.0);
    let not_null: f64 = match null_equality {
        NullEquality::NullEqualsNothing => keys.iter().map(|k| (1.0 - k.left.nulls) * (1.0 - k.right.nulls)).product(),
        NullEquality::NullEqualsNull => 1.0,
    };
    left.rows * right.rows / different * not_null
}

/// The share of pairs that pass the filter of a join.
fn filter_share(join: &Join, left: &Estimate, right: &Estimate) -> f64 {
    let Some(filter) = &join.filter else { return 1.0 };
    let schema: DFSchema = match join.left.schema().join(join.right.schema()) {
        Ok(schema) => schema,
        Err(_) => return UNKNOWN_FILTER,
    };
    let columns = left.columns.iter().chain(&right.columns).cloned().collect();
    let pairs = Estimate { rows: left.rows * right.rows, columns };
    predicate::conjunction(&split_conjunction(filter), &schema, &pairs).selectivity
}

fn left_with_keys(side: Estimate, share: f64) -> Estimate {
    let rows = side.rows * share;
    side.thinned(rows)
}

/// Both sides' columns. A side that gives fewer rows than it had has lost values; rows that occur more often lose none.
fn both(left: Estimate, right: Estimate, rows: f64) -> Estimate {
    let mut columns = left.thinned(rows).columns;
    columns.extend(right.thinned(rows).columns);
    Estimate { rows, columns }
}

/// The columns of an outer join's optional side: NULL in `alone` more rows.
fn with_nulls(mut side: Estimate, alone: f64, matched: f64) -> Estimate {
    let rows = (alone + matched).max(1.0);
    for column in &mut side.columns {
        column.nulls = (alone + column.nulls * matched) / rows;
    }
    side
}
