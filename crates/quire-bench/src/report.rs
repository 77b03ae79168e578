//! `tpch report`: one self-contained HTML page from the measurements of one or more servers.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};

use crate::progress::rate;
use crate::record::{AnswerRecord, MovedRecord, QueryRecord, Record};

/// More bars than this beside each other cannot be told apart.
const RECORDS_MAX: usize = 8;

/// `report`'s settings.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// JSON files of `load` and `run`, of one or more servers
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The page
    #[arg(long, short, default_value = "tpch.html", value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn report(args: ReportArgs) -> anyhow::Result<ExitCode> {
    let mut records = Vec::new();
    for file in &args.files {
        records.extend(Record::read(file)?);
    }
    save(&records, &args.out)?;
    println!("{}", args.out.display());
    Ok(ExitCode::SUCCESS)
}

/// Draws the page.
pub(crate) fn save(records: &[Record], path: &Path) -> anyhow::Result<()> {
    ensure!(!records.is_empty(), "there is no measurement in these files");
    let scales = distinct(records.iter().map(|record| record.scale.to_string()));
    ensure!(scales.len() == 1, "these measurements are of different scales ({}) and cannot be compared", scales.join(", "));
    let count = records.iter().filter(|record| record.run.is_some()).count();
    ensure!(count <= RECORDS_MAX, "{count} runs are too many for one chart, which has room for {RECORDS_MAX}");
    fs::write(path, page(records)).with_context(|| format!("cannot write {}", path.display()))
}

fn page(records: &[Record]) -> String {
    let mut html = String::new();
    let title = format!("TPC-H at scale {}", records[0].scale);
    html.push_str(&HEAD.replace("{title}", &escape(&title)));
    let _ = write!(html, "<h1>{}</h1>\n{}", escape(&title), summary(records));
    let runs: Vec<&Record> = records.iter().filter(|record| record.run.is_some()).collect();
    if !runs.is_empty() {
        let _ = write!(html, "<h2>Queries: median, ms</h2>\n{}{}{}", legend(&runs), chart(&runs), query_table(&runs));
    }
    for record in records.iter().filter(|record| record.load.is_some()) {
        html.push_str(&load_table(record));
    }
    html.push_str(&about(records));
    html.push_str("</main>\n");
    html
}

fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for value in values {
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    kept
}

/// The figures that one reads first.
fn summary(records: &[Record]) -> String {
    let mut html = String::from("<div class=tiles>\n");
    for record in records {
        let name = escape(&record.name);
        if let Some(load) = &record.load {
            let rate = rate(load.bytes, load.seconds);
            let _ = writeln!(html, "<div><b>{:.1} s</b><span>{name}: load, {rate:.0} MB/s</span></div>", load.seconds);
        }
        if let Some(run) = &record.run {
            let right = run.queries.iter().filter(|query| query.answer == AnswerRecord::Right).count();
            let (sum, mean, all) = (run.sum_ms / 1e3, run.geomean_ms, run.queries.len());
            let _ = writeln!(html, "<div><b>{sum:.2} s</b><span>{name}: sum of medians, geometric mean {mean:.1} ms</span></div>");
            let _ = writeln!(html, "<div><b>{right} of {all}</b><span>{name}: answers right</span></div>");
        }
    }
    html.push_str("</div>\n");
    html
}

fn legend(runs: &[&Record]) -> String {
    let mut html = String::from("<p class=legend>");
    for (index, record) in runs.iter().enumerate() {
        let _ = write!(html, "<span><i class=c{index}></i>{}</span> ", escape(&record.name));
    }
    html.push_str("</p>\n");
    html
}

