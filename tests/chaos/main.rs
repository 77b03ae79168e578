//! Chaos: clients write through two compute nodes while processes are killed and started again, all by a schedule that a seed gives.
//! Then everything is started, must heal, and an oracle compares what is there with what was said.
//!
//!     QUIRE_SEED=…            the seed; it is printed, so that a run can be repeated (the schedule is the same, the timing is not)
//!     QUIRE_CHAOS_SECONDS=…   how long the faults go on; 30 unless set (10 for histories)
//!
//! The oracle: a transaction that was acknowledged is there whole, one that failed with an error is not there at all, and one whose
//! outcome was never learnt is there whole or not at all, on every node alike. Nothing is there twice. Beside it, histories of transactions
//! that read and write the same lists must have an explanation (`quire_tests::history`), whatever was killed.

mod client;
mod oracle;
mod schedule;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quire_tests::history::{self, Promise, Told};
use quire_tests::workload::{self, Clients, Stop};
use quire_tests::{Cluster, Random};
use tokio::task::JoinSet;

use crate::client::{Tally, write};
use crate::schedule::Fault;

const CLIENTS: u64 = 6;
/// After the last fault, clients go on for so long without one: they must all get through.
const CALM: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);

fn seconds(unless_set: u64) -> Result<u64> {
    std::env::var("QUIRE_CHAOS_SECONDS").map_or(Ok(unless_set), |s| s.parse().context("QUIRE_CHAOS_SECONDS is a number"))
}

fn seed() -> Result<u64> {
    match std::env::var("QUIRE_SEED") {
        Ok(seed) => seed.parse().context("QUIRE_SEED is a number"),
        Err(_) => Ok(std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), "a new seed") >> 16),
    }
}

#[tokio::test]
async fn no_kill_loses_or_doubles_a_transaction() -> Result<()> {
    let (seed, seconds) = (seed()?, seconds(30)?);
    println!("QUIRE_SEED={seed} QUIRE_CHAOS_SECONDS={seconds}");
    run(seed, Duration::from_secs(seconds)).await.with_context(|| format!("QUIRE_SEED={seed} QUIRE_CHAOS_SECONDS={seconds}"))
}

#[tokio::test]
async fn no_kill_leaves_a_history_without_an_explanation() -> Result<()> {
    let (seed, seconds) = (seed()?, seconds(10)?);
    println!("QUIRE_SEED={seed} QUIRE_CHAOS_SECONDS={seconds}");
    explain(seed, Duration::from_secs(seconds)).await.with_context(|| format!("QUIRE_SEED={seed} QUIRE_CHAOS_SECONDS={seconds}"))
}

async fn explain(seed: u64, duration: Duration) -> Result<()> {
    let cluster = Cluster::builder().storage_flag("--seal-rows", "100").storage_flag("--seal-age", "1s");
    let mut cluster = cluster.allow_log("\"level\":\"WARN\"").start().await?;
    let addresses = cluster.addresses();
    workload::make_lists(&addresses[0]).await?;
    workload::make_counter(&addresses[0]).await?;
    let clients = |isolation, count, expected| Clients { addresses: addresses.clone(), count, seed, isolation, expected };
    let stop = Stop::default();
    let mut histories = JoinSet::new();
    let (writers, given) = (clients("SERIALIZABLE", CLIENTS, client::EXPECTED), stop.clone());
    histories.spawn(async move { workload::lists(&writers, given).await });
    let mut counters = JoinSet::new();
    let (counting, given) = (clients("READ COMMITTED", 2, client::EXPECTED), stop.clone());
    counters.spawn(async move { workload::counter(&counting, given).await });

    disturb(&mut cluster, Random::new(seed, 0), &Tally::default(), duration).await?;
    tokio::time::sleep(CALM).await;
    stop.store(true, Ordering::Relaxed);
    let history = histories.join_next().await.context("nobody wrote")???;
    let counted = counters.join_next().await.context("nobody counted")???;
    let told = |what: Told| history.iter().filter(|t| t.told == what).count();
    let (committed, failed, nothing) = (told(Told::Committed), told(Told::Failed), told(Told::Nothing));
    println!("{committed} committed, {failed} failed, {nothing} unknown; counted to {counted}");
    history::check(&history, Promise::Serializable)?;
    ensure!(committed > 20, "only {committed} transactions committed");
    cluster.stop().await
}

