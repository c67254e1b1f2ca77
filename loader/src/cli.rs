//! The command line: what can be asked, and how the answer is shown.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::error;

use crate::aws;
use crate::config::{AwsEnvironment, ConfigError, LoaderConfig};
use crate::fault::LoadFault;
use crate::load::Loader;
use crate::progress::Progress;
use crate::report::LoadReport;

/// How often the progress line is drawn.
const REDRAW: Duration = Duration::from_millis(100);

/// Brings driver files into the warehouse, by way of Firehose and S3, each row once.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  export SPEEDTRAP_LOADER_WAREHOUSE__URL=postgresql://USER:PASSWORD@HOST:5439/DATABASE
  speedtrap-loader load drivers.csv
  speedtrap-loader load *.csv --json --rejects-dir /var/lib/speedtrap/rejects
  speedtrap-loader load drivers.csv --node-url http://127.0.0.1:8080

Exit codes:
  0 all rows loaded, or loaded before    1 failed             3 loaded, but some rows were rejected
  4 a file does not exist                69 unreachable       78 bad configuration    130 interrupted";

#[derive(Debug, Subcommand)]
enum Command {
    /// Load drivers files. A file that was loaded before changes nothing; one that was interrupted is completed.
    #[command(after_help = EXAMPLES)]
    Load(LoadArgs),
}

#[derive(Debug, Args)]
struct LoadArgs {
    /// CSV files with the header first_name,last_name,licensePlate,email,address,city,state,zipcode,phoneNumber,myphone.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON object a file to stdout.
    #[arg(long)]
    json: bool,
    /// A node to tell of the load; several are tried in order.
    #[arg(long, value_name = "URL")]
    node_url: Vec<String>,
    /// Folder for rejected rows [default: rejects]
    #[arg(long, value_name = "DIR")]
    rejects_dir: Option<PathBuf>,
    /// TOML file; the environment and flags go over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How the process ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("{0}\n  next: correct it; every key can be set as SPEEDTRAP_LOADER_<SECTION>__<KEY>")]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Load(#[from] LoadFault),
    #[error("cannot write to stdout: {0}")]
    Output(#[from] std::io::Error),
}

impl CliError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Load(fault) => fault.exit_code(),
            Self::Output(_) => 1,
        }
    }
}

impl Cli {
    /// Does what was asked; gives the exit code.
    pub(crate) async fn run(self) -> Result<u8, CliError> {
        let Command::Load(args) = self.command;
        args.run().await
    }
}

impl LoadArgs {
    async fn run(self) -> Result<u8, CliError> {
        let aws = AwsEnvironment::read();
        let mut config = LoaderConfig::read(self.config.as_deref(), std::env::vars())?;
        config.node_urls.extend(self.node_url);
        config.rejects_dir = self.rejects_dir.unwrap_or(config.rejects_dir);
        config.validate(&aws)?;
        if let Some(missing) = self.files.iter().find(|file| !file.exists()) {
            return Err(LoadFault::FileMissing { path: missing.clone() }.into());
        }
        let sdk = aws::sdk_config(config.firehose.call_timeout).await;
        if sdk.region().is_none() {
            return Err(ConfigError::Unreadable("no AWS region: set AWS_REGION".to_owned()).into());
        }
        let loader = Loader::new(config, &aws, &sdk)?;
        let interrupted = interruption();
        let (mut worst, mut failure) = (0, None);
        for file in &self.files {
            let progress = Progress::default();
            let load = loader.load(file, &progress, wait_for(interrupted.clone()));
            let result = shown(load, &progress, &file.display().to_string()).await;
            match result {
                Ok(report) => {
                    worst = worst.max(report.exit_code());
                    print(&report, self.json)?;
                }
                // The files behind it may be good; remote sides that are gone stay gone.
                Err(fault) if matches!(fault.exit_code(), 1 | 4) && self.files.len() > 1 => {
                    error!("{fault}");
                    failure.get_or_insert(fault);
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        failure.map_or(Ok(worst), |fault| Err(fault.into()))
    }
}

fn print(report: &LoadReport, json: bool) -> std::io::Result<()> {
    let text = if json { serde_json::to_string(report)? } else { report.summary() };
    writeln!(std::io::stdout().lock(), "{text}")
}

/// Turns true at Ctrl-C or SIGTERM.
fn interruption() -> watch::Receiver<bool> {
    let (interrupted, seen) = watch::channel(false);
    tokio::spawn(async move {
        let Ok(mut term) = signal(SignalKind::terminate()) else { return };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = term.recv() => {}
        }
        interrupted.send_replace(true);
    });
    seen
}

async fn wait_for(mut interrupted: watch::Receiver<bool>) {
    if interrupted.wait_for(|is| *is).await.is_err() {
        // Without signals nothing interrupts.
        std::future::pending::<()>().await;
    }
}

/// Shows how far a load has come, if somebody sits at a terminal.
async fn shown<T>(work: impl Future<Output = T>, progress: &Progress, file: &str) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(file.to_owned());
    let mut work = std::pin::pin!(work);
    let mut redraw = tokio::time::interval(REDRAW);
    loop {
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                return done;
            }
            _ = redraw.tick() => {
                let seen = progress.seen();
                let again = if seen.restarts == 0 { String::new() } else { format!(" (restart {})", seen.restarts) };
                bar.set_message(format!(
                    "read {} rejected {} sent {} staged {} merged {}{again}",
                    seen.read, seen.rejected, seen.sent, seen.staged, seen.merged
                ));
                bar.tick();
            }
        }
    }
}
