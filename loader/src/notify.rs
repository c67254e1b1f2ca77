//! Tells the nodes that a load was committed, so that they forget the drivers they know.
//!
//! One node is enough: it tells the others. The message is sent until a node has taken it; the journal says whether that is so,
//! and the next start of the loader, or `watch`, goes on where an earlier process stopped.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use speedtrap_actors::adapters::{authorities, crypto};
use speedtrap_actors::flow::{Backoff, RetryBudget};
use tokio::time::Instant;
use tracing::{info, warn};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::journal::What;
use crate::journal_file::{Journal, Journals};
use crate::load_journal;
use crate::load_status::LoadStatus;

const BETWEEN_ROUNDS: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(10) };
const TIMEOUT: Duration = Duration::from_secs(5);

/// The nodes to tell, and how they know this loader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nodes<'a> {
    pub(crate) urls: &'a [String],
    /// File with a token, for nodes that want one.
    pub(crate) token_file: Option<&'a Path>,
    /// PEM file with the authorities that signed their certificates, for https addresses. Without one, those of the system.
    pub(crate) ca_file: Option<&'a Path>,
}

/// Tries each node, round after round, until one has taken the message of a committed load or the time is over.
pub(crate) async fn tell_nodes(nodes: Nodes<'_>, journal: &Journal, patience: Duration) {
    let state = journal.state();
    if !state.is_to_be_told() || nodes.urls.is_empty() {
        return;
    }
    let Ok(body) = serde_json::to_string(&LoadStatus::of_journal(&state, true)) else { return };
    let budget = RetryBudget { backoff: BETWEEN_ROUNDS, most_elapsed: patience };
    let (started, mut round) = (Instant::now(), 0);
    loop {
        for node in nodes.urls {
            let (url, body) = (format!("{}/api/v1/loads", node.trim_end_matches('/')), body.clone());
            let [token_file, ca_file] = [nodes.token_file, nodes.ca_file].map(|file| file.map(Path::to_owned));
            let told = tokio::task::spawn_blocking(move || post(&url, token_file, ca_file, &body, TIMEOUT)).await;
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
pub(crate) async fn tell_of_earlier_loads(nodes: Nodes<'_>, journals: &Journals) {
    if nodes.urls.is_empty() {
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
        tell_nodes(nodes, &journal, Duration::ZERO).await;
    }
}

/// Sends a message to a node; blocks.
pub(crate) fn post(
    url: &str,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    body: &str,
    timeout: Duration,
) -> Result<(), String> {
    let mut config = ureq::Agent::config_builder().timeout_global(Some(timeout));
    if url.starts_with("https://") {
        let trusted = authorities(ca_file.as_deref()).map_err(|error| error.to_string())?;
        let trusted = RootCerts::from(trusted.iter().map(|one| Certificate::from_der(one).to_owned()));
        let tls = TlsConfig::builder().root_certs(trusted).unversioned_rustls_crypto_provider(crypto());
        config = config.tls_config(tls.build());
    }
    let agent: ureq::Agent = config.build().into();
    let mut request = agent.post(url).header("content-type", "application/json");
    if let Some(file) = token_file {
        if !may_have_a_token(url) {
            return Err("it is not on this machine and speaks no TLS, so the token is not sent there".to_owned());
        }
        // Read each time, so that a new token needs no restart.
        let token = std::fs::read_to_string(&file).map_err(|error| format!("`{}` cannot be read: {error}", file.display()))?;
        request = request.header("authorization", format!("Bearer {}", token.trim()));
    }
    request.send(body).map(|_| ()).map_err(|error| match error {
        ureq::Error::StatusCode(401) => "it wants a token that it knows: --node-token-file".to_owned(),
        ureq::Error::StatusCode(403) => "it does not take loads from this token; an operator's is needed".to_owned(),
        error => error.to_string(),
    })
}

/// A token is a secret, which goes over TLS, or does not leave this machine.
fn may_have_a_token(url: &str) -> bool {
    let Ok(url) = url.parse::<ureq::http::Uri>() else { return false };
    let host = url.host().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    url.scheme_str() == Some("https") || host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_nowhere_in_the_clear() {
        for (url, may) in [
            ("http://127.0.0.1:7300/api/v1/loads", true),
            ("http://[::1]:7300/api/v1/loads", true),
            ("https://node-1.example:7300/api/v1/loads", true),
            ("http://node-1.example:7300/api/v1/loads", false),
            ("http://localhost:7300@node-1.example/", false),
        ] {
            assert_eq!(may_have_a_token(url), may, "{url}");
        }
    }
}
