//! What a statement cost, for its log event.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;

use crate::scan_exec::SCAN_NAME;

/// What a session's last statement did below SQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Snapshots it was tried on again after losing to another transaction.
    pub retries: u64,
    /// Rows that its scans looked at.
    pub rows_scanned: u64,
    /// Pages found decoded in memory.
    pub pages_memory: u64,
    /// Pages from this node's disk.
    pub pages_disk: u64,
    /// Pages from storage.
    pub pages_remote: u64,
    /// Decoded bytes of pages found in memory.
    pub bytes_memory: u64,
    /// Encoded bytes from this node's disk.
    pub bytes_disk: u64,
    /// Encoded bytes from storage.
    pub bytes_remote: u64,
}

/// Where the figures are while a statement runs. The plan counts; whoever logs reads it when the rows have been sent.
#[derive(Default)]
pub(crate) struct Running {
    pub(crate) retries: u64,
    pub(crate) plan: Option<Arc<dyn ExecutionPlan>>,
}

impl Running {
    /// The figures so far.
    pub(crate) fn figures(&self) -> Work {
        let mut work = Work { retries: self.retries, ..Work::default() };
        if let Some(plan) = &self.plan {
            add_scans(plan, &mut work);
        }
        work
    }
}

fn add_scans(plan: &Arc<dyn ExecutionPlan>, work: &mut Work) {
    if plan.name() == SCAN_NAME
        && let Some(metrics) = plan.metrics()
    {
        let read = |name: &str| metrics.sum_by_name(name).map_or(0, |v| v.as_usize() as u64);
        work.rows_scanned += read("rows_scanned");
        work.pages_memory += read("pages_memory");
        work.pages_disk += read("pages_disk");
        work.pages_remote += read("pages_remote");
        work.bytes_memory += read("bytes_memory");
        work.bytes_disk += read("bytes_disk");
        work.bytes_remote += read("bytes_remote");
    }
    plan.children().into_iter().for_each(|child| add_scans(child, work));
}
