//! Waits until every row sent has arrived in the bucket, then brings them into the warehouse in one transaction.
//!
//! Child of LoadSupervisor. Tells it `ObjectsListed` once it knows which objects were there before this try sent anything, which
//! starts CsvReader, and `Committed` at the end. Receives `AllSent` from FirehoseWriter.
//! Firehose delivers at least once, late, and under keys that do not sort by time. So objects are told apart by a set of keys
//! already read, never by order, and rows by line number. Objects are read twice, once to count and once to copy: that way
//! neither rows nor an open transaction wait here for Firehose.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use speedtrap_actors::flow::RetryBudget;
use speedtrap_actors::observe::{Mailbox, Meter, Outlet};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::csv_reader::FileSummary;
use crate::fault::{LoadFault, Remote};
use crate::line_set::LineSet;
use crate::load_file::LoadFile;
use crate::load_ledger::{Committed, LoadFacts};
use crate::ports::{ObjectStore, PortError, Warehouse};
use crate::progress::Progress;
use crate::retry::{Tries, retried};
use crate::staged_objects::{self, StagedObject};
use crate::supervisor::LoadStep;
use crate::tasks::Tasks;

/// Chunks of rows between bucket and warehouse.
const CHUNKS_IN_FLIGHT: usize = 4;

pub(crate) struct WarehouseCopier;

pub(crate) enum WarehouseCopierMsg {
    ObjectsListed(Result<Vec<String>, PortError>),
    AllSent { file: FileSummary, sent: u64 },
    PollDue,
    ObjectsRead(Result<Vec<StagedObject>, PortError>),
    CommitEnded(Result<Committed, LoadFault>),
    TaskCrashed(String),
}

impl ractor::Message for WarehouseCopierMsg {}

pub(crate) struct WarehouseCopierArgs {
    pub(crate) file: LoadFile,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) warehouse: Arc<dyn Warehouse>,
    pub(crate) poll: Duration,
    /// How long rows may stay away after the last one was sent.
    pub(crate) staged_timeout: Duration,
    pub(crate) retry: RetryBudget,
    pub(crate) started_at: SystemTime,
    pub(crate) progress: Progress,
    pub(crate) supervisor: Outlet<LoadStep>,
    pub(crate) meter: Arc<Meter>,
}

pub(crate) struct WarehouseCopierState {
    args: WarehouseCopierArgs,
    tasks: Tasks<WarehouseCopierMsg>,
    phase: Phase,
    /// The ledger of keys: objects read, or there before.
    known: Arc<HashSet<String>>,
    /// Objects that hold rows of this load.
    ours: Vec<String>,
    staged: LineSet,
    sent: Option<Sent>,
}

struct Sent {
    file: FileSummary,
    rows: u64,
    deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Listing,
    Collecting,
    Committing,
}

impl Actor for WarehouseCopier {
    type Msg = WarehouseCopierMsg;
    type State = WarehouseCopierState;
    type Arguments = WarehouseCopierArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<WarehouseCopierMsg>,
        args: WarehouseCopierArgs,
    ) -> Result<WarehouseCopierState, ActorProcessingErr> {
        let tasks = Tasks::new(Mailbox::new(myself, Arc::clone(&args.meter)), WarehouseCopierMsg::TaskCrashed);
        let (known, ours, staged) = (Arc::default(), Vec::new(), LineSet::default());
        let mut state = WarehouseCopierState { args, tasks, phase: Phase::Listing, known, ours, staged, sent: None };
        state.list_objects();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<WarehouseCopierMsg>,
        message: WarehouseCopierMsg,
        state: &mut WarehouseCopierState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WarehouseCopierMsg::ObjectsListed(keys) => {
                state.known = Arc::new(keys.map_err(|error| Remote::Bucket.fault(error))?.into_iter().collect());
                state.phase = Phase::Collecting;
                state.args.supervisor.send(LoadStep::ObjectsListed)?;
                state.poll_later();
            }
            WarehouseCopierMsg::AllSent { file, sent } => {
                state.sent = Some(Sent { file, rows: sent, deadline: Instant::now() + state.args.staged_timeout });
                state.commit_if_complete();
            }
            WarehouseCopierMsg::PollDue => state.read_new_objects(),
            WarehouseCopierMsg::ObjectsRead(objects) => {
                state.note(objects.map_err(|error| Remote::Bucket.fault(error))?);
                state.commit_if_complete();
                state.check_deadline()?;
            }
            WarehouseCopierMsg::CommitEnded(committed) => state.tell_end(committed?)?,
            WarehouseCopierMsg::TaskCrashed(reason) => return Err(LoadFault::Crashed(reason).into()),
        }
        Ok(())
    }
}

