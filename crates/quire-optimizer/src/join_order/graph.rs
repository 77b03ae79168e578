//! A cluster with numbers: how many rows any set of its relations joins to, and what an order costs.

use std::sync::Arc;

use datafusion::common::{DFSchema, JoinType, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan};

use super::cluster::{Cluster, ColumnId, Leaf, Mask, Predicate, Semi, Tree};
use crate::estimate::{ColumnEstimate, ROWS_MAX, column_of, contained, different_keys, not_contained, rows_of_smaller};
use crate::rule::equality_groups;
use crate::{Estimate, Estimator, selectivity};

/// A join costs 1 for each row that it gives (C_out, Cluet and Moerkotte 1995), and a little for each that it reads: a row of the side
/// that is hashed costs more than one that is looked up.
const BUILD_COST: f64 = 0.5;
const PROBE_COST: f64 = 0.1;

/// A join graph. Each estimate is a function of the set of relations alone, so that orders of one set are compared by the same number.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) cluster: Cluster,
    pub(super) classes: Vec<Class>,
    /// For each leaf, then for each semi join: what it is connected with by a key.
    pub(super) neighbors: Vec<Mask>,
    rows: Vec<f64>,
    /// Rows of the right side of each semi join, and the share of its left rows that pass.
    semis: Vec<(f64, f64)>,
    /// For each pair of the cluster, the share of the product that passes.
    pairs: Vec<f64>,
    predicates: Vec<f64>,
    corrections: Vec<Correction>,
}

/// Columns that are all equal, at most one of a leaf.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) members: Vec<ClassMember>,
    pub(super) leaves: Mask,
    /// The pairs of leaves between which the query itself says so.
    stated: Vec<Mask>,
}

#[derive(Debug)]
pub(super) struct ClassMember {
    pub(super) column: ColumnId,
    distinct: f64,
    not_null: f64,
}

/// Two leaves that share several classes have fewer different keys than the classes' values multiplied.
#[derive(Debug)]
struct Correction {
    leaves: Mask,
    factor: f64,
}

impl Graph {
    /// Weighs a cluster. Conditions of single leaves move into them.
    pub(super) fn new(mut cluster: Cluster, estimator: &Estimator) -> Result<Graph> {
        let groups = equality_groups(&cluster.equalities);
        filter_leaves(&mut cluster, &groups)?;
        let leaves: Vec<Estimate> = cluster.leaves.iter().map(|leaf| estimator.estimate(&leaf.plan)).collect();
        let rows = leaves.iter().map(|leaf| leaf.rows.max(1.0)).collect();
        let classes: Vec<Class> = groups.iter().map(|group| class(group, &cluster.equalities, &leaves)).collect();
        let semis = cluster.semis.iter().map(|semi| semi_share(semi, &cluster, &leaves, estimator)).collect();
        let pairs = cluster.pairs.iter().map(|pair| {
            let distinct = |expr: &Expr| distinct_of(expr, &cluster, &leaves);
            1.0 / distinct(&pair.left).max(distinct(&pair.right)).max(1.0)
        });
        let pairs = pairs.collect();
        let predicates = cluster.predicates.iter().map(|p| predicate_share(p, &cluster, &leaves)).collect();
        let corrections = corrections(&classes, &leaves);
        let neighbors = neighbors(&cluster, &classes);
        Ok(Graph { cluster, classes, neighbors, rows, semis, pairs, predicates, corrections })
    }

    pub(super) fn semi_bit(&self, semi: usize) -> Mask {
        1 << (self.cluster.leaves.len() + semi)
    }

    pub(super) fn semi_rows(&self, semi: usize) -> f64 {
        self.semis[semi].0
    }

