//! Rows of a catalog, made from definitions.

use std::collections::HashMap;

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{Result, ScalarValue};

use super::relations::{Column, Relation};

/// A row: the columns that matter. Of the others, those that may be NULL are, and the rest have their type's zero.
pub(crate) type Row = HashMap<&'static str, ScalarValue>;

pub(crate) fn text(value: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8(Some(value.into()))
}

pub(crate) fn oid(value: impl Into<i64>) -> ScalarValue {
    ScalarValue::Int64(Some(value.into()))
}

pub(crate) fn int(value: impl Into<i64>) -> ScalarValue {
    ScalarValue::Int64(Some(value.into()))
}

pub(crate) fn count(value: usize) -> ScalarValue {
    ScalarValue::Int64(i64::try_from(value).ok())
}

pub(crate) fn truth(value: bool) -> ScalarValue {
    ScalarValue::Boolean(Some(value))
}

/// An `int2[]` or `int2vector`.
pub(crate) fn numbers(items: impl IntoIterator<Item = i16>) -> ScalarValue {
    let items: Vec<ScalarValue> = items.into_iter().map(|n| ScalarValue::Int16(Some(n))).collect();
    ScalarValue::List(ScalarValue::new_list_nullable(&items, &DataType::Int16))
}

/// An `oidvector` or `oid[]`.
pub(crate) fn oids(items: impl IntoIterator<Item = i64>) -> ScalarValue {
    let items: Vec<ScalarValue> = items.into_iter().map(oid).collect();
    ScalarValue::List(ScalarValue::new_list_nullable(&items, &DataType::Int64))
}

/// Rows as a batch of the relation's columns.
pub(crate) fn batch(relation: &Relation, schema: &SchemaRef, rows: &[Row]) -> Result<RecordBatch> {
    let columns = relation.columns.iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| array_of(column, field.data_type(), rows)).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

fn array_of(column: &Column, data_type: &DataType, rows: &[Row]) -> Result<ArrayRef> {
    if rows.is_empty() {
        return Ok(new_null_array(data_type, 0));
    }
    let absent = if column.not_null { zero(data_type)? } else { ScalarValue::try_from(data_type)? };
    let values = rows.iter().map(|row| match row.get(column.name) {
        Some(value) => value.cast_to(data_type),
        None => Ok(absent.clone()),
    });
    ScalarValue::iter_to_array(values.collect::<Result<Vec<_>>>()?)
}

fn zero(data_type: &DataType) -> Result<ScalarValue> {
    match data_type {
        DataType::Utf8 => Ok(text("")),
        DataType::Boolean => Ok(truth(false)),
        DataType::List(item) => Ok(ScalarValue::List(ScalarValue::new_list_nullable(&[], item.data_type()))),
        other => ScalarValue::new_zero(other),
    }
}
