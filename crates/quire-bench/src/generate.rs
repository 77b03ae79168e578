//! Rows of the eight tables, made by `tpchgen` and written as COPY text or CSV, in chunks.

use std::fmt::Display;
use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::LazyLock;

use anyhow::Context;
use bytes::Bytes;
use tpchgen::dates::TPCHDate;
use tpchgen::decimal::TPCHDecimal;
use tpchgen::generators::{
    CustomerGenerator, LineItem, LineItemGenerator, NationGenerator, Order, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen::text::TextPool;

use crate::schema::Table;
use crate::sets::{RefreshSet, SCALE_MIN, Sets, parse_sets};

/// Bytes after which a chunk is handed on: large enough that messages cost nothing, small enough to overlap with sending.
const CHUNK_BYTES: usize = 1 << 20;
/// The longest row is below this, so a chunk's buffer never grows.
const ROW_BYTES_MAX: usize = 1024;

/// Some whole rows.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) bytes: Bytes,
    pub(crate) rows: u64,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// COPY's text format: tabs between fields, backslash escapes.
    Text,
    /// Commas between fields; quotes only where they are needed.
    Csv,
}

/// One of `parts` ranges of a table's rows, counted from 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) part: i32,
    pub(crate) parts: i32,
}

impl Part {
    pub(crate) const WHOLE: Part = Part { part: 1, parts: 1 };
}

/// `generate`'s settings.
#[derive(Debug, clap::Args)]
pub struct GenerateArgs {
    /// Scale factor: 1 is about 1 GB; fractions are fine
    #[arg(long, default_value_t = 1.0, value_parser = parse_scale)]
    pub scale: f64,
    /// Directory for the files, which is made if it does not exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Write these refresh sets, too: what RF1 inserts and the keys of the orders that RF2 deletes, as `refresh` does it
    #[arg(long, value_name = "FROM-TO", value_parser = parse_sets)]
    sets: Option<Sets>,
}

/// A scale factor from the command line.
pub(crate) fn parse_scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if (SCALE_MIN..=10_000.0).contains(&scale) => Ok(scale),
        _ => Err(format!("a scale factor is a number from {SCALE_MIN} to 10000")),
    }
}

/// Writes `<out>/<table>.csv` for each table, with a header line, and the refresh sets that were asked for.
pub(crate) async fn generate_files(args: GenerateArgs) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let sets = args.sets.map(|sets| {
        let (scale, out) = (args.scale, args.out.clone());
        quire_kit::task::spawn("generate refresh sets", quire_kit::task::blocking(move || generate_sets(scale, sets, &out)))
    });
    let files = Table::ALL.map(|table| {
        let path = args.out.join(format!("{}.csv", table.name()));
        let scale = args.scale;
        quire_kit::task::spawn("generate a file", async move {
            quire_kit::task::blocking(move || {
                let (rows, bytes) = generate_file(table, scale, &path).with_context(|| format!("cannot write {}", path.display()))?;
                eprintln!("{}: {rows} rows, {} MB", path.display(), bytes / 1_000_000);
                anyhow::Ok(())
            })
            .await
        })
    });
    for file in files {
        file.await??;
    }
    if let Some(sets) = sets {
        sets.await??;
    }
    Ok(ExitCode::SUCCESS)
}

fn generate_file(table: Table, scale: f64, path: &Path) -> std::io::Result<(u64, usize)> {
    write_file(table, path, |out| generate(table, scale, Part::WHOLE, Format::Csv, out))
}

/// Writes for each set `orders.u<n>.csv` and `lineitem.u<n>.csv`, the rows to insert, and `delete.u<n>.csv`, the keys of the
/// orders to delete.
fn generate_sets(scale: f64, sets: Sets, dir: &Path) -> anyhow::Result<()> {
    for number in sets.numbers() {
        let set = RefreshSet::new(scale, number);
        let mut rows = 0;
        for table in [Table::Orders, Table::LineItem] {
            let path = dir.join(format!("{}.u{number}.csv", table.name()));
            let written = write_file(table, &path, |out| generate_new(table, set, out));
            rows += written.with_context(|| format!("cannot write {}", path.display()))?.0;
        }
        let path = dir.join(format!("delete.u{number}.csv"));
        let keys: String = set.old_keys().iter().map(|key| format!("{key}\n")).collect();
        fs::write(&path, format!("o_orderkey\n{keys}")).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("{}, refresh set {number}: {rows} rows to insert, {} orders to delete", dir.display(), set.orders());
    }
    Ok(())
}

