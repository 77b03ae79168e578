//! Functions of arrays, with Postgres' types: positions and lengths are integers, and items are brought to one type.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::kernels::cmp::{self, not_distinct};
use arrow::compute::{concat, filter, interleave};
use arrow::datatypes::{DataType, Field};
use datafusion::common::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};
use quire_types::SqlType;

use super::arithmetic::common;
use super::forms::{Function, Gives, Kind, bools, form, int4s, texts};
use super::native::{Call, is_decimal, is_text, no_function_of, plain, sql_error};
use crate::values::Home;
use crate::{SqlError, values};

use Kind::{Any, Int4};

pub(super) fn udfs() -> Vec<ScalarUDF> {
    let int4 = Gives::Is(Int4);
    vec![
        Function::udf("array_length", vec![form(&[Kind::Array, Int4], int4, |call| measure(call, length))]),
        Function::udf("array_upper", vec![form(&[Kind::Array, Int4], int4, |call| measure(call, length))]),
        Function::udf("array_lower", vec![form(&[Kind::Array, Int4], int4, |call| measure(call, |a, d| length(a, d).map(|_| 1)))]),
        Function::udf("cardinality", vec![form(&[Kind::Array], int4, |call| whole(call, |a| Some(count(a))))]),
        Function::udf(
            "array_ndims",
            vec![form(&[Kind::Array], int4, |call| whole(call, |a| (count(a) > 0).then(|| dimensions(a).len() as i32)))],
        ),
        Function::udf("array_dims", vec![form(&[Kind::Array], Gives::Is(Kind::Text), dims)]),
        Function::udf("array_position", vec![form(&[Kind::Array, Any], int4, position), form(&[Kind::Array, Any, Int4], int4, position)]),
        Function::udf("array_positions", vec![form(&[Kind::Array, Any], Gives::List(Int4), positions)]),
        Function::udf("array_append", vec![form(&[Any, Any], Gives::By(list_then_item), append)]),
        Function::udf("array_prepend", vec![form(&[Any, Any], Gives::By(item_then_list), prepend)]),
        Function::udf("array_cat", vec![form(&[Kind::Array, Kind::Array], Gives::By(two_lists), cat)]),
        Function::udf("array_remove", vec![form(&[Kind::Array, Any], Gives::By(list_then_item), remove)]),
        Function::udf("array_replace", vec![form(&[Kind::Array, Any, Any], Gives::By(list_then_item), replace)]),
        Function::udf("array_fill", vec![form(&[Any, Kind::Array], Gives::By(filled), fill)]),
        Function::udf("trim_array", vec![form(&[Kind::Array, Int4], Gives::By(same), trim)]),
        Function::udf("quire_rows_of_generate_subscripts", vec![form(&[Kind::Array, Int4], Gives::List(Int4), subscripts)]),
    ]
}

/// What && @> <@, ANY and ALL are planned as.
pub(super) fn operators() -> Vec<ScalarUDF> {
    let truth = Gives::Is(Kind::Bool);
    vec![
        Function::udf("quire_array_overlaps", vec![form(&[Kind::Array, Kind::Array], truth, |call| sets(call, true))]),
        Function::udf("quire_array_contains", vec![form(&[Kind::Array, Kind::Array], truth, |call| sets(call, false))]),
        Function::udf("quire_any", quantifier(|call| quantified(call, true))),
        Function::udf("quire_all", quantifier(|call| quantified(call, false))),
    ]
}

