//! The operator that collects keys.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, stream};
use parking_lot::Mutex;

use super::JoinKey;

/// Gives its input's rows as they are, and collects keys of them.
pub(super) struct JoinKeysExec {
    input: Arc<dyn ExecutionPlan>,
    collected: Arc<Collected>,
    metrics: ExecutionPlanMetricsSet,
}

struct Collected {
    keys: Vec<JoinKey>,
    /// Of each partition, whether somebody reads it.
    begun: Vec<AtomicBool>,
    memory: Mutex<Option<MemoryReservation>>,
}

impl JoinKeysExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, keys: Vec<JoinKey>) -> JoinKeysExec {
        let begun = (0..input.output_partitioning().partition_count()).map(|_| AtomicBool::new(false)).collect();
        let collected = Arc::new(Collected { keys, begun, memory: Mutex::default() });
        JoinKeysExec { input, collected, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl Collected {
    /// Who reads a partition again may read other rows.
    fn begin(&self, partition: usize) {
        if self.begun.get(partition).is_none_or(|begun| begun.swap(true, Ordering::Relaxed)) {
            self.give_up();
        }
    }

    fn insert(&self, batch: &RecordBatch, context: &TaskContext) {
        for key in &self.keys {
            match key.build_key.evaluate(batch).and_then(|keys| keys.into_array(batch.num_rows())) {
                Ok(column) => key.keys.insert(&column, |bytes| self.has_memory(context, bytes)),
                // The join evaluates it, too, and reports the error.
                Err(_) => key.keys.give_up(),
            }
        }
    }

    fn has_memory(&self, context: &TaskContext, bytes: usize) -> bool {
        let mut memory = self.memory.lock();
        let reserved = memory.get_or_insert_with(|| MemoryConsumer::new("JoinKeys").register(context.memory_pool()));
        reserved.try_grow(bytes).is_ok()
    }

    fn end_of_part(&self) {
        self.keys.iter().for_each(|key| key.keys.end_of_part());
    }

    fn give_up(&self) {
        self.keys.iter().for_each(|key| key.keys.give_up());
    }
}

impl fmt::Debug for JoinKeysExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinKeysExec").field("keys", &self.collected.keys).field("input", &self.input).finish()
    }
}

impl DisplayAs for JoinKeysExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.collected.keys.iter().map(|key| key.build_key.to_string()).collect();
        write!(f, "JoinKeysExec: keys=[{}]", keys.join(", "))
    }
}

impl ExecutionPlan for JoinKeysExec {
    fn name(&self) -> &str {
        "JoinKeysExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return Err(DataFusionError::Internal("JoinKeysExec has one input".into())) };
        Ok(Arc::new(JoinKeysExec { input, collected: self.collected.clone(), metrics: ExecutionPlanMetricsSet::new() }))
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        for key in &self.collected.keys {
            if f(&key.build_key)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
        let mut rows = self.input.execute(partition, context.clone())?;
        let collected = self.collected.clone();
        collected.begin(partition);
        let given = MetricBuilder::new(&self.metrics).output_rows(partition);
        let mut ended = false;
        let passed = stream::poll_fn(move |task| {
            let next = rows.poll_next_unpin(task);
            match &next {
                Poll::Ready(Some(Ok(batch))) => {
                    given.add(batch.num_rows());
                    collected.insert(batch, &context);
                }
                Poll::Ready(Some(Err(_))) => collected.give_up(),
                Poll::Ready(None) if !ended => {
                    ended = true;
                    collected.end_of_part();
                }
                _ => {}
            }
            next
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), passed)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
