//! Functions that look at the catalogs.
//!
//! What does not exist here (triggers, rules, partitions) has a definition of NULL, as in Postgres for an oid that names nothing.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListArray, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use datafusion::prelude::SessionContext;

use super::{OWNER, Seen, comments, constraints, deparse, fixed, procs, relations, sizes, types, viewdef};
use crate::catalog::ScopeCell;
use crate::engine::SUPERUSER;
use crate::session_functions::{Body, argument, flag, register_all, repeat, text_of, truths, wrong_argument};
use crate::temp::TEMP_SCHEMA;
use crate::{SqlError, regtypes};

pub(super) fn register(context: &SessionContext, cell: &Arc<ScopeCell>) {
    let numbers = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
    let oids = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
    let mut functions: Vec<(&'static str, DataType, Body)> = vec![
        ("format_type", DataType::Utf8, format_type),
        ("quire_function_name", DataType::Utf8, function_name),
        ("pg_get_userbyid", DataType::Utf8, |cell, args, _| described(cell, args, |_, oid, _| Some(role_name(oid)))),
        ("pg_get_constraintdef", DataType::Utf8, |cell, args, _| {
            described(cell, args, |seen, oid, asked| constraints::constraint_definition(seen, oid, asked.pretty))
        }),
        ("pg_get_indexdef", DataType::Utf8, |cell, args, _| {
            described(cell, args, |seen, oid, asked| constraints::index_definition(seen, oid, asked.number.unwrap_or(0), asked.pretty))
        }),
        ("pg_get_viewdef", DataType::Utf8, |cell, args, _| described(cell, args, view_definition)),
        ("pg_get_function_result", DataType::Utf8, |cell, args, _| described(cell, args, |seen, oid, _| procs::result(seen.catalog, oid))),
        ("pg_get_function_arguments", DataType::Utf8, |cell, args, _| {
            described(cell, args, |seen, oid, _| procs::arguments(seen.catalog, oid))
        }),
        ("pg_get_function_identity_arguments", DataType::Utf8, |cell, args, _| {
            described(cell, args, |seen, oid, _| procs::identity(seen.catalog, oid))
        }),
        ("pg_get_expr", DataType::Utf8, expression),
        ("obj_description", DataType::Utf8, comments::of_object),
        ("shobj_description", DataType::Utf8, comments::of_shared_object),
        ("col_description", DataType::Utf8, comments::of_column),
        ("quire_class_name", DataType::Utf8, |cell, args, _| {
            described(cell, args, |seen, oid, _| Some(if oid == 0 { "-".to_string() } else { seen.class_name(oid) }))
        }),
        ("quire_namespace_name", DataType::Utf8, |cell, args, _| {
            described(cell, args, |seen, oid, _| Some(super::namespace_by_oid(seen.catalog, oid).unwrap_or_else(|| oid.to_string())))
        }),
        ("pg_encoding_to_char", DataType::Utf8, |cell, args, _| {
            described(cell, args, |_, n, _| Some(if n == 6 { "UTF8" } else { "" }.to_string()))
        }),
        ("getdatabaseencoding", DataType::Utf8, |_, _, n| Ok(repeat(Some("UTF8"), n))),
        ("pg_char_to_encoding", DataType::Int32, encoding),
        ("pg_tablespace_location", DataType::Utf8, |_, _, n| Ok(repeat(Some(""), n))),
        ("pg_table_is_visible", DataType::Boolean, table_is_visible),
        ("pg_relation_is_updatable", DataType::Int32, updatable),
        ("pg_database_size", DataType::Int64, |cell, _, n| {
            let scope = cell.get();
            Ok(Arc::new(Int64Array::from(vec![sizes::database_bytes(&scope.catalog, &scope.view); n])))
        }),
        ("pg_indexes_size", DataType::Int64, |_, _, n| Ok(Arc::new(Int64Array::from(vec![0; n])))),
        ("pg_my_temp_schema", DataType::Int64, |cell, _, n| {
            let schema = cell.get().catalog.schemas.get(&TEMP_SCHEMA).map_or(0, |schema| i64::from(schema.id.0));
            Ok(Arc::new(Int64Array::from(vec![schema; n])))
        }),
        ("pg_is_other_temp_schema", DataType::Boolean, |_, args, _| {
            // Those of other sessions are not to be seen here.
            let schemas = argument(args, 0)?;
            let nulls = schemas.logical_nulls();
            let known = |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
            Ok(Arc::new((0..schemas.len()).map(|row| known(row).then_some(false)).collect::<BooleanArray>()))
        }),
        ("row_security_active", DataType::Boolean, |_, _, n| Ok(truths(vec![false; n]))),
        ("quire_ordinals", numbers, |_, args, _| ordinals(argument(args, 0)?, 1)),
        ("quire_expanded", expanded_type(), |_, args, _| expanded(argument(args, 0)?)),
        ("quire_no_oids", oids, |_, _, n| {
            let field = Arc::new(Field::new_list_field(DataType::Int64, true));
            let offsets = OffsetBuffer::from_lengths(vec![0; n]);
            let empty = ListArray::try_new(field, offsets, Arc::new(Int64Array::from(Vec::<i64>::new())), None);
            empty.map(|list| Arc::new(list) as ArrayRef).map_err(wrong_argument)
        }),
    ];
    for name in NOTHING {
        functions.push((name, DataType::Utf8, |_, _, n| Ok(repeat(None, n))));
    }
    for name in ALWAYS {
        functions.push((name, DataType::Boolean, |_, _, n| Ok(truths(vec![true; n]))));
    }
    for name in ["pg_table_size", "pg_relation_size", "pg_total_relation_size"] {
        functions.push((name, DataType::Int64, relation_size));
    }
    register_all(context, cell, functions);
    super::values::register(context);
}

