//! Names in statements: folding, resolving against the search path, naming result columns as Postgres does.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, OrderBy, OrderByKind, Query, Select, SelectItem, SetExpr, Statement,
};
use quire_types::{Catalog, SchemaDef, SequenceDef, TableDef, ViewDef};

use crate::SqlError;
use crate::catalog::DATABASE;
use crate::temp::{TEMP_ALIAS, TEMP_SCHEMA};

/// An identifier as Postgres folds it: lower case unless quoted.
pub(crate) fn fold(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// `schema.name` or `name`: the parts, folded. A leading database name must be ours.
pub(crate) fn split(name: &ObjectName) -> Result<(Option<String>, String), SqlError> {
    let parts = name.0.iter().map(|part| match part {
        ObjectNamePart::Identifier(ident) => Ok(fold(ident)),
        ObjectNamePart::Function(f) => Err(SqlError::syntax(format!("syntax error at or near \"{f}\""))),
    });
    let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
    let name_part = parts.pop().ok_or_else(|| SqlError::syntax("a name is missing"))?;
    let schema = parts.pop();
    match parts.pop() {
        Some(database) if database != DATABASE || !parts.is_empty() => {
            let shown: Vec<String> = name.0.iter().filter_map(|p| p.as_ident()).map(|i| format!("\"{}\"", fold(i))).collect();
            Err(SqlError::new("0A000", format!("cross-database references are not implemented: {}", shown.join("."))))
        }
        _ => Ok((schema, name_part)),
    }
}

/// Where unqualified names are looked up and made.
#[derive(Clone, Debug)]
pub(crate) struct Resolver<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) search_path: &'a [String],
}

impl Resolver<'_> {
    /// The schema that a new object goes to.
    pub(crate) fn target_schema(&self, schema: Option<&str>) -> Result<Arc<SchemaDef>, SqlError> {
        match schema {
            Some(name @ ("pg_catalog" | "information_schema")) => {
                Err(SqlError::new("42501", format!("permission denied for schema {name}"))
                    .with_detail("System catalogs cannot be changed."))
            }
            Some(name) => {
                let found = self.schema_named(name);
                found.ok_or_else(|| SqlError::new("3F000", format!("schema \"{name}\" does not exist")))
            }
            None => {
                let found = self.search_path.iter().find_map(|s| self.catalog.schema_by_name(s)).cloned();
                found.ok_or_else(|| SqlError::new("3F000", "no schema has been selected to create in"))
            }
        }
    }

    /// The schema of that name; `pg_temp` is the session's own.
    fn schema_named(&self, name: &str) -> Option<Arc<SchemaDef>> {
        match name {
            TEMP_ALIAS => self.catalog.schemas.get(&TEMP_SCHEMA).cloned(),
            name => self.catalog.schema_by_name(name).cloned(),
        }
    }

    /// Where a relation is looked for: temporary tables come before the search path.
    fn schemas(&self, schema: Option<&str>) -> Vec<Arc<SchemaDef>> {
        match schema {
            Some(name) => self.schema_named(name).into_iter().collect(),
            None => {
                let temp = self.catalog.schemas.get(&TEMP_SCHEMA).cloned();
                temp.into_iter().chain(self.search_path.iter().filter_map(|s| self.schema_named(s))).collect()
            }
        }
    }

    /// The table of that name, if there is one.
    pub(crate) fn find_table(&self, name: &ObjectName) -> Result<Option<Arc<TableDef>>, SqlError> {
        let (schema, name) = split(name)?;
        Ok(self.schemas(schema.as_deref()).iter().find_map(|s| self.catalog.table_by_name(s.id, &name)).cloned())
    }

    /// The view of that name, if there is one.
    pub(crate) fn find_view(&self, name: &ObjectName) -> Result<Option<Arc<ViewDef>>, SqlError> {
        let (schema, name) = split(name)?;
        Ok(self.schemas(schema.as_deref()).iter().find_map(|s| self.catalog.view_by_name(s.id, &name)).cloned())
    }

    /// The sequence of that name, if there is one.
    pub(crate) fn find_sequence(&self, name: &ObjectName) -> Result<Option<Arc<SequenceDef>>, SqlError> {
        let (schema, name) = split(name)?;
        Ok(self.schemas(schema.as_deref()).iter().find_map(|s| self.catalog.sequence_by_name(s.id, &name)).cloned())
    }

    /// What of any kind has that name, if there is something.
    pub(crate) fn find_relation(&self, name: &ObjectName) -> Result<Option<Relation>, SqlError> {
        let (schema, name) = split(name)?;
        let of_schema = |schema: &Arc<SchemaDef>| {
            let id = schema.id;
            let table = self.catalog.table_by_name(id, &name).cloned().map(Relation::Table);
            let view = || self.catalog.view_by_name(id, &name).cloned().map(Relation::View);
            let sequence = || self.catalog.sequence_by_name(id, &name).cloned().map(Relation::Sequence);
            let index = || self.catalog.index_by_name(id, &name).map(|(table, ordinal)| Relation::Index(table.clone(), ordinal));
            table.or_else(view).or_else(sequence).or_else(index)
        };
        Ok(self.schemas(schema.as_deref()).iter().find_map(of_schema))
    }

    /// 42P01, or 3F000 when even the schema is not there, as statements say it that define something.
    pub(crate) fn missing(&self, name: &ObjectName) -> SqlError {
        match self.missing_schema(name) {
            Some(schema) => SqlError::new("3F000", format!("schema \"{schema}\" does not exist")),
            None => missing_relation(name),
        }
    }

    /// The schema that a name has, when there is none of that name.
    pub(crate) fn missing_schema(&self, name: &ObjectName) -> Option<String> {
        let schema = split(name).ok()?.0?;
        let known = ["pg_catalog", "information_schema"].contains(&schema.as_str()) || self.catalog.schema_by_name(&schema).is_some();
        (!known).then_some(schema)
    }

    /// The table of that name; 42P01, or 42809 when it is a view.
    pub(crate) fn table(&self, name: &ObjectName) -> Result<Arc<TableDef>, SqlError> {
        if let Some(table) = self.find_table(name)? {
            return Ok(table);
        }
        if self.find_view(name)?.is_some() {
            return Err(SqlError::new("42809", format!("\"{}\" is not a table", split(name)?.1)).with_detail("It is a view."));
        }
        Err(missing_relation(name))
    }
}

