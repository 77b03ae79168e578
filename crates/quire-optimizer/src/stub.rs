//! For tests: a table whose rows the test makes, and the operator that scans it.

use std::fmt;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::StreamExt;
use futures::stream::BoxStream;

/// Gives a partition's batches, with all of the table's columns, and whether they shall be in the order of the first.
type Read = dyn Fn(usize, bool) -> BoxStream<'static, Result<RecordBatch>> + Send + Sync;

#[derive(Clone)]
pub(crate) struct StubTable {
    pub(crate) schema: SchemaRef,
    pub(crate) partitions: usize,
    /// What scans say of their rows.
    pub(crate) statistics: Statistics,
    /// Called when a partition is executed. Also what tells tables apart.
    pub(crate) read: Arc<Read>,
}

impl fmt::Debug for StubTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StubTable")
    }
}

#[async_trait]
impl TableProvider for StubTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(&self, _: &dyn Session, projection: Option<&Vec<usize>>, _: &[Expr], _: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let projection = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        Ok(Arc::new(StubScan::new(self.clone(), projection, false)))
    }
}

#[derive(Debug)]
pub(crate) struct StubScan {
    table: StubTable,
    projection: Vec<usize>,
    in_order: bool,
    properties: Arc<PlanProperties>,
}

impl StubScan {
    pub(crate) fn new(table: StubTable, projection: Vec<usize>, in_order: bool) -> StubScan {
        let schema = Arc::new(table.schema.project(&projection).expect("columns of the table"));
        let mut equivalences = EquivalenceProperties::new(schema.clone());
        if let Some(column) = projection.iter().position(|&index| index == 0).filter(|_| in_order) {
            let ascending = SortOptions { descending: false, nulls_first: false };
            equivalences.add_ordering([PhysicalSortExpr::new(Arc::new(Column::new(schema.field(column).name(), column)), ascending)]);
        }
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(table.partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        StubScan { table, projection, in_order, properties: Arc::new(properties) }
    }
}

impl DisplayAs for StubScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StubScan: in_order={}", self.in_order)
    }
}

impl ExecutionPlan for StubScan {
    fn name(&self) -> &str {
        "StubScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::new(self.table.statistics.clone().project(Some(&self.projection))))
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let projection = self.projection.clone();
        let projected = move |batch: Result<RecordBatch>| -> Result<RecordBatch> { Ok(batch?.project(&projection)?) };
        let batches = (self.table.read)(partition, self.in_order).map(projected);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

/// Whether both scan the same columns of one table alike: a [`crate::SameLeaf`].
pub(crate) fn same(a: &dyn ExecutionPlan, b: &dyn ExecutionPlan) -> bool {
    let (Some(a), Some(b)) = (a.downcast_ref::<StubScan>(), b.downcast_ref::<StubScan>()) else { return false };
    Arc::ptr_eq(&a.table.read, &b.table.read) && a.projection == b.projection && a.in_order == b.in_order
}

/// The scan in the order of an output column, if that is the table's first: a [`crate::LeafInOrder`].
pub(crate) fn in_order(plan: &dyn ExecutionPlan, column: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(scan) = plan.downcast_ref::<StubScan>() else { return Ok(None) };
    let is_first = scan.projection.get(column) == Some(&0);
    Ok(is_first.then(|| Arc::new(StubScan::new(scan.table.clone(), scan.projection.clone(), true)) as Arc<dyn ExecutionPlan>))
}
