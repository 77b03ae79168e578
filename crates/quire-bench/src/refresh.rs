//! `tpch refresh`: the refresh functions (clauses 2.6 and 2.7), set by set, to be run beside the queries or alone. RF1 inserts new orders
//! with their lines, RF2 deletes old ones with theirs: a thousandth of the base each, so the database keeps its size.
//!
//! An order and its lines come and go in one transaction, as the specification wants it. A transaction that could not be
//! serialized (40001) is run again; any other error ends the run. A set runs once: its keys are taken after RF1 and gone after RF2.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use comfy_table::{CellAlignment, Table as Grid, presets};
use quire_kit::Backoff;
use quire_kit::clock::now;
use serde::Serialize;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};
use tpchgen::generators::{LineItem, Order};

use crate::generate::{self, parse_scale};
use crate::machine::Machine;
use crate::run::scale_of;
use crate::server::{Target, execute, explain, fetch_one};
use crate::sets::{BASE_KEYS, KEY_PERIOD, NewOrder, RefreshSet, SCALE_MIN, Sets, parse_sets};

/// Orders of one transaction: a whole set at scale 1, and with their lines some 7,500 rows, which a server holds until it commits.
const TRANSACTION_ORDERS: usize = 1500;
/// Rows of one INSERT: enough that the way there costs nothing, few enough for any server's parser.
const INSERT_ROWS: usize = 500;
/// Tries of one transaction. With the waits in between they take some seconds, longer than two refreshes stay in each other's way.
const TRIES_MAX: u64 = 20;
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// `refresh`'s settings.
#[derive(Debug, clap::Args)]
pub struct RefreshArgs {
    #[command(flatten)]
    target: Target,
    /// Scale factor of the data; found out from the tables when not given
    #[arg(long, value_parser = parse_scale)]
    scale: Option<f64>,
    /// Refresh sets to run, from 1 to 1000: 7, or 1-20; each can be run once after a load
    #[arg(long, value_name = "FROM-TO", value_parser = parse_sets)]
    sets: Sets,
    /// RF1 and RF2 in one transaction: the number of orders is then the same in every snapshot
    #[arg(long)]
    one_transaction: bool,
    /// Only this one of the two: a power test has its queries between them
    #[arg(long, value_enum, conflicts_with = "one_transaction")]
    only: Option<Function>,
    /// Write the measurement here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A refresh function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Function {
    /// New orders
    Rf1,
    /// Old orders go
    Rf2,
}

pub(crate) async fn refresh(args: RefreshArgs) -> anyhow::Result<ExitCode> {
    let prepared = quire_kit::task::spawn("prepare", quire_kit::task::blocking(generate::prepare));
    let client = args.target.connect().await?;
    let version = fetch_one(&client, "SELECT version()").await?.unwrap_or_default();
    let scale = scale_of(&client, args.scale).await?;
    ensure!(scale >= SCALE_MIN, "at scale {scale} a refresh set has no orders: they are a thousandth of all");
    prepared.await?;

    let mut sets = vec![];
    for number in args.sets.numbers() {
        let set = refresh_set(&client, scale, number, &args).await;
        let set = set.with_context(|| format!("refresh set {number}"))?;
        eprintln!("{}", line(&set));
        sets.push(set);
    }

    println!("{}", grid(&sets));
    println!("TPC-H refresh functions at scale {scale} in {} on {version}", args.target.shown());
    if let Some(path) = &args.json {
        let record = RefreshRecord { machine: Machine::this(), server: version, scale, one_transaction: args.one_transaction, sets };
        std::fs::write(path, serde_json::to_string_pretty(&record)? + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Serialize)]
struct RefreshRecord {
    machine: Machine,
    server: String,
    scale: f64,
    one_transaction: bool,
    sets: Vec<SetRecord>,
}

/// How one set went.
#[derive(Debug, Default, Serialize)]
struct SetRecord {
    set: u16,
    rf1: Rows,
    rf2: Rows,
    /// From the first BEGIN to the answer to the last COMMIT, without making the statements.
    #[serde(skip_serializing_if = "Option::is_none")]
    rf1_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rf2_ms: Option<f64>,
    /// In the place of the two when they are one transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    both_ms: Option<f64>,
    /// Transactions that had to be run again, each time.
    retries: u64,
}

/// Rows inserted or deleted.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Rows {
    orders: u64,
    lines: u64,
}

