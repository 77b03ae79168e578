//! Joins in the order of least estimated cost.
//!
//! The rule looks for clusters: the largest connected parts of a plan that consist of inner joins, cross joins, semi and anti joins, and
//! of filters and renamings between them. A cluster is taken apart into relations and predicates ([`cluster`]), both are weighed by
//! statistics ([`graph`]), the best tree is searched for ([`search`]) and built ([`build`]). If it is not clearly cheaper than the one that
//! stands there, and has no more products, nothing changes: that also makes the rule come to rest, for its own result is never clearly cheaper than itself.
//!
//! # Why no answer changes
//!
//! A cluster is a set of rows of the product of its relations, those for which all predicates hold (equalities, other conditions, "has a
//! match in R", "has no match in R"). Each is a condition on one row of the product, so any order of applying them gives the same rows,
//! as often as before. Expressions that may give another value when asked again (volatile ones) and those that read the columns of an
//! outer query are not moved: their clusters stay as they are.
//!
//! Equalities of columns are enforced by their closure. Take the classes of columns that the query's equalities connect. The tree keeps,
//! for every set of joined relations, the invariant that all members of a class within the set are equal and not NULL. For one relation
//! a filter sees to that if it has several members. A join of two sets, each with members, compares one of the left with one of the right,
//! which makes all equal. At the root all members of each class are equal and not NULL, which is what all its equalities said. Equality
//! must be transitive for that, so only columns of one type are put in classes, and no floating point ones.

mod build;
mod cluster;
mod graph;
mod search;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::{Estimator, OptimizerOptions, TableStatistics};
use cluster::{Cluster, Member, member};
use graph::Graph;

/// A new order must cost less than this share of the old one's: estimates are not better than that, and plans do not swing to and fro.
const CLEARLY_CHEAPER: f64 = 0.9;

/// An order with fewer products may cost so many times as much: a list of tables is written in any order, and where estimates are too low (one
/// row of each side) a product is what turns out otherwise.
const PRODUCT_RISK: f64 = 2.0;

/// Whether a part of a plan is a cluster that the rule can take apart.
pub(crate) fn can_be_ordered(plan: &Arc<LogicalPlan>) -> bool {
    [true, false].into_iter().any(|through_aliases| Cluster::collect(plan, through_aliases).is_some())
}

/// The rule: `SET quire.join_reordering` switches it.
#[derive(Debug)]
pub struct JoinOrder {
    estimator: Estimator,
}

impl JoinOrder {
    pub fn new(tables: Arc<dyn TableStatistics>) -> JoinOrder {
        JoinOrder { estimator: Estimator::new(tables) }
    }

    /// `plan` with all its clusters in the best order, those in sub-queries as well.
    fn optimize(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        plan.transform_down_with_subqueries(|node| self.visit(node))
    }

    fn visit(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        if matches!(member(&plan, true), Member::Leaf) {
            return Ok(Transformed::no(plan));
        }
        let plan = Arc::new(plan);
        // Seen through its aliases, a cluster may have two columns of one name. Then aliases are its leaves.
        for through_aliases in [true, false] {
            let Some(cluster) = Cluster::collect(&plan, through_aliases) else { continue };
            let visited = match self.reordered(cluster, &plan)? {
                Some(better) => Transformed::yes(better),
                None => self.visit_leaves(Arc::unwrap_or_clone(plan), through_aliases)?,
            };
            return Ok(Transformed::new(visited.data, visited.transformed, TreeNodeRecursion::Jump));
        }
        // What is below may still have clusters that can be taken apart.
        Ok(Transformed::no(Arc::unwrap_or_clone(plan)))
    }

    /// The cluster's plan in a clearly better order, if there is one.
    fn reordered(&self, cluster: Cluster, plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
        if cluster.leaves.len() + cluster.semis.len() < 3 {
            return Ok(None);
        }
        let mut graph = Graph::new(cluster, &self.estimator)?;
        let best = search::best(&graph);
        let (before, after) = (graph.cost(&graph.cluster.original, false), graph.cost(&best, true));
        let has_fewer_products = graph.products(&best, true) < graph.products(&graph.cluster.original, false);
        if after >= before * if has_fewer_products { PRODUCT_RISK } else { CLEARLY_CHEAPER } {
            return Ok(None);
        }
        for leaf in &mut graph.cluster.leaves {
            leaf.plan = Arc::new(self.optimize(leaf.plan.as_ref().clone())?.data);
        }
        for semi in &mut graph.cluster.semis {
            semi.right = Arc::new(self.optimize(semi.right.as_ref().clone())?.data);
        }
        for predicate in graph.cluster.predicates.iter_mut().filter(|predicate| predicate.expr.contains_scalar_subquery()) {
            predicate.expr = self.visit_queries(predicate.expr.clone())?;
        }
        build::build(&graph, &best, plan.schema()).map(Some)
    }

    /// Visits the sub-queries in a condition.
    fn visit_queries(&self, expr: Expr) -> Result<Expr> {
        let visited = expr.transform_down(|e| match e {
            Expr::ScalarSubquery(query) => {
                let plan = self.optimize(query.subquery.as_ref().clone())?;
                Ok(plan.update_data(|plan| Expr::ScalarSubquery(query.with_plan(Arc::new(plan)))))
            }
            other => Ok(Transformed::no(other)),
        });
        Ok(visited?.data)
    }

    /// Visits what a cluster joins, not the cluster again.
    fn visit_leaves(&self, plan: LogicalPlan, through_aliases: bool) -> Result<Transformed<LogicalPlan>> {
        let kind = member(&plan, through_aliases);
        if matches!(kind, Member::Leaf) {
            return self.optimize(plan);
        }
        let mut inputs_seen = 0;
        let visited = plan.map_subqueries(|query| self.optimize(query))?;
        visited.transform_sibling(|plan| {
            plan.map_children(|input| {
                inputs_seen += 1;
                match kind {
                    Member::Semi if inputs_seen == 2 => self.optimize(input),
                    _ => self.visit_leaves(input, through_aliases),
                }
            })
        })
    }
}

impl OptimizerRule for JoinOrder {
    fn name(&self) -> &str {
        "join_order"
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let options = config.options();
        if options.extensions.get::<OptimizerOptions>().is_some_and(|options| !options.join_reordering) {
            return Ok(Transformed::no(plan));
        }
        self.optimize(plan)
    }
}
