//! Where in a plan the values of a column come from.
//!
//! Columns are known by their place in a schema: names change on the way down, and may be ambiguous.

use std::sync::Arc;

use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema, NullEquality};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, Filter, Join, JoinType, LogicalPlan, Operator, Projection, SubqueryAlias};

/// Which input of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Only,
    Left,
    Right,
}

/// An input of a node, and for each column that was asked for the input's column with the same values.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) input: Input,
    pub(crate) columns: Vec<Option<usize>>,
}

/// The inputs below which a test of `columns` may be done instead of above `plan`: it drops the same rows.
///
/// Such a test sees a row of `columns` and nothing else, as a filter does, or a semi join with its other input fixed. It may sink below
/// - a filter or a projection of these columns: both look at one row at a time;
/// - an aggregate, where `columns` are group keys: it drops a group's rows all or none, so that no group changes;
/// - an inner join: a pair is dropped by what its one row says. Where the join makes two columns equal, either row says it;
/// - the side of an outer, semi or anti join whose rows are kept as they are.
///
/// In each case a column's values above are among the origin's values below.
pub(crate) fn origins(plan: &LogicalPlan, columns: &[usize]) -> Vec<Origin> {
    let only = |columns: Vec<Option<usize>>| vec![Origin { input: Input::Only, columns }];
    match plan {
        LogicalPlan::SubqueryAlias(_) => only(columns.iter().copied().map(Some).collect()),
        LogicalPlan::Filter(filter) if !filter.predicate.is_volatile() => only(columns.iter().copied().map(Some).collect()),
        LogicalPlan::Projection(projection) if !projection.expr.iter().any(Expr::is_volatile) => {
            let input = projection.input.schema();
            only(columns.iter().map(|column| column_of(&projection.expr[*column], input)).collect())
        }
        LogicalPlan::Aggregate(aggregate) if groups_plainly(aggregate) => {
            let input = aggregate.input.schema();
            only(columns.iter().map(|column| column_of(aggregate.group_expr.get(*column)?, input)).collect())
        }
        LogicalPlan::Join(join) if !join.filter.iter().any(Expr::is_volatile) => join_origins(join, columns),
        _ => vec![],
    }
}

/// No grouping sets, in which a row is in several groups, and nothing that differs from one evaluation to the next.
fn groups_plainly(aggregate: &Aggregate) -> bool {
    !aggregate.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_)))
        && !aggregate.group_expr.iter().chain(&aggregate.aggr_expr).any(Expr::is_volatile)
}

fn join_origins(join: &Join, columns: &[usize]) -> Vec<Origin> {
    let left_len = join.left.schema().fields().len();
    let in_left = |column: usize| (column < left_len).then_some(column);
    let in_right = |column: usize| column.checked_sub(left_len);
    let origin = |input: Input, place: &dyn Fn(usize) -> Option<usize>| Origin {
        input,
        columns: columns.iter().map(|column| place(*column)).collect(),
    };
    match join.join_type {
        JoinType::Inner => {
            let equal = equalities(join);
            let left_of = |right: usize| equal.iter().find(|pair| pair.1 == right).map(|pair| pair.0);
            let right_of = |left: usize| equal.iter().find(|pair| pair.0 == left).map(|pair| pair.1);
            vec![
                origin(Input::Left, &|column| in_left(column).or_else(|| left_of(column - left_len))),
                origin(Input::Right, &|column| in_right(column).or_else(|| right_of(column))),
            ]
        }
        JoinType::Left => vec![origin(Input::Left, &in_left)],
        JoinType::Right => vec![origin(Input::Right, &in_right)],
        JoinType::LeftSemi | JoinType::LeftAnti => vec![origin(Input::Left, &Some::<usize>)],
        JoinType::RightSemi | JoinType::RightAnti => vec![origin(Input::Right, &Some::<usize>)],
        JoinType::Full | JoinType::LeftMark | JoinType::RightMark => vec![],
    }
}

