//! What the user sees while data flows: one bar over all tables on a terminal, one plain line per table elsewhere.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use quire_kit::clock::{Instant, now};

use crate::record::TableRecord;

/// Bytes and rows so far.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    plain: bool,
    started: Instant,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// `bytes_expected` may be a guess: [`Progress::table_done`] puts it right.
    pub(crate) fn new(bytes_expected: u64) -> Progress {
        let plain = !std::io::stderr().is_terminal();
        let target = if plain { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(bytes_expected), target);
        let style = ProgressStyle::with_template("{prefix:>8} {bar:32} {percent:>3}%  {msg}  {eta} left")
            .expect("the template is a constant")
            .progress_chars("━╸·");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar, plain, started: now(), rows: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// The next table begins.
    pub(crate) fn table(&self, name: &'static str) {
        self.bar.set_prefix(name);
    }

    /// Some rows were sent.
    pub(crate) fn add(&self, rows: u64, bytes: u64) {
        let rows = self.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bar.set_position(bytes);
        let rate = bytes as f64 / 1e6 / self.started.elapsed().as_secs_f64().max(1e-3);
        self.bar.set_message(format!("{} rows  {rate:.0} MB/s", HumanCount(rows)));
    }

    /// The server has acknowledged the table; `expected` bytes of it were in the bar's length.
    pub(crate) fn table_done(&self, table: &TableRecord, expected: u64) {
        let length = self.bar.length().unwrap_or(0);
        self.bar.set_length((length + table.bytes).saturating_sub(expected));
        let line = format!(
            "{:>8}: {} rows, {:.1} MB in {:.2} s ({:.0} MB/s)",
            table.table,
            HumanCount(table.rows),
            table.bytes as f64 / 1e6,
            table.seconds,
            rate(table.bytes, table.seconds)
        );
        self.line(&line);
    }

    /// A line above the bar.
    pub(crate) fn line(&self, line: &str) {
        if self.plain {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// MB/s.
pub(crate) fn rate(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 / 1e6 / seconds.max(1e-6)
}
