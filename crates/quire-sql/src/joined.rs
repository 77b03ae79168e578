//! RETURNING over more than the rows that change: UPDATE … FROM and DELETE … USING may name the columns of the relations there, too.
//!
//! These come along with the rows that are found. For the planner each relation is a table of its own, so that names mean what they mean
//! in a FROM clause; what it has made a join of them is then the rows themselves, in which all columns lie side by side already.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::MemTable;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{Ident, Statement};

use crate::catalog::RETURNING_ROWS;
use crate::dml::{select_of, staged_part};
use crate::errors::datafusion_error;
use crate::query::{self, Query};
use crate::{Session, SqlError};

/// A relation that a statement joins its target with.
pub(crate) struct Joined {
    /// What the statement calls it.
    alias: Ident,
    columns: SchemaRef,
}

impl Joined {
    pub(crate) fn width(&self) -> usize {
        self.columns.fields().len()
    }
}

/// The relations whose columns a query's schema has from `first` on.
pub(crate) fn relations(schema: &DFSchema, first: usize) -> Vec<Joined> {
    let mut found: Vec<(Option<&TableReference>, Vec<Field>)> = vec![];
    for (qualifier, field) in schema.iter().skip(first) {
        let field = field.as_ref().clone().with_nullable(true);
        match found.last_mut() {
            Some((last, fields)) if *last == qualifier => fields.push(field),
            _ => found.push((qualifier, vec![field])),
        }
    }
    let mut relations = vec![];
    for (i, (qualifier, fields)) in found.into_iter().enumerate() {
        let name = qualifier.map_or_else(|| part_name(i), |qualifier| qualifier.table().to_string());
        relations.push(Joined { alias: Ident::with_quote('"', name), columns: Arc::new(Schema::new(fields)) });
    }
    relations
}

fn part_name(i: usize) -> String {
    format!("quire:joined:{i}")
}

impl Session {
    /// Plans a RETURNING whose FROM has the target's rows (`schema`) alone. The rows have the columns of the joined relations, too.
    pub(crate) async fn plan_joined(
        &self,
        mut statement: Statement,
        schema: SchemaRef,
        joined: &[Joined],
        rows: &[RecordBatch],
    ) -> Result<Query, SqlError> {
        let select = select_of(&mut statement)?;
        for (i, relation) in joined.iter().enumerate() {
            select.from.push(staged_part(&part_name(i), relation.alias.clone())?);
            self.cell.add_part(part_name(i), Arc::new(without_rows(relation.columns.clone())?));
        }
        self.cell.set_returning(Some(Arc::new(without_rows(schema)?)));
        let planned = query::plan(&self.context, statement).await;
        self.cell.set_returning(None);
        (0..joined.len()).for_each(|i| self.cell.forget_part(&part_name(i)));
        let Query { plan, columns, .. } = planned?;
        Ok(Query { plan: over_rows(plan, rows).map_err(datafusion_error)?, is_optimized: false, columns })
    }
}

fn without_rows(schema: SchemaRef) -> Result<MemTable, SqlError> {
    MemTable::try_new(schema, vec![vec![]]).map_err(datafusion_error)
}

/// The plan with these rows in the place of its join, which is that of its FROM: RETURNING has no other.
fn over_rows(plan: LogicalPlan, rows: &[RecordBatch]) -> Result<LogicalPlan> {
    let replaced = plan.transform_down(|node| {
        let LogicalPlan::Join(join) = &node else { return Ok(Transformed::no(node)) };
        let plan = side_by_side(&join.schema, rows)?;
        Ok(Transformed::new(plan, true, TreeNodeRecursion::Stop))
    })?;
    Ok(replaced.data)
}

/// Rows as a relation with this schema, in which columns may be of several tables.
fn side_by_side(schema: &DFSchema, rows: &[RecordBatch]) -> Result<LogicalPlan> {
    let name = |i: usize| format!("quire:{i}");
    let fields = schema.fields().iter().enumerate().map(|(i, field)| field.as_ref().clone().with_name(name(i)));
    let arrow = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
    let batches = rows.iter().map(|batch| RecordBatch::try_new(arrow.clone(), batch.columns().to_vec()));
    let batches = batches.collect::<Result<Vec<_>, ArrowError>>()?;
    let table = MemTable::try_new(arrow, vec![batches])?;
    let columns = schema.iter().enumerate().map(|(i, (qualifier, field))| {
        let column = Expr::Column(Column::new(Some(RETURNING_ROWS), name(i)));
        column.alias_qualified(qualifier.cloned(), field.name())
    });
    LogicalPlanBuilder::scan(RETURNING_ROWS, provider_as_source(Arc::new(table)), None)?.project(columns)?.build()
}
