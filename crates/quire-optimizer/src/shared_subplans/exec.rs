//! The operator that stands where a shared part is used.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{TryStreamExt, stream};
use parking_lot::Mutex;

use super::run::{Reader, Run};

/// What the places where a shared part is used have in common.
pub(super) struct Shared {
    id: usize,
    consumers: AtomicUsize,
    run: Mutex<Option<Arc<Run>>>,
}

impl Shared {
    pub(super) fn new(id: usize) -> Shared {
        Shared { id, consumers: AtomicUsize::new(0), run: Mutex::default() }
    }

    /// The run that a consumer reads a partition of. The first consumer begins one; so does one that has read its partition before,
    /// because then the plan is executed again.
    fn join(&self, exec: &SharedExec, partition: usize, context: &Arc<TaskContext>) -> Arc<Run> {
        let mut run = self.run.lock();
        if let Some(run) = &*run
            && run.begin(exec.consumer, partition)
        {
            return run.clone();
        }
        let consumers = self.consumers.load(Ordering::Relaxed);
        let new = Arc::new(Run::new(self.id, consumers, exec.consumer, &exec.input, context, &exec.metrics));
        assert!(new.begin(exec.consumer, partition), "a new run has no readers");
        *run = Some(new.clone());
        new
    }
}

/// One of the places where a shared part is used.
///
/// Each has the part as its input, so that rules treat it as they treat any other; but only one of them executes it. Parents push no
/// filters into it: they are for one place, and the rows are for all.
pub(super) struct SharedExec {
    shared: Arc<Shared>,
    /// Its number among the places.
    consumer: usize,
    input: Arc<dyn ExecutionPlan>,
    metrics: ExecutionPlanMetricsSet,
}

impl SharedExec {
    /// One more place. All are made before the plan runs.
    pub(super) fn new(shared: Arc<Shared>, input: Arc<dyn ExecutionPlan>) -> SharedExec {
        let consumer = shared.consumers.fetch_add(1, Ordering::Relaxed);
        SharedExec { shared, consumer, input, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl fmt::Debug for SharedExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedExec").field("id", &self.shared.id).field("input", &self.input).finish_non_exhaustive()
    }
}

impl DisplayAs for SharedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedExec: id={}", self.shared.id)
    }
}

impl ExecutionPlan for SharedExec {
    fn name(&self) -> &str {
        "SharedExec"
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
        let Some(input) = children.pop() else { return Err(DataFusionError::Internal("SharedExec has one input".into())) };
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Arc::new(SharedExec { shared: self.shared.clone(), consumer: self.consumer, input, metrics }))
    }

    /// Who runs a plan again and again runs the part for itself: what is kept is of one execution of the whole.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.input.clone())
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
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
        let run = self.shared.join(self, partition, &context);
        let reused = MetricBuilder::new(&self.metrics).counter("reused", partition);
        reused.add(usize::from(run.owner != self.consumer));
        let rows = MetricBuilder::new(&self.metrics).output_rows(partition);
        let reader = Reader::new(run, self.consumer, partition);
        let batches = stream::try_unfold(reader, |mut reader| async move {
            let batch = reader.next().await?;
            Ok::<_, DataFusionError>(batch.map(|batch| (batch, reader)))
        });
        let batches = batches.inspect_ok(move |batch| rows.add(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
