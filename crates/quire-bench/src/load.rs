//! `tpch load`: makes the tables and streams the rows through COPY … FROM STDIN, making them while others are sent.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use comfy_table::{CellAlignment, Table as Grid, presets};
use futures::SinkExt as _;
use quire_kit::clock::now;
use tokio::sync::mpsc;
use tokio_postgres::{Client, CopyInSink};

use crate::generate::{self, Chunk, Format, Part, parse_scale};
use crate::progress::{Progress, rate};
use crate::record::{LoadRecord, Record, TableRecord};
use crate::schema::Table;
use crate::server::{Target, execute, explain, fetch_one};

/// Chunks made but not yet sent, per connection: enough that neither side waits for the other's hiccups.
const CHUNKS_AHEAD: usize = 8;
/// What is read from a file at once.
const READ_BYTES: usize = 1 << 20;
/// Tables below this are loaded in one piece: a second COPY would cost more than it saves.
const SPLIT_BYTES_MIN: u64 = 16 << 20;

/// `load`'s settings.
#[derive(Debug, clap::Args)]
pub struct LoadArgs {
    #[command(flatten)]
    target: Target,
    /// Scale factor: 1 is about 1 GB; fractions are fine
    #[arg(long, default_value_t = 1.0, value_parser = parse_scale)]
    scale: f64,
    /// Drop the eight tables first if they exist
    #[arg(long)]
    replace: bool,
    /// Declare the foreign keys too
    #[arg(long)]
    foreign_keys: bool,
    /// Load <table>.csv (or <table>.tbl) from here instead of generating rows
    #[arg(long, value_name = "DIR")]
    from_csv: Option<PathBuf>,
    /// Connections that load parts of one table at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// Do not ANALYZE the tables afterwards
    #[arg(long)]
    no_analyze: bool,
    /// What the report calls this server
    #[arg(long)]
    name: Option<String>,
    /// Write the measurement here, for `report`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) async fn load(args: LoadArgs) -> anyhow::Result<ExitCode> {
    let pieces = plan(&args)?;
    let prepared = args.from_csv.is_none().then(|| quire_kit::task::spawn("prepare", quire_kit::task::blocking(generate::prepare)));
    let client = args.target.connect().await?;
    let version = fetch_one(&client, "SELECT version()").await?.unwrap_or_default();
    make_tables(&client, args.replace, args.foreign_keys).await?;
    let mut clients = vec![client];
    while clients.len() < usize::from(args.connections) {
        clients.push(args.target.connect().await?);
    }

    if let Some(prepared) = prepared {
        prepared.await?;
    }

    let progress = Arc::new(Progress::new(pieces.iter().map(|table| table.bytes_expected).sum()));
    let started = now();
    let mut record = LoadRecord { connections: clients.len(), source: source_shown(&args), ..LoadRecord::default() };
    for pieces in pieces {
        progress.table(pieces.table.name());
        let expected = pieces.bytes_expected;
        let table = load_table(&clients, pieces, &progress).await?;
        progress.table_done(&table, expected);
        record.rows += table.rows;
        record.bytes += table.bytes;
        record.tables.push(table);
    }
    record.seconds = started.elapsed().as_secs_f64();

    if !args.no_analyze {
        let started = now();
        for table in Table::ALL {
            progress.table(table.name());
            execute(&clients[0], &format!("ANALYZE {}", table.name())).await.with_context(|| format!("ANALYZE {}", table.name()))?;
        }
        record.analyze_seconds = started.elapsed().as_secs_f64();
    }
    progress.finish();

