//! Tells the nodes that a load was committed, so that they forget the drivers they know.
//!
//! One node is enough: it tells the others. The message is sent until a node has taken it; the journal says whether that is so,
//! and the next start of the loader, or `watch`, goes on where an earlier process stopped.

use std::time::Duration;

use speedtrap_actors::flow::{Backoff, RetryBudget};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::journal::What;
use crate::journal_file::{Journal, Journals};
use crate::load_journal;
use crate::load_status::LoadStatus;

const BETWEEN_ROUNDS: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(10) };
const TIMEOUT: Duration = Duration::from_secs(5);

/// Tries each node, round after round, until one has taken the message of a committed load or the time is over.
pub(crate) async fn tell_nodes(node_urls: &[String], journal: &Journal, patience: Duration) {
    let state = journal.state();
    if !state.is_to_be_told() || node_urls.is_empty() {
        return;
    }
    let Ok(body) = serde_json::to_string(&LoadStatus::of_journal(&state, true)) else { return };
    let budget = RetryBudget { backoff: BETWEEN_ROUNDS, most_elapsed: patience };
    let (started, mut round) = (Instant::now(), 0);
    loop {
        for node in node_urls {
            let (url, body) = (format!("{}/api/v1/loads", node.trim_end_matches('/')), body.clone());
            let told = tokio::task::spawn_blocking(move || post(&url, &body)).await;
            match told.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(()) => {
                    info!(node, load_id = state.load_id, "told of the load");
                    if let Err(error) = load_journal::append(journal, What::Told { node: node.clone() }).await {
                        warn!(%error, "the node will be told once more");
                    }
                    return;
                }
                Err(reason) => warn!(node, reason, "could not be told of the load"),
            }
        }
        let Some(delay) = budget.next_delay(round, started.elapsed(), rand::random()) else { break };
        tokio::time::sleep(delay).await;
        round += 1;
    }
    warn!(
        load_id = state.load_id,
        "no node was told of the load; the loader's next start does it, and nodes forget earlier drivers within 1 hour anyway"
    );
}

/// Tells of the loads that earlier processes could not tell of, once each.
pub(crate) async fn tell_of_earlier_loads(node_urls: &[String], journals: &Journals) {
    if node_urls.is_empty() {
        return;
    }
    let owned = journals.clone();
    let untold = tokio::task::spawn_blocking(move || {
        let readings = owned.read_all().unwrap_or_default();
        let untold = readings.into_iter().filter(|reading| reading.state.is_to_be_told() && !reading.is_held);
        // A load that another process has taken up meanwhile is that one's to tell of.
        untold.filter_map(|reading| owned.open(&reading.state.load_id).ok()).collect::<Vec<Journal>>()
    });
    for journal in untold.await.unwrap_or_default() {
        tell_nodes(node_urls, &journal, Duration::ZERO).await;
    }
}

fn post(url: &str, body: &str) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build().into();
    let request = agent.post(url).header("content-type", "application/json");
    request.send(body).map(|_| ()).map_err(|error| error.to_string())
}
