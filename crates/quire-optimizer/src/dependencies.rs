//! Which columns determine others: what schemas say of it is made to hold, before rules that rely on it.
//!
//! A schema has dependencies: a table's key determines the table's columns, what a query groups by determines a row of the result. Rules leave
//! out of GROUP BY and ORDER BY what others determine, and DISTINCT where rows differ in any case. DataFusion makes too much of them in two places.
//! A dependency of what is grouped is one of the result with all of its columns, if it is grouped by what determines: of `GROUP BY a.id, b.s` from
//! a product it is that `a.id` alone tells a row. And UNNEST has the keys of its input, whose rows it repeats.
//!
//! Schemas are made again by many rules, so they are looked at each time. Where something does not hold, the schemas from there up to the next
//! grouping have no dependencies: almost no query gets so far, and one that does has them sorted or grouped by a column more.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchemaRef, Dependency, FunctionalDependence, FunctionalDependencies, Result};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::rule::contains;

/// DataFusion's rules that rely on dependencies.
pub(crate) const RELY_ON_THEM: [&str; 4] =
    ["replace_distinct_aggregate", "eliminate_join", "eliminate_duplicated_expr", "optimize_projections"];

/// The rule, to be run before each of [`RELY_ON_THEM`].
#[derive(Debug)]
pub(crate) struct TrueDependencies;

impl OptimizerRule for TrueDependencies {
    fn name(&self) -> &str {
        "true_dependencies"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if contains(&plan, has_untrue) { corrected(plan) } else { Ok(Transformed::no(plan)) }
    }
}

/// The plan with schemas whose dependencies hold.
pub fn with_true_dependencies(plan: LogicalPlan) -> Result<LogicalPlan> {
    if contains(&plan, has_untrue) { corrected(plan).map(|corrected| corrected.data) } else { Ok(plan) }
}

/// Whether a node's schema has dependencies that its input's do not bear out.
fn has_untrue(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.schema.functional_dependencies().iter().any(|known| !holds(known, aggregate)),
        LogicalPlan::Unnest(unnest) => !unnest.schema.functional_dependencies().is_empty(),
        LogicalPlan::RecursiveQuery(query) => !query.schema.functional_dependencies().is_empty(),
        _ => false,
    }
}

/// Whether some of the columns that a query groups by (these are the first of the result) tell a row of the result.
fn holds(dependence: &FunctionalDependence, aggregate: &Aggregate) -> bool {
    let grouped = &aggregate.group_expr;
    if dependence.source_indices.len() >= grouped.len() {
        return true;
    }
    let input = aggregate.input.schema();
    let place = |expr: &Expr| expr.try_as_col().and_then(|column| input.maybe_index_of_column(column));
    let sources: Option<Vec<usize>> = dependence.source_indices.iter().map(|index| place(grouped.get(*index)?)).collect();
    let Some(sources) = sources else { return false };
    let places: Vec<Option<usize>> = grouped.iter().map(place).collect();
    input.functional_dependencies().iter().any(|known| {
        let is_told = |place: &Option<usize>| place.is_some_and(|place| sources.contains(&place) || known.target_indices.contains(&place));
        known.source_indices.iter().all(|source| sources.contains(source))
            && (known.mode == Dependency::Single || places.iter().all(is_told))
    })
}

/// The plan with other schemas where one has untrue dependencies, and above.
fn corrected(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let Transformed { data: plan, transformed: of_subqueries, .. } = plan.map_subqueries(corrected)?;
    let Transformed { data: mut plan, transformed: of_inputs, .. } = plan.map_children(corrected)?;
    if of_inputs || has_untrue(&plan) {
        without_untrue(&mut plan)?;
        return Ok(Transformed::yes(plan));
    }
    Ok(if of_subqueries { Transformed::yes(plan) } else { Transformed::no(plan) })
}

/// Leaves a node's schema those dependencies that hold whatever its input is like.
fn without_untrue(plan: &mut LogicalPlan) -> Result<()> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let certain = of_groups(aggregate);
            replace(&mut aggregate.schema, certain)
        }
        LogicalPlan::Projection(projection) => replace(&mut projection.schema, FunctionalDependencies::empty()),
        LogicalPlan::SubqueryAlias(alias) => replace(&mut alias.schema, FunctionalDependencies::empty()),
        LogicalPlan::Window(window) => replace(&mut window.schema, FunctionalDependencies::empty()),
        LogicalPlan::Join(join) => replace(&mut join.schema, FunctionalDependencies::empty()),
        LogicalPlan::Unnest(unnest) => replace(&mut unnest.schema, FunctionalDependencies::empty()),
        LogicalPlan::RecursiveQuery(query) => replace(&mut query.schema, FunctionalDependencies::empty()),
        // Others have the schema of their input, or one without dependencies.
        _ => Ok(()),
    }
}

/// All that a query groups by tells a row; of grouping sets nothing does.
fn of_groups(aggregate: &Aggregate) -> FunctionalDependencies {
    let (grouped, fields) = (aggregate.group_expr.len(), aggregate.schema.fields());
    // What is grouped by twice may be one column.
    let has_repeats = aggregate.group_expr.iter().enumerate().any(|(place, expr)| aggregate.group_expr[..place].contains(expr));
    if grouped == 0 || has_repeats || matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]) {
        return FunctionalDependencies::empty();
    }
    let has_nulls = fields.iter().take(grouped).any(|field| field.is_nullable());
    let whole = FunctionalDependence::new((0..grouped).collect(), (0..fields.len()).collect(), has_nulls);
    FunctionalDependencies::new(vec![whole.with_mode(Dependency::Single)])
}

fn replace(schema: &mut DFSchemaRef, dependencies: FunctionalDependencies) -> Result<()> {
    *schema = Arc::new(schema.as_ref().clone().with_functional_dependencies(dependencies)?);
    Ok(())
}
