//! Looks into the bucket until every row sent has arrived there, and tells the copier which objects hold them.
//!
//! Child of LoadSupervisor. Tells it `Looked` once it has read what was there before this try, which starts CsvReader with the
//! rows that need not be sent. Receives `AllSent` from FirehoseWriter; sends `Commit` to WarehouseCopier.
//! Firehose delivers at least once, late, and under keys that do not sort by time. So objects are told apart by a set of keys
//! already read, never by order, and rows by line number. Objects are read twice, here to count and by the copier to copy: that
//! way neither rows nor an open transaction wait for Firehose. Rows that stay away past the timeout end this try of the load.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use speedtrap_actors::observe::{Mailbox, Outlet};
use tokio::time::Instant;
use tracing::info;

use crate::fault::{LoadFault, Remote};
use crate::line_set::LineSet;
use crate::ports::{Listing, ObjectStore};
use crate::progress::Stage;
use crate::retry::Retry;
use crate::staged_objects::{self, StagedObject};
use crate::supervisor::LoadStep;
use crate::tasks::Tasks;
use crate::validator::FileSummary;
use crate::warehouse_copier::{StagedLoad, WarehouseCopierMsg};

pub(crate) struct S3Lister;

pub(crate) enum S3ListerMsg {
    PollDue,
    Listed(Result<Listing, LoadFault>),
    ObjectRead(Result<StagedObject, LoadFault>),
    AllSent { file: FileSummary, sent: u64 },
    TaskCrashed(String),
}

impl ractor::Message for S3ListerMsg {}

pub(crate) struct S3ListerArgs {
    pub(crate) load_id: String,
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// Objects delivered before this time hold no row of the load.
    pub(crate) since: Option<SystemTime>,
    /// Nothing of the load has been sent yet, so what is there before is not even read.
    pub(crate) is_new: bool,
    pub(crate) poll: Duration,
    /// How long rows may stay away after the last one was sent.
    pub(crate) staged_timeout: Duration,
    pub(crate) retry: Retry,
    pub(crate) supervisor: Outlet<LoadStep>,
    pub(crate) copier: Mailbox<WarehouseCopierMsg>,
}

pub(crate) struct S3ListerState {
    args: S3ListerArgs,
    tasks: Tasks<S3ListerMsg>,
    has_looked: bool,
    /// Keys of objects read, or about to be.
    known: HashSet<String>,
    unread: VecDeque<String>,
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

impl Actor for S3Lister {
    type Msg = S3ListerMsg;
    type State = S3ListerState;
    type Arguments = S3ListerArgs;

    async fn pre_start(&self, myself: ActorRef<S3ListerMsg>, args: S3ListerArgs) -> Result<S3ListerState, ActorProcessingErr> {
        let tasks = Tasks::new(Mailbox::new(myself, Arc::clone(&args.retry.meter)), S3ListerMsg::TaskCrashed);
        let mut state = S3ListerState {
            args,
            tasks,
            has_looked: false,
            known: HashSet::new(),
            unread: VecDeque::new(),
            ours: Vec::new(),
            staged: LineSet::default(),
            sent: None,
        };
        state.list();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<S3ListerMsg>,
        message: S3ListerMsg,
        state: &mut S3ListerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            S3ListerMsg::PollDue => state.list(),
            S3ListerMsg::Listed(listing) => {
                let keys = listing?.keys;
                if state.args.is_new && !state.has_looked {
                    state.known.extend(keys);
                } else {
                    state.unread.extend(keys.into_iter().filter(|key| state.known.insert(key.clone())));
                }
                state.read_next()?;
            }
            S3ListerMsg::ObjectRead(object) => {
                state.note(&object?);
                state.read_next()?;
            }
            S3ListerMsg::AllSent { file, sent } => {
                let deadline = Instant::now() + state.args.staged_timeout;
                state.sent = Some(Sent { file, rows: sent, deadline });
                state.tell_if_complete()?;
            }
            S3ListerMsg::TaskCrashed(reason) => return Err(LoadFault::Crashed(reason).into()),
        }
        Ok(())
    }
}

impl S3ListerState {
    fn list(&mut self) {
        let (objects, since, retry) = (Arc::clone(&self.args.objects), self.args.since, self.args.retry.clone());
        self.tasks.run(async move { S3ListerMsg::Listed(retry.call(Remote::Bucket, || objects.list(since)).await) });
    }

    /// Reads one object after the other; with none left, this look has ended.
    fn read_next(&mut self) -> Result<(), ActorProcessingErr> {
        let Some(key) = self.unread.pop_front() else { return self.look_ended() };
        let (objects, load_id, retry) = (Arc::clone(&self.args.objects), self.args.load_id.clone(), self.args.retry.clone());
        self.tasks.run(async move {
            let read = || staged_objects::read_marks(objects.as_ref(), &key, &load_id);
            S3ListerMsg::ObjectRead(retry.call(Remote::Bucket, read).await)
        });
        Ok(())
    }

    fn note(&mut self, object: &StagedObject) {
        if object.lines.len() > 0 {
            self.ours.push(object.key.clone());
            self.staged.insert_all(&object.lines);
            self.args.retry.progress.staged(self.staged.len());
            self.args.retry.progress.objects(self.ours.len() as u64);
        }
    }

    fn look_ended(&mut self) -> Result<(), ActorProcessingErr> {
        if !self.has_looked {
            self.has_looked = true;
            self.args.supervisor.send(LoadStep::Looked { staged: self.staged.clone() })?;
        }
        if self.tell_if_complete()? {
            return Ok(());
        }
        if let Some(sent) = self.sent.as_ref().filter(|sent| Instant::now() >= sent.deadline) {
            let (staged, sent, waited) = (self.staged.len(), sent.rows, self.args.staged_timeout);
            return Err(LoadFault::NotStaged { staged, sent, waited }.into());
        }
        self.tasks.mailbox().cast_after(self.args.poll, || S3ListerMsg::PollDue);
        Ok(())
    }

    /// True if nothing more is to be looked for.
    fn tell_if_complete(&mut self) -> Result<bool, ActorProcessingErr> {
        let Some(sent) = self.sent.take_if(|sent| self.staged.len() >= sent.rows) else { return Ok(false) };
        info!(rows = sent.rows, objects = self.ours.len(), "all rows staged");
        self.args.retry.progress.enters(Stage::Committing);
        let keys = std::mem::take(&mut self.ours);
        let load = StagedLoad { file: sent.file, sent: sent.rows, staged: self.staged.len(), keys };
        self.args.copier.cast(WarehouseCopierMsg::Commit(load))?;
        Ok(true)
    }
}
