//! `tpch run`: the 22 queries, timed from sending the statement to the last row, each answer checked.

use std::io::IsTerminal as _;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use comfy_table::{CellAlignment, Table as Grid, presets};
use quire_kit::clock::{now, timeout};
use tokio_postgres::{Client, NoTls};

use crate::answers::{self, Verdict};
use crate::generate::parse_scale;
use crate::load::short_name;
use crate::moved::{Counted, MetricsUrl};
use crate::queries::{QUERIES, Query};
use crate::record::{AnswerRecord, MovedRecord, QueryRecord, Record, RunRecord, median};
use crate::server::{Target, TextRows, execute, fetch, fetch_one};

/// How long a cancelled query may take to end before its connection is given up.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// `run`'s settings.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    target: Target,
    /// Scale factor of the data; found out from the tables when not given
    #[arg(long, value_parser = parse_scale)]
    scale: Option<f64>,
    /// Runs of each query that do not count
    #[arg(long, default_value_t = 1)]
    warmup: usize,
    /// Runs of each query that count
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// Only these queries: 1,6,14
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=22))]
    queries: Vec<u8>,
    /// Seconds after which a query is cancelled and counts as failed
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Run all queries in one REPEATABLE READ transaction: the answers are those of its snapshot, whatever others write meanwhile
    #[arg(long)]
    one_snapshot: bool,
    /// What the report calls this server
    #[arg(long)]
    name: Option<String>,
    /// Metrics of the server's processes: http://host:port/metrics,…; then it is recorded how many bytes each query moved from storage
    #[arg(long, value_name = "URL", value_delimiter = ',', value_parser = MetricsUrl::parse)]
    metrics: Vec<MetricsUrl>,
    /// Write the measurement here, for `report`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the report here, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(crate) async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let client = args.target.connect().await?;
    let version = fetch_one(&client, "SELECT version()").await?.unwrap_or_default();
    if args.one_snapshot {
        execute(&client, "BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    }
    // the first statement of the transaction, if it is one: it takes the snapshot
    let scale = scale_of(&client, args.scale).await?;
    println!("TPC-H at scale {scale} in {} on {version}", args.target.shown());

    let mut runner = Runner {
        target: args.target.clone(),
        client: Some(client),
        one_snapshot: args.one_snapshot,
        scale,
        warmup: args.warmup,
        repeats: usize::from(args.repeats),
        timeout: Duration::from_secs(args.timeout),
        metrics: args.metrics.clone(),
    };
    let mut record = RunRecord { warmup: runner.warmup, repeats: runner.repeats, ..RunRecord::default() };
    let chosen = QUERIES.iter().filter(|query| args.queries.is_empty() || args.queries.contains(&query.number));
    let terminal = std::io::stderr().is_terminal();
    for query in chosen {
        if terminal {
            eprint!("\rquery {} … ", query.number);
        }
        let result = runner.measured(query).await?;
        if terminal {
            eprint!("\r             \r");
        } else {
            eprintln!("{}", line(&result));
        }
        record.queries.push(result);
    }
    let medians: Vec<f64> = record.queries.iter().filter_map(|query| query.median_ms).collect();
    record.sum_ms = medians.iter().fold(0.0, |sum, median| sum + median);
    record.geomean_ms = geometric_mean(&medians);

    println!("{}", grid(&record));
    for query in &record.queries {
        if let Some(problem) = &query.problem {
            println!("query {} {}: {problem}", query.query, query.answer.word());
        }
    }
    let count = |answer| record.queries.iter().filter(|query| query.answer == answer).count();
    let (right, wrong, failed) = (count(AnswerRecord::Right), count(AnswerRecord::Wrong), count(AnswerRecord::Failed));
    let all = record.queries.len();
    println!("{right} of {all} answers right, {wrong} wrong, {failed} failed, {} unchecked", count(AnswerRecord::Unchecked));

    let name = args.name.clone().unwrap_or_else(|| short_name(&version));
    let record = Record { run: Some(record), ..Record::new(name, version, scale) };
    if let Some(path) = &args.json {
        record.save(path)?;
    }
    if let Some(path) = &args.html {
        crate::report::save(&[record], path)?;
    }
    Ok(if wrong + failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The scale of the data in the tables; it must be the one that was asked for.
pub(crate) async fn scale_of(client: &Client, asked: Option<f64>) -> anyhow::Result<f64> {
    let count = fetch_one(client, "SELECT count(*) FROM customer").await.context("has the data been loaded (tpch load)?")?;
    let customers: u64 = count.context("count(*) gave no row")?.parse().context("count(*) is not a number")?;
    match asked {
        Some(scale) if crate::schema::Table::Customer.rows_expected(scale) == customers => Ok(scale),
        Some(scale) => bail!("the customer table has {customers} rows: that is scale {}, not {scale}", customers as f64 / 150_000.0),
        None if customers == 0 => bail!("the customer table is empty: load the data first (tpch load)"),
        None => Ok(customers as f64 / 150_000.0),
    }
}

struct Runner {
    target: Target,
    /// Gone after a query that failed.
    client: Option<Client>,
    /// The client has the transaction of all queries, so no other takes its place.
    one_snapshot: bool,
    scale: f64,
    warmup: usize,
    repeats: usize,
    timeout: Duration,
    /// Where the server counts what it moves; empty when that is not asked for.
    metrics: Vec<MetricsUrl>,
}

impl Runner {
    /// All runs of one query, and what they moved. Only metrics that cannot be read are an error.
    async fn measured(&mut self, query: &Query) -> anyhow::Result<QueryRecord> {
        if self.metrics.is_empty() {
            return Ok(self.measure(query, 0..self.warmup + self.repeats).await);
        }
        let before = Counted::of(&self.metrics).await?;
        let first = self.measure(query, 0..1).await;
        let between = Counted::of(&self.metrics).await?;
        let mut result = first.clone();
        let mut later_moved = None;
        if first.problem.is_none() && self.warmup + self.repeats > 1 {
            result = self.measure(query, 1..self.warmup + self.repeats).await;
            later_moved = Some(Counted::of(&self.metrics).await?.since(&between));
        }
        let times_ms: Vec<f64> = if later_moved.is_some() { [first.times_ms, result.times_ms].concat() } else { result.times_ms };
        let median_ms = if result.answer == AnswerRecord::Failed { None } else { median(&times_ms) };
        let first_moved = Some(between.since(&before));
        Ok(QueryRecord { first_ms: first.first_ms, times_ms, median_ms, first_moved, later_moved, ..result })
    }

    /// Some of the runs of one query, the first one being number 0; the first problem ends them.
    async fn measure(&mut self, query: &Query, attempts: Range<usize>) -> QueryRecord {
        let mut result = QueryRecord {
            query: query.number,
            first_ms: None,
            median_ms: None,
            times_ms: Vec::new(),
            rows: 0,
            first_moved: None,
            later_moved: None,
            answer: AnswerRecord::Unchecked,
            problem: None,
        };
        let sql = query.sql(self.scale);
        for attempt in attempts {
            let started = now();
            let rows = match self.execute(&sql).await {
                Ok(rows) => rows,
                Err(error) => {
                    result.answer = AnswerRecord::Failed;
                    result.problem = Some(format!("{error:#}"));
                    return result;
                }
            };
            let elapsed_ms = started.elapsed().as_secs_f64() * 1e3;
            result.first_ms.get_or_insert(elapsed_ms);
            if attempt >= self.warmup {
                result.times_ms.push(elapsed_ms);
            }
            result.rows = rows.len() as u64;
            match answers::check(query, self.scale, &rows) {
                Verdict::Right => result.answer = AnswerRecord::Right,
                Verdict::Unchecked => result.answer = AnswerRecord::Unchecked,
                Verdict::Wrong(difference) => {
                    result.answer = AnswerRecord::Wrong;
                    result.problem = Some(difference);
                    break;
                }
            }
        }
        result.median_ms = median(&result.times_ms);
        result
    }

    async fn execute(&mut self, sql: &str) -> anyhow::Result<TextRows> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None if self.one_snapshot => bail!("the snapshot ended with a query that failed"),
            None => self.target.connect().await?,
        };
        let cancel = client.cancel_token();
        let mut running = Box::pin(fetch(&client, sql));
        let result = match timeout(self.timeout, &mut running).await {
            Ok(result) => result,
            Err(_) => {
                let cancelled = timeout(CANCEL_TIMEOUT, async {
                    cancel.cancel_query(NoTls).await?;
                    // the query's own error, if it ends
                    let _ = running.await;
                    Ok::<(), tokio_postgres::Error>(())
                });
                let seconds = self.timeout.as_secs();
                return Err(match cancelled.await {
                    Ok(Ok(())) => anyhow!("cancelled after {seconds} s"),
                    _ => anyhow!("gave up after {seconds} s; the server did not obey the cancel request"),
                });
            }
        };
        drop(running);
        if result.is_ok() {
            // after an error the connection may be ending: the next query opens its own
            self.client = Some(client);
        }
        result
    }
}

fn geometric_mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    (values.iter().map(|value| value.max(1e-3).ln()).sum::<f64>() / values.len() as f64).exp()
}