    /// Rows of a set's join. With `closed`, by all equalities that follow; else only by those that the query states within the set.
    pub(super) fn rows(&self, set: Mask, closed: bool) -> f64 {
        let mut rows: f64 = bits(set).filter_map(|bit| self.rows.get(bit)).product();
        for class in &self.classes {
            rows /= class.divisor(set, closed);
        }
        let mut corrected: Vec<Mask> = vec![];
        for correction in self.corrections.iter().filter(|c| is_subset(c.leaves, set)) {
            // Three leaves with the same keys are two joins, and corrected twice.
            let (touched, others): (Vec<Mask>, Vec<Mask>) = corrected.iter().partition(|group| *group & correction.leaves != 0);
            if touched.iter().any(|group| is_subset(correction.leaves, *group)) {
                continue;
            }
            rows *= correction.factor;
            corrected = others;
            corrected.push(touched.iter().fold(correction.leaves, |all, group| all | group));
        }
        for (pair, share) in self.cluster.pairs.iter().zip(&self.pairs) {
            if is_subset(pair.left_needs | pair.right_needs, set) {
                rows *= share;
            }
        }
        for (predicate, share) in self.cluster.predicates.iter().zip(&self.predicates) {
            if is_subset(predicate.needs, set) {
                rows *= share;
            }
        }
        for (semi, (_, share)) in self.semis.iter().enumerate() {
            if is_subset(self.semi_bit(semi), set) {
                rows *= share;
            }
        }
        if rows.is_nan() { ROWS_MAX } else { rows.clamp(1.0, ROWS_MAX) }
    }

    /// What joining sides of so many rows costs, if it gives `rows`.
    pub(super) fn join_cost(left: f64, right: f64, rows: f64) -> f64 {
        rows + BUILD_COST * left.min(right) + PROBE_COST * left.max(right)
    }

    /// Whether a join of the two sets has a key.
    pub(super) fn is_keyed(&self, left: Mask, right: Mask) -> bool {
        bits(left).any(|bit| self.neighbors.get(bit).is_some_and(|n| n & right != 0)) || self.has_pair(left, right)
    }

    fn has_pair(&self, left: Mask, right: Mask) -> bool {
        self.cluster.pairs.iter().any(|pair| {
            (is_subset(pair.left_needs, left) && is_subset(pair.right_needs, right))
                || (is_subset(pair.left_needs, right) && is_subset(pair.right_needs, left))
        })
    }

    /// Joins of an order that have no key: by all equalities that follow with `closed`, else by those that the query states.
    pub(super) fn products(&self, tree: &Tree, closed: bool) -> usize {
        self.count_products(tree, closed).1
    }

    fn count_products(&self, tree: &Tree, closed: bool) -> (Mask, usize) {
        match tree {
            Tree::Leaf(leaf) => (1 << *leaf, 0),
            Tree::Join(left, right) => {
                let (left, in_left) = self.count_products(left, closed);
                let (right, in_right) = self.count_products(right, closed);
                let is_stated = |pair: &Mask| pair & left != 0 && pair & right != 0;
                let is_keyed = match closed {
                    true => self.is_keyed(left, right),
                    false => self.has_pair(left, right) || self.classes.iter().any(|class| class.stated.iter().any(is_stated)),
                };
                (left | right, in_left + in_right + usize::from(!is_keyed))
            }
            Tree::Semi(left, _) => self.count_products(left, closed),
        }
    }

    /// What an order costs.
    pub(super) fn cost(&self, tree: &Tree, closed: bool) -> f64 {
        self.weigh(tree, closed).2
    }

    /// The set that a tree joins, its rows and cost.
    fn weigh(&self, tree: &Tree, closed: bool) -> (Mask, f64, f64) {
        match tree {
            Tree::Leaf(leaf) => (1 << *leaf, self.rows(1 << *leaf, closed), 0.0),
            Tree::Join(left, right) => {
                let (left, left_rows, left_cost) = self.weigh(left, closed);
                let (right, right_rows, right_cost) = self.weigh(right, closed);
                let rows = self.rows(left | right, closed);
                // Without a key every pair is looked at.
                let pairs = if self.is_keyed(left, right) { rows } else { rows.max(left_rows * right_rows) };
                (left | right, rows, left_cost + right_cost + Graph::join_cost(left_rows, right_rows, pairs))
            }
            Tree::Semi(left, semi) => {
                let (left, left_rows, left_cost) = self.weigh(left, closed);
                let set = left | self.semi_bit(*semi);
                let rows = self.rows(set, closed);
                (set, rows, left_cost + Graph::join_cost(left_rows, self.semi_rows(*semi), rows))
            }
        }
    }
}

impl Class {
    /// By how much the product of a set's leaves is too large: each member but the one with the fewest values picks one value.
    fn divisor(&self, set: Mask, closed: bool) -> f64 {
        let mut left = self.leaves & set;
        let mut divisor = 1.0;
        while left != 0 {
            let group = if closed { left } else { self.stated_with(left & left.wrapping_neg(), set) };
            left &= !group;
            divisor *= self.group_divisor(group);
        }
        divisor
    }

