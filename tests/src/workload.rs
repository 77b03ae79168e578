//! Clients that hop between compute nodes, and what they were told: histories for [`crate::history`], and sums, counters and queues.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinSet;

use crate::history::{Op, Told, Transaction};
use crate::pg::{Answer, PgError, Protocol, Session};
use crate::random::Random;

/// A node that was killed is back by then.
const BACK_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);
/// Transactions of all clients after which new lists are used: so keys that are not there yet are read all the time.
const ERA: u64 = 40;
/// Lists that are used at a time.
const LISTS: u64 = 4;
/// Accounts of the bank, and what is in all of them together.
const ACCOUNTS: u64 = 6;
const MONEY: i64 = 600;

/// Who does what, where.
#[derive(Clone, Debug)]
pub struct Clients {
    /// `host:port` of every compute node.
    pub addresses: Vec<String>,
    /// How many there are.
    pub count: u64,
    /// What they do is the same for the same seed; when, is not.
    pub seed: u64,
    /// `BEGIN ISOLATION LEVEL …`.
    pub isolation: &'static str,
    /// Errors that clients go on after, beside 40001.
    pub expected: &'static [&'static str],
}

/// Tells clients that it is enough.
pub type Stop = Arc<AtomicBool>;

/// One client's sessions, a node each, opened when they are needed.
struct Client {
    addresses: Vec<String>,
    sessions: Vec<Option<Session>>,
    expected: &'static [&'static str],
    random: Random,
}

/// Why a statement gave no answer, as far as it matters.
enum Trouble {
    /// The server said no: SQLSTATE.
    Refused(String),
    /// The connection is gone.
    Lost,
}

impl Client {
    fn new(clients: &Clients, number: u64) -> Client {
        Client {
            sessions: clients.addresses.iter().map(|_| None).collect(),
            addresses: clients.addresses.clone(),
            expected: clients.expected,
            random: Random::new(clients.seed, number),
        }
    }

    /// Some node.
    fn hop(&mut self) -> usize {
        self.random.between(0, self.addresses.len() as u64 - 1) as usize
    }

    async fn session(&mut self, node: usize) -> Result<&mut Session> {
        if self.sessions[node].is_none() {
            let address = self.addresses[node].clone();
            let opening = async {
                loop {
                    match Session::open(&address).await {
                        Ok(session) => return session,
                        Err(_) => tokio::time::sleep(POLL).await,
                    }
                }
            };
            let opened = tokio::time::timeout(BACK_WITHIN, opening).await;
            self.sessions[node] = Some(opened.with_context(|| format!("{address} does not come back"))?);
        }
        self.sessions[node].as_mut().context("just opened")
    }

    /// Runs a statement. Errors that nothing explains end the test.
    async fn run(&mut self, node: usize, sql: &str) -> Result<std::result::Result<Answer, Trouble>> {
        match self.session(node).await?.run(Protocol::Simple, sql).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(PgError::Server(report)) if report.code == "40001" || self.expected.contains(&report.code.as_str()) => {
                Ok(Err(Trouble::Refused(report.code)))
            }
            Err(PgError::Server(report)) => bail!("{sql}: {report:?}"),
            Err(PgError::Connection(_)) if !self.expected.is_empty() => {
                self.sessions[node] = None;
                Ok(Err(Trouble::Lost))
            }
            Err(PgError::Connection(error)) => bail!("{sql}: {error}"),
        }
    }

    async fn roll_back(&mut self, node: usize) -> Result<()> {
        if self.sessions[node].is_some() {
            let _answered = self.run(node, "ROLLBACK").await?;
        }
        Ok(())
    }

    /// Commits; asks what became of it, on any node, when there was no answer.
    async fn commit(&mut self, node: usize, id: Option<&str>) -> Result<Told> {
        let in_doubt = match self.run(node, "COMMIT").await? {
            Ok(answer) => return Ok(if answer.tag == "COMMIT" { Told::Committed } else { Told::Failed }),
            Err(Trouble::Lost) => true,
            Err(Trouble::Refused(code)) => matches!(code.as_str(), "08007" | "57P01"),
        };
        let Some(id) = id.filter(|_| in_doubt) else {
            self.roll_back(node).await?;
            return Ok(if in_doubt { Told::Nothing } else { Told::Failed });
        };
        let other = self.hop();
        let answer = self.run(other, &format!("SELECT quire_txn_status('{id}')")).await?;
        Ok(match answer.ok().and_then(|answer| value(&answer)).as_deref() {
            Some("committed") => Told::Committed,
            Some("aborted") => Told::Failed,
            _ => Told::Nothing,
        })
    }
}

