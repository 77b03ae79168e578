//! Errors of the layers below, in Postgres' terms.

use datafusion::common::{Diagnostic, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use quire_client::ClientError;
use quire_scan::ScanError;
use quire_types::{Outcome, PageError, TableDef};

use crate::SqlError;
use crate::values::ValueError;

impl From<ValueError> for SqlError {
    fn from(error: ValueError) -> SqlError {
        SqlError { detail: error.detail, hint: error.hint, ..SqlError::new(error.code, error.message) }
    }
}

/// A page or delta that cannot be read.
pub(crate) fn scan_error(error: ScanError) -> SqlError {
    match error {
        ScanError::Page(page) => page_error(&page),
        ScanError::SnapshotTooOld { .. } => snapshot_too_old(&error),
        ScanError::Delta { .. } => {
            SqlError::new("58030", error.to_string()).with_hint("Retry; the storage nodes may be electing a leader.")
        }
        ScanError::Decode { .. } => SqlError::new("XX001", error.to_string()),
        ScanError::Expression(error) => datafusion_error(error),
        ScanError::Arrow(error) => datafusion_error(DataFusionError::ArrowError(Box::new(error), None)),
    }
}

/// 72000.
fn snapshot_too_old(error: &ScanError) -> SqlError {
    SqlError::new("72000", "snapshot too old").with_detail(error.to_string()).with_hint("Begin the transaction again.")
}

fn page_error(error: &PageError) -> SqlError {
    match error {
        PageError::Corrupt { .. } => SqlError::new("XX001", error.to_string()),
        PageError::Missing { .. } => SqlError::new("58P01", error.to_string()),
        PageError::Unavailable { .. } => {
            SqlError::new("58030", error.to_string()).with_hint("Check that the storage nodes are running and reachable.")
        }
    }
}

/// Storage cannot be reached, or refused.
pub(crate) fn client_error(error: ClientError) -> SqlError {
    let message = error.to_string();
    match error {
        ClientError::Unknown(_) => {
            SqlError::new("08007", message).with_hint("The transaction may or may not have been committed; look before running it again.")
        }
        ClientError::TooLarge { .. } => SqlError::new("54000", message),
        ClientError::Full { .. } => SqlError::new("53100", message).with_hint("Free space on the storage nodes or in the object store."),
        _ => SqlError::new("58030", message).with_hint("Check that a majority of the storage nodes is running and reachable."),
    }
}

/// What the log said to a transaction that it did not commit.
pub(crate) fn outcome_error(outcome: &Outcome, tables: impl Fn(quire_types::TableId) -> Option<std::sync::Arc<TableDef>>) -> SqlError {
    let retry = "The transaction might succeed if retried.";
    let name = |id| tables(id).map_or_else(|| "?".to_string(), |t| t.name.clone());
    let conflict =
        |detail: String| SqlError::new("40001", "could not serialize access due to concurrent update").with_detail(detail).with_hint(retry);
    match outcome {
        Outcome::Committed(_) => SqlError::internal("a committed transaction was reported as failed"),
        Outcome::RowConflict { table, row } => {
            conflict(format!("Row {row} of table \"{}\" was changed or locked by another transaction.", name(*table)))
        }
        Outcome::KeyConflict { table, .. } => conflict(format!("A key of table \"{}\" was written by another transaction.", name(*table))),
        Outcome::ReadConflict { table } => {
            SqlError::new("40001", "could not serialize access due to read/write dependencies among transactions")
                .with_detail(format!("What was read of table \"{}\" was written by another transaction.", name(*table)))
                .with_hint(retry)
        }
        Outcome::SchemaConflict { table } => {
            conflict(format!("Table \"{}\" was altered, truncated or dropped by another transaction.", name(*table)))
        }
        Outcome::CatalogConflict(why) => conflict(format!("{why}.")),
        Outcome::SnapshotTooOld => conflict("The transaction's snapshot is older than the log's memory of keys and locks.".to_string()),
        Outcome::FutureSnapshot => SqlError::internal("the snapshot is not in the log's past"),
        Outcome::Refused(why) => SqlError::internal(format!("the log refused the transaction: {why}")),
        Outcome::Stale => SqlError::internal("a transaction was answered as if it were a seal"),
    }
}

/// True when a fresh snapshot may help.
pub(crate) fn is_retryable(error: &SqlError) -> bool {
    error.code == "40001"
}

/// 42601, with the position that the parser reports as line and column.
pub(crate) fn parser_error(error: &ParserError, sql: &str) -> SqlError {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
        ParserError::RecursionLimitExceeded => return crate::nesting::too_deep(),
    };
    let position = line_and_column(&text).and_then(|(line, column)| character_position(sql, line, column));
    let found = text.split("found: ").nth(1).map(|f| f.split(" at Line").next().unwrap_or(f).trim().to_string());
    let message = match found.as_deref() {
        Some("EOF" | "") => "syntax error at end of input".to_string(),
        Some(token) => format!("syntax error at or near \"{token}\""),
        None => {
            let plain = text.split(" at Line").next().unwrap_or(&text);
            format!("syntax error: {plain}")
        }
    };
    let mut out = SqlError::syntax(message);
    out.position = match found.as_deref() {
        Some("EOF" | "") => Some(sql.chars().count() + 1),
        _ => position,
    };
    out
}

