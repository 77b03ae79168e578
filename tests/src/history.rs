//! Is there an order of transactions that explains what their clients saw?
//!
//! Transactions append numbers to lists, each number once, and read lists. A list that was read shows the order in which it was written, and
//! so who wrote over whom (ww), who read whom (wr), and who read what another was to change (rw). A cycle of these dependencies is an anomaly
//! (Adya, "Weak consistency", 1999; Kingsbury and Alvaro, "Elle", VLDB 2020). Clocks take part too: who began after another had
//! been answered comes after it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// What one transaction did to a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// It appended a number that nobody else appends.
    Append(u64, u64),
    /// It read the list.
    Read(u64, Vec<u64>),
}

/// What its client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It committed.
    Committed,
    /// It did not.
    Failed,
    /// Nothing: it may have committed.
    Nothing,
}

/// One transaction, as its client saw it.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// What it did, in order. A read that was never answered is not here.
    pub ops: Vec<Op>,
    /// What its client was told.
    pub told: Told,
    /// When its client began, and when it had the answer; any clock that all clients share.
    pub began: u64,
    /// See `began`.
    pub ended: u64,
}

/// What the transactions were promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Snapshot isolation: a cycle has two rw dependencies in a row.
    Snapshot,
    /// No cycles.
    Serializable,
}

/// What cannot be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// What kind it is.
    pub kind: &'static str,
    /// The evidence.
    pub evidence: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.evidence)
    }
}

impl std::error::Error for Anomaly {}

fn anomaly<T>(kind: &'static str, evidence: String) -> Result<T, Anomaly> {
    Err(Anomaly { kind, evidence })
}

/// Who depends on whom, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Edge {
    Ww,
    Wr,
    Rw,
    /// One had been answered before the other began.
    Time,
}

/// Looks for an anomaly that the promise excludes.
pub fn check(history: &[Transaction], promise: Promise) -> Result<(), Anomaly> {
    let writers = writers(history)?;
    let orders = orders(history, &writers)?;
    for (at, transaction) in history.iter().enumerate() {
        own_writes(at, transaction)?;
    }
    nothing_lost(history)?;
    let edges = dependencies(history, &writers, &orders);
    match promise {
        Promise::Serializable => no_cycle(&edges, history, "a cycle of dependencies (G2, unless a smaller one)"),
        Promise::Snapshot => {
            // A cycle in which no two rw follow each other is one of steps that may end with one rw.
            let mut steps: Vec<Vec<(usize, Edge)>> = vec![vec![]; edges.len()];
            for (from, next) in edges.iter().enumerate() {
                for &(to, edge) in next.iter().filter(|(_, edge)| *edge != Edge::Rw) {
                    steps[from].push((to, edge));
                    steps[from].extend(edges[to].iter().filter(|(_, edge)| *edge == Edge::Rw));
                }
            }
            no_cycle(&steps, history, "a cycle without two rw in a row (G0, G1c or G-single)")
        }
    }
}

/// The transaction that appended each number to each list.
fn writers(history: &[Transaction]) -> Result<HashMap<(u64, u64), usize>, Anomaly> {
    let mut writers = HashMap::new();
    for (at, transaction) in history.iter().enumerate() {
        for op in &transaction.ops {
            if let Op::Append(list, number) = op
                && writers.insert((*list, *number), at).is_some()
            {
                return anomaly("a broken test", format!("{number} was appended twice to list {list}"));
            }
        }
    }
    Ok(writers)
}

