//! Predicates on pages that have a dictionary.

use arrow::array::types::{ArrowDictionaryKeyType, UInt8Type, UInt16Type};
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::buffer::BooleanBuffer;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::Predicate;
use crate::mask::truth;

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
