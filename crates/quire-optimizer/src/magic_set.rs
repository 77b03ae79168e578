//! A grouped sub-query is computed for the groups that are asked for, and not for all.
//!
//! A correlated sub-query becomes a join with an aggregate over the whole of its table: in TPC-H Q17 the average of all 200 000 parts,
//! of which the other side of the join asks for 204. The "magic set" is what that side asks for; a semi join with it below the
//! aggregate leaves the other groups' rows out.
//!
//! ```text
//! Join: p_partkey = l_partkey                Join: p_partkey = l_partkey
//!   …                                          …
//!   Aggregate: l_partkey, avg(…)     →         Aggregate: l_partkey, avg(…)
//!     lineitem                                   LeftSemi Join: l_partkey = k0
//!                                                  lineitem
//!                                                  SubqueryAlias: __quire_magic_1
//!                                                    Projection: p_partkey AS k0
//!                                                      part, filtered
//! ```
//!
//! The set need not be exact. The join above is still there, so that it may hold keys which nobody asks for. Hence it is taken from the
//! smallest part of the other side that says enough: `part`, not `lineitem ⋈ part`. That part is computed twice.
//!
//! Why no answer changes: the keys are group keys, so that the semi join takes a group's rows all or none, and a group that is left is
//! what it was. A group that is dropped has a key which no row of the other side has, or a NULL key, which equals none: it had no match
//! in the join above. Where such a row of the join's input changes nothing, [`restrictable`] says.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, JoinConstraint, NullEquality, Result};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, Join, JoinType, LogicalPlan, Projection, SubqueryAlias};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::rule::{GROUP_WORK, SCAN_WORK, contains, enabled, everywhere};
use crate::shape::{Input, Origin, equalities, input_of, is_plain, name_of, node_at, origins};
use crate::{Estimate, Estimator, TableStatistics};

/// What a set's alias begins with. It tells in a later pass that an aggregate has one; the plans below look different by then.
const MAGIC: &str = "__quire_magic";

/// The share of groups above which a set is not worth its copy: a scan with a runtime filter reads most of its pages then, and the
/// estimate of a share is easily wrong by a factor of three.
const KEPT_MAX: f64 = 0.3;

/// An aggregate of fewer rows takes less than a millisecond, about what planning and starting the copy takes.
const ROWS_MIN: f64 = 10_000.0;

#[derive(Debug)]
pub(crate) struct MagicSet {
    estimator: Estimator,
    tables: Arc<dyn TableStatistics>,
}

impl OptimizerRule for MagicSet {
    fn name(&self) -> &str {
        "magic_sets"
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let shaped = || {
            contains(&plan, |node| matches!(node, LogicalPlan::Join(_)))
                && contains(&plan, |node| matches!(node, LogicalPlan::Aggregate(_)))
        };
        if !enabled(config, |options| options.magic_sets) || !shaped() {
            return Ok(Transformed::no(plan));
        }
        everywhere(plan, &|node| self.restricted(node, config))
    }
}

impl MagicSet {
    pub(crate) fn new(tables: Arc<dyn TableStatistics>) -> MagicSet {
        MagicSet { estimator: Estimator::new(tables.clone()), tables }
    }

    /// The join with a set below an aggregate of one of its inputs, where that pays.
    fn restricted(&self, plan: &LogicalPlan, config: &dyn OptimizerConfig) -> Result<Option<LogicalPlan>> {
        let LogicalPlan::Join(join) = plan else { return Ok(None) };
        for side in restrictable(join) {
            let (grouped, other) = if *side == Input::Left { (&join.left, &join.right) } else { (&join.right, &join.left) };
            let mut pairs = equalities(join);
            if *side == Input::Right {
                pairs = pairs.into_iter().map(|(left, right)| (right, left)).collect();
            }
            let Some(found) = grouped_below(grouped, pairs) else { continue };
            if contains(&found.aggregate.input, is_magic) {
                continue;
            }
            let Some(set) = self.best_set(&found, other) else { continue };
            let Some(semi) = restrict(found.aggregate, &set, config)? else { continue };
            let mut join = join.clone();
            let grouped = if *side == Input::Left { &mut join.left } else { &mut join.right };
            *node_at(grouped, &found.path) = Arc::new(LogicalPlan::Join(semi));
            return Ok(Some(LogicalPlan::Join(join)));
        }
        Ok(None)
    }

