//! Signatures of functions, as `pg_proc` has them.

use std::collections::HashMap;
use std::sync::LazyLock;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Int16Type, Int64Type};
use arrow::record_batch::RecordBatch;
use quire_types::Catalog;

use super::oids::quoted;
use super::types::format_type;
use super::{fixed, relations};

struct Function {
    returns: i64,
    returns_set: bool,
    is_procedure: bool,
    arguments: Vec<Argument>,
}

struct Argument {
    /// `i`, `o`, `b`, `v` or `t`, as in `pg_proc.proargmodes`.
    mode: String,
    name: String,
    ty: i64,
}

static FUNCTIONS: LazyLock<HashMap<i64, Function>> = LazyLock::new(|| {
    let batch = relations::find("pg_catalog", "pg_proc").and_then(|r| fixed::batch(r).ok().flatten());
    batch.as_ref().and_then(read).unwrap_or_default()
});

fn read(batch: &RecordBatch) -> Option<HashMap<i64, Function>> {
    let oid = batch.column_by_name("oid")?.as_primitive_opt::<Int64Type>()?;
    let returns = batch.column_by_name("prorettype")?.as_primitive_opt::<Int64Type>()?;
    let returns_set = batch.column_by_name("proretset")?.as_boolean_opt()?;
    let kind = batch.column_by_name("prokind")?.as_string_opt::<i32>()?;
    let nargs = batch.column_by_name("pronargs")?.as_primitive_opt::<Int16Type>()?;
    let [inputs, all] = ["proargtypes", "proallargtypes"].map(|n| batch.column_by_name(n));
    let [modes, names] = ["proargmodes", "proargnames"].map(|n| batch.column_by_name(n));
    let mut functions = HashMap::new();
    for row in 0..batch.num_rows() {
        let types = oids_at(all?, row).or_else(|| oids_at(inputs?, row)).unwrap_or_default();
        let (modes, names) = (words_at(modes?, row), words_at(names?, row));
        let arguments = types.into_iter().enumerate().map(|(i, ty)| Argument {
            mode: modes.get(i).cloned().unwrap_or_else(|| "i".to_string()),
            name: names.get(i).cloned().unwrap_or_default(),
            ty,
        });
        let arguments: Vec<Argument> = arguments.collect();
        debug_assert!(arguments.len() >= nargs.value(row) as usize, "all arguments are listed");
        let function =
            Function { returns: returns.value(row), returns_set: returns_set.value(row), is_procedure: kind.value(row) == "p", arguments };
        functions.insert(oid.value(row), function);
    }
    Some(functions)
}

fn oids_at(column: &ArrayRef, row: usize) -> Option<Vec<i64>> {
    let list = column.as_list_opt::<i32>().filter(|l| l.is_valid(row))?.value(row);
    Some(list.as_primitive_opt::<Int64Type>()?.iter().flatten().collect())
}

fn words_at(column: &ArrayRef, row: usize) -> Vec<String> {
    let list = column.as_list_opt::<i32>().filter(|l| l.is_valid(row)).map(|l| l.value(row));
    let words = list.as_ref().and_then(|l| l.as_string_opt::<i32>());
    words.map(|w| w.iter().map(|w| w.unwrap_or_default().to_string()).collect()).unwrap_or_default()
}

fn shown(catalog: &Catalog, arguments: &[&Argument], with_modes: bool) -> String {
    let arguments = arguments.iter().map(|argument| {
        let mode = match argument.mode.as_str() {
            "o" if with_modes => "OUT ",
            "b" if with_modes => "INOUT ",
            "v" => "VARIADIC ",
            _ => "",
        };
        let name = if argument.name.is_empty() { String::new() } else { format!("{} ", quoted(&argument.name)) };
        format!("{mode}{name}{}", format_type(catalog, argument.ty, None))
    });
    arguments.collect::<Vec<_>>().join(", ")
}

/// `pg_get_function_result`.
pub(super) fn result(catalog: &Catalog, oid: i64) -> Option<String> {
    let function = FUNCTIONS.get(&oid).filter(|f| !f.is_procedure)?;
    let columns: Vec<&Argument> = function.arguments.iter().filter(|a| a.mode == "t").collect();
    if !columns.is_empty() {
        return Some(format!("TABLE({})", shown(catalog, &columns, false)));
    }
    let set = if function.returns_set { "SETOF " } else { "" };
    Some(format!("{set}{}", format_type(catalog, function.returns, None)))
}

/// `pg_get_function_arguments`. Defaults are not shown: they are kept in a form that only PostgreSQL reads.
pub(super) fn arguments(catalog: &Catalog, oid: i64) -> Option<String> {
    let function = FUNCTIONS.get(&oid)?;
    Some(shown(catalog, &function.arguments.iter().filter(|a| a.mode != "t").collect::<Vec<_>>(), true))
}

/// `pg_get_function_identity_arguments`.
pub(super) fn identity(catalog: &Catalog, oid: i64) -> Option<String> {
    let function = FUNCTIONS.get(&oid)?;
    let inputs = function.arguments.iter().filter(|a| a.mode != "t" && (a.mode != "o" || function.is_procedure));
    Some(shown(catalog, &inputs.collect::<Vec<_>>(), true))
}
