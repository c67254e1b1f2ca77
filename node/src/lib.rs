//! A node of the pipeline, the commands to look at one, and what `speedtrap-sql` shares with them.

mod access;
mod adoption;
mod api;
mod audit;
mod commands;
mod config;
mod cost;
mod doctor;
mod exit;
mod findings;
mod for_tests;
mod forget;
mod ready;
mod run;
mod signals;
mod telemetry;
mod tokens;
mod trace;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

pub use access::{Access, Reveal, Stream, masked_plate, remote_stop, taken_at, warehouse_stop};
pub use bytesize::ByteSize;
pub use exit::{Exit, Stop};

/// Runs the program `speedtrap` with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = commands::Cli::parse();
    match cli.run() {
        Ok(exit) => exit.into(),
        Err(stop) => {
            eprintln!("speedtrap: {stop}");
            stop.exit.into()
        }
    }
}
