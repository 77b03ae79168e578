//! Ordered-set aggregates, as functions of the array of their values in order: `percentile_cont`, `percentile_disc`, `mode`.

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::compute::{interleave, kernels::cmp::not_distinct};
use arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};

use super::forms::{Function, Gives, Kind, float8s, form};
use super::native::{Call, plain, sql_error};
use crate::SqlError;

use Kind::{Array as AnyArray, Float8};

pub(super) fn udfs() -> Vec<ScalarUDF> {
    vec![
        Function::udf("quire_percentile_cont", vec![form(&[AnyArray, Float8], Gives::Is(Float8), continuous)]),
        Function::udf("quire_percentile_disc", vec![form(&[AnyArray, Float8], Gives::By(item), discrete)]),
        Function::udf("quire_mode", vec![form(&[AnyArray], Gives::By(item), mode)]),
    ]
}

fn item(args: &ReturnFieldArgs) -> Result<Field> {
    match args.arg_fields[0].data_type() {
        DataType::List(item) => plain(item.data_type().clone()),
        other => plain(other.clone()),
    }
}

/// The places of a row's values, NULLs left out.
fn places(lists: &ListArray, row: usize) -> Vec<usize> {
    let start = lists.value_offsets()[row] as usize;
    let length = if lists.is_null(row) { 0 } else { lists.value_length(row) as usize };
    (start..start + length).filter(|i| lists.values().is_valid(*i)).collect()
}

/// The fraction of a row, when there is one.
fn fraction(call: &Call, row: usize) -> std::result::Result<Option<f64>, SqlError> {
    let fractions = call.float8(1);
    if fractions.is_null(row) {
        return Ok(None);
    }
    let fraction = fractions.value(row);
    if !(0.0..=1.0).contains(&fraction) {
        return Err(SqlError::new("22003", format!("percentile value {fraction} is not between 0 and 1")));
    }
    Ok(Some(fraction))
}

fn continuous(call: &Call) -> Result<ArrayRef> {
    let lists = call.arrays[0].as_list::<i32>();
    let values = arrow::compute::cast(lists.values(), &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    float8s((0..call.rows).map(|row| {
        let places = places(lists, row);
        let Some(fraction) = fraction(call, row)?.filter(|_| !places.is_empty()) else { return Ok(None) };
        let at = fraction * (places.len() - 1) as f64;
        let (low, high) = (values.value(places[at.floor() as usize]), values.value(places[at.ceil() as usize]));
        Ok(Some(if low == high { low } else { low + (at - at.floor()) * (high - low) }))
    }))
}

/// One value of each row's list, or NULL.
fn picked(lists: &ListArray, picks: Vec<Option<usize>>) -> Result<ArrayRef> {
    let null = arrow::array::new_null_array(lists.values().data_type(), 1);
    let picks: Vec<(usize, usize)> = picks.into_iter().map(|p| p.map_or((1, 0), |at| (0, at))).collect();
    Ok(interleave(&[lists.values(), &null], &picks)?)
}

fn discrete(call: &Call) -> Result<ArrayRef> {
    let lists = call.arrays[0].as_list::<i32>();
    let pick = |row| -> std::result::Result<Option<usize>, SqlError> {
        let places = places(lists, row);
        let Some(fraction) = fraction(call, row)?.filter(|_| !places.is_empty()) else { return Ok(None) };
        // The first value whose place among all is at or past the fraction.
        let at = ((fraction * places.len() as f64).ceil() as usize).max(1);
        Ok(Some(places[at.min(places.len()) - 1]))
    };
    picked(lists, (0..call.rows).map(pick).collect::<std::result::Result<Vec<_>, _>>().map_err(sql_error)?)
}

fn mode(call: &Call) -> Result<ArrayRef> {
    let lists = call.arrays[0].as_list::<i32>();
    let mut picks = vec![];
    for row in 0..call.rows {
        let places = places(lists, row);
        let (mut best, mut best_length) = (None, 0);
        let mut run = 0;
        for (i, place) in places.iter().enumerate() {
            let same = i > 0 && {
                let (one, other) = (lists.values().slice(places[i - 1], 1), lists.values().slice(*place, 1));
                not_distinct(&one, &other)?.value(0)
            };
            run = if same { run + 1 } else { 1 };
            if run > best_length {
                (best, best_length) = (Some(*place), run);
            }
        }
        picks.push(best);
    }
    picked(lists, picks)
}
