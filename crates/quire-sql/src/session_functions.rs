//! Functions that answer from the session: its settings, its user, its search path.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;
use quire_types::SqlType;

use crate::catalog::ScopeCell;
use crate::{SqlError, regtypes, system};

/// From the session, the arguments as arrays, and how many rows they have.
pub(crate) type Body = fn(&ScopeCell, &[ArrayRef], usize) -> Result<ArrayRef, SqlError>;

/// One of them: name, what it gives, and how.
struct OfSession {
    name: &'static str,
    returns: DataType,
    body: Body,
    cell: Arc<ScopeCell>,
    signature: Signature,
}

pub(crate) fn register(context: &SessionContext, cell: &Arc<ScopeCell>) {
    let texts = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let functions: Vec<(&'static str, DataType, Body)> = vec![
        ("current_setting", DataType::Utf8, current_setting),
        ("set_config", DataType::Utf8, set_config),
        ("quire_current_user", DataType::Utf8, |cell, _, n| Ok(repeat(Some(cell.user().as_str()), n))),
        ("current_schema", DataType::Utf8, |cell, _, n| Ok(repeat(existing_path(cell).first().map(String::as_str), n))),
        ("current_schemas", texts, current_schemas),
        ("pg_backend_pid", DataType::Int32, |cell, _, n| Ok(Arc::new(Int32Array::from(vec![cell.backend_pid(); n])))),
        ("pg_is_in_recovery", DataType::Boolean, |_, _, n| Ok(truths(vec![false; n]))),
        ("txid_current", DataType::Int64, |cell, _, n| Ok(Arc::new(Int64Array::from(vec![cell.get().view.lsn.0 as i64; n])))),
        ("pg_size_pretty", DataType::Utf8, |_, args, _| describe(args, |bytes| Some(size_pretty(bytes)))),
        // There are no advisory locks, so none is left.
        ("pg_advisory_unlock_all", DataType::Utf8, |_, _, n| Ok(repeat(Some(""), n))),
        ("to_regclass", DataType::Utf8, |cell, args, _| by_name(args, |name| to_regclass(cell, name))),
        ("to_regtype", DataType::Utf8, |_, args, _| by_name(args, to_regtype)),
        ("to_regnamespace", DataType::Utf8, |cell, args, _| {
            by_name(args, |name| cell.get().catalog.schema_by_name(name).map(|s| s.name.clone()))
        }),
    ];
    register_all(context, cell, functions);
    context.register_udf(ScalarUDF::from(TypeOf { signature: Signature::any(1, Volatility::Stable) }));
    context.register_udf(ScalarUDF::from(ArrayOfQuery { signature: Signature::any(1, Volatility::Immutable) }));
}

pub(crate) fn register_all(context: &SessionContext, cell: &Arc<ScopeCell>, functions: Vec<(&'static str, DataType, Body)>) {
    for (name, returns, body) in functions {
        register_function(context, cell, name, returns, body);
    }
}

/// Adds one of them. What it gives may differ from call to call.
pub(crate) fn register_function(context: &SessionContext, cell: &Arc<ScopeCell>, name: &'static str, returns: DataType, body: Body) {
    context.register_udf(of_session(name, returns, cell, body));
}

/// One function more, which is at home elsewhere.
pub(crate) fn of_session(name: &'static str, returns: DataType, cell: &Arc<ScopeCell>, body: Body) -> ScalarUDF {
    let signature = Signature::one_of(
        vec![datafusion::logical_expr::TypeSignature::Nullary, datafusion::logical_expr::TypeSignature::VariadicAny],
        Volatility::Volatile,
    );
    ScalarUDF::from(OfSession { name, returns, body, cell: cell.clone(), signature })
}

pub(crate) fn repeat(value: Option<&str>, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from(vec![value; rows]))
}

pub(crate) fn truths(values: Vec<bool>) -> ArrayRef {
    Arc::new(BooleanArray::from(values))
}

pub(crate) fn wrong_argument(error: arrow::error::ArrowError) -> SqlError {
    SqlError::new("42883", error.to_string())
}

pub(crate) fn text_of(array: &ArrayRef) -> Result<ArrayRef, SqlError> {
    cast(array, &DataType::Utf8).map_err(wrong_argument)
}

pub(crate) fn argument(args: &[ArrayRef], position: usize) -> Result<&ArrayRef, SqlError> {
    args.get(position).ok_or_else(|| SqlError::new("42883", "an argument is missing"))
}

/// A function of a number.
pub(crate) fn describe(args: &[ArrayRef], of: impl Fn(i64) -> Option<String>) -> Result<ArrayRef, SqlError> {
    let numbers = cast(argument(args, 0)?, &DataType::Int64).map_err(wrong_argument)?;
    Ok(Arc::new(numbers.as_primitive::<Int64Type>().iter().map(|n| of(n?)).collect::<StringArray>()))
}

/// A function of a text.
fn by_name(args: &[ArrayRef], of: impl Fn(&str) -> Option<String>) -> Result<ArrayRef, SqlError> {
    let names = text_of(argument(args, 0)?)?;
    Ok(Arc::new(names.as_string::<i32>().iter().map(|n| of(n?)).collect::<StringArray>()))
}

pub(crate) fn flag(args: &[ArrayRef], position: usize, row: usize) -> bool {
    let Some(array) = args.get(position) else { return false };
    array.as_boolean_opt().is_some_and(|b| b.is_valid(row) && b.value(row))
}

