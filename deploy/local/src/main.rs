//! `speedtrap-local`: the local cloud, its warehouse, and the demo of the whole pipeline on one machine.

mod cloud;
mod demo;
mod fleet;
mod install;
mod interrupt;
mod node;
mod process;
mod programs;
mod report;
mod run_folder;
mod say;
mod stack;
mod state;
mod stop;
mod up;
mod warehouse;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes: 0 ok, 1 failed, 2 usage, 3 the counts do not reconcile, 4 not found, 5 refused, 6 timed out,
78 bad configuration, 130 interrupted.";

const DEMO_EXAMPLES: &str = "\
Examples:
  speedtrap-local demo
  speedtrap-local demo --drivers drivers.csv --readings readings.csv --json out.json
  speedtrap-local demo --hold --json /tmp/out.json     then look around with /tmp/endpoints.json

$PG_BIN names the folder of the PostgreSQL binaries to use, $SPEEDTRAP_PYTHON the Python.";

const UP_EXAMPLES: &str = "\
Examples:
  speedtrap-local up                  and in another terminal: speedtrap-local status; speedtrap-local down
  speedtrap-local up --dir ./local    a second one beside it; endpoints.json lies in ./local";

/// Runs Speedtrap's cloud and warehouse on this machine, in private folders, on free ports of the loopback address.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Starts cloud and warehouse and stays until Ctrl-C or `down`.
    #[command(after_help = UP_EXAMPLES)]
    Up {
        #[command(flatten)]
        place: Place,
        /// Shards of the stream that readings arrive on.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
        shards: u32,
    },
    /// Ends what `up` has started.
    Down(Place),
    /// Tells whether something is up, and where. Exits 4 if nothing is.
    Status(Place),
    /// Runs drivers and readings through everything, prints what arrived where, exits 0 only if it adds up.
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Ends the children of a launcher that died; started by the launcher itself.
    #[command(hide = true)]
    Watch { run_folder: PathBuf },
}

#[derive(Args)]
struct Place {
    /// Folder for state.json and endpoints.json [default: speedtrap/local in $XDG_STATE_HOME or ~/.local/state].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Prints one line of JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct DemoArgs {
    /// Drivers to load [default: the bundled sample].
    #[arg(long, value_name = "CSV")]
    drivers: Option<PathBuf>,
    /// Readings to publish [default: the bundled sample].
    #[arg(long, value_name = "CSV")]
    readings: Option<PathBuf>,
    /// Nodes to run, linked to each other.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=32))]
    nodes: u32,
    /// Shards of the stream that readings arrive on.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    shards: u32,
    /// Stays up after the report and writes endpoints.json (mode 0600) beside FILE.
    #[arg(long)]
    hold: bool,
    /// Writes the report as JSON; without FILE, or with `-`, to stdout.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Seconds to wait, once all is published, for everything to arrive [default: 600, and 1 for every 20 readings].
    #[arg(long, value_name = "SECS")]
    timeout: Option<u64>,
    /// Readings to publish a second [default: as fast as they are acknowledged].
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// Folder with built programs; nothing is built then.
    #[arg(long, value_name = "DIR", env = "SPEEDTRAP_BIN_DIR")]
    bin_dir: Option<PathBuf>,
}

impl DemoArgs {
    /// Paths are relative to where the launcher was called; its children run elsewhere.
    fn options(self) -> Result<demo::Options> {
        let absolute = |path: PathBuf| std::path::absolute(&path).map_err(anyhow::Error::from);
        let or_sample = |path: Option<PathBuf>, name| path.map_or_else(|| demo::sample(name), absolute);
        let json = self.json.map(|path| if path == Path::new("-") { Ok(path) } else { absolute(path) }).transpose()?;
        Ok(demo::Options {
            drivers: or_sample(self.drivers, "drivers.csv")?,
            readings: or_sample(self.readings, "readings.csv")?,
            nodes: self.nodes,
            shards: self.shards,
            hold: self.hold,
            json,
            timeout: self.timeout.map(Duration::from_secs),
            rate: self.rate,
            bin_dir: self.bin_dir.map(absolute).transpose()?,
        })
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Verb::Watch { run_folder } = &cli.command {
        process::watch(run_folder);
        return ExitCode::SUCCESS;
    }
    interrupt::install();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(stop::code_of(&error) as u8)
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Up { place, shards } => up::up(place.dir, shards, place.json),
        Verb::Down(place) => up::down(place.dir, place.json),
        Verb::Status(place) => up::status(place.dir, place.json),
        Verb::Demo(arguments) => demo::run(&arguments.options()?),
        Verb::Watch { .. } => Ok(()),
    }
}
