//! Functions of our own: those of Postgres that the planner lacks and that depend on nothing but their arguments.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;
use quire_types::SqlType;

use crate::SqlError;
use crate::settings::SERVER_VERSION;
use crate::values;

/// What `version()` says.
pub(crate) fn version() -> String {
    format!("PostgreSQL {SERVER_VERSION} (Quire {})", env!("CARGO_PKG_VERSION"))
}

/// Adds them to a state.
pub(crate) fn register(context: &SessionContext) {
    context.register_udf(ScalarUDF::from(Constant::new("version", version())));
    context.register_udf(ScalarUDF::from(TextInput::new("quire_uuid", SqlType::Uuid)));
    context.register_udf(ScalarUDF::from(TextInput::new("quire_json", SqlType::Json)));
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

/// A cast from text to a type that is kept as text: checks and normalizes (uuid, json).
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextInput {
    name: &'static str,
    ty: SqlType,
    signature: Signature,
}

impl TextInput {
    fn new(name: &'static str, ty: SqlType) -> TextInput {
        TextInput { name, ty, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn convert(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let text = cast(array, &DataType::Utf8View)?;
        let text = text.as_string_view();
        let mut out = StringViewBuilder::with_capacity(text.len());
        for value in text {
            match value {
                None => out.append_null(),
                Some(value) => {
                    let value =
                        values::normalize_text(self.ty, value).map_err(|e| DataFusionError::External(Box::new(SqlError::from(e))))?;
                    out.append_value(value);
                }
            }
        }
        Ok(Arc::new(out.finish()))
    }
}

impl ScalarUDFImpl for TextInput {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(self.ty.field(self.name, true)) as Arc<Field>)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(self.convert(array)?)),
            ColumnarValue::Scalar(scalar) => {
                let array = self.convert(&scalar.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
            }
        }
    }
}