/// Definitions of things that do not exist here.
const NOTHING: [&str; 13] = [
    "pg_get_functiondef",
    "pg_get_function_arg_default",
    "pg_get_function_sqlbody",
    "pg_get_triggerdef",
    "pg_get_ruledef",
    "pg_get_partkeydef",
    "pg_get_partition_constraintdef",
    "pg_get_statisticsobjdef",
    "pg_get_statisticsobjdef_columns",
    "pg_get_statisticsobjdef_expressions",
    "inet_client_addr",
    "inet_server_addr",
    "pg_relation_filepath",
];

/// All is visible in `pg_catalog`, and the one role may do everything.
const ALWAYS: [&str; 29] = [
    "pg_type_is_visible",
    "pg_function_is_visible",
    "pg_operator_is_visible",
    "pg_opclass_is_visible",
    "pg_opfamily_is_visible",
    "pg_collation_is_visible",
    "pg_conversion_is_visible",
    "pg_statistics_obj_is_visible",
    "pg_ts_parser_is_visible",
    "pg_ts_dict_is_visible",
    "pg_ts_template_is_visible",
    "pg_ts_config_is_visible",
    "pg_relation_is_publishable",
    "has_any_column_privilege",
    "has_column_privilege",
    "has_database_privilege",
    "has_foreign_data_wrapper_privilege",
    "has_function_privilege",
    "has_language_privilege",
    "has_parameter_privilege",
    "has_schema_privilege",
    "has_sequence_privilege",
    "has_server_privilege",
    "has_table_privilege",
    "has_tablespace_privilege",
    "has_type_privilege",
    "pg_has_role",
    "pg_column_is_updatable",
    "pg_index_column_has_property",
];

/// What is asked beside an oid: a number (of a column, a modifier), and whether the pretty form is wanted.
#[derive(Clone, Copy, Default)]
struct Asked {
    number: Option<i64>,
    pretty: bool,
}

/// A function from an oid to text. A name may stand for the oid of a relation.
fn described(cell: &ScopeCell, args: &[ArrayRef], of: fn(&Seen<'_>, i64, Asked) -> Option<String>) -> Result<ArrayRef, SqlError> {
    let scope = cell.get();
    let path = cell.settings().lock().search_path();
    let seen = Seen { catalog: &scope.catalog, view: &scope.view, path: &path };
    let oids = oids(&seen, argument(args, 0)?)?;
    let number = args.get(1).filter(|a| a.data_type().is_numeric()).map(|a| cast(a, &DataType::Int64)).transpose();
    let number = number.map_err(wrong_argument)?;
    let number = number.as_ref().map(|n| n.as_primitive::<Int64Type>());
    let text: StringArray = oids
        .iter()
        .enumerate()
        .map(|(row, oid)| {
            let number = number.filter(|n| n.is_valid(row)).map(|n| n.value(row));
            of(&seen, oid?, Asked { number, pretty: flag(args, 1, row) || flag(args, 2, row) })
        })
        .collect();
    Ok(Arc::new(text))
}

/// Numbers, or names of relations.
pub(super) fn oids(seen: &Seen<'_>, array: &ArrayRef) -> Result<Int64Array, SqlError> {
    if !matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        let numbers = cast(array, &DataType::Int64).map_err(wrong_argument)?;
        return Ok(numbers.as_primitive::<Int64Type>().clone());
    }
    let names = text_of(array)?;
    let oid = |name: Option<&str>| -> Result<Option<i64>, SqlError> {
        let Some(name) = name else { return Ok(None) };
        if let Ok(number) = name.parse() {
            return Ok(Some(number));
        }
        let parsed = regtypes::object_name(name)?;
        let found = regtypes::class_oid(&parsed, seen.catalog, seen.path)?;
        found.map(Some).ok_or_else(|| crate::names::missing_relation(&parsed))
    };
    names.as_string::<i32>().iter().map(oid).collect()
}

