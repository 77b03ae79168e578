//! The keys of a join's build side, as bits: what a scan of the other side has to give, and no more.
//!
//! A join tells scans what to leave out by a look into its hash table: two hashes and a cache miss for each row. Where keys are whole numbers
//! in bounds that the manifest knows, a bit for each number says the same; and of a join by several columns each has its own bits, which
//! leave few rows for the look.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef};
use arrow::buffer::BooleanBuffer;
use parking_lot::Mutex;

use crate::morsel::Keys;

/// Numbers between bounds at most: 32 MiB of bits.
const NUMBERS_MAX: u64 = 256 << 20;
/// So many keys, however few numbers there are.
const KEYS_FREE: usize = 1 << 20;
/// So few keys have no bits among more than these numbers: the join's filter lists them, and scans look for each.
const KEYS_FEW: usize = 128;
const NUMBERS_FREE: usize = 1 << 19;

/// Which numbers are keys, for the numbers from `base` on. Filled while the build side is read; nobody is told before all of it has been.
pub struct BuildKeys {
    base: i64,
    numbers: usize,
    words: OnceLock<Vec<AtomicU64>>,
    /// Keys while they are few.
    few: Mutex<Vec<i64>>,
    /// Keys so far, equal ones counted each time.
    keys: AtomicUsize,
    /// Parts of the build side that are not read to their end.
    open: AtomicUsize,
    given_up: AtomicBool,
}

impl BuildKeys {
    /// Keys between two bounds, from so many parts of a build side. `None` when there are too many numbers between.
    pub fn between(min: i64, max: i64, parts: usize) -> Option<BuildKeys> {
        let numbers = max.checked_sub(min).and_then(|width| u64::try_from(width).ok())?.checked_add(1)?;
        let keys = BuildKeys {
            base: min,
            numbers: usize::try_from(numbers).ok()?,
            words: OnceLock::new(),
            few: Mutex::default(),
            keys: AtomicUsize::new(0),
            open: AtomicUsize::new(parts),
            given_up: AtomicBool::new(false),
        };
        (numbers <= NUMBERS_MAX).then_some(keys)
    }

    /// Takes the keys of some rows. More keys than numbers would leave out little, and are given up; so they are when there is no memory
    /// for so many bytes.
    pub fn insert(&self, column: &ArrayRef, has_memory: impl FnOnce(usize) -> bool) {
        if self.is_given_up() {
            return;
        }
        let before = self.keys.fetch_add(column.len(), Ordering::Relaxed);
        let Some(keys) = Keys::of(column).filter(|_| before < self.numbers.max(KEYS_FREE)) else { return self.give_up() };
        let is_there = |(row, _): &(usize, i64)| column.is_valid(*row);
        match keys {
            Keys::Small(keys) => self.put(keys.iter().map(|key| i64::from(*key)).enumerate().filter(is_there), has_memory),
            Keys::Medium(keys) => self.put(keys.iter().map(|key| i64::from(*key)).enumerate().filter(is_there), has_memory),
            Keys::Large(keys) => self.put(keys.iter().copied().enumerate().filter(is_there), has_memory),
        }
    }

    fn put(&self, keys: impl Iterator<Item = (usize, i64)>, has_memory: impl FnOnce(usize) -> bool) {
        let keys = keys.map(|(_, key)| key);
        if let Some(words) = self.words.get() {
            return self.set(words, keys);
        }
        let mut few = self.few.lock();
        if let Some(words) = self.words.get() {
            drop(few);
            return self.set(words, keys);
        }
        few.extend(keys);
        if few.len() <= KEYS_FEW && self.numbers > NUMBERS_FREE || few.is_empty() {
            return;
        }
        if !has_memory(self.numbers.div_ceil(64) * size_of::<u64>()) {
            return self.give_up();
        }
        let words = self.words.get_or_init(|| (0..self.numbers.div_ceil(64)).map(|_| AtomicU64::new(0)).collect());
        self.set(words, few.drain(..));
    }

    /// What is out of bounds is not asked for.
    fn set(&self, words: &[AtomicU64], keys: impl Iterator<Item = i64>) {
        for key in keys {
            let place = self.place(key);
            if place < self.numbers {
                let (word, bit) = (&words[place / 64], 1 << (place % 64));
                if word.load(Ordering::Relaxed) & bit == 0 {
                    word.fetch_or(bit, Ordering::Relaxed);
                }
            }
        }
    }

    fn place(&self, key: i64) -> usize {
        key.wrapping_sub(self.base) as u64 as usize
    }

