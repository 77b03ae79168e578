//! `LIKE` with a pattern of plain texts between `%`.
//!
//! DataFusion evaluates LIKE by Arrow's kernel, which makes a regular expression of such a pattern anew for each batch, and that finds its states
//! anew each time. Here the texts between `%` are looked for one after the other, each at its first place behind the last: if that fails, no other
//! place does. And long strings of a page lie one after the other in memory: the first text is looked for in all of them at once.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, BooleanBufferBuilder, ByteView, StringViewArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr_common::columnar_value::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{LikeExpr, Literal};
use memchr::memmem::Finder;

/// A view of a string up to this has it within.
const INLINE_BYTES_MAX: u32 = 12;
/// Strings with more between them are not looked through at once.
const GAP_MAX: u32 = 64;

/// The expression with such LIKEs in it done here.
pub(crate) fn with_patterns(expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let replaced = expr.transform_up(|expr| {
        let pattern = expr.downcast_ref::<LikeExpr>().and_then(Pattern::of);
        Ok(match pattern {
            Some(pattern) => Transformed::yes(Arc::new(Matches { like: expr, pattern }) as Arc<dyn PhysicalExpr>),
            None => Transformed::no(expr),
        })
    });
    Ok(replaced?.data)
}

/// What a string must have: a beginning, texts behind that in their order, and an end behind those.
#[derive(Clone, Debug)]
struct Pattern {
    beginning: Vec<u8>,
    first: Finder<'static>,
    others: Vec<Finder<'static>>,
    end: Vec<u8>,
    negated: bool,
}

impl Pattern {
    /// Of a pattern with text between two `%`: others are fast as they are. One with other wildcards or escapes is not taken.
    fn of(like: &LikeExpr) -> Option<Pattern> {
        let pattern = like.pattern().downcast_ref::<Literal>()?;
        let (ScalarValue::Utf8View(Some(text)) | ScalarValue::Utf8(Some(text))) = pattern.value() else { return None };
        if like.case_insensitive() || text.contains(['_', '\\']) {
            return None;
        }
        let mut parts: Vec<&str> = text.split('%').collect();
        let (beginning, end) = (parts.remove(0).into(), parts.pop()?.into());
        let mut texts = parts.into_iter().filter(|part| !part.is_empty()).map(|part| Finder::new(part).into_owned());
        Some(Pattern { beginning, first: texts.next()?, others: texts.collect(), end, negated: like.negated() })
    }

    fn matches(&self, text: &[u8]) -> bool {
        let within = text.strip_prefix(self.beginning.as_slice()).and_then(|text| text.strip_suffix(self.end.as_slice()));
        within.is_some_and(|text| behind(&self.first, text).is_some_and(|rest| self.has_others(rest)))
    }

    fn has_others(&self, text: &[u8]) -> bool {
        self.others.iter().try_fold(text, |text, other| behind(other, text)).is_some()
    }

    fn rows(&self, texts: &StringViewArray) -> BooleanBuffer {
        let mut rows = BooleanBufferBuilder::new(texts.len());
        rows.append_n(texts.len(), false);
        let at_once = self.beginning.is_empty() && self.end.is_empty();
        let mut row = 0;
        while row < texts.len() {
            let together = if at_once { together(texts, row) } else { row + 1 };
            if together > row + 1 {
                self.look_through(texts, row, together, &mut rows);
            } else if texts.is_valid(row) && self.matches(texts.value(row).as_bytes()) {
                rows.set_bit(row, true);
            }
            row = together;
        }
        rows.finish()
    }

    /// Sets the bits of matches among rows that lie one after the other.
    fn look_through(&self, texts: &StringViewArray, from: usize, below: usize, rows: &mut BooleanBufferBuilder) {
        let place = |row: usize| {
            let view = ByteView::from(texts.views()[row]);
            view.offset as usize..(view.offset + view.length) as usize
        };
        let bytes = texts.data_buffers()[ByteView::from(texts.views()[from]).buffer_index as usize].as_slice();
        let end = place(below - 1).end;
        let (mut row, mut of_row) = (from, place(from));
        let mut at = of_row.start;
        while let Some(found) = self.first.find(&bytes[at..end]) {
            let found = at + found..at + found + self.first.needle().len();
            while of_row.end <= found.start {
                row += 1;
                of_row = place(row);
            }
            if found.start < of_row.start || found.end > of_row.end {
                // Part of it is between two strings, or it is of both.
                at = found.start + 1;
                continue;
            }
            if self.has_others(&bytes[found.end..of_row.end]) {
                rows.set_bit(row, true);
            }
            at = of_row.end;
        }
    }
}

/// What follows the first place of a text in another.
fn behind<'a>(finder: &Finder<'_>, text: &'a [u8]) -> Option<&'a [u8]> {
    finder.find(text).map(|place| &text[place + finder.needle().len()..])
}

