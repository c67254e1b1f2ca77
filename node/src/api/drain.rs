//! Asking a node to give its leases away and to stop, from any node; at once, without a preview.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::actions::{drains_already, node_named, node_unreachable, tell_to_leave};
use super::caller::{Caller, Role};
use super::cluster::Api;
use super::node_view::LIFE;
use super::problem::Problem;
use crate::audit::Asked;

/// What a node that was asked to drain will do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DrainAccepted {
    pub(crate) schema: u32,
    pub(crate) node: String,
    pub(crate) worker: String,
    /// Leases it held when it was asked; null if unknown.
    pub(crate) leases: Option<u64>,
    pub(crate) next: String,
}

/// Why a node is to drain.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrainOrder {
    /// In the operator's words; the audit log keeps it.
    #[serde(default)]
    pub(crate) reason: String,
}

/// Tells the node of that name to drain.
pub(super) async fn drain(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    caller: Caller,
    body: Result<Json<DrainOrder>, JsonRejection>,
) -> Result<(StatusCode, Json<DrainAccepted>), Problem> {
    let Json(order) = body.map_err(|error| Problem::new(error.status(), "bad_order", error.body_text()))?;
    let asked = Asked {
        who: &caller.name,
        role: caller.role.label(),
        from: caller.from,
        action: "drain-node",
        target: &name,
        reason: &order.reason,
        key: None,
    };
    let told = tell(&api, &caller, &name, &asked).await;
    if let Err((problem, false)) = &told {
        api.node.audit.refused(&asked, problem.detail());
    }
    told.map(|accepted| (StatusCode::ACCEPTED, Json(accepted))).map_err(|(problem, _)| problem)
}

/// An error comes with whether it was noted as one of an action that was begun.
async fn tell(api: &Api, caller: &Caller, name: &str, asked: &Asked<'_>) -> Result<DrainAccepted, (Problem, bool)> {
    let refused = |problem| (problem, false);
    caller.must_be(Role::Operator).map_err(refused)?;
    let node = node_named(api, name).map_err(refused)?;
    // One that stands aside drains, too, and may still be told to end.
    if node.draining && api.ask_now::<String>(&node, LIFE).await.as_deref() != Ok("aside") {
        return Err(refused(drains_already(name)));
    }
    let leases =
        api.nodes_page().await.nodes.into_iter().find(|page| page.worker == node.worker).and_then(|page| page.n_leases());
    let intent = api.node.audit.intend(asked).map_err(|error| {
        let detail = format!("nothing was done, because the audit log cannot be written: {error}");
        refused(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "audit_failed", detail))
    })?;
    if let Err(why) = tell_to_leave(api, &node).await {
        api.node.audit.conclude(intent, Err(why.clone()));
        return Err((node_unreachable(&node, &why), true));
    }
    let next = "it reads nothing more, finishes what is in its lanes, hands its leases over and exits with 0".to_owned();
    api.node.audit.conclude(intent, Ok(format!("it was told: {next}")));
    tracing::info!(node = name, by = caller.name, "a drain was asked for");
    Ok(DrainAccepted { schema: 1, node: node.name, worker: node.worker, leases, next })
}