/// The order in which each list was written, as far as it was read. Reads must agree, and see whole transactions that committed.
fn orders(history: &[Transaction], writers: &HashMap<(u64, u64), usize>) -> Result<BTreeMap<u64, Vec<u64>>, Anomaly> {
    let mut orders: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let counts = |transaction: &Transaction| transaction.told != Told::Failed;
    for (at, transaction) in history.iter().enumerate().filter(|(_, t)| counts(t)) {
        for (nth, op) in transaction.ops.iter().enumerate() {
            let Op::Read(list, seen) = op else { continue };
            if seen.iter().collect::<HashSet<_>>().len() != seen.len() {
                return anomaly("a write that happened twice", format!("transaction {at} read list {list} as {seen:?}"));
            }
            let own = appended(&transaction.ops[..nth], *list);
            for number in seen.iter().filter(|n| !own.contains(n)) {
                match writers.get(&(*list, *number)) {
                    None => return anomaly("a write from nowhere", format!("transaction {at} read {number} in list {list}")),
                    Some(&writer) if history[writer].told == Told::Failed => {
                        return anomaly(
                            "an aborted read (G1a)",
                            format!("transaction {at} read {number} of list {list}, which {writer} took back"),
                        );
                    }
                    Some(&writer) if writer == at => {
                        return anomaly(
                            "a write from the future",
                            format!("transaction {at} read its {number} of list {list} before it wrote it"),
                        );
                    }
                    Some(_) => {}
                }
            }
            let others: Vec<u64> = seen.iter().copied().filter(|n| !own.contains(n)).collect();
            for pair in others.windows(2).map(|pair| (pair[0], Some(pair[1]))).chain(others.last().map(|last| (*last, None))) {
                let writer = writers[&(*list, pair.0)];
                let whole = appended(&history[writer].ops, *list);
                let rest = whole.iter().position(|n| *n == pair.0).and_then(|i| whole.get(i + 1)).copied();
                if rest.is_some() && rest != pair.1 {
                    let what = format!("transaction {at} read list {list} as {seen:?}, in the middle of what {writer} wrote: {whole:?}");
                    return anomaly("an intermediate read (G1b)", what);
                }
            }
            // What it appended itself will be where the commit puts it.
            let order = orders.entry(*list).or_default();
            let agree = order.iter().zip(&others).all(|(a, b)| a == b);
            if !agree {
                return anomaly("two orders of one list", format!("{order:?}, but transaction {at} read list {list} as {others:?}"));
            }
            if others.len() > order.len() {
                *order = others;
            }
        }
    }
    Ok(orders)
}

fn appended(ops: &[Op], to: u64) -> Vec<u64> {
    let number = |op: &Op| match op {
        Op::Append(list, number) if *list == to => Some(*number),
        _ => None,
    };
    ops.iter().filter_map(number).collect()
}

/// A transaction sees what it has written, at the end, and the same of others each time: it has one snapshot.
fn own_writes(at: usize, transaction: &Transaction) -> Result<(), Anomaly> {
    let mut first: HashMap<u64, Vec<u64>> = HashMap::new();
    for (nth, op) in transaction.ops.iter().enumerate() {
        let Op::Read(list, seen) = op else { continue };
        let own = appended(&transaction.ops[..nth], *list);
        if !seen.ends_with(&own) {
            return anomaly("own writes are not seen", format!("transaction {at} wrote {own:?} and read list {list} as {seen:?}"));
        }
        let others = seen[..seen.len() - own.len()].to_vec();
        let before = first.entry(*list).or_insert_with(|| others.clone());
        if *before != others {
            return anomaly("a read that does not repeat", format!("transaction {at} read list {list} as {before:?}, then as {others:?}"));
        }
    }
    Ok(())
}

/// Who read last, and began after a write was acknowledged, saw it.
fn nothing_lost(history: &[Transaction]) -> Result<(), Anomaly> {
    let mut last: HashMap<u64, (u64, &[u64])> = HashMap::new();
    for transaction in history.iter().filter(|t| t.told == Told::Committed) {
        for op in &transaction.ops {
            if let Op::Read(list, seen) = op {
                let latest = last.entry(*list).or_insert((transaction.began, seen));
                if latest.0 <= transaction.began {
                    *latest = (transaction.began, seen);
                }
            }
        }
    }
    for (at, transaction) in history.iter().enumerate().filter(|(_, t)| t.told == Told::Committed) {
        for op in &transaction.ops {
            if let Op::Append(list, number) = op
                && let Some((began, seen)) = last.get(list)
                && transaction.ended < *began
                && !seen.contains(number)
            {
                return anomaly(
                    "a lost write",
                    format!("transaction {at} appended {number} to list {list}, which holds {seen:?} at the end"),
                );
            }
        }
    }
    Ok(())
}

