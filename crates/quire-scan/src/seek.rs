//! What predicates say of columns that indexes begin with: which values to look for in an order.
//!
//! An order only narrows: every predicate is evaluated on the rows that are found. So what is looked for may be more than what
//! the predicates leave, and never less.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, make_comparator};
use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr_common::operator::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, CastExpr, Column, InListExpr, Literal};
use datafusion_physical_expr::utils::split_conjunction;
use quire_types::{Datum, PageMeta, SqlType, TableDef};

use crate::order::ASCENDING;
use crate::{Order, ScanError, datum_scalar};

/// Values that are looked for one by one. For more of them the search costs as much as looking at all rows of a row group.
const VALUES_MAX: usize = 1024;
/// Values of a dynamic filter that are looked for where that takes an order that somebody has to make.
const DYNAMIC_VALUES_MAX: usize = 16;
/// A range is looked for in an order when it is at most this share of what a page's bounds span: there are columns of which nobody asks
/// anything but large ranges, and they need not be sorted.
const RANGE_SHARE_MAX: f64 = 0.25;

/// A column that an index begins with, and the values that predicates leave it.
#[derive(Debug)]
pub(crate) struct Seek {
    /// The column's position in the table.
    pub(crate) column: usize,
    index: String,
    wanted: Wanted,
    /// Whether it is looked for only where rows lie in the column's order.
    pub(crate) only_where_sorted: bool,
}

#[derive(Debug)]
enum Wanted {
    /// Any of these.
    Values(ArrayRef),
    /// What lies between; one of the two is there.
    Range { low: Option<Bound>, high: Option<Bound> },
}

#[derive(Debug)]
struct Bound {
    value: ScalarValue,
    inclusive: bool,
}

impl Seek {
    /// Whether it looks for some values, and not for all between two.
    pub(crate) fn is_for_values(&self) -> bool {
        matches!(self.wanted, Wanted::Values(_))
    }
}

/// The indexes in whose order a scan with these filters can look for rows.
pub fn indexes_for(filters: &[Arc<dyn PhysicalExpr>], table: &TableDef) -> Vec<String> {
    let conjuncts: Vec<_> = filters.iter().flat_map(split_conjunction).collect();
    Seek::of(&conjuncts, table).into_iter().map(|seek| seek.index).collect()
}

impl Seek {
    /// What a conjunction says, by columns; single values before ranges.
    pub(crate) fn of(conjuncts: &[&Arc<dyn PhysicalExpr>], table: &TableDef) -> Vec<Seek> {
        let mut seeks: Vec<Seek> = vec![];
        for (_, index, columns) in table.indexes() {
            let first = columns.first().and_then(|id| table.columns.iter().position(|c| c.id == *id));
            let Some(column) = first.filter(|&column| seeks.iter().all(|seek| seek.column != column)) else { continue };
            let def = &table.columns[column];
            if is_searched(def.ty)
                && let Some(wanted) = Wanted::of(conjuncts, &def.name, &def.ty.arrow())
            {
                seeks.push(Seek { column, index: index.to_string(), wanted, only_where_sorted: false });
            }
        }
        seeks.sort_by_key(|seek| matches!(seek.wanted, Wanted::Range { .. }));
        seeks
    }

    /// With what dynamic filters say at the moment: `now` is the conjunction with them as constants, `fixed` what it says without them.
    /// What they say alone is as much as the other side of a join happens to be. Ranges are left to statistics, and long lists are no
    /// reason to sort a page.
    pub(crate) fn with_dynamic(now: Vec<Seek>, fixed: &[Seek]) -> Vec<Seek> {
        let seeks = now.into_iter().filter_map(|mut seek| {
            if fixed.iter().any(|fixed| fixed.column == seek.column) {
                return Some(seek);
            }
            let Wanted::Values(values) = &seek.wanted else { return None };
            seek.only_where_sorted = values.len() > DYNAMIC_VALUES_MAX;
            Some(seek)
        });
        seeks.collect()
    }