async fn run(seed: u64, duration: Duration) -> Result<()> {
    let cluster = Cluster::builder().storage_flag("--seal-rows", "300").storage_flag("--seal-age", "1s");
    let mut cluster = cluster.allow_log("\"level\":\"WARN\"").start().await?;
    let setup = cluster.connect(0).await?;
    setup
        .batch_execute("CREATE TABLE keyed (id bigint PRIMARY KEY, op bigint, note text); CREATE TABLE plain (op bigint, note text)")
        .await?;
    drop(setup);

    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let address = cluster.addresses()[(client % 2) as usize].clone();
        let other = cluster.addresses()[((client + 1) % 2) as usize].clone();
        clients.spawn(write(Random::new(seed, client + 1), client, address, other, tally.clone()));
    }
    disturb(&mut cluster, Random::new(seed, 0), &tally, duration).await?;

    let before = tally.written();
    tally.wait_for(u64::MAX, CALM).await;
    let calm = tally.written() - before;
    tally.stop();
    let mut said = vec![];
    while let Some(client) = clients.join_next().await {
        said.extend(client??);
    }
    println!("{} transactions, {}", said.len(), tally.summary());
    ensure!(calm > 0, "all was well again, and nobody got a transaction through");

    oracle::check(&cluster, &said).await?;
    let status = cluster.sealed().await?;
    ensure!(status.iter().all(|n| n.segments == status[0].segments), "replicas differ: {status:?}");
    oracle::check(&cluster, &said).await.context("after sealing")?;
    cluster.kill9_all()?;
    cluster.restart_all().await?;
    oracle::check(&cluster, &said).await.context("after a kill of everything")?;
    cluster.stop().await
}

/// One fault after the other, each healed before the next, until the time is over.
async fn disturb(cluster: &mut Cluster, mut random: Random, tally: &Tally, duration: Duration) -> Result<()> {
    let mut time = JoinSet::new();
    time.spawn(tokio::time::sleep(duration));
    while time.try_join_next().is_none() {
        tally.wait_for(random.between(20, 120), Duration::from_secs(2)).await;
        let fault = Fault::any(&mut random);
        println!("{fault:?}");
        match fault {
            Fault::KillLeader | Fault::KillFollower => {
                let (leader, follower) = cluster.leader_and_follower().await?;
                let node = if fault == Fault::KillLeader { leader } else { follower };
                cluster.storage(node).kill9()?;
                tally.wait_for(random.between(0, 200), Duration::from_secs(3)).await;
                cluster.storage(node).start()?;
            }
            Fault::KillMajority => {
                let spared = random.between(0, 2) as usize;
                for node in (0..3).filter(|n| *n != spared) {
                    cluster.storage(node).kill9()?;
                }
                tally.wait_for(u64::MAX, Duration::from_millis(random.between(0, 1500))).await;
                for node in (0..3).filter(|n| *n != spared) {
                    cluster.storage(node).start()?;
                }
            }
            Fault::RestartNode => {
                let node = random.between(0, 2) as usize;
                cluster.storage(node).stop().await?;
                cluster.storage(node).start()?;
            }
            Fault::KillCompute => {
                let node = random.between(0, 1) as usize;
                cluster.compute(node).kill9()?;
                if random.between(0, 1) == 0 {
                    std::fs::remove_dir_all(cluster.cache_dir(node))?;
                }
                cluster.compute(node).start()?;
            }
            Fault::KillEverything => {
                cluster.kill9_all()?;
                for node in 0..3 {
                    cluster.storage(node).start()?;
                }
                for node in 0..2 {
                    cluster.compute(node).start()?;
                }
            }
        }
        // two faults at once would be a lost majority, which is a fault of its own
        cluster.restart_all().await?;
        cluster.healed().await.with_context(|| format!("after {fault:?}"))?;
    }
    Ok(())
}
