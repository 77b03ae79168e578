//! Sequences in the system catalogs, and as relations.

use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::{Result, ScalarValue};
use quire_types::{Catalog, Generated, SequenceDef, SqlType};

use super::oids::schema_name;
use super::rows::{Row, int, oid, text, truth};
use super::{Seen, deparse};
use crate::catalog::{DATABASE, ScopeCell};
use crate::engine::SUPERUSER;
use crate::sequences::{sequences_of, shown_default};
use crate::values;

/// What a sequence has as a relation.
pub(super) const COLUMNS: [(&str, SqlType); 3] = [("last_value", SqlType::Int8), ("log_cnt", SqlType::Int8), ("is_called", SqlType::Bool)];

/// `SELECT * FROM s`.
pub(crate) fn as_relation(cell: &ScopeCell, sequence: &SequenceDef) -> Result<Arc<dyn TableProvider>> {
    let position = cell.sequence_position(sequence);
    let schema = Arc::new(Schema::new(COLUMNS.iter().map(|(name, ty)| Field::new(*name, ty.arrow(), false)).collect::<Vec<_>>()));
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

/// A DEFAULT as the catalogs show it.
pub(super) fn default(seen: &Seen<'_>, sql: &str, ty: SqlType) -> String {
    match sequences_of(sql).is_empty() {
        true => deparse::default(sql, ty),
        false => shown_default(sql, seen.catalog, seen.path),
    }
}

/// `pg_sequence`.
pub(super) fn pg_sequence(catalog: &Catalog) -> Vec<Row> {
    let row = |s: &SequenceDef| {
        Row::from([
            ("seqrelid", oid(s.id.0)),
            ("seqtypid", oid(values::oid_of(s.ty))),
            ("seqstart", int(s.start)),
            ("seqincrement", int(s.increment)),
            ("seqmax", int(s.max)),
            ("seqmin", int(s.min)),
            ("seqcache", int(s.cache)),
            ("seqcycle", truth(s.cycle)),
        ])
    };
    catalog.sequences.values().map(|s| row(s)).collect()
}

/// `pg_sequences`.
pub(super) fn pg_sequences(cell: &ScopeCell, catalog: &Catalog) -> Vec<Row> {
    let row = |s: &SequenceDef| {
        let position = cell.sequence_position(s);
        Row::from([
            ("schemaname", text(schema_name(catalog, s.schema))),
            ("sequencename", text(&s.name)),
            ("sequenceowner", text(SUPERUSER)),
            ("data_type", text(s.ty.name())),
            ("start_value", int(s.start)),
            ("min_value", int(s.min)),
            ("max_value", int(s.max)),
            ("increment_by", int(s.increment)),
            ("cycle", truth(s.cycle)),
            ("cache_size", int(s.cache)),
            ("last_value", ScalarValue::Int64(position.called.then_some(position.last))),
        ])
    };
    catalog.sequences.values().map(|s| row(s)).collect()
}

/// `information_schema.sequences`. As in Postgres, those of identity columns are not shown.
pub(super) fn information_sequences(catalog: &Catalog) -> Vec<Row> {
    let row = |s: &SequenceDef| {
        Row::from([
            ("sequence_catalog", text(DATABASE)),
            ("sequence_schema", text(schema_name(catalog, s.schema))),
            ("sequence_name", text(&s.name)),
            ("data_type", text(s.ty.name())),
            ("numeric_precision", int(8 * i64::from(values::typlen(s.ty)))),
            ("numeric_precision_radix", int(2)),
            ("numeric_scale", int(0)),
            ("start_value", text(s.start.to_string())),
            ("minimum_value", text(s.min.to_string())),
            ("maximum_value", text(s.max.to_string())),
            ("increment", text(s.increment.to_string())),
            ("cycle_option", text(if s.cycle { "YES" } else { "NO" })),
        ])
    };
    catalog.sequences.values().filter(|s| !is_internal(catalog, s)).map(|s| row(s)).collect()
}

/// What `information_schema.columns` says of an identity column's sequence.
pub(super) fn identity(s: &SequenceDef) -> Row {
    Row::from([
        ("identity_start", text(s.start.to_string())),
        ("identity_increment", text(s.increment.to_string())),
        ("identity_maximum", text(s.max.to_string())),
        ("identity_minimum", text(s.min.to_string())),
        ("identity_cycle", text(if s.cycle { "YES" } else { "NO" })),
    ])
}

/// The sequence of an identity column.
fn is_internal(catalog: &Catalog, sequence: &SequenceDef) -> bool {
    let column = sequence.owner.and_then(|(table, column)| catalog.tables.get(&table)?.column(column));
    column.is_some_and(|c| matches!(c.generated, Some(Generated::Identity { sequence: id, .. }) if id == sequence.id))
}
