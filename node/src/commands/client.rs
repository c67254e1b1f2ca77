//! Asking a node.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use speedtrap_actors::adapters::{authorities, crypto};
use ureq::http::{Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, RequestBuilder};

use crate::config;
use crate::exit::{Exit, Stop};

/// Longest time of one question. The node answers from memory, and waits less than a second for others.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time of an order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest wait for one's turn: ten actions a minute are let in.
const TURN_LIMIT: Duration = Duration::from_secs(15);
/// Longest answer: a thousand nodes with a thousand actors each.
const MOST_BYTES: u64 = 1 << 30;

/// Which node to ask, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeAccess {
    /// Address of the API of any node; it answers for all of them.
    #[arg(long = "node", value_name = "URL", env = "SPEEDTRAP_NODE_URL", default_value = "http://127.0.0.1:7300")]
    pub(crate) url: String,
    /// File with the token that the node knows you by, for nodes that want one.
    #[arg(long, value_name = "FILE", env = "SPEEDTRAP_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with the authorities that signed the nodes' certificates, for https addresses. Without it, those of the system.
    #[arg(long, value_name = "FILE", env = "SPEEDTRAP_CA_FILE")]
    ca: Option<PathBuf>,
}

/// Which node to ask, and how to show the answer.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    pub(crate) node: NodeAccess,
    /// Shows the API's JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which node to ask, and whether only about itself.
#[derive(Debug, Args)]
pub(crate) struct ScopeArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Shows only the node that is asked.
    #[arg(long)]
    pub(crate) local: bool,
}

/// Gets a page of the API: its text, and what it says.
///
/// # Errors
/// When the node cannot be asked, or does not answer with what was asked for.
pub(crate) fn get<T: DeserializeOwned>(node: &NodeAccess, path: &str) -> Result<(String, T), Stop> {
    let (url, agent) = (node.page(path)?, node.agent(TIMEOUT)?);
    let request = node.sign(agent.get(&url))?;
    node.understand(&url, request.call())
}

/// Orders something of the API.
///
/// # Errors
/// When the node cannot be asked, or refuses.
pub(crate) fn post<T: DeserializeOwned>(node: &NodeAccess, path: &str) -> Result<(String, T), Stop> {
    send(node, path, "{}".to_owned(), TIMEOUT)
}

/// Orders something of the API, with what it needs to know.
///
/// # Errors
/// When the node cannot be asked, or refuses.
pub(crate) fn post_json<B: Serialize, T: DeserializeOwned>(node: &NodeAccess, path: &str, body: &B) -> Result<(String, T), Stop> {
    let body = serde_json::to_string(body).map_err(|error| Stop::new(Exit::Failed, "the order cannot be written").why(error))?;
    // Remote services stand behind it, which may be slow; what was begun is ended and noted there even if nobody waits.
    send(node, path, body, ORDER_TIMEOUT)
}

/// Orders something of the API that is done once, however often it is sent with this key.
///
/// # Errors
/// When the node cannot be asked, or refuses.
pub(crate) fn post_once<B: Serialize, T: DeserializeOwned>(
    node: &NodeAccess,
    path: &str,
    key: &str,
    body: &B,
) -> Result<(String, T), Stop> {
    let body = serde_json::to_string(body).map_err(|error| Stop::new(Exit::Failed, "the order cannot be written").why(error))?;
    let (url, agent) = (node.page(path)?, node.agent(TIMEOUT)?);
    let mut waited = Duration::ZERO;
    loop {
        let request = node.sign(agent.post(&url))?.header("idempotency-key", key);
        let answer = request.header("content-type", "application/json").send(&body);
        let turn = answer.as_ref().ok().and_then(next_turn).filter(|turn| waited + *turn <= TURN_LIMIT);
        let Some(turn) = turn else { return node.understand(&url, answer) };
        std::thread::sleep(turn);
        waited += turn;
    }
}

