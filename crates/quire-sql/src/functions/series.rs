//! `generate_series`: as a relation that makes its rows batch by batch, and as an array.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int32Array, Int64Array, ListArray, TimestampMicrosecondArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Expr, ReturnFieldArgs, ScalarUDF, TableType, Volatility};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::memory::{LazyBatchGenerator, LazyMemoryExec};
use parking_lot::RwLock;
use quire_types::SqlType;

use super::calendar::{add_interval, add_interval_in};
use super::clock::home_of;
use super::forms::{Form, Function, Gives, Kind, argument_scale, form};
use super::native::{Call, no_function, plain, sql_error};
use crate::SqlError;
use crate::values::Home;

use Kind::{Int4, Int8, Interval, Numeric, Timestamp, Timestamptz};

/// Items of an array that a series may fill, so that one call cannot take the memory of all.
const ITEMS_MAX: usize = 50_000_000;

/// How a series goes on.
#[derive(Clone, Debug)]
enum Step {
    Number(i128),
    /// In the zone, for timestamps that have one.
    Span(IntervalMonthDayNano, Option<String>),
}

/// A series under way: integers, unscaled numerics or microseconds.
#[derive(Clone, Debug)]
struct Series {
    item: DataType,
    next: Option<i128>,
    stop: i128,
    step: Step,
    forward: bool,
}

impl Series {
    fn new(item: DataType, start: i128, stop: i128, step: Step) -> std::result::Result<Series, SqlError> {
        let forward = match &step {
            Step::Number(step) => step.signum(),
            Step::Span(span, _) => {
                let length = crate::values::interval::comparison_key(*span);
                length.signum()
            }
        };
        if forward == 0 {
            return Err(SqlError::new("22023", "step size cannot equal zero"));
        }
        Ok(Series { item, next: Some(start), stop, step, forward: forward > 0 })
    }

    fn empty(item: DataType) -> Series {
        Series { item, next: None, stop: 0, step: Step::Number(1), forward: true }
    }

    /// The next so many values, fewer at the end.
    fn take(&mut self, most: usize) -> std::result::Result<Vec<i128>, SqlError> {
        let mut values = vec![];
        while let Some(value) = self.next.filter(|v| if self.forward { *v <= self.stop } else { *v >= self.stop }) {
            if values.len() == most {
                return Ok(values);
            }
            values.push(value);
            self.next = match &self.step {
                Step::Number(step) => value.checked_add(*step),
                Step::Span(span, zone) => {
                    let micros = i64::try_from(value).unwrap_or(i64::MAX);
                    let moved = match zone {
                        Some(zone) => Some(add_interval_in(micros, *span, zone)?),
                        None => add_interval(micros, *span),
                    };
                    moved.map(i128::from).filter(|moved| *moved != value)
                }
            };
        }
        self.next = None;
        Ok(values)
    }

    fn array(&self, values: Vec<i128>) -> Result<ArrayRef> {
        Ok(match &self.item {
            DataType::Int32 => Arc::new(values.into_iter().map(|v| i32::try_from(v).ok()).collect::<Int32Array>()),
            DataType::Int64 => Arc::new(values.into_iter().map(|v| i64::try_from(v).ok()).collect::<Int64Array>()),
            DataType::Decimal128(_, _) => Arc::new(Decimal128Array::from(values).with_data_type(self.item.clone())),
            _ => {
                let moments: TimestampMicrosecondArray = values.into_iter().map(|v| i64::try_from(v).ok()).collect();
                Arc::new(moments.with_data_type(self.item.clone()))
            }
        })
    }
}

/// The forms of `generate_series` as an array.
pub(super) fn udf() -> ScalarUDF {
    let mut forms = vec![];
    for takes in
        [&[Int4, Int4][..], &[Int4, Int4, Int4], &[Int8, Int8], &[Int8, Int8, Int8], &[Numeric, Numeric], &[Numeric, Numeric, Numeric]]
    {
        forms.push(listing(takes));
    }
    forms.push(listing(&[Timestamp, Timestamp, Interval]));
    forms.push(listing(&[Timestamptz, Timestamptz, Interval]));
    Function::of("quire_rows_of_generate_series", Volatility::Stable, forms)
}

fn listing(takes: &'static [Kind]) -> Form {
    match takes[0] {
        Numeric => form(takes, Gives::By(numeric_list), lists),
        kind => form(takes, Gives::List(kind), lists),
    }
}

/// The most digits after the point that an argument has.
fn numeric_list(args: &ReturnFieldArgs) -> Result<Field> {
    let scale = (0..args.arg_fields.len()).map(|i| argument_scale(args, i)).max().unwrap_or(0);
    plain(DataType::List(Arc::new(Field::new("item", DataType::Decimal128(38, scale), true))))
}

fn lists(call: &Call) -> Result<ArrayRef> {
    let DataType::List(item) = call.returns.data_type() else { return Err(sql_error(SqlError::internal("a series is a list"))) };
    let mut all = vec![];
    let mut lengths = vec![];
    for row in 0..call.rows {
        let scalars = call.arrays.iter().map(|a| ScalarValue::try_from_array(a, row)).collect::<Result<Vec<_>>>()?;
        let mut series = series_of(&scalars, item.data_type(), call.zone)?;
        let values = series.take(ITEMS_MAX.saturating_sub(all.len()) + 1).map_err(sql_error)?;
        lengths.push(values.len());
        all.extend(values);
        if all.len() > ITEMS_MAX {
            let error = SqlError::new("54000", format!("a series in a select list has at most {ITEMS_MAX} rows"));
            return Err(sql_error(error.with_hint("Call generate_series in FROM.")));
        }
    }
    let values = Series::empty(item.data_type().clone()).array(all)?;
    // An empty list makes no rows, where NULL would make none either.
    let valid = NullBuffer::new_valid(lengths.len());
    Ok(Arc::new(ListArray::try_new(item.clone(), OffsetBuffer::from_lengths(lengths), values, Some(valid))?))
}

