//! What a statement's names mean: relations over the whole search path, system functions, names of things in casts to `regclass`.
//!
//! Afterwards every relation of a query has its schema, so that the planner — which knows a single default schema — has nothing
//! left to guess, and a view's text means the same under every search path.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, Ident, JoinConstraint, JoinOperator, LimitClause, ObjectName, ObjectNamePart, Offset, OffsetRows,
    Query, Select, SelectItem, SetExpr, Spanned, Statement, TableAlias, TableAliasColumnDef, TableFactor, TableObject, VisitMut,
    VisitorMut, With,
};
use quire_types::Catalog;

use crate::changes_within::returns_nothing;
use crate::names::{Resolver, fold, missing_relation, split};
use crate::temp::{TEMP_ALIAS, TEMP_SCHEMA};
use crate::{Session, SqlError, operator_syntax, regtypes};

/// Words that Postgres reserves: a name must be quoted to be one of them.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "as",
    "asc",
    "both",
    "case",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "deferrable",
    "desc",
    "do",
    "else",
    "end",
    "except",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "leading",
    "limit",
    "not",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "union",
    "unique",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

impl Session {
    /// The statement with its names resolved, at the current scope.
    pub(crate) fn resolve(&self, mut statement: Statement) -> Result<Statement, SqlError> {
        if let Statement::Set(_) = &statement {
            // `on` and the like are values here, not names.
            return Ok(statement);
        }
        let path = self.search_path();
        let catalog = self.cell.get().catalog;
        let mut names = Names {
            catalog: &catalog,
            path: &path,
            is_system: &|name| self.engine.is_system_table(name),
            scopes: vec![],
            silent: vec![],
            withs: vec![],
        };
        if let Statement::Insert(insert) = &statement
            && let TableObject::TableName(name) = &insert.table
        {
            names.insert_target(name)?;
        }
        if let Statement::Query(query) = &mut statement {
            regtypes::show(&mut query.body, &catalog, &path)?;
        }
        match statement.visit(&mut names) {
            ControlFlow::Continue(()) => Ok(statement),
            ControlFlow::Break(error) => Err(*error),
        }
    }
}

struct Names<'a> {
    catalog: &'a Catalog,
    path: &'a [String],
    is_system: &'a dyn Fn(&str) -> bool,
    /// Names of WITH queries that are in sight, innermost last.
    scopes: Vec<Vec<String>>,
    /// Names of those that change rows and return none.
    silent: Vec<String>,
    /// WITH clauses of the queries under way: visited, and put aside until the rest is.
    withs: Vec<Option<With>>,
}

