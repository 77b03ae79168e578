//! Functions with several forms, as Postgres' catalog has them: which one a call means is decided by the types of its
//! arguments, those are brought to the form's types by Postgres' casts, and the rest is a function of arrays.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array,
    IntervalMonthDayNanoArray, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Float64Type, Int32Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType,
};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use quire_types::SqlType;

use super::native::{Call, invoke, is_decimal, is_float, is_int, no_function_of, plain, sql_error};
use crate::values::Home;
use crate::{SqlError, values};

/// A type that a form takes or gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Bool,
    Int4,
    Int8,
    Float8,
    /// With the digits that the argument has.
    Numeric,
    Text,
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Uuid,
    Json,
    /// Whatever it is, as it is.
    Any,
    /// An array of anything.
    Array,
}

impl Kind {
    fn sql(self) -> Option<SqlType> {
        Some(match self {
            Kind::Bool => SqlType::Bool,
            Kind::Int4 => SqlType::Int4,
            Kind::Int8 => SqlType::Int8,
            Kind::Float8 => SqlType::Float8,
            Kind::Text => SqlType::Text,
            Kind::Bytea => SqlType::Bytea,
            Kind::Date => SqlType::Date,
            Kind::Time => SqlType::Time,
            Kind::Timestamp => SqlType::Timestamp,
            Kind::Timestamptz => SqlType::Timestamptz,
            Kind::Interval => SqlType::Interval,
            Kind::Uuid => SqlType::Uuid,
            Kind::Json => SqlType::Json,
            Kind::Numeric | Kind::Any | Kind::Array => return None,
        })
    }

    /// How far an argument is from this type: nothing for the type itself, more where Postgres likes a cast less. `None` when there is
    /// no implicit cast.
    fn distance(self, field: &Field) -> Option<u32> {
        let ty = field.data_type();
        let list = matches!(ty, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _));
        match (self, ty) {
            (Kind::Any, _) => return Some(20),
            (Kind::Array, DataType::Null) => return Some(1),
            (Kind::Array, _) => return list.then_some(0),
            (_, DataType::Null) => return Some(1),
            _ if list => return None,
            // A constant in quotes has no type yet; text is the first guess.
            (Kind::Text, DataType::Utf8) => return Some(1),
            (_, DataType::Utf8) if !field.metadata().contains_key(quire_types::FIELD_SQL_TYPE) => return Some(5),
            _ => {}
        }
        let number = |whole: Option<u32>, float: Option<u32>, numeric: Option<u32>| {
            if is_int(ty) {
                whole
            } else if is_float(ty) {
                float
            } else if is_decimal(ty) {
                numeric
            } else {
                None
            }
        };
        let small = matches!(ty, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16);
        match self {
            Kind::Int4 => number(small.then_some(u32::from(*ty != DataType::Int32)), None, None),
            Kind::Int8 => number(Some(if small { 2 } else { 0 }), None, None),
            // Of the types that a number may become, double precision is preferred.
            Kind::Float8 => number(Some(3), Some(u32::from(*ty != DataType::Float64)), Some(3)),
            Kind::Numeric => number(Some(4), None, Some(0)),
            _ => {
                let given = SqlType::of_field(field)?;
                match (self, given) {
                    (Kind::Text, SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_)) => Some(0),
                    (Kind::Timestamptz, SqlType::Timestamp | SqlType::Date) => Some(2),
                    (Kind::Timestamp, SqlType::Date) => Some(3),
                    (Kind::Interval, SqlType::Time) => Some(2),
                    (kind, given) => (kind.sql() == Some(given)).then_some(0),
                }
            }
        }
    }

    /// The argument in this type.
    fn convert(self, array: &ArrayRef, field: &Field, home: &Home<'_>) -> Result<ArrayRef> {
        let to = match self {
            Kind::Any | Kind::Array => return Ok(array.clone()),
            Kind::Numeric => match array.data_type() {
                DataType::Decimal128(_, _) => return Ok(array.clone()),
                ty if is_int(ty) => SqlType::Numeric { precision: 38, scale: 0 },
                ty if is_decimal(ty) => SqlType::of_arrow(ty).unwrap_or(SqlType::NUMERIC_DEFAULT),
                _ => SqlType::NUMERIC_DEFAULT,
            },
            kind => kind.sql().unwrap_or(SqlType::Text),
        };
        if *array.data_type() == to.arrow() {
            return Ok(array.clone());
        }
        values::cast_to(array, field, to, home).map_err(|e| sql_error(SqlError::from(e)))
    }
}

/// What a form gives.
#[derive(Clone, Copy)]
pub(super) enum Gives {
    Is(Kind),
    List(Kind),
    By(fn(&ReturnFieldArgs) -> Result<Field>),
}

