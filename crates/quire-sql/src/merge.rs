//! MERGE: a query joins the source with the target's rows and tells, row by row, which clause applies and what values it gives.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, BinaryOperator, CaseWhen, Expr, Join, JoinConstraint, JoinOperator, Merge, MergeAction, MergeClause,
    MergeClauseKind, MergeInsertExpr, MergeInsertKind, MergeUpdateExpr, ObjectName, Statement, TableFactor, TableWithJoins, Value, With,
};
use futures::StreamExt;
use quire_types::{ROW_ID_FIELD, TableDef};

use crate::assign::assigned;
use crate::dml::{ChangedColumns, query_of, select_of, table_rows};
use crate::errors::datafusion_error;
use crate::generated::{Overriding, check_insert};
use crate::insert::{fill_default, named_columns};
use crate::syntax::{MERGE_DEFAULTS, MERGE_NOTHING};
use crate::txn::Transaction;
use crate::write::TableWriter;
use crate::written::Written;
use crate::{Session, SqlError, query};

/// What a clause does; `at` is the query's column with the first of its values.
enum Action {
    Update { columns: ChangedColumns, at: usize, count: usize },
    Delete,
    Insert { targets: Vec<usize>, at: usize },
    Nothing,
}

/// A MERGE, ready to run.
pub(crate) struct MergePlan {
    table: Arc<TableDef>,
    /// Row id (NULL where the source's row met none), the table's columns, the number of the clause, then each clause's values.
    query: Statement,
    actions: Vec<Action>,
}

impl MergePlan {
    /// The table that changes.
    pub(crate) fn table(&self) -> &Arc<TableDef> {
        &self.table
    }

    /// The query, for parameters' types and EXPLAIN.
    pub(crate) fn into_query(self) -> Statement {
        self.query
    }
}

impl Session {
    /// What a MERGE does, at the current scope. `with` are queries that it reads by name.
    pub(crate) fn plan_merge(&self, merge: Merge, with: Option<With>) -> Result<MergePlan, SqlError> {
        let Merge { table, source, on, clauses, output, .. } = merge;
        if output.is_some() {
            return Err(SqlError::unsupported("MERGE … RETURNING"));
        }
        check_reachable(&clauses)?;
        let target = self.target(TableWithJoins { relation: table, joins: vec![] })?;
        let table = target.def.clone();
        let matched = Expr::IsNotNull(Box::new(target.column(ROW_ID_FIELD)));
        let inserts = clauses.iter().any(|clause| !is_matched(clause));
        let number = numbered(&clauses, &matched);
        let mut values = vec![number.clone()];
        let mut actions = vec![];
        // Row id and columns come first.
        let first = 1 + table.columns.len();
        for (i, clause) in clauses.into_iter().enumerate() {
            let at = first + values.len();
            let (action, given) = self.merge_action(&table, clause.action, at)?;
            let here = equal(number.clone(), integer(i));
            values.extend(given.into_iter().map(|value| case(vec![(here.clone(), value)])));
            actions.push(action);
        }
        let mut query = target.query_before(vec![], vec![], None, values)?;
        join(&mut query, source, *on, inserts)?;
        query_of(&mut query)?.with = with;
        Ok(MergePlan { table, query, actions })
    }

