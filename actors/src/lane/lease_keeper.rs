//! Holds a lane's lease: renews it, writes its checkpoint, gives it back.
//!
//! Child of `LaneSupervisor`, outliving the generations of its lane. Receives `Checkpoint` from `ShardReader`. All writes of the
//! lease go through here one after the other, since each one depends on the counter that the last one left. A checkpoint renews
//! too, so a lane that moves on needs no renewals. A lane that begins at the newest record gets that record's place as its first
//! checkpoint, from `shard_search`, before it starts. The children of a closed shard get their rows before it is marked as done.
//! Another node's write is reported to the supervisor as a lost lease; so is a lease that expired, and one whose node could not
//! show for as long that it lives. A panic in a call to the table or the stream ends this actor, since its answer never comes.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::shard_end::{EndError, is_listed, prepare_end};
use super::shard_search::newest;
use crate::domain::Position;
use crate::flow::{Backoff, Tenure};
use crate::observe::{LaneStats, LeaseWrite, Mailbox, Meter, Outlet};
use crate::ports::{Checkpoint, Lease, LeaseError, LeaseTable, ShardSource, SourceError};

/// Pause before a checkpoint that could not be written is tried again; the adapter has used up its own budget by then.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Longest time between two looks at the clock.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Delays before the children of a closed shard are looked for again, when the stream or the table does not answer.
const END_BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(30) };

pub(super) struct LeaseKeeper;

#[derive(Debug)]
pub(super) enum LeaseKeeperMsg {
    LookDue,
    /// Writes this checkpoint; a newer one that arrives before the write begins replaces it.
    Checkpoint(Checkpoint, Outlet<Checkpoint>),
    Written(Result<Lease, LeaseError>),
    /// Writes the place of the shard's newest record as the checkpoint; tells the second if it cannot be found.
    Begin(Outlet<Checkpoint>, Outlet<SourceError>),
    Found(Result<Option<Position>, SourceError>),
    /// The children of the closed shard have their rows, or could not be given them.
    EndPrepared(Result<(), EndError>),
    /// The children that could not be given rows are looked for again.
    EndDue,
    /// The shard did not answer to its name: ends it if the stream lists it no more, else tells the second.
    EndIfGone(Outlet<Checkpoint>, Outlet<()>),
    Looked(Result<bool, SourceError>),
    /// A checkpoint that could not be written is tried again.
    RetryDue,
    /// Gives the lease up once what is being written is written: to this worker, or to whoever takes it.
    Release(Option<String>, RpcReplyPort<()>),
}

/// When a lease is renewed and when it expires.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTiming {
    /// Time between two renewals.
    pub renew_every: Duration,
    /// A lease whose counter stood still for so long, by the watcher's own clock, is nobody's.
    pub expires_after: Duration,
    /// Time between two looks at the shards and the lease table.
    pub sync_every: Duration,
}

pub(super) struct LeaseKeeperArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) table: Arc<dyn LeaseTable>,
    pub(super) lease: Lease,
    pub(super) taken_at: Instant,
    pub(super) timing: LeaseTiming,
    pub(super) source: Arc<dyn ShardSource>,
    pub(super) tenure: Tenure,
    pub(super) stats: LaneStats,
    /// Told once, when the lease is another node's or expired.
    pub(super) lost: Outlet<()>,
}

pub(super) struct LeaseKeeperState {
    myself: Mailbox<LeaseKeeperMsg>,
    args: LeaseKeeperArgs,
    /// When the last write that succeeded began.
    written_at: Instant,
    wanted: Option<(Checkpoint, Outlet<Checkpoint>)>,
    /// The furthest checkpoint whose write began. It may have taken effect although its answer was lost, and what it says is done
    /// either way, so nothing before it is written any more.
    begun: Option<Checkpoint>,
    writing: Option<Writing>,
    /// Told where the lane begins, or that it cannot.
    beginning: Option<(Outlet<Checkpoint>, Outlet<SourceError>)>,
    /// Told when the shard is marked as done.
    ending: Option<Outlet<Checkpoint>>,
    end_tries: u32,
    /// Told which of the two it is when a shard did not answer to its name.
    gone: Option<(Outlet<Checkpoint>, Outlet<()>)>,
    releasing: Option<(Option<String>, RpcReplyPort<()>)>,
    running: JoinSet<()>,
}

