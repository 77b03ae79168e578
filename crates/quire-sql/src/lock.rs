//! SELECT … FOR UPDATE and FOR SHARE: the rows that a query gives are asserted by the commit.
//!
//! Nobody waits for a lock here. A locked row is one that must still be there when its transaction commits, and that no other commit has
//! locked against it or changed since the snapshot; who is second gets 40001. NOWAIT and SKIP LOCKED therefore change nothing.
//!
//! The locked tables of a query are read with their row ids as one more column. A statement's own query gives these columns behind its
//! others, and they are taken off on the way to the client; a query within a statement is filtered by a function that takes note of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, ExceptSelectItem, Expr, GroupByExpr, Ident, Join, JoinOperator, LockClause, LockType, ObjectName, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor, TableWithJoins, Visit, VisitMut, Visitor, VisitorMut,
    WildcardAdditionalOptions,
};
use futures::StreamExt;
use parking_lot::Mutex;
use quire_scan::OWN_SEGMENT_ROWS;
use quire_types::{RowId, TableDef, TableId, TableRead};
use roaring::RoaringTreemap;

use crate::catalog::ScopeCell;
use crate::names::{fold, missing_relation, split};
use crate::rewrite::function;
use crate::txn::Transaction;
use crate::{Session, SqlError, parse, regtypes};

/// Before a schema's name: a number, and then the schema whose tables have their row ids as a column of that number.
const SCHEMA: &str = "quire:locks:";
/// The column, before its number.
const COLUMN: &str = "quire:lock:";
/// The function that takes note of row ids.
pub(crate) const FUNCTION: &str = "quire_lock";

/// The rows that one locking clause locked of one table, as far as they have been given out.
#[derive(Debug)]
pub(crate) struct Lock {
    table: TableId,
    /// The version of the table's committed definition.
    version: u64,
    exclusive: bool,
    rows: Mutex<RoaringTreemap>,
}

impl Lock {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.lock().is_empty()
    }

    /// Locks rows. The transaction's own are nobody else's to change.
    fn take(&self, ids: &ArrayRef) {
        let Some(ids) = ids.as_primitive_opt::<Int64Type>() else { return };
        self.rows.lock().extend(ids.iter().flatten().map(|id| id as u64).filter(|id| *id < OWN_SEGMENT_ROWS));
    }

    /// Adds the rows to what a commit asserts.
    pub(crate) fn add_to(&self, commit: &mut BTreeMap<TableId, TableRead>) {
        let rows = self.rows.lock();
        if rows.is_empty() {
            return;
        }
        let fresh = || TableRead { table: self.table, version: self.version, ..TableRead::default() };
        let read = commit.entry(self.table).or_insert_with(fresh);
        let list = if self.exclusive { &mut read.locked } else { &mut read.shared };
        let mut all: RoaringTreemap = list.iter().map(|row| row.0).collect();
        all |= &*rows;
        *list = all.iter().map(RowId).collect();
    }
}

/// A session's locking clauses, by the numbers in its plans.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    last: u64,
    by_number: BTreeMap<u64, Arc<Lock>>,
}

impl Locks {
    /// The transaction is over.
    pub(crate) fn forget(&mut self) {
        self.by_number.clear();
    }

    fn add(&mut self, lock: Arc<Lock>) -> u64 {
        self.last += 1;
        self.by_number.insert(self.last, lock);
        self.last
    }
}

/// The row id's column and the schema that a schema's name stands for.
pub(crate) fn schema_of(name: &str) -> Option<(String, &str)> {
    let (number, schema) = name.strip_prefix(SCHEMA)?.split_once(':')?;
    Some((format!("{COLUMN}{number}"), schema))
}

/// `quire_lock(number, row id)`: true, and the row is locked.
pub(crate) fn take(cell: &ScopeCell, args: &[ArrayRef], rows: usize) -> Result<ArrayRef, SqlError> {
    if let [numbers, ids] = args
        && rows > 0
    {
        let numbers = arrow::compute::cast(numbers, &DataType::Int64).map_err(|e| SqlError::internal(e.to_string()))?;
        let number = numbers.as_primitive::<Int64Type>().value(0) as u64;
        let lock = cell.locks.lock().by_number.get(&number).cloned();
        // None when its transaction is over, and the rows are still being sent.
        if let Some(lock) = lock {
            lock.take(ids);
        }
    }
    Ok(Arc::new(BooleanArray::from(vec![true; rows])))
}

