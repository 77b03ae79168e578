//! Groupings of two kinds for which a row's group can be told without a hash table.
//!
//! DataFusion looks up each row in a hash table. Where rows come in the order of what they are grouped by, a group is a run of rows ([`runs`]):
//! then the table, which is made anew whenever finished groups are given, takes most of the time. And where there are a few groups of short
//! strings, to hash and compare the strings takes longer than to look for them among those that are known ([`few`]).

mod few;
mod functions;
mod runs;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, AggregateOutputMode};
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputOrderMode, PlanProperties, replace_children_if_necessary,
};
use futures::{StreamExt, stream};

use crate::OptimizerOptions;
use few::Few;
use functions::Functions;
use runs::Runs;

/// The rule. It must run when plans are finished: other rules know the operator that it replaces.
#[derive(Debug)]
pub(crate) struct Grouping;

impl PhysicalOptimizerRule for Grouping {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if config.extensions.get::<OptimizerOptions>().is_some_and(|options| !options.direct_grouping) {
            return Ok(plan);
        }
        let replaced = plan.transform_up(|node| {
            Ok(match Kind::of(&node)? {
                Some(kind) => Transformed::yes(Arc::new(GroupingExec::new(kind, node)) as Arc<dyn ExecutionPlan>),
                None => Transformed::no(node),
            })
        });
        replaced.data()
    }

    fn name(&self) -> &str {
        "Grouping"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Runs,
    Few,
}

impl Kind {
    /// How groups can be told; `None` of another node, or where a hash table is the way.
    fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Kind>> {
        let Some(aggregate) = plan.downcast_ref::<AggregateExec>() else { return Ok(None) };
        let (keys, schema) = (aggregate.group_expr(), aggregate.input().schema());
        let types = keys.expr().iter().map(|(key, _)| key.data_type(&schema)).collect::<Result<Vec<_>>>()?;
        let plain = keys.is_single()
            && !keys.is_empty()
            && aggregate.limit_options().is_none()
            && aggregate.aggr_expr().iter().all(|function| functions::is_small(function));
        Ok(match (aggregate.mode(), aggregate.input_order_mode()) {
            (AggregateMode::Single | AggregateMode::SinglePartitioned, InputOrderMode::Sorted) if plain => {
                types.iter().all(is_compared_as_grouped).then_some(Kind::Runs)
            }
            (AggregateMode::Partial, InputOrderMode::Linear) if plain && few::can_tell(&types) => {
                let expected = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?;
                expected.num_rows.get_value().is_some_and(|groups| *groups <= few::KNOWN_MAX).then_some(Kind::Few)
            }
            _ => None,
        })
    }
}

/// Whether values are of one width, and the same to a comparison just when they are of one group: of floating point there are two zeros.
fn is_compared_as_grouped(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_temporal() || matches!(data_type, DataType::Decimal64(..) | DataType::Decimal128(..))
}

/// An aggregation that tells groups in its own way.
#[derive(Debug)]
struct GroupingExec {
    kind: Kind,
    /// The operator whose place it takes.
    aggregate: Arc<dyn ExecutionPlan>,
    metrics: ExecutionPlanMetricsSet,
}

impl GroupingExec {
    fn new(kind: Kind, aggregate: Arc<dyn ExecutionPlan>) -> GroupingExec {
        GroupingExec { kind, aggregate, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for GroupingExec {
    fn fmt_as(&self, style: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct As<'a>(&'a dyn ExecutionPlan, DisplayFormatType);
        impl fmt::Display for As<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt_as(self.1, f)
            }
        }
        let definition = As(self.aggregate.as_ref(), style).to_string();
        let by = match self.kind {
            Kind::Runs => "runs",
            Kind::Few => "few",
        };
        write!(f, "GroupingExec: by={by}, {}", definition.trim_start_matches("AggregateExec: "))
    }
}

impl ExecutionPlan for GroupingExec {
    fn name(&self) -> &str {
        "GroupingExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.aggregate.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.aggregate.children()
    }

