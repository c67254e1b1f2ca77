//! The API of a node and its dashboard, which answer for the whole cluster.

mod actions;
mod audit_page;
mod caller;
mod cluster;
mod cluster_pages;
mod cost;
mod dashboard;
mod drain;
mod figures;
mod gate;
mod guard;
mod lanes_page;
mod letter_watch;
mod letters;
mod limits;
mod load_news;
mod load_runs;
mod loads;
mod map;
mod masking;
mod metrics;
mod node_view;
mod overview;
mod pages;
mod problem;
mod read;
mod reveal;
mod routes;
mod session;
mod shards;
mod stream;
mod tls;

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::handler::Handler as _;
use axum::middleware;
use axum::{Router, http::StatusCode};

pub(crate) use actions::{ActionAccepted, ActionPage, ConfirmOrder, Options, PreviewOrder, PreviewPage, Target};
pub(crate) use audit_page::AuditPage;
pub(crate) use caller::Role;
pub(crate) use cluster::Api;
pub(crate) use cluster_pages::{ClusterActorsPage, ClusterStatusPage, NodePage, NodeStatus, NodesPage};
use cost::Cost;
pub(crate) use drain::DrainAccepted;
pub(crate) use gate::Gate;
use lanes_page::LanesPage;
pub(crate) use letters::{LetterPage, LettersPage, OrderEnd};
use limits::Limit;
pub(crate) use masking::plate as masked_plate;
pub(crate) use metrics::EmbeddedMetrics;
pub(crate) use node_view::{ApplicationView, CacheCounts, DriverCache, NodeView, Phase};
pub(crate) use overview::Kpis;
#[cfg(test)]
pub(crate) use pages::LastRestart;
pub(crate) use pages::known_lag;
pub(crate) use pages::{ActorPage, ActorsPage, IngestPage, LanePage, RestartPage, StatusPage};
use problem::Problem;
pub(crate) use reveal::{Reveal, Revealed};
use routes::{ADMIN, ANYBODY, OPERATOR, Routes, VIEWER};
pub(crate) use shards::{ShardPage, ShardsPage, SilentNode};
pub(crate) use tls::{ApiTls, TlsFault, serve};

/// Longest request body but that of a preview, which may name thousands of letters.
const BODY_LIMIT: usize = 16 << 10;
/// Actions of one caller.
const ACTIONS_A_MINUTE: NonZeroU32 = const { NonZeroU32::new(10).expect("more than none") };

/// All paths of the API, each with who may ask for it.
fn routes() -> Routes {
    let acts = &Arc::new(Limit::a_minute(ACTIONS_A_MINUTE, "actions"));
    Routes::new()
        .get("/", ANYBODY, dashboard::page)
        .get("/ui/{*path}", ANYBODY, dashboard::file)
        .get("/healthz", ANYBODY, read::healthz)
        .get("/readyz", ANYBODY, read::readyz)
        .get("/metrics", VIEWER, read::metrics)
        .get("/api/v1/session", ANYBODY, session::show)
        .post("/api/v1/session", ANYBODY, session::sign_in)
        .delete("/api/v1/session", ANYBODY, session::sign_out)
        .get("/api/v1/overview", VIEWER, overview::overview)
        .get("/api/v1/status", VIEWER, read::status)
        .get("/api/v1/actors", VIEWER, read::actors)
        .get("/api/v1/nodes", VIEWER, read::nodes)
        .get("/api/v1/shards", VIEWER, read::shards)
        .get("/api/v1/map", VIEWER, map::map)
        .act("/api/v1/nodes/{name}/drain", OPERATOR, acts, drain::drain)
        .get("/api/v1/actions", VIEWER, actions::list)
        .get("/api/v1/actions/{id}", VIEWER, actions::show)
        .post("/api/v1/actions/preview", OPERATOR, actions::preview.layer(DefaultBodyLimit::max(actions::PREVIEW_LIMIT)))
        .act("/api/v1/actions", OPERATOR, acts, actions::confirm)
        .post("/api/v1/actions/{id}/cancel", OPERATOR, actions::cancel)
        .get("/api/v1/stream", VIEWER, stream::stream)
        .get("/api/v1/dead-letters", VIEWER, letters::list)
        .get("/api/v1/dead-letters/{id}", VIEWER, letters::show)
        .post("/api/v1/dead-letters/redrive", OPERATOR, letters::redrive)
        .post("/api/v1/dead-letters/discard", ADMIN, letters::discard)
        .act("/api/v1/reveal", OPERATOR, acts, reveal::reveal)
        .get("/api/v1/audit", VIEWER, audit_page::audit)
        .get("/api/v1/loads", VIEWER, loads::list)
        .post("/api/v1/loads", OPERATOR, loads::committed)
        .post("/api/v1/loads/progress", OPERATOR, loads::progressed.layer(DefaultBodyLimit::max(loads::PROGRESS_LIMIT)))
        .get("/api/v1/loads/{id}/rejected", VIEWER, loads::rejected)
}

/// The API as a service.
pub(crate) fn router(api: Arc<Api>) -> Router {
    routes()
        .router
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such page") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this page does not take that method")
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), actions::note_forbidden))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), guard::guard))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), cost::counted))
        .with_state(api)
}

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod security_tests;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