    /// Whether it is worth while to look for it in a page with these bounds, as if its values were spread evenly.
    pub(crate) fn may_be_few(&self, page: &PageMeta, data_type: &DataType) -> bool {
        let Wanted::Range { low, high } = &self.wanted else { return true };
        let place = |datum: &Datum| datum_scalar(Some(datum), data_type).as_ref().and_then(number);
        let bound = |bound: &Option<Bound>, without: f64| bound.as_ref().map_or(Some(without), |bound| number(&bound.value));
        match page.min.as_ref().and_then(place).zip(page.max.as_ref().and_then(place)) {
            Some((min, max)) => match bound(low, min).zip(bound(high, max)) {
                Some((low, high)) => high.min(max) - low.max(min) < (max - min) * RANGE_SHARE_MAX,
                None => false,
            },
            // Text, say: whoever gives both ends means a small part.
            None => low.is_some() && high.is_some(),
        }
    }

    /// The positions of a page's rows with such values, ascending; `None` when there are more than `most`.
    pub(crate) fn positions(&self, order: &Order, values: &ArrayRef, most: usize) -> Result<Option<Vec<u32>>, ScanError> {
        let filled = values.len() - values.null_count();
        let mut found = vec![];
        match &self.wanted {
            Wanted::Values(wanted) => {
                let compare = make_comparator(values, wanted, ASCENDING)?;
                for i in 0..wanted.len() {
                    let mut rank = order.partition_point(filled, |position| compare(position, i).is_lt());
                    while rank < filled && compare(order.position(rank), i).is_eq() {
                        if found.len() == most {
                            return Ok(None);
                        }
                        found.push(order.position(rank) as u32);
                        rank += 1;
                    }
                }
            }
            Wanted::Range { low, high } => {
                let from = match low {
                    Some(bound) => bound.split(order, values, filled, !bound.inclusive)?,
                    None => 0,
                };
                let to = match high {
                    Some(bound) => bound.split(order, values, filled, bound.inclusive)?,
                    None => filled,
                };
                if to.saturating_sub(from) > most {
                    return Ok(None);
                }
                found.extend((from..to).map(|rank| order.position(rank) as u32));
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(Some(found))
    }
}

impl Wanted {
    fn of(conjuncts: &[&Arc<dyn PhysicalExpr>], column: &str, data_type: &DataType) -> Option<Wanted> {
        let mut values: Option<Vec<ScalarValue>> = None;
        let (mut low, mut high): (Option<Bound>, Option<Bound>) = (None, None);
        for expr in conjuncts {
            if let Some(found) = values_of(expr, column, data_type) {
                if values.as_ref().is_none_or(|known| found.len() < known.len()) {
                    values = Some(found);
                }
                continue;
            }
            let Some((op, value)) = comparison(expr, column, data_type) else { continue };
            let bound = Bound { inclusive: matches!(op, Operator::GtEq | Operator::LtEq), value };
            match op {
                Operator::Gt | Operator::GtEq => bound.tighten(&mut low, Ordering::Greater),
                Operator::Lt | Operator::LtEq => bound.tighten(&mut high, Ordering::Less),
                _ => {}
            }
        }
        match values {
            Some(values) => ScalarValue::iter_to_array(values).ok().filter(|array| array.data_type() == data_type).map(Wanted::Values),
            None => (low.is_some() || high.is_some()).then_some(Wanted::Range { low, high }),
        }
    }
}

impl Bound {
    /// Takes the place of a bound that leaves more.
    fn tighten(self, known: &mut Option<Bound>, tighter: Ordering) {
        if known.as_ref().is_none_or(|known| self.value.partial_cmp(&known.value) == Some(tighter)) {
            *known = Some(self);
        }
    }

    /// The first rank whose value is above the bound, or (unless `after_equals`) equal to it.
    fn split(&self, order: &Order, values: &ArrayRef, ranks: usize, after_equals: bool) -> Result<usize, ScanError> {
        let compare = make_comparator(values, &self.value.to_array()?, ASCENDING)?;
        Ok(order.partition_point(ranks, |position| {
            let compared = compare(position, 0);
            compared.is_lt() || after_equals && compared.is_eq()
        }))
    }
}

/// Types whose values an order compares just as predicates do. Zero has two signs as a float, and an interval many forms.
fn is_searched(ty: SqlType) -> bool {
    !matches!(ty, SqlType::Float4 | SqlType::Float8 | SqlType::Interval | SqlType::Json)
}

/// The values of which an expression says that the column is one: `=`, IN, OR of these, and AND with anything. No NULL is among them.
fn values_of(expr: &Arc<dyn PhysicalExpr>, column: &str, data_type: &DataType) -> Option<Vec<ScalarValue>> {
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        if list.negated() || list.len() > VALUES_MAX || !is_column(list.expr(), column) {
            return None;
        }
        let values = list.list().iter().map(|item| constant(item, data_type)).collect::<Option<Vec<_>>>()?;
        let values: Vec<_> = values.into_iter().filter(|value| !value.is_null()).collect();
        return (!values.is_empty()).then_some(values);
    }
    match expr.downcast_ref::<BinaryExpr>()? {
        either if *either.op() == Operator::Or => {
            let mut values = values_of(either.left(), column, data_type)?;
            values.extend(values_of(either.right(), column, data_type)?);
            (values.len() <= VALUES_MAX).then_some(values)
        }
        both if *both.op() == Operator::And => {
            let sides = [both.left(), both.right()].into_iter().filter_map(|side| values_of(side, column, data_type));
            sides.min_by_key(Vec::len)
        }
        _ => match comparison(expr, column, data_type)? {
            (Operator::Eq, value) => Some(vec![value]),
            _ => None,
        },
    }
}

/// How an expression compares the column with a constant; the column is on the left.
fn comparison(expr: &Arc<dyn PhysicalExpr>, column: &str, data_type: &DataType) -> Option<(Operator, ScalarValue)> {
    let binary = expr.downcast_ref::<BinaryExpr>()?;
    let (op, value) = match (is_column(binary.left(), column), is_column(binary.right(), column)) {
        (true, false) => (*binary.op(), constant(binary.right(), data_type)?),
        (false, true) => (binary.op().swap()?, constant(binary.left(), data_type)?),
        _ => return None,
    };
    (!value.is_null()).then_some((op, value))
}

fn is_column(expr: &Arc<dyn PhysicalExpr>, name: &str) -> bool {
    expr.downcast_ref::<Column>().is_some_and(|column| column.name() == name)
}

/// A literal of the column's type, or NULL.
fn constant(expr: &Arc<dyn PhysicalExpr>, data_type: &DataType) -> Option<ScalarValue> {
    let value = match expr.downcast_ref::<CastExpr>() {
        Some(cast) => cast.expr().downcast_ref::<Literal>()?.value().cast_to(cast.cast_type()).ok()?,
        None => expr.downcast_ref::<Literal>()?.value().clone(),
    };
    let is_text = matches!(value, ScalarValue::Utf8(_) | ScalarValue::LargeUtf8(_));
    match value.data_type() == *data_type || value.is_null() {
        true => Some(value),
        // The same text, kept otherwise.
        false if is_text && *data_type == DataType::Utf8View => value.cast_to(data_type).ok(),
        false => None,
    }
}

/// Where a value lies on a line; decimals of one scale.
fn number(value: &ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Int16(value) => value.map(f64::from),
        ScalarValue::Int32(value) | ScalarValue::Date32(value) => value.map(f64::from),
        ScalarValue::Int64(value) | ScalarValue::Time64Microsecond(value) | ScalarValue::TimestampMicrosecond(value, _) => {
            value.map(|value| value as f64)
        }
        ScalarValue::Decimal128(value, ..) => value.map(|value| value as f64),
        _ => None,
    }
}
