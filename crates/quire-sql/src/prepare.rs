//! Prepared statements: one store a session, for PREPARE and for the extended protocol's Parse.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::dialect::PgDialect;
use datafusion::sql::sqlparser::ast::{self, CastKind, DataType, Expr, Ident, Statement, Value, visit_expressions_mut};
use datafusion::sql::sqlparser::parser::Parser;
use quire_types::SqlType;

use crate::names::fold;
use crate::{ParamValue, Parsed, Prepared, Response, Session, SqlError, WireType, ddl, direct};

/// Statements a session may hold: far more than any driver keeps, and a bound on its memory.
const STATEMENTS_MAX: usize = 100_000;

/// A session's prepared statements by name; the unnamed one is named "". None for an empty query string.
pub(crate) type Statements = HashMap<String, Option<Arc<Prepared>>>;

impl Session {
    /// The prepared statement of that name; 26000 when there is none.
    pub fn statement_named(&self, name: &str) -> Result<Option<Arc<Prepared>>, SqlError> {
        let missing = || {
            let shown = if name.is_empty() { "unnamed prepared statement".into() } else { format!("prepared statement \"{name}\"") };
            SqlError::new("26000", format!("{shown} does not exist"))
        };
        self.statements.get(name).cloned().ok_or_else(missing)
    }

    /// Whether a statement of that name may be made: 42P05 when it exists (the unnamed one is replaced), 53400 when there are too many.
    pub fn check_statement_name(&self, name: &str) -> Result<(), SqlError> {
        if !name.is_empty() && self.statements.contains_key(name) {
            return Err(SqlError::new("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        if self.statements.len() >= STATEMENTS_MAX {
            return Err(SqlError::new("53400", format!("a session has at most {STATEMENTS_MAX} prepared statements")));
        }
        Ok(())
    }

    /// Keeps a prepared statement under a name that was checked.
    pub fn keep_statement(&mut self, name: String, prepared: Option<Arc<Prepared>>) {
        self.statements.insert(name, prepared);
    }

    /// Forgets one; there need not be one.
    pub fn close_statement(&mut self, name: &str) {
        self.statements.remove(name);
    }

    /// PREPARE name (types) AS statement.
    pub(crate) async fn prepare_named(&mut self, name: &Ident, types: &[DataType], statement: Statement) -> Result<Response, SqlError> {
        let name = fold(name);
        self.check_statement_name(&name)?;
        if !matches!(statement, Statement::Query(_) | Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_)) {
            return Err(SqlError::syntax("only SELECT, INSERT, UPDATE and DELETE can be prepared"));
        }
        let given = types.iter().map(wire_type).collect::<Result<Vec<_>, _>>()?;
        let statement = Parsed { statement, source: self.source.clone() };
        let prepared = Box::pin(self.analyse(&name, statement, &given)).await?;
        self.keep_statement(name, Some(Arc::new(prepared)));
        Ok(Response::Complete("PREPARE".into()))
    }

    /// The prepared statement that an EXECUTE with so many expressions names.
    fn meant_by(&self, name: &ast::ObjectName, given: usize) -> Result<Arc<Prepared>, SqlError> {
        let (_, name) = crate::names::split(name)?;
        let Some(prepared) = self.statement_named(&name)? else { return Err(SqlError::syntax("the prepared statement is empty")) };
        let wanted = prepared.parameters.len();
        if given != wanted {
            return Err(SqlError::syntax(format!("wrong number of parameters for prepared statement \"{name}\""))
                .with_detail(format!("Expected {wanted} parameters but got {given}.")));
        }
        Ok(prepared)
    }

    /// Likewise, when it is ready and the expressions are constants: it then runs as one that came by the protocol does.
    pub(crate) fn ready_for(&self, name: &ast::ObjectName, given: &[Expr]) -> Result<Option<(Arc<Prepared>, Vec<ParamValue>)>, SqlError> {
        let prepared = self.meant_by(name, given.len())?;
        if prepared.ready.is_none() {
            return Ok(None);
        }
        let value = |(expr, ty): (&Expr, &WireType)| match ty {
            WireType::Scalar(ty) => direct::parameter(expr, *ty),
            _ => None,
        };
        let values: Option<Vec<ParamValue>> = given.iter().zip(&prepared.parameters).map(value).collect();
        Ok(values.map(|values| (prepared, values)))
    }

    /// The prepared statement that an EXECUTE names, with the EXECUTE's expressions in the places of its parameters.
    pub(crate) fn executed(&self, name: &ast::ObjectName, parameters: Vec<Expr>) -> Result<Statement, SqlError> {
        let prepared = self.meant_by(name, parameters.len())?;
        let mut values = vec![];
        for (expr, ty) in parameters.into_iter().zip(&prepared.parameters) {
            let data_type = syntax_type(*ty)?;
            values.push(Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None });
        }
        let mut statement = prepared.statement.statement.clone();
        let _: ControlFlow<()> = visit_expressions_mut(&mut statement, |expr| {
            let number = match expr {
                Expr::Value(value) => match &value.value {
                    Value::Placeholder(name) => name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()),
                    _ => None,
                },
                _ => None,
            };
            if let Some(value) = number.and_then(|n| values.get(n.checked_sub(1)?)) {
                *expr = value.clone();
            }
            ControlFlow::Continue(())
        });
        Ok(statement)
    }

    /// DEALLOCATE name, DEALLOCATE ALL.
    pub(crate) fn deallocate(&mut self, name: &Ident) -> Result<Response, SqlError> {
        if name.quote_style.is_none() && fold(name) == "all" {
            self.statements.clear();
            return Ok(Response::Complete("DEALLOCATE ALL".into()));
        }
        let name = fold(name);
        self.statement_named(&name)?;
        self.close_statement(&name);
        Ok(Response::Complete("DEALLOCATE".into()))
    }
}

