//! Loaders tell here that drivers were loaded.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::NodeView;
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
}

/// Makes every later lookup see what was loaded. Telling the same load again does no harm.
pub(super) async fn committed(
    State(view): State<Arc<NodeView>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    // A web form of another site can post text or a form, but no JSON.
    let is_json = |value: &str| value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if !headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(is_json) {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", "the body must be application/json"));
    }
    let body = body.map_err(|error| Problem::new(error.status(), "body_unreadable", error.body_text()))?;
    let load: Load = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_load", format!("the body is no load: {error}")))?;
    if load.load_id.is_empty() || load.load_id.len() > MOST_LOAD_ID_BYTES {
        let detail = format!("load_id must have 1 to {MOST_LOAD_ID_BYTES} bytes");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_load", detail));
    }
    if let Some(drivers) = &view.drivers {
        (drivers.load_committed)();
    }
    tracing::info!(load_id = load.load_id, "drivers were loaded");
    Ok((StatusCode::ACCEPTED, Json(Accepted { schema: 1, load_id: load.load_id, cache_renewed: view.drivers.is_some() })))
}