impl Names<'_> {
    fn resolver(&self) -> Resolver<'_> {
        Resolver { catalog: self.catalog, search_path: self.path }
    }

    fn insert_target(&self, name: &ObjectName) -> Result<(), SqlError> {
        let resolver = self.resolver();
        let (schema, relation) = split(name)?;
        let system = schema.as_deref().is_some_and(|s| s == "pg_catalog" || s == "information_schema");
        if system || schema.is_none() && (self.is_system)(&relation) {
            return Err(SqlError::new("42501", format!("permission denied: \"{relation}\" is a system catalog")));
        }
        if resolver.find_table(name)?.is_none() {
            if resolver.find_view(name)?.is_some() {
                return Err(
                    SqlError::new("55000", format!("cannot insert into view \"{relation}\"")).with_detail("Views are not updatable here.")
                );
            }
            return Err(missing_relation(name).at_span(name.span()));
        }
        Ok(())
    }

    /// Gives a relation its schema; leaves the names of WITH queries alone.
    fn relation(&self, name: &mut ObjectName) -> Result<(), SqlError> {
        if let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() {
            reserved(ident)?;
        }
        let (schema, relation) = split(name).map_err(|e| e.at_span(name.span()))?;
        let temp = self.catalog.schemas.get(&TEMP_SCHEMA);
        let found = match &schema {
            Some(schema) if schema == "pg_catalog" || schema == "information_schema" => schema.clone(),
            Some(schema) => {
                let found = match schema.as_str() {
                    TEMP_ALIAS => temp,
                    schema => self.catalog.schema_by_name(schema),
                };
                match found.filter(|s| self.catalog.has_relation(s.id, &relation)) {
                    Some(schema) => schema.name.clone(),
                    None => return Err(missing_relation(name).at_span(name.span())),
                }
            }
            None if self.scopes.iter().flatten().any(|with| *with == relation) => {
                return match self.silent.contains(&relation) {
                    true => {
                        let message = format!("WITH query \"{relation}\" does not have a RETURNING clause");
                        Err(SqlError::new("0A000", message).at_span(name.span()))
                    }
                    false => Ok(()),
                };
            }
            None if temp.is_some_and(|s| self.catalog.has_relation(s.id, &relation)) => temp.map(|s| s.name.clone()).unwrap_or_default(),
            None if !self.path.iter().any(|s| s == "pg_catalog") && (self.is_system)(&relation) => "pg_catalog".to_string(),
            None => {
                let holds = |schema: &&String| match schema.as_str() {
                    "pg_catalog" => (self.is_system)(&relation),
                    "information_schema" => crate::system::in_information_schema(&relation),
                    name => self.catalog.schema_by_name(name).is_some_and(|s| self.catalog.has_relation(s.id, &relation)),
                };
                let found = self.path.iter().find(holds).cloned();
                found.ok_or_else(|| missing_relation(name).at_span(name.span()))?
            }
        };
        let span = name.span();
        let part = |text: String| {
            let mut ident = Ident::with_quote('"', text);
            ident.span = span;
            ObjectNamePart::Identifier(ident)
        };
        *name = ObjectName(vec![part(found), part(relation)]);
        Ok(())
    }

    fn factor(&self, factor: &mut TableFactor) -> Result<(), SqlError> {
        match factor {
            TableFactor::Table { name, args: None, alias, .. } => {
                let bare = (name.0.len() == 1).then(|| split(name)).transpose()?;
                self.relation(name)?;
                if let (Some((_, bare)), None, true) = (bare, &alias, name.0.len() == 2) {
                    // Named without its schema, it is known without it too (`t.*`), and messages name it so.
                    let ident = Ident::with_quote('"', bare);
                    *alias = Some(TableAlias { explicit: true, name: ident, columns: vec![], at: None });
                }
                if let Some(alias) = alias
                    && !alias.columns.is_empty()
                {
                    // Columns that the alias list does not reach keep their names.
                    let columns = self.columns(name)?;
                    for column in columns.into_iter().skip(alias.columns.len()) {
                        alias.columns.push(TableAliasColumnDef { name: Ident::with_quote('"', column), data_type: None });
                    }
                }
                Ok(())
            }
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                without_system_schema(name);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn columns(&self, name: &ObjectName) -> Result<Vec<String>, SqlError> {
        let resolver = self.resolver();
        if let Some(table) = resolver.find_table(name)? {
            return Ok(table.columns.iter().map(|c| c.name.clone()).collect());
        }
        Ok(resolver.find_view(name)?.map(|v| v.columns.iter().map(|(n, _)| n.clone()).collect()).unwrap_or_default())
    }
}

/// Whether a name must be quoted to be one.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// 42601 for a reserved word that stands as a name.
fn reserved(ident: &Ident) -> Result<(), SqlError> {
    if ident.quote_style.is_none() && is_reserved(&fold(ident)) {
        return Err(SqlError::syntax(format!("syntax error at or near \"{}\"", ident.value)).at_span(ident.span));
    }
    Ok(())
}

/// Functions are found by their bare name: `pg_catalog.version()` is `version()`.
fn without_system_schema(name: &mut ObjectName) {
    if let [ObjectNamePart::Identifier(schema), _] = name.0.as_slice()
        && fold(schema) == "pg_catalog"
    {
        name.0.remove(0);
    }
}

/// FETCH FIRST is LIMIT.
fn fetch_as_limit(query: &mut Query) -> Result<(), SqlError> {
    let Some(fetch) = query.fetch.take() else { return Ok(()) };
    if fetch.with_ties || fetch.percent {
        return Err(SqlError::unsupported("FETCH FIRST WITH TIES"));
    }
    let limit = fetch.quantity.unwrap_or_else(|| crate::regtypes::number(1));
    let offset = match query.limit_clause.take() {
        Some(LimitClause::LimitOffset { offset, .. }) => offset.map(|o| Offset { rows: OffsetRows::None, ..o }),
        _ => None,
    };
    query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(limit), offset, limit_by: vec![] });
    Ok(())
}

