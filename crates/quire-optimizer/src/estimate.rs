//! How many rows a plan gives, and how many different values its columns have.
//!
//! Textbook estimation: values spread evenly over a column and between its least and greatest, a join's smaller set of keys lies in
//! the larger one (Selinger et al. 1979). Where the textbook multiplies shares as if columns had nothing to do with each other, we damp:
//! the second factor counts by its square root, the third by its fourth root and so on, for real columns are correlated.

mod join;
mod number;
mod predicate;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, ScalarValue, Statistics};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, FetchType, Limit, LogicalPlan, SkipType, TableScan};

use crate::TableStatistics;
pub(crate) use join::{contained, different_keys, not_contained, rows_of_smaller};

/// Rows of a table of which nothing is known.
const UNKNOWN_ROWS: f64 = 10_000.0;
/// Rows with the same value, in a column of which nothing is known.
const UNKNOWN_ROWS_PER_VALUE: f64 = 10.0;
/// No estimate is above this, so that products of a few of them stay finite.
pub(crate) const ROWS_MAX: f64 = 1e18;

/// What is known, or guessed, of what a plan gives.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// Rows; at least 1 where anything is divided by it.
    pub rows: f64,
    /// One for each field of the plan's schema.
    pub columns: Vec<ColumnEstimate>,
}

/// What is known, or guessed, of one column.
#[derive(Clone, Debug)]
pub struct ColumnEstimate {
    /// Different values, NULL not counted; never more than the rows.
    pub distinct: f64,
    /// Rows of the table (or grouping) that it is a column of, before anything was left out, and how many different values it had there.
    pub of_rows: f64,
    pub of_distinct: f64,
    /// The share of rows that are NULL, 0 to 1.
    pub nulls: f64,
    pub min: Option<ScalarValue>,
    pub max: Option<ScalarValue>,
}

impl ColumnEstimate {
    /// So many values in so many rows.
    fn of(distinct: f64, rows: f64) -> ColumnEstimate {
        ColumnEstimate { distinct, of_rows: rows, of_distinct: distinct, nulls: 0.0, min: None, max: None }
    }

    /// A column of which nothing is known.
    fn unknown(rows: f64) -> ColumnEstimate {
        ColumnEstimate::of((rows / UNKNOWN_ROWS_PER_VALUE).max(1.0).min(rows), rows)
    }

    fn from_statistics(statistics: &ColumnStatistics, rows: f64) -> ColumnEstimate {
        let mut column = ColumnEstimate::unknown(rows);
        if let Some(distinct) = statistics.distinct_count.get_value() {
            column = ColumnEstimate::of(*distinct as f64, rows);
        }
        if let Some(nulls) = statistics.null_count.get_value() {
            column.nulls = *nulls as f64 / rows.max(1.0);
        }
        column.min = bound(&statistics.min_value);
        column.max = bound(&statistics.max_value);
        column
    }

    /// The column when of `from` rows only `to` are left, whichever they are.
    ///
    /// A value with k rows is lost if none of them is left: (1 - to/from)^k of the values (Yao 1977, with replacement).
    fn thinned(mut self, from: f64, to: f64) -> ColumnEstimate {
        if to < from && self.distinct > 0.0 {
            let rows_per_value = (from / self.distinct).max(1.0);
            self.distinct *= 1.0 - (1.0 - to / from).powf(rows_per_value);
        }
        self
    }
}

impl Estimate {
    /// Of a whole table.
    pub fn of_table(statistics: &Statistics) -> Estimate {
        let columns = statistics.column_statistics.len();
        from_statistics(statistics, columns).checked(columns)
    }

    fn unknown(rows: f64, columns: usize) -> Estimate {
        Estimate { rows, columns: vec![ColumnEstimate::unknown(rows); columns] }
    }

    /// The same columns when only `rows` of the rows are left.
    fn thinned(self, rows: f64) -> Estimate {
        let from = self.rows;
        let columns = self.columns.into_iter().map(|column| column.thinned(from, rows)).collect();
        Estimate { rows: rows.min(from), columns }
    }

    /// Holds the promises of the types: as many columns as the schema has, all numbers finite and in their ranges.
    fn checked(mut self, columns: usize) -> Estimate {
        self.rows = bounded(self.rows);
        self.columns.resize_with(columns, || ColumnEstimate::unknown(self.rows));
        for column in &mut self.columns {
            column.nulls = share(column.nulls);
            column.distinct = bounded(column.distinct).max(1.0).min(self.rows);
        }
        self
    }
}

/// The share of rows, 0 to 1, for which `predicate` (over `schema`, of which `input` tells) is true.
pub fn selectivity(predicate: &Expr, schema: &DFSchema, input: &Estimate) -> f64 {
    predicate::conjunction(&split_conjunction(predicate), schema, input).selectivity
}

