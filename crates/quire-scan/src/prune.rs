//! Which row groups a predicate excludes, by the manifest's bounds.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion_common::pruning::PruningStatistics;
use datafusion_common::{Column, Result, ScalarValue};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::utils::{conjunction, split_conjunction};
use datafusion_physical_expr_common::physical_expr::snapshot_physical_expr;
use datafusion_pruning::{PruningPredicate, PruningPredicateBuilder};
use quire_types::{Datum, SegmentMeta, TableDef};

use crate::branches::any_branch;
use crate::spec::is_dynamic;

/// What a predicate (over the table's schema), with dynamic filters as they are now, says of bounds; `None` when it says nothing.
pub(crate) fn of_bounds(predicate: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> Result<Option<Arc<PruningPredicate>>> {
    // Only of joins' filters: a branch of somebody else's CASE may fail on numbers that its condition keeps from it.
    let now = split_conjunction(predicate).into_iter().map(|conjunct| match is_dynamic(conjunct) {
        true => snapshot_physical_expr(conjunct.clone()).map(|now| any_branch(&now)),
        false => Ok(conjunct.clone()),
    });
    let now = conjunction(now.collect::<Result<Vec<_>>>()?);
    Ok(PruningPredicateBuilder::new().with_file_schema(schema.clone()).build(now))
}

/// For each row group of the segment: false when no row of it can satisfy the predicate.
pub(crate) fn surviving_row_groups(predicate: &PruningPredicate, table: &TableDef, schema: &SchemaRef, segment: &SegmentMeta) -> Vec<bool> {
    predicate.prune(&SegmentStatistics { table, schema, segment }).unwrap_or_else(|error| {
        // It may fail on bounds (a cast that overflows) of row groups whose rows another condition leaves out.
        tracing::debug!(%error, table = table.name, "bounds say nothing");
        vec![true; segment.row_groups.len()]
    })
}

struct SegmentStatistics<'a> {
    table: &'a TableDef,
    schema: &'a SchemaRef,
    segment: &'a SegmentMeta,
}

impl SegmentStatistics<'_> {
    /// (the column's type, its place in the segment)
    fn locate(&self, column: &Column) -> Option<(DataType, usize)> {
        let index = self.schema.index_of(&column.name).ok()?;
        let ordinal = self.segment.column_ordinal(self.table.columns[index].id)?;
        Some((self.schema.field(index).data_type().clone(), ordinal))
    }

    fn bounds(&self, column: &Column, bound: impl Fn(&quire_types::PageMeta) -> Option<&Datum>) -> Option<ArrayRef> {
        let (data_type, ordinal) = self.locate(column)?;
        let values = self.segment.row_groups.iter().map(|group| datum_scalar(bound(&group.pages[ordinal]), &data_type));
        ScalarValue::iter_to_array(values.collect::<Option<Vec<_>>>()?).ok()
    }
}

impl PruningStatistics for SegmentStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |page| page.min.as_ref())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |page| page.max.as_ref())
    }

    fn num_containers(&self) -> usize {
        self.segment.row_groups.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let (_, ordinal) = self.locate(column)?;
        Some(Arc::new(UInt64Array::from_iter_values(self.segment.row_groups.iter().map(|g| u64::from(g.pages[ordinal].nulls)))))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.segment.row_groups.iter().map(|g| u64::from(g.rows)))))
    }

    fn contained(&self, _column: &Column, _values: &std::collections::HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// A bound as a scalar of the column's type; a NULL scalar when there is no bound; `None` for types that have none.
pub fn datum_scalar(datum: Option<&Datum>, data_type: &DataType) -> Option<ScalarValue> {
    let Some(datum) = datum else { return ScalarValue::try_from(data_type).ok() };
    Some(match (datum, data_type) {
        (Datum::Bool(v), DataType::Boolean) => ScalarValue::Boolean(Some(*v)),
        (Datum::Int(v), DataType::Int16) => ScalarValue::Int16(Some(i16::try_from(*v).ok()?)),
        (Datum::Int(v), DataType::Int32) => ScalarValue::Int32(Some(i32::try_from(*v).ok()?)),
        (Datum::Int(v), DataType::Int64) => ScalarValue::Int64(Some(*v)),
        (Datum::Int(v), DataType::Date32) => ScalarValue::Date32(Some(i32::try_from(*v).ok()?)),
        (Datum::Int(v), DataType::Time64(TimeUnit::Microsecond)) => ScalarValue::Time64Microsecond(Some(*v)),
        (Datum::Int(v), DataType::Timestamp(TimeUnit::Microsecond, zone)) => ScalarValue::TimestampMicrosecond(Some(*v), zone.clone()),
        (Datum::Float(v), DataType::Float32) => ScalarValue::Float32(Some(*v as f32)),
        (Datum::Float(v), DataType::Float64) => ScalarValue::Float64(Some(*v)),
        (Datum::Decimal(v), DataType::Decimal128(p, s)) => ScalarValue::Decimal128(Some(*v), *p, *s),
        (Datum::Text(v), DataType::Utf8View) => ScalarValue::Utf8View(Some(v.clone())),
        (Datum::Bytes(v), DataType::FixedSizeBinary(n)) => ScalarValue::FixedSizeBinary(*n, Some(v.clone())),
        _ => return None,
    })
}
