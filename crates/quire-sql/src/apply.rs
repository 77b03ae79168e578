//! Correlated subqueries that the planner cannot turn into joins, run once for each distinct set of outer values.
//!
//! Queries of the catalogs are full of them (`psql`'s own, those of drivers), over few rows. So in such queries a subquery in a
//! select list becomes a call of an asynchronous function, which puts the outer values into the subquery's plan and runs it; an inner
//! one is treated alike when its turn comes. Filters' EXISTS and IN, which become joins, are left alone. Any other query is treated so
//! when the planner has found no join for it: it then takes a plan for each distinct set of outer values, which is slow and right.
//!
//! The planner makes joins from the inside out, each with the query around it. So it has none for a subquery that reads columns of a query
//! further out ("suppliers of all parts": NOT EXISTS a part such that NOT EXISTS a supply of the part by the supplier). What is in the query
//! that has those columns becomes a call in any query, before the planner tries; not in the condition of a join, which could not wait for it.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use arrow::array::{Array, BooleanArray, ListArray, StructArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, JoinType, Result, ScalarValue, UnnestOptions};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::expr::{Exists, InSubquery, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Join, Subquery, SubqueryAlias};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Filter, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_plan::{ExecutionPlan, collect};
use parking_lot::RwLock;

use crate::functions::sql_error;
use crate::query::task_context;
use crate::{SqlError, misread};

/// The column that has the rows of LATERAL while they are a list.
const LATERAL: &str = "quire:lateral";

/// The function that runs a subquery.
const CALL: &str = "quire_apply";

/// What a filter's calls are named, with a number.
const CALLED: &str = "quire:called";

pub(crate) type State = Weak<RwLock<SessionState>>;

/// The plan with its correlated subqueries as calls, when it reads a catalog.
pub(crate) fn apply(plan: LogicalPlan, state: &State) -> Result<LogicalPlan> {
    if !reads_catalog(&plan)? {
        return Ok(plan);
    }
    everywhere(plan, state, false)
}

/// The plan with its types resolved, and with calls for subqueries within which some subquery reads further out than the query around it, and
/// for those that joins would misread.
pub(crate) fn analyzed(session: &SessionState, plan: LogicalPlan, state: &State) -> Result<LogicalPlan> {
    let analyzed = |plan| session.analyzer().execute_and_check(plan, session.config_options(), |_, _| {});
    let plan = analyzed(plan)?;
    // Not before: a call gives the type that is known then, and IN compares the types that both sides have then.
    // Few queries have one within another at all.
    let is_deep = has_subquery(&plan, &|subquery| has_subquery(&subquery.subquery, &|_| true));
    let plan = if is_deep { where_read_past(plan, state)? } else { Transformed::no(plan) };
    let plan = plan.transform_data(|plan| misread::apply(plan, state))?;
    if plan.transformed { analyzed(plan.data) } else { Ok(plan.data) }
}

/// With `in_conditions`, for EXISTS and IN of filters as well.
fn everywhere(plan: LogicalPlan, state: &State, in_conditions: bool) -> Result<LogicalPlan> {
    plan.transform_up(|node| with_calls(node, state, in_conditions)).map(|transformed| transformed.data)
}

fn where_read_past(plan: LogicalPlan, state: &State) -> Result<Transformed<LogicalPlan>> {
    plan.transform_down(|node| {
        let changed = rewritten(node, |expr, _| {
            if subquery_of(&expr).is_some_and(|subquery| is_read_past(&subquery.subquery)) {
                return as_call(expr, state);
            }
            let within = |subquery: &Subquery| {
                let changed = where_read_past(subquery.subquery.as_ref().clone(), state)?;
                Ok::<_, DataFusionError>(changed.update_data(|plan| subquery.with_plan(Arc::new(plan))))
            };
            Ok(match expr {
                Expr::ScalarSubquery(subquery) => within(&subquery)?.update_data(Expr::ScalarSubquery),
                Expr::Exists(exists) => within(&exists.subquery)?.update_data(|subquery| Expr::Exists(Exists { subquery, ..exists })),
                Expr::InSubquery(of) => within(&of.subquery)?.update_data(|subquery| Expr::InSubquery(InSubquery { subquery, ..of })),
                other => Transformed::no(other),
            })
        })?;
        match changed {
            Transformed { data: LogicalPlan::Filter(filter), transformed: true, .. } => calls_below(filter).map(Transformed::yes),
            other => Ok(other),
        }
    })
}