fn line(query: &QueryRecord) -> String {
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} ms"));
    let (first, median, word) = (ms(query.first_ms), ms(query.median_ms), query.answer.word());
    let moved = query.first_moved.map_or_else(String::new, |moved| format!(", first moved {}", megabytes(moved.storage_bytes)));
    format!("query {:>2}: first {first}, median {median}, {} rows, {word}{moved}", query.query, query.rows)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn grid(run: &RunRecord) -> Grid {
    let mut grid = Grid::new();
    let is_counted = run.queries.iter().any(|query| query.first_moved.is_some());
    let head = ["query", "first ms", "median ms", "rows", "answer"].into_iter();
    grid.load_preset(presets::ASCII_MARKDOWN);
    grid.set_header(head.chain(if is_counted { vec!["first moved", "from objects", "later moved"] } else { vec![] }));
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    for query in &run.queries {
        let (first, median) = (ms(query.first_ms), ms(query.median_ms));
        let mut row = vec![format!("Q{}", query.query), first, median, query.rows.to_string(), query.answer.word().to_owned()];
        if is_counted {
            row.extend(moved_cells(query.first_moved, query.later_moved));
        }
        grid.add_row(row);
    }
    let first = run.queries.iter().filter_map(|query| query.first_ms).fold(0.0, |sum, first| sum + first);
    let mut sums = vec!["sum".to_owned(), format!("{first:.1}"), format!("{:.1}", run.sum_ms), String::new(), String::new()];
    if is_counted {
        sums.extend(moved_cells(run.first_moved(), run.later_moved()));
    }
    grid.add_row(sums);
    grid.add_row(["geometric mean".to_owned(), String::new(), format!("{:.1}", run.geomean_ms), String::new(), String::new()]);
    for column in [1, 2, 3, 5, 6, 7] {
        if let Some(column) = grid.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    grid
}

/// From storage at first, from the object store at first, and from storage afterwards.
fn moved_cells(first: Option<MovedRecord>, later: Option<MovedRecord>) -> [String; 3] {
    let shown = |moved: Option<u64>| moved.map_or_else(|| "-".to_owned(), megabytes);
    [shown(first.map(|m| m.storage_bytes)), shown(first.map(|m| m.object_bytes)), shown(later.map(|m| m.storage_bytes))]
}

#[cfg(test)]
mod tests {
    use super::geometric_mean;

    #[test]
    fn the_geometric_mean_is_the_nth_root_of_the_product() {
        assert!((geometric_mean(&[1.0, 100.0]) - 10.0).abs() < 1e-9);
        assert!(geometric_mean(&[]).abs() < 1e-9);
    }
}