    /// A part of the build side has been read to its end.
    pub fn end_of_part(&self) {
        let few = self.few.lock();
        // Before anybody can see that all are read: so few are left to the filter.
        if self.open.load(Ordering::Relaxed) == 1 && !few.is_empty() {
            self.give_up();
        }
        self.open.fetch_sub(1, Ordering::AcqRel);
    }

    /// From now on nobody is told anything.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Whether nobody will be told anything.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Whether all keys are there.
    pub(crate) fn are_complete(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0 && !self.is_given_up()
    }

    /// Rows whose key is there or out of bounds, NULLs as it happens; `None` while that is not known, or for a column of another type.
    pub(crate) fn rows(&self, column: &ArrayRef) -> Option<BooleanBuffer> {
        if !self.are_complete() {
            return None;
        }
        let words = self.words.get().map(Vec::as_slice).unwrap_or_default();
        let is_key = |key: i64| {
            let place = self.place(key);
            place >= self.numbers || words.get(place / 64).is_some_and(|word| word.load(Ordering::Relaxed) >> (place % 64) & 1 == 1)
        };
        Some(match Keys::of(column)? {
            Keys::Small(keys) => BooleanBuffer::collect_bool(keys.len(), |row| is_key(keys[row].into())),
            Keys::Medium(keys) => BooleanBuffer::collect_bool(keys.len(), |row| is_key(keys[row].into())),
            Keys::Large(keys) => BooleanBuffer::collect_bool(keys.len(), |row| is_key(keys[row])),
        })
    }
}

impl fmt::Debug for BuildKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildKeys").field("base", &self.base).field("numbers", &self.numbers).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    fn ints(keys: &[Option<i32>]) -> ArrayRef {
        Arc::new(Int32Array::from(keys.to_vec()))
    }

    proptest! {
        #[test]
        fn rows_with_keys_are_found(
            parts in prop::collection::vec(prop::collection::vec(prop::option::of(-20..60i32), 0..30), 1..4),
            asked in prop::collection::vec(-30..90i32, 0..200),
            (min, width) in (-10..10i64, 0..70i64),
        ) {
            let keys = BuildKeys::between(min, min + width, parts.len()).unwrap();
            let column = ints(&asked.iter().copied().map(Some).collect::<Vec<_>>());
            for part in &parts {
                prop_assert!(keys.rows(&column).is_none());
                keys.insert(&ints(part), |_| true);
                keys.end_of_part();
            }
            let found: Vec<bool> = keys.rows(&column).unwrap().iter().collect();
            let expected = asked.iter().map(|key| {
                let is_key = parts.iter().flatten().any(|other| *other == Some(*key));
                is_key || !(min..=min + width).contains(&i64::from(*key))
            });
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn nobody_is_told_what_is_not_known() {
        let keys = BuildKeys::between(1, 100, 1).unwrap();
        keys.end_of_part();
        assert!(keys.rows(&(Arc::new(StringArray::from(vec!["1"])) as ArrayRef)).is_none());
        assert_eq!(keys.rows(&ints(&[Some(1), Some(101)])).unwrap().iter().collect::<Vec<_>>(), [false, true]);
        keys.give_up();
        assert!(keys.rows(&ints(&[Some(1)])).is_none());
    }

    #[test]
    fn many_numbers_and_many_keys_are_given_up() {
        assert!(BuildKeys::between(i64::MIN, i64::MAX, 1).is_none());
        assert!(BuildKeys::between(0, NUMBERS_MAX as i64, 1).is_none());
        assert!(BuildKeys::between(1, 0, 1).is_none());
        let keys = BuildKeys::between(1, 10, 1).unwrap();
        let column: ArrayRef = Arc::new(Int64Array::from(vec![5; KEYS_FREE]));
        keys.insert(&column, |_| true);
        assert!(!keys.is_given_up());
        keys.insert(&column, |_| true);
        assert!(keys.is_given_up());
    }

    #[test]
    fn few_keys_among_many_numbers_are_left_to_the_filter() {
        let answers = |keys: usize, has_memory: bool| {
            let kept = BuildKeys::between(0, NUMBERS_FREE as i64, 2).unwrap();
            let insert = |keys: Vec<i64>| kept.insert(&(Arc::new(Int64Array::from(keys)) as ArrayRef), |_| has_memory);
            insert((0..keys as i64 / 2).collect());
            kept.end_of_part();
            insert((keys as i64 / 2..keys as i64).collect());
            kept.end_of_part();
            kept.rows(&ints(&[Some(keys as i32 - 1), Some(keys as i32)])).map(|rows| rows.iter().collect::<Vec<_>>())
        };
        assert_eq!(answers(KEYS_FEW, true), None);
        assert_eq!(answers(KEYS_FEW + 1, true), Some(vec![true, false]));
        assert_eq!(answers(KEYS_FEW + 1, false), None);
    }
}
