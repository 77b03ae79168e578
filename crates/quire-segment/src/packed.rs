//! Pages in memory, in fewer bits than their type has.
//!
//! A numeric has 128 bits in Arrow and a text 128 bits beside its bytes; of TPC-H's lineitem that is most of the memory, and of the time that
//! it takes to read it. So a decoded page keeps numerics in the narrowest whole number that holds all of them, and texts that repeat as
//! numbers of the entries of a dictionary. A scan unpacks a slice at a time, in the cache of a core; a predicate on one column with a
//! dictionary is asked of each entry once.
//!
//! Only these two types are packed: for others an array has its column's Arrow type, and unpacking gives it back.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::types::{ArrowDictionaryKeyType, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, DictionaryArray, PrimitiveArray, StringViewArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// A page with fewer rows is not worth a dictionary.
const DICTIONARY_ROWS_MIN: usize = 1024;
/// Rows for each entry, at least; with fewer a dictionary saves little.
const ROWS_PER_ENTRY: usize = 8;
/// Most entries of a dictionary.
const ENTRIES_MAX: usize = 1 << 16;
/// Rows that are narrowed at a time: they stay in the nearest cache of a core.
pub(crate) const PART_ROWS: usize = 4096;

/// The same values in fewer bits, if that can be; to be unpacked with [`unpack`].
pub(crate) fn pack(array: ArrayRef) -> ArrayRef {
    let packed = match array.data_type() {
        DataType::Decimal128(..) => narrowed(array.as_primitive()),
        DataType::Utf8View => with_dictionary(array.as_string_view()),
        _ => None,
    };
    packed.unwrap_or(array)
}

/// The values of (a part of) a packed page as the column's type has them.
pub fn unpack(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(match (array.data_type(), data_type) {
        (stored, wanted) if stored == wanted => array.clone(),
        (DataType::Int8, DataType::Decimal128(..)) => widened::<Int8Type>(array, data_type),
        (DataType::Int16, DataType::Decimal128(..)) => widened::<Int16Type>(array, data_type),
        (DataType::Int32, DataType::Decimal128(..)) => widened::<Int32Type>(array, data_type),
        (DataType::Int64, DataType::Decimal128(..)) => widened::<Int64Type>(array, data_type),
        (DataType::Dictionary(..), DataType::Utf8View) => {
            let dictionary = array.as_any_dictionary();
            take(dictionary.values(), dictionary.keys(), None)?
        }
        // A page from before the column had another type, say: whoever uses it sees what it is.
        _ => array.clone(),
    })
}

fn narrowed(values: &PrimitiveArray<Decimal128Type>) -> Option<ArrayRef> {
    let mut narrow = NarrowNumbers::new(values.len());
    for part in values.values().chunks(PART_ROWS) {
        let part: Vec<i64> = part.iter().map(|value| i64::try_from(*value)).collect::<Result<_, _>>().ok()?;
        narrow.extend(&part);
    }
    Some(narrow.finish(values.nulls().cloned()))
}

/// Whole numbers in the narrowest type that holds all of them.
pub(crate) struct NarrowNumbers {
    rows: usize,
    numbers: Numbers,
}

enum Numbers {
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
}

impl NarrowNumbers {
    /// None yet, and room for `rows` of them.
    pub(crate) fn new(rows: usize) -> NarrowNumbers {
        NarrowNumbers { rows, numbers: Numbers::Int8(Vec::with_capacity(rows)) }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.numbers {
            Numbers::Int8(numbers) => numbers.len(),
            Numbers::Int16(numbers) => numbers.len(),
            Numbers::Int32(numbers) => numbers.len(),
            Numbers::Int64(numbers) => numbers.len(),
        }
    }

    /// Takes a few thousand at a time: all of them are looked at before any is cut.
    pub(crate) fn extend<T: Copy + Into<i64>>(&mut self, values: &[T]) {
        // What is left of a negative number when its sign is taken away needs as many bits as it.
        let used = values.iter().fold(0, |bits: u64, value| bits | sign_less((*value).into()));
        self.widen(65 - used.leading_zeros());
        match &mut self.numbers {
            Numbers::Int8(numbers) => numbers.extend(values.iter().map(|value| (*value).into() as i8)),
            Numbers::Int16(numbers) => numbers.extend(values.iter().map(|value| (*value).into() as i16)),
            Numbers::Int32(numbers) => numbers.extend(values.iter().map(|value| (*value).into() as i32)),
            Numbers::Int64(numbers) => numbers.extend(values.iter().map(|value| (*value).into())),
        }
    }

