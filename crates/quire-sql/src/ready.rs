//! Prepared statements of the shapes of [`crate::direct`], taken apart once: what is left to do for an execution is to put the
//! parameters in their places.
//!
//! A statement is ready for one definition of its table. When the name means another by the time it runs, it goes the way of all statements.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, TimestampMicrosecondArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Delete, Expr, FromTable, Ident, Insert, ObjectName, SetExpr, Statement, TableFactor, TableWithJoins, UnaryOperator,
    Update, Value,
};
use futures::stream;
use quire_scan::row_id_field;
use quire_types::{Catalog, ColumnDef, ConstraintDef, ConstraintKind, Deferrable, Generated, Isolation, SqlType, TableDef, View};

use crate::assign::assigned;
use crate::direct::{NamedKey, RowsByKey, compared, literal, plain_columns, plain_select, plain_values};
use crate::errors::datafusion_error;
use crate::insert::{is_default, named_columns};
use crate::keys::{UniqueKey, arrow_error};
use crate::lookup::{Found, equal_rows};
use crate::names::Resolver;
use crate::temp::TEMP_SCHEMA;
use crate::turns::RowKey;
use crate::txn::Transaction;
use crate::written::Written;
use crate::{OutputColumn, ParamValue, Response, Session, SqlError, WireType};

/// Rows of the transaction's own that are gone through to spare a snapshot.
const OWN_ROWS_MAX: usize = 1024;

/// A prepared statement, taken apart.
pub(crate) struct Ready {
    /// The search path that it was prepared under.
    path: Arc<[String]>,
    table: Arc<TableDef>,
    what: What,
}

enum What {
    Select { rows: Rows, columns: Vec<usize>, output: Arc<Vec<OutputColumn>> },
    Update { rows: Rows, set: Vec<usize>, values: Values },
    Delete { rows: Rows },
    Insert { targets: Vec<usize>, places: Vec<Place> },
}

/// Rows by a key.
struct Rows {
    key: Arc<UniqueKey>,
    unique: bool,
    key_schema: SchemaRef,
    places: Vec<Place>,
    rest: Option<(Vec<usize>, SchemaRef, Vec<Place>)>,
}

/// Where a value comes from.
enum Place {
    /// A parameter, from 0.
    Parameter(usize),
    Constant(ArrayRef),
    /// When the transaction began.
    Began,
    /// Something to compute, as of when the statement runs.
    Call(Expr),
}

/// Expressions over a table's row, and the parameters behind it.
struct Values {
    schema: SchemaRef,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// Of rows that were found: row ids, the table's columns, the values.
    found: SchemaRef,
}

impl Ready {
    /// A statement with its names resolved, if it is of these shapes.
    pub(crate) fn of(
        session: &Session,
        statement: &Statement,
        parameters: &[WireType],
        columns: Option<&Arc<Vec<OutputColumn>>>,
    ) -> Option<Ready> {
        match statement {
            Statement::Query(query) => {
                let parts = plain_select(query)?;
                let table = session.table_named(&parts.table)?;
                let alias = parts.alias.unwrap_or_else(|| Ident::with_quote('"', &table.name));
                let selected = plain_columns(&parts.items, &table, &alias)?;
                let rows = Rows::of(&parts.selection, &table, &alias, parameters)?;
                let what = What::Select { rows, columns: selected, output: columns?.clone() };
                Some(Ready { path: session.search_path(), table, what })
            }
            Statement::Update(update) => Ready::of_update(session, update, parameters),
            Statement::Delete(delete) => {
                let Delete { from, using: None, selection: Some(selection), returning: None, .. } = delete else { return None };
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = from;
                let [from] = from.as_slice() else { return None };
                let (table, alias) = session.changed(from)?;
                let rows = Rows::of(selection, &table, &alias, parameters)?;
                Some(Ready { path: session.search_path(), table, what: What::Delete { rows } })
            }
            Statement::Insert(insert) => Ready::of_insert(session, insert, parameters),
            _ => None,
        }
    }

