//! `status`: which loads there are and where they stand.
//!
//! Journals on this machine tell what happens, the warehouse's ledger tells what is done. Without the warehouse the journals are
//! shown alone.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Table, presets};
use jiff::Timestamp;
use tracing::warn;

use super::CliError;
use super::output::print;
use crate::config::LoaderConfig;
use crate::fault::LoadFault;
use crate::journal_file::Journals;
use crate::load::warehouse;
use crate::load_status::{LoadPhase, LoadStatus};
use crate::ports::Warehouse as _;

pub(super) const EXAMPLES: &str = "\
Examples:
  speedtrap-loader status                   the last loads of this machine
  speedtrap-loader status drivers.csv       those of one file
  speedtrap-loader status 3f6c --json       one load, by the beginning of its id

Exit codes:
  0 shown    4 no such load    78 bad configuration";

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The beginning of a load id, or the name of a file.
    load: Option<String>,
    /// Print one JSON object a load to stdout.
    #[arg(long)]
    json: bool,
    /// How many loads to show, the youngest first.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Folder of what is known of loads [default: speedtrap-loader under $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// TOML file; the environment and flags go over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl StatusArgs {
    pub(super) async fn run(self) -> Result<u8, CliError> {
        let mut config = LoaderConfig::read(self.config.as_deref(), std::env::vars())?;
        config.state_dir = self.state_dir.or(config.state_dir);
        let mut loads = journalled(&config).await?;
        if let Some(wanted) = &self.load {
            loads.retain(|load| load.load_id.starts_with(wanted.as_str()) || load.file == *wanted);
        }
        loads.truncate(self.limit);
        ask_warehouse(&config, &mut loads, self.load.as_deref()).await?;
        if let Some(wanted) = self.load.filter(|_| loads.is_empty()) {
            return Err(LoadFault::LoadMissing { wanted }.into());
        }
        if self.json {
            for load in &loads {
                print(load, true, String::new())?;
            }
            return Ok(0);
        }
        print(&loads, false, words(&loads))?;
        Ok(0)
    }
}

async fn journalled(config: &LoaderConfig) -> Result<Vec<LoadStatus>, CliError> {
    let journals = Journals::new(config.state_dir().as_deref());
    let read = tokio::task::spawn_blocking(move || journals.read_all()).await;
    let readings = read.map_err(|error| LoadFault::Crashed(error.to_string()))??;
    Ok(readings.iter().map(|reading| LoadStatus::of_journal(&reading.state, reading.is_held)).collect())
}

/// Looks up what the journals do not know to be committed; also a whole load id of which there is no journal.
async fn ask_warehouse(config: &LoaderConfig, loads: &mut Vec<LoadStatus>, wanted: Option<&str>) -> Result<(), CliError> {
    let is_open = |load: &LoadStatus| load.state != LoadPhase::Committed;
    let unknown = wanted.filter(|wanted| loads.is_empty() && wanted.len() == 32);
    if config.warehouse.url.is_none() && config.warehouse.url_file.is_none() || !loads.iter().any(is_open) && unknown.is_none() {
        return Ok(());
    }
    let warehouse = warehouse(config)?;
    if let Some(load_id) = unknown {
        match warehouse.find_load(load_id).await {
            Ok(Some(found)) => loads.push(LoadStatus::of_ledger(load_id, found)),
            Ok(None) => {}
            Err(error) => warn!(%error, "the warehouse could not be asked"),
        }
    }
    for load in loads.iter_mut().filter(|load| is_open(load)) {
        match warehouse.find_load(&load.load_id).await {
            Ok(found) => load.look_up(found),
            Err(error) => {
                warn!(%error, "the warehouse could not be asked; what follows is what this machine knows");
                break;
            }
        }
    }
    Ok(())
}

fn words(loads: &[LoadStatus]) -> String {
    if loads.is_empty() {
        return "no loads yet\n  next: speedtrap-loader load FILE".to_owned();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["load", "file", "state", "rows", "sent", "staged", "merged", "rejected", "rows/s", "since"]);
    for load in loads {
        let counts = [load.rows, load.sent, load.staged, load.merged, load.rejected].map(|count| count.to_string());
        let id: String = load.load_id.chars().take(12).collect();
        let mut cells = vec![id, load.file.clone(), load.state.word().to_owned()];
        cells.extend(counts);
        cells.push(load.rows_per_second.map(|rate| format!("{rate:.0}")).unwrap_or_default());
        cells.push(load.started_at.map(|at| at.strftime("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default());
        table.add_row(cells);
    }
    let mut text = table.trim_fmt();
    for load in loads {
        let id: String = load.load_id.chars().take(12).collect();
        if let Some(wait) = &load.waits_for {
            let seconds = Timestamp::now().duration_since(wait.since).as_secs();
            text.push_str(&format!("\n{id}: waits for {} for {seconds} s: {}", wait.what, wait.reason));
        }
        if let Some(error) = &load.last_error {
            text.push_str(&format!("\n{id}: {error}"));
        }
    }
    text
}
