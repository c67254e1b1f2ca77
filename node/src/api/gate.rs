//! Who is let in: under which names this node is asked, whose tokens are good, and who has signed in.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use cookie::{Cookie, SameSite};
use futures::StreamExt as _;

use super::caller::Caller;
use super::guard::is_of_browser;
use super::limits::Limit;
use super::problem::Problem;
use super::session::{LIFETIME, SessionKey, Sessions, random_text};
use crate::tokens::{Fingerprint, TokenEntry, TokenFault, TokenFile, Tokens};

/// Tokens that one address may get wrong, and sign-ins that it may try.
const ATTEMPTS_A_MINUTE: NonZeroU32 = const { NonZeroU32::new(20).expect("more than none") };
/// How often an open stream looks whether its reader is still let in.
const STREAM_LOOKS_EVERY: Duration = Duration::from_secs(2);
const OF_THIS_MACHINE: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// What stands between a request and the API.
pub(crate) struct Gate {
    /// Names of this node, without ports. A web page of elsewhere whose name was made to point here (DNS rebinding) still sends its
    /// own name.
    hosts: Vec<String>,
    /// Without tokens everybody who gets here may do everything; such a node listens on loopback only.
    users: Option<TokenFile>,
    pub(super) sessions: Sessions,
    /// Proof of having read this node's answers, for pages that have no session.
    csrf: String,
    attempts: Limit,
    cookie_name: String,
    is_secure: bool,
}

/// A request that was let in.
#[derive(Clone)]
pub(super) struct Admitted {
    /// Nobody yet, if there are tokens and the request brings none.
    pub(super) caller: Option<Caller>,
    /// How they proved it; nothing, where nobody has to.
    pub(super) proof: Option<Proof>,
    /// What a page must send with whatever changes something.
    pub(super) csrf: String,
}

/// A token, and the session that was opened with it, if one was.
#[derive(Clone)]
pub(super) struct Proof {
    token: Fingerprint,
    pub(super) session: Option<SessionKey>,
}

impl Admitted {
    /// Whether the browser sent the proof by itself, whoever made it ask.
    pub(super) fn by_cookie(&self) -> bool {
        self.proof.as_ref().is_some_and(|proof| proof.session.is_some())
    }
}

impl Gate {
    /// A gate for a node that listens on `address`, which others may know by other names, too.
    pub(crate) fn new(address: SocketAddr, names: Vec<String>, users: Option<TokenFile>, is_secure: bool) -> Self {
        let ip = address.ip();
        let mut hosts = names;
        if ip.is_loopback() || ip.is_unspecified() {
            hosts.extend(OF_THIS_MACHINE.map(str::to_owned));
        }
        let own = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        if !ip.is_unspecified() && !hosts.contains(&own) {
            hosts.push(own);
        }
        // Browsers send a cookie to every port of a host, so nodes of one machine need names of their own; the prefix makes them
        // refuse one that was not set by this host over TLS.
        let cookie_name = format!("{}speedtrap-{}", if is_secure { "__Host-" } else { "" }, address.port());
        let attempts = Limit::a_minute(ATTEMPTS_A_MINUTE, "sign-ins and wrong tokens");
        Self { hosts, users, sessions: Sessions::default(), csrf: random_text(), attempts, cookie_name, is_secure }
    }

    /// For a node on loopback that nobody has to sign in to.
    pub(crate) fn of_this_machine() -> Self {
        Self::new(SocketAddr::from(([127, 0, 0, 1], 0)), Vec::new(), None, false)
    }

    /// Whether somebody has to sign in.
    pub(super) fn has_users(&self) -> bool {
        self.users.is_some()
    }

