//! `watch`: loads every file that comes into a folder.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use speedtrap_actors::observe::{ActorTable, Spot};
use tokio::sync::mpsc;

use super::CliError;
use super::interruption::{interruption, wait_for};
use super::output::print;
use crate::aws;
use crate::config::{AwsEnvironment, ConfigError, LoaderConfig};
use crate::fault::LoadFault;
use crate::file_watcher::WatchPlan;
use crate::load::Loader;
use crate::settle::{Settle, Shape};
use crate::watch_supervisor::{Told, WatchSupervisor, WatchSupervisorArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  speedtrap-loader watch /var/lib/speedtrap/in
  speedtrap-loader watch in --pattern 'drivers-*.csv' --json
  speedtrap-loader watch in --once          load what is there, then end

A file is loaded once it has not changed for --settle, or was moved into the folder. What was loaded before is known by its
content, under whatever name, also after a reboot. A load that fails is tried again; a file that is wrong waits to be changed.

Exit codes: those of load; without --once it ends only when interrupted (130).";

/// How long an interrupted load may take to end.
const STOP_GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// The folder to watch; folders in it are not.
    folder: PathBuf,
    /// Which names count; hidden files never do.
    #[arg(long, default_value = "*.csv", value_parser = glob::Pattern::new)]
    pattern: glob::Pattern,
    /// Load what is there, then end.
    #[arg(long)]
    once: bool,
    /// How long a file must stand still to count as complete.
    #[arg(long, default_value = "2s", value_parser = humantime_serde::re::humantime::parse_duration)]
    settle: Duration,
    /// How often the folder is looked at where the system does not tell of changes.
    #[arg(long, default_value = "5s", value_parser = humantime_serde::re::humantime::parse_duration)]
    poll: Duration,
    /// Print one JSON object a file to stdout.
    #[arg(long)]
    json: bool,
    /// A node to tell of loads; several are tried in order.
    #[arg(long, value_name = "URL")]
    node_url: Vec<String>,
    /// File with the token that the node knows the loader by, an operator's
    #[arg(long, value_name = "FILE")]
    node_token_file: Option<PathBuf>,
    /// PEM file with the authorities that signed the nodes' certificates, for https addresses [default: those of the system]
    #[arg(long, value_name = "FILE")]
    node_ca_file: Option<PathBuf>,
    /// Folder for rejected rows [default: rejects]
    #[arg(long, value_name = "DIR")]
    rejects_dir: Option<PathBuf>,
    /// Folder of what is known of loads [default: speedtrap-loader under $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// What the files must look like [default: the built-in contract, see `check --print-contract`]
    #[arg(long, value_name = "FILE")]
    contract: Option<PathBuf>,
    /// TOML file; the environment and flags go over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A file that could not be loaded, for scripts.
#[derive(serde::Serialize)]
struct FailedFile<'a> {
    file: std::borrow::Cow<'a, str>,
    state: &'static str,
    error: String,
    retry_in_s: Option<f64>,
}

impl WatchArgs {
    pub(super) async fn run(self) -> Result<u8, CliError> {
        let aws = AwsEnvironment::read();
        let mut config = LoaderConfig::read(self.config.as_deref(), std::env::vars())?;
        config.node_urls.extend(self.node_url.iter().cloned());
        config.node_token_file = self.node_token_file.clone().or(config.node_token_file);
        config.node_ca_file = self.node_ca_file.clone().or(config.node_ca_file);
        config.rejects_dir = self.rejects_dir.clone().unwrap_or(config.rejects_dir);
        config.state_dir = self.state_dir.clone().or(config.state_dir);
        config.contract = self.contract.clone().or(config.contract);
        config.validate(&aws)?;
        if !self.folder.is_dir() {
            return Err(LoadFault::FileMissing { path: self.folder }.into());
        }
        let sdk = aws::sdk_config(config.firehose.call_timeout).await;
        if sdk.region().is_none() {
            return Err(ConfigError::Unreadable("no AWS region: set AWS_REGION".to_owned()).into());
        }
        let loader = Arc::new(Loader::new(config, &aws, &sdk)?);
        let plan = WatchPlan {
            folder: self.folder.clone(),
            pattern: self.pattern.clone(),
            settle: self.settle,
            poll: self.poll.max(Duration::from_millis(50)),
        };
        let loaded: HashSet<Shape> = loader.loaded_files().await?.iter().map(Shape::of).collect();
        let settle = Settle::new(self.settle, loaded);
        let (told, mut news) = mpsc::channel(16);
        let interrupted = interruption();
        let (actors, spot) = (ActorTable::default(), Spot::root("WatchSupervisor", "watch"));
        let (table, stop) = (actors.clone(), interrupted.clone());
        let args = |meter| WatchSupervisorArgs { plan, loader, settle, interrupted: stop, told, actors: table, meter };
        let started = actors.spawn(&spot, None, WatchSupervisor, args).await;
        let supervisor = started.map_err(|error| LoadFault::Crashed(error.to_string()))?;
        let mut worst = 0;
        loop {
            let told = tokio::select! {
                told = news.recv() => told,
                () = wait_for(interrupted.clone()) => {
                    self.drain(&mut news).await?;
                    let _late = supervisor.cell().stop_and_wait(None, Some(STOP_GRACE)).await;
                    // What was under way goes on at the next start.
                    return Ok(130);
                }
            };
            match told {
                Some(Told::AllTried) if self.once => {
                    let _late = supervisor.cell().stop_and_wait(None, Some(STOP_GRACE)).await;
                    return Ok(worst);
                }
                Some(told) => worst = worst.max(self.show(told)?),
                None => return Err(LoadFault::Crashed("the watch ended by itself".to_owned()).into()),
            }
        }
    }

    /// A load that is under way ends first: it notes how far it came.
    async fn drain(&self, news: &mut mpsc::Receiver<Told>) -> Result<(), CliError> {
        while let Ok(Some(told)) = tokio::time::timeout(Duration::from_millis(500), news.recv()).await {
            if !matches!(told, Told::Failed { fault: LoadFault::Interrupted, .. }) {
                self.show(told)?;
            }
        }
        Ok(())
    }

    /// Shows what became of a file; gives the exit code that this alone would have.
    fn show(&self, told: Told) -> Result<u8, CliError> {
        match told {
            Told::AllTried => Ok(0),
            Told::Loaded(report) => {
                print(&report, self.json, report.summary())?;
                Ok(report.exit_code())
            }
            Told::Failed { path, fault, retry_in } => {
                let next = match retry_in {
                    Some(delay) => format!("it is tried again in {} s", delay.as_secs().max(1)),
                    None => "it is tried again once it has changed".to_owned(),
                };
                let words = format!("{}: failed: {fault}\n  {next}", path.display());
                let retry_in_s = retry_in.map(|delay| delay.as_secs_f64());
                let failed = FailedFile { file: path.to_string_lossy(), state: "failed", error: fault.to_string(), retry_in_s };
                print(&failed, self.json, words)?;
                Ok(fault.exit_code())
            }
        }
    }
}