    fn merge_action(&self, table: &Arc<TableDef>, action: MergeAction, at: usize) -> Result<(Action, Vec<Expr>), SqlError> {
        match action {
            MergeAction::Update(update) if update.assignments.iter().any(is_nothing) => Ok((Action::Nothing, vec![])),
            MergeAction::Update(MergeUpdateExpr { update_predicate: Some(_), .. } | MergeUpdateExpr { delete_predicate: Some(_), .. })
            | MergeAction::Insert(MergeInsertExpr { insert_predicate: Some(_), .. }) => {
                Err(SqlError::syntax("syntax error at or near \"WHERE\""))
            }
            MergeAction::Update(update) => {
                let (set, values) = assigned(table, update.assignments)?;
                Ok((Action::Update { columns: self.changed_columns(table, &set)?, at, count: values.len() }, values))
            }
            MergeAction::Delete { .. } => Ok((Action::Delete, vec![])),
            MergeAction::Insert(insert) if is_marked(&insert, MERGE_NOTHING) => Ok((Action::Nothing, vec![])),
            MergeAction::Insert(insert) if is_marked(&insert, MERGE_DEFAULTS) => Ok((Action::Insert { targets: vec![], at }, vec![])),
            MergeAction::Insert(insert) => {
                let mut targets = named_columns(table, &insert.columns)?;
                let MergeInsertKind::Values(mut rows) = insert.kind else {
                    return Err(SqlError::syntax("syntax error at or near \"ROW\""));
                };
                let Some(given) = rows.rows.first().map(|row| row.len()) else { return Err(SqlError::syntax("VALUES has no row")) };
                if given > targets.len() {
                    return Err(SqlError::syntax("INSERT has more expressions than target columns"));
                }
                if given < targets.len() && !insert.columns.is_empty() {
                    return Err(SqlError::syntax("INSERT has more target columns than expressions"));
                }
                targets.truncate(given);
                check_insert(table, &targets, Some(&rows), Overriding::None)?;
                let mut values = vec![];
                if let Some(row) = rows.rows.first_mut() {
                    for (expr, &target) in row.iter_mut().zip(&targets) {
                        fill_default(expr, &table.columns[target])?;
                        values.push(expr.clone());
                    }
                }
                Ok((Action::Insert { targets, at }, values))
            }
        }
    }

    /// Runs it.
    pub(crate) async fn merge(&mut self, plan: MergePlan, transaction: &mut Transaction) -> Result<Written, SqlError> {
        let MergePlan { table, query, actions } = plan;
        let mut writer = self.writer(&table, "MERGE", transaction)?.deferring();
        let planned = query::plan(&self.context, query).await?;
        let (plan, mut found) = query::start(&self.context, &planned).await?;
        self.work.plan = Some(plan);
        let mut count = 0;
        while let Some(batch) = found.next().await {
            let batch = batch.map_err(datafusion_error)?;
            let numbers = cast(batch.column(1 + table.columns.len()), &DataType::Int32).map_err(|e| SqlError::internal(e.to_string()))?;
            let numbers = numbers.as_primitive::<Int32Type>();
            for (i, action) in actions.iter().enumerate() {
                let here: BooleanArray = numbers.iter().map(|number| Some(number == Some(i as i32))).collect();
                let rows = filter_record_batch(&batch, &here).map_err(|e| SqlError::internal(e.to_string()))?;
                if rows.num_rows() > 0 {
                    count += self.merge_rows(&table, action, &rows, &mut writer).await?;
                }
            }
        }
        self.finish_write(&table, writer, "MERGE", transaction).await?;
        Ok(Written::rows("MERGE", count))
    }

    /// Does what a clause says for its rows; how many it changed.
    async fn merge_rows(
        &mut self,
        table: &Arc<TableDef>,
        action: &Action,
        rows: &RecordBatch,
        writer: &mut TableWriter,
    ) -> Result<u64, SqlError> {
        let width = table.columns.len();
        let schema = table.arrow_schema_nullable();
        match action {
            Action::Nothing => return Ok(0),
            Action::Insert { targets, at } => {
                let given: Vec<usize> = (*at..*at + targets.len()).collect();
                let given = rows.project(&given).map_err(|e| SqlError::internal(e.to_string()))?;
                writer.push(self.complete(table, targets, &given).await?).await?;
            }
            Action::Delete => {
                take(rows, writer)?;
                writer.effects.changed(&table_rows(&schema, rows.columns()[1..=width].to_vec())?, None)?;
            }
            Action::Update { columns, at, count } => {
                take(rows, writer)?;
                let before = table_rows(&schema, rows.columns()[1..=width].to_vec())?;
                // As an UPDATE's query gives it: row id, columns, values.
                let shape: Vec<usize> = (0..=width).chain(*at..*at + *count).collect();
                let after = columns.replaced(&rows.project(&shape).map_err(|e| SqlError::internal(e.to_string()))?)?;
                writer.effects.changed(&before, Some(&after))?;
                writer.push(after).await?;
            }
        }
        Ok(rows.num_rows() as u64)
    }
}

