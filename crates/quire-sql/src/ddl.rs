//! Definitions: from a statement's syntax tree to catalog changes. Decides; the session records what was decided.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast::{
    self, CharacterLength, ColumnOption, CreateTable, DataType, ExactNumberInfo, Expr, IndexColumn, NullsDistinctOption, ObjectName,
    TableConstraint, TimezoneInfo,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use quire_types::{ColumnDef, ColumnId, ConstraintDef, ConstraintKind, ReferentialAction, SqlType, TableDef, TableId};

use crate::SqlError;
use crate::names::{Resolver, fold, split};

/// Ids below this are Postgres' own objects'.
const FIRST_USER_OID: u64 = 16_384;
/// Columns of a table, as in Postgres.
const COLUMNS_MAX: usize = 1600;

/// A random id for a new schema, table or view; a collision is refused by the log and tried again.
pub(crate) fn new_oid() -> u32 {
    let span = u64::from(i32::MAX as u32) - FIRST_USER_OID;
    (FIRST_USER_OID + quire_kit::random::below(span)) as u32
}

/// A SQL type of the syntax tree as one of ours; 42704 or 0A000 when there is none.
pub(crate) fn sql_type(data_type: &DataType) -> Result<SqlType, SqlError> {
    let length = |l: &Option<CharacterLength>| -> Result<Option<u32>, SqlError> {
        match l {
            None | Some(CharacterLength::Max) => Ok(None),
            Some(CharacterLength::IntegerLength { length, .. }) => match u32::try_from(*length) {
                Ok(n @ 1..=10_485_760) => Ok(Some(n)),
                Ok(0) => Err(SqlError::new("22023", "length for type varchar must be at least 1")),
                _ => Err(SqlError::new("22023", "length for type varchar cannot exceed 10485760")),
            },
        }
    };
    let numeric = |info: &ExactNumberInfo| -> Result<SqlType, SqlError> {
        let (precision, scale) = match info {
            ExactNumberInfo::None => return Ok(SqlType::NUMERIC_DEFAULT),
            ExactNumberInfo::Precision(p) => (*p, 0),
            ExactNumberInfo::PrecisionAndScale(p, s) => (*p, *s),
        };
        if !(1..=1000).contains(&precision) {
            return Err(SqlError::new("22023", format!("NUMERIC precision {precision} must be between 1 and 1000")));
        }
        if precision > 38 {
            return Err(
                SqlError::new("0A000", format!("NUMERIC precision {precision} is not supported")).with_hint("Precision is at most 38.")
            );
        }
        if scale < 0 || scale as u64 > precision {
            return Err(SqlError::new("22023", format!("NUMERIC scale {scale} must be between 0 and precision {precision}")));
        }
        Ok(SqlType::Numeric { precision: precision as u8, scale: scale as i8 })
    };
    Ok(match data_type {
        DataType::Boolean | DataType::Bool => SqlType::Bool,
        DataType::SmallInt(_) | DataType::Int2(_) => SqlType::Int2,
        DataType::Int(_) | DataType::Integer(_) | DataType::Int4(_) => SqlType::Int4,
        DataType::BigInt(_) | DataType::Int8(_) => SqlType::Int8,
        DataType::Real | DataType::Float4 => SqlType::Float4,
        DataType::DoublePrecision | DataType::Float8 | DataType::Double(_) => SqlType::Float8,
        DataType::Float(ExactNumberInfo::Precision(1..=24)) => SqlType::Float4,
        DataType::Float(_) => SqlType::Float8,
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => numeric(info)?,
        DataType::Text => SqlType::Text,
        DataType::Varchar(l) | DataType::CharacterVarying(l) | DataType::CharVarying(l) => SqlType::Varchar(length(l)?),
        DataType::Char(l) | DataType::Character(l) => SqlType::Char(length(l)?.unwrap_or(1)),
        DataType::Bytea => SqlType::Bytea,
        DataType::Date => SqlType::Date,
        DataType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => SqlType::Time,
        DataType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => SqlType::Timestamp,
        DataType::Timestamp(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => SqlType::Timestamptz,
        DataType::Interval { .. } => SqlType::Interval,
        DataType::Uuid => SqlType::Uuid,
        DataType::JSON => SqlType::Json,
        DataType::Custom(name, modifiers) => return custom_type(name, modifiers),
        other => return Err(SqlError::new("0A000", format!("type {} is not supported", other.to_string().to_lowercase()))),
    })
}

fn custom_type(name: &ObjectName, modifiers: &[String]) -> Result<SqlType, SqlError> {
    let (schema, name) = split(name)?;
    if schema.as_deref().is_none_or(|s| s == "pg_catalog") {
        match (name.as_str(), modifiers.first().and_then(|m| m.parse().ok())) {
            ("bpchar", None) => return Ok(SqlType::Text),
            ("bpchar", Some(n)) => return Ok(SqlType::Char(n)),
            ("varchar", n) => return Ok(SqlType::Varchar(n)),
            ("bool", None) => return Ok(SqlType::Bool),
            ("int2", None) => return Ok(SqlType::Int2),
            ("int4", None) => return Ok(SqlType::Int4),
            ("int8", None) => return Ok(SqlType::Int8),
            ("float4", None) => return Ok(SqlType::Float4),
            ("float8", None) => return Ok(SqlType::Float8),
            ("timestamptz", None) => return Ok(SqlType::Timestamptz),
            ("text" | "name", None) => return Ok(SqlType::Text),
            (
                "serial" | "bigserial" | "smallserial" | "serial4" | "serial8" | "serial2" | "jsonb" | "money" | "xml" | "timetz" | "inet"
                | "cidr",
                _,
            ) => {
                return Err(SqlError::new("0A000", format!("type {name} is not supported")));
            }
            _ => {}
        }
    }
    Err(SqlError::new("42704", format!("type \"{name}\" does not exist")))
}

/// A new table's definition, and the notices that go with it.
pub(crate) struct NewTable {
    pub(crate) def: TableDef,
    /// Foreign keys were declared: they are recorded, not enforced.
    pub(crate) unenforced_foreign_keys: Vec<String>,
}

/// CREATE TABLE (name, columns, constraints); not CREATE TABLE AS.
pub(crate) fn create_table(create: &CreateTable, resolver: &Resolver<'_>) -> Result<NewTable, SqlError> {
    if create.temporary {
        return Err(SqlError::unsupported("CREATE TEMPORARY TABLE"));
    }
    for (given, what) in [
        (create.like.is_some(), "CREATE TABLE LIKE"),
        (create.partition_by.is_some() || create.partition_of.is_some(), "partitioning"),
        (create.inherits.is_some(), "inheritance"),
    ] {
        if given {
            return Err(SqlError::unsupported(what));
        }
    }
    let (schema, name) = split(&create.name)?;
    let schema = resolver.target_schema(schema.as_deref())?;
    let mut builder = TableBuilder::new(TableId(new_oid()), name, resolver);
    for column in &create.columns {
        builder.column(column)?;
    }
    for constraint in &create.constraints {
        builder.constraint(constraint)?;
    }
    builder.finish(schema.id)
}

/// A table with just columns, for CREATE TABLE AS.
pub(crate) fn plain_table(schema: quire_types::SchemaId, name: String, columns: Vec<(String, SqlType)>) -> Result<TableDef, SqlError> {
    let mut seen = BTreeSet::new();
    for (column, _) in &columns {
        if !seen.insert(column.clone()) {
            return Err(duplicate_column(column));
        }
    }
    let columns: Vec<ColumnDef> = columns
        .into_iter()
        .enumerate()
        .map(|(i, (name, ty))| ColumnDef { id: ColumnId(i as u32 + 1), name, ty, nullable: true, default: None })
        .collect();
    Ok(TableDef {
        id: TableId(new_oid()),
        schema,
        name,
        version: 1,
        next_column_id: ColumnId(columns.len() as u32 + 1),
        columns,
        constraints: vec![],
        clustering: vec![],
    })
}

fn duplicate_column(name: &str) -> SqlError {
    SqlError::new("42701", format!("column \"{name}\" specified more than once"))
}

struct TableBuilder<'a> {
    resolver: &'a Resolver<'a>,
    id: TableId,
    name: String,
    columns: Vec<ColumnDef>,
    constraints: Vec<ConstraintDef>,
    /// Foreign keys may point at the table itself, so they are resolved last: (name, columns, declaration).
    foreign_keys: Vec<(Option<String>, Vec<ColumnId>, ast::ForeignKeyConstraint)>,
}

