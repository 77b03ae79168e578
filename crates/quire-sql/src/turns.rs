//! Turns: transactions of one compute node that are about to change the same row do so one after the other.
//!
//! The first to commit wins, so of ten that change a row at once nine do their work in vain. Those of one node need not: who is to change the
//! row that has a key waits until the one before it has ended, and only then takes its snapshot. It is a matter of speed and nothing else: who has
//! waited for long goes on without its turn, so that no two wait for each other for ever, and certification decides, as it does between nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quire_kit::clock;
use quire_types::TableId;
use tokio::sync::OwnedMutexGuard;

/// As long as Postgres waits before it looks for a deadlock.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// A row by its key: the table, and the key's number among its constraints and hash.
pub(crate) type RowKey = (TableId, u32, u64);

/// The turns of a compute node.
#[derive(Default)]
pub(crate) struct Turns {
    rows: Mutex<HashMap<RowKey, Arc<tokio::sync::Mutex<()>>>>,
}

/// A transaction's turn with a row; it ends when the transaction and its savepoints do.
pub(crate) struct Turn {
    key: RowKey,
    held: Option<OwnedMutexGuard<()>>,
    turns: Arc<Turns>,
}

impl Turns {
    /// Waits for the turn with a row; `None` when that takes too long.
    pub(crate) async fn wait(self: &Arc<Self>, key: RowKey) -> Option<Turn> {
        let row = self.rows.lock().entry(key).or_default().clone();
        // From here on the row is forgotten when the turn ends, or is given up.
        let mut turn = Turn { key, held: None, turns: self.clone() };
        let held = match row.clone().try_lock_owned() {
            Ok(held) => held,
            Err(_) => {
                metrics::counter!("quire_sql_turns_waited_total").increment(1);
                clock::timeout(WAIT_MAX, row.lock_owned()).await.ok()?
            }
        };
        turn.held = Some(held);
        Some(turn)
    }
}

impl Turn {
    /// Whether it is with this row.
    pub(crate) fn is_with(&self, key: RowKey) -> bool {
        self.key == key
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut rows = self.turns.rows.lock();
        // Who waits, or holds it, has a share of it.
        if rows.get(&self.key).is_some_and(|row| Arc::strong_count(row) == 1) {
            rows.remove(&self.key);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key(hash: u64) -> RowKey {
        (TableId(1), 0, hash)
    }

    #[tokio::test]
    async fn one_after_the_other_and_nothing_is_left() {
        let turns = Arc::new(Turns::default());
        let first = turns.wait(key(1)).await.unwrap();
        let other = turns.wait(key(2)).await.unwrap();
        let second = quire_kit::task::spawn("second turn", {
            let turns = turns.clone();
            async move { turns.wait(key(1)).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap());
        drop(other);
        assert!(turns.rows.lock().is_empty());
    }

    #[tokio::test]
    async fn who_waits_for_long_goes_on_without() {
        let turns = Arc::new(Turns::default());
        let first = turns.wait(key(1)).await.unwrap();
        assert!(turns.wait(key(1)).await.is_none());
        drop(first);
        assert!(turns.rows.lock().is_empty());
    }
}
