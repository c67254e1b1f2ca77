//! The pages that only show.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::problem::Problem;
use super::{ActorsPage, Api, NodesPage, Phase, ShardsPage, StatusPage, metrics as exposition};

/// The process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The node works: its lanes run, and it is not about to stop.
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> Response {
    match api.node.phase() {
        Phase::Running => "ready\n".into_response(),
        phase => {
            let detail = format!("the node is {}", phase.label());
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", detail).into_response()
        }
    }
}

/// Which nodes a page is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    /// The one that is asked.
    #[default]
    Node,
    /// All.
    Cluster,
}

/// The only question mark that a page takes.
#[derive(Debug, Deserialize)]
pub(super) struct Scoped {
    #[serde(default)]
    scope: Scope,
}

type Question = Result<Query<Scoped>, QueryRejection>;

fn scope(question: Question) -> Result<Scope, Problem> {
    let bad = |error: QueryRejection| Problem::new(StatusCode::BAD_REQUEST, "bad_query", error.body_text());
    question.map(|Query(scoped)| scoped.scope).map_err(bad)
}

/// Lanes and counts.
pub(super) async fn status(State(api): State<Arc<Api>>, question: Question) -> Result<Response, Problem> {
    Ok(match scope(question)? {
        Scope::Node => Json(StatusPage::of(&api.node)).into_response(),
        Scope::Cluster => Json(api.cluster_status().await).into_response(),
    })
}

/// Actors, and the last restarts.
pub(super) async fn actors(State(api): State<Arc<Api>>, question: Question) -> Result<Response, Problem> {
    Ok(match scope(question)? {
        Scope::Node => Json(ActorsPage::of(&api.node)).into_response(),
        Scope::Cluster => Json(api.cluster_actors().await).into_response(),
    })
}

/// All nodes.
pub(super) async fn nodes(State(api): State<Arc<Api>>) -> Json<NodesPage> {
    Json(api.nodes_page().await)
}

/// All shards of all applications.
pub(super) async fn shards(State(api): State<Arc<Api>>) -> Json<ShardsPage> {
    Json(api.shards().await)
}

/// What Prometheus may ask for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Detailed {
    #[serde(default)]
    detail: Option<Detail>,
}

/// What there is more of.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Detail {
    Actors,
}

/// Everything for Prometheus.
pub(super) async fn metrics(
    State(api): State<Arc<Api>>,
    question: Result<Query<Detailed>, QueryRejection>,
) -> Result<Response, Problem> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let bad = |error: QueryRejection| Problem::new(StatusCode::BAD_REQUEST, "bad_query", error.body_text());
    let Query(Detailed { detail }) = question.map_err(bad)?;
    let detail = detail.map_or(exposition::Detail::Kinds, |Detail::Actors| exposition::Detail::Actors);
    exposition::text(&api, detail)
        .map(|text| ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "encoding_failed", error.to_string()))
}
