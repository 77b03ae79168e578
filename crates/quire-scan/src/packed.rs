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
use arrow::buffer::BooleanBuffer;
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::Predicate;
use crate::mask::truth;

/// A page with fewer rows is not worth a dictionary.
const DICTIONARY_ROWS_MIN: usize = 1024;
/// Rows for each entry, at least; with fewer a dictionary saves little.
const ROWS_PER_ENTRY: usize = 8;
/// Most entries of a dictionary.
const ENTRIES_MAX: usize = 1 << 16;

/// The same values in fewer bits, if that can be; to be unpacked with [`unpack`].
pub fn pack(array: ArrayRef) -> ArrayRef {
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
    // What is left of a negative number when its sign is taken away needs as many bits as it.
    let used = values.values().iter().fold(0, |bits: u128, value| bits | (value ^ (value >> 127)) as u128);
    Some(match 129 - used.leading_zeros() {
        0..=8 => narrow::<Int8Type>(values, |value| value as i8),
        9..=16 => narrow::<Int16Type>(values, |value| value as i16),
        17..=32 => narrow::<Int32Type>(values, |value| value as i32),
        33..=64 => narrow::<Int64Type>(values, |value| value as i64),
        _ => return None,
    })
}

fn narrow<T: ArrowPrimitiveType>(values: &PrimitiveArray<Decimal128Type>, cut: impl Fn(i128) -> T::Native) -> ArrayRef {
    let narrow: Vec<T::Native> = values.values().iter().map(|value| cut(*value)).collect();
    Arc::new(PrimitiveArray::<T>::new(narrow.into(), values.nulls().cloned()))
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
    let most = (rows / ROWS_PER_ENTRY).min(ENTRIES_MAX);
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
    let entries: ArrayRef = Arc::new(entries.as_string_view().gc());
    let nulls = values.nulls().cloned();
    match entries.len() {
        0..=256 => {
            let keys: Vec<u8> = keys.into_iter().map(|key| key as u8).collect();
            dictionary::<UInt8Type>(PrimitiveArray::new(keys.into(), nulls), entries)
        }
        _ => dictionary::<UInt16Type>(PrimitiveArray::new(keys.into(), nulls), entries),
    }
}

fn dictionary<K: ArrowDictionaryKeyType>(keys: PrimitiveArray<K>, entries: ArrayRef) -> Option<ArrayRef> {
    DictionaryArray::try_new(keys, entries).ok().map(|array| Arc::new(array) as _)
}

/// What a predicate on one column says of each entry of a page's dictionary.
pub(crate) struct Verdicts {
    entries: Vec<bool>,
    null: bool,
}

impl Verdicts {
    /// `None` when the page has no dictionary that is shorter, and when the predicate fails on an entry: no row that is looked at may have it.
    pub(crate) fn of(predicate: &Predicate, page: &ArrayRef) -> Option<Verdicts> {
        let entries = page.as_any_dictionary_opt()?.values();
        if entries.len() > page.len() {
            return None;
        }
        let ask = |values: ArrayRef| {
            let options = RecordBatchOptions::new().with_row_count(Some(values.len()));
            let batch = RecordBatch::try_new_with_options(predicate.schema.clone(), vec![values], &options).ok()?;
            truth(predicate.expr.evaluate(&batch).ok()?.into_array(batch.num_rows()).ok()?).ok()
        };
        let said = ask(entries.clone())?;
        let null = match page.null_count() {
            0 => false,
            _ => ask(arrow::array::new_null_array(entries.data_type(), 1))?.value(0),
        };
        Some(Verdicts { entries: said.iter().collect(), null })
    }

    /// The rows of a part of the page for which it is true.
    pub(crate) fn rows(&self, part: &ArrayRef) -> BooleanBuffer {
        match part.as_dictionary_opt::<UInt8Type>() {
            Some(part) => self.of_keys(part.keys()),
            None => self.of_keys(part.as_dictionary::<UInt16Type>().keys()),
        }
    }

    fn of_keys<K: ArrowDictionaryKeyType>(&self, keys: &PrimitiveArray<K>) -> BooleanBuffer
    where
        usize: From<K::Native>,
    {
        let said = |row: usize| self.entries[usize::from(keys.values()[row])];
        match keys.nulls() {
            None => BooleanBuffer::collect_bool(keys.len(), said),
            Some(nulls) => BooleanBuffer::collect_bool(keys.len(), |row| if nulls.is_valid(row) { said(row) } else { self.null }),
        }
    }
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
