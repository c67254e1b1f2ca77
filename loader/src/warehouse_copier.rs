//! Brings the rows of a load from the bucket into the warehouse, in one transaction.
//!
//! Child of LoadSupervisor. Receives `Commit` from S3Lister once every row has arrived in the bucket; tells the supervisor
//! `Committed` at the end. A warehouse that stays away past the retry budget ends this try of the load.

use std::sync::Arc;
use std::time::SystemTime;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use speedtrap_actors::observe::{Mailbox, Outlet};
use tracing::warn;

use crate::fault::{LoadFault, Remote};
use crate::load_file::LoadFile;
use crate::load_ledger::{Committed, LoadFacts};
use crate::ports::{BucketRows, ObjectStore, Warehouse};
use crate::retry::Retry;
use crate::supervisor::LoadStep;
use crate::tasks::Tasks;
use crate::validator::FileSummary;
use crate::warehouse::Quarantine;

pub(crate) struct WarehouseCopier;

pub(crate) enum WarehouseCopierMsg {
    Commit(StagedLoad),
    CommitEnded(Result<Committed, LoadFault>),
    TaskCrashed(String),
}

impl ractor::Message for WarehouseCopierMsg {}

/// A load whose rows have all arrived in the bucket.
pub(crate) struct StagedLoad {
    pub(crate) file: FileSummary,
    /// Rows that Firehose accepted, each counted once.
    pub(crate) sent: u64,
    /// Rows found in the bucket, each counted once.
    pub(crate) staged: u64,
    /// The objects that hold them.
    pub(crate) keys: Vec<String>,
}

pub(crate) struct WarehouseCopierArgs {
    pub(crate) file: LoadFile,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) warehouse: Arc<dyn Warehouse>,
    pub(crate) quarantine: Quarantine,
    pub(crate) retry: Retry,
    pub(crate) started_at: SystemTime,
    pub(crate) supervisor: Outlet<LoadStep>,
}

pub(crate) struct WarehouseCopierState {
    args: WarehouseCopierArgs,
    tasks: Tasks<WarehouseCopierMsg>,
    /// What is being committed.
    load: Option<StagedLoad>,
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
        let tasks = Tasks::new(Mailbox::new(myself, Arc::clone(&args.retry.meter)), WarehouseCopierMsg::TaskCrashed);
        Ok(WarehouseCopierState { args, tasks, load: None })
    }

    async fn handle(
        &self,
        _myself: ActorRef<WarehouseCopierMsg>,
        message: WarehouseCopierMsg,
        state: &mut WarehouseCopierState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WarehouseCopierMsg::Commit(load) => state.commit(load),
            WarehouseCopierMsg::CommitEnded(committed) => state.tell_end(committed?)?,
            WarehouseCopierMsg::TaskCrashed(reason) => return Err(LoadFault::Crashed(reason).into()),
        }
        Ok(())
    }
}

impl WarehouseCopierState {
    fn commit(&mut self, staged: StagedLoad) {
        let load = LoadFacts {
            load_id: self.args.file.load_id.clone(),
            file: self.args.file.name.clone(),
            file_sha256: self.args.file.sha256.clone(),
            rows: staged.file.rows,
            rejected: staged.file.rejected,
            sent: staged.sent,
            started_at: self.args.started_at,
        };
        let (objects, warehouse, keys) = (Arc::clone(&self.args.objects), Arc::clone(&self.args.warehouse), staged.keys.clone());
        let (retry, quarantine) = (self.args.retry.clone(), self.args.quarantine.clone());
        self.load = Some(staged);
        self.tasks.run(async move {
            let rows = BucketRows { objects: objects.as_ref(), keys: &keys, quarantine: &quarantine };
            WarehouseCopierMsg::CommitEnded(commit(warehouse.as_ref(), &load, &rows, &retry).await)
        });
    }

    fn tell_end(&mut self, committed: Committed) -> Result<(), ActorProcessingErr> {
        self.args.retry.progress.merged(committed.merged);
        if let Some(StagedLoad { file, sent, staged, .. }) = self.load.take() {
            self.args.supervisor.send(LoadStep::Committed { file, sent, staged, committed })?;
        }
        Ok(())
    }
}

/// Copies until the ledger has the load. A commit whose outcome is unknown is looked up before anything is done again; should it
/// still be under way, the next one waits for it at the ledger's lock and then finds its row.
async fn commit(
    warehouse: &dyn Warehouse,
    load: &LoadFacts,
    rows: &BucketRows<'_>,
    retry: &Retry,
) -> Result<Committed, LoadFault> {
    let mut bucket_tries = retry.tries(Remote::Bucket);
    let mut warehouse_tries = retry.tries(Remote::Warehouse);
    loop {
        match warehouse.commit_load(load, rows).await {
            Ok(committed) => return Ok(committed),
            Err(LoadFault::Remote { remote: Remote::Warehouse, cause }) => warehouse_tries.wait_after(cause).await?,
            Err(LoadFault::Remote { cause, .. }) => bucket_tries.wait_after(cause).await?,
            Err(fault) => return Err(fault),
        }
        match warehouse.find_load(&load.load_id).await {
            Ok(Some(committed)) => return Ok(committed),
            Ok(None) => {}
            Err(error) => warn!(%error, "the outcome of the commit is not known yet"),
        }
    }
}