fn line_and_column(text: &str) -> Option<(usize, usize)> {
    let rest = text.rsplit_once("Line: ")?.1;
    let (line, rest) = rest.split_once(", Column: ")?;
    let column: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((line.trim().parse().ok()?, column.parse().ok()?))
}

pub(crate) fn character_position(sql: &str, line: usize, column: usize) -> Option<usize> {
    let before: usize = sql.split_inclusive('\n').take(line.checked_sub(1)?).map(|l| l.chars().count()).sum();
    Some(before + column)
}

/// An error of planning or execution.
pub(crate) fn datafusion_error(error: DataFusionError) -> SqlError {
    match error {
        DataFusionError::Context(_, inner) => datafusion_error(*inner),
        DataFusionError::Diagnostic(diagnostic, inner) => placed(&diagnostic, datafusion_error(*inner)),
        DataFusionError::Shared(inner) => shared_error(&inner),
        DataFusionError::Collection(mut errors) if !errors.is_empty() => datafusion_error(errors.swap_remove(0)),
        DataFusionError::SQL(error, _) => parser_error(&error, ""),
        DataFusionError::External(error) => match error.downcast::<ScanError>() {
            Ok(error) => scan_error(*error),
            Err(error) => match error.downcast::<SqlError>() {
                Ok(error) => *error,
                Err(error) => arrow_message(&error.to_string()),
            },
        },
        other => shared_error(&other),
    }
}

/// An error at the place that the planner noted.
fn placed(diagnostic: &Diagnostic, mut error: SqlError) -> SqlError {
    if let Some(span) = diagnostic.span.filter(|s| s.start.line > 0)
        && matches!(error.code, "42703" | "42702" | "42883" | "42803")
    {
        error.place.get_or_insert((span.start.line, span.start.column));
    }
    error
}

fn shared_error(error: &DataFusionError) -> SqlError {
    match error {
        DataFusionError::Context(_, inner) => shared_error(inner),
        DataFusionError::Diagnostic(diagnostic, inner) => placed(diagnostic, shared_error(inner)),
        DataFusionError::Shared(inner) => shared_error(inner),
        DataFusionError::Collection(errors) if !errors.is_empty() => shared_error(&errors[0]),
        DataFusionError::SchemaError(error, _) => schema_error(error),
        DataFusionError::ArrowError(error, _) => arrow_message(&error.to_string()),
        DataFusionError::ResourcesExhausted(message) => {
            SqlError::new("53200", "out of memory").with_detail(message.clone()).with_hint("Raise --memory-limit, or ask for less at once.")
        }
        DataFusionError::NotImplemented(message) if message.starts_with(NO_TYPE) && !message.contains('"') => {
            let name = strip(message);
            let name = name.trim_start_matches(NO_TYPE).split('(').next().unwrap_or_default().to_lowercase();
            SqlError::new("42704", format!("type \"{name}\" does not exist"))
        }
        DataFusionError::NotImplemented(message) => known(RUNNING, message).unwrap_or_else(|| SqlError::new("0A000", strip(message))),
        DataFusionError::Plan(message) => plan_message(strip(message)),
        // Operators that evaluate expressions by themselves cannot wait for what runs a plan.
        DataFusionError::Internal(message) if message.starts_with("async functions should not be called directly") => {
            SqlError::unsupported("a subquery in this place that has to run for each row")
        }
        DataFusionError::Execution(message) => arrow_message(message),
        DataFusionError::External(error) => match error.downcast_ref::<SqlError>() {
            Some(error) => error.clone(),
            None => match error.downcast_ref::<ScanError>() {
                Some(ScanError::Page(page)) => page_error(page),
                Some(error @ ScanError::SnapshotTooOld { .. }) => snapshot_too_old(error),
                Some(error @ ScanError::Decode { .. }) => SqlError::new("XX001", error.to_string()),
                Some(ScanError::Expression(error)) => shared_error(error),
                Some(error) => SqlError::new("58030", error.to_string()),
                None => arrow_message(&error.to_string()),
            },
        },
        other => arrow_message(&strip(&other.to_string())),
    }
}

