//! Errors of the API, as RFC 9457 describes them.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// An answer that says what is wrong, and what to do about it.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: Option<String>,
    retry_after: Option<Duration>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), hint: None, retry_after: None }
    }

    /// What is wrong, in a sentence.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// With what to do next, where that is not what the status says anyway.
    #[must_use]
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// With the time after which it may go well.
    #[must_use]
    pub(super) fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }
}

/// What to do about an error of which no more is known than its status.
fn usual_hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "names stand in /api/v1/nodes, /api/v1/actors, /api/v1/shards and /api/v1/dead-letters",
        StatusCode::CONFLICT => "look at how it is now before you ask again",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "send JSON, with the header content-type: application/json",
        StatusCode::TOO_MANY_REQUESTS => "ask again after the seconds of the header retry-after",
        status if status.is_server_error() => "see the node's log, try again, or ask another node",
        _ => "correct what `detail` names",
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
            "hint": self.hint.as_deref().unwrap_or_else(|| usual_hint(self.status)),
        });
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            // A header of whole seconds: less than one would say "at once".
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        }
        response
    }
}