    /// The leaves that the query's own equalities within `set` connect with `first`.
    fn stated_with(&self, first: Mask, set: Mask) -> Mask {
        let mut group = first;
        loop {
            let inside = self.stated.iter().filter(|pair| is_subset(**pair, set) && *pair & group != 0);
            let grown = inside.fold(group, |all, pair| all | pair);
            if grown == group {
                return group;
            }
            group = grown;
        }
    }

    fn group_divisor(&self, group: Mask) -> f64 {
        if group.count_ones() < 2 {
            return 1.0;
        }
        let mut product = 1.0;
        let mut fewest = f64::MAX;
        for member in self.members.iter().filter(|member| group & (1 << member.column.leaf) != 0) {
            product *= member.distinct / member.not_null;
            fewest = fewest.min(member.distinct);
        }
        product / fewest
    }

    fn member(&self, leaf: usize) -> Option<&ClassMember> {
        self.members.iter().find(|member| member.column.leaf == leaf)
    }
}

pub(super) fn is_subset(part: Mask, of: Mask) -> bool {
    part & !of == 0
}

pub(super) fn bits(mut mask: Mask) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = mask.trailing_zeros() as usize;
        (mask != 0).then(|| {
            mask &= mask - 1;
            bit
        })
    })
}

/// Puts conditions of one leaf into it: those that the query has, and that a class's members within the leaf are equal.
fn filter_leaves(cluster: &mut Cluster, groups: &[Vec<ColumnId>]) -> Result<()> {
    let mut conditions: Vec<Vec<Expr>> = vec![vec![]; cluster.leaves.len()];
    let (single, others): (Vec<Predicate>, Vec<Predicate>) =
        std::mem::take(&mut cluster.predicates).into_iter().partition(|predicate| predicate.needs.count_ones() == 1);
    cluster.predicates = others;
    for predicate in single {
        conditions[predicate.needs.trailing_zeros() as usize].push(predicate.expr);
    }
    for group in groups {
        for pair in group.windows(2) {
            if let [a, b] = pair
                && a.leaf == b.leaf
            {
                let (l, r) = (Expr::Column(cluster.column(*a).clone()), Expr::Column(cluster.column(*b).clone()));
                conditions[a.leaf].push(l.eq(r));
            }
        }
    }
    for (leaf, conditions) in cluster.leaves.iter_mut().zip(conditions) {
        if let Some(condition) = conjunction(conditions) {
            leaf.plan = Arc::new(LogicalPlan::Filter(Filter::try_new(condition, leaf.plan.clone())?));
        }
    }
    Ok(())
}

fn class(group: &[ColumnId], equalities: &[(ColumnId, ColumnId)], leaves: &[Estimate]) -> Class {
    let mut members: Vec<ClassMember> = vec![];
    let mut mask: Mask = 0;
    for column in group {
        // A second member of a leaf equals the first there.
        if mask & (1 << column.leaf) != 0 {
            continue;
        }
        mask |= 1 << column.leaf;
        let estimate = leaves[column.leaf].columns.get(column.field);
        let distinct = estimate.map_or(leaves[column.leaf].rows, |c| c.distinct).max(1.0);
        let not_null = estimate.map_or(1.0, |c| 1.0 - c.nulls).max(1e-6);
        members.push(ClassMember { column: *column, distinct, not_null });
    }
    let stated = equalities.iter().filter(|(l, _)| group.contains(l)).map(|(l, r)| -> Mask { (1 << l.leaf) | (1 << r.leaf) }).collect();
    Class { members, leaves: mask, stated }
}

