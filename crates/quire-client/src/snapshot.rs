//! Snapshots: the last view, brought up to date by one request that many callers share.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quire_kit::clock;
use quire_proto::v1;
use quire_types::{Change, Lsn, View};
use tokio::sync::oneshot;
use tonic::Status;

use crate::client::{Inner, StorageClient};
use crate::error::ClientError;
use crate::leader::FailedKind;
use crate::node::Node;

/// Between two parts of one answer. A leader that says nothing for so long is hung or cut off.
const PART_TIMEOUT: Duration = Duration::from_secs(4);

/// What is known, and who waits to know more.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: Option<Known>,
    /// Callers since the running request was sent: the next request is theirs.
    waiting: Vec<oneshot::Sender<Result<Arc<View>, ClientError>>>,
    running: bool,
    /// What the running request's last attempt said, for callers whose time is over before its is.
    trouble: Option<String>,
    /// How often definitions have changed through this client.
    definitions: u64,
}

#[derive(Clone, Debug)]
struct Known {
    log_id: String,
    view: Arc<View>,
    /// How often they had when it was asked for.
    definitions: u64,
}

/// One whole answer, checked.
struct Answer {
    log_id: String,
    lsn: Lsn,
    full: bool,
    changes: Vec<Change>,
    rows: Vec<v1::SnapshotRows>,
}

impl StorageClient {
    /// The state of the database at or after every commit that was acknowledged, to anyone, before this call.
    ///
    /// Callers share a request only if it was sent after they asked; there is at most one on its way.
    pub async fn snapshot(&self) -> Result<Arc<View>, ClientError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.inner.snapshots.state.lock();
            state.waiting.push(sender);
            if !state.running {
                state.running = true;
                quire_kit::task::spawn("snapshots", serve(self.inner.clone()));
            }
        }
        let deadline = self.inner.deadlines.snapshot;
        match clock::timeout(deadline, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ClientError::Unavailable { reason: "the runtime is shutting down".to_string() }),
            Err(_) => {
                let last = self.inner.snapshots.state.lock().trouble.clone().unwrap_or_else(|| "no answer".to_string());
                Err(ClientError::Unavailable { reason: format!("no snapshot within {} s (last: {last})", deadline.as_secs()) })
            }
        }
    }

    /// The last snapshot that was taken, if it has every definition that was committed through this client.
    pub fn latest_view(&self) -> Option<Arc<View>> {
        let state = self.inner.snapshots.state.lock();
        state.known.as_ref().filter(|known| known.definitions == state.definitions).map(|known| known.view.clone())
    }

    /// Definitions have changed, or storage would have nothing to do with the last snapshot: [`StorageClient::latest_view`] waits for the next.
    pub(crate) fn outdate_view(&self) {
        self.inner.snapshots.state.lock().definitions += 1;
    }

    /// The last snapshot that was taken, for whoever will take a new one before it matters.
    pub fn known_view(&self) -> Option<Arc<View>> {
        self.inner.snapshots.state.lock().known.as_ref().map(|k| k.view.clone())
    }

    /// The log's id, if a snapshot has been taken.
    pub(crate) fn log_id(&self) -> Option<String> {
        self.inner.snapshots.state.lock().known.as_ref().map(|k| k.log_id.clone())
    }
}

/// Says, should the task end before its work does, that no request is running; callers left behind get an error instead of waiting.
struct Running {
    inner: Arc<Inner>,
    /// It has said so itself. From then on `running` may speak of another task.
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let mut state = self.inner.snapshots.state.lock();
            state.running = false;
            state.waiting.clear();
        }
    }
}

