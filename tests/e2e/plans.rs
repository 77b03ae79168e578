//! Plans that a session keeps: the same query again runs by the plan that was made before, over what there is now, and not where anything
//! that the plan was made of has changed.

use anyhow::{Result, ensure};
use quire_tests::{Quire, lines, program};
use tokio_postgres::Client;

const TABLES: &str = "CREATE TABLE parent (id bigint PRIMARY KEY, name text);
    CREATE TABLE child (id bigint PRIMARY KEY, parent bigint, n numeric(10,2));
    INSERT INTO parent SELECT i, 'p' || i FROM generate_series(1, 10) AS s(i);
    INSERT INTO child SELECT i, i % 10 + 1, i FROM generate_series(1, 100) AS s(i)";
const JOIN: &str =
    "SELECT name, sum(n) FROM parent JOIN child ON child.parent = parent.id WHERE parent.id <= 2 GROUP BY name ORDER BY name";

struct Served {
    quire: Quire,
    client: Client,
}

impl Served {
    async fn start() -> Result<Served> {
        let quire = Quire::builder().start().await?;
        let client = quire.connect().await?;
        client.batch_execute(TABLES).await?;
        Ok(Served { quire, client })
    }

    async fn reused(&mut self) -> Result<u64> {
        Ok(program::metric(&self.quire.process().metrics().await?, "quire_sql_plans_reused_total", &[]))
    }

    /// The answer, as psql -At shows it, and whether it came by a kept plan.
    async fn ask(&mut self, sql: &str) -> Result<(String, bool)> {
        let before = self.reused().await?;
        let answer = answer(&self.client, sql).await?;
        Ok((answer, self.reused().await? > before))
    }

    /// Asks until a plan is kept: once to be known, once to be kept.
    async fn keep(&mut self, sql: &str) -> Result<()> {
        for _ in 0..2 {
            let (_, reused) = self.ask(sql).await?;
            ensure!(!reused, "a plan of {sql} was kept before");
        }
        Ok(())
    }

    async fn expect(&mut self, sql: &str, expected: &str, by_kept_plan: bool) -> Result<()> {
        let found = self.ask(sql).await?;
        ensure!(found == (expected.to_string(), by_kept_plan), "{sql}: {found:?}, not {expected:?} by a kept plan: {by_kept_plan}");
        Ok(())
    }
}

async fn answer(client: &Client, sql: &str) -> Result<String> {
    Ok(lines(client, sql).await?.join(";"))
}

#[tokio::test]
async fn a_kept_plan_reads_what_there_is_now() -> Result<()> {
    let mut served = Served::start().await?;
    served.keep(JOIN).await?;
    served.expect(JOIN, "p1|550.00;p2|460.00", true).await?;
    // Another session's commit, deletes among it.
    let other = served.quire.connect().await?;
    other.batch_execute("INSERT INTO child VALUES (1000, 1, 0.5); DELETE FROM child WHERE id = 1").await?;
    served.expect(JOIN, "p1|550.50;p2|459.00", true).await?;
    // A block sees its own rows, and then those of its snapshot only.
    served.client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO child VALUES (1001, 2, 1)").await?;
    served.expect(JOIN, "p1|550.50;p2|460.00", true).await?;
    other.batch_execute("UPDATE child SET n = 0").await?;
    served.expect(JOIN, "p1|550.50;p2|460.00", true).await?;
    served.client.batch_execute("ROLLBACK").await?;
    served.expect(JOIN, "p1|0.00;p2|0.00", true).await?;
    // The other session has plans of its own.
    ensure!(answer(&other, JOIN).await? == "p1|0.00;p2|0.00");
    // EXPLAIN shows the plan that the query runs by.
    let explain = format!("EXPLAIN {JOIN}");
    served.ask(&explain).await?;
    served.ask(&explain).await?;
    let (shown, reused) = served.ask(&explain).await?;
    ensure!(reused && shown.contains("table=child") && shown.contains("table=parent"), "{reused}: {shown}");
    // Sub-queries that stay sub-queries are read anew, too.
    served.client.batch_execute("UPDATE child SET n = id").await?;
    let above = "SELECT count(*) FROM child WHERE n > (SELECT avg(n) FROM child) AND parent IN (SELECT id FROM parent WHERE name < 'p5')";
    served.keep(above).await?;
    let (before, _) = served.ask(above).await?;
    served.client.batch_execute("INSERT INTO child SELECT i, 1, 1e6 FROM generate_series(2000, 2009) AS s(i)").await?;
    let (after, reused) = served.ask(above).await?;
    ensure!(reused && before != after && after == "10", "{before}, then {after}");
    served.quire.stop().await
}

