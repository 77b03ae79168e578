//! A view's query as `pg_get_viewdef` writes it.
//!
//! Plain selections are set out as PostgreSQL sets them out; others come back as they were written.

use crate::dialect::PgDialect;
use datafusion::sql::sqlparser::ast::{
    GroupByExpr, JoinConstraint, JoinOperator, LimitClause, OrderByKind, Query, Select, SelectItem, SetExpr, Statement, TableFactor,
};
use datafusion::sql::sqlparser::parser::Parser;
use quire_types::{SqlType, ViewDef};

use super::Seen;
use super::deparse::Printer;
use super::oids::quoted;
use crate::names::{Resolver, fold};

/// The definition, with a semicolon at its end.
pub(super) fn definition(seen: &Seen<'_>, view: &ViewDef, pretty: bool) -> String {
    let Some(query) = written(view) else { return format!(" {};", view.sql) };
    let set_out = Writer::new(seen, &query, pretty).and_then(|writer| writer.query(&query, view));
    set_out.unwrap_or_else(|| format!(" {query};"))
}

/// The query that the user wrote: a view is kept within one that names its columns.
fn written(view: &ViewDef) -> Option<Query> {
    let mut statements = Parser::parse_sql(&PgDialect, &view.sql).ok()?;
    let Statement::Query(outer) = statements.pop()? else { return None };
    let SetExpr::Select(select) = *outer.body else { return None };
    match select.from.into_iter().next()?.relation {
        TableFactor::Derived { subquery, .. } => Some(*subquery),
        _ => None,
    }
}

/// A relation in FROM.
struct Source {
    /// By what its columns are qualified.
    name: String,
    /// How it stands in FROM.
    text: String,
    columns: Vec<(String, SqlType)>,
}

struct Writer {
    sources: Vec<Source>,
    pretty: bool,
}

impl Writer {
    /// `None` when the query is not a plain selection from tables and views.
    fn new(seen: &Seen<'_>, query: &Query, pretty: bool) -> Option<Writer> {
        let select = plain(query)?;
        let mut sources = vec![];
        for from in &select.from {
            sources.push(source(seen, &from.relation)?);
            for join in &from.joins {
                sources.push(source(seen, &join.relation)?);
            }
        }
        Some(Writer { sources, pretty })
    }

    fn column(&self, table: Option<&str>, name: &str) -> Option<(String, SqlType)> {
        let within = |source: &&Source| table.is_none_or(|t| t == source.name);
        let found = self.sources.iter().filter(within).find_map(|s| s.columns.iter().find(|(n, _)| n == name).map(|(_, ty)| (s, *ty)));
        found.map(|(source, ty)| (qualified(source, name), ty))
    }

    fn expression(&self, expr: &datafusion::sql::sqlparser::ast::Expr) -> Option<String> {
        let columns = |table: Option<&str>, name: &str| self.column(table, name);
        Printer { columns: &columns, pretty: self.pretty }.print(expr).map(|printed| printed.text)
    }