    println!("{}", grid(&record));
    println!("TPC-H at scale {} in {} on {version}", args.scale, args.target.shown());
    if let Some(path) = &args.json {
        let name = args.name.clone().unwrap_or_else(|| short_name(&version));
        Record { load: Some(record), ..Record::new(name, version, args.scale) }.save(path)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A server's name from its version: "PostgreSQL 15.3 on …" → "PostgreSQL 15.3".
pub(crate) fn short_name(version: &str) -> String {
    match version.split_once(" on ") {
        Some((name, _)) => name.split(" (").next().unwrap_or(name).to_owned(),
        None => version.split(" (").next().unwrap_or(version).to_owned(),
    }
}

fn source_shown(args: &LoadArgs) -> String {
    match &args.from_csv {
        Some(_) => "CSV files".to_owned(),
        None => "generated while loading".to_owned(),
    }
}

/// Makes the tables, or says which are in the way.
async fn make_tables(client: &Client, replace: bool, foreign_keys: bool) -> anyhow::Result<()> {
    let names: Vec<String> = Table::ALL.iter().map(|table| format!("'{}'", table.name())).collect();
    let sql = format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() AND table_name IN ({}) ORDER BY table_name",
        names.join(", ")
    );
    let found: Vec<String> = crate::server::fetch(client, &sql).await?.into_iter().flatten().flatten().collect();
    if !found.is_empty() && !replace {
        bail!("these tables exist already: {}; --replace drops all eight and loads them anew", found.join(", "));
    }
    for table in Table::ALL.iter().rev().filter(|table| found.iter().any(|name| name == table.name())) {
        execute(client, &format!("DROP TABLE {}", table.name())).await.with_context(|| format!("DROP TABLE {}", table.name()))?;
    }
    for table in Table::ALL {
        execute(client, &table.create_sql(foreign_keys)).await.with_context(|| format!("CREATE TABLE {}", table.name()))?;
    }
    Ok(())
}

/// One table, cut into what each connection takes at a time.
#[derive(Debug)]
struct Pieces {
    table: Table,
    bytes_expected: u64,
    rows_expected: Option<u64>,
    copy_options: &'static str,
    pieces: VecDeque<Piece>,
}

/// What one COPY sends.
#[derive(Debug)]
enum Piece {
    Generated {
        table: Table,
        scale: f64,
        part: Part,
    },
    /// Bytes `start..end` of a file, whole lines.
    File {
        path: PathBuf,
        start: u64,
        end: u64,
    },
}

fn plan(args: &LoadArgs) -> anyhow::Result<Vec<Pieces>> {
    Table::ALL
        .into_iter()
        .map(|table| match &args.from_csv {
            Some(dir) => plan_file(table, dir, args.connections),
            None => Ok(plan_generated(table, args.scale, args.connections)),
        })
        .collect()
}

fn plan_generated(table: Table, scale: f64, connections: u16) -> Pieces {
    let rows = table.rows_expected(scale);
    let bytes_expected = rows * table.row_bytes();
    let parts = if bytes_expected < SPLIT_BYTES_MIN { 1 } else { i32::from(connections) };
    Pieces {
        table,
        bytes_expected,
        // the number of an order's lines is random
        rows_expected: (table != Table::LineItem).then_some(rows),
        copy_options: "",
        pieces: (1..=parts).map(|part| Piece::Generated { table, scale, part: Part { part, parts } }).collect(),
    }
}

fn plan_file(table: Table, dir: &Path, connections: u16) -> anyhow::Result<Pieces> {
    let csv = dir.join(format!("{}.csv", table.name()));
    let tbl = dir.join(format!("{}.tbl", table.name()));
    let (path, copy_options) = if csv.exists() { (csv, " (FORMAT csv)") } else { (tbl, " (FORMAT text, DELIMITER '|')") };
    let mut file =
        File::open(&path).with_context(|| format!("neither {0}.csv nor {0}.tbl can be opened in {1}", table.name(), dir.display()))?;
    let length = file.metadata()?.len();
    let is_csv = path.extension().is_some_and(|extension| extension == "csv");
    let header = if is_csv { line_end(&mut file, 0)?.filter(|_| has_header(&path, table).unwrap_or(false)).unwrap_or(0) } else { 0 };
    let parts = if length < SPLIT_BYTES_MIN { 1 } else { u64::from(connections) };
    let mut cuts = vec![header];
    for part in 1..parts {
        // a field of these tables never holds a newline, so a line's end is a row's end
        let cut = line_end(&mut file, header + (length - header) / parts * part)?.unwrap_or(length);
        cuts.push(cut);
    }
    cuts.push(length);
    let pieces = cuts.windows(2).map(|cut| Piece::File { path: path.clone(), start: cut[0], end: cut[1] }).collect();
    Ok(Pieces { table, bytes_expected: length - header, rows_expected: None, copy_options, pieces })
}

/// Whether the first line names the columns.
fn has_header(path: &Path, table: Table) -> anyhow::Result<bool> {
    let first = table.header();
    let mut bytes = vec![0; first.len()];
    let read = File::open(path)?.read(&mut bytes)?;
    Ok(bytes[..read].eq_ignore_ascii_case(first.as_bytes()))
}

/// Where the line that holds position `from` ends (behind its newline).
fn line_end(file: &mut File, from: u64) -> anyhow::Result<Option<u64>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = vec![0; 64 << 10];
    let read = file.read(&mut bytes)?;
    Ok(bytes[..read].iter().position(|byte| *byte == b'\n').map(|at| from + at as u64 + 1))
}