/// Sends one request after another while somebody waits.
async fn serve(inner: Arc<Inner>) {
    let mut running = Running { inner: inner.clone(), ended: false };
    let inner = &inner;
    loop {
        // Who is about to ask does so first, and shares the request.
        tokio::task::yield_now().await;
        let callers = {
            let mut state = inner.snapshots.state.lock();
            state.waiting.retain(|caller| !caller.is_closed());
            if state.waiting.is_empty() {
                // under the same lock as the check, so that a caller either is seen here or starts a task
                state.running = false;
                running.ended = true;
                return;
            }
            std::mem::take(&mut state.waiting)
        };
        metrics::histogram!("quire_client_snapshot_callers").record(callers.len() as f64);
        let result = Box::pin(refresh(inner)).await;
        for caller in callers {
            // a caller that gave up has dropped its end
            let _gone = caller.send(result.clone());
        }
    }
}

/// Asks for what changed and keeps the view that results.
async fn refresh(inner: &Arc<Inner>) -> Result<Arc<View>, ClientError> {
    let attempt = |node: Arc<Node>| async move {
        let (known, definitions) = {
            let state = inner.snapshots.state.lock();
            (state.known.clone(), state.definitions)
        };
        let result = ask(&node, known.as_ref()).await.and_then(|answer| advance(inner, known, answer, definitions));
        if let Err(status) = &result {
            inner.snapshots.state.lock().trouble = Some(crate::error::reason(node.address(), status));
        }
        result
    };
    // each part has its own timeout; a first answer for a large database may take long as a whole
    let deadline = inner.deadlines.snapshot;
    match inner.leader.call(deadline, deadline, attempt).await {
        Ok(view) => Ok(view),
        Err(failed) if failed.kind == FailedKind::Refused => Err(ClientError::Refused { reason: failed.reason }),
        Err(failed) => Err(ClientError::Unavailable { reason: failed.reason }),
    }
}

async fn ask(node: &Node, known: Option<&Known>) -> Result<Answer, Status> {
    let request =
        v1::SnapshotRequest { log_id: known.map(|k| k.log_id.clone()).unwrap_or_default(), known_lsn: known.map_or(0, |k| k.view.lsn.0) };
    let mut client = node.storage()?;
    let late = |_| Status::deadline_exceeded("no part of a snapshot in time");
    let mut parts = clock::timeout(PART_TIMEOUT, client.snapshot(request)).await.map_err(late)??.into_inner();
    let mut answer: Option<Answer> = None;
    while let Some(part) = clock::timeout(PART_TIMEOUT, parts.message()).await.map_err(late)?? {
        let answer = answer.get_or_insert_with(|| Answer {
            log_id: part.log_id.clone(),
            lsn: Lsn(part.lsn),
            full: part.full,
            changes: vec![],
            rows: vec![],
        });
        if answer.log_id != part.log_id || answer.lsn.0 != part.lsn || answer.full != part.full {
            return Err(Status::data_loss("the parts of a snapshot disagree"));
        }
        answer.rows.extend(part.rows);
        for change in part.changes {
            answer.changes.push(Change::try_from(change).map_err(|e| Status::data_loss(format!("malformed snapshot: {e}")))?);
        }
    }
    answer.ok_or_else(|| Status::data_loss("a snapshot without parts"))
}

/// Makes the view that `answer` describes, asked for after so many changes of definitions, and keeps it. Readers of the last view keep theirs.
fn advance(inner: &Inner, known: Option<Known>, answer: Answer, definitions: u64) -> Result<Arc<View>, Status> {
    inner.along.keep(&answer.log_id, answer.rows);
    let mut state = inner.snapshots.state.lock();
    let view = match known {
        _ if answer.full => {
            let mut view = View::default();
            view.apply(answer.lsn, &answer.changes);
            Arc::new(view)
        }
        Some(known) if known.log_id == answer.log_id && known.view.lsn <= answer.lsn => {
            if known.view.lsn == answer.lsn && answer.changes.is_empty() {
                known.view
            } else {
                let mut view = View::clone(&known.view);
                view.apply(answer.lsn, &answer.changes);
                Arc::new(view)
            }
        }
        _ => {
            // what we know is of no use to this leader: begin again from nothing
            state.known = None;
            return Err(Status::aborted("a snapshot does not continue the last one"));
        }
    };
    state.trouble = None;
    state.known = Some(Known { log_id: answer.log_id, view: view.clone(), definitions });
    Ok(view)
}
