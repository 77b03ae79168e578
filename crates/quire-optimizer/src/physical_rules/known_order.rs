//! Hides what DataFusion takes for known of the order of an operator's rows, and is not so.
//!
//! Rules leave out sorts, and what is sorted or grouped by, where they hold rows for sorted or a column for constant. Four times they are wrong:
//!
//! - A column that is constant in an input of an outer join counts as constant in what the join gives, where it may also be NULL.
//! - Of a window whose frame has a moving start (`count(*) OVER (ROWS 2 PRECEDING)`), rows count as sorted by the aggregate.
//! - A column that is constant in the right input of a join is not known for constant in what the join gives; where something needs rows sorted
//!   by it, the sort that is pushed below the join is left out there, and the plan is refused.
//! - An input of a union whose columns are equal (`SELECT x AS a, x AS b`) counts as sorted by the first of them when it is sorted by both, and
//!   the union, which does not know them for equal, then is not sorted by both: the plan is refused.
//!
//! Such an input of a join or union, and such a window, gets an operator above it of which less is known. It stays in the plan, since other
//! operators decide by what they know of their input whenever they are made anew.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, JoinType, Result, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::SetMonotonicity;
use datafusion::physical_expr::equivalence::{EquivalenceClass, EquivalenceGroup, EquivalenceProperties};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::window::SlidingAggregateWindowExpr;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::filter_pushdown::{FilterDescription, FilterPushdownPhase};
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec, WindowExpr};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, replace_children_if_necessary,
};

/// The rule. It must run before any other that looks at orders.
#[derive(Debug)]
pub(super) struct KnownOrder;

impl PhysicalOptimizerRule for KnownOrder {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let needs_order = plan.exists(|node| Ok(node.required_input_ordering().iter().any(Option::is_some)))?;
        if !plan.exists(|node| Ok(to_hide(node, needs_order).iter().any(Option::is_some) || sliding(node).is_some()))? {
            return Ok(plan);
        }
        plan.transform_up(|node| hidden(node, needs_order)).data()
    }

    fn name(&self) -> &str {
        "KnownOrder"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The node with less known of it, or of its inputs. These have been looked at before.
fn hidden(node: Arc<dyn ExecutionPlan>, needs_order: bool) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    if let Some(columns) = sliding(&node) {
        return Ok(Transformed::yes(Arc::new(LessKnownExec::new(node, Hidden::From(columns))?) as Arc<dyn ExecutionPlan>));
    }
    let inputs = node.children().into_iter().zip(to_hide(&node, needs_order));
    let hidden: Vec<Option<Hidden>> = inputs.map(|(input, hidden)| known_of(input, hidden)).collect();
    if hidden.iter().all(Option::is_none) {
        return Ok(Transformed::no(node));
    }
    let inputs = node.children().into_iter().cloned().zip(hidden).map(|(input, hidden)| {
        Ok(match hidden {
            Some(hidden) => Arc::new(LessKnownExec::new(input, hidden)?) as Arc<dyn ExecutionPlan>,
            None => input,
        })
    });
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    replace_children_if_necessary(node, inputs).map(Transformed::yes)
}

/// What is to be hidden of an input, if something of that is known.
fn known_of(input: &Arc<dyn ExecutionPlan>, hidden: Option<Hidden>) -> Option<Hidden> {
    hidden.filter(|hidden| hidden.is_known(input.equivalence_properties()))
}

/// For each input of a union or a join: what is not to be known of it. Nothing of another node. An outer join may give NULLs instead of an
/// input's rows.
fn to_hide(node: &Arc<dyn ExecutionPlan>, needs_order: bool) -> Vec<Option<Hidden>> {
    let join_type = if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        *join.join_type()
    } else if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        *join.join_type()
    } else if let Some(join) = node.downcast_ref::<SortMergeJoinExec>() {
        join.join_type()
    } else if let Some(union) = node.downcast_ref::<UnionExec>() {
        return vec![Some(Hidden::Equalities); union.inputs().len()];
    } else {
        return vec![];
    };
    let ordered = needs_order.then_some(Hidden::Constants);
    match join_type {
        JoinType::Inner => vec![None, ordered],
        JoinType::Left => vec![None, Some(Hidden::Constants)],
        JoinType::Right => vec![Some(Hidden::Constants), ordered],
        JoinType::Full => vec![Some(Hidden::Constants), Some(Hidden::Constants)],
        _ => vec![],
    }
}

