//! `speedtrap device register|list|revoke`: the operator's side of AWS IoT Core, from the operator's own machine.

mod kit;
mod list;
mod policy;
mod register;
mod registry;
mod revoke;
mod roots;

use clap::{Args, Subcommand};

use crate::config;
use crate::exit::{Exit, Stop};

/// Arguments of `device`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  speedtrap device register PI-07
  speedtrap device list
  speedtrap device revoke PI-07

Account, region and credentials are those of the AWS SDK: AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL and so on.")]
pub(crate) struct DeviceArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes thing, certificate and policy of a device, and a folder with all that it needs to connect.
    Register(register::RegisterArgs),
    /// Shows the registered devices and their certificates.
    List(list::ListArgs),
    /// Takes a device's certificate, policy and thing away; the broker refuses it from then on.
    Revoke(revoke::RevokeArgs),
}

/// Runs it.
///
/// # Errors
/// When AWS refuses or cannot be reached, or something stands in the way.
pub(crate) fn device(args: DeviceArgs) -> Result<Exit, Stop> {
    let faults = config::aws_endpoint_faults();
    if !faults.is_empty() {
        return Err(Stop::new(Exit::BadConfig, config::ConfigFaults(faults).to_string()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Stop::new(Exit::Failed, "cannot start the runtime").why(error))?;
    runtime.block_on(async {
        tokio::select! {
            done = act(args.action) => done,
            _interrupted = tokio::signal::ctrl_c() => {
                eprintln!("speedtrap: interrupted; the same command again finishes what this one has begun");
                Ok(Exit::Interrupted)
            }
        }
    })
}

async fn act(action: Action) -> Result<Exit, Stop> {
    match action {
        Action::Register(args) => register::register(args).await,
        Action::List(args) => list::list(&args).await,
        Action::Revoke(args) => revoke::revoke(&args).await,
    }
}

/// A name that serves as thing, as MQTT client id and in event ids: each allows other characters, and these are common to all.
fn device_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err("a device's name has 1 to 32 of the characters A-Z a-z 0-9 _ -".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_must_serve_as_thing_client_and_event_id() {
        assert_eq!(device_name("PI-07_west"), Ok("PI-07_west".to_owned()));
        for bad in ["", "a.b", "a:b", "a/b", "a b", "..", &"x".repeat(33)] {
            assert!(device_name(bad).is_err(), "{bad}");
        }
    }
}
