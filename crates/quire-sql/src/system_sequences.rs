//! Sequences in the system catalogs, and as relations.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::{Result, ScalarValue};
use quire_types::{Catalog, SequenceDef};

use crate::catalog::{DATABASE, ScopeCell};
use crate::engine::SUPERUSER;
use crate::values;

type Row = HashMap<&'static str, ScalarValue>;

/// `pg_sequence`, as Postgres has it.
pub(crate) const PG_SEQUENCE: &[(&str, DataType)] = &[
    ("seqrelid", DataType::Int32),
    ("seqtypid", DataType::Int32),
    ("seqstart", DataType::Int64),
    ("seqincrement", DataType::Int64),
    ("seqmax", DataType::Int64),
    ("seqmin", DataType::Int64),
    ("seqcache", DataType::Int64),
    ("seqcycle", DataType::Boolean),
];

/// `pg_sequences`.
pub(crate) const PG_SEQUENCES: &[(&str, DataType)] = &[
    ("schemaname", DataType::Utf8),
    ("sequencename", DataType::Utf8),
    ("sequenceowner", DataType::Utf8),
    ("data_type", DataType::Utf8),
    ("start_value", DataType::Int64),
    ("min_value", DataType::Int64),
    ("max_value", DataType::Int64),
    ("increment_by", DataType::Int64),
    ("cycle", DataType::Boolean),
    ("cache_size", DataType::Int64),
    ("last_value", DataType::Int64),
];

/// `information_schema.sequences`.
pub(crate) const INFORMATION_SEQUENCES: &[(&str, DataType)] = &[
    ("sequence_catalog", DataType::Utf8),
    ("sequence_schema", DataType::Utf8),
    ("sequence_name", DataType::Utf8),
    ("data_type", DataType::Utf8),
    ("numeric_precision", DataType::Int32),
    ("numeric_precision_radix", DataType::Int32),
    ("numeric_scale", DataType::Int32),
    ("start_value", DataType::Utf8),
    ("minimum_value", DataType::Utf8),
    ("maximum_value", DataType::Utf8),
    ("increment", DataType::Utf8),
    ("cycle_option", DataType::Utf8),
];

fn text(value: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8(Some(value.into()))
}

fn int(value: i32) -> ScalarValue {
    ScalarValue::Int32(Some(value))
}

fn long(value: i64) -> ScalarValue {
    ScalarValue::Int64(Some(value))
}

fn truth(value: bool) -> ScalarValue {
    ScalarValue::Boolean(Some(value))
}

fn schema_of(catalog: &Catalog, sequence: &SequenceDef) -> String {
    catalog.schemas.get(&sequence.schema).map(|s| s.name.clone()).unwrap_or_default()
}

/// `SELECT * FROM s`.
pub(crate) fn as_relation(cell: &ScopeCell, sequence: &SequenceDef) -> Result<Arc<dyn TableProvider>> {
    let position = cell.sequence_position(sequence);
    let schema = Arc::new(Schema::new(vec![
        Field::new("last_value", DataType::Int64, false),
        Field::new("log_cnt", DataType::Int64, false),
        Field::new("is_called", DataType::Boolean, false),
    ]));
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(Int64Array::from(vec![position.last])),
            // Values that Postgres has logged ahead; what a node has taken is not for others to see.
            Arc::new(Int64Array::from(vec![0])),
            Arc::new(BooleanArray::from(vec![position.called])),
        ],
    )?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

pub(crate) fn pg_sequence(catalog: &Catalog) -> Vec<Row> {
    let row = |s: &Arc<SequenceDef>| {
        Row::from([
            ("seqrelid", int(s.id.0 as i32)),
            ("seqtypid", int(values::oid_of(s.ty) as i32)),
            ("seqstart", long(s.start)),
            ("seqincrement", long(s.increment)),
            ("seqmax", long(s.max)),
            ("seqmin", long(s.min)),
            ("seqcache", long(s.cache)),
            ("seqcycle", truth(s.cycle)),
        ])
    };
    catalog.sequences.values().map(row).collect()
}

pub(crate) fn pg_sequences(cell: &ScopeCell, catalog: &Catalog) -> Vec<Row> {
    let row = |s: &Arc<SequenceDef>| {
        let position = cell.sequence_position(s);
        Row::from([
            ("schemaname", text(schema_of(catalog, s))),
            ("sequencename", text(&s.name)),
            ("sequenceowner", text(SUPERUSER)),
            ("data_type", text(s.ty.name())),
            ("start_value", long(s.start)),
            ("min_value", long(s.min)),
            ("max_value", long(s.max)),
            ("increment_by", long(s.increment)),
            ("cycle", truth(s.cycle)),
            ("cache_size", long(s.cache)),
            ("last_value", ScalarValue::Int64(position.called.then_some(position.last))),
        ])
    };
    catalog.sequences.values().map(row).collect()
}

pub(crate) fn information_sequences(catalog: &Catalog) -> Vec<Row> {
    // As in Postgres, those of identity columns are not shown.
    let row = |s: &Arc<SequenceDef>| {
        Row::from([
            ("sequence_catalog", text(DATABASE)),
            ("sequence_schema", text(schema_of(catalog, s))),
            ("sequence_name", text(&s.name)),
            ("data_type", text(s.ty.name())),
            ("numeric_precision", int(8 * i32::from(values::typlen(s.ty)))),
            ("numeric_precision_radix", int(2)),
            ("numeric_scale", int(0)),
            ("start_value", text(s.start.to_string())),
            ("minimum_value", text(s.min.to_string())),
            ("maximum_value", text(s.max.to_string())),
            ("increment", text(s.increment.to_string())),
            ("cycle_option", text(if s.cycle { "YES" } else { "NO" })),
        ])
    };
    catalog.sequences.values().filter(|s| !is_internal(catalog, s)).map(row).collect()
}

/// The sequence of an identity column.
pub(crate) fn is_internal(catalog: &Catalog, sequence: &SequenceDef) -> bool {
    let column = sequence.owner.and_then(|(table, column)| catalog.tables.get(&table)?.column(column));
    column.is_some_and(|c| matches!(c.generated, Some(quire_types::Generated::Identity { sequence: id, .. }) if id == sequence.id))
}
