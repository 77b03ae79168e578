#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Decimal128Array, Float64Array, Int64Array, StringViewArray};
use proptest::prelude::*;
use quire_types::{ColumnDef, ColumnId, SqlType};

use super::datetime::{reference_date, write_date};
use super::{Home, coerce, parse_binary, write_binary, write_text};

const NUMERIC: SqlType = SqlType::Numeric { precision: 5, scale: 2 };

fn parse_text(ty: SqlType, text: &str) -> Result<ArrayRef, super::ValueError> {
    super::parse_text(ty, text, &Home::unknown())
}

fn shown(array: &ArrayRef, ty: SqlType) -> String {
    let mut out = vec![];
    write_text(array, 0, ty, &mut out);
    String::from_utf8(out).unwrap()
}

/// What a value reads and prints as (`ERROR code message` when it does not read).
fn check(ty: SqlType, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let found = match parse_text(ty, text) {
            Ok(array) => {
                let mut binary = vec![];
                write_binary(&array, 0, ty, &mut binary);
                let back = parse_binary(ty, &binary).unwrap();
                assert_eq!(shown(&back, ty), shown(&array, ty), "binary form of {text}");
                shown(&array, ty)
            }
            Err(e) => format!("ERROR {} {}", e.code, e.message),
        };
        assert_eq!(&found, expected, "{ty:?} {text:?}");
    }
}

#[test]
fn values_read_and_print_as_in_postgres() {
    check(
        SqlType::Bool,
        &[("t", "t"), ("yes", "t"), ("OFF", "f"), ("0", "f"), ("o", "ERROR 22P02 invalid input syntax for type boolean: \"o\"")],
    );
    check(SqlType::Int2, &[(" 7 ", "7"), ("-32768", "-32768"), ("32768", "ERROR 22003 value \"32768\" is out of range for type smallint")]);
    check(
        SqlType::Int4,
        &[
            ("+5", "5"),
            ("abc", "ERROR 22P02 invalid input syntax for type integer: \"abc\""),
            ("", "ERROR 22P02 invalid input syntax for type integer: \"\""),
        ],
    );
    check(
        SqlType::Int8,
        &[
            ("-9223372036854775808", "-9223372036854775808"),
            ("9223372036854775808", "ERROR 22003 value \"9223372036854775808\" is out of range for type bigint"),
        ],
    );
    check(
        NUMERIC,
        &[
            ("1", "1.00"),
            ("-0.005", "-0.01"),
            (".5", "0.50"),
            ("999.994", "999.99"),
            ("1.5e2", "150.00"),
            ("12345e-3", "12.35"),
            ("0e50", "0.00"),
            ("999.995", "ERROR 22003 numeric field overflow"),
            ("1e9", "ERROR 22003 numeric field overflow"),
            ("1.2.3", "ERROR 22P02 invalid input syntax for type numeric: \"1.2.3\""),
            (".", "ERROR 22P02 invalid input syntax for type numeric: \".\""),
        ],
    );
    check(
        SqlType::Numeric { precision: 38, scale: 9 },
        &[("12345678901234567890.123456789", "12345678901234567890.123456789"), ("-10000", "-10000.000000000"), ("0.00001", "0.000010000")],
    );
    check(
        SqlType::Float8,
        &[
            ("0.1", "0.1"),
            ("1e20", "1e+20"),
            ("100000", "100000"),
            ("1e15", "1e+15"),
            ("0.00001", "1e-05"),
            ("nan", "NaN"),
            ("-Infinity", "-Infinity"),
            ("-0", "-0"),
            ("1e999", "ERROR 22003 \"1e999\" is out of range for type double precision"),
        ],
    );
    check(SqlType::Float4, &[("0.1", "0.1"), ("1234567", "1.234567e+06"), ("16777216", "1.6777216e+07")]);
    check(
        SqlType::Varchar(Some(3)),
        &[("abc  ", "abc"), ("äöü", "äöü"), ("abcd", "ERROR 22001 value too long for type character varying(3)")],
    );
    check(SqlType::Char(3), &[("a", "a  "), ("abc ", "abc"), ("abcd", "ERROR 22001 value too long for type character(3)")]);
    check(
        SqlType::Bytea,
        &[("\\xDEad", "\\xdead"), ("a\\\\b\\001", "\\x615c6201"), ("\\x1", "ERROR 22023 invalid hexadecimal data: odd number of digits")],
    );
    check(
        SqlType::Date,
        &[
            ("1998-12-01", "1998-12-01"),
            ("19981201", "1998-12-01"),
            ("Jan 8 1999", "1999-01-08"),
            ("1/8/1999", "1999-01-08"),
            ("2024-02-29", "2024-02-29"),
            ("10000-01-01", "10000-01-01"),
            ("2024-02-30", "ERROR 22008 date/time field value out of range: \"2024-02-30\""),
            ("x", "ERROR 22007 invalid input syntax for type date: \"x\""),
        ],
    );
    check(
        SqlType::Time,
        &[
            ("04:05", "04:05:00"),
            ("04:05:06.7891234", "04:05:06.789123"),
            ("4:05 PM", "16:05:00"),
            ("25:00", "ERROR 22008 date/time field value out of range: \"25:00\""),
        ],
    );
    check(
        SqlType::Timestamp,
        &[
            ("2024-01-01 00:00:00.5", "2024-01-01 00:00:00.5"),
            ("2024-01-01T01:02:03Z", "2024-01-01 01:02:03"),
            ("2024-01-01", "2024-01-01 00:00:00"),
            ("junk", "ERROR 22007 invalid input syntax for type timestamp: \"junk\""),
        ],
    );
    check(
        SqlType::Timestamptz,
        &[
            ("2024-01-01 12:00:00+02", "2024-01-01 10:00:00+00"),
            ("2024-07-01 12:00 Europe/Berlin", "2024-07-01 10:00:00+00"),
            ("1969-12-31 23:59:59.9-05:30", "1970-01-01 05:29:59.9+00"),
        ],
    );
    check(
        SqlType::Interval,
        &[
            ("1 year 2 mons 3 days 04:05:06.789", "1 year 2 mons 3 days 04:05:06.789"),
            ("P1Y2M3DT4H5M6S", "1 year 2 mons 3 days 04:05:06"),
            ("-1 day", "-1 days"),
            ("0", "00:00:00"),
            ("nope", "ERROR 22007 invalid input syntax for type interval: \"nope\""),
        ],
    );
    check(
        SqlType::Uuid,
        &[
            ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ("{a0eebc999c0b4ef8bb6d6bb9bd380a11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ("x", "ERROR 22P02 invalid input syntax for type uuid: \"x\""),
        ],
    );
    check(SqlType::Json, &[("{\"a\": [1, 2]}", "{\"a\": [1, 2]}"), ("{a}", "ERROR 22P02 invalid input syntax for type json")]);
}

