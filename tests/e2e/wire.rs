//! The Postgres port: both protocols, portals, COPY, cancel, and what comes from clients that are broken or hostile.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt, TryStreamExt, pin_mut};
use quire_tests::Quire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

async fn in_time<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, what).await.context("it hangs")?
}

fn code<T>(result: std::result::Result<T, tokio_postgres::Error>) -> Option<String> {
    result.err().and_then(|e| e.code().map(|c| c.code().to_string()))
}

// --- through a driver ---------------------------------------------------------------------------

#[tokio::test]
async fn a_query_string_holds_several_statements_in_one_transaction() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let client = quire.connect().await?;
        client.batch_execute("CREATE TABLE several (a int PRIMARY KEY)").await?;
        let messages = client.simple_query("INSERT INTO several VALUES (1); SELECT a FROM several; SELECT 2").await?;
        let rows: Vec<_> = messages.iter().filter_map(|m| if let SimpleQueryMessage::Row(r) = m { r.get(0) } else { None }).collect();
        ensure!(rows == ["1", "2"], "{rows:?}");
        let failed = client.batch_execute("INSERT INTO several VALUES (2); SELECT 1/0; INSERT INTO several VALUES (3)").await;
        ensure!(code(failed).as_deref() == Some("22012"));
        let left = client.query_one("SELECT count(*) FROM several", &[]).await?.get::<_, i64>(0);
        ensure!(left == 1, "a failed string left {left} rows");
        ensure!(client.simple_query("").await?.is_empty() || client.simple_query(" ; ").await.is_ok());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn parameters_of_every_kind_come_back() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let client = quire.connect().await?;
        client
            .batch_execute(
                "CREATE TABLE kinds (i2 smallint, i4 int, i8 bigint, f4 real, f8 float8, t text, b bool, by bytea, j varchar(9))",
            )
            .await?;
        let given: [&(dyn ToSql + Sync); 9] =
            [&-2i16, &i32::MIN, &i64::MAX, &1.5f32, &-0.25f64, &"héllo 'x'", &true, &&b"\x00\xff\x01"[..], &None::<&str>];
        let insert = "INSERT INTO kinds VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        ensure!(client.execute(insert, &given).await? == 1);
        let row = client.query_one("SELECT * FROM kinds WHERE i4 = $1 AND t = $2", &[&i32::MIN, &"héllo 'x'"]).await?;
        ensure!(row.get::<_, i16>(0) == -2 && row.get::<_, i32>(1) == i32::MIN && row.get::<_, i64>(2) == i64::MAX);
        ensure!(row.get::<_, f32>(3) == 1.5 && row.get::<_, f64>(4) == -0.25 && row.get::<_, &str>(5) == "héllo 'x'");
        ensure!(row.get::<_, bool>(6) && row.get::<_, &[u8]>(7) == b"\x00\xff\x01" && row.get::<_, Option<&str>>(8).is_none());
        // Of a type that its value does not need, and that decides what the result is.
        let plain = client.prepare_typed("SELECT $1, $2, $2 + 2147483647", &[Type::INT2, Type::INT8]).await?;
        let row = client.query_one(&plain, &[&7i16, &-7i64]).await?;
        ensure!(row.get::<_, i16>(0) == 7 && row.get::<_, i64>(1) == -7 && row.get::<_, i64>(2) == 2_147_483_640);
        let array = client.prepare_typed("SELECT $1", &[Type::INT2_ARRAY]).await?;
        ensure!(client.query_one(&array, &[&vec![1i16, -2]]).await?.get::<_, Vec<i16>>(0) == [1, -2]);
        Ok(())
    })
    .await
}