fn item_of(ty: &DataType) -> Option<&DataType> {
    match ty {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(item.data_type()),
        _ => None,
    }
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

/// The type that an array's items and another value meet at: the items' own when the value has none yet.
fn meet(item: &DataType, other: &DataType) -> Option<DataType> {
    if item == other || *other == DataType::Null || matches!(other, DataType::Utf8) && *item != DataType::Null {
        return Some(if is_text(item) { DataType::Utf8View } else { item.clone() });
    }
    if *item == DataType::Null {
        return Some(if is_text(other) { DataType::Utf8View } else { other.clone() });
    }
    if is_text(item) && is_text(other) {
        return Some(DataType::Utf8View);
    }
    let scale = |ty: &DataType| if let DataType::Decimal128(_, scale) = ty { *scale } else { 0 };
    if (is_decimal(item) || is_decimal(other)) && item.is_numeric() && other.is_numeric() && !item.is_floating() && !other.is_floating() {
        return Some(DataType::Decimal128(38, scale(item).max(scale(other))));
    }
    common(item, other)
}

fn met(args: &ReturnFieldArgs, list: usize, item: usize) -> Result<Field> {
    let refused = || no_function_of("array function", args.arg_fields);
    let list_type = args.arg_fields[list].data_type();
    let item_type = if *list_type == DataType::Null { &DataType::Null } else { item_of(list_type).ok_or_else(refused)? };
    plain(list_of(meet(item_type, args.arg_fields[item].data_type()).ok_or_else(refused)?))
}

fn list_then_item(args: &ReturnFieldArgs) -> Result<Field> {
    met(args, 0, 1)
}

fn item_then_list(args: &ReturnFieldArgs) -> Result<Field> {
    met(args, 1, 0)
}

fn two_lists(args: &ReturnFieldArgs) -> Result<Field> {
    let item = |i: usize| item_of(args.arg_fields[i].data_type()).cloned().unwrap_or(DataType::Null);
    plain(list_of(meet(&item(0), &item(1)).ok_or_else(|| no_function_of("array_cat", args.arg_fields))?))
}

fn same(args: &ReturnFieldArgs) -> Result<Field> {
    plain(args.arg_fields[0].data_type().clone())
}

fn filled(args: &ReturnFieldArgs) -> Result<Field> {
    let item = args.arg_fields[0].data_type();
    plain(list_of(if is_text(item) { DataType::Utf8View } else { item.clone() }))
}

/// Values in another type, by Postgres' casts; what has none by Arrow's.
fn values_as(array: &ArrayRef, to: &DataType, home: &Home<'_>) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    match (SqlType::of_arrow(array.data_type()), SqlType::of_arrow(to)) {
        (Some(_), Some(ty)) => {
            let field = Field::new("item", array.data_type().clone(), true);
            let cast = values::cast_to(array, &field, ty, home).map_err(|e| sql_error(SqlError::from(e)))?;
            Ok(if cast.data_type() == to { cast } else { arrow::compute::cast(&cast, to)? })
        }
        _ => Ok(arrow::compute::cast(array, to)?),
    }
}

/// An argument as a list with items of that type.
fn list_as(call: &Call, i: usize, item: &DataType) -> Result<ListArray> {
    let array = &call.arrays[i];
    if *array.data_type() == DataType::Null {
        return Ok(arrow::array::new_null_array(&list_of(item.clone()), array.len()).as_list::<i32>().clone());
    }
    let lists = plain_list(array)?;
    let values = values_as(lists.values(), item, call.home)?;
    let field = Arc::new(Field::new("item", item.clone(), true));
    Ok(ListArray::try_new(field, lists.offsets().clone(), values, lists.nulls().cloned())?)
}

/// Any kind of list as the plain one.
fn plain_list(array: &ArrayRef) -> Result<ListArray> {
    let item = item_of(array.data_type()).cloned().unwrap_or(DataType::Null);
    Ok(arrow::compute::cast(array, &list_of(item))?.as_list::<i32>().clone())
}

/// The list in the first argument and the value in another, in the type that they meet at.
fn list_and_value(call: &Call, value: usize) -> Result<(ListArray, ArrayRef)> {
    let item = item_of(call.arrays[0].data_type()).cloned().unwrap_or(DataType::Null);
    let ty = meet(&item, call.fields[value].data_type()).ok_or_else(|| no_function_of("array function", call.fields))?;
    Ok((list_as(call, 0, &ty)?, values_as(&call.arrays[value], &ty, call.home)?))
}

/// The lengths of an array's dimensions.
fn dimensions(array: &ArrayRef) -> Vec<usize> {
    let mut lengths = vec![array.len()];
    if let Some(list) = array.as_list_opt::<i32>()
        && !list.is_empty()
    {
        lengths.extend(dimensions(&list.value(0)));
    }
    lengths
}

fn count(array: &ArrayRef) -> i32 {
    dimensions(array).iter().product::<usize>() as i32
}

fn length(array: &ArrayRef, dimension: i32) -> Option<i32> {
    let at = usize::try_from(dimension).ok()?.checked_sub(1)?;
    (count(array) > 0).then(|| dimensions(array).get(at).map(|n| *n as i32)).flatten()
}