    /// To a type of so many bits at least.
    fn widen(&mut self, bits: u32) {
        let rows = self.rows;
        self.numbers = match (&self.numbers, bits) {
            (Numbers::Int8(numbers), 9..=16) => Numbers::Int16(copied(numbers, rows)),
            (Numbers::Int8(numbers), 17..=32) => Numbers::Int32(copied(numbers, rows)),
            (Numbers::Int16(numbers), 17..=32) => Numbers::Int32(copied(numbers, rows)),
            (Numbers::Int8(numbers), 33..) => Numbers::Int64(copied(numbers, rows)),
            (Numbers::Int16(numbers), 33..) => Numbers::Int64(copied(numbers, rows)),
            (Numbers::Int32(numbers), 33..) => Numbers::Int64(copied(numbers, rows)),
            _ => return,
        };
    }

    pub(crate) fn finish(self, nulls: Option<NullBuffer>) -> ArrayRef {
        match self.numbers {
            Numbers::Int8(numbers) => Arc::new(PrimitiveArray::<Int8Type>::new(numbers.into(), nulls)),
            Numbers::Int16(numbers) => Arc::new(PrimitiveArray::<Int16Type>::new(numbers.into(), nulls)),
            Numbers::Int32(numbers) => Arc::new(PrimitiveArray::<Int32Type>::new(numbers.into(), nulls)),
            Numbers::Int64(numbers) => Arc::new(PrimitiveArray::<Int64Type>::new(numbers.into(), nulls)),
        }
    }
}

fn sign_less(value: i64) -> u64 {
    (value ^ (value >> 63)) as u64
}

fn copied<From: Copy, To: std::convert::From<From>>(numbers: &[From], rows: usize) -> Vec<To> {
    let mut copy = Vec::with_capacity(rows);
    copy.extend(numbers.iter().map(|number| To::from(*number)));
    copy
}

fn widened<T: ArrowPrimitiveType>(array: &ArrayRef, data_type: &DataType) -> ArrayRef
where
    i128: From<T::Native>,
{
    let values = array.as_primitive::<T>();
    let wide: Vec<i128> = values.values().iter().map(|value| i128::from(*value)).collect();
    Arc::new(PrimitiveArray::<Decimal128Type>::new(wide.into(), values.nulls().cloned()).with_data_type(data_type.clone()))
}

/// `None` when values do not repeat enough.
fn with_dictionary(values: &StringViewArray) -> Option<ArrayRef> {
    let rows = values.len();
    if rows < DICTIONARY_ROWS_MIN || values.null_count() == rows {
        return None;
    }
    let most = entries_max(rows);
    // Equal views are equal texts. Equal texts of the same page have equal views, since the file's dictionary has each once; where it has
    // none, the worst that happens is an entry twice.
    let mut entries: HashMap<u128, u16, foldhash::fast::FixedState> = HashMap::default();
    let mut firsts: Vec<u32> = vec![];
    let mut keys: Vec<u16> = Vec::with_capacity(rows);
    let mut last: Option<(u128, u16)> = None;
    for (row, view) in values.views().iter().enumerate() {
        if values.is_null(row) {
            keys.push(0);
            continue;
        }
        let key = match last {
            Some((of, key)) if of == *view => key,
            _ => match entries.get(view) {
                Some(key) => *key,
                None => {
                    // Most columns that do not repeat are found out soon.
                    if firsts.len() == most || row < DICTIONARY_ROWS_MIN && firsts.len() > DICTIONARY_ROWS_MIN / 2 {
                        return None;
                    }
                    let key = firsts.len() as u16;
                    firsts.push(row as u32);
                    entries.insert(*view, key);
                    key
                }
            },
        };
        last = Some((*view, key));
        keys.push(key);
    }
    let entries = take(values, &UInt32Array::from(firsts), None).ok()?;
    by_number(PrimitiveArray::new(keys.into(), values.nulls().cloned()), Arc::new(entries.as_string_view().gc()))
}

/// Texts as the file has them, by the numbers of its dictionary's entries.
pub(crate) fn of_dictionary(texts: &DictionaryArray<UInt16Type>) -> Result<ArrayRef, ArrowError> {
    let entries = cast(texts.values(), &DataType::Utf8View)?;
    let wrong = || ArrowError::InvalidArgumentError("a number beyond the entries of its dictionary".into());
    by_number(texts.keys().clone(), entries).ok_or_else(wrong)
}

