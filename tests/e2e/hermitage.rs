//! Hermitage's anomalies (github.com/ept/hermitage), level by level, between two compute nodes.
//!
//! Whether an anomaly happens is as in PostgreSQL, but for lost updates and their kind at READ COMMITTED, where Quire is stricter. How it is
//! prevented differs: where PostgreSQL lets a writer wait for another, here nobody waits and the second to commit gets 40001.

use anyhow::{Context, Result, ensure};
use quire_tests::Quire;
use quire_tests::pg::{PgError, Protocol, Session};

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// A case is a line a step: the session, the statement, and what it gives: `=>` rows (values between `|`, rows between blanks), or
/// `!` an SQLSTATE.
type Case = &'static str;

/// G0, write cycles. PostgreSQL: the second writer waits, then writes over the first.
const G0: Case = "
1 UPDATE test SET value = 11 WHERE id = 1
2 UPDATE test SET value = 12 WHERE id = 1
1 UPDATE test SET value = 21 WHERE id = 2
1 COMMIT
1 SELECT * FROM test => 1|11 2|21
2 UPDATE test SET value = 22 WHERE id = 2
2 COMMIT !40001
1 SELECT * FROM test => 1|11 2|21
";

/// G1a, aborted reads.
const G1A: Case = "
1 UPDATE test SET value = 101 WHERE id = 1
2 SELECT * FROM test => 1|10 2|20
1 ROLLBACK
2 SELECT * FROM test => 1|10 2|20
2 COMMIT
";

/// G1b, intermediate reads.
const G1B: [Case; 3] = [
    "
1 UPDATE test SET value = 101 WHERE id = 1
2 SELECT * FROM test => 1|10 2|20
1 UPDATE test SET value = 11 WHERE id = 1
1 COMMIT
2 SELECT * FROM test => 1|11 2|20
2 COMMIT
",
    G1B_SNAPSHOT,
    G1B_SNAPSHOT,
];
const G1B_SNAPSHOT: Case = "
1 UPDATE test SET value = 101 WHERE id = 1
2 SELECT * FROM test => 1|10 2|20
1 UPDATE test SET value = 11 WHERE id = 1
1 COMMIT
2 SELECT * FROM test => 1|10 2|20
2 COMMIT
";

/// G1c, circular information flow. PostgreSQL: the same; at SERIALIZABLE the second COMMIT fails.
const G1C: [Case; 3] = [
    G1C_ALLOWED,
    G1C_ALLOWED,
    "
1 UPDATE test SET value = 11 WHERE id = 1
2 UPDATE test SET value = 22 WHERE id = 2
1 SELECT * FROM test WHERE id = 2 => 2|20
2 SELECT * FROM test WHERE id = 1 => 1|10
1 COMMIT
2 COMMIT !40001
",
];
const G1C_ALLOWED: Case = "
1 UPDATE test SET value = 11 WHERE id = 1
2 UPDATE test SET value = 22 WHERE id = 2
1 SELECT * FROM test WHERE id = 2 => 2|20
2 SELECT * FROM test WHERE id = 1 => 1|10
1 COMMIT
2 COMMIT
";

/// OTV, observed transaction vanishes. PostgreSQL: the second writer waits, and its rows are there at the end.
const OTV: [Case; 3] = [
    "
1 UPDATE test SET value = 11 WHERE id = 1
1 UPDATE test SET value = 19 WHERE id = 2
2 UPDATE test SET value = 12 WHERE id = 1
1 COMMIT
3 SELECT * FROM test => 1|11 2|19
2 UPDATE test SET value = 18 WHERE id = 2
3 SELECT * FROM test => 1|11 2|19
2 COMMIT !40001
3 SELECT * FROM test => 1|11 2|19
3 COMMIT
",
    OTV_SNAPSHOT,
    OTV_SNAPSHOT,
];
const OTV_SNAPSHOT: Case = "
1 UPDATE test SET value = 11 WHERE id = 1
1 UPDATE test SET value = 19 WHERE id = 2
2 UPDATE test SET value = 12 WHERE id = 1
1 COMMIT
3 SELECT * FROM test => 1|11 2|19
2 UPDATE test SET value = 18 WHERE id = 2
2 COMMIT !40001
3 SELECT * FROM test => 1|11 2|19
3 COMMIT
";

