//! Runs one lane: keeps its lease, spawns its generations, and kills a generation whole when any of it fails.
//!
//! Child of `ShardAssigner`. One-for-all: the children hold tickets of each other, so a lane is never repaired in part. The next
//! generation starts from the checkpoint after a jittered delay, without end. Faults are told apart from outages in `isolation`.
//! It stops when the shard is done, the lease is lost, or it was told to drain.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

use super::generation::{Birth, Generation};
use super::isolation::Isolation;
use super::lease_keeper::{LeaseKeeper, LeaseKeeperArgs, LeaseKeeperMsg, LeaseTiming};
use super::shard_reader::ShardReaderMsg;
use super::{LaneSettings, Stages};
use crate::domain::Position;
use crate::flow::{LaneFailure, Pulse};
use crate::observe::{ActorTable, LaneState, LaneStats, Mailbox, Meter, Spot};
use crate::ports::{Checkpoint, DeadLetters, Lease, LeaseTable, ShardSource, StartAt};

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
    /// Take nothing more in, finish, checkpoint, give the lease back, stop.
    Drain {
        /// The worker that the lease is handed to; else whoever takes it.
        to: Option<String>,
        /// How long finishing may take; what has not ended by then starts again elsewhere.
        patience: Duration,
        /// Answered when the lease is given back, with whether everything in the lane had ended.
        done: RpcReplyPort<bool>,
    },
    /// The patience of a drain is over.
    DrainDue,
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
    /// Nothing is open any more and the checkpoint is written.
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
    args: LaneArgs,
    myself: Mailbox<LaneSupervisorMsg>,
    keeper: Mailbox<LeaseKeeperMsg>,
    generation: Option<Generation>,
    number: u64,
    /// Deaths since the checkpoint last moved on; sets the delay.
    deaths: u32,
    isolation: Isolation,
    alone: Option<Position>,
    draining: Option<RpcReplyPort<bool>>,
    hand_to: Option<String>,
    drained: bool,
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
        let keeper_args = |meter| LeaseKeeperArgs {
            meter,
            table: Arc::clone(&args.leases),
            lease: args.lease.clone(),
            timing: args.timing,
            lost,
        };
        let keeper =
            args.table.spawn(&args.spot.child("LeaseKeeper", "lease_keeper"), Some(cell), LeaseKeeper, keeper_args).await?;
        myself.cast(LaneSupervisorMsg::RespawnDue)?;
        let isolation = Isolation::default();
        Ok(LaneSupervisorState {
            args,
            myself,
            keeper,
            generation: None,
            number: 0,
            deaths: 0,
            isolation,
            alone: None,
            draining: None,
            hand_to: None,
            drained: false,
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
            LaneSupervisorMsg::RespawnDue if state.generation.is_none() && state.draining.is_none() => {
                state.respawn(myself.get_cell()).await?;
            }
            LaneSupervisorMsg::RespawnDue => {}
            LaneSupervisorMsg::Drain { to, patience, done } => {
                state.draining = Some(done);
                state.hand_to = to;
                state.args.stats.entered(&state.args.lease.shard, LaneState::Draining, None);
                state.myself.cast_after(patience, || LaneSupervisorMsg::DrainDue);
                match &state.generation {
                    Some(generation) if generation.reader.cast(ShardReaderMsg::Drain).is_ok() => {}
                    _ => state.release_and_close(&myself).await,
                }
            }
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
                self.deaths = 0;
                self.isolation.progress();
            }
            LaneNews::Alone(position) => self.alone = Some(position),
            LaneNews::Cleared => {
                self.alone = None;
                self.isolation.cleared();
            }
            LaneNews::Checkpointed(position) => self.args.lease.checkpoint = Checkpoint::At(position),
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
        self.number += 1;
        self.alone = None;
        let (start, done_to) = match self.args.lease.checkpoint.clone() {
            Checkpoint::TrimHorizon | Checkpoint::ShardEnd => (StartAt::TrimHorizon, None),
            Checkpoint::Latest => (StartAt::Latest, None),
            Checkpoint::AtTimestamp => (self.args.start.clone(), None),
            Checkpoint::At(position) => (StartAt::Sequence(position.sequence.clone()), Some(position)),
        };
        let birth = Birth {
            number: self.number,
            start,
            done_to,
            admission: self.isolation.admission(),
            keeper: self.keeper.clone(),
            news: self.myself.outlet(LaneSupervisorMsg::News),
        };
        self.args.stats.started(&self.args.lease.shard, self.number);
        self.generation = Some(Generation::spawn(&self.args, supervisor, birth).await?);
        tracing::info!(lane = self.args.spot.path, generation = self.number, "lane started");
        Ok(())
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
            return Err(format!("lease keeper ended: {error}").into());
        }
        let Some(generation) = &self.generation else { return Ok(()) };
        let Some((path, _)) = generation.children.iter().find(|(_, child)| child.get_id() == cell.get_id()) else {
            return Ok(());
        };
        let (path, number, reason) = (path.clone(), generation.number, error.to_string());
        self.kill_generation(Some(&path)).await;
        self.args.table.failed(&path, &reason);
        self.args.stats.entered(&self.args.lease.shard, LaneState::Backoff, Some(&reason));
        if self.draining.is_some() {
            self.release_and_close(myself).await;
            return Ok(());
        }
        match error.downcast_ref::<LaneFailure>() {
            Some(LaneFailure::LeaseLost) => {
                self.close(myself, LaneState::Closed).await;
                return Ok(());
            }
            Some(failure) if !failure.is_fault() => {}
            _ => self.isolation.fault(self.alone.as_ref()),
        }
        let delay = self.args.settings.backoff.delay(self.deaths, rand::random());
        self.deaths += 1;
        tracing::warn!(actor = path, generation = number, reason, delay_ms = delay.as_millis(), "lane died and will start again");
        self.myself.cast_after(delay, || LaneSupervisorMsg::RespawnDue);
        Ok(())
    }

    async fn kill_generation(&mut self, failed: Option<&str>) {
        let Some(generation) = self.generation.take() else { return };
        for (_, child) in &generation.children {
            child.kill();
        }
        for (path, child) in generation.children {
            // An actor that does not die within the patience holds only dead tickets, which nobody hears.
            let _gone_or_given_up = child.wait(Some(KILL_PATIENCE)).await;
            if failed != Some(path.as_str()) {
                self.args.table.backing_off(&path);
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
        if let Some(done) = self.draining.take() {
            // The assigner may have run out of patience.
            let _gone = done.send(self.drained || state == LaneState::Ended);
        }
        myself.stop(Some(state.label().to_owned()));
    }
}
