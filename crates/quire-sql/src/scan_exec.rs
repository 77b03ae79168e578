//! The scan as a DataFusion leaf: statistics, filter push-down, partitions.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ColumnStatistics, DataFusionError, Result, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter_pushdown::{ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time};
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream};
use futures::{Stream, TryStreamExt, stream};
use parking_lot::Mutex;
use quire_optimizer::is_shared;
use quire_scan::{ColumnSource, KeyRanges, OwnRows, Predicate, Scan, ScanCounters, ScanError, ScanSpec, indexes_for};
use quire_types::TableView;

use crate::join_keys::JoinKey;

/// What plans call it.
pub(crate) const SCAN_NAME: &str = "QuireScan";

/// A table's rows at one LSN, filtered and projected.
pub(crate) struct ScanExec {
    spec: ScanSpec,
    source: Arc<dyn ColumnSource>,
    /// Pushed-down conjuncts, over the table's schema.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    /// What joins know of their filters before rows are read.
    keys: Vec<JoinKey>,
    expected: Expected,
    statistics: Arc<Statistics>,
    properties: Arc<PlanProperties>,
    counters: Arc<ScanCounters>,
    /// The time that all partitions have spent in it, without that in which they waited for pages.
    elapsed: Time,
    /// The scan that this execution's partitions share; made by the first.
    running: Mutex<Option<Arc<Scan>>>,
    /// Those that have been executed.
    executed: Mutex<HashSet<usize>>,
}

impl ScanExec {
    pub(crate) fn try_new(
        spec: ScanSpec,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        source: Arc<dyn ColumnSource>,
        partitions: usize,
        expected: Expected,
    ) -> Result<ScanExec> {
        let schema = spec.output_schema()?;
        let mut equivalences = EquivalenceProperties::new(schema.clone());
        if let Some(column) = spec.ordered_by() {
            let ascending = SortOptions { descending: false, nulls_first: false };
            let key = Arc::new(Column::new(schema.field(column).name(), column));
            equivalences.add_ordering([PhysicalSortExpr::new(key, ascending)]);
        }
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(ScanExec {
            statistics: Arc::new(expected.of_output(&spec, !filters.is_empty())),
            expected,
            spec,
            source,
            filters,
            keys: vec![],
            properties: Arc::new(properties),
            counters: Arc::default(),
            elapsed: Time::new(),
            running: Mutex::default(),
            executed: Mutex::default(),
        })
    }

    /// The same scan with more filters.
    fn with_filters(&self, more: Vec<Arc<dyn PhysicalExpr>>) -> Result<ScanExec> {
        self.with(self.spec.clone(), self.filters.iter().cloned().chain(more).collect())
    }

    /// The same scan ascending by an output column in each partition, all rows with one value of it in one of them. `None` where that
    /// cannot be had, or where partitions would have too little to share.
    fn in_order(&self, column: usize) -> Result<Option<ScanExec>> {
        let key = KeyRanges::column_of(&self.spec.table);
        if key.is_none() || self.spec.projection.get(column).copied() != key {
            return Ok(None);
        }
        let ranges = KeyRanges::of(&self.spec, self.source.as_ref()).map_err(external)?;
        let Some(ranges) = ranges.filter(KeyRanges::are_many) else { return Ok(None) };
        let spec = ScanSpec { ordered: Some(Arc::new(ranges)), ..self.spec.clone() };
        self.with(spec, self.filters.clone()).map(Some)
    }

    fn with(&self, spec: ScanSpec, filters: Vec<Arc<dyn PhysicalExpr>>) -> Result<ScanExec> {
        let partitions = self.properties.partitioning.partition_count();
        ScanExec::try_new(spec, filters, self.source.clone(), partitions, self.expected.clone())
    }

    /// Whether it has the dynamic filter with such an id.
    pub(crate) fn has_filter(&self, filter: u64) -> bool {
        self.filter(filter).is_some()
    }

    fn filter(&self, id: u64) -> Option<&Arc<dyn PhysicalExpr>> {
        self.filters.iter().find(|filter| filter.expression_id() == Some(id))
    }

    /// The column, as a position in the table, that is one of the columns a join's filter is of.
    fn key_column(&self, filter: u64, number: usize) -> Option<usize> {
        let name = self.filter(filter)?.children().get(number)?.downcast_ref::<Column>()?.name();
        self.spec.schema.index_of(name).ok()
    }