struct Writing {
    begun: Instant,
    /// Else a renewal.
    checkpoint: Option<(Checkpoint, Outlet<Checkpoint>)>,
}

impl ractor::Message for LeaseKeeperMsg {}

impl Actor for LeaseKeeper {
    type Msg = LeaseKeeperMsg;
    type State = LeaseKeeperState;
    type Arguments = LeaseKeeperArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<LeaseKeeperMsg>,
        args: LeaseKeeperArgs,
    ) -> Result<LeaseKeeperState, ActorProcessingErr> {
        let (myself, taken_at) = (Mailbox::new(myself, Arc::clone(&args.meter)), args.taken_at);
        myself.cast(LeaseKeeperMsg::LookDue)?;
        Ok(LeaseKeeperState {
            myself,
            args,
            written_at: taken_at,
            wanted: None,
            begun: None,
            writing: None,
            beginning: None,
            ending: None,
            end_tries: 0,
            gone: None,
            releasing: None,
            running: JoinSet::new(),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<LeaseKeeperMsg>,
        message: LeaseKeeperMsg,
        state: &mut LeaseKeeperState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LeaseKeeperMsg::LookDue => state.look(),
            LeaseKeeperMsg::Checkpoint(Checkpoint::ShardEnd, done) => {
                state.ending = Some(done);
                state.prepare_end();
            }
            LeaseKeeperMsg::Checkpoint(checkpoint, done) => {
                state.wanted = Some((checkpoint, done));
                state.start_wanted();
            }
            LeaseKeeperMsg::Written(result) => state.written(result),
            LeaseKeeperMsg::Begin(begun, failed) => state.find_newest(begun, failed),
            LeaseKeeperMsg::Found(newest) => state.found(newest),
            LeaseKeeperMsg::RetryDue => state.start_wanted(),
            LeaseKeeperMsg::EndDue => state.prepare_end(),
            LeaseKeeperMsg::EndPrepared(prepared) => state.end_prepared(prepared),
            LeaseKeeperMsg::EndIfGone(ended, listed) => state.look_for_shard(ended, listed),
            LeaseKeeperMsg::Looked(listed) => state.looked(listed),
            LeaseKeeperMsg::Release(to, reply) => state.releasing = Some((to, reply)),
        }
        state.release_if_idle().await;
        while let Some(ended) = state.running.try_join_next() {
            ended?;
        }
        Ok(())
    }
}

impl LeaseKeeperState {
    fn start_wanted(&mut self) {
        if self.writing.is_some() {
            return;
        }
        let Some((checkpoint, done)) = self.wanted.take() else { return };
        // A generation that started over from before a checkpoint must not take it back.
        if covers(&self.args.lease.checkpoint, &checkpoint) {
            // A reader of a dead generation needs no answer.
            let _gone = done.send(checkpoint);
            return;
        }
        if !self.begun.as_ref().is_some_and(|begun| covers(begun, &checkpoint)) {
            self.begun = Some(checkpoint.clone());
        }
        self.start(Some((checkpoint, done)));
    }

    /// Renews the lease when it is time, or when the node could not show for a while that it lives.
    fn look(&mut self) {
        let (tenure, renew_every) = (&self.args.tenure, self.args.timing.renew_every);
        let look_every = LOOK_EVERY.min(renew_every);
        self.myself.cast_after(look_every, || LeaseKeeperMsg::LookDue);
        if tenure.is_expired() {
            self.report_lost();
            return;
        }
        let is_due = self.written_at.elapsed() + look_every / 2 >= renew_every || tenure.wants_proof();
        if is_due && self.writing.is_none() && self.wanted.is_none() && self.releasing.is_none() {
            self.start(None);
        }
    }