/// A number about each array.
fn whole(call: &Call, of: impl Fn(&ArrayRef) -> Option<i32>) -> Result<ArrayRef> {
    if *call.arrays[0].data_type() == DataType::Null {
        return int4s((0..call.rows).map(|_| Ok(None)));
    }
    let lists = plain_list(&call.arrays[0])?;
    int4s((0..call.rows).map(|row| Ok(lists.is_valid(row).then(|| of(&lists.value(row))).flatten())))
}

/// A number about a dimension of each array.
fn measure(call: &Call, of: impl Fn(&ArrayRef, i32) -> Option<i32>) -> Result<ArrayRef> {
    if *call.arrays[0].data_type() == DataType::Null {
        return int4s((0..call.rows).map(|_| Ok(None)));
    }
    let lists = plain_list(&call.arrays[0])?;
    let given = call.int4(1);
    int4s((0..call.rows).map(|row| {
        let known = lists.is_valid(row) && given.is_valid(row);
        Ok(known.then(|| of(&lists.value(row), given.value(row))).flatten())
    }))
}

fn dims(call: &Call) -> Result<ArrayRef> {
    let lists = plain_list(&call.arrays[0])?;
    texts((0..call.rows).map(|row| {
        if lists.is_null(row) || lists.value(row).is_empty() {
            return Ok(None);
        }
        Ok(Some(dimensions(&lists.value(row)).iter().map(|n| format!("[1:{n}]")).collect()))
    }))
}

/// Which items of a row's list are the row's value, NULL being equal to NULL.
fn matches(list: &ListArray, value: &ArrayRef, row: usize) -> Result<BooleanArray> {
    let one = value.slice(row, 1);
    Ok(not_distinct(&list.value(row), &arrow::array::Scalar::new(one))?)
}

fn position(call: &Call) -> Result<ArrayRef> {
    let (lists, value) = list_and_value(call, 1)?;
    let starts = (call.arrays.len() > 2).then(|| call.int4(2));
    let mut out = vec![];
    for row in 0..call.rows {
        let start = match starts {
            Some(starts) if starts.is_null(row) => {
                return Err(sql_error(SqlError::new("22004", "initial position must not be null")));
            }
            Some(starts) => usize::try_from(starts.value(row) - 1).unwrap_or(0),
            None => 0,
        };
        let found = if lists.is_null(row) {
            None
        } else {
            (start..lists.value(row).len()).find(|i| matches(&lists, &value, row).is_ok_and(|m| m.value(*i)))
        };
        out.push(Ok(found.map(|i| i as i32 + 1)));
    }
    int4s(out.into_iter())
}

fn positions(call: &Call) -> Result<ArrayRef> {
    let (lists, value) = list_and_value(call, 1)?;
    let mut builder =
        arrow::array::ListBuilder::new(arrow::array::Int32Builder::new()).with_field(Field::new("item", DataType::Int32, true));
    for row in 0..call.rows {
        if lists.is_null(row) {
            builder.append_null();
            continue;
        }
        let found = matches(&lists, &value, row)?;
        builder.append_value((0..found.len()).filter(|i| found.value(*i)).map(|i| Some(i as i32 + 1)));
    }
    Ok(Arc::new(builder.finish()))
}

/// A list array of the rows' lists.
fn gathered(item: &DataType, rows: Vec<Option<ArrayRef>>) -> Result<ArrayRef> {
    let lengths: Vec<usize> = rows.iter().map(|r| r.as_ref().map_or(0, |a| a.len())).collect();
    let valid: NullBuffer = rows.iter().map(Option::is_some).collect();
    let parts: Vec<&dyn Array> = rows.iter().flatten().map(AsRef::as_ref).collect();
    let values = if parts.is_empty() { arrow::array::new_empty_array(item) } else { concat(&parts)? };
    let field = Arc::new(Field::new("item", item.clone(), true));
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, Some(valid))?))
}

fn result_item(call: &Call) -> DataType {
    item_of(call.returns.data_type()).cloned().unwrap_or(DataType::Null)
}

