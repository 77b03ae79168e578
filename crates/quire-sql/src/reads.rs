//! What a SERIALIZABLE transaction has read, for the log to certify.
//!
//! Every scan says what it reads before it reads it: its table, or the rows that have certain primary keys. What a transaction learnt
//! stays learnt when it goes back to a savepoint, so the copies of a transaction share one of these.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use quire_types::{KeyAssert, RowId, TableId, TableRead};
use roaring::RoaringTreemap;

/// Rows and keys of one table that are named one by one; more, and the whole table counts as read. They are 12 bytes of log each.
const NAMED_MAX: usize = 65_536;

/// The reads of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    tables: Mutex<BTreeMap<TableId, OfTable>>,
}

/// What was read of one table.
#[derive(Debug, Default)]
struct OfTable {
    version: u64,
    whole: bool,
    rows: RoaringTreemap,
    absent: BTreeSet<KeyAssert>,
}

/// Where the scans of one table say what they read.
#[derive(Clone, Debug)]
pub(crate) struct ReadsOf {
    reads: Arc<Reads>,
    table: TableId,
    /// The version of the table's committed definition.
    version: u64,
}

impl ReadsOf {
    pub(crate) fn new(reads: Arc<Reads>, table: TableId, version: u64) -> ReadsOf {
        ReadsOf { reads, table, version }
    }

    /// The version of the table's committed definition.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    fn with<T>(&self, change: impl FnOnce(&mut OfTable) -> T) -> T {
        let mut tables = self.reads.tables.lock();
        change(tables.entry(self.table).or_insert_with(|| OfTable { version: self.version, ..OfTable::default() }))
    }

    /// True when more of it cannot be read.
    pub(crate) fn is_whole(&self) -> bool {
        self.with(|of| of.whole)
    }

    /// All of it is read.
    pub(crate) fn note_whole(&self) {
        self.with(|of| *of = OfTable { version: of.version, whole: true, ..OfTable::default() });
    }

    /// Keys are looked up: the committed rows that have them, and the keys that none has.
    pub(crate) fn note_keys(&self, rows: impl IntoIterator<Item = u64>, absent: impl IntoIterator<Item = KeyAssert>) {
        let many = self.with(|of| {
            if of.whole {
                return false;
            }
            of.rows.extend(rows);
            of.absent.extend(absent);
            of.rows.len() as usize + of.absent.len() > NAMED_MAX
        });
        if many {
            self.note_whole();
        }
    }
}

impl Reads {
    /// Adds what was read to what a commit asserts.
    pub(crate) fn add_to(&self, commit: &mut BTreeMap<TableId, TableRead>) {
        for (table, of) in self.tables.lock().iter() {
            let read = commit.entry(*table).or_insert_with(|| TableRead { table: *table, version: of.version, ..TableRead::default() });
            read.whole = of.whole;
            read.rows = of.rows.iter().map(RowId).collect();
            read.absent = of.absent.iter().copied().collect();
        }
    }
}