/// The graph: transactions first, then a moment for each answer, which stand for time.
fn dependencies(
    history: &[Transaction],
    writers: &HashMap<(u64, u64), usize>,
    orders: &BTreeMap<u64, Vec<u64>>,
) -> Vec<Vec<(usize, Edge)>> {
    let mut edges: Vec<Vec<(usize, Edge)>> = vec![vec![]; history.len()];
    let mut add = |from: usize, to: usize, edge: Edge| {
        if from != to {
            edges[from].push((to, edge));
        }
    };
    for (list, order) in orders {
        for pair in order.windows(2) {
            add(writers[&(*list, pair[0])], writers[&(*list, pair[1])], Edge::Ww);
        }
    }
    let seen_by_others: HashSet<(u64, u64)> = orders.iter().flat_map(|(list, order)| order.iter().map(|n| (*list, *n))).collect();
    // What was committed and never read comes after all that was read.
    let mut unseen: HashMap<u64, Vec<usize>> = HashMap::new();
    for (&(list, number), &writer) in writers {
        if history[writer].told == Told::Committed && !seen_by_others.contains(&(list, number)) {
            unseen.entry(list).or_default().push(writer);
            if let Some(last) = orders.get(&list).and_then(|order| order.last()) {
                add(writers[&(list, *last)], writer, Edge::Ww);
            }
        }
    }
    for (at, transaction) in history.iter().enumerate() {
        // One that nobody heard of again may not have happened; what it read is then nobody's business.
        let happened = match transaction.told {
            Told::Committed => true,
            Told::Failed => false,
            Told::Nothing => transaction.ops.iter().any(|op| matches!(op, Op::Append(l, n) if seen_by_others.contains(&(*l, *n)))),
        };
        if !happened {
            continue;
        }
        for (nth, op) in transaction.ops.iter().enumerate() {
            let Op::Read(list, seen) = op else { continue };
            let others = seen.len() - appended(&transaction.ops[..nth], *list).len();
            if let Some(last) = others.checked_sub(1) {
                add(writers[&(*list, seen[last])], at, Edge::Wr);
            }
            match orders.get(list).and_then(|order| order.get(others)) {
                Some(next) => add(at, writers[&(*list, *next)], Edge::Rw),
                None => unseen.get(list).into_iter().flatten().for_each(|writer| add(at, *writer, Edge::Rw)),
            }
        }
    }
    add_time(history, &mut edges);
    edges
}

/// Each answer is a moment; moments follow each other; a transaction follows the last moment before it began.
fn add_time(history: &[Transaction], edges: &mut Vec<Vec<(usize, Edge)>>) {
    let mut answered: Vec<usize> = (0..history.len()).filter(|&at| history[at].told == Told::Committed).collect();
    answered.sort_by_key(|&at| history[at].ended);
    let first = edges.len();
    for (moment, &at) in answered.iter().enumerate() {
        edges.push(vec![]);
        edges[at].push((first + moment, Edge::Time));
        if moment > 0 {
            edges[first + moment - 1].push((first + moment, Edge::Time));
        }
    }
    for (at, transaction) in history.iter().enumerate() {
        let before = answered.partition_point(|&other| history[other].ended < transaction.began);
        if before > 0 {
            edges[first + before - 1].push((at, Edge::Time));
        }
    }
}

/// Depth first, without recursion: histories are long.
fn no_cycle(edges: &[Vec<(usize, Edge)>], history: &[Transaction], kind: &'static str) -> Result<(), Anomaly> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        OnPath,
        Done,
    }
    let mut seen = vec![Seen::No; edges.len()];
    for start in 0..edges.len() {
        if seen[start] != Seen::No {
            continue;
        }
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        seen[start] = Seen::OnPath;
        while let Some(top) = path.last_mut() {
            let (node, next) = *top;
            top.1 += 1;
            match edges[node].get(next) {
                None => {
                    seen[node] = Seen::Done;
                    path.pop();
                }
                Some(&(to, _)) if seen[to] == Seen::OnPath => {
                    let from = path.iter().position(|(n, _)| *n == to).unwrap_or_default();
                    let nodes: Vec<(usize, Edge)> = path[from..].iter().map(|(n, next)| (*n, edges[*n][next - 1].1)).collect();
                    return anomaly(kind, described(&nodes, history));
                }
                Some(&(to, _)) if seen[to] == Seen::No => {
                    seen[to] = Seen::OnPath;
                    path.push((to, 0));
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

fn described(cycle: &[(usize, Edge)], history: &[Transaction]) -> String {
    let lines: Vec<String> = cycle
        .iter()
        .filter(|(node, _)| *node < history.len())
        .map(|(node, edge)| format!("\n  transaction {node} {:?}, then by {edge:?}", history[*node].ops))
        .collect();
    lines.concat()
}
