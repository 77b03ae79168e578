//! Functions of our own: those of Postgres that the planner lacks and that depend on nothing but their arguments.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::bool_and_or::bool_and_udaf;
use datafusion::logical_expr::{AggregateUDF, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;

use crate::settings::SERVER_VERSION;

mod call_name;

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
pub(crate) use clock::register as register_moments;
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

mod rows;
pub(crate) use rows::{PART, ROW, first_row, only_value, present};
mod term;
pub(crate) use term::TERM;

mod aggregates;
mod ordered;
mod variance;

/// What `version()` says.
pub(crate) fn version() -> String {
    format!("PostgreSQL {SERVER_VERSION} (Quire {})", env!("CARGO_PKG_VERSION"))
}

/// All of them. Those with a name that the planner knows take its place.
pub(crate) struct Own {
    scalar: Vec<ScalarUDF>,
    aggregate: Vec<AggregateUDF>,
}

impl Own {
    pub(crate) fn new() -> Own {
        let version = ScalarUDF::from(Constant::new("version", version()));
        let every = bool_and_udaf().as_ref().clone().with_aliases(["every"]);
        Own {
            scalar: operators().into_iter().chain(named()).chain([version]).collect(),
            aggregate: variance::udafs().into_iter().chain([every]).collect(),
        }
    }

    /// Adds them to a state. For every state anew: one that is made from another has its functions in no order, and a function of the
    /// planner that has one of our names for an alias may have come back under it.
    pub(crate) fn register(&self, context: &SessionContext) {
        // What gives rows is called by another name where it gives an array.
        for name in ["generate_series", "range"] {
            context.deregister_udf(name);
        }
        for function in &self.scalar {
            context.register_udf(function.clone());
        }
        for function in &self.aggregate {
            context.register_udaf(function.clone());
        }
        context.register_udtf("generate_series", Arc::new(series::SeriesFunction));
    }
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
        rows::udfs(),
        term::udfs(),
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
        .chain(math::operators())
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