async fn refresh_set(client: &Client, scale: f64, number: u16, args: &RefreshArgs) -> anyhow::Result<SetRecord> {
    let set = RefreshSet::new(scale, number);
    let (mut new_orders, old_keys) = (set.new_orders(), set.old_keys());
    let mut record = SetRecord { set: number, ..SetRecord::default() };
    // there are as many new orders as old ones, so the pieces of the one are those of the other
    let pieces = || old_keys.chunks(TRANSACTION_ORDERS);
    if args.one_transaction {
        for old in pieces() {
            let new: Vec<NewOrder> = new_orders.by_ref().take(old.len()).collect();
            let mut statements = inserts(&new);
            statements.extend(deletes(old));
            let ms = transact(client, &statements, &mut record).await?;
            *record.both_ms.get_or_insert(0.0) += ms;
        }
        return Ok(record);
    }
    if args.only != Some(Function::Rf2) {
        for old in pieces() {
            let new: Vec<NewOrder> = new_orders.by_ref().take(old.len()).collect();
            let ms = transact(client, &inserts(&new), &mut record).await.context("RF1")?;
            *record.rf1_ms.get_or_insert(0.0) += ms;
        }
    }
    if args.only != Some(Function::Rf1) {
        for old in pieces() {
            let ms = transact(client, &deletes(old), &mut record).await.context("RF2")?;
            *record.rf2_ms.get_or_insert(0.0) += ms;
        }
    }
    Ok(record)
}

/// A statement of a refresh function.
#[derive(Debug)]
struct Statement {
    step: Step,
    sql: String,
    /// Rows that it must insert or delete, where that is known.
    rows: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    NewOrders,
    NewLines,
    OldLines,
    OldOrders,
}

/// RF1 of some orders: each before its lines, for the foreign key.
fn inserts(new: &[NewOrder]) -> Vec<Statement> {
    let orders: Vec<String> = new.iter().map(|(order, _)| order_values(order)).collect();
    let lines: Vec<String> = new.iter().flat_map(|(_, lines)| lines).map(line_values).collect();
    let insert = |step, table: &str, rows: &[String]| {
        let sql = format!("INSERT INTO {table} VALUES {}", rows.join(", "));
        Statement { step, sql, rows: Some(rows.len() as u64) }
    };
    let orders = orders.chunks(INSERT_ROWS).map(|rows| insert(Step::NewOrders, "orders", rows));
    let lines = lines.chunks(INSERT_ROWS).map(|rows| insert(Step::NewLines, "lineitem", rows));
    orders.chain(lines).collect()
}

/// RF2 of some orders, whose keys follow each other in the base: each after its lines. New orders have keys in between, which stay.
fn deletes(keys: &[i64]) -> Vec<Statement> {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return vec![] };
    let delete = |step, table: &str, key: &str, rows| {
        let sql = format!("DELETE FROM {table} WHERE {key} BETWEEN {first} AND {last} AND {key} % {KEY_PERIOD} < {BASE_KEYS}");
        Statement { step, sql, rows }
    };
    let lines = delete(Step::OldLines, "lineitem", "l_orderkey", None);
    let orders = delete(Step::OldOrders, "orders", "o_orderkey", Some(keys.len() as u64));
    vec![lines, orders]
}

fn order_values(order: &Order<'_>) -> String {
    let Order { o_orderkey, o_custkey, o_orderstatus, o_totalprice, o_orderdate, o_orderpriority, o_clerk, o_shippriority, o_comment } =
        order;
    let o_comment = escaped(o_comment);
    format!(
        "({o_orderkey}, {o_custkey}, '{o_orderstatus}', {o_totalprice}, '{o_orderdate}', '{o_orderpriority}', '{o_clerk}', \
         {o_shippriority}, '{o_comment}')"
    )
}

fn line_values(line: &LineItem<'_>) -> String {
    let LineItem { l_orderkey, l_partkey, l_suppkey, l_linenumber, l_quantity, l_extendedprice, l_discount, l_tax, .. } = line;
    let LineItem { l_returnflag, l_linestatus, l_shipdate, l_commitdate, l_receiptdate, l_shipinstruct, l_shipmode, l_comment, .. } = line;
    let l_comment = escaped(l_comment);
    format!(
        "({l_orderkey}, {l_partkey}, {l_suppkey}, {l_linenumber}, {l_quantity}, {l_extendedprice}, {l_discount}, {l_tax}, \
         '{l_returnflag}', '{l_linestatus}', '{l_shipdate}', '{l_commitdate}', '{l_receiptdate}', '{l_shipinstruct}', '{l_shipmode}', \
         '{l_comment}')"
    )
}

/// A string as it stands between quotes.
fn escaped(text: &str) -> String {
    text.replace('\'', "''")
}

