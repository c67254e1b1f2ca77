//! Writes the journal of a load: what Firehose has accepted, at once; how far the load is, every second.
//!
//! Child of LoadSupervisor, the first to start. Receives `Accepted` from FirehoseWriter. The credit of a record comes back to
//! CsvReader only here, when the disk has the news: so a slow disk holds back the load instead of filling a queue. A journal that
//! cannot be written does not end the load.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use speedtrap_actors::observe::{Mailbox, Meter};
use tokio::sync::OwnedSemaphorePermit;

use crate::fault::LoadFault;
use crate::journal::{Sample, What};
use crate::journal_file::Journal;
use crate::progress::Progress;

/// How old what `status` shows may be.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct LoadJournal;

pub(crate) enum LoadJournalMsg {
    Accepted(AcceptedRecords),
    SampleDue,
}

impl ractor::Message for LoadJournalMsg {}

/// Records that Firehose has accepted, and the credit they were read for.
pub(crate) struct AcceptedRecords {
    pub(crate) lines: Vec<(u64, u64)>,
    pub(crate) rows: u64,
    pub(crate) credit: Vec<Arc<OwnedSemaphorePermit>>,
}

pub(crate) struct LoadJournalArgs {
    pub(crate) journal: Journal,
    pub(crate) progress: Progress,
    pub(crate) meter: Arc<Meter>,
}

pub(crate) struct LoadJournalState {
    journal: Journal,
    progress: Progress,
    mailbox: Mailbox<LoadJournalMsg>,
    last: Option<Sample>,
}

impl Actor for LoadJournal {
    type Msg = LoadJournalMsg;
    type State = LoadJournalState;
    type Arguments = LoadJournalArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<LoadJournalMsg>,
        args: LoadJournalArgs,
    ) -> Result<LoadJournalState, ActorProcessingErr> {
        let mailbox = Mailbox::new(myself, args.meter);
        mailbox.cast(LoadJournalMsg::SampleDue)?;
        Ok(LoadJournalState { journal: args.journal, progress: args.progress, mailbox, last: None })
    }

    async fn handle(
        &self,
        _myself: ActorRef<LoadJournalMsg>,
        message: LoadJournalMsg,
        state: &mut LoadJournalState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LoadJournalMsg::Accepted(AcceptedRecords { lines, rows, credit }) => {
                state.append(What::Accepted { lines, rows }).await?;
                drop(credit);
            }
            LoadJournalMsg::SampleDue => {
                state.sample().await?;
                state.mailbox.cast_after(SAMPLE_EVERY, || LoadJournalMsg::SampleDue);
            }
        }
        Ok(())
    }
}

impl LoadJournalState {
    async fn sample(&mut self) -> Result<(), LoadFault> {
        let sample = self.progress.sample();
        if self.last.as_ref() != Some(&sample) {
            self.append(What::Seen(sample.clone())).await?;
            self.last = Some(sample);
        }
        Ok(())
    }

    /// Waits for the disk, and so do the entries behind this one: their order matters.
    async fn append(&self, what: What) -> Result<(), LoadFault> {
        append(&self.journal, what).await
    }
}

/// Appends to a journal off the runtime.
pub(crate) async fn append(journal: &Journal, what: What) -> Result<(), LoadFault> {
    let journal = journal.clone();
    let written = tokio::task::spawn_blocking(move || journal.append(what)).await;
    written.map_err(|error| LoadFault::Crashed(error.to_string()))
}
