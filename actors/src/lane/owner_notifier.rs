//! Texts the owner of each speeding car, once.
//!
//! Child of `LaneSupervisor`. Receives `Accept` from `ShardReader`, hands what is left to `LaneEnd`. Every text is claimed before it
//! is sent and marked after: only a lost answer or a crash between the two can repeat one, and `in_flight` bounds how many.
//! Texts begin in the order of their events, and none while the lane's tenure does not hold. When the lane drains, those that have
//! begun are seen to their end and the others are dropped, to be sent by whoever has the lease next.
//! A number that is none, or a text that the service refuses, becomes a dead letter. A ledger or a text service that stays
//! unavailable past its budget ends the lane.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep};

use super::NotifyStages;
use super::claim_owner::ClaimOwner;
use super::workbench::Workbench;
use crate::domain::{Outcome, PhoneNumber, PublishedViolation, ShardId};
use crate::flow::{Backoff, Batch, LaneFailure, Leftovers, RetryBudget, Tenure, Unread};
use crate::observe::{LaneStats, Mailbox, Meter, Outlet, Pause};
use crate::ports::{Claim, MarkError, RemoteFailure, SendError};
use crate::wire::read_published;

/// How long one text may be tried again after it was certainly not sent.
const SEND_BUDGET: RetryBudget = RetryBudget {
    backoff: Backoff { first: Duration::from_millis(200), most: Duration::from_secs(5) },
    most_elapsed: Duration::from_secs(10),
};

/// How often a claim of somebody who may be alive is looked at again.
const CLAIM_LOOK: Duration = Duration::from_millis(500);

pub(super) struct OwnerNotifier;

#[derive(Debug)]
pub(super) enum OwnerNotifierMsg {
    Accept(Batch<Unread>),
    Texted(Result<Leftovers, RemoteFailure>),
}

pub(super) struct OwnerNotifierArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) stages: NotifyStages,
    pub(super) worker: String,
    pub(super) shard: ShardId,
    pub(super) generation: u64,
    pub(super) tenure: Tenure,
    pub(super) stats: LaneStats,
    pub(super) lane_end: Outlet<Leftovers>,
}

pub(super) struct OwnerNotifierState {
    myself: Mailbox<OwnerNotifierMsg>,
    texting: Arc<Texting>,
    lane_end: Outlet<Leftovers>,
    bench: Workbench<Batch<Unread>>,
}

/// What sending a text needs.
struct Texting {
    meter: Arc<Meter>,
    stages: NotifyStages,
    worker: String,
    shard: ShardId,
    generation: u64,
    tenure: Tenure,
    stats: LaneStats,
}

/// How one violation ended.
enum Verdict {
    Ended(Outcome),
    Rejected(String),
}

/// An event of a batch by its place, and how it ended.
type Ended = (usize, Result<Verdict, RemoteFailure>);

impl ractor::Message for OwnerNotifierMsg {}