fn current_setting(cell: &ScopeCell, args: &[ArrayRef], _: usize) -> Result<ArrayRef, SqlError> {
    let names = text_of(argument(args, 0)?)?;
    let settings = cell.settings().lock();
    let mut out = vec![];
    for (row, name) in names.as_string::<i32>().iter().enumerate() {
        out.push(match name.map(|name| settings.shown(name)) {
            None => None,
            Some(Ok(value)) => Some(value),
            Some(Err(_)) if flag(args, 1, row) => None,
            Some(Err(error)) => return Err(error),
        });
    }
    Ok(Arc::new(StringArray::from(out)))
}

fn set_config(cell: &ScopeCell, args: &[ArrayRef], _: usize) -> Result<ArrayRef, SqlError> {
    let (names, values) = (text_of(argument(args, 0)?)?, text_of(argument(args, 1)?)?);
    let mut settings = cell.settings().lock();
    let mut out = vec![];
    for (row, (name, value)) in names.as_string::<i32>().iter().zip(values.as_string::<i32>()).enumerate() {
        let Some(name) = name else { return Err(SqlError::new("22004", "SET requires parameter name")) };
        match value {
            Some(value) if flag(args, 2, row) => settings.set_local(name, value)?,
            Some(value) => settings.set(name, value)?,
            None => settings.reset(Some(name))?,
        }
        out.push(Some(settings.shown(name)?));
    }
    Ok(Arc::new(StringArray::from(out)))
}

/// Schemas of the search path that exist.
fn existing_path(cell: &ScopeCell) -> Vec<String> {
    let catalog = cell.get().catalog;
    let mut path = cell.settings().lock().search_path().to_vec();
    path.retain(|s| s == "pg_catalog" || s == "information_schema" || catalog.schema_by_name(s).is_some());
    path
}

fn current_schemas(cell: &ScopeCell, args: &[ArrayRef], rows: usize) -> Result<ArrayRef, SqlError> {
    let path = existing_path(cell);
    let lists = (0..rows).map(|row| {
        let implied = flag(args, 0, row) && !path.iter().any(|s| s == "pg_catalog");
        implied.then(|| "pg_catalog".to_string()).into_iter().chain(path.iter().cloned()).collect::<Vec<_>>()
    });
    let mut builder = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    for list in lists {
        builder.append_value(list.into_iter().map(Some));
    }
    Ok(Arc::new(builder.finish()))
}

fn to_regclass(cell: &ScopeCell, name: &str) -> Option<String> {
    let (catalog, path) = (cell.get().catalog, cell.settings().lock().search_path());
    let oid = regtypes::class_oid(&regtypes::object_name(name).ok()?, &catalog, &path).ok()??;
    Some(regtypes::class_name(oid, &catalog, &path))
}

fn to_regtype(name: &str) -> Option<String> {
    let oid = regtypes::type_oid(name)?;
    Some(system::format_type(&quire_types::Catalog::default(), oid, None))
}

/// As Postgres rounds it: the next unit from 10240 of the one before.
fn size_pretty(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size.abs() >= 10_239.5 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{} {}", size.round(), UNITS[unit])
}

impl fmt::Debug for OfSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for OfSession {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for OfSession {}

impl std::hash::Hash for OfSession {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for OfSession {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args.args.iter().map(|a| a.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let result = (self.body)(&self.cell, &arrays, args.number_rows);
        result.map(ColumnarValue::Array).map_err(|e| DataFusionError::External(Box::new(e)))
    }
}

/// `pg_typeof(x)`: the name of its argument's type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TypeOf {
    signature: Signature,
}

impl ScalarUDFImpl for TypeOf {
    fn name(&self) -> &str {
        "pg_typeof"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = args.arg_fields.first().map_or_else(|| "unknown".to_string(), |field| type_name(field));
        Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::Utf8(Some(name))))
    }
}

fn type_name(field: &Field) -> String {
    match field.data_type() {
        DataType::Null => "unknown".to_string(),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => format!("{}[]", type_name(item)),
        DataType::Struct(_) => "record".to_string(),
        _ => {
            let full = SqlType::of_field(field).unwrap_or(SqlType::Text).name();
            full.split('(').next().unwrap_or(&full).to_string()
        }
    }
}

/// What `ARRAY(SELECT …)` makes of `array_agg`'s NULL for no rows: an empty array.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayOfQuery {
    signature: Signature,
}

impl ScalarUDFImpl for ArrayOfQuery {
    fn name(&self) -> &str {
        "quire_array"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = args.args[0].to_array(args.number_rows)?;
        let Some(list) = array.as_list_opt::<i32>() else { return Ok(ColumnarValue::Array(array)) };
        let DataType::List(item) = list.data_type() else { return Ok(ColumnarValue::Array(array)) };
        // A NULL may still span values: only lists that are there keep theirs.
        let lengths = (0..list.len()).map(|i| if list.is_null(i) { 0 } else { list.value_length(i) as usize });
        let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
        let kept: Vec<ArrayRef> = (0..list.len()).filter(|i| list.is_valid(*i)).map(|i| list.value(i)).collect();
        let kept: Vec<&dyn Array> = kept.iter().map(AsRef::as_ref).collect();
        let values = if kept.is_empty() { arrow::array::new_empty_array(item.data_type()) } else { arrow::compute::concat(&kept)? };
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(item.clone(), offsets, values, None)?)))
    }
}
