//! The API that shows a node. Loopback only: it knows neither TLS nor users yet.

mod guard;
mod loads;
mod metrics;
mod node_view;
mod pages;
mod problem;
mod read;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use axum::{Router, http::StatusCode};

pub(crate) use node_view::{ApplicationView, CacheCounts, DriverCache, NodeView, Phase};
pub(crate) use pages::{ActorPage, ActorsPage, LanePage, StatusPage};
#[cfg(test)]
pub(crate) use pages::{LastRestart, RestartPage};
use problem::Problem;

/// Longest request body; the only one there is holds a few names.
const BODY_LIMIT: usize = 16 << 10;

/// All paths of the API.
pub(crate) fn router(view: Arc<NodeView>) -> Router {
    Router::new()
        .route("/healthz", get(read::healthz))
        .route("/readyz", get(read::readyz))
        .route("/metrics", get(read::metrics))
        .route("/api/v1/status", get(read::status))
        .route("/api/v1/actors", get(read::actors))
        .route("/api/v1/loads", post(loads::committed))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such page") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this page does not take that method")
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(guard::only_loopback_names))
        .with_state(view)
}

#[cfg(test)]
mod tests;
