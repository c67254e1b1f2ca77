//! The command line: what can be asked, and which file answers it.
//!
//! One file a command; what several of them show stands in `output`, how they are stopped in `interruption`.

mod check;
mod crawl;
mod dry_run;
mod interruption;
mod load;
mod output;
mod plan;
mod status;
mod watch;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::ConfigError;
use crate::contract_file::ContractError;
use crate::crawl::CrawlFault;
use crate::fault::LoadFault;
use crate::load_file::Source;

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
  speedtrap-loader load drivers.csv --dry-run
  speedtrap-loader load drivers.csv --node-url http://127.0.0.1:8080

Exit codes:
  0 all rows loaded, or loaded before    1 failed                         3 loaded, but some rows were rejected
  4 a file does not exist                5 another loader is at it, or the warehouse's tables differ (see plan)
  69 unreachable                         78 bad configuration             130 interrupted";

const REJECTS: &str = "Rejected rows as a load has left them, <load id>.csv or <load id>.ndjson, mended in their column `raw`";

const REPLAY_EXAMPLES: &str = "\
Examples:
  speedtrap-loader load drivers.csv          # says where the rejected rows are
  edit rejects/<load id>.csv                 # mend the column `raw`; take out rows that shall stay away
  speedtrap-loader replay rejects/<load id>.csv

Rows that are still bad are put aside once more. Exit codes are those of `load`.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Load drivers files. A file that was loaded before changes nothing; one that was interrupted is completed.
    #[command(after_help = EXAMPLES)]
    Load(load::LoadArgs),
    /// Load the rows that a load rejected, after they were mended. They keep their lines in the file they came from.
    #[command(after_help = REPLAY_EXAMPLES, mut_arg("files", |files| files.value_name("REJECTS").help(REJECTS)))]
    Replay(load::LoadArgs),
    /// Say what is wrong with files, without sending anything.
    #[command(after_help = check::EXAMPLES)]
    Check(check::CheckArgs),
    /// Propose a contract for a file from a sample of its rows.
    #[command(after_help = crawl::EXAMPLES)]
    Crawl(crawl::CrawlArgs),
    /// Show how the warehouse's tables differ from what is loaded, and the DDL that would mend it; nothing is executed.
    #[command(after_help = plan::EXAMPLES)]
    Plan(plan::PlanArgs),
    /// Load every file that comes into a folder.
    #[command(after_help = watch::EXAMPLES)]
    Watch(watch::WatchArgs),
    /// Show which loads there are and where they stand.
    #[command(after_help = status::EXAMPLES)]
    Status(status::StatusArgs),
}

/// How the process ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("{0}\n  next: correct it; every key can be set as SPEEDTRAP_LOADER_<SECTION>__<KEY>")]
    Config(ConfigError),
    #[error(transparent)]
    Contract(#[from] ContractError),
    #[error(transparent)]
    Load(#[from] LoadFault),
    #[error("cannot propose a contract for `{}`: {fault}", path.display())]
    Crawl { path: PathBuf, fault: CrawlFault },
    #[error("reading or writing failed: {0}")]
    Io(#[from] std::io::Error),
}

impl From<ConfigError> for CliError {
    /// A contract is no setting: what to do next is another thing.
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Contract(error) => Self::Contract(error),
            other => Self::Config(other),
        }
    }
}

impl CliError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Contract(_) => 78,
            Self::Load(fault) => fault.exit_code(),
            Self::Crawl { .. } | Self::Io(_) => 1,
        }
    }
}

impl Cli {
    /// Does what was asked; gives the exit code.
    pub(crate) async fn run(self) -> Result<u8, CliError> {
        match self.command {
            Command::Load(args) => args.run(Source::Drivers).await,
            Command::Replay(args) => args.run(Source::Rejects).await,
            Command::Check(args) => args.run(),
            Command::Crawl(args) => args.run(),
            Command::Plan(args) => args.run().await,
            Command::Watch(args) => args.run().await,
            Command::Status(args) => args.run().await,
        }
    }
}