    fn of_update(session: &Session, update: &Update, parameters: &[WireType]) -> Option<Ready> {
        let Update { table, assignments, from: None, selection: Some(selection), returning: None, .. } = update else { return None };
        let (table, alias) = session.changed(table)?;
        let rows = Rows::of(selection, &table, &alias, parameters)?;
        let (set, exprs) = assigned(&table, assignments.clone()).ok()?;
        let mut fields: Vec<Arc<Field>> = table.arrow_schema_nullable().fields().iter().cloned().collect();
        for (i, ty) in parameters.iter().enumerate() {
            let WireType::Scalar(ty) = ty else { return None };
            fields.push(Arc::new(ty.field(&parameter_name(i), true)));
        }
        let schema = Arc::new(Schema::new(fields));
        let df_schema = DFSchema::try_from(schema.as_ref().clone()).ok()?;
        let exprs = exprs.iter().map(|expr| session.physical(over_parameters(expr, &alias)?, &df_schema).ok());
        let values = Values::over(schema, table.columns.len(), exprs.collect::<Option<_>>()?).ok()?;
        Some(Ready { path: session.search_path(), table, what: What::Update { rows, set, values } })
    }

    fn of_insert(session: &Session, insert: &Insert, parameters: &[WireType]) -> Option<Ready> {
        let Insert { source: Some(source), on: None, returning: None, partitioned: None, table_alias: None, .. } = insert else {
            return None;
        };
        let SetExpr::Values(_) = source.body.as_ref() else { return None };
        let [row] = plain_values(source)?.rows.as_slice() else { return None };
        let table = session.insert_table(insert).ok()?;
        let mut targets = named_columns(&table, &insert.columns).ok()?;
        if row.len() > targets.len() || row.len() < targets.len() && !insert.columns.is_empty() {
            return None;
        }
        targets.truncate(row.len());
        if targets.iter().any(|&target| table.columns[target].generated.is_some()) {
            return None;
        }
        let places = row.iter().zip(&targets).map(|(expr, &target)| match expr {
            _ if is_default(expr) => None,
            Expr::Function(_) if is_now(expr) => Some(Place::Began),
            Expr::Function(_) => Some(Place::Call(expr.clone())),
            Expr::Value(value) if value.value == Value::Null => Some(Place::Constant(new_null_array(&table.columns[target].ty.arrow(), 1))),
            expr => Place::of(expr, table.columns[target].ty, parameters),
        });
        let places = places.collect::<Option<_>>()?;
        Some(Ready { path: session.search_path(), table, what: What::Insert { targets, places } })
    }
}

impl Ready {
    /// The one row that it changes, for a turn with it.
    pub(crate) fn changed_row(&self, parameters: &[ParamValue]) -> Option<RowKey> {
        let (What::Update { rows, .. } | What::Delete { rows }) = &self.what else { return None };
        let wanted = rows.named(parameters).filter(|_| rows.unique)?;
        let hash = rows.key.hashes(&wanted.wanted).ok()?.first().copied()?;
        Some((self.table.id, rows.key.ordinal, hash))
    }

    /// Whether it looks for a row by a unique key and the transaction has written that row.
    fn reads_own_row(&self, parameters: &[ParamValue], transaction: &Transaction) -> bool {
        let What::Select { rows, .. } = &self.what else { return false };
        let own = transaction.own_batches(self.table.id, self.table.version);
        let count: usize = own.iter().map(RecordBatch::num_rows).sum();
        if !rows.unique || count == 0 || count > OWN_ROWS_MAX {
            return false;
        }
        let Some(wanted) = rows.named(parameters) else { return false };
        let has = |batch| rows.key.project(batch).and_then(|keys| equal_rows(&keys, &wanted.wanted)).is_ok_and(|rows| !rows.is_empty());
        own.iter().any(has)
    }

    /// Whether it inserts values that are given, all of them: nothing is called that might look at the database, and nothing is
    /// checked after it.
    fn inserts_values(&self) -> bool {
        let What::Insert { targets, places } = &self.what else { return false };
        let given = |(position, column): (usize, &ColumnDef)| {
            targets.contains(&position) || column.default.is_none() && !matches!(column.generated, Some(Generated::Identity { .. }))
        };
        !places.iter().any(|place| matches!(place, Place::Call(_)))
            && self.table.columns.iter().enumerate().all(given)
            && self.table.constraints.iter().all(|constraint| constraint.deferrable == Deferrable::Not)
    }

