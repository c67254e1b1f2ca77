//! Loaders tell here that drivers were loaded, and operators see what they told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::SilentNode;
use super::cluster::{Api, Heard};
use super::guard::must_be_json;
use super::node_view::LOADS;
use super::pages::time;
use super::problem::Problem;
use super::shards::silent;

/// Longest name of a load.
const MOST_LOAD_ID_BYTES: usize = 128;

/// Loads that a node remembers; the warehouse's ledger has all of them.
const KEPT: usize = 100;

/// What a loader says of a load that it committed. Only the id is needed; further members are for later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoadRun {
    pub(crate) load_id: String,
    pub(crate) file: Option<String>,
    pub(crate) rows: Option<u64>,
    pub(crate) merged: Option<u64>,
    pub(crate) duplicates: Option<u64>,
    pub(crate) rejected: Option<u64>,
    pub(crate) started_at: Option<String>,
    pub(crate) committed_at: Option<String>,
    /// The node that was told.
    #[serde(default)]
    pub(crate) node: String,
    /// When it was told.
    #[serde(default)]
    pub(crate) told_at: String,
}

/// The loads that one node was told of, oldest first.
#[derive(Default)]
pub(crate) struct LoadRuns(Mutex<VecDeque<LoadRun>>);

/// `GET /api/v1/loads`.
#[derive(Debug, Serialize)]
pub(super) struct LoadsPage {
    schema: u32,
    served_by: String,
    at: String,
    /// The last ones that each node was told of since it started, latest first.
    loads: Vec<LoadRun>,
    silent: Vec<SilentNode>,
}

impl LoadRuns {
    /// The loads, oldest first.
    pub(super) fn all(&self) -> Vec<LoadRun> {
        self.lock().iter().cloned().collect()
    }

    fn keep(&self, run: LoadRun) {
        let mut runs = self.lock();
        runs.retain(|known| known.load_id != run.load_id);
        runs.push_back(run);
        if runs.len() > KEPT {
            runs.pop_front();
        }
    }

    /// A panic while it was locked leaves whole loads.
    fn lock(&self) -> MutexGuard<'_, VecDeque<LoadRun>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loads that all nodes were told of.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<LoadsPage> {
    let heard: Vec<Heard<Vec<LoadRun>>> = api.hear(LOADS).await;
    let silent = silent(&heard);
    let mut loads: Vec<LoadRun> = heard.into_iter().filter_map(|heard| heard.page).flatten().collect();
    loads.sort_by(|one, other| other.told_at.cmp(&one.told_at));
    Json(LoadsPage { schema: 1, served_by: api.node.name.clone(), at: time(SystemTime::now()), loads, silent })
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
    let run: LoadRun = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_load", format!("the body is no load: {error}")))?;
    let load_id = run.load_id.clone();
    if load_id.is_empty() || load_id.len() > MOST_LOAD_ID_BYTES {
        let detail = format!("load_id must have 1 to {MOST_LOAD_ID_BYTES} bytes");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_load", detail));
    }
    api.node.load_committed(&load_id);
    api.node.loads.keep(LoadRun { node: api.node.name.clone(), told_at: time(SystemTime::now()), ..run });
    let told = api.news.spread(&load_id).await;
    let failed = told.failed.into_iter().map(|(node, why)| NotTold { node, why }).collect();
    let cache_renewed = api.node.drivers.is_some();
    let accepted = Accepted { schema: 1, load_id, cache_renewed, nodes_told: told.n_told + 1, failed };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}
