//! Comments: `pg_description`, `pg_shdescription`, and the functions that look them up. The system objects' are fixed rows; users' come
//! from the catalog.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use quire_types::{Catalog, CommentTarget, DEFAULT_SCHEMA};

use super::oids::{constraint_oid, index_oid};
use super::rows::{Row, count, oid, text};
use super::{DATABASE_OID, Seen, fixed, functions, relations};
use crate::SqlError;
use crate::catalog::ScopeCell;
use crate::session_functions::{argument, text_of, wrong_argument};

/// What comments are on: the catalogs' oids.
const PG_CLASS: i64 = 1259;
const PG_DATABASE: i64 = 1262;
const PG_CONSTRAINT: i64 = 2606;
const PG_NAMESPACE: i64 = 2615;

/// Where a comment belongs: catalog, object, column or 0.
type Place = (i64, i64, i64);

fn place(catalog: &Catalog, target: &CommentTarget) -> Option<Place> {
    Some(match target {
        CommentTarget::Database => (PG_DATABASE, DATABASE_OID.into(), 0),
        CommentTarget::Schema(id) => (PG_NAMESPACE, id.0.into(), 0),
        CommentTarget::Relation(id) => (PG_CLASS, id.0.into(), 0),
        CommentTarget::Column(id, column) => {
            let number = match catalog.tables.get(id) {
                Some(table) => table.columns.iter().position(|c| c.id == *column)? as i64 + 1,
                None => column.0.into(),
            };
            (PG_CLASS, id.0.into(), number)
        }
        CommentTarget::Constraint(id, name) => {
            let table = catalog.tables.get(id)?;
            let ordinal = table.constraints.iter().position(|c| c.is_constraint() && c.name == *name)?;
            (PG_CONSTRAINT, constraint_oid(table, ordinal), 0)
        }
        CommentTarget::Index(id, name) => {
            let table = catalog.tables.get(id)?;
            let (ordinal, ..) = table.indexes().find(|(_, index, _)| *index == name.as_str())?;
            (PG_CLASS, index_oid(table, ordinal as usize), 0)
        }
    })
}

fn placed(catalog: &Catalog) -> impl Iterator<Item = (Place, &Arc<str>)> {
    catalog.comments.iter().filter_map(move |(target, text)| Some((place(catalog, target)?, text)))
}

/// `pg_description`, beside its fixed rows.
pub(super) fn descriptions(catalog: &Catalog) -> Vec<Row> {
    let said = placed(catalog).filter(|((class, ..), comment)| *class != PG_DATABASE && !comment.is_empty());
    let rows = said.map(|((class, object, column), comment)| {
        Row::from([
            ("objoid", oid(object)),
            ("classoid", oid(class)),
            ("objsubid", count(column as usize)),
            ("description", text(comment.to_string())),
        ])
    });
    rows.collect()
}

/// Its fixed rows, but for the one on the schema `public` once something else was said about that.
pub(super) fn fixed_descriptions(catalog: &Catalog, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let number = |name: &str| rows.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
    let said = catalog.comments.contains_key(&CommentTarget::Schema(DEFAULT_SCHEMA.0));
    let (true, Some(objects), Some(classes)) = (said, number("objoid"), number("classoid")) else { return Ok(rows.clone()) };
    let public = (PG_NAMESPACE, i64::from(DEFAULT_SCHEMA.0.0));
    let kept: BooleanArray = (0..rows.num_rows()).map(|row| Some((classes.value(row), objects.value(row)) != public)).collect();
    filter_record_batch(&rows, &kept)
}

/// `pg_shdescription`: on what all databases share, which is the databases.
pub(super) fn shared(catalog: &Catalog) -> Vec<Row> {
    let rows = placed(catalog).filter(|((class, ..), _)| *class == PG_DATABASE).map(|((class, object, _), comment)| {
        Row::from([("objoid", oid(object)), ("classoid", oid(class)), ("description", text(comment.to_string()))])
    });
    rows.collect()
}

/// Texts by object and column, each with its catalog.
type Texts = HashMap<(i64, i64), Vec<(i64, Arc<str>)>>;

fn find(texts: &Texts, class: Option<i64>, object: i64, column: i64) -> Option<Arc<str>> {
    let found = texts.get(&(object, column))?;
    found.iter().find(|(of, _)| class.is_none_or(|class| class == *of)).map(|(_, text)| text.clone())
}

