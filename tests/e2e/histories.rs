//! What clients of two compute nodes see, many at a time, must have an explanation; and the judge of it must be able to say no.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use quire_tests::Quire;
use quire_tests::history::{Op, Promise, Told, Transaction, check};
use quire_tests::workload::{self, Clients, Stop};

/// How long clients go on: enough for some hundred transactions on a busy machine.
const SLICE: Duration = Duration::from_secs(3);
const SEED: u64 = 20;

async fn two_nodes() -> Result<Quire> {
    // Rows move into segments all the time.
    Quire::builder().compute_nodes(2).seal_age(Duration::from_millis(200)).start().await
}

fn clients(quire: &Quire, isolation: &'static str) -> Clients {
    Clients { addresses: quire.addresses().to_vec(), count: 6, seed: SEED, isolation, expected: &[] }
}

fn stop_after(time: Duration) -> Stop {
    let stop = Stop::default();
    let given = stop.clone();
    let mut task = tokio::task::JoinSet::new();
    task.spawn(async move {
        tokio::time::sleep(time).await;
        stop.store(true, Ordering::Relaxed);
    });
    task.detach_all();
    given
}

async fn lists(isolation: &'static str, promise: Promise) -> Result<()> {
    let quire = two_nodes().await?;
    workload::make_lists(quire.address()).await?;
    let history = workload::lists(&clients(&quire, isolation), stop_after(SLICE)).await?;
    let committed = history.iter().filter(|t| t.told == Told::Committed).count();
    println!("{committed} of {} transactions committed", history.len());
    ensure!(committed > 50, "only {committed} of {} transactions committed", history.len());
    Ok(check(&history, promise)?)
}

#[tokio::test]
async fn repeatable_read_is_snapshot_isolation() -> Result<()> {
    lists("REPEATABLE READ", Promise::Snapshot).await
}

#[tokio::test]
async fn serializable_is_serializable() -> Result<()> {
    lists("SERIALIZABLE", Promise::Serializable).await
}

#[tokio::test]
async fn transfers_keep_the_sum() -> Result<()> {
    let quire = two_nodes().await?;
    workload::make_bank(quire.address()).await?;
    for isolation in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let moved = workload::bank(&clients(&quire, isolation), stop_after(SLICE / 2)).await?;
        println!("{isolation}: {moved} transfers");
        ensure!(moved > 5, "{isolation}: only {moved} transfers");
    }
    Ok(())
}

#[tokio::test]
async fn a_counter_gives_each_number_once_and_never_goes_back() -> Result<()> {
    let quire = two_nodes().await?;
    workload::make_counter(quire.address()).await?;
    let last = workload::counter(&clients(&quire, "READ COMMITTED"), stop_after(SLICE)).await?;
    println!("counted to {last}");
    ensure!(last > 20, "only counted to {last}");
    Ok(())
}

#[tokio::test]
async fn a_queue_hands_each_job_out_once() -> Result<()> {
    let quire = two_nodes().await?;
    workload::make_queue(quire.address(), 150).await?;
    workload::queue(&clients(&quire, "READ COMMITTED"), 150).await
}

// --- the judge -----------------------------------------------------------------------------------

fn transaction(began: u64, ended: u64, ops: &[Op]) -> Transaction {
    Transaction { ops: ops.to_vec(), told: Told::Committed, began, ended }
}

fn w(list: u64, number: u64) -> Op {
    Op::Append(list, number)
}

fn r(list: u64, seen: &[u64]) -> Op {
    Op::Read(list, seen.to_vec())
}

/// What the judge says at each promise: nothing, or a part of it.
#[track_caller]
fn judged(history: &[Transaction], snapshot: &str, serializable: &str) {
    for (promise, expected) in [(Promise::Snapshot, snapshot), (Promise::Serializable, serializable)] {
        let said = check(history, promise).err().map(|anomaly| anomaly.to_string()).unwrap_or_default();
        assert!(if expected.is_empty() { said.is_empty() } else { said.contains(expected) }, "{promise:?}: {said}");
    }
}

#[test]
fn a_history_in_order_is_explained() {
    judged(&[transaction(0, 1, &[w(1, 1)]), transaction(2, 3, &[r(1, &[1]), w(1, 2)]), transaction(4, 5, &[r(1, &[1, 2])])], "", "");
    // Together, in either order.
    judged(&[transaction(0, 9, &[w(1, 1)]), transaction(0, 9, &[r(1, &[]), r(2, &[])]), transaction(0, 9, &[r(1, &[1]), w(2, 5)])], "", "");
}

#[test]
fn planted_anomalies_are_found() {
    // G0: each list says another order of the same two.
    let look = transaction(0, 9, &[r(1, &[1, 2]), r(2, &[4, 3])]);
    judged(&[transaction(0, 9, &[w(1, 1), w(2, 3)]), transaction(0, 9, &[w(1, 2), w(2, 4)]), look], "G0", "cycle");
    // G1a, G1b, G1c.
    let failed = Transaction { told: Told::Failed, ..transaction(0, 9, &[w(1, 1)]) };
    judged(&[failed, transaction(0, 9, &[r(1, &[1])])], "G1a", "G1a");
    judged(&[transaction(0, 9, &[w(1, 1), w(1, 2)]), transaction(0, 9, &[r(1, &[1])])], "G1b", "G1b");
    judged(&[transaction(0, 9, &[w(1, 1), r(2, &[2])]), transaction(0, 9, &[w(2, 2), r(1, &[1])])], "G1c", "cycle");
    // Lost update: both read nothing, one wrote over the other.
    let both = [transaction(0, 9, &[r(1, &[]), w(1, 1)]), transaction(0, 9, &[r(1, &[]), w(1, 2)]), transaction(10, 11, &[r(1, &[1, 2])])];
    judged(&both, "G-single", "cycle");
    // Read skew.
    let skew = [transaction(0, 9, &[w(1, 1), w(2, 2)]), transaction(0, 9, &[r(1, &[]), r(2, &[2])])];
    judged(&skew, "G-single", "cycle");
    // Write skew is what snapshot isolation allows.
    let look = transaction(10, 11, &[r(1, &[1]), r(2, &[2])]);
    judged(&[transaction(0, 9, &[r(2, &[]), w(1, 1)]), transaction(0, 9, &[r(1, &[]), w(2, 2)]), look], "", "G2");
    // Going back in time.
    judged(&[transaction(0, 1, &[w(1, 1)]), transaction(2, 3, &[r(1, &[])]), transaction(4, 5, &[r(1, &[1])])], "G-single", "cycle");
    // Acknowledged, and not there.
    judged(&[transaction(0, 1, &[w(1, 1)]), transaction(2, 3, &[r(1, &[])])], "lost", "lost");
    // And what no order explains.
    judged(&[transaction(0, 9, &[w(1, 1), w(1, 2), r(1, &[2, 1])])], "own writes", "own writes");
    judged(&[transaction(0, 9, &[r(1, &[7])])], "nowhere", "nowhere");
    judged(&[transaction(0, 9, &[w(1, 1)]), transaction(0, 9, &[r(1, &[1, 1])])], "twice", "twice");
    let two = [transaction(0, 9, &[w(1, 1)]), transaction(0, 9, &[w(1, 2)])];
    judged(
        &[two[0].clone(), two[1].clone(), transaction(0, 9, &[r(1, &[1, 2])]), transaction(0, 9, &[r(1, &[2])])],
        "two orders",
        "two orders",
    );
    judged(&[two[0].clone(), transaction(0, 9, &[r(1, &[]), r(1, &[1])])], "does not repeat", "does not repeat");
}
