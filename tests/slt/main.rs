//! SQL behaviour. The files beside this one hold statements and the answers that PostgreSQL gives to them.
//!
//! Each file runs twice, each time on a fresh server: through the simple protocol, with rows that stay in the log, and through
//! the extended protocol, on a server that seals rows into segments as soon as it can. The answers are PostgreSQL 15's:
//! `against_postgres.py` checks that, and writes them for new statements. Where Quire differs on purpose, a record says
//! `onlyif quire` or `skipif quire`, and a comment says why; where it is only not there yet, `known_gaps.txt` says so (see `gaps`). A file goes on after a difference, so that one run shows them all.
//!
//! A row is one line, its values between ` | `. NULL is `NULL`, the empty string `(empty)`, a line break `\n`, and a value that
//! begins or ends with a blank is in double quotes. The letters after `query` are the columns' classes as the wire gives them: I
//! for integers, R for other numbers, B for boolean, T for everything else. Three commands show what rows do not:
//!
//! - `\gdesc SELECT …`: names and types of the result's columns
//! - `\notices CREATE …`: severity, SQLSTATE and text of the notices
//! - `\tag INSERT …`: the command tag
//!
//! Labels beside `quire` and `postgres`: `simple` and `extended`.

mod driver;
mod gaps;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use driver::Driver;
use quire_tests::Quire;
use quire_tests::pg::{PgError, Protocol, Session};
use sqllogictest::{Record, Runner, TestErrorKind, strict_column_validator};

/// So soon are rows sealed in the runs through the extended protocol: while the file goes on.
const SEAL_AGE: Duration = Duration::from_millis(50);

/// The list of files: a test each for each protocol.
macro_rules! files {
    ($($name:ident),* $(,)?) => {
        const FILES: &[&str] = &[$(stringify!($name)),*];

        mod simple {
            $(#[tokio::test]
            async fn $name() -> anyhow::Result<()> {
                super::run(stringify!($name), super::Protocol::Simple).await
            })*
        }

        mod extended {
            $(#[tokio::test]
            async fn $name() -> anyhow::Result<()> {
                super::run(stringify!($name), super::Protocol::Extended).await
            })*
        }
    };
}

files! {
    alter_table,
    catalog_tools,
    comments,
    constraints,
    create_table,
    deferrable,
    errors,
    foreign_keys,
    functions_arrays,
    functions_datetime,
    functions_formats,
    functions_math,
    functions_numbers,
    functions_strings,
    functions_text,
    generated_columns,
    index_scan,
    indexes,
    information_schema,
    insert,
    insert_conflict,
    insert_conflict_keys,
    locking,
    merge,
    named_columns,
    point_statements,
    psql_commands,
    returning,
    savepoints,
    schema_functions,
    schemas,
    select_aggregates,
    select_basics,
    select_in_and_exists,
    select_joins,
    select_keys_and_conditions,
    select_lists_and_laterals,
    select_namesakes,
    select_nothing_found,
    select_orders,
    select_subqueries,
    select_subqueries_further_out,
    select_windows,
    self_joins,
    sequences,
    settings,
    shared_subplans,
    temp_tables,
    transaction_time,
    transactions,
    types_boolean,
    types_bytea,
    types_casts,
    types_datetime,
    types_float,
    types_integer,
    types_interval,
    types_numeric,
    types_text,
    types_uuid_json,
    update_delete,
    update_rows,
    views,
    with_changes,
}

#[test]
fn every_file_is_in_the_list() -> Result<()> {
    let mut found = vec![];
    for entry in std::fs::read_dir(directory())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "slt") {
            found.push(path.file_stem().context("a file has a name")?.to_string_lossy().into_owned());
        }
    }
    found.sort();
    anyhow::ensure!(found == FILES, "in the directory: {found:?}");
    Ok(())
}

fn directory() -> PathBuf {
    quire_tests::paths::package().join("slt")
}

/// Runs a file to its end and fails with everything that was not as it says.
async fn run(name: &str, protocol: Protocol) -> Result<()> {
    let path = directory().join(format!("{name}.slt"));
    let text = std::fs::read_to_string(&path)?;
    let records = sqllogictest::parse_with_name(&text, path.display().to_string())?;
    let quire = match protocol {
        Protocol::Simple => Quire::dev().await?,
        Protocol::Extended => Quire::builder().seal_rows(1).seal_age(SEAL_AGE).start().await?,
    };
    let address = quire.address().to_string();
    let mut runner = Runner::new(|| {
        let address = address.clone();
        async move { Ok::<_, PgError>(Driver { session: Session::open(&address).await?, protocol }) }
    });
    runner.add_label(protocol.label());
    // To the letter: no folding of blanks.
    runner.with_normalizer(|line| line.clone());
    runner.with_column_validator(strict_column_validator);

    let mut tried = 0;
    let mut differences = vec![];
    let mut differing: Vec<u32> = vec![];
    for record in records {
        tried += usize::from(matches!(record, Record::Statement { .. } | Record::Query { .. }));
        if let Err(error) = runner.run_async(record).await {
            let difference = format!("{}\n{}", error.location(), told(&error.kind()));
            differing.push(error.location().line());
            let lost = difference.contains("connection: ");
            differences.push(difference);
            if lost {
                differences.push("the connection is lost, the rest of the file was not run".into());
                break;
            }
        }
    }
    let (differences, healed) = gaps::compare(&directory(), name, protocol.label(), &differing, differences)?;
    if !healed.is_empty() {
        bail!("{name}.slt: these records do not differ any more, take them out of known_gaps.txt: {}", healed.join(", "));
    }
    if !differences.is_empty() {
        // Said before the server is dropped: a bad line in its log panics there, and would be all that one sees.
        eprintln!("{}\n", differences.join("\n\n"));
        bail!("{} of {tried} records of {name}.slt differ", differences.len());
    }
    Ok(())
}

/// A difference: the statement, what was expected, what came.
fn told(kind: &TestErrorKind) -> String {
    match kind {
        TestErrorKind::QueryResultMismatch { sql, expected, actual } => format!("{sql}\nexpected:\n{expected}\ngot:\n{actual}"),
        TestErrorKind::QueryResultColumnsMismatch { sql, expected, actual } => {
            format!("{sql}\nexpected columns: {expected}\ngot columns: {actual}")
        }
        other => other.display(false).to_string(),
    }
}
