//! Queries of the system catalogs: operators and casts that clients write there and that the planner lacks.

use datafusion::sql::sqlparser::ast::Statement;
use datafusion_pg_catalog::sql::rules::{
    AliasDuplicatedProjectionRewrite, FixArrayLiteral, RemoveSubqueryFromProjection, ResolveUnqualifiedIdentifier,
    RewriteArrayAnyAllOperation, RewritePgCatalogOperator, SqlStatementRewriteRule,
};

/// Rewrites a query that names a system catalog; others stay as they are.
pub(crate) fn rewrite(statement: Statement, sql: &str) -> Statement {
    if !matches!(statement, Statement::Query(_)) || !mentions_system_catalog(sql) {
        return statement;
    }
    let rules: [&dyn SqlStatementRewriteRule; 6] = [
        &AliasDuplicatedProjectionRewrite,
        &ResolveUnqualifiedIdentifier,
        &RewriteArrayAnyAllOperation,
        &FixArrayLiteral,
        &RewritePgCatalogOperator,
        // Of the correlated subqueries that psql selects, the planner cannot do all; their values are NULL here in any case.
        &RemoveSubqueryFromProjection,
    ];
    rules.into_iter().fold(statement, |statement, rule| rule.rewrite(statement))
}

fn mentions_system_catalog(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    lower.contains("pg_catalog.") || lower.contains("from pg_") || lower.contains("join pg_")
}