    /// Whether its table is in the first schema of the search path that there is: nothing that was made since can come before it.
    fn is_found_first(&self, catalog: &Catalog) -> bool {
        self.path.iter().find_map(|name| catalog.schema_by_name(name)).is_some_and(|schema| schema.id == self.table.schema)
    }

    /// Whether it is such an INSERT, into a table where no row has to do with others.
    fn reads_nothing(&self) -> bool {
        let alone = |constraint: &ConstraintDef| match &constraint.kind {
            ConstraintKind::Check(_) => true,
            ConstraintKind::Index { unique, .. } => !unique,
            ConstraintKind::PrimaryKey(_) | ConstraintKind::Unique(_) | ConstraintKind::ForeignKey { .. } => false,
        };
        self.inserts_values() && self.table.constraints.iter().all(alone)
    }
}

/// Snapshots that need not be asked for. That the statement is still the one that was taken apart is seen when it runs.
impl Session {
    /// What a statement of a READ COMMITTED block can do with that has run others before. Its own row is the transaction's until it ends,
    /// whoever else has changed it. And what reads nothing needs only to know its table, which COMMIT certifies.
    pub(crate) fn view_at_hand(&self, ready: &Ready, parameters: &[ParamValue], transaction: &Transaction) -> Option<Arc<View>> {
        if ready.reads_own_row(parameters, transaction) && ready.is_found_first(transaction.catalog()) {
            return Some(transaction.view().clone());
        }
        ready.reads_nothing().then(|| self.latest_view(ready)).flatten()
    }

    /// What a statement outside a block can be tried on first: the last snapshot that anybody took here. An INSERT of values that succeeds on
    /// it would have on a later one, or else the log refuses it; what it says when it fails is not to be believed.
    pub(crate) fn early_view(&self, ready: &Ready) -> Option<Arc<View>> {
        let is_tried = ready.inserts_values() && self.in_force().isolation != Isolation::Serializable;
        is_tried.then(|| self.latest_view(ready)).flatten()
    }

    fn latest_view(&self, ready: &Ready) -> Option<Arc<View>> {
        self.engine.client.latest_view().filter(|view| ready.is_found_first(&view.catalog))
    }
}

impl Rows {
    fn of(selection: &Expr, table: &TableDef, alias: &Ident, parameters: &[WireType]) -> Option<Rows> {
        let named = NamedKey::of(selection, table, alias)?;
        let schema = table.arrow_schema();
        let places = |positions: &[usize], values: &[&Expr]| -> Option<Vec<Place>> {
            positions.iter().zip(values).map(|(position, value)| Place::compared(value, table.columns[*position].ty, parameters)).collect()
        };
        let key_schema = Arc::new(schema.project(&named.key.positions).ok()?);
        let key_places = places(&named.key.positions, &named.values)?;
        let (positions, others): (Vec<usize>, Vec<&Expr>) = named.rest.iter().copied().unzip();
        let rest = match positions.is_empty() {
            true => None,
            false => {
                let (schema, others) = (Arc::new(schema.project(&positions).ok()?), places(&positions, &others)?);
                Some((positions, schema, others))
            }
        };
        Some(Rows { key: Arc::new(named.key), unique: named.unique, key_schema, places: key_places, rest })
    }

    /// With the parameters in their places; `None` when one is NULL or not of its column's range.
    fn named(&self, parameters: &[ParamValue]) -> Option<RowsByKey> {
        let batch = |schema: &SchemaRef, places: &[Place]| -> Option<RecordBatch> {
            let columns = places.iter().zip(schema.fields()).map(|(place, field)| {
                let value = match place {
                    Place::Parameter(n) => fitted(parameters.get(*n)?, field)?,
                    Place::Constant(value) => value.clone(),
                    Place::Began | Place::Call(_) => return None,
                };
                value.is_valid(0).then_some(value)
            });
            RecordBatch::try_new(schema.clone(), columns.collect::<Option<_>>()?).ok()
        };
        let wanted = batch(&self.key_schema, &self.places)?;
        let rest = match &self.rest {
            Some((positions, schema, places)) => Some((positions.clone(), batch(schema, places)?)),
            None => None,
        };
        Some(RowsByKey { key: self.key.clone(), unique: self.unique, wanted, rest })
    }
}

