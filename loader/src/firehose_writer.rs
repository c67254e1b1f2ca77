//! Puts records into Firehose, a few calls at a time.
//!
//! Child of LoadSupervisor. Receives `Accept` and at last `FileEnded` from CsvReader; sends `AllSent` to WarehouseCopier.
//! Records that Firehose did not take are sent again alone. A Firehose that stays unavailable past the retry budget ends this try
//! of the load, and the supervisor starts another.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use speedtrap_actors::flow::RetryBudget;
use speedtrap_actors::observe::{Mailbox, Meter};
use tracing::{debug, info};

use crate::csv_reader::{CreditedRecord, FileSummary};
use crate::fault::{LoadFault, Remote};
use crate::pack::call_len;
use crate::ports::{Firehose, PortError, PutOutcome};
use crate::progress::Progress;
use crate::retry::Tries;
use crate::tasks::Tasks;
use crate::warehouse_copier::WarehouseCopierMsg;

pub(crate) struct FirehoseWriter;

pub(crate) enum FirehoseWriterMsg {
    Accept(CreditedRecord),
    FileEnded(FileSummary),
    /// A call ended; `Ok` tells how many rows it brought.
    PutEnded(Result<u64, PortError>),
    TaskCrashed(String),
}

impl ractor::Message for FirehoseWriterMsg {}

pub(crate) struct FirehoseWriterArgs {
    pub(crate) firehose: Arc<dyn Firehose>,
    pub(crate) max_calls: usize,
    pub(crate) retry: RetryBudget,
    pub(crate) progress: Progress,
    pub(crate) copier: Mailbox<WarehouseCopierMsg>,
    pub(crate) meter: Arc<Meter>,
}

pub(crate) struct FirehoseWriterState {
    args: FirehoseWriterArgs,
    tasks: Tasks<FirehoseWriterMsg>,
    queue: VecDeque<CreditedRecord>,
    calls: usize,
    rows_sent: u64,
    file: Option<FileSummary>,
}

impl Actor for FirehoseWriter {
    type Msg = FirehoseWriterMsg;
    type State = FirehoseWriterState;
    type Arguments = FirehoseWriterArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<FirehoseWriterMsg>,
        args: FirehoseWriterArgs,
    ) -> Result<FirehoseWriterState, ActorProcessingErr> {
        let tasks = Tasks::new(Mailbox::new(myself, Arc::clone(&args.meter)), FirehoseWriterMsg::TaskCrashed);
        Ok(FirehoseWriterState { args, tasks, queue: VecDeque::new(), calls: 0, rows_sent: 0, file: None })
    }

    async fn handle(
        &self,
        _myself: ActorRef<FirehoseWriterMsg>,
        message: FirehoseWriterMsg,
        state: &mut FirehoseWriterState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            FirehoseWriterMsg::Accept(record) => state.queue.push_back(record),
            FirehoseWriterMsg::FileEnded(summary) => state.file = Some(summary),
            FirehoseWriterMsg::PutEnded(rows) => state.put_ended(rows.map_err(|error| Remote::Firehose.fault(error))?),
            FirehoseWriterMsg::TaskCrashed(reason) => return Err(LoadFault::Crashed(reason).into()),
        }
        state.start_calls();
        state.tell_end()
    }
}

impl FirehoseWriterState {
    /// Starts a call whenever one may run: the first ones are small, and while they run the next ones fill up.
    fn start_calls(&mut self) {
        while self.calls < self.args.max_calls && !self.queue.is_empty() {
            let n = call_len(self.queue.iter().map(|queued| queued.record.data.len()));
            let batch: Vec<CreditedRecord> = self.queue.drain(..n).collect();
            let firehose = Arc::clone(&self.args.firehose);
            let (retry, meter) = (self.args.retry, Arc::clone(&self.args.meter));
            self.calls += 1;
            self.tasks.run(async move {
                let rows = batch.iter().map(|queued| queued.record.rows).sum();
                let records = batch.iter().map(|queued| queued.record.data.clone()).collect();
                let put = put_all(firehose.as_ref(), records, retry, &meter).await;
                // Only now the batch is dropped and its credit returns to the reader.
                drop(batch);
                FirehoseWriterMsg::PutEnded(put.map(|()| rows))
            });
        }
    }

    fn put_ended(&mut self, rows: u64) {
        if self.rows_sent == 0 {
            info!(rows, "first rows accepted by Firehose");
        }
        self.calls -= 1;
        self.rows_sent += rows;
        self.args.progress.sent(self.rows_sent);
    }

    fn tell_end(&mut self) -> Result<(), ActorProcessingErr> {
        if self.calls > 0 || !self.queue.is_empty() {
            return Ok(());
        }
        if let Some(file) = self.file.take() {
            info!(rows = self.rows_sent, "all rows accepted by Firehose");
            self.args.copier.cast(WarehouseCopierMsg::AllSent { file, sent: self.rows_sent })?;
        }
        Ok(())
    }
}

/// Puts records until Firehose has taken each of them, sending only those again that it did not take. As long as some get
/// through, the budget begins anew.
///
/// # Errors
/// When none gets through within the budget, or the call is refused.
pub(crate) async fn put_all(
    firehose: &dyn Firehose,
    mut records: Vec<Bytes>,
    retry: RetryBudget,
    meter: &Arc<Meter>,
) -> Result<(), PortError> {
    let mut tries = Tries::new(retry, meter);
    loop {
        let error = match firehose.put(&records).await {
            Ok(outcomes) if outcomes.len() == records.len() => {
                let before = records.len();
                let mut reason = None;
                let failed = records.into_iter().zip(outcomes).filter_map(|(record, outcome)| match outcome {
                    PutOutcome::Accepted => None,
                    PutOutcome::Failed(why) => {
                        reason = Some(why);
                        Some(record)
                    }
                });
                records = failed.collect();
                let Some(reason) = reason else { return Ok(()) };
                debug!(failed = records.len(), of = before, "Firehose did not take all records");
                if records.len() < before {
                    tries.progressed();
                }
                PortError::Throttled(reason)
            }
            Ok(outcomes) => PortError::Unavailable(format!("{} outcomes for {} records", outcomes.len(), records.len())),
            Err(error) => error,
        };
        tries.wait_after(error).await?;
    }
}
