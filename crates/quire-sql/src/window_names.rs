//! Named windows: a window that begins with another's name takes over what that one says.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, NamedWindowDefinition, NamedWindowExpr, Query, Select, SetExpr, VisitMut, VisitorMut, WindowSpec, WindowType,
};

use crate::SqlError;
use crate::names::fold;

/// Completes the windows of a query's SELECTs, those in its ORDER BY included.
pub(crate) fn complete(query: &mut Query) -> Result<(), SqlError> {
    let named = body(&mut query.body)?;
    result(query.order_by.visit(&mut Windows { named: &named, depth: 0 }))
}

/// The windows that the SELECT names, when the body is one.
fn body(set: &mut SetExpr) -> Result<Vec<(String, WindowSpec)>, SqlError> {
    match set {
        SetExpr::Select(select) => {
            let named = define(select)?;
            result(select.visit(&mut Windows { named: &named, depth: 0 }))?;
            Ok(named)
        }
        SetExpr::SetOperation { left, right, .. } => {
            body(left)?;
            body(right)?;
            Ok(vec![])
        }
        _ => Ok(vec![]),
    }
}

fn result(flow: ControlFlow<SqlError>) -> Result<(), SqlError> {
    if let ControlFlow::Break(error) = flow { Err(error) } else { Ok(()) }
}

/// The SELECT's own windows in the order they are written, each complete.
fn define(select: &mut Select) -> Result<Vec<(String, WindowSpec)>, SqlError> {
    let mut named: Vec<(String, WindowSpec)> = vec![];
    for NamedWindowDefinition(name, definition) in &mut select.named_window {
        let mut spec = match definition {
            NamedWindowExpr::WindowSpec(spec) => spec.clone(),
            NamedWindowExpr::NamedWindow(other) => find(&named, other)?.clone(),
        };
        extend(&named, &mut spec)?;
        if named.iter().any(|(known, _)| *known == fold(name)) {
            return Err(SqlError::new("42P20", format!("window \"{}\" is already defined", fold(name))));
        }
        named.push((fold(name), spec.clone()));
        *definition = NamedWindowExpr::WindowSpec(spec);
    }
    Ok(named)
}

fn find<'a>(named: &'a [(String, WindowSpec)], name: &Ident) -> Result<&'a WindowSpec, SqlError> {
    let found = named.iter().find(|(known, _)| *known == fold(name)).map(|(_, spec)| spec);
    found.ok_or_else(|| SqlError::new("42704", format!("window \"{}\" does not exist", fold(name))).at_span(name.span))
}

fn extend(named: &[(String, WindowSpec)], spec: &mut WindowSpec) -> Result<(), SqlError> {
    let Some(name) = spec.window_name.take() else { return Ok(()) };
    let base = find(named, &name)?;
    let refused = |what: String| Err(SqlError::new("42P20", what).at_span(name.span));
    if !spec.partition_by.is_empty() {
        return refused(format!("cannot override PARTITION BY clause of window \"{}\"", fold(&name)));
    }
    if !spec.order_by.is_empty() && !base.order_by.is_empty() {
        return refused(format!("cannot override ORDER BY clause of window \"{}\"", fold(&name)));
    }
    if base.window_frame.is_some() {
        return refused(format!("cannot copy window \"{}\" because it has a frame clause", fold(&name)));
    }
    spec.partition_by = base.partition_by.clone();
    if spec.order_by.is_empty() {
        spec.order_by = base.order_by.clone();
    }
    Ok(())
}

/// Goes through one query and leaves those inside it, which have windows of their own.
struct Windows<'a> {
    named: &'a [(String, WindowSpec)],
    depth: usize,
}

impl VisitorMut for Windows<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<SqlError> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<SqlError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        if self.depth == 0
            && let Expr::Function(function) = expr
            && let Some(WindowType::WindowSpec(spec)) = &mut function.over
            && let Err(error) = extend(self.named, spec)
        {
            return ControlFlow::Break(error);
        }
        ControlFlow::Continue(())
    }
}