/// What is prepared once goes on meaning what its text means: by key, by an index, for values that no row has, and after definitions changed.
#[tokio::test]
async fn prepared_statements_by_key_mean_what_their_text_means() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let client = quire.connect().await?;
        client
            .batch_execute(
                "CREATE TABLE ready (id int PRIMARY KEY, grp bigint, name varchar(5), n int DEFAULT 7);
                 CREATE INDEX ON ready (grp);
                 INSERT INTO ready SELECT i, i % 3, 'n' || i, 0 FROM generate_series(1, 9) i",
            )
            .await?;
        let by_key = client.prepare("SELECT name, grp FROM ready WHERE id = $1").await?;
        let by_index = client.prepare("SELECT id FROM ready r WHERE r.grp = $1 AND name = $2").await?;
        let add = client.prepare("UPDATE ready SET n = n + $2, name = name WHERE id = $1").await?;
        let put = client.prepare("INSERT INTO ready (id, grp, name) VALUES ($1, $2, $3)").await?;
        let gone = client.prepare("DELETE FROM ready WHERE grp = $1").await?;

        ensure!(client.query_one(&by_key, &[&4]).await?.get::<_, &str>(0) == "n4");
        ensure!(client.query(&by_key, &[&400]).await?.is_empty());
        ensure!(client.query(&by_key, &[&None::<i32>]).await?.is_empty());
        ensure!(client.query_one(&by_index, &[&1i64, &"n7"]).await?.get::<_, i32>(0) == 7);
        ensure!(client.query(&by_index, &[&1i64, &"n8"]).await?.is_empty());
        ensure!(client.execute(&add, &[&5, &10]).await? == 1);
        ensure!(client.execute(&add, &[&5, &None::<i32>]).await? == 1);
        ensure!(client.execute(&add, &[&500, &10]).await? == 0);
        ensure!(code(client.execute(&add, &[&6, &i32::MAX]).await).is_none());
        ensure!(code(client.execute(&add, &[&6, &1]).await).as_deref() == Some("22003"));
        ensure!(client.execute(&put, &[&10, &1i64, &"n10"]).await? == 1);
        ensure!(code(client.execute(&put, &[&10, &1i64, &"again"]).await).as_deref() == Some("23505"));
        ensure!(code(client.execute(&put, &[&11, &1i64, &"far too long"]).await).as_deref() == Some("22001"));
        ensure!(code(client.execute(&put, &[&None::<i32>, &1i64, &"x"]).await).as_deref() == Some("23502"));
        let rows = client.query("SELECT id, n FROM ready WHERE n IS DISTINCT FROM 0 ORDER BY id", &[]).await?;
        let rows: Vec<(i32, Option<i32>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        ensure!(rows == [(5, None), (6, Some(i32::MAX)), (10, Some(7))], "{rows:?}");

        // In a block: own rows, and nothing left of them.
        client.batch_execute("BEGIN").await?;
        ensure!(client.execute(&put, &[&20, &8i64, &"own"]).await? == 1);
        ensure!(client.query_one(&by_key, &[&20]).await?.get::<_, &str>(0) == "own");
        ensure!(client.execute(&gone, &[&8i64]).await? == 1);
        ensure!(client.query(&by_key, &[&20]).await?.is_empty());
        client.batch_execute("ROLLBACK").await?;
        ensure!(code({
            client.batch_execute("BEGIN READ ONLY").await?;
            client.execute(&gone, &[&1i64]).await
        })
        .as_deref()
            == Some("25006"));
        ensure!(code(client.query(&by_key, &[&1]).await).as_deref() == Some("25P02"));
        client.batch_execute("ROLLBACK").await?;

        // Another definition, another table of that name, another search path.
        client.batch_execute("ALTER TABLE ready ADD COLUMN more text DEFAULT 'm'").await?;
        ensure!(client.query_one(&by_key, &[&4]).await?.get::<_, &str>(0) == "n4");
        ensure!(client.execute(&put, &[&12, &2i64, &"n12"]).await? == 1);
        ensure!(client.query_one("SELECT more FROM ready WHERE id = 12", &[]).await?.get::<_, &str>(0) == "m");
        client.batch_execute("CREATE TEMP TABLE ready (id int, name varchar(5), grp bigint); INSERT INTO ready VALUES (4, 'temp', 0)").await?;
        ensure!(client.query_one(&by_key, &[&4]).await?.get::<_, &str>(0) == "temp");
        client.batch_execute("DROP TABLE ready").await?;
        ensure!(client.query_one(&by_key, &[&4]).await?.get::<_, &str>(0) == "n4");
        client
            .batch_execute("CREATE SCHEMA other; CREATE TABLE other.ready (id int PRIMARY KEY, name varchar(5), grp bigint); SET search_path = other, public")
            .await?;
        ensure!(client.query(&by_key, &[&4]).await?.is_empty());
        client.batch_execute("SET search_path = public; ALTER TABLE ready ALTER COLUMN name TYPE int USING 1").await?;
        ensure!(code(client.query(&by_key, &[&4]).await).as_deref() == Some("0A000"), "the result has another type");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_portal_gives_its_rows_piece_by_piece() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let mut client = quire.connect().await?;
        let transaction = client.transaction().await?;
        let statement = transaction.prepare("SELECT value FROM generate_series(1, 25000) AS s(value)").await?;
        let portal = transaction.bind(&statement, &[]).await?;
        let other = transaction.bind(&statement, &[]).await?;
        let mut next = 1i32;
        loop {
            let rows = transaction.query_portal(&portal, 7_001).await?;
            for row in &rows {
                ensure!(row.get::<_, i32>(0) == next, "rows come in order, none twice");
                next += 1;
            }
            // Another portal in between does not disturb it.
            ensure!(transaction.query_portal(&other, 10).await?.len() == 10);
            if rows.len() < 7_001 {
                break;
            }
        }
        ensure!(next == 25_001, "{next}");
        ensure!(transaction.query_portal(&portal, 10).await?.is_empty());
        transaction.commit().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cancel_request_ends_a_statement_that_works_and_one_that_sends() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let client = quire.connect().await?;
        let token = client.cancel_token();
        let working = client.simple_query("SELECT count(*) FROM generate_series(1, 1000000000) a, generate_series(1, 1000) b");
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            token.cancel_query(NoTls).await
        };
        let (worked, cancelled) = tokio::join!(working, cancel);
        cancelled?;
        ensure!(code(worked).as_deref() == Some("57014"));

        let none: [&str; 0] = [];
        let sending = client.query_raw("SELECT value FROM generate_series(1, 1000000000) AS s(value)", none).await?;
        pin_mut!(sending);
        ensure!(sending.try_next().await?.is_some());
        token.cancel_query(NoTls).await?;
        let ended = loop {
            match sending.try_next().await {
                Ok(Some(_)) => {}
                Ok(None) => bail!("a cancelled statement sent all its rows"),
                Err(error) => break error,
            }
        };
        ensure!(ended.code() == Some(&SqlState::QUERY_CANCELED), "{ended}");
        // A request that comes when nothing runs cancels nothing.
        token.cancel_query(NoTls).await?;
        ensure!(client.query_one("SELECT 1::int", &[]).await?.get::<_, i32>(0) == 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn copy_goes_both_ways_and_all_or_nothing() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let client = quire.connect().await?;
        client.batch_execute("CREATE TABLE copied (a int, b text)").await?;
        let sink = client.copy_in("COPY copied FROM STDIN").await?;
        pin_mut!(sink);
        for part in 0..100 {
            let lines: String = (0..1000).map(|i| format!("{}\tline {i}\n", part * 1000 + i)).collect();
            sink.send(bytes::Bytes::from(lines)).await?;
        }
        ensure!(sink.finish().await? == 100_000);
        let count = "SELECT count(*), sum(a)::bigint FROM copied";
        let row = client.query_one(count, &[]).await?;
        ensure!(row.get::<_, i64>(0) == 100_000 && row.get::<_, i64>(1) == 4_999_950_000);

        let sink = client.copy_in("COPY copied FROM STDIN").await?;
        pin_mut!(sink);
        let mut failed = sink.send(bytes::Bytes::from_static(b"1\tgood\nbad\tline\n")).await;
        if failed.is_ok() {
            failed = sink.finish().await.map(|_| ());
        }
        let error = failed.expect_err("a letter is no number");
        ensure!(error.code() == Some(&SqlState::INVALID_TEXT_REPRESENTATION), "{error}");
        ensure!(client.query_one(count, &[]).await?.get::<_, i64>(0) == 100_000);

        {
            // Dropped without finish: the driver sends CopyFail.
            let sink = client.copy_in("COPY copied FROM STDIN").await?;
            pin_mut!(sink);
            sink.send(bytes::Bytes::from_static(b"1\tgood\n")).await?;
        }
        ensure!(client.query_one(count, &[]).await?.get::<_, i64>(0) == 100_000);

        let out = client.copy_out("COPY (SELECT a, b FROM copied WHERE a < 3 ORDER BY a) TO STDOUT").await?;
        let text: Vec<bytes::Bytes> = out.try_collect().await?;
        ensure!(text.concat() == b"0\tline 0\n1\tline 1\n2\tline 2\n");
        let all: Vec<bytes::Bytes> = client.copy_out("COPY copied TO STDOUT").await?.try_collect().await?;
        ensure!(all.iter().map(|d| d.iter().filter(|b| **b == b'\n').count()).sum::<usize>() == 100_000);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn who_is_not_known_is_sent_away() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        for (user, database, expected) in [("quire", "nowhere", "3D000"), ("nobody", "quire", "28000")] {
            let (host, port) = quire.address().rsplit_once(':').context("host:port")?;
            let config = format!("host={host} port={port} user={user} dbname={database}");
            let refused = tokio_postgres::connect(&config, NoTls).await.err().context("it was let in")?;
            ensure!(refused.code().map(|c| c.code()) == Some(expected), "{refused}");
        }
        Ok(())
    })
    .await
}

