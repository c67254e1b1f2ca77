//! Loaders tell here that drivers were loaded.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::cluster::Api;
use super::guard::must_be_json;
use super::problem::Problem;

/// Longest name of a load.
const MOST_LOAD_ID_BYTES: usize = 128;

/// What a loader says. Further members are for later.
#[derive(Debug, Deserialize)]
struct Load {
    load_id: String,
}

/// What it is answered.
#[derive(Debug, Serialize)]
pub(super) struct Accepted {
    schema: u32,
    load_id: String,
    /// Whether this node remembers drivers at all.
    cache_renewed: bool,
    /// How many nodes know of it now, this one included.
    nodes_told: usize,
    /// Nodes that do not yet; they are told again for a minute.
    failed: Vec<NotTold>,
}

/// A node that could not be told.
#[derive(Debug, Serialize)]
struct NotTold {
    node: String,
    why: String,
}

/// Makes every later lookup, on every node, see what was loaded. Telling the same load again does no harm.
pub(super) async fn committed(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    must_be_json(&headers)?;
    let body = body.map_err(|error| Problem::new(error.status(), "body_unreadable", error.body_text()))?;
    let Load { load_id } = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_load", format!("the body is no load: {error}")))?;
    if load_id.is_empty() || load_id.len() > MOST_LOAD_ID_BYTES {
        let detail = format!("load_id must have 1 to {MOST_LOAD_ID_BYTES} bytes");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_load", detail));
    }
    api.node.load_committed(&load_id);
    let told = api.news.spread(&load_id).await;
    let failed = told.failed.into_iter().map(|(node, why)| NotTold { node, why }).collect();
    let cache_renewed = api.node.drivers.is_some();
    let accepted = Accepted { schema: 1, load_id, cache_renewed, nodes_told: told.n_told + 1, failed };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}
