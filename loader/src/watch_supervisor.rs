//! Loads every file that comes into a folder, one after the other, the oldest first.
//!
//! Root of the tree of `watch`: keeps FileWatcher alive, with backoff, and runs a load's own tree for each file. Receives `Looked`
//! from FileWatcher; tells whoever started it of each load that ended. A file whose load failed for a passing reason is tried
//! again, with backoff and without end; one that is wrong itself waits until it is changed. Between loads it tells nodes of
//! commits that they could not be told of.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use speedtrap_actors::flow::Backoff;
use speedtrap_actors::observe::{ActorTable, Mailbox, Meter, Spot};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::fault::LoadFault;
use crate::file_watcher::{FileWatcher, FileWatcherArgs, Look, WatchPlan};
use crate::load::Loader;
use crate::progress::Progress;
use crate::report::LoadReport;
use crate::settle::{Found, Settle, Shape};
use crate::tasks::Tasks;

/// How often nodes are told of what they could not be told of.
const SETTLE_EVERY: Duration = Duration::from_secs(30);

const RESTART: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(30) };
const RETRY: Backoff = Backoff { first: Duration::from_secs(4), most: Duration::from_secs(5 * 60) };

pub(crate) struct WatchSupervisor;

pub(crate) enum WatchSupervisorMsg {
    StartWatcher,
    Looked(Look),
    LoadEnded(Box<Ended>),
    RetryDue(Waiting),
    SettleDue,
    Settled,
    TaskCrashed(String),
}

impl ractor::Message for WatchSupervisorMsg {}

/// A file that is to be loaded.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    path: PathBuf,
    shape: Shape,
    failures: u32,
}

pub(crate) struct Ended {
    file: Waiting,
    result: Result<LoadReport, LoadFault>,
}

/// What became of a file.
pub(crate) enum Told {
    Loaded(LoadReport),
    Failed {
        path: PathBuf,
        fault: LoadFault,
        retry_in: Option<Duration>,
    },
    /// Every file that was there has been tried.
    AllTried,
}

pub(crate) struct WatchSupervisorArgs {
    pub(crate) plan: WatchPlan,
    pub(crate) loader: Arc<Loader>,
    /// Shapes of files that are known to be loaded.
    pub(crate) settle: Settle,
    pub(crate) interrupted: watch::Receiver<bool>,
    pub(crate) told: mpsc::Sender<Told>,
    pub(crate) actors: ActorTable,
    pub(crate) meter: Arc<Meter>,
}

pub(crate) struct WatchSupervisorState {
    plan: WatchPlan,
    loader: Arc<Loader>,
    settle: Arc<Mutex<Settle>>,
    interrupted: watch::Receiver<bool>,
    told: mpsc::Sender<Told>,
    actors: ActorTable,
    tasks: Tasks<WatchSupervisorMsg>,
    spot: Spot,
    watcher: Option<ActorCell>,
    restarts: u32,
    /// Bounded by the number of files in the folder: each is in it at most once for each of its shapes.
    queue: VecDeque<Waiting>,
    is_loading: bool,
    is_settled: bool,
}

