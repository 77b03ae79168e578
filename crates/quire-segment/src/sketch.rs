//! Distinct counts: HyperLogLog sketches (Apache DataSketches), one a column and segment, merged for a table.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use bytes::Bytes;
use datasketches::hll::{HllSketch, HllType, HllUnion};

/// 2^11 registers: 2.3 % standard error in about 1 KB.
const LG_REGISTERS: u8 = 11;

/// A sketch of a column's values; empty for types that nobody joins or groups by.
pub fn sketch(array: &ArrayRef) -> Bytes {
    let Ok(mut sketch) = HllSketch::new(LG_REGISTERS, HllType::Hll4) else { return Bytes::new() };
    match array.data_type() {
        DataType::Boolean => return Bytes::new(),
        DataType::Int16 => add::<Int16Type>(&mut sketch, array, i64::from),
        DataType::Int32 => add::<Int32Type>(&mut sketch, array, i64::from),
        DataType::Int64 => add::<Int64Type>(&mut sketch, array, |v| v),
        DataType::Date32 => add::<Date32Type>(&mut sketch, array, i64::from),
        DataType::Time64(_) => add::<Time64MicrosecondType>(&mut sketch, array, |v| v),
        DataType::Timestamp(_, _) => add::<TimestampMicrosecondType>(&mut sketch, array, |v| v),
        DataType::Decimal128(_, _) => add::<Decimal128Type>(&mut sketch, array, |v| v as i64 ^ (v >> 64) as i64),
        DataType::Float32 => add::<Float32Type>(&mut sketch, array, |v| i64::from(v.to_bits())),
        DataType::Float64 => add::<Float64Type>(&mut sketch, array, |v| v.to_bits() as i64),
        DataType::Utf8View => {
            let mut last: Option<&str> = None;
            for value in array.as_string_view().iter().flatten() {
                if last != Some(value) {
                    sketch.update(value);
                    last = Some(value);
                }
            }
        }
        _ => return Bytes::new(),
    }
    sketch.serialize().into()
}

fn add<T: ArrowPrimitiveType>(sketch: &mut HllSketch, array: &ArrayRef, key: impl Fn(T::Native) -> i64) {
    let values = array.as_primitive::<T>();
    let mut last = None;
    for (i, value) in values.values().iter().enumerate() {
        let value = key(*value);
        if last != Some(value) && values.is_valid(i) {
            sketch.update(value);
            last = Some(value);
        }
    }
}

/// About how many distinct values there are in columns with these sketches; `None` when there is none to go by, or one cannot be read.
pub fn distinct_estimate<'a>(sketches: impl Iterator<Item = &'a [u8]>) -> Option<f64> {
    let mut union = HllUnion::new(LG_REGISTERS).ok()?;
    let mut any = false;
    for bytes in sketches {
        if bytes.is_empty() {
            return None;
        }
        union.update(&HllSketch::deserialize(bytes).ok()?);
        any = true;
    }
    any.then(|| union.estimate())
}