/// A filter whose calls are made by a projection below it, for the rows that pass its other conditions: the planner may push a condition into a
/// join, which cannot wait for a call.
pub(crate) fn calls_below(filter: Filter) -> Result<LogicalPlan> {
    let (called, others): (Vec<Expr>, Vec<Expr>) = split_conjunction_owned(filter.predicate.clone())
        .into_iter()
        .partition(|condition| condition.exists(|expr| Ok(is_call(expr))).unwrap_or(false));
    let Some(called) = conjunction(called) else { return Ok(LogicalPlan::Filter(filter)) };
    let mut calls: Vec<Expr> = vec![];
    let predicate = called.transform_up(|expr| {
        if !is_call(&expr) {
            return Ok(Transformed::no(expr));
        }
        let name = format!("{CALLED}{}", calls.len());
        calls.push(expr.alias(name.as_str()));
        Ok(Transformed::yes(Expr::Column(Column::new_unqualified(name))))
    })?;
    let columns: Vec<Expr> = filter.input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut plan = LogicalPlanBuilder::from(Arc::unwrap_or_clone(filter.input));
    if let Some(others) = conjunction(others) {
        plan = plan.filter(others)?;
    }
    plan.project(columns.iter().cloned().chain(calls))?.filter(predicate.data)?.project(columns)?.build()
}

fn is_call(expr: &Expr) -> bool {
    let Expr::ScalarFunction(ScalarFunction { func, .. }) = expr else { return false };
    func.name() == CALL
}

fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery) | Expr::Exists(Exists { subquery, .. }) | Expr::InSubquery(InSubquery { subquery, .. }) => {
            Some(subquery)
        }
        _ => None,
    }
}

/// Whether a subquery within `plan` reads columns that are not of the query it is in.
fn is_read_past(plan: &LogicalPlan) -> bool {
    let reads_past = |node: &LogicalPlan| {
        let around: Vec<DFSchemaRef> = node.inputs().iter().map(|input| input.schema().clone()).collect();
        let is_past = |subquery: &Subquery| further_out(subquery, &around).is_ok_and(|columns| !columns.is_empty());
        Ok(node.expressions().iter().any(|expr| expr_has_subquery(expr, &is_past)))
    };
    plan.exists(reads_past).unwrap_or(false)
}