fn append(call: &Call) -> Result<ArrayRef> {
    let item = result_item(call);
    let (lists, value) = (list_as(call, 0, &item)?, values_as(&call.arrays[1], &item, call.home)?);
    let rows = (0..call.rows).map(|row| {
        let one = value.slice(row, 1);
        Ok(Some(if lists.is_null(row) { one } else { concat(&[&lists.value(row), &one])? }))
    });
    gathered(&item, rows.collect::<Result<Vec<_>>>()?)
}

fn prepend(call: &Call) -> Result<ArrayRef> {
    let item = result_item(call);
    let (value, lists) = (values_as(&call.arrays[0], &item, call.home)?, list_as(call, 1, &item)?);
    let rows = (0..call.rows).map(|row| {
        let one = value.slice(row, 1);
        Ok(Some(if lists.is_null(row) { one } else { concat(&[&one, &lists.value(row)])? }))
    });
    gathered(&item, rows.collect::<Result<Vec<_>>>()?)
}

fn cat(call: &Call) -> Result<ArrayRef> {
    let item = result_item(call);
    let (one, other) = (list_as(call, 0, &item)?, list_as(call, 1, &item)?);
    let rows = (0..call.rows).map(|row| match (one.is_valid(row), other.is_valid(row)) {
        (true, true) => Ok(Some(concat(&[&one.value(row), &other.value(row)])?)),
        (true, false) => Ok(Some(one.value(row))),
        (false, true) => Ok(Some(other.value(row))),
        (false, false) => Ok(None),
    });
    gathered(&item, rows.collect::<Result<Vec<_>>>()?)
}

fn remove(call: &Call) -> Result<ArrayRef> {
    let (lists, value) = list_and_value(call, 1)?;
    let item = result_item(call);
    let mut rows = vec![];
    for row in 0..call.rows {
        if lists.is_null(row) {
            rows.push(None);
            continue;
        }
        let kept = arrow::compute::not(&matches(&lists, &value, row)?)?;
        rows.push(Some(filter(&lists.value(row), &kept)?));
    }
    gathered(&item, rows)
}

fn replace(call: &Call) -> Result<ArrayRef> {
    let (lists, old) = list_and_value(call, 1)?;
    let item = result_item(call);
    let new = values_as(&call.arrays[2], &item, call.home)?;
    let mut rows = vec![];
    for row in 0..call.rows {
        if lists.is_null(row) {
            rows.push(None);
            continue;
        }
        let (found, values) = (matches(&lists, &old, row)?, lists.value(row));
        let picks: Vec<(usize, usize)> = (0..values.len()).map(|i| if found.value(i) { (1, row) } else { (0, i) }).collect();
        rows.push(Some(interleave(&[&values, &new], &picks)?));
    }
    gathered(&item, rows)
}

/// Items that one call may make.
const FILL_MAX: usize = 10_000_000;

fn fill(call: &Call) -> Result<ArrayRef> {
    let item = result_item(call);
    let value = values_as(&call.arrays[0], &item, call.home)?;
    let lengths = list_as(call, 1, &DataType::Int32)?;
    let mut rows = vec![];
    for row in 0..call.rows {
        if lengths.is_null(row) {
            return Err(sql_error(SqlError::new("22004", "dimension array or low bound array cannot be null")));
        }
        let lengths = lengths.value(row);
        let lengths = lengths.as_primitive::<arrow::datatypes::Int32Type>();
        let length = match lengths.len() {
            0 => 0,
            1 => usize::try_from(lengths.value(0)).unwrap_or(0),
            _ => return Err(sql_error(SqlError::unsupported("array_fill with more than one dimension"))),
        };
        if length > FILL_MAX {
            return Err(sql_error(SqlError::new("54000", format!("array size exceeds the maximum allowed ({FILL_MAX})"))));
        }
        let picks = vec![(0, row); length];
        rows.push(Some(interleave(&[&value], &picks)?));
    }
    gathered(&item, rows)
}

fn trim(call: &Call) -> Result<ArrayRef> {
    let lists = plain_list(&call.arrays[0])?;
    let counts = call.int4(1);
    let mut rows = vec![];
    for row in 0..call.rows {
        if lists.is_null(row) || counts.is_null(row) {
            rows.push(None);
            continue;
        }
        let values = lists.value(row);
        let cut = usize::try_from(counts.value(row)).ok().filter(|cut| *cut <= values.len());
        let Some(cut) = cut else {
            return Err(sql_error(SqlError::new("2202E", format!("number of elements to trim must be between 0 and {}", values.len()))));
        };
        rows.push(Some(values.slice(0, values.len() - cut)));
    }
    gathered(&result_item(call), rows)
}

