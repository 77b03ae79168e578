//! The scan as a DataFusion leaf: statistics, filter push-down, partitions.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, DataFusionError, Result, ScalarValue, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter_pushdown::{ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream};
use futures::TryStreamExt;
use parking_lot::Mutex;
use quire_scan::{ColumnSource, Predicate, Scan, ScanCounters, ScanError, ScanSpec, datum_scalar, indexes_for};

/// What plans call it.
pub(crate) const SCAN_NAME: &str = "QuireScan";

/// A table's rows at one LSN, filtered and projected.
pub(crate) struct ScanExec {
    spec: ScanSpec,
    source: Arc<dyn ColumnSource>,
    /// Pushed-down conjuncts, over the table's schema.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    statistics: Arc<Statistics>,
    properties: Arc<PlanProperties>,
    counters: Arc<ScanCounters>,
    /// The scan that this execution's partitions share; made by the first.
    running: Mutex<Option<Arc<Scan>>>,
}

impl ScanExec {
    pub(crate) fn try_new(
        spec: ScanSpec,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        source: Arc<dyn ColumnSource>,
        partitions: usize,
    ) -> Result<ScanExec> {
        let schema = spec.output_schema()?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(ScanExec {
            statistics: Arc::new(statistics(&spec, !filters.is_empty())),
            spec,
            source,
            filters,
            properties: Arc::new(properties),
            counters: Arc::default(),
            running: Mutex::default(),
        })
    }

    /// The same scan with more filters.
    fn with_filters(&self, more: Vec<Arc<dyn PhysicalExpr>>) -> Result<ScanExec> {
        let filters = self.filters.iter().cloned().chain(more).collect();
        ScanExec::try_new(self.spec.clone(), filters, self.source.clone(), self.properties.partitioning.partition_count())
    }

    fn scan(&self) -> Result<Arc<Scan>> {
        let mut running = self.running.lock();
        if let Some(scan) = &*running {
            return Ok(scan.clone());
        }
        let mut spec = self.spec.clone();
        spec.predicates = self.filters.iter().map(|f| Predicate::new(f.clone(), &spec.schema)).collect::<Result<_>>()?;
        let scan = Scan::new(spec, self.filters.clone(), self.source.clone(), self.counters.clone()).map_err(external)?;
        *running = Some(scan.clone());
        Ok(scan)
    }
}

fn external(error: ScanError) -> DataFusionError {
    match error {
        ScanError::Expression(error) => error,
        ScanError::Arrow(error) => DataFusionError::ArrowError(Box::new(error), None),
        other => DataFusionError::External(Box::new(other)),
    }
}

/// What the manifest knows: exact row counts when nothing filters, bounds and distinct counts as estimates.
fn statistics(spec: &ScanSpec, filtered: bool) -> Statistics {
    let committed = if spec.own.truncated { 0 } else { spec.view.row_count() };
    let own = spec.own.batches.iter().map(|b| b.num_rows() as u64).sum::<u64>() + spec.own.segments.iter().map(|s| s.rows).sum::<u64>();
    let rows = (committed + own).saturating_sub(spec.own.deleted.len()) as usize;
    // What the transaction deleted, another may have deleted too: then it is counted twice.
    let exact = !filtered && spec.limit.is_none() && spec.own.deleted.is_empty();
    let num_rows = if exact { Precision::Exact(rows) } else { Precision::Inexact(rows) };
    let complete = spec.view.delta.is_empty() && spec.own.batches.is_empty() && spec.own.segments.is_empty() && !spec.own.truncated;
    let column_statistics = spec.projection.iter().map(|&index| column_statistics(spec, index, complete, rows)).collect();
    Statistics { num_rows, total_byte_size: Precision::Absent, column_statistics }
}

