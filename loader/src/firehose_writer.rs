//! Puts records into Firehose, a few calls at a time.
//!
//! Child of LoadSupervisor. Receives `Accept` and at last `FileEnded` from Validator; sends `Accepted` to LoadJournal
//! and at last `AllSent` to S3Lister.
//! Records that Firehose did not take are sent again alone. A Firehose that stays unavailable past the retry budget ends this try
//! of the load, and the supervisor starts another.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use speedtrap_actors::observe::Mailbox;
use tracing::{debug, info};

use crate::fault::{LoadFault, Remote};
use crate::load_journal::{AcceptedRecords, LoadJournalMsg};
use crate::pace::Pace;
use crate::pack::call_len;
use crate::ports::{Firehose, PortError, PutOutcome};
use crate::progress::Stage;
use crate::retry::Retry;
use crate::s3_lister::S3ListerMsg;
use crate::tasks::Tasks;
use crate::validator::{CreditedRecord, FileSummary};

pub(crate) struct FirehoseWriter;

pub(crate) enum FirehoseWriterMsg {
    Accept(CreditedRecord),
    /// `known` rows did not have to be sent again.
    FileEnded {
        file: FileSummary,
        known: u64,
    },
    /// A call ended; `Ok` tells what it brought.
    PutEnded(Result<PutEnd, LoadFault>),
    TaskCrashed(String),
}

impl ractor::Message for FirehoseWriterMsg {}

/// A batch that Firehose has taken in.
pub(crate) struct PutEnd {
    accepted: AcceptedRecords,
    was_held_back: bool,
}

pub(crate) struct FirehoseWriterArgs {
    pub(crate) firehose: Arc<dyn Firehose>,
    pub(crate) max_calls: usize,
    pub(crate) retry: Retry,
    pub(crate) lister: Mailbox<S3ListerMsg>,
    pub(crate) journal: Mailbox<LoadJournalMsg>,
}

pub(crate) struct FirehoseWriterState {
    args: FirehoseWriterArgs,
    tasks: Tasks<FirehoseWriterMsg>,
    queue: VecDeque<CreditedRecord>,
    calls: usize,
    pace: Pace,
    rows_sent: u64,
    file: Option<(FileSummary, u64)>,
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
        let tasks = Tasks::new(Mailbox::new(myself, Arc::clone(&args.retry.meter)), FirehoseWriterMsg::TaskCrashed);
        Ok(FirehoseWriterState { args, tasks, queue: VecDeque::new(), calls: 0, pace: Pace::default(), rows_sent: 0, file: None })
    }

    async fn handle(
        &self,
        _myself: ActorRef<FirehoseWriterMsg>,
        message: FirehoseWriterMsg,
        state: &mut FirehoseWriterState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            FirehoseWriterMsg::Accept(record) => state.queue.push_back(record),
            FirehoseWriterMsg::FileEnded { file, known } => state.file = Some((file, known)),
            FirehoseWriterMsg::PutEnded(end) => state.put_ended(end?)?,
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
            let retry = self.args.retry.clone();
            let pause = self.pace.pause(rand::random());
            self.calls += 1;
            self.tasks.run(async move {
                retry.pause(pause).await;
                let rows = batch.iter().map(|queued| queued.record.rows).sum();
                let lines = batch.iter().map(|queued| queued.record.lines).collect();
                let (records, credit) = batch.into_iter().map(|queued| (queued.record.data, queued.credit)).unzip();
                let put = put_all(firehose.as_ref(), records, &retry).await;
                let accepted = AcceptedRecords { lines, rows, credit };
                FirehoseWriterMsg::PutEnded(put.map(|was_held_back| PutEnd { accepted, was_held_back }))
            });
        }
    }

    fn put_ended(&mut self, PutEnd { accepted, was_held_back }: PutEnd) -> Result<(), ActorProcessingErr> {
        if self.rows_sent == 0 {
            info!(rows = accepted.rows, "first rows accepted by Firehose");
        }
        self.calls -= 1;
        self.pace.call_ended(was_held_back);
        self.rows_sent += accepted.rows;
        self.args.retry.progress.sent(self.rows_sent);
        self.args.journal.cast(LoadJournalMsg::Accepted(accepted))?;
        Ok(())
    }

    fn tell_end(&mut self) -> Result<(), ActorProcessingErr> {
        if self.calls > 0 || !self.queue.is_empty() {
            return Ok(());
        }
        if let Some((file, known)) = self.file.take() {
            info!(rows = self.rows_sent, known, "all rows accepted by Firehose");
            self.args.retry.progress.enters(Stage::Staging);
            self.args.lister.cast(S3ListerMsg::AllSent { file, sent: self.rows_sent + known })?;
        }
        Ok(())
    }
}

/// Puts records until Firehose has taken each of them, sending only those again that it did not take. As long as some get
/// through, the budget begins anew. True if some had to be sent again.
///
/// # Errors
/// When none gets through within the budget, or the call is refused.
pub(crate) async fn put_all(firehose: &dyn Firehose, mut records: Vec<Bytes>, retry: &Retry) -> Result<bool, LoadFault> {
    let mut tries = retry.tries(Remote::Firehose);
    let mut was_held_back = false;
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
                let Some(reason) = reason else { return Ok(was_held_back) };
                debug!(failed = records.len(), of = before, "Firehose did not take all records");
                if records.len() < before {
                    tries.progressed();
                }
                PortError::Throttled(reason)
            }
            Ok(outcomes) => PortError::Unavailable(format!("{} outcomes for {} records", outcomes.len(), records.len())),
            Err(error) => error,
        };
        was_held_back = true;
        tries.wait_after(error).await?;
    }
}
