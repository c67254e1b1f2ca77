//! Runs one lane: keeps its lease, spawns its generations, and kills a generation whole when any of it fails.
//!
//! Child of `ShardAssigner`. One-for-all: the children hold tickets of each other, so a lane is never repaired in part. The next
//! generation starts from the checkpoint after a jittered delay, without end. Faults are told apart from outages in `isolation`;
//! a frozen actor, found by `stall`, is one; an actor that an operator ends is none. It stops when the shard is done, the lease is
//! lost, or it was told to drain. Told to renew, it drains its generation and goes on with the next.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::time::Instant;

use super::generation::{Birth, Child, Generation};
use super::isolation::Isolation;
use super::lease_keeper::{LeaseKeeper, LeaseKeeperArgs, LeaseKeeperMsg, LeaseTiming};
use super::renewal::LaneRenewal;
use super::shard_reader::ShardReaderMsg;
use super::stall::{Frozen, StallWatch};
use super::{LaneSettings, Stages};
use crate::cluster::OrderAnswer;
use crate::domain::Position;
use crate::flow::{LaneFailure, Pulse, Tenure};
use crate::observe::{ActorTable, LaneState, LaneStats, Mailbox, Meter, Spot};
use crate::ports::{Checkpoint, DeadLetters, Lease, LeaseTable, ShardSource, SourceError, StartAt};

/// How long a killed actor may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long the lease may take to be given back when the lane closes.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);

/// The supervisor of one lane.
pub struct LaneSupervisor;

/// What a lane is told.
#[derive(Debug)]
pub enum LaneSupervisorMsg {
    /// A child's news.
    News(LaneNews),
    /// The lease is another node's, or it expired.
    LeaseLost,
    /// The delay before the next generation is over.
    RespawnDue,
    /// Take nothing more in, drop what has not begun, finish what has, checkpoint, give the lease back, stop.
    Drain {
        /// The worker that the lease is handed to; else whoever takes it.
        to: Option<String>,
        /// How long finishing may take; what has not ended by then starts again elsewhere.
        patience: Duration,
        /// Answered when the lease is given back, with whether everything that had begun had ended.
        done: RpcReplyPort<bool>,
    },
    /// An operator drains an actor: finish what has begun, checkpoint, and go on with a new generation; answered when begun.
    Renew {
        /// Of whom, and on whose word.
        renewal: LaneRenewal,
        /// How long finishing may take; what has not ended by then starts again from the checkpoint.
        patience: Duration,
        /// Answered at once.
        answer: RpcReplyPort<OrderAnswer>,
    },
    /// The patience of a renewal of this generation is over.
    RenewDue(u64),
    /// The patience of a drain is over.
    DrainDue,
    /// Time to see whether the lane makes progress.
    StallLookDue,
}

/// What ended a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Perhaps a record.
    Fault,
    /// Something outside.
    Outage,
    /// An operator.
    Order,
}

/// What a reader tells its supervisor.
#[derive(Debug)]
pub enum LaneNews {
    /// The checkpoint may move on.
    Progress,
    /// This record is alone in the lane.
    Alone(Position),
    /// As many records passed alone as a lane holds.
    Cleared,
    /// The checkpoint is written.
    Checkpointed(Position),
    /// The lane begins after the newest record, and the lease says where that was.
    Begun(Checkpoint),
    /// The newest record was not found.
    NotBegun(SourceError),
    /// The shard that did not answer to its name is still in the stream's list.
    StillListed,
    /// Nothing that began is open any more and the checkpoint is written.
    Drained,
    /// The shard is closed, done, and checkpointed as such.
    ShardEnded,
}

