//! Chaos: clients write through two compute nodes while processes are killed and started again, all by a schedule that a seed gives.
//! Then everything is started, must heal, and an oracle compares what is there with what was said.
//!
//!     QUIRE_SEED=…            the seed; it is printed, so that a run can be repeated (the schedule is the same, the timing is not)
//!     QUIRE_CHAOS_SECONDS=…   how long the faults go on; 30 unless set
//!
//! The oracle: a transaction that was acknowledged is there whole, one that failed with an error is not there at all, and one whose
//! outcome was never learnt is there whole or not at all, on every node alike. Nothing is there twice.

mod client;
mod oracle;
mod schedule;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quire_tests::Cluster;
use tokio::task::JoinSet;

use crate::client::{Tally, write};
use crate::schedule::{Fault, Random};

const CLIENTS: u64 = 6;
/// After the last fault, clients go on for so long without one: they must all get through.
const CALM: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);

fn seconds() -> Result<u64> {
    std::env::var("QUIRE_CHAOS_SECONDS").map_or(Ok(30), |s| s.parse().context("QUIRE_CHAOS_SECONDS is a number"))
}

fn seed() -> Result<u64> {
    match std::env::var("QUIRE_SEED") {
        Ok(seed) => seed.parse().context("QUIRE_SEED is a number"),
        Err(_) => Ok(std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), "a new seed") >> 16),
    }
}

#[tokio::test]
async fn no_kill_loses_or_doubles_a_transaction() -> Result<()> {
    let (seed, seconds) = (seed()?, seconds()?);
    println!("QUIRE_SEED={seed} QUIRE_CHAOS_SECONDS={seconds}");
    run(seed, Duration::from_secs(seconds)).await.with_context(|| format!("QUIRE_SEED={seed} QUIRE_CHAOS_SECONDS={seconds}"))
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
        let fault = random.fault();
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