    /// Finds out who asks. A request without proof is let in as nobody, which is enough for the page itself.
    pub(super) fn admit(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Admitted, Problem> {
        self.check_host(headers)?;
        let from = if is_of_browser(headers) { "page" } else { "command" };
        let nobody = Admitted { caller: None, proof: None, csrf: self.csrf.clone() };
        let Some(users) = &self.users else {
            return Ok(Admitted { caller: Some(Caller::local(headers, from)), ..nobody });
        };
        let caller = |entry: &TokenEntry, from| Some(Caller { name: entry.name.clone(), role: entry.role, from });
        if let Some(sent) = headers.get(header::AUTHORIZATION) {
            let sent = sent.to_str().unwrap_or_default();
            let token = sent.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            let tokens = current(users)?;
            let Some(entry) = token.and_then(|(_, token)| tokens.find(token.trim())) else {
                self.attempt(peer)?;
                return Err(refused(peer));
            };
            let proof = Proof { token: entry.fingerprint(), session: None };
            return Ok(Admitted { caller: caller(entry, from), proof: Some(proof), ..nobody });
        }
        let Some((key, session)) = self.cookie(headers).and_then(|id| self.sessions.find(&id)) else { return Ok(nobody) };
        match current(users)?.of(session.token) {
            Some(entry) => {
                let proof = Proof { token: session.token, session: Some(key) };
                Ok(Admitted { caller: caller(entry, "page"), proof: Some(proof), csrf: session.csrf })
            }
            None => {
                self.sessions.close(&key);
                Ok(nobody)
            }
        }
    }

    /// Opens a session for whoever brings a good token.
    pub(super) fn sign_in(&self, token: &str, peer: Option<IpAddr>) -> Result<(String, Admitted), Problem> {
        let Some(users) = &self.users else {
            let detail = "this node has no tokens: whoever reaches it, on this machine, may do everything";
            return Err(Problem::new(StatusCode::CONFLICT, "no_tokens", detail).hint("dashboard.tokens_file gives it some"));
        };
        self.attempt(peer)?;
        let tokens = current(users)?;
        let entry = tokens.find(token.trim()).ok_or_else(|| refused(peer))?;
        let (id, key, session) = self.sessions.open(entry.fingerprint());
        let caller = Caller { name: entry.name.clone(), role: entry.role, from: "page" };
        tracing::info!(who = caller.name, role = caller.role.label(), "signed in");
        let proof = Proof { token: session.token, session: Some(key) };
        let admitted = Admitted { caller: Some(caller), proof: Some(proof), csrf: session.csrf };
        Ok((self.set_cookie(id, LIFETIME), admitted))
    }

    /// Ends the session that a request came with, and gives what makes the browser forget it.
    pub(super) fn sign_out(&self, admitted: &Admitted) -> (String, Admitted) {
        if let Some(session) = admitted.proof.as_ref().and_then(|proof| proof.session) {
            self.sessions.close(&session);
        }
        (self.set_cookie(String::new(), Duration::ZERO), Admitted { caller: None, proof: None, csrf: self.csrf.clone() })
    }

    /// A response that ends when its reader is let in no more.
    pub(super) fn ending_with(self: Arc<Self>, proof: Proof, response: Response) -> Response {
        let revoked = async move {
            while self.is_good(&proof) {
                tokio::time::sleep(STREAM_LOOKS_EVERY).await;
            }
        };
        response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(revoked))))
    }

    fn is_good(&self, proof: &Proof) -> bool {
        let Some(users) = &self.users else { return true };
        let is_open = proof.session.is_none_or(|key| self.sessions.is_open(&key));
        is_open && users.current().is_ok_and(|tokens| tokens.of(proof.token).is_some())
    }

    fn check_host(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        if self.hosts.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return Ok(());
        }
        let detail = format!("the Host header is none of this node's names: {}", self.hosts.join(", "));
        Err(Problem::new(StatusCode::FORBIDDEN, "host_not_allowed", detail).hint("dashboard.hosts gives it more names"))
    }

    fn attempt(&self, peer: Option<IpAddr>) -> Result<(), Problem> {
        self.attempts.take(&peer.map_or_else(|| "an unknown address".to_owned(), |peer| peer.to_string()))
    }

    fn cookie(&self, headers: &HeaderMap) -> Option<String> {
        let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies = all.flat_map(|value| Cookie::split_parse(value).flatten());
        cookies.find(|cookie| cookie.name() == self.cookie_name).map(|cookie| cookie.value().to_owned())
    }

    fn set_cookie(&self, id: String, lifetime: Duration) -> String {
        let seconds = cookie::time::Duration::seconds(i64::try_from(lifetime.as_secs()).unwrap_or_default());
        Cookie::build((self.cookie_name.clone(), id))
            .path("/")
            .http_only(true)
            .secure(self.is_secure)
            .same_site(SameSite::Strict)
            .max_age(seconds)
            .build()
            .to_string()
    }
}

fn current(users: &TokenFile) -> Result<Arc<Tokens>, Problem> {
    users.current().map_err(|TokenFault { .. }| {
        let detail = "this node cannot tell who asks, since its file of tokens cannot be read";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "tokens_unreadable", detail)
            .hint("the node's log says what is wrong with it")
    })
}

/// The answer to a token that is not good. It is logged, too; attempts are limited, so it does not fill the log.
fn refused(peer: Option<IpAddr>) -> Problem {
    tracing::warn!(?peer, "somebody came with a token that is not good");
    Problem::new(StatusCode::UNAUTHORIZED, "unknown_token", "this token is not good here, or no more")
        .hint("`speedtrap token new` makes one on the node's machine")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn let_in(gate: &Gate, host: &str) -> bool {
        let headers = [(header::HOST, host.parse().expect("a header"))].into_iter().collect();
        gate.check_host(&headers).is_ok()
    }

    #[test]
    fn only_names_of_this_machine_are_let_in() {
        let gate = Gate::of_this_machine();
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
            assert_eq!(let_in(&gate, host), expected, "{host}");
        }
        assert!(gate.check_host(&HeaderMap::new()).is_err());
    }

    #[test]
    fn elsewhere_the_address_and_the_names_it_was_given_are_let_in() {
        let gate = Gate::new("192.0.2.1:7300".parse().expect("an address"), vec!["node-1.example".into()], None, true);
        assert_eq!(
            ["192.0.2.1:7300", "node-1.example", "localhost", "192.0.2.2"].map(|host| let_in(&gate, host)),
            [true, true, false, false]
        );
        let near = Gate::new("127.0.0.2:7300".parse().expect("an address"), Vec::new(), None, false);
        assert!(let_in(&near, "127.0.0.2:7300") && let_in(&near, "localhost") && !let_in(&near, "127.0.0.3"));
        let six = Gate::new("[2001:db8::1]:7300".parse().expect("an address"), Vec::new(), None, true);
        assert!(let_in(&six, "[2001:db8::1]:7300"));
    }

    #[test]
    fn a_cookie_is_told_apart_by_port_and_kept_from_scripts_and_other_sites() {
        let [near, far] = [false, true].map(|secure| {
            let gate = Gate::new("127.0.0.1:7301".parse().expect("an address"), Vec::new(), None, secure);
            gate.set_cookie("x".into(), LIFETIME)
        });
        assert_eq!(near, "speedtrap-7301=x; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200");
        assert_eq!(far, "__Host-speedtrap-7301=x; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=43200");
    }
}
