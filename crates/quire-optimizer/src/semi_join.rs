//! A semi or anti join sinks below joins, to where it drops rows before they are joined.
//!
//! DataFusion puts the join that stands for IN, EXISTS or their negation above all joins of its FROM list. TPC-H Q18 then joins six
//! million lines with their orders and customers before 57 orders of them are kept; here these 57 are kept first.
//!
//! Such a join looks at one row of its kept input at a time, as a filter does. Where it may stand is therefore the same as for a
//! filter of the columns that it names: [`origins`] says it. Where it should stand is a matter of cost.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinConstraint, Result};
use datafusion::logical_expr::expr_rewriter::replace_col;
use datafusion::logical_expr::{Join, JoinType, LogicalPlan};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::rule::{BUILD_WORK, GROUP_WORK, contains, enabled, everywhere};
use crate::shape::{Input, input_of, is_plain, name_of, node_at, origins, resolve};
use crate::{Estimator, TableStatistics};

/// The share of the kept input's rows that a move must save in work: estimates are rough, and each move undoes an order that another
/// rule may have chosen.
const SAVING_MIN: f64 = 0.1;

#[derive(Debug)]
pub(crate) struct SemiJoinPushdown {
    estimator: Estimator,
}

impl SemiJoinPushdown {
    pub(crate) fn new(tables: Arc<dyn TableStatistics>) -> SemiJoinPushdown {
        SemiJoinPushdown { estimator: Estimator::new(tables) }
    }

    /// The plan with the join at its best place, where that is not its own.
    fn sunk(&self, plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
        let LogicalPlan::Join(join) = plan else { return Ok(None) };
        let Some(semi) = SemiJoin::of(join) else { return Ok(None) };
        let mut search = Search::new(&self.estimator, &semi);
        let rows = search.kept_rows;
        search.below(&semi.join.left, &semi.columns, Above { rows, rows_max: rows, work: 0.0, read: 0.0 })?;
        let Some((path, lower)) = search.best else { return Ok(None) };
        let mut kept = semi.join.left.clone();
        *node_at(&mut kept, &path) = Arc::new(LogicalPlan::Join(lower));
        Ok(Some(Arc::unwrap_or_clone(kept)))
    }
}

impl OptimizerRule for SemiJoinPushdown {
    fn name(&self) -> &str {
        "semi_join_pushdown"
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !enabled(config, |options| options.semi_join_pushdown) || !contains(&plan, is_semi_join) {
            return Ok(Transformed::no(plan));
        }
        // Inputs first: of two such joins in a row the lower makes room.
        everywhere(plan, &|node| self.sunk(node))
    }
}

fn is_semi_join(plan: &LogicalPlan) -> bool {
    matches!(
        plan,
        LogicalPlan::Join(Join { join_type: JoinType::LeftSemi | JoinType::LeftAnti | JoinType::RightSemi | JoinType::RightAnti, .. })
    )
}

/// A semi or anti join with its kept input on the left, and what it reads of that.
#[derive(Debug)]
struct SemiJoin {
    join: Join,
    /// The kept input's columns in keys and filter, by the names used there, each with its place in the input's schema.
    names: Vec<Column>,
    columns: Vec<usize>,
    /// The other input's columns in the filter.
    others: Vec<Column>,
}

impl SemiJoin {
    /// `None` for other joins, and for one whose conditions do not say the same elsewhere.
    fn of(join: &Join) -> Option<SemiJoin> {
        let join = match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => join.clone(),
            JoinType::RightSemi => mirrored(join, JoinType::LeftSemi),
            JoinType::RightAnti => mirrored(join, JoinType::LeftAnti),
            _ => return None,
        };
        let plain = join.on.iter().all(|(key, other)| is_plain(key) && is_plain(other)) && join.filter.iter().all(is_plain);
        if !plain {
            return None;
        }
        let (kept, other) = (join.left.schema(), join.right.schema());
        let (mut named, mut others) = (vec![], vec![]);
        for (key, _) in &join.on {
            for name in key.column_refs() {
                named.push((name.clone(), resolve(name, kept)?));
            }
        }
        for name in join.filter.iter().flat_map(|filter| filter.column_refs()) {
            match (kept.maybe_index_of_column(name), other.maybe_index_of_column(name)) {
                (Some(_), None) => named.push((name.clone(), resolve(name, kept)?)),
                (None, Some(_)) => others.push(name.clone()),
                _ => return None,
            }
        }
        if named.is_empty() {
            return None;
        }
        let (names, columns) = named.into_iter().unzip();
        Some(SemiJoin { join, names, columns, others })
    }

    /// The same join of `plan`, whose `columns` hold what this one reads.
    fn at(&self, plan: &Arc<LogicalPlan>, columns: &[usize]) -> Result<Option<Join>> {
        let schema = plan.schema();
        // A projection may have hidden a column with the other input's name.
        if self.others.iter().any(|name| schema.maybe_index_of_column(name).is_some()) {
            return Ok(None);
        }
        let Some(names) = columns.iter().map(|column| name_of(*column, schema)).collect::<Option<Vec<Column>>>() else {
            return Ok(None);
        };
        let renamed: HashMap<&Column, &Column> = self.names.iter().zip(&names).collect();
        let mut on = Vec::with_capacity(self.join.on.len());
        for (key, other) in &self.join.on {
            on.push((replace_col(key.clone(), &renamed)?, other.clone()));
        }
        let filter = self.join.filter.clone().map(|filter| replace_col(filter, &renamed)).transpose()?;
        let (join_type, null_equality, null_aware) = (self.join.join_type, self.join.null_equality, self.join.null_aware);
        let right = self.join.right.clone();
        Join::try_new(plan.clone(), right, on, filter, join_type, JoinConstraint::On, null_equality, null_aware).map(Some)
    }
}