// --- byte by byte -------------------------------------------------------------------------------

/// A client that says exactly what it is told to.
struct Raw {
    stream: TcpStream,
}

type Message = (u8, Vec<u8>);

impl Raw {
    async fn dial(quire: &Quire) -> Result<Raw> {
        Ok(Raw { stream: TcpStream::connect(quire.address()).await? })
    }

    async fn open(quire: &Quire) -> Result<Raw> {
        let mut raw = Raw::dial(quire).await?;
        raw.write(&startup(196_608, &["user", "quire", "database", "quire"])).await?;
        let greeting = raw.until(b'Z').await?;
        ensure!(greeting[0] == (b'R', vec![0; 4]), "authentication is not needed here");
        ensure!(greeting.iter().any(|m| m.0 == b'K' && m.1.len() == 8));
        ensure!(greeting.iter().any(|m| m.0 == b'S' && m.1.starts_with(b"server_version\0")));
        Ok(raw)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    async fn message(&mut self) -> Result<Message> {
        let kind = self.stream.read_u8().await?;
        let length = self.stream.read_u32().await? as usize;
        ensure!((4..1 << 20).contains(&length), "a message of {length} bytes");
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).await?;
        Ok((kind, body))
    }

    /// Messages up to one of that kind.
    async fn until(&mut self, kind: u8) -> Result<Vec<Message>> {
        let mut messages = vec![];
        loop {
            let message = self.message().await?;
            let last = message.0 == kind;
            messages.push(message);
            if last {
                return Ok(messages);
            }
        }
    }

