//! Scans are told which keys the other side of a join has: a bit for each ([`BuildKeys`]).
//!
//! DataFusion's hash joins give scans on their probe side a filter, once the build side is read: a look into the hash table for each row. The
//! rule finds the scans that have such a filter, and has [`JoinKeysExec`] collect the build side's keys for them. It changes nothing else:
//! what scans then leave out, the filter would have left out.

mod exec;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::config::ConfigOptions;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, replace_children_if_necessary};
use quire_optimizer::OptimizerOptions;
use quire_scan::BuildKeys;

use crate::scan_exec::ScanExec;
use exec::JoinKeysExec;

/// The rule. It must run when dynamic filters are in the scans, and no other rule looks at joins.
#[derive(Debug)]
pub(crate) struct JoinKeys;

impl PhysicalOptimizerRule for JoinKeys {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        match config.extensions.get::<OptimizerOptions>().is_some_and(|options| !options.join_keys) {
            true => Ok(plan),
            false => with_keys(&plan),
        }
    }

    fn name(&self) -> &str {
        "JoinKeys"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn with_keys(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    // Its iterations run again and again, each with other keys.
    if plan.children().is_empty() || plan.is::<RecursiveQueryExec>() {
        return Ok(plan.clone());
    }
    let children = plan.children().into_iter().map(with_keys).collect::<Result<Vec<_>>>()?;
    let plan = replace_children_if_necessary(plan.clone(), children)?;
    match plan.downcast_ref::<HashJoinExec>() {
        Some(join) => of_join(&plan, join),
        None => Ok(plan),
    }
}

/// The join whose scans know the keys of its build side: those columns of them that are whole numbers within bounds.
fn of_join(plan: &Arc<dyn ExecutionPlan>, join: &HashJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(filter) = join.dynamic_expressions_produced().first().and_then(|filter| filter.expression_id()) else {
        return Ok(plan.clone());
    };
    let mut scans = vec![];
    find_scans(join.right(), filter, &mut scans);
    let parts = join.left().output_partitioning().partition_count();
    let mut collected = vec![];
    for (number, (build_key, _)) in join.on().iter().enumerate() {
        let data_type = build_key.data_type(&join.left().schema())?;
        let bounds = scans.iter().map(|scan| scan.key_bounds(filter, number, &data_type)).collect::<Option<Vec<_>>>();
        let bounds = bounds.into_iter().flatten().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        if let Some(keys) = bounds.and_then(|(min, max)| BuildKeys::between(min, max, parts)) {
            collected.push(JoinKey { filter, number, columns: join.on().len(), build_key: build_key.clone(), keys: Arc::new(keys) });
        }
    }
    if collected.is_empty() {
        return Ok(plan.clone());
    }
    let probe = tell_scans(join.right(), filter, &collected)?;
    let build = Arc::new(JoinKeysExec::new(join.left().clone(), collected));
    replace_children_if_necessary(plan.clone(), vec![build, probe])
}

/// A column of a join's key, collected on the build side.
#[derive(Clone, Debug)]
pub(crate) struct JoinKey {
    /// The dynamic filter of the join.
    pub(crate) filter: u64,
    /// The column's number among those of the key.
    pub(crate) number: usize,
    /// How many these are.
    pub(crate) columns: usize,
    build_key: Arc<dyn PhysicalExpr>,
    pub(crate) keys: Arc<BuildKeys>,
}

/// The scans that have the filter.
fn find_scans<'a>(plan: &'a Arc<dyn ExecutionPlan>, filter: u64, found: &mut Vec<&'a ScanExec>) {
    found.extend(plan.downcast_ref::<ScanExec>().filter(|scan| scan.has_filter(filter)));
    plan.children().into_iter().for_each(|child| find_scans(child, filter, found));
}

fn tell_scans(plan: &Arc<dyn ExecutionPlan>, filter: u64, keys: &[JoinKey]) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(scan) = plan.downcast_ref::<ScanExec>().filter(|scan| scan.has_filter(filter)) {
        return Ok(Arc::new(scan.with_keys(keys)));
    }
    let children = plan.children().into_iter().map(|child| tell_scans(child, filter, keys)).collect::<Result<Vec<_>>>()?;
    replace_children_if_necessary(plan.clone(), children)
}
