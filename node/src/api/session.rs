//! Signing in with a token, since a page cannot send one with its live data: a session is known to this node alone, and only by the
//! digest of its id.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, Extension, State};
use axum::http::{HeaderName, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::caller::Role;
use super::cluster::Api;
use super::gate::Admitted;
use super::problem::Problem;
use crate::tokens::Fingerprint;

/// How long a session lasts: a working day.
pub(super) const LIFETIME: Duration = Duration::from_secs(12 * 3_600);
/// Sessions of a node; the oldest one ends for one more.
const MOST_SESSIONS: usize = 1_000;

/// What a session is found by.
pub(super) type SessionKey = [u8; 32];

/// Those who have signed in here.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<SessionKey, Session>>);

/// One of them.
#[derive(Clone)]
pub(super) struct Session {
    /// The token it was opened with; it ends with that one.
    pub(super) token: Fingerprint,
    pub(super) csrf: String,
    until: Instant,
}

/// `GET /api/v1/session`.
#[derive(Debug, Serialize)]
pub(super) struct SessionPage {
    schema: u32,
    served_by: String,
    /// Whether somebody has to sign in at all.
    users: bool,
    /// Null: nobody has signed in.
    name: Option<String>,
    role: Option<Role>,
    /// What the page sends as `x-speedtrap-csrf` with whatever changes something.
    csrf: String,
}

/// What is posted to sign in. It has no `Debug`, since it is a secret.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    token: String,
}

/// 256 random bits as text.
pub(super) fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

impl Sessions {
    /// Opens a session; gives its id, which nobody else learns.
    pub(super) fn open(&self, token: Fingerprint) -> (String, SessionKey, Session) {
        let (id, session) = (random_text(), Session { token, csrf: random_text(), until: Instant::now() + LIFETIME });
        let key = key_of(&id);
        let mut sessions = self.lock();
        sessions.retain(|_, session| session.until > Instant::now());
        if sessions.len() >= MOST_SESSIONS
            && let Some(oldest) = sessions.iter().min_by_key(|(_, session)| session.until).map(|(key, _)| *key)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(key, session.clone());
        (id, key, session)
    }

    /// The session of that id, unless it is over.
    pub(super) fn find(&self, id: &str) -> Option<(SessionKey, Session)> {
        let key = key_of(id);
        let session = self.lock().get(&key).filter(|session| session.until > Instant::now()).cloned()?;
        Some((key, session))
    }

    pub(super) fn is_open(&self, key: &SessionKey) -> bool {
        self.lock().get(key).is_some_and(|session| session.until > Instant::now())
    }

    pub(super) fn close(&self, key: &SessionKey) {
        self.lock().remove(key);
    }

    /// A panic while it was locked leaves whole sessions.
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of(id: &str) -> SessionKey {
    Sha256::digest(id.as_bytes()).into()
}

/// Who the page works for, and what it must send to act.
pub(super) async fn show(State(api): State<Arc<Api>>, Extension(admitted): Extension<Admitted>) -> Json<SessionPage> {
    Json(page(&api, admitted))
}

type SetCookie = [(HeaderName, String); 1];

/// Signs in.
pub(super) async fn sign_in(
    State(api): State<Arc<Api>>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    body: Result<Json<SignIn>, JsonRejection>,
) -> Result<(SetCookie, Json<SessionPage>), Problem> {
    // What was wrong with it may quote the token, so it is not told.
    let Json(SignIn { token }) = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(error.status(), "too_long", "the body is too long for a token"),
        _ => Problem::new(StatusCode::BAD_REQUEST, "bad_sign_in", "the body must be an object with one text, `token`"),
    })?;
    let peer = peer.map(|Extension(ConnectInfo(peer))| peer.ip());
    let (cookie, admitted) = api.gate.sign_in(&token, peer)?;
    Ok(([(header::SET_COOKIE, cookie)], Json(page(&api, admitted))))
}

/// Signs out.
pub(super) async fn sign_out(
    State(api): State<Arc<Api>>,
    Extension(admitted): Extension<Admitted>,
) -> (SetCookie, Json<SessionPage>) {
    let (cookie, admitted) = api.gate.sign_out(&admitted);
    ([(header::SET_COOKIE, cookie)], Json(page(&api, admitted)))
}

fn page(api: &Api, Admitted { caller, csrf, .. }: Admitted) -> SessionPage {
    let (name, role) = caller.map(|caller| (caller.name, caller.role)).unzip();
    SessionPage { schema: 1, served_by: api.node.name.clone(), users: api.gate.has_users(), name, role, csrf }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Tokens;

    fn fingerprint() -> Fingerprint {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        crate::tokens::add(&path, "desk", Role::Viewer).expect("made");
        Tokens::read(&path).expect("readable").entries()[0].fingerprint()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_lasts_a_working_day_and_their_number_is_bounded() {
        let (sessions, token) = (Sessions::default(), fingerprint());
        let (id, key, session) = sessions.open(token);
        assert_ne!(session.csrf, id);
        tokio::time::advance(LIFETIME - Duration::from_secs(1)).await;
        assert!(sessions.find(&id).is_some() && sessions.find(&id[1..]).is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(sessions.find(&id).is_none() && !sessions.is_open(&key));

        let first = sessions.open(token).0;
        tokio::time::advance(Duration::from_secs(1)).await;
        let others: Vec<String> = (0..MOST_SESSIONS).map(|_| sessions.open(token).0).collect();
        assert!(sessions.find(&first).is_none(), "the oldest one ends");
        assert!(others.iter().all(|id| sessions.find(id).is_some()));
        assert_eq!(sessions.lock().len(), MOST_SESSIONS);
    }
}
