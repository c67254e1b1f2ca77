//! Asking a node.

use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::exit::{Exit, Stop};

/// Longest time of one question. The node answers from memory, and waits less than a second for others.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time of an order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest answer: a thousand nodes with a thousand actors each.
const MOST_BYTES: u64 = 1 << 30;

/// Which node to ask, and how to show the answer.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Address of the API of any node; it answers for all of them.
    #[arg(long, value_name = "URL", env = "SPEEDTRAP_NODE_URL", default_value = "http://127.0.0.1:7300")]
    pub(crate) node: String,
    /// Shows the API's JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which node to ask, and whether only about itself.
#[derive(Debug, Args)]
pub(crate) struct ScopeArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Shows only the node that is asked.
    #[arg(long)]
    pub(crate) local: bool,
}

/// Gets a page of the API: its text, and what it says.
///
/// # Errors
/// When the node cannot be asked, or does not answer with what was asked for.
pub(crate) fn get<T: DeserializeOwned>(node: &str, path: &str) -> Result<(String, T), Stop> {
    let (url, agent) = (url(node, path)?, agent());
    understand(node, &url, agent.get(&url).call())
}

/// Orders something of the API.
///
/// # Errors
/// When the node cannot be asked, or refuses.
pub(crate) fn post<T: DeserializeOwned>(node: &str, path: &str) -> Result<(String, T), Stop> {
    let (url, agent) = (url(node, path)?, agent());
    understand(node, &url, agent.post(&url).header("content-type", "application/json").send("{}"))
}

/// Orders something of the API, with what it needs to know.
///
/// # Errors
/// When the node cannot be asked, or refuses.
pub(crate) fn post_json<B: Serialize, T: DeserializeOwned>(node: &str, path: &str, body: &B) -> Result<(String, T), Stop> {
    let url = url(node, path)?;
    let body = serde_json::to_string(body).map_err(|error| Stop::new(Exit::Failed, "the order cannot be written").why(error))?;
    // Remote services stand behind it, which may be slow; what was begun is ended and noted there even if nobody waits.
    let agent = agent_for(ORDER_TIMEOUT);
    understand(node, &url, agent.post(&url).header("content-type", "application/json").send(body))
}

fn url(node: &str, path: &str) -> Result<String, Stop> {
    let url = format!("{}{path}", node.trim_end_matches('/'));
    if url.starts_with("http://") {
        return Ok(url);
    }
    Err(Stop::new(Exit::Failed, format!("`{node}` is no address of a node")).next("give one such as http://127.0.0.1:7300"))
}

fn agent() -> Agent {
    agent_for(TIMEOUT)
}

fn agent_for(timeout: Duration) -> Agent {
    Agent::config_builder().timeout_global(Some(timeout)).http_status_as_error(false).proxy(None).build().into()
}

fn understand<T: DeserializeOwned>(
    node: &str,
    url: &str,
    answer: Result<Response<Body>, ureq::Error>,
) -> Result<(String, T), Stop> {
    let failed = |why: &dyn std::fmt::Display| {
        let next = "see whether `speedtrap run` runs there; its log names its address (--node or SPEEDTRAP_NODE_URL)";
        Stop::new(Exit::Unreachable, format!("no answer from the node at {node}")).why(why).next(next)
    };
    let mut answer = answer.map_err(|error| match error {
        ureq::Error::Timeout(_) => failed(&format!("it took more than {} s", TIMEOUT.as_secs())),
        error => failed(&error),
    })?;
    let status = answer.status().as_u16();
    let text = answer.body_mut().with_config().limit(MOST_BYTES).read_to_string().map_err(|error| failed(&error))?;
    let not_understood = |why: String| Stop::new(Exit::Failed, format!("{url} is not what a node answers")).why(why);
    if !(200..300).contains(&status) {
        let problem: Problem = serde_json::from_str(&text).map_err(|_| not_understood(format!("HTTP status {status}")))?;
        return Err(problem.stop());
    }
    let value = serde_json::from_str(&text).map_err(|error| not_understood(error.to_string()))?;
    Ok((text, value))
}

/// An error of the API, as far as a command needs it.
#[derive(Debug, Deserialize)]
struct Problem {
    status: u16,
    code: String,
    detail: String,
}

impl Problem {
    fn stop(self) -> Stop {
        let exit = match self.status {
            404 if self.code != "not_found" => Exit::NotFound,
            403 | 409 => Exit::Refused,
            503 => Exit::Unreachable,
            _ => Exit::Failed,
        };
        Stop::new(exit, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_api_becomes_an_exit_code() {
        for (status, code, exit) in [
            (404, "unknown_node", Exit::NotFound),
            (404, "not_found", Exit::Failed),
            (403, "host_not_allowed", Exit::Refused),
            (409, "drains_already", Exit::Refused),
            (503, "node_unreachable", Exit::Unreachable),
            (500, "encoding_failed", Exit::Failed),
        ] {
            let problem = Problem { status, code: code.to_owned(), detail: "why".to_owned() };
            assert_eq!(problem.stop().exit, exit, "{status} {code}");
        }
    }
}