impl Place {
    /// What a column is set to.
    fn of(expr: &Expr, ty: SqlType, parameters: &[WireType]) -> Option<Place> {
        if let Some(n) = parameter(expr) {
            let WireType::Scalar(given) = parameters.get(n)? else { return None };
            return are_alike(*given, ty).then_some(Place::Parameter(n));
        }
        literal(expr, ty).map(Place::Constant)
    }

    /// What a column is compared with.
    fn compared(expr: &Expr, ty: SqlType, parameters: &[WireType]) -> Option<Place> {
        if let Some(n) = parameter(expr) {
            let WireType::Scalar(given) = parameters.get(n)? else { return None };
            let as_number = is_numeric(ty) && (is_numeric(*given) || is_integer(*given));
            return (as_number || are_alike(*given, ty)).then_some(Place::Parameter(n));
        }
        compared(expr, ty).map(Place::Constant)
    }
}

fn is_integer(ty: SqlType) -> bool {
    matches!(ty, SqlType::Int2 | SqlType::Int4 | SqlType::Int8)
}

fn is_numeric(ty: SqlType) -> bool {
    matches!(ty, SqlType::Numeric { .. })
}

/// Whether values of a parameter's type are values of a column's type, or none.
fn are_alike(given: SqlType, ty: SqlType) -> bool {
    let is_text = |ty: SqlType| matches!(ty, SqlType::Text | SqlType::Varchar(_));
    given == ty || is_integer(given) && is_integer(ty) || is_text(given) && is_text(ty)
}

/// A parameter's value in a column's type; `None` when it does not fit.
fn fitted(value: &ParamValue, field: &Field) -> Option<ArrayRef> {
    if value.data_type() == field.data_type() {
        return Some(value.clone());
    }
    let cast = |value: &ArrayRef, ty: &DataType| cast_with_options(value, ty, &CastOptions { safe: false, ..CastOptions::default() }).ok();
    let fitted = cast(value, field.data_type())?;
    // Digits that the column has not are rounded away: then it is none of its values.
    let exact = !matches!(value.data_type(), DataType::Decimal128(..)) || cast(&fitted, value.data_type())?.to_data() == value.to_data();
    exact.then_some(fitted)
}

/// now() in its spellings: what an application's table most often has as a default.
fn is_now(expr: &Expr) -> bool {
    let text = expr.to_string();
    ["now()", "current_timestamp", "transaction_timestamp()"].iter().any(|name| text.eq_ignore_ascii_case(name))
}

fn parameter(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => name.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1),
            _ => None,
        },
        Expr::Nested(inner) => parameter(inner),
        _ => None,
    }
}

/// What a parameter is called as a column.
fn parameter_name(n: usize) -> String {
    format!("quire:${}", n + 1)
}

/// An expression with columns for its parameters. Of arithmetic over columns, parameters and constants only: whose value depends on nothing
/// else, and is the same whenever it is planned.
fn over_parameters(expr: &Expr, alias: &Ident) -> Option<Expr> {
    if let Some(n) = parameter(expr) {
        return Some(Expr::Identifier(Ident::with_quote('"', parameter_name(n))));
    }
    let inner = |expr: &Expr| over_parameters(expr, alias).map(Box::new);
    match expr {
        Expr::Value(_) | Expr::Identifier(_) => Some(expr.clone()),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [relation, name] if crate::names::fold(relation) == crate::names::fold(alias) => Some(Expr::Identifier(name.clone())),
            _ => None,
        },
        Expr::Nested(nested) => Some(Expr::Nested(inner(nested)?)),
        Expr::UnaryOp { op: op @ UnaryOperator::Minus, expr } => Some(Expr::UnaryOp { op: *op, expr: inner(expr)? }),
        Expr::BinaryOp {
            left,
            op: op @ (BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply | BinaryOperator::Divide),
            right,
        } => Some(Expr::BinaryOp { left: inner(left)?, op: op.clone(), right: inner(right)? }),
        _ => None,
    }
}

