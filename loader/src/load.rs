//! One file from its path to its report.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use speedtrap_actors::flow::{Backoff, RetryBudget};
use speedtrap_actors::observe::{ActorTable, Meter};
use tracing::info;

use crate::aws::{Bucket, DeliveryStream};
use crate::config::{AwsEnvironment, ConfigError, LoaderConfig};
use crate::fault::{LoadFault, Remote};
use crate::load_file::LoadFile;
use crate::notify::tell_nodes;
use crate::progress::Progress;
use crate::report::LoadReport;
use crate::retry::Retry;
use crate::supervisor::{LoadPlan, LoadPorts, LoadSupervisor};
use crate::warehouse::SqlWarehouse;

/// Records between reader and Firehose: at 500 KiB each, 8 MiB. Two full calls and a bit.
const CREDIT: usize = 16;

/// A remote side that is down from the start is reported soon; one that goes down later is waited for.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// S3 dates an object by the beginning of its upload. Firehose's objects have at most 128 MiB; this is generous for them.
const LONGEST_UPLOAD: Duration = Duration::from_secs(10 * 60);

/// How long the tree may take to end after an interruption.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Loads files.
pub(crate) struct Loader {
    config: LoaderConfig,
    ports: LoadPorts,
    actors: ActorTable,
}

impl Loader {
    /// Opens no connection yet.
    pub(crate) fn new(config: LoaderConfig, aws: &AwsEnvironment, sdk: &SdkConfig) -> Result<Self, ConfigError> {
        let path_style = config.s3.path_style.unwrap_or(aws.endpoint_url.is_some());
        let warehouse = SqlWarehouse::new(&config.warehouse_url()?, &config.warehouse)
            .map_err(|error| ConfigError::Unreadable(format!("warehouse.url: {error}")))?;
        let ports = LoadPorts {
            firehose: Arc::new(DeliveryStream::new(sdk, &config.firehose.stream)),
            objects: Arc::new(Bucket::new(sdk, &config.bucket(), &config.s3.prefix, path_style)),
            warehouse: Arc::new(warehouse),
        };
        Ok(Self { config, ports, actors: ActorTable::default() })
    }

    /// Loads one file, unless the ledger has it. Whoever drops this must have let `interrupted` end it before.
    pub(crate) async fn load(
        &self,
        path: &Path,
        progress: &Progress,
        interrupted: impl Future<Output = ()>,
    ) -> Result<LoadReport, LoadFault> {
        let owned = path.to_owned();
        let identified = tokio::task::spawn_blocking(move || LoadFile::identify(&owned)).await;
        let file = identified.map_err(|error| LoadFault::Crashed(error.to_string()))??;
        info!(file = file.name, load_id = file.load_id, "load begins");
        let work = self.load_identified(&file, progress, interrupted);
        let report = work.await?;
        report.reconcile()?;
        tell_nodes(&self.config.node_urls, &report).await;
        Ok(report)
    }

    async fn load_identified(
        &self,
        file: &LoadFile,
        progress: &Progress,
        interrupted: impl Future<Output = ()>,
    ) -> Result<LoadReport, LoadFault> {
        let mut interrupted = std::pin::pin!(interrupted);
        let first = RetryBudget { most_elapsed: FIRST_ANSWER, ..self.config.retry() };
        let retry = Retry { budget: first, meter: Meter::new(), progress: progress.clone() };
        let found = tokio::select! {
            found = retry.call(Remote::Warehouse, || self.ports.warehouse.find_load(&file.load_id)) => found?,
            () = &mut interrupted => return Err(LoadFault::Interrupted),
        };
        if let Some(committed) = found {
            return Ok(LoadReport::already_loaded(file, committed));
        }
        let bucket = tokio::select! {
            listing = retry.call(Remote::Bucket, || self.ports.objects.list(Some(SystemTime::now()))) => listing?,
            () = &mut interrupted => return Err(LoadFault::Interrupted),
        };
        let since = bucket.newest.and_then(|newest| newest.checked_sub(LONGEST_UPLOAD));
        let started = LoadSupervisor::start(self.plan(file, since), self.ports.clone(), &self.actors, progress.clone()).await;
        let (supervisor, end) = started.map_err(|error| LoadFault::Crashed(error.to_string()))?;
        tokio::select! {
            end = end => {
                let end = end.map_err(|_| LoadFault::Crashed("the supervisor ended without a word".to_owned()))??;
                Ok(LoadReport::committed(file, end))
            }
            () = &mut interrupted => {
                // Its children and their tasks end with it.
                let _late = supervisor.stop_and_wait(None, Some(STOP_GRACE)).await;
                Err(LoadFault::Interrupted)
            }
        }
    }

    fn plan(&self, file: &LoadFile, since: Option<SystemTime>) -> LoadPlan {
        let config = &self.config;
        LoadPlan {
            file: file.clone(),
            rejects_dir: config.rejects_dir.clone(),
            record_bytes: usize::try_from(config.firehose.record_bytes.as_u64()).unwrap_or(usize::MAX),
            credit: CREDIT,
            max_calls: config.firehose.in_flight,
            since,
            poll: config.s3.poll,
            staged_timeout: config.s3.staged_timeout,
            retry: config.retry(),
            restart: Backoff { first: Duration::from_millis(200), most: Duration::from_secs(30) },
            max_restarts: config.max_restarts,
        }
    }
}
