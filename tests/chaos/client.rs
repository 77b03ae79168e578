//! A client that writes, remembers what it was told, and looks whether it is so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{SinkExt, pin_mut};
use quire_tests::Random;
use tokio_postgres::{Client, Error, NoTls};

use crate::schedule::Action;

/// A statement gives an answer or an error by then, whatever has happened: the server's own limits are below.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);
/// A killed compute node is back by then.
const BACK_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// What a client may be told when nodes die. Anything else is a bug.
pub(crate) const EXPECTED: &[&str] = &["58030", "08007", "40001", "57P01", "57P03", "53300"];
/// The one error that says "perhaps".
const IN_DOUBT: &str = "08007";

/// What became of a transaction, as far as its client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Committed,
    Failed,
    Nothing,
}

/// One transaction.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    /// Unique among all clients; in every row that it wrote.
    pub(crate) op: u64,
    pub(crate) keyed: u64,
    pub(crate) plain: u64,
    pub(crate) told: Told,
}

/// What all clients together have done.
#[derive(Default)]
pub(crate) struct Tally {
    written: AtomicU64,
    answered: AtomicU64,
    stopped: AtomicBool,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Until clients have got so many answers more, or the time is over.
    pub(crate) async fn wait_for(&self, answers: u64, at_most: Duration) {
        let goal = self.answered.load(Ordering::Relaxed).saturating_add(answers);
        let polling = async {
            while self.answered.load(Ordering::Relaxed) < goal {
                tokio::time::sleep(crate::POLL).await;
            }
        };
        let _over = tokio::time::timeout(at_most, polling).await;
    }

    pub(crate) fn summary(&self) -> String {
        let errors = self.errors.lock().map(|e| format!("{e:?}")).unwrap_or_default();
        format!("{} acknowledged, errors {errors}", self.written())
    }

    fn count(&self, told: Told, error: Option<&str>) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if told == Told::Committed {
            self.written.fetch_add(1, Ordering::Relaxed);
        }
        if let (Some(error), Ok(mut errors)) = (error, self.errors.lock()) {
            *errors.entry(error.to_string()).or_default() += 1;
        }
    }
}

/// Writes until the tally says stop; what it was told of each transaction.
pub(crate) async fn write(mut random: Random, client: u64, address: String, other: String, tally: Arc<Tally>) -> Result<Vec<Transaction>> {
    let mut done: Vec<Transaction> = vec![];
    let mut connection = connect(&address).await?;
    let mut acknowledged_key = None;
    for n in 0.. {
        if tally.stopped.load(Ordering::Relaxed) {
            break;
        }
        let op = n * crate::CLIENTS + client;
        let action = Action::any(&mut random);
        if connection.is_closed() {
            connection = connect(&address).await?;
        }
        let attempt = act(&connection, action, op, acknowledged_key);
        let result = tokio::time::timeout(ANSWER_WITHIN, attempt).await.with_context(|| format!("{action:?} hangs (op {op})"))?;
        let (told, code) = verdict(&result);
        if let Some(code) = code.as_deref() {
            let doubled = matches!(action, Action::Doubled(_)) && code == "23505" && acknowledged_key.is_some();
            ensure!(doubled || EXPECTED.contains(&code), "{action:?} (op {op}): {:?}", result.err());
        }
        tally.count(told, code.as_deref().or((told == Told::Nothing).then_some("connection lost")));
        if matches!(action, Action::Doubled(_)) && acknowledged_key.is_some() && told == Told::Committed {
            bail!("a key is there twice (op {op}, {acknowledged_key:?})");
        }
        let (keyed, plain) = match action {
            Action::Keyed(rows) | Action::Copy(rows) | Action::Doubled(rows) => (rows, 0),
            Action::Plain(rows) => (0, rows),
            Action::Block(rows) | Action::Undone(rows) => (rows, rows),
        };
        // a transaction that its client undid is absent, whatever became of the connection
        let told = if matches!(action, Action::Undone(_)) { Told::Failed } else { told };
        if told == Told::Committed {
            if keyed > 0 {
                acknowledged_key = Some(key(op, 0));
            }
            // the next statement on the other node sees it
            if random.between(0, 7) == 0 {
                look(&other, op, keyed, plain).await?;
            }
        } else if !connection.is_closed() {
            // a failed block is left; out of a block it is a WARNING
            let _gone = connection.batch_execute("ROLLBACK").await;
        }
        done.push(Transaction { op, keyed, plain, told });
    }
    Ok(done)
}