fn value(answer: &Answer) -> Option<String> {
    answer.rows.first()?.first()?.clone()
}

fn number(answer: &Answer) -> Result<i64> {
    let text = value(answer).context("no row")?;
    text.parse().with_context(|| text.clone())
}

/// Numbers in a list as it is kept: each after a comma.
fn numbers(text: &str) -> Result<Vec<u64>> {
    text.split(',').filter(|n| !n.is_empty()).map(|n| n.parse().with_context(|| text.to_string())).collect()
}

async fn once(address: &str, sql: &str) -> Result<Answer> {
    let mut session = Session::open(address).await?;
    session.run(Protocol::Simple, sql).await.with_context(|| sql.to_string())
}

/// Runs clients until they are told to stop; what each of them gives.
async fn all<T: Send + 'static, F>(clients: &Clients, work: impl Fn(Client, u64) -> F) -> Result<Vec<T>>
where
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for number in 0..clients.count {
        running.spawn(work(Client::new(clients, number + 1), number));
    }
    let mut given = vec![];
    while let Some(one) = running.join_next().await {
        given.push(one??);
    }
    Ok(given)
}

/// Makes the table for [`lists`].
pub async fn make_lists(address: &str) -> Result<()> {
    once(address, "CREATE TABLE lists (k bigint PRIMARY KEY, v text NOT NULL)").await.map(drop)
}

/// Appends to lists and reads them, several in a transaction; the history, which ends with a look at all of them.
pub async fn lists(clients: &Clients, stop: Stop) -> Result<Vec<Transaction>> {
    let epoch = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let isolation = clients.isolation;
    let mut history: Vec<Transaction> = all(clients, |mut client, number| {
        let (stop, done) = (stop.clone(), done.clone());
        async move {
            let mut history = vec![];
            while !stop.load(Ordering::Relaxed) {
                let turn = done.fetch_add(1, Ordering::Relaxed);
                let now = || epoch.elapsed().as_nanos() as u64;
                let (began, node) = (now(), client.hop());
                let mut ops = vec![];
                let told = on_lists(&mut client, node, isolation, turn, number, &mut ops).await?;
                history.push(Transaction { ops, told, began, ended: now() });
            }
            Ok(history)
        }
    })
    .await?
    .into_iter()
    .flatten()
    .collect();
    let began = epoch.elapsed().as_nanos() as u64;
    let mut last = Client::new(clients, 0);
    let mut ops = vec![];
    ensure!(read_all(&mut last, 0, &mut ops).await?.is_ok(), "the lists cannot be read");
    history.push(Transaction { ops, told: Told::Committed, began, ended: epoch.elapsed().as_nanos() as u64 });
    Ok(history)
}

/// One transaction on lists; notes what it did.
async fn on_lists(client: &mut Client, node: usize, isolation: &str, turn: u64, number: u64, ops: &mut Vec<Op>) -> Result<Told> {
    if client.run(node, &format!("BEGIN ISOLATION LEVEL {isolation}")).await?.is_err() {
        return Ok(Told::Failed);
    }
    let mut id = None;
    let (first_list, count) = (turn / ERA * LISTS, client.random.between(1, 4));
    for nth in 0..count {
        let list = first_list + client.random.between(0, LISTS - 1);
        let done = match client.random.between(0, 9) {
            0..=3 => read_one(client, node, list, ops).await?.map(drop),
            4 => read_all(client, node, ops).await?,
            _ => append(client, node, list, (turn * 1000 + number) * 10 + nth, ops).await?,
        };
        if let Err(trouble) = done {
            if matches!(trouble, Trouble::Refused(_)) {
                client.roll_back(node).await?;
            }
            return Ok(Told::Failed);
        }
        if id.is_none() {
            // Without an answer the block is gone, and what follows would not be in one.
            let Ok(answer) = client.run(node, "SELECT quire_txn_id()").await? else {
                client.roll_back(node).await?;
                return Ok(Told::Failed);
            };
            id = value(&answer);
        }
    }
    client.commit(node, id.as_deref()).await
}

type Done<T = ()> = Result<std::result::Result<T, Trouble>>;

