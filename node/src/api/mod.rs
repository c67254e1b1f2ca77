//! The API of a node and its dashboard, which answer for the whole cluster. Loopback only: it knows neither TLS nor users yet.

mod audit_page;
mod cluster;
mod cluster_pages;
mod dashboard;
mod drain;
mod guard;
mod lanes_page;
mod letters;
mod load_news;
mod loads;
mod masking;
mod metrics;
mod node_view;
mod pages;
mod problem;
mod read;
mod shards;
mod stream;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use axum::{Router, http::StatusCode};

pub(crate) use audit_page::AuditPage;
pub(crate) use cluster::Api;
pub(crate) use cluster_pages::{ClusterActorsPage, ClusterStatusPage, NodePage, NodeStatus, NodesPage};
pub(crate) use drain::DrainAccepted;
use lanes_page::LanesPage;
pub(crate) use letters::{LetterOrder, LetterPage, LettersPage, MOST_ORDERED, OrderEnd};
pub(crate) use node_view::{ApplicationView, CacheCounts, DriverCache, NodeView, Phase};
#[cfg(test)]
pub(crate) use pages::LastRestart;
pub(crate) use pages::{ActorPage, ActorsPage, IngestPage, LanePage, RestartPage, StatusPage};
use problem::Problem;
pub(crate) use shards::{ShardPage, ShardsPage, SilentNode};

/// Longest request body; the only one there is holds a few names.
const BODY_LIMIT: usize = 16 << 10;

/// All paths of the API.
pub(crate) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/", get(dashboard::page))
        .route("/ui/{*path}", get(dashboard::file))
        .route("/healthz", get(read::healthz))
        .route("/readyz", get(read::readyz))
        .route("/metrics", get(read::metrics))
        .route("/api/v1/status", get(read::status))
        .route("/api/v1/actors", get(read::actors))
        .route("/api/v1/nodes", get(read::nodes))
        .route("/api/v1/shards", get(read::shards))
        .route("/api/v1/nodes/{name}/drain", post(drain::drain))
        .route("/api/v1/stream", get(stream::stream))
        .route("/api/v1/dead-letters", get(letters::list))
        .route("/api/v1/dead-letters/redrive", post(letters::redrive))
        .route("/api/v1/dead-letters/discard", post(letters::discard))
        .route("/api/v1/dead-letters/{id}", get(letters::show))
        .route("/api/v1/audit", get(audit_page::audit))
        .route("/api/v1/loads", get(loads::list).post(loads::committed))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such page") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this page does not take that method")
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(guard::only_loopback_names))
        .with_state(api)
}

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