fn role_name(oid: i64) -> String {
    if oid == i64::from(OWNER) { SUPERUSER.to_string() } else { format!("unknown (OID={oid})") }
}

fn view_definition(seen: &Seen<'_>, oid: i64, asked: Asked) -> Option<String> {
    let view = seen.catalog.views.values().find(|v| i64::from(v.id.0) == oid)?;
    // A number is the width to wrap at, which asks for the pretty form too.
    Some(viewdef::definition(seen, view, asked.pretty || asked.number.is_some()))
}

fn format_type(cell: &ScopeCell, args: &[ArrayRef], _: usize) -> Result<ArrayRef, SqlError> {
    let catalog = cell.get().catalog;
    let number = |position: usize| -> Result<ArrayRef, SqlError> {
        let array = argument(args, position)?;
        match array.data_type() {
            DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => {
                Ok(cast(&text_of(array)?, &DataType::Int64).map_err(wrong_argument)?)
            }
            _ => cast(array, &DataType::Int64).map_err(wrong_argument),
        }
    };
    let (oids, modifiers) = (number(0)?, number(1)?);
    let pairs = oids.as_primitive::<Int64Type>().iter().zip(modifiers.as_primitive::<Int64Type>());
    Ok(Arc::new(pairs.map(|(oid, modifier)| Some(types::format_type(&catalog, oid?, modifier))).collect::<StringArray>()))
}

/// `regproc`: a function by its name or its oid, shown by name.
fn function_name(_: &ScopeCell, args: &[ArrayRef], _: usize) -> Result<ArrayRef, SqlError> {
    let given = argument(args, 0)?;
    let texts = text_of(given)?;
    let shown = texts.as_string::<i32>().iter().map(|text| {
        let text = text?;
        Some(match text.parse::<i64>() {
            Ok(0) => "-".to_string(),
            Ok(oid) => function_by_oid(oid).unwrap_or_else(|| text.to_string()),
            Err(_) => text.to_string(),
        })
    });
    Ok(Arc::new(shown.collect::<StringArray>()))
}

/// The oid of the function of that name; of several, of one of them.
pub(super) fn function_oid(name: &str) -> Option<i64> {
    static OIDS: LazyLock<HashMap<&'static str, i64>> =
        LazyLock::new(|| function_names().iter().map(|(oid, name)| (name.as_str(), *oid)).collect());
    if name == "-" { Some(0) } else { OIDS.get(name).copied() }
}

fn function_by_oid(oid: i64) -> Option<String> {
    function_names().get(&oid).cloned()
}

fn function_names() -> &'static HashMap<i64, String> {
    static NAMES: LazyLock<HashMap<i64, String>> = LazyLock::new(|| {
        let batch = relations::find("pg_catalog", "pg_proc").and_then(|r| fixed::batch(r).ok().flatten());
        let read = batch.as_ref().and_then(|batch| {
            let oids = batch.column_by_name("oid")?.as_primitive_opt::<Int64Type>()?;
            let names = batch.column_by_name("proname")?.as_string_opt::<i32>()?;
            Some((0..batch.num_rows()).map(|row| (oids.value(row), names.value(row).to_string())).collect())
        });
        read.unwrap_or_default()
    });
    &NAMES
}

/// `pg_get_expr`: the catalogs keep expressions as text already.
fn expression(_: &ScopeCell, args: &[ArrayRef], rows: usize) -> Result<ArrayRef, SqlError> {
    let Some(texts) = args.first() else { return Ok(repeat(None, rows)) };
    let texts = text_of(texts)?;
    let shown = texts.as_string::<i32>().iter().enumerate().map(|(row, text)| {
        let text = text?;
        Some(if flag(args, 2, row) { deparse::pretty(text) } else { text.to_string() })
    });
    Ok(Arc::new(shown.collect::<StringArray>()))
}

fn encoding(_: &ScopeCell, args: &[ArrayRef], _: usize) -> Result<ArrayRef, SqlError> {
    let names = text_of(argument(args, 0)?)?;
    let is_utf8 = |name: &str| name.eq_ignore_ascii_case("utf8") || name.eq_ignore_ascii_case("utf-8");
    Ok(Arc::new(names.as_string::<i32>().iter().map(|n| n.map(|n| if is_utf8(n) { 6 } else { -1 })).collect::<Int32Array>()))
}

