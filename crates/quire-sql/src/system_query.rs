//! Queries of the system catalogs: operators and casts that clients write there and that the planner lacks.

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, GroupByExpr, JoinOperator, Select, SelectItem, SetExpr, Statement, TableFactor, Value,
};
use datafusion_pg_catalog::sql::rules::{
    AliasDuplicatedProjectionRewrite, FixArrayLiteral, RemoveSubqueryFromProjection, ResolveUnqualifiedIdentifier,
    RewriteArrayAnyAllOperation, RewritePgCatalogOperator, SqlStatementRewriteRule,
};

/// Rewrites a query that names a system catalog; others stay as they are.
pub(crate) fn rewrite(statement: Statement, sql: &str) -> Statement {
    if !matches!(statement, Statement::Query(_)) || !mentions_system_catalog(sql) {
        return statement;
    }
    let mut statement = statement;
    if let Statement::Query(query) = &mut statement {
        without_rows(&mut query.body);
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

/// Catalogs of things that do not exist here: they have no rows, and a query that joins one has none.
const EMPTY: &[&str] = &["pg_policy", "pg_statistic_ext", "pg_publication", "pg_publication_rel", "pg_publication_namespace"];

/// Queries of those use what the planner lacks (`array(…)` over them, `= any` of their arrays), and need not be planned to be answered.
fn without_rows(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            without_rows(left);
            without_rows(right);
        }
        SetExpr::Select(select) if reads_nothing(select) => {
            let null = || Expr::Value(Value::Null.into());
            for (i, item) in select.projection.iter_mut().enumerate() {
                let alias = match item {
                    SelectItem::ExprWithAlias { alias, .. } => alias.clone(),
                    SelectItem::UnnamedExpr(expr) => crate::names::result_name(expr, i),
                    _ => continue,
                };
                let expr =
                    Expr::Cast { kind: CastKind::Cast, expr: Box::new(null()), data_type: DataType::Text, array: false, format: None };
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
            select.from.clear();
            select.selection = Some(Expr::Value(Value::Boolean(false).into()));
        }
        _ => {}
    }
}

fn reads_nothing(select: &Select) -> bool {
    let is_empty = |factor: &TableFactor| match factor {
        TableFactor::Table { name, args: None, .. } => {
            name.0.last().and_then(|p| p.as_ident()).is_some_and(|i| EMPTY.contains(&i.value.to_lowercase().as_str()))
        }
        _ => false,
    };
    let joined = select.from.iter().any(|from| {
        let inner = |j: &JoinOperator| matches!(j, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_));
        let all_inner = from.joins.iter().all(|j| inner(&j.join_operator));
        is_empty(&from.relation) && (from.joins.is_empty() || all_inner) || all_inner && from.joins.iter().any(|j| is_empty(&j.relation))
    });
    let ungrouped = matches!(&select.group_by, GroupByExpr::Expressions(e, _) if e.is_empty()) && select.having.is_none();
    // An aggregate makes a row of nothing.
    let plain = select.projection.iter().all(|item| {
        let text = item.to_string().to_lowercase();
        let outside = text.split("(select").next().unwrap_or_default();
        matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
            && !["count(", "sum(", "min(", "max(", "avg(", "_agg(", "bool_and(", "bool_or(", "every("].iter().any(|a| outside.contains(a))
    });
    joined && ungrouped && plain
}

fn mentions_system_catalog(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    lower.contains("pg_catalog.") || lower.contains("from pg_") || lower.contains("join pg_")
}