impl Gives {
    fn field(self, args: &ReturnFieldArgs) -> Result<Field> {
        let arrow = |kind: Kind| kind.sql().map_or(DataType::Decimal128(38, 0), SqlType::arrow);
        match self {
            // The Arrow type of these does not say what they are.
            Gives::Is(kind @ (Kind::Json | Kind::Uuid)) => Ok(kind.sql().unwrap_or(SqlType::Json).field("", true)),
            Gives::Is(kind) => plain(arrow(kind)),
            Gives::List(kind) => plain(DataType::List(Arc::new(Field::new("item", arrow(kind), true)))),
            Gives::By(of) => of(args),
        }
    }
}

type Run = fn(&Call) -> Result<ArrayRef>;

/// One form.
pub(super) struct Form {
    takes: &'static [Kind],
    /// The last type may come any number of times.
    many: bool,
    gives: Gives,
    run: Run,
}

/// `name(takes …)` gives that, by `run`.
pub(super) fn form(takes: &'static [Kind], gives: Gives, run: Run) -> Form {
    Form { takes, many: false, gives, run }
}

/// A form whose last type may come more often, or not at all.
pub(super) fn variadic(takes: &'static [Kind], gives: Gives, run: Run) -> Form {
    Form { takes, many: true, gives, run }
}

impl Form {
    fn kind(&self, position: usize) -> Option<Kind> {
        self.takes.get(position).or(if self.many { self.takes.last() } else { None }).copied()
    }

    fn distance(&self, fields: &[FieldRef]) -> Option<u32> {
        let enough = if self.many { fields.len() + 1 >= self.takes.len() } else { fields.len() == self.takes.len() };
        if !enough {
            return None;
        }
        fields.iter().enumerate().try_fold(0, |sum, (i, field)| Some(sum + self.kind(i)?.distance(field)?))
    }
}

/// A function of several forms. Two with one name are the same.
pub(super) struct Function {
    name: &'static str,
    forms: Vec<Form>,
    signature: Signature,
}

impl Function {
    pub(super) fn udf(name: &'static str, forms: Vec<Form>) -> ScalarUDF {
        Function::of(name, Volatility::Immutable, forms)
    }

    /// A function that depends on the session, the clock or chance.
    pub(super) fn of(name: &'static str, volatility: Volatility, forms: Vec<Form>) -> ScalarUDF {
        let any = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
        ScalarUDF::from(Function { name, forms, signature: Signature::one_of(any, volatility) })
    }