/// A plain JOIN says on what; the planner would take it for CROSS JOIN.
fn check_joins(select: &Select) -> Result<(), SqlError> {
    for join in select.from.iter().flat_map(|from| &from.joins) {
        let needed = match &join.join_operator {
            JoinOperator::Join(c)
            | JoinOperator::Inner(c)
            | JoinOperator::Left(c)
            | JoinOperator::LeftOuter(c)
            | JoinOperator::Right(c)
            | JoinOperator::RightOuter(c)
            | JoinOperator::FullOuter(c) => matches!(c, JoinConstraint::None),
            _ => false,
        };
        if needed {
            return Err(SqlError::syntax("syntax error: a JOIN needs ON or USING").at_span(join.relation.span()));
        }
    }
    Ok(())
}

fn flow(result: Result<(), SqlError>) -> ControlFlow<Box<SqlError>> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

impl VisitorMut for Names<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        flow(fetch_as_limit(query))?;
        self.scopes.push(vec![]);
        let mut with = query.with.take();
        if let Some(with) = &mut with {
            let name_of = |scope: &mut Vec<String>, name: &Ident| {
                if scope.contains(&fold(name)) {
                    let message = format!("WITH query name \"{}\" specified more than once", fold(name));
                    return Err(SqlError::new("42712", message).at_span(name.span));
                }
                scope.push(fold(name));
                Ok(())
            };
            let recursive = with.recursive;
            if recursive {
                // Each sees all of them, itself included.
                for cte in &with.cte_tables {
                    flow(name_of(self.scopes.last_mut().expect("just pushed"), &cte.alias.name))?;
                }
            }
            let silent = with.cte_tables.iter().filter(|cte| returns_nothing(&cte.query)).map(|cte| fold(&cte.alias.name));
            self.silent.extend(silent);
            for cte in &mut with.cte_tables {
                cte.query.visit(self)?;
                if !recursive {
                    flow(name_of(self.scopes.last_mut().expect("just pushed"), &cte.alias.name))?;
                }
            }
        }
        self.withs.push(with);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        self.scopes.pop();
        query.with = self.withs.pop().flatten();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        flow(check_joins(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        flow(self.factor(factor))
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        flow(regtypes::rewrite(expr, self.catalog, self.path))
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Identifier(ident) => flow(reserved(ident))?,
            Expr::Function(function) => without_system_schema(&mut function.name),
            _ => {}
        }
        if let Some(call) = special_value(expr) {
            *expr = call;
        }
        flow(operator_syntax::rewrite(expr))
    }
}

/// `current_user` and its kind, which are written without parentheses; the name of the function that gives each.
fn special_name(expr: &Expr) -> Option<String> {
    let name = match expr {
        Expr::Identifier(ident) if ident.quote_style.is_none() => fold(ident),
        Expr::Function(Function { name, args: FunctionArguments::None, .. }) => match name.0.as_slice() {
            [ObjectNamePart::Identifier(ident)] => fold(ident),
            _ => return None,
        },
        _ => return None,
    };
    ["current_user", "session_user", "user", "current_role", "current_catalog", "current_schema"].contains(&name.as_str()).then_some(name)
}

fn special_value(expr: &Expr) -> Option<Expr> {
    Some(match special_name(expr)?.as_str() {
        "current_catalog" => regtypes::call("current_database", vec![]),
        "current_schema" => regtypes::call("current_schema", vec![]),
        _ => regtypes::call("quire_current_user", vec![]),
    })
}

/// The name that a select item of this kind has: the word itself.
pub(crate) fn name_special_values(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(expr) = item
                    && let Some(name) = special_name(expr)
                {
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', name) };
                }
            }
        }
        SetExpr::Query(query) => name_special_values(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            name_special_values(left);
            name_special_values(right);
        }
        _ => {}
    }
}
