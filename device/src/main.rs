//! `speedtrap-device` sends speed readings to an MQTT broker (AWS IoT Core or any other) and knows of each whether the
//! broker has taken it.

mod backoff;
mod config;
mod event_ids;
mod failure;
mod link_error;
mod publisher;
mod reading;
mod readings_file;
mod report;
mod tls;
mod window;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;

use crate::config::{Cli, Command, PublishArgs};
use crate::failure::Failure;
use crate::publisher::Publisher;
use crate::report::Report;

fn main() -> ExitCode {
    let Cli { command: Command::Publish(args) } = Cli::parse();
    start_log(args.verbose);
    let mut report = Report::default();
    let ended = publish(&args, &mut report);
    report.error = ended.as_ref().err().map(ToString::to_string);
    report.print(args.json);
    match ended {
        Ok(()) if report.rejected > 0 => ExitCode::from(3),
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("speedtrap-device: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn publish(args: &PublishArgs, report: &mut Report) -> Result<(), Failure> {
    // Everything that can be wrong on this side is found before the first packet.
    let tls = tls::client_config(args)?;
    let rows = readings_file::ReadingsFile::open(&args.file)?;
    let progress = progress_bar(rows.bytes());
    // One thread: a Pi has little to gain from more, and the window needs no lock.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::BadInput { what: format!("cannot start: {e}") })?;
    let ended = runtime.block_on(Publisher::new(args, tls, rows, report, progress.clone()).run());
    // A name lookup cannot be cancelled; after Ctrl-C nobody should wait for it.
    runtime.shutdown_background();
    progress.finish_and_clear();
    ended
}

/// A bar over the bytes of the file, and only where somebody watches.
fn progress_bar(bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}  {elapsed}");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn start_log(verbose: bool) {
    // Only our own lines: the MQTT library reports as errors what the publisher handles.
    let filter = EnvFilter::new(if verbose { "speedtrap_device=info" } else { "speedtrap_device=warn" });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