/// Runs one transaction until it commits, notes what it did, and gives the time of it all in milliseconds.
async fn transact(client: &Client, statements: &[Statement], record: &mut SetRecord) -> anyhow::Result<f64> {
    let started = now();
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    for _ in 0..TRIES_MAX {
        match attempt(client, statements).await {
            Ok(done) => {
                for (statement, rows) in statements.iter().zip(done) {
                    *record.counter(statement.step) += rows;
                }
                return Ok(started.elapsed().as_secs_f64() * 1e3);
            }
            Err(error) => match error.downcast::<tokio_postgres::Error>() {
                Ok(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {
                    record.retries += 1;
                    // nothing to roll back is fine: it was COMMIT that failed
                    execute(client, "ROLLBACK").await?;
                    backoff.wait().await;
                }
                Ok(error) => return Err(explain(error)),
                Err(error) => return Err(error),
            },
        }
    }
    bail!("a transaction could not be serialized in {TRIES_MAX} tries")
}

/// One try: the rows of each statement, or why it did not commit. The driver's errors are as they came.
async fn attempt(client: &Client, statements: &[Statement]) -> anyhow::Result<Vec<u64>> {
    let mut done = Vec::with_capacity(statements.len());
    client.batch_execute("BEGIN").await?;
    for Statement { step, sql, rows } in statements {
        let messages = client.simple_query(sql).await?;
        let counts = messages.iter().filter_map(|m| if let SimpleQueryMessage::CommandComplete(rows) = m { Some(rows) } else { None });
        let counted: u64 = counts.sum();
        if let Some(expected) = rows {
            ensure!(counted == *expected, "{step:?}: {counted} rows instead of {expected}; has this set been run before?");
        }
        done.push(counted);
    }
    client.batch_execute("COMMIT").await?;
    Ok(done)
}

impl SetRecord {
    fn counter(&mut self, step: Step) -> &mut u64 {
        match step {
            Step::NewOrders => &mut self.rf1.orders,
            Step::NewLines => &mut self.rf1.lines,
            Step::OldOrders => &mut self.rf2.orders,
            Step::OldLines => &mut self.rf2.lines,
        }
    }
}

fn line(set: &SetRecord) -> String {
    let times = [("RF1", set.rf1_ms), ("RF2", set.rf2_ms), ("both", set.both_ms)];
    let times: Vec<String> = times.iter().filter_map(|(name, ms)| ms.map(|ms| format!("{name} {ms:.1} ms"))).collect();
    let (rf1, rf2, times) = (set.rf1, set.rf2, times.join(", "));
    format!(
        "set {}: {} orders and {} lines inserted, {} and {} deleted, {times}, {} retries",
        set.set, rf1.orders, rf1.lines, rf2.orders, rf2.lines, set.retries
    )
}

fn grid(sets: &[SetRecord]) -> Grid {
    let mut grid = Grid::new();
    let header = ["set", "new orders", "new lines", "RF1 ms", "old orders", "old lines", "RF2 ms", "both ms", "retries"];
    grid.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    for set in sets {
        let (rf1, rf2) = (set.rf1, set.rf2);
        grid.add_row([
            set.set.to_string(),
            rf1.orders.to_string(),
            rf1.lines.to_string(),
            ms(set.rf1_ms),
            rf2.orders.to_string(),
            rf2.lines.to_string(),
            ms(set.rf2_ms),
            ms(set.both_ms),
            set.retries.to_string(),
        ]);
    }
    for column in 0..9 {
        if let Some(column) = grid.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    grid
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_a_few_statements_in_the_order_of_the_foreign_key() {
        let set = RefreshSet::new(1.0, 3);
        let new: Vec<NewOrder> = set.new_orders().collect();
        let mut statements = inserts(&new);
        statements.extend(deletes(&set.old_keys()));
        let lines = new.iter().map(|(_, lines)| lines.len()).sum::<usize>();
        let of = |prefix: &str| statements.iter().filter(|s| s.sql.starts_with(prefix)).map(|s| s.rows).collect::<Vec<_>>();
        assert_eq!(of("INSERT INTO orders VALUES ("), [Some(500); 3]);
        assert_eq!(of("INSERT INTO lineitem VALUES (").iter().map(|rows| rows.unwrap()).sum::<u64>(), lines as u64);
        assert_eq!(of("DELETE"), [None, Some(1500)]);
        let position = |prefix: &str| statements.iter().position(|s| s.sql.starts_with(prefix)).unwrap();
        assert!(position("INSERT INTO orders") < position("INSERT INTO lineitem"));
        assert!(position("DELETE FROM lineitem") < position("DELETE FROM orders"));
        // the third thousandth of 1,500,000: orders 3001 to 4500
        let last = &statements.last().unwrap().sql;
        assert_eq!(last, "DELETE FROM orders WHERE o_orderkey BETWEEN 12001 AND 17988 AND o_orderkey % 32 < 8");
    }

    #[test]
    fn a_row_is_written_as_its_columns_stand() {
        let (mut order, lines) = RefreshSet::new(0.01, 1).new_orders().next().unwrap();
        order.o_comment = "the packages' end";
        let unquoted = |values: String| {
            let values = values.strip_prefix('(').unwrap().strip_suffix(')').unwrap().replace("''", "\"").replace('\'', "");
            values.replace('"', "'").split(", ").map(str::to_owned).collect::<Vec<_>>().join("|")
        };
        assert_eq!(format!("{}|", unquoted(order_values(&order))), order.to_string());
        let line = lines.into_iter().next().unwrap();
        let line = LineItem { l_comment: "slyly", ..line };
        assert_eq!(format!("{}|", unquoted(line_values(&line))), line.to_string());
    }
}
