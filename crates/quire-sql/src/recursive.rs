//! WITH RECURSIVE: the planner wants both terms alike to the last note on a column, where Postgres wants one type.
//!
//! A column of a table is noted to be that table's, and NOT NULL; what is computed from it is neither. So the columns that the terms select
//! are made values that are no table's, and those of the first may be NULL.

use datafusion::sql::sqlparser::ast::{Expr, Ident, Query, Select, SelectItem, SetExpr, SetOperator, With};

use crate::functions::TERM;
use crate::names::{fold, is_column};
use crate::rewrite::{function, type_number};

/// Makes the terms of recursive queries alike.
pub(crate) fn separate(with: &mut With) {
    if !with.recursive {
        return;
    }
    for cte in &mut with.cte_tables {
        let name = fold(&cte.alias.name);
        let Query { body, .. } = cte.query.as_mut();
        let SetExpr::SetOperation { op: SetOperator::Union, left, right, .. } = body.as_mut() else { continue };
        let (SetExpr::Select(_) | SetExpr::Values(_), SetExpr::Select(recursive)) = (left.as_ref(), right.as_mut()) else { continue };
        if !mentions(recursive, &name) || has_wildcard(recursive) {
            continue;
        }
        if let SetExpr::Select(first) = left.as_mut() {
            if has_wildcard(first) {
                continue;
            }
            first.projection.iter_mut().for_each(first_item);
        }
        recursive.projection.iter_mut().enumerate().for_each(recursive_item);
    }
}

fn mentions(select: &Select, name: &str) -> bool {
    select.from.iter().any(|from| from.to_string().to_lowercase().contains(&name.to_lowercase()))
}

fn has_wildcard(select: &Select) -> bool {
    select.projection.iter().any(|item| !matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }))
}

fn is_plain(expr: &Expr) -> bool {
    is_column(expr) || matches!(expr, Expr::Value(_) | Expr::UnaryOp { .. } | Expr::Cast { .. })
}

/// What the first term selects gives the result its names.
fn first_item(item: &mut SelectItem) {
    match item {
        SelectItem::ExprWithAlias { expr, .. } if is_plain(expr) => value(expr),
        SelectItem::UnnamedExpr(expr) => {
            let name = match &*expr {
                Expr::Identifier(name) => Some(name.clone()),
                Expr::CompoundIdentifier(parts) => parts.last().cloned(),
                _ => None,
            };
            if let Some(alias) = name {
                value(expr);
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
        }
        _ => {}
    }
}

fn recursive_item((position, item): (usize, &mut SelectItem)) {
    match item {
        SelectItem::ExprWithAlias { expr, .. } if is_column(expr) => value(expr),
        SelectItem::UnnamedExpr(expr) if is_column(expr) => {
            value(expr);
            let alias = Ident::with_quote('"', format!("{TERM}:{position}"));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
        _ => {}
    }
}

fn value(expr: &mut Expr) {
    type_number(expr);
    *expr = function(TERM, vec![expr.clone()]);
}
