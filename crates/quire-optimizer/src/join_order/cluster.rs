//! Takes a part of a plan apart into relations and the predicates between them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::utils::{can_hash, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Join, LogicalPlan, Operator};

/// Leaves, by their bits. Semi joins' bits come after those of the leaves.
pub(super) type Mask = u64;

/// Relations and semi joins of one cluster: as many as a mask has bits, less two to spare.
const NODES_MAX: usize = 62;

/// A column of a leaf, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ColumnId {
    pub(super) leaf: usize,
    pub(super) field: usize,
}

/// A cluster, taken apart. All expressions name columns as the leaves do, whatever they were renamed to above.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) leaves: Vec<Leaf>,
    pub(super) semis: Vec<Semi>,
    /// Equal columns of one type, of two leaves.
    pub(super) equalities: Vec<(ColumnId, ColumnId)>,
    /// Other equalities that a join can hash.
    pub(super) pairs: Vec<Pair>,
    /// All other conditions.
    pub(super) predicates: Vec<Predicate>,
    /// The order in which the plan has them.
    pub(super) original: Tree,
    /// What the cluster gives, field by field.
    pub(super) output: Vec<ColumnId>,
}

#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) plan: Arc<LogicalPlan>,
    pub(super) columns: Vec<Column>,
}

/// A semi or anti join: a filter of the rows of what is left of it.
#[derive(Debug)]
pub(super) struct Semi {
    pub(super) right: Arc<LogicalPlan>,
    pub(super) on: Vec<(Expr, Expr)>,
    pub(super) filter: Option<Expr>,
    pub(super) join_type: JoinType,
    pub(super) null_equality: NullEquality,
    pub(super) null_aware: bool,
    /// The leaves whose columns it reads.
    pub(super) needs: Mask,
}

#[derive(Debug)]
pub(super) struct Pair {
    pub(super) left: Expr,
    pub(super) left_needs: Mask,
    pub(super) right: Expr,
    pub(super) right_needs: Mask,
}

#[derive(Debug)]
pub(super) struct Predicate {
    pub(super) expr: Expr,
    pub(super) needs: Mask,
}

/// An order of joins.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Leaf(usize),
    Join(Box<Tree>, Box<Tree>),
    /// The rows of a tree that pass a semi join.
    Semi(Box<Tree>, usize),
}

/// What a plan's node is to a cluster.
#[derive(Clone, Copy, Debug)]
pub(super) enum Member {
    /// An inner or cross join.
    Inner,
    /// A semi or anti join: its left input belongs to the cluster, its right one does not.
    Semi,
    /// A filter or a renaming above a member.
    Through,
    /// Not a member: one of the relations that a cluster joins.
    Leaf,
}

pub(super) fn member(plan: &LogicalPlan, through_aliases: bool) -> Member {
    let through = |input: &LogicalPlan| match member(input, through_aliases) {
        Member::Leaf => Member::Leaf,
        _ => Member::Through,
    };
    match plan {
        LogicalPlan::Join(join) => match join.join_type {
            // NULLs that equal each other are not transitive with those that do not.
            JoinType::Inner if join.null_equality == NullEquality::NullEqualsNothing => Member::Inner,
            JoinType::LeftSemi | JoinType::LeftAnti if !join.on.is_empty() || join.filter.is_some() => Member::Semi,
            _ => Member::Leaf,
        },
        LogicalPlan::Filter(filter) => through(&filter.input),
        LogicalPlan::Projection(projection) if projection.expr.iter().all(|e| renamed(e).is_some()) => through(&projection.input),
        LogicalPlan::SubqueryAlias(alias) if through_aliases => through(&alias.input),
        _ => Member::Leaf,
    }
}

/// The column that a projection's expression only passes on.
fn renamed(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => renamed(&alias.expr),
        _ => None,
    }
}

impl Cluster {
    /// None if `plan` is not a cluster, or one whose parts must not be moved.
    pub(super) fn collect(plan: &Arc<LogicalPlan>, through_aliases: bool) -> Option<Cluster> {
        let mut collector = Collector { through_aliases, ..Collector::default() };
        let (original, output) = collector.collect(plan)?;
        let Collector { leaves, semis, equalities, pairs, predicates, .. } = collector;
        let nodes = leaves.len() + semis.len();
        if !(2..=NODES_MAX).contains(&nodes) || !has_unique_names(&leaves, &semis) {
            return None;
        }
        Some(Cluster { leaves, semis, equalities, pairs, predicates, original, output })
    }

    pub(super) fn column(&self, column: ColumnId) -> &Column {
        &self.leaves[column.leaf].columns[column.field]
    }
}