    /// Between which whole numbers that column is, if it has the type.
    pub(crate) fn key_bounds(&self, filter: u64, number: usize, data_type: &DataType) -> Option<(i64, i64)> {
        let column = self.key_column(filter, number)?;
        let is_whole = matches!(data_type, DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date32);
        if !is_whole || self.spec.schema.field(column).data_type() != data_type {
            return None;
        }
        self.spec.bounds(column).map(|(min, max, _)| (min, max))
    }

    /// The same scan, which gives no rows that are none of these keys once it knows them. Its filters say so anyway.
    pub(crate) fn with_keys(&self, keys: &[JoinKey]) -> ScanExec {
        ScanExec {
            spec: self.spec.clone(),
            source: self.source.clone(),
            filters: self.filters.clone(),
            keys: self.keys.iter().chain(keys).cloned().collect(),
            expected: self.expected.clone(),
            statistics: self.statistics.clone(),
            properties: self.properties.clone(),
            counters: Arc::default(),
            elapsed: Time::new(),
            running: Mutex::default(),
            executed: Mutex::default(),
        }
    }

    /// A predicate for each filter, and for each column of a filter of several.
    fn predicates(&self) -> Result<Vec<Predicate>> {
        let whole =
            |filter: &Arc<dyn PhysicalExpr>| self.keys.iter().find(|key| key.columns == 1 && filter.expression_id() == Some(key.filter));
        let of_filters = self.filters.iter().map(|filter| {
            let predicate = Predicate::new(filter.clone(), &self.spec.schema)?;
            Ok(match whole(filter) {
                Some(key) => predicate.with_keys(key.keys.clone()),
                None => predicate,
            })
        });
        let of_columns = self.keys.iter().filter(|key| key.columns > 1).filter_map(|key| {
            let column = self.key_column(key.filter, key.number)?;
            Some(Predicate::of_keys(column, key.keys.clone(), &self.spec.schema))
        });
        of_filters.chain(of_columns).collect()
    }

    /// Whether a filter compares with what a sub-query will give, and says nothing before.
    fn awaits_value(&self) -> bool {
        let is_value = |expr: &Arc<dyn PhysicalExpr>| Ok(expr.is::<ScalarSubqueryExpr>());
        self.filters.iter().any(|filter| filter.exists(is_value).unwrap_or(true))
    }

    fn scan(&self) -> Result<Arc<Scan>> {
        let mut running = self.running.lock();
        if let Some(scan) = &*running {
            return Ok(scan.clone());
        }
        let mut spec = self.spec.clone();
        spec.predicates = self.predicates()?;
        let scan = Scan::new(spec, self.filters.clone(), self.source.clone(), self.counters.clone()).map_err(external)?;
        *running = Some(scan.clone());
        Ok(scan)
    }
}

/// Has scans request what they will read first that would not yet be executed: a query waits for its scalar sub-queries, and storage may be
/// far away.
pub(crate) fn begin_scans(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    match plan.downcast_ref::<ScalarSubqueryExec>() {
        Some(waiting) => {
            waiting.subqueries().iter().try_for_each(|subquery| begin_all(&subquery.plan))?;
            begin_all(waiting.input())
        }
        None => plan.children().into_iter().try_for_each(begin_scans),
    }
}

fn begin_all(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    match plan.downcast_ref::<ScanExec>() {
        Some(scan) if !scan.awaits_value() => scan.scan()?.begin().map_err(external),
        // Its iterations run copies of the plan; of what is shared, one place's copy runs.
        _ if plan.is::<RecursiveQueryExec>() || is_shared(plan.as_ref()) => Ok(()),
        _ => plan.children().into_iter().try_for_each(begin_all),
    }
}

/// A scan in the order of an output column, for the rule that groups in order.
pub(crate) fn scan_in_order(plan: &dyn ExecutionPlan, column: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(scan) = plan.downcast_ref::<ScanExec>() else { return Ok(None) };
    Ok(scan.in_order(column)?.map(|scan| Arc::new(scan) as Arc<dyn ExecutionPlan>))
}

