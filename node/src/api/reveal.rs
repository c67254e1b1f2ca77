//! Looking at what is masked: one record at a time, by somebody who may, with a reason, and noted before it is shown.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::caller::Caller;
use super::cluster::Api;
use super::letters;
use super::problem::Problem;
use crate::audit::Asked;

/// Longest id or reason.
const MOST_WORDS: usize = 500;

/// What somebody wants to see, and why.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reveal {
    /// `dead-letter`; there is nothing else yet that is masked and kept.
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) reason: String,
}

/// One record as it came.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Revealed {
    pub(crate) schema: u32,
    pub(crate) kind: String,
    pub(crate) id: String,
    /// How `payload` stands there: `json`, `text`, or `base64` for what is neither.
    pub(crate) encoding: String,
    pub(crate) payload: Value,
    /// Length of the record; a longer one than 64 KiB is cut.
    pub(crate) payload_bytes: u64,
}

/// Shows one record unmasked.
pub(super) async fn reveal(
    State(api): State<Arc<Api>>,
    caller: Caller,
    body: Result<Json<Reveal>, JsonRejection>,
) -> Result<Json<Revealed>, Problem> {
    let Json(Reveal { kind, id, reason }) =
        body.map_err(|error| Problem::new(error.status(), "bad_reveal", error.body_text()))?;
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "bad_reveal", detail);
    if kind != "dead-letter" {
        return Err(bad(format!("there is no kind `{kind}`; there is dead-letter")));
    }
    for (name, words) in [("id", &id), ("reason", &reason)] {
        if words.trim().is_empty() || words.len() > MOST_WORDS {
            return Err(bad(format!("`{name}` must have 1 to {MOST_WORDS} bytes: the audit log keeps it")));
        }
    }
    let target = format!("{kind} {id}");
    let asked = Asked {
        who: &caller.name,
        role: caller.role.label(),
        from: caller.from,
        action: "reveal",
        target: &target,
        reason: &reason,
        key: None,
    };
    let intent = api.node.audit.intend(&asked).map_err(|error| {
        let detail = format!("nothing is shown, because the audit log cannot be written: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "audit_failed", detail)
    })?;
    match letters::stored(&api, &id).await {
        Ok(letter) => {
            api.node.audit.conclude(intent, Ok("shown".to_owned()));
            let (encoding, payload) = shown(&letter.payload);
            let (encoding, payload_bytes) = (encoding.to_owned(), letter.payload_bytes);
            Ok(Json(Revealed { schema: 1, kind, id, encoding, payload, payload_bytes }))
        }
        Err(problem) => {
            api.node.audit.conclude(intent, Err("not shown".to_owned()));
            Err(problem)
        }
    }
}

fn shown(bytes: &[u8]) -> (&'static str, Value) {
    if let Ok(record) = serde_json::from_slice(bytes) {
        return ("json", record);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => ("text", text.into()),
        Err(_) => ("base64", STANDARD.encode(bytes).into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_shown_as_it_came_whatever_it_is() {
        assert_eq!(shown(br#"{"licensePlate":"4-2288B"}"#), ("json", json!({"licensePlate": "4-2288B"})));
        assert_eq!(shown(b"not json"), ("text", json!("not json")));
        assert_eq!(shown(&[0xff, 0x00]), ("base64", json!("/wA=")));
    }
}
