//! `bench commits`: single-row transactions per second and their latency at several numbers of clients, beside the
//! machine's own rate of durable appends. A server that acknowledges only what is on disk cannot be much faster than
//! the disk with one client; with many it is, if it lets commits share a flush.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use comfy_table::{CellAlignment, Table as Grid, presets};
use hdrhistogram::Histogram;
use quire_kit::clock::{Instant, now};
use serde::Serialize;
use tokio_postgres::Client;

use crate::machine::Machine;
use crate::server::{Target, execute, explain, fetch_one};

/// What one append of the fsync probe writes: a page of most disks, about a log record of one commit.
const APPEND_BYTES: usize = 4096;
/// Latencies above this are recorded as this.
const LATENCY_US_MAX: u64 = 60_000_000;
const TABLE: &str = "quire_bench_commits";

/// `commits`' settings.
#[derive(Debug, clap::Args)]
pub struct CommitsArgs {
    #[command(flatten)]
    target: Target,
    /// Numbers of clients, one after the other
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64], value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: Vec<u16>,
    /// Seconds for each number of clients
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Directory in which this machine's fsync rate is measured: it should be on the server's disk
    #[arg(long, value_name = "DIR", default_value = ".")]
    fsync_dir: PathBuf,
    /// Write the measurement here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures and prints; ends with an error when an acknowledged row is missing afterwards.
pub async fn main_commits(args: CommitsArgs) -> anyhow::Result<ExitCode> {
    let client = args.target.connect().await?;
    let version = fetch_one(&client, "SELECT version()").await?.unwrap_or_default();
    let duration = Duration::from_secs(args.seconds);
    let dir = args.fsync_dir.clone();
    let fsync = quire_kit::task::blocking(move || fsync_rate(&dir, duration)).await?;

    execute(&client, &format!("DROP TABLE IF EXISTS {TABLE}")).await?;
    execute(&client, &format!("CREATE TABLE {TABLE} (client integer NOT NULL, number bigint NOT NULL, filler text NOT NULL)")).await?;
    let mut measured = vec![Measured::of("fdatasync of 4 KiB, this machine", 1, &fsync, duration)];
    let mut acknowledged = 0;
    for clients in &args.clients {
        let (histogram, elapsed) = commit_rate(&args.target, *clients, duration).await?;
        acknowledged += histogram.len();
        measured.push(Measured::of("INSERT of one row", *clients, &histogram, elapsed));
    }
    let rows = fetch_one(&client, &format!("SELECT count(*) FROM {TABLE}")).await?.unwrap_or_default();
    ensure!(rows == acknowledged.to_string(), "{acknowledged} commits were acknowledged, but the table has {rows} rows");
    execute(&client, &format!("DROP TABLE {TABLE}")).await?;

    println!("{}", grid(&measured));
    println!("{} on {version}; all {acknowledged} acknowledged rows are there", args.target.shown());
    if let Some(path) = &args.json {
        let record = CommitsRecord { machine: Machine::this(), server: version, measured };
        std::fs::write(path, serde_json::to_string_pretty(&record)? + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Serialize)]
struct CommitsRecord {
    machine: Machine,
    server: String,
    measured: Vec<Measured>,
}

#[derive(Debug, Serialize)]
struct Measured {
    what: &'static str,
    clients: u16,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl Measured {
    fn of(what: &'static str, clients: u16, latencies_us: &Histogram<u64>, elapsed: Duration) -> Measured {
        let ms = |quantile| latencies_us.value_at_quantile(quantile) as f64 / 1e3;
        Measured {
            what,
            clients,
            per_second: latencies_us.len() as f64 / elapsed.as_secs_f64(),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            max_ms: latencies_us.max() as f64 / 1e3,
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bounds are constants")
}

fn record(histogram: &mut Histogram<u64>, since: Instant) {
    histogram.saturating_record(u64::try_from(since.elapsed().as_micros()).unwrap_or(LATENCY_US_MAX).max(1));
}

/// Appends and flushes, one after the other.
fn fsync_rate(dir: &Path, duration: Duration) -> anyhow::Result<Histogram<u64>> {
    let path = dir.join(format!(".quire-bench-fsync-{}", std::process::id()));
    let mut file = OpenOptions::new()
        .create_new(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot make a file in {} (--fsync-dir)", dir.display()))?;
    let mut histogram = histogram();
    let (started, page) = (now(), [0x51; APPEND_BYTES]);
    let result = (|| {
        while started.elapsed() < duration {
            let append = now();
            file.write_all(&page)?;
            file.sync_data()?;
            record(&mut histogram, append);
        }
        std::io::Result::Ok(())
    })();
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    result.map(|()| histogram).with_context(|| format!("cannot append to {}", path.display()))
}

/// Each client inserts by its own connection as fast as it is answered.
async fn commit_rate(target: &Target, clients: u16, duration: Duration) -> anyhow::Result<(Histogram<u64>, Duration)> {
    let connections = futures::future::try_join_all((0..clients).map(|_| target.connect())).await?;
    let started = now();
    let workers = connections.iter().enumerate().map(|(index, client)| insert_until(client, index as i32, started + duration));
    let mut all = histogram();
    for latencies in futures::future::try_join_all(workers).await? {
        all.add(latencies).context("histograms of one shape add up")?;
    }
    Ok((all, started.elapsed()))
}

async fn insert_until(client: &Client, index: i32, end: Instant) -> anyhow::Result<Histogram<u64>> {
    let insert = client.prepare(&format!("INSERT INTO {TABLE} (client, number, filler) VALUES ($1, $2, $3)")).await.map_err(explain)?;
    let filler = "one row of about a hundred bytes, as an order or an event of a small application would be";
    let mut histogram = histogram();
    let mut number = 0_i64;
    while now() < end {
        let started = now();
        let rows = client.execute(&insert, &[&index, &number, &filler]).await.map_err(explain)?;
        ensure!(rows == 1, "an INSERT of one row reported {rows}");
        record(&mut histogram, started);
        number += 1;
    }
    Ok(histogram)
}

fn grid(measured: &[Measured]) -> Grid {
    let mut grid = Grid::new();
    grid.load_preset(presets::ASCII_MARKDOWN).set_header(["what", "clients", "per second", "p50 ms", "p99 ms", "max ms"]);
    for one in measured {
        grid.add_row([
            one.what.to_owned(),
            one.clients.to_string(),
            format!("{:.0}", one.per_second),
            format!("{:.2}", one.p50_ms),
            format!("{:.2}", one.p99_ms),
            format!("{:.2}", one.max_ms),
        ]);
    }
    for column in 1..6 {
        if let Some(column) = grid.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    grid
}
