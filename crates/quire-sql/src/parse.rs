//! SQL text to statements.

use datafusion::sql::sqlparser::ast::{CopySource, CopyTarget, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use crate::SqlError;
use crate::errors::parser_error;

/// Nesting that a statement may have; the planner recurses.
const DEPTH_MAX: usize = 100;
/// Characters of SQL text in logs.
const LOGGED_CHARACTERS: usize = 500;

/// One statement of a query string.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Its syntax tree.
    pub(crate) statement: Statement,
    /// The query string it came from, for positions in errors.
    pub(crate) source: std::sync::Arc<str>,
}

impl Parsed {
    /// The statement's text, shortened, for logs.
    pub fn summary(&self) -> String {
        let text = self.source.trim();
        match text.char_indices().nth(LOGGED_CHARACTERS) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.to_string(),
        }
    }
}

/// Splits a query string. 42601 when it does not parse.
pub(crate) fn parse(sql: &str) -> Result<Vec<Parsed>, SqlError> {
    let statements = statements(sql).map_err(|e| parser_error(&e, sql))?;
    let source: std::sync::Arc<str> = sql.into();
    Ok(statements.into_iter().map(|statement| Parsed { statement, source: source.clone() }).collect())
}

fn statements(sql: &str) -> Result<Vec<Statement>, ParserError> {
    if copies_from_stdin(sql) {
        // The parser wants inline data to follow; drivers send the bare statement.
        let bare = sql.trim_end().trim_end_matches(';');
        return Parser::new(&PostgreSqlDialect {}).with_recursion_limit(DEPTH_MAX).try_with_sql(&format!("{bare};"))?.parse_statements();
    }
    if mentions_system_catalog(sql) {
        // Queries of the catalog by psql and drivers use Postgres operators and casts that the planner lacks.
        return PostgresCompatibilityParser::new().parse(sql);
    }
    Parser::new(&PostgreSqlDialect {}).with_recursion_limit(DEPTH_MAX).try_with_sql(sql)?.parse_statements()
}

fn copies_from_stdin(sql: &str) -> bool {
    let lower = sql.trim_start().to_ascii_lowercase();
    lower.starts_with("copy") && lower.contains("stdin")
}

fn mentions_system_catalog(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    let query = lower.trim_start();
    (query.starts_with("select") || query.starts_with("with") || query.starts_with("show"))
        && (lower.contains("pg_") || lower.contains("::reg"))
}

/// Whether a statement reads from the client.
pub(crate) fn is_copy_in(statement: &Statement) -> bool {
    matches!(statement, Statement::Copy { source: CopySource::Table { .. }, to: false, target: CopyTarget::Stdin, .. })
}