/// Locks the rows whose ids are in the last columns, as they pass.
pub(crate) fn locking(stream: SendableRecordBatchStream, locks: Vec<Arc<Lock>>) -> SendableRecordBatchStream {
    if locks.is_empty() {
        return stream;
    }
    let schema = stream.schema();
    let tapped = stream.map(move |batch| {
        let batch = batch?;
        let first = batch.num_columns() - locks.len();
        locks.iter().enumerate().for_each(|(i, lock)| lock.take(batch.column(first + i)));
        Ok(batch)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, tapped))
}

/// The statement without its locking clauses, for learning its shape.
pub(crate) fn without_locks(statement: &mut Statement) {
    struct Remover;
    impl VisitorMut for Remover {
        type Break = ();

        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            query.locks.clear();
            ControlFlow::Continue(())
        }
    }
    let _: ControlFlow<()> = statement.visit(&mut Remover);
}

pub(crate) fn has_locks(statement: &Statement) -> bool {
    struct Finder;
    impl Visitor for Finder {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            if query.locks.is_empty() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
    }
    statement.visit(&mut Finder).is_break()
}

impl Session {
    /// Puts the locking clauses of a statement into effect. The locks of the statement's own query, if it is one, are those of its last columns.
    pub(crate) fn take_locks(&self, statement: &mut Statement, transaction: &mut Transaction) -> Result<Vec<Arc<Lock>>, SqlError> {
        // What a view locks it would lock wherever it is read: that is refused where it is planned.
        if matches!(statement, Statement::CreateView(_)) || !has_locks(statement) {
            return Ok(vec![]);
        }
        transaction.check_writable("SELECT FOR UPDATE")?;
        let mut locker = Locker { session: self, transaction, wrapped: vec![] };
        let own = match &mut *statement {
            Statement::Query(query) => Some(query),
            Statement::Declare { stmts } => stmts.first_mut().and_then(|declare| declare.for_query.as_mut()),
            _ => None,
        };
        let own = own.map(|query| locker.lock(query)).transpose()?.unwrap_or_default();
        match statement.visit(&mut locker) {
            ControlFlow::Continue(()) => Ok(own.into_iter().map(|(_, lock)| lock).collect()),
            ControlFlow::Break(error) => Err(*error),
        }
    }

    fn is_aggregate(&self, name: &str) -> bool {
        self.context.state_ref().read().aggregate_functions().contains_key(name)
    }
}

/// Gives locked tables their row ids.
struct Locker<'a> {
    session: &'a Session,
    transaction: &'a mut Transaction,
    /// For each query under way, the numbers of its locks.
    wrapped: Vec<Vec<u64>>,
}

impl VisitorMut for Locker<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        match self.lock(query) {
            Ok(locks) => {
                self.wrapped.push(locks.into_iter().map(|(number, _)| number).collect());
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let numbers = self.wrapped.pop().unwrap_or_default();
        if numbers.is_empty() {
            return ControlFlow::Continue(());
        }
        match wrap(query, &numbers) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

/// A table in a query's FROM.
struct Locked<'a> {
    factor: &'a mut TableFactor,
    /// On a side of an outer join that may have no row.
    nullable: bool,
}

impl Locker<'_> {
    /// Takes a query's locking clauses off it; the row ids are then its last columns.
    fn lock(&mut self, query: &mut Query) -> Result<Vec<(u64, Arc<Lock>)>, SqlError> {
        let clauses = std::mem::take(&mut query.locks);
        let Some(first) = clauses.first() else { return Ok(vec![]) };
        let refuse = |what: &str| Err(SqlError::new("0A000", format!("FOR {} {what}", first.lock_type)));
        let select = match query.body.as_mut() {
            SetExpr::Select(select) => select,
            SetExpr::Query(inner) => {
                inner.locks.extend(clauses);
                return Ok(vec![]);
            }
            SetExpr::Values(_) => return refuse("cannot be applied to VALUES"),
            _ => return refuse("is not allowed with UNION/INTERSECT/EXCEPT"),
        };
        if let Some(what) = self.many_rows_in_one(select) {
            return refuse(&format!("is not allowed with {what}"));
        }
        let mut factors = vec![];
        select.from.iter_mut().for_each(|from| tables_of(from, false, &mut factors));
        let mut found: BTreeSet<usize> = BTreeSet::new();
        let mut added = vec![];
        for (at, Locked { factor, nullable }) in factors.into_iter().enumerate() {
            let name = exposed_name(factor);
            let named = |clause: &LockClause| clause.of.as_ref().map(|of| split(of).ok().map(|(_, name)| name));
            let ours: Vec<(usize, &LockClause)> =
                clauses.iter().enumerate().filter(|(_, clause)| named(clause).is_none_or(|of| of == name)).collect();
            found.extend(ours.iter().map(|(i, _)| *i));
            let Some((_, clause)) = ours.iter().find(|(_, clause)| clause.lock_type == LockType::Update).or(ours.first()) else { continue };
            if let Some(lock) = self.lock_factor(factor, nullable, clause)? {
                added.push((at, name, lock));
            }
        }
        for (i, clause) in clauses.iter().enumerate() {
            if let (Some(of), false) = (&clause.of, found.contains(&i)) {
                let shown = split(of)?.1;
                let message = format!("relation \"{shown}\" in FOR {} clause not found in FROM clause", clause.lock_type);
                return Err(SqlError::new("42P01", message));
            }
        }
        for item in &mut select.projection {
            hide(item, &added);
        }
        for (_, name, (number, _)) in &added {
            let column = Ident::with_quote('"', format!("{COLUMN}{number}"));
            let table = name.clone().map(|name| Ident::with_quote('"', name));
            let expr = Expr::CompoundIdentifier(table.into_iter().chain([column.clone()]).collect());
            select.projection.push(SelectItem::ExprWithAlias { expr, alias: column });
        }
        Ok(added.into_iter().map(|(_, _, lock)| lock).collect())
    }

