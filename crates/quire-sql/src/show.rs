//! SHOW and EXPLAIN.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::sql::sqlparser::ast::{AnalyzeFormat, AnalyzeFormatKind, Expr, Ident, Statement, UnaryOperator, UtilityOption, Value};
use futures::stream::{self, StreamExt};
use quire_kit::clock;
use quire_types::{Isolation, SqlType};

use crate::errors::datafusion_error;
use crate::names::unmarked;
use crate::session::Block;
use crate::{OutputColumn, Response, Rows, Session, SqlError, WireType, query};

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

fn text_column(name: &str) -> OutputColumn {
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

/// The columns of EXPLAIN.
pub(crate) fn plan_columns() -> Vec<OutputColumn> {
    vec![text_column("QUERY PLAN")]
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

/// EXPLAIN [ANALYZE] [VERBOSE] of a query or of an INSERT's source.
pub(crate) async fn explain(session: &Session, statement: Statement) -> Result<Response, SqlError> {
    let Statement::Explain { analyze, verbose, statement, format, options, .. } = statement else {
        return Err(SqlError::internal("not an EXPLAIN"));
    };
    let options = options.unwrap_or_default();
    let analyze = analyze || option_is_on(&options, "analyze");
    let verbose = verbose || option_is_on(&options, "verbose");
    let json = matches!(format, Some(AnalyzeFormatKind::Keyword(ref f) | AnalyzeFormatKind::Assignment(ref f)) if !matches!(f, AnalyzeFormat::TEXT));
    if json
        || options.iter().any(|o| {
            o.name.value.eq_ignore_ascii_case("format") && o.arg.as_ref().is_some_and(|a| !a.to_string().eq_ignore_ascii_case("text"))
        })
    {
        return Err(SqlError::unsupported("EXPLAIN in a format other than TEXT"));
    }
    let changes = |what: &str, change: crate::dml::RowChange| (Some(format!("{what} on {}", change.table_name())), change.into_query());
    let (head, source) = match *statement {
        Statement::Query(query) => (None, Statement::Query(query)),
        Statement::Update(update) if !analyze => changes("Update", session.plan_update(update)?),
        Statement::Delete(delete) if !analyze => changes("Delete", session.plan_delete(delete)?),
        Statement::Insert(insert) if !analyze => match insert.source {
            Some(query) => (Some(format!("Insert on {}", insert.table)), Statement::Query(query)),
            None => return Err(SqlError::unsupported("EXPLAIN INSERT DEFAULT VALUES")),
        },
        other => {
            let text = other.to_string();
            return Err(SqlError::unsupported(format!("EXPLAIN {}", text.split_whitespace().next().unwrap_or_default())));
        }
    };
    let began = clock::now();
    let planned = query::plan(&session.context, source).await?;
    let (physical, mut rows) = query::start(&session.context, &planned.plan).await?;
    let planning = began.elapsed();
    let mut lines: Vec<String> = head.into_iter().collect();
    if verbose {
        lines.extend(planned.plan.display_indent_schema().to_string().lines().map(str::to_string));
        lines.push(String::new());
    }
    if analyze {
        let began = clock::now();
        let mut count = 0;
        while let Some(batch) = rows.next().await {
            count += batch.map_err(datafusion_error)?.num_rows();
        }
        let execution = began.elapsed();
        let shown = DisplayableExecutionPlan::with_metrics(physical.as_ref());
        lines.extend(shown.indent(verbose).to_string().lines().map(str::to_string));
        lines.push(format!("Rows: {count}"));
        lines.push(format!("Planning Time: {:.3} ms", planning.as_secs_f64() * 1e3));
        lines.push(format!("Execution Time: {:.3} ms", execution.as_secs_f64() * 1e3));
    } else {
        drop(rows);
        let shown = DisplayableExecutionPlan::new(physical.as_ref()).set_show_statistics(verbose).indent(verbose).to_string();
        lines.extend(shown.lines().map(str::to_string));
    }
    let lines: Vec<String> = lines.iter().map(|line| unmarked(line)).collect();
    text_rows(plan_columns(), vec![lines.iter().map(String::as_str).collect()], "EXPLAIN")
}

fn option_is_on(options: &[UtilityOption], name: &str) -> bool {
    let given = options.iter().find(|o| o.name.value.eq_ignore_ascii_case(name));
    given.is_some_and(|o| o.arg.as_ref().is_none_or(|a| !matches!(a.to_string().to_lowercase().as_str(), "false" | "off" | "0")))
}