/// The rows' old versions go; a row that does so twice is an error.
fn take(rows: &RecordBatch, writer: &mut TableWriter) -> Result<(), SqlError> {
    for id in rows.column(0).as_primitive::<Int64Type>().values() {
        if writer.delete([*id as u64]) == 0 {
            return Err(SqlError::new("21000", "MERGE command cannot affect row a second time")
                .with_hint("Ensure that not more than one source row matches any one target row."));
        }
    }
    Ok(())
}

fn is_matched(clause: &MergeClause) -> bool {
    clause.clause_kind == MergeClauseKind::Matched
}

/// What `DO NOTHING` is rewritten to (see `syntax`).
fn is_nothing(assignment: &Assignment) -> bool {
    matches!(&assignment.target, AssignmentTarget::ColumnName(name) if is_named(name, MERGE_NOTHING))
}

/// Likewise, and `INSERT DEFAULT VALUES`.
fn is_marked(insert: &MergeInsertExpr, marker: &str) -> bool {
    insert.columns.iter().any(|name| is_named(name, marker))
}

fn is_named(name: &ObjectName, wanted: &str) -> bool {
    name.0.last().and_then(|part| part.as_ident()).is_some_and(|ident| ident.value == wanted)
}

/// A clause without a condition ends its kind.
fn check_reachable(clauses: &[MergeClause]) -> Result<(), SqlError> {
    if clauses.iter().any(|c| matches!(c.clause_kind, MergeClauseKind::NotMatchedBySource | MergeClauseKind::NotMatchedByTarget)) {
        return Err(SqlError::unsupported("WHEN NOT MATCHED BY"));
    }
    if clauses.is_empty() {
        return Err(SqlError::syntax("syntax error at end of input"));
    }
    for kind in [true, false] {
        let of_kind: Vec<&MergeClause> = clauses.iter().filter(|clause| is_matched(clause) == kind).collect();
        if of_kind.iter().rev().skip(1).any(|clause| clause.predicate.is_none()) {
            return Err(SqlError::syntax("unreachable WHEN clause specified after unconditional WHEN clause"));
        }
    }
    Ok(())
}

/// The number of the first clause that applies, from 0; NULL when none does.
fn numbered(clauses: &[MergeClause], matched: &Expr) -> Expr {
    let branches = clauses.iter().enumerate().map(|(i, clause)| {
        let kind = match is_matched(clause) {
            true => matched.clone(),
            false => Expr::Nested(Box::new(not(matched.clone()))),
        };
        let condition = match &clause.predicate {
            Some(predicate) => binary(kind, BinaryOperator::And, Expr::Nested(Box::new(predicate.clone()))),
            None => kind,
        };
        (condition, integer(i))
    });
    case(branches.collect())
}

fn not(expr: Expr) -> Expr {
    match expr {
        Expr::IsNotNull(inner) => Expr::IsNull(inner),
        other => other,
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn equal(left: Expr, right: Expr) -> Expr {
    binary(left, BinaryOperator::Eq, right)
}

fn integer(i: usize) -> Expr {
    Expr::Value(Value::Number(i.to_string(), false).into())
}

fn case(branches: Vec<(Expr, Expr)>) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: branches.into_iter().map(|(condition, result)| CaseWhen { condition, result }).collect(),
        else_result: None,
    }
}

/// Makes `FROM target` into `FROM source [LEFT] JOIN target ON condition`.
fn join(query: &mut Statement, source: TableFactor, on: Expr, outer: bool) -> Result<(), SqlError> {
    let select = select_of(query)?;
    let target = select.from.pop().ok_or_else(|| SqlError::internal("a select has no table"))?.relation;
    let constraint = JoinConstraint::On(on);
    let join_operator = if outer { JoinOperator::LeftOuter(constraint) } else { JoinOperator::Inner(constraint) };
    select.from = vec![TableWithJoins { relation: source, joins: vec![Join { relation: target, global: false, join_operator }] }];
    Ok(())
}
