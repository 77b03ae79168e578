//! Plans that a session keeps, to run the same query again.
//!
//! Applications ask the same few questions over and over, and to plan a join of six tables may take longer than to run it. A query's plan is
//! kept, optimized, when it comes for the second time: by its syntax tree, with the values of parameters in it. It holds while the
//! definitions and settings that it was made of are the same, and while tables have about as many rows: more would change no answer, but
//! may want another order of joins. Rows are those of the statement's own snapshot, since tables are put into the plan anew; how it runs
//! (build sides, partitions) is decided anew, too. `plan_cache_mode = force_custom_plan` turns it off.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{DefaultTableSource, provider_as_source};
use datafusion::logical_expr::logical_plan::TableScan;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::{self, Statement, Value, visit_expressions};
use quire_types::{Catalog, TableId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::catalog::ScopeCell;
use crate::errors::datafusion_error;
use crate::functions::CAST;
use crate::query::{self, Query};
use crate::settings::InForce;
use crate::table::QuireTable;
use crate::{OutputColumn, Session, SqlError};

/// Plans of one session.
const KEPT_MAX: usize = 32;
/// Plans of all sessions of a node.
pub(crate) const KEPT_BY_ALL_MAX: usize = 2048;
/// Of so many last statements it is known that they came.
const SEEN_MAX: usize = 256;
/// A statement of more is not kept: so much for each expression, and the bytes of its literals.
const STATEMENT_BYTES_MAX: usize = 32 << 10;
const EXPRESSION_BYTES: usize = 64;
/// A table has about as many rows as when it has at most so many times as many, or as few, or differs by no more than a few.
const GROWTH_MAX: u64 = 2;
const FEW_ROWS: u64 = 1000;

/// What a session keeps.
pub(crate) struct Plans {
    /// Last used first.
    kept: VecDeque<Kept>,
    /// Hashes of statements that have come, the last one first.
    seen: VecDeque<u64>,
    hasher: RandomState,
    /// Of all sessions.
    room: Arc<Semaphore>,
}

struct Kept {
    hash: u64,
    statement: Statement,
    made_of: MadeOf,
    /// Optimized. Its tables have no rows.
    plan: LogicalPlan,
    columns: Arc<Vec<OutputColumn>>,
    rows: Vec<(TableId, u64)>,
    _room: OwnedSemaphorePermit,
}

/// What a plan is made of beside its statement. Each change of one of them makes another.
#[derive(Clone)]
struct MadeOf {
    catalog: Arc<Catalog>,
    settings: Arc<InForce>,
}

impl MadeOf {
    fn is(&self, other: &MadeOf) -> bool {
        Arc::ptr_eq(&self.catalog, &other.catalog) && Arc::ptr_eq(&self.settings, &other.settings)
    }
}

impl Plans {
    pub(crate) fn new(room: Arc<Semaphore>) -> Plans {
        Plans { kept: VecDeque::new(), seen: VecDeque::new(), hasher: RandomState::new(), room }
    }

    /// Forgets them all.
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
        self.seen.clear();
    }

    /// The plan that was kept for a statement, over the rows that are there now.
    fn find(&mut self, hash: u64, statement: &Statement, cell: &ScopeCell) -> Result<Option<Query>> {
        let Some(at) = self.kept.iter().position(|kept| kept.hash == hash && kept.statement == *statement) else { return Ok(None) };
        let Some(kept) = self.kept.remove(at) else { return Ok(None) };
        let (plan, rows) = with_tables(&kept.plan, |table| cell.table(table.def.id).map(|now| (now.row_count(), now)))?;
        if rows.len() != kept.rows.len() || !rows.iter().zip(&kept.rows).all(|(now, then)| now.0 == then.0 && is_about(now.1, then.1)) {
            return Ok(None);
        }
        let query = Query { plan, is_optimized: true, columns: kept.columns.clone() };
        self.kept.push_front(kept);
        Ok(Some(query))
    }

    /// Notes that a statement has come; whether it had before.
    fn has_come(&mut self, hash: u64) -> bool {
        if self.seen.contains(&hash) {
            return true;
        }
        self.seen.truncate(SEEN_MAX - 1);
        self.seen.push_front(hash);
        false
    }

    fn keep(
        &mut self,
        hash: u64,
        statement: Statement,
        optimized: &LogicalPlan,
        made_of: MadeOf,
        columns: &Arc<Vec<OutputColumn>>,
    ) -> Result<()> {
        self.kept.truncate(KEPT_MAX - 1);
        let Ok(room) = self.room.clone().try_acquire_owned() else { return Ok(()) };
        let (plan, rows) = with_tables(optimized, |table| Some((table.row_count(), Arc::new(table.without_rows()))))?;
        self.kept.push_front(Kept { hash, statement, made_of, plan, columns: columns.clone(), rows, _room: room });
        metrics::counter!("quire_sql_plans_kept_total").increment(1);
        Ok(())
    }
}