/// Estimates plans from table statistics.
#[derive(Clone, Debug)]
pub struct Estimator {
    tables: Arc<dyn TableStatistics>,
}

impl Estimator {
    pub fn new(tables: Arc<dyn TableStatistics>) -> Estimator {
        Estimator { tables }
    }

    /// What `plan` gives.
    pub fn estimate(&self, plan: &LogicalPlan) -> Estimate {
        let inputs = plan.inputs().into_iter().map(|input| self.estimate(input)).collect();
        self.of_inputs(plan, inputs)
    }

    /// What `plan` gives if its inputs give this.
    pub(crate) fn of_inputs(&self, plan: &LogicalPlan, inputs: Vec<Estimate>) -> Estimate {
        let rows_most = inputs.iter().map(|input| input.rows).reduce(f64::max).unwrap_or(UNKNOWN_ROWS);
        let mut inputs = inputs.into_iter();
        let mut input = || inputs.next().unwrap_or_else(|| Estimate::unknown(UNKNOWN_ROWS, 0));
        let estimate = match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => {
                let input = input();
                let columns = projection.expr.iter().map(|e| column_of(e, projection.input.schema(), &input)).collect();
                Estimate { rows: input.rows, columns }
            }
            LogicalPlan::Filter(filter) => filtered(&split_conjunction(&filter.predicate), filter.input.schema(), input()),
            LogicalPlan::Join(join) => join::joined(join, input(), input()),
            LogicalPlan::Aggregate(aggregate) => grouped(aggregate, &input()),
            LogicalPlan::Distinct(Distinct::All(_)) => {
                let input = input();
                let rows = groups(input.columns.iter().map(|c| c.distinct).collect(), input.rows);
                Estimate { rows, columns: input.columns }
            }
            LogicalPlan::Distinct(Distinct::On(on)) => {
                let input = input();
                let schema = on.input.schema();
                let rows = groups(on.on_expr.iter().map(|e| column_of(e, schema, &input).distinct).collect(), input.rows);
                let columns = on.select_expr.iter().map(|e| column_of(e, schema, &input)).collect();
                Estimate { rows: input.rows, columns }.thinned(rows)
            }
            LogicalPlan::Union(_) => union(inputs),
            LogicalPlan::Limit(limit) => limited(limit, input()),
            LogicalPlan::Sort(sort) => match sort.fetch {
                Some(fetch) => input().thinned(fetch as f64),
                None => input(),
            },
            LogicalPlan::Window(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Subquery(_) | LogicalPlan::Repartition(_) => input(),
            LogicalPlan::Values(values) => Estimate::unknown(values.values.len() as f64, plan.schema().fields().len()),
            LogicalPlan::EmptyRelation(empty) => Estimate::unknown(if empty.produce_one_row { 1.0 } else { 0.0 }, 0),
            _ => Estimate::unknown(rows_most, 0),
        };
        estimate.checked(plan.schema().fields().len())
    }

    fn scan(&self, scan: &TableScan) -> Estimate {
        let schema = scan.source.schema();
        let mut table = match self.tables.of(scan.source.as_ref()) {
            Some(statistics) => from_statistics(&statistics, schema.fields().len()),
            None => Estimate::unknown(UNKNOWN_ROWS, schema.fields().len()),
        }
        .checked(schema.fields().len());
        if !scan.filters.is_empty()
            && let Ok(qualified) = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &schema)
        {
            let predicates: Vec<&Expr> = scan.filters.iter().flat_map(split_conjunction).collect();
            table = filtered(&predicates, &qualified, table);
        }
        if let Some(projection) = &scan.projection {
            table.columns = projection.iter().filter_map(|&index| table.columns.get(index).cloned()).collect();
        }
        match scan.fetch {
            Some(fetch) => table.thinned(fetch as f64),
            None => table,
        }
    }
}

/// `input` where all `predicates` hold.
fn filtered(predicates: &[&Expr], schema: &DFSchema, input: Estimate) -> Estimate {
    let result = predicate::conjunction(predicates, schema, &input);
    let (from, to) = (input.rows, input.rows * result.selectivity);
    let mut narrowed = input.columns.clone();
    result.narrow(&mut narrowed);
    // A narrowed column has lost values by its own predicate, and its remaining rows are lost to the others evenly.
    let columns = narrowed.into_iter().zip(&input.columns).map(|(column, before)| {
        let own = if before.distinct > 0.0 { column.distinct / before.distinct } else { 1.0 };
        let left = (from * own).max(to);
        column.thinned(left, to)
    });
    Estimate { rows: to, columns: columns.collect() }
}