fn column_statistics(spec: &ScanSpec, index: usize, complete: bool, rows: usize) -> ColumnStatistics {
    let mut statistics = ColumnStatistics::new_unknown();
    // The row id has none.
    let Some(column) = spec.table.columns.get(index) else { return statistics };
    let data_type = spec.schema.field(index).data_type();
    let sketches = spec.view.segments.iter().filter_map(|s| s.column_ordinal(column.id).map(|o| s.columns[o].sketch.as_ref()));
    if let Some(distinct) = quire_segment::distinct_estimate(sketches) {
        statistics.distinct_count = Precision::Inexact((distinct as usize).min(rows));
    }
    if !complete {
        return statistics;
    }
    let pages = || spec.view.segments.iter().flat_map(|s| s.row_groups.iter().filter_map(|g| g.pages.get(s.column_ordinal(column.id)?)));
    let nulls: usize = pages().map(|p| p.nulls as usize).sum();
    statistics.null_count = Precision::Inexact(nulls);
    let bound = |pick: fn(&quire_types::PageMeta) -> Option<&quire_types::Datum>, keep: std::cmp::Ordering| {
        let mut best: Option<ScalarValue> = None;
        for page in pages() {
            let value = datum_scalar(Some(pick(page)?), data_type)?;
            best = match best {
                Some(current) if current.partial_cmp(&value)? != keep.reverse() => Some(current),
                _ => Some(value),
            };
        }
        best
    };
    if let Some(min) = bound(|p| p.min.as_ref(), std::cmp::Ordering::Less) {
        statistics.min_value = Precision::Inexact(min);
    }
    if let Some(max) = bound(|p| p.max.as_ref(), std::cmp::Ordering::Greater) {
        statistics.max_value = Precision::Inexact(max);
    }
    statistics
}

impl fmt::Debug for ScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanExec").field("table", &self.spec.table.name).finish_non_exhaustive()
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self.spec.projection.iter().map(|&i| self.spec.schema.field(i).name().as_str()).collect();
        write!(f, "QuireScan: table={}, columns=[{}]", self.spec.table.name, columns.join(", "))?;
        if !self.filters.is_empty() {
            let filters: Vec<String> = self.filters.iter().map(ToString::to_string).collect();
            write!(f, ", filters=[{}]", filters.join(", "))?;
        }
        let indexes = indexes_for(&self.filters, &self.spec.table);
        if !indexes.is_empty() {
            write!(f, ", index=[{}]", indexes.join(", "))?;
        }
        if let Some(limit) = self.spec.limit {
            write!(f, ", limit={limit}")?;
        }
        write!(f, ", segments={}, delta_batches={}", self.spec.view.segments.len(), self.spec.view.delta.len())
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &str {
        SCAN_NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn schema(&self) -> SchemaRef {
        self.properties.eq_properties.schema().clone()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.with_filters(vec![])?))
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        for filter in &self.filters {
            if f(filter)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let stream = self.scan()?.partition().map_err(external);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let set = ExecutionPlanMetricsSet::new();
        for (name, value) in self.counters.all() {
            let count: Count = MetricBuilder::new(&set).global_counter(name);
            count.add(value as usize);
        }
        Some(set.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        // Partitions take work from one queue: what one of them will give is not known beforehand.
        Ok(match args.partition() {
            None => self.statistics.clone(),
            Some(_) => Arc::new(Statistics::new_unknown(&self.schema())),
        })
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let mut spec = self.spec.clone();
        spec.limit = limit;
        let partitions = self.properties.partitioning.partition_count();
        ScanExec::try_new(spec, self.filters.clone(), self.source.clone(), partitions).ok().map(|exec| Arc::new(exec) as _)
    }

    fn fetch(&self) -> Option<usize> {
        self.spec.limit
    }

    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        child: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        // Everything is accepted: the scan evaluates each filter on every row it gives.
        let filters: Vec<Arc<dyn PhysicalExpr>> =
            child.parent_filters.iter().flat_map(|f| split_conjunction(&f.filter).into_iter().cloned()).collect();
        let verdict = FilterPushdownPropagation::with_parent_pushdown_result(vec![PushedDown::Yes; child.parent_filters.len()]);
        if filters.is_empty() {
            return Ok(verdict);
        }
        Ok(verdict.with_updated_node(Arc::new(self.with_filters(filters)?)))
    }
}
