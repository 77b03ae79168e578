//! Applying committed entries: `quire-log` decides, one batch writes it down, readers are shown the new view.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use openraft::entry::{EntryPayload, RaftEntry};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use quire_kit::clock::{self, Instant};
use quire_log::State;
use quire_proto::decode_entry;
use quire_types::{Outcome, RowId, TableId, TxnId};
use serde::{Deserialize, Serialize};

use super::codec::{decode, encode};
use super::{Group, Proposal, Reply};
use crate::persist;
use crate::replica::{Published, RECENT_ENTRY_BYTES_MAX, Told};
use crate::retired::RetiredSegments;
use crate::store::{Family, OrderedStore, Write};

const APPLIED: &[u8] = b"applied";
/// Entries that are applied and written down as one, when so many are there.
const APPLIED_TOGETHER_MAX: usize = 64;

/// What a state machine's snapshot holds: not the log, which each node has of its own.
const SNAPSHOT_FAMILIES: [Family; 2] = [Family::State, Family::Delta];

/// How far the state machine has come; written in the same batch as what the entries did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Applied {
    last: Option<LogIdOf<Group>>,
    membership: StoredMembershipOf<Group>,
    log_name: Option<String>,
}

/// One replica.
pub(crate) struct StateMachine {
    store: Arc<dyn OrderedStore>,
    state: State,
    index: persist::Index,
    applied: Applied,
    published: Arc<Published>,
    /// The last snapshot made or received, for followers that are too far behind.
    snapshot: Arc<Mutex<Option<SnapshotOf<Group, Bytes>>>>,
    /// Delta rows that no new snapshot names, oldest first: (since when, table, below this row id).
    retired: VecDeque<(Instant, TableId, RowId)>,
    /// Such delta rows stay readable for so long, for statements and transactions on older snapshots.
    retention: Duration,
    /// Segments that no new snapshot names.
    retired_segments: Arc<RetiredSegments>,
}

impl StateMachine {
    /// The replica as the store has it.
    pub(crate) fn load(
        store: Arc<dyn OrderedStore>,
        published: Arc<Published>,
        retention: Duration,
        retired_segments: Arc<RetiredSegments>,
    ) -> Result<StateMachine, persist::LoadError> {
        let applied = match store.get(Family::Meta, APPLIED)? {
            Some(bytes) => decode::<Applied>(&bytes).map_err(|_| persist::LoadError::Damaged("applied position"))?,
            None => Applied::default(),
        };
        let (state, index) = persist::load(store.as_ref())?;
        published.reset(state.view().clone(), applied.log_name.clone());
        persist::remove_orphans(store.as_ref(), &state)?;
        let (snapshot, retired) = (Arc::default(), VecDeque::new());
        Ok(StateMachine { store, state, index, applied, published, snapshot, retired, retention, retired_segments })
    }

    /// What a transaction was told, while it is remembered.
    pub(crate) fn outcome(&self, txn_id: TxnId) -> Option<Outcome> {
        self.state.outcome(txn_id).cloned()
    }

    /// Decides what an entry does; what is to be written down and shown goes to the others' of its batch.
    fn decide(
        &mut self,
        payload: EntryPayload<Proposal, u64, openraft::impls::BasicNode>,
        log_id: LogIdOf<Group>,
        batch: &mut Decided,
    ) -> Reply {
        self.applied.last = Some(log_id);
        match payload {
            EntryPayload::Blank => Reply(vec![]),
            EntryPayload::Membership(membership) => {
                self.applied.membership = StoredMembershipOf::<Group>::new(Some(log_id), membership);
                Reply(vec![])
            }
            EntryPayload::Normal(Proposal::Name(name)) => {
                self.applied.log_name.get_or_insert(name);
                Reply(vec![])
            }
            EntryPayload::Normal(Proposal::Entry(bytes)) => Reply(vec![self.decide_entry(bytes, batch)]),
            EntryPayload::Normal(Proposal::Entries(entries)) => {
                Reply(entries.into_iter().map(|bytes| self.decide_entry(bytes, batch)).collect())
            }
        }
    }

