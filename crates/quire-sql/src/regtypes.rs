//! Casts to `regclass` and its kind: an oid to the planner, and a name where it leaves as text.

use crate::dialect::PgDialect;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Ident, ObjectName, ObjectNamePart, SelectItem, SetExpr, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::parser::Parser;
use quire_types::Catalog;

use crate::engine::SUPERUSER;
use crate::names::{Resolver, fold, missing_relation, split};
pub(crate) use crate::rewrite::function as call;
use crate::system::{self, OWNER};
use crate::{SqlError, ddl, resolve, values};

/// The types whose values are oids of named things.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RegType {
    Class,
    Type,
    Namespace,
    Role,
    /// A function. The catalogs have functions by name, so it stays text.
    Proc,
    /// A number itself.
    Oid,
}

impl RegType {
    fn of(data_type: &DataType) -> Option<RegType> {
        let name = match data_type {
            DataType::Regclass => return Some(RegType::Class),
            DataType::Custom(name, modifiers) if modifiers.is_empty() => name,
            _ => return None,
        };
        let ObjectNamePart::Identifier(ident) = name.0.last()? else { return None };
        Some(match fold(ident).as_str() {
            "regclass" => RegType::Class,
            "regtype" => RegType::Type,
            "regnamespace" => RegType::Namespace,
            "regrole" => RegType::Role,
            "regproc" | "regprocedure" => RegType::Proc,
            "oid" => RegType::Oid,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            RegType::Class => "regclass",
            RegType::Type => "regtype",
            RegType::Namespace => "regnamespace",
            RegType::Role => "regrole",
            RegType::Proc => "regproc",
            RegType::Oid => "oid",
        }
    }

    /// From an oid to a name.
    fn to_name(self, oid: Expr) -> Expr {
        match self {
            RegType::Class => call("quire_class_name", vec![oid]),
            RegType::Type => call("format_type", vec![oid, Expr::Value(Value::Null.into())]),
            RegType::Namespace => call("quire_namespace_name", vec![oid]),
            RegType::Role => call("pg_get_userbyid", vec![oid]),
            RegType::Proc => call("quire_function_name", vec![oid]),
            RegType::Oid => cast(oid, DataType::Text),
        }
    }

    /// From a name to an oid.
    fn to_oid(self, name: &str, catalog: &Catalog, path: &[String]) -> Result<i64, SqlError> {
        if let Ok(oid) = name.parse() {
            return Ok(oid);
        }
        let missing = |what: &str, code| SqlError::new(code, format!("{what} \"{name}\" does not exist"));
        match self {
            RegType::Class => {
                let parsed = object_name(name)?;
                class_oid(&parsed, catalog, path)?.ok_or_else(|| missing_relation(&parsed))
            }
            RegType::Type => type_oid(name).ok_or_else(|| missing("type", "42704")),
            RegType::Namespace => match name {
                "pg_catalog" => Ok(i64::from(system::PG_CATALOG.0)),
                "information_schema" => Ok(i64::from(system::INFORMATION_SCHEMA.0)),
                _ => catalog.schema_by_name(name).map(|s| i64::from(s.id.0)).ok_or_else(|| missing("schema", "3F000")),
            },
            RegType::Role if name == SUPERUSER => Ok(i64::from(OWNER)),
            RegType::Role => Err(missing("role", "42704")),
            RegType::Proc | RegType::Oid => Err(SqlError::new("22P02", format!("invalid input syntax for type oid: \"{name}\""))),
        }
    }
}

/// `a.b`, as it is written in a string.
pub(crate) fn object_name(text: &str) -> Result<ObjectName, SqlError> {
    let parsed = Parser::new(&PgDialect).try_with_sql(text).and_then(|mut p| p.parse_object_name(false));
    parsed.map_err(|_| SqlError::new("42602", "invalid name syntax"))
}

/// The oid of a type by any of its names.
pub(crate) fn type_oid(name: &str) -> Option<i64> {
    let name = name.trim().strip_prefix("pg_catalog.").unwrap_or(name.trim());
    if let Some(item) = name.strip_suffix("[]") {
        let item = system::format_type(&Catalog::default(), type_oid(item)?, None);
        return system::oid_by_name(&format!("_{}", system_type_name(&item)?));
    }
    if let Some(oid) = system::oid_by_name(name.trim_matches('"')).filter(|_| name != "char") {
        return Some(oid);
    }
    let data_type = Parser::new(&PgDialect).try_with_sql(name).ok()?.parse_data_type().ok()?;
    ddl::sql_type(&data_type).ok().map(|ty| i64::from(values::oid_of(ty)))
}

/// The name in `pg_type` of a type that is written in any way.
fn system_type_name(name: &str) -> Option<String> {
    if system::oid_by_name(name).is_some() {
        return Some(name.to_string());
    }
    let data_type = Parser::new(&PgDialect).try_with_sql(name).ok()?.parse_data_type().ok()?;
    ddl::sql_type(&data_type).ok().map(|ty| values::type_name(ty).to_string())
}

/// The oid of a table, view or index by name.
pub(crate) fn class_oid(name: &ObjectName, catalog: &Catalog, path: &[String]) -> Result<Option<i64>, SqlError> {
    let (schema, relation) = split(name)?;
    if schema.as_deref().is_none_or(|s| s == "pg_catalog")
        && let Some(oid) = system::system_class_oid(&relation)
    {
        return Ok(Some(oid));
    }
    let resolver = Resolver { catalog, search_path: path };
    if let Some(table) = resolver.find_table(name)? {
        return Ok(Some(i64::from(table.id.0)));
    }
    if let Some(view) = resolver.find_view(name)? {
        return Ok(Some(i64::from(view.id.0)));
    }
    if let Some(sequence) = resolver.find_sequence(name)? {
        return Ok(Some(i64::from(sequence.id.0)));
    }
    let schemas: Vec<&String> = schema.iter().chain(if schema.is_none() { path } else { &[] }).collect();
    let index = schemas.into_iter().filter_map(|s| catalog.schema_by_name(s)).find_map(|s| catalog.index_by_name(s.id, &relation));
    Ok(index.map(|(table, ordinal)| system::index_oid(table, ordinal as usize)))
}

fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

pub(crate) fn number(value: i64) -> Expr {
    let digits = Expr::Value(Value::Number(value.unsigned_abs().to_string(), false).into());
    if value < 0 { Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(digits) })) } else { digits }
}

