//! Sequences: each compute node takes values a block at a time, by a log entry of its own, and gives them out from memory.
//!
//! A value is taken before it is given out and outside the transaction that asks for it, so none is given out twice, whatever rolls
//! back, fails or restarts; what a node had left is a gap. Blocks carry the sequence's epoch: `setval` and ALTER SEQUENCE begin the
//! next one, and a block of an earlier epoch is thrown away by the first statement whose snapshot shows it.
//!
//! A sequence that the transaction itself has made or altered is not in the log yet: the session moves it, and the commit carries
//! where it has come.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, Value, visit_expressions_mut,
};
use parking_lot::Mutex;
use quire_client::StorageClient;
use quire_kit::task;
use quire_types::{Catalog, CatalogChange, Isolation, Outcome, SequenceDef, SequencePosition, TableId};

use crate::SqlError;
use crate::catalog::ScopeCell;
use crate::errors::{client_error, outcome_error};
use crate::names::{Resolver, fold, missing_relation, not_a};
use crate::regtypes::{call, number, object_name};
use crate::txn::Transaction;

/// Values of a node's first block of a sequence. Each further one is twice as large: a log entry for 32 rows, then for 64, ….
const BLOCK_FIRST: u64 = 32;
/// So many values are lost at most when a node stops, and so few log entries are needed by one that inserts without end.
const BLOCK_MAX: u64 = 4096;
/// Other nodes take blocks of the same sequence at the same moment; each attempt is one of theirs that succeeded.
const ATTEMPTS_MAX: usize = 100;

/// What a compute node has taken and not given out. Shared by its sessions.
pub(crate) struct Sequences {
    client: StorageClient,
    blocks: Mutex<HashMap<TableId, Block>>,
    /// One refill at a time.
    refill: tokio::sync::Mutex<()>,
}

/// Values of one sequence.
struct Block {
    epoch: u64,
    increment: i64,
    /// (first value, how many)
    runs: VecDeque<(i64, u64)>,
    /// Size of the next block.
    next_size: u64,
}

impl Block {
    fn left(&self) -> u64 {
        self.runs.iter().map(|(_, count)| count).sum()
    }

    fn pop(&mut self) -> Option<i64> {
        let (first, count) = self.runs.front_mut()?;
        let value = *first;
        *count -= 1;
        if *count == 0 {
            self.runs.pop_front();
        } else {
            *first += self.increment;
        }
        Some(value)
    }
}

impl Sequences {
    pub(crate) fn new(client: StorageClient) -> Sequences {
        Sequences { client, blocks: Mutex::default(), refill: tokio::sync::Mutex::default() }
    }

    /// The next `count` values of a committed sequence, as the statement's snapshot shows it.
    async fn next(&self, seen: &SequenceDef, count: u64) -> Result<Vec<i64>, SqlError> {
        if let Some(values) = self.in_memory(seen, count) {
            return Ok(values);
        }
        let _one = self.refill.lock().await;
        loop {
            // Another session may have filled it while this one waited.
            if let Some(values) = self.in_memory(seen, count) {
                return Ok(values);
            }
            self.take(seen, count).await?;
        }
    }

    /// Values that the node has; `None` when they are too few.
    fn in_memory(&self, seen: &SequenceDef, count: u64) -> Option<Vec<i64>> {
        let mut blocks = self.blocks.lock();
        let block = blocks.get_mut(&seen.id)?;
        if block.epoch < seen.epoch {
            blocks.remove(&seen.id);
            return None;
        }
        if block.left() < count {
            return None;
        }
        (0..count).map(|_| block.pop()).collect()
    }

