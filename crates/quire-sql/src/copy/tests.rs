#![allow(clippy::unwrap_used)]

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;
use quire_types::{ColumnDef, ColumnId, SqlType};

use super::{CopyDecoder, CopyEncoder, CopyFormat, CopyOptions, Header};
use crate::SqlError;
use crate::values::Home;

fn columns(types: &[SqlType]) -> Vec<ColumnDef> {
    let column = |(i, ty): (usize, &SqlType)| ColumnDef::new(ColumnId(i as u32 + 1), format!("c{i}"), *ty);
    types.iter().enumerate().map(column).collect()
}

fn decode(options: &CopyOptions, types: &[SqlType], data: &[u8], cut: usize) -> Result<RecordBatch, SqlError> {
    let mut decoder = CopyDecoder::new(options.clone(), "t".into(), columns(types), Home::unknown())?;
    for piece in data.chunks(cut.max(1)) {
        decoder.push(piece)?;
    }
    decoder.finish()?;
    Ok(decoder.take())
}

fn show(result: Result<RecordBatch, SqlError>) -> String {
    match result {
        Err(e) => format!("{} {} | {}", e.code, e.message, e.context.unwrap_or_default()),
        Ok(batch) => {
            let mut encoder =
                CopyEncoder::new(CopyOptions { null: Some("∅".into()), ..CopyOptions::new(CopyFormat::Text) }, &batch.schema()).unwrap();
            String::from_utf8(encoder.encode(&batch).unwrap().to_vec()).unwrap().replace('\t', ",").trim_end().replace('\n', ";")
        }
    }
}

fn check(options: &CopyOptions, types: &[SqlType], cases: &[(&str, &str)]) {
    for (data, expected) in cases {
        for cut in [1, 2, 3, 1000] {
            assert_eq!(&show(decode(options, types, data.as_bytes(), cut)), expected, "{data:?} in pieces of {cut}");
        }
    }
}

const TYPES: [SqlType; 2] = [SqlType::Int4, SqlType::Text];

#[test]
fn text_is_read_as_in_postgres() {
    check(
        &CopyOptions::new(CopyFormat::Text),
        &TYPES,
        &[
            ("1\ta\n2\tb\n", "1,a;2,b"),
            ("1\ta\r\n2\t\\N", "1,a;2,∅"),
            ("\\N\t\\x41\\102\\tx\n", "∅,AB\\tx"),
            ("1\ta\\\nb\n", "1,a\\nb"),
            ("1\ta\n\\.\nrubbish", "1,a"),
            ("1\n", "22P04 missing data for column \"c1\" | COPY t, line 1: \"1\""),
            ("1\ta\n2\tb\tc\n", "22P04 extra data after last expected column | COPY t, line 2: \"2\tb\tc\""),
            ("1\ta\nx\tb\n", "22P02 invalid input syntax for type integer: \"x\" | COPY t, line 2, column c0: \"x\""),
            ("1\ta\rb\n", "22P04 literal carriage return found in data | COPY t, line 1: \"1\ta\rb\""),
        ],
    );
}

#[test]
fn dates_and_times_are_read_where_the_session_is() {
    let home = Home::new("Asia/Tokyo", 1_719_810_367_000_000);
    let types = [SqlType::Timestamptz, SqlType::Date];
    let mut decoder = CopyDecoder::new(CopyOptions::new(CopyFormat::Text), "t".into(), columns(&types), home).unwrap();
    decoder.push(b"now\ttoday\n2024-01-01 12:00\ttomorrow\n").map_err(SqlError::from).unwrap();
    assert_eq!(show(Ok(decoder.take())), "2024-07-01 05:06:07+00,2024-07-01;2024-01-01 03:00:00+00,2024-07-02");
}