    fn start(&mut self, checkpoint: Option<(Checkpoint, Outlet<Checkpoint>)>) {
        let (table, lease, myself) = (Arc::clone(&self.args.table), self.args.lease.clone(), self.myself.clone());
        let target = checkpoint.as_ref().and(self.begun.clone());
        let kind = if target.is_some() { LeaseWrite::Checkpoint } else { LeaseWrite::Renewal };
        self.args.stats.lease_written(&lease.shard, kind);
        self.writing = Some(Writing { begun: Instant::now(), checkpoint });
        self.running.spawn(async move {
            let result = match target {
                None => table.renew(&lease).await,
                Some(target) => table.checkpoint(&lease, &target).await,
            };
            // When the actor is gone there is nobody left to tell.
            let _gone = myself.cast(LeaseKeeperMsg::Written(result));
        });
    }

    fn find_newest(&mut self, begun: Outlet<Checkpoint>, failed: Outlet<SourceError>) {
        self.beginning = Some((begun, failed));
        let (source, shard, myself) = (Arc::clone(&self.args.source), self.args.lease.shard.clone(), self.myself.clone());
        self.running.spawn(async move {
            let newest = newest(&*source, &shard).await;
            // When the actor is gone there is nobody left to tell.
            let _gone = myself.cast(LeaseKeeperMsg::Found(newest));
        });
    }

    /// A shard that held nothing begins with its first record.
    fn found(&mut self, newest: Result<Option<Position>, SourceError>) {
        let Some((begun, failed)) = self.beginning.take() else { return };
        match newest {
            Ok(newest) => {
                self.wanted = Some((newest.map_or(Checkpoint::TrimHorizon, Checkpoint::At), begun));
                self.start_wanted();
            }
            Err(error) => {
                // A supervisor that is gone takes the lane with it.
                let _gone = failed.send(error);
            }
        }
    }

    fn prepare_end(&mut self) {
        let (source, table, myself) = (Arc::clone(&self.args.source), Arc::clone(&self.args.table), self.myself.clone());
        let (lease, stats) = (self.args.lease.clone(), self.args.stats.clone());
        self.running.spawn(async move {
            let prepared = prepare_end(&*source, &*table, &lease, &stats).await;
            // When the actor is gone there is nobody left to tell.
            let _gone = myself.cast(LeaseKeeperMsg::EndPrepared(prepared));
        });
    }

    fn end_prepared(&mut self, prepared: Result<(), EndError>) {
        match prepared {
            Ok(()) => {
                if let Some(done) = self.ending.take() {
                    self.wanted = Some((Checkpoint::ShardEnd, done));
                    self.start_wanted();
                }
            }
            Err(EndError::Lease(LeaseError::Lost(_) | LeaseError::Unusable(_))) => self.report_lost(),
            Err(error) => {
                let delay = END_BACKOFF.delay(self.end_tries, rand::random());
                self.end_tries += 1;
                tracing::warn!(shard = %self.args.lease.shard, %error, "children of a closed shard not found, will be tried again");
                self.myself.cast_after(delay, || LeaseKeeperMsg::EndDue);
            }
        }
    }

    fn look_for_shard(&mut self, ended: Outlet<Checkpoint>, listed: Outlet<()>) {
        self.gone = Some((ended, listed));
        let (source, shard, myself) = (Arc::clone(&self.args.source), self.args.lease.shard.clone(), self.myself.clone());
        self.running.spawn(async move {
            let listed = is_listed(&*source, &shard).await;
            // When the actor is gone there is nobody left to tell.
            let _gone = myself.cast(LeaseKeeperMsg::Looked(listed));
        });
    }

