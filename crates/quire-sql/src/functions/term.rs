//! `quire_term(x)`: x, as a value that is no column of a table and may be NULL.

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use quire_types::SqlType;

/// The function's name.
pub(crate) const TERM: &str = "quire_term";

pub(super) fn udfs() -> Vec<ScalarUDF> {
    vec![ScalarUDF::from(Term { signature: Signature::any(1, Volatility::Immutable) })]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Term {
    signature: Signature,
}

impl ScalarUDFImpl for Term {
    fn name(&self) -> &str {
        TERM
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        given.first().cloned().ok_or_else(|| DataFusionError::Internal("a term has a value".into()))
    }

    /// Of the field's notes only what its Arrow type does not say of the SQL type.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let from = &args.arg_fields[0];
        let field = match SqlType::of_field(from) {
            Some(ty @ (SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Uuid | SqlType::Json)) => ty.field(TERM, true),
            _ => Field::new(TERM, from.data_type().clone(), true),
        };
        Ok(field.into())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        args.args.into_iter().next().ok_or_else(|| DataFusionError::Internal("a term has a value".into()))
    }
}