    fn query(&self, query: &Query, view: &ViewDef) -> Option<String> {
        let select = plain(query)?;
        let mut out = format!(" SELECT {}", self.items(select, view)?.join(",\n    "));
        if !select.from.is_empty() {
            out.push_str(&format!("\n   FROM {}", self.from(select)?));
        }
        if let Some(selection) = &select.selection {
            out.push_str(&format!("\n  WHERE {}", self.expression(selection)?));
        }
        let GroupByExpr::Expressions(groups, modifiers) = &select.group_by else { return None };
        if !modifiers.is_empty() {
            return None;
        }
        if !groups.is_empty() {
            let groups = groups.iter().map(|g| self.expression(g)).collect::<Option<Vec<_>>>()?;
            out.push_str(&format!("\n  GROUP BY {}", groups.join(", ")));
        }
        if let Some(having) = &select.having {
            out.push_str(&format!("\n HAVING {}", self.expression(having)?));
        }
        if let Some(order) = &query.order_by {
            let OrderByKind::Expressions(order) = &order.kind else { return None };
            let keys = order.iter().map(|key| {
                let (ascending, nulls_first) = (key.options.asc.unwrap_or(true), key.options.nulls_first);
                let nulls = match (ascending, nulls_first) {
                    (true, Some(true)) => " NULLS FIRST",
                    (false, Some(false)) => " NULLS LAST",
                    _ => "",
                };
                Some(format!("{}{}{nulls}", self.expression(&key.expr)?, if ascending { "" } else { " DESC" }))
            });
            out.push_str(&format!("\n  ORDER BY {}", keys.collect::<Option<Vec<_>>>()?.join(", ")));
        }
        match &query.limit_clause {
            None => {}
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                if let Some(offset) = offset {
                    out.push_str(&format!("\n OFFSET {}", self.expression(&offset.value)?));
                }
                if let Some(limit) = limit {
                    out.push_str(&format!("\n LIMIT {}", self.expression(limit)?));
                }
            }
            Some(_) => return None,
        }
        out.push(';');
        Some(out)
    }

    fn items(&self, select: &Select, view: &ViewDef) -> Option<Vec<String>> {
        let mut items = vec![];
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => items.push(self.expression(expr)?),
                SelectItem::Wildcard(_) => {
                    for source in &self.sources {
                        items.extend(source.columns.iter().map(|(name, _)| qualified(source, name)));
                    }
                }
                SelectItem::QualifiedWildcard(kind, _) => {
                    let table = kind.to_string().trim_end_matches(".*").trim_matches('"').to_string();
                    let source = self.sources.iter().find(|s| s.name == table)?;
                    items.extend(source.columns.iter().map(|(name, _)| qualified(source, name)));
                }
                _ => return None,
            }
        }
        if items.len() != view.columns.len() {
            return None;
        }
        let named = items.into_iter().zip(&view.columns).map(|(text, (name, _))| {
            let is_column = self.sources.iter().any(|source| text == qualified(source, name));
            if is_column || name == "?column?" { text } else { format!("{text} AS {}", quoted(name)) }
        });
        Some(named.collect())
    }

    fn from(&self, select: &Select) -> Option<String> {
        let mut sources = self.sources.iter();
        let mut parts = vec![];
        for from in &select.from {
            let mut text = sources.next()?.text.clone();
            for join in &from.joins {
                let (kind, constraint) = match &join.join_operator {
                    JoinOperator::Join(c) | JoinOperator::Inner(c) => ("JOIN", Some(c)),
                    JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => ("LEFT JOIN", Some(c)),
                    JoinOperator::Right(c) | JoinOperator::RightOuter(c) => ("RIGHT JOIN", Some(c)),
                    JoinOperator::FullOuter(c) => ("FULL JOIN", Some(c)),
                    JoinOperator::CrossJoin(_) => ("CROSS JOIN", None),
                    _ => return None,
                };
                text.push_str(&format!("\n     {kind} {}", sources.next()?.text));
                match constraint {
                    None | Some(JoinConstraint::None) => {}
                    Some(JoinConstraint::On(on)) if self.pretty => text.push_str(&format!(" ON {}", self.expression(on)?)),
                    Some(JoinConstraint::On(on)) => text.push_str(&format!(" ON ({})", self.expression(on)?)),
                    Some(JoinConstraint::Using(names)) => {
                        let names = names.iter().map(|n| n.0.last().and_then(|p| p.as_ident()).map(|i| quoted(&fold(i))));
                        text.push_str(&format!(" USING ({})", names.collect::<Option<Vec<_>>>()?.join(", ")));
                    }
                    Some(JoinConstraint::Natural) => return None,
                }
                if !self.pretty {
                    text = format!("({text})");
                }
            }
            parts.push(text);
        }
        Some(parts.join(",\n    "))
    }
}

fn qualified(source: &Source, name: &str) -> String {
    format!("{}.{}", quoted(&source.name), quoted(name))
}

/// The selection of a query that is nothing else.
fn plain(query: &Query) -> Option<&Select> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let ordinary = query.with.is_none() && select.distinct.is_none() && select.named_window.is_empty();
    ordinary.then_some(select)
}

fn source(seen: &Seen<'_>, factor: &TableFactor) -> Option<Source> {
    let TableFactor::Table { name, alias, args: None, .. } = factor else { return None };
    let resolver = Resolver { catalog: seen.catalog, search_path: seen.path };
    let (id, relation, columns) = if let Some(table) = resolver.find_table(name).ok()? {
        let columns = table.columns.iter().map(|c| (c.name.clone(), c.ty)).collect();
        (table.id, table.name.clone(), columns)
    } else {
        let view = resolver.find_view(name).ok()??;
        (view.id, view.name.clone(), view.columns.clone())
    };
    let shown = seen.class_name(id.0.into());
    match alias {
        Some(alias) if !alias.columns.is_empty() => None,
        Some(alias) if fold(&alias.name) != relation => {
            let name = fold(&alias.name);
            Some(Source { text: format!("{shown} {}", quoted(&name)), name, columns })
        }
        _ => Some(Source { text: shown, name: relation, columns }),
    }
}
