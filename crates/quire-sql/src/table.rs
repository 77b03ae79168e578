//! A table (or its rows as one transaction sees them) as DataFusion's planner sees it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraint, Constraints, DFSchema, Result, Statistics};
use datafusion::datasource::DefaultTableSource;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableSource, TableType};
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_plan::ExecutionPlan;
use quire_optimizer::{Estimate, OptimizerOptions, TableStatistics};
use quire_scan::{OwnRows, ScanSpec, row_id_field};
use quire_types::{ColumnId, Lsn, TableDef, TableView};

use crate::reads::ReadsOf;
use crate::scan_exec::{Expected, ScanExec};
use crate::source::PageColumns;

/// One table at one snapshot.
pub(crate) struct QuireTable {
    pub(crate) def: Arc<TableDef>,
    schema: SchemaRef,
    pub(crate) view: Arc<TableView>,
    pub(crate) lsn: Lsn,
    own: OwnRows,
    pub(crate) source: Arc<PageColumns>,
    constraints: Constraints,
    /// Where to say what is read, when that is certified.
    reads: Option<ReadsOf>,
    statistics: OnceLock<Arc<Statistics>>,
}

impl QuireTable {
    /// The same rows with their ids as one more column, for statements that delete or lock some of them.
    pub(crate) fn with_row_ids(mut self, column: &str) -> QuireTable {
        let fields = self.schema.fields().iter().map(|f| f.as_ref().clone()).chain([row_id_field().with_name(column)]);
        self.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self.statistics = OnceLock::new();
        self
    }

    /// The same rows; scans say what they read.
    pub(crate) fn certified(self, reads: Option<ReadsOf>) -> QuireTable {
        QuireTable { reads, ..self }
    }

    pub(crate) fn new(def: Arc<TableDef>, view: Arc<TableView>, lsn: Lsn, own: OwnRows, source: Arc<PageColumns>) -> QuireTable {
        let positions = |columns: &[ColumnId]| columns.iter().filter_map(|id| def.columns.iter().position(|c| c.id == *id)).collect();
        let primary = def.primary_key();
        // Rows may have the same key where it has NULLs, for which the planner's rules do not look out.
        let has_nulls = |columns: &[ColumnId]| def.columns.iter().any(|column| column.nullable && columns.contains(&column.id));
        let constraints = def.certain_keys().filter(|&(_, _, columns)| !has_nulls(columns)).map(|(_, _, columns)| {
            if primary == Some(columns) { Constraint::PrimaryKey(positions(columns)) } else { Constraint::Unique(positions(columns)) }
        });
        let constraints = Constraints::new_unverified(constraints.collect());
        QuireTable { schema: def.arrow_schema(), constraints, def, view, lsn, own, source, reads: None, statistics: OnceLock::new() }
    }
}

impl QuireTable {
    /// About how many rows it gives.
    pub(crate) fn row_count(&self) -> u64 {
        self.statistics().num_rows.get_value().copied().unwrap_or_default() as u64
    }

    /// Whether it gives the table's columns and nothing else.
    pub(crate) fn has_columns_only(&self) -> bool {
        self.schema.fields().len() == self.def.columns.len()
    }

    /// The same table with nothing of a snapshot in it.
    pub(crate) fn without_rows(&self) -> QuireTable {
        QuireTable::new(self.def.clone(), Arc::default(), Lsn::default(), OwnRows::default(), self.source.clone())
    }

    /// What is known of the rows that it gives.
    pub(crate) fn statistics(&self) -> Arc<Statistics> {
        let delta = || self.source.delta_at_hand(&self.def, &self.view);
        let make = || Arc::new(self.source.statistics.of(&self.def, &self.schema, &self.view, &self.own, delta));
        self.statistics.get_or_init(make).clone()
    }
}

impl fmt::Debug for QuireTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuireTable").field("name", &self.def.name).field("lsn", &self.lsn).finish_non_exhaustive()
    }
}

/// Tells rules what the manifests know.
#[derive(Debug)]
pub(crate) struct Manifests;

impl TableStatistics for Manifests {
    fn of(&self, table: &dyn TableSource) -> Option<Arc<Statistics>> {
        let table = table.downcast_ref::<DefaultTableSource>()?;
        table.table_provider.downcast_ref::<QuireTable>().map(QuireTable::statistics)
    }
}

/// Whether the session lets scans keep answers in tables.
pub(crate) fn tabulated(state: &dyn Session) -> bool {
    state.config_options().extensions.get::<OptimizerOptions>().is_none_or(|options| options.tabulated_conditions)
}

#[async_trait]
impl TableProvider for QuireTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|f| if f.is_volatile() { TableProviderFilterPushDown::Unsupported } else { TableProviderFilterPushDown::Exact })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let runs = match self.own.truncated {
            true => vec![],
            false => {
                let runs = self.source.delta_runs(&self.def, &self.view, self.lsn).await;
                runs.map_err(|e| datafusion::error::DataFusionError::External(Box::new(e)))?
            }
        };
        let delta: Vec<_> = runs.iter().map(|run| (run.first, run.rows.clone())).collect();
        if let Some(reads) = &self.reads {
            Box::pin(self.note_reads(reads, state, filters, &delta)).await?;
        }
        let schema = DFSchema::try_from(self.schema.clone())?;
        let mut expected = Expected { table: self.statistics(), selectivity: 1.0 };
        let filters = match conjunction(filters.to_vec()) {
            Some(filter) => {
                expected.selectivity = quire_optimizer::selectivity(&filter, &schema, &Estimate::of_table(&expected.table));
                split_conjunction(&state.create_physical_expr(filter, &schema)?).into_iter().cloned().collect()
            }
            None => vec![],
        };
        let spec = ScanSpec {
            table: self.def.clone(),
            schema: self.schema.clone(),
            view: self.view.clone(),
            delta,
            own: self.own.clone(),
            projection: projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect()),
            predicates: vec![],
            batch_rows: state.config().batch_size(),
            limit,
            tabulated: tabulated(state),
            ordered: None,
        };
        Ok(Arc::new(ScanExec::try_new(spec, filters, self.source.clone(), state.config().target_partitions(), expected)?))
    }
}
