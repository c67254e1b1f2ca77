//! One file from its path to its report.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use jiff::Timestamp;
use speedtrap_actors::flow::{Backoff, RetryBudget};
use speedtrap_actors::observe::{ActorTable, Meter};
use tracing::{info, warn};

use crate::aws::{Bucket, DeliveryStream};
use crate::config::{AwsEnvironment, ConfigError, LoaderConfig};
use crate::contract::Contract;
use crate::fault::{LoadFault, Remote};
use crate::journal::{FileMark, What};
use crate::journal_file::{Journal, Journals};
use crate::load_file::{LoadFile, Source};
use crate::load_journal;
use crate::load_ledger::Committed;
use crate::notify::{tell_nodes, tell_of_earlier_loads};
use crate::progress::{Progress, Stage};
use crate::progress_news::ProgressNews;
use crate::report::LoadReport;
use crate::retry::Retry;
use crate::supervisor::{LoadPlan, LoadPorts, LoadSupervisor};
use crate::warehouse::{SchemaPlan, SqlWarehouse, prepare};

/// Records between reader and Firehose: at 500 KiB each, 8 MiB. Two full calls and a bit.
const CREDIT: usize = 16;

/// A remote side that is down from the start is reported soon; one that goes down later is waited for.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// S3 dates an object by the beginning of its upload. Firehose's objects have at most 128 MiB; this is generous for them.
const LONGEST_UPLOAD: Duration = Duration::from_secs(3 * 60);

/// A node that is away is told at the next start, or by `watch`; its drivers are out of date meanwhile, for an hour at most.
const TELL_FOR: Duration = Duration::from_secs(60);

/// How long the tree may take to end after an interruption.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Loads files.
pub(crate) struct Loader {
    config: LoaderConfig,
    ports: LoadPorts,
    contract: Arc<Contract>,
    journals: Journals,
    target: String,
    actors: ActorTable,
}

impl Loader {
    /// Opens no connection yet.
    pub(crate) fn new(config: LoaderConfig, aws: &AwsEnvironment, sdk: &SdkConfig) -> Result<Self, ConfigError> {
        let path_style = config.s3.path_style.unwrap_or(aws.endpoint_url.is_some());
        let ports = LoadPorts {
            firehose: Arc::new(DeliveryStream::new(sdk, &config.firehose.stream)),
            objects: Arc::new(Bucket::new(sdk, &config.bucket(), &config.s3.prefix, path_style)),
            warehouse: Arc::new(warehouse(&config)?),
        };
        let contract = Arc::new(Contract::chosen(config.contract.as_deref())?);
        let journals = Journals::new(config.state_dir().as_deref());
        let target = config.target(aws)?;
        Ok(Self { config, ports, contract, journals, target, actors: ActorTable::default() })
    }