/// What `make` gives, behind the line that names the table's columns: rows and bytes.
fn write_file(table: Table, path: &Path, make: impl FnOnce(&mut dyn FnMut(Chunk) -> ControlFlow<()>)) -> std::io::Result<(u64, usize)> {
    let mut file = fs::File::create(path)?;
    let header = format!("{}\n", table.header());
    file.write_all(header.as_bytes())?;
    let (mut rows, mut bytes, mut result) = (0, header.len(), Ok(()));
    make(&mut |chunk: Chunk| {
        rows += chunk.rows;
        bytes += chunk.bytes.len();
        match file.write_all(&chunk.bytes) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                result = Err(error);
                ControlFlow::Break(())
            }
        }
    });
    result.map(|()| (rows, bytes))
}

/// Makes the text that all comments are cut from, which takes most of a second and is nothing of the server's.
pub(crate) fn prepare() {
    TextPool::get_or_init_default();
}

/// Makes one part of a table and gives its chunks to `out`, in order, until that says stop. All parts of a table, one
/// after the other, are the same bytes as the whole.
pub(crate) fn generate(table: Table, scale: f64, part: Part, format: Format, out: &mut dyn FnMut(Chunk) -> ControlFlow<()>) {
    let Part { part, parts } = part;
    let mut rows = Rows::new(format, out);
    // the receiver has gone when a row's end says Break: nobody wants the rest
    let _ = match table {
        Table::Region => RegionGenerator::new(scale, part, parts).iter().try_for_each(|row| {
            rows.int(row.r_regionkey);
            rows.text(row.r_name);
            rows.text(row.r_comment);
            rows.end()
        }),
        Table::Nation => NationGenerator::new(scale, part, parts).iter().try_for_each(|row| {
            rows.int(row.n_nationkey);
            rows.text(row.n_name);
            rows.int(row.n_regionkey);
            rows.text(row.n_comment);
            rows.end()
        }),
        Table::Supplier => SupplierGenerator::new(scale, part, parts).iter().try_for_each(|row| {
            rows.int(row.s_suppkey);
            rows.shown(&row.s_name);
            rows.shown(&row.s_address);
            rows.int(row.s_nationkey);
            rows.shown(&row.s_phone);
            rows.money(row.s_acctbal);
            rows.text(&row.s_comment);
            rows.end()
        }),
        Table::Part => PartGenerator::new(scale, part, parts).iter().try_for_each(|row| {
            rows.int(row.p_partkey);
            rows.shown(&row.p_name);
            rows.shown(&row.p_mfgr);
            rows.shown(&row.p_brand);
            rows.text(row.p_type);
            rows.int(i64::from(row.p_size));
            rows.text(row.p_container);
            rows.money(row.p_retailprice);
            rows.text(row.p_comment);
            rows.end()
        }),
        Table::PartSupp => PartSuppGenerator::new(scale, part, parts).iter().try_for_each(|row| {
            rows.int(row.ps_partkey);
            rows.int(row.ps_suppkey);
            rows.int(i64::from(row.ps_availqty));
            rows.money(row.ps_supplycost);
            rows.text(row.ps_comment);
            rows.end()
        }),
        Table::Customer => CustomerGenerator::new(scale, part, parts).iter().try_for_each(|row| {
            rows.int(row.c_custkey);
            rows.shown(&row.c_name);
            rows.shown(&row.c_address);
            rows.int(row.c_nationkey);
            rows.shown(&row.c_phone);
            rows.money(row.c_acctbal);
            rows.text(row.c_mktsegment);
            rows.text(row.c_comment);
            rows.end()
        }),
        Table::Orders => OrderGenerator::new(scale, part, parts).iter().try_for_each(|row| rows.order(&row)),
        Table::LineItem => LineItemGenerator::new(scale, part, parts).iter().try_for_each(|row| rows.line_item(&row)),
    };
    // the same holds for the last rows
    let _ = rows.flush();
}

