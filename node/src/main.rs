//! `speedtrap`: a node of the pipeline, and the commands to look at one.

mod adoption;
mod api;
mod audit;
mod commands;
mod config;
mod cost;
mod doctor;
mod exit;
mod findings;
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

fn main() -> ExitCode {
    let cli = commands::Cli::parse();
    match cli.run() {
        Ok(exit) => exit.into(),
        Err(stop) => {
            eprintln!("speedtrap: {stop}");
            stop.exit.into()
        }
    }
}
