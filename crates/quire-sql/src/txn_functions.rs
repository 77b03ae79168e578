//! Functions about transactions: `quire_txn_id()`, `quire_txn_status(id)`, and the one that locks rows.

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;
use quire_client::StorageClient;
use quire_types::TxnId;

use crate::catalog::ScopeCell;
use crate::errors::client_error;
use crate::session_functions::of_session;
use crate::{SqlError, lock};

pub(crate) fn register(context: &SessionContext, cell: &Arc<ScopeCell>, client: &StorageClient) {
    let id = of_session("quire_txn_id", DataType::Utf8, cell, |cell, _, rows| {
        Ok(Arc::new(StringArray::from(vec![shown(cell.get().txn_id); rows])))
    });
    context.register_udf(id);
    context.register_udf(of_session(lock::FUNCTION, DataType::Boolean, cell, lock::take));
    let signature = Signature::string(1, Volatility::Volatile);
    let status = TransactionStatus { client: client.clone(), cell: cell.clone(), signature };
    context.register_udf(AsyncScalarUDF::new(Arc::new(status)).into_scalar_udf());
}

/// An id as text: 32 hexadecimal digits.
fn shown(id: TxnId) -> String {
    format!("{:032x}", id.0)
}

/// What became of a transaction, as the log has it.
struct TransactionStatus {
    client: StorageClient,
    cell: Arc<ScopeCell>,
    signature: Signature,
}

impl TransactionStatus {
    async fn status(&self, id: &str) -> Result<&'static str, SqlError> {
        let malformed = || SqlError::new("22P02", format!("invalid transaction id: \"{id}\""));
        if id.len() != 32 || !id.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(malformed());
        }
        let id = TxnId(u128::from_str_radix(id, 16).map_err(|_| malformed())?);
        if id == self.cell.get().txn_id {
            return Ok("in progress");
        }
        Ok(match self.client.transaction_outcome(id).await.map_err(client_error)? {
            Some(outcome) if outcome.committed().is_some() => "committed",
            Some(_) => "aborted",
            None => "unknown",
        })
    }
}

impl std::fmt::Debug for TransactionStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for TransactionStatus {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for TransactionStatus {}

impl std::hash::Hash for TransactionStatus {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl ScalarUDFImpl for TransactionStatus {
    fn name(&self) -> &str {
        "quire_txn_status"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::Internal("quire_txn_status waits for an answer".into()))
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for TransactionStatus {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ids = args.args[0].to_array(args.number_rows)?;
        let ids = cast(&ids, &DataType::Utf8)?;
        let mut out = vec![];
        for id in ids.as_string::<i32>() {
            out.push(match id {
                Some(id) => Some(self.status(id).await.map_err(|e| DataFusionError::External(Box::new(e)))?),
                None => None,
            });
        }
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(out))))
    }
}
