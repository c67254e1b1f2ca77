//! What operators may have done to actors, shards, nodes and dead letters: first previewed, then confirmed by typing what it is
//! about, with a reason, and noted in the audit log before and after. The page and the commands use the same paths.
//!
//! A preview says what would happen and is kept for a minute under a token that works once, for its asker alone. A confirmed
//! action goes on by itself; whoever confirmed it may look how far it is, or go away. A node keeps its last 200.

mod actors;
mod desk;
mod letters;
mod nodes;
mod plan;
mod run;
mod shards;

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

pub(crate) use self::desk::ActionDesk;
use self::desk::{Confirmed, PREVIEW_LASTS};
pub(crate) use self::letters::LetterFilter;
pub(super) use self::nodes::{drains_already, tell_to_leave};
use self::plan::{Kind, Planned};
pub(super) use self::plan::{node_named, unreachable as node_unreachable};
use super::caller::{Caller, Role};
use super::cluster::Api;
use super::letters::LeftLetter;
use super::problem::Problem;
use crate::audit::Asked;

/// Longest body of a preview: five thousand ids.
pub(super) const PREVIEW_LIMIT: usize = 256 << 10;
/// Longest reason or key.
const MOST_WORDS: usize = 500;
/// The header that makes a repeated confirmation harmless.
const KEY: &str = "idempotency-key";

/// `POST /api/v1/actions/preview`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PreviewOrder {
    pub(crate) kind: String,
    pub(crate) target: Target,
    #[serde(default)]
    pub(crate) options: Options,
}

/// What an action is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Target {
    /// An actor, a shard as `role/shard`, a role or `all`, or a node.
    Name(String),
    /// Ids of letters.
    Ids(Vec<String>),
    /// Letters that have something in common.
    Filter(LetterFilter),
}

/// How it is to be done, where that may be chosen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Options {
    /// The node that a shard is handed to; else the one with the fewest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Whether a drained node keeps running.
    pub(crate) stay: bool,
    /// Letters a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) per_second: Option<u32>,
    /// Letters that were named and are not open are gone through as well, so that it is told of each why it was left.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) each: bool,
}

/// What would happen.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PreviewPage {
    pub(crate) schema: u32,
    pub(crate) kind: String,
    pub(crate) target: String,
    /// One sentence each.
    pub(crate) effects: Vec<String>,
    /// `low`, `medium` or `high`.
    pub(crate) risk: String,
    /// What has to be typed.
    pub(crate) confirm_text: String,
    pub(crate) token: String,
    pub(crate) expires_s: u64,
}

/// `POST /api/v1/actions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmOrder {
    pub(crate) token: String,
    pub(crate) reason: String,
    pub(crate) confirm_text: String,
}

/// An action was begun.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ActionAccepted {
    pub(crate) schema: u32,
    pub(crate) action_id: String,
    pub(crate) state: String,
}

/// `GET /api/v1/actions`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ActionsPage {
    pub(crate) schema: u32,
    pub(crate) served_by: String,
    /// Those that this node was asked for, the latest first.
    pub(crate) actions: Vec<ActionPage>,
}

/// One action and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ActionPage {
    pub(crate) schema: u32,
    pub(crate) action_id: String,
    pub(crate) at: String,
    pub(crate) kind: String,
    pub(crate) target: String,
    pub(crate) who: String,
    pub(crate) reason: String,
    /// `intent`, `running`, `done`, `failed` or `cancelled`.
    pub(crate) state: String,
    /// Null where nothing is counted.
    pub(crate) progress: Option<Progress>,
    /// Null until it has ended.
    pub(crate) outcome: Option<String>,
    /// Why it failed, as a word: `refused`, `timed_out`, `unknown_outcome`, `left_some` or `broke_off`.
    pub(crate) code: Option<String>,
    /// The first letters that it left as they were; only where one action is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) left: Vec<LeftLetter>,
}

/// How far an action is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) done: u64,
    /// What it has not come to yet.
    pub(crate) left: u64,
    pub(crate) total: u64,
}

type Body<T> = Result<Json<T>, JsonRejection>;

/// Says what would happen, and keeps that for a minute.
pub(super) async fn preview(
    State(api): State<Arc<Api>>,
    caller: Caller,
    body: Body<PreviewOrder>,
) -> Result<Json<PreviewPage>, Problem> {
    let Json(order) = body.map_err(|error| Problem::new(error.status(), "bad_order", error.body_text()))?;
    let kind = Kind::named(&order.kind)?;
    caller.must_be(kind.least())?;
    let planned = plan::plan(&api, kind, order.target, order.options).await?;
    let Planned { target, effects, risk, confirm_text, .. } = &planned;
    let (kind, target, effects) = (kind.label().to_owned(), target.clone(), effects.clone());
    let (risk, confirm_text) = (risk.label().to_owned(), confirm_text.clone());
    let token = api.actions.keep(&caller.name, planned);
    Ok(Json(PreviewPage { schema: 1, kind, target, effects, risk, confirm_text, token, expires_s: PREVIEW_LASTS.as_secs() }))
}