    fn decide_entry(&mut self, bytes: Bytes, batch: &mut Decided) -> Outcome {
        let is_small = bytes.len() <= RECENT_ENTRY_BYTES_MAX;
        let entry = match decode_entry(bytes) {
            Ok(entry) => entry,
            Err(malformed) => return Outcome::Refused(malformed.to_string()),
        };
        let lsn_before = self.state.view().lsn;
        // What a kept view shares with the state is copied when it changes: kept only where it is needed.
        let before = persist::may_retire_segments(&entry).then(|| self.state.view().clone());
        let applied = self.state.apply(entry);
        let outcome = applied.outcome.clone();
        let rows = if is_small { applied.delta.clone() } else { vec![] };
        let view = self.state.view();
        let changes = persist::writes(&mut self.index, view, applied, &mut batch.writes);
        // Also when nothing changed: what was committed at an LSN is certified against snapshots of that LSN.
        if view.lsn != lsn_before {
            let now = clock::now();
            let retired = persist::retired(&changes, view);
            self.retired.extend(retired.into_iter().map(|(table, below)| (now, table, below)));
            if let Some(before) = before {
                self.retired_segments.add(now, persist::retired_segments(&changes, &before));
            }
            batch.told.push(Told { lsn: view.lsn, changes, rows });
        }
        outcome
    }

    /// Writes down, as one, what entries did, and shows it.
    fn record(&mut self, batch: Decided) -> Result<(), io::Error> {
        let Decided { mut writes, told } = batch;
        while let Some((since, table, below)) = self.retired.front().copied()
            && since.elapsed() > self.retention
        {
            writes.push(persist::clear_delta(table, below));
            self.retired.pop_front();
        }
        writes.push(Write::Put(Family::Meta, APPLIED.to_vec(), encode(&self.applied)?));
        self.store.write(last_of_each(writes))?;
        self.published.name(self.applied.log_name.clone());
        if !told.is_empty() {
            self.published.advance(self.state.view().clone(), told);
        }
        Ok(())
    }
}

/// Without the values that a later write of the batch replaces: the log's position, and a table's last writes, are in every entry's.
fn last_of_each(writes: Vec<Write>) -> Vec<Write> {
    let mut seen = HashSet::with_capacity(writes.len());
    let is_last: Vec<bool> = writes.iter().rev().map(|write| write.put_key().is_none_or(|key| seen.insert(key))).collect();
    drop(seen);
    writes.into_iter().zip(is_last.into_iter().rev()).filter(|(_, is_last)| *is_last).map(|(write, _)| write).collect()
}

/// What entries did that is not written down yet.
#[derive(Default)]
struct Decided {
    writes: Vec<Write>,
    told: Vec<Told>,
}