    fn choose(&self, fields: &[FieldRef]) -> Result<&Form> {
        let fitting = self.forms.iter().filter_map(|form| Some((form.distance(fields)?, form)));
        // The first of those that are equally near.
        let nearest = fitting.min_by_key(|(distance, _)| *distance);
        nearest.map(|(_, form)| form).ok_or_else(|| no_function_of(self.name, fields))
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Err(DataFusionError::Internal(format!("{} is planned by its fields", self.name)))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let form = self.choose(args.arg_fields)?;
        Ok(Arc::new(form.gives.field(&args)?.with_name(self.name)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let form = self.choose(&args.arg_fields)?;
        invoke(&args, self.signature.volatility, |mut call| {
            for (i, array) in call.arrays.iter_mut().enumerate() {
                let kind = form.kind(i).ok_or_else(|| DataFusionError::Internal("a form takes what it was chosen for".into()))?;
                *array = kind.convert(array, &call.fields[i], call.home)?;
            }
            (form.run)(&call)
        })
    }
}

/// Arguments by position, in the type that the form says.
impl Call<'_> {
    pub(super) fn text(&self, i: usize) -> &StringViewArray {
        self.arrays[i].as_string_view()
    }

    pub(super) fn bytes(&self, i: usize) -> &BinaryViewArray {
        self.arrays[i].as_binary_view()
    }

    pub(super) fn int4(&self, i: usize) -> &Int32Array {
        self.arrays[i].as_primitive::<Int32Type>()
    }

    pub(super) fn int8(&self, i: usize) -> &Int64Array {
        self.arrays[i].as_primitive::<Int64Type>()
    }

    pub(super) fn float8(&self, i: usize) -> &Float64Array {
        self.arrays[i].as_primitive::<Float64Type>()
    }

    pub(super) fn numeric(&self, i: usize) -> &Decimal128Array {
        self.arrays[i].as_primitive::<Decimal128Type>()
    }

    pub(super) fn interval(&self, i: usize) -> &IntervalMonthDayNanoArray {
        self.arrays[i].as_primitive::<IntervalMonthDayNanoType>()
    }

    /// Microseconds of a timestamp, with or without time zone.
    pub(super) fn micros(&self, i: usize) -> &TimestampMicrosecondArray {
        self.arrays[i].as_primitive::<TimestampMicrosecondType>()
    }

    /// Microseconds since midnight.
    pub(super) fn time(&self, i: usize) -> &arrow::array::Time64MicrosecondArray {
        self.arrays[i].as_primitive::<Time64MicrosecondType>()
    }

    pub(super) fn date(&self, i: usize) -> &arrow::array::Date32Array {
        self.arrays[i].as_primitive::<Date32Type>()
    }
}

/// What one row gives: a value, NULL or an error.
pub(super) type Row<T> = std::result::Result<Option<T>, SqlError>;

/// Row by row; NULL where the argument is.
pub(super) fn each1<A, R>(a: impl IntoIterator<Item = Option<A>>, f: impl Fn(A) -> Row<R>) -> impl Iterator<Item = Row<R>> {
    a.into_iter().map(move |a| a.map_or(Ok(None), &f))
}

/// Row by row; NULL where an argument is.
pub(super) fn each2<A, B, R>(
    a: impl IntoIterator<Item = Option<A>>,
    b: impl IntoIterator<Item = Option<B>>,
    f: impl Fn(A, B) -> Row<R>,
) -> impl Iterator<Item = Row<R>> {
    a.into_iter().zip(b).map(move |(a, b)| a.zip(b).map_or(Ok(None), |(a, b)| f(a, b)))
}

/// Row by row; NULL where an argument is.
pub(super) fn each3<A, B, C, R>(
    a: impl IntoIterator<Item = Option<A>>,
    b: impl IntoIterator<Item = Option<B>>,
    c: impl IntoIterator<Item = Option<C>>,
    f: impl Fn(A, B, C) -> Row<R>,
) -> impl Iterator<Item = Row<R>> {
    a.into_iter().zip(b).zip(c).map(move |((a, b), c)| match (a, b, c) {
        (Some(a), Some(b), Some(c)) => f(a, b, c),
        _ => Ok(None),
    })
}

macro_rules! collectors {
    ($($name:ident, $item:ty, $array:ty;)*) => {$(
        /// Collects rows into an array.
        pub(super) fn $name(rows: impl Iterator<Item = Row<$item>>) -> Result<ArrayRef> {
            Ok(Arc::new(rows.collect::<std::result::Result<$array, SqlError>>().map_err(sql_error)?))
        }
    )*};
}

collectors! {
    texts, String, StringViewArray;
    blobs, Vec<u8>, BinaryViewArray;
    bools, bool, BooleanArray;
    int4s, i32, Int32Array;
    int8s, i64, Int64Array;
    float8s, f64, Float64Array;
    dates, i32, arrow::array::Date32Array;
    times, i64, arrow::array::Time64MicrosecondArray;
    timestamps, i64, TimestampMicrosecondArray;
    intervals, IntervalMonthDayNano, IntervalMonthDayNanoArray;
}

pub(super) fn timestamptzs(rows: impl Iterator<Item = Row<i64>>) -> Result<ArrayRef> {
    let moments = rows.collect::<std::result::Result<TimestampMicrosecondArray, SqlError>>().map_err(sql_error)?;
    Ok(Arc::new(moments.with_data_type(SqlType::Timestamptz.arrow())))
}

/// Unscaled numerics, of the call's result type.
pub(super) fn numerics(call: &Call, rows: impl Iterator<Item = Row<i128>>) -> Result<ArrayRef> {
    let values = rows.collect::<std::result::Result<Decimal128Array, SqlError>>().map_err(sql_error)?;
    if values.iter().flatten().any(|v| v.unsigned_abs() >= 10u128.pow(38)) {
        return Err(sql_error(SqlError::new("22003", "value overflows numeric format")));
    }
    Ok(Arc::new(values.with_data_type(call.returns.data_type().clone())))
}

/// The digits after the point of the result.
pub(super) fn result_scale(call: &Call) -> i8 {
    if let DataType::Decimal128(_, scale) = call.returns.data_type() { *scale } else { 0 }
}

/// Lists of texts, one a row.
pub(super) fn text_lists(rows: impl Iterator<Item = Row<Vec<Option<String>>>>) -> Result<ArrayRef> {
    let field = Arc::new(Field::new("item", DataType::Utf8View, true));
    let mut lists = arrow::array::ListBuilder::new(arrow::array::StringViewBuilder::new()).with_field(field);
    for row in rows {
        match row.map_err(sql_error)? {
            Some(items) => lists.append_value(items),
            None => lists.append_null(),
        }
    }
    Ok(Arc::new(lists.finish()))
}

/// A constant text argument, known while planning.
pub(super) fn constant_text<'a>(args: &'a ReturnFieldArgs, position: usize) -> Option<&'a str> {
    args.scalar_arguments.get(position).copied().flatten().and_then(|v: &ScalarValue| v.try_as_str().flatten())
}

/// A constant integer argument, known while planning.
pub(super) fn constant_int(args: &ReturnFieldArgs, position: usize) -> Option<i64> {
    let value = args.scalar_arguments.get(position).copied().flatten()?;
    match value.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(value) => value,
        _ => None,
    }
}

/// The digits after the point that an argument has: none for an integer.
pub(super) fn argument_scale(args: &ReturnFieldArgs, position: usize) -> i8 {
    match args.arg_fields.get(position).map(|f| f.data_type()) {
        Some(DataType::Decimal128(_, scale)) => *scale,
        Some(ty) if is_int(ty) => 0,
        _ => 9,
    }
}

pub(super) fn numeric_field(scale: i64) -> Result<Field> {
    plain(DataType::Decimal128(38, scale.clamp(0, 37) as i8))
}
