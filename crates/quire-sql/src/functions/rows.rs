//! Functions about the rows of sub-queries: several values as one row, and the row of a sub-query that may have only one.

use std::mem::size_of_val;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::scalar::ScalarStructBuilder;
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::native::sql_error;
use crate::SqlError;

/// The function that makes a row of its arguments.
pub(crate) const ROW: &str = "quire_row";
/// Begins the names of such a row's fields.
pub(crate) const PART: &str = "quire:part:";

pub(super) fn udfs() -> Vec<ScalarUDF> {
    vec![ScalarUDF::from(Row { signature: Signature::variadic_any(Volatility::Immutable) })]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Row {
    signature: Signature,
}

impl ScalarUDFImpl for Row {
    fn name(&self) -> &str {
        ROW
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        let field = |(i, ty): (usize, &DataType)| Field::new(format!("{PART}{i}"), ty.clone(), true);
        Ok(DataType::Struct(given.iter().enumerate().map(field).collect::<Vec<Field>>().into()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args.args.iter().map(|a| a.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let DataType::Struct(fields) = args.return_field.data_type() else { return Err(internal("a row is a struct")) };
        Ok(ColumnarValue::Array(Arc::new(StructArray::try_new(fields.clone(), arrays, None)?)))
    }
}

fn internal(message: &str) -> DataFusionError {
    DataFusionError::Internal(message.to_string())
}

/// What the aggregate gives: the first row's value, and whether there are more rows. NULL for none.
fn first_and_more(value: &DataType) -> DataType {
    DataType::Struct(vec![Field::new("value", value.clone(), true), Field::new("more", DataType::Boolean, true)].into())
}

/// The aggregate under a sub-query that may have one row only.
pub(crate) fn first_row() -> AggregateUDF {
    AggregateUDF::from(FirstRow { signature: Signature::any(1, Volatility::Immutable) })
}

/// The value that it found; 21000 when there were more. An error only where the value is asked for: the aggregate sees rows of groups that
/// nobody asks about.
pub(crate) fn only_value() -> ScalarUDF {
    // Volatile, so that it stays where it is.
    ScalarUDF::from(OnlyValue { signature: Signature::any(1, Volatility::Volatile) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FirstRow {
    signature: Signature,
}

impl AggregateUDFImpl for FirstRow {
    fn name(&self) -> &str {
        "quire_first_row"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        given.first().map(first_and_more).ok_or_else(|| internal("a row has a value"))
    }

    fn return_field(&self, given: &[FieldRef]) -> Result<FieldRef> {
        let value = given.first().ok_or_else(|| internal("a row has a value"))?;
        let field = Field::new(self.name(), first_and_more(value.data_type()), true);
        Ok(field.with_metadata(value.metadata().clone()).into())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let DataType::Struct(fields) = args.return_field.data_type() else { return Err(internal("a row is a struct")) };
        Ok(Box::new(First { fields: fields.clone(), value: None, more: false }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Field::new(format!("{}.first", args.name), args.return_field.data_type().clone(), true).into()])
    }
}

#[derive(Debug)]
struct First {
    fields: Fields,
    value: Option<ScalarValue>,
    more: bool,
}

impl First {
    fn add(&mut self, value: ScalarValue, more: bool) {
        self.more |= more || self.value.is_some();
        self.value.get_or_insert(value);
    }
}

impl Accumulator for First {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = &values[0];
        if !values.is_empty() {
            self.add(ScalarValue::try_from_array(values, 0)?, values.len() > 1);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match &self.value {
            None => ScalarValue::try_from(&DataType::Struct(self.fields.clone())),
            Some(value) => ScalarStructBuilder::new()
                .with_scalar(&self.fields[0], value.clone())
                .with_scalar(&self.fields[1], ScalarValue::Boolean(Some(self.more)))
                .build(),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.value.as_ref().map_or(0, ScalarValue::size)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states[0].as_struct();
        for row in (0..rows.len()).filter(|row| rows.is_valid(*row)) {
            let more = rows.column(1).as_boolean().value(row);
            self.add(ScalarValue::try_from_array(rows.column(0), row)?, more);
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OnlyValue {
    signature: Signature,
}

fn value_type(row: &DataType) -> Result<DataType> {
    match row {
        DataType::Struct(fields) if !fields.is_empty() => Ok(fields[0].data_type().clone()),
        _ => Err(internal("a row is a struct")),
    }
}

impl ScalarUDFImpl for OnlyValue {
    fn name(&self) -> &str {
        "quire_only_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        value_type(given.first().ok_or_else(|| internal("a row has a value"))?)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let row = &args.arg_fields[0];
        let field = Field::new(self.name(), value_type(row.data_type())?, true);
        Ok(field.with_metadata(row.metadata().clone()).into())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.args[0].to_array(args.number_rows)?;
        let rows = rows.as_struct_opt().ok_or_else(|| internal("a row is a struct"))?;
        let more = rows.column(1).as_boolean();
        if (0..rows.len()).any(|row| rows.is_valid(row) && more.is_valid(row) && more.value(row)) {
            return Err(sql_error(SqlError::new("21000", "more than one row returned by a subquery used as an expression")));
        }
        Ok(ColumnarValue::Array(take(rows.column(0), &present(rows), None)?))
    }
}

/// Each row's place, and none for a row that is NULL: its parts are NULL then, whatever lies there.
pub(crate) fn present(rows: &StructArray) -> UInt32Array {
    (0..rows.len()).map(|row| rows.is_valid(row).then_some(row as u32)).collect()
}
