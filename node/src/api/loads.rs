//! Loaders tell here how far a load is and that drivers were loaded, and operators see what they told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use futures::future::join_all;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::SilentNode;
use super::cluster::{Api, Heard};
use super::load_runs::{LoadRun, RejectedRow, RejectedRows};
use super::node_view::{LOADS, REJECTED};
use super::pages::time;
use super::problem::Problem;
use super::shards::silent;

/// Longest name of a load.
const MOST_LOAD_ID_BYTES: usize = 128;

/// Longest message of how far a load is: it brings the first rejected rows.
pub(super) const PROGRESS_LIMIT: usize = 64 << 10;

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

/// `GET /api/v1/loads/{id}/rejected`.
#[derive(Debug, Serialize)]
pub(super) struct RejectedPage {
    schema: u32,
    served_by: String,
    load_id: String,
    file: Option<String>,
    /// How many rows were rejected.
    rejected: Option<u64>,
    /// The first of them; null where the loader told of none.
    rows: Option<Vec<RejectedRow>>,
}

/// How far a load is.
#[derive(Debug, Deserialize)]
struct ProgressNews {
    #[serde(flatten)]
    run: LoadRun,
    #[serde(default)]
    rejected_rows: Vec<RejectedRow>,
}

/// The loads that all nodes were told of, each as it was told last.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<LoadsPage> {
    let heard: Vec<Heard<Vec<LoadRun>>> = api.hear(LOADS).await;
    let silent = silent(&heard);
    let mut latest: BTreeMap<String, LoadRun> = BTreeMap::new();
    for run in heard.into_iter().filter_map(|heard| heard.page).flatten() {
        if latest.get(&run.load_id).is_none_or(|known| known.moment() <= run.moment()) {
            latest.insert(run.load_id.clone(), run);
        }
    }
    let mut loads: Vec<LoadRun> = latest.into_values().collect();
    loads.sort_by(|one, other| other.told_at.cmp(&one.told_at));
    Json(LoadsPage { schema: 1, served_by: api.node.name.clone(), at: time(SystemTime::now()), loads, silent })
}

/// The first rejected rows of a load, from the node that was told last.
pub(super) async fn rejected(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<Json<RejectedPage>, Problem> {
    let (page, nodes) = (format!("{REJECTED}{id}"), api.nodes());
    let answers = join_all(nodes.iter().map(|node| api.ask_now::<Option<RejectedRows>>(node, &page))).await;
    // A node that is away has nothing to say; the others may know the load as well.
    let known = answers.into_iter().filter_map(Result::ok).flatten();
    let RejectedRows { run, rows } = known.max_by_key(|known| (known.rows.is_some(), known.run.moment())).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no_such_load", format!("no node that answers was told of a load `{id}`"))
    })?;
    let LoadRun { load_id, file, rejected, .. } = run;
    Ok(Json(RejectedPage { schema: 1, served_by: api.node.name.clone(), load_id, file, rejected, rows }))
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
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let run: LoadRun = load(body)?;
    let load_id = named(&run)?.to_owned();
    api.node.load_committed(&load_id);
    api.node.loads.committed(&api.node.name, run);
    let told = api.news.spread(&load_id).await;
    let failed = told.failed.into_iter().map(|(node, why)| NotTold { node, why }).collect();
    let cache_renewed = api.node.drivers.is_some();
    let accepted = Accepted { schema: 1, load_id, cache_renewed, nodes_told: told.n_told + 1, failed };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

/// Shows how far a load is; changes nothing but the picture.
pub(super) async fn progressed(State(api): State<Arc<Api>>, body: Result<Bytes, BytesRejection>) -> Result<StatusCode, Problem> {
    let ProgressNews { run, rejected_rows } = load(body)?;
    named(&run)?;
    api.node.loads.progressed(&api.node.name, run, rejected_rows);
    Ok(StatusCode::NO_CONTENT)
}

fn load<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let body = body.map_err(|error| Problem::new(error.status(), "body_unreadable", error.body_text()))?;
    serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_load", format!("the body is no load: {error}")))
}

fn named(run: &LoadRun) -> Result<&str, Problem> {
    if run.load_id.is_empty() || run.load_id.len() > MOST_LOAD_ID_BYTES {
        let detail = format!("load_id must have 1 to {MOST_LOAD_ID_BYTES} bytes");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_load", detail));
    }
    Ok(&run.load_id)
}
