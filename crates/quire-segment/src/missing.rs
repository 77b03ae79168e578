//! Columns that were added after rows were stored: what those rows hold there.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow::compute::take;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use quire_types::{ColumnDef, Datum};

use crate::SegmentError;

/// The column's values in rows that were stored without it: its `missing`, so many times.
pub fn missing_values(column: &ColumnDef, rows: usize) -> Result<ArrayRef, SegmentError> {
    let data_type = column.ty.arrow();
    let Some(datum) = &column.missing else { return Ok(new_null_array(&data_type, rows)) };
    let wrong = || SegmentError::Inconsistent(format!("column {} of type {data_type} is missing as {datum:?}", column.id));
    let narrow = |_| wrong();
    let one: ArrayRef = match (datum, &data_type) {
        (Datum::Bool(v), DataType::Boolean) => Arc::new(BooleanArray::from(vec![*v])),
        (Datum::Int(v), DataType::Int16) => Arc::new(Int16Array::from(vec![i16::try_from(*v).map_err(narrow)?])),
        (Datum::Int(v), DataType::Int32) => Arc::new(Int32Array::from(vec![i32::try_from(*v).map_err(narrow)?])),
        (Datum::Int(v), DataType::Int64) => Arc::new(Int64Array::from(vec![*v])),
        (Datum::Int(v), DataType::Date32) => Arc::new(Date32Array::from(vec![i32::try_from(*v).map_err(narrow)?])),
        (Datum::Int(v), DataType::Time64(_)) => Arc::new(Time64MicrosecondArray::from(vec![*v])),
        (Datum::Int(v), DataType::Timestamp(_, zone)) => {
            Arc::new(TimestampMicrosecondArray::from(vec![*v]).with_timezone_opt(zone.clone()))
        }
        (Datum::Float(v), DataType::Float32) => Arc::new(Float32Array::from(vec![*v as f32])),
        (Datum::Float(v), DataType::Float64) => Arc::new(Float64Array::from(vec![*v])),
        (Datum::Decimal(v), DataType::Decimal128(precision, scale)) => {
            Arc::new(Decimal128Array::from(vec![*v]).with_precision_and_scale(*precision, *scale)?)
        }
        (Datum::Text(v), DataType::Utf8View) => Arc::new(StringViewArray::from(vec![v.as_str()])),
        (Datum::Bytes(v), DataType::BinaryView) => Arc::new(BinaryViewArray::from(vec![v.as_slice()])),
        _ => return Err(wrong()),
    };
    Ok(take(&one, &UInt32Array::from(vec![0; rows]), None)?)
}

/// The first value of an array as a column's `missing`; `None` for NULL and for types that cannot be kept so (interval).
pub fn missing_datum(values: &ArrayRef) -> Option<Datum> {
    if values.is_empty() || values.is_null(0) {
        return None;
    }
    Some(match values.data_type() {
        DataType::Boolean => Datum::Bool(values.as_boolean().value(0)),
        DataType::Int16 => Datum::Int(values.as_primitive::<Int16Type>().value(0).into()),
        DataType::Int32 => Datum::Int(values.as_primitive::<Int32Type>().value(0).into()),
        DataType::Int64 => Datum::Int(values.as_primitive::<Int64Type>().value(0)),
        DataType::Date32 => Datum::Int(values.as_primitive::<Date32Type>().value(0).into()),
        DataType::Time64(_) => Datum::Int(values.as_primitive::<Time64MicrosecondType>().value(0)),
        DataType::Timestamp(_, _) => Datum::Int(values.as_primitive::<TimestampMicrosecondType>().value(0)),
        DataType::Float32 => Datum::Float(values.as_primitive::<Float32Type>().value(0).into()),
        DataType::Float64 => Datum::Float(values.as_primitive::<Float64Type>().value(0)),
        DataType::Decimal128(_, _) => Datum::Decimal(values.as_primitive::<Decimal128Type>().value(0)),
        DataType::Utf8View => Datum::Text(values.as_string_view().value(0).to_string()),
        DataType::BinaryView => Datum::Bytes(values.as_binary_view().value(0).to_vec()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use quire_types::{ColumnId, SqlType};

    use super::*;

    #[test]
    fn a_value_comes_back_as_often_as_there_are_rows() {
        let check = |ty: SqlType, datum: Datum| {
            let column = ColumnDef { missing: Some(datum.clone()), ..ColumnDef::new(ColumnId(1), "c", ty) };
            let values = missing_values(&column, 3).expect("the value is of the type");
            assert_eq!((values.len(), values.data_type(), values.null_count()), (3, &ty.arrow(), 0));
            assert_eq!(missing_datum(&values.slice(2, 1)), Some(datum));
        };
        check(SqlType::Bool, Datum::Bool(true));
        check(SqlType::Int2, Datum::Int(-3));
        check(SqlType::Int4, Datum::Int(1 << 30));
        check(SqlType::Int8, Datum::Int(i64::MIN));
        check(SqlType::Float4, Datum::Float(1.5));
        check(SqlType::Float8, Datum::Float(0.1));
        check(SqlType::Numeric { precision: 10, scale: 2 }, Datum::Decimal(-1234));
        check(SqlType::Text, Datum::Text("longer than what a view keeps inline".into()));
        check(SqlType::Bytea, Datum::Bytes(vec![0, 255]));
        check(SqlType::Date, Datum::Int(20_000));
        check(SqlType::Time, Datum::Int(1));
        check(SqlType::Timestamp, Datum::Int(-1));
        check(SqlType::Timestamptz, Datum::Int(7));
        let nothing = ColumnDef::new(ColumnId(1), "c", SqlType::Interval);
        assert_eq!(missing_values(&nothing, 2).expect("NULLs").null_count(), 2);
        let wrong = ColumnDef { missing: Some(Datum::Bool(true)), ..ColumnDef::new(ColumnId(1), "c", SqlType::Int4) };
        assert!(missing_values(&wrong, 1).is_err());
    }
}
