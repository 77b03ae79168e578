//! Variances and standard deviations: of integers and numerics exactly, and as numeric; of floats as floats.

use std::mem::size_of_val;
use std::str::FromStr;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Field, FieldRef, Float64Type, Int64Type, i256};
use dashu_float::DBig;
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use super::native::{is_decimal, is_float, is_int, no_function, sql_error};
use crate::SqlError;
use crate::values::numeric::parse_decimal;

/// Digits after the point of a numeric result; see `arithmetic` on quotients.
const SCALE: i8 = 16;
/// Digits that a sum may have.
const SUM_DIGITS: u8 = 76;

/// Aggregates under all their names.
pub(super) fn udafs() -> Vec<AggregateUDF> {
    let of =
        |name, root, sample| AggregateUDF::from(Variance { name, root, sample, signature: Signature::user_defined(Volatility::Immutable) });
    vec![
        of("var_samp", false, true),
        of("variance", false, true),
        of("var_pop", false, false),
        of("stddev", true, true),
        of("stddev_samp", true, true),
        of("stddev_pop", true, false),
    ]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Variance {
    name: &'static str,
    /// The square root of the variance.
    root: bool,
    /// Over one less than the number of values.
    sample: bool,
    signature: Signature,
}

impl AggregateUDFImpl for Variance {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [ty] if is_float(ty) => Ok(vec![DataType::Float64]),
            [DataType::Decimal128(_, _)] => Ok(given.to_vec()),
            [ty] if is_decimal(ty) => Ok(vec![DataType::Decimal128(38, if let DataType::Decimal256(_, s) = ty { *s } else { 9 })]),
            [ty] if is_int(ty) || *ty == DataType::Null => Ok(vec![DataType::Decimal128(20, 0)]),
            _ => Err(no_function(self.name, given)),
        }
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(if is_float(&given[0]) { DataType::Float64 } else { DataType::Decimal128(38, SCALE) })
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return Err(sql_error(SqlError::unsupported(format!("{}(DISTINCT …)", self.name))));
        }
        let (root, sample) = (self.root, self.sample);
        Ok(match args.expr_fields[0].data_type() {
            DataType::Decimal128(_, scale) => {
                Box::new(Exact { root, sample, scale: *scale, count: 0, sum: i256::ZERO, squares: i256::ZERO }) as Box<dyn Accumulator>
            }
            _ => Box::new(Floating { root, sample, count: 0.0, sum: 0.0, deviations: 0.0 }),
        })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name: &str, ty| Field::new(format!("{}.{name}", args.name), ty, true).into();
        Ok(match args.input_fields[0].data_type() {
            DataType::Decimal128(_, _) => vec![
                field("count", DataType::Int64),
                field("sum", DataType::Decimal256(SUM_DIGITS, 0)),
                field("squares", DataType::Decimal256(SUM_DIGITS, 0)),
            ],
            _ => vec![field("count", DataType::Float64), field("sum", DataType::Float64), field("deviations", DataType::Float64)],
        })
    }
}

fn overflow() -> DataFusionError {
    sql_error(SqlError::new("22003", "value overflows numeric format"))
}

/// Sums of unscaled values and of their squares.
#[derive(Debug)]
struct Exact {
    root: bool,
    sample: bool,
    scale: i8,
    count: i64,
    sum: i256,
    squares: i256,
}

impl Exact {
    fn add(&mut self, values: &Decimal128Array, sign: i64) -> Result<()> {
        for value in values.iter().flatten() {
            let value = i256::from_i128(value);
            let square = value.checked_mul(value).ok_or_else(overflow)?;
            let (sum, squares) = if sign > 0 {
                (self.sum.checked_add(value), self.squares.checked_add(square))
            } else {
                (self.sum.checked_sub(value), self.squares.checked_sub(square))
            };
            (self.sum, self.squares) = sum.zip(squares).ok_or_else(overflow)?;
            self.count += sign;
        }
        Ok(())
    }