fn strip(message: &str) -> String {
    message.split("\n\nbacktrace").next().unwrap_or(message).trim_end().to_string()
}

fn schema_error(error: &SchemaError) -> SqlError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let Some(relation) = &field.relation else {
                return SqlError::new("42703", format!("column \"{}\" does not exist", field.name));
            };
            let in_from = valid_fields.iter().any(|f| f.relation.as_ref().is_some_and(|r| r.table() == relation.table()));
            if !in_from {
                return missing_from(relation.table());
            }
            SqlError::new("42703", format!("column {}.{} does not exist", relation.table(), field.name))
        }
        SchemaError::AmbiguousReference { field } => SqlError::new("42702", format!("column reference \"{}\" is ambiguous", field.name)),
        SchemaError::DuplicateQualifiedField { qualifier, .. } => {
            SqlError::new("42712", format!("table name \"{}\" specified more than once", qualifier.table()))
        }
        other => SqlError::new("42701", other.to_string()),
    }
}

fn missing_from(table: &str) -> SqlError {
    SqlError::new("42P01", format!("missing FROM-clause entry for table \"{table}\""))
}

/// How the planner refuses a type's name.
const NO_TYPE: &str = "Unsupported SQL type ";

/// Planning errors whose words say enough: what they contain (in lower case), and what Postgres has for it. The first that fits counts;
/// an empty message keeps the planner's.
const PLANNING: &[(&str, &str, &str)] = &[
    ("aggregate functions are not allowed in the where", "42803", "aggregate functions are not allowed in WHERE"),
    ("aggregate function calls cannot be nested", "42803", "aggregate function calls cannot be nested"),
    ("limit must be >= 0", "2201W", "LIMIT must not be negative"),
    ("offset must be >=0", "2201X", "OFFSET must not be negative"),
    ("too many columns! the subquery", "42601", "subquery must return only one column"),
    ("order by column out of bounds", "42P10", "ORDER BY position is not in select list"),
    ("cannot find column with position", "42P10", "GROUP BY position is not in select list"),
    ("for select distinct, order by", "42P10", "for SELECT DISTINCT, ORDER BY expressions must appear in select list"),
    ("invalid escape character in like", "22025", "invalid escape string"),
    ("non-boolean predicate", "42804", "argument of WHERE must be type boolean"),
    ("specified more than once", "42712", ""),
];

/// Errors at run time likewise.
const RUNNING: &[(&str, &str, &str)] = &[
    ("windowfunction(windowfunction", "42P20", "window functions are not allowed in WHERE"),
    ("negative count not allowed", "22011", "negative substring length not allowed"),
    ("negative substring length", "22011", "negative substring length not allowed"),
    ("field position must not be zero", "22023", "field position must not be zero"),
    ("regex parse error", "2201B", ""),
    ("square root of a negative", "2201F", "cannot take square root of a negative number"),
    ("was not provided a value for execution", "42P02", ""),
];