    /// Takes another block, by a log entry of its own.
    async fn take(&self, seen: &SequenceDef, count: u64) -> Result<(), SqlError> {
        for _ in 0..ATTEMPTS_MAX {
            let view = self.client.snapshot().await.map_err(client_error)?;
            let Some(sequence) = view.catalog.sequences.get(&seen.id).cloned() else {
                return Err(SqlError::new("42P01", format!("relation \"{}\" does not exist", seen.name)));
            };
            let (size, left) = match self.blocks.lock().get(&seen.id) {
                Some(block) if block.epoch == sequence.epoch => (block.next_size, block.left()),
                _ => (BLOCK_FIRST, 0),
            };
            let wanted = size.max(sequence.cache.unsigned_abs()).max(count.saturating_sub(left));
            let Some((first, taken, to)) = sequence.take(wanted) else { return Err(exhausted(&sequence)) };
            let mut transaction = Transaction::begin(view, Isolation::ReadCommitted, false, 0);
            transaction.change("nextval()", CatalogChange::MoveSequence { id: sequence.id, from: sequence.position, to })?;
            match self.client.commit(transaction.into_commit()?).await.map_err(client_error)? {
                Outcome::Committed(_) => {
                    self.keep(&sequence, (first, taken), size);
                    return Ok(());
                }
                Outcome::CatalogConflict(_) => {}
                other => return Err(outcome_error(&other, |_| None)),
            }
        }
        Err(SqlError::new("40001", format!("sequence \"{}\" is in too much demand", seen.name)).with_hint("Give it a larger CACHE."))
    }

    fn keep(&self, sequence: &SequenceDef, run: (i64, u64), size: u64) {
        let mut blocks = self.blocks.lock();
        let fresh = || Block { epoch: sequence.epoch, increment: sequence.increment, runs: VecDeque::new(), next_size: BLOCK_FIRST };
        let block = blocks.entry(sequence.id).or_insert_with(fresh);
        if block.epoch < sequence.epoch {
            *block = fresh();
        }
        // A block of an epoch that has passed meanwhile is a gap.
        if block.epoch == sequence.epoch {
            block.runs.push_back(run);
            block.next_size = (size * 2).min(BLOCK_MAX);
        }
    }

    /// The value that this node gave out last, when it has the sequence's latest values.
    fn given_out(&self, sequence: &SequenceDef) -> Option<SequencePosition> {
        let blocks = self.blocks.lock();
        let block = blocks.get(&sequence.id).filter(|b| b.epoch == sequence.epoch)?;
        let (first, _) = block.runs.front()?;
        let (last, count) = block.runs.back()?;
        let end = i128::from(*last) + i128::from(block.increment) * i128::from(count.saturating_sub(1));
        if end != i128::from(sequence.position.last) {
            return None;
        }
        match first.checked_sub(block.increment).filter(|last| *last >= sequence.min && *last <= sequence.max) {
            Some(last) => Some(SequencePosition { last, called: true }),
            None => Some(SequencePosition { last: *first, called: false }),
        }
    }

    /// `setval`: a log entry of its own, which makes void what nodes have taken.
    async fn set(&self, seen: &SequenceDef, position: SequencePosition) -> Result<(), SqlError> {
        for _ in 0..ATTEMPTS_MAX {
            let view = self.client.snapshot().await.map_err(client_error)?;
            let Some(old) = view.catalog.sequences.get(&seen.id).cloned() else {
                return Err(SqlError::new("42P01", format!("relation \"{}\" does not exist", seen.name)));
            };
            check_settable(&old, position.last)?;
            let sequence = SequenceDef { position, epoch: old.epoch + 1, ..old.as_ref().clone() };
            let mut transaction = Transaction::begin(view, Isolation::ReadCommitted, false, 0);
            transaction.change("setval()", CatalogChange::ReplaceSequence { sequence, from: old.position })?;
            match self.client.commit(transaction.into_commit()?).await.map_err(client_error)? {
                Outcome::Committed(_) => {
                    // This statement's snapshot does not show it yet.
                    self.blocks.lock().remove(&seen.id);
                    return Ok(());
                }
                Outcome::CatalogConflict(_) => {}
                other => return Err(outcome_error(&other, |_| None)),
            }
        }
        Err(SqlError::new("40001", format!("sequence \"{}\" is in too much demand", seen.name)))
    }
}

fn check_settable(sequence: &SequenceDef, value: i64) -> Result<(), SqlError> {
    if value < sequence.min || value > sequence.max {
        let bounds = format!("({}..{})", sequence.min, sequence.max);
        return Err(SqlError::new("22003", format!("setval: value {value} is out of bounds for sequence \"{}\" {bounds}", sequence.name)));
    }
    Ok(())
}

