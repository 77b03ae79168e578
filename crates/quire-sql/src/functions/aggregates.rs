//! Aggregates whose types differ from the planner's, expressed by those that it has.

use arrow::datatypes::{DataType, Field};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// `quire_addend(x)`: what `sum` adds up. A sum of bigint is numeric, which cannot overflow; of the smaller integers bigint.
pub(super) fn addend() -> ScalarUDF {
    ScalarUDF::from(Addend { signature: Signature::any(1, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Addend {
    signature: Signature,
}

fn addend_type(ty: &DataType) -> DataType {
    match ty {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => DataType::Int64,
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => DataType::Decimal128(20, 0),
        other => other.clone(),
    }
}

impl ScalarUDFImpl for Addend {
    fn name(&self) -> &str {
        "quire_addend"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        given.first().map(addend_type).ok_or_else(|| DataFusionError::Internal("sum has an argument".into()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<std::sync::Arc<Field>> {
        let from = &args.arg_fields[0];
        Ok(Field::new(self.name(), addend_type(from.data_type()), from.is_nullable()).into())
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let from = info.get_data_type(&args[0])?;
        let wanted = addend_type(&from);
        let value = args.into_iter().next().ok_or_else(|| DataFusionError::Internal("sum has an argument".into()))?;
        Ok(ExprSimplifyResult::Simplified(if wanted == from { value } else { Expr::Cast(Cast::new(Box::new(value), wanted)) }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        args.args[0].cast_to(args.return_field.data_type(), None)
    }
}
