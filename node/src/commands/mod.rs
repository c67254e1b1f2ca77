//! The commands: standard output holds data, standard error messages.

mod actors;
mod client;
mod config;
mod status;
mod table;

use clap::{Parser, Subcommand};

pub(crate) use self::config::load_for_node;
use crate::exit::{Exit, Stop};

/// Speedtrap: from speed readings to text messages.
#[derive(Debug, Parser)]
#[command(
    name = "speedtrap",
    version,
    after_help = "\
Examples:
  speedtrap run --config speedtrap.toml --name node-1
  speedtrap status
  speedtrap actors --json
  speedtrap config defaults > speedtrap.toml

Exit codes: 0 ok, 1 failed, 2 usage, 3 unhealthy, 4 not found, 5 refused, 6 timed out, 69 unreachable, 78 bad config,
130 interrupted."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a node until SIGTERM or Ctrl-C, then finishes what it has begun.
    Run(crate::run::RunArgs),
    /// Shows a node's lanes and counts; exit code 3 if it is not healthy.
    Status(client::NodeArgs),
    /// Shows a node's actors: mailboxes, work done, restarts.
    Actors(client::NodeArgs),
    /// Checks or shows configurations.
    Config(config::ConfigArgs),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// When it could not do its work.
    pub(crate) fn run(self) -> Result<Exit, Stop> {
        match self.command {
            Command::Run(args) => crate::run::run(args),
            Command::Status(args) => status::status(&args),
            Command::Actors(args) => actors::actors(&args),
            Command::Config(args) => config::config(args),
        }
    }
}

/// Writes to standard output; a reader that went away (`| head`) is no failure.
fn print(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _reader_gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
