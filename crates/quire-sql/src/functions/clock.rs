//! What time it is: of the transaction and its statements, which stands still, and of the clock, which does not.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility};
use quire_types::SqlType;

use super::calendar::{DAY, to_local};
use super::forms::{Function, Gives, Kind, form};
use super::native::sql_error;

pub(super) fn udfs() -> Vec<ScalarUDF> {
    let moments = [
        ("statement_timestamp", SqlType::Timestamptz),
        ("transaction_timestamp", SqlType::Timestamptz),
        ("localtimestamp", SqlType::Timestamp),
        ("localtime", SqlType::Time),
        ("current_time", SqlType::Time),
    ];
    let moments = moments.into_iter().map(|(name, ty)| {
        let signature = Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::Any(1)], Volatility::Stable);
        ScalarUDF::from(Moment { name, ty, signature })
    });
    moments
        .chain([
            Function::of(
                "clock_timestamp",
                Volatility::Volatile,
                vec![form(&[], Gives::Is(Kind::Timestamptz), |call| {
                    let now = TimestampMicrosecondArray::from(vec![now(); call.rows]);
                    Ok(Arc::new(now.with_data_type(SqlType::Timestamptz.arrow())) as ArrayRef)
                })],
            ),
            Function::of(
                "timeofday",
                Volatility::Volatile,
                vec![form(&[], Gives::Is(Kind::Text), |call| {
                    let now = chrono::DateTime::from_timestamp_micros(now()).unwrap_or_default();
                    let shown = match call.zone.parse::<chrono_tz::Tz>() {
                        Ok(zone) => now.with_timezone(&zone).format("%a %b %d %H:%M:%S%.6f %Y %Z").to_string(),
                        Err(_) => now.format("%a %b %d %H:%M:%S%.6f %Y UTC").to_string(),
                    };
                    Ok(Arc::new(StringViewArray::from_iter_values(vec![shown; call.rows])) as ArrayRef)
                })],
            ),
        ])
        .collect()
}

fn now() -> i64 {
    quire_kit::clock::wall().as_micros() as i64
}

/// The statement's time, in one of its types. A precision, if there is one, rounds nothing away that matters to a statement.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Moment {
    name: &'static str,
    ty: SqlType,
    signature: Signature,
}

impl Moment {
    fn value(&self, micros: i64, zone: &str) -> Result<ScalarValue> {
        let local = to_local(micros, zone).map_err(sql_error)?;
        Ok(match self.ty {
            SqlType::Timestamptz => ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())),
            SqlType::Timestamp => ScalarValue::TimestampMicrosecond(Some(local), None),
            _ => ScalarValue::Time64Microsecond(Some(local.rem_euclid(DAY))),
        })
    }
}

impl ScalarUDFImpl for Moment {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.ty.arrow())
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some(start) = info.query_execution_start_time() else { return Ok(ExprSimplifyResult::Original(args)) };
        let zone = info.config_options().execution.time_zone.clone();
        let value = self.value(start.timestamp_micros(), zone.as_deref().unwrap_or("UTC"))?;
        Ok(ExprSimplifyResult::Simplified(Expr::Literal(value, None)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::Internal(format!("{} is known when a statement starts", self.name)))
    }
}