/// The first row behind `row` that does not lie behind the row before it.
fn together(texts: &StringViewArray, row: usize) -> usize {
    let view = |row: usize| Some(ByteView::from(*texts.views().get(row)?)).filter(|view| view.length > INLINE_BYTES_MAX);
    let Some(first) = view(row) else { return row + 1 };
    let (mut next, mut end) = (row + 1, first.offset + first.length);
    while let Some(view) = view(next) {
        if view.buffer_index != first.buffer_index || view.offset < end || view.offset - end > GAP_MAX {
            break;
        }
        end = view.offset + view.length;
        next += 1;
    }
    next
}

/// A LIKE that is done here.
#[derive(Debug)]
struct Matches {
    like: Arc<dyn PhysicalExpr>,
    pattern: Pattern,
}

impl Matches {
    fn texts(&self) -> &Arc<dyn PhysicalExpr> {
        self.like.children()[0]
    }
}

impl PartialEq for Matches {
    fn eq(&self, other: &Self) -> bool {
        self.like.eq(&other.like)
    }
}

impl Eq for Matches {}

impl Hash for Matches {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.like.hash(state);
    }
}

impl fmt::Display for Matches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.like.fmt(f)
    }
}

impl PhysicalExpr for Matches {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.like.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let ColumnarValue::Array(texts) = self.texts().evaluate(batch)? else { return self.like.evaluate(batch) };
        let Some(texts) = texts.as_string_view_opt() else { return self.like.evaluate(batch) };
        let rows = self.pattern.rows(texts);
        let rows = if self.pattern.negated { !&rows } else { rows };
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(rows, texts.nulls().cloned()))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.like.children()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        with_patterns(self.like.clone().with_new_children(children)?)
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.like.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringViewArray, StringViewBuilder, UInt32Array};
    use arrow::compute::{concat, take};
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::record_batch::RecordBatch;
    use datafusion_common::ScalarValue;
    use datafusion_physical_expr::PhysicalExpr;
    use datafusion_physical_expr::expressions::{Column, LikeExpr, lit};
    use proptest::prelude::*;

    use super::{Matches, with_patterns};

    fn like(pattern: &str, negated: bool) -> Arc<dyn PhysicalExpr> {
        let pattern = lit(ScalarValue::Utf8View(Some(pattern.into())));
        Arc::new(LikeExpr::new(negated, false, Arc::new(Column::new("a", 0)), pattern))
    }

    fn evaluated(expr: &Arc<dyn PhysicalExpr>, texts: &ArrayRef) -> BooleanArray {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8View, true)]));
        let batch = RecordBatch::try_new(schema, vec![texts.clone()]).unwrap();
        let rows = expr.evaluate(&batch).unwrap().into_array(texts.len()).unwrap();
        rows.as_boolean().clone()
    }

    /// As Arrow's kernel says, of the rows as they lie and of some of them in another order.
    fn check(pattern: &str, texts: &ArrayRef) {
        let backwards = UInt32Array::from_iter_values((0..texts.len() as u32).rev().step_by(2));
        let inner = texts.slice(texts.len() / 3, texts.len() - texts.len() / 3);
        for texts in [texts.clone(), take(texts, &backwards, None).unwrap(), inner] {
            for negated in [false, true] {
                let like = like(pattern, negated);
                assert_eq!(
                    evaluated(&with_patterns(like.clone()).unwrap(), &texts),
                    evaluated(&like, &texts),
                    "{pattern} {negated} {texts:?}"
                );
            }
        }
    }

    fn texts<'a>(texts: impl IntoIterator<Item = Option<&'a str>>) -> ArrayRef {
        Arc::new(texts.into_iter().collect::<StringViewArray>())
    }

    #[test]
    fn only_plain_texts_between_percents_are_taken() {
        let taken = |pattern: &str| with_patterns(like(pattern, false)).unwrap().is::<Matches>();
        for pattern in ["%a%", "%special%requests%", "a%b%c", "%a%b", "a%%b%"] {
            assert!(taken(pattern), "{pattern}");
        }
        for pattern in ["", "a", "%", "a%", "%a", "a%b", "%%", "%a_b%c%", r"%a\%b%c%"] {
            assert!(!taken(pattern), "{pattern}");
        }
    }

    #[test]
    fn a_text_is_not_found_across_two_strings() {
        let rows =
            [Some("spe specia lspecial"), Some("requests are not special"), None, Some("cialspecialrequestsrequ"), Some("ests special")];
        for pattern in
            ["%special%requests%", "%special%", "%al%sp%", "%l%r%e%q%", "%specialrequ%", "%requests%special%", "s%e%l", "re%not%cial"]
        {
            check(pattern, &texts(rows));
            check(pattern, &concat(&[&texts(rows), &texts([Some("special"), None]), &texts(rows)]).unwrap());
        }
    }

    proptest! {
        #[test]
        fn rows_are_those_that_arrow_finds(
            rows in prop::collection::vec(prop::option::weighted(0.9, "[ab\u{e4} ]{0,20}"), 1..60),
            pattern in "[ab\u{e4}%]{0,3}%[ab\u{e4}]{1,3}%[ab\u{e4}%]{0,4}",
            block in 13u32..80,
        ) {
            let mut builder = StringViewBuilder::new().with_fixed_block_size(block);
            rows.iter().for_each(|row| builder.append_option(row.as_deref()));
            check(&pattern, &(Arc::new(builder.finish()) as ArrayRef));
        }
    }
}
