//! What our functions have in common: a name, how arguments are brought to types, what comes out, and the work.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use quire_types::SqlType;

use super::call_name::call_name;
use super::clock::home_of;
use crate::SqlError;
use crate::values::Home;

/// What a function is called with: arrays of one length and their fields, the field that is wanted, and the session's time.
pub(super) struct Call<'a> {
    pub(super) arrays: Vec<ArrayRef>,
    pub(super) fields: &'a [FieldRef],
    pub(super) returns: &'a Field,
    pub(super) rows: usize,
    pub(super) zone: &'a str,
    pub(super) home: &'a Home<'a>,
}

type Coerce = fn(&[DataType]) -> Option<Vec<DataType>>;
type Returns = fn(&ReturnFieldArgs) -> Result<Field>;
type Run = fn(&Call) -> Result<ArrayRef>;

/// A function of ours. Two with one name are the same.
#[derive(Debug)]
pub(super) struct Native {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    coerce: Coerce,
    returns: Returns,
    run: Run,
}

impl Native {
    /// `coerce` says which types the function takes for the given ones; `None` for none.
    pub(super) fn udf(name: &'static str, coerce: Coerce, returns: Returns, run: Run) -> ScalarUDF {
        Native::with_volatility(name, Volatility::Immutable, coerce, returns, run)
    }

    pub(super) fn with_volatility(name: &'static str, volatility: Volatility, coerce: Coerce, returns: Returns, run: Run) -> ScalarUDF {
        ScalarUDF::from(Native { name, aliases: vec![], signature: Signature::user_defined(volatility), coerce, returns, run })
    }
}

impl PartialEq for Native {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Native {}

impl Hash for Native {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Native {
    fn name(&self) -> &str {
        self.name
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        call_name(self.name, args)
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        (self.coerce)(given).ok_or_else(|| no_function(self.name, given))
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Err(DataFusionError::Internal(format!("{} is planned by its fields", self.name)))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new((self.returns)(&args)?.with_name(self.name)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        invoke(&args, self.signature.volatility, |call| (self.run)(&call))
    }
}

/// Runs a function over its arguments as arrays: once when all are constant, unless it gives something else each time.
pub(super) fn invoke(
    args: &ScalarFunctionArgs,
    volatility: Volatility,
    run: impl FnOnce(Call<'_>) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let scalars = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
    let constant = scalars && !args.args.is_empty() && volatility != Volatility::Volatile;
    let rows = if constant { 1 } else { args.number_rows };
    let arrays = args.args.iter().map(|a| a.to_array(rows)).collect::<Result<Vec<_>>>()?;
    let home = home_of(&args.config_options);
    let out = run(Call { arrays, fields: &args.arg_fields, returns: &args.return_field, rows, zone: home.zone(), home: &home })?;
    if constant { Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&out, 0)?)) } else { Ok(ColumnarValue::Array(out)) }
}

/// 42883, with the types in Postgres' names.
pub(crate) fn no_function(name: &str, given: &[DataType]) -> DataFusionError {
    missing(name, given.iter().map(shown_type).collect())
}

/// Likewise, where the fields are known.
pub(super) fn no_function_of(name: &str, given: &[FieldRef]) -> DataFusionError {
    let shown = |field: &FieldRef| match field.data_type() {
        DataType::Utf8 => "unknown".to_string(),
        ty => SqlType::of_field(field).map_or_else(|| shown_type(ty), |t| t.name().split('(').next().unwrap_or_default().to_string()),
    };
    missing(name, given.iter().map(shown).collect())
}

fn missing(name: &str, types: Vec<String>) -> DataFusionError {
    sql_error(
        SqlError::new("42883", format!("function {name}({}) does not exist", types.join(", ")))
            .with_hint("No function matches the given name and argument types. You might need to add explicit type casts."),
    )
}

/// A type's name in messages.
pub(crate) fn shown_type(ty: &DataType) -> String {
    match ty {
        DataType::Null => "unknown".into(),
        DataType::Decimal128(_, _) | DataType::Decimal256(_, _) => "numeric".into(),
        DataType::List(item) => format!("{}[]", shown_type(item.data_type())),
        other => SqlType::of_arrow(other).map_or_else(|| other.to_string(), SqlType::name),
    }
}

pub(crate) fn sql_error(error: impl Into<SqlError>) -> DataFusionError {
    DataFusionError::External(Box::new(error.into()))
}

/// The field of a plain type.
pub(super) fn plain(ty: DataType) -> Result<Field> {
    Ok(Field::new("", ty, true))
}

pub(super) fn is_text(ty: &DataType) -> bool {
    matches!(ty, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
}

pub(super) fn is_int(ty: &DataType) -> bool {
    ty.is_integer()
}

pub(super) fn is_decimal(ty: &DataType) -> bool {
    matches!(ty, DataType::Decimal32(_, _) | DataType::Decimal64(_, _) | DataType::Decimal128(_, _) | DataType::Decimal256(_, _))
}

pub(super) fn is_float(ty: &DataType) -> bool {
    matches!(ty, DataType::Float16 | DataType::Float32 | DataType::Float64)
}
