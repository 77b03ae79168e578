//! Makes a plan of an order of joins.

use std::cmp::Reverse;
use std::sync::Arc;

use datafusion::common::{DFSchemaRef, JoinConstraint, JoinType, NullEquality, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan, Projection};

use super::cluster::{Cluster, ColumnId, Mask, Tree};
use super::graph::{Class, Graph, is_subset};

/// The plan of `tree`, with the fields of `schema`: the cluster's, in their order and by their names.
pub(super) fn build(graph: &Graph, tree: &Tree, schema: &DFSchemaRef) -> Result<LogicalPlan> {
    let (mut plan, _) = node(graph, tree)?;
    // Conditions without columns belong to no join.
    let constant = graph.cluster.predicates.iter().filter(|predicate| predicate.needs == 0).map(|predicate| predicate.expr.clone());
    if let Some(condition) = conjunction(constant) {
        plan = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?);
    }
    if plan.schema() == schema {
        return Ok(plan);
    }
    let fields = schema.iter().zip(&graph.cluster.output).map(|((qualifier, field), source)| {
        let column = graph.cluster.column(*source).clone();
        match column.relation.as_ref() == qualifier && &column.name == field.name() {
            true => Expr::Column(column),
            false => Expr::Column(column).alias_qualified(qualifier.cloned(), field.name().clone()),
        }
    });
    // The cluster's rows are the same, and so are the properties that its schema tells of them.
    let projection = Projection::try_new_with_schema(fields.collect(), Arc::new(plan), schema.clone())?;
    Ok(LogicalPlan::Projection(projection))
}

/// The plan of a tree, and the set that it joins.
fn node(graph: &Graph, tree: &Tree) -> Result<(LogicalPlan, Mask)> {
    match tree {
        Tree::Leaf(leaf) => Ok((graph.cluster.leaves[*leaf].plan.as_ref().clone(), 1 << *leaf)),
        Tree::Join(left, right) => inner(graph, node(graph, left)?, node(graph, right)?),
        Tree::Semi(left, index) => {
            let (left, set) = node(graph, left)?;
            let semi = &graph.cluster.semis[*index];
            let join = Join::try_new(
                Arc::new(left),
                semi.right.clone(),
                semi.on.clone(),
                semi.filter.clone(),
                semi.join_type,
                JoinConstraint::On,
                semi.null_equality,
                semi.null_aware,
            )?;
            Ok((LogicalPlan::Join(join), set | graph.semi_bit(*index)))
        }
    }
}

/// Joins two plans by all that connects them, the smaller one left: that is the side that is hashed.
fn inner(graph: &Graph, a: (LogicalPlan, Mask), b: (LogicalPlan, Mask)) -> Result<(LogicalPlan, Mask)> {
    let a_is_smaller = graph.rows(a.1, true) <= graph.rows(b.1, true);
    let ((left, left_set), (right, right_set)) = if a_is_smaller { (a, b) } else { (b, a) };
    let set = left_set | right_set;
    let mut on = vec![];
    let mut filters = vec![];
    let connecting: Vec<&Class> = graph.classes.iter().filter(|c| c.leaves & left_set != 0 && c.leaves & right_set != 0).collect();
    // Of columns that are equal, those of one leaf: together they may be its key, which says how many rows there can be.
    let shared = |leaf: usize| connecting.iter().filter(|class| class.leaves & (1 << leaf) != 0).count();
    for class in &connecting {
        let member = |side: Mask| {
            let columns = class.members.iter().map(|m| m.column).filter(|column| side & (1 << column.leaf) != 0);
            columns.min_by_key(|column| Reverse(shared(column.leaf)))
        };
        if let (Some(l), Some(r)) = (member(left_set), member(right_set)) {
            on.push((column(&graph.cluster, l), column(&graph.cluster, r)));
        }
    }
    for pair in &graph.cluster.pairs {
        let needs = pair.left_needs | pair.right_needs;
        if !is_subset(needs, set) || is_subset(needs, left_set) || is_subset(needs, right_set) {
            continue;
        }
        if is_subset(pair.left_needs, left_set) && is_subset(pair.right_needs, right_set) {
            on.push((pair.left.clone(), pair.right.clone()));
        } else if is_subset(pair.left_needs, right_set) && is_subset(pair.right_needs, left_set) {
            on.push((pair.right.clone(), pair.left.clone()));
        } else {
            filters.push(pair.left.clone().eq(pair.right.clone()));
        }
    }
    for predicate in &graph.cluster.predicates {
        if is_subset(predicate.needs, set) && !is_subset(predicate.needs, left_set) && !is_subset(predicate.needs, right_set) {
            filters.push(predicate.expr.clone());
        }
    }
    let join = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        conjunction(filters),
        JoinType::Inner,
        JoinConstraint::On,
        NullEquality::NullEqualsNothing,
        false,
    )?;
    Ok((LogicalPlan::Join(join), set))
}

fn column(cluster: &Cluster, id: ColumnId) -> Expr {
    Expr::Column(cluster.column(id).clone())
}