/// PMP, predicate-many-preceders, of a read.
const PMP: [Case; 3] = [
    "
1 SELECT * FROM test WHERE value = 30 =>
2 INSERT INTO test VALUES (3, 30)
2 COMMIT
1 SELECT * FROM test WHERE value % 3 = 0 => 3|30
1 COMMIT
",
    PMP_SNAPSHOT,
    PMP_SNAPSHOT,
];
const PMP_SNAPSHOT: Case = "
1 SELECT * FROM test WHERE value = 30 =>
2 INSERT INTO test VALUES (3, 30)
2 COMMIT
1 SELECT * FROM test WHERE value % 3 = 0 =>
1 COMMIT
";

/// PMP of a write. PostgreSQL: at READ COMMITTED the DELETE waits, and then finds that its row no longer matches.
const PMP_WRITE: Case = "
1 UPDATE test SET value = value + 10
2 SELECT * FROM test => 1|10 2|20
2 DELETE FROM test WHERE value = 20
1 COMMIT
2 COMMIT !40001
1 SELECT * FROM test => 1|20 2|30
";

/// P4, lost update. PostgreSQL allows it at READ COMMITTED.
const P4: Case = "
1 SELECT * FROM test WHERE id = 1 => 1|10
2 SELECT * FROM test WHERE id = 1 => 1|10
1 UPDATE test SET value = 11 WHERE id = 1
2 UPDATE test SET value = 11 WHERE id = 1
1 COMMIT
2 COMMIT !40001
";

/// G-single, read skew.
const G_SINGLE: [Case; 3] = [
    "
1 SELECT * FROM test WHERE id = 1 => 1|10
2 SELECT * FROM test WHERE id = 1 => 1|10
2 SELECT * FROM test WHERE id = 2 => 2|20
2 UPDATE test SET value = 12 WHERE id = 1
2 UPDATE test SET value = 18 WHERE id = 2
2 COMMIT
1 SELECT * FROM test WHERE id = 2 => 2|18
1 COMMIT
",
    G_SINGLE_SNAPSHOT,
    G_SINGLE_SNAPSHOT,
];
const G_SINGLE_SNAPSHOT: Case = "
1 SELECT * FROM test WHERE id = 1 => 1|10
2 SELECT * FROM test WHERE id = 1 => 1|10
2 SELECT * FROM test WHERE id = 2 => 2|20
2 UPDATE test SET value = 12 WHERE id = 1
2 UPDATE test SET value = 18 WHERE id = 2
2 COMMIT
1 SELECT * FROM test WHERE id = 2 => 2|20
1 COMMIT
";

/// G-single by predicates.
const G_SINGLE_PREDICATES: [Case; 3] = [
    "
1 SELECT * FROM test WHERE value % 5 = 0 => 1|10 2|20
2 UPDATE test SET value = 12 WHERE value = 10
2 COMMIT
1 SELECT * FROM test WHERE value % 3 = 0 => 1|12
1 COMMIT
",
    G_SINGLE_PREDICATES_SNAPSHOT,
    G_SINGLE_PREDICATES_SNAPSHOT,
];
const G_SINGLE_PREDICATES_SNAPSHOT: Case = "
1 SELECT * FROM test WHERE value % 5 = 0 => 1|10 2|20
2 UPDATE test SET value = 12 WHERE value = 10
2 COMMIT
1 SELECT * FROM test WHERE value % 3 = 0 =>
1 COMMIT
";

