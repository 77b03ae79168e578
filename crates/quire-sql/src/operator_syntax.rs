//! Operators that the parser binds otherwise than Postgres, or the planner does not know.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArguments, Ident, ObjectNamePart, OrderByExpr, OrderByKind, Query, SelectItem, SetExpr, Statement,
    TableFactor, UnaryOperator, Value, ValueWithSpan,
};

use crate::SqlError;
use crate::names::{fold, split};
use crate::regtypes::call;
use crate::set_functions::gives_rows;

/// What an item is called that ARRAY collects from a query's rows.
const ITEM: &str = "quire:item";

pub(crate) fn rewrite(expr: &mut Expr) -> Result<(), SqlError> {
    match expr {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: power } if is_power(power) => {
            let mut power = std::mem::replace(power.as_mut(), Expr::Value(Value::Null.into()));
            negate_base(&mut power);
            *expr = power;
        }
        Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => bind_distinct(expr),
        Expr::Collate { expr: inner, collation } => {
            let (schema, name) = split(collation)?;
            if schema.is_some_and(|s| s != "pg_catalog") || !matches!(name.as_str(), "C" | "POSIX" | "default" | "ucs_basic") {
                return Err(SqlError::new("42704", format!("collation \"{name}\" for encoding \"UTF8\" does not exist")));
            }
            // Text is compared byte by byte everywhere.
            *expr = inner.as_ref().clone();
        }
        Expr::BinaryOp { left, op, right } => {
            let (left, right) = (left.clone(), right.clone());
            match op {
                BinaryOperator::PGLikeMatch => *expr = like(left, right, false),
                BinaryOperator::PGNotLikeMatch => *expr = like(left, right, true),
                BinaryOperator::PGILikeMatch => *expr = ilike(left, right, false),
                BinaryOperator::PGNotILikeMatch => *expr = ilike(left, right, true),
                BinaryOperator::PGStartsWith => *expr = call("starts_with", vec![*left, *right]),
                _ => {}
            }
        }
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
            if let Some(escape) = escape_char.take() {
                **pattern = text(like_pattern(&literal(pattern)?, escape_character(&escape)?)?);
            }
        }
        Expr::SimilarTo { negated, expr: operand, pattern, escape_char } => {
            let escape = match escape_char {
                Some(escape) => escape_character(escape)?,
                None => Some('\\'),
            };
            let pattern = text(similar_pattern(&literal(pattern)?, escape)?);
            let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
            *expr = Expr::BinaryOp { left: operand.clone(), op, right: Box::new(pattern) };
        }
        Expr::Function(function) => {
            let is_array = matches!(function.name.0.as_slice(), [ObjectNamePart::Identifier(name)] if fold(name) == "array");
            if let FunctionArguments::Subquery(query) = &function.args
                && is_array
            {
                *expr = array_of(query.as_ref().clone())?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn like(left: Box<Expr>, right: Box<Expr>, negated: bool) -> Expr {
    Expr::Like { negated, any: false, expr: left, pattern: right, escape_char: None }
}

fn ilike(left: Box<Expr>, right: Box<Expr>, negated: bool) -> Expr {
    Expr::ILike { negated, any: false, expr: left, pattern: right, escape_char: None }
}

fn is_power(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::PGExp, .. })
}

/// `-2 ^ 2` is `(-2) ^ 2`: the sign binds tighter.
fn negate_base(power: &mut Expr) {
    if let Expr::BinaryOp { left, op: BinaryOperator::PGExp, .. } = power {
        if is_power(left) {
            return negate_base(left);
        }
        let base = std::mem::replace(left.as_mut(), Expr::Value(Value::Null.into()));
        **left = Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(base) }));
    }
}

/// `a IS DISTINCT FROM b AND c` is `(a IS DISTINCT FROM b) AND c`; the parser takes all that follows for the right side.
fn bind_distinct(expr: &mut Expr) {
    let (left, right, negated) = match expr {
        Expr::IsDistinctFrom(left, right) => (left, right, false),
        Expr::IsNotDistinctFrom(left, right) => (left, right, true),
        _ => return,
    };
    if !is_logical(right) {
        return;
    }
    let empty = || Expr::Value(Value::Null.into());
    let left = Box::new(std::mem::replace(left.as_mut(), empty()));
    let mut tree = std::mem::replace(right.as_mut(), empty());
    let mut leaf = &mut tree;
    while is_logical(leaf) {
        let Expr::BinaryOp { left, .. } = leaf else { return };
        leaf = left;
    }
    let operand = Box::new(std::mem::replace(leaf, empty()));
    *leaf = if negated { Expr::IsNotDistinctFrom(left, operand) } else { Expr::IsDistinctFrom(left, operand) };
    *expr = tree;
}

fn is_logical(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. })
}

fn text(value: String) -> Expr {
    Expr::Value(Value::SingleQuotedString(value).into())
}

/// A constant text; constants joined by `||` are one.
fn literal(pattern: &Expr) -> Result<String, SqlError> {
    match pattern {
        Expr::Nested(inner) => literal(inner),
        Expr::Cast { expr, data_type: datafusion::sql::sqlparser::ast::DataType::Text, .. } => literal(expr),
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => Ok(literal(left)? + &literal(right)?),
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text), .. }) => Ok(text.clone()),
        _ => Err(SqlError::unsupported("a pattern that is not a constant, with ESCAPE or SIMILAR TO,")),
    }
}

/// ESCAPE's character; `None` for the empty string, which turns escaping off.
fn escape_character(escape: &ValueWithSpan) -> Result<Option<char>, SqlError> {
    let Value::SingleQuotedString(text) = &escape.value else {
        return Err(SqlError::unsupported("ESCAPE with something else than a string"));
    };
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (first, None) => Ok(first),
        _ => Err(SqlError::new("22025", "invalid escape string").with_hint("Escape string must be empty or one character.")),
    }
}

