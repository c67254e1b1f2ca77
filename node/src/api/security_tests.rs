//! Who is let in to do what, over a real loopback socket.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use super::tests::{Answer, Served, serve, serve_behind};
use super::*;
use crate::tokens::{self, TokenFile};

const JSON: (&str, &str) = ("content-type", "application/json");
const LOAD: &str = r#"{"load_id":"l1"}"#;

/// A node with tokens, one of each role.
struct Guarded {
    served: Served,
    file: PathBuf,
    roles: Vec<(Role, String)>,
    _folder: tempfile::TempDir,
}

async fn guarded() -> Guarded {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tokens");
    let roles = [Role::Viewer, Role::Operator, Role::Admin];
    let roles = roles.map(|role| (role, tokens::add(&file, role.label(), role).expect("made"))).into();
    let users = TokenFile::open(&file).expect("readable");
    let gate = Gate::new(([127, 0, 0, 1], 7_300).into(), Vec::new(), Some(users), false);
    Guarded { served: serve_behind(gate).await, file, roles, _folder: folder }
}

impl Guarded {
    fn bearer(&self, role: Role) -> String {
        let (_, token) = self.roles.iter().find(|(of, _)| *of == role).expect("one of each");
        format!("Bearer {token}")
    }

    /// Signs in; gives what the browser keeps, and what the page must send.
    async fn sign_in(&self, role: Role) -> (String, String) {
        let bearer = self.bearer(role);
        let body = json!({"token": bearer.trim_start_matches("Bearer ")}).to_string();
        let page = browser(&self.served, "POST", "/api/v1/session", &[], &body).await;
        assert_eq!((page.status, page.json()["role"].as_str()), (200, Some(role.label())), "{}", page.text());
        let cookie = page.header("set-cookie").split(';').next().expect("a cookie").to_owned();
        (cookie, page.json()["csrf"].as_str().expect("text").to_owned())
    }
}

/// Asks as our own page does before it has signed in.
async fn browser(served: &Served, method: &str, path: &str, more: &[(&str, &str)], body: &str) -> Answer {
    let csrf = served.get("/api/v1/session").await.json()["csrf"].as_str().expect("text").to_owned();
    let origin = format!("http://{}", served.address());
    let usual = [JSON, ("origin", origin.as_str()), ("sec-fetch-site", "same-origin"), ("x-speedtrap-csrf", csrf.as_str())];
    let kept = usual.into_iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
    let headers: Vec<_> = kept.chain(more.iter().copied()).collect();
    served.ask(method, path, &headers, body).await
}