/// G-single by a write predicate. PostgreSQL: at READ COMMITTED the DELETE finds nothing, above it fails at once.
const G_SINGLE_WRITE: [Case; 3] = [
    "
1 SELECT * FROM test WHERE id = 1 => 1|10
2 SELECT * FROM test => 1|10 2|20
2 UPDATE test SET value = 12 WHERE id = 1
2 UPDATE test SET value = 18 WHERE id = 2
2 COMMIT
1 DELETE FROM test WHERE value = 20
1 COMMIT
2 SELECT * FROM test => 1|12 2|18
",
    G_SINGLE_WRITE_SNAPSHOT,
    G_SINGLE_WRITE_SNAPSHOT,
];
const G_SINGLE_WRITE_SNAPSHOT: Case = "
1 SELECT * FROM test WHERE id = 1 => 1|10
2 SELECT * FROM test => 1|10 2|20
2 UPDATE test SET value = 12 WHERE id = 1
2 UPDATE test SET value = 18 WHERE id = 2
2 COMMIT
1 DELETE FROM test WHERE value = 20
1 COMMIT !40001
2 SELECT * FROM test => 1|12 2|18
";

/// G-single by a write predicate, and the other gives up.
const G_SINGLE_WRITE_2: Case = "
1 SELECT * FROM test WHERE id = 1 => 1|10
2 SELECT * FROM test => 1|10 2|20
2 UPDATE test SET value = 12 WHERE id = 1
1 DELETE FROM test WHERE value = 20
2 UPDATE test SET value = 18 WHERE id = 2
1 ROLLBACK
2 COMMIT
1 SELECT * FROM test => 1|12 2|18
";

/// G2-item, write skew. PostgreSQL: prevented at SERIALIZABLE only.
const G2_ITEM: [Case; 3] = [
    G2_ITEM_ALLOWED,
    G2_ITEM_ALLOWED,
    "
1 SELECT * FROM test WHERE id IN (1, 2) => 1|10 2|20
2 SELECT * FROM test WHERE id IN (1, 2) => 1|10 2|20
1 UPDATE test SET value = 11 WHERE id = 1
2 UPDATE test SET value = 21 WHERE id = 2
1 COMMIT
2 COMMIT !40001
",
];
const G2_ITEM_ALLOWED: Case = "
1 SELECT * FROM test WHERE id IN (1, 2) => 1|10 2|20
2 SELECT * FROM test WHERE id IN (1, 2) => 1|10 2|20
1 UPDATE test SET value = 11 WHERE id = 1
2 UPDATE test SET value = 21 WHERE id = 2
1 COMMIT
2 COMMIT
";

/// G2, anti-dependency cycles by predicates.
const G2: [Case; 3] = [
    G2_ALLOWED,
    G2_ALLOWED,
    "
1 SELECT * FROM test WHERE value % 3 = 0 =>
2 SELECT * FROM test WHERE value % 3 = 0 =>
1 INSERT INTO test VALUES (3, 30)
2 INSERT INTO test VALUES (4, 42)
1 COMMIT
2 COMMIT !40001
",
];
const G2_ALLOWED: Case = "
1 SELECT * FROM test WHERE value % 3 = 0 =>
2 SELECT * FROM test WHERE value % 3 = 0 =>
1 INSERT INTO test VALUES (3, 30)
2 INSERT INTO test VALUES (4, 42)
1 COMMIT
2 COMMIT
";

/// G2 of keys that are not there: each finds the other's missing, and writes its own.
const G2_ABSENT: [Case; 3] = [
    G2_ABSENT_ALLOWED,
    G2_ABSENT_ALLOWED,
    "
1 SELECT * FROM test WHERE id = 4 =>
2 SELECT * FROM test WHERE id = 3 =>
1 INSERT INTO test VALUES (3, 30)
2 INSERT INTO test VALUES (4, 42)
1 COMMIT
2 COMMIT !40001
",
];
const G2_ABSENT_ALLOWED: Case = "
1 SELECT * FROM test WHERE id = 4 =>
2 SELECT * FROM test WHERE id = 3 =>
1 INSERT INTO test VALUES (3, 30)
2 INSERT INTO test VALUES (4, 42)
1 COMMIT
2 COMMIT
";

