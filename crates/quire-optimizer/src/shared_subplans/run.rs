//! A shared part while it runs: a task for each partition makes batches, and readers take them.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SpillFile, TaskContext};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::{ExecutionPlan, SpillManager};
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::batches::{Batches, Kept};

/// One execution of a shared part.
///
/// One input makes all partitions: which rows are in which of them may differ from one execution of the same plan to the next.
pub(super) struct Run {
    /// The consumer whose input it is.
    pub(super) owner: usize,
    input: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    partitions: Vec<Arc<Partition>>,
    /// They end with the run.
    tasks: Mutex<Vec<SpawnedTask<()>>>,
}

impl Run {
    /// A run for so many consumers. It makes nothing before somebody reads.
    pub(super) fn new(
        id: usize,
        consumers: usize,
        owner: usize,
        input: &Arc<dyn ExecutionPlan>,
        context: &Arc<TaskContext>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Run {
        let memory = MemoryConsumer::new(format!("SharedExec[{id}]")).with_can_spill(true).register(context.memory_pool());
        let memory = Arc::new(memory);
        let partition = |index| {
            let spill = SpillManager::new(context.runtime_env(), SpillMetrics::new(metrics, index), input.schema());
            Arc::new(Partition { batches: watch::Sender::new(Batches::new(consumers)), memory: memory.clone(), spill })
        };
        let partitions = (0..input.properties().partitioning.partition_count()).map(partition).collect();
        Run { owner, input: input.clone(), context: context.clone(), partitions, tasks: Mutex::default() }
    }

    /// A consumer comes to read a partition. False when it has been here before.
    pub(super) fn begin(&self, consumer: usize, partition: usize) -> bool {
        let mut begun = false;
        self.partitions[partition].batches.send_modify(|batches| begun = batches.begin(consumer));
        begun
    }

    /// Starts all partitions at once: inside the input they may wait for each other.
    fn start(&self) {
        let mut tasks = self.tasks.lock();
        if tasks.is_empty() {
            for (index, partition) in self.partitions.iter().enumerate() {
                tasks.push(SpawnedTask::spawn(partition.clone().make(self.input.clone(), index, self.context.clone())));
            }
        }
    }
}

/// One partition of a run.
struct Partition {
    batches: watch::Sender<Batches>,
    /// The run's, for batches in memory.
    memory: Arc<MemoryReservation>,
    spill: SpillManager,
}

/// Waits until `holds`.
async fn until(receiver: &mut watch::Receiver<Batches>, holds: fn(&Batches) -> bool) -> bool {
    receiver.wait_for(holds).await.is_ok()
}

impl Partition {
    /// Changes the batches, and gives back the memory that this frees.
    fn change(&self, change: impl FnOnce(&mut Batches) -> usize) {
        let mut freed = 0;
        self.batches.send_modify(|batches| freed = change(batches));
        self.memory.shrink(freed);
    }

    async fn make(self: Arc<Self>, input: Arc<dyn ExecutionPlan>, index: usize, context: Arc<TaskContext>) {
        // Dropped last: when a panic takes the task away, readers do not wait for ever.
        let _ended = Ended(self.clone());
        let result = self.make_all(&input, index, context).await;
        self.batches.send_modify(|batches| batches.finish(result));
    }

    async fn make_all(&self, input: &Arc<dyn ExecutionPlan>, index: usize, context: Arc<TaskContext>) -> Result<()> {
        let mut receiver = self.batches.subscribe();
        let mut stream = input.execute(index, context)?;
        loop {
            until(&mut receiver, |batches| batches.is_wanted() || batches.is_abandoned()).await;
            if self.batches.borrow().is_abandoned() {
                return Ok(());
            }
            let batch = tokio::select! {
                batch = stream.next() => batch,
                // Who read has gone; others may come, or never.
                _ = until(&mut receiver, |batches| !batches.is_read()) => continue,
            };
            match batch {
                None => return Ok(()),
                Some(batch) => self.keep(batch?)?,
            }
        }
    }

