//! COPY with data that is broken, doubled, cut off or odd: nothing of a failed COPY stays, and what goes out comes in again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{SinkExt, StreamExt, pin_mut};
use quire_tests::Quire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::{Client, Error};

const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at something that will happen.
const LOOK: Duration = Duration::from_millis(20);
/// More than the delta takes at once: such a COPY becomes segments.
const MANY: i64 = 200_000;

async fn in_time<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, what).await.context("it hangs")?
}

/// What an error says: SQLSTATE, message, detail, context.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    code: String,
    message: String,
    detail: String,
    context: String,
}

fn said(error: &Error) -> Result<Said> {
    let db = error.as_db_error().with_context(|| format!("not an error of the server: {error:?}"))?;
    let text = |t: Option<&str>| t.unwrap_or_default().to_string();
    Ok(Said { code: db.code().code().into(), message: db.message().into(), detail: text(db.detail()), context: text(db.where_()) })
}

/// Sends `data` in pieces as a client would.
async fn copy_in(client: &Client, sql: &str, data: impl Into<Bytes>) -> Result<u64, Error> {
    let mut data = data.into();
    let sink = client.copy_in(sql).await?;
    pin_mut!(sink);
    while !data.is_empty() {
        let piece = data.split_to(data.len().min(60_000));
        sink.send(piece).await?;
    }
    sink.finish().await
}