/// True if so many rows have values of so few kinds that a dictionary saves memory.
pub(crate) fn repeat_enough(entries: usize, rows: usize) -> bool {
    rows >= DICTIONARY_ROWS_MIN && (1..=entries_max(rows)).contains(&entries)
}

fn entries_max(rows: usize) -> usize {
    (rows / ROWS_PER_ENTRY).min(ENTRIES_MAX)
}

fn by_number(keys: PrimitiveArray<UInt16Type>, entries: ArrayRef) -> Option<ArrayRef> {
    match entries.len() {
        0..=256 => {
            let (_, keys, nulls) = keys.into_parts();
            let keys: Vec<u8> = keys.iter().map(|key| *key as u8).collect();
            dictionary::<UInt8Type>(PrimitiveArray::new(keys.into(), nulls), entries)
        }
        _ => dictionary::<UInt16Type>(keys, entries),
    }
}

fn dictionary<K: ArrowDictionaryKeyType>(keys: PrimitiveArray<K>, entries: ArrayRef) -> Option<ArrayRef> {
    DictionaryArray::try_new(keys, entries).ok().map(|array| Arc::new(array) as _)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, Decimal128Array, StringViewArray};
    use arrow::datatypes::DataType;
    use proptest::prelude::*;

    use super::{pack, unpack};

    fn same_again(array: ArrayRef) -> DataType {
        let packed = pack(array.clone());
        assert_eq!(&unpack(&packed, array.data_type()).unwrap(), &array);
        let (from, rows) = (array.len() / 3, array.len() / 2);
        assert_eq!(&unpack(&packed.slice(from, rows), array.data_type()).unwrap(), &array.slice(from, rows));
        packed.data_type().clone()
    }

    fn decimals(values: Vec<Option<i128>>) -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 2).unwrap())
    }

    #[test]
    fn numbers_take_as_many_bits_as_they_need() {
        let type_of = |low: i128, high: i128| same_again(decimals(vec![Some(low), None, Some(0), Some(high)]));
        assert_eq!(type_of(-128, 127), DataType::Int8);
        assert_eq!(type_of(-129, 0), DataType::Int16);
        assert_eq!(type_of(0, 128), DataType::Int16);
        assert_eq!(type_of(i128::from(i16::MIN), i128::from(i16::MAX)), DataType::Int16);
        assert_eq!(type_of(0, i128::from(i16::MAX) + 1), DataType::Int32);
        assert_eq!(type_of(i128::from(i32::MIN), i128::from(i32::MAX)), DataType::Int32);
        assert_eq!(type_of(i128::from(i32::MIN) - 1, 0), DataType::Int64);
        assert_eq!(type_of(i128::from(i64::MIN), i128::from(i64::MAX)), DataType::Int64);
        assert_eq!(type_of(0, i128::from(i64::MAX) + 1), DataType::Decimal128(38, 2));
        assert_eq!(type_of(-(10i128.pow(37)), 10i128.pow(37)), DataType::Decimal128(38, 2));
    }

    #[test]
    fn texts_that_repeat_have_a_dictionary() {
        let texts = |distinct: usize, rows: usize| -> ArrayRef {
            let text = |i: usize| (i % 7 != 3).then(|| format!("value number {} of them", i * i % distinct));
            Arc::new((0..rows).map(text).collect::<StringViewArray>())
        };
        // Built one by one, equal texts have views of their own: they are told apart, and so many entries are too many.
        assert_eq!(same_again(texts(5, 5000)), DataType::Utf8View);
        let short: ArrayRef = Arc::new((0..5000).map(|i| (i % 7 != 3).then(|| format!("v{}", i % 50))).collect::<StringViewArray>());
        assert!(matches!(same_again(short.clone()), DataType::Dictionary(key, _) if *key == DataType::UInt8));
        let many: ArrayRef = Arc::new((0..9000).map(|i| Some(format!("v{}", i % 400))).collect::<StringViewArray>());
        assert!(matches!(same_again(many), DataType::Dictionary(key, _) if *key == DataType::UInt16));
        assert_eq!(same_again(short.slice(0, 900)), DataType::Utf8View);
        assert_eq!(same_again(Arc::new(StringViewArray::new_null(5000))), DataType::Utf8View);
    }

    proptest! {
        #[test]
        fn any_number_comes_back(values in prop::collection::vec(prop::option::of((any::<i128>(), 0u32..127)), 0..50)) {
            same_again(decimals(values.into_iter().map(|value| value.map(|(value, shift)| (value >> shift) % 10i128.pow(38))).collect()));
        }
    }
}