#[test]
fn dates_and_times_are_read_at_home() {
    // 2024-07-01 05:06:07 UTC, when it is still the day before in Los Angeles.
    let home = Home::new("America/Los_Angeles", 1_719_810_367_000_000);
    let read = |ty: SqlType, text: &str| match super::parse_text(ty, text, &home) {
        Ok(array) => shown(&array, ty),
        Err(e) => format!("ERROR {} {}", e.code, e.message),
    };
    for (ty, text, expected) in [
        (SqlType::Timestamptz, "now", "2024-07-01 05:06:07+00"),
        (SqlType::Timestamp, " NOW ", "2024-06-30 22:06:07"),
        (SqlType::Time, "now", "22:06:07"),
        (SqlType::Date, "now", "2024-06-30"),
        (SqlType::Date, "tomorrow", "2024-07-01"),
        (SqlType::Date, "today 10:00", "2024-06-30"),
        (SqlType::Timestamp, "Yesterday", "2024-06-29 00:00:00"),
        (SqlType::Timestamptz, "today", "2024-06-30 07:00:00+00"),
        (SqlType::Timestamptz, "tomorrow 04:05:06+02", "2024-07-01 02:05:06+00"),
        (SqlType::Timestamptz, "2024-01-01 12:00", "2024-01-01 20:00:00+00"),
        (SqlType::Timestamp, "now 10:00", "ERROR 22007 invalid input syntax for type timestamp: \"now 10:00\""),
        (SqlType::Timestamp, "todays", "ERROR 22007 invalid input syntax for type timestamp: \"todays\""),
        (SqlType::Time, "today", "ERROR 22007 invalid input syntax for type time: \"today\""),
    ] {
        assert_eq!(read(ty, text), expected, "{ty:?} {text:?}");
    }
}