    /// What a query has that makes one row of several.
    fn many_rows_in_one(&self, select: &Select) -> Option<&'static str> {
        let grouped = match &select.group_by {
            GroupByExpr::Expressions(expressions, modifiers) => !expressions.is_empty() || !modifiers.is_empty(),
            GroupByExpr::All(_) => true,
        };
        let mut calls = Calls { session: self.session, depth: 0, aggregate: false, window: false };
        for item in &select.projection {
            let _: ControlFlow<()> = item.visit(&mut calls);
        }
        [
            (select.distinct.is_some(), "DISTINCT clause"),
            (grouped, "GROUP BY clause"),
            (select.having.is_some(), "HAVING clause"),
            (calls.aggregate, "aggregate functions"),
            (calls.window, "window functions"),
        ]
        .into_iter()
        .find_map(|(has, what)| has.then_some(what))
    }

    fn lock_factor(&mut self, factor: &mut TableFactor, nullable: bool, clause: &LockClause) -> Result<Option<(u64, Arc<Lock>)>, SqlError> {
        let refuse = |what: &str| Err(SqlError::new("0A000", format!("FOR {} cannot be applied to {what}", clause.lock_type)));
        let name = match factor {
            TableFactor::Derived { .. } if nullable => return refuse("the nullable side of an outer join"),
            TableFactor::Derived { subquery, .. } => {
                subquery.locks.push(LockClause { of: None, ..clause.clone() });
                return Ok(None);
            }
            TableFactor::Table { name, args: None, .. } => name,
            _ if clause.of.is_some() => return refuse("a function"),
            _ => return Ok(None),
        };
        let (schema, relation) = split(name)?;
        let Some(schema) = schema else {
            // Only the names of WITH queries have no schema by now.
            return if clause.of.is_some() { refuse("a WITH query") } else { Ok(None) };
        };
        let catalog = self.transaction.catalog().clone();
        let Some(in_schema) = catalog.schema_by_name(&schema) else {
            return if clause.of.is_some() { refuse("a system catalog") } else { Ok(None) };
        };
        if catalog.view_by_name(in_schema.id, &relation).is_some() {
            return Err(
                SqlError::unsupported(format!("FOR {} of a view", clause.lock_type)).with_hint("Name the view's tables in the query.")
            );
        }
        if nullable {
            return refuse("the nullable side of an outer join");
        }
        let table = catalog.table_by_name(in_schema.id, &relation).cloned().ok_or_else(|| missing_relation(name))?;
        let (number, lock) = self.new_lock(&table, clause.lock_type == LockType::Update);
        *name = ObjectName::from(vec![Ident::with_quote('"', format!("{SCHEMA}{number}:{schema}")), Ident::with_quote('"', relation)]);
        Ok(Some((number, lock)))
    }

    fn new_lock(&mut self, table: &TableDef, exclusive: bool) -> (u64, Arc<Lock>) {
        let committed = self.transaction.view().catalog.tables.get(&table.id).map_or(table.version, |def| def.version);
        let lock = Arc::new(Lock { table: table.id, version: committed, exclusive, rows: Mutex::default() });
        self.transaction.lock(lock.clone());
        (self.session.cell.locks.lock().add(lock.clone()), lock)
    }
}

