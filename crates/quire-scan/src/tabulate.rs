//! Costly conditions on one column of whole numbers: those that joins make (a look into a hash table, a list of keys) take longer for each row
//! than all else that a scan does.
//!
//! Such a condition is a function of a number. Where the column has fewer different numbers than rows, its answers are kept in a table, a bit
//! for each number, which is filled a block at a time when somebody first asks. Where equal numbers follow each other, as in a clustering key, the
//! first of each run is asked for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanBufferBuilder, PrimitiveArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Date32Type, Int16Type, Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal, NotExpr};
use datafusion_physical_expr_common::physical_expr::{is_volatile, snapshot_generation, snapshot_physical_expr};
use parking_lot::Mutex;

use crate::branches::any_branch;
use crate::mask::truth;
use crate::{Predicate, ScanCounters, ScanError, ScanSpec};

/// Numbers whose answers are worked out at once.
const BLOCK: usize = 4096;
/// Numbers in a table at most: 8 MiB of bits.
const NUMBERS_MAX: u64 = 64 << 20;
/// A table this small is worth it for any number of rows.
const NUMBERS_FREE: u64 = 65_536;

/// Lists that are looked into one after the other.
const LISTS_MAX: usize = 8;

/// How a scan evaluates one of its predicates.
#[derive(Debug, Default)]
pub(crate) struct Tabulated {
    current: Mutex<Option<Arc<Current>>>,
}

/// The predicate as it is at present.
#[derive(Debug)]
pub(crate) struct Current {
    generation: u64,
    expr: Arc<dyn PhysicalExpr>,
    costly: bool,
    table: Option<Table>,
}

/// Answers for the numbers from `base` on.
#[derive(Debug)]
struct Table {
    base: i64,
    numbers: usize,
    /// Of each block, whether its answers are there.
    ready: Vec<AtomicBool>,
    answers: Vec<AtomicU64>,
}

impl Tabulated {
    /// The predicate's present form: one for as long as it does not change.
    pub(crate) fn current(&self, predicate: &Predicate, spec: &ScanSpec) -> Result<Arc<Current>, ScanError> {
        let generation = if predicate.is_optional() { snapshot_generation(&predicate.expr) } else { 0 };
        let mut held = self.current.lock();
        if let Some(current) = held.as_ref().filter(|current| current.generation == generation) {
            return Ok(current.clone());
        }
        let expr = if predicate.is_optional() { at_present(predicate)? } else { predicate.expr.clone() };
        let costly = spec.tabulated && is_of_a_number(predicate) && is_costly(&expr)?;
        let table = if costly { Table::over(predicate, spec) } else { None };
        let current = Arc::new(Current { generation, expr, costly, table });
        *held = Some(current.clone());
        Ok(current)
    }
}

/// A dynamic filter's present form. To look in the lists of a few partitions costs less than to find out which list it is.
fn at_present(predicate: &Predicate) -> Result<Arc<dyn PhysicalExpr>, ScanError> {
    let now = snapshot_physical_expr(predicate.expr.clone())?;
    let any = any_branch(&now);
    let mut lists = 0;
    any.apply(|node| {
        lists += usize::from(node.is::<InListExpr>());
        Ok(TreeNodeRecursion::Continue)
    })?;
    let looks_into_a_table = is_any(&any, |node| !(is_cheap(node) || node.is::<InListExpr>() || node.is::<CastExpr>()))?;
    Ok(if looks_into_a_table || lists > LISTS_MAX { now } else { any })
}

fn is_of_a_number(predicate: &Predicate) -> bool {
    let fields = predicate.schema.fields();
    let number = |ty: &DataType| matches!(ty, DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date32);
    fields.len() == 1 && number(fields[0].data_type())
}

/// Whether it is more than comparisons, and the same whenever it is asked.
fn is_costly(expr: &Arc<dyn PhysicalExpr>) -> Result<bool, ScanError> {
    Ok(!is_volatile(expr) && is_any(expr, |node| !is_cheap(node))?)
}

fn is_cheap(node: &Arc<dyn PhysicalExpr>) -> bool {
    node.is::<BinaryExpr>()
        || node.is::<Column>()
        || node.is::<Literal>()
        || node.is::<NotExpr>()
        || node.is::<IsNullExpr>()
        || node.is::<IsNotNullExpr>()
}

/// Whether any node of an expression is such a one.
fn is_any(expr: &Arc<dyn PhysicalExpr>, such: impl Fn(&Arc<dyn PhysicalExpr>) -> bool) -> Result<bool, ScanError> {
    expr.exists(|node| Ok(such(node))).map_err(ScanError::from)
}