/// A LIKE pattern with the backslash for its escape character.
fn like_pattern(pattern: &str, escape: Option<char>) -> Result<String, SqlError> {
    let mut out = String::new();
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        if Some(c) == escape {
            let ends = || SqlError::new("22025", "LIKE pattern must not end with escape character");
            out.push('\\');
            out.push(characters.next().ok_or_else(ends)?);
        } else {
            if c == '\\' {
                out.push('\\');
            }
            out.push(c);
        }
    }
    Ok(out)
}

/// SIMILAR TO's pattern as a regular expression over the whole string.
fn similar_pattern(pattern: &str, escape: Option<char>) -> Result<String, SqlError> {
    let mut out = String::from("^(?:");
    let mut in_brackets = false;
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        if Some(c) == escape {
            let next = characters.next().ok_or_else(|| SqlError::new("22025", "invalid escape string"))?;
            out.push('\\');
            out.push(next);
            continue;
        }
        match c {
            '[' if !in_brackets => {
                in_brackets = true;
                out.push('[');
            }
            ']' if in_brackets => {
                in_brackets = false;
                out.push(']');
            }
            c if in_brackets => out.push(c),
            '%' => out.push_str("(?s:.*)"),
            '_' => out.push_str("(?s:.)"),
            '(' => out.push_str("(?:"),
            '\\' | '.' | '^' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push_str(")$");
    Ok(out)
}

/// Likewise of a query whose rows are not those that it selects from. They may be in order of themselves.
fn array_of_rows(query: Query, order: Vec<OrderByExpr>, item: Option<&SelectItem>) -> Result<Expr, SqlError> {
    let value = Expr::Identifier(Ident::with_quote('"', ITEM));
    let mut collect = call("array_agg", vec![value.clone()]);
    let mut keys = vec![];
    for mut key in order {
        let by_itself = match (&key.expr, item) {
            (Expr::Value(ValueWithSpan { value: Value::Number(..), .. }), _) => true,
            (Expr::Identifier(name), Some(SelectItem::ExprWithAlias { alias, .. })) => fold(name) == fold(alias),
            (expr, Some(SelectItem::UnnamedExpr(item))) => expr == item,
            _ => false,
        };
        if !by_itself {
            return Err(SqlError::unsupported("ARRAY of such a query in the order of something else"));
        }
        key.expr = value.clone();
        keys.push(key);
    }
    if let Expr::Function(function) = &mut collect
        && let FunctionArguments::List(list) = &mut function.args
        && !keys.is_empty()
    {
        list.clauses.push(datafusion::sql::sqlparser::ast::FunctionArgumentClause::OrderBy(keys));
    }
    let text = format!("SELECT 1 FROM (SELECT 1) AS \"{ITEM}s\" (\"{ITEM}\")");
    let parsed = crate::parse::parse(&text)?.pop().map(|parsed| parsed.statement);
    let Some(Statement::Query(mut outer)) = parsed else { return Err(SqlError::internal("a select did not parse")) };
    if let SetExpr::Select(select) = outer.body.as_mut() {
        select.projection = vec![SelectItem::UnnamedExpr(collect)];
        if let Some(TableFactor::Derived { subquery, .. }) = select.from.first_mut().map(|from| &mut from.relation) {
            **subquery = query;
        }
    }
    Ok(call("quire_array", vec![Expr::Subquery(outer)]))
}

fn is_unnest(expr: &Expr) -> bool {
    match expr {
        Expr::Function(function) => function.name.0.last().and_then(|p| p.as_ident()).is_some_and(|name| fold(name) == "unnest"),
        _ => false,
    }
}

/// `ARRAY(SELECT x … ORDER BY y)` by way of `array_agg`.
fn array_of(mut query: Query) -> Result<Expr, SqlError> {
    let refused = || SqlError::unsupported("ARRAY of a query with LIMIT");
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return Err(refused());
    }
    let order = match query.order_by.take().map(|o| o.kind) {
        None => vec![],
        Some(OrderByKind::Expressions(order)) => order,
        Some(OrderByKind::All(_)) => return Err(refused()),
    };
    if !matches!(query.body.as_ref(), SetExpr::Select(_)) {
        return array_of_rows(query, order, None);
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return Err(refused()) };
    let grouped = !matches!(&select.group_by, datafusion::sql::sqlparser::ast::GroupByExpr::Expressions(e, _) if e.is_empty());
    let several = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => gives_rows(expr) || is_unnest(expr),
        _ => false,
    };
    if grouped || select.distinct.is_some() || select.projection.iter().any(several) {
        let item = select.projection.first().cloned();
        return array_of_rows(query, order, item.as_ref());
    }
    let item = match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] => expr.clone(),
        _ => return Err(SqlError::syntax("subquery must return only one column")),
    };
    let order = order.into_iter().map(|mut o| {
        // ORDER BY 1
        if let Expr::Value(ValueWithSpan { value: Value::Number(..), .. }) = o.expr {
            o.expr = item.clone();
        }
        o
    });
    let mut collect = call("array_agg", vec![item.clone()]);
    if let Expr::Function(function) = &mut collect
        && let FunctionArguments::List(list) = &mut function.args
    {
        let order: Vec<_> = order.collect();
        if !order.is_empty() {
            list.clauses.push(datafusion::sql::sqlparser::ast::FunctionArgumentClause::OrderBy(order));
        }
    }
    select.projection = vec![SelectItem::UnnamedExpr(collect)];
    Ok(call("quire_array", vec![Expr::Subquery(Box::new(query))]))
}
