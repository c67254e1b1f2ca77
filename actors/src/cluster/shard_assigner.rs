//! Keeps a lane for every lease that this node holds; takes, asks for, and gives leases.
//!
//! Child of `NodeSupervisor`, one an application. Looks at the shards and the lease table every so often, and at the leases at once
//! when a lane ends, a node comes or goes, or another node hands a lease over; `lease_plan` decides. One-for-one over its lanes: a
//! lane that ends is forgotten, and its lease is taken anew if it is still this node's. An unavailable lease table stops nothing
//! that runs. While its node stands aside it gives every lease away, looks on, and takes none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(super) use super::assigner_msg::ShardAssignerMsg;
use super::fair_share::Elsewhere;
use super::lease_plan::{Situation, Step, Survey};
use super::lease_steps::{Finding, SyncError, find, perform};
use super::orders::OrderAnswer;
use super::sightings::Sightings;
use super::{Application, Cluster, ClusterView};
use crate::domain::ShardId;
use crate::flow::Backoff;
use crate::lane::{LaneArgs, LaneSupervisor, LaneSupervisorMsg};
use crate::observe::{ActorTable, LeaseBoard, Mailbox, Meter, Spot};
use crate::ports::{Lease, LeaseError, Shard};

/// How long a lane may take to finish what it has begun when its lease moves to another node.
const MOVE_PATIENCE: Duration = Duration::from_secs(10);
/// A lease that was promised and has not come for so long is not waited for any more.
const PROMISE_LASTS: Duration = Duration::from_secs(15);
/// Delays before a node that refused is asked again.
const ASK_PAUSE: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(10) };
/// A lane that fails at once, or a lease that nobody takes, must not make the assigner look without a pause.
const PAUSE: Duration = Duration::from_secs(1);
/// How long leases that are just being taken may hold a drain up.
const TAKING_PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct ShardAssigner;

pub(super) struct AssignerArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) table: ActorTable,
    pub(super) spot: Spot,
    pub(super) worker: String,
    pub(super) application: Application,
    /// The boards of the node's other applications.
    pub(super) others: Vec<LeaseBoard>,
    pub(super) cluster: Cluster,
    /// The node stands aside.
    pub(super) aside: bool,
}

pub(super) struct AssignerState {
    args: AssignerArgs,
    myself: Mailbox<ShardAssignerMsg>,
    view: Arc<ClusterView>,
    /// What was found last.
    shards: Vec<Shard>,
    leases: Vec<Lease>,
    sightings: Sightings,
    pub(super) lanes: BTreeMap<ShardId, (Spot, Mailbox<LaneSupervisorMsg>)>,
    /// Lanes that close because their lease goes to another node, or to nobody yet.
    pub(super) leaving: BTreeMap<ShardId, Option<String>>,
    /// Leases that other nodes have promised, and since when.
    pub(super) coming: BTreeMap<ShardId, Instant>,
    table_made: bool,
    looking: Looking,
    expiry_awaited: bool,
    free_awaited: bool,
    /// Other nodes are not asked for leases before.
    pub(super) next_ask: Instant,
    pub(super) refusals: u32,
    pub(super) draining: bool,
    pub(super) aside: bool,
    running: JoinSet<()>,
    watching: JoinSet<()>,
    leaves: JoinSet<()>,
}

/// One look, with what follows from it, at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looking {
    No,
    Now,
    /// Something happened meanwhile that asks for another look.
    AndAgain {
        at_all: bool,
    },
}

