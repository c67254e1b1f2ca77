//! Holds a lane's lease: renews it, writes its checkpoint, gives it back.
//!
//! Child of `LaneSupervisor`, outliving the generations of its lane. Receives `Checkpoint` from `ShardReader`. All writes of the
//! lease go through here one after the other, since each one depends on the counter that the last one left. Another node's write
//! is reported to the supervisor as a lost lease; so is a lease that could not be renewed until it expired.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::observe::{Mailbox, Meter, Outlet};
use crate::ports::{Checkpoint, Lease, LeaseError, LeaseTable};

/// Pause before a checkpoint that could not be written is tried again; the adapter has used up its own budget by then.
const RETRY_AFTER: Duration = Duration::from_millis(500);

pub(super) struct LeaseKeeper;

#[derive(Debug)]
pub(super) enum LeaseKeeperMsg {
    RenewDue,
    /// Writes this checkpoint; a newer one that arrives before the write begins replaces it.
    Checkpoint(Checkpoint, Outlet<Checkpoint>),
    Written(Result<Lease, LeaseError>),
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
    pub(super) timing: LeaseTiming,
    /// Told once, when the lease is another node's or expired.
    pub(super) lost: Outlet<()>,
}

pub(super) struct LeaseKeeperState {
    myself: Mailbox<LeaseKeeperMsg>,
    table: Arc<dyn LeaseTable>,
    lease: Lease,
    timing: LeaseTiming,
    lost: Outlet<()>,
    renewed_at: Instant,
    wanted: Option<(Checkpoint, Outlet<Checkpoint>)>,
    writing: Option<Writing>,
    releasing: Option<(Option<String>, RpcReplyPort<()>)>,
    running: JoinSet<()>,
}

enum Writing {
    Renewal,
    Checkpoint(Checkpoint, Outlet<Checkpoint>),
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
        let LeaseKeeperArgs { meter, table, lease, timing, lost } = args;
        let myself = Mailbox::new(myself, meter);
        myself.cast_after(timing.renew_every, || LeaseKeeperMsg::RenewDue);
        Ok(LeaseKeeperState {
            myself,
            table,
            lease,
            timing,
            lost,
            renewed_at: Instant::now(),
            wanted: None,
            writing: None,
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
            LeaseKeeperMsg::RenewDue => {
                state.myself.cast_after(state.timing.renew_every, || LeaseKeeperMsg::RenewDue);
                if state.renewed_at.elapsed() >= state.timing.expires_after {
                    state.report_lost();
                } else if state.writing.is_none() && state.wanted.is_none() {
                    state.start(Writing::Renewal);
                }
            }
            LeaseKeeperMsg::Checkpoint(checkpoint, done) => {
                state.wanted = Some((checkpoint, done));
                state.start_wanted();
            }
            LeaseKeeperMsg::Written(result) => state.written(result),
            LeaseKeeperMsg::RetryDue => state.start_wanted(),
            LeaseKeeperMsg::Release(to, reply) => state.releasing = Some((to, reply)),
        }
        state.release_if_idle().await;
        Ok(())
    }
}

impl LeaseKeeperState {
    fn start_wanted(&mut self) {
        if self.writing.is_none()
            && let Some((checkpoint, done)) = self.wanted.take()
        {
            self.start(Writing::Checkpoint(checkpoint, done));
        }
    }

    fn start(&mut self, writing: Writing) {
        let (table, lease, myself) = (Arc::clone(&self.table), self.lease.clone(), self.myself.clone());
        let checkpoint = match &writing {
            Writing::Renewal => None,
            Writing::Checkpoint(checkpoint, _) => Some(checkpoint.clone()),
        };
        self.writing = Some(writing);
        while self.running.try_join_next().is_some() {}
        self.running.spawn(async move {
            let result = match checkpoint {
                None => table.renew(&lease).await,
                Some(checkpoint) => table.checkpoint(&lease, &checkpoint).await,
            };
            // When the actor is gone there is nobody left to tell.
            let _gone = myself.cast(LeaseKeeperMsg::Written(result));
        });
    }

    fn written(&mut self, result: Result<Lease, LeaseError>) {
        let writing = self.writing.take();
        match result {
            Ok(lease) => {
                self.lease = lease;
                self.renewed_at = Instant::now();
                if let Some(Writing::Checkpoint(checkpoint, done)) = writing {
                    // A reader of a dead generation needs no answer.
                    let _gone = done.send(checkpoint);
                }
            }
            Err(LeaseError::Remote(failure)) => {
                tracing::warn!(shard = %self.lease.shard, %failure, "lease not written, will be tried again");
                if let (Some(Writing::Checkpoint(checkpoint, done)), None) = (writing, &self.wanted) {
                    self.wanted = Some((checkpoint, done));
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
        let released = match to {
            Some(to) => self.table.assign(&self.lease, &to).await.map(|_| ()),
            None => self.table.release(&self.lease).await,
        };
        if let Err(error) = released {
            tracing::warn!(shard = %self.lease.shard, %error, "lease not released; it will expire");
        }
        // The supervisor may have run out of patience.
        let _gone = reply.send(());
    }

    fn report_lost(&mut self) {
        self.wanted = None;
        // A supervisor that is gone takes the lane with it.
        let _gone = self.lost.send(());
    }
}
