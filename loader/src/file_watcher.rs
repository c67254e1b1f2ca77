//! Looks into a folder for files that are complete.
//!
//! Child of WatchSupervisor. Sends it `Looked` after each look, with the files that are complete now. It looks when the system
//! tells of a change, and every few seconds in any case: network folders tell nothing, and queues of news overflow. What it has
//! given out is kept by the supervisor, so a new incarnation gives nothing out twice. A folder that cannot be read ends it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use notify::event::{EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use speedtrap_actors::observe::{Mailbox, Meter, Outlet};
use tokio::time::Instant;
use tracing::warn;

use crate::fault::LoadFault;
use crate::journal::FileMark;
use crate::load_file::unreadable;
use crate::settle::{Found, Settle, Shape};
use crate::tasks::Tasks;

/// Names of files moved in that are remembered until the next look; the others wait until they have stood still.
const MOST_MOVED_IN: usize = 10_000;

pub(crate) struct FileWatcher;

pub(crate) enum FileWatcherMsg {
    LookDue,
    /// The system told of a change.
    Changed,
    Listed(Result<Vec<Found>, LoadFault>),
    TaskCrashed(String),
}

impl ractor::Message for FileWatcherMsg {}

/// What to watch, and how.
#[derive(Debug, Clone)]
pub(crate) struct WatchPlan {
    pub(crate) folder: PathBuf,
    pub(crate) pattern: glob::Pattern,
    /// How long a file must stand still.
    pub(crate) settle: Duration,
    /// Pause between two looks.
    pub(crate) poll: Duration,
}

pub(crate) struct FileWatcherArgs {
    pub(crate) plan: WatchPlan,
    /// Shared with later incarnations.
    pub(crate) settle: Arc<Mutex<Settle>>,
    pub(crate) supervisor: Outlet<Look>,
    pub(crate) meter: Arc<Meter>,
}

/// What one look gave.
pub(crate) struct Look {
    pub(crate) complete: Vec<Found>,
    /// Files that still change.
    pub(crate) unsettled: usize,
}

pub(crate) struct FileWatcherState {
    args: FileWatcherArgs,
    tasks: Tasks<FileWatcherMsg>,
    news: Arc<Mutex<News>>,
    is_looking: bool,
    /// Kept for its thread, which tells of changes.
    _system: Option<RecommendedWatcher>,
}

/// What the system told since the last look.
#[derive(Default)]
struct News {
    moved_in: HashSet<PathBuf>,
    /// Whether the actor has been told already: its mailbox holds one such message at most.
    is_told: bool,
}

impl Actor for FileWatcher {
    type Msg = FileWatcherMsg;
    type State = FileWatcherState;
    type Arguments = FileWatcherArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<FileWatcherMsg>,
        args: FileWatcherArgs,
    ) -> Result<FileWatcherState, ActorProcessingErr> {
        let mailbox = Mailbox::new(myself, Arc::clone(&args.meter));
        let news = Arc::new(Mutex::new(News::default()));
        let system = watch_system(&args.plan.folder, mailbox.clone(), Arc::clone(&news));
        mailbox.cast(FileWatcherMsg::LookDue)?;
        let tasks = Tasks::new(mailbox, FileWatcherMsg::TaskCrashed);
        Ok(FileWatcherState { args, tasks, news, is_looking: false, _system: system })
    }

    async fn handle(
        &self,
        _myself: ActorRef<FileWatcherMsg>,
        message: FileWatcherMsg,
        state: &mut FileWatcherState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            FileWatcherMsg::LookDue => {
                state.list();
                state.tasks.mailbox().cast_after(state.args.plan.poll, || FileWatcherMsg::LookDue);
            }
            FileWatcherMsg::Changed => state.list(),
            FileWatcherMsg::Listed(files) => {
                state.is_looking = false;
                state.look(files?)?;
            }
            FileWatcherMsg::TaskCrashed(reason) => return Err(LoadFault::Crashed(reason).into()),
        }
        Ok(())
    }
}

impl FileWatcherState {
    /// News that comes while it looks is seen at the next look.
    fn list(&mut self) {
        if self.is_looking {
            return;
        }
        self.is_looking = true;
        let plan = self.args.plan.clone();
        self.tasks.run(async move {
            match tokio::task::spawn_blocking(move || files_of(&plan)).await {
                Ok(files) => FileWatcherMsg::Listed(files),
                Err(error) => FileWatcherMsg::TaskCrashed(error.to_string()),
            }
        });
    }

    fn look(&mut self, files: Vec<Found>) -> Result<(), ActorProcessingErr> {
        let news = std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner));
        let looked = self.args.settle.lock().unwrap_or_else(PoisonError::into_inner).look(files, &news.moved_in, Instant::now());
        let (complete, unsettled) = looked;
        self.args.supervisor.send(Look { complete, unsettled })?;
        if unsettled > 0 && self.args.plan.settle < self.args.plan.poll {
            self.tasks.mailbox().cast_after(self.args.plan.settle, || FileWatcherMsg::Changed);
        }
        Ok(())
    }
}

/// `None` where the system cannot tell: then only looking finds files.
fn watch_system(folder: &Path, mailbox: Mailbox<FileWatcherMsg>, news: Arc<Mutex<News>>) -> Option<RecommendedWatcher> {
    let told = move |event: notify::Result<notify::Event>| {
        let mut news = news.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(event) = event
            && event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::To))
            && news.moved_in.len() < MOST_MOVED_IN
        {
            news.moved_in.extend(event.paths);
        }
        if !std::mem::replace(&mut news.is_told, true) {
            // An actor that is gone is told by its supervisor's next one.
            let _gone = mailbox.cast(FileWatcherMsg::Changed);
        }
    };
    let watcher = notify::recommended_watcher(told).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher.inspect_err(|error| warn!(%error, "the system tells of no changes; the folder is looked at regularly")).ok()
}

/// Files that match; hidden ones are on their way, as rsync and others write them.
fn files_of(plan: &WatchPlan) -> Result<Vec<Found>, LoadFault> {
    let listing = std::fs::read_dir(&plan.folder).map_err(|error| unreadable(&plan.folder, error))?;
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry.map_err(|error| unreadable(&plan.folder, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || !plan.pattern.matches(&name) {
            continue;
        }
        // One that is gone meanwhile is no file of this folder.
        let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
        if !metadata.is_file() {
            continue;
        }
        let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let age = SystemTime::now().duration_since(written).unwrap_or_default();
        found.push(Found { shape: Shape::of(&FileMark::of(&entry.path(), &metadata)), path: entry.path(), age });
    }
    found.sort_by(|a, b| b.age.cmp(&a.age).then_with(|| a.path.cmp(&b.path)));
    Ok(found)
}
