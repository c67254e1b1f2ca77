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
mod selftest;
mod settings;
mod source;
mod status;
mod tls;
mod trigger;
mod window;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tracing_subscriber::EnvFilter;

use crate::config::{Cli, Command};
use crate::failure::Failure;
use crate::settings::Faults;

fn main() -> ExitCode {
    let arguments = match settings::layered(&Cli::command(), std::env::args_os().collect(), std::env::vars_os()) {
        Ok(arguments) => arguments,
        Err(Faults { command, faults }) if command == "selftest" => {
            return commands::selftest::tell_faults(&faults, std::env::args_os().any(|argument| argument == "--json"));
        }
        Err(Faults { faults, .. }) => {
            let what = format!("the configuration is not good; nothing was sent\n  {}", faults.join("\n  "));
            return Failure::BadConfig { what }.tell();
        }
    };
    match Cli::parse_from(arguments).command {
        Command::Publish(args) => {
            start_log(args.verbose);
            commands::publish::run(&args)
        }
        Command::Selftest(args) => commands::selftest::run(&args),
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