fn known(table: &[(&str, &'static str, &str)], message: &str) -> Option<SqlError> {
    let lower = message.to_lowercase();
    let (_, code, words) = table.iter().find(|(part, ..)| lower.contains(part))?;
    if *code == "2201B" {
        let reason = message.lines().last().unwrap_or(message).trim_start_matches("error: ");
        return Some(SqlError::new(code, format!("invalid regular expression: {}", crate::functions::regexp_reason(reason))));
    }
    Some(SqlError::new(code, if words.is_empty() { message } else { words }))
}

/// `Cannot cast string 'x' to value of Int32 type`, `Can't cast value 32768 to type Int16`: what Postgres says.
fn cast_message(text: &str) -> Option<SqlError> {
    let type_name = |arrow: &str| {
        Some(match arrow {
            "Int16" => "smallint",
            "Int32" => "integer",
            "Int64" => "bigint",
            "Float32" => "real",
            "Float64" => "double precision",
            "Boolean" => "boolean",
            "Date32" => "date",
            other if other.starts_with("Decimal") => "numeric",
            other if other.starts_with("Timestamp") => "timestamp",
            other if other.starts_with("Time") => "time",
            other if other.starts_with("Interval") => "interval",
            _ => return None,
        })
    };
    if let Some((_, rest)) = text.split_once("Can't cast value ") {
        let (_, ty) = rest.rsplit_once(" to type ")?;
        return Some(SqlError::new("22003", format!("{} out of range", type_name(ty.trim())?)));
    }
    let (_, rest) = text.split_once("Cannot cast string '")?;
    let (value, ty) = rest.rsplit_once("' to value of ")?;
    let ty = type_name(ty.split(' ').next()?)?;
    let whole = matches!(ty, "smallint" | "integer" | "bigint");
    let digits = value.trim().trim_start_matches(['-', '+']);
    if whole && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Some(SqlError::new("22003", format!("value \"{value}\" is out of range for type {ty}")));
    }
    let code = if matches!(ty, "date" | "time" | "timestamp" | "interval") { "22007" } else { "22P02" };
    // A date of the right form that the calendar lacks.
    let code = if code == "22007" && value.len() >= 8 && value.bytes().all(|b| b.is_ascii_digit() || b"-: .".contains(&b)) {
        "22008"
    } else {
        code
    };
    if code == "22008" {
        return Some(SqlError::new(code, format!("date/time field value out of range: \"{value}\"")));
    }
    Some(SqlError::new(code, format!("invalid input syntax for type {ty}: \"{value}\"")))
}

/// Planning errors arrive as text; the common ones get the code and words that Postgres has for them.
fn plan_message(message: String) -> SqlError {
    let lower = message.to_lowercase();
    let quoted = |m: &str| m.split('\'').nth(1).map(str::to_string);
    if lower.starts_with("table '") && lower.contains("not found") {
        let full = quoted(&message).unwrap_or_default();
        let name = full.strip_prefix("quire.").map(|n| n.strip_prefix("public.").unwrap_or(n).to_string()).unwrap_or(full);
        return SqlError::new("42P01", format!("relation \"{name}\" does not exist"));
    }
    if let Some(error) = known(PLANNING, &message) {
        return error;
    }
    if let Some(qualifier) = message.strip_prefix("Invalid qualifier ") {
        return missing_from(qualifier.trim());
    }
    if let Some(placeholder) = message.split("Invalid placeholder, zero is not a valid index: ").nth(1) {
        return SqlError::new("42P02", format!("there is no parameter {placeholder}"));
    }
    if lower.starts_with("failed to resolve schema") || lower.contains("schema not found") {
        return SqlError::new("3F000", message);
    }
    if lower.starts_with("invalid function") || lower.contains("no function matches") {
        let name = quoted(&message).unwrap_or_else(|| message.clone());
        return SqlError::new("42883", format!("function {name} does not exist"))
            .with_hint("No function matches the given name and argument types. You might need to add explicit type casts.");
    }
    if lower.contains("must be in group by")
        || lower.contains("must appear in the group by")
        || lower.contains("could not be resolved from available columns")
    {
        return SqlError::new("42803", grouping_message(message));
    }
    if lower.contains("cannot coerce")
        || lower.contains("cannot infer common argument type")
        || lower.contains("there isn't result type")
        || lower.contains("coercion from")
    {
        return SqlError::new("42883", message);
    }
    if lower.contains("column count") || lower.contains("number of columns") || lower.contains("inconsistent data length") {
        return SqlError::syntax(message);
    }
    if lower.contains("type mismatch") || lower.contains("cannot cast") || lower.contains("unsupported cast") {
        return SqlError::new("42846", message);
    }
    SqlError::new("42000", message)
}

/// `column "t.a" must appear in the GROUP BY clause or be used in an aggregate function`
fn grouping_message(message: String) -> String {
    match message.split_once("column \"").and_then(|(_, rest)| rest.split_once('"')) {
        Some((column, _)) => format!("column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function"),
        None => message,
    }
}

/// Run-time errors arrive as text too.
fn arrow_message(message: &str) -> SqlError {
    let text = strip(message);
    let text = ["Arrow error: ", "Execution error: ", "Compute error: ", "Divide by zero error", "Arithmetic overflow: "].iter().fold(
        text,
        |t, prefix| if *prefix == "Divide by zero error" { t } else { t.strip_prefix(prefix).map(str::to_string).unwrap_or(t) },
    );
    if let Some(error) = cast_message(&text).or_else(|| known(RUNNING, &text)) {
        return error;
    }
    let lower = text.to_lowercase();
    if lower.contains("divide by zero") || lower.contains("division by zero") {
        return SqlError::new("22012", "division by zero");
    }
    if lower.contains("overflow") || lower.contains("out of range") || lower.contains("too large to store") {
        return SqlError::new("22003", "numeric value out of range").with_detail(text);
    }
    if lower.contains("cannot cast string")
        || lower.contains("cast error")
        || lower.contains("error parsing")
        || lower.contains("parser error")
    {
        return SqlError::new("22P02", text);
    }
    if lower.contains("resources exhausted") {
        return SqlError::new("53200", "out of memory").with_detail(text);
    }
    if lower.contains("no space left") {
        return SqlError::new("53100", "disk full").with_detail(text);
    }
    if lower.contains("more than one row") || lower.contains("returned more than") {
        return SqlError::new("21000", "more than one row returned by a subquery used as an expression");
    }
    SqlError::internal(text)
}