/// A refusal that the audit log has already.
#[derive(Clone)]
struct Noted;

/// Notes who was kept from confirming anything by what they may do, before it was read what that would have been.
pub(super) async fn note_forbidden(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().filter(|_| request.uri().path() == "/api/v1/actions").cloned();
    let answer = next.run(request).await;
    if let (Some(caller), StatusCode::FORBIDDEN, None) = (caller, answer.status(), answer.extensions().get::<Noted>()) {
        let (who, role, from) = (&caller.name, caller.role.label(), caller.from);
        let asked = Asked { who, role, from, action: "unknown", target: "not read", reason: "", key: None };
        api.node.audit.refused(&asked, "they may not do such things, or not from there");
    }
    answer
}

/// Begins what was previewed.
pub(super) async fn confirm(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<ConfirmOrder>,
) -> Result<(StatusCode, Json<ActionAccepted>), Response> {
    let bad_order = |error: JsonRejection| Problem::new(error.status(), "bad_order", error.body_text()).into_response();
    let Json(order) = body.map_err(bad_order)?;
    let key = key_of(&headers);
    let begun = match &key {
        Ok(key) => begin(&api, &caller, key, &order),
        Err(problem) => Err(problem.clone()),
    };
    if let Err(problem) = &begun {
        let (action, target) = api.actions.about(&order.token).unwrap_or(("unknown", "a preview that is not kept".to_owned()));
        let asked = Asked {
            who: &caller.name,
            role: caller.role.label(),
            from: caller.from,
            action,
            target: &target,
            reason: &order.reason,
            key: key.as_deref().ok(),
        };
        api.node.audit.refused(&asked, problem.detail());
    }
    let action_id = begun.map_err(|problem| (Extension(Noted), problem).into_response())?;
    Ok((StatusCode::ACCEPTED, Json(ActionAccepted { schema: 1, action_id, state: "intent".to_owned() })))
}

fn begin(api: &Arc<Api>, caller: &Caller, key: &str, order: &ConfirmOrder) -> Result<String, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "bad_reason", detail);
    if order.reason.trim().is_empty() || order.reason.len() > MOST_WORDS {
        return Err(bad(format!("`reason` must have 1 to {MOST_WORDS} bytes: the audit log keeps it")));
    }
    if order.reason.chars().any(char::is_control) {
        return Err(bad("`reason` must be one line of text".to_owned()));
    }
    let confirmed = api.actions.confirm(caller, key, order, &api.node.audit, |kind| caller.must_be(kind.least()))?;
    match confirmed {
        Confirmed::Before(action_id) => Ok(action_id),
        Confirmed::Now(begun) => {
            let action_id = begun.record.id().to_owned();
            run::start(api, *begun);
            Ok(action_id)
        }
    }
}

fn key_of(headers: &HeaderMap) -> Result<String, Problem> {
    let key = headers.get(KEY).and_then(|key| key.to_str().ok()).map(str::trim).filter(|key| !key.is_empty());
    match key {
        Some(key) if key.len() <= MOST_WORDS => Ok(key.to_owned()),
        _ => {
            let detail = format!("the header Idempotency-Key must hold 1 to {MOST_WORDS} visible characters of your choice");
            Err(Problem::new(StatusCode::BAD_REQUEST, "no_idempotency_key", detail))
        }
    }
}

/// The last actions that this node was asked for.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<ActionsPage> {
    Json(ActionsPage { schema: 1, served_by: api.node.name.clone(), actions: api.actions.all() })
}

/// One action.
pub(super) async fn show(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<Json<ActionPage>, Problem> {
    Ok(Json(api.actions.find(&id).ok_or_else(|| unknown(&id))?.page()))
}

/// Breaks an action off where it can be; what is done stays done.
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<ActionPage>), Problem> {
    caller.must_be(Role::Operator)?;
    let record = api.actions.find(&id).ok_or_else(|| unknown(&id))?;
    caller.must_be(record.kind().least())?;
    let conflict = |code, detail: &str| Problem::new(StatusCode::CONFLICT, code, detail);
    if record.has_ended() {
        return Err(conflict("ended_already", "it has ended; what is done stays done"));
    }
    if !record.kind().can_be_cancelled() {
        return Err(conflict(
            "not_cancellable",
            "it cannot be broken off: it takes only a moment, and half of it would be worse",
        ));
    }
    tracing::info!(action = id, by = caller.name, "an action is cancelled");
    record.cancel(&caller.name);
    Ok((StatusCode::ACCEPTED, Json(record.page())))
}

fn unknown(id: &str) -> Problem {
    let detail = format!("this node has no action `{id}`; it keeps the last 200 that it was asked for itself");
    Problem::new(StatusCode::NOT_FOUND, "unknown_action", detail)
}
#[cfg(test)]
mod tests;