impl WarehouseCopierState {
    fn list_objects(&mut self) {
        let (objects, retry, meter) = (Arc::clone(&self.args.objects), self.args.retry, Arc::clone(&self.args.meter));
        self.tasks.run(async move { WarehouseCopierMsg::ObjectsListed(retried(retry, &meter, || objects.keys()).await) });
    }

    fn poll_later(&self) {
        self.tasks.mailbox().cast_after(self.args.poll, || WarehouseCopierMsg::PollDue);
    }

    fn read_new_objects(&mut self) {
        if self.phase != Phase::Collecting {
            return;
        }
        let (objects, known, load_id) = (Arc::clone(&self.args.objects), Arc::clone(&self.known), self.args.file.load_id.clone());
        let (retry, meter) = (self.args.retry, Arc::clone(&self.args.meter));
        self.tasks.run(async move {
            let read = || staged_objects::read_new(objects.as_ref(), &known, &load_id);
            WarehouseCopierMsg::ObjectsRead(retried(retry, &meter, read).await)
        });
    }

    fn note(&mut self, objects: Vec<StagedObject>) {
        let known = Arc::make_mut(&mut self.known);
        for object in objects {
            let mut is_ours = false;
            for line in object.lines {
                is_ours |= self.staged.insert(line);
            }
            if is_ours {
                self.ours.push(object.key.clone());
            }
            known.insert(object.key);
        }
        self.args.progress.staged(self.staged.len());
        self.poll_later();
    }

    fn commit_if_complete(&mut self) {
        let Some(sent) = &self.sent else { return };
        if self.phase != Phase::Collecting || self.staged.len() < sent.rows {
            return;
        }
        info!(rows = sent.rows, objects = self.ours.len(), "all rows staged");
        self.phase = Phase::Committing;
        let load = LoadFacts {
            load_id: self.args.file.load_id.clone(),
            file: self.args.file.name.clone(),
            file_sha256: self.args.file.sha256.clone(),
            rows: sent.file.rows,
            rejected: sent.file.rejected,
            sent: sent.rows,
            started_at: self.args.started_at,
        };
        let (objects, warehouse, keys) = (Arc::clone(&self.args.objects), Arc::clone(&self.args.warehouse), self.ours.clone());
        let (retry, meter) = (self.args.retry, Arc::clone(&self.args.meter));
        self.tasks.run(async move {
            WarehouseCopierMsg::CommitEnded(commit(objects.as_ref(), warehouse.as_ref(), &keys, &load, retry, &meter).await)
        });
    }

    fn check_deadline(&self) -> Result<(), LoadFault> {
        match &self.sent {
            Some(sent) if self.phase == Phase::Collecting && Instant::now() >= sent.deadline => {
                let (staged, sent, waited) = (self.staged.len(), sent.rows, self.args.staged_timeout);
                Err(LoadFault::NotStaged { staged, sent, waited })
            }
            _ => Ok(()),
        }
    }

    fn tell_end(&mut self, committed: Committed) -> Result<(), ActorProcessingErr> {
        self.args.progress.merged(committed.merged);
        if let Some(sent) = self.sent.take() {
            let staged = self.staged.len();
            self.args.supervisor.send(LoadStep::Committed { file: sent.file, sent: sent.rows, staged, committed })?;
        }
        Ok(())
    }
}

/// Copies until the ledger has the load. A commit whose outcome is unknown is looked up before anything is done again; should it
/// still be under way, the next one waits for it at the ledger's lock and then finds its row.
async fn commit(
    objects: &dyn ObjectStore,
    warehouse: &dyn Warehouse,
    keys: &[String],
    load: &LoadFacts,
    retry: RetryBudget,
    meter: &Arc<Meter>,
) -> Result<Committed, LoadFault> {
    let mut tries = Tries::new(retry, meter);
    loop {
        let (rows, received) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let copied = staged_objects::copy_rows(objects, keys, &load.load_id, rows);
        let (copied, committed) = tokio::join!(copied, warehouse.commit_load(load, received));
        let error = match (copied, committed) {
            (Err(staged_objects::CopyFault::Altered(row)), _) => return Err(row.into()),
            (Err(staged_objects::CopyFault::Bucket(error)), _) => Remote::Bucket.fault(error),
            (Ok(()), Ok(committed)) => return Ok(committed),
            (Ok(()), Err(error)) => Remote::Warehouse.fault(error),
        };
        let LoadFault::Remote { remote, cause } = error else { return Err(error) };
        tries.wait_after(cause).await.map_err(|cause| remote.fault(cause))?;
        match warehouse.find_load(&load.load_id).await {
            Ok(Some(committed)) => return Ok(committed),
            Ok(None) => {}
            Err(error) => warn!(%error, "the outcome of the commit is not known yet"),
        }
    }
}