/// Fekete's read-only anomaly, G2 with two anti-dependency edges. PostgreSQL: the same.
const G2_TWO_EDGES: [Case; 3] = [
    "
1 SELECT * FROM test => 1|10 2|20
2 UPDATE test SET value = value + 5 WHERE id = 2
2 COMMIT
3 SELECT * FROM test => 1|10 2|25
3 COMMIT
1 UPDATE test SET value = 0 WHERE id = 1
1 COMMIT
",
    "
1 SELECT * FROM test => 1|10 2|20
2 UPDATE test SET value = value + 5 WHERE id = 2
2 COMMIT
3 SELECT * FROM test => 1|10 2|25
3 COMMIT
1 UPDATE test SET value = 0 WHERE id = 1
1 COMMIT
",
    "
1 SELECT * FROM test => 1|10 2|20
2 UPDATE test SET value = value + 5 WHERE id = 2
2 COMMIT
3 SELECT * FROM test => 1|10 2|25
3 COMMIT
1 UPDATE test SET value = 0 WHERE id = 1
1 COMMIT !40001
",
];

/// What is not of the same row does not conflict: SERIALIZABLE certifies rows by key where it can.
const OTHER_ROWS: Case = "
1 SELECT * FROM test WHERE id = 1 => 1|10
2 SELECT * FROM test WHERE id = 2 => 2|20
1 UPDATE test SET value = 11 WHERE id = 1
2 UPDATE test SET value = 21 WHERE id = 2
1 COMMIT
2 COMMIT
";

/// Rows that a statement locks are as the commit finds them.
const LOCKED: Case = "
1 SELECT * FROM test WHERE id = 1 FOR UPDATE => 1|10
2 SELECT * FROM test WHERE id = 1 FOR UPDATE => 1|10
1 UPDATE test SET value = 21 WHERE id = 2
1 COMMIT
2 UPDATE test SET value = 22 WHERE id = 2
2 COMMIT !40001
1 SELECT * FROM test => 1|10 2|21
";

/// Two may share a row; one that changes it comes too late.
const SHARED: Case = "
1 SELECT * FROM test WHERE id = 1 FOR SHARE => 1|10
2 SELECT * FROM test WHERE id = 1 FOR SHARE => 1|10
3 UPDATE test SET value = 11 WHERE id = 1
1 COMMIT
2 COMMIT
3 COMMIT !40001
1 SELECT * FROM test => 1|10 2|20
";

/// A row that was locked and then changed by another.
const LOCKED_TOO_LATE: Case = "
1 SELECT * FROM test WHERE id = 1 FOR SHARE => 1|10
2 UPDATE test SET value = 11 WHERE id = 1
2 COMMIT
1 COMMIT !40001
";

/// What a savepoint's statements locked is given back with them.
const LOCK_GIVEN_BACK: Case = "
1 SAVEPOINT s
1 SELECT * FROM test WHERE id = 1 FOR UPDATE => 1|10
1 ROLLBACK TO s
2 UPDATE test SET value = 11 WHERE id = 1
2 COMMIT
1 INSERT INTO test VALUES (3, 30)
1 COMMIT
";

/// What was read before going back to a savepoint is known all the same.
const READ_NOT_GIVEN_BACK: Case = "
1 SAVEPOINT s
1 SELECT * FROM test WHERE id = 1 => 1|10
1 ROLLBACK TO s
2 UPDATE test SET value = 11 WHERE id = 1
2 COMMIT
1 INSERT INTO test VALUES (3, 30)
1 COMMIT !40001
";