impl Session {
    /// The table of that name, at the current scope.
    fn table_named(&self, name: &ObjectName) -> Option<Arc<TableDef>> {
        let path = self.search_path();
        let catalog = self.cell.get().catalog;
        Resolver { catalog: &catalog, search_path: &path }.find_table(name).ok().flatten()
    }

    /// The table that a statement changes, and what the statement calls it.
    fn changed(&self, table: &TableWithJoins) -> Option<(Arc<TableDef>, Ident)> {
        let TableWithJoins { relation: TableFactor::Table { name, alias, .. }, joins } = table else { return None };
        if !joins.is_empty() || alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()) {
            return None;
        }
        let def = self.table_named(name)?;
        let alias = alias.as_ref().map_or_else(|| Ident::with_quote('"', &def.name), |alias| alias.name.clone());
        Some((def, alias))
    }

    /// Runs a prepared statement that is ready; `None` when it has to go the way of all statements.
    pub(crate) async fn run_ready(
        &mut self,
        ready: &Ready,
        parameters: &[ParamValue],
        transaction: &mut Transaction,
    ) -> Result<Option<Response>, SqlError> {
        let Some(table) = self.still_meant(ready) else { return Ok(None) };
        let written = match &ready.what {
            What::Select { rows, columns, output } => {
                let Some(wanted) = rows.named(parameters) else { return Ok(None) };
                let found = self.find_rows(&table, &wanted, columns).await?;
                let schema = match found.first() {
                    Some(found) => found.rows.schema(),
                    None => Arc::new(table.arrow_schema().project(columns).map_err(arrow_error)?),
                };
                let batches: Vec<_> = found.into_iter().map(|found| Ok(found.rows)).collect();
                let stream = Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(batches)));
                return Ok(Some(Response::Rows(self.rows(output.clone(), stream, "SELECT", true))));
            }
            What::Update { rows, set, values } => {
                let Some(wanted) = rows.named(parameters) else { return Ok(None) };
                let all: Vec<usize> = (0..table.columns.len()).collect();
                let mut batches = vec![];
                for found in self.find_rows(&table, &wanted, &all).await? {
                    batches.push(values.beside(found, parameters)?);
                }
                Box::pin(self.change_found(&table, Some(set), stream::iter(batches.into_iter().map(Ok)), None, transaction)).await?
            }
            What::Delete { rows } => {
                let Some(wanted) = rows.named(parameters) else { return Ok(None) };
                let all: Vec<usize> = (0..table.columns.len()).collect();
                let none = Values::over(table.arrow_schema_nullable(), table.columns.len(), vec![])?;
                let mut batches = vec![];
                for found in self.find_rows(&table, &wanted, &all).await? {
                    batches.push(none.beside(found, &[])?);
                }
                Box::pin(self.change_found(&table, None, stream::iter(batches.into_iter().map(Ok)), None, transaction)).await?
            }
            What::Insert { targets, places } => {
                let Some(row) = self.ready_row(&table, targets, places, parameters)? else { return Ok(None) };
                let rows = self.complete(&table, targets, &row).await?;
                Written::rows("INSERT", Box::pin(self.insert_batches(&table, vec![rows], "INSERT", transaction)).await?)
            }
        };
        self.written(written).await.map(Some)
    }

    /// The table of a prepared statement, when its name would find it again, as it was.
    fn still_meant(&self, ready: &Ready) -> Option<Arc<TableDef>> {
        let scope = self.cell.get();
        let catalog = &scope.catalog;
        let table = catalog.tables.get(&ready.table.id).filter(|table| table.version == ready.table.version)?;
        // What a plan reads is certified.
        if scope.reads.is_some() || self.search_path() != ready.path {
            return None;
        }
        let temporary = catalog.schemas.get(&TEMP_SCHEMA).into_iter();
        let schemas = temporary.chain(ready.path.iter().filter_map(|name| catalog.schema_by_name(name)));
        let mut before = schemas.take_while(|schema| schema.id != table.schema);
        // Nothing of that name has come before it.
        (!before.any(|schema| catalog.has_relation(schema.id, &table.name))).then(|| table.clone())
    }

    /// The row that an INSERT gives.
    fn ready_row(
        &self,
        table: &TableDef,
        targets: &[usize],
        places: &[Place],
        parameters: &[ParamValue],
    ) -> Result<Option<RecordBatch>, SqlError> {
        let (mut fields, mut columns) = (vec![], vec![]);
        for (place, &target) in places.iter().zip(targets) {
            let column = &table.columns[target];
            let (field, array) = match place {
                Place::Parameter(n) => {
                    let Some(value) = parameters.get(*n) else { return Ok(None) };
                    // What is too long for its column, or too large, is told so when it is brought to it.
                    (Field::new(&column.name, value.data_type().clone(), true), value.clone())
                }
                Place::Constant(value) => (column.ty.field(&column.name, true), value.clone()),
                Place::Began => {
                    let began = TimestampMicrosecondArray::from(vec![self.cell.transaction_began()]).with_timezone("UTC");
                    (SqlType::Timestamptz.field(&column.name, true), Arc::new(began) as ArrayRef)
                }
                Place::Call(expr) => {
                    let expr = self.physical(expr.clone(), &DFSchema::empty())?;
                    let one = RecordBatch::try_from_iter([("", Arc::new(Int64Array::from(vec![0])) as ArrayRef)]).map_err(arrow_error)?;
                    let field = expr.return_field(&Schema::empty()).map_err(datafusion_error)?;
                    let array = expr.evaluate(&one).and_then(|v| v.into_array(1)).map_err(datafusion_error)?;
                    (field.as_ref().clone().with_name(&column.name).with_nullable(true), array)
                }
            };
            fields.push(field);
            columns.push(array);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map(Some).map_err(arrow_error)
    }
}

