//! Asking a node.

use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use ureq::Agent;

use crate::exit::{Exit, Stop};

/// Longest time of one question. The node answers from memory.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Which node to ask, and how to show the answer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  speedtrap status
  speedtrap actors --node http://127.0.0.1:7301
  speedtrap status --json")]
pub(crate) struct NodeArgs {
    /// Address of the node's API.
    #[arg(long, value_name = "URL", env = "SPEEDTRAP_NODE_URL", default_value = "http://127.0.0.1:7300")]
    pub(crate) node: String,
    /// Shows the API's JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Gets a page of the API: its text, and what it says.
///
/// # Errors
/// When the node cannot be asked, or does not answer with what was asked for.
pub(crate) fn get<T: DeserializeOwned>(node: &str, path: &str) -> Result<(String, T), Stop> {
    let url = format!("{}{path}", node.trim_end_matches('/'));
    if !url.starts_with("http://") {
        return Err(
            Stop::new(Exit::Failed, format!("`{node}` is no address of a node")).next("give one such as http://127.0.0.1:7300")
        );
    }
    let agent: Agent =
        Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).proxy(None).build().into();
    let failed = |exit: Exit, why: &dyn std::fmt::Display| {
        let next = "see whether `speedtrap run` runs there; its log names its address (--node or SPEEDTRAP_NODE_URL)";
        Stop::new(exit, format!("no answer from the node at {node}")).why(why).next(next)
    };
    let mut answer = agent.get(&url).call().map_err(|error| match error {
        ureq::Error::Timeout(_) => failed(Exit::Unreachable, &"it took more than 5 s"),
        error => failed(Exit::Unreachable, &error),
    })?;
    let status = answer.status();
    let text = answer.body_mut().read_to_string().map_err(|error| failed(Exit::Unreachable, &error))?;
    let refused = |why: String| Stop::new(Exit::Failed, format!("{url} is not what a node answers")).why(why);
    if !status.is_success() {
        return Err(refused(format!("HTTP status {status}")));
    }
    let value = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
    Ok((text, value))
}
