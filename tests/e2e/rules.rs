//! The optimizer's rules change no answer: a query gives the same rows with all of them, without any, and without each one.
//!
//! The queries are others than those that the rules are measured by: TPC-H with other parameters and with shuffled FROM lists, and
//! queries of the shapes of the Join Order Benchmark (movies.sql) and of TPC-DS (retail.sql) over small data. The answers to the latter
//! two are PostgreSQL 15's as well (tests/golden/rules, made by golden/rules.sh).

mod table;
mod text;
mod tpch;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quire_tests::pg::{Protocol, Session};
use quire_tests::{Quire, Random, paths, program};
use serde_json::Value;

use table::Table;
use text::Query;

/// Each has a switch: the session's parameter `quire.…`. `quire.ordered_grouping`, which wants larger tables, is in ordered_grouping.rs.
const RULES: [&str; 8] = [
    "join_reordering",
    "semi_join_pushdown",
    "magic_sets",
    "shared_subplans",
    "narrow_decimals",
    "tabulated_conditions",
    "join_keys",
    "direct_grouping",
];
/// Those that plans show.
const IN_PLANS: [&str; 7] =
    ["join_reordering", "semi_join_pushdown", "magic_sets", "shared_subplans", "narrow_decimals", "join_keys", "direct_grouping"];
/// Those that change the shape of a plan.
const OF_SHAPE: [&str; 4] = ["join_reordering", "semi_join_pushdown", "magic_sets", "shared_subplans"];

/// Seeds of parameters and of orders in FROM.
const SEEDS: [u64; 2] = [1, 2];

/// Rows are sealed within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether they are.
const LOOK: Duration = Duration::from_millis(50);

/// A session, and which rules it has.
struct Variant {
    name: String,
    session: Session,
}

async fn session(quire: &Quire, on: impl Fn(&str) -> bool) -> Result<Session> {
    let mut session = Session::open(quire.address()).await?;
    for rule in RULES {
        let value = if on(rule) { "on" } else { "off" };
        session.run(Protocol::Simple, &format!("SET quire.{rule} = {value}")).await?;
    }
    Ok(session)
}

/// All rules first.
async fn variants(quire: &Quire) -> Result<Vec<Variant>> {
    let mut variants = vec![
        Variant { name: "all rules".into(), session: session(quire, |_| true).await? },
        Variant { name: "no rule".into(), session: session(quire, |_| false).await? },
    ];
    for without in RULES {
        variants.push(Variant { name: format!("all rules but {without}"), session: session(quire, |rule| rule != without).await? });
    }
    Ok(variants)
}

/// Asks in each session. The first answer is what the others must be, unless another text of the query had one before.
async fn ask(variants: &mut [Variant], query: &Query, expected: &mut Option<Table>, wrong: &mut Vec<String>) {
    for variant in variants {
        match variant.session.run(Protocol::Simple, &query.sql).await {
            Err(error) => wrong.push(format!("{} with {}: {error}", query.name, variant.name)),
            Ok(answer) => {
                let ours = Table::of(&answer, query.is_ordered());
                if let Some(difference) = expected.get_or_insert_with(|| ours.clone()).difference(&ours) {
                    wrong.push(format!("{} with {}: {difference}", query.name, variant.name));
                }
            }
        }
    }
}

/// Fails unless each of these rules by itself changes the plan of a query: otherwise equal answers say nothing.
async fn each_has_an_effect(quire: &Quire, rules: &[&str], queries: &[Query]) -> Result<()> {
    let mut plain = session(quire, |_| false).await?;
    for rule in rules {
        let mut with = session(quire, |other| other == *rule).await?;
        let mut changed = false;
        for query in queries {
            let explain = format!("EXPLAIN {}", query.sql);
            let before = plain.run(Protocol::Simple, &explain).await.with_context(|| query.name.clone())?;
            let after = with.run(Protocol::Simple, &explain).await.with_context(|| query.name.clone())?;
            if before.rows != after.rows {
                changed = true;
                break;
            }
        }
        ensure!(changed, "{rule} changes no plan");
    }
    Ok(())
}

/// Whether scans of a query counted any such rows.
async fn counted(session: &mut Session, query: &Query, counter: &str) -> Result<bool> {
    let run = session.run(Protocol::Simple, &format!("EXPLAIN ANALYZE {}", query.sql)).await.with_context(|| query.name.clone())?;
    let lines = run.rows.iter().flatten().flatten();
    let counter = format!("{counter}=");
    Ok(lines.flat_map(|line| line.split(&counter).skip(1)).any(|rest| !rest.starts_with('0')))
}

/// Fails unless some query's conditions are answered as the rule has it, which a counter tells, and none when that is off.
async fn has_an_effect(quire: &Quire, queries: &[Query], rule: &str, counter: &str) -> Result<()> {
    // Keys leave nothing to tables.
    let on = |name: &str| name == rule || name != "join_keys";
    let mut with = session(quire, on).await?;
    let mut without = session(quire, |name| on(name) && name != rule).await?;
    let mut some = false;
    for query in queries {
        some |= counted(&mut with, query, counter).await?;
        ensure!(!counted(&mut without, query, counter).await?, "{}: {counter}, though {rule} is off", query.name);
    }
    ensure!(some, "{rule} answers no condition");
    Ok(())
}