/// Whether the list is there.
async fn read_one(client: &mut Client, node: usize, list: u64, ops: &mut Vec<Op>) -> Done<bool> {
    let answer = match client.run(node, &format!("SELECT v FROM lists WHERE k = {list}")).await? {
        Ok(answer) => answer,
        Err(trouble) => return Ok(Err(trouble)),
    };
    ensure!(answer.rows.len() <= 1, "list {list} is there {} times", answer.rows.len());
    let text = value(&answer);
    ops.push(Op::Read(list, numbers(text.as_deref().unwrap_or_default())?));
    Ok(Ok(text.is_some()))
}

async fn read_all(client: &mut Client, node: usize, ops: &mut Vec<Op>) -> Done {
    let answer = match client.run(node, "SELECT k, v FROM lists").await? {
        Ok(answer) => answer,
        Err(trouble) => return Ok(Err(trouble)),
    };
    for row in &answer.rows {
        let [Some(list), Some(text)] = row.as_slice() else { bail!("a list without a name or numbers: {row:?}") };
        ops.push(Op::Read(list.parse()?, numbers(text)?));
    }
    Ok(Ok(()))
}

async fn append(client: &mut Client, node: usize, list: u64, number: u64, ops: &mut Vec<Op>) -> Done {
    // Half of them look first, and half rely on the key to be taken or free.
    let sql = if client.random.between(0, 1) == 0 {
        match read_one(client, node, list, ops).await? {
            Ok(true) => format!("UPDATE lists SET v = v || ',{number}' WHERE k = {list}"),
            Ok(false) => format!("INSERT INTO lists VALUES ({list}, ',{number}')"),
            Err(trouble) => return Ok(Err(trouble)),
        }
    } else {
        format!("INSERT INTO lists VALUES ({list}, ',{number}') ON CONFLICT (k) DO UPDATE SET v = lists.v || excluded.v")
    };
    let done = client.run(node, &sql).await?.map(drop);
    if done.is_ok() {
        ops.push(Op::Append(list, number));
    }
    Ok(done)
}

/// Makes the tables for [`bank`].
pub async fn make_bank(address: &str) -> Result<()> {
    let share = MONEY / ACCOUNTS as i64;
    once(address, "CREATE TABLE accounts (id int PRIMARY KEY, money bigint NOT NULL)").await?;
    let rows: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id}, {share})")).collect();
    once(address, &format!("INSERT INTO accounts VALUES {}", rows.join(", "))).await.map(drop)
}

/// Moves money between accounts. Every look at all of them finds the same sum, and no account below nothing; the number of transfers.
pub async fn bank(clients: &Clients, stop: Stop) -> Result<u64> {
    let isolation = clients.isolation;
    let done = all(clients, |mut client, _| {
        let stop = stop.clone();
        async move {
            let mut moved = 0;
            while !stop.load(Ordering::Relaxed) {
                let node = client.hop();
                if client.random.between(0, 3) == 0 {
                    if let Ok(answer) = client.run(node, "SELECT sum(money)::bigint FROM accounts WHERE money >= 0").await? {
                        ensure!(number(&answer)? == MONEY, "the accounts hold {}, not {MONEY}", number(&answer)?);
                    }
                    continue;
                }
                moved += u64::from(transfer(&mut client, node, isolation).await? == Told::Committed);
            }
            Ok(moved)
        }
    });
    let moved: u64 = done.await?.iter().sum();
    let answer = once(&clients.addresses[0], "SELECT sum(money)::bigint FROM accounts WHERE money >= 0").await?;
    ensure!(number(&answer)? == MONEY, "at the end the accounts hold {}, not {MONEY}", number(&answer)?);
    Ok(moved)
}

async fn transfer(client: &mut Client, node: usize, isolation: &str) -> Result<Told> {
    let (from, amount) = (client.random.between(0, ACCOUNTS - 1), client.random.between(1, 50) as i64);
    let to = (from + client.random.between(1, ACCOUNTS - 1)) % ACCOUNTS;
    // Without one snapshot for both statements, the lock is what keeps the account as it was.
    let lock = if isolation == "READ COMMITTED" { " FOR UPDATE" } else { "" };
    let Ok(_) = client.run(node, &format!("BEGIN ISOLATION LEVEL {isolation}")).await? else { return Ok(Told::Failed) };
    let Ok(answer) = client.run(node, &format!("SELECT money FROM accounts WHERE id = {from}{lock}")).await? else {
        client.roll_back(node).await?;
        return Ok(Told::Failed);
    };
    let has = number(&answer)?;
    let amount = amount.min(has);
    for (id, money) in [(from, format!("{}", has - amount)), (to, format!("money + {amount}"))] {
        if client.run(node, &format!("UPDATE accounts SET money = {money} WHERE id = {id}")).await?.is_err() {
            client.roll_back(node).await?;
            return Ok(Told::Failed);
        }
    }
    client.commit(node, None).await
}