/// Whether both are scans that give the same rows in the same partitions.
pub(crate) fn same_scan(a: &dyn ExecutionPlan, b: &dyn ExecutionPlan) -> bool {
    let (Some(a), Some(b)) = (a.downcast_ref::<ScanExec>(), b.downcast_ref::<ScanExec>()) else { return false };
    let (of_a, of_b) = (&a.spec, &b.spec);
    let empty = |view: &TableView| view.segments.is_empty() && view.delta.is_empty();
    // The delta's rows come from the view.
    let same_view = Arc::ptr_eq(&of_a.view, &of_b.view) || (empty(&of_a.view) && empty(&of_b.view));
    same_view
        && Arc::ptr_eq(&a.source, &b.source)
        && of_a.table == of_b.table
        && of_a.schema == of_b.schema
        && same_own(&of_a.own, &of_b.own)
        && of_a.projection == of_b.projection
        && of_a.limit == of_b.limit
        && of_a.ordered.is_some() == of_b.ordered.is_some()
        && of_a.batch_rows == of_b.batch_rows
        && a.filters == b.filters
        && a.properties.partitioning.partition_count() == b.properties.partitioning.partition_count()
}

/// Whether both are the same rows of the transaction, by address: they were written once.
fn same_own(a: &OwnRows, b: &OwnRows) -> bool {
    let same_batch = |a: &RecordBatch, b: &RecordBatch| {
        let same_shape = a.num_columns() == b.num_columns() && a.num_rows() == b.num_rows();
        same_shape && a.columns().iter().zip(b.columns()).all(|(a, b)| Arc::ptr_eq(a, b))
    };
    a.truncated == b.truncated
        && a.batches.len() == b.batches.len()
        && a.batches.iter().zip(&b.batches).all(|(a, b)| same_batch(a, b))
        && a.segments.len() == b.segments.len()
        && a.segments.iter().zip(&b.segments).all(|(a, b)| Arc::ptr_eq(a, b))
        && a.deleted == b.deleted
}

fn external(error: ScanError) -> DataFusionError {
    match error {
        ScanError::Expression(error) => error,
        ScanError::Arrow(error) => DataFusionError::ArrowError(Box::new(error), None),
        other => DataFusionError::External(Box::new(other)),
    }
}

/// What the planner knows before the scan runs.
#[derive(Clone)]
pub(crate) struct Expected {
    /// Of the table, a column for each field of the scan's schema.
    pub(crate) table: Arc<Statistics>,
    /// The share of rows, 0 to 1, that the filters are thought to keep.
    pub(crate) selectivity: f64,
}

impl Expected {
    /// The row count is exact when nothing is left out; all else are estimates.
    fn of_output(&self, spec: &ScanSpec, filtered: bool) -> Statistics {
        let whole = self.table.num_rows.get_value().copied().unwrap_or(0);
        let kept = if filtered { (whole as f64 * self.selectivity).ceil() as usize } else { whole };
        let rows = spec.limit.map_or(kept, |limit| kept.min(limit));
        let partial = filtered || spec.limit.is_some();
        let num_rows = if partial { Precision::Inexact(rows) } else { self.table.num_rows };
        let column = |index: &usize| {
            let column = self.table.column_statistics.get(*index).cloned().unwrap_or_else(ColumnStatistics::new_unknown);
            let mut column = if partial { column.to_inexact() } else { column };
            column.distinct_count = column.distinct_count.map(|distinct| distinct.min(rows));
            column.null_count = column.null_count.map(|nulls| nulls.min(rows));
            column
        };
        Statistics { num_rows, total_byte_size: Precision::Absent, column_statistics: spec.projection.iter().map(column).collect() }
    }
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
        if let Some(column) = self.spec.ordered_by() {
            write!(f, ", ordered_by=[{}]", columns[column])?;
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

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        // What has been given is not given again. A nested loop join asks for its left side once more when that does not fit in memory, and
        // what is between need not bear it any better.
        if !self.executed.lock().insert(partition) {
            let table = &self.spec.table.name;
            return Err(DataFusionError::ResourcesExhausted(format!("a join keeps rows of \"{table}\" in memory that do not fit")));
        }
        let scan = self.scan()?;
        let mut rows = Box::pin(scan.partition().map_err(external));
        scan.begin().map_err(external)?;
        let elapsed = self.elapsed.clone();
        let timed = stream::poll_fn(move |context| {
            let _timer = elapsed.timer();
            rows.as_mut().poll_next(context)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), timed)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let set = ExecutionPlanMetricsSet::new();
        for (name, value) in self.counters.all() {
            let count: Count = MetricBuilder::new(&set).global_counter(name);
            count.add(value as usize);
        }
        MetricBuilder::new(&set).elapsed_compute(0).add(&self.elapsed);
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
        // The limit is one for all partitions and takes what comes first, which in order need not be the first rows.
        if self.spec.ordered.is_some() {
            return None;
        }
        let spec = ScanSpec { limit, ..self.spec.clone() };
        self.with(spec, self.filters.clone()).ok().map(|exec| Arc::new(exec) as _)
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