/// Whether a name means one column wherever it is read. A table's own schema is not looked at, for a name may be given without it.
fn has_unique_names(leaves: &[Leaf], semis: &[Semi]) -> bool {
    let table = |column: &Column| column.relation.as_ref().map(|relation| relation.table().to_owned());
    let columns = || leaves.iter().flat_map(|leaf| &leaf.columns);
    let unqualified: HashSet<&str> = columns().filter(|c| c.relation.is_none()).map(|c| c.name.as_str()).collect();
    let qualified: HashSet<(String, &str)> = columns().filter_map(|c| Some((table(c)?, c.name.as_str()))).collect();
    let names: HashSet<&str> = columns().map(|c| c.name.as_str()).collect();
    if unqualified.len() + qualified.len() < columns().count() || qualified.iter().any(|(_, name)| unqualified.contains(name)) {
        return false;
    }
    // A semi join's condition sees both its sides.
    let mut right = semis.iter().flat_map(|semi| semi.right.schema().columns());
    !right.any(|column| match table(&column) {
        Some(table) => qualified.contains(&(table, column.name.as_str())) || unqualified.contains(column.name.as_str()),
        None => names.contains(column.name.as_str()),
    })
}

#[derive(Default)]
struct Collector {
    through_aliases: bool,
    leaves: Vec<Leaf>,
    semis: Vec<Semi>,
    equalities: Vec<(ColumnId, ColumnId)>,
    pairs: Vec<Pair>,
    predicates: Vec<Predicate>,
}

/// An expression over leaves' columns, and the leaves that it reads.
struct Resolved {
    expr: Expr,
    needs: Mask,
    /// The column, if it is nothing but one.
    column: Option<ColumnId>,
}

impl Collector {
    /// The order of joins below `plan`, and where its fields come from.
    fn collect(&mut self, plan: &Arc<LogicalPlan>) -> Option<(Tree, Vec<ColumnId>)> {
        match (member(plan, self.through_aliases), plan.as_ref()) {
            (Member::Inner, LogicalPlan::Join(join)) => self.inner(join),
            (Member::Semi, LogicalPlan::Join(join)) => self.semi(join),
            (Member::Through, LogicalPlan::Filter(filter)) => {
                let (tree, columns) = self.collect(&filter.input)?;
                self.conditions(&filter.predicate, filter.input.schema(), &columns)?;
                Some((tree, columns))
            }
            (Member::Through, LogicalPlan::Projection(projection)) => {
                let (tree, columns) = self.collect(&projection.input)?;
                let schema = projection.input.schema();
                let source = |e: &Expr| columns.get(schema.maybe_index_of_column(renamed(e)?)?).copied();
                let columns = projection.expr.iter().map(source).collect::<Option<Vec<_>>>()?;
                Some((tree, columns))
            }
            (Member::Through, LogicalPlan::SubqueryAlias(alias)) => self.collect(&alias.input),
            _ => self.leaf(plan),
        }
    }

    fn leaf(&mut self, plan: &Arc<LogicalPlan>) -> Option<(Tree, Vec<ColumnId>)> {
        if self.leaves.len() >= NODES_MAX || !plan.all_out_ref_exprs().is_empty() {
            return None;
        }
        let leaf = self.leaves.len();
        let columns = plan.schema().columns();
        let ids = (0..columns.len()).map(|field| ColumnId { leaf, field }).collect();
        self.leaves.push(Leaf { plan: plan.clone(), columns });
        Some((Tree::Leaf(leaf), ids))
    }

    fn inner(&mut self, join: &Join) -> Option<(Tree, Vec<ColumnId>)> {
        let (left, mut columns) = self.collect(&join.left)?;
        let (right, right_columns) = self.collect(&join.right)?;
        for (l, r) in &join.on {
            let l = self.resolve(l, join.left.schema(), &columns)?;
            let r = self.resolve(r, join.right.schema(), &right_columns)?;
            self.equality(l, r);
        }
        columns.extend(right_columns);
        if let Some(filter) = &join.filter {
            self.conditions(filter, &join.schema, &columns)?;
        }
        Some((Tree::Join(Box::new(left), Box::new(right)), columns))
    }

    fn semi(&mut self, join: &Join) -> Option<(Tree, Vec<ColumnId>)> {
        let (tree, columns) = self.collect(&join.left)?;
        let (left, right) = (join.left.schema(), join.right.schema());
        let mut needs: Mask = 0;
        let mut on = vec![];
        for (l, r) in &join.on {
            let l = self.resolve(l, left, &columns)?;
            if !movable(r) {
                return None;
            }
            needs |= l.needs;
            on.push((l.expr, r.clone()));
        }
        let filter = match &join.filter {
            Some(filter) => {
                let (filter, filter_needs) = self.resolve_left(filter, left, right, &columns)?;
                needs |= filter_needs;
                Some(filter)
            }
            None => None,
        };
        // One that reads nothing of the left side has no place of its own, and what an outer query gives is not ours to move.
        if needs == 0 || !join.right.all_out_ref_exprs().is_empty() {
            return None;
        }
        let Join { join_type, null_equality, null_aware, .. } = *join;
        let semi = Semi { right: join.right.clone(), on, filter, join_type, null_equality, null_aware, needs };
        self.semis.push(semi);
        Some((Tree::Semi(Box::new(tree), self.semis.len() - 1), columns))
    }

