//! Functions that give rows: `generate_series`, `regexp_matches` and their kind, in a select list and in FROM.
//!
//! The engine has them as functions that give an array, and UNNEST makes rows of it; `generate_series` of constants in FROM is a
//! relation of its own, which holds no more than a batch of its rows.

use std::ops::ControlFlow;

use crate::dialect::PgDialect;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, Select, SelectItem, SetExpr, TableAlias,
    TableAliasColumnDef, TableFactor, VisitMut, VisitorMut, visit_expressions,
};
use datafusion::sql::sqlparser::parser::Parser;

use crate::SqlError;
use crate::names::fold;
use crate::rewrite::{function, type_number};

/// Functions that give rows, and have one column.
const NAMES: &[&str] = &[
    "generate_series",
    "generate_subscripts",
    "regexp_matches",
    "regexp_split_to_table",
    "string_to_table",
    "json_array_elements",
    "json_array_elements_text",
    "json_object_keys",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_object_keys",
];
/// What their names begin with where they give an array.
const LIST: &str = "quire_rows_of_";

/// The function's name, when it gives rows.
fn set_name(name: &ObjectName) -> Option<String> {
    let name = name.0.last().and_then(|p| p.as_ident()).map(fold)?;
    NAMES.contains(&name.as_str()).then_some(name)
}

/// True when an expression calls one of them, outside of queries within it.
pub(crate) fn gives_rows(expr: &Expr) -> bool {
    let found = visit_expressions(expr, |e| match e {
        Expr::Function(call) if set_name(&call.name).is_some() => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// The array of what the call gives as rows.
fn as_list(call: &mut Function) {
    if let Some(name) = set_name(&call.name) {
        call.name = ObjectName::from(vec![Ident::new(format!("{LIST}{name}"))]);
    }
    if let FunctionArguments::List(list) = &mut call.args {
        list.args.iter_mut().for_each(typed);
    }
}

fn typed(argument: &mut FunctionArg) {
    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument {
        type_number(expr);
    }
}

/// Makes rows of such calls in a select list.
pub(crate) fn in_select_list(select: &mut Select) {
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { continue };
        if !gives_rows(expr) {
            continue;
        }
        let name = match expr {
            Expr::Function(call) => set_name(&call.name),
            _ => None,
        };
        let _: ControlFlow<()> = expr.visit(&mut Unnest { depth: 0 });
        if let (SelectItem::UnnamedExpr(expr), Some(name)) = (&*item, name) {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', name) };
        }
    }
}

struct Unnest {
    depth: usize,
}

impl VisitorMut for Unnest {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0
            && let Expr::Function(call) = expr
            && set_name(&call.name).is_some()
        {
            as_list(call);
            *expr = function("unnest", vec![expr.clone()]);
        }
        ControlFlow::Continue(())
    }
}

/// Makes relations of such calls in FROM, and numbers the rows WITH ORDINALITY.
pub(crate) fn in_from(factor: &mut TableFactor) -> Result<(), SqlError> {
    let ordinality = match factor {
        TableFactor::Table { with_ordinality, .. }
        | TableFactor::Function { with_ordinality, .. }
        | TableFactor::UNNEST { with_ordinality, .. } => std::mem::take(with_ordinality),
        _ => return Ok(()),
    };
    let (name, args) = match factor {
        TableFactor::Table { name, args: Some(args), .. } => (set_name(name), std::mem::take(&mut args.args)),
        TableFactor::Function { name, args, .. } => (set_name(name), std::mem::take(args)),
        TableFactor::UNNEST { .. } => (Some("unnest".to_string()), vec![]),
        _ => return Ok(()),
    };
    match (name.as_deref(), &mut *factor) {
        (Some("unnest"), _) => {}
        (Some(set), TableFactor::Table { alias, .. } | TableFactor::Function { alias, .. })
            if set != "generate_series" || !args.iter().all(is_constant) =>
        {
            let alias = named(alias.take(), set);
            let mut call = function(set, vec![]);
            if let Expr::Function(call) = &mut call {
                if let FunctionArguments::List(list) = &mut call.args {
                    list.args = args;
                }
                as_list(call);
            }
            let array_exprs = vec![call];
            let alias = Some(alias);
            *factor = TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_offset_alias: None, with_ordinality: false };
        }
        (found, TableFactor::Table { args: Some(list), alias, .. }) => {
            list.args = args;
            list.args.iter_mut().for_each(typed);
            if let Some(name) = found {
                *alias = Some(named(alias.take(), name));
            }
        }
        (found, TableFactor::Function { args: list, alias, .. }) => {
            *list = args;
            list.iter_mut().for_each(typed);
            if let Some(name) = found {
                *alias = Some(named(alias.take(), name));
            }
        }
        _ => {}
    }
    if ordinality {
        *factor = numbered(factor.clone(), name.as_deref().unwrap_or("unnest"))?;
    }
    Ok(())
}

/// True when no column is named.
fn is_constant(argument: &FunctionArg) -> bool {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else { return true };
    let found = visit_expressions(expr, |e| match e {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Subquery(_) | Expr::CompoundFieldAccess { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_continue()
}

/// A function in FROM gives its alias, or its name, to its only column.
fn named(alias: Option<TableAlias>, function: &str) -> TableAlias {
    let name = Ident::with_quote('"', function);
    let mut alias = alias.unwrap_or_else(|| TableAlias { explicit: true, name, columns: vec![], at: None });
    if alias.columns.is_empty() {
        // These declare a name for their column.
        let declared = function.contains("array_elements").then(|| Ident::new("value"));
        alias.columns.push(TableAliasColumnDef { name: declared.unwrap_or_else(|| alias.name.clone()), data_type: None });
    }
    alias
}

/// The relation with a column of row numbers at its end.
fn numbered(mut factor: TableFactor, function: &str) -> Result<TableFactor, SqlError> {
    let alias = match &mut factor {
        TableFactor::Table { alias, .. } | TableFactor::Function { alias, .. } | TableFactor::UNNEST { alias, .. } => alias.take(),
        _ => None,
    };
    let mut alias = named(alias, function);
    if alias.columns.len() == 1 {
        alias.columns.push(TableAliasColumnDef { name: Ident::new("ordinality"), data_type: None });
    }
    let sql = "SELECT *, row_number() OVER () FROM place";
    let parsed = Parser::new(&PgDialect).try_with_sql(sql).and_then(|mut p| p.parse_query());
    let mut subquery = parsed.map_err(|e| SqlError::internal(format!("a query of our own did not parse: {e}")))?;
    if let SetExpr::Select(select) = subquery.body.as_mut()
        && let Some(from) = select.from.first_mut()
    {
        from.relation = factor;
    }
    Ok(TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None })
}