/// Loads one table over all connections; each takes the next piece when it has sent one.
async fn load_table(clients: &[Client], pieces: Pieces, progress: &Arc<Progress>) -> anyhow::Result<TableRecord> {
    let name = pieces.table.name();
    let sql = format!("COPY {name} FROM STDIN{}", pieces.copy_options);
    let started = now();
    let queue = Mutex::new(pieces.pieces);
    let loaders = clients.iter().map(|client| load_pieces(client, &sql, &queue, progress));
    let loaded = futures::future::try_join_all(loaders).await.with_context(|| format!("COPY {name}"))?;
    let (rows, bytes) = loaded.into_iter().fold((0, 0), |(rows, bytes), (more_rows, more_bytes)| (rows + more_rows, bytes + more_bytes));
    if let Some(expected) = pieces.rows_expected {
        ensure!(rows == expected, "the server acknowledged {rows} rows of {name}, but {expected} were sent");
    }
    Ok(TableRecord { table: name.to_owned(), rows, bytes, seconds: started.elapsed().as_secs_f64() })
}

async fn load_pieces(client: &Client, sql: &str, queue: &Mutex<VecDeque<Piece>>, progress: &Progress) -> anyhow::Result<(u64, u64)> {
    let (mut rows, mut bytes) = (0, 0);
    loop {
        let Some(piece) = queue.lock().expect("a thread that held it has panicked").pop_front() else { return Ok((rows, bytes)) };
        let (piece_rows, piece_bytes) = load_piece(client, sql, piece, progress).await?;
        rows += piece_rows;
        bytes += piece_bytes;
    }
}

/// One COPY: a thread makes chunks, this task sends them.
async fn load_piece(client: &Client, sql: &str, piece: Piece, progress: &Progress) -> anyhow::Result<(u64, u64)> {
    let (sender, mut chunks) = mpsc::channel(CHUNKS_AHEAD);
    let maker = quire_kit::task::spawn("make rows", quire_kit::task::blocking(move || make(piece, sender)));
    let sink: CopyInSink<Bytes> = client.copy_in(sql).await.map_err(explain)?;
    let mut sink = pin!(sink);
    let (mut rows, mut bytes) = (0, 0);
    while let Some(chunk) = chunks.recv().await {
        let Chunk { bytes: data, rows: chunk_rows } = chunk;
        rows += chunk_rows;
        bytes += data.len() as u64;
        let length = data.len() as u64;
        if let Err(error) = sink.send(data).await {
            return Err(explain(error));
        }
        progress.add(chunk_rows, length);
    }
    // an unfinished file must not be committed: dropping the sink makes the server forget the COPY
    maker.await??;
    let acknowledged = sink.as_mut().finish().await.map_err(explain)?;
    ensure!(acknowledged == rows, "{rows} rows were sent, the server acknowledged {acknowledged}");
    Ok((acknowledged, bytes))
}

