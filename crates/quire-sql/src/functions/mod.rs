//! Functions of our own: those of Postgres that the planner lacks and that depend on nothing but their arguments.

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;

use crate::settings::SERVER_VERSION;

mod native;
pub(crate) use native::{shown_type, sql_error};

mod cast;
pub(crate) use cast::{CAST, cast_scalar, udf as cast_udf, written_scale};

mod arithmetic;
pub(crate) use arithmetic::common;

mod intervals;

mod aggregates;

/// What `version()` says.
pub(crate) fn version() -> String {
    format!("PostgreSQL {SERVER_VERSION} (Quire {})", env!("CARGO_PKG_VERSION"))
}

/// Adds them to a state.
pub(crate) fn register(context: &SessionContext) {
    context.register_udf(ScalarUDF::from(Constant::new("version", version())));
    for function in operators() {
        context.register_udf(function);
    }
}

/// What operators, casts and aggregates are planned as.
pub(crate) fn operators() -> Vec<ScalarUDF> {
    [cast::udf(), aggregates::addend()].into_iter().chain(arithmetic::udfs()).chain(intervals::udfs()).collect()
}

/// A function without arguments that always gives the same text.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    value: String,
    signature: Signature,
}

impl Constant {
    fn new(name: &'static str, value: String) -> Constant {
        Constant { name, value, signature: Signature::nullary(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(self.value.clone()))))
    }
}
