//! Distinct counts: HyperLogLog sketches (Apache DataSketches), one a column and segment, merged for a table.

use std::hash::BuildHasher;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use bytes::Bytes;
use datasketches::hll::{HllSketch, HllType, HllUnion};

/// 2^11 registers: 2.3 % standard error in about 1 KB.
const LG_REGISTERS: u8 = 11;
/// Values that are remembered: 32 KiB, what the first cache of a core holds.
const LG_LATELY: u32 = 11;

/// Values that came lately. A sketch says the same however often a value is added, and adding takes ten times as long as looking here;
/// most columns of most tables repeat a few thousand values.
struct Lately {
    values: Vec<Option<u64>>,
}

impl Lately {
    fn new() -> Lately {
        Lately { values: vec![None; 1 << LG_LATELY] }
    }

    /// Whether a value, by itself or by its hash, is not one of them. It is from now on, and another is not.
    fn is_new(&mut self, value: u64) -> bool {
        // Fibonacci hashing: Knuth, The Art of Computer Programming, volume 3, section 6.4.
        let place = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - LG_LATELY);
        self.values[place as usize].replace(value) != Some(value)
    }
}

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
            let (mut lately, hasher) = (Lately::new(), foldhash::fast::FixedState::default());
            for value in array.as_string_view().iter().flatten() {
                if lately.is_new(hasher.hash_one(value)) {
                    sketch.update(value);
                }
            }
        }
        _ => return Bytes::new(),
    }
    sketch.serialize().into()
}

fn add<T: ArrowPrimitiveType>(sketch: &mut HllSketch, array: &ArrayRef, key: impl Fn(T::Native) -> i64) {
    let values = array.as_primitive::<T>();
    let mut lately = Lately::new();
    for (i, value) in values.values().iter().enumerate() {
        let value = key(*value);
        if values.is_valid(i) && lately.is_new(value as u64) {
            sketch.update(value);
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
