//! Asking a node to give its leases away and to stop, from any node.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use speedtrap_actors::cluster::Presence;

use super::cluster::Api;
use super::guard::must_be_json;
use super::problem::Problem;

/// What a node that was asked to drain will do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DrainAccepted {
    pub(crate) schema: u32,
    pub(crate) node: String,
    pub(crate) worker: String,
    /// Leases it held when it was asked; null if unknown.
    pub(crate) leases: Option<u64>,
    pub(crate) next: String,
}

/// Tells the node of that name to drain.
pub(super) async fn drain(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<DrainAccepted>), Problem> {
    must_be_json(&headers)?;
    let nodes = api.nodes();
    // A name may stand there twice: for an earlier boot, too.
    let of_name = || nodes.iter().filter(|node| node.name == name && !node.has_left());
    let Some(node) = of_name().find(|node| node.presence != Presence::Dead).or_else(|| of_name().next()) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_node", format!("there is no node `{name}`")));
    };
    if node.draining {
        let detail = format!("{name} drains already; it stops by itself once its leases are given away");
        return Err(Problem::new(StatusCode::CONFLICT, "drains_already", detail));
    }
    let unreachable = |why: &str| {
        let at = node.dashboard.as_deref().unwrap_or("an address that is not known");
        let detail = format!("{name} cannot be told: {why}; ask it itself, at {at}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "node_unreachable", detail)
    };
    let leases =
        api.nodes_page().await.nodes.into_iter().find(|page| page.worker == node.worker).and_then(|page| page.n_leases());
    match node.presence {
        Presence::Here => api.node.drain_asked.notify_one(),
        Presence::Linked => api.reach.drain(&node.worker).await.map_err(|failure| unreachable(&failure.reason))?,
        other => return Err(unreachable(&format!("it is {}", other.label()))),
    }
    tracing::info!(node = name, "a drain was asked for");
    let next = "it reads nothing more, finishes what is in its lanes, hands its leases over and exits with 0".to_owned();
    let (node, worker) = (node.name.clone(), node.worker.clone());
    Ok((StatusCode::ACCEPTED, Json(DrainAccepted { schema: 1, node, worker, leases, next })))
}