async fn run_case(quire: &Quire, level: usize, case: Case) -> Result<()> {
    let mut sessions = vec![];
    for number in 0..3 {
        sessions.push(Session::open(&quire.addresses()[number % 2]).await?);
    }
    for sql in
        ["DROP TABLE IF EXISTS test", "CREATE TABLE test (id int PRIMARY KEY, value int)", "INSERT INTO test VALUES (1, 10), (2, 20)"]
    {
        sessions[0].run(Protocol::Simple, sql).await?;
    }
    for session in &mut sessions {
        session.run(Protocol::Simple, &format!("BEGIN ISOLATION LEVEL {}", LEVELS[level])).await?;
    }
    for (number, line) in case.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let (who, step) = line.split_once(' ').context("a step has a session and a statement")?;
        let (sql, rows) = step.split_once(" =>").map_or((step, None), |(sql, rows)| (sql, Some(rows.trim())));
        let (sql, error) = sql.split_once(" !").map_or((sql, None), |(sql, code)| (sql, Some(code)));
        // Rows come in no order of their own; the cases are written in the order of ids.
        let sql = if sql.starts_with("SELECT") && !sql.contains("FOR ") { format!("{sql} ORDER BY id") } else { sql.to_string() };
        let session = &mut sessions[who.parse::<usize>()? - 1];
        let answer = session.run(Protocol::Simple, &sql).await;
        let at = || format!("{}, line {number}: {line}", LEVELS[level]);
        match (answer, error) {
            (Err(PgError::Server(report)), Some(code)) => ensure!(report.code == code, "{}: {report:?}", at()),
            (Err(error), _) => return Err(error).with_context(at),
            (Ok(_), Some(_)) => anyhow::bail!("{}: no error", at()),
            (Ok(answer), None) => {
                let shown: Vec<String> =
                    answer.rows.iter().map(|row| row.iter().flatten().cloned().collect::<Vec<_>>().join("|")).collect();
                ensure!(rows.is_none_or(|rows| rows == shown.join(" ")), "{}: {shown:?}", at());
            }
        }
    }
    Ok(())
}

/// A test for each case, at each of its levels.
macro_rules! cases {
    ($($name:ident: $case:expr;)*) => {
        $(#[tokio::test]
        async fn $name() -> Result<()> {
            let quire = Quire::builder().compute_nodes(2).start().await?;
            let cases: [Case; 3] = $case;
            for (level, case) in cases.into_iter().enumerate() {
                run_case(&quire, level, case).await?;
            }
            Ok(())
        })*
    };
}

cases! {
    g0_write_cycles: [G0; 3];
    g1a_aborted_reads: [G1A; 3];
    g1b_intermediate_reads: G1B;
    g1c_circular_information_flow: G1C;
    otv_observed_transaction_vanishes: OTV;
    pmp_predicate_many_preceders: PMP;
    pmp_of_a_write: [PMP_WRITE; 3];
    p4_lost_update: [P4; 3];
    g_single_read_skew: G_SINGLE;
    g_single_by_predicates: G_SINGLE_PREDICATES;
    g_single_by_a_write: G_SINGLE_WRITE;
    g_single_by_a_write_that_is_taken_back: [G_SINGLE_WRITE_2; 3];
    g2_item_write_skew: G2_ITEM;
    g2_by_predicates: G2;
    g2_by_keys_that_are_not_there: G2_ABSENT;
    g2_with_two_edges: G2_TWO_EDGES;
    other_rows_do_not_conflict: [OTHER_ROWS; 3];
    rows_locked_for_update: [LOCKED; 3];
    rows_locked_for_share: [SHARED; 3];
    rows_locked_too_late: [LOCKED_TOO_LATE; 3];
    a_savepoint_gives_back_locks_but_not_what_was_read: [LOCK_GIVEN_BACK, LOCK_GIVEN_BACK, READ_NOT_GIVEN_BACK];
}