fn make(piece: Piece, chunks: mpsc::Sender<Chunk>) -> anyhow::Result<()> {
    let mut send = |chunk| match chunks.blocking_send(chunk) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    match piece {
        Piece::Generated { table, scale, part } => {
            generate::generate(table, scale, part, Format::Text, &mut send);
            Ok(())
        }
        Piece::File { path, start, end } => {
            read_file(&path, start, end, &mut send).with_context(|| format!("cannot read {}", path.display()))
        }
    }
}

/// Reads part of a file. A .tbl line ends in a delimiter that COPY would take for one more field: it is cut off.
fn read_file(path: &Path, start: u64, end: u64, out: &mut dyn FnMut(Chunk) -> ControlFlow<()>) -> anyhow::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut file = file.take(end - start);
    let trim = path.extension().is_some_and(|extension| extension == "tbl");
    let mut kept_back = false;
    let mut last = b'\n';
    loop {
        let mut data = Vec::with_capacity(READ_BYTES + 1);
        if std::mem::take(&mut kept_back) {
            data.push(b'|');
        }
        if (&mut file).take(READ_BYTES as u64).read_to_end(&mut data)? == 0 {
            break;
        }
        if trim {
            // the newline that decides about a last '|' may be in the next read; at the file's end it goes, too
            kept_back = data.last() == Some(&b'|');
            data.truncate(data.len() - usize::from(kept_back));
            data = without_last_delimiters(&data);
        }
        last = data.last().copied().unwrap_or(last);
        let rows = data.iter().filter(|byte| **byte == b'\n').count() as u64;
        if out(Chunk { bytes: data.into(), rows }).is_break() {
            return Ok(());
        }
    }
    if last != b'\n' {
        let _ = out(Chunk { bytes: Bytes::from_static(b"\n"), rows: 1 });
    }
    Ok(())
}

fn without_last_delimiters(data: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(data.len());
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"|\n") {
            Some(fields) => {
                kept.extend_from_slice(fields);
                kept.push(b'\n');
            }
            None => kept.extend_from_slice(line),
        }
    }
    kept
}

fn grid(load: &LoadRecord) -> Grid {
    let mut grid = Grid::new();
    grid.load_preset(presets::ASCII_MARKDOWN).set_header(["table", "rows", "MB", "seconds", "MB/s"]);
    let row = |name: &str, rows: u64, bytes: u64, seconds: f64| {
        [
            name.to_owned(),
            indicatif::HumanCount(rows).to_string(),
            format!("{:.1}", bytes as f64 / 1e6),
            format!("{seconds:.2}"),
            format!("{:.0}", rate(bytes, seconds)),
        ]
    };
    for table in &load.tables {
        grid.add_row(row(&table.table, table.rows, table.bytes, table.seconds));
    }
    grid.add_row(row("all", load.rows, load.bytes, load.seconds));
    grid.add_row(["ANALYZE".to_owned(), String::new(), String::new(), format!("{:.2}", load.analyze_seconds), String::new()]);
    for column in 1..5 {
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
    fn a_server_is_called_by_the_start_of_its_version() {
        assert_eq!(short_name("PostgreSQL 15.3 (Debian 15.3-1) on x86_64-pc-linux-gnu, compiled by gcc"), "PostgreSQL 15.3");
        assert_eq!(short_name("Quire 0.1.0"), "Quire 0.1.0");
    }

    #[test]
    fn the_delimiter_at_a_line_s_end_is_cut_off() {
        assert_eq!(without_last_delimiters(b"1|a|\n2||\n3|"), b"1|a\n2|\n3|");
    }
}