/// 2200H.
fn exhausted(sequence: &SequenceDef) -> SqlError {
    let (end, bound) = if sequence.increment > 0 { ("maximum", sequence.max) } else { ("minimum", sequence.min) };
    SqlError::new("2200H", format!("nextval: reached {end} value of sequence \"{}\" ({bound})", sequence.name))
}

/// What a session remembers of sequences.
#[derive(Default)]
pub(crate) struct OwnSequences {
    /// What `currval` gives.
    values: HashMap<TableId, i64>,
    last: Option<TableId>,
    /// Where sequences are that the transaction has made or altered.
    uncommitted: HashMap<TableId, SequencePosition>,
}

impl OwnSequences {
    /// Where the transaction has brought a sequence that it made or altered.
    pub(crate) fn uncommitted(&self, id: TableId) -> Option<SequencePosition> {
        self.uncommitted.get(&id).copied()
    }

    /// The transaction defines the sequence (again).
    pub(crate) fn defined(&mut self, id: TableId) {
        self.uncommitted.remove(&id);
    }

    /// DISCARD SEQUENCES.
    pub(crate) fn discard(&mut self) {
        self.values.clear();
        self.last = None;
    }
}

impl ScopeCell {
    /// The sequence as the statement sees it, and whether it is committed just so.
    fn sequence(&self, id: TableId) -> Result<(Arc<SequenceDef>, bool), SqlError> {
        let scope = self.get();
        let missing = || SqlError::new("42P01", format!("could not open relation with OID {id}"));
        let sequence = scope.catalog.sequences.get(&id).cloned().ok_or_else(missing)?;
        let committed = scope.view.catalog.sequences.get(&id).is_some_and(|c| c.epoch == sequence.epoch && c.name == sequence.name);
        Ok((sequence, committed))
    }

    /// `nextval`, so many times.
    pub(crate) async fn next_values(&self, id: TableId, count: usize) -> Result<Vec<i64>, SqlError> {
        if count == 0 {
            return Ok(vec![]);
        }
        let (sequence, committed) = self.sequence(id)?;
        let values = if committed {
            self.sequences()?.next(&sequence, count as u64).await?
        } else {
            let mut own = self.own_sequences().lock();
            let mut here = sequence.as_ref().clone();
            here.position = own.uncommitted(id).unwrap_or(here.position);
            let mut values = Vec::with_capacity(count);
            for _ in 0..count {
                let (value, _, to) = here.take(1).ok_or_else(|| exhausted(&here))?;
                here.position = to;
                values.push(value);
            }
            own.uncommitted.insert(id, here.position);
            values
        };
        let mut own = self.own_sequences().lock();
        own.last = Some(id);
        own.values.extend(values.last().map(|last| (id, *last)));
        Ok(values)
    }

    /// `nextval`, from where nothing can be awaited.
    pub(crate) fn next_value(&self, id: TableId) -> Result<i64, SqlError> {
        let values = task::wait(self.next_values(id, 1))?;
        values.first().copied().ok_or_else(|| SqlError::internal("a sequence gave nothing"))
    }

    /// `setval`.
    pub(crate) fn set_value(&self, id: TableId, value: i64, called: bool) -> Result<(), SqlError> {
        let (sequence, committed) = self.sequence(id)?;
        check_settable(&sequence, value)?;
        let position = SequencePosition { last: value, called };
        if committed {
            task::wait(self.sequences()?.set(&sequence, position))?;
        } else {
            self.own_sequences().lock().uncommitted.insert(id, position);
        }
        if called {
            self.own_sequences().lock().values.insert(id, value);
        }
        Ok(())
    }

    /// `currval`.
    pub(crate) fn current_value(&self, id: TableId) -> Result<i64, SqlError> {
        let (sequence, _) = self.sequence(id)?;
        let value = self.own_sequences().lock().values.get(&id).copied();
        value.ok_or_else(|| SqlError::new("55000", format!("currval of sequence \"{}\" is not yet defined in this session", sequence.name)))
    }