fn subscripts(call: &Call) -> Result<ArrayRef> {
    let lists = plain_list(&call.arrays[0])?;
    let given = call.int4(1);
    let mut builder =
        arrow::array::ListBuilder::new(arrow::array::Int32Builder::new()).with_field(Field::new("item", DataType::Int32, true));
    for row in 0..call.rows {
        let known = lists.is_valid(row) && given.is_valid(row);
        let last = known.then(|| length(&lists.value(row), given.value(row))).flatten().unwrap_or(0);
        builder.append_value((1..=last).map(Some));
    }
    Ok(Arc::new(builder.finish()))
}

/// Whether two arrays share an item, or the first has all items of the second. NULLs are equal to nothing.
fn sets(call: &Call, any: bool) -> Result<ArrayRef> {
    let item = |i: usize| item_of(call.arrays[i].data_type()).cloned().unwrap_or(DataType::Null);
    let ty = meet(&item(0), &item(1)).ok_or_else(|| no_function_of("array operator", call.fields))?;
    let (one, other) = (list_as(call, 0, &ty)?, list_as(call, 1, &ty)?);
    let mut out = vec![];
    for row in 0..call.rows {
        if one.is_null(row) || other.is_null(row) {
            out.push(Ok(None));
            continue;
        }
        let wanted = other.value(row);
        let mut answer = !any;
        for i in 0..wanted.len() {
            let found = wanted.is_valid(i) && {
                let equal = not_distinct(&one.value(row), &arrow::array::Scalar::new(wanted.slice(i, 1)))?;
                equal.true_count() > 0
            };
            if found == any {
                answer = any;
                break;
            }
        }
        out.push(Ok(Some(answer)));
    }
    bools(out.into_iter())
}

/// With an array, or with one that is written in quotes and takes the value's type.
fn quantifier(run: fn(&Call) -> Result<ArrayRef>) -> Vec<super::forms::Form> {
    let truth = Gives::Is(Kind::Bool);
    vec![form(&[Kind::Text, Any, Kind::Array], truth, run), form(&[Kind::Text, Any, Kind::Text], truth, run)]
}

/// `x op ANY (array)` and `x op ALL (array)`, where NULL may make the answer unknown.
fn quantified(call: &Call, any: bool) -> Result<ArrayRef> {
    if *call.arrays[2].data_type() == DataType::Null {
        return bools((0..call.rows).map(|_| Ok(None)));
    }
    let refused = || no_function_of("array operator", call.fields);
    if is_text(call.arrays[2].data_type()) {
        let ty = SqlType::of_field(&call.fields[1]).ok_or_else(refused)?;
        let mut arrays = call.arrays.clone();
        arrays[2] = super::cast::arrays_from_text(&call.arrays[2], ty, call.home)?;
        return quantified(&Call { arrays, ..*call }, any);
    }
    let item = item_of(call.arrays[2].data_type()).cloned().unwrap_or(DataType::Null);
    let ty = meet(&item, call.fields[1].data_type()).ok_or_else(refused)?;
    let (lists, value) = (list_as(call, 2, &ty)?, values_as(&call.arrays[1], &ty, call.home)?);
    let mut out = vec![];
    for row in 0..call.rows {
        if lists.is_null(row) {
            out.push(Ok(None));
            continue;
        }
        let items = lists.value(row);
        let one = arrow::array::Scalar::new(value.slice(row, 1));
        let truths = match call.text(0).value(row) {
            "=" => cmp::eq(&one, &items)?,
            "<>" => cmp::neq(&one, &items)?,
            "<" => cmp::lt(&one, &items)?,
            "<=" => cmp::lt_eq(&one, &items)?,
            ">" => cmp::gt(&one, &items)?,
            ">=" => cmp::gt_eq(&one, &items)?,
            other => return Err(sql_error(SqlError::unsupported(format!("{other} with ANY or ALL of an array")))),
        };
        let decided = truths.iter().any(|t| t == Some(any));
        out.push(Ok(if decided {
            Some(any)
        } else if truths.null_count() > 0 {
            None
        } else {
            Some(!any)
        }));
    }
    bools(out.into_iter())
}