    /// What comes for these messages up to ReadyForQuery: kinds in order, and the errors' codes.
    async fn ask(&mut self, bytes: &[u8]) -> Result<(String, Vec<String>)> {
        self.write(bytes).await?;
        let messages = self.until(b'Z').await?;
        let kinds = messages.iter().map(|m| m.0 as char).filter(|k| *k != 'N').collect();
        Ok((kinds, messages.iter().filter(|m| m.0 == b'E').map(|m| field(&m.1, b'C')).collect()))
    }

    /// Everything up to the end of the connection.
    async fn rest(&mut self) -> Result<Vec<u8>> {
        let mut rest = vec![];
        match self.stream.read_to_end(&mut rest).await {
            Ok(_) => Ok(rest),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(rest),
            Err(error) => Err(error.into()),
        }
    }
}

fn startup(version: i32, parameters: &[&str]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for text in parameters {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend_from_slice(&body);
    packet
}

fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut message = vec![kind];
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(&body);
    message
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"])
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"])
}

fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message(b'B', &[portal.as_bytes(), b"\0", statement.as_bytes(), b"\0\0\0\0\0\0\0"])
}

fn execute(portal: &str, rows_max: i32) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), b"\0", &rows_max.to_be_bytes()])
}

fn sync() -> Vec<u8> {
    message(b'S', &[])
}