/// Functions that are called in a select list itself, not in its sub-queries.
struct Calls<'a> {
    session: &'a Session,
    depth: usize,
    aggregate: bool,
    window: bool,
}

impl Visitor for Calls<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let (Expr::Function(call), 0) = (expr, self.depth) {
            let name = call.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
            self.window |= call.over.is_some();
            self.aggregate |= call.over.is_none() && self.session.is_aggregate(&name);
        }
        ControlFlow::Continue(())
    }
}

/// The tables of a FROM item, left to right.
fn tables_of<'a>(from: &'a mut TableWithJoins, nullable: bool, out: &mut Vec<Locked<'a>>) {
    let first = out.len();
    factor_of(&mut from.relation, nullable, out);
    for Join { relation, join_operator, .. } in &mut from.joins {
        let left = matches!(join_operator, JoinOperator::Left(_) | JoinOperator::LeftOuter(_));
        let right = matches!(join_operator, JoinOperator::Right(_) | JoinOperator::RightOuter(_));
        let full = matches!(join_operator, JoinOperator::FullOuter(_));
        if right || full {
            out[first..].iter_mut().for_each(|locked| locked.nullable = true);
        }
        factor_of(relation, nullable || left || full, out);
    }
}

fn factor_of<'a>(factor: &'a mut TableFactor, nullable: bool, out: &mut Vec<Locked<'a>>) {
    match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => tables_of(table_with_joins, nullable, out),
        factor => out.push(Locked { factor, nullable }),
    }
}

/// What the rest of the query calls a FROM item.
fn exposed_name(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. } => Some(fold(&alias.name)),
        TableFactor::Table { name, .. } => split(name).ok().map(|(_, name)| name),
        _ => None,
    }
}

/// A wildcard does not show the row ids.
fn hide(item: &mut SelectItem, added: &[(usize, Option<String>, (u64, Arc<Lock>))]) {
    let (options, of) = match item {
        SelectItem::Wildcard(options) => (options, None),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
            (options, split(name).ok().map(|(_, name)| name))
        }
        _ => return,
    };
    let ours = added.iter().filter(|(_, name, _)| of.is_none() || *name == of).map(|(_, _, (number, _))| *number);
    except(options, ours);
}

fn except(options: &mut WildcardAdditionalOptions, numbers: impl Iterator<Item = u64>) {
    let mut columns = numbers.map(|number| Ident::with_quote('"', format!("{COLUMN}{number}")));
    if let Some(first_element) = columns.next() {
        options.opt_except = Some(ExceptSelectItem { first_element, additional_elements: columns.collect() });
    }
}

/// `SELECT its columns FROM (query) WHERE quire_lock(number, row id) …`.
fn wrap(query: &mut Query, numbers: &[u64]) -> Result<(), SqlError> {
    let broken = || SqlError::internal("a query that locks rows cannot be wrapped");
    let mut outer = parse::parse("SELECT * FROM (SELECT 1) AS \"quire:locked\"")?;
    let Some(Statement::Query(mut outer)) = outer.pop().map(|parsed| parsed.statement) else { return Err(broken()) };
    let SetExpr::Select(select) = outer.body.as_mut() else { return Err(broken()) };
    if let Some(SelectItem::Wildcard(options)) = select.projection.first_mut() {
        except(options, numbers.iter().copied());
    }
    let column = |number: &u64| Expr::Identifier(Ident::with_quote('"', format!("{COLUMN}{number}")));
    let call = |number: &u64| function(FUNCTION, vec![regtypes::number(*number as i64), column(number)]);
    let and = |left: Expr, right: Expr| Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) };
    select.selection = numbers.iter().map(call).reduce(and);
    let Some(TableFactor::Derived { subquery, .. }) = select.from.first_mut().map(|from| &mut from.relation) else { return Err(broken()) };
    std::mem::swap(subquery.as_mut(), query);
    *query = *outer;
    Ok(())
}
