//! Keeps the actors of one load alive: CsvReader, Validator, FirehoseWriter, S3Lister, WarehouseCopier,
//! LoadJournal.
//!
//! Root of the loader's tree, one-for-all: when one child fails, all are ended and started again after a delay, and the rows
//! that Firehose has not accepted are sent. That may repeat rows in the bucket, not in the warehouse, where rows count once by
//! line. Accepted rows that never reach the bucket are sent once more. A fault that a restart cannot mend, and the one after the
//! last allowed restart, ends the load.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use speedtrap_actors::flow::{Backoff, RetryBudget};
use speedtrap_actors::observe::{ActorTable, Mailbox, Meter, Outlet, Spot};
use tokio::sync::oneshot;
use tracing::warn;

use crate::csv_reader::{CsvReader, CsvReaderArgs, CsvReaderMsg};
use crate::fault::LoadFault;
use crate::firehose_writer::{FirehoseWriter, FirehoseWriterArgs};
use crate::journal::What;
use crate::journal_file::Journal;
use crate::line_set::LineSet;
use crate::load_file::LoadFile;
use crate::load_journal::{self, LoadJournal, LoadJournalArgs};
use crate::load_ledger::Committed;
use crate::ports::{Firehose, ObjectStore, Warehouse};
use crate::progress::{Progress, Stage};
use crate::retry::Retry;
use crate::s3_lister::{S3Lister, S3ListerArgs};
use crate::validator::{FileSummary, Validator, ValidatorArgs};
use crate::warehouse::Quarantine;
use crate::warehouse_copier::{WarehouseCopier, WarehouseCopierArgs};

/// How long ended children may take to be gone.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) struct LoadSupervisor;

pub(crate) enum LoadSupervisorMsg {
    StartChildren,
    /// Something happened in the tree of this generation; those of earlier ones no longer count.
    Stepped(u32, LoadStep),
}

impl ractor::Message for LoadSupervisorMsg {}

/// What lister and copier tell.
#[derive(Debug)]
pub(crate) enum LoadStep {
    /// What was in the bucket before is known; the rows that are not may be sent.
    Looked {
        staged: LineSet,
    },
    Committed {
        file: FileSummary,
        sent: u64,
        staged: u64,
        committed: Committed,
    },
}

/// The end of a load that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadEnd {
    pub(crate) file: FileSummary,
    pub(crate) sent: u64,
    pub(crate) staged: u64,
    pub(crate) committed: Committed,
}

/// The outside of a load.
#[derive(Clone)]
pub(crate) struct LoadPorts {
    pub(crate) firehose: Arc<dyn Firehose>,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) warehouse: Arc<dyn Warehouse>,
}

/// How a load is done.
#[derive(Clone)]
pub(crate) struct LoadPlan {
    pub(crate) file: LoadFile,
    pub(crate) rejects_dir: std::path::PathBuf,
    pub(crate) record_bytes: usize,
    pub(crate) credit: usize,
    pub(crate) max_calls: usize,
    /// Objects delivered before this time hold no row of the load.
    pub(crate) since: Option<SystemTime>,
    /// Whether no earlier process has sent rows of it.
    pub(crate) is_new: bool,
    pub(crate) poll: Duration,
    pub(crate) staged_timeout: Duration,
    pub(crate) retry: RetryBudget,
    pub(crate) restart: Backoff,
    pub(crate) journal: Journal,
    pub(crate) max_restarts: u32,
}

pub(crate) struct LoadSupervisorArgs {
    pub(crate) plan: LoadPlan,
    pub(crate) ports: LoadPorts,
    pub(crate) actors: ActorTable,
    pub(crate) progress: Progress,
    pub(crate) ended: oneshot::Sender<Result<LoadEnd, LoadFault>>,
    pub(crate) meter: Arc<Meter>,
}

pub(crate) struct LoadSupervisorState {
    plan: LoadPlan,
    ports: LoadPorts,
    actors: ActorTable,
    progress: Progress,
    ended: Option<oneshot::Sender<Result<LoadEnd, LoadFault>>>,
    mailbox: Mailbox<LoadSupervisorMsg>,
    spot: Spot,
    started_at: SystemTime,
    generation: u32,
    /// Whether accepted rows were sent once more.
    has_resent: bool,
    children: Vec<(Spot, ActorCell)>,
    reader: Option<Mailbox<CsvReaderMsg>>,
}

