//! Intervals: Parquet has no type that holds months, days and nanoseconds, so they are 16 bytes: months and days as i32, nanoseconds as
//! i64, little endian.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryBuilder, IntervalMonthDayNanoBuilder};
use arrow::datatypes::{IntervalMonthDayNano, IntervalMonthDayNanoType};

use crate::SegmentError;

pub(crate) const BYTES: i32 = 16;

pub(crate) fn to_bytes(array: &ArrayRef) -> Result<ArrayRef, SegmentError> {
    let values = array.as_primitive::<IntervalMonthDayNanoType>();
    let mut out = FixedSizeBinaryBuilder::with_capacity(values.len(), BYTES);
    for value in values {
        match value {
            None => out.append_null(),
            Some(value) => {
                let mut bytes = [0; BYTES as usize];
                bytes[..4].copy_from_slice(&value.months.to_le_bytes());
                bytes[4..8].copy_from_slice(&value.days.to_le_bytes());
                bytes[8..].copy_from_slice(&value.nanoseconds.to_le_bytes());
                out.append_value(bytes)?;
            }
        }
    }
    Ok(Arc::new(out.finish()))
}

pub(crate) fn from_bytes(array: &ArrayRef) -> Result<ArrayRef, SegmentError> {
    let wrong = || SegmentError::Inconsistent("an interval page holds something else".into());
    let values = array.as_fixed_size_binary_opt().filter(|a| a.value_length() == BYTES).ok_or_else(wrong)?;
    let mut out = IntervalMonthDayNanoBuilder::with_capacity(values.len());
    for value in values {
        match value {
            None => out.append_null(),
            Some(bytes) => {
                let (months, rest) = bytes.split_at(4);
                let (days, nanoseconds) = rest.split_at(4);
                out.append_value(IntervalMonthDayNano::new(
                    i32::from_le_bytes(months.try_into().map_err(|_| wrong())?),
                    i32::from_le_bytes(days.try_into().map_err(|_| wrong())?),
                    i64::from_le_bytes(nanoseconds.try_into().map_err(|_| wrong())?),
                ));
            }
        }
    }
    Ok(Arc::new(out.finish()))
}
