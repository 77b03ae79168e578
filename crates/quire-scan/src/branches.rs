//! What a CASE can be: the filter of a join that is divided into partitions is a CASE of theirs, by the hash of the keys. Statistics, orders
//! and lists of keys say something of each branch, and nothing of a hash.

use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_expr_common::operator::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, CaseExpr, Literal, lit};

/// A condition that is true wherever the expression is, and perhaps elsewhere: it has, for each CASE, any of its branches.
pub(crate) fn any_branch(expr: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    if let Some(case) = expr.downcast_ref::<CaseExpr>() {
        let branches = case.when_then_expr().iter().map(|(_, then)| then).chain(case.else_expr());
        return branches.map(any_branch).reduce(|any, branch| combined(Operator::Or, any, branch)).unwrap_or_else(|| expr.clone());
    }
    // Below anything else, more rows for a part may be fewer for the whole.
    match expr.downcast_ref::<BinaryExpr>() {
        Some(both) if matches!(both.op(), Operator::And | Operator::Or) => {
            let (left, right) = (any_branch(both.left()), any_branch(both.right()));
            let same = Arc::ptr_eq(&left, both.left()) && Arc::ptr_eq(&right, both.right());
            if same { expr.clone() } else { combined(*both.op(), left, right) }
        }
        _ => expr.clone(),
    }
}

/// AND or OR of two conditions, without constants that do not matter.
fn combined(op: Operator, left: Arc<dyn PhysicalExpr>, right: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    let decides = op == Operator::Or;
    match (constant(&left), constant(&right)) {
        (Some(known), _) if known == decides => lit(decides),
        (_, Some(known)) if known == decides => lit(decides),
        (Some(_), _) => right,
        (_, Some(_)) => left,
        _ => Arc::new(BinaryExpr::new(left, op, right)),
    }
}

fn constant(expr: &Arc<dyn PhysicalExpr>) -> Option<bool> {
    match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::Boolean(known) => *known,
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion_physical_expr::expressions::{Column, NotExpr};

    use super::*;

    fn column(name: &str) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(name, 0))
    }

    /// CASE h WHEN 0 THEN first WHEN 1 THEN second ELSE other END
    fn case(first: Arc<dyn PhysicalExpr>, second: Arc<dyn PhysicalExpr>, other: bool) -> Arc<dyn PhysicalExpr> {
        Arc::new(CaseExpr::try_new(Some(column("h")), vec![(lit(0), first), (lit(1), second)], Some(lit(other))).unwrap())
    }

    #[test]
    fn branches_of_a_case_are_alternatives() {
        let check = |expr: Arc<dyn PhysicalExpr>, expected: &str| assert_eq!(any_branch(&expr).to_string(), expected);
        check(case(column("a"), column("b"), false), "a@0 OR b@0");
        check(case(column("a"), lit(false), false), "a@0");
        check(case(lit(false), lit(false), false), "false");
        check(case(column("a"), lit(false), true), "true");
        let both = |case| Arc::new(BinaryExpr::new(column("c"), Operator::And, case)) as Arc<dyn PhysicalExpr>;
        check(both(case(column("a"), column("b"), false)), "c@0 AND (a@0 OR b@0)");
        check(both(case(column("a"), column("b"), true)), "c@0");
        check(both(column("a")), "c@0 AND a@0");
        // What is not true must not become less.
        let not = Arc::new(NotExpr::new(case(column("a"), column("b"), false))) as Arc<dyn PhysicalExpr>;
        check(not.clone(), &not.to_string());
    }
}