    /// Over rows in another order, it is the operator that it was again.
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let aggregate = replace_children_if_necessary(self.aggregate.clone(), children)?;
        let stays = self.kind == Kind::Few || Kind::of(&aggregate)? == Some(self.kind);
        Ok(if stays { Arc::new(GroupingExec::new(self.kind, aggregate)) } else { aggregate })
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(GroupingExec::new(self.kind, self.aggregate.clone().reset_state()?)))
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        self.aggregate.apply_expressions(f)
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.aggregate.maintains_input_order()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        self.aggregate.benefits_from_input_partitioning()
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        self.aggregate.cardinality_effect()
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        self.aggregate.child_stats_requests(partition)
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        self.aggregate.statistics_from_inputs(inputs, args)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(aggregate) = self.aggregate.downcast_ref::<AggregateExec>() else {
            return Err(DataFusionError::Internal("groups are of no aggregation".into()));
        };
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let grouped = Grouped::of(self.kind, aggregate, context.session_config().batch_size())?;
        let input = aggregate.input().execute(partition, context)?;
        let rows = stream::try_unfold((input, grouped, metrics), |(mut input, mut grouped, metrics)| async move {
            while !grouped.is_over {
                let batch = input.next().await.transpose()?;
                let timer = metrics.elapsed_compute().timer();
                let given = match batch {
                    Some(batch) => grouped.take(&batch)?,
                    None => grouped.rest()?,
                };
                timer.done();
                if let Some(given) = given {
                    return Ok(Some((given.record_output(&metrics), (input, grouped, metrics))));
                }
            }
            metrics.done();
            Ok(None)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// How groups are told. They are numbered from 0 on, in the order in which they come.
trait Groups: Send {
    /// Appends the number of each row's group.
    fn number(&mut self, keys: &[ArrayRef], numbers: &mut Vec<usize>) -> Result<()>;

    /// How many there are.
    fn count(&self) -> usize;

    /// How many of them are to be given now.
    fn ready(&self) -> usize;

    /// Takes the keys of the first so many; the others are numbered from 0 on.
    fn give(&mut self, count: usize) -> Result<Vec<ArrayRef>>;
}

/// Groups that have begun and have not been given, and their aggregates.
struct Grouped {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    groups: Box<dyn Groups>,
    functions: Functions,
    aggregate: AggregateOutputMode,
    schema: arrow::datatypes::SchemaRef,
    is_over: bool,
}

impl Grouped {
    fn of(kind: Kind, aggregate: &AggregateExec, batch_rows: usize) -> Result<Grouped> {
        let keys = aggregate.group_expr().input_exprs();
        let groups: Box<dyn Groups> = match kind {
            Kind::Runs => Box::new(Runs::new(keys.len(), batch_rows)),
            Kind::Few => Box::new(Few::new(aggregate.group_expr().group_schema(&aggregate.input().schema())?, batch_rows)?),
        };
        let functions = Functions::of(aggregate)?;
        Ok(Grouped { keys, groups, functions, aggregate: aggregate.mode().output_mode(), schema: aggregate.schema(), is_over: false })
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(None);
        }
        let keys = self.keys.iter().map(|key| key.evaluate(batch)?.into_array(rows)).collect::<Result<Vec<_>>>()?;
        let mut numbers = Vec::with_capacity(rows);
        self.groups.number(&keys, &mut numbers)?;
        self.functions.update(batch, &numbers, self.groups.count())?;
        match self.groups.ready() {
            0 => Ok(None),
            ready => self.given(ready).map(Some),
        }
    }

    fn rest(&mut self) -> Result<Option<RecordBatch>> {
        self.is_over = true;
        match self.groups.count() {
            0 => Ok(None),
            all => self.given(all).map(Some),
        }
    }

    fn given(&mut self, count: usize) -> Result<RecordBatch> {
        let emit = if count == self.groups.count() { EmitTo::All } else { EmitTo::First(count) };
        let mut columns = self.groups.give(count)?;
        match self.aggregate {
            AggregateOutputMode::Partial => columns.extend(self.functions.states(emit)?),
            AggregateOutputMode::Final => columns.extend(self.functions.values(emit)?),
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}