/// What a lane needs.
pub struct LaneArgs {
    /// The supervisor's own meter.
    pub meter: Arc<Meter>,
    /// Where actors are spawned through.
    pub table: ActorTable,
    /// The supervisor's place in the tree.
    pub spot: Spot,
    /// `<node>#<boot>`: the owner written into the lease.
    pub worker: String,
    /// The lease, taken; its checkpoint follows what is written.
    pub lease: Lease,
    /// When the write that took it began.
    pub taken_at: Instant,
    /// Where to start if the lease says `AT_TIMESTAMP`.
    pub start: StartAt,
    /// The lease table.
    pub leases: Arc<dyn LeaseTable>,
    /// When the lease is renewed and expires.
    pub timing: LeaseTiming,
    /// The stream.
    pub source: Arc<dyn ShardSource>,
    /// The stages.
    pub stages: Stages,
    /// Where rejected records go.
    pub letters: Arc<dyn DeadLetters>,
    /// Limits.
    pub settings: LaneSettings,
    /// The lane's counts.
    pub stats: LaneStats,
    /// Whether the node may act.
    pub pulse: Pulse,
}

/// A lane's state.
pub struct LaneSupervisorState {
    pub(super) args: LaneArgs,
    pub(super) myself: Mailbox<LaneSupervisorMsg>,
    keeper: Mailbox<LeaseKeeperMsg>,
    tenure: Tenure,
    pub(super) generation: Option<Generation>,
    stall: StallWatch,
    pub(super) number: u64,
    /// Deaths since the checkpoint last moved on; sets the delay.
    deaths: u32,
    isolation: Isolation,
    alone: Option<Position>,
    /// The shard did not answer to its name.
    shard_gone: bool,
    /// Who waits for the drain; nobody unless it drains.
    pub(super) draining: Vec<RpcReplyPort<bool>>,
    hand_to: Option<String>,
    drained: bool,
    pub(super) renewal: Option<LaneRenewal>,
}

impl ractor::Message for LaneSupervisorMsg {}

impl Actor for LaneSupervisor {
    type Msg = LaneSupervisorMsg;
    type State = LaneSupervisorState;
    type Arguments = LaneArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<LaneSupervisorMsg>,
        args: LaneArgs,
    ) -> Result<LaneSupervisorState, ActorProcessingErr> {
        let cell = myself.get_cell();
        let myself = Mailbox::new(myself, Arc::clone(&args.meter));
        let lost = myself.outlet(|()| LaneSupervisorMsg::LeaseLost);
        let tenure = Tenure::new(args.pulse.clone(), args.timing.expires_after, args.taken_at);
        let keeper_args = |meter| LeaseKeeperArgs {
            meter,
            table: Arc::clone(&args.leases),
            lease: args.lease.clone(),
            taken_at: args.taken_at,
            timing: args.timing,
            source: Arc::clone(&args.source),
            tenure: tenure.clone(),
            stats: args.stats.clone(),
            lost,
        };
        let keeper =
            args.table.spawn(&args.spot.child("LeaseKeeper", "lease_keeper"), Some(cell), LeaseKeeper, keeper_args).await?;
        myself.cast(LaneSupervisorMsg::RespawnDue)?;
        let stall = StallWatch::new(args.settings.stall_after, args.settings.longest_call);
        myself.cast_after(stall.every(), || LaneSupervisorMsg::StallLookDue);
        let isolation = Isolation::default();
        // A shard that comes back to its node goes on counting, or it would take the claims of its earlier life for its own.
        let number = args.stats.generation(&args.lease.shard);
        Ok(LaneSupervisorState {
            args,
            myself,
            keeper,
            tenure,
            generation: None,
            stall,
            number,
            deaths: 0,
            isolation,
            alone: None,
            shard_gone: false,
            draining: Vec::new(),
            hand_to: None,
            drained: false,
            renewal: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<LaneSupervisorMsg>,
        message: LaneSupervisorMsg,
        state: &mut LaneSupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LaneSupervisorMsg::News(news) => state.hear(&myself, news).await,
            LaneSupervisorMsg::LeaseLost => {
                tracing::warn!(lane = state.args.spot.path, "lease lost; the lane closes");
                state.close(&myself, LaneState::Closed).await;
            }
            LaneSupervisorMsg::RespawnDue if state.generation.is_none() && state.draining.is_empty() => {
                if state.shard_gone {
                    state.look_for_shard()?;
                } else {
                    state.respawn(myself.get_cell()).await?;
                }
            }
            LaneSupervisorMsg::RespawnDue => {}
            LaneSupervisorMsg::Drain { to, patience, done } => {
                state.draining.push(done);
                state.hand_to = state.hand_to.take().or(to);
                state.args.stats.entered(&state.args.lease.shard, LaneState::Draining, None);
                state.myself.cast_after(patience, || LaneSupervisorMsg::DrainDue);
                match &state.generation {
                    Some(generation) if generation.reader.cast(ShardReaderMsg::Drain).is_ok() => {}
                    _ => state.release_and_close(&myself).await,
                }
            }
            LaneSupervisorMsg::Renew { renewal, patience, answer } => {
                // Whoever ordered it may have gone; the order stands all the same.
                let _gone = answer.send(state.begin_renewal(renewal, patience));
            }
            LaneSupervisorMsg::RenewDue(number) => {
                if number == state.number && state.renewal.is_some() && state.draining.is_empty() {
                    tracing::warn!(lane = state.args.spot.path, "not everything ended in time; the rest starts again");
                    state.renew().await;
                }
            }
            LaneSupervisorMsg::StallLookDue => state.look_for_stall(&myself).await,
            LaneSupervisorMsg::DrainDue => {
                tracing::warn!(
                    lane = state.args.spot.path,
                    "not everything ended in time; the rest starts again from the checkpoint"
                );
                state.release_and_close(&myself).await;
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<LaneSupervisorMsg>,
        event: SupervisionEvent,
        state: &mut LaneSupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => state.child_ended(&myself, &cell, &error).await,
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                let reason: ActorProcessingErr = reason.unwrap_or_else(|| "stopped".to_owned()).into();
                state.child_ended(&myself, &cell, &reason).await
            }
            _ => Ok(()),
        }
    }
}