    /// `lastval`.
    pub(crate) fn last_value(&self) -> Result<i64, SqlError> {
        let own = self.own_sequences().lock();
        let value = own.last.and_then(|id| own.values.get(&id).copied());
        value.ok_or_else(|| SqlError::new("55000", "lastval is not yet defined in this session"))
    }

    /// Where a sequence is: what `SELECT last_value, is_called FROM s` shows.
    pub(crate) fn sequence_position(&self, sequence: &SequenceDef) -> SequencePosition {
        if let Some(position) = self.own_sequences().lock().uncommitted(sequence.id) {
            return position;
        }
        self.sequences().ok().and_then(|s| s.given_out(sequence)).unwrap_or(sequence.position)
    }
}

/// The sequence that a name stands for. 42P01, 42809.
pub(crate) fn sequence_named(name: &str, catalog: &Catalog, path: &[String]) -> Result<Arc<SequenceDef>, SqlError> {
    let resolver = Resolver { catalog, search_path: path };
    let parsed = object_name(name)?;
    if let Some(sequence) = resolver.find_sequence(&parsed)? {
        return Ok(sequence);
    }
    if resolver.find_table(&parsed)?.is_some() || resolver.find_view(&parsed)?.is_some() {
        return Err(not_a_sequence(&parsed));
    }
    Err(missing_relation(&parsed))
}

/// 42809.
pub(crate) fn not_a_sequence(name: &ObjectName) -> SqlError {
    not_a("a sequence", name)
}

/// A DEFAULT that takes the next value of a sequence, as it is kept.
pub(crate) fn sequence_default(sequence: TableId) -> String {
    format!("nextval({sequence})")
}

/// The sequence of a DEFAULT that is just its next value.
pub(crate) fn default_sequence(default: &str) -> Option<TableId> {
    default.strip_prefix("nextval(")?.strip_suffix(')')?.parse().ok().map(TableId)
}

/// The oids of the sequences that a DEFAULT names, and where in its text.
fn named_sequences(default: &str) -> Vec<(std::ops::Range<usize>, TableId)> {
    let found = default.match_indices("nextval(").filter_map(|(at, word)| {
        let start = at + word.len();
        let end = start + default[start..].find(')')?;
        Some((start..end, TableId(default[start..end].parse().ok()?)))
    });
    found.collect()
}

/// The sequences that a DEFAULT takes values from.
pub(crate) fn sequences_of(default: &str) -> Vec<TableId> {
    named_sequences(default).into_iter().map(|(_, id)| id).collect()
}

/// A DEFAULT as it is shown: `nextval('t_a_seq'::regclass)`.
pub(crate) fn shown_default(default: &str, catalog: &Catalog, path: &[String]) -> String {
    let mut shown = default.to_string();
    for (range, id) in named_sequences(default).into_iter().rev() {
        let name = crate::regtypes::class_name(i64::from(id.0), catalog, path);
        shown.replace_range(range, &format!("'{}'::regclass", name.replace('\'', "''")));
    }
    shown
}

/// Puts oids in the place of names of sequences, so that renaming one changes nothing.
pub(crate) fn resolve_defaults(expr: &mut Expr, resolver: &Resolver<'_>) -> Result<(), SqlError> {
    let mut failed = None;
    let _: std::ops::ControlFlow<()> = visit_expressions_mut(expr, |e| {
        if let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = e
            && name.0.last().and_then(|p| p.as_ident()).is_some_and(|i| fold(i) == "nextval")
            && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] = list.args.as_slice()
        {
            match literal_sequence(argument, resolver) {
                Ok(Some(id)) => *e = call("nextval", vec![number(i64::from(id.0))]),
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        }
        std::ops::ControlFlow::Continue(())
    });
    failed.map_or(Ok(()), Err)
}

/// The sequence of `'s'` or of `'s'::regclass`, whose name may have become an oid already.
fn literal_sequence(expr: &Expr, resolver: &Resolver<'_>) -> Result<Option<TableId>, SqlError> {
    match expr {
        Expr::Cast { expr, .. } | Expr::Nested(expr) => literal_sequence(expr, resolver),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => sequence_named(text, resolver.catalog, resolver.search_path).map(|s| Some(s.id)),
            Value::Number(digits, _) => Ok(digits.parse().ok().map(TableId)),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}