/// What a refresh set inserts into orders or lineitem, as CSV.
fn generate_new(table: Table, set: RefreshSet, out: &mut dyn FnMut(Chunk) -> ControlFlow<()>) {
    let mut rows = Rows::new(Format::Csv, out);
    // as above, nobody wants the rest
    let _ = set.new_orders().try_for_each(|(order, lines)| match table {
        Table::LineItem => lines.iter().try_for_each(|line| rows.line_item(line)),
        _ => rows.order(&order),
    });
    let _ = rows.flush();
}

/// The dates as text, by their index: making one from its number costs more than all the rest of a field.
static DATES: LazyLock<Vec<[u8; 10]>> = LazyLock::new(|| {
    let (first, last) = (tpchgen::dates::MIN_GENERATE_DATE, tpchgen::dates::MIN_GENERATE_DATE + tpchgen::dates::TOTAL_DATE_RANGE);
    (first..last)
        .map(|day| TPCHDate::new(day).to_string().into_bytes().try_into().expect("a date between 1992 and 1998 is ten characters"))
        .collect()
});

/// Rows being written. Each field puts the delimiter behind itself; the end of the row turns the last one into a newline.
struct Rows<'a> {
    buffer: Vec<u8>,
    rows: u64,
    format: Format,
    delimiter: u8,
    dates: &'static [[u8; 10]],
    shown: String,
    out: &'a mut dyn FnMut(Chunk) -> ControlFlow<()>,
}

impl<'a> Rows<'a> {
    fn new(format: Format, out: &'a mut dyn FnMut(Chunk) -> ControlFlow<()>) -> Self {
        let delimiter = if format == Format::Text { b'\t' } else { b',' };
        let buffer = Vec::with_capacity(CHUNK_BYTES + ROW_BYTES_MAX);
        Rows { buffer, rows: 0, format, delimiter, dates: &DATES, shown: String::new(), out }
    }

    fn order(&mut self, row: &Order<'_>) -> ControlFlow<()> {
        self.int(row.o_orderkey);
        self.int(row.o_custkey);
        self.text(row.o_orderstatus.as_str());
        self.money(row.o_totalprice);
        self.date(row.o_orderdate);
        self.text(row.o_orderpriority);
        self.shown(&row.o_clerk);
        self.int(i64::from(row.o_shippriority));
        self.text(row.o_comment);
        self.end()
    }

    fn line_item(&mut self, row: &LineItem<'_>) -> ControlFlow<()> {
        self.int(row.l_orderkey);
        self.int(row.l_partkey);
        self.int(row.l_suppkey);
        self.int(i64::from(row.l_linenumber));
        self.int(row.l_quantity);
        self.money(row.l_extendedprice);
        self.money(row.l_discount);
        self.money(row.l_tax);
        self.text(row.l_returnflag);
        self.text(row.l_linestatus);
        self.date(row.l_shipdate);
        self.date(row.l_commitdate);
        self.date(row.l_receiptdate);
        self.text(row.l_shipinstruct);
        self.text(row.l_shipmode);
        self.text(row.l_comment);
        self.end()
    }

    fn int(&mut self, value: i64) {
        if value < 0 {
            self.buffer.push(b'-');
        }
        self.digits(value.unsigned_abs());
        self.buffer.push(self.delimiter);
    }