fn grouped(aggregate: &Aggregate, input: &Estimate) -> Estimate {
    let schema = aggregate.input.schema();
    if aggregate.group_expr.is_empty() {
        return Estimate::unknown(1.0, 0);
    }
    if let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() {
        let distinct = sets.distinct_expr().into_iter().map(|e| column_of(e, schema, input).distinct).collect();
        return Estimate::unknown(groups(distinct, input.rows), 0);
    }
    let keys: Vec<ColumnEstimate> = aggregate.group_expr.iter().map(|e| column_of(e, schema, input)).collect();
    let rows = groups(keys.iter().map(|k| k.distinct + if k.nulls > 0.0 { 1.0 } else { 0.0 }).collect(), input.rows);
    // Every key value is in some group, so none is lost.
    Estimate { rows, columns: keys.into_iter().map(|key| ColumnEstimate { of_rows: rows, of_distinct: key.distinct, ..key }).collect() }
}

fn union(mut inputs: impl Iterator<Item = Estimate>) -> Estimate {
    let Some(mut all) = inputs.next() else { return Estimate::unknown(0.0, 0) };
    for input in inputs {
        let rows = all.rows + input.rows;
        for (a, b) in all.columns.iter_mut().zip(input.columns) {
            a.nulls = (a.nulls * all.rows + b.nulls * input.rows) / rows.max(1.0);
            a.distinct = a.distinct.max(b.distinct);
            a.of_rows += b.of_rows;
            a.of_distinct = a.of_distinct.max(b.of_distinct);
            a.min = outer(a.min.take(), b.min, std::cmp::Ordering::Less);
            a.max = outer(a.max.take(), b.max, std::cmp::Ordering::Greater);
        }
        all.rows = rows;
    }
    all
}

fn limited(limit: &Limit, input: Estimate) -> Estimate {
    let skip = match limit.get_skip_type() {
        Ok(SkipType::Literal(skip)) => skip as f64,
        _ => 0.0,
    };
    let mut rows = (input.rows - skip).max(0.0);
    if let Ok(FetchType::Literal(Some(fetch))) = limit.get_fetch_type() {
        rows = rows.min(fetch as f64);
    }
    input.thinned(rows)
}

fn from_statistics(statistics: &Statistics, columns: usize) -> Estimate {
    let rows = statistics.num_rows.get_value().map_or(UNKNOWN_ROWS, |rows| *rows as f64);
    let column = |index| match statistics.column_statistics.get(index) {
        Some(column) => ColumnEstimate::from_statistics(column, rows),
        None => ColumnEstimate::unknown(rows),
    };
    Estimate { rows, columns: (0..columns).map(column).collect() }
}

fn bound(value: &Precision<ScalarValue>) -> Option<ScalarValue> {
    value.get_value().filter(|value| !value.is_null()).cloned()
}

/// The bound of two that lies further out; none if either is not known.
fn outer(a: Option<ScalarValue>, b: Option<ScalarValue>, side: std::cmp::Ordering) -> Option<ScalarValue> {
    let (a, b) = (a?, b?);
    match a.partial_cmp(&b)? {
        order if order == side || order == std::cmp::Ordering::Equal => Some(a),
        _ => Some(b),
    }
}

/// What is known of an expression's value: a column's own, or a guess from the columns that it reads.
pub(crate) fn column_of(expr: &Expr, schema: &DFSchema, input: &Estimate) -> ColumnEstimate {
    if let Some(column) = predicate::column_index(expr, schema).and_then(|index| input.columns.get(index)) {
        return column.clone();
    }
    if predicate::literal(expr).is_some() {
        return ColumnEstimate::of(1.0, 1.0);
    }
    let read = expr.column_refs().into_iter().filter_map(|c| input.columns.get(schema.maybe_index_of_column(c)?));
    let distinct: Vec<f64> = read.map(|c| c.distinct).collect();
    if distinct.is_empty() {
        return ColumnEstimate::unknown(input.rows);
    }
    // A function has no more values than its arguments have combinations.
    ColumnEstimate::of(groups(distinct, input.rows), input.rows)
}

/// Combinations of columns with so many different values each, in so many rows.
fn groups(distinct: Vec<f64>, rows: f64) -> f64 {
    damped(distinct).min(rows)
}

/// The product of factors of at least 1, the largest counted whole, the next by its square root, and so on.
pub(crate) fn damped(mut factors: Vec<f64>) -> f64 {
    factors.sort_by(|a, b| b.total_cmp(a));
    let mut exponent = 1.0;
    let mut product = 1.0;
    for factor in factors {
        product *= factor.max(1.0).powf(exponent);
        exponent /= 2.0;
    }
    bounded(product)
}

fn bounded(number: f64) -> f64 {
    if number.is_nan() { ROWS_MAX } else { number.clamp(0.0, ROWS_MAX) }
}

fn share(number: f64) -> f64 {
    if number.is_nan() { 1.0 } else { number.clamp(0.0, 1.0) }
}