impl LaneSupervisorState {
    async fn hear(&mut self, myself: &ActorRef<LaneSupervisorMsg>, news: LaneNews) {
        match news {
            LaneNews::Progress => {
                if self.deaths > 0 {
                    self.deaths = 0;
                    self.args.stats.died(&self.args.lease.shard, 0);
                }
                self.isolation.progress();
            }
            LaneNews::Alone(position) => self.alone = Some(position),
            LaneNews::Cleared => {
                self.alone = None;
                self.isolation.cleared();
            }
            LaneNews::Checkpointed(position) => self.args.lease.checkpoint = Checkpoint::At(position),
            LaneNews::Begun(checkpoint) => {
                tracing::info!(lane = self.args.spot.path, %checkpoint, "lane begins after the newest record");
                self.args.lease.checkpoint = checkpoint;
                self.myself.cast_after(Duration::ZERO, || LaneSupervisorMsg::RespawnDue);
            }
            LaneNews::NotBegun(error) => {
                self.shard_gone = matches!(error, SourceError::Gone(_));
                let (path, reason) = (self.args.spot.path.clone(), error.to_string());
                self.back_off(&path, &reason);
            }
            LaneNews::StillListed => {
                self.shard_gone = false;
                self.myself.cast_after(Duration::ZERO, || LaneSupervisorMsg::RespawnDue);
            }
            LaneNews::Drained if self.draining.is_empty() => self.renew().await,
            LaneNews::Drained => {
                self.drained = true;
                self.release_and_close(myself).await;
            }
            LaneNews::ShardEnded => {
                tracing::info!(lane = self.args.spot.path, "shard is closed and done");
                self.close(myself, LaneState::Ended).await;
            }
        }
    }

