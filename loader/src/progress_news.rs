//! Tells a node how far a load is, for its dashboard.
//!
//! It is a picture only, so it holds nothing up: at most once a second, one message at a time, with a short timeout, and what gets
//! lost is not sent again. That a load was committed is told by [`crate::notify`], again and again.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::journal_file::Journal;
use crate::load_status::LoadStatus;
use crate::notify::{Nodes, post};
use crate::progress::{Progress, RejectedPlace};

const EVERY: Duration = Duration::from_secs(1);
/// A load that stands still is told of so often, to show that somebody still works at it.
const STILL_EVERY: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(1);
/// Nodes that are away, or of an earlier version, are left alone for so long.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// One load that may be told of.
#[derive(Clone, Copy)]
pub(crate) struct ProgressNews<'a> {
    pub(crate) nodes: Nodes<'a>,
    pub(crate) journal: &'a Journal,
    pub(crate) progress: &'a Progress,
}

/// What is told: what `status --json` shows, and the first rejected rows.
#[derive(Serialize, PartialEq)]
struct Message {
    #[serde(flatten)]
    status: LoadStatus,
    rejected_rows: Vec<RejectedPlace>,
}

impl ProgressNews<'_> {
    /// Tells how far a load is while it is worked at.
    pub(crate) async fn during<T>(self, work: impl Future<Output = T>) -> T {
        if self.nodes.urls.is_empty() {
            return work.await;
        }
        tokio::select! {
            biased;
            done = work => done,
            never = self.keep_telling() => match never {},
        }
    }

    /// Tells how it ended.
    pub(crate) async fn at_last(self) {
        if let Some(message) = self.message(false) {
            // Whoever has not answered by then has it, or has only lost the picture.
            let _late = timeout(TIMEOUT, self.tell(&message)).await;
        }
    }

    async fn keep_telling(self) -> Infallible {
        let mut told: Option<(Message, Instant)> = None;
        loop {
            sleep(EVERY).await;
            let Some(message) = self.message(true) else { continue };
            if told.as_ref().is_some_and(|(last, at)| *last == message && at.elapsed() < STILL_EVERY) {
                continue;
            }
            if self.tell(&message).await {
                told = Some((message, Instant::now()));
            } else {
                sleep(AFTER_FAILURE).await;
            }
        }
    }

    /// `None` while the journal does not know what is loaded.
    fn message(self, is_held: bool) -> Option<Message> {
        let state = self.journal.state();
        let is_known = !state.load_id.is_empty() && !self.nodes.urls.is_empty();
        is_known
            .then(|| Message { status: LoadStatus::of_journal(&state, is_held), rejected_rows: self.progress.rejected_places() })
    }

    /// True once a node has taken it.
    async fn tell(self, message: &Message) -> bool {
        let Ok(body) = serde_json::to_string(message) else { return false };
        for node in self.nodes.urls {
            let (url, body) = (format!("{}/api/v1/loads/progress", node.trim_end_matches('/')), body.clone());
            let [token_file, ca_file] = [self.nodes.token_file, self.nodes.ca_file].map(|file| file.map(Path::to_owned));
            let told = tokio::task::spawn_blocking(move || post(&url, token_file, ca_file, &body, TIMEOUT)).await;
            match told.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(()) => return true,
                Err(reason) => debug!(node, reason, "could not be told how far the load is"),
            }
        }
        false
    }
}
