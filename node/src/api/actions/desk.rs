//! Keeps previews until they are confirmed, and actions with what became of them. Both are bounded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use rand::distr::{Alphanumeric, SampleString as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::plan::{Kind, Planned};
use super::{ActionPage, ConfirmOrder, Progress};
use crate::api::caller::Caller;
use crate::api::letters::LeftLetter;
use crate::api::pages::time;
use crate::api::problem::Problem;
use crate::audit::{Asked, Audit, Intent};

/// How long a preview may be confirmed.
pub(super) const PREVIEW_LASTS: Duration = Duration::from_secs(60);
/// Previews kept, confirmed or too old or not: one of letters may hold five thousand ids.
const MOST_PREVIEWS: usize = 64;
/// Actions kept.
const MOST_RECORDS: usize = 200;
/// Actions under way at the same time.
const MOST_RUNNING: usize = 32;
/// 190 bits that nobody guesses in a minute.
const TOKEN_LENGTH: usize = 32;

/// The previews and actions of one node.
#[derive(Default)]
pub(crate) struct ActionDesk {
    shelves: Mutex<Shelves>,
    running: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Shelves {
    previews: VecDeque<Preview>,
    records: VecDeque<Arc<Record>>,
}

struct Preview {
    token: String,
    who: String,
    made: Instant,
    is_used: bool,
    planned: Planned,
}

/// An action that was confirmed.
pub(super) struct Record {
    kind: Kind,
    /// Who confirmed it, by what key, with what.
    key: (String, String, ConfirmOrder),
    page: Mutex<ActionPage>,
    /// By whom it was broken off.
    cancelled: watch::Sender<Option<String>>,
}

/// What came of a confirmation.
pub(super) enum Confirmed {
    /// It is to be done now.
    Now(Box<Begun>),
    /// It was confirmed before by the same key.
    Before(String),
}

/// An action that is noted and to be done.
pub(super) struct Begun {
    pub(super) planned: Planned,
    pub(super) intent: Intent,
    pub(super) record: Arc<Record>,
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Done(String),
    Failed { code: &'static str, why: String },
    Cancelled(String),
}

impl ActionDesk {
    /// Keeps a preview, and gives the token by which it may be confirmed.
    pub(super) fn keep(&self, who: &str, planned: Planned) -> String {
        let token = Alphanumeric.sample_string(&mut rand::rng(), TOKEN_LENGTH);
        let mut shelves = self.shelves();
        if shelves.previews.len() >= MOST_PREVIEWS {
            shelves.previews.pop_front();
        }
        let (who, made) = (who.to_owned(), Instant::now());
        shelves.previews.push_back(Preview { token: token.clone(), who, made, is_used: false, planned });
        token
    }

    /// What the preview under a token is about.
    pub(super) fn about(&self, token: &str) -> Option<(&'static str, String)> {
        let shelves = self.shelves();
        let preview = shelves.previews.iter().find(|preview| preview.token == token)?;
        Some((preview.planned.kind.label(), preview.planned.target.clone()))
    }