    async fn respawn(&mut self, supervisor: ActorCell) -> Result<(), ActorProcessingErr> {
        let (start, done_to) = match (self.args.lease.checkpoint.clone(), self.args.start.clone()) {
            (Checkpoint::TrimHorizon | Checkpoint::ShardEnd, _) => (StartAt::TrimHorizon, None),
            (Checkpoint::At(position), _) => (StartAt::Sequence(position.sequence.clone()), Some(position)),
            // Only the lease outlives this lane: nothing may start before it says where that is, or whoever comes next would
            // begin at a newer record.
            (Checkpoint::Latest, _) | (Checkpoint::AtTimestamp, StartAt::Latest) => return self.begin(),
            (Checkpoint::AtTimestamp, start) => (start, None),
        };
        self.number += 1;
        self.alone = None;
        self.stall = StallWatch::new(self.args.settings.stall_after, self.args.settings.longest_call);
        let birth = Birth {
            number: self.number,
            start,
            done_to,
            admission: self.isolation.admission(),
            tenure: self.tenure.clone(),
            keeper: self.keeper.clone(),
            news: self.myself.outlet(LaneSupervisorMsg::News),
        };
        self.args.stats.started(&self.args.lease.shard, self.number);
        self.generation = Some(Generation::spawn(&self.args, supervisor, birth).await?);
        tracing::info!(lane = self.args.spot.path, generation = self.number, "lane started");
        Ok(())
    }

    fn begin(&self) -> Result<(), ActorProcessingErr> {
        let begun = self.myself.outlet(|checkpoint| LaneSupervisorMsg::News(LaneNews::Begun(checkpoint)));
        let failed = self.myself.outlet(|error| LaneSupervisorMsg::News(LaneNews::NotBegun(error)));
        Ok(self.keeper.cast(LeaseKeeperMsg::Begin(begun, failed))?)
    }

    /// A child of the running generation ended: the whole generation goes with it.
    async fn child_ended(
        &mut self,
        myself: &ActorRef<LaneSupervisorMsg>,
        cell: &ActorCell,
        error: &ActorProcessingErr,
    ) -> Result<(), ActorProcessingErr> {
        if cell.get_id() == self.keeper.cell().get_id() {
            // Without its keeper the lane could not checkpoint: it ends, and the assigner takes the lease anew.
            let path = self.args.spot.child("LeaseKeeper", "lease_keeper").path;
            let reason = self.args.table.ordered(&path).map_or_else(|| error.to_string(), |ordered| ordered.reason);
            self.args.table.failed(&path, &reason);
            return Err(format!("lease keeper ended: {reason}").into());
        }
        let Some(generation) = &self.generation else { return Ok(()) };
        let Some(child) = generation.children.iter().find(|child| child.cell.get_id() == cell.get_id()) else {
            return Ok(());
        };
        let path = child.path.clone();
        let failure = error.downcast_ref::<LaneFailure>();
        if matches!(failure, Some(LaneFailure::LeaseLost)) {
            self.close(myself, LaneState::Closed).await;
            return Ok(());
        }
        // Whoever is killed drops its batch, and the reader may be heard to fail over that first.
        let ordered = |child: &Child| Some((child.path.clone(), self.args.table.ordered(&child.path)?.reason));
        if let Some((path, reason)) = generation.children.iter().find_map(ordered) {
            self.end_generation(myself, &path, &reason, Cause::Order).await;
            return Ok(());
        }
        self.shard_gone = matches!(failure, Some(LaneFailure::ShardGone));
        let cause = if failure.is_none_or(LaneFailure::is_fault) { Cause::Fault } else { Cause::Outage };
        self.end_generation(myself, &path, &error.to_string(), cause).await;
        Ok(())
    }