fn wire_type(data_type: &DataType) -> Result<Option<WireType>, SqlError> {
    match data_type {
        DataType::Array(ast::ArrayElemTypeDef::SquareBracket(item, _)) => ddl::sql_type(item).map(|ty| Some(WireType::Array(ty))),
        DataType::Unspecified => Ok(None),
        other => match ddl::sql_type(other) {
            Ok(ty) => Ok(Some(WireType::Scalar(ty))),
            Err(_) if other.to_string().eq_ignore_ascii_case("unknown") => Ok(None),
            Err(error) => Err(error),
        },
    }
}

/// A parameter's type, in the syntax tree's terms.
fn syntax_type(ty: WireType) -> Result<DataType, SqlError> {
    // A parameter has no length and no precision: what is too long for its column is told so there, and equals nothing in it.
    let unbounded = |ty: SqlType| match ty {
        SqlType::Varchar(_) | SqlType::Char(_) => "text".to_string(),
        SqlType::Numeric { .. } => "numeric".to_string(),
        ty => ty.name(),
    };
    let name = match ty {
        WireType::Scalar(ty) => unbounded(ty),
        WireType::Array(ty) | WireType::Vector(ty) => format!("{}[]", unbounded(ty)),
        WireType::Oid => "bigint".into(),
        WireType::Name | WireType::QuotedChar | WireType::Unknown => "text".into(),
    };
    let parsed = Parser::new(&PgDialect).try_with_sql(&name).and_then(|mut p| p.parse_data_type());
    parsed.map_err(|e| SqlError::internal(format!("type {name}: {e}")))
}

/// A parameter that a statement still has; where it runs there must be none.
pub(crate) fn parameter_in(statement: &Statement) -> Option<String> {
    let mut found = None;
    let _: ControlFlow<()> = ast::visit_expressions(statement, |expr| {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &value.value
            && name.starts_with('$')
        {
            found = Some(name.clone());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    found
}