    /// Takes a preview off its shelf and notes that it is to be done. The same key with the same words is the same confirmation.
    pub(super) fn confirm(
        &self,
        caller: &Caller,
        key: &str,
        order: &ConfirmOrder,
        audit: &Audit,
        may: impl FnOnce(Kind) -> Result<(), Problem>,
    ) -> Result<Confirmed, Problem> {
        let conflict = |code, detail: &str| Err(Problem::new(StatusCode::CONFLICT, code, detail));
        let mut shelves = self.shelves();
        let before = shelves.records.iter().find(|record| record.key.0 == caller.name && record.key.1 == key);
        if let Some(before) = before {
            if before.key.2 == *order {
                return Ok(Confirmed::Before(before.id().to_owned()));
            }
            return conflict("key_reused", "this Idempotency-Key was used for something else");
        }
        let n_running = shelves.records.iter().filter(|record| !record.has_ended()).count();
        if n_running >= MOST_RUNNING {
            let detail = format!("{n_running} actions are under way; wait until one has ended");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_actions", detail));
        }
        let Some(preview) = shelves.previews.iter_mut().find(|preview| preview.token == order.token) else {
            return conflict("unknown_token", "there is no such preview here: preview again, and confirm it at the same node");
        };
        if preview.who != caller.name {
            let detail = "somebody else previewed this; preview it yourself";
            return Err(Problem::new(StatusCode::FORBIDDEN, "foreign_token", detail));
        }
        if preview.is_used {
            return conflict("used_token", "this preview was confirmed before; preview again to do it again");
        }
        if preview.made.elapsed() >= PREVIEW_LASTS {
            return conflict("expired_token", "this preview is older than a minute; what it says may not be so any more");
        }
        may(preview.planned.kind)?;
        if preview.planned.confirm_text != order.confirm_text.trim() {
            return conflict("not_confirmed", "what was typed is not what the preview asks for");
        }
        let planned = preview.planned.clone();
        let asked = Asked {
            who: &caller.name,
            role: caller.role.label(),
            from: caller.from,
            action: planned.kind.label(),
            target: &planned.target,
            reason: &order.reason,
            key: Some(key),
        };
        let intent = audit.intend(&asked).map_err(|error| {
            let detail = format!("nothing was done, because the audit log cannot be written: {error}");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "audit_failed", detail)
        })?;
        preview.is_used = true;
        let record = Arc::new(Record::new(&planned, &intent, (caller.name.clone(), key.to_owned(), order.clone())));
        if shelves.records.len() >= MOST_RECORDS {
            let oldest = shelves.records.iter().position(|record| record.has_ended()).unwrap_or_default();
            shelves.records.remove(oldest);
        }
        shelves.records.push_back(Arc::clone(&record));
        Ok(Confirmed::Now(Box::new(Begun { planned, intent, record })))
    }

    /// Runs until the node ends; an action that was confirmed depends on no connection.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(work);
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Record>> {
        self.shelves().records.iter().find(|record| record.id() == id).cloned()
    }

    /// The latest first.
    pub(super) fn all(&self) -> Vec<ActionPage> {
        self.shelves().records.iter().rev().map(|record| ActionPage { left: Vec::new(), ..record.page() }).collect()
    }

    /// The shelves hold whole entries only, so a panic while they were locked leaves nothing half done.
    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn new(planned: &Planned, intent: &Intent, key: (String, String, ConfirmOrder)) -> Self {
        let page = ActionPage {
            schema: 1,
            action_id: intent.action_id().to_owned(),
            at: time(SystemTime::now()),
            kind: planned.kind.label().to_owned(),
            target: planned.target.clone(),
            who: key.0.clone(),
            reason: key.2.reason.clone(),
            state: "intent".to_owned(),
            progress: None,
            outcome: None,
            code: None,
            left: Vec::new(),
        };
        Self { kind: planned.kind, key, page: Mutex::new(page), cancelled: watch::Sender::new(None) }
    }

    pub(super) fn id(&self) -> String {
        self.lock().action_id.clone()
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn page(&self) -> ActionPage {
        self.lock().clone()
    }

    /// Who had it done.
    pub(super) fn who(&self) -> &str {
        &self.key.0
    }

    /// Why, in their words.
    pub(super) fn reason(&self) -> &str {
        &self.key.2.reason
    }

    pub(super) fn runs(&self) {
        self.lock().state = "running".to_owned();
    }

    pub(super) fn progress(&self, progress: Progress) {
        self.lock().progress = Some(progress);
    }

    /// Names letters that stay as they are.
    pub(super) fn leaves(&self, left: Vec<LeftLetter>) {
        self.lock().left = left;
    }

    pub(super) fn end(&self, end: &End) {
        let mut page = self.lock();
        let (state, outcome, code) = match end {
            End::Done(outcome) => ("done", outcome, None),
            End::Failed { code, why } => ("failed", why, Some((*code).to_owned())),
            End::Cancelled(outcome) => ("cancelled", outcome, None),
        };
        (page.state, page.outcome, page.code) = (state.to_owned(), Some(outcome.clone()), code);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().outcome.is_some()
    }

    pub(super) fn cancel(&self, by: &str) {
        self.cancelled.send_replace(Some(by.to_owned()));
    }

    /// Who broke it off, if somebody did.
    pub(super) fn cancelled_by(&self) -> Option<String> {
        self.cancelled.borrow().clone()
    }

    /// Waits until somebody breaks it off.
    pub(super) async fn cancelled(&self) {
        let mut cancelled = self.cancelled.subscribe();
        // The sender lives as long as this record, so the wait cannot fail.
        let _cancelled = cancelled.wait_for(Option::is_some).await;
    }

    fn lock(&self) -> MutexGuard<'_, ActionPage> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