/// Makes the table for [`counter`].
pub async fn make_counter(address: &str) -> Result<()> {
    once(address, "CREATE TABLE counters (id int PRIMARY KEY, n bigint NOT NULL)").await?;
    once(address, "INSERT INTO counters VALUES (1, 0)").await.map(drop)
}

/// Counts, a statement at a time: nobody gets a number twice, none is skipped, and no client sees the counter go back, whatever node it
/// asks. How far it came.
pub async fn counter(clients: &Clients, stop: Stop) -> Result<u64> {
    let given = all(clients, |mut client, _| {
        let stop = stop.clone();
        async move {
            let (mut mine, mut seen) = (vec![], 0);
            while !stop.load(Ordering::Relaxed) {
                let node = client.hop();
                let counts = client.random.between(0, 1) == 0;
                let sql =
                    if counts { "UPDATE counters SET n = n + 1 WHERE id = 1 RETURNING n" } else { "SELECT n FROM counters WHERE id = 1" };
                let Ok(answer) = client.run(node, sql).await? else { continue };
                let n = number(&answer)?;
                ensure!(if counts { n > seen } else { n >= seen }, "the counter went from {seen} to {n} (node {node}, {sql})");
                seen = n;
                if counts {
                    mine.push(n);
                }
            }
            Ok(mine)
        }
    });
    let given: Vec<i64> = given.await?.into_iter().flatten().collect();
    let distinct: BTreeSet<i64> = given.iter().copied().collect();
    ensure!(distinct.len() == given.len(), "{} numbers were given twice", given.len() - distinct.len());
    let last = number(&once(&clients.addresses[0], "SELECT n FROM counters WHERE id = 1").await?)?;
    ensure!(!clients.expected.is_empty() || last == given.len() as i64, "{} numbers were given, and the counter is at {last}", given.len());
    Ok(last as u64)
}

/// Makes the table for [`queue`], with so many jobs.
pub async fn make_queue(address: &str, jobs: u64) -> Result<()> {
    once(address, "CREATE TABLE jobs (id bigint PRIMARY KEY)").await?;
    once(address, &format!("INSERT INTO jobs SELECT * FROM generate_series(1, {jobs})")).await.map(drop)
}

/// Takes jobs off a queue until there are none, in the two ways that applications do it. Nobody gets one that another got.
pub async fn queue(clients: &Clients, jobs: u64) -> Result<()> {
    const NEXT: &str = "SELECT id FROM jobs ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1";
    let isolation = clients.isolation;
    let taken = all(clients, |mut client, number| async move {
        let mut mine: Vec<u64> = vec![];
        loop {
            let node = client.hop();
            if number % 2 == 0 {
                let Ok(answer) = client.run(node, &format!("DELETE FROM jobs WHERE id = ({NEXT}) RETURNING id")).await? else { continue };
                let Some(job) = value(&answer) else { break };
                mine.push(job.parse()?);
                continue;
            }
            let Ok(_) = client.run(node, &format!("BEGIN ISOLATION LEVEL {isolation}")).await? else { continue };
            let Ok(answer) = client.run(node, NEXT).await? else {
                client.roll_back(node).await?;
                continue;
            };
            let Some(job) = value(&answer) else {
                client.roll_back(node).await?;
                break;
            };
            let Ok(_) = client.run(node, &format!("DELETE FROM jobs WHERE id = {job}")).await? else {
                client.roll_back(node).await?;
                continue;
            };
            if client.commit(node, None).await? == Told::Committed {
                mine.push(job.parse()?);
            }
        }
        Ok(mine)
    });
    let taken: Vec<u64> = taken.await?.into_iter().flatten().collect();
    let distinct: BTreeSet<u64> = taken.iter().copied().collect();
    ensure!(distinct.len() == taken.len(), "{} jobs were handed out twice", taken.len() - distinct.len());
    ensure!(distinct.len() as u64 == jobs, "{} of {jobs} jobs were handed out", distinct.len());
    Ok(())
}