impl Session {
    /// A query and how it is to run: by a plan that was kept, where it still holds.
    pub(crate) async fn planned(&mut self, statement: Statement) -> Result<(Query, Arc<dyn ExecutionPlan>), SqlError> {
        // What the planner was told: a function may be changing a setting just now.
        let settings = self.applied.clone().filter(|settings| settings.keeps_plans && is_small(&statement));
        let Some(settings) = settings else {
            return Ok(query::plan_and_optimize(&self.context, statement).await?.into_parts());
        };
        let made_of = MadeOf { catalog: self.cell.get().catalog, settings };
        // The others will never hold again.
        self.plans.kept.retain(|kept| kept.made_of.is(&made_of));
        let hash = self.plans.hasher.hash_one(&statement);
        if let Some(query) = self.plans.find(hash, &statement, &self.cell).map_err(datafusion_error)? {
            metrics::counter!("quire_sql_plans_reused_total").increment(1);
            let physical = query::physical_plan_of_optimized(&self.context, &query.plan).await?;
            return Ok((query, physical));
        }
        let again = self.plans.has_come(hash).then(|| statement.clone());
        let asked = self.cell.moments_asked().load(Ordering::Relaxed);
        let planned = query::plan_and_optimize(&self.context, statement).await?;
        if let Some(statement) = again
            && let Some(optimized) = &planned.optimized
            && self.cell.moments_asked().load(Ordering::Relaxed) == asked
            && lasts(&planned.query.plan, &made_of.catalog).map_err(datafusion_error)?
        {
            self.plans.keep(hash, statement, optimized, made_of, &planned.query.columns).map_err(datafusion_error)?;
        }
        Ok(planned.into_parts())
    }
}

fn is_about(now: u64, then: u64) -> bool {
    let (less, more) = (now.min(then), now.max(then));
    more <= less.saturating_mul(GROWTH_MAX).saturating_add(FEW_ROWS)
}

fn is_small(statement: &Statement) -> bool {
    let mut left = STATEMENT_BYTES_MAX;
    let literal = |value: &Value| match value {
        Value::Number(text, _) | Value::SingleQuotedString(text) | Value::HexStringLiteral(text) => text.len(),
        other => other.clone().into_string().map_or(0, |text| text.len()),
    };
    visit_expressions(statement, |expr| {
        let bytes = match expr {
            ast::Expr::Value(value) => literal(&value.value),
            ast::Expr::TypedString(typed) => literal(&typed.value.value),
            _ => 0,
        };
        match left.checked_sub(EXPRESSION_BYTES + bytes) {
            Some(rest) => {
                left = rest;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        }
    })
    .is_continue()
}

fn table_of(scan: &TableScan) -> Option<&QuireTable> {
    scan.source.downcast_ref::<DefaultTableSource>()?.table_provider.downcast_ref::<QuireTable>()
}

/// The plan with other tables in the places of its own, and the numbers of rows. Where there is no other, its number is missing.
fn with_tables(
    plan: &LogicalPlan,
    other: impl Fn(&QuireTable) -> Option<(u64, Arc<QuireTable>)>,
) -> Result<(LogicalPlan, Vec<(TableId, u64)>)> {
    let mut rows = vec![];
    let changed = plan.clone().transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let Some(table) = table_of(&scan) else { return Ok(Transformed::no(LogicalPlan::TableScan(scan))) };
        let Some((count, other)) = other(table) else { return Ok(Transformed::no(LogicalPlan::TableScan(scan))) };
        rows.push((table.def.id, count));
        scan.source = provider_as_source(other);
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    })?;
    Ok((changed.data, rows))
}

/// Whether a plan would be the same at another time, as long as nobody asked for the time while it was made. Not if it reads what is no
/// table of ours, or calls what depends on more than its arguments and the settings: the optimizer computes what it can.
fn lasts(plan: &LogicalPlan, catalog: &Catalog) -> Result<bool> {
    let is_own = |scan: &TableScan| table_of(scan).is_some_and(|table| is_as_defined(table, catalog));
    let mut lasts = true;
    plan.apply_with_subqueries(|node| {
        lasts &= match node {
            LogicalPlan::TableScan(scan) => is_own(scan),
            LogicalPlan::Extension(_) => false,
            _ => true,
        };
        node.apply_expressions(|expr| {
            lasts &= !expr.exists(|expr| Ok(volatility(expr) != Volatility::Immutable))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if lasts { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(lasts)
}

/// Whether it is what a plain name of the table means: no other definition of it, and without row ids.
fn is_as_defined(table: &QuireTable, catalog: &Catalog) -> bool {
    catalog.tables.get(&table.def.id).is_some_and(|def| Arc::ptr_eq(def, &table.def)) && table.has_columns_only()
}

/// Of an expression by itself, given the settings.
fn volatility(expr: &Expr) -> Volatility {
    match expr {
        // On settings and on the time.
        Expr::ScalarFunction(call) if call.func.name() == CAST => Volatility::Immutable,
        Expr::ScalarFunction(call) => call.func.signature().volatility,
        Expr::AggregateFunction(call) => call.func.signature().volatility,
        Expr::WindowFunction(call) => call.fun.signature().volatility,
        Expr::HigherOrderFunction(_) | Expr::ScalarVariable(..) | Expr::Placeholder(_) => Volatility::Volatile,
        _ => Volatility::Immutable,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_about, is_small};
    use crate::parse;

    #[test]
    fn tables_may_grow_before_their_joins_are_ordered_anew() {
        assert!(is_about(0, 0) && is_about(900, 0) && is_about(0, 900));
        assert!(is_about(2_000_000, 1_000_000) && is_about(1_000_000, 2_000_000));
        assert!(!is_about(2_002_000, 1_000_000) && !is_about(1001, 0) && !is_about(1_000_000, 2_002_000));
    }

    #[test]
    fn what_is_kept_is_of_bounded_size() {
        let small = |sql: &str| is_small(&parse::parse(sql).expect("a statement")[0].statement);
        assert!(small("SELECT a FROM t WHERE b = 1 AND c IN ('x', 'y')"));
        assert!(!small(&format!("SELECT a FROM t WHERE b = '{}'", "x".repeat(40_000))));
        assert!(!small(&format!("SELECT a FROM t WHERE b IN ({}1)", "1, ".repeat(1000))));
    }
}