    fn result(&self) -> Result<Option<i128>> {
        let divisor = if self.sample { self.count - 1 } else { self.count };
        if divisor <= 0 {
            return Ok(None);
        }
        let big = |value: &str| DBig::from_str(value).unwrap_or(DBig::ZERO).with_precision(100).value();
        let (count, sum, squares) = (big(&self.count.to_string()), big(&self.sum.to_string()), big(&self.squares.to_string()));
        let deviations = count.clone() * squares - sum.clone() * sum;
        let unscaled = deviations / (count * big(&divisor.to_string()));
        let variance = unscaled / big(&format!("1e{}", 2 * i32::from(self.scale)));
        let digits = |value: &DBig| parse_decimal(value.to_string().as_bytes(), 38, SCALE).map_err(|e| sql_error(SqlError::from(e)));
        let rounded = digits(&variance)?;
        if !self.root {
            return Ok(Some(rounded));
        }
        Ok(Some(digits(&big(&format!("{rounded}e-{SCALE}")).sqrt())?))
    }
}

impl Accumulator for Exact {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(values[0].as_primitive::<Decimal128Type>(), 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(values[0].as_primitive::<Decimal128Type>(), -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Decimal128(self.result()?, 38, SCALE))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![
            ScalarValue::Int64(Some(self.count)),
            ScalarValue::Decimal256(Some(self.sum), SUM_DIGITS, 0),
            ScalarValue::Decimal256(Some(self.squares), SUM_DIGITS, 0),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (counts, sums) = (states[0].as_primitive::<Int64Type>(), states[1].as_primitive::<Decimal256Type>());
        let squares = states[2].as_primitive::<Decimal256Type>();
        for row in (0..counts.len()).filter(|row| counts.is_valid(*row)) {
            self.count += counts.value(row);
            let added = self.sum.checked_add(sums.value(row)).zip(self.squares.checked_add(squares.value(row)));
            (self.sum, self.squares) = added.ok_or_else(overflow)?;
        }
        Ok(())
    }
}

/// The algorithm of Youngs and Cramer, which PostgreSQL has too: count, sum, and sum of squared deviations.
#[derive(Debug)]
struct Floating {
    root: bool,
    sample: bool,
    count: f64,
    sum: f64,
    deviations: f64,
}

impl Floating {
    fn merge(&mut self, count: f64, sum: f64, deviations: f64) {
        if count == 0.0 {
            return;
        }
        if self.count == 0.0 {
            (self.count, self.sum, self.deviations) = (count, sum, deviations);
            return;
        }
        let apart = self.sum / self.count - sum / count;
        self.deviations += deviations + self.count * count * apart * apart / (self.count + count);
        self.count += count;
        self.sum += sum;
    }
}

impl Accumulator for Floating {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Float64Type>().iter().flatten() {
            self.count += 1.0;
            self.sum += value;
            if self.count > 1.0 {
                let apart = value * self.count - self.sum;
                self.deviations += apart * apart / (self.count * (self.count - 1.0));
            } else if !value.is_finite() {
                self.deviations = f64::NAN;
            }
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Float64Type>().iter().flatten() {
            if self.count <= 1.0 {
                (self.count, self.sum, self.deviations) = (0.0, 0.0, 0.0);
                continue;
            }
            let apart = value * self.count - self.sum;
            self.deviations -= apart * apart / (self.count * (self.count - 1.0));
            self.count -= 1.0;
            self.sum -= value;
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let divisor = if self.sample { self.count - 1.0 } else { self.count };
        let variance = (divisor > 0.0).then(|| self.deviations.max(0.0) / divisor);
        let variance = if self.deviations.is_nan() && divisor > 0.0 { Some(f64::NAN) } else { variance };
        Ok(ScalarValue::Float64(if self.root { variance.map(f64::sqrt) } else { variance }))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok([self.count, self.sum, self.deviations].map(|v| ScalarValue::Float64(Some(v))).to_vec())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let columns: Vec<_> = states.iter().map(|s| s.as_primitive::<Float64Type>()).collect();
        for row in 0..columns[0].len() {
            self.merge(columns[0].value(row), columns[1].value(row), columns[2].value(row));
        }
        Ok(())
    }
}
