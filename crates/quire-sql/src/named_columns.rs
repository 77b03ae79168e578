//! Of its tables, a query is planned with the columns that it names.
//!
//! Each node of a plan has a schema, of all columns that come from below until a rule of the optimizer removes those that nobody reads. That is
//! late: by then schemas of all columns of all tables have been made, merged and compared by every step before it. So scans begin with the
//! columns whose names occur anywhere in the statement; whatever the names mean, it needs no others. A statement that means columns without
//! naming them (`*`, NATURAL, a whole row) is planned with all of them, and so is one that fails with these: its error is to be the same.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::common::Result;
use datafusion::datasource::DefaultTableSource;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, Query, Select,
    SelectItem, SetExpr, Statement, TableFactor, TableWithJoins, Visit, Visitor,
};

use crate::table::QuireTable;

/// Names that occur in a statement where columns may be meant.
#[derive(Debug)]
pub(crate) struct NamedColumns {
    names: HashSet<String>,
    is_on: AtomicBool,
}

impl NamedColumns {
    /// `None` when the statement may mean columns that it does not name.
    pub(crate) fn of(statement: &Statement) -> Option<NamedColumns> {
        let mut found = Found::default();
        if statement.visit(&mut found).is_break() || found.alone.intersection(&found.relations).next().is_some() {
            return None;
        }
        found.names.extend(found.alone);
        Some(NamedColumns { names: found.names, is_on: AtomicBool::new(true) })
    }

    /// From now on scans have all columns.
    pub(crate) fn turn_off(&self) {
        self.is_on.store(false, Ordering::Relaxed);
    }
}

