//! `speedtrap-device` sends speed readings to an MQTT broker (AWS IoT Core or any other) and knows of each whether the
//! broker has taken it.

mod backoff;
mod certificate;
mod clock;
mod commands;
mod config;
mod event_ids;
mod failure;
mod intake;
mod interrupt;
mod light;
mod link_error;
mod outbox;
mod publisher;
mod reading;
mod readings_file;
mod report;
mod source;
mod status;
mod tls;
mod trigger;
mod window;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::config::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Publish(args) => {
            start_log(args.verbose);
            commands::publish::run(&args)
        }
    }
}

fn start_log(verbose: u8) {
    // Only our own lines: the MQTT library reports as errors what the publisher handles.
    let filter = EnvFilter::new(match verbose {
        0 => "speedtrap_device=warn",
        1 => "speedtrap_device=info",
        _ => "speedtrap_device=debug",
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