async fn copy_out(client: &Client, sql: &str) -> Result<Vec<u8>> {
    let stream = client.copy_out(sql).await?;
    pin_mut!(stream);
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

async fn fails(client: &Client, sql: &str, data: impl Into<Bytes>) -> Result<Said> {
    match copy_in(client, sql, data).await {
        Ok(rows) => anyhow::bail!("{sql} took {rows} rows"),
        Err(error) => said(&error).with_context(|| sql.to_string()),
    }
}

async fn count(client: &Client, table: &str) -> Result<i64> {
    Ok(client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?.get(0))
}

/// `id,name` lines; `line` may say something else for one id.
fn csv(rows: i64, line: impl Fn(i64) -> Option<String>) -> String {
    (1..=rows).map(|id| line(id).unwrap_or_else(|| format!("{id},name of {id}\n"))).collect()
}

#[tokio::test]
async fn a_key_twice_in_one_big_copy_is_named_and_nothing_stays() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let client = quire.connect().await?;
        client.batch_execute("CREATE TABLE doubled (id bigint PRIMARY KEY, name text)").await?;
        // far apart, so that no batch holds both
        let data = csv(MANY, |id| (id == MANY - 1).then(|| "77,again\n".to_string()));
        let error = fails(&client, "COPY doubled FROM STDIN (FORMAT csv)", data).await?;
        ensure!(error.code == "23505", "{error:?}");
        ensure!(error.message == "duplicate key value violates unique constraint \"doubled_pkey\"", "{error:?}");
        ensure!(error.detail == "Key (id)=(77) already exists.", "{error:?}");
        ensure!(count(&client, "doubled").await? == 0, "rows of a failed COPY stayed");

        ensure!(copy_in(&client, "COPY doubled FROM STDIN (FORMAT csv)", csv(MANY, |_| None)).await? == MANY as u64);
        // against what is in segments now, by a big COPY and by a small one
        let again = csv(MANY, |id| Some(format!("{},again\n", id + MANY - 1)));
        let error = fails(&client, "COPY doubled FROM STDIN (FORMAT csv)", again).await?;
        ensure!(error.code == "23505" && error.detail == format!("Key (id)=({MANY}) already exists."), "{error:?}");
        let error = fails(&client, "COPY doubled FROM STDIN (FORMAT csv)", "500000,new\n123456,old\n").await?;
        ensure!(error.code == "23505" && error.detail == "Key (id)=(123456) already exists.", "{error:?}");
        ensure!(count(&client, "doubled").await? == MANY);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_composite_key_and_a_unique_column_are_checked_in_a_big_copy() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let client = quire.connect().await?;
        client.batch_execute("CREATE TABLE pairs (a int, b text, c int UNIQUE, PRIMARY KEY (a, b))").await?;
        let line = |i: i64| format!("{},{},{i}\n", i % 1000, i / 1000);
        let good: String = (0..MANY).map(line).collect();
        ensure!(copy_in(&client, "COPY pairs FROM STDIN (FORMAT csv)", good.clone()).await? == MANY as u64);
        client.batch_execute("TRUNCATE pairs").await?;

        let key: String = (0..MANY).map(|i| if i == MANY - 1 { format!("5,7,{i}\n") } else { line(i) }).collect();
        let error = fails(&client, "COPY pairs FROM STDIN (FORMAT csv)", key).await?;
        ensure!(error.code == "23505" && error.detail == "Key (a, b)=(5, 7) already exists.", "{error:?}");
        let column: String = (0..MANY).map(|i| if i == 3 { "-1,x,199000\n".into() } else { line(i) }).collect();
        let error = fails(&client, "COPY pairs FROM STDIN (FORMAT csv)", column).await?;
        ensure!(error.code == "23505" && error.message.contains("\"pairs_c_key\""), "{error:?}");
        ensure!(error.detail == "Key (c)=(199000) already exists.", "{error:?}");
        // NULL is not equal to NULL
        let nulls: String = (0..MANY).map(|i| format!("{i},x,\n")).collect();
        ensure!(copy_in(&client, "COPY pairs FROM STDIN (FORMAT csv)", nulls).await? == MANY as u64);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_broken_line_deep_in_the_file_is_named_by_its_number() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let client = quire.connect().await?;
        client.batch_execute("CREATE TABLE deep (id int PRIMARY KEY, name varchar(20) NOT NULL)").await?;
        let broken = |line: &str| csv(MANY, |id| (id == 150_000).then(|| format!("{line}\n")));
        for (line, code, message, context) in [
            ("150000", "22P04", "missing data for column \"name\"", "COPY deep, line 150000: \"150000\""),
            ("150000,a,b", "22P04", "extra data after last expected column", "COPY deep, line 150000: \"150000,a,b\""),
            ("fifteen,a", "22P02", "invalid input syntax for type integer: \"fifteen\"", "COPY deep, line 150000, column id: \"fifteen\""),
            (
                "9999999999,a",
                "22003",
                "value \"9999999999\" is out of range for type integer",
                "COPY deep, line 150000, column id: \"9999999999\"",
            ),
            (
                "150000,much longer than twenty characters",
                "22001",
                "value too long for type character varying(20)",
                "COPY deep, line 150000, column name: \"much longer than twenty characters\"",
            ),
        ] {
            let error = fails(&client, "COPY deep FROM STDIN (FORMAT csv)", broken(line)).await?;
            ensure!(error.code == code && error.message == message, "{line}: {error:?}");
            ensure!(error.context == context, "{line}: {error:?}");
        }
        let error = fails(&client, "COPY deep FROM STDIN (FORMAT csv)", broken("150000,")).await?;
        ensure!(error.code == "23502", "{error:?}");
        ensure!(error.message == "null value in column \"name\" of relation \"deep\" violates not-null constraint", "{error:?}");
        // a quote that is never closed takes the rest of the file with it
        let error = fails(&client, "COPY deep FROM STDIN (FORMAT csv)", broken("150000,\"open")).await?;
        ensure!(error.code == "22P04" && error.message == "unterminated CSV quoted field", "{error:?}");
        ensure!(error.context.starts_with("COPY deep, line "), "{error:?}");
        let mut bytes = csv(MANY, |_| None).into_bytes();
        let at = bytes.len() / 2;
        bytes[at] = 0xff;
        let error = fails(&client, "COPY deep FROM STDIN (FORMAT csv)", bytes).await?;
        ensure!(error.code == "22021" && error.context.starts_with("COPY deep, line 1"), "{error:?}");
        ensure!(count(&client, "deep").await? == 0, "rows of a failed COPY stayed");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_failed_copy_leaves_the_block_failed_and_the_session_usable() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let client = quire.connect().await?;
        client.batch_execute("CREATE TABLE blocked (id int PRIMARY KEY)").await?;
        client.batch_execute("BEGIN; INSERT INTO blocked VALUES (1)").await?;
        ensure!(copy_in(&client, "COPY blocked FROM STDIN", "2\n3\n").await? == 2);
        ensure!(count(&client, "blocked").await? == 3, "a transaction sees its own COPY");
        // a key that this transaction has inserted itself
        let error = fails(&client, "COPY blocked FROM STDIN", "4\n3\n").await?;
        ensure!(error.code == "23505" && error.detail == "Key (id)=(3) already exists.", "{error:?}");
        let refused = client.batch_execute("SELECT 1").await.err().context("a failed block goes on")?;
        ensure!(said(&refused)?.code == "25P02");
        client.batch_execute("ROLLBACK").await?;
        ensure!(count(&client, "blocked").await? == 0);
        ensure!(copy_in(&client, "COPY blocked FROM STDIN", "4\n3\n").await? == 2);
        Ok(())
    })
    .await
}

