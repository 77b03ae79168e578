//! Queries with sub-queries: what the rules make of TPC-H's, and that answers stay the same on any data.
#![allow(clippy::unwrap_used)]

mod answers;
mod tpch;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::TableSource;
use datafusion::optimizer::Optimizer;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::{OptimizerOptions, TableStatistics, optimizer_rules};

/// What tables are said to hold, by the name of their first column.
#[derive(Debug, Default)]
struct Claims(HashMap<String, Arc<Statistics>>);

impl TableStatistics for Claims {
    fn of(&self, table: &dyn TableSource) -> Option<Arc<Statistics>> {
        self.0.get(table.schema().field(0).name()).cloned()
    }
}

/// A session with our rules, and these of ours on.
fn session(claims: Claims, options: OptimizerOptions) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(2).with_option_extension(options);
    config.options_mut().optimizer.max_passes = 1;
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_optimizer_rules(optimizer_rules(Optimizer::new().rules, Arc::new(claims)))
        .build();
    SessionContext::new_with_state(state)
}

fn register(context: &SessionContext, name: &str, schema: SchemaRef, batch: Option<RecordBatch>) {
    let table = MemTable::try_new(schema, vec![batch.into_iter().collect()]).unwrap();
    context.register_table(name, Arc::new(table)).unwrap();
}
