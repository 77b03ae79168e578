//! Functions of Postgres that look at the session or its catalog.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;
use quire_types::{Catalog, ColumnId, ConstraintKind, ReferentialAction, TableDef};

use crate::catalog::ScopeCell;
use crate::engine::SUPERUSER;
use crate::system::{OWNER, constraint_oid, index_oid, quoted};

/// From an oid to text, by the catalog.
type Describe = fn(&Catalog, i64) -> Option<String>;

pub(crate) fn register(context: &SessionContext, cell: &Arc<ScopeCell>) {
    let functions: [(&'static str, Describe); 7] = [
        ("pg_get_userbyid", role_name),
        ("pg_get_constraintdef", constraint_definition),
        ("pg_get_indexdef", index_definition),
        ("pg_get_viewdef", view_definition),
        ("obj_description", |_, _| None),
        ("col_description", |_, _| None),
        ("shobj_description", |_, _| None),
    ];
    for (name, describe) in functions {
        context.register_udf(ScalarUDF::from(ByOid {
            name,
            describe,
            cell: cell.clone(),
            signature: Signature::variadic_any(Volatility::Stable),
        }));
    }
}

/// A function of an oid (and options that are ignored).
struct ByOid {
    name: &'static str,
    describe: Describe,
    cell: Arc<ScopeCell>,
    signature: Signature,
}

impl fmt::Debug for ByOid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for ByOid {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for ByOid {}

impl std::hash::Hash for ByOid {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for ByOid {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let oids = cast(&arrays[0], &DataType::Int64)?;
        let oids = oids.as_primitive::<Int64Type>();
        let catalog = self.cell.get().catalog;
        // The second argument asks for psql's form, with no more parentheses than needed.
        let pretty = arrays.get(1).and_then(|a| a.as_boolean_opt());
        let pretty = |row: usize| pretty.is_some_and(|p| p.is_valid(row) && p.value(row));
        let text: StringArray = oids
            .iter()
            .enumerate()
            .map(|(row, oid)| {
                let text = (self.describe)(&catalog, oid?)?;
                Some(match text.strip_prefix("CHECK ((").and_then(|t| t.strip_suffix("))")) {
                    Some(inner) if pretty(row) => format!("CHECK ({inner})"),
                    _ => text,
                })
            })
            .collect();
        debug_assert_eq!(text.len(), oids.len());
        Ok(ColumnarValue::Array(Arc::new(text) as ArrayRef))
    }
}

fn column_list(table: &TableDef, columns: &[ColumnId]) -> String {
    let names: Vec<String> = columns.iter().filter_map(|id| table.column(*id)).map(|c| quoted(&c.name)).collect();
    names.join(", ")
}

fn constraint_definition(catalog: &Catalog, oid: i64) -> Option<String> {
    for table in catalog.tables.values() {
        for (ordinal, constraint) in table.constraints.iter().enumerate() {
            if i64::from(constraint_oid(table, ordinal)) != oid {
                continue;
            }
            return Some(match &constraint.kind {
                ConstraintKind::PrimaryKey(columns) => format!("PRIMARY KEY ({})", column_list(table, columns)),
                ConstraintKind::Unique(columns) => format!("UNIQUE ({})", column_list(table, columns)),
                ConstraintKind::Check(sql) => format!("CHECK (({sql}))"),
                ConstraintKind::ForeignKey { columns, references, referenced, on_delete, on_update } => {
                    let parent = catalog.tables.get(references);
                    let (name, keys) =
                        parent.map_or_else(|| ("?".into(), String::new()), |p| (quoted(&p.name), column_list(p, referenced)));
                    let on = |event: &str, action: ReferentialAction| match action {
                        ReferentialAction::NoAction => String::new(),
                        ReferentialAction::Restrict => format!(" ON {event} RESTRICT"),
                        ReferentialAction::Cascade => format!(" ON {event} CASCADE"),
                        ReferentialAction::SetNull => format!(" ON {event} SET NULL"),
                        ReferentialAction::SetDefault => format!(" ON {event} SET DEFAULT"),
                    };
                    let columns = column_list(table, columns);
                    format!("FOREIGN KEY ({columns}) REFERENCES {name}({keys}){}{}", on("UPDATE", *on_update), on("DELETE", *on_delete))
                }
            });
        }
    }
    None
}

pub(crate) fn index_definition(catalog: &Catalog, oid: i64) -> Option<String> {
    for table in catalog.tables.values() {
        for (ordinal, name, columns) in table.unique_keys() {
            if i64::from(index_oid(table, ordinal as usize)) == oid {
                let schema = catalog.schemas.get(&table.schema).map(|s| quoted(&s.name)).unwrap_or_default();
                let columns = column_list(table, columns);
                return Some(format!("CREATE UNIQUE INDEX {} ON {schema}.{} USING btree ({columns})", quoted(name), quoted(&table.name)));
            }
        }
    }
    None
}

fn role_name(_: &Catalog, oid: i64) -> Option<String> {
    Some(if oid == i64::from(OWNER) { SUPERUSER.to_string() } else { format!("unknown (OID={oid})") })
}

fn view_definition(catalog: &Catalog, oid: i64) -> Option<String> {
    catalog.views.values().find(|v| i64::from(v.id.0) == oid).map(|v| v.sql.clone())
}