#[test]
fn csv_is_read_as_in_postgres() {
    let csv = CopyOptions::new(CopyFormat::Csv);
    check(
        &csv,
        &TYPES,
        &[
            ("1,a\n2,\n3,\"\"\n", "1,a;2,∅;3,"),
            ("1,\"a,\"\"b\"\"\nc\"\r\n", "1,a,\"b\"\\nc"),
            ("1,x\"y\"z", "1,xyz"),
            ("1,\"a\n", "22P04 unterminated CSV quoted field | COPY t, line 1"),
            ("1,a\n2,b,c\n", "22P04 extra data after last expected column | COPY t, line 2: \"2,b,c\""),
            (
                "99999999999,a\n",
                "22003 value \"99999999999\" is out of range for type integer | COPY t, line 1, column c0: \"99999999999\"",
            ),
        ]
        .map(|(a, b)| (a, b)),
    );
    let piped = CopyOptions {
        header: Header::Present,
        delimiter: Some('|'),
        escape: Some('\\'),
        null: Some("NULL".into()),
        force_not_null: vec!["c1".into()],
        ..csv
    };
    check(&piped, &TYPES, &[("id|name\nNULL|NULL\n5|\"a\\\"|b\"\n", "∅,NULL;5,a\"|b")]);
}

#[test]
fn bad_bytes_and_options_are_said() {
    let bad = decode(&CopyOptions::new(CopyFormat::Csv), &TYPES, b"1,\xff\n", 100).unwrap_err();
    assert_eq!((bad.code, bad.context.as_deref()), ("22021", Some("COPY t, line 1, column c1")));
    let nul = decode(&CopyOptions::new(CopyFormat::Csv), &TYPES, b"1,a\0b\n", 100).unwrap_err();
    assert_eq!(nul.code, "22021");
    let code = |o: CopyOptions| CopyDecoder::new(o, "t".into(), columns(&TYPES), Home::unknown()).err().map(|e| e.code);
    assert_eq!(code(CopyOptions { quote: Some('\''), ..CopyOptions::new(CopyFormat::Text) }), Some("0A000"));
    assert_eq!(code(CopyOptions { delimiter: Some('"'), ..CopyOptions::new(CopyFormat::Csv) }), Some("22023"));
    assert_eq!(code(CopyOptions { force_null: vec!["nope".into()], ..CopyOptions::new(CopyFormat::Csv) }), Some("42703"));
    assert_eq!(code(CopyOptions { header: Header::Present, ..CopyOptions::new(CopyFormat::Binary) }), Some("42601"));
    for data in [&b"PGCOPY?"[..], b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x05", b"not a binary copy at all"] {
        assert_eq!(decode(&CopyOptions::new(CopyFormat::Binary), &TYPES, data, 4).unwrap_err().code, "22P04");
    }
}

proptest! {
    #[test]
    fn every_format_reads_back_what_it_wrote(
        rows in prop::collection::vec((any::<Option<i32>>(), prop::option::of("[a-c,\"\\\\\t\n\r|é]{0,8}"), any::<Option<bool>>()), 0..30),
        cut in 1usize..50,
        format in 0usize..3,
    ) {
        let types = [SqlType::Int4, SqlType::Text, SqlType::Bool];
        let mut builders: Vec<_> = types.iter().map(|t| crate::values::ColumnBuilder::new(*t)).collect();
        for (int, text, bool) in &rows {
            for (builder, value) in builders.iter_mut().zip([int.map(|v| v.to_string()), text.clone(), bool.map(|v| v.to_string())]) {
                match value { Some(v) => builder.append_text(&v, &Home::unknown()).unwrap(), None => builder.append_null() }
            }
        }
        let arrays: Vec<_> = builders.iter_mut().map(|b| b.finish()).collect();
        let fields: Vec<_> = columns(&types).iter().map(|c| c.ty.field(&c.name, true)).collect();
        let batch = RecordBatch::try_new(std::sync::Arc::new(arrow::datatypes::Schema::new(fields)), arrays).unwrap();
        let options = CopyOptions::new([CopyFormat::Text, CopyFormat::Csv, CopyFormat::Binary][format]);
        let mut encoder = CopyEncoder::new(options.clone(), &batch.schema()).unwrap();
        let mut data = encoder.header().to_vec();
        data.extend_from_slice(&encoder.encode(&batch).unwrap());
        data.extend_from_slice(&encoder.finish());
        let back = decode(&options, &types, &data, cut).unwrap();
        prop_assert_eq!(back.num_rows(), rows.len());
        for i in 0..3 {
            prop_assert_eq!(back.column(i).to_data(), batch.column(i).to_data());
        }
    }
}