#[tokio::test]
async fn a_kept_plan_ends_with_what_it_was_made_of() -> Result<()> {
    let mut served = Served::start().await?;
    let all = "SELECT * FROM parent WHERE id = 1 OR id = 2 ORDER BY id";
    served.keep(all).await?;
    served.expect(all, "1|p1;2|p2", true).await?;
    // Definitions: also within a block, and back.
    served.client.batch_execute("ALTER TABLE parent ADD COLUMN more int DEFAULT 7").await?;
    served.expect(all, "1|p1|7;2|p2|7", false).await?;
    served.expect(all, "1|p1|7;2|p2|7", true).await?;
    served.client.batch_execute("BEGIN; ALTER TABLE parent DROP COLUMN more").await?;
    served.expect(all, "1|p1;2|p2", false).await?;
    served.client.batch_execute("ROLLBACK").await?;
    served.expect(all, "1|p1|7;2|p2|7", false).await?;
    // What a name means.
    served.client.batch_execute("CREATE TEMP TABLE parent (id bigint, other text); INSERT INTO parent VALUES (1, 'temporary')").await?;
    served.expect(all, "1|temporary", false).await?;
    served.client.batch_execute("DROP TABLE parent; DISCARD PLANS").await?;
    served.client.batch_execute("CREATE SCHEMA s; CREATE TABLE s.parent (id bigint); INSERT INTO s.parent VALUES (2)").await?;
    served.ask(all).await?;
    served.ask(all).await?;
    served.client.batch_execute("SET search_path = s, public").await?;
    served.expect(all, "2", false).await?;
    served.client.batch_execute("RESET search_path").await?;
    // What depends on a setting.
    let shown = "SELECT '2024-01-01 00:00:00+00'::timestamptz::text FROM child WHERE id = 1 AND n > 0";
    served.ask(shown).await?;
    served.ask(shown).await?;
    served.client.batch_execute("SET timezone = 'Asia/Tokyo'").await?;
    served.expect(shown, "2024-01-01 09:00:00+09", false).await?;
    // A table that has grown: the order of joins may be another.
    served.ask(JOIN).await?;
    served.ask(JOIN).await?;
    served.expect(JOIN, "p1|550.00;p2|460.00", true).await?;
    served.client.batch_execute("INSERT INTO child SELECT i, 10, 0 FROM generate_series(1000, 5000) AS s(i)").await?;
    served.expect(JOIN, "p1|550.00;p2|460.00", false).await?;
    served.expect(JOIN, "p1|550.00;p2|460.00", true).await?;
    served.client.batch_execute("SET plan_cache_mode = force_custom_plan").await?;
    served.expect(JOIN, "p1|550.00;p2|460.00", false).await?;
    served.quire.stop().await
}

#[tokio::test]
async fn no_plan_is_kept_of_what_depends_on_the_moment() -> Result<()> {
    let mut served = Served::start().await?;
    served.client.batch_execute("CREATE VIEW passed AS SELECT 'now' - timestamptz '2000-01-01' AS age").await?;
    let moments = [
        "SELECT count(*) FROM child WHERE n > 0 AND now() > '2024-01-01'",
        "SELECT count(*) FROM child WHERE n > 0 AND current_date > date '2024-01-01'",
        "SELECT count(*) FROM child WHERE n > 0 AND timestamptz '2024-01-01' < 'now'",
        "SELECT count(*) FROM child WHERE n > 0 AND 'today'::date > date '2024-01-01'",
        "SELECT count(*) FROM child WHERE n > 0 AND ('to' || 'day')::date > date '2024-01-01'",
        "SELECT count(*) FROM child WHERE n > 0 AND date '2024-01-01' <> ANY('{today}'::date[])",
        "SELECT count(*) FROM (SELECT n, 'to' || 'day' AS d FROM child) AS s WHERE n > 0 AND d::date > date '2024-01-01'",
        "SELECT count(*) FROM child, passed WHERE n > 0 AND age > interval '1 day'",
        "SELECT count(*) FROM child WHERE n > 0 AND random() < 2",
        "SELECT count(*) FROM child, generate_series(1, 1) WHERE n > 0",
        "SELECT count(*) FROM child, pg_class WHERE n > 0 AND relname = 'child'",
    ];
    for sql in moments {
        for _ in 0..3 {
            served.expect(sql, "100", false).await?;
        }
    }
    // Another value is another query.
    let statement =
        served.client.prepare("SELECT sum(child.n)::text FROM parent JOIN child ON parent.id = child.parent WHERE name = $1").await?;
    for _ in 0..4 {
        for (name, sum) in [("p1", "550.00"), ("p2", "460.00")] {
            let found: String = served.client.query_one(&statement, &[&name]).await?.get(0);
            ensure!(found == sum, "{name}: {found}");
        }
    }
    ensure!(served.reused().await? >= 4, "{} of them ran by a kept plan", served.reused().await?);
    served.quire.stop().await
}

/// Each part is a level of the plan, and the threads that walk it have a stack.
#[tokio::test]
async fn a_union_of_a_thousand_parts_is_planned() -> Result<()> {
    let served = Served::start().await?;
    let parts = vec!["SELECT id FROM parent"; 1000].join(" UNION ALL ");
    let rows = answer(&served.client, &format!("SELECT count(*) FROM ({parts}) parts")).await?;
    ensure!(rows == "10000", "{rows}");
    Ok(())
}