    fn digits(&mut self, mut value: u64) {
        let mut digits = [0_u8; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.buffer.extend_from_slice(&digits[start..]);
    }

    fn money(&mut self, value: TPCHDecimal) {
        if value.is_negative() {
            self.buffer.push(b'-');
        }
        let cents = value.into_inner().unsigned_abs();
        self.digits(cents / 100);
        let cents = (cents % 100) as u8;
        self.buffer.extend_from_slice(&[b'.', b'0' + cents / 10, b'0' + cents % 10, self.delimiter]);
    }

    fn date(&mut self, date: TPCHDate) {
        match usize::try_from(date.into_inner()).ok().and_then(|index| self.dates.get(index)) {
            Some(text) => self.buffer.extend_from_slice(text),
            None => self.buffer.extend_from_slice(date.to_string().as_bytes()),
        }
        self.buffer.push(self.delimiter);
    }

    /// A field that knows only how to show itself.
    fn shown(&mut self, value: &dyn Display) {
        use std::fmt::Write as _;
        let mut shown = std::mem::take(&mut self.shown);
        shown.clear();
        write!(shown, "{value}").expect("writing to a string does not fail");
        self.text(&shown);
        self.shown = shown;
    }

    fn text(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let special = |byte: &u8| match self.format {
            Format::Text => matches!(byte, b'\\' | b'\t' | b'\n' | b'\r'),
            Format::Csv => matches!(byte, b',' | b'"' | b'\n' | b'\r'),
        };
        if !bytes.iter().any(special) && (self.format == Format::Text || !bytes.is_empty()) {
            self.buffer.extend_from_slice(bytes);
        } else if self.format == Format::Text {
            escape_text(bytes, &mut self.buffer);
        } else {
            quote_csv(bytes, &mut self.buffer);
        }
        self.buffer.push(self.delimiter);
    }

    fn end(&mut self) -> ControlFlow<()> {
        *self.buffer.last_mut().expect("a row has a field") = b'\n';
        self.rows += 1;
        if self.buffer.len() < CHUNK_BYTES { ControlFlow::Continue(()) } else { self.flush() }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        if self.buffer.is_empty() {
            return ControlFlow::Continue(());
        }
        let bytes = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES + ROW_BYTES_MAX));
        (self.out)(Chunk { bytes: bytes.into(), rows: std::mem::take(&mut self.rows) })
    }
}

fn escape_text(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => out.push(*other),
        }
    }
}

fn quote_csv(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in bytes {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bytes(table: Table, part: Part, format: Format) -> (Vec<u8>, u64) {
        let (mut all, mut rows) = (Vec::new(), 0);
        generate(table, 0.01, part, format, &mut |chunk| {
            all.extend_from_slice(&chunk.bytes);
            rows += chunk.rows;
            ControlFlow::Continue(())
        });
        (all, rows)
    }

    #[test]
    fn the_parts_of_a_table_are_the_whole() {
        for table in [Table::Supplier, Table::PartSupp, Table::Orders, Table::LineItem] {
            let whole = bytes(table, Part::WHOLE, Format::Text);
            let parts: Vec<_> = (1..=3).map(|part| bytes(table, Part { part, parts: 3 }, Format::Text)).collect();
            assert_eq!(whole.0, parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<u8>>(), "{}", table.name());
            assert_eq!(whole.1, parts.iter().map(|(_, rows)| rows).sum::<u64>());
        }
    }

    #[test]
    fn rows_are_those_of_tpchgen() {
        let ours = String::from_utf8(bytes(Table::LineItem, Part::WHOLE, Format::Text).0).unwrap();
        let mut lines = 0;
        for (line, theirs) in ours.lines().zip(LineItemGenerator::new(0.01, 1, 1).iter()) {
            assert_eq!(format!("{}|", line.replace('\t', "|")), theirs.to_string());
            lines += 1;
        }
        assert_eq!(lines, 60_175);
        let ours = String::from_utf8(bytes(Table::Customer, Part::WHOLE, Format::Text).0).unwrap();
        for (line, theirs) in ours.lines().zip(CustomerGenerator::new(0.01, 1, 1).iter()) {
            assert_eq!(format!("{}|", line.replace('\t', "|")), theirs.to_string());
        }
    }

    #[test]
    fn special_characters_are_escaped_or_quoted() {
        let written = |format, text: &str| {
            let mut all = Vec::new();
            let mut out = |chunk: Chunk| {
                all.extend_from_slice(&chunk.bytes);
                ControlFlow::Continue(())
            };
            let mut rows = Rows::new(format, &mut out);
            rows.text(text);
            rows.money(TPCHDecimal(-5));
            let _ = rows.end();
            let _ = rows.flush();
            String::from_utf8(all).unwrap()
        };
        assert_eq!(written(Format::Text, "a\\b\tc\nd"), "a\\\\b\\tc\\nd\t-0.05\n");
        assert_eq!(written(Format::Csv, "say \"a, b\""), "\"say \"\"a, b\"\"\",-0.05\n");
        assert_eq!(written(Format::Csv, ""), "\"\",-0.05\n");
    }
}
