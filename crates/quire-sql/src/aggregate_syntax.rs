//! Aggregates that are others in disguise: what `array_agg` gathers, put together by a function.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident, ObjectName, SelectItem,
};

use crate::SqlError;
use crate::names::fold;
use crate::rewrite::{function, typed_cast};
use quire_types::SqlType;

/// Functions of windows only.
const WINDOW_ONLY: [&str; 11] =
    ["row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead", "first_value", "last_value", "nth_value"];
const ORDERED: [&str; 3] = ["percentile_cont", "percentile_disc", "mode"];
const GATHERED: [&str; 3] = ["json_agg", "json_object_agg", "jsonb_agg"];

fn name_of(call: &Function) -> Option<String> {
    call.name.0.last().and_then(|p| p.as_ident()).map(fold)
}

/// Select items that such an aggregate is have its name.
pub(crate) fn name_items(items: &mut [SelectItem]) {
    for item in items {
        let SelectItem::UnnamedExpr(Expr::Function(call)) = &*item else { continue };
        let Some(name) = name_of(call).filter(|n| ORDERED.contains(&n.as_str()) || GATHERED.contains(&n.as_str())) else { continue };
        *item = SelectItem::ExprWithAlias { expr: Expr::Function(call.clone()), alias: Ident::with_quote('"', name) };
    }
}

pub(crate) fn rewrite(expr: &mut Expr) -> Result<(), SqlError> {
    let Expr::Function(call) = &mut *expr else { return Ok(()) };
    let Some(name) = name_of(call) else { return Ok(()) };
    if call.over.is_none() && WINDOW_ONLY.contains(&name.as_str()) {
        return Err(SqlError::new("42809", format!("window function {name} requires an OVER clause")));
    }
    if name == "count" && matches!(&call.args, FunctionArguments::List(list) if list.args.is_empty()) {
        return Err(SqlError::new("42809", "count(*) must be used to call a parameterless aggregate function"));
    }
    if call.over.is_some() {
        return Ok(());
    }
    if ORDERED.contains(&name.as_str()) && !call.within_group.is_empty() {
        *expr = ordered(call, &name)?;
    } else if name == "json_agg" {
        let values = gathering(call, &[0], |value| function("to_json", vec![value]))?;
        *expr = function("quire_json_list", values);
    } else if name == "json_object_agg" {
        let mut keys = gathering(call, &[0], |key| typed_cast(key, SqlType::Text))?;
        keys.extend(gathering(call, &[1], |value| function("to_json", vec![value]))?);
        *expr = function("quire_json_object", keys);
    }
    Ok(())
}

/// `array_agg` in the place of an aggregate, of some of its arguments, with its FILTER, DISTINCT and ORDER BY.
fn gathering(call: &Function, arguments: &[usize], of: impl Fn(Expr) -> Expr) -> Result<Vec<Expr>, SqlError> {
    let FunctionArguments::List(list) = &call.args else { return Err(SqlError::syntax("an aggregate needs arguments")) };
    arguments
        .iter()
        .map(|i| {
            let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(value))) = list.args.get(*i) else {
                return Err(SqlError::new("42883", format!("function {} does not exist with such arguments", call.name)));
            };
            let mut array = call.clone();
            array.name = ObjectName::from(vec![Ident::new("array_agg")]);
            if let FunctionArguments::List(list) = &mut array.args {
                list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(of(value.clone())))];
            }
            Ok(Expr::Function(array))
        })
        .collect()
}

/// `percentile_disc(f) WITHIN GROUP (ORDER BY x)`
fn ordered(call: &mut Function, name: &str) -> Result<Expr, SqlError> {
    let [order] = call.within_group.as_slice() else {
        return Err(SqlError::new("42883", format!("function {name} takes one value to order by")));
    };
    let order = order.clone();
    let given = match &call.args {
        FunctionArguments::List(list) => list.args.clone(),
        _ => vec![],
    };
    let mut array = call.clone();
    array.name = ObjectName::from(vec![Ident::new("array_agg")]);
    array.within_group = vec![];
    if let FunctionArguments::List(list) = &mut array.args {
        list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(order.expr.clone()))];
        list.clauses = vec![FunctionArgumentClause::OrderBy(vec![order])];
    }
    let mut arguments = vec![Expr::Function(array)];
    for argument in given {
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument {
            arguments.push(argument);
        }
    }
    Ok(function(&format!("quire_{name}"), arguments))
}