impl LoadSupervisor {
    /// Starts the tree of one load.
    ///
    /// # Errors
    /// When the supervisor itself cannot be started.
    pub(crate) async fn start(
        plan: LoadPlan,
        ports: LoadPorts,
        actors: &ActorTable,
        progress: Progress,
    ) -> Result<(ActorCell, oneshot::Receiver<Result<LoadEnd, LoadFault>>), SpawnErr> {
        let (ended, end) = oneshot::channel();
        let table = actors.clone();
        let spot = Spot::root("LoadSupervisor", "load");
        let args = |meter| LoadSupervisorArgs { plan, ports, actors: table, progress, ended, meter };
        let supervisor = actors.spawn(&spot, None, Self, args).await?;
        Ok((supervisor.cell(), end))
    }
}

impl Actor for LoadSupervisor {
    type Msg = LoadSupervisorMsg;
    type State = LoadSupervisorState;
    type Arguments = LoadSupervisorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<LoadSupervisorMsg>,
        args: LoadSupervisorArgs,
    ) -> Result<LoadSupervisorState, ActorProcessingErr> {
        let mailbox = Mailbox::new(myself, args.meter);
        mailbox.cast(LoadSupervisorMsg::StartChildren)?;
        Ok(LoadSupervisorState {
            plan: args.plan,
            ports: args.ports,
            actors: args.actors,
            progress: args.progress,
            ended: Some(args.ended),
            mailbox,
            spot: Spot::root("LoadSupervisor", "load"),
            started_at: SystemTime::now(),
            generation: 0,
            has_resent: false,
            children: Vec::new(),
            reader: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<LoadSupervisorMsg>,
        message: LoadSupervisorMsg,
        state: &mut LoadSupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LoadSupervisorMsg::StartChildren => state.start_children(myself.get_cell()).await?,
            LoadSupervisorMsg::Stepped(generation, _) if generation != state.generation => {}
            LoadSupervisorMsg::Stepped(_, LoadStep::Looked { staged }) => {
                let mut known = staged;
                known.insert_all(&state.plan.journal.state().accepted);
                state.progress.enters(Stage::Sending);
                if let Some(reader) = &state.reader {
                    // A reader that is gone is reported as a failed child.
                    let _gone = reader.cast(CsvReaderMsg::ReadFile(known));
                }
            }
            LoadSupervisorMsg::Stepped(_, LoadStep::Committed { file, sent, staged, committed }) => {
                state.end(Ok(LoadEnd { file, sent, staged, committed })).await;
                myself.stop(None);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<LoadSupervisorMsg>,
        event: SupervisionEvent,
        state: &mut LoadSupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let (child, fault) = match event {
            SupervisionEvent::ActorFailed(child, error) => (child, fault_of(error)),
            SupervisionEvent::ActorTerminated(child, _, reason) => {
                (child, LoadFault::Crashed(reason.unwrap_or_else(|| "it stopped unasked".to_owned())))
            }
            _ => return Ok(()),
        };
        if state.child_failed(child.get_id(), fault).await {
            myself.stop(None);
        }
        Ok(())
    }
}

impl LoadSupervisorState {
    /// Starts the children from the last one to the first, so that each has somebody to send to.
    async fn start_children(&mut self, myself: ActorCell) -> Result<(), SpawnErr> {
        self.generation += 1;
        let generation = self.generation;
        let mailbox = self.mailbox.clone();
        let supervisor = Outlet::new(move |step| mailbox.cast(LoadSupervisorMsg::Stepped(generation, step)));
        let (plan, ports, progress) = (self.plan.clone(), self.ports.clone(), self.progress.clone());

        let spot = self.spot.child("LoadJournal", "load_journal");
        let args = |meter| LoadJournalArgs { journal: plan.journal.clone(), progress: progress.clone(), meter };
        let journal = self.actors.spawn(&spot, Some(myself.clone()), LoadJournal, args).await?;
        self.children.push((spot, journal.cell()));

        let spot = self.spot.child("WarehouseCopier", "warehouse_copier");
        let retry = |meter| Retry { budget: plan.retry, meter, progress: progress.clone() };
        let args = |meter| WarehouseCopierArgs {
            file: plan.file.clone(),
            objects: Arc::clone(&ports.objects),
            warehouse: ports.warehouse,
            quarantine: Quarantine { folder: plan.rejects_dir.clone(), file: plan.file.clone(), progress: progress.clone() },
            retry: retry(meter),
            started_at: self.started_at,
            supervisor: supervisor.clone(),
        };
        let copier = self.actors.spawn(&spot, Some(myself.clone()), WarehouseCopier, args).await?;
        self.children.push((spot, copier.cell()));

        let spot = self.spot.child("S3Lister", "s3_lister");
        let args = |meter| S3ListerArgs {
            load_id: plan.file.load_id.clone(),
            objects: ports.objects,
            since: plan.since,
            is_new: plan.is_new && generation == 1,
            poll: plan.poll,
            staged_timeout: plan.staged_timeout,
            retry: retry(meter),
            supervisor,
            copier,
        };
        let lister = self.actors.spawn(&spot, Some(myself.clone()), S3Lister, args).await?;
        self.children.push((spot, lister.cell()));

        let spot = self.spot.child("FirehoseWriter", "firehose_writer");
        let (firehose, max_calls) = (ports.firehose, plan.max_calls);
        let args = |meter| FirehoseWriterArgs { firehose, max_calls, retry: retry(meter), lister, journal };
        let writer = self.actors.spawn(&spot, Some(myself.clone()), FirehoseWriter, args).await?;
        self.children.push((spot, writer.cell()));

        let spot = self.spot.child("Validator", "validator");
        let (file, rejects_dir, record_bytes) = (plan.file.clone(), plan.rejects_dir, plan.record_bytes);
        let args = |meter| ValidatorArgs { file, rejects_dir, record_bytes, progress: progress.clone(), writer, meter };
        let validator = self.actors.spawn(&spot, Some(myself.clone()), Validator, args).await?;
        self.children.push((spot, validator.cell()));

        let spot = self.spot.child("CsvReader", "csv_reader");
        let args = |meter| CsvReaderArgs { file: plan.file, record_bytes, credit: plan.credit, progress, validator, meter };
        let reader = self.actors.spawn(&spot, Some(myself), CsvReader, args).await?;
        self.children.push((spot, reader.cell()));
        self.reader = Some(reader);
        Ok(())
    }

    /// Answers a child's end; true if the load is over.
    async fn child_failed(&mut self, child: ActorId, fault: LoadFault) -> bool {
        // Children of an earlier generation, and those ended below, are not in the list.
        let Some(path) = self.children.iter().find(|(_, cell)| cell.get_id() == child).map(|(spot, _)| spot.path.clone()) else {
            return false;
        };
        self.end_children().await;
        let restarts = self.generation - 1;
        if matches!(fault, LoadFault::NotStaged { .. }) && !self.has_resent {
            self.has_resent = true;
            if let Err(fault) = load_journal::append(&self.plan.journal, What::Forgotten).await {
                self.end(Err(fault)).await;
                return true;
            }
            self.start_again(&path, &fault, Duration::ZERO);
            return false;
        }
        if !fault.is_worth_a_restart() {
            self.end(Err(fault)).await;
            return true;
        }
        if restarts >= self.plan.max_restarts {
            self.end(Err(LoadFault::GaveUp { restarts, last: Box::new(fault) })).await;
            return true;
        }
        self.start_again(&path, &fault, self.plan.restart.delay(restarts, rand::random()));
        false
    }

    fn start_again(&self, path: &str, fault: &LoadFault, delay: Duration) {
        warn!(actor = path, reason = %fault, delay_ms = delay.as_millis(), "the load starts again");
        self.actors.failed(path, &fault.to_string());
        self.progress.restarted();
        self.mailbox.cast_after(delay, || LoadSupervisorMsg::StartChildren);
    }

    /// Two generations must not run side by side: both would write the same rejects file.
    async fn end_children(&mut self) {
        self.reader = None;
        for (spot, cell) in self.children.drain(..) {
            if cell.kill_and_wait(Some(GRACE)).await.is_err() {
                warn!(actor = spot.path, "an ended actor is still busy");
            }
            self.actors.backing_off(&spot.path);
        }
    }

    async fn end(&mut self, result: Result<LoadEnd, LoadFault>) {
        self.end_children().await;
        if let Some(ended) = self.ended.take() {
            // Whoever waited has been interrupted.
            let _nobody = ended.send(result);
        }
    }
}

/// Our actors fail with a [`LoadFault`]; anything else is a panic.
fn fault_of(error: ActorProcessingErr) -> LoadFault {
    match error.downcast::<LoadFault>() {
        Ok(fault) => *fault,
        Err(other) => LoadFault::Crashed(other.to_string()),
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