impl Current {
    /// The rows of a batch of the predicate's columns for which it is true. `counters` learn of those that were not asked one by one.
    pub(crate) fn evaluate(&self, predicate: &Predicate, batch: &RecordBatch, counters: &ScanCounters) -> Result<BooleanBuffer, ScanError> {
        let answered = match batch.columns() {
            [column] if self.costly && column.null_count() == 0 => match column.data_type() {
                DataType::Int16 => self.answer::<Int16Type>(predicate, column)?,
                DataType::Int32 => self.answer::<Int32Type>(predicate, column)?,
                DataType::Int64 => self.answer::<Int64Type>(predicate, column)?,
                DataType::Date32 => self.answer::<Date32Type>(predicate, column)?,
                _ => None,
            },
            _ => None,
        };
        match answered {
            Some(rows) => {
                ScanCounters::add(&counters.rows_tabulated, rows.len());
                Ok(rows)
            }
            None => truth(self.expr.evaluate(batch)?.into_array(batch.num_rows())?),
        }
    }

    fn answer<T>(&self, predicate: &Predicate, column: &ArrayRef) -> Result<Option<BooleanBuffer>, ScanError>
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i64> + TryFrom<i64>,
    {
        let values: &[T::Native] = column.as_primitive::<T>().values();
        match &self.table {
            Some(table) => Ok(table.look_up::<T>(self, predicate, values)),
            None => self.by_runs::<T>(predicate, values),
        }
    }

    /// `None` when equal numbers do not follow each other.
    fn by_runs<T: ArrowPrimitiveType>(&self, predicate: &Predicate, values: &[T::Native]) -> Result<Option<BooleanBuffer>, ScanError> {
        let changes = values.windows(2).filter(|pair| pair[0] != pair[1]).count();
        if (changes + 1) * 2 > values.len() {
            return Ok(None);
        }
        let mut firsts = Vec::with_capacity(changes + 1);
        firsts.extend((0..values.len()).filter(|&i| i == 0 || values[i] != values[i - 1]));
        let numbers = PrimitiveArray::<T>::from_iter_values(firsts.iter().map(|&i| values[i]));
        let answers = self.ask(predicate, Arc::new(numbers))?;
        let mut rows = BooleanBufferBuilder::new(values.len());
        for (run, &first) in firsts.iter().enumerate() {
            let end = firsts.get(run + 1).copied().unwrap_or(values.len());
            rows.append_n(end - first, answers.value(run));
        }
        Ok(Some(rows.finish()))
    }

    fn ask(&self, predicate: &Predicate, numbers: ArrayRef) -> Result<BooleanBuffer, ScanError> {
        let asked = numbers.len();
        let batch = RecordBatch::try_new(predicate.schema.clone(), vec![numbers])?;
        truth(self.expr.evaluate(&batch)?.into_array(asked)?)
    }
}

impl Table {
    /// An empty table for the numbers that segments have in the column, if they are few beside their rows.
    fn over(predicate: &Predicate, spec: &ScanSpec) -> Option<Table> {
        let (min, max, rows) = spec.bounds(*predicate.columns.first()?)?;
        let numbers = max.checked_sub(min).and_then(|width| u64::try_from(width).ok())?.checked_add(1)?;
        if numbers > NUMBERS_MAX || numbers > (rows / 2).max(NUMBERS_FREE) {
            return None;
        }
        let numbers = numbers as usize;
        let ready = (0..numbers.div_ceil(BLOCK)).map(|_| AtomicBool::new(false)).collect();
        let answers = (0..numbers.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Some(Table { base: min, numbers, ready, answers })
    }

    /// `None` when a number is not in the table (delta rows may have others than segments), or when there is no answer for a number of
    /// its block, which need not be one that a row has: then rows are asked for one by one.
    fn look_up<T>(&self, current: &Current, predicate: &Predicate, values: &[T::Native]) -> Option<BooleanBuffer>
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i64> + TryFrom<i64>,
    {
        let mut missing = false;
        let rows = BooleanBuffer::collect_bool(values.len(), |i| {
            let place = values[i].into().wrapping_sub(self.base) as u64 as usize;
            if place >= self.numbers {
                missing = true;
                return false;
            }
            if !missing && !self.ready[place / BLOCK].load(Ordering::Acquire) {
                missing = self.fill::<T>(current, predicate, place / BLOCK).is_err();
            }
            self.answers[place / 64].load(Ordering::Relaxed) >> (place % 64) & 1 == 1
        });
        (!missing).then_some(rows)
    }

    /// Works out the answers of a block. Two may do so at once: they find the same.
    fn fill<T>(&self, current: &Current, predicate: &Predicate, block: usize) -> Result<(), ScanError>
    where
        T: ArrowPrimitiveType,
        T::Native: TryFrom<i64>,
    {
        let places = block * BLOCK..self.numbers.min((block + 1) * BLOCK);
        let numbers = places.clone().map(|place| T::Native::try_from(self.base + place as i64).unwrap_or_default());
        let answers = current.ask(predicate, Arc::new(PrimitiveArray::<T>::from_iter_values(numbers)))?;
        for word in (0..answers.len()).step_by(64) {
            let bits = (word..answers.len().min(word + 64)).filter(|&i| answers.value(i)).fold(0u64, |bits, i| bits | 1 << (i - word));
            self.answers[(places.start + word) / 64].store(bits, Ordering::Relaxed);
        }
        self.ready[block].store(true, Ordering::Release);
        Ok(())
    }
}
