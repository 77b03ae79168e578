//! Rows that do not depend on what users define (types, functions, operators, …), brought from the library's tables to PostgreSQL
//! 15's columns.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListBuilder, StringBuilder, new_null_array};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Int32Type};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion_pg_catalog::pg_catalog::{ArrowTable, PgCatalogStaticTables};
use parking_lot::Mutex;

use super::PG_CATALOG;
use super::relations::Relation;

/// The library's rows as the relation's columns; `None` for relations that have only rows of ours.
pub(crate) fn batch(relation: &'static Relation) -> Result<Option<RecordBatch>> {
    static MADE: LazyLock<Mutex<HashMap<&'static str, RecordBatch>>> = LazyLock::new(Mutex::default);
    if relation.schema != "pg_catalog" {
        return Ok(None);
    }
    if let Some(made) = MADE.lock().get(relation.name) {
        return Ok(Some(made.clone()));
    }
    let Some(table) = table(relation.name)? else { return Ok(None) };
    let made = brought(relation, &table)?;
    MADE.lock().insert(relation.name, made.clone());
    Ok(Some(made))
}

fn table(name: &str) -> Result<Option<Arc<ArrowTable>>> {
    static TABLES: LazyLock<std::result::Result<PgCatalogStaticTables, String>> =
        LazyLock::new(|| PgCatalogStaticTables::try_new().map_err(|e| e.to_string()));
    let all = TABLES.as_ref().map_err(|e| datafusion::error::DataFusionError::Internal(e.clone()))?;
    Ok(Some(
        match name {
            "pg_aggregate" => &all.pg_aggregate,
            "pg_am" => &all.pg_am,
            "pg_amop" => &all.pg_amop,
            "pg_amproc" => &all.pg_amproc,
            "pg_cast" => &all.pg_cast,
            "pg_collation" => &all.pg_collation,
            "pg_conversion" => &all.pg_conversion,
            "pg_description" => &all.pg_description,
            "pg_language" => &all.pg_language,
            "pg_opclass" => &all.pg_opclass,
            "pg_operator" => &all.pg_operator,
            "pg_opfamily" => &all.pg_opfamily,
            "pg_proc" => &all.pg_proc,
            "pg_range" => &all.pg_range,
            "pg_tablespace" => &all.pg_tablespace,
            "pg_ts_config" => &all.pg_ts_config,
            "pg_ts_dict" => &all.pg_ts_dict,
            "pg_ts_parser" => &all.pg_ts_parser,
            "pg_ts_template" => &all.pg_ts_template,
            "pg_type" => &all.pg_type,
            _ => return Ok(None),
        }
        .clone(),
    ))
}

fn brought(relation: &Relation, table: &ArrowTable) -> Result<RecordBatch> {
    let given = concat_batches(&table.schema(), table.data())?;
    let schema = relation.arrow();
    let columns = relation.columns.iter().zip(schema.fields()).map(|(column, field)| match given.column_by_name(column.name) {
        Some(array) => converted(array, field.data_type()),
        None => Ok(new_null_array(field.data_type(), given.num_rows())),
    });
    let batch = RecordBatch::try_new(schema.clone(), columns.collect::<Result<Vec<_>>>()?)?;
    Ok(filter_record_batch(&batch, &kept(&given)?)?)
}

/// What belongs to schemas or languages that are not here is left out.
fn kept(given: &RecordBatch) -> Result<BooleanArray> {
    let namespace = given.schema().fields().iter().position(|f| f.name().ends_with("namespace"));
    let namespace = namespace.map(|i| cast(given.column(i), &DataType::Int32)).transpose()?;
    let language = given.column_by_name("lanname").map(|names| cast(names, &DataType::Utf8)).transpose()?;
    let keep = (0..given.num_rows()).map(|row| {
        let ours = namespace.as_ref().is_none_or(|n| n.as_primitive::<Int32Type>().value(row) == PG_CATALOG.0 as i32);
        let known = language.as_ref().is_none_or(|l| l.as_string::<i32>().value(row) != "plpgsql");
        Some(ours && known)
    });
    Ok(keep.collect())
}

fn converted(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    match (array.data_type(), wanted) {
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, DataType::List(item)) => {
            // Vectors are `1 2`, arrays `{1,2}`.
            let texts = cast(array, &DataType::Utf8)?;
            let mut lists = ListBuilder::new(StringBuilder::new());
            for text in texts.as_string::<i32>() {
                let items = text.map(|t| {
                    let items = t.trim_matches(['{', '}']).split([' ', ',']).filter(|i| !i.is_empty());
                    items.map(|i| Some(i.trim_matches('"').to_string())).collect::<Vec<_>>()
                });
                match items {
                    Some(items) => lists.append_value(items),
                    None => lists.append_null(),
                }
            }
            Ok(cast(&lists.finish(), &DataType::List(item.clone()))?)
        }
        _ if arrow::compute::can_cast_types(array.data_type(), wanted) => Ok(cast(array, wanted)?),
        _ => Ok(new_null_array(wanted, array.len())),
    }
}