/// A server that makes segments of rows as soon as it can.
async fn start() -> Result<Quire> {
    Quire::builder().seal_rows(1000).seal_age(Duration::from_millis(200)).start().await
}

/// Waits until all rows are in segments: what the rules know of columns comes with them.
async fn sealed(quire: &Quire) -> Result<()> {
    let storage = quire.storage_addresses().join(",");
    let polling = async {
        loop {
            let ran = program::run(&["admin", "status", "--format", "json", "--storage", &storage]).await?;
            let status: Value = serde_json::from_str(&ran.out).with_context(|| format!("not JSON: {} {}", ran.out, ran.err))?;
            let number = |name: &str| status["nodes"][0]["status"][name].as_u64().unwrap_or(0);
            if number("delta_rows") == 0 && number("segments") > 0 {
                return anyhow::Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.context("rows are not sealed")?
}

fn none(wrong: &[String]) -> Result<()> {
    ensure!(wrong.is_empty(), "{} answers differ\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn read(path: &str) -> Result<String> {
    let path = paths::package().join(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

#[tokio::test]
async fn tpch_with_other_parameters_and_shuffled() -> Result<()> {
    let quire = start().await?;
    let url = format!("postgres://quire@{}/quire", quire.address());
    program::run(&["tpch", "load", "--url", &url, "--scale", tpch::SCALE]).await?.ok()?;
    sealed(&quire).await?;

    let mut variants = variants(&quire).await?;
    let (mut originals, mut wrong, mut empty) = (vec![], vec![], 0);
    for number in 1..=22 {
        let sql = tpch::text(number)?;
        let original = Query { name: format!("query {number}"), sql };
        let mut expected = None;
        ask(&mut variants[..1], &original, &mut expected, &mut wrong).await;
        for seed in SEEDS {
            let mut random = Random::new(seed, number);
            let shuffled = Query { name: format!("{} shuffled by {seed}", original.name), sql: text::shuffled(&original.sql, &mut random) };
            ask(&mut variants, &shuffled, &mut expected, &mut wrong).await;
            let sql = tpch::with_parameters(number, &original.sql, &mut random)?;
            let (other, mut answer) = (Query { name: format!("{} with parameters of {seed}", original.name), sql }, None);
            ask(&mut variants, &other, &mut answer, &mut wrong).await;
            empty += usize::from(answer.is_some_and(|answer| answer.is_empty()));
        }
        originals.push(original);
    }
    none(&wrong)?;
    // Quantities above 312 in query 18, say, are rare at this scale.
    ensure!(empty <= 8, "{empty} answers are empty");
    each_has_an_effect(&quire, &IN_PLANS, &originals).await?;
    has_an_effect(&quire, &originals, "tabulated_conditions", "rows_tabulated").await?;
    has_an_effect(&quire, &originals, "join_keys", "rows_by_keys").await
}

/// Loads `<name>_data.sql` and runs the queries of `<name>.sql`, with the FROM lists shuffled too. The answers are in the golden file.
async fn shapes(name: &str, rules: &[&str]) -> Result<()> {
    let queries = text::queries(&read(&format!("e2e/rules/{name}.sql"))?)?;
    let golden = text::golden(&read(&format!("golden/rules/{name}.out"))?)?;
    ensure!(golden.len() == queries.len(), "{} queries, {} answers: run golden/rules.sh", queries.len(), golden.len());

    let quire = start().await?;
    let mut loading = Session::open(quire.address()).await?;
    for statement in text::statements(&read(&format!("e2e/rules/{name}_data.sql"))?) {
        loading.run(Protocol::Simple, &statement).await.with_context(|| statement.clone())?;
    }
    sealed(&quire).await?;

    let mut variants = variants(&quire).await?;
    let mut wrong = vec![];
    for (number, query) in queries.iter().enumerate() {
        let mut expected = None;
        ask(&mut variants, query, &mut expected, &mut wrong).await;
        let shuffled = text::shuffled(&query.sql, &mut Random::new(SEEDS[0], number as u64));
        let shuffled = Query { name: format!("{} shuffled", query.name), sql: shuffled };
        ask(&mut variants[..1], &shuffled, &mut expected, &mut wrong).await;

        let Some(answer) = expected else { continue };
        let (_, rows) = golden.iter().find(|(of, _)| *of == query.name).with_context(|| format!("no golden answer to {}", query.name))?;
        if let Some(difference) = answer.like(rows, query.is_ordered()).difference(&answer) {
            wrong.push(format!("{} beside PostgreSQL: {difference}", query.name));
        }
    }
    none(&wrong)?;
    each_has_an_effect(&quire, rules, &queries).await?;
    has_an_effect(&quire, &queries, "tabulated_conditions", "rows_tabulated").await?;
    has_an_effect(&quire, &queries, "join_keys", "rows_by_keys").await
}

#[tokio::test]
async fn shapes_of_the_join_order_benchmark() -> Result<()> {
    // There is nothing but joins.
    shapes("movies", &["join_reordering"]).await
}

#[tokio::test]
async fn shapes_of_tpcds() -> Result<()> {
    shapes("retail", &OF_SHAPE).await
}