    /// Notes all conditions of a filter.
    fn conditions(&mut self, filter: &Expr, schema: &DFSchema, columns: &[ColumnId]) -> Option<()> {
        for condition in split_conjunction(filter) {
            if let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition {
                let l = self.resolve(left, schema, columns)?;
                let r = self.resolve(right, schema, columns)?;
                let of_two_sides = l.needs != 0 && r.needs != 0 && l.needs & r.needs == 0;
                if self.is_closable(&l, &r) || of_two_sides && left.get_type(schema).is_ok_and(|data_type| can_hash(&data_type)) {
                    self.equality(l, r);
                    continue;
                }
            }
            let resolved = self.resolve(condition, schema, columns)?;
            self.predicates.push(Predicate { expr: resolved.expr, needs: resolved.needs });
        }
        Some(())
    }

    /// Notes an equality of a join's two sides.
    fn equality(&mut self, left: Resolved, right: Resolved) {
        match (left.column, right.column) {
            (Some(l), Some(r)) if self.is_closable(&left, &right) => self.equalities.push((l, r)),
            _ if left.needs != 0 && right.needs != 0 && left.needs & right.needs == 0 => {
                let pair = Pair { left: left.expr, left_needs: left.needs, right: right.expr, right_needs: right.needs };
                self.pairs.push(pair);
            }
            _ => self.predicates.push(Predicate { needs: left.needs | right.needs, expr: left.expr.eq(right.expr) }),
        }
    }

    /// Whether an equality is one of two leaves' columns for which equality is transitive.
    fn is_closable(&self, left: &Resolved, right: &Resolved) -> bool {
        let (Some(l), Some(r)) = (left.column, right.column) else { return false };
        let data_type = |id: ColumnId| self.leaves[id.leaf].plan.schema().field(id.field).data_type().clone();
        l.leaf != r.leaf && data_type(l) == data_type(r) && is_transitive(&data_type(l))
    }

    /// `expr` over the leaves' columns. None if it must not be moved.
    fn resolve(&self, expr: &Expr, schema: &DFSchema, columns: &[ColumnId]) -> Option<Resolved> {
        if !movable(expr) {
            return None;
        }
        let mut needs: Mask = 0;
        let mut replaced: HashMap<Column, ColumnId> = HashMap::new();
        for column in expr.column_refs() {
            let id = *columns.get(schema.maybe_index_of_column(column)?)?;
            needs |= 1 << id.leaf;
            replaced.insert(column.clone(), id);
        }
        let column = match expr {
            Expr::Column(column) => replaced.get(column).copied(),
            _ => None,
        };
        Some(Resolved { expr: self.replace(expr, &replaced)?, needs, column })
    }

    /// A semi join's filter, with the columns of the left side as leaves name them.
    fn resolve_left(&self, expr: &Expr, left: &DFSchema, right: &DFSchema, columns: &[ColumnId]) -> Option<(Expr, Mask)> {
        if !movable(expr) {
            return None;
        }
        let mut needs: Mask = 0;
        let mut replaced = HashMap::new();
        for column in expr.column_refs() {
            match (left.maybe_index_of_column(column), right.maybe_index_of_column(column)) {
                (Some(index), None) => {
                    let id = *columns.get(index)?;
                    needs |= 1 << id.leaf;
                    replaced.insert(column.clone(), id);
                }
                (None, Some(_)) => {}
                _ => return None,
            }
        }
        Some((self.replace(expr, &replaced)?, needs))
    }

    fn replace(&self, expr: &Expr, by: &HashMap<Column, ColumnId>) -> Option<Expr> {
        let replaced = expr.clone().transform(|e| match e {
            Expr::Column(column) => match by.get(&column) {
                Some(id) => Ok(Transformed::yes(Expr::Column(self.leaves[id.leaf].columns[id.field].clone()))),
                None => Ok(Transformed::no(Expr::Column(column))),
            },
            other => Ok(Transformed::no(other)),
        });
        Some(replaced.ok()?.data)
    }
}

/// Whether an expression means the same wherever its columns are: it gives the same each time, and reads nothing of an outer query.
fn movable(expr: &Expr) -> bool {
    let fixed = expr.exists(|e| {
        Ok(match e {
            Expr::OuterReferenceColumn(..) => true,
            Expr::ScalarSubquery(subquery) => !subquery.outer_ref_columns.is_empty(),
            Expr::Exists(exists) => !exists.subquery.outer_ref_columns.is_empty(),
            Expr::InSubquery(query) => !query.subquery.outer_ref_columns.is_empty(),
            Expr::SetComparison(query) => !query.subquery.outer_ref_columns.is_empty(),
            other => other.is_volatile_node(),
        })
    });
    matches!(fixed, Ok(false))
}

fn is_transitive(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_decimal()
        || data_type.is_temporal()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Utf8
                | DataType::Utf8View
                | DataType::LargeUtf8
                | DataType::Binary
                | DataType::BinaryView
                | DataType::LargeBinary
                | DataType::FixedSizeBinary(_)
        )
}