/// The series of one row's arguments.
fn series_of(arguments: &[ScalarValue], item: &DataType, zone: &str) -> Result<Series> {
    if arguments.iter().any(ScalarValue::is_null) {
        return Ok(Series::empty(item.clone()));
    }
    let number = |value: &ScalarValue| -> Result<i128> {
        Ok(match value.cast_to(item)? {
            ScalarValue::Int32(Some(v)) => v.into(),
            ScalarValue::Int64(Some(v)) => v.into(),
            ScalarValue::Decimal128(Some(v), _, _) => v,
            ScalarValue::TimestampMicrosecond(Some(v), _) => v.into(),
            _ => return Err(sql_error(SqlError::internal("a series is of numbers or timestamps"))),
        })
    };
    let (start, stop) = (number(&arguments[0])?, number(&arguments[1])?);
    let step = match arguments.get(2) {
        Some(ScalarValue::IntervalMonthDayNano(Some(span))) => {
            let zoned = matches!(item, DataType::Timestamp(_, Some(_)));
            Step::Span(*span, zoned.then(|| zone.to_string()))
        }
        Some(step) => Step::Number(number(step)?),
        None => match item {
            DataType::Decimal128(_, scale) => Step::Number(10i128.pow(*scale as u32)),
            _ => Step::Number(1),
        },
    };
    Series::new(item.clone(), start, stop, step).map_err(sql_error)
}

/// `generate_series` of constants in FROM.
#[derive(Debug)]
pub(super) struct SeriesFunction;

impl TableFunctionImpl for SeriesFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let constants = args.exprs().iter().map(|expr| match expr {
            Expr::Literal(value, _) => Ok(value.clone()),
            _ => Err(sql_error(SqlError::unsupported("generate_series of such an argument in FROM"))),
        });
        let given = constants.collect::<Result<Vec<_>>>()?;
        let session = args.session();
        let home = home_of(session.config_options());
        let (item, arguments) = typed(given, &home)?;
        let series = series_of(&arguments, &item, home.zone())?;
        let schema = Arc::new(Schema::new(vec![Field::new("generate_series", item, true)]));
        Ok(Arc::new(SeriesTable { series, schema }))
    }
}

/// The type of the rows, and the arguments in the types that they take.
fn typed(given: Vec<ScalarValue>, home: &Home<'_>) -> Result<(DataType, Vec<ScalarValue>)> {
    let types: Vec<DataType> = given.iter().map(ScalarValue::data_type).collect();
    let refused = || no_function("generate_series", &types);
    if !(2..=3).contains(&given.len()) {
        return Err(refused());
    }
    let bounds = &types[..2];
    let is_text = |ty: &DataType| matches!(ty, DataType::Utf8 | DataType::Null);
    if types.iter().any(|t| matches!(t, DataType::Interval(_))) || bounds.iter().any(DataType::is_temporal) {
        if types.len() != 3 {
            return Err(refused());
        }
        // Dates become timestamps with time zone, which is the preferred type.
        let local = bounds.iter().all(|t| matches!(t, DataType::Timestamp(_, None)) || is_text(t));
        let ty = if local { SqlType::Timestamp } else { SqlType::Timestamptz };
        let wanted = [ty, ty, SqlType::Interval];
        let arguments = given.iter().zip(wanted).map(|(value, ty)| super::cast_scalar(value, ty, home)).collect::<Result<Vec<_>>>()?;
        return Ok((DataType::Timestamp(TimeUnit::Microsecond, if local { None } else { Some("UTC".into()) }), arguments));
    }
    let scale = types.iter().filter_map(|t| if let DataType::Decimal128(_, s) = t { Some(*s) } else { None }).max();
    let item = match scale {
        Some(scale) if types.iter().all(|t| t.is_integer() || is_text(t) || matches!(t, DataType::Decimal128(_, _))) => {
            DataType::Decimal128(38, scale)
        }
        None if types.iter().all(|t| t.is_integer() || is_text(t)) => {
            if types.iter().any(|t| matches!(t, DataType::Int64 | DataType::UInt32 | DataType::UInt64)) {
                DataType::Int64
            } else {
                DataType::Int32
            }
        }
        _ => return Err(refused()),
    };
    Ok((item, given))
}

/// The relation.
#[derive(Debug)]
struct SeriesTable {
    series: Series,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for SeriesTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = state.config_options().execution.batch_size.get();
        let generator = Generator { first: self.series.clone(), series: self.series.clone(), schema: self.schema.clone(), rows };
        let generator: Arc<RwLock<dyn LazyBatchGenerator>> = Arc::new(RwLock::new(generator));
        let exec = LazyMemoryExec::try_new(self.schema.clone(), vec![generator])?;
        Ok(Arc::new(exec.with_projection(projection.cloned())))
    }
}

#[derive(Debug)]
struct Generator {
    first: Series,
    series: Series,
    schema: SchemaRef,
    rows: usize,
}

impl fmt::Display for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("generate_series")
    }
}

impl LazyBatchGenerator for Generator {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn generate_next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let values = self.series.take(self.rows).map_err(sql_error)?;
        if values.is_empty() {
            return Ok(None);
        }
        let array = self.series.array(values)?;
        Ok(Some(RecordBatch::try_new(self.schema.clone(), vec![array])?))
    }

    fn reset_state(&self) -> Arc<RwLock<dyn LazyBatchGenerator>> {
        let (first, schema) = (self.first.clone(), self.schema.clone());
        Arc::new(RwLock::new(Generator { series: first.clone(), first, schema, rows: self.rows }))
    }
}