fn code(answer: &Answer) -> String {
    let page: Value = serde_json::from_str(answer.text()).unwrap_or_default();
    page["code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn each_route_is_for_its_role_and_those_above() {
    let node = guarded().await;
    let listed = routes().listed;
    assert!(listed.len() > 20 && listed.iter().any(|route| route.least == ADMIN), "{listed:?}");
    for route in listed {
        let path = route.path.replace("{name}", "node-9").replace("{id}", "0").replace("{*path}", "app.js");
        let body = if route.method == "GET" { "" } else { "{}" };
        for role in [None, Some(Role::Viewer), Some(Role::Operator), Some(Role::Admin)] {
            let bearer = role.map(|role| node.bearer(role));
            let mut headers = vec![JSON];
            headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
            let answer = node.served.ask(route.method.as_str(), &path, &headers, body).await;
            let (status, code) = (answer.status, code(&answer));
            let what = format!("{} {path} as {role:?}: {status} {code}", route.method);
            match (route.least, role) {
                (Some(_), None) => assert_eq!((status, code.as_str()), (401, "unauthenticated"), "{what}"),
                (Some(least), Some(role)) if role < least => assert_eq!((status, code.as_str()), (403, "forbidden"), "{what}"),
                _ => assert!(![401, 403].contains(&status), "{what}"),
            }
        }
    }
}

#[tokio::test]
async fn no_route_shows_or_changes_anything_for_nobody() {
    let open: Vec<_> = routes().listed.into_iter().filter(|route| route.least == ANYBODY).collect();
    let open: Vec<_> = open.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    let session = ["GET", "POST", "DELETE"].map(|method| format!("{method} /api/v1/session"));
    let expected = [&["GET /", "GET /ui/{*path}", "GET /healthz", "GET /readyz"].map(str::to_owned)[..], &session].concat();
    assert_eq!(open, expected);
    let acting: Vec<_> = routes().listed.into_iter().filter(|route| !route.method.is_safe() && route.least == VIEWER).collect();
    assert_eq!(acting, [], "a viewer changes nothing");
}

#[tokio::test]
async fn what_changes_something_comes_from_a_command_or_from_our_own_page() {
    let served = serve().await;
    let origin = format!("http://{}", served.address());
    for (more, status, expected) in [
        (vec![], 202, ""),
        (vec![("sec-fetch-site", "")], 403, "cross_origin"),
        (vec![("origin", "https://evil.example")], 403, "cross_origin"),
        (vec![("origin", "null")], 403, "cross_origin"),
        (vec![("sec-fetch-site", "cross-site")], 403, "cross_origin"),
        (vec![("sec-fetch-site", "same-site")], 403, "cross_origin"),
        (vec![("x-speedtrap-csrf", "")], 403, "csrf"),
        (vec![("x-speedtrap-csrf", "AAAA")], 403, "csrf"),
        (vec![("content-type", "text/plain")], 415, "not_json"),
        (vec![("content-type", "application/x-www-form-urlencoded")], 415, "not_json"),
        (vec![("host", "evil.example"), ("origin", "http://evil.example")], 403, "host_not_allowed"),
    ] {
        let answer = browser(&served, "POST", "/api/v1/loads", &more, LOAD).await;
        assert_eq!((answer.status, code(&answer)), (status, expected.to_owned()), "{more:?}");
    }
    assert_eq!(served.loads.load(Relaxed), 1, "what was refused changed nothing");
    let only_origin = served.ask("POST", "/api/v1/loads", &[JSON, ("origin", &origin)], LOAD).await;
    assert_eq!(code(&only_origin), "csrf", "whoever sends an Origin is a browser");
    assert_eq!(served.ask("POST", "/api/v1/loads", &[JSON], LOAD).await.status, 202, "a command");
    for (name, answer) in [("a refusal", &only_origin), ("a page", &served.get("/api/v1/status").await)] {
        assert_eq!(answer.header("access-control-allow-origin"), "", "{name}");
        assert_eq!((answer.header("cache-control"), answer.header("x-content-type-options")), ("no-store", "nosniff"), "{name}");
    }
    assert!(only_origin.json()["hint"].as_str().is_some_and(|hint| hint.contains("/api/v1/session")));
}

#[tokio::test]
async fn a_session_is_worth_its_token_and_no_more() {
    let node = guarded().await;
    let ask = async |method: &str, path: &str, more: &[(&str, &str)]| {
        let answer = browser(&node.served, method, path, more, LOAD).await;
        (answer.status, code(&answer))
    };
    let (viewer, viewer_csrf) = node.sign_in(Role::Viewer).await;
    let (desk, csrf) = node.sign_in(Role::Operator).await;
    assert!(viewer != desk && viewer_csrf != csrf);
    assert_eq!(ask("GET", "/api/v1/status", &[]).await, (401, "unauthenticated".into()));
    for cookie in [&viewer, &desk] {
        assert_eq!(ask("GET", "/api/v1/status", &[("cookie", cookie)]).await.0, 200);
    }
    let post =
        async |cookie: &str, more: &[(&str, &str)]| ask("POST", "/api/v1/loads", &[&[("cookie", cookie)], more].concat()).await;
    assert_eq!(post(&viewer, &[("x-speedtrap-csrf", &viewer_csrf)]).await, (403, "forbidden".into()));
    assert_eq!(post(&desk, &[("x-speedtrap-csrf", &csrf)]).await, (202, String::new()));
    for (more, expected) in [
        (vec![], "csrf"),
        (vec![("x-speedtrap-csrf", viewer_csrf.as_str())], "csrf"),
        (vec![("x-speedtrap-csrf", csrf.as_str()), ("origin", "https://evil.example")], "cross_origin"),
    ] {
        assert_eq!(post(&desk, &more).await, (403, expected.to_owned()), "{more:?}");
    }
    let bare = node.served.ask("POST", "/api/v1/loads", &[JSON, ("cookie", &desk), ("x-speedtrap-csrf", &csrf)], LOAD).await;
    assert_eq!(code(&bare), "cross_origin", "a browser that says nothing of where the request comes from is not trusted");
    let mine = node.served.ask("GET", "/api/v1/session", &[("cookie", &desk)], "").await.json();
    assert_eq!((&mine["name"], &mine["role"], &mine["csrf"]), (&json!("operator"), &json!("operator"), &json!(csrf)));

    let out = ask("DELETE", "/api/v1/session", &[("cookie", &desk), ("x-speedtrap-csrf", &csrf)]).await;
    assert_eq!(out.0, 200);
    assert_eq!(ask("GET", "/api/v1/status", &[("cookie", &desk)]).await.0, 401, "signed out");
    assert_eq!(ask("GET", "/api/v1/status", &[("cookie", "speedtrap-7300=AAAA")]).await.0, 401, "never signed in");
    assert_eq!(ask("GET", "/api/v1/status", &[("cookie", &viewer)]).await.0, 200, "the other one goes on");
}

#[tokio::test]
async fn a_revoked_token_ends_its_sessions_and_streams() {
    let node = guarded().await;
    let (cookie, _) = node.sign_in(Role::Viewer).await;
    let (bearer, admin) = (node.bearer(Role::Viewer), node.bearer(Role::Admin));
    let mut stream = node.served.stream(&[("cookie", &cookie)]);
    let mut other = node.served.stream(&[("authorization", &admin)]);
    assert!(stream.recv().await.is_some() && other.recv().await.is_some(), "both read");
    tokens::revoke(&node.file, "viewer").expect("revoked");
    let ended = tokio::time::timeout(Duration::from_secs(20), async { while stream.recv().await.is_some() {} });
    ended.await.expect("the stream ends");
    for (name, value) in [("cookie", &cookie), ("authorization", &bearer)] {
        assert_eq!(node.served.ask("GET", "/api/v1/status", &[(name, value)], "").await.status, 401, "{name}");
    }
    assert!(other.recv().await.is_some(), "the other reader goes on");
    assert_eq!(node.served.ask("GET", "/api/v1/status", &[("authorization", &admin)], "").await.status, 200);
}

#[tokio::test]
async fn wrong_tokens_are_refused_and_soon_refused_at_once() {
    let node = guarded().await;
    // Turns come back while this runs, so how many it takes depends on the machine.
    let mut refused = 0;
    let limited = loop {
        let wrong = format!("Bearer speedtrap_{refused}");
        let answer = node.served.ask("GET", "/api/v1/status", &[("authorization", &wrong)], "").await;
        assert!(!answer.text().contains(&wrong));
        if answer.status != 401 {
            break answer;
        }
        assert_eq!((code(&answer).as_str(), answer.header("www-authenticate")), ("unknown_token", "Bearer"));
        refused += 1;
        assert!(refused < 200, "there is no limit");
    };
    assert!(refused >= 20, "{refused}");
    assert_eq!((limited.status, code(&limited).as_str()), (429, "too_often"));
    assert!(limited.header("retry-after").parse::<u64>().is_ok_and(|seconds| (1..=4).contains(&seconds)));
    let sign_in = async || browser(&node.served, "POST", "/api/v1/session", &[], r#"{"token":"speedtrap_x"}"#).await.status;
    let limited = tokio::time::timeout(Duration::from_secs(20), async { while sign_in().await != 429 {} });
    limited.await.expect("signing in is limited, too");
    let bearer = node.bearer(Role::Viewer);
    let good = node.served.ask("GET", "/api/v1/status", &[("authorization", &bearer)], "").await;
    assert_eq!(good.status, 200, "who has a token is not kept out");
}

#[tokio::test]
async fn a_sign_in_is_told_what_is_wrong_without_what_was_sent() {
    let node = guarded().await;
    let long = format!(r#"{{"token":"secret{}"}}"#, "x".repeat(20_000));
    for (body, status, expected) in [
        ("{", 400, "bad_sign_in"),
        (r#"{"token":5112233}"#, 400, "bad_sign_in"),
        (r#"{"secret":"secret"}"#, 400, "bad_sign_in"),
        (r#"{"token":"secret"}"#, 401, "unknown_token"),
        (long.as_str(), 413, "too_long"),
    ] {
        let answer = browser(&node.served, "POST", "/api/v1/session", &[], body).await;
        assert_eq!((answer.status, code(&answer)), (status, expected.to_owned()), "{body:.40}");
        assert!(!answer.text().contains("secret") && !answer.text().contains("5112233"), "{}", answer.text());
    }
    let free = serve().await;
    assert_eq!(code(&browser(&free, "POST", "/api/v1/session", &[], r#"{"token":"x"}"#).await), "no_tokens");
    let page = free.get("/api/v1/session").await.json();
    assert_eq!((&page["users"], &page["name"], &page["role"]), (&json!(false), &json!("local"), &json!("admin")));
}

#[tokio::test]
async fn actions_of_one_caller_are_counted() {
    let node = guarded().await;
    let drain = async |role| {
        let bearer = node.bearer(role);
        node.served.ask("POST", "/api/v1/nodes/node-9/drain", &[JSON, ("authorization", &bearer)], "{}").await
    };
    for _ in 0..10 {
        assert_eq!(drain(Role::Operator).await.status, 404);
    }
    let answer = drain(Role::Operator).await;
    assert_eq!((answer.status, code(&answer).as_str()), (429, "too_often"));
    assert!((1..=7).contains(&answer.header("retry-after").parse::<u64>().expect("seconds")));
    assert_eq!(drain(Role::Admin).await.status, 404, "others may");
}

#[tokio::test]
async fn while_the_file_of_tokens_cannot_be_read_nobody_is_let_in() {
    let node = guarded().await;
    let (cookie, _) = node.sign_in(Role::Admin).await;
    let bearer = node.bearer(Role::Admin);
    let hide = |from: &Path, to: &Path| std::fs::rename(from, to).expect("moved");
    let elsewhere = node.file.with_extension("away");
    hide(&node.file, &elsewhere);
    let until = async |expected: u16| {
        for (name, value) in [("authorization", &bearer), ("cookie", &cookie)] {
            let look = async || node.served.ask("GET", "/api/v1/status", &[(name, value)], "").await.status;
            let seen = tokio::time::timeout(Duration::from_secs(20), async { while look().await != expected {} });
            seen.await.unwrap_or_else(|_| panic!("{name} is never {expected}"));
        }
    };
    until(503).await;
    assert_eq!(node.served.get("/healthz").await.status, 200);
    hide(&elsewhere, &node.file);
    until(200).await;
}