/// The operand of a cast to one of the types, as an oid.
fn oid_of(inner: &Expr, ty: RegType, catalog: &Catalog, path: &[String]) -> Result<Expr, SqlError> {
    Ok(match literal(inner) {
        Some(name) if ty == RegType::Proc => {
            let name = name.strip_prefix("pg_catalog.").unwrap_or(name);
            Expr::Value(Value::SingleQuotedString(name.to_string()).into())
        }
        Some(name) => number(ty.to_oid(name, catalog, path)?),
        None => inner.clone(),
    })
}

/// A cast to one of the types: its operand and the type.
fn reg_cast(expr: &Expr) -> Option<(&Expr, RegType)> {
    match expr {
        Expr::Cast { expr, data_type, .. } => Some((expr, RegType::of(data_type)?)),
        Expr::Nested(inner) => reg_cast(inner),
        _ => None,
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Text | DataType::Varchar(_) | DataType::CharacterVarying(_) => true,
        DataType::Custom(name, _) => split(name)
            .is_ok_and(|(schema, name)| schema.is_none_or(|s| s == "pg_catalog") && matches!(name.as_str(), "text" | "varchar" | "name")),
        _ => false,
    }
}

/// `x::regclass::text` to the name, `x::regclass` otherwise to the oid.
pub(crate) fn rewrite(expr: &mut Expr, catalog: &Catalog, path: &[String]) -> Result<(), SqlError> {
    if let Expr::Cast { expr: inner, data_type, .. } = expr
        && is_text(data_type)
        && let Some((operand, ty)) = reg_cast(inner)
    {
        *expr = ty.to_name(oid_of(operand, ty, catalog, path)?);
        return Ok(());
    }
    if let Some((operand, ty)) = reg_cast(expr) {
        let oid = oid_of(operand, ty, catalog, path)?;
        *expr = if ty == RegType::Proc { ty.to_name(oid) } else { cast(oid, DataType::BigInt(None)) };
    }
    Ok(())
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// In the select list whose rows the client sees, the types are shown by name.
pub(crate) fn show(body: &mut SetExpr, catalog: &Catalog, path: &[String]) -> Result<(), SqlError> {
    resolve::name_special_values(body);
    match body {
        SetExpr::Select(select) => {
            for item in &mut select.projection {
                let (expr, alias) = match item {
                    SelectItem::UnnamedExpr(expr) => (expr, None),
                    SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.clone())),
                    _ => continue,
                };
                let Some((operand, ty)) = reg_cast(expr).filter(|(_, ty)| *ty != RegType::Oid) else { continue };
                let named = match operand {
                    Expr::Identifier(ident) => Some(fold(ident)),
                    Expr::CompoundIdentifier(parts) => parts.last().map(fold),
                    _ => None,
                };
                let name = named.unwrap_or_else(|| ty.name().to_string());
                let expr = ty.to_name(oid_of(operand, ty, catalog, path)?);
                let alias = alias.unwrap_or_else(|| Ident::with_quote('"', name));
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
        }
        SetExpr::Query(query) => show(&mut query.body, catalog, path)?,
        SetExpr::SetOperation { left, right, .. } => {
            show(left, catalog, path)?;
            show(right, catalog, path)?;
        }
        _ => {}
    }
    Ok(())
}

/// The name of a relation as `regclass` shows it: with its schema when the search path does not find it.
pub(crate) fn class_name(oid: i64, catalog: &Catalog, path: &[String]) -> String {
    let Some((schema, name)) = system::class_by_oid(catalog, oid) else { return oid.to_string() };
    let parts = [schema, name].map(|n| ObjectNamePart::Identifier(Ident::with_quote('"', n)));
    let [_, bare] = &parts;
    let visible = class_oid(&ObjectName(vec![bare.clone()]), catalog, path).is_ok_and(|found| found == Some(oid));
    let shown = if visible { &parts[1..] } else { &parts[..] };
    let shown: Vec<String> = shown.iter().filter_map(|p| p.as_ident().map(|i| system::quoted(&i.value))).collect();
    shown.join(".")
}