    /// Kills the generation for what one of its actors did, and lets the next one start after a delay.
    async fn end_generation(&mut self, myself: &ActorRef<LaneSupervisorMsg>, path: &str, reason: &str, cause: Cause) {
        self.renewal = None;
        self.kill_generation(Some(path)).await;
        self.args.table.failed(path, reason);
        if !self.draining.is_empty() {
            self.release_and_close(myself).await;
            return;
        }
        match cause {
            Cause::Fault => self.isolation.fault(self.alone.as_ref()),
            Cause::Outage => {}
            // It tells nothing about what the lane would do by itself, so it has no part in the delay.
            Cause::Order => return self.start_again_after(self.args.settings.backoff.first, path, reason),
        }
        self.back_off(path, reason);
    }

    /// Lets the next generation start after a delay.
    fn back_off(&mut self, path: &str, reason: &str) {
        let delay = self.args.settings.backoff.delay(self.deaths, rand::random());
        self.deaths += 1;
        self.args.stats.died(&self.args.lease.shard, self.deaths);
        self.start_again_after(delay, path, reason);
    }

    pub(super) fn start_again_after(&self, delay: Duration, path: &str, reason: &str) {
        self.args.stats.entered(&self.args.lease.shard, LaneState::Backoff, Some(reason));
        self.args.table.starts_after(path, delay);
        tracing::warn!(
            actor = path,
            generation = self.number,
            reason,
            delay_ms = delay.as_millis(),
            "lane ended and will start again"
        );
        self.myself.cast_after(delay, || LaneSupervisorMsg::RespawnDue);
    }

    /// A frozen actor counts as a fault: a record may be what froze it.
    async fn look_for_stall(&mut self, myself: &ActorRef<LaneSupervisorMsg>) {
        self.myself.cast_after(self.stall.every(), || LaneSupervisorMsg::StallLookDue);
        let Some(generation) = &self.generation else { return };
        let seen = generation.children.iter().rev().map(|child| (child.path.clone(), child.meter.snapshot())).collect();
        let in_lane = self.args.stats.in_lane(&self.args.lease.shard);
        if let Some(Frozen { path, reason }) = self.stall.look(seen, in_lane) {
            self.end_generation(myself, &path, &reason, Cause::Fault).await;
        }
    }

    /// A shard that does not answer to its name is done for if the stream lists it no more.
    fn look_for_shard(&self) -> Result<(), ActorProcessingErr> {
        let ended = self.myself.outlet(|_| LaneSupervisorMsg::News(LaneNews::ShardEnded));
        let listed = self.myself.outlet(|()| LaneSupervisorMsg::News(LaneNews::StillListed));
        Ok(self.keeper.cast(LeaseKeeperMsg::EndIfGone(ended, listed))?)
    }

    pub(super) async fn kill_generation(&mut self, failed: Option<&str>) {
        let Some(generation) = self.generation.take() else { return };
        for child in &generation.children {
            child.cell.kill();
        }
        for child in generation.children {
            // An actor that does not die within the patience holds only dead tickets, which nobody hears.
            let _gone_or_given_up = child.cell.wait(Some(KILL_PATIENCE)).await;
            if failed != Some(child.path.as_str()) {
                self.args.table.backing_off(&child.path);
            }
        }
    }

    async fn release_and_close(&mut self, myself: &ActorRef<LaneSupervisorMsg>) {
        self.kill_generation(None).await;
        let to = self.hand_to.take();
        let released = self.keeper.actor().call(|reply| LeaseKeeperMsg::Release(to, reply), Some(RELEASE_PATIENCE)).await;
        if !matches!(released, Ok(ractor::rpc::CallResult::Success(()))) {
            tracing::warn!(lane = self.args.spot.path, "lease not given back in time; it will expire");
        }
        self.close(myself, LaneState::Closed).await;
    }

    async fn close(&mut self, myself: &ActorRef<LaneSupervisorMsg>, state: LaneState) {
        self.kill_generation(None).await;
        self.args.stats.entered(&self.args.lease.shard, state, None);
        for done in self.draining.drain(..) {
            // The assigner may have run out of patience.
            let _gone = done.send(self.drained || state == LaneState::Ended);
        }
        myself.stop(Some(state.label().to_owned()));
    }
}
