//! What operators did, on all nodes.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::SilentNode;
use super::cluster::{Answer, Api, Heard};
use super::node_view::AUDIT;
use super::pages::time;
use super::shards::silent;
use crate::audit::AuditLine;

/// `GET /api/v1/audit`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AuditPage {
    pub(crate) schema: u32,
    pub(crate) served_by: String,
    pub(crate) at: String,
    /// The last ones of each node, oldest first.
    pub(crate) lines: Vec<AuditLine>,
    /// Nodes that did not answer; what was asked of them is missing, or old.
    pub(crate) silent: Vec<SilentNode>,
}

impl Answer for Vec<AuditLine> {}

/// The last lines of all nodes.
pub(super) async fn audit(State(api): State<Arc<Api>>) -> Json<AuditPage> {
    let heard: Vec<Heard<Vec<AuditLine>>> = api.hear(AUDIT).await;
    let silent = silent(&heard);
    let mut lines: Vec<AuditLine> = heard.into_iter().filter_map(|heard| heard.page).flatten().collect();
    lines.sort_by(|one, other| one.at.cmp(&other.at));
    Json(AuditPage { schema: 1, served_by: api.node.name.clone(), at: time(SystemTime::now()), lines, silent })
}