impl Values {
    /// The table's columns are the first so many fields of the schema.
    fn over(schema: SchemaRef, width: usize, exprs: Vec<Arc<dyn PhysicalExpr>>) -> Result<Values, SqlError> {
        let mut fields: Vec<Arc<Field>> = vec![Arc::new(row_id_field())];
        fields.extend(schema.fields()[..width].iter().cloned());
        for (i, expr) in exprs.iter().enumerate() {
            let field = expr.return_field(&schema).map_err(datafusion_error)?;
            fields.push(Arc::new(field.as_ref().clone().with_name(format!("quire:set:{i}")).with_nullable(true)));
        }
        Ok(Values { schema, exprs, found: Arc::new(Schema::new(fields)) })
    }

    /// As the query of an UPDATE would give it.
    fn beside(&self, found: Found, parameters: &[ParamValue]) -> Result<RecordBatch, SqlError> {
        let rows = found.rows.num_rows();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(found.ids.into_iter().map(|id| id as i64)))];
        columns.extend(found.rows.columns().iter().cloned());
        if !self.exprs.is_empty() {
            let given = self.given(&found.rows, parameters)?;
            for expr in &self.exprs {
                columns.push(expr.evaluate(&given).and_then(|v| v.into_array(rows)).map_err(datafusion_error)?);
            }
        }
        RecordBatch::try_new(self.found.clone(), columns).map_err(arrow_error)
    }

    /// What the expressions are over: rows, and the parameters for each of them.
    fn given(&self, rows: &RecordBatch, parameters: &[ParamValue]) -> Result<RecordBatch, SqlError> {
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for (value, field) in parameters.iter().zip(&self.schema.fields()[rows.num_columns()..]) {
            let value = match rows.num_rows() {
                1 => value.clone(),
                rows => arrow::compute::take(value, &arrow::array::UInt32Array::from(vec![0; rows]), None).map_err(arrow_error)?,
            };
            columns.push(fitted(&value, field).ok_or_else(|| SqlError::internal("a parameter is not of its type"))?);
        }
        RecordBatch::try_new(self.schema.clone(), columns).map_err(arrow_error)
    }
}