impl RelationPlanner for NamedColumns {
    fn plan_relation(&self, relation: TableFactor, context: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        let original = |relation| Ok(RelationPlanning::Original(Box::new(relation)));
        let (name, alias) = match &relation {
            // Without a schema it is a WITH query; columns that an alias names are meant by their places.
            TableFactor::Table { name, alias, args: None, sample: None, .. }
                if name.0.len() > 1 && alias.as_ref().is_none_or(|alias| alias.columns.is_empty()) =>
            {
                (name.clone(), alias.clone())
            }
            _ => return original(relation),
        };
        let reference = context.object_name_to_table_reference(name)?;
        let Ok(source) = context.context_provider().get_table_source(reference.clone()) else { return original(relation) };
        let is_table = source.downcast_ref::<DefaultTableSource>().is_some_and(|source| source.table_provider.is::<QuireTable>());
        let schema = source.schema();
        if !is_table || !self.is_on.load(Ordering::Relaxed) || schema.fields().is_empty() {
            return original(relation);
        }
        let is_named = |place: &usize| self.names.contains(schema.field(*place).name());
        let mut columns: Vec<usize> = (0..schema.fields().len()).filter(is_named).collect();
        if columns.is_empty() {
            // Rows are counted.
            columns.push(0);
        }
        let plan = LogicalPlanBuilder::scan(reference, source, Some(columns))?.build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

#[derive(Default)]
struct Found {
    /// Names that stand by themselves, and all others.
    alone: HashSet<String>,
    names: HashSet<String>,
    /// Names of relations.
    relations: HashSet<String>,
    /// What stands in EXISTS: of it nobody reads a column, so that `*` means none.
    tested: Vec<*const Select>,
}

/// What a name may be called: as it is written, and without capitals, which the planner does to what is not quoted.
fn forms(name: &Ident) -> impl Iterator<Item = String> + use<> {
    let has_capitals = name.value.chars().any(char::is_uppercase);
    let folded = has_capitals.then(|| [name.value.to_ascii_lowercase(), name.value.to_lowercase()]);
    std::iter::once(name.value.clone()).chain(folded.into_iter().flatten())
}

const GOES_ON: ControlFlow<()> = ControlFlow::Continue(());

impl Found {
    fn joins(&mut self, joins: &[Join]) -> ControlFlow<()> {
        for join in joins {
            let constraint = match &join.join_operator {
                JoinOperator::Join(constraint)
                | JoinOperator::Inner(constraint)
                | JoinOperator::Left(constraint)
                | JoinOperator::LeftOuter(constraint)
                | JoinOperator::Right(constraint)
                | JoinOperator::RightOuter(constraint)
                | JoinOperator::FullOuter(constraint)
                | JoinOperator::CrossJoin(constraint) => constraint,
                _ => return ControlFlow::Break(()),
            };
            match constraint {
                JoinConstraint::On(_) | JoinConstraint::None => {}
                JoinConstraint::Using(columns) => {
                    let parts = columns.iter().flat_map(|column| &column.0);
                    self.names.extend(parts.filter_map(|part| part.as_ident()).flat_map(forms));
                }
                JoinConstraint::Natural => return ControlFlow::Break(()),
            }
        }
        GOES_ON
    }

    fn tables(&mut self, tables: &[TableWithJoins]) -> ControlFlow<()> {
        tables.iter().try_for_each(|table| self.joins(&table.joins))
    }
}

/// Whether rows come from `TABLE t`.
fn is_table_command(body: &SetExpr) -> bool {
    match body {
        SetExpr::Table(_) => true,
        SetExpr::SetOperation { left, right, .. } => is_table_command(left) || is_table_command(right),
        _ => false,
    }
}

impl Visitor for Found {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if is_table_command(&query.body) { ControlFlow::Break(()) } else { GOES_ON }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let is_named = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
        if !select.projection.iter().all(is_named) && !self.tested.contains(&std::ptr::from_ref(select)) {
            return ControlFlow::Break(());
        }
        self.tables(&select.from)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, alias, .. } => {
                let own = name.0.last().and_then(|part| part.as_ident());
                let called = alias.as_ref().map(|alias| &alias.name).or(own);
                self.relations.extend(called.into_iter().flat_map(forms));
            }
            TableFactor::NestedJoin { table_with_joins, .. } => return self.joins(&table_with_joins.joins),
            TableFactor::Derived { .. } | TableFactor::Function { .. } | TableFactor::UNNEST { .. } => {}
            _ => return ControlFlow::Break(()),
        }
        GOES_ON
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => self.alone.extend(forms(name)),
            Expr::CompoundIdentifier(parts) => self.names.extend(parts.iter().flat_map(forms)),
            Expr::Exists { subquery, .. } => {
                let is_plain = |select: &Select| {
                    select.distinct.is_none() && matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty())
                };
                if let SetExpr::Select(select) = subquery.body.as_ref()
                    && is_plain(select)
                {
                    self.tested.push(std::ptr::from_ref(select));
                }
            }
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => return ControlFlow::Break(()),
            Expr::Function(function) => {
                if let FunctionArguments::List(list) = &function.args {
                    let of = |arg: &FunctionArg| match arg {
                        FunctionArg::Unnamed(arg) | FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. } => {
                            matches!(arg, FunctionArgExpr::Expr(_) | FunctionArgExpr::Wildcard)
                        }
                    };
                    if !list.args.iter().all(of) {
                        return ControlFlow::Break(());
                    }
                }
            }
            _ => {}
        }
        GOES_ON
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::NamedColumns;
    use crate::parse;

    fn named(sql: &str) -> Option<BTreeSet<String>> {
        let statement = parse::parse(sql).expect("a statement").remove(0).statement;
        NamedColumns::of(&statement).map(|named| named.names.into_iter().collect())
    }

    #[test]
    fn names_are_found_wherever_columns_may_be_meant() {
        let all = |sql: &str, names: &[&str]| {
            assert_eq!(named(sql), Some(names.iter().map(|name| name.to_string()).collect()), "{sql}");
        };
        all("SELECT count(*) FROM t", &[]);
        all(
            "SELECT a, t.b AS x FROM t WHERE c > (SELECT max(d) FROM u WHERE u.e = t.f) ORDER BY g",
            &["a", "b", "c", "d", "e", "f", "g", "t", "u"],
        );
        all("SELECT a FROM t JOIN u USING (k) GROUP BY h HAVING sum(i) > 1", &["a", "h", "i", "k"]);
        all("SELECT a FROM (t JOIN u USING (k)) JOIN v ON t.l = v.l", &["a", "k", "l", "t", "v"]);
        all("SELECT sum(a) FILTER (WHERE b) OVER w FROM t WINDOW w AS (PARTITION BY c ORDER BY d)", &["a", "b", "c", "d"]);
        all("SELECT a FROM t WHERE EXISTS (SELECT * FROM u WHERE u.b = t.c)", &["a", "b", "c", "t", "u"]);
        all("SELECT Ab FROM t WHERE T.\"Cd\" > 1", &["Ab", "Cd", "T", "ab", "cd", "t"]);
        all("SELECT DISTINCT ON (a) b FROM t", &["a", "b"]);
        all("WITH x AS (SELECT a FROM t) SELECT b FROM x UNION SELECT c FROM u", &["a", "b", "c"]);
        all("SELECT string_agg(a, ',' ORDER BY b), percentile_cont(0.5) WITHIN GROUP (ORDER BY c) FROM t", &["a", "b", "c"]);
    }

    #[test]
    fn columns_that_are_not_named_may_be_any() {
        for sql in [
            "SELECT * FROM t",
            "SELECT a FROM (SELECT t.* FROM t) x",
            "SELECT a FROM t NATURAL JOIN u",
            "SELECT a FROM (t NATURAL JOIN u)",
            "TABLE t",
            "SELECT a FROM t UNION TABLE u",
            "SELECT t FROM t",
            "SELECT row_to_json(x) FROM t x",
            "SELECT count(t.*) FROM t",
            "SELECT a FROM t WHERE b IN (SELECT * FROM u)",
            "SELECT a FROM t WHERE EXISTS (SELECT DISTINCT * FROM u OFFSET 1)",
            "SELECT T FROM t",
            "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM (SELECT * FROM u) x)",
        ] {
            assert_eq!(named(sql), None, "{sql}");
        }
    }
}