/// When somebody who did too much of late may do the next thing.
fn next_turn(answer: &Response<Body>) -> Option<Duration> {
    let after = answer.headers().get("retry-after").filter(|_| answer.status().as_u16() == 429)?;
    after.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

fn send<T: DeserializeOwned>(node: &NodeAccess, path: &str, body: String, timeout: Duration) -> Result<(String, T), Stop> {
    let (url, agent) = (node.page(path)?, node.agent(timeout)?);
    let request = node.sign(agent.post(&url))?;
    node.understand(&url, request.header("content-type", "application/json").send(body))
}

impl NodeAccess {
    /// Another node of the same cluster, asked in the same way.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    fn page(&self, path: &str) -> Result<String, Stop> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let bad = |what: &str| Stop::new(Exit::Failed, format!("`{}` {what}", self.url));
        let parsed: Option<Uri> = url.parse().ok();
        let (scheme, host) = parsed.as_ref().map(|uri| (uri.scheme_str(), uri.host().unwrap_or_default())).unwrap_or_default();
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let is_near = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        match scheme {
            Some("http") if self.token_file.is_none() || is_near => Ok(url),
            Some("http") => {
                Err(bad("is not on this machine and speaks no TLS, so the token is not sent there").next("give an https address"))
            }
            Some("https") => Ok(url),
            _ => Err(bad("is no address of a node").next("give one such as http://127.0.0.1:7300")),
        }
    }

    fn agent(&self, timeout: Duration) -> Result<Agent, Stop> {
        let config = Agent::config_builder().timeout_global(Some(timeout)).http_status_as_error(false).proxy(None);
        if !self.url.starts_with("https://") {
            return Ok(config.build().into());
        }
        let trusted = authorities(self.ca.as_deref())
            .map_err(|error| Stop::new(Exit::BadConfig, error.to_string()).next("--ca names a PEM file of authorities"))?;
        let trusted = RootCerts::from(trusted.iter().map(|one| Certificate::from_der(one).to_owned()));
        let tls = TlsConfig::builder().root_certs(trusted).unversioned_rustls_crypto_provider(crypto()).build();
        Ok(config.tls_config(tls).build().into())
    }

    /// Says who asks: by the token if there is one, else by name.
    fn sign<B>(&self, request: RequestBuilder<B>) -> Result<RequestBuilder<B>, Stop> {
        let user = config::user();
        // A header takes no other letters; such a user is `local` there.
        let is_plain = user.bytes().all(|b| b.is_ascii_graphic());
        let request = if is_plain { request.header("x-speedtrap-who", user) } else { request };
        let Some(file) = &self.token_file else { return Ok(request) };
        let text = std::fs::read_to_string(file).map_err(|error| {
            Stop::new(Exit::BadConfig, format!("the token file `{}` cannot be read", file.display())).why(error)
        })?;
        match text.trim() {
            token if !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(request.header("authorization", format!("Bearer {token}")))
            }
            _ => Err(Stop::new(Exit::BadConfig, format!("the token file `{}` holds no token", file.display()))
                .next("it must hold what `speedtrap token new` printed, and nothing else")),
        }
    }

    fn understand<T: DeserializeOwned>(
        &self,
        url: &str,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<(String, T), Stop> {
        let failed = |error: ureq::Error| {
            if is_distrust(&error) {
                return Stop::new(Exit::Refused, format!("the node at {} has no certificate that can be trusted", self.url))
                    .why(error)
                    .next("give the file of the authority that signed it with --ca, and ask by a name that stands in it");
            }
            let stop = Stop::new(Exit::Unreachable, format!("no answer from the node at {}", self.url));
            let stop = match error {
                ureq::Error::Timeout(_) => stop.why(format_args!("it took more than {} s", TIMEOUT.as_secs())),
                error => stop.why(error),
            };
            stop.next("see whether `speedtrap run` runs there; its log names its address (--node or SPEEDTRAP_NODE_URL)")
        };
        let mut answer = answer.map_err(failed)?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(MOST_BYTES).read_to_string().map_err(failed)?;
        let not_understood = |why: String| Stop::new(Exit::Failed, format!("{url} is not what a node answers")).why(why);
        if !(200..300).contains(&status) {
            let problem: Problem = serde_json::from_str(&text).map_err(|_| not_understood(format!("HTTP status {status}")))?;
            return Err(problem.stop());
        }
        let value = serde_json::from_str(&text).map_err(|error| not_understood(error.to_string()))?;
        Ok((text, value))
    }
}

/// Whether a failure is that the other end could not prove who it is.
fn is_distrust(error: &ureq::Error) -> bool {
    let ureq::Error::Io(error) = error else { return false };
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

/// An error of the API, as far as a command needs it.
#[derive(Debug, Deserialize)]
struct Problem {
    status: u16,
    code: String,
    detail: String,
    hint: Option<String>,
}

impl Problem {
    fn stop(self) -> Stop {
        let exit = match self.status {
            404 if self.code != "not_found" => Exit::NotFound,
            401 | 403 | 409 | 429 => Exit::Refused,
            503 => Exit::Unreachable,
            _ => Exit::Failed,
        };
        let stop = Stop::new(exit, self.detail);
        match self.hint {
            Some(hint) => stop.next(hint),
            None => stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_api_becomes_an_exit_code() {
        for (status, code, exit) in [
            (404, "unknown_node", Exit::NotFound),
            (404, "not_found", Exit::Failed),
            (401, "unauthenticated", Exit::Refused),
            (403, "host_not_allowed", Exit::Refused),
            (429, "too_often", Exit::Refused),
            (409, "drains_already", Exit::Refused),
            (503, "node_unreachable", Exit::Unreachable),
            (500, "encoding_failed", Exit::Failed),
        ] {
            let problem = Problem { status, code: code.to_owned(), detail: "why".into(), hint: Some("do".into()) };
            let stop = problem.stop();
            assert_eq!((stop.exit, stop.next.as_deref()), (exit, Some("do")), "{status} {code}");
        }
    }

    #[test]
    fn a_token_goes_nowhere_in_the_clear() {
        let access = |url: &str, token: bool| NodeAccess { url: url.into(), token_file: token.then(|| "token".into()), ca: None };
        for (url, token, fits) in [
            ("http://127.0.0.1:7300", true, true),
            ("http://[::1]:7300", true, true),
            ("http://127.0.0.2:7300", true, true),
            ("https://node-1.example:7300", true, true),
            ("http://node-1.example:7300", false, true),
            ("http://node-1.example:7300", true, false),
            ("http://127.0.0.1.example:7300", true, false),
            ("http://localhost:7300@node-1.example", true, false),
            ("node-1.example:7300", false, false),
        ] {
            assert_eq!(access(url, token).page("/x").is_ok(), fits, "{url}");
        }
    }
}
