//! What a statement that changes rows has done: what its RETURNING, or a WITH around it, shows.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::new_null_array;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::MemTable;
use datafusion::sql::sqlparser::ast::{Ident, SelectItem};
use futures::StreamExt;
use quire_types::TableDef;

use crate::dml::{select_of, skeleton, staged_rows};
use crate::errors::datafusion_error;
use crate::joined::Joined;
use crate::names::marked;
use crate::{OutputColumn, Response, Session, SqlError, query};

/// A statement's RETURNING.
pub(crate) struct Returning {
    pub(crate) table: Arc<TableDef>,
    /// What the statement calls the table.
    pub(crate) alias: Ident,
    pub(crate) items: Vec<SelectItem>,
    /// FROM's or USING's relations, which it may name too.
    pub(crate) joined: Vec<Joined>,
}

impl Returning {
    /// Rows as RETURNING sees them: the table's columns, and behind them those of joined relations, with which what was found ends.
    pub(crate) fn shown(&self, rows: &RecordBatch, found: &RecordBatch) -> Result<RecordBatch, SqlError> {
        let width: usize = self.joined.iter().map(Joined::width).sum();
        if width == 0 {
            return Ok(rows.clone());
        }
        let first = found.num_columns() - width;
        let (own, others) = (rows.schema(), found.schema());
        let fields: Vec<_> = own.fields().iter().chain(&others.fields()[first..]).cloned().collect();
        let columns = rows.columns().iter().chain(&found.columns()[first..]).cloned().collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| SqlError::internal(e.to_string()))
    }
}

/// A change that has been made.
pub(crate) struct Written {
    /// Of the command tag: INSERT, UPDATE, DELETE, MERGE.
    pub(crate) what: &'static str,
    /// Rows.
    pub(crate) count: u64,
    /// RETURNING, with the rows that were written (or deleted).
    pub(crate) returning: Option<(Returning, Vec<RecordBatch>)>,
}

impl Written {
    /// A change without RETURNING.
    pub(crate) fn rows(what: &'static str, count: u64) -> Written {
        Written { what, count, returning: None }
    }
}

impl Session {
    /// What the client is told of a change.
    pub(crate) async fn written(&mut self, written: Written) -> Result<Response, SqlError> {
        let Written { what, count, returning } = written;
        let Some((returning, rows)) = returning else {
            // The number between stood for an oid once.
            let tag = if what == "INSERT" { format!("INSERT 0 {count}") } else { format!("{what} {count}") };
            return Ok(Response::Complete(tag));
        };
        let planned = self.plan_returning(returning, rows).await?;
        let (_, stream) = query::start(&self.context, &planned).await?;
        Ok(Response::Rows(self.rows(planned.columns, stream, what, true)))
    }

    /// The columns of a RETURNING, before it has rows.
    pub(crate) async fn returning_columns(&self, returning: Returning) -> Result<Arc<Vec<OutputColumn>>, SqlError> {
        Ok(self.plan_returning(returning, vec![]).await?.columns)
    }

    /// What a RETURNING gives, as a table.
    pub(crate) async fn returned(&self, returning: Returning, rows: Vec<RecordBatch>) -> Result<MemTable, SqlError> {
        let planned = self.plan_returning(returning, rows).await?;
        let (_, mut stream) = query::start(&self.context, &planned).await?;
        let given = stream.schema();
        let mut seen = HashSet::new();
        let fields = given.fields().iter().zip(planned.columns.iter()).enumerate().map(|(i, (field, column))| {
            match seen.insert(column.name.as_str()) {
                true => renamed(field, &column.name),
                // Two of one name differ by what nobody sees.
                false => renamed(field, &marked(&column.name, i).value),
            }
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let mut batches = vec![];
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(datafusion_error)?;
            let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| match column.data_type() {
                DataType::Null => new_null_array(field.data_type(), column.len()),
                _ => column.clone(),
            });
            batches.push(RecordBatch::try_new(schema.clone(), columns.collect()).map_err(|e| SqlError::internal(e.to_string()))?);
        }
        MemTable::try_new(schema, vec![batches]).map_err(datafusion_error)
    }

    async fn plan_returning(&self, returning: Returning, rows: Vec<RecordBatch>) -> Result<query::Query, SqlError> {
        let Returning { table, alias, items, joined } = returning;
        let schema = table.arrow_schema_nullable();
        let mut statement = skeleton("1")?;
        let select = select_of(&mut statement)?;
        select.projection = items;
        select.from = vec![staged_rows(alias)?];
        if !joined.is_empty() {
            return Box::pin(self.plan_joined(statement, schema, &joined, &rows)).await;
        }
        let rows = rows.into_iter().map(|batch| RecordBatch::try_new(schema.clone(), batch.columns().to_vec()));
        let rows = rows.collect::<Result<Vec<_>, _>>().map_err(|e| SqlError::internal(e.to_string()))?;
        let provider = MemTable::try_new(schema, vec![rows]).map_err(datafusion_error)?;
        self.cell.set_returning(Some(Arc::new(provider)));
        let planned = query::plan(&self.context, statement).await;
        self.cell.set_returning(None);
        planned
    }
}

/// A column under the name that others know it by; a bare NULL is text.
fn renamed(field: &Field, name: &str) -> Field {
    let ty = if *field.data_type() == DataType::Null { DataType::Utf8View } else { field.data_type().clone() };
    Field::new(name, ty, true).with_metadata(field.metadata().clone())
}