#[test]
fn assignments_convert_and_refuse_as_in_postgres() {
    let column = |ty| ColumnDef::new(ColumnId(1), "c", ty);
    let assign = |array: ArrayRef, ty: SqlType| {
        let field = arrow::datatypes::Field::new("x", array.data_type().clone(), true);
        match coerce(array, &field, &column(ty), "t", &Home::unknown()) {
            Ok(array) => (0..array.len()).map(|_| shown(&array, ty)).next().unwrap(),
            Err(e) => format!("ERROR {} {}", e.code, e.message),
        }
    };
    let int = |v: i64| Arc::new(Int64Array::from(vec![v])) as ArrayRef;
    let float = |v: f64| Arc::new(Float64Array::from(vec![v])) as ArrayRef;
    let text = |v: &str| Arc::new(StringViewArray::from(vec![v])) as ArrayRef;
    let decimal = |v: i128| Arc::new(Decimal128Array::from(vec![v]).with_precision_and_scale(10, 3).unwrap()) as ArrayRef;
    assert_eq!(assign(int(70_000), SqlType::Int2), "ERROR 22003 smallint out of range");
    assert_eq!(assign(int(7), SqlType::Text), "7");
    assert_eq!(assign(int(7000), NUMERIC), "ERROR 22003 numeric field overflow");
    assert_eq!(assign(float(2.5), SqlType::Int4), "2");
    assert_eq!(assign(float(f64::NAN), SqlType::Int4), "ERROR 22003 integer out of range");
    assert_eq!(assign(decimal(2500), SqlType::Int4), "3");
    assert_eq!(assign(decimal(-1235), NUMERIC), "-1.24");
    assert_eq!(assign(text("12"), SqlType::Int4), "12");
    assert_eq!(assign(text("abcd"), SqlType::Varchar(Some(3))), "ERROR 22001 value too long for type character varying(3)");
    assert_eq!(assign(int(1), SqlType::Bool), "ERROR 42804 column \"c\" is of type boolean but expression is of type bigint");
    assert_eq!(assign(int(1), SqlType::Date), "ERROR 42804 column \"c\" is of type date but expression is of type bigint");
}

proptest! {
    #[test]
    fn numbers_and_dates_round_trip(unscaled in -(10i128.pow(38) - 1)..10i128.pow(38), days in -700_000i32..2_900_000, float in any::<f64>()) {
        let ty = SqlType::Numeric { precision: 38, scale: 12 };
        let array: ArrayRef = Arc::new(Decimal128Array::from(vec![unscaled]).with_precision_and_scale(38, 12).unwrap());
        let text = shown(&array, ty);
        prop_assert_eq!(&parse_text(ty, &text).unwrap(), &array);
        let mut binary = vec![];
        write_binary(&array, 0, ty, &mut binary);
        prop_assert_eq!(&parse_binary(ty, &binary).unwrap(), &array);

        let mut date = vec![];
        write_date(days, &mut date);
        let date = String::from_utf8(date).unwrap();
        prop_assert_eq!(&date, &reference_date(days).unwrap());
        prop_assert_eq!(shown(&parse_text(SqlType::Date, &date).unwrap(), SqlType::Date), date);

        let array: ArrayRef = Arc::new(Float64Array::from(vec![float]));
        let back = parse_text(SqlType::Float8, &shown(&array, SqlType::Float8)).unwrap();
        prop_assert_eq!(shown(&back, SqlType::Float8), shown(&array, SqlType::Float8));
    }

    #[test]
    fn no_text_and_no_bytes_panic(text in ".{0,30}", bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        for ty in [SqlType::Bool, SqlType::Int4, NUMERIC, SqlType::Float8, SqlType::Bytea, SqlType::Date, SqlType::Time, SqlType::Timestamptz, SqlType::Interval, SqlType::Uuid, SqlType::Json, SqlType::Char(3)] {
            drop(parse_text(ty, &text));
            drop(parse_binary(ty, &bytes));
        }
    }
}
