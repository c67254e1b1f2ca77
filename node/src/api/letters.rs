//! Dead letters: what there is, and what an operator may do about it. Every node reads and writes the same table.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use speedtrap_actors::adapters::{LetterDesk, Settled, StoredLetter};
use speedtrap_actors::ports::{FailureKind, RemoteFailure};

use super::caller::{Caller, Role};
use super::cluster::Api;
use super::masking;
use super::problem::Problem;
use crate::audit::Asked;

/// Letters of one answer unless fewer are asked for.
const MOST_SHOWN: usize = 5_000;
/// Letters of one order: what a client asks for in one go ends within a few seconds, and whoever stops asking has stopped.
const MOST_ORDERED: usize = 50;
/// Longest reason or name.
const MOST_WORDS: usize = 500;

/// `GET /api/v1/dead-letters`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LettersPage {
    pub(crate) schema: u32,
    /// Letters in the table that were asked for, shown or not.
    pub(crate) total: usize,
    /// Letters that wait for somebody, of any stage.
    pub(crate) open: usize,
    /// Whether the whole table was read; if not, there are more.
    pub(crate) whole: bool,
    /// Latest first.
    pub(crate) letters: Vec<LetterPage>,
}

/// One letter; nothing personal is in it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LetterPage {
    pub(crate) id: String,
    pub(crate) stage: String,
    pub(crate) reason: String,
    pub(crate) state: String,
    pub(crate) source: String,
    pub(crate) first_seen: String,
    pub(crate) last_seen: String,
    pub(crate) tries: u64,
    pub(crate) payload_bytes: u64,
    /// Its first characters; null if the record has none that can be read.
    pub(crate) plate: Option<String>,
    /// The record with persons masked; only where one letter is asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) payload: Option<Value>,
}

/// What of the table is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// `open`, `redriven`, `discarded` or `all`.
    #[serde(default = "open")]
    state: String,
    stage: Option<String>,
    limit: Option<usize>,
}

fn open() -> String {
    "open".to_owned()
}

/// An order about letters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LetterOrder {
    pub(crate) ids: Vec<String>,
    pub(crate) reason: String,
    /// Who orders it, as they call themselves.
    pub(crate) who: String,
    /// `command` or `page`.
    pub(crate) from: String,
}

/// What became of each letter of an order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OrderEnd {
    pub(crate) schema: u32,
    pub(crate) done: u64,
    /// Letters that were left as they are.
    pub(crate) left: Vec<LeftLetter>,
    /// How many more of them there are.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(crate) left_unnamed: u64,
}

impl Default for OrderEnd {
    fn default() -> Self {
        Self { schema: 1, done: 0, left: Vec::new(), left_unnamed: 0 }
    }
}

fn is_none(n: &u64) -> bool {
    *n == 0
}

/// A letter that an order did nothing about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LeftLetter {
    pub(crate) id: String,
    pub(crate) why: String,
}

impl LetterPage {
    fn of(letter: StoredLetter) -> Self {
        Self {
            plate: masking::plate_of(&letter.payload),
            id: letter.id,
            stage: letter.stage,
            reason: letter.reason,
            state: letter.state,
            source: letter.source,
            first_seen: letter.first_seen,
            last_seen: letter.last_seen,
            tries: letter.tries,
            payload_bytes: letter.payload_bytes,
            payload: None,
        }
    }
}

/// Letters, the latest first.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<LettersPage>, Problem> {
    let Query(wanted) = wanted.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_query", error.body_text()))?;
    if !["open", "redriven", "discarded", "all"].contains(&wanted.state.as_str()) {
        let detail = format!("there is no state `{}`; there are open, redriven, discarded and all", wanted.state);
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail));
    }
    let (letters, whole) = desk(&api)?.list().await.map_err(|failure| unreachable(&failure))?;
    let open = letters.iter().filter(|letter| letter.state == "open").count();
    let mut letters: Vec<_> = letters
        .into_iter()
        .filter(|letter| wanted.state == "all" || letter.state == wanted.state)
        .filter(|letter| wanted.stage.as_ref().is_none_or(|stage| *stage == letter.stage))
        .collect();
    let total = letters.len();
    letters.truncate(wanted.limit.unwrap_or(MOST_SHOWN).min(MOST_SHOWN));
    Ok(Json(LettersPage { schema: 1, total, open, whole, letters: letters.into_iter().map(LetterPage::of).collect() }))
}

/// One letter with its record, persons masked.
pub(super) async fn show(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<Json<LetterPage>, Problem> {
    let letter = stored(&api, &id).await?;
    let payload = Some(masking::payload(&letter.payload));
    Ok(Json(LetterPage { payload, ..LetterPage::of(letter) }))
}

/// One letter as it is stored, unmasked.
pub(super) async fn stored(api: &Api, id: &str) -> Result<StoredLetter, Problem> {
    let letter = desk(api)?.get(id).await.map_err(|failure| unreachable(&failure))?;
    letter.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "unknown_letter", format!("there is no letter `{id}`")))
}

