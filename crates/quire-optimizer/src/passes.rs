//! Which of the logical rules run, in which order, and which of them once more.
//!
//! The second pass works on what the first has made of a plan: conditions have come down to joins and become keys there, outer joins above them
//! are inner ones. Most of DataFusion's rules look for something that only the text of a query has (sub-queries, DISTINCT, cross joins, unions)
//! and find it in the first pass, or never; to ask them all again took a seventh of a query's planning. One of them undoes what ours did, too:
//! `eliminate_cross_join` makes bushy orders left-deep. So the second pass has the rules named in [`AGAIN`] and ours.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule};

use crate::rule::contains;
use crate::semi_join::SemiJoinPushdown;
use crate::{JoinOrder, TableStatistics, conditions, cross_joins, dependencies, magic_set, null_keys};

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// DataFusion's rules that find something to do in what the first pass has made, in its order. Before them, conditions are simplified.
const AGAIN: [&str; 6] = [
    "extract_equijoin_predicate",
    "eliminate_filter",
    "propagate_empty_relation",
    "eliminate_outer_join",
    "push_down_limit",
    PUSH_DOWN_FILTER,
];

/// Ours follow this rule: then a relation's filters stand at the relation, which the estimates need. What DataFusion has behind it (expressions
/// and columns that are computed once, or not at all) is for a plan that has its shape, and runs once.
const PUSH_DOWN_FILTER: &str = "push_down_filter";

/// Both passes as one list, for an optimizer that is to make a single pass (`max_passes = 1`): DataFusion's rules with ours among them.
pub fn optimizer_rules(defaults: Vec<Rule>, tables: Arc<dyn TableStatistics>) -> Vec<Rule> {
    let mut first: Vec<Rule> = defaults.into_iter().flat_map(on_true_dependencies).map(in_our_terms).collect();
    let place = first.iter().position(|rule| rule.name() == PUSH_DOWN_FILTER).expect("DataFusion has this rule");
    let last = first.split_off(place + 1);
    let named = |name: &str| first.iter().find(|rule| rule.name() == name).cloned();
    let simplified = named("simplify_expressions").map(|rule| Arc::new(OfConditions(rule)) as Rule);
    // Of conditions that have come down to their joins in the second pass.
    let keys = named("extract_equijoin_predicate");
    let again: Vec<Rule> = simplified.into_iter().chain(AGAIN.into_iter().filter_map(named)).collect();
    let own = own_rules(&tables);
    first.extend(own.iter().cloned());
    let all = first.iter().chain(&last).cloned().collect();
    first.push(Arc::new(LeftOver(Optimizer::with_rules(all))));
    first.into_iter().chain(again).chain(own).chain(keys).chain(last).collect()
}

/// The rule, after the one that makes the dependencies hold, if it relies on them.
fn on_true_dependencies(rule: Rule) -> impl Iterator<Item = Rule> {
    let relies = dependencies::RELY_ON_THEM.contains(&rule.name());
    let before: Option<Rule> = if relies { Some(Arc::new(dependencies::TrueDependencies)) } else { None };
    before.into_iter().chain([rule])
}

fn in_our_terms(rule: Rule) -> Rule {
    match rule.name() {
        "decorrelate_lateral_join" => Arc::new(LateralJoins(rule)),
        "rewrite_set_comparison" => Arc::new(OnSetComparisons(rule)),
        "extract_equijoin_predicate" => Arc::new(null_keys::OrdinaryKeys(rule)),
        "eliminate_cross_join" => Arc::new(cross_joins::ListedJoins(rule)),
        "replace_distinct_aggregate" => Arc::new(OrderedOnce(rule)),
        PUSH_DOWN_FILTER => Arc::new(conditions::PushedConditions(rule)),
        _ => rule,
    }
}

/// Our rules in their order: a join that has sunk is one relation less to restrict, and a set that restricts is one more to order.
fn own_rules(tables: &Arc<dyn TableStatistics>) -> Vec<Rule> {
    vec![
        Arc::new(SemiJoinPushdown::new(tables.clone())),
        Arc::new(magic_set::MagicSet::new(tables.clone())),
        Arc::new(JoinOrder::new(tables.clone())),
    ]
}