impl Actor for ShardAssigner {
    type Msg = ShardAssignerMsg;
    type State = AssignerState;
    type Arguments = AssignerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ShardAssignerMsg>,
        args: AssignerArgs,
    ) -> Result<AssignerState, ActorProcessingErr> {
        let myself = Mailbox::new(myself, Arc::clone(&args.meter));
        myself.cast(ShardAssignerMsg::SyncDue)?;
        let mut nodes = args.cluster.view.clone();
        let view = Arc::clone(&nodes.borrow_and_update());
        let mut watching = JoinSet::new();
        let told = myself.clone();
        watching.spawn(async move {
            // Ends with whoever watches the nodes, or with this actor.
            while nodes.changed().await.is_ok() {
                let view = Arc::clone(&nodes.borrow_and_update());
                if told.cast(ShardAssignerMsg::NodesChanged(view)).is_err() {
                    return;
                }
            }
        });
        let aside = args.aside;
        Ok(AssignerState {
            args,
            myself,
            view,
            shards: Vec::new(),
            leases: Vec::new(),
            sightings: Sightings::default(),
            lanes: BTreeMap::new(),
            leaving: BTreeMap::new(),
            coming: BTreeMap::new(),
            table_made: false,
            looking: Looking::No,
            expiry_awaited: false,
            free_awaited: false,
            next_ask: Instant::now(),
            refusals: 0,
            draining: false,
            aside,
            running: JoinSet::new(),
            watching,
            leaves: JoinSet::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardAssignerMsg>,
        message: ShardAssignerMsg,
        state: &mut AssignerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardAssignerMsg::SyncDue => {
                state.myself.cast_after(state.args.application.timing.sync_every, || ShardAssignerMsg::SyncDue);
                state.look(true);
            }
            ShardAssignerMsg::LookAgain => state.look(false),
            ShardAssignerMsg::LookAtAll => state.look(true),
            ShardAssignerMsg::ExpiryDue => {
                state.expiry_awaited = false;
                state.look(false);
            }
            ShardAssignerMsg::FreeDue => {
                state.free_awaited = false;
                state.look(false);
            }
            ShardAssignerMsg::Found(Ok(finding)) => state.act(finding),
            ShardAssignerMsg::Found(Err(SyncError::Leases(error @ LeaseError::Unusable(_)))) => return Err(error.into()),
            ShardAssignerMsg::Found(Err(error)) => {
                tracing::warn!(application = state.args.application.name, %error, "shards and leases not read");
                state.looked();
            }
            ShardAssignerMsg::Taken(lease, _) if state.draining || state.aside => {
                // Whatever goes wrong, the lease expires.
                let _released = state.args.application.leases.release(&lease).await;
            }
            ShardAssignerMsg::Taken(lease, begun) => state.start_lane(myself.get_cell(), lease, begun).await?,
            ShardAssignerMsg::Promised(Some(shard)) => {
                state.refusals = 0;
                state.coming.insert(shard, Instant::now());
                state.show_moves();
            }
            ShardAssignerMsg::Promised(None) => state.ask_later(),
            ShardAssignerMsg::Performed => state.looked(),
            ShardAssignerMsg::NodesChanged(view) => state.nodes_changed(view),
            ShardAssignerMsg::LeaseAsked { taker, answer } => {
                let given = state.give(&taker);
                if let (Ok(()), Some(shard)) = (answer.send(given.clone()), given) {
                    state.hand_over(shard, Some(taker));
                }
            }
            // Whoever ordered it may have gone; the order stands all the same.
            ShardAssignerMsg::HandOver { shard, to, answer } => {
                let _gone = answer.send(state.hand_over_as_ordered(shard, to));
            }
            ShardAssignerMsg::Balance(answer) => {
                state.ask_now();
                let _gone = answer.send(OrderAnswer::Begun);
            }
            ShardAssignerMsg::RenewLane { shard, renewal, answer } => match state.lanes.get(&shard) {
                Some((_, lane)) => {
                    let _gone = lane.cast(LaneSupervisorMsg::Renew { renewal, patience: MOVE_PATIENCE, answer });
                }
                None => {
                    let _gone = answer.send(OrderAnswer::not_found(format!("no lane of {shard} runs here now")));
                }
            },
            ShardAssignerMsg::StandAside => state.stand_aside(),
            ShardAssignerMsg::Resume => {
                state.aside = false;
                state.ask_now();
            }
            ShardAssignerMsg::Drain { patience, done } => state.drain(patience, done),
            ShardAssignerMsg::Drained(done, finished) => {
                // The node may have run out of patience.
                let _gone = done.send(finished);
                myself.stop(Some("drained".to_owned()));
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<ShardAssignerMsg>,
        event: SupervisionEvent,
        state: &mut AssignerState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => state.lane_ended(&cell, Some(&error.to_string())),
            SupervisionEvent::ActorTerminated(cell, _, _) => state.lane_ended(&cell, None),
            _ => {}
        }
        Ok(())
    }
}

impl AssignerState {
    pub(super) fn look(&mut self, at_all: bool) {
        while let Some(ended) = self.running.try_join_next() {
            if let Err(panic) = ended {
                tracing::error!(application = self.args.application.name, %panic, "a look at the leases did not end");
                self.looking = Looking::No;
            }
        }
        match self.looking {
            _ if self.draining => return,
            Looking::No => self.looking = Looking::Now,
            Looking::Now => return self.looking = Looking::AndAgain { at_all },
            Looking::AndAgain { at_all: before } => return self.looking = Looking::AndAgain { at_all: at_all || before },
        }
        let (application, myself, table_made) = (self.args.application.clone(), self.myself.clone(), self.table_made);
        let shards = (!at_all && table_made).then(|| self.shards.clone());
        self.running.spawn(async move {
            let found = find(&application, table_made, shards).await;
            // When the actor is gone there is nobody left to tell.
            let _gone = myself.cast(ShardAssignerMsg::Found(found));
        });
    }

    fn looked(&mut self) {
        let before = std::mem::replace(&mut self.looking, Looking::No);
        if let Looking::AndAgain { at_all } = before {
            self.look(at_all);
        }
    }

    fn act(&mut self, finding: Finding) {
        let now = Instant::now();
        self.table_made = true;
        self.sightings.note(&finding.leases, now);
        (self.shards, self.leases) = (finding.shards, finding.leases);
        let (worker, expires_after) = (self.args.worker.as_str(), self.args.application.timing.expires_after);
        let arrived = |shard: &ShardId| {
            let lease = self.leases.iter().find(|lease| lease.shard == *shard);
            lease.is_none_or(|lease| lease.owner.as_deref() == Some(worker))
        };
        // Whoever promised may have died with the promise.
        let broken = |shard: &ShardId| {
            let owner = self.leases.iter().find(|lease| lease.shard == *shard).and_then(|lease| lease.owner.as_deref());
            owner.is_none_or(|owner| self.view.is_dead(owner)) || self.sightings.age(shard, now) >= expires_after
        };
        self.coming.retain(|shard, since| !arrived(shard) && !broken(shard) && since.elapsed() < PROMISE_LASTS);
        if let (false, Some(left)) = (self.expiry_awaited, self.sightings.next_expiry(worker, now, expires_after)) {
            self.expiry_awaited = true;
            self.myself.cast_after(left, || ShardAssignerMsg::ExpiryDue);
        }
        let free = self.survey(|survey| survey.free());
        self.sightings.note_free(&free, now);
        // A node that cannot show that it lives would lose at once what it takes.
        let may_act = !self.draining && !self.aside && self.args.cluster.pulse.is_fresh();
        let (mut steps, board) = self.survey(|survey| (if may_act { survey.plan() } else { Vec::new() }, survey.board()));
        let asks_only = steps.iter().all(|step| matches!(step, Step::Ask(_)));
        let settled = may_act && asks_only && self.coming.is_empty() && self.leaving.is_empty();
        if now < self.next_ask {
            steps.retain(|step| !matches!(step, Step::Ask(_)));
        }
        self.args.application.board.put_up(board, settled);
        if let (false, false) = (self.free_awaited, free.is_empty()) {
            self.free_awaited = true;
            self.myself.cast_after(PAUSE, || ShardAssignerMsg::FreeDue);
        }
        if steps.is_empty() {
            return self.looked();
        }
        let (application, worker, myself) = (self.args.application.clone(), self.args.worker.clone(), self.myself.clone());
        let peers = Arc::clone(&self.args.cluster.peers);
        self.running.spawn(async move { perform(&application, peers.as_ref(), &worker, steps, &myself).await });
    }

    pub(super) fn survey<T>(&self, read: impl FnOnce(&Survey<'_>) -> T) -> T {
        let (running, coming) = (self.lanes.keys().cloned().collect(), self.coming.keys().cloned().collect::<BTreeSet<_>>());
        let application = &self.args.application;
        let mut elsewhere = Elsewhere::new();
        for owner in self.args.others.iter().flat_map(LeaseBoard::holders) {
            *elsewhere.entry(owner).or_default() += 1;
        }
        let situation = Situation {
            shards: &self.shards,
            leases: &self.leases,
            sightings: &self.sightings,
            view: &self.view,
            application: &application.name,
            role: application.stages.role().label(),
            worker: &self.args.worker,
            running: &running,
            leaving: &self.leaving,
            coming: &coming,
            elsewhere: &elsewhere,
            start: &application.start,
            now: Instant::now(),
            expires_after: application.timing.expires_after,
        };
        read(&Survey::of(&situation))
    }

    fn nodes_changed(&mut self, view: Arc<ClusterView>) {
        let bears_on_leases = |view: &ClusterView| -> Vec<_> {
            let node = |node: &super::ClusterNode| (node.worker.clone(), node.presence, node.draining);
            view.nodes.iter().map(node).collect()
        };
        let changed = bears_on_leases(&self.view) != bears_on_leases(&view);
        self.view = view;
        if changed {
            (self.next_ask, self.refusals) = (Instant::now(), 0);
            self.look(false);
        }
    }

    /// The other node may not know of this one yet, or see the leases otherwise.
    fn ask_later(&mut self) {
        let pause = ASK_PAUSE.delay(self.refusals, rand::random());
        self.refusals += 1;
        self.next_ask = Instant::now() + pause;
        self.myself.cast_after(pause, || ShardAssignerMsg::LookAgain);
    }

    async fn start_lane(&mut self, supervisor: ActorCell, lease: Lease, taken_at: Instant) -> Result<(), ActorProcessingErr> {
        self.coming.remove(&lease.shard);
        if self.lanes.contains_key(&lease.shard) {
            return Ok(());
        }
        let (args, application, shard) = (&self.args, &self.args.application, lease.shard.clone());
        let spot = args.spot.child("LaneSupervisor", shard.as_str());
        let lane_args = |meter| LaneArgs {
            meter,
            table: args.table.clone(),
            spot: spot.clone(),
            worker: args.worker.clone(),
            lease,
            taken_at,
            start: application.start.clone(),
            leases: Arc::clone(&application.leases),
            timing: application.timing,
            source: Arc::clone(&application.source),
            stages: application.stages.clone(),
            letters: Arc::clone(&application.letters),
            settings: application.settings,
            stats: application.stats.clone(),
            pulse: args.cluster.pulse.clone(),
        };
        let lane = args.table.spawn(&spot, Some(supervisor), LaneSupervisor, lane_args).await?;
        self.lanes.insert(shard, (spot, lane));
        Ok(())
    }

    fn lane_ended(&mut self, cell: &ActorCell, error: Option<&str>) {
        let ended = self.lanes.iter().find(|(_, (_, lane))| lane.cell().get_id() == cell.get_id());
        let Some((shard, (spot, _))) = ended.map(|(shard, lane)| (shard.clone(), lane.clone())) else { return };
        self.lanes.remove(&shard);
        self.leaving.remove(&shard);
        // An operator ends it as it would end by itself, but the lane is not done.
        let ordered = self.args.table.ordered(&spot.path).map(|ordered| ordered.reason);
        match error.or(ordered.as_deref()) {
            Some(error) => {
                tracing::warn!(lane = spot.path, error, "lane supervisor died; its lease will be taken anew");
                self.args.table.failed(&spot.path, error);
            }
            None => self.args.table.forget_tree(&spot.path),
        }
        // A closed shard's children may start now.
        let delay = if error.is_some() || ordered.is_some() { PAUSE } else { Duration::ZERO };
        self.myself.cast_after(delay, || ShardAssignerMsg::LookAtAll);
    }

    /// The node's other applications count on what the board says.
    fn show_moves(&self) {
        let board = self.survey(|survey| survey.board());
        self.args.application.board.put_up(board, false);
    }

    fn give(&self, taker: &str) -> Option<ShardId> {
        if self.draining || self.aside { None } else { self.survey(|survey| survey.give(taker)) }
    }

    /// Closes a lane; its last write makes the lease another worker's, who is then told.
    pub(super) fn hand_over(&mut self, shard: ShardId, to: Option<String>) {
        let Some((spot, lane)) = self.lanes.get(&shard) else { return };
        tracing::info!(lane = spot.path, to, "lease goes to another node");
        let closing = close_lane(lane.actor().clone(), to.clone(), MOVE_PATIENCE);
        let (peers, application) = (Arc::clone(&self.args.cluster.peers), self.args.application.name.clone());
        self.leaving.insert(shard, to.clone());
        self.show_moves();
        while self.leaves.try_join_next().is_some() {}
        self.leaves.spawn(async move {
            closing.await;
            if let Some(to) = to {
                tell(peers.as_ref(), &to, &application).await;
            }
        });
    }

    /// Gives every lease to another node, or sets it free where there is none to take it.
    fn drain(&mut self, patience: Duration, done: RpcReplyPort<bool>) {
        self.draining = true;
        self.watching.abort_all();
        let mut away = self.survey(|survey| survey.away());
        // Lanes on their way to another node keep their destination.
        away.extend(self.leaving.clone());
        let lane = |shard| self.lanes.get(shard).map(|(_, lane)| lane.actor().clone());
        let lanes: Vec<_> = away.iter().filter_map(|(shard, to)| Some((lane(shard)?, to.clone()))).collect();
        self.leaving.extend(away);
        let mut taking = std::mem::take(&mut self.running);
        let (peers, application) = (Arc::clone(&self.args.cluster.peers), self.args.application.name.clone());
        let myself = self.myself.clone();
        self.leaves.spawn(async move {
            let (peers, application) = (peers.as_ref(), application.as_str());
            let leave = |(lane, to): (ActorRef<LaneSupervisorMsg>, Option<String>)| async move {
                let finished = close_lane(lane, to.clone(), patience).await;
                if let Some(to) = to {
                    tell(peers, &to, application).await;
                }
                finished
            };
            let finished = futures::future::join_all(lanes.into_iter().map(leave)).await;
            let taken = async { while taking.join_next().await.is_some() {} };
            // What is taken too late is not started, and expires.
            let _given_up = tokio::time::timeout(TAKING_PATIENCE, taken).await;
            // Queued behind the leases that were taken meanwhile, which are released first.
            let finished = finished.into_iter().all(|finished| finished);
            let _gone = myself.cast(ShardAssignerMsg::Drained(done, finished));
        });
    }
}

/// Whether everything that the lane had begun has ended. One that is gone by now was closed before, or its lease is another's. One
/// that does not answer in time leaves a lease that expires.
async fn close_lane(lane: ActorRef<LaneSupervisorMsg>, to: Option<String>, patience: Duration) -> bool {
    let limit = patience + Duration::from_secs(10);
    let closed = lane.call(|done| LaneSupervisorMsg::Drain { to, patience, done }, Some(limit)).await;
    !matches!(closed, Ok(CallResult::Success(false) | CallResult::Timeout))
}

/// Who is not told finds out at its next look.
async fn tell(peers: &dyn crate::ports::Peers, worker: &str, application: &str) {
    if let Err(failure) = peers.assigned(worker, application).await {
        tracing::debug!(%failure, "not told of a lease");
    }
}