impl<'a> TableBuilder<'a> {
    fn new(id: TableId, name: String, resolver: &'a Resolver<'a>) -> TableBuilder<'a> {
        TableBuilder { resolver, id, name, columns: vec![], constraints: vec![], foreign_keys: vec![] }
    }

    fn column(&mut self, column: &ast::ColumnDef) -> Result<(), SqlError> {
        let name = fold(&column.name);
        if self.columns.iter().any(|c| c.name == name) {
            return Err(duplicate_column(&name));
        }
        if self.columns.len() == COLUMNS_MAX {
            return Err(SqlError::new("54011", format!("tables can have at most {COLUMNS_MAX} columns")));
        }
        let id = ColumnId(self.columns.len() as u32 + 1);
        self.columns.push(ColumnDef { id, name: name.clone(), ty: sql_type(&column.data_type)?, nullable: true, default: None });
        for option in &column.options {
            let declared = option.name.as_ref().map(fold);
            match &option.option {
                ColumnOption::Null | ColumnOption::Collation(_) => {}
                ColumnOption::NotNull => self.columns[id.0 as usize - 1].nullable = false,
                ColumnOption::Default(expr) => {
                    if !mentioned_columns(expr).iter().all(|name| name.starts_with("current_") || name.starts_with("local")) {
                        return Err(SqlError::new("0A000", "cannot use column reference in DEFAULT expression"));
                    }
                    self.columns[id.0 as usize - 1].default = (expr.to_string().to_uppercase() != "NULL").then(|| expr.to_string());
                }
                ColumnOption::PrimaryKey(_) => self.primary_key(declared, vec![id])?,
                ColumnOption::Unique(key) if key.nulls_distinct == NullsDistinctOption::NotDistinct => {
                    return Err(SqlError::unsupported("UNIQUE NULLS NOT DISTINCT"));
                }
                ColumnOption::Unique(_) => self.unique(declared, vec![id]),
                ColumnOption::Check(check) => self.check(declared.or(check.name.as_ref().map(fold)), &check.expr),
                ColumnOption::ForeignKey(key) => self.foreign_keys.push((declared.or(key.name.as_ref().map(fold)), vec![id], key.clone())),
                ColumnOption::Generated { .. } | ColumnOption::Identity(_) => {
                    return Err(SqlError::unsupported(format!("column \"{name}\": GENERATED")));
                }
                other => return Err(SqlError::unsupported(format!("column \"{name}\": {other}"))),
            }
        }
        Ok(())
    }

    fn constraint(&mut self, constraint: &TableConstraint) -> Result<(), SqlError> {
        match constraint {
            TableConstraint::PrimaryKey(key) => {
                let columns = self.index_columns(&key.columns)?;
                self.primary_key(key.name.as_ref().map(fold), columns)
            }
            TableConstraint::Unique(key) => {
                if key.nulls_distinct == NullsDistinctOption::NotDistinct {
                    return Err(SqlError::unsupported("UNIQUE NULLS NOT DISTINCT"));
                }
                let columns = self.index_columns(&key.columns)?;
                self.unique(key.name.as_ref().map(fold), columns);
                Ok(())
            }
            TableConstraint::Check(check) => {
                self.check(check.name.as_ref().map(fold), &check.expr);
                Ok(())
            }
            TableConstraint::ForeignKey(key) => {
                let columns = key.columns.iter().map(|c| self.column_id(&fold(c))).collect::<Result<_, _>>()?;
                self.foreign_keys.push((key.name.as_ref().map(fold), columns, key.clone()));
                Ok(())
            }
            other => Err(SqlError::unsupported(format!("constraint {other}"))),
        }
    }

    fn index_columns(&self, columns: &[IndexColumn]) -> Result<Vec<ColumnId>, SqlError> {
        let ids = columns.iter().map(|c| match &c.column.expr {
            Expr::Identifier(ident) => self.column_id(&fold(ident)),
            other => Err(SqlError::syntax(format!("syntax error at or near \"{other}\""))),
        });
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        for (i, id) in ids.iter().enumerate() {
            if ids[..i].contains(id) {
                let name = self.columns.iter().find(|c| c.id == *id).map_or("", |c| &c.name);
                return Err(SqlError::new("42701", format!("column \"{name}\" appears twice in a key constraint")));
            }
        }
        Ok(ids)
    }

    fn column_id(&self, name: &str) -> Result<ColumnId, SqlError> {
        let found = self.columns.iter().find(|c| c.name == name).map(|c| c.id);
        found.ok_or_else(|| SqlError::new("42703", format!("column \"{name}\" named in key does not exist")))
    }

    fn primary_key(&mut self, name: Option<String>, columns: Vec<ColumnId>) -> Result<(), SqlError> {
        if self.constraints.iter().any(|c| matches!(c.kind, ConstraintKind::PrimaryKey(_))) {
            return Err(SqlError::new("42P16", format!("multiple primary keys for table \"{}\" are not allowed", self.name)));
        }
        for column in self.columns.iter_mut().filter(|c| columns.contains(&c.id)) {
            column.nullable = false;
        }
        let name = name.unwrap_or_else(|| format!("{}_pkey", self.name));
        self.constraints.push(ConstraintDef { name, kind: ConstraintKind::PrimaryKey(columns) });
        Ok(())
    }

    fn unique(&mut self, name: Option<String>, columns: Vec<ColumnId>) {
        let name = name.unwrap_or_else(|| self.free_name(&columns, "key"));
        self.constraints.push(ConstraintDef { name, kind: ConstraintKind::Unique(columns) });
    }

    fn check(&mut self, name: Option<String>, expr: &Expr) {
        let name = name.unwrap_or_else(|| {
            let mentioned: Vec<ColumnId> = mentioned_columns(expr).iter().filter_map(|n| self.column_id(n).ok()).collect();
            self.free_name(if mentioned.len() == 1 { &mentioned } else { &[] }, "check")
        });
        self.constraints.push(ConstraintDef { name, kind: ConstraintKind::Check(expr.to_string()) });
    }

    /// `table_column_suffix`, numbered when taken, as Postgres names what the user did not.
    fn free_name(&self, columns: &[ColumnId], suffix: &str) -> String {
        let mut parts = vec![self.name.as_str()];
        parts.extend(self.columns.iter().filter(|c| columns.contains(&c.id)).map(|c| c.name.as_str()));
        parts.push(suffix);
        let base = parts.join("_");
        let taken = |name: &str| self.constraints.iter().any(|c| c.name == name);
        if !taken(&base) {
            return base;
        }
        let mut number = 1;
        while taken(&format!("{base}{number}")) {
            number += 1;
        }
        format!("{base}{number}")
    }

    fn finish(mut self, schema: quire_types::SchemaId) -> Result<NewTable, SqlError> {
        let mut unenforced = vec![];
        for (name, columns, key) in std::mem::take(&mut self.foreign_keys) {
            let name = name.unwrap_or_else(|| self.free_name(&columns, "fkey"));
            let kind = self.foreign_key(columns, &key)?;
            unenforced.push(name.clone());
            self.constraints.push(ConstraintDef { name, kind });
        }
        let mut names = BTreeSet::new();
        for constraint in &self.constraints {
            if !names.insert(constraint.name.clone()) {
                let message = format!("constraint \"{}\" for relation \"{}\" already exists", constraint.name, self.name);
                return Err(SqlError::new("42710", message));
            }
        }
        let mut def = TableDef {
            id: self.id,
            schema,
            name: self.name,
            version: 1,
            next_column_id: ColumnId(self.columns.len() as u32 + 1),
            columns: self.columns,
            constraints: self.constraints,
            clustering: vec![],
        };
        def.clustering = def.primary_key().map(<[_]>::to_vec).unwrap_or_default();
        Ok(NewTable { def, unenforced_foreign_keys: unenforced })
    }

    fn foreign_key(&self, columns: Vec<ColumnId>, key: &ast::ForeignKeyConstraint) -> Result<ConstraintKind, SqlError> {
        let to_self = split(&key.foreign_table)?.1 == self.name && self.resolver.find_table(&key.foreign_table)?.is_none();
        let (references, parent_columns, parent_constraints, parent) = if to_self {
            (self.id, self.columns.clone(), self.constraints.clone(), self.name.clone())
        } else {
            let parent = self.resolver.table(&key.foreign_table)?;
            (parent.id, parent.columns.clone(), parent.constraints.clone(), parent.name.clone())
        };
        let keys = || {
            parent_constraints.iter().filter_map(|c| match &c.kind {
                ConstraintKind::PrimaryKey(columns) | ConstraintKind::Unique(columns) => Some(columns),
                _ => None,
            })
        };
        let referenced = if key.referred_columns.is_empty() {
            let primary = parent_constraints.iter().find_map(|c| match &c.kind {
                ConstraintKind::PrimaryKey(columns) => Some(columns.clone()),
                _ => None,
            });
            primary.ok_or_else(|| SqlError::new("42704", format!("there is no primary key for referenced table \"{parent}\"")))?
        } else {
            let find = |name: String| {
                let found = parent_columns.iter().find(|c| c.name == name).map(|c| c.id);
                found
                    .ok_or_else(|| SqlError::new("42703", format!("column \"{name}\" referenced in foreign key constraint does not exist")))
            };
            key.referred_columns.iter().map(|c| find(fold(c))).collect::<Result<Vec<_>, _>>()?
        };
        if referenced.len() != columns.len() {
            return Err(SqlError::new("42830", "number of referencing and referenced columns for foreign key disagree"));
        }
        let wanted: BTreeSet<_> = referenced.iter().collect();
        if !keys().any(|k| k.iter().collect::<BTreeSet<_>>() == wanted) {
            return Err(SqlError::new(
                "42830",
                format!("there is no unique constraint matching given keys for referenced table \"{parent}\""),
            ));
        }
        let action = |a: &Option<ast::ReferentialAction>| match a {
            None | Some(ast::ReferentialAction::NoAction) => ReferentialAction::NoAction,
            Some(ast::ReferentialAction::Restrict) => ReferentialAction::Restrict,
            Some(ast::ReferentialAction::Cascade) => ReferentialAction::Cascade,
            Some(ast::ReferentialAction::SetNull) => ReferentialAction::SetNull,
            Some(ast::ReferentialAction::SetDefault) => ReferentialAction::SetDefault,
        };
        Ok(ConstraintKind::ForeignKey {
            columns,
            references,
            referenced,
            on_delete: action(&key.on_delete),
            on_update: action(&key.on_update),
        })
    }
}

/// The columns of a table that the text of one of its CHECKs mentions.
pub(crate) fn check_columns(table: &TableDef, sql: &str) -> Vec<ColumnId> {
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).and_then(|mut p| p.parse_expr());
    let names = parsed.map(|expr| mentioned_columns(&expr)).unwrap_or_default();
    table.columns.iter().filter(|c| names.contains(&c.name)).map(|c| c.id).collect()
}

/// Column names that an expression mentions.
fn mentioned_columns(expr: &Expr) -> Vec<String> {
    let mut names = vec![];
    let _: std::ops::ControlFlow<()> = ast::visit_expressions(expr, |e| {
        if let Expr::Identifier(ident) = e {
            let name = fold(ident);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        std::ops::ControlFlow::Continue(())
    });
    names
}
