//! Compares what is there with what was said.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use quire_tests::Cluster;

use crate::client::{Told, Transaction};

/// How many rows a transaction has: in the table with a key, and in the one without.
type Rows = HashMap<u64, (u64, u64)>;

/// Fails when a transaction is lost, doubled, halved, or there although it failed; and when the nodes do not agree.
pub(crate) async fn check(cluster: &Cluster, said: &[Transaction]) -> Result<()> {
    let mut views = vec![];
    for node in 0..cluster.addresses().len() {
        views.push(rows(cluster, node).await.with_context(|| format!("compute node {node}"))?);
    }
    ensure!(views.iter().all(|view| *view == views[0]), "the compute nodes do not agree");
    let there = &views[0];
    let mut wrong = vec![];
    let (mut in_doubt, mut in_doubt_there) = (0, 0);
    for transaction in said {
        let whole = (transaction.keyed, transaction.plain);
        let found = there.get(&transaction.op).copied().unwrap_or_default();
        let fine = match transaction.told {
            Told::Committed => found == whole,
            Told::Failed => found == (0, 0),
            Told::Nothing => found == whole || found == (0, 0),
        };
        if !fine {
            wrong.push(format!("{transaction:?}: {found:?} rows are there"));
        }
        if transaction.told == Told::Nothing {
            in_doubt += 1;
            in_doubt_there += u64::from(found == whole);
        }
    }
    let known: std::collections::HashSet<u64> = said.iter().map(|t| t.op).collect();
    wrong.extend(there.iter().filter(|(op, _)| !known.contains(op)).map(|(op, rows)| format!("op {op} was never made: {rows:?} rows")));
    println!("{in_doubt} in doubt, {in_doubt_there} of them are there");
    ensure!(wrong.is_empty(), "{} transactions are wrong:\n{}", wrong.len(), wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n"));
    Ok(())
}

async fn rows(cluster: &Cluster, node: usize) -> Result<Rows> {
    let client = cluster.connect(node).await?;
    let mut rows = Rows::new();
    for row in client.query("SELECT op, count(*), count(DISTINCT id), count(DISTINCT note) FROM keyed GROUP BY op", &[]).await? {
        let (op, all, keys, notes) = (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2), row.get::<_, i64>(3));
        ensure!(all == keys && all == notes, "op {op}: {all} rows, {keys} keys, {notes} notes");
        rows.entry(op as u64).or_default().0 = all as u64;
    }
    for row in client.query("SELECT op, count(*), count(DISTINCT note) FROM plain GROUP BY op", &[]).await? {
        let (op, all, notes) = (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2));
        ensure!(all == notes, "op {op}: {all} rows, but {notes} different ones: written twice");
        rows.entry(op as u64).or_default().1 = all as u64;
    }
    Ok(rows)
}
