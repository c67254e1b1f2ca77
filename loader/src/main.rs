//! `speedtrap-loader`: brings driver files into the warehouse, each row once.
//!
//! ```text
//! drivers.csv > CsvReader > Validator > FirehoseWriter > Firehose > S3 > S3Lister > WarehouseCopier > warehouse
//!                     all under LoadSupervisor, one-for-all
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails may panic"))]

mod aws;
mod check_report;
mod commands;
mod config;
mod contract;
mod contract_file;
mod crawl;
mod csv_fields;
mod csv_reader;
mod csv_rows;
mod drivers_file;
#[cfg(test)]
mod fakes;
mod fault;
mod file_watcher;
mod finding;
mod firehose_writer;
mod journal;
mod journal_file;
mod judge;
mod line_set;
mod load;
mod load_file;
mod load_journal;
mod load_ledger;
mod load_status;
mod notify;
mod pace;
mod pack;
mod ports;
mod progress;
mod progress_news;
mod rejected_rows;
mod rejects;
mod report;
mod retry;
mod s3_lister;
mod settle;
mod staged_objects;
mod staged_row;
mod supervisor;
mod tasks;
mod validator;
mod value_checks;
mod warehouse;
mod warehouse_copier;
mod watch_supervisor;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = commands::Cli::parse();
    start_logs();
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let known = error.downcast_ref::<commands::CliError>();
            // Ours tell the whole story in one message; of others the causes are wanted too.
            let text = known.map_or_else(|| format!("{error:#}"), ToString::to_string);
            eprintln!("speedtrap-loader: {text}");
            ExitCode::from(known.map_or(1, commands::CliError::exit_code))
        }
    }
}

fn run(cli: commands::Cli) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let code = runtime.block_on(cli.run());
    // A thread that still reads a file must not hold up the end.
    runtime.shutdown_background();
    Ok(code?)
}

/// Human on a terminal, where the progress line tells the usual, JSON lines otherwise.
fn start_logs() {
    let usual = if std::io::stderr().is_terminal() { "warn" } else { "warn,speedtrap_loader=info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() { logs.init() } else { logs.json().init() }
}