fn table_is_visible(cell: &ScopeCell, args: &[ArrayRef], _: usize) -> Result<ArrayRef, SqlError> {
    let (catalog, path) = (cell.get().catalog, cell.settings().lock().search_path());
    let oids = cast(argument(args, 0)?, &DataType::Int64).map_err(wrong_argument)?;
    let visible = oids.as_primitive::<Int64Type>().iter().map(|oid| {
        let oid = oid?;
        if let Some(relation) = relations::all().iter().find(|r| r.oid == oid) {
            return Some(relation.schema == "pg_catalog" || path.iter().any(|s| s == relation.schema));
        }
        super::class_by_oid(&catalog, oid).map(|_| !regtypes::class_name(oid, &catalog, &path).contains('.'))
    });
    Ok(Arc::new(visible.collect::<BooleanArray>()))
}

/// Bits for INSERT, UPDATE and DELETE: all of a table, none of a view.
fn updatable(cell: &ScopeCell, args: &[ArrayRef], _: usize) -> Result<ArrayRef, SqlError> {
    let scope = cell.get();
    let oids = oids(&Seen { catalog: &scope.catalog, view: &scope.view, path: &[] }, argument(args, 0)?)?;
    let is_table = |oid: i64| scope.catalog.tables.values().any(|t| i64::from(t.id.0) == oid);
    Ok(Arc::new(oids.iter().map(|oid| Some(if is_table(oid?) { 28 } else { 0 })).collect::<Int32Array>()))
}

fn relation_size(cell: &ScopeCell, args: &[ArrayRef], _: usize) -> Result<ArrayRef, SqlError> {
    let scope = cell.get();
    let path = cell.settings().lock().search_path();
    let oids = oids(&Seen { catalog: &scope.catalog, view: &scope.view, path: &path }, argument(args, 0)?)?;
    let bytes = oids.iter().map(|oid| sizes::relation_bytes(&scope.catalog, &scope.view, oid?));
    Ok(Arc::new(bytes.collect::<Int64Array>()))
}

fn list_of(array: &ArrayRef) -> Result<&ListArray, SqlError> {
    array.as_list_opt::<i32>().ok_or_else(|| SqlError::new("42883", format!("an array is needed, not {}", array.data_type())))
}

/// `first`, `first` + 1, … for each item of a list.
pub(super) fn ordinals(array: &ArrayRef, first: i32) -> Result<ArrayRef, SqlError> {
    let list = list_of(array)?;
    let lengths: Vec<usize> = (0..list.len()).map(|row| if list.is_null(row) { 0 } else { list.value_length(row) as usize }).collect();
    let numbers: Int32Array = lengths.iter().flat_map(|length| first..first + *length as i32).collect();
    let field = Arc::new(Field::new_list_field(DataType::Int32, true));
    let made = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), Arc::new(numbers), None);
    made.map(|list| Arc::new(list) as ArrayRef).map_err(wrong_argument)
}

fn expanded_fields() -> Fields {
    Fields::from(vec![Field::new("x", DataType::Int64, true), Field::new("n", DataType::Int32, true)])
}

fn expanded_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(expanded_fields()), true)))
}

/// `information_schema._pg_expandarray`: each item with its number.
fn expanded(array: &ArrayRef) -> Result<ArrayRef, SqlError> {
    let wide = cast(array, &DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)))).map_err(wrong_argument)?;
    let numbered = ordinals(&wide, 1)?;
    let (items, numbers) = (list_of(&wide)?, list_of(&numbered)?);
    let kept: Vec<ArrayRef> = (0..items.len()).filter(|row| items.is_valid(*row)).map(|row| items.value(row)).collect();
    let kept: Vec<&dyn Array> = kept.iter().map(AsRef::as_ref).collect();
    let values = match kept.is_empty() {
        true => arrow::array::new_empty_array(&DataType::Int64),
        false => arrow::compute::concat(&kept).map_err(wrong_argument)?,
    };
    let pairs = StructArray::try_new(expanded_fields(), vec![values, numbers.values().clone()], None).map_err(wrong_argument)?;
    let DataType::List(field) = expanded_type() else { return Err(SqlError::internal("a list type is no list")) };
    let made = ListArray::try_new(field, numbers.offsets().clone(), Arc::new(pairs), None);
    made.map(|list| Arc::new(list) as ArrayRef).map_err(wrong_argument)
}