fn field(error: &[u8], wanted: u8) -> String {
    let found = error.split(|b| *b == 0).find(|f| f.first() == Some(&wanted));
    found.map(|f| String::from_utf8_lossy(&f[1..]).into_owned()).unwrap_or_default()
}

/// The code of the one error in bytes that end a connection.
fn fatal(bytes: &[u8]) -> String {
    if bytes.first() == Some(&b'E') && bytes.len() > 5 { field(&bytes[5..], b'C') } else { format!("{:?}", &bytes[..bytes.len().min(40)]) }
}

#[tokio::test]
async fn after_an_error_a_pipeline_is_silent_until_sync_and_leaves_nothing() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let mut raw = Raw::open(&quire).await?;
        raw.ask(&query("CREATE TABLE piped (a int)")).await?;
        let step = |sql: &str| [parse("", sql), bind("", ""), execute("", 0)].concat();
        let good = [step("INSERT INTO piped VALUES (1)"), step("INSERT INTO piped VALUES (2)"), sync()].concat();
        ensure!(raw.ask(&good).await? == ("12C12CZ".into(), vec![]));
        let bad = [step("INSERT INTO piped VALUES (3)"), step("SELECT 1/0"), step("INSERT INTO piped VALUES (4)"), sync()].concat();
        let (kinds, codes) = raw.ask(&bad).await?;
        ensure!(codes == ["22012"] && kinds.ends_with("EZ") && kinds.matches('C').count() == 1, "{kinds} {codes:?}");
        ensure!(raw.ask(&[step("SELECT a FROM piped"), sync()].concat()).await?.0 == "12DDCZ");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn names_that_do_not_exist_or_exist_already_have_their_codes() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let mut raw = Raw::open(&quire).await?;
        let describe = |kind: &[u8], name: &str| message(b'D', &[kind, name.as_bytes(), b"\0"]);
        let close = |kind: &[u8], name: &str| message(b'C', &[kind, name.as_bytes(), b"\0"]);
        for (asked, expected) in [
            (bind("", "none"), "26000"),
            (execute("none", 0), "34000"),
            (describe(b"S", "none"), "26000"),
            (describe(b"P", "none"), "34000"),
            (describe(b"X", ""), "08P01"),
            (parse("", "SELECT 1; SELECT 2"), "42601"),
            (parse("", "SELEKT"), "42601"),
            ([parse("s", "SELECT 1"), parse("s", "SELECT 2")].concat(), "42P05"),
            ([bind("p", "s"), bind("p", "s")].concat(), "42P03"),
            (message(b'B', &[b"\0s\0\0\0\0\x01\0\0\0\x011\0\0"]), "08P01"),
            (message(b'B', &[b"\0s"]), "08P01"),
            (message(b'P', &[b"\0\xff\xfe\0\0\0"]), "22021"),
        ] {
            let (kinds, codes) = raw.ask(&[asked.clone(), execute("", 0), sync()].concat()).await?;
            ensure!(codes == [expected] && kinds.ends_with("EZ"), "{:?}: {kinds} {codes:?}", String::from_utf8_lossy(&asked));
        }
        let (kinds, codes) = raw.ask(&[close(b"S", "s"), close(b"S", "s"), close(b"P", "none"), sync()].concat()).await?;
        ensure!(kinds == "333Z", "closing what is not there is no error: {kinds} {codes:?}");
        ensure!(raw.ask(&message(b'F', &[b"\0\0\0\0"])).await? == ("EZ".into(), vec!["0A000".into()]));
        let (kinds, _) = raw.ask(&[parse("e", ""), describe(b"S", "e"), bind("", "e"), execute("", 0), sync()].concat()).await?;
        ensure!(kinds == "1tn2IZ", "{kinds}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn row_limits_suspend_and_sync_closes_what_is_left() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let mut raw = Raw::open(&quire).await?;
        let select = "SELECT value FROM generate_series(1, 5) AS s(value)";
        let flow = [parse("", select), bind("p", ""), execute("p", 2), execute("p", 3), execute("p", 3), execute("p", 3), sync()].concat();
        // As Postgres: a limit that is met exactly suspends, and the next Execute finds nothing.
        ensure!(raw.ask(&flow).await?.0 == "12DDsDDDsCCZ");
        ensure!(raw.ask(&[execute("p", 1), sync()].concat()).await?.1 == ["34000"]);
        raw.ask(&query("BEGIN")).await?;
        ensure!(raw.ask(&[parse("", select), bind("p", ""), execute("p", 2), sync()].concat()).await?.0 == "12DDsZ");
        ensure!(raw.ask(&[execute("p", 0), sync()].concat()).await?.0 == "DDDCZ");
        raw.ask(&query("COMMIT")).await?;
        ensure!(raw.ask(&[execute("p", 1), sync()].concat()).await?.1 == ["34000"]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn ready_tells_the_state_of_the_transaction_and_set_is_reported() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let mut raw = Raw::open(&quire).await?;
        for (sql, status) in
            [("SELECT 1", b'I'), ("BEGIN", b'T'), ("SELECT 1", b'T'), ("SELECT x", b'E'), ("SELECT 1", b'E'), ("ROLLBACK", b'I')]
        {
            raw.write(&query(sql)).await?;
            let messages = raw.until(b'Z').await?;
            ensure!(messages.last().is_some_and(|m| m.1 == [status]), "after {sql}: {:?}", messages.last());
        }
        raw.write(&query("SET application_name = 'wire test'")).await?;
        let messages = raw.until(b'Z').await?;
        let kinds: String = messages.iter().map(|m| m.0 as char).collect();
        ensure!(kinds == "SCZ" && messages[0].1 == b"application_name\0wire test\0", "{messages:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn copy_in_the_middle_of_which_the_client_errs_or_leaves() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let mut raw = Raw::open(&quire).await?;
        raw.ask(&query("CREATE TABLE halfway (a int)")).await?;
        let data = |text: &str| message(b'd', &[text.as_bytes()]);
        // An error in the first piece; the client has sent the rest before it learns of it.
        let flow = [query("COPY halfway FROM STDIN"), data("1\nx\n"), data("2\n"), message(b'c', &[])].concat();
        ensure!(raw.ask(&flow).await? == ("GEZ".into(), vec!["22P02".into()]));
        // The same in the extended protocol, with the Sync that drivers send too early.
        let flow =
            [parse("", "COPY halfway FROM STDIN"), bind("", ""), execute("", 0), sync(), data("x\n"), message(b'c', &[]), sync()].concat();
        ensure!(raw.ask(&flow).await? == ("12GEZ".into(), vec!["22P02".into()]));
        let flow =
            [parse("", "COPY halfway FROM STDIN"), bind("", ""), execute("", 0), sync(), data("7\n"), message(b'c', &[]), sync()].concat();
        ensure!(raw.ask(&flow).await? == ("12GCZ".into(), vec![]));
        ensure!(raw.ask(&[query("COPY halfway FROM STDIN"), message(b'f', &[b"changed my mind\0"])].concat()).await?.1 == ["57014"]);
        ensure!(raw.ask(&[query("COPY halfway FROM STDIN"), query("SELECT 1")].concat()).await?.1 == ["08P01"]);

        let mut leaver = Raw::open(&quire).await?;
        leaver.write(&[query("COPY halfway FROM STDIN"), data("1\n2\n3\n")].concat()).await?;
        leaver.until(b'G').await?;
        drop(leaver);
        raw.write(&query("SELECT a FROM halfway")).await?;
        let rows: Vec<Message> = raw.until(b'Z').await?.into_iter().filter(|m| m.0 == b'D').collect();
        ensure!(rows == [(b'D', b"\0\x01\0\0\0\x017".to_vec())], "{rows:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn encryption_is_declined_and_versions_are_negotiated() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let mut raw = Raw::dial(&quire).await?;
        for request in [80_877_103i32, 80_877_104] {
            raw.write(&[8i32.to_be_bytes(), request.to_be_bytes()].concat()).await?;
            ensure!(raw.stream.read_u8().await? == b'N');
        }
        raw.write(&startup(196_608 + 9_999, &["user", "quire", "_pq_.new", "1"])).await?;
        let greeting = raw.until(b'Z').await?;
        ensure!(greeting[0] == (b'v', [&196_610i32.to_be_bytes()[..], &1i32.to_be_bytes(), b"_pq_.new\0"].concat()), "{:?}", greeting[0]);
        ensure!(greeting.iter().any(|m| m.0 == b'K' && m.1.len() == 4 + 32), "a long cancel key");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn garbage_is_refused_and_harms_no_one() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let bystander = quire.connect().await?;
        for (garbage, expected) in [
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "08P01"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "08P01"),
            (vec![0; 64], "08P01"),
            (vec![0xff; 4096], "08P01"),
            (startup(131_072, &["user", "quire"]), "08P01"),
            (startup(196_608, &[]), "28000"),
            (startup(196_608, &["user", "quire", "replication", "database"]), "0A000"),
        ] {
            let mut raw = Raw::dial(&quire).await?;
            raw.write(&garbage).await?;
            let answer = raw.rest().await?;
            ensure!(fatal(&answer) == expected, "{garbage:?}: {}", fatal(&answer));
        }
        for garbage in [&b"\x00\x00\x00\x00\x00"[..], b"zzzzz", b"Q\x7f\xff\xff\xff", b"Q\x00\x00\x00\x00", b"S\x00\x10\x00\x00"] {
            let mut raw = Raw::open(&quire).await?;
            raw.write(garbage).await?;
            let answer = raw.rest().await?;
            ensure!(fatal(&answer) == "08P01", "{garbage:?}: {}", fatal(&answer));
        }
        // Nonsense in a sound frame: an error, and the session goes on.
        let mut raw = Raw::open(&quire).await?;
        for garbage in [&b"p\x00\x00\x00\x08abcd"[..], b"Q\x00\x00\x00\x06ab", b"Q\x00\x00\x00\x04"] {
            ensure!(raw.ask(garbage).await? == ("EZ".into(), vec!["08P01".into()]), "{garbage:?}");
        }
        ensure!(raw.ask(&query("SELECT 1")).await?.0 == "TDCZ");
        // Half a message, then nothing: the session waits, and the client may leave.
        let mut raw = Raw::open(&quire).await?;
        raw.write(b"Q\x00\x00\x01\x00SELECT").await?;
        drop(raw);
        ensure!(bystander.query_one("SELECT 1::int", &[]).await?.get::<_, i32>(0) == 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_only_itself() -> Result<()> {
    let quire = Quire::dev().await?;
    in_time(async {
        let mut slow = Raw::open(&quire).await?;
        slow.write(&query("SELECT value, repeat('x', 1000) FROM generate_series(1, 1000000) AS s(value)")).await?;
        ensure!(slow.message().await?.0 == b'T');
        let client = quire.connect().await?;
        for _ in 0..20 {
            client.query_one("SELECT 1::int", &[]).await?;
        }
        let rows = slow.until(b'C').await?;
        ensure!(rows.len() == 1_000_001 && rows[1_000_000].1 == b"SELECT 1000000\0");
        Ok(())
    })
    .await
}