    /// Sends the messages that an earlier process could not, and forgets the oldest loads.
    pub(crate) async fn settle_earlier_loads(&self) {
        tell_of_earlier_loads(self.config.nodes(), &self.journals).await;
        let journals = self.journals.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || journals.prune()).await {
            warn!(%error, "journals of old loads could not be taken away");
        }
    }

    /// Files that were loaded into this warehouse, as they were then.
    pub(crate) async fn loaded_files(&self) -> Result<Vec<FileMark>, LoadFault> {
        let journals = self.journals.clone();
        let read = tokio::task::spawn_blocking(move || journals.read_all().unwrap_or_default()).await;
        let readings = read.map_err(|error| LoadFault::Crashed(error.to_string()))?;
        let of_here = readings.into_iter().filter(|reading| reading.state.target == self.target);
        Ok(of_here.filter(|reading| reading.state.committed.is_some()).filter_map(|reading| reading.state.file).collect())
    }

    /// Loads one drivers file.
    pub(crate) async fn load(
        &self,
        path: &Path,
        progress: &Progress,
        interrupted: impl Future<Output = ()>,
    ) -> Result<LoadReport, LoadFault> {
        self.load_from(Source::Drivers, path, progress, interrupted).await
    }

    /// Loads one file, unless the ledger has it. Whoever drops this must have let `interrupted` end it before.
    pub(crate) async fn load_from(
        &self,
        source: Source,
        path: &Path,
        progress: &Progress,
        interrupted: impl Future<Output = ()>,
    ) -> Result<LoadReport, LoadFault> {
        let (owned, journals, contract) = (path.to_owned(), self.journals.clone(), Arc::clone(&self.contract));
        let opened = tokio::task::spawn_blocking(move || {
            let file = LoadFile::identify_as(source, &owned, &contract)?;
            let journal = journals.open(&file.load_id)?;
            Ok::<_, LoadFault>((file, journal))
        });
        let (file, journal) = opened.await.map_err(|error| LoadFault::Crashed(error.to_string()))??;
        let mut interrupted = std::pin::pin!(interrupted);
        let news = ProgressNews { nodes: self.config.nodes(), journal: &journal, progress };
        let loaded = news.during(self.load_identified(&file, &journal, progress, &mut interrupted)).await;
        match loaded.and_then(|report| report.reconcile().map(|()| report)) {
            Ok(report) => {
                progress.enters(Stage::Telling);
                news.at_last().await;
                tokio::select! {
                    () = tell_nodes(self.config.nodes(), &journal, TELL_FOR) => {}
                    () = interrupted => {}
                }
                Ok(report)
            }
            // A journal without an end says as much, and as truly as after a kill.
            Err(LoadFault::Interrupted) => {
                news.at_last().await;
                Err(LoadFault::Interrupted)
            }
            Err(fault) => {
                load_journal::append(&journal, What::Failed { reason: fault.to_string(), is_final: fault.is_final() }).await?;
                news.at_last().await;
                Err(fault)
            }
        }
    }

    async fn load_identified(
        &self,
        file: &LoadFile,
        journal: &Journal,
        progress: &Progress,
        mut interrupted: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<LoadReport, LoadFault> {
        let first = RetryBudget { most_elapsed: FIRST_ANSWER, ..self.config.retry() };
        let retry = Retry { budget: first, meter: Meter::new(), progress: progress.clone() };
        let (plan, found) = tokio::select! {
            found = self.ask_warehouse(file, &retry) => found?,
            () = &mut interrupted => return Err(LoadFault::Interrupted),
        };
        if let Some(committed) = found {
            let noted = journal.state();
            let needs_no_note = noted.committed.is_some() && (noted.to_tell || self.config.node_urls.is_empty());
            if !needs_no_note || noted.target != self.target {
                self.note_commit(file, journal, committed).await?;
            }
            return Ok(LoadReport::already_loaded(file, committed).in_warehouse(&plan));
        }
        let bucket = tokio::select! {
            listing = retry.call(Remote::Bucket, || self.ports.objects.list(Some(SystemTime::now()))) => listing?,
            () = &mut interrupted => return Err(LoadFault::Interrupted),
        };
        let (since, is_new) = self.begin(file, journal, bucket.newest).await?;
        let started = LoadSupervisor::start(
            self.plan(file, journal.clone(), since, is_new),
            self.ports.clone(),
            &self.actors,
            progress.clone(),
        )
        .await;
        let (supervisor, end) = started.map_err(|error| LoadFault::Crashed(error.to_string()))?;
        tokio::select! {
            end = end => {
                let end = end.map_err(|_| LoadFault::Crashed("the supervisor ended without a word".to_owned()))??;
                // The last counts, so that they stand beside what the ledger says.
                load_journal::append(journal, What::Seen(progress.sample())).await?;
                self.note_commit(file, journal, end.committed).await?;
                Ok(LoadReport::committed(file, end).with_quarantine(&self.config.rejects_dir).in_warehouse(&plan))
            }
            () = &mut interrupted => {
                // Its children and their tasks end with it.
                let _late = supervisor.stop_and_wait(None, Some(STOP_GRACE)).await;
                Err(LoadFault::Interrupted)
            }
        }
    }

    /// Makes the warehouse ready, then looks the load up.
    async fn ask_warehouse(&self, file: &LoadFile, retry: &Retry) -> Result<(SchemaPlan, Option<Committed>), LoadFault> {
        let warehouse = self.ports.warehouse.as_ref();
        let plan = retry.call(Remote::Warehouse, || warehouse.plan()).await?;
        let plan = prepare(warehouse, plan, self.config.warehouse.on_drift).await?;
        info!(warehouse = plan.warehouse.name(), "the warehouse is ready");
        let found = retry.call(Remote::Warehouse, || warehouse.find_load(&file.load_id)).await?;
        Ok((plan, found))
    }

    async fn note_commit(&self, file: &LoadFile, journal: &Journal, committed: Committed) -> Result<(), LoadFault> {
        if journal.state().target != self.target {
            load_journal::append(journal, self.begun(file, None)).await?;
        }
        let Committed { rows, merged, superseded, rejected } = committed;
        let to_tell = !self.config.node_urls.is_empty();
        load_journal::append(journal, What::Committed { rows, merged, superseded, rejected, to_tell }).await
    }

    /// Notes the beginning, or that an earlier try goes on; gives the time before which no object holds a row of the load.
    async fn begin(
        &self,
        file: &LoadFile,
        journal: &Journal,
        newest: Option<SystemTime>,
    ) -> Result<(Option<SystemTime>, bool), LoadFault> {
        let earlier = journal.state();
        // The journal may know of a commit that a warehouse set back to an earlier day does not: then nothing counts any more.
        let goes_on = earlier.load_id == file.load_id && earlier.target == self.target && earlier.committed.is_none();
        let since =
            if goes_on { earlier.since } else { newest.and_then(|at| at.checked_sub(LONGEST_UPLOAD)).and_then(timestamp) };
        let accepted = if goes_on { earlier.accepted.len() } else { 0 };
        info!(file = file.name, load_id = file.load_id, accepted, "load begins");
        let what =
            if goes_on { What::Resumed { pid: std::process::id(), file: file.mark.clone() } } else { self.begun(file, since) };
        load_journal::append(journal, what).await?;
        Ok((since.map(SystemTime::from), !goes_on))
    }

    fn begun(&self, file: &LoadFile, since: Option<Timestamp>) -> What {
        What::Begun {
            load_id: file.load_id.clone(),
            target: self.target.clone(),
            file: file.mark.clone(),
            since,
            pid: std::process::id(),
        }
    }

    fn plan(&self, file: &LoadFile, journal: Journal, since: Option<SystemTime>, is_new: bool) -> LoadPlan {
        let config = &self.config;
        LoadPlan {
            file: file.clone(),
            rejects_dir: config.rejects_dir.clone(),
            record_bytes: usize::try_from(config.firehose.record_bytes.as_u64()).unwrap_or(usize::MAX),
            credit: CREDIT,
            max_calls: config.firehose.in_flight,
            since,
            is_new,
            poll: config.s3.poll,
            staged_timeout: config.s3.staged_timeout,
            retry: config.retry(),
            journal,
            restart: Backoff { first: Duration::from_millis(200), most: Duration::from_secs(30) },
            max_restarts: config.max_restarts,
        }
    }
}

/// The warehouse; opens no connection yet.
pub(crate) fn warehouse(config: &LoaderConfig) -> Result<SqlWarehouse, ConfigError> {
    let warehouse = SqlWarehouse::new(&config.warehouse_url()?, &config.warehouse);
    warehouse.map_err(|error| ConfigError::Unreadable(format!("warehouse.url: {error}")))
}

fn timestamp(at: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(at).ok()
}