/// Whether the plan's own expressions have a subquery that passes the test.
fn has_subquery(plan: &LogicalPlan, test: &dyn Fn(&Subquery) -> bool) -> bool {
    let mut found = false;
    let looked = plan.apply(|node| {
        node.apply_expressions(|expr| {
            found |= expr_has_subquery(expr, test);
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    });
    looked.is_ok() && found
}

fn expr_has_subquery(expr: &Expr, test: &dyn Fn(&Subquery) -> bool) -> bool {
    expr.exists(|expr| Ok(subquery_of(expr).is_some_and(test))).unwrap_or(false)
}

/// A physical plan of a plan whose types are resolved, and the optimized plan that it was made of; with calls, and without the latter,
/// where the planner finds no join.
pub(crate) async fn physical_plan(
    session: &SessionState,
    plan: &LogicalPlan,
    state: &State,
) -> Result<(Arc<dyn ExecutionPlan>, Option<LogicalPlan>)> {
    match Box::pin(of_resolved(session, plan)).await {
        // Calls are to be analysed.
        Err(error) if has_no_join(&error) => {
            let physical = Box::pin(session.create_physical_plan(&everywhere(plan.clone(), state, true)?)).await?;
            Ok((physical, None))
        }
        planned => planned.map(|(physical, optimized)| (physical, Some(optimized))),
    }
}

/// As [`SessionState::create_physical_plan`], without an analysis that has been made.
async fn of_resolved(session: &SessionState, plan: &LogicalPlan) -> Result<(Arc<dyn ExecutionPlan>, LogicalPlan)> {
    let optimized = session.optimizer().optimize(plan.clone(), session, |_, _| {})?;
    let physical = of_optimized(session, &optimized).await?;
    Ok((physical, optimized))
}

/// A physical plan of an optimized plan.
pub(crate) async fn of_optimized(session: &SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    session.query_planner().create_physical_plan(plan, session).await
}

/// A subquery, or what refers to the query around it, was left over where expressions are to be evaluated.
fn has_no_join(error: &DataFusionError) -> bool {
    let left_over = |message: &String| {
        message.starts_with("Physical plan does not support logical expression")
            && ["Exists(", "InSubquery(", "ScalarSubquery(", "OuterReferenceColumn("].iter().any(|what| message.contains(what))
    };
    matches!(error.find_root(), DataFusionError::NotImplemented(message) if left_over(message))
}

fn reads_catalog(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && scan.table_name.schema().is_some_and(|s| s == "pg_catalog" || s == "information_schema")
        {
            found = true;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// `LEFT, LATERAL (…)`: the rows for each row of the left side as a list, which is taken apart again.
fn lateral(join: &Join, state: &State) -> Result<Option<LogicalPlan>> {
    let (subquery, alias) = match join.right.as_ref() {
        LogicalPlan::Subquery(subquery) => (subquery, None),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => match input.as_ref() {
            LogicalPlan::Subquery(subquery) => (subquery, Some(alias.clone())),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let filter = join.filter.as_ref().filter(|filter| !matches!(filter, Expr::Literal(ScalarValue::Boolean(Some(true)), _)));
    let keeps_all = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left if filter.is_none() => true,
        _ => return Ok(None),
    };
    if !join.on.is_empty() {
        return Ok(None);
    }
    let left: Vec<Expr> = join.left.schema().columns().into_iter().map(Expr::Column).collect();
    let outer = outer_references(&subquery.subquery)?;
    let rows = call(Kind::Rows { keeps_all }, subquery, None, outer, state).alias(LATERAL);
    let list = Column::new_unqualified(LATERAL);
    let mut fields = vec![];
    for (qualifier, field) in join.right.schema().iter() {
        let value = get_field(Expr::Column(list.clone()), field.name().as_str());
        fields.push(value.alias_qualified(alias.clone().or(qualifier.cloned()), field.name().as_str()));
    }
    let plan = LogicalPlanBuilder::from(join.left.as_ref().clone())
        .project(left.iter().cloned().chain([rows]))?
        .unnest_column_with_options(list, UnnestOptions::new().with_preserve_nulls(keeps_all))?
        .project(left.into_iter().chain(fields))?;
    let plan = match filter {
        Some(filter) => plan.filter(filter.clone())?,
        None => plan,
    };
    plan.build().map(Some)
}

fn with_calls(node: LogicalPlan, state: &State, in_conditions: bool) -> Result<Transformed<LogicalPlan>> {
    if let LogicalPlan::Join(join) = &node
        && let Some(plan) = lateral(join, state)?
    {
        return Ok(Transformed::yes(plan));
    }
    let is_filter = matches!(node, LogicalPlan::Filter(_));
    let is_join = matches!(node, LogicalPlan::Join(_));
    let changed = rewritten(node, |expr, _| match &expr {
        Expr::Exists(Exists { subquery, .. }) | Expr::InSubquery(InSubquery { subquery, .. })
            if is_join || is_filter && (!in_conditions || subquery.outer_ref_columns.is_empty()) =>
        {
            Ok(Transformed::no(expr))
        }
        _ => as_call(expr, state),
    })?;
    match changed {
        Transformed { data: LogicalPlan::Filter(filter), transformed: true, .. } if in_conditions => {
            calls_below(filter).map(Transformed::yes)
        }
        other => Ok(other),
    }
}

/// A subquery as a call, if it depends on the query around it or is no value of its own.
pub(crate) fn as_call(expr: Expr, state: &State) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::ScalarSubquery(subquery) => {
            let outer = outer_references(&subquery.subquery)?;
            match outer.is_empty() {
                true => Transformed::no(Expr::ScalarSubquery(subquery)),
                false => Transformed::yes(call(Kind::Value, &subquery, None, outer, state)),
            }
        }
        Expr::Exists(Exists { subquery, negated }) => {
            let outer = outer_references(&subquery.subquery)?;
            Transformed::yes(call(Kind::Exists { negated }, &subquery, None, outer, state))
        }
        Expr::InSubquery(InSubquery { expr, .. }) if expr.exists(|expr| Ok(is_call(expr)))? => {
            return Err(DataFusionError::NotImplemented(
                "IN of a subquery that has to run for each row, in one that has to, is not supported".into(),
            ));
        }
        Expr::InSubquery(InSubquery { subquery, negated, expr }) => {
            let outer = outer_references(&subquery.subquery)?;
            Transformed::yes(call(Kind::In { negated }, &subquery, Some(*expr), outer, state))
        }
        other => Transformed::no(other),
    })
}

/// A node with its expressions changed and its columns' names kept.
pub(crate) fn rewritten(
    node: LogicalPlan,
    mut change: impl FnMut(Expr, &[DFSchemaRef]) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let inputs: Vec<DFSchemaRef> = node.inputs().iter().map(|input| input.schema().clone()).collect();
    let names = NamePreserver::new(&node);
    let changed = node.map_expressions(|expr| {
        let name = names.save(&expr);
        let changed = expr.transform_up(|expr| change(expr, &inputs))?;
        Ok(if changed.transformed { changed.update_data(|expr| name.restore(expr)) } else { changed })
    })?;
    if changed.transformed { changed.map_data(LogicalPlan::recompute_schema) } else { Ok(changed) }
}

fn holds(schemas: &[DFSchemaRef], column: &Column) -> bool {
    schemas.iter().any(|schema| schema.has_column(column))
}

/// The columns of the query around it that a subquery refers to.
fn outer_references(plan: &LogicalPlan) -> Result<Vec<(FieldRef, Column)>> {
    let mut found: Vec<(FieldRef, Column)> = vec![];
    let inputs: Vec<DFSchemaRef> = plan.inputs().iter().map(|input| input.schema().clone()).collect();
    plan.apply_expressions(|expr| {
        expr.apply(|expr| {
            found.extend(match expr {
                Expr::OuterReferenceColumn(field, column) => vec![(field.clone(), column.clone())],
                Expr::ScalarSubquery(subquery) => further_out(subquery, &inputs)?,
                Expr::Exists(exists) => further_out(&exists.subquery, &inputs)?,
                Expr::InSubquery(within) => further_out(&within.subquery, &inputs)?,
                _ => vec![],
            });
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    for (position, input) in plan.inputs().into_iter().enumerate() {
        let mut inner = outer_references(input)?;
        if position == 1 && matches!(plan, LogicalPlan::Join(_)) {
            // LATERAL: what the left side has is not further out.
            inner.retain(|(_, column)| !inputs[0].has_column(column));
        }
        found.extend(inner);
    }
    let mut known = HashSet::new();
    found.retain(|(_, column)| known.insert(column.clone()));
    Ok(found)
}

/// What a subquery within a subquery refers to beyond the one around it.
fn further_out(subquery: &Subquery, around: &[DFSchemaRef]) -> Result<Vec<(FieldRef, Column)>> {
    let mut references = outer_references(&subquery.subquery)?;
    references.retain(|(_, column)| !holds(around, column));
    Ok(references)
}

/// The subquery's plan with values for the columns of the query around it.
fn substituted(plan: LogicalPlan, values: &HashMap<Column, ScalarValue>) -> Result<LogicalPlan> {
    let within = |subquery: Subquery, inputs: &[DFSchemaRef]| -> Result<Subquery> {
        let mut values = values.clone();
        values.retain(|column, _| !holds(inputs, column));
        let plan = substituted(subquery.subquery.as_ref().clone(), &values)?;
        let known = |expr: &Expr| matches!(expr, Expr::OuterReferenceColumn(_, column) if values.contains_key(column));
        let outer_ref_columns = subquery.outer_ref_columns.iter().filter(|expr| !known(expr)).cloned().collect();
        Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: subquery.spans })
    };
    let changed = plan.transform_up(|node| {
        if let LogicalPlan::Subquery(subquery) = &node
            && outer_references(&subquery.subquery)?.is_empty()
        {
            // It has nothing left to wait for.
            return Ok(Transformed::yes(subquery.subquery.as_ref().clone()));
        }
        rewritten(node, |expr, inputs| match expr {
            Expr::OuterReferenceColumn(_, ref column) => match values.get(column) {
                Some(value) => Ok(Transformed::yes(Expr::Literal(value.clone(), None))),
                None => Ok(Transformed::no(expr)),
            },
            Expr::ScalarSubquery(subquery) => Ok(Transformed::yes(Expr::ScalarSubquery(within(subquery, inputs)?))),
            Expr::Exists(mut exists) => {
                exists.subquery = within(exists.subquery, inputs)?;
                Ok(Transformed::yes(Expr::Exists(exists)))
            }
            Expr::InSubquery(mut of) => {
                of.subquery = within(of.subquery, inputs)?;
                Ok(Transformed::yes(Expr::InSubquery(of)))
            }
            other => Ok(Transformed::no(other)),
        })
    })?;
    Ok(changed.data)
}

/// What is asked of the subquery's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// The value of its only row.
    Value,
    Exists {
        negated: bool,
    },
    /// Whether the first argument is among them.
    In {
        negated: bool,
    },
    /// All of them, as a list; NULL for none when the row outside is to be kept.
    Rows {
        keeps_all: bool,
    },
}

fn call(kind: Kind, subquery: &Subquery, operand: Option<Expr>, outer: Vec<(FieldRef, Column)>, state: &State) -> Expr {
    let columns: Vec<Column> = outer.into_iter().map(|(_, column)| column).collect();
    let args: Vec<Expr> = operand.into_iter().chain(columns.iter().cloned().map(Expr::Column)).collect();
    let returned = |data_type| Field::new(CALL, data_type, true);
    let returns = match kind {
        // With what tells types apart that are one to Arrow.
        Kind::Value => subquery.subquery.schema().field(0).as_ref().clone().with_name(CALL).with_nullable(true),
        Kind::Exists { .. } | Kind::In { .. } => returned(DataType::Boolean),
        Kind::Rows { .. } => {
            let row = DataType::Struct(subquery.subquery.schema().as_arrow().fields().clone());
            returned(DataType::List(Arc::new(Field::new_list_field(row, true))))
        }
    };
    // Volatile, so that it stays where it is: joins and sorts cannot wait for it.
    let signature =
        if args.is_empty() { Signature::nullary(Volatility::Volatile) } else { Signature::any(args.len(), Volatility::Volatile) };
    let function = Apply { kind, plan: subquery.subquery.clone(), columns, returns: Arc::new(returns), state: state.clone(), signature };
    let function = AsyncScalarUDF::new(Arc::new(function)).into_scalar_udf();
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), args))
}

