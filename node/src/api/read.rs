//! The pages that only show.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::{ActorsPage, NodeView, Phase, StatusPage, metrics as exposition};

/// The process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The node works: every application has its lanes, and it is not about to stop.
pub(super) async fn readyz(State(view): State<Arc<NodeView>>) -> Response {
    match view.phase() {
        Phase::Running => "ready\n".into_response(),
        phase => {
            let detail = format!("the node is {}", phase.label());
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", detail).into_response()
        }
    }
}

/// Lanes and counts.
pub(super) async fn status(State(view): State<Arc<NodeView>>) -> Json<StatusPage> {
    Json(StatusPage::of(&view))
}

/// All actors, and the last restarts.
pub(super) async fn actors(State(view): State<Arc<NodeView>>) -> Json<ActorsPage> {
    Json(ActorsPage::of(&view))
}

/// Everything for Prometheus.
pub(super) async fn metrics(State(view): State<Arc<NodeView>>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match exposition::text(&view) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "encoding_failed", error.to_string()).into_response(),
    }
}
