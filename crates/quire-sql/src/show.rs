//! SHOW.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::ast::{Expr, Ident, UnaryOperator, Value};
use futures::stream::{self, StreamExt};
use quire_types::{Isolation, SqlType};

use crate::session::Block;
use crate::{OutputColumn, Response, Rows, Session, SqlError, WireType};

/// A setting's value as the syntax tree has it, as text.
pub(crate) fn setting_text(value: &Expr) -> String {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => text.clone(),
            other => other.to_string(),
        },
        Expr::Identifier(ident) if ident.quote_style == Some('"') => format!("\"{}\"", ident.value),
        Expr::Identifier(ident) => ident.value.clone(),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => format!("-{}", setting_text(expr)),
        other => other.to_string(),
    }
}

fn setting_name(variable: &[Ident]) -> String {
    let words: Vec<String> = variable.iter().map(|i| i.value.to_lowercase()).collect();
    match words.join(" ").as_str() {
        "transaction isolation level" => "transaction_isolation".into(),
        "time zone" => "timezone".into(),
        "session authorization" => "session_authorization".into(),
        _ => words.join("."),
    }
}

pub(crate) fn text_column(name: &str) -> OutputColumn {
    OutputColumn { name: name.to_string(), ty: WireType::Scalar(SqlType::Text), table_oid: 0, column_number: 0 }
}

/// The columns of SHOW.
pub(crate) fn columns(variable: &[Ident]) -> Vec<OutputColumn> {
    let name = setting_name(variable);
    if name == "all" {
        return ["name", "setting", "description"].map(text_column).to_vec();
    }
    vec![text_column(&crate::settings::display_name(&name))]
}

/// SHOW name, SHOW ALL.
pub(crate) fn variable(session: &Session, variable: &[Ident]) -> Result<Response, SqlError> {
    let name = setting_name(variable);
    if name == "all" {
        let all = session.settings.lock().all();
        let names: Vec<&str> = all.iter().map(|(n, _)| n.as_str()).collect();
        let values: Vec<&str> = all.iter().map(|(_, v)| v.as_str()).collect();
        return text_rows(columns(variable), vec![names, values, vec![""; all.len()]], "SHOW");
    }
    let value = match (&session.block, name.as_str()) {
        (Block::Open(transaction), "transaction_isolation") => match transaction.isolation {
            Isolation::ReadCommitted => "read committed".to_string(),
            Isolation::RepeatableRead => "repeatable read".to_string(),
            Isolation::Serializable => "serializable".to_string(),
        },
        (Block::Open(transaction), "transaction_read_only") => if transaction.read_only { "on" } else { "off" }.to_string(),
        (Block::None | Block::Failed, "transaction_isolation") => session.settings.lock().get("default_transaction_isolation")?,
        _ => session.settings.lock().shown(&name)?,
    };
    text_rows(columns(variable), vec![vec![&value]], "SHOW")
}

pub(crate) fn text_rows(columns: Vec<OutputColumn>, values: Vec<Vec<&str>>, tag: &'static str) -> Result<Response, SqlError> {
    let fields: Vec<Field> = columns.iter().map(|c| Field::new(&c.name, DataType::Utf8View, true)).collect();
    let arrays = values.into_iter().map(|v| Arc::new(StringViewArray::from_iter_values(v)) as ArrayRef).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|e| SqlError::internal(e.to_string()))?;
    Ok(Response::Rows(Rows { columns: Arc::new(columns), stream: stream::once(async { Ok(batch) }).boxed(), tag, counted: false }))
}