/// A connection that speaks the protocol by hand, in order to stop in the middle of a word.
struct Raw(tokio::net::TcpStream);

impl Raw {
    async fn open(address: &str) -> Result<Raw> {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let parameters = b"user\0quire\0database\0quire\0\0";
        stream.write_all(&(parameters.len() as u32 + 8).to_be_bytes()).await?;
        stream.write_all(&196_608u32.to_be_bytes()).await?;
        stream.write_all(parameters).await?;
        let mut raw = Raw(stream);
        raw.until(b'Z').await?;
        Ok(raw)
    }

    async fn send(&mut self, kind: u8, body: &[u8]) -> Result<()> {
        self.0.write_all(&[kind]).await?;
        self.0.write_all(&(body.len() as u32 + 4).to_be_bytes()).await?;
        Ok(self.0.write_all(body).await?)
    }

    /// Reads messages up to the first of this kind.
    async fn until(&mut self, wanted: u8) -> Result<Vec<u8>> {
        loop {
            let kind = self.0.read_u8().await?;
            let mut body = vec![0; self.0.read_u32().await? as usize - 4];
            self.0.read_exact(&mut body).await?;
            ensure!(kind != b'E', "{}", String::from_utf8_lossy(&body));
            if kind == wanted {
                return Ok(body);
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_of_copy_leaves_nothing() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let client = quire.connect().await?;
        client.batch_execute("CREATE TABLE halves (id int PRIMARY KEY, name text)").await?;
        for rows in [10, MANY] {
            let data = csv(rows, |_| None);
            for cut in ["between messages", "in a message", "after its last message"] {
                let mut raw = Raw::open(quire.address()).await?;
                raw.send(b'Q', b"COPY halves FROM STDIN (FORMAT csv)\0").await?;
                raw.until(b'G').await?;
                for piece in data.as_bytes().chunks(60_000) {
                    raw.send(b'd', piece).await?;
                }
                match cut {
                    // half of a message: its length says more than comes
                    "in a message" => raw.0.write_all(b"d\0\0\x01\0half").await?,
                    // no Sync, no goodbye, but the data was complete: CopyFail
                    "after its last message" => raw.send(b'f', b"changed my mind\0").await?,
                    _ => {}
                }
                drop(raw);
            }
        }
        // The server notices when it reads on. A COPY that will not end would hold the keys: take them.
        let taken = async {
            while copy_in(&client, "COPY halves FROM STDIN (FORMAT csv)", "1,one\n199999,last\n").await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, taken).await.context("an abandoned COPY is in the way")?;
        ensure!(count(&client, "halves").await? == 2, "rows of an abandoned COPY stayed");
        Ok(())
    })
    .await
}

const EVERY_TYPE: &str = "id int PRIMARY KEY, b boolean, i2 smallint, i8 bigint, f4 real, f8 double precision, n numeric(20,5), t text, \
     v varchar(30), c char(5), y bytea, d date, ti time, ts timestamp, tz timestamptz, iv interval, u uuid, j json";

const EVERY_VALUE: &[&str] = &[
    "1, true, -32768, 9223372036854775807, 1.5, -0.1, 123456789012345.54321, 'plain', 'v', 'c', '\\x00ff', '2026-02-28', '23:59:59.999999', \
     '2026-02-28 01:02:03.000004', '2026-02-28 01:02:03+00', '1 year 2 mons 3 days 04:05:06.7', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"a\": [1, null]}'",
    "2, false, 32767, -9223372036854775808, 'NaN', 'Infinity', -0.00001, '', '', '', '', '0001-01-01', '00:00:00', '9999-12-31 23:59:59.999999', \
     '1970-01-01 00:00:00+00', '-1 days -00:00:00.000001', '00000000-0000-0000-0000-000000000000', '\"\"'",
    "3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL",
    "4, true, 0, 0, -0.0, '1e-300', 0, E'tab\\t newline\\n return\\r back\\\\slash \"quote\" ''single'' , | ; \\b\\f\\v', '\\N', '\\.', '\\x5c2e0a', \
     '2026-11-24', '12:00', '2026-11-24 12:00', '2026-11-24 12:00+05:30', '0', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '[]'",
    "5, true, 1, 1, '3.4028235e38', '1.7976931348623157e308', 99999, '\\.', ' leading and trailing ', ' x', '\\xdeadbeef', '1999-12-31', '01:00', \
     '1999-12-31 00:00', '1999-12-31 00:00-08', '40 days', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', '{}'",
    "6, true, 1, 1, 1, 1, 1, 'héllo wörld ÷ 漢字 🪶', 'NULL', 'ü', '\\x', '2000-02-29', '01:00', '2000-02-29 00:00', '2000-02-29 00:00+00', \
     '00:00:01', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13', '\"é\"'",
];

#[tokio::test]
async fn what_copy_writes_it_reads_again_in_every_format() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let client = quire.connect().await?;
        client.batch_execute(&format!("SET timezone = 'UTC'; CREATE TABLE original ({EVERY_TYPE})")).await?;
        for row in EVERY_VALUE {
            client.batch_execute(&format!("INSERT INTO original VALUES ({row})")).await.with_context(|| row.to_string())?;
        }
        let rows = EVERY_VALUE.len() as u64;
        let sorted = |table: &str, options: &str| format!("COPY (SELECT * FROM {table} ORDER BY id) TO STDOUT {options}");
        let before = copy_out(&client, &sorted("original", "")).await?;
        ensure!(before.iter().filter(|b| **b == b'\n').count() == EVERY_VALUE.len(), "{}", String::from_utf8_lossy(&before));
        for (i, options) in [
            "",
            "(FORMAT text, DELIMITER '|', NULL 'nil')",
            "(FORMAT text, HEADER)",
            "(FORMAT csv)",
            "(FORMAT csv, HEADER)",
            "(FORMAT csv, HEADER, DELIMITER ';', QUOTE '''', ESCAPE '\\', NULL '-')",
            "(FORMAT csv, FORCE_QUOTE *)",
            "(FORMAT binary)",
        ]
        .iter()
        .enumerate()
        {
            let table = format!("copy_{i}");
            client.batch_execute(&format!("CREATE TABLE {table} ({EVERY_TYPE})")).await?;
            let data = copy_out(&client, &sorted("original", options)).await.with_context(|| options.to_string())?;
            let from = options.replace("(FORMAT csv, FORCE_QUOTE *)", "(FORMAT csv)");
            let taken = copy_in(&client, &format!("COPY {table} FROM STDIN {from}"), data.clone()).await;
            let taken = taken.with_context(|| format!("{options}: {}", String::from_utf8_lossy(&data)))?;
            ensure!(taken == rows, "{options}: {taken}");
            let after = copy_out(&client, &sorted(&table, "")).await?;
            ensure!(after == before, "{options}:\n{}\n{}", String::from_utf8_lossy(&before), String::from_utf8_lossy(&after));
            // and the same bytes once more
            ensure!(copy_out(&client, &sorted(&table, options)).await? == data, "{options}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_big_table_goes_out_and_comes_in_whole() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let client = quire.connect().await?;
        client
            .batch_execute("CREATE TABLE big (id int PRIMARY KEY, name text); CREATE TABLE bigger (id int PRIMARY KEY, name text)")
            .await?;
        copy_in(&client, "COPY big FROM STDIN (FORMAT csv)", csv(MANY, |_| None)).await?;
        for options in ["", "(FORMAT csv, HEADER)", "(FORMAT binary)"] {
            let data = copy_out(&client, &format!("COPY big TO STDOUT {options}")).await?;
            ensure!(copy_in(&client, &format!("COPY bigger FROM STDIN {options}"), data).await? == MANY as u64);
            let same = "SELECT count(*) FROM big JOIN bigger ON big.id = bigger.id AND big.name = bigger.name";
            ensure!(client.query_one(same, &[]).await?.get::<_, i64>(0) == MANY);
            client.batch_execute("TRUNCATE bigger").await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn null_markers_quotes_headers_and_the_end_marker_mean_what_they_mean_to_postgres() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let client = quire.connect().await?;
        client.batch_execute("CREATE TABLE odd (id int, a text, b text)").await?;
        // (options, data, what is there afterwards: NULL as ~)
        let cases: &[(&str, &str, &str)] = &[
            ("", "1\t\\N\t\n2\t\\\\N\tN\n", "1|~| 2|\\N|N"),
            ("(NULL 'x')", "1\tx\ty\n2\tX\t\\x\n", "1|~|y 2|X|x"),
            ("", "1\ta\tb\n\\.\n2\tnot\tread\n", "1|a|b"),
            ("(FORMAT csv)", "1,,\"\"\n2,\"\",\"a \"\"b\"\" c\"\n", "1|~| 2||a \"b\" c"),
            ("(FORMAT csv)", "1,\"two\nlines\",\"a,b\"\n", "1|two\nlines|a,b"),
            ("(FORMAT csv)", "1,a\"b\"c,d\"e,f\"g\n", "1|abc|de,fg"),
            ("(FORMAT csv, NULL 'nil')", "1,nil,\"nil\"\n", "1|~|nil"),
            ("(FORMAT csv, FORCE_NULL (b), NULL 'nil')", "1,\"nil\",\"nil\"\n", "1|nil|~"),
            ("(FORMAT csv, FORCE_NOT_NULL (a))", "1,,\n", "1||~"),
            ("(FORMAT csv, HEADER)", "whatever,is,here\n1,a,b\n", "1|a|b"),
            ("(FORMAT csv, HEADER true)", "\"a\nb\",c,d\n1,a,b\n", "1|a|b"),
            ("(FORMAT csv)", "1,a,b\r\n2,c,d\r\n", "1|a|b 2|c|d"),
            ("(FORMAT csv)", "1,a,\\.\n2,\\.,b\n", "1|a|\\. 2|\\.|b"),
            ("(FORMAT csv)", "1,a,b\n\\.\n2,not,read\n", "1|a|b"),
            ("(FORMAT csv)", "1,a,no newline at the end", "1|a|no newline at the end"),
            ("", "1\ta\tno newline at the end", "1|a|no newline at the end"),
            ("", "1\tx\\ty\\101\\x42\tz\\\nz\n", "1|x\ty\u{41}\u{42}|z\nz"),
            ("(FORMAT csv, DELIMITER '|', QUOTE '$', ESCAPE '@')", "1|$a|@$b$|c\n", "1|a|$b|c"),
            ("WITH CSV HEADER", "h,h,h\n1,a,b\n", "1|a|b"),
            ("WITH DELIMITER AS ',' NULL AS ''", "1,,b\n", "1|~|b"),
        ];
        for (options, data, expected) in cases {
            client.batch_execute("TRUNCATE odd").await?;
            copy_in(&client, &format!("COPY odd FROM STDIN {options}"), data.to_string())
                .await
                .with_context(|| format!("{options} {data:?}"))?;
            let rows = client.query("SELECT id, a, b FROM odd ORDER BY id", &[]).await?;
            let shown = |v: Option<String>| v.unwrap_or_else(|| "~".into());
            let rows: Vec<String> =
                rows.iter().map(|r| format!("{}|{}|{}", r.get::<_, i32>(0), shown(r.get(1)), shown(r.get(2)))).collect();
            ensure!(rows.join(" ") == *expected, "{options} {data:?}: {:?}", rows.join(" "));
        }
        // columns in another order, the others take their defaults
        client.batch_execute("CREATE TABLE some (id int PRIMARY KEY, a text DEFAULT 'none', b text)").await?;
        ensure!(copy_in(&client, "COPY some (b, id) FROM STDIN (FORMAT csv)", "x,1\ny,2\n").await? == 2);
        let row = client.query_one("SELECT a, b FROM some WHERE id = 2", &[]).await?;
        ensure!(row.get::<_, &str>(0) == "none" && row.get::<_, &str>(1) == "y");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_copy_that_cannot_begin_says_why() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let client = quire.connect().await?;
        client.batch_execute("CREATE TABLE begun (id int PRIMARY KEY, a text); CREATE VIEW seen AS SELECT * FROM begun").await?;
        for (sql, code) in [
            ("COPY missing FROM STDIN", "42P01"),
            ("COPY begun (id, nothing) FROM STDIN", "42703"),
            ("COPY begun (id, id) FROM STDIN", "42701"),
            ("COPY seen FROM STDIN", "42809"),
            ("COPY begun FROM STDIN (FORMAT parquet)", "22023"),
            ("COPY begun FROM STDIN (FORMAT csv, DELIMITER '\"')", "22023"),
            ("COPY begun FROM STDIN (FORMAT binary, DELIMITER ',')", "42601"),
            ("COPY begun FROM STDIN (QUOTE '''')", "0A000"),
        ] {
            // a connection of its own: the driver sends CopyFail and a second Sync after an error, and miscounts the answers
            let error = fails(&quire.connect().await?, sql, "").await?;
            ensure!(error.code == code, "{sql}: {error:?}");
        }
        // and does not read or write the server's own files
        for sql in ["COPY begun FROM '/etc/passwd'", "COPY begun TO '/tmp/begun'", "COPY begun FROM PROGRAM 'id'"] {
            let error = said(&client.batch_execute(sql).await.err().with_context(|| format!("{sql} works"))?)?;
            ensure!(["42501", "0A000"].contains(&error.code.as_str()), "{sql}: {error:?}");
        }
        ensure!(count(&client, "begun").await? == 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn two_big_copies_of_the_same_keys_make_one_table() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let (one, two) = (quire.connect().await?, quire.connect().await?);
        one.batch_execute("CREATE TABLE raced (id bigint PRIMARY KEY, name text)").await?;
        let (first, second) = tokio::join!(
            copy_in(&one, "COPY raced FROM STDIN (FORMAT csv)", csv(MANY, |_| None)),
            copy_in(&two, "COPY raced FROM STDIN (FORMAT csv)", csv(MANY, |_| None)),
        );
        let failed: Vec<Said> = [&first, &second].into_iter().filter_map(|r| r.as_ref().err()).map(said).collect::<Result<_>>()?;
        ensure!(failed.len() == 1, "one wins: {first:?} {second:?}");
        ensure!(["23505", "40001"].contains(&failed[0].code.as_str()), "{failed:?}");
        ensure!(count(&one, "raced").await? == MANY);
        Ok(())
    })
    .await
}