/// A subquery as a function of the columns around it.
#[derive(Debug)]
struct Apply {
    kind: Kind,
    plan: Arc<LogicalPlan>,
    columns: Vec<Column>,
    returns: FieldRef,
    state: State,
    signature: Signature,
}

impl PartialEq for Apply {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.columns == other.columns && self.plan == other.plan
    }
}

impl Eq for Apply {}

impl Hash for Apply {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
        self.columns.hash(state);
        self.plan.hash(state);
    }
}

impl ScalarUDFImpl for Apply {
    fn name(&self) -> &str {
        CALL
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.data_type().clone())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::Internal("a subquery is run asynchronously".into()))
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Apply {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let gone = || DataFusionError::Internal("the session of this query is gone".into());
        let session = self.state.upgrade().ok_or_else(gone)?.read().clone();
        let arrays = args.args.iter().map(|a| a.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let mut known: HashMap<Vec<ScalarValue>, ScalarValue> = HashMap::new();
        let mut out = Vec::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let given = arrays.iter().map(|a| ScalarValue::try_from_array(a, row)).collect::<Result<Vec<_>>>()?;
            let answer = match known.get(&given) {
                Some(answer) => answer.clone(),
                None => {
                    let answer = self.answer(&session, &given).await?;
                    known.insert(given, answer.clone());
                    answer
                }
            };
            out.push(answer);
        }
        if out.is_empty() {
            return Ok(ColumnarValue::Array(new_empty_array(self.returns.data_type())));
        }
        Ok(ColumnarValue::Array(ScalarValue::iter_to_array(out)?))
    }
}

