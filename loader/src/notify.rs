//! Tells the nodes that a load was committed, so that they forget the drivers they know.
//!
//! One node is enough: it tells the others. Best effort, since a node's own knowledge ends within the hour anyway.

use std::time::Duration;

use serde::Serialize;
use speedtrap_actors::flow::Backoff;
use tracing::{info, warn};

use crate::report::LoadReport;

const ROUNDS: u32 = 3;
const BETWEEN_ROUNDS: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(2) };
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct LoadCommitted<'a> {
    load_id: &'a str,
    rows: u64,
    drivers: u64,
}

/// Tries each node until one has taken the message.
pub(crate) async fn tell_nodes(node_urls: &[String], report: &LoadReport) {
    if node_urls.is_empty() {
        return;
    }
    let body = LoadCommitted { load_id: &report.load_id, rows: report.rows, drivers: report.drivers };
    let Ok(body) = serde_json::to_string(&body) else { return };
    for round in 0..ROUNDS {
        for node in node_urls {
            let (url, body) = (format!("{}/api/v1/loads", node.trim_end_matches('/')), body.clone());
            let told = tokio::task::spawn_blocking(move || post(&url, &body)).await;
            match told.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(()) => {
                    info!(node, "told of the load");
                    return;
                }
                Err(reason) => warn!(node, reason, "could not be told of the load"),
            }
        }
        if round + 1 < ROUNDS {
            tokio::time::sleep(BETWEEN_ROUNDS.delay(round, rand::random())).await;
        }
    }
    warn!(
        "no node was told of the load: nodes may use the earlier drivers for up to 1 hour; loading the file again repeats the message"
    );
}

fn post(url: &str, body: &str) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build().into();
    let request = agent.post(url).header("content-type", "application/json");
    request.send(body).map(|_| ()).map_err(|error| error.to_string())
}