    /// Only a list that was read and lacks the shard ends it: a stream that does not answer may be back tomorrow.
    fn looked(&mut self, listed: Result<bool, SourceError>) {
        let Some((ended, still_listed)) = self.gone.take() else { return };
        if matches!(listed, Ok(false)) {
            tracing::warn!(
                shard = %self.args.lease.shard,
                "shard is gone from its stream; what was not read before its retention ended is lost"
            );
            self.ending = Some(ended);
            self.prepare_end();
            return;
        }
        if let Err(error) = listed {
            tracing::warn!(shard = %self.args.lease.shard, %error, "shards not listed");
        }
        // A supervisor that is gone takes the lane with it.
        let _gone = still_listed.send(());
    }

    fn written(&mut self, result: Result<Lease, LeaseError>) {
        let writing = self.writing.take();
        match result {
            Ok(lease) => {
                self.args.lease = lease;
                if let Some(Writing { begun, checkpoint }) = writing {
                    self.written_at = begun;
                    self.args.tenure.proven(begun);
                    self.args.stats.lease_lasts(&self.args.lease.shard, begun + self.args.timing.expires_after);
                    if let Some((checkpoint, done)) = checkpoint {
                        // A reader of a dead generation needs no answer.
                        let _gone = done.send(checkpoint);
                    }
                }
            }
            Err(LeaseError::Remote(failure)) => {
                tracing::warn!(shard = %self.args.lease.shard, %failure, "lease not written, will be tried again");
                if self.wanted.is_none() {
                    self.wanted = writing.and_then(|writing| writing.checkpoint);
                }
                if self.wanted.is_some() {
                    self.myself.cast_after(RETRY_AFTER, || LeaseKeeperMsg::RetryDue);
                    return;
                }
            }
            Err(LeaseError::Lost(_) | LeaseError::Unusable(_)) => return self.report_lost(),
        }
        self.start_wanted();
    }

    async fn release_if_idle(&mut self) {
        if self.writing.is_some() || self.wanted.is_some() {
            return;
        }
        let Some((to, reply)) = self.releasing.take() else { return };
        self.args.stats.lease_written(&self.args.lease.shard, LeaseWrite::Other);
        let released = match to {
            Some(to) => self.args.table.assign(&self.args.lease, &to).await.map(|_| ()),
            None => self.args.table.release(&self.args.lease).await,
        };
        if let Err(error) = released {
            tracing::warn!(shard = %self.args.lease.shard, %error, "lease not released; it will expire");
        }
        // The supervisor may have run out of patience.
        let _gone = reply.send(());
    }

    fn report_lost(&mut self) {
        self.wanted = None;
        // A supervisor that is gone takes the lane with it.
        let _gone = self.args.lost.send(());
    }
}

/// Whether all that the second says is done, is done by the first, too.
fn covers(checkpoint: &Checkpoint, other: &Checkpoint) -> bool {
    match (checkpoint, other) {
        (Checkpoint::ShardEnd, _) => true,
        (Checkpoint::At(done), Checkpoint::At(other)) => done >= other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Position, SequenceNumber};

    #[test]
    fn the_end_of_a_shard_covers_everything_and_a_place_what_lies_before_it() {
        let at = |n: &str| Checkpoint::At(Position { sequence: SequenceNumber::parse(n).expect("a number"), sub: 0 });
        assert!(covers(&Checkpoint::ShardEnd, &at("9")) && covers(&Checkpoint::ShardEnd, &Checkpoint::ShardEnd));
        assert!(covers(&at("9"), &at("5")) && covers(&at("9"), &at("9")));
        assert!(!covers(&at("5"), &at("9")) && !covers(&at("9"), &Checkpoint::ShardEnd));
        assert!(!covers(&Checkpoint::Latest, &at("5")) && !covers(&Checkpoint::Latest, &Checkpoint::TrimHorizon));
    }
}