type Body = Result<Json<LetterOrder>, JsonRejection>;

/// Puts records back on their streams, one after the other.
pub(super) async fn redrive(State(api): State<Arc<Api>>, caller: Caller, body: Body) -> Result<Json<OrderEnd>, Problem> {
    order(&api, &caller, Role::Operator, body, "redrive").await
}

/// Notes that nobody will do anything about letters.
pub(super) async fn discard(State(api): State<Arc<Api>>, caller: Caller, body: Body) -> Result<Json<OrderEnd>, Problem> {
    order(&api, &caller, Role::Admin, body, "discard").await
}

async fn order(
    api: &Arc<Api>,
    caller: &Caller,
    least: Role,
    body: Body,
    action: &'static str,
) -> Result<Json<OrderEnd>, Problem> {
    let Json(order) = body.map_err(|error| Problem::new(error.status(), "bad_order", error.body_text()))?;
    order.check()?;
    // Whoever has a token is who it says.
    let who = if caller.name == "local" { &order.who } else { &caller.name };
    let asked = |target, reason| Asked { who, role: caller.role.label(), from: &order.from, action, target, reason, key: None };
    if let Err(problem) = caller.must_be(least) {
        api.node.audit.refused(&asked(&order.ids[0], &order.reason), problem.detail());
        return Err(problem);
    }
    let desk = Arc::clone(desk(api)?);
    let target = match &order.ids[..] {
        [id] => id.clone(),
        ids => format!("{} letters: {}", ids.len(), ids.join(" ")),
    };
    let intent = api.node.audit.intend(&asked(&target, &order.reason)).map_err(|error| {
        let detail = format!("nothing was done, because the audit log cannot be written: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "audit_failed", detail)
    })?;
    // A client that goes away must not leave a letter half done, so the work does not depend on its connection.
    let (audit, ids) = (Arc::clone(&api.node.audit), order.ids);
    let work = tokio::spawn(async move {
        let end = settle(&desk, action, ids).await;
        let told = format!("{} done, {} left", end.done, end.left.len());
        audit.conclude(intent, if end.left.is_empty() { Ok(told) } else { Err(format!("{told}: {}", end.left[0].why)) });
        end
    });
    work.await
        .map(Json)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "order_failed", format!("it broke off: {error}")))
}

async fn settle(desk: &LetterDesk, action: &str, ids: Vec<String>) -> OrderEnd {
    let mut end = OrderEnd::default();
    for id in ids {
        let settled = if action == "redrive" { desk.redrive(&id).await } else { desk.discard(&id).await };
        match settled {
            Ok(Settled::Done) => end.done += 1,
            other => end.left.push(LeftLetter { id, why: why_left(other) }),
        }
    }
    end
}

/// Why a letter was left as it is.
pub(super) fn why_left(settled: Result<Settled, RemoteFailure>) -> String {
    match settled {
        Ok(Settled::Done) => "it is done".to_owned(),
        Ok(Settled::Unknown) => "there is no such letter".to_owned(),
        Ok(Settled::NotOpen) => "it is redriven or discarded already".to_owned(),
        Ok(Settled::Busy) => "somebody else redrives it at this moment".to_owned(),
        Ok(Settled::CameBack) => "its record went back to the stream and became a letter again".to_owned(),
        Err(failure) => failure.to_string(),
    }
}

impl LetterOrder {
    fn check(&self) -> Result<(), Problem> {
        let bad = |detail: String| Err(Problem::new(StatusCode::BAD_REQUEST, "bad_order", detail));
        if !(1..=MOST_ORDERED).contains(&self.ids.len()) {
            return bad(format!("an order names 1 to {MOST_ORDERED} letters, not {}", self.ids.len()));
        }
        for (name, words) in [("reason", &self.reason), ("who", &self.who)] {
            if words.trim().is_empty() || words.len() > MOST_WORDS {
                return bad(format!("`{name}` must have 1 to {MOST_WORDS} bytes: the audit log keeps it"));
            }
        }
        if !["command", "page"].contains(&self.from.as_str()) {
            return bad("`from` must be command or page".to_owned());
        }
        Ok(())
    }
}

pub(super) fn desk(api: &Api) -> Result<&Arc<LetterDesk>, Problem> {
    let none = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_letters", "this node reaches no dead letter table");
    api.letters.as_ref().ok_or_else(none)
}

pub(super) fn unreachable(failure: &RemoteFailure) -> Problem {
    let status = if failure.kind == FailureKind::Refused { StatusCode::BAD_GATEWAY } else { StatusCode::SERVICE_UNAVAILABLE };
    Problem::new(status, "letters_unreachable", format!("the dead letters cannot be read: {failure}"))
}