    /// The cheapest part of the other side that leaves few enough groups.
    fn best_set<'a>(&self, found: &Grouped<'_>, other: &'a Arc<LogicalPlan>) -> Option<Set<'a>> {
        let input = self.estimator.estimate(&found.aggregate.input);
        if input.rows < ROWS_MIN {
            return None;
        }
        let mut sets = vec![];
        candidates(other, found.keys.clone(), &mut sets);
        let mut best = None;
        let mut best_work = GROUP_WORK * input.rows;
        for set in sets {
            let given = self.estimator.estimate(set.plan);
            let asked = combinations(&given, set.keys.iter().map(|key| key.outer));
            let groups = combinations(&input, set.keys.iter().map(|key| key.inner));
            let kept = (asked / groups).min(1.0);
            if kept >= KEPT_MAX {
                continue;
            }
            // Each row of the aggregate's input is looked up in the set, and grouped if it is kept.
            let work = self.work(set.plan) + input.rows * (1.0 + kept * GROUP_WORK);
            if work < best_work && self.may_be_copied(set.plan) {
                best_work = work;
                best = Some(set);
            }
        }
        best
    }

    /// What computing `plan` takes: rows that its tables hold, and that its nodes put out.
    fn work(&self, plan: &LogicalPlan) -> f64 {
        let own = match plan {
            LogicalPlan::TableScan(scan) => {
                let known = self.tables.of(scan.source.as_ref()).and_then(|table| table.num_rows.get_value().copied());
                SCAN_WORK * known.map_or_else(|| self.estimator.estimate(plan).rows, |rows| rows as f64)
            }
            LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => 0.0,
            _ => self.estimator.estimate(plan).rows,
        };
        own + plan.inputs().into_iter().map(|input| self.work(input)).sum::<f64>()
    }

    /// Whether `plan` gives the same rows each time, so that a set from a copy holds all keys of the original.
    fn may_be_copied(&self, plan: &LogicalPlan) -> bool {
        !contains(plan, |node| {
            let repeats = match node {
                // A table of which nothing is known may be computed as it is read, as a system view is. A LIMIT takes any rows.
                LogicalPlan::TableScan(scan) => scan.fetch.is_none() && self.tables.of(scan.source.as_ref()).is_some(),
                // A sum of floating-point numbers depends on their order.
                LogicalPlan::Aggregate(aggregate) => aggregate.aggr_expr.is_empty(),
                LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::Join(_)
                | LogicalPlan::Union(_)
                | LogicalPlan::Values(_)
                | LogicalPlan::EmptyRelation(_)
                | LogicalPlan::Distinct(Distinct::All(_)) => true,
                _ => false,
            };
            !repeats || !expressions_are_plain(node)
        })
    }
}

fn expressions_are_plain(plan: &LogicalPlan) -> bool {
    let mut plain = true;
    plan.apply_expressions(|expr| {
        plain &= is_plain(expr);
        Ok(TreeNodeRecursion::Continue)
    })
    .expect("the test cannot fail");
    plain
}

/// The inputs of which a row without a match changes nothing.
fn restrictable(join: &Join) -> &'static [Input] {
    match join.join_type {
        // It is in no pair.
        JoinType::Inner => &[Input::Left, Input::Right],
        // The kept side's rows come out with or without a match; the other side's only in pairs.
        JoinType::Left => &[Input::Right],
        JoinType::Right => &[Input::Left],
        // The other side only says which of the kept rows have a match. (The kept side needs no copy: the join itself may sink.)
        JoinType::LeftSemi => &[Input::Right],
        JoinType::RightSemi => &[Input::Left],
        // As before, but NOT IN is never true when the other side has a NULL anywhere: there each of its rows counts.
        JoinType::LeftAnti if !join.null_aware => &[Input::Right],
        JoinType::RightAnti if !join.null_aware => &[Input::Left],
        // A full join puts out each row. A mark join stays as it is until a pass has made another of it.
        JoinType::LeftAnti | JoinType::RightAnti | JoinType::Full | JoinType::LeftMark | JoinType::RightMark => &[],
    }
}

fn is_magic(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::SubqueryAlias(alias) if alias.alias.table().starts_with(MAGIC))
}

/// A column of the aggregate's input, which is a group key, and the one that it must equal.
#[derive(Clone, Copy, Debug)]
struct Key {
    inner: usize,
    outer: usize,
}

/// An aggregate that a join's input consists of, but for what is done with its rows one by one.
#[derive(Debug)]
struct Grouped<'a> {
    aggregate: &'a Aggregate,
    /// From the join's input to the aggregate's.
    path: Vec<Input>,
    keys: Vec<Key>,
}