/// Pairs of a left and a right column that are equal, and not NULL, in every match of the join.
///
/// Floating-point columns are left out: values that are equal may still be told apart (0 and -0).
pub(crate) fn equalities(join: &Join) -> Vec<(usize, usize)> {
    let (left, right) = (join.left.schema(), join.right.schema());
    let mut pairs = vec![];
    if join.null_equality == NullEquality::NullEqualsNothing {
        for (left_key, right_key) in &join.on {
            if let (Some(left_key), Some(right_key)) = (column_of(left_key, left), column_of(right_key, right)) {
                pairs.push((left_key, right_key));
            }
        }
    }
    for conjunct in join.filter.iter().flat_map(split_conjunction) {
        let Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b }) = conjunct else { continue };
        let sides = |expr: &Expr| (column_of(expr, left), column_of(expr, right));
        match (sides(a), sides(b)) {
            ((Some(a), None), (None, Some(b))) => pairs.push((a, b)),
            ((None, Some(a)), (Some(b), None)) => pairs.push((b, a)),
            _ => {}
        }
    }
    pairs.retain(|pair| {
        let (left, right) = (left.field(pair.0).data_type(), right.field(pair.1).data_type());
        left == right && !left.is_floating() && !left.is_nested()
    });
    pairs
}

/// The column that `expr` is, under whatever name.
fn column_of(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => resolve(column, schema),
        Expr::Alias(alias) => column_of(&alias.expr, schema),
        _ => None,
    }
}

/// The one column that the name means.
pub(crate) fn resolve(name: &Column, schema: &DFSchema) -> Option<usize> {
    if name.relation.is_none() && schema.fields_with_unqualified_name(&name.name).len() > 1 {
        return None;
    }
    schema.maybe_index_of_column(name)
}

/// A name that means the column and no other.
pub(crate) fn name_of(column: usize, schema: &DFSchema) -> Option<Column> {
    let name = Column::from(schema.qualified_field(column));
    (resolve(&name, schema) == Some(column)).then_some(name)
}

/// Whether an expression says the same wherever it is put, and however often: no dice, no sub-query, nothing of an outer query.
pub(crate) fn is_plain(expr: &Expr) -> bool {
    !expr
        .exists(|part| {
            let elsewhere = matches!(
                part,
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) | Expr::OuterReferenceColumn(..)
            );
            Ok(elsewhere || part.is_volatile_node())
        })
        .expect("the test cannot fail")
}

/// An input of one of the nodes that [`origins`] goes through.
pub(crate) fn input_of(plan: &LogicalPlan, which: Input) -> Option<&Arc<LogicalPlan>> {
    match (plan, which) {
        (
            LogicalPlan::Projection(Projection { input, .. })
            | LogicalPlan::Filter(Filter { input, .. })
            | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
            | LogicalPlan::Aggregate(Aggregate { input, .. }),
            Input::Only,
        ) => Some(input),
        (LogicalPlan::Join(join), Input::Left) => Some(&join.left),
        (LogicalPlan::Join(join), Input::Right) => Some(&join.right),
        _ => None,
    }
}

/// The node at the end of `path`, to be replaced by one with the same schema.
pub(crate) fn node_at<'a>(plan: &'a mut Arc<LogicalPlan>, path: &[Input]) -> &'a mut Arc<LogicalPlan> {
    let mut here = plan;
    for which in path {
        here = match (Arc::make_mut(here), which) {
            (
                LogicalPlan::Projection(Projection { input, .. })
                | LogicalPlan::Filter(Filter { input, .. })
                | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
                | LogicalPlan::Aggregate(Aggregate { input, .. }),
                Input::Only,
            ) => input,
            (LogicalPlan::Join(join), Input::Left) => &mut join.left,
            (LogicalPlan::Join(join), Input::Right) => &mut join.right,
            (other, which) => panic!("a path leads through nodes that were walked, not {which:?} of {}", other.display()),
        };
    }
    here
}