/// What a name in the namespace of relations stands for.
pub(crate) enum Relation {
    Table(Arc<TableDef>),
    View(Arc<ViewDef>),
    Sequence(Arc<SequenceDef>),
    /// The index's table, and its ordinal among the constraints.
    Index(Arc<TableDef>, u32),
}

impl Relation {
    /// `table`, and what it is when there are several: `tables`.
    pub(crate) fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Relation::Table(_) => ("table", "tables"),
            Relation::View(_) => ("view", "views"),
            Relation::Sequence(_) => ("sequence", "sequences"),
            Relation::Index(..) => ("index", "indexes"),
        }
    }

    /// 42809 for a DROP of something else than what it is.
    pub(crate) fn not_dropped_as(&self, wanted: &str, name: &ObjectName) -> SqlError {
        let (kind, _) = self.kind();
        let article = if kind == "index" { "an" } else { "a" };
        not_a(wanted, name).with_hint(format!("Use DROP {} to remove {article} {kind}.", kind.to_uppercase()))
    }
}

/// 42809: `"x" is not a view`.
pub(crate) fn not_a(wanted: &str, name: &ObjectName) -> SqlError {
    let bare = split(name).map_or_else(|_| name.to_string(), |(_, bare)| bare);
    SqlError::new("42809", format!("\"{bare}\" is not {wanted}"))
}

/// 42P07.
pub(crate) fn relation_exists(name: &str) -> SqlError {
    SqlError::new("42P07", format!("relation \"{name}\" already exists"))
}

/// 42P01.
pub(crate) fn missing_relation(name: &ObjectName) -> SqlError {
    let shown =
        split(name).map(|(schema, name)| schema.map_or(name.clone(), |s| format!("{s}.{name}"))).unwrap_or_else(|_| name.to_string());
    SqlError::new("42P01", format!("relation \"{shown}\" does not exist"))
}

/// The name of what Postgres has none for.
const UNNAMED: &str = "?column?";
/// Ends the part of a planner's name that is shown; what follows makes it unique. Invisible, and in no name that anybody types.
const MARK: char = '\u{2063}';