/// Bars from left to right, a group per query: on a narrow screen they only become shorter.
fn chart(runs: &[&Record]) -> String {
    const WIDTH: f64 = 640.0;
    const LEFT: f64 = 36.0;
    const RIGHT: f64 = 64.0;
    const BAR: f64 = 18.0;
    const GAP: f64 = 10.0;
    let numbers = query_numbers(runs);
    let longest = runs.iter().flat_map(|record| queries(record)).filter_map(|query| query.median_ms).fold(1e-3, f64::max);
    let group = BAR * runs.len() as f64 + GAP;
    let height = group * numbers.len() as f64 + GAP;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=img aria-label=\"median time per query\">\n");
    for (row, number) in numbers.iter().enumerate() {
        let top = GAP + group * row as f64;
        let middle = top + (group - GAP) / 2.0;
        let _ = writeln!(svg, "<text x={:.0} y={middle:.1} class=q>Q{number}</text>", LEFT - 6.0);
        for (index, record) in runs.iter().enumerate() {
            let Some(query) = find(record, *number) else { continue };
            let y = top + BAR * index as f64;
            let text_y = y + BAR / 2.0;
            let Some(median) = query.median_ms else {
                let _ = writeln!(svg, "<text x={LEFT} y={text_y:.1} class=bad>{}</text>", query.answer.word());
                continue;
            };
            let width = (median / longest * (WIDTH - LEFT - RIGHT)).max(1.0);
            let name = escape(&record.name);
            let _ = writeln!(
                svg,
                "<rect x={LEFT} y={:.1} width={width:.1} height={:.1} rx=2 class=c{index}><title>{name} Q{number}: {median:.1} ms</title></rect>\
                 <text x={:.1} y={text_y:.1} class=v>{}</text>",
                y + 1.0,
                BAR - 2.0,
                LEFT + width + 4.0,
                shown_ms(Some(median))
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn query_table(runs: &[&Record]) -> String {
    let mut html = String::from("<h2>Queries: all figures</h2>\n<div class=wide><table>\n<tr><th></th>");
    for record in runs {
        let columns = if is_counted(record) { 6 } else { 4 };
        let _ = write!(html, "<th colspan={columns}>{}</th>", escape(&record.name));
    }
    html.push_str("</tr>\n<tr><th>query</th>");
    for record in runs {
        html.push_str("<th>first ms</th><th>median ms</th><th>rows</th><th>answer</th>");
        if is_counted(record) {
            html.push_str("<th>first MB</th><th>later MB</th>");
        }
    }
    html.push_str("</tr>\n");
    for number in query_numbers(runs) {
        let _ = write!(html, "<tr><td>Q{number}</td>");
        for record in runs {
            let Some(query) = find(record, number) else {
                html.push_str("<td></td><td></td><td></td><td></td>");
                if is_counted(record) {
                    html.push_str("<td></td><td></td>");
                }
                continue;
            };
            let class = if matches!(query.answer, AnswerRecord::Wrong | AnswerRecord::Failed) { "bad" } else { "good" };
            let _ = write!(
                html,
                "<td>{}</td><td>{}</td><td>{}</td><td class={class} title=\"{}\">{}</td>",
                shown_ms(query.first_ms),
                shown_ms(query.median_ms),
                query.rows,
                escape(query.problem.as_deref().unwrap_or("")),
                query.answer.word()
            );
            if is_counted(record) {
                let _ = write!(html, "<td>{}</td><td>{}</td>", shown_mb(query.first_moved), shown_mb(query.later_moved));
            }
        }
        html.push_str("</tr>\n");
    }
    html.push_str("<tr><th>sum</th>");
    for record in runs {
        let first = queries(record).iter().filter_map(|query| query.first_ms).fold(0.0, |sum, first| sum + first);
        let sum = record.run.as_ref().map(|run| run.sum_ms);
        let _ = write!(html, "<th>{}</th><th>{}</th><th></th><th></th>", shown_ms(Some(first)), shown_ms(sum));
        if let Some(run) = record.run.as_ref().filter(|_| is_counted(record)) {
            let _ = write!(html, "<th>{}</th><th>{}</th>", shown_mb(run.first_moved()), shown_mb(run.later_moved()));
        }
    }
    html.push_str("</tr>\n</table></div>\n");
    html
}

fn load_table(record: &Record) -> String {
    let Some(load) = &record.load else { return String::new() };
    let mut html = format!("<h2>Load: {}, {}</h2>\n<div class=wide><table>\n", escape(&record.name), escape(&load.source));
    html.push_str("<tr><th>table</th><th>rows</th><th>MB</th><th>seconds</th><th>MB/s</th></tr>\n");
    let mut row = |tag: &str, name: &str, rows: u64, bytes: u64, seconds: f64| {
        let (megabytes, rate) = (bytes as f64 / 1e6, rate(bytes, seconds));
        let _ = writeln!(
            html,
            "<tr><{tag}>{}</{tag}><{tag}>{rows}</{tag}><{tag}>{megabytes:.1}</{tag}><{tag}>{seconds:.2}</{tag}><{tag}>{rate:.0}</{tag}></tr>",
            escape(name)
        );
    };
    for table in &load.tables {
        row("td", &table.table, table.rows, table.bytes, table.seconds);
    }
    row("th", "all", load.rows, load.bytes, load.seconds);
    let _ = writeln!(html, "</table></div>\n<p>ANALYZE afterwards: {:.2} s. Connections: {}.</p>", load.analyze_seconds, load.connections);
    html
}

fn about(records: &[Record]) -> String {
    let mut html = String::from("<h2>What was measured</h2>\n<ul>\n");
    for record in records {
        let what = match (&record.load, &record.run) {
            (_, Some(run)) => format!("{} warm-up and {} timed runs of each query", run.warmup, run.repeats),
            _ => "load".to_owned(),
        };
        let _ = writeln!(
            html,
            "<li><b>{}</b> ({what}, scale {}, {} UTC, {}): {}. Bench on {}.</li>",
            escape(&record.name),
            record.scale,
            utc(record.at_unix_seconds),
            escape(&record.bench),
            escape(&record.server),
            escape(&record.machine.shown())
        );
    }
    html.push_str(
        "</ul>\n<p>A query's time is from sending the statement to the last row. The queries and data follow the TPC-H specification, \
         but this is not an audited result and cannot be compared with published TPC-H results.</p>\n",
    );
    html
}

fn queries(record: &Record) -> &[QueryRecord] {
    record.run.as_ref().map_or(&[], |run| &run.queries)
}

fn find(record: &Record, number: u8) -> Option<&QueryRecord> {
    queries(record).iter().find(|query| query.query == number)
}

/// Whether the server's metrics were read: then each query has what it moved from storage.
fn is_counted(record: &Record) -> bool {
    queries(record).iter().any(|query| query.first_moved.is_some())
}

fn shown_mb(moved: Option<MovedRecord>) -> String {
    moved.map_or_else(|| "–".to_owned(), |moved| format!("{:.1}", moved.storage_bytes as f64 / 1e6))
}

fn query_numbers(runs: &[&Record]) -> Vec<u8> {
    let mut numbers: Vec<u8> = runs.iter().flat_map(|record| queries(record)).map(|query| query.query).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn shown_ms(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if ms < 100.0 => format!("{ms:.1}"),
        Some(ms) => format!("{ms:.0}"),
    }
}

/// A moment as "2026-05-04 03:02", by the civil-from-days rule of H. Hinnant.
fn utc(unix_seconds: u64) -> String {
    let (days, minutes) = (unix_seconds / 86_400 + 719_468, unix_seconds % 86_400 / 60);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The start of the page. The colours are distinct for the colour-blind too, on a light and on a dark ground.
const HEAD: &str = include_str!("report_head.html");

#[cfg(test)]
mod tests;