/// The key of a transaction's row: transactions share none.
fn key(op: u64, row: u64) -> u64 {
    op * 100_000 + row
}

fn keyed_rows(op: u64, rows: u64) -> String {
    (0..rows).map(|row| format!("({}, {op}, 'row {row}')", key(op, row))).collect::<Vec<_>>().join(", ")
}

fn plain_rows(op: u64, rows: u64) -> String {
    (0..rows).map(|row| format!("({op}, 'row {row}')")).collect::<Vec<_>>().join(", ")
}

async fn act(connection: &Client, action: Action, op: u64, there: Option<u64>) -> Result<(), Error> {
    match action {
        Action::Keyed(rows) => connection.batch_execute(&format!("INSERT INTO keyed VALUES {}", keyed_rows(op, rows))).await,
        Action::Plain(rows) => connection.batch_execute(&format!("INSERT INTO plain VALUES {}", plain_rows(op, rows))).await,
        Action::Block(rows) | Action::Undone(rows) => {
            connection.batch_execute("BEGIN").await?;
            connection.batch_execute(&format!("INSERT INTO keyed VALUES {}", keyed_rows(op, rows))).await?;
            connection.batch_execute(&format!("INSERT INTO plain VALUES {}", plain_rows(op, rows))).await?;
            connection.batch_execute(if matches!(action, Action::Undone(_)) { "ROLLBACK" } else { "COMMIT" }).await
        }
        Action::Copy(rows) => {
            let sink = connection.copy_in("COPY keyed FROM STDIN (FORMAT csv)").await?;
            pin_mut!(sink);
            for first in (0..rows).step_by(1000) {
                let lines: String = (first..rows.min(first + 1000)).map(|row| format!("{},{op},row {row}\n", key(op, row))).collect();
                sink.send(Bytes::from(lines)).await?;
            }
            sink.finish().await.map(|_| ())
        }
        Action::Doubled(rows) => {
            let last = there.map(|key| format!(", ({key}, {op}, 'again')")).unwrap_or_default();
            connection.batch_execute(&format!("INSERT INTO keyed VALUES {}{last}", keyed_rows(op, rows))).await
        }
    }
}

/// What the client knows now, and the SQLSTATE.
fn verdict(result: &Result<(), Error>) -> (Told, Option<String>) {
    match result {
        Ok(()) => (Told::Committed, None),
        Err(error) => match error.code().map(|c| c.code().to_string()) {
            Some(code) if code == IN_DOUBT => (Told::Nothing, Some(code)),
            // the server was told to stop while it was at it
            Some(code) if code == "57P01" => (Told::Nothing, Some(code)),
            Some(code) => (Told::Failed, Some(code)),
            None => (Told::Nothing, None),
        },
    }
}

/// Reads a transaction that was acknowledged, through the other node. It may be down, but it may not be wrong.
async fn look(address: &str, op: u64, keyed: u64, plain: u64) -> Result<()> {
    let connection = connect(address).await?;
    for (table, rows) in [("keyed", keyed), ("plain", plain)] {
        let sql = format!("SELECT count(*) FROM {table} WHERE op = {op}");
        match tokio::time::timeout(ANSWER_WITHIN, connection.query_one(&sql, &[])).await.with_context(|| format!("{sql} hangs"))? {
            Ok(row) => ensure!(row.get::<_, i64>(0) == rows as i64, "op {op} was acknowledged: {row:?} of {rows} rows in {table}"),
            Err(error) => {
                let code = error.code().map(|c| c.code().to_string());
                ensure!(code.as_deref().is_none_or(|c| EXPECTED.contains(&c)), "{sql}: {error:?}");
            }
        }
    }
    Ok(())
}

/// A connection, as soon as the node is there.
async fn connect(address: &str) -> Result<Client> {
    let (host, port) = address.rsplit_once(':').context("an address is host:port")?;
    let config = format!("host={host} port={port} user=quire dbname=quire");
    let connecting = async {
        loop {
            match tokio_postgres::connect(&config, NoTls).await {
                Ok((client, connection)) => {
                    let mut task = tokio::task::JoinSet::new();
                    task.spawn(connection);
                    // it ends with the client or the server; what it has to say, the client's calls say
                    task.detach_all();
                    return client;
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    };
    tokio::time::timeout(BACK_WITHIN, connecting).await.with_context(|| format!("{address} does not come back"))
}