    fn keep(&self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let bytes = bytes_of(&batch)?;
        if self.memory.try_grow(bytes).is_ok() {
            self.change(|batches| batches.push(Kept::Memory { batch, bytes }));
            return Ok(());
        }
        // No memory for it: it goes to a file, and so does what is in memory already, to have room for the next ones.
        let (first, mut spilled) = self.batches.borrow().in_memory();
        spilled.push(batch);
        let file = self.spill.spill_record_batch_and_finish(&spilled, "SharedExec")?;
        let file = file.ok_or_else(|| DataFusionError::Internal("batches were spilled to no file".into()))?;
        self.change(|batches| batches.moved(first, &file));
        Ok(())
    }
}

struct Ended(Arc<Partition>);

impl Drop for Ended {
    fn drop(&mut self) {
        let error = DataFusionError::Execution("a shared part of the plan ended early".into());
        self.0.batches.send_modify(|batches| batches.finish(Err(error)));
    }
}

/// What a batch alone needs. An aggregate gives slices of one large batch: each counts for its own rows.
fn bytes_of(batch: &RecordBatch) -> Result<usize> {
    let mut bytes = 0;
    for column in batch.columns() {
        bytes += column.to_data().get_slice_memory_size()?;
        // That counts views, but not the text they point to.
        bytes += match column.data_type() {
            DataType::Utf8View => column.as_string_view().total_buffer_bytes_used(),
            DataType::BinaryView => column.as_binary_view().total_buffer_bytes_used(),
            _ => 0,
        };
    }
    Ok(bytes)
}

/// A consumer's way through one partition. It leaves when dropped.
pub(super) struct Reader {
    run: Arc<Run>,
    partition: Arc<Partition>,
    consumer: usize,
    receiver: watch::Receiver<Batches>,
    position: usize,
    file: Option<OpenFile>,
}

/// A file of spilled batches, read up to the batch at `place`.
struct OpenFile {
    file: Arc<dyn SpillFile>,
    place: usize,
    stream: SendableRecordBatchStream,
}

impl OpenFile {
    async fn next(&mut self) -> Result<RecordBatch> {
        self.place += 1;
        let batch = self.stream.next().await;
        batch.unwrap_or_else(|| Err(DataFusionError::Internal("a spilled batch is not in its file".into())))
    }
}

impl Reader {
    /// For a consumer that has begun.
    pub(super) fn new(run: Arc<Run>, consumer: usize, partition: usize) -> Reader {
        let partition = run.partitions[partition].clone();
        let receiver = partition.batches.subscribe();
        Reader { run, partition, consumer, receiver, position: 0, file: None }
    }

    /// The next batch; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.run.start();
        let position = self.position;
        let kept = match self.receiver.wait_for(|batches| batches.ready(position)).await {
            Ok(batches) => batches.at(position)?,
            Err(_) => return Err(DataFusionError::Internal("a shared part of the plan is gone".into())),
        };
        let batch = match kept {
            None => return Ok(None),
            Some(Kept::Memory { batch, .. }) => batch,
            Some(Kept::File { file, place }) => self.spilled(file, place).await?,
        };
        self.position += 1;
        self.partition.change(|batches| batches.advance(self.consumer, self.position));
        Ok(Some(batch))
    }

    async fn spilled(&mut self, file: Arc<dyn SpillFile>, place: usize) -> Result<RecordBatch> {
        let open = self.file.take().filter(|open| Arc::ptr_eq(&open.file, &file) && open.place == place);
        let mut open = match open {
            Some(open) => open,
            None => OpenFile { stream: self.partition.spill.read_spill_as_stream(file.clone(), None)?, file, place: 0 },
        };
        // Others may have read what is before it from memory.
        while open.place < place {
            open.next().await?;
        }
        let batch = open.next().await?;
        self.file = Some(open);
        Ok(batch)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.partition.change(|batches| batches.leave(self.consumer));
    }
}