/// A planner's name for a result column that is shown as `name`, unlike any other's.
pub(crate) fn marked(name: &str, position: usize) -> Ident {
    Ident::with_quote('"', format!("{name}{MARK}{position}"))
}

/// A plan as text, without the marks.
pub(crate) fn unmarked(text: &str) -> String {
    let mut parts = text.split(MARK);
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |out, part| out + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// What is shown of a planner's name.
pub(crate) fn shown(name: &str) -> &str {
    name.split_once(MARK).map_or(name, |(shown, _)| shown)
}

/// The outermost SELECT of a query: the one that names the columns.
fn leading_select(body: &mut SetExpr) -> Option<&mut Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => leading_select(&mut query.body),
        SetExpr::SetOperation { left, .. } => leading_select(left),
        _ => None,
    }
}

/// Gives result columns the names that Postgres gives them, and the planner names that are unique.
///
/// Returns, for each item of the outermost select list, the name to show; `None` for an item that keeps the planner's
/// (plain columns and wildcards). To name again what has names changes nothing.
pub(crate) fn name_columns(statement: &mut Statement) -> Vec<Option<String>> {
    let Statement::Query(query) = statement else { return vec![] };
    let Some(select) = leading_select(&mut query.body) else { return vec![] };
    let names: Vec<Option<String>> = select.projection.iter().map(item_name).collect();
    // A wildcard may bring a column of the same name.
    let wildcard = names.iter().any(Option::is_none);
    let mut seen = HashSet::new();
    let mut columns: Vec<Vec<String>> = vec![];
    let mut renamed = vec![];
    for (i, item) in select.projection.iter_mut().enumerate() {
        let Some(name) = &names[i] else { continue };
        let unique = names.iter().filter(|n| n.as_ref() == Some(name)).count() == 1;
        match item {
            // A plain column keeps its name; ORDER BY and set operations go on finding it.
            SelectItem::UnnamedExpr(expr)
                if is_column(expr)
                    && !wildcard
                    && !columns.iter().any(|other| may_be_one(other, &parts(expr)))
                    && seen.insert(expr.to_string()) =>
            {
                columns.push(parts(expr));
            }
            SelectItem::UnnamedExpr(expr) => {
                let alias = marked(name, i);
                if unique {
                    renamed.push((name.clone(), alias.clone()));
                }
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
            SelectItem::ExprWithAlias { alias, .. } if !seen.insert(fold(alias)) => *alias = marked(name, i),
            _ => {}
        }
    }
    order_by_names(query, &renamed);
    names
}

/// ORDER BY means a result column by the name that is shown.
fn order_by_names(query: &mut Query, renamed: &[(String, Ident)]) {
    let Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) = &mut query.order_by else { return };
    for key in keys {
        if let Expr::Identifier(ident) = &mut key.expr
            && let Some((_, alias)) = renamed.iter().find(|(name, _)| *name == fold(ident))
        {
            *ident = alias.clone();
        }
    }
}

/// Gives the columns of a query that nobody refers to by their names, one of the right side of a set operation, names that are unique.
pub(crate) fn name_apart(body: &mut SetExpr) {
    if let Some(select) = leading_select(body) {
        mark_namesakes(select);
    }
}

/// Has the planner tell columns apart that have the name of one before them.
fn mark_namesakes(select: &mut Select) {
    let mut seen = HashSet::new();
    for (i, item) in select.projection.iter_mut().enumerate() {
        let Some(name) = item_name(item).filter(|name| !seen.insert(name.clone())) else { continue };
        match item {
            SelectItem::UnnamedExpr(expr) => *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: marked(&name, i) },
            SelectItem::ExprWithAlias { alias, .. } => *alias = marked(&name, i),
            _ => {}
        }
    }
}

