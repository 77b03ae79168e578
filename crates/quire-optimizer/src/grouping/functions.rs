//! The aggregate functions of a grouping.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_plan::aggregates::AggregateExec;

/// Aggregates of all groups. Functions that count the same share one: averages of columns without NULLs all count rows.
pub(super) struct Functions {
    accumulated: Vec<Accumulated>,
    /// For each function.
    places: Vec<usize>,
}

struct Accumulated {
    accumulator: Box<dyn GroupsAccumulator>,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
}

impl Functions {
    pub(super) fn of(aggregate: &AggregateExec) -> Result<Functions> {
        let schema = aggregate.input().schema();
        let (mut accumulated, mut places, mut counted) = (vec![], vec![], None);
        for (function, filter) in aggregate.aggr_expr().iter().zip(aggregate.filter_expr()) {
            let arguments = function.expressions();
            // An expression may fail, which is to be known.
            let is_plain = |argument: &Arc<dyn PhysicalExpr>| argument.is::<Column>() || argument.is::<Literal>();
            let never_null = |argument: &Arc<dyn PhysicalExpr>| is_plain(argument) && matches!(argument.nullable(&schema), Ok(false));
            let counts_rows = function.fun().name() == "count" && filter.is_none() && arguments.iter().all(never_null);
            if let Some(place) = counted.filter(|_| counts_rows) {
                places.push(place);
                continue;
            }
            places.push(accumulated.len());
            if counts_rows {
                counted = Some(accumulated.len());
            }
            accumulated.push(Accumulated { accumulator: function.create_groups_accumulator()?, arguments, filter: filter.clone() });
        }
        Ok(Functions { accumulated, places })
    }

    /// Adds a batch's rows to the groups with these numbers.
    pub(super) fn update(&mut self, batch: &RecordBatch, numbers: &[usize], groups: usize) -> Result<()> {
        let rows = batch.num_rows();
        for one in &mut self.accumulated {
            let arguments = one.arguments.iter().map(|argument| argument.evaluate(batch)?.into_array(rows)).collect::<Result<Vec<_>>>()?;
            let filter = one.filter.as_ref().map(|filter| filter.evaluate(batch)?.into_array(rows)).transpose()?;
            one.accumulator.update_batch(&arguments, numbers, filter.as_ref().map(|filter| filter.as_boolean()), groups)?;
        }
        Ok(())
    }

    /// What another step goes on with.
    pub(super) fn states(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let states = self.accumulated.iter_mut().map(|one| one.accumulator.state(emit)).collect::<Result<Vec<_>>>()?;
        Ok(self.places.iter().flat_map(|place| states[*place].iter().cloned()).collect())
    }

    pub(super) fn values(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let values = self.accumulated.iter_mut().map(|one| one.accumulator.evaluate(emit)).collect::<Result<Vec<_>>>()?;
        Ok(self.places.iter().map(|place| values[*place].clone()).collect())
    }
}

/// Whether a function keeps a number or two of each group, whatever the rows: no memory is asked for it.
pub(super) fn is_small(function: &AggregateFunctionExpr) -> bool {
    let is_small = match function.fun().name() {
        "count" | "sum" | "avg" | "bool_and" | "bool_or" | "bit_and" | "bit_or" | "bit_xor" => true,
        "min" | "max" => function.field().data_type().is_primitive(),
        _ => false,
    };
    is_small && !function.is_distinct() && function.order_bys().is_empty() && function.groups_accumulator_supported()
}