/// Comments on system objects.
fn fixed_texts() -> &'static Texts {
    static TEXTS: LazyLock<Texts> = LazyLock::new(|| {
        let batch = relations::find("pg_catalog", "pg_description").and_then(|r| fixed::batch(r).ok().flatten());
        let read = batch.as_ref().and_then(|batch| {
            let number = |name: &str| batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
            let (objects, classes) = (number("objoid")?, number("classoid")?);
            let columns = batch.column_by_name("objsubid")?.as_primitive_opt::<Int32Type>()?;
            let texts = batch.column_by_name("description")?.as_string_opt::<i32>()?;
            let mut read = Texts::new();
            for row in 0..batch.num_rows() {
                let key = (objects.value(row), i64::from(columns.value(row)));
                read.entry(key).or_default().push((classes.value(row), texts.value(row).into()));
            }
            Some(read)
        });
        read.unwrap_or_default()
    });
    &TEXTS
}

/// Comments of users, but for those on databases.
fn own_texts(catalog: &Catalog) -> Texts {
    let mut texts = Texts::new();
    for ((class, object, column), comment) in placed(catalog).filter(|((class, ..), _)| *class != PG_DATABASE) {
        texts.entry((object, column)).or_default().push((class, comment.clone()));
    }
    texts
}

/// The catalog of that name in each row of an argument; 0 for one that there is not.
fn classes(args: &[ArrayRef], position: usize, rows: usize) -> Result<Vec<Option<i64>>, SqlError> {
    let Some(names) = args.get(position).map(text_of).transpose()? else { return Ok(vec![None; rows]) };
    let class = |name: Option<&str>| name.map(|name| relations::find("pg_catalog", name).map_or(0, |r| r.oid));
    Ok(names.as_string::<i32>().iter().map(class).collect())
}

/// `obj_description(oid, catalog)`, and `obj_description(oid)`.
pub(super) fn of_object(cell: &ScopeCell, args: &[ArrayRef], rows: usize) -> Result<ArrayRef, SqlError> {
    let scope = cell.get();
    let path = cell.settings().lock().search_path();
    let objects = functions::oids(&Seen { catalog: &scope.catalog, view: &scope.view, path: &path }, argument(args, 0)?)?;
    let (classes, own) = (classes(args, 1, rows)?, own_texts(&scope.catalog));
    let texts = objects.iter().zip(classes).map(|(object, class)| {
        let object = object?;
        let found = find(&own, class, object, 0).or_else(|| find(fixed_texts(), class, object, 0));
        found.filter(|text| !text.is_empty())
    });
    Ok(Arc::new(texts.collect::<StringArray>()))
}

/// `shobj_description(oid, catalog)`.
pub(super) fn of_shared_object(cell: &ScopeCell, args: &[ArrayRef], rows: usize) -> Result<ArrayRef, SqlError> {
    let scope = cell.get();
    let objects = cast(argument(args, 0)?, &DataType::Int64).map_err(wrong_argument)?;
    let classes = classes(args, 1, rows)?;
    let own: HashMap<(Option<i64>, i64), &Arc<str>> =
        placed(&scope.catalog).map(|((class, object, _), comment)| ((Some(class), object), comment)).collect();
    let texts = objects.as_primitive::<Int64Type>().iter().zip(classes).map(|(object, class)| {
        let found = own.get(&(class, object?)).filter(|_| class == Some(PG_DATABASE))?;
        Some(found.to_string())
    });
    Ok(Arc::new(texts.collect::<StringArray>()))
}

/// `col_description(relation, number)`.
pub(super) fn of_column(cell: &ScopeCell, args: &[ArrayRef], _: usize) -> Result<ArrayRef, SqlError> {
    let scope = cell.get();
    let path = cell.settings().lock().search_path();
    let relations = functions::oids(&Seen { catalog: &scope.catalog, view: &scope.view, path: &path }, argument(args, 0)?)?;
    let numbers = cast(argument(args, 1)?, &DataType::Int64).map_err(wrong_argument)?;
    let own = own_texts(&scope.catalog);
    let texts = relations.iter().zip(numbers.as_primitive::<Int64Type>()).map(|(relation, number)| {
        let (relation, number) = (relation?, number?);
        find(&own, Some(PG_CLASS), relation, number).or_else(|| find(fixed_texts(), Some(PG_CLASS), relation, number))
    });
    Ok(Arc::new(texts.collect::<StringArray>()))
}