/// Names the columns of a query that others refer to by them: in FROM, or in WITH.
pub(crate) fn name_derived(query: &mut Query) {
    let Some(select) = leading_select(&mut query.body) else { return };
    mark_namesakes(select);
    let mut seen: HashSet<String> = select.projection.iter().filter(|item| is_named(item)).filter_map(item_name).collect();
    for (i, item) in select.projection.iter_mut().enumerate() {
        if is_named(item) {
            continue;
        }
        let Some(name) = item_name(item) else { continue };
        let alias = if seen.insert(name.clone()) { Ident::with_quote('"', name) } else { marked(&name, i) };
        if let SelectItem::UnnamedExpr(expr) = item {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

fn is_named(item: &SelectItem) -> bool {
    match item {
        SelectItem::UnnamedExpr(expr) => is_column(expr),
        _ => true,
    }
}

/// The parts of a column's name.
fn parts(column: &Expr) -> Vec<String> {
    match column {
        Expr::Identifier(ident) => vec![fold(ident)],
        Expr::CompoundIdentifier(parts) => parts.iter().map(fold).collect(),
        _ => vec![],
    }
}

/// Whether two names may mean one column, as `x` and `t.x` do.
fn may_be_one(a: &[String], b: &[String]) -> bool {
    a.iter().rev().zip(b.iter().rev()).all(|(a, b)| a == b)
}

pub(crate) fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(expr) => Some(column_name(expr)),
        SelectItem::ExprWithAlias { alias, .. } => Some(shown(&fold(alias)).to_string()),
        _ => None,
    }
}

/// A name for a select item of a query that gives no rows; numbered where Postgres has none.
pub(crate) fn result_name(expr: &Expr, position: usize) -> Ident {
    figure(expr).map_or_else(|| marked(UNNAMED, position), |name| Ident::with_quote('"', name))
}

/// The name Postgres gives an unnamed select item (`FigureColname` in its parser).
fn column_name(expr: &Expr) -> String {
    figure(expr).unwrap_or_else(|| UNNAMED.to_string())
}

fn figure(expr: &Expr) -> Option<String> {
    Some(match expr {
        Expr::Identifier(ident) => fold(ident),
        Expr::CompoundIdentifier(parts) => fold(parts.last()?),
        Expr::Function(function) => match function.name.0.last()? {
            ObjectNamePart::Identifier(ident) => fold(ident),
            ObjectNamePart::Function(_) => return None,
        },
        Expr::Cast { expr, data_type, .. } => figure(expr).unwrap_or_else(|| type_name(&data_type.to_string().to_lowercase())),
        Expr::TypedString(typed) => type_name(&typed.data_type.to_string().to_lowercase()),
        Expr::Nested(inner) => return figure(inner),
        Expr::Collate { expr, .. } => return figure(expr),
        Expr::Case { else_result, .. } => else_result.as_ref().and_then(|e| figure(e)).unwrap_or_else(|| "case".into()),
        Expr::Exists { .. } => "exists".into(),
        Expr::Subquery(query) => {
            let mut query = query.clone();
            let select = leading_select(&mut query.body)?;
            match select.projection.first()? {
                SelectItem::UnnamedExpr(expr) => return figure(expr),
                SelectItem::ExprWithAlias { alias, .. } => fold(alias),
                _ => return None,
            }
        }
        Expr::Extract { .. } => "extract".into(),
        Expr::Substring { .. } => "substring".into(),
        Expr::Trim { .. } => "btrim".into(),
        Expr::Position { .. } => "position".into(),
        Expr::Overlay { .. } => "overlay".into(),
        Expr::Ceil { .. } => "ceil".into(),
        Expr::Floor { .. } => "floor".into(),
        Expr::Array(_) => "array".into(),
        Expr::Tuple(_) => "row".into(),
        Expr::Interval(_) => "interval".into(),
        Expr::Value(value) => match value.value {
            datafusion::sql::sqlparser::ast::Value::Boolean(_) => "bool".into(),
            _ => return None,
        },
        Expr::AtTimeZone { .. } => "timezone".into(),
        _ => return None,
    })
}

fn type_name(data_type: &str) -> String {
    let base = data_type.split('(').next().unwrap_or(data_type).trim();
    match base {
        "int" | "integer" | "int4" => "int4",
        "bigint" | "int8" => "int8",
        "smallint" | "int2" => "int2",
        "real" | "float4" => "float4",
        "double precision" | "float8" | "double" | "float" => "float8",
        "decimal" | "numeric" => "numeric",
        "boolean" | "bool" => "bool",
        "character varying" | "varchar" => "varchar",
        "character" | "char" => "bpchar",
        "timestamp with time zone" | "timestamptz" => "timestamptz",
        "timestamp without time zone" | "timestamp" => "timestamp",
        other => other,
    }
    .to_string()
}
