//! What rules have in common: their switch, and the walk over a plan.

use std::collections::BTreeMap;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::OptimizerConfig;

use crate::OptimizerOptions;

/// Work is counted in rows of a hash table's lookup. A row that is put into one costs more: it is copied, and the table grows.
pub(crate) const BUILD_WORK: f64 = 3.0;
/// A row that is grouped: a lookup, and an update of each aggregate.
pub(crate) const GROUP_WORK: f64 = 2.0;
/// A row of a table that is read and filtered, a column at a time.
pub(crate) const SCAN_WORK: f64 = 0.25;

/// Whether the session has the rule on; it has where nobody registered the options.
pub(crate) fn enabled(config: &dyn OptimizerConfig, option: impl Fn(&OptimizerOptions) -> bool) -> bool {
    let options = config.options();
    options.extensions.get::<OptimizerOptions>().is_none_or(option)
}

/// What equalities connect, each group in order.
pub(crate) fn equality_groups<T: Clone + Ord>(equalities: &[(T, T)]) -> Vec<Vec<T>> {
    let mut group_of: BTreeMap<&T, usize> = BTreeMap::new();
    for (index, (l, r)) in equalities.iter().enumerate() {
        let left = *group_of.entry(l).or_insert(2 * index);
        let right = *group_of.entry(r).or_insert(2 * index + 1);
        for group in group_of.values_mut().filter(|group| **group == right) {
            *group = left;
        }
    }
    let mut groups: BTreeMap<usize, Vec<T>> = BTreeMap::new();
    for (member, group) in group_of {
        groups.entry(group).or_default().push(member.clone());
    }
    groups.into_values().collect()
}

/// Whether some node of the plan, or of a sub-query in its expressions, passes the test.
pub(crate) fn contains(plan: &LogicalPlan, test: impl Fn(&LogicalPlan) -> bool) -> bool {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= test(node);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })
    .expect("the test cannot fail");
    found
}

/// Replaces nodes, inputs first, where `change` gives another.
///
/// Correlated sub-queries are left as they are: DataFusion takes them apart by their shape in a later pass.
pub(crate) fn everywhere(
    plan: LogicalPlan,
    change: &dyn Fn(&LogicalPlan) -> Result<Option<LogicalPlan>>,
) -> Result<Transformed<LogicalPlan>> {
    plan.transform_up(|node| {
        node.map_uncorrelated_subqueries(|subquery| everywhere(subquery, change))?.transform_parent(|node| {
            Ok(match change(&node)? {
                Some(changed) => Transformed::yes(changed),
                None => Transformed::no(node),
            })
        })
    })
}
