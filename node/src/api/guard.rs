//! What every request must pass.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;

/// Lets in only requests that name this machine itself. A web page of elsewhere whose name was made to point at loopback (DNS
/// rebinding) still sends its own name.
pub(super) async fn only_loopback_names(request: Request, next: Next) -> Response {
    if names_loopback(request.headers()) {
        next.run(request).await
    } else {
        let detail = "the Host header must be localhost, 127.0.0.1 or [::1]";
        Problem::new(StatusCode::FORBIDDEN, "host_not_allowed", detail).into_response()
    }
}

fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Lets in only what no web form of another site can send: such a form posts text or form data, but no JSON.
pub(super) fn must_be_json(headers: &HeaderMap) -> Result<(), Problem> {
    let is_json = |value: &str| value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(is_json) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", "the body must be application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_let_in() {
        for (host, expected) in [
            ("localhost:7300", true),
            ("LOCALHOST", true),
            ("127.0.0.1:7300", true),
            ("[::1]:7300", true),
            ("[::1]", true),
            ("example.com", false),
            ("127.0.0.1.example.com:7300", false),
            ("localhost:7300@example.com", false),
            ("", false),
        ] {
            let headers = [(header::HOST, host.parse().expect("a header"))].into_iter().collect();
            assert_eq!(names_loopback(&headers), expected, "{host}");
        }
        assert!(!names_loopback(&HeaderMap::new()));
    }
}