/// For each two leaves that share several classes, by how much multiplying the classes' divisors overdoes it.
fn corrections<'a>(classes: &[Class], leaves: &'a [Estimate]) -> Vec<Correction> {
    let mut corrections = vec![];
    for (left, left_estimate) in leaves.iter().enumerate() {
        for (right, right_estimate) in leaves.iter().enumerate().skip(left + 1) {
            let column = |estimate: &'a Estimate, member: &ClassMember| estimate.columns.get(member.column.field);
            let shared: Vec<(&ClassMember, &ClassMember)> =
                classes.iter().filter_map(|class| Some((class.member(left)?, class.member(right)?))).collect();
            if shared.len() < 2 {
                continue;
            }
            let keys: Vec<f64> = shared.iter().map(|(l, r)| l.distinct.max(r.distinct)).collect();
            let columns: Option<Vec<(&ColumnEstimate, &ColumnEstimate)>> =
                shared.iter().map(|(l, r)| Some((column(left_estimate, l)?, column(right_estimate, r)?))).collect();
            let tables = columns.map(|columns| rows_of_smaller(columns.into_iter()));
            let product: f64 = keys.iter().product();
            let together = different_keys(keys, tables.unwrap_or(left_estimate.rows.min(right_estimate.rows))).max(1.0);
            let factor = (product / together).clamp(1.0, ROWS_MAX);
            corrections.push(Correction { leaves: (1 << left) | (1 << right), factor });
        }
    }
    // The order must not depend on that of the leaves.
    corrections.sort_by(|a, b| a.factor.total_cmp(&b.factor));
    corrections
}

fn neighbors(cluster: &Cluster, classes: &[Class]) -> Vec<Mask> {
    let count = cluster.leaves.len();
    let mut neighbors: Vec<Mask> = vec![0; count + cluster.semis.len()];
    for class in classes {
        for leaf in bits(class.leaves) {
            neighbors[leaf] |= class.leaves & !(1 << leaf);
        }
    }
    for pair in cluster.pairs.iter().filter(|p| p.left_needs.count_ones() == 1 && p.right_needs.count_ones() == 1) {
        neighbors[pair.left_needs.trailing_zeros() as usize] |= pair.right_needs;
        neighbors[pair.right_needs.trailing_zeros() as usize] |= pair.left_needs;
    }
    for (index, semi) in cluster.semis.iter().enumerate() {
        neighbors[count + index] = semi.needs;
        for leaf in bits(semi.needs) {
            neighbors[leaf] |= 1 << (count + index);
        }
    }
    neighbors
}

/// Different values of an expression over the leaves.
fn distinct_of(expr: &Expr, cluster: &Cluster, leaves: &[Estimate]) -> f64 {
    let of_leaf = |(leaf, estimate): (&Leaf, &Estimate)| {
        let schema = leaf.plan.schema();
        let reads = expr.column_refs().into_iter().any(|column| schema.maybe_index_of_column(column).is_some());
        reads.then(|| column_of(expr, schema, estimate).distinct)
    };
    cluster.leaves.iter().zip(leaves).filter_map(of_leaf).fold(1.0, f64::max)
}

/// Rows of a semi join's right side, and the share of left rows that pass.
fn semi_share(semi: &Semi, cluster: &Cluster, leaves: &[Estimate], estimator: &Estimator) -> (f64, f64) {
    let right = estimator.estimate(&semi.right);
    let schema = semi.right.schema();
    let keys = semi.on.iter().map(|(l, r)| (distinct_of(l, cluster, leaves), column_of(r, schema, &right).distinct));
    let keys: Vec<(f64, f64)> = keys.collect();
    let filter = match &semi.filter {
        // Its columns are of both sides: nothing is looked up, shapes alone are weighed.
        Some(filter) => selectivity(filter, &DFSchema::empty(), &Estimate { rows: right.rows, columns: vec![] }),
        None => 1.0,
    };
    let found = contained(&keys, right.rows, filter);
    let share = match semi.join_type {
        JoinType::LeftAnti => not_contained(found),
        _ => found,
    };
    (right.rows.max(1.0), share)
}

/// The share of a product of leaves for which a predicate holds.
fn predicate_share(predicate: &Predicate, cluster: &Cluster, leaves: &[Estimate]) -> f64 {
    let mut schema = DFSchema::empty();
    let mut input = Estimate { rows: 1.0, columns: vec![] };
    for leaf in bits(predicate.needs) {
        let Ok(joined) = schema.join(cluster.leaves[leaf].plan.schema()) else { break };
        schema = joined;
        input.rows = (input.rows * leaves[leaf].rows.max(1.0)).min(ROWS_MAX);
        input.columns.extend(leaves[leaf].columns.iter().cloned());
    }
    selectivity(&predicate.expr, &schema, &input)
}
