//! Functions of sequences: `nextval` and its kind.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::prelude::SessionContext;
use quire_kit::task;
use quire_types::TableId;

use crate::SqlError;
use crate::catalog::ScopeCell;
use crate::names::Resolver;
use crate::regtypes::object_name;
use crate::sequences::sequence_named;
use crate::session_functions::{argument, flag, register_function, text_of};
use crate::system::quoted;

pub(crate) fn register(context: &SessionContext, cell: &Arc<ScopeCell>) {
    let add = |name, returns, body| register_function(context, cell, name, returns, body);
    add("nextval", DataType::Int64, |cell, args, rows| {
        let ids = sequences(cell, args)?;
        if let Some(first) = ids.first().copied().flatten()
            && ids.iter().all(|id| *id == Some(first))
        {
            return Ok(Arc::new(Int64Array::from(task::wait(cell.next_values(first, rows))?)));
        }
        each(ids, |id, _| cell.next_value(id))
    });
    add("currval", DataType::Int64, |cell, args, _| each(sequences(cell, args)?, |id, _| cell.current_value(id)));
    add("setval", DataType::Int64, |cell, args, _| {
        let values = cast(argument(args, 1)?, &DataType::Int64).map_err(|e| SqlError::new("42883", e.to_string()))?;
        let values = values.as_primitive::<Int64Type>();
        let mut out = vec![];
        for (row, id) in sequences(cell, args)?.into_iter().enumerate() {
            let Some(id) = id.filter(|_| values.is_valid(row)) else {
                out.push(None);
                continue;
            };
            cell.set_value(id, values.value(row), args.len() < 3 || flag(args, 2, row))?;
            out.push(Some(values.value(row)));
        }
        Ok(Arc::new(Int64Array::from(out)))
    });
    add("lastval", DataType::Int64, |cell, _, rows| Ok(Arc::new(Int64Array::from(vec![cell.last_value()?; rows]))));
    add("pg_sequence_last_value", DataType::Int64, |cell, args, _| {
        let catalog = cell.get().catalog;
        let values = sequences(cell, args)?.into_iter().map(|id| {
            let position = cell.sequence_position(catalog.sequences.get(&id?)?);
            position.called.then_some(position.last)
        });
        Ok(Arc::new(values.collect::<Int64Array>()))
    });
    add("pg_get_serial_sequence", DataType::Utf8, serial_sequence);
}

/// The sequences that the first argument names, by oid or by name.
fn sequences(cell: &ScopeCell, args: &[ArrayRef]) -> Result<Vec<Option<TableId>>, SqlError> {
    let given = argument(args, 0)?;
    if given.data_type().is_integer() {
        let oids = cast(given, &DataType::Int64).map_err(|e| SqlError::internal(e.to_string()))?;
        let oids = oids.as_primitive::<Int64Type>();
        return Ok(oids.iter().map(|oid| oid.and_then(|oid| u32::try_from(oid).ok()).map(TableId)).collect());
    }
    let names = text_of(given)?;
    let (catalog, path) = (cell.get().catalog, cell.settings().lock().search_path());
    let mut ids = vec![];
    for name in names.as_string::<i32>() {
        ids.push(name.map(|name| sequence_named(name, &catalog, &path).map(|s| s.id)).transpose()?);
    }
    Ok(ids)
}

fn each(ids: Vec<Option<TableId>>, of: impl Fn(TableId, usize) -> Result<i64, SqlError>) -> Result<ArrayRef, SqlError> {
    let values = ids.into_iter().enumerate().map(|(row, id)| id.map(|id| of(id, row)).transpose());
    Ok(Arc::new(Int64Array::from(values.collect::<Result<Vec<_>, _>>()?)))
}

/// `pg_get_serial_sequence(table, column)`: the sequence that the column owns.
fn serial_sequence(cell: &ScopeCell, args: &[ArrayRef], _: usize) -> Result<ArrayRef, SqlError> {
    let (tables, columns) = (text_of(argument(args, 0)?)?, text_of(argument(args, 1)?)?);
    let (catalog, path) = (cell.get().catalog, cell.settings().lock().search_path());
    let resolver = Resolver { catalog: &catalog, search_path: &path };
    let mut out: Vec<Option<String>> = vec![];
    for (table, column) in tables.as_string::<i32>().iter().zip(columns.as_string::<i32>()) {
        let (Some(table), Some(column)) = (table, column) else {
            out.push(None);
            continue;
        };
        let table = resolver.table(&object_name(table)?)?;
        let found = table.columns.iter().find(|c| c.name == column);
        let missing = || SqlError::new("42703", format!("column \"{column}\" of relation \"{}\" does not exist", table.name));
        let column = found.ok_or_else(missing)?;
        let sequence = catalog.sequences.values().find(|s| s.owner == Some((table.id, column.id)));
        out.push(sequence.map(|s| {
            let schema = catalog.schemas.get(&s.schema).map(|s| s.name.clone()).unwrap_or_default();
            format!("{}.{}", quoted(&schema), quoted(&s.name))
        }));
    }
    Ok(Arc::new(StringArray::from(out)))
}