/// Looks for an aggregate that is grouped by some of the pairs' first columns; their second are in the join's other input.
fn grouped_below(plan: &LogicalPlan, pairs: Vec<(usize, usize)>) -> Option<Grouped<'_>> {
    let mut here = plan;
    let mut keys: Vec<Key> = pairs.into_iter().map(|(inner, outer)| Key { inner, outer }).collect();
    let mut path = vec![];
    loop {
        if matches!(here, LogicalPlan::Join(_)) {
            return None;
        }
        let columns: Vec<usize> = keys.iter().map(|key| key.inner).collect();
        let origin = origins(here, &columns).pop()?;
        keys = keys.iter().zip(origin.columns).filter_map(|(key, inner)| Some(Key { inner: inner?, outer: key.outer })).collect();
        if keys.is_empty() {
            return None;
        }
        path.push(origin.input);
        if let LogicalPlan::Aggregate(aggregate) = here {
            return Some(Grouped { aggregate, path, keys });
        }
        here = input_of(here, origin.input)?;
    }
}

/// A plan whose columns hold all values that are asked for, and perhaps more.
#[derive(Debug)]
struct Set<'a> {
    plan: &'a Arc<LogicalPlan>,
    keys: Vec<Key>,
}

/// Each part of `plan` that has some of the keys' outer columns.
///
/// Going down, a column's values only become more. Fewer keys tell groups apart less well, but are as right.
fn candidates<'a>(plan: &'a Arc<LogicalPlan>, keys: Vec<Key>, found: &mut Vec<Set<'a>>) {
    let columns: Vec<usize> = keys.iter().map(|key| key.outer).collect();
    let mut next = origins(plan, &columns);
    if let LogicalPlan::Join(join) = plan.as_ref() {
        next.extend(matches_of(join, &columns));
    }
    for origin in next {
        let below: Vec<Key> =
            keys.iter().zip(origin.columns).filter_map(|(key, outer)| Some(Key { inner: key.inner, outer: outer? })).collect();
        if let Some(input) = input_of(plan, origin.input)
            && !below.is_empty()
        {
            candidates(input, below, found);
        }
    }
    found.push(Set { plan, keys });
}

/// What a semi join keeps of a column has a match, so that the other input holds it too.
fn matches_of(join: &Join, columns: &[usize]) -> Option<Origin> {
    let equal = equalities(join);
    let (input, equal) = match join.join_type {
        JoinType::LeftSemi => (Input::Right, equal),
        JoinType::RightSemi => (Input::Left, equal.into_iter().map(|(left, right)| (right, left)).collect()),
        _ => return None,
    };
    let columns = columns.iter().map(|column| equal.iter().find(|pair| pair.0 == *column).map(|pair| pair.1)).collect();
    Some(Origin { input, columns })
}

/// How many combinations of values the columns have, at least 1.
fn combinations(estimate: &Estimate, columns: impl Iterator<Item = usize>) -> f64 {
    columns.map(|column| estimate.columns[column].distinct).product::<f64>().min(estimate.rows).max(1.0)
}

/// The semi join that the aggregate shall read instead of its input.
fn restrict(aggregate: &Aggregate, set: &Set<'_>, config: &dyn OptimizerConfig) -> Result<Option<Join>> {
    let (inner, outer) = (aggregate.input.schema(), set.plan.schema());
    // A name of its own: the set may be a copy of what the aggregate reads.
    let alias = config.alias_generator().next(MAGIC);
    let (mut on, mut columns) = (vec![], vec![]);
    for (number, key) in set.keys.iter().enumerate() {
        let (Some(inner_name), Some(outer_name)) = (name_of(key.inner, inner), name_of(key.outer, outer)) else { return Ok(None) };
        assert_eq!(inner.field(key.inner).data_type(), outer.field(key.outer).data_type(), "equal columns have one type");
        let name = format!("k{number}");
        on.push((Expr::Column(inner_name), Expr::Column(Column::new(Some(alias.as_str()), name.as_str()))));
        columns.push(Expr::Column(outer_name).alias(name));
    }
    let keys = LogicalPlan::Projection(Projection::try_new(columns, set.plan.clone())?);
    let keys = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(keys), alias)?);
    let input = aggregate.input.clone();
    Join::try_new(input, Arc::new(keys), on, None, JoinType::LeftSemi, JoinConstraint::On, NullEquality::NullEqualsNothing, false).map(Some)
}