impl Actor for OwnerNotifier {
    type Msg = OwnerNotifierMsg;
    type State = OwnerNotifierState;
    type Arguments = OwnerNotifierArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<OwnerNotifierMsg>,
        args: OwnerNotifierArgs,
    ) -> Result<OwnerNotifierState, ActorProcessingErr> {
        let OwnerNotifierArgs { meter, stages, worker, shard, generation, tenure, stats, lane_end } = args;
        let texting = Arc::new(Texting { meter: Arc::clone(&meter), stages, worker, shard, generation, tenure, stats });
        Ok(OwnerNotifierState { myself: Mailbox::new(myself, meter), texting, lane_end, bench: Workbench::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<OwnerNotifierMsg>,
        message: OwnerNotifierMsg,
        state: &mut OwnerNotifierState,
    ) -> Result<(), ActorProcessingErr> {
        let (texting, myself) = (Arc::clone(&state.texting), state.myself.clone());
        let start = |batch: Batch<Unread>| Some(work(Arc::clone(&texting), myself.clone(), batch.begin()?));
        match message {
            OwnerNotifierMsg::Accept(batch) => state.bench.accept(batch, start),
            OwnerNotifierMsg::Texted(texted) => {
                texted.map_err(LaneFailure::from)?.settle(&state.lane_end).map_err(LaneFailure::from)?;
                state.bench.done(start);
            }
        }
        Ok(())
    }
}

async fn work(texting: Arc<Texting>, myself: Mailbox<OwnerNotifierMsg>, batch: Batch<Unread>) {
    let _waiting = myself.meter().wait();
    let texted = texting.text_all(batch).await;
    // When the actor is gone there is nobody left to tell.
    let _gone = myself.cast(OwnerNotifierMsg::Texted(texted));
}

/// The service's own word for why it refused a text, such as `OptedOut`: it stands behind the name of what was called.
fn cause_of(reason: &str) -> &str {
    let said = reason.strip_prefix('`').and_then(|rest| rest.split_once("`: ")).map_or(reason, |(_, said)| said);
    said.split_once(':').map_or(said, |(code, _)| code)
}

impl Texting {
    /// Texts the owners of a batch, some side by side. Every text that was begun is seen to its end; none begins once another one
    /// failed or the lane drains.
    async fn text_all(&self, batch: Batch<Unread>) -> Result<Leftovers, RemoteFailure> {
        let mut batch = batch.convert(|_, _, record, Unread| read_published(record).map(Some).map_err(|error| error.to_string()));
        let mut texts = FuturesUnordered::new();
        let mut ended = Vec::with_capacity(batch.items.len());
        for (at, item) in batch.items.iter().enumerate() {
            let mut turn = pin!(self.turn());
            let turn = loop {
                tokio::select! {
                    biased;
                    () = batch.ticket.gate().closed() => break None,
                    Some(text) = texts.next() => ended.push(text),
                    turn = &mut turn => break Some(turn),
                }
            };
            let has_failed = ended.iter().any(|(_, verdict): &Ended| verdict.is_err());
            let Some(turn) = turn.filter(|_| !has_failed) else { break };
            let position = batch.ticket.position(item.index);
            let owner =
                ClaimOwner::new(&self.worker, self.shard.as_str(), self.generation, (position.sequence.as_str(), position.sub));
            texts.push(self.text_at(at, &item.event, owner, turn));
        }
        let n_begun = ended.len() + texts.len();
        while let Some(text) = texts.next().await {
            ended.push(text);
        }
        drop(texts);
        if n_begun < batch.items.len() {
            cut(&mut batch, n_begun);
        }
        match self.settle(&mut batch, ended) {
            Ok(()) => Ok(Leftovers { ticket: batch.ticket, rejects: batch.rejects }),
            Err(failure) => {
                batch.ticket.abandon();
                Err(failure)
            }
        }
    }

    fn settle(&self, batch: &mut Batch<PublishedViolation>, verdicts: Vec<Ended>) -> Result<(), RemoteFailure> {
        let mut refused = Vec::new();
        let mut failed = None;
        for (at, verdict) in verdicts {
            match verdict {
                Ok(Verdict::Ended(outcome)) => batch.ticket.end(batch.items[at].index, outcome),
                Ok(Verdict::Rejected(reason)) => refused.push(crate::ports::Refused { index: at, reason }),
                Err(failure) => failed = Some(failure),
            }
        }
        batch.reject(refused);
        match failed {
            None => Ok(()),
            Some(failure) => {
                tracing::warn!(shard = %self.shard, %failure, "texting stopped; the lane starts again from its checkpoint");
                Err(failure)
            }
        }
    }

    /// Waits until one more text may begin.
    async fn turn(&self) -> SemaphorePermit<'_> {
        let _pausing = self.meter.pause(Pause::Turn);
        loop {
            let turn = self.stages.in_flight.acquire().await.expect("the semaphore is never closed");
            if self.tenure.holds() {
                return turn;
            }
            // Other lanes of the node must not wait for this one's lease.
            drop(turn);
            let _pausing = self.meter.pause(Pause::Tenure);
            self.tenure.held().await;
        }
    }

    async fn text_at(
        &self,
        at: usize,
        violation: &PublishedViolation,
        owner: ClaimOwner<'_>,
        turn: SemaphorePermit<'_>,
    ) -> Ended {
        let verdict = self.text(violation, &owner).await;
        drop(turn);
        (at, verdict)
    }

    async fn text(&self, violation: &PublishedViolation, owner: &ClaimOwner<'_>) -> Result<Verdict, RemoteFailure> {
        let phone = match PhoneNumber::parse(&violation.driver.myphone) {
            Ok(phone) => phone,
            Err(error) => {
                self.stats.text_refused("no valid number");
                return Ok(Verdict::Rejected(error.to_string()));
            }
        };
        let event_id = violation.event.event_id();
        let owner_text = owner.to_string();
        if !self.claim(event_id, owner, &owner_text).await? {
            return Ok(Verdict::Ended(Outcome::Duplicate));
        }
        let sent = self.send(&phone, &self.stages.template.fill(violation)).await;
        match sent {
            Ok(message_id) => {
                self.mark_sent(event_id, &owner_text, &message_id).await.map(|()| Verdict::Ended(Outcome::Notified))
            }
            Err(SendError::Refused(reason)) => {
                self.mark_failed(event_id, &owner_text).await;
                self.stats.text_refused(cause_of(&reason));
                Ok(Verdict::Rejected(format!("text refused: {reason}")))
            }
            Err(SendError::NotSent(failure)) => {
                // Certainly not sent, so the next generation may send it without counting a repeat.
                self.mark_failed(event_id, &owner_text).await;
                Err(failure)
            }
            Err(SendError::Unknown(failure)) => Err(failure),
        }
    }

    /// Claims an event; false when it was texted before. Waits for a holder who may be alive until his claim expires.
    async fn claim(&self, event_id: &str, owner: &ClaimOwner<'_>, owner_text: &str) -> Result<bool, RemoteFailure> {
        loop {
            let (holder, age) = match self.stages.ledger.claim(event_id, owner_text).await? {
                Claim::Granted => return Ok(true),
                Claim::AlreadySent => return Ok(false),
                Claim::Held { owner, age } => (owner, age),
            };
            if !owner.knows_dead(&holder) && age < self.stages.claim_expiry {
                let _pausing = self.meter.pause(Pause::Claim);
                sleep(CLAIM_LOOK.min(self.stages.claim_expiry - age)).await;
                continue;
            }
            match self.stages.ledger.take_over(event_id, &holder, owner_text).await {
                Ok(()) => {
                    self.stats.possible_repeat(&self.shard);
                    tracing::warn!(event_id, holder, "took over a claim that was never marked; the text may be a repeat");
                    return Ok(true);
                }
                Err(MarkError::Lost(_)) => {}
                Err(MarkError::Remote(failure)) => return Err(failure),
            }
        }
    }

    async fn send(&self, phone: &PhoneNumber, text: &str) -> Result<String, SendError> {
        let start = Instant::now();
        let mut tries = 0;
        loop {
            self.allowed().await;
            let error = match self.stages.sender.send(phone, text).await {
                Err(error @ (SendError::NotSent(_) | SendError::Unknown(_))) => error,
                done => return done,
            };
            let Some(delay) = SEND_BUDGET.next_delay(tries, start.elapsed(), rand::random()) else { return Err(error) };
            if matches!(error, SendError::Unknown(_)) {
                self.stats.possible_repeat(&self.shard);
            }
            tries += 1;
            let _pausing = self.meter.pause(Pause::Retry);
            sleep(delay).await;
        }
    }

    /// Waits until the rate and the tenure allow one more text.
    async fn allowed(&self) {
        let pausing = self.meter.pause(Pause::TextRate);
        self.stages.rate.wait().await;
        drop(pausing);
        if !self.tenure.holds() {
            let _pausing = self.meter.pause(Pause::Tenure);
            self.tenure.held().await;
        }
    }

    async fn mark_sent(&self, event_id: &str, owner: &str, message_id: &str) -> Result<(), RemoteFailure> {
        match self.stages.ledger.mark_sent(event_id, owner, message_id).await {
            Ok(()) => Ok(()),
            Err(MarkError::Lost(_)) => {
                tracing::warn!(event_id, "the claim was taken over while its text was being sent");
                Ok(())
            }
            Err(MarkError::Remote(failure)) => Err(failure),
        }
    }

    /// The mark is only a courtesy to the next try, so a failure to set it is logged and no more.
    async fn mark_failed(&self, event_id: &str, owner: &str) {
        if let Err(error) = self.stages.ledger.mark_failed(event_id, owner).await {
            tracing::warn!(event_id, %error, "could not mark a claim as failed");
        }
    }
}

/// Drops the events from this one on, which have not begun: they start again wherever the lease is next.
fn cut(batch: &mut Batch<PublishedViolation>, n_begun: usize) {
    let first = batch.items[n_begun].index;
    batch.items.truncate(n_begun);
    batch.rejects.retain(|reject| reject.index < first);
    batch.ticket.cut();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_refused_text_is_the_services_own_word() {
        for (reason, cause) in [
            ("`SMS`: OptedOut: the number opted out", "OptedOut"),
            ("`SMS`: InvalidParameter", "InvalidParameter"),
            ("`SMS`: HTTP 400: no such number", "HTTP 400"),
            ("opted out", "opted out"),
        ] {
            assert_eq!(cause_of(reason), cause, "{reason}");
        }
    }
}
