//! `speedtrap config check|print|defaults`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::print;
use crate::config::{self, ConfigFaults, Flags, NodeConfig};
use crate::exit::{Exit, Stop};

/// Arguments of `config`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  speedtrap config defaults > speedtrap.toml
  speedtrap config check --config speedtrap.toml
  SPEEDTRAP_RULE__LIMIT_MPH=60 speedtrap config print --json")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Tells everything that is wrong, at once; exit code 78 if anything is.
    Check(SourceArgs),
    /// Shows the merged configuration, secrets as ***.
    Print(SourceArgs),
    /// Shows the commented file of all keys at their defaults.
    Defaults {
        /// Shows them as JSON, without the comments.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct SourceArgs {
    /// TOML file to lay over the defaults.
    #[arg(long, value_name = "FILE", env = "SPEEDTRAP_CONFIG")]
    config: Option<PathBuf>,
    /// Shows JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// When the configuration is bad.
pub(crate) fn config(args: ConfigArgs) -> Result<Exit, Stop> {
    match args.action {
        Action::Check(sources) => check(&sources),
        Action::Print(sources) => {
            let config = load(&sources)?;
            print(&if sources.json { pretty(&config::to_json(&config)) } else { config::to_toml(&config) });
            Ok(Exit::Ok)
        }
        Action::Defaults { json } => {
            print(&if json { pretty(&config::to_json(&NodeConfig::default())) } else { config::DEFAULTS.to_owned() });
            Ok(Exit::Ok)
        }
    }
}

fn check(sources: &SourceArgs) -> Result<Exit, Stop> {
    if !sources.json {
        load(sources)?;
        print("the configuration is valid\n");
        return Ok(Exit::Ok);
    }
    let faults = all_faults(config::load(sources.config.as_deref(), Flags::default()).map(drop));
    let fault = |fault: &config::ConfigFault| serde_json::json!({"key": fault.key, "what": fault.what, "origin": fault.origin});
    let shown: Vec<_> = faults.0.iter().map(fault).collect();
    print(&pretty(&serde_json::json!({"schema": 1, "valid": shown.is_empty(), "faults": shown})));
    Ok(if shown.is_empty() { Exit::Ok } else { Exit::BadConfig })
}

fn load(sources: &SourceArgs) -> Result<NodeConfig, Stop> {
    load_for_node(sources.config.as_deref(), Flags::default())
}

/// Reads the configuration and looks at the environment of the AWS SDK.
///
/// # Errors
/// With every fault of both.
pub(crate) fn load_for_node(file: Option<&std::path::Path>, flags: Flags) -> Result<NodeConfig, Stop> {
    let loaded = config::load(file, flags);
    let faults = all_faults(loaded.as_ref().map(drop).map_err(Clone::clone));
    match loaded {
        Ok(config) if faults.0.is_empty() => Ok(config),
        _ => {
            Err(Stop::new(Exit::BadConfig, faults.to_string())
                .next("correct them; `speedtrap config defaults` explains every key"))
        }
    }
}

fn all_faults(loaded: Result<(), ConfigFaults>) -> ConfigFaults {
    let mut faults = loaded.err().unwrap_or(ConfigFaults(Vec::new()));
    faults.0.extend(config::aws_endpoint_faults());
    faults
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}
