//! What every request must pass: it names this node, its sender is known, and what changes something comes from a command or from
//! our own page.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq as _;

use super::caller::unauthenticated;
use super::cluster::Api;
use super::gate::Admitted;
use super::problem::Problem;

/// Header that only our own page can send: it has read the value from this node.
const CSRF: HeaderName = HeaderName::from_static("x-speedtrap-csrf");
/// What browsers tell of where a request comes from; no script can set it.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets requests in, and notes who asks.
pub(super) async fn guard(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let mut response = match api.gate.admit(request.headers(), peer) {
        Err(problem) => problem.into_response(),
        Ok(admitted) => {
            let proof = admitted.proof.clone();
            if let Some(caller) = &admitted.caller {
                request.extensions_mut().insert(caller.clone());
            }
            request.extensions_mut().insert(admitted);
            let response = next.run(request).await;
            match proof {
                Some(proof) if is_endless(&response) => Arc::clone(&api.gate).ending_with(proof, response),
                _ => response,
            }
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Answers differ by who asks.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn is_endless(response: &Response) -> bool {
    response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// Whether a browser sends this, rather than a command.
pub(super) fn is_of_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key(&FETCH_SITE)
}

/// Lets in what changes something only if no page of elsewhere can have sent it.
pub(super) fn check_change(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    must_be_json(headers)?;
    let admitted = request.extensions().get::<Admitted>().ok_or_else(unauthenticated)?;
    if !admitted.by_cookie() && !is_of_browser(headers) {
        return Ok(());
    }
    if !is_of_own_page(headers) {
        let detail = "a page of another site must not change anything here";
        return Err(Problem::new(StatusCode::FORBIDDEN, "cross_origin", detail)
            .hint("open the page under one address, and act from there; a command sends neither Origin nor Sec-Fetch-Site"));
    }
    let sent = headers.get(&CSRF).map(HeaderValue::as_bytes).unwrap_or_default();
    if bool::from(sent.ct_eq(admitted.csrf.as_bytes())) {
        return Ok(());
    }
    let detail = "the header x-speedtrap-csrf is missing or old";
    Err(Problem::new(StatusCode::FORBIDDEN, "csrf", detail).hint("send the `csrf` that GET /api/v1/session tells"))
}

/// Whether a browser says that the page which asks came from here.
fn is_of_own_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    let from_here = |origin: &str| {
        let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        authority.is_some_and(|authority| !host.is_empty() && authority.eq_ignore_ascii_case(host))
    };
    match (text(header::ORIGIN), text(FETCH_SITE)) {
        (None, None) => false,
        (origin, site) => origin.is_none_or(from_here) && site.is_none_or(|site| site == "same-origin"),
    }
}

/// Lets in only what no web form of another site can send: such a form posts text or form data, but no JSON.
fn must_be_json(headers: &HeaderMap) -> Result<(), Problem> {
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
    fn a_page_is_our_own_only_if_all_that_the_browser_says_agrees() {
        let own = |origin: &str, site: &str| {
            let all = [(header::HOST, "node-1.example:7300"), (header::ORIGIN, origin), (FETCH_SITE, site)];
            let said = all.into_iter().filter(|(_, value)| !value.is_empty());
            is_of_own_page(&said.map(|(name, value)| (name, value.parse().expect("a value"))).collect())
        };
        assert!(own("https://node-1.example:7300", "same-origin"));
        assert!(own("http://NODE-1.example:7300", "") && own("", "same-origin"));
        for (origin, site) in [
            ("", ""),
            ("https://node-1.example:7300", "cross-site"),
            ("https://node-1.example:7300", "same-site"),
            ("https://node-1.example:7301", "same-origin"),
            ("https://node-1.example:7300.evil.example", ""),
            ("https://evil.example", ""),
            ("null", ""),
            ("", "none"),
        ] {
            assert!(!own(origin, site), "{origin} {site}");
        }
    }
}