impl RaftStateMachine<Group> for StateMachine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf<Group>>, StoredMembershipOf<Group>), io::Error> {
        Ok((self.applied.last, self.applied.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Group>, io::Error>> + Unpin + OptionalSend,
    {
        let mut entries = entries.ready_chunks(APPLIED_TOGETHER_MAX);
        while let Some(together) = entries.next().await {
            let mut batch = Decided::default();
            let mut replies = vec![];
            let mut failed = None;
            for next in together {
                let (entry, responder) = match next {
                    Ok(next) => next,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                };
                let log_id = entry.log_id();
                if log_id.index != self.applied.last.map_or(0, |last| last.index + 1) {
                    failed = Some(io::Error::other(format!("the log has no entry between {:?} and {log_id}", self.applied.last)));
                    break;
                }
                // A panic here would come back at every replay and on every replica alike: better that all stop at once and say so.
                let (this, decided) = (&mut *self, &mut batch);
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| this.decide(entry.payload, log_id, decided)));
                let reply = result.unwrap_or_else(|_| {
                    tracing::error!(%log_id, page = "docs/operating/apply-panic.md", "applying a log entry panicked; this node stops");
                    std::process::abort()
                });
                replies.push((responder, reply));
            }
            self.record(batch)?;
            for (responder, reply) in replies {
                if let Some(responder) = responder {
                    responder.send(reply);
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { store: self.store.clone(), keep: self.snapshot.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Group>, snapshot: Bytes) -> Result<(), io::Error> {
        let (log_name, pairs) = unpack(snapshot.clone())?;
        let applied = Applied { last: meta.last_log_id, membership: meta.last_membership.clone(), log_name };
        let mut writes: Vec<Write> = SNAPSHOT_FAMILIES.iter().map(|f| Write::DeleteRange(*f, vec![], vec![0xff; 64])).collect();
        writes.extend(pairs.into_iter().map(|(family, key, value)| Write::Put(family, key, value)));
        writes.push(Write::Put(Family::Meta, APPLIED.to_vec(), encode(&applied)?));
        self.store.write(writes)?;
        let store = self.store.clone();
        quire_kit::task::blocking(move || store.sync()).await?;
        self.applied = applied;
        (self.state, self.index) = persist::load(self.store.as_ref()).map_err(io::Error::other)?;
        // What left the manifest between the two states was not seen.
        self.retired_segments.begin_again(clock::now());
        self.published.reset(self.state.view().clone(), self.applied.log_name.clone());
        *self.snapshot.lock() = Some(Snapshot { meta: meta.clone(), snapshot });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Group, Bytes>>, io::Error> {
        let kept = self.snapshot.lock().clone();
        match kept {
            Some(snapshot) => Ok(Some(snapshot)),
            // None since the start, though the log may have been cut before it.
            None if self.applied.last.is_some() => self.get_snapshot_builder().await.build_snapshot().await.map(Some),
            None => Ok(None),
        }
    }
}

/// Makes snapshots from a consistent view of the store, while entries go on being applied.
pub(crate) struct Builder {
    store: Arc<dyn OrderedStore>,
    keep: Arc<Mutex<Option<SnapshotOf<Group, Bytes>>>>,
}

impl RaftSnapshotBuilder<Group> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Group, Bytes>, io::Error> {
        let store = self.store.clone();
        let (applied, bytes) = quire_kit::task::blocking(move || pack(store.as_ref())).await?;
        let meta = SnapshotMeta { last_log_id: applied.last, last_membership: applied.membership };
        let snapshot = Snapshot { meta, snapshot: bytes };
        *self.keep.lock() = Some(snapshot.clone());
        Ok(snapshot)
    }
}

/// Length-prefixed: the log's name, then family, key and value of every pair.
fn pack(store: &dyn OrderedStore) -> Result<(Applied, Bytes), io::Error> {
    let mut applied = None;
    let mut pairs = BytesMut::new();
    let mut families = SNAPSHOT_FAMILIES.to_vec();
    families.push(Family::Meta);
    store.dump(&families, &mut |family, key, value| match family {
        Family::Meta if key == APPLIED => applied = Some(value.to_vec()),
        Family::Meta | Family::Log => {}
        Family::State | Family::Delta => {
            pairs.put_u8(u8::from(family == Family::Delta));
            put_bytes(&mut pairs, key);
            put_bytes(&mut pairs, value);
        }
    })?;
    let applied: Applied = applied.map(|bytes| decode(&bytes)).transpose()?.unwrap_or_default();
    let mut out = BytesMut::with_capacity(pairs.len() + 64);
    put_bytes(&mut out, &encode(&applied.log_name)?);
    out.extend_from_slice(&pairs);
    Ok((applied, out.freeze()))
}

type Unpacked = (Option<String>, Vec<(Family, Vec<u8>, Bytes)>);

fn unpack(mut bytes: Bytes) -> Result<Unpacked, io::Error> {
    let name = decode(&take_bytes(&mut bytes)?)?;
    let mut pairs = vec![];
    while bytes.has_remaining() {
        let family = if bytes.get_u8() == 1 { Family::Delta } else { Family::State };
        let key = take_bytes(&mut bytes)?.to_vec();
        pairs.push((family, key, take_bytes(&mut bytes)?));
    }
    Ok((name, pairs))
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u64(bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_bytes(bytes: &mut Bytes) -> Result<Bytes, io::Error> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "a state machine snapshot ends too early");
    if bytes.remaining() < 8 {
        return Err(short());
    }
    let length = bytes.get_u64() as usize;
    if bytes.remaining() < length {
        return Err(short());
    }
    Ok(bytes.split_to(length))
}
