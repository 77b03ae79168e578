//! What recent commits claimed or locked: unique keys, and rows.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use quire_types::{KeyAssert, Lsn, RowId, TableId};

/// (table, ordinal of the constraint, hash of the key).
pub(crate) type Key = (TableId, u32, u64);
/// (table, row, whether it was locked FOR SHARE only).
pub(crate) type Lock = (TableId, RowId, bool);

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

/// Claims remembered. A snapshot that is older than what they cover gets 40001; at ten thousand inserts a second that is after 100 s.
pub(crate) const CLAIMS_MAX: usize = 1_000_000;

/// What was claimed when, for as many of the latest claims as [`CLAIMS_MAX`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Window<K: Eq + Hash> {
    claimed: HashMap<K, Lsn>,
    /// Claims in log order, for forgetting.
    order: VecDeque<(Lsn, Vec<K>)>,
    count: usize,
    floor: Lsn,
}

impl<K: Eq + Hash> Default for Window<K> {
    fn default() -> Self {
        Window::with_floor(Lsn(0))
    }
}

impl<K: Eq + Hash> Window<K> {
    pub(crate) fn with_floor(floor: Lsn) -> Window<K> {
        Window { claimed: HashMap::new(), order: VecDeque::new(), count: 0, floor }
    }

    /// Claims at or before this LSN have been forgotten.
    pub(crate) fn floor(&self) -> Lsn {
        self.floor
    }
}

impl<K: Copy + Eq + Hash> Window<K> {
    /// When it was last claimed, as far as is remembered.
    pub(crate) fn claimed_at(&self, claim: &K) -> Option<Lsn> {
        self.claimed.get(claim).copied()
    }

    /// Claims in log order.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (Lsn, &[K])> {
        self.order.iter().map(|(lsn, claims)| (*lsn, claims.as_slice()))
    }

    /// Remembers claims; the LSN through which older ones were forgotten for it, if any.
    pub(crate) fn claim(&mut self, lsn: Lsn, claims: Vec<K>) -> Option<Lsn> {
        assert!(self.order.back().is_none_or(|(last, _)| *last < lsn), "claims come in log order");
        self.count += claims.len();
        for claim in &claims {
            self.claimed.insert(*claim, lsn);
        }
        self.order.push_back((lsn, claims));
        let before = self.floor;
        while self.count > CLAIMS_MAX && self.order.len() > 1 {
            let Some((forgotten, claims)) = self.order.pop_front() else { break };
            self.count -= claims.len();
            for claim in claims {
                if self.claimed.get(&claim) == Some(&forgotten) {
                    self.claimed.remove(&claim);
                }
            }
            self.floor = forgotten;
        }
        (self.floor != before).then_some(self.floor)
    }
}
