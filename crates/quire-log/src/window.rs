//! Recently claimed unique keys.

use std::collections::{HashMap, VecDeque};

use quire_types::{KeyAssert, Lsn, TableId};

/// (table, ordinal of the constraint, hash of the key).
pub(crate) type Key = (TableId, u32, u64);

/// In the ordinal of a claim that a foreign key made: it leaves the key as it is, so claims of this kind do not exclude each other.
const READ: u32 = 1 << 31;

/// The claim of one who inserts or deletes the key.
pub(crate) fn claim(table: TableId, key: &KeyAssert) -> Key {
    (table, key.constraint & !READ, key.hash)
}

/// The claim of one whose foreign key points at the key.
pub(crate) fn read_claim(table: TableId, key: &KeyAssert) -> Key {
    (table, key.constraint | READ, key.hash)
}

/// Keys remembered. A snapshot that is older than what they cover gets 40001; at ten thousand inserts a second that is after 100 s.
pub(crate) const KEYS_MAX: usize = 1_000_000;

/// Which keys were claimed when, for as many of the latest claims as [`KEYS_MAX`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Window {
    claimed: HashMap<Key, Lsn>,
    /// Claims in log order, for forgetting.
    order: VecDeque<(Lsn, Vec<Key>)>,
    count: usize,
    floor: Lsn,
}

impl Window {
    pub(crate) fn with_floor(floor: Lsn) -> Window {
        Window { floor, ..Window::default() }
    }

    /// Claims at or before this LSN have been forgotten.
    pub(crate) fn floor(&self) -> Lsn {
        self.floor
    }

    /// When the key was last claimed, as far as is remembered.
    pub(crate) fn claimed_at(&self, key: &Key) -> Option<Lsn> {
        self.claimed.get(key).copied()
    }

    /// Claims in log order.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (Lsn, &[Key])> {
        self.order.iter().map(|(lsn, keys)| (*lsn, keys.as_slice()))
    }

    /// Remembers claims; the LSN through which older ones were forgotten for it, if any.
    pub(crate) fn claim(&mut self, lsn: Lsn, keys: Vec<Key>) -> Option<Lsn> {
        assert!(self.order.back().is_none_or(|(last, _)| *last < lsn), "claims come in log order");
        self.count += keys.len();
        for key in &keys {
            self.claimed.insert(*key, lsn);
        }
        self.order.push_back((lsn, keys));
        let before = self.floor;
        while self.count > KEYS_MAX && self.order.len() > 1 {
            let Some((forgotten, keys)) = self.order.pop_front() else { break };
            self.count -= keys.len();
            for key in keys {
                if self.claimed.get(&key) == Some(&forgotten) {
                    self.claimed.remove(&key);
                }
            }
            self.floor = forgotten;
        }
        (self.floor != before).then_some(self.floor)
    }
}