/// Of a window with an aggregate over a moving frame that might count as sorted: how many columns come from its input.
fn sliding(node: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    let (functions, input) = if let Some(window) = node.downcast_ref::<BoundedWindowAggExec>() {
        (window.window_expr(), window.input())
    } else if let Some(window) = node.downcast_ref::<WindowAggExec>() {
        (window.window_expr(), window.input())
    } else {
        return None;
    };
    functions.iter().any(is_sliding).then(|| input.schema().fields().len())
}

fn is_sliding(function: &Arc<dyn WindowExpr>) -> bool {
    let sliding = function.as_any().downcast_ref::<SlidingAggregateWindowExpr>();
    sliding.is_some_and(|function| function.get_aggregate_expr().set_monotonicity() != SetMonotonicity::NotMonotonic)
}

/// What is not to be known.
#[derive(Clone, Copy, Debug)]
enum Hidden {
    /// That columns are constant.
    Constants,
    /// That columns which are not constant are equal.
    Equalities,
    /// In what order columns are, from this one on.
    From(usize),
}

impl Hidden {
    /// Whether something of that is known.
    fn is_known(self, known: &EquivalenceProperties) -> bool {
        match self {
            Hidden::Constants => !known.constants().is_empty(),
            Hidden::Equalities => known.eq_group().iter().any(|class| class.len() > 1 && !is_constant(known, class)),
            Hidden::From(_) => true,
        }
    }

    /// What is known of the rows besides.
    fn rest(self, known: &EquivalenceProperties) -> Result<EquivalenceProperties> {
        let is_known = |sorted: &PhysicalSortExpr| match self {
            Hidden::Constants | Hidden::Equalities => true,
            Hidden::From(first) => collect_columns(&sorted.expr).iter().all(|column| column.index() < first),
        };
        // Rows that are sorted by several columns are so by the first of them.
        let orders = known.oeq_class().iter().map(|order| order.iter().take_while(|sorted| is_known(sorted)).cloned().collect::<Vec<_>>());
        let mut rest = EquivalenceProperties::new_with_orderings(known.schema().clone(), orders);
        let kept = known.eq_group().iter().filter(|class| match self {
            Hidden::Constants => !is_constant(known, class),
            Hidden::Equalities => is_constant(known, class),
            Hidden::From(_) => true,
        });
        rest.add_equivalence_group(EquivalenceGroup::new(kept.cloned()))?;
        Ok(rest)
    }
}

/// Whether what is equal is constant, too.
fn is_constant(known: &EquivalenceProperties, class: &EquivalenceClass) -> bool {
    class.iter().any(|expr| known.eq_group().is_expr_constant(expr).is_some())
}

/// Gives its input's rows.
#[derive(Debug)]
struct LessKnownExec {
    input: Arc<dyn ExecutionPlan>,
    hidden: Hidden,
    properties: Arc<PlanProperties>,
}

impl LessKnownExec {
    fn new(input: Arc<dyn ExecutionPlan>, hidden: Hidden) -> Result<LessKnownExec> {
        let rest = hidden.rest(input.equivalence_properties())?;
        let properties = Arc::new(input.properties().as_ref().clone().with_eq_properties(rest));
        Ok(LessKnownExec { input, hidden, properties })
    }
}

impl DisplayAs for LessKnownExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LessKnownExec")
    }
}

impl ExecutionPlan for LessKnownExec {
    fn name(&self) -> &str {
        "LessKnownExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return Err(DataFusionError::Internal("less is known of one input".into())) };
        Ok(Arc::new(LessKnownExec::new(input, self.hidden)?))
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    /// It does, but a sort that is to be below would be left out there.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(inputs[0].clone())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(filters, &self.children())
    }
}