impl Apply {
    fn rows(&self, batches: &[RecordBatch], keeps_all: bool) -> Result<ScalarValue> {
        let DataType::List(item) = self.returns.data_type() else { return Err(DataFusionError::Internal("rows are a list".into())) };
        let DataType::Struct(fields) = item.data_type() else { return Err(DataFusionError::Internal("a row is a struct".into())) };
        if keeps_all && batches.iter().all(|b| b.num_rows() == 0) {
            return ScalarValue::try_from(self.returns.data_type());
        }
        let mut columns = vec![];
        for (i, field) in fields.iter().enumerate() {
            let parts = batches.iter().map(|b| cast(b.column(i), field.data_type())).collect::<std::result::Result<Vec<_>, _>>()?;
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            columns.push(if parts.is_empty() { new_empty_array(field.data_type()) } else { concat(&parts)? });
        }
        let rows = columns.first().map_or(0, |c| c.len());
        let rows_of = StructArray::try_new(fields.clone(), columns, None)?;
        let list = ListArray::try_new(item.clone(), OffsetBuffer::from_lengths([rows]), Arc::new(rows_of), None)?;
        Ok(ScalarValue::List(Arc::new(list)))
    }

    async fn answer(&self, session: &SessionState, given: &[ScalarValue]) -> Result<ScalarValue> {
        let outer = &given[given.len() - self.columns.len()..];
        let values = self.columns.iter().cloned().zip(outer.iter().cloned()).collect();
        let mut plan = apply(substituted(self.plan.as_ref().clone(), &values)?, &self.state)?;
        if matches!(self.kind, Kind::Exists { .. }) {
            plan = LogicalPlanBuilder::from(plan).limit(0, Some(1))?.build()?;
        }
        let plan = analyzed(session, plan, &self.state)?;
        let (physical, _) = physical_plan(session, &plan, &self.state).await?;
        let batches = collect(physical, task_context(session)).await?;
        let rows: usize = batches.iter().map(|b| b.num_rows()).sum();
        match self.kind {
            Kind::Exists { negated } => Ok(ScalarValue::Boolean(Some((rows > 0) != negated))),
            Kind::In { negated } => {
                let operand = &given[0];
                let mut unknown = operand.is_null() && rows > 0;
                for array in batches.iter().map(|b| b.column(0)) {
                    let array = cast(array, &operand.data_type())?;
                    unknown |= array.null_count() > 0;
                    let equal = datafusion::arrow::compute::kernels::cmp::eq(&array, &operand.to_scalar()?)?;
                    if !operand.is_null() && BooleanArray::true_count(&equal) > 0 {
                        return Ok(ScalarValue::Boolean(Some(!negated)));
                    }
                }
                Ok(ScalarValue::Boolean((!unknown).then_some(negated)))
            }
            Kind::Rows { keeps_all } => self.rows(&batches, keeps_all),
            Kind::Value if rows > 1 => {
                Err(sql_error(SqlError::new("21000", "more than one row returned by a subquery used as an expression")))
            }
            Kind::Value => match batches.iter().find(|b| b.num_rows() > 0) {
                Some(batch) => ScalarValue::try_from_array(&cast(batch.column(0), self.returns.data_type())?, 0),
                None => ScalarValue::try_from(self.returns.data_type()),
            },
        }
    }
}