impl Actor for WatchSupervisor {
    type Msg = WatchSupervisorMsg;
    type State = WatchSupervisorState;
    type Arguments = WatchSupervisorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<WatchSupervisorMsg>,
        args: WatchSupervisorArgs,
    ) -> Result<WatchSupervisorState, ActorProcessingErr> {
        let mailbox = Mailbox::new(myself, args.meter);
        mailbox.cast(WatchSupervisorMsg::StartWatcher)?;
        mailbox.cast(WatchSupervisorMsg::SettleDue)?;
        Ok(WatchSupervisorState {
            plan: args.plan,
            loader: args.loader,
            settle: Arc::new(Mutex::new(args.settle)),
            interrupted: args.interrupted,
            told: args.told,
            actors: args.actors,
            tasks: Tasks::new(mailbox, WatchSupervisorMsg::TaskCrashed),
            spot: Spot::root("WatchSupervisor", "watch"),
            watcher: None,
            restarts: 0,
            queue: VecDeque::new(),
            is_loading: false,
            is_settled: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<WatchSupervisorMsg>,
        message: WatchSupervisorMsg,
        state: &mut WatchSupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WatchSupervisorMsg::StartWatcher => state.start_watcher(myself.get_cell()).await?,
            WatchSupervisorMsg::Looked(look) => {
                state.restarts = 0;
                state.is_settled = look.unsettled == 0;
                state.queue.extend(look.complete.into_iter().map(Waiting::of));
            }
            WatchSupervisorMsg::LoadEnded(ended) => {
                state.is_loading = false;
                state.load_ended(*ended).await?;
            }
            WatchSupervisorMsg::RetryDue(file) => state.queue.push_back(file),
            WatchSupervisorMsg::SettleDue => {
                let loader = Arc::clone(&state.loader);
                state.tasks.run(async move {
                    loader.settle_earlier_loads().await;
                    WatchSupervisorMsg::Settled
                });
            }
            WatchSupervisorMsg::Settled => state.tasks.mailbox().cast_after(SETTLE_EVERY, || WatchSupervisorMsg::SettleDue),
            WatchSupervisorMsg::TaskCrashed(reason) => return Err(LoadFault::Crashed(reason).into()),
        }
        state.load_next().await
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<WatchSupervisorMsg>,
        event: SupervisionEvent,
        state: &mut WatchSupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let (child, reason) = match event {
            SupervisionEvent::ActorFailed(child, error) => (child, error.to_string()),
            SupervisionEvent::ActorTerminated(child, _, reason) => (child, reason.unwrap_or_default()),
            _ => return Ok(()),
        };
        if state.watcher.as_ref().is_some_and(|watcher| watcher.get_id() == child.get_id()) {
            state.watcher_failed(&reason);
        }
        Ok(())
    }
}

impl WatchSupervisorState {
    async fn start_watcher(&mut self, myself: ActorCell) -> Result<(), SpawnErr> {
        let spot = self.spot.child("FileWatcher", "file_watcher");
        let (plan, settle) = (self.plan.clone(), Arc::clone(&self.settle));
        let supervisor = self.tasks.mailbox().outlet(WatchSupervisorMsg::Looked);
        let args = |meter| FileWatcherArgs { plan, settle, supervisor, meter };
        self.watcher = Some(self.actors.spawn(&spot, Some(myself), FileWatcher, args).await?.cell());
        Ok(())
    }

    fn watcher_failed(&mut self, reason: &str) {
        self.watcher = None;
        let delay = RESTART.delay(self.restarts, rand::random());
        self.restarts += 1;
        warn!(reason, delay_ms = delay.as_millis(), "the folder's watcher starts again");
        self.tasks.mailbox().cast_after(delay, || WatchSupervisorMsg::StartWatcher);
    }

    async fn load_next(&mut self) -> Result<(), ActorProcessingErr> {
        if self.is_loading {
            return Ok(());
        }
        let Some(file) = self.queue.pop_front() else {
            if std::mem::take(&mut self.is_settled) {
                // Nobody listens any more: then somebody stops this actor.
                let _nobody = self.told.send(Told::AllTried).await;
            }
            return Ok(());
        };
        self.is_loading = true;
        let (loader, mut interrupted) = (Arc::clone(&self.loader), self.interrupted.clone());
        self.tasks.run(async move {
            let stop = Box::pin(async move {
                if interrupted.wait_for(|is| *is).await.is_err() {
                    std::future::pending::<()>().await;
                }
            });
            let result = loader.load(&file.path, &Progress::default(), stop).await;
            WatchSupervisorMsg::LoadEnded(Box::new(Ended { file, result }))
        });
        Ok(())
    }

    async fn load_ended(&mut self, Ended { mut file, result }: Ended) -> Result<(), ActorProcessingErr> {
        let fault = match result {
            Ok(report) => {
                let _nobody = self.told.send(Told::Loaded(report)).await;
                return Ok(());
            }
            // It got another name meanwhile, under which the next look finds it.
            Err(LoadFault::FileMissing { .. }) => {
                self.settle.lock().unwrap_or_else(PoisonError::into_inner).forget(file.shape);
                return Ok(());
            }
            Err(fault) => fault,
        };
        let retry_in = (!fault.is_final()).then(|| RETRY.delay(file.failures, rand::random()));
        let path = file.path.clone();
        if let Some(delay) = retry_in {
            file.failures += 1;
            self.tasks.mailbox().cast_after(delay, || WatchSupervisorMsg::RetryDue(file));
        }
        let _nobody = self.told.send(Told::Failed { path, fault, retry_in }).await;
        Ok(())
    }
}

impl Waiting {
    fn of(file: Found) -> Self {
        Self { path: file.path, shape: file.shape, failures: 0 }
    }
}
