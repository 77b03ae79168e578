//! Functions of our own: those of Postgres that the planner lacks and that depend on nothing but their arguments.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::bool_and_or::bool_and_udaf;
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

mod forms;

mod calendar;
mod clock;
mod datetime;
mod extract;
mod series;
mod to_char;
pub(crate) use datetime::SUBTRACT;

mod math;
mod precise;

mod bytes;
mod regexp;
pub(crate) use regexp::in_words as regexp_reason;
mod text;

mod arrays;
mod json;

mod aggregates;
mod ordered;
mod variance;

/// What `version()` says.
pub(crate) fn version() -> String {
    format!("PostgreSQL {SERVER_VERSION} (Quire {})", env!("CARGO_PKG_VERSION"))
}

/// Adds them to a state. Those with a name that the planner knows take its place.
pub(crate) fn register(context: &SessionContext) {
    context.register_udf(ScalarUDF::from(Constant::new("version", version())));
    // What gives rows is called by another name where it gives an array.
    for name in ["generate_series", "range"] {
        context.deregister_udf(name);
    }
    for function in operators().into_iter().chain(named()) {
        // The planner's function of that name goes with its aliases: under one of them it would come back when a session's state is made.
        context.deregister_udf(function.name());
        context.register_udf(function);
    }
    for function in variance::udafs() {
        context.deregister_udaf(function.name());
        context.register_udaf(function);
    }
    context.register_udaf(bool_and_udaf().as_ref().clone().with_aliases(["every"]));
    context.register_udtf("generate_series", Arc::new(series::SeriesFunction));
}

/// Functions that are called by name.
fn named() -> Vec<ScalarUDF> {
    let subjects = [
        clock::udfs(),
        datetime::udfs(),
        extract::udfs(),
        to_char::udfs(),
        math::udfs(),
        precise::udfs(),
        bytes::udfs(),
        regexp::udfs(),
        text::udfs(),
        arrays::udfs(),
        json::udfs(),
        ordered::udfs(),
        vec![series::udf()],
    ];
    subjects.into_iter().flatten().collect()
}

/// True for a function whose integer literals are integers: one that is written here.
pub(crate) fn is_ours(name: &str) -> bool {
    static NAMES: OnceLock<HashSet<String>> = OnceLock::new();
    NAMES.get_or_init(|| named().iter().map(|f| f.name().to_string()).collect()).contains(name)
}

/// What operators, casts and aggregates are planned as.
pub(crate) fn operators() -> Vec<ScalarUDF> {
    [cast::udf(), aggregates::addend()]
        .into_iter()
        .chain(datetime::operators())
        .chain(arrays::operators())
        .chain(json::operators())
        .chain(arithmetic::udfs())
        .chain(intervals::udfs())
        .collect()
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