/// All rules again, where the first pass has left sub-queries that depend on the query around them: one within another may take a pass each.
#[derive(Debug)]
struct LeftOver(Optimizer);

impl OptimizerRule for LeftOver {
    fn name(&self) -> &str {
        "left_over_subqueries"
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !has_dependent_query(&plan)? {
            return Ok(Transformed::no(plan));
        }
        self.0.optimize(plan, config, |_, _| {}).map(Transformed::yes)
    }
}

/// Whether some sub-query is to be taken apart: one that reads columns of the query around it, or is no value of its own.
fn has_dependent_query(plan: &LogicalPlan) -> Result<bool> {
    contains_expr(plan, &|expr| match expr {
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::OuterReferenceColumn(..) => true,
        Expr::ScalarSubquery(query) => !query.outer_ref_columns.is_empty(),
        _ => false,
    })
}

/// A rule that looks at a node's own expressions, for those that choose rows: others are as the first pass has left them.
#[derive(Debug)]
struct OfConditions(Rule);

impl OptimizerRule for OfConditions {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Filter(_) | LogicalPlan::Join(_) => self.0.rewrite(plan, config),
            LogicalPlan::TableScan(scan) if !scan.filters.is_empty() => self.0.rewrite(plan, config),
            _ => Ok(Transformed::no(plan)),
        }
    }
}

/// The rule that makes joins of LATERAL. Such a join also gives the columns that its condition reads, and what is above it has to know: other rules
/// find columns by their places.
#[derive(Debug)]
struct LateralJoins(Rule);

impl OptimizerRule for LateralJoins {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match contains(&plan, |node| matches!(node, LogicalPlan::Subquery(_))) {
            true => self.joined(plan, config),
            false => Ok(Transformed::no(plan)),
        }
    }
}

impl LateralJoins {
    /// The plan with such joins, and with what is above them as they have made it. The rule does not look below a join that it has made.
    fn joined(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let joined = self.0.rewrite(plan, config)?;
        if joined.transformed {
            return Ok(Transformed::yes(joined.data));
        }
        let below = joined.data.map_subqueries(|query| self.joined(query, config))?;
        let below = below.transform_sibling(|plan| plan.map_children(|input| self.joined(input, config)))?;
        if below.transformed { below.map_data(LogicalPlan::recompute_schema) } else { Ok(below) }
    }
}

/// The rule that rewrites `= ANY (SELECT …)`, for queries that have one: it makes a schema of the inputs of each node before it looks.
#[derive(Debug)]
struct OnSetComparisons(Rule);

impl OptimizerRule for OnSetComparisons {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match contains_expr(&plan, &|expr| matches!(expr, Expr::SetComparison(_)))? {
            true => self.0.rewrite(plan, config),
            false => Ok(Transformed::no(plan)),
        }
    }
}

/// The rule that takes the first row of each group for DISTINCT ON. By what it is asked for twice (`ORDER BY x, s, s DESC`) rows are ordered
/// once: the aggregates that it makes fail at more.
#[derive(Debug)]
struct OrderedOnce(Rule);

impl OptimizerRule for OrderedOnce {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Distinct(Distinct::On(mut distinct)) = plan else { return self.0.rewrite(plan, config) };
        // The first are those of the groups, one for each.
        let groups = distinct.on_expr.len();
        if let Some(order) = &mut distinct.sort_expr {
            let (mut seen, mut count) = (HashSet::new(), 0);
            order.retain(|sorted| {
                count += 1;
                seen.insert(sorted.expr.clone().unalias()) || count <= groups
            });
        }
        self.0.rewrite(LogicalPlan::Distinct(Distinct::On(distinct)), config)
    }
}

/// Whether some expression of the plan, or of a sub-query in its expressions, passes the test.
fn contains_expr(plan: &LogicalPlan, test: &dyn Fn(&Expr) -> bool) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| Ok(test(expr)))?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(found)
}