/// The same join with its inputs swapped.
fn mirrored(join: &Join, join_type: JoinType) -> Join {
    let mut mirrored = join.clone();
    std::mem::swap(&mut mirrored.left, &mut mirrored.right);
    mirrored.on = join.on.iter().map(|(left, right)| (right.clone(), left.clone())).collect();
    mirrored.join_type = join_type;
    mirrored
}

/// Looks for the place where the join costs least.
///
/// A place's cost is the join's own there, and what the nodes above still do with the share of rows that it keeps. Where joins stand
/// between, their order is not final: this rule must not be taken in by a bad one. A later rule joins the most selective relation
/// first, so that a join above the place is counted with no more rows than come out at the top. That keeps a join which drops little
/// above the others when these drop more (Q21: 80 000 lines are left of six million, and EXISTS keeps nearly all of either).
struct Search<'a> {
    estimator: &'a Estimator,
    semi: &'a SemiJoin,
    /// Rows of the kept input, where the join stands now.
    kept_rows: f64,
    other_rows: f64,
    path: Vec<Input>,
    /// What the best place saves.
    saving: f64,
    best: Option<(Vec<Input>, Join)>,
}

/// What is known of the nodes above a place.
#[derive(Clone, Copy)]
struct Above {
    /// Rows of the node directly above.
    rows: f64,
    /// The most rows that a join above is counted with.
    rows_max: f64,
    /// Rows that the nodes put out or group.
    work: f64,
    /// Rows that the nearest join reads of this side.
    read: f64,
}

impl<'a> Search<'a> {
    fn new(estimator: &'a Estimator, semi: &'a SemiJoin) -> Search<'a> {
        let kept_rows = estimator.estimate(&semi.join.left).rows;
        let other_rows = estimator.estimate(&semi.join.right).rows;
        Search { estimator, semi, kept_rows, other_rows, path: vec![], saving: SAVING_MIN * kept_rows, best: None }
    }

    /// The join's own cost with so many rows to test: the smaller input is put into a hash table, or without a key each row meets each.
    fn join_work(&self, rows: f64) -> f64 {
        if self.semi.join.on.is_empty() {
            return rows * self.other_rows;
        }
        BUILD_WORK * rows.min(self.other_rows) + rows.max(self.other_rows)
    }

    /// Tries the inputs of `plan`, and what is below them.
    fn below(&mut self, plan: &LogicalPlan, columns: &[usize], above: Above) -> Result<()> {
        for origin in origins(plan, columns) {
            let Some(columns) = origin.columns.into_iter().collect::<Option<Vec<usize>>>() else { continue };
            let Some(input) = input_of(plan, origin.input) else { continue };
            let rows = match plan {
                LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => above.rows,
                _ => self.estimator.estimate(input).rows,
            };
            let here = match plan {
                LogicalPlan::Join(_) => Above { rows, read: rows, work: above.work + above.rows.min(above.rows_max), ..above },
                LogicalPlan::Aggregate(_) => Above { rows, rows_max: rows, work: above.work + GROUP_WORK * rows, read: 0.0 },
                _ => Above { rows, ..above },
            };
            self.path.push(origin.input);
            self.try_place(input, &columns, here)?;
            self.below(input, &columns, here)?;
            self.path.pop();
        }
        Ok(())
    }

    fn try_place(&mut self, plan: &Arc<LogicalPlan>, columns: &[usize], here: Above) -> Result<()> {
        let Some(join) = self.semi.at(plan, columns)? else { return Ok(()) };
        let join = LogicalPlan::Join(join);
        let kept = (self.estimator.estimate(&join).rows / here.rows.max(1.0)).clamp(0.0, 1.0);
        let saving = self.join_work(self.kept_rows) - self.join_work(here.rows) + (1.0 - kept) * (here.work + here.read);
        if saving > self.saving
            && let LogicalPlan::Join(join) = join
        {
            self.saving = saving;
            self.best = Some((self.path.clone(), join));
        }
        Ok(())
    }
}
