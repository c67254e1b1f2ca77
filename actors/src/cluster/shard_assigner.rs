//! Keeps a lane for every lease that this node holds, and takes the leases that are free.
//!
//! Child of `NodeSupervisor`, one an application. Looks at the shards and the lease table every so often and at once when a lane
//! ends; `lease_plan` decides. One-for-one over its lanes: a lane that ends is forgotten, and its lease is taken anew if it is
//! still this node's. An unavailable lease table stops nothing that runs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lease_plan::{Sightings, Situation, Step, plan};
use super::{Application, Cluster};
use crate::domain::ShardId;
use crate::lane::{LaneArgs, LaneSupervisor, LaneSupervisorMsg};
use crate::observe::{ActorTable, Mailbox, Meter, Spot};
use crate::ports::{Lease, LeaseError, Shard, SourceError};

pub(super) struct ShardAssigner;

#[derive(Debug)]
pub(super) enum ShardAssignerMsg {
    SyncDue,
    /// Looks again at once, outside the regular rhythm.
    LookAgain,
    /// Another node asks for a lease.
    LeaseAsked {
        taker: String,
        answer: RpcReplyPort<Option<ShardId>>,
    },
    /// A lease of another node may have expired just now.
    ExpiryDue,
    Seen(Result<(Vec<Shard>, Vec<Lease>), SyncError>),
    Taken(Vec<Lease>),
    Drain {
        patience: Duration,
        done: RpcReplyPort<bool>,
    },
    Drained,
}

/// Why the shards or leases could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    #[error(transparent)]
    Leases(#[from] LeaseError),
    #[error(transparent)]
    Shards(#[from] SourceError),
}

pub(super) struct AssignerArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) table: ActorTable,
    pub(super) spot: Spot,
    pub(super) worker: String,
    pub(super) application: Application,
    pub(super) cluster: Cluster,
}

pub(super) struct AssignerState {
    args: AssignerArgs,
    myself: Mailbox<ShardAssignerMsg>,
    lanes: BTreeMap<ShardId, (Spot, Mailbox<LaneSupervisorMsg>)>,
    sightings: Sightings,
    table_made: bool,
    looking: bool,
    expiry_awaited: bool,
    draining: bool,
    running: JoinSet<()>,
}

impl ractor::Message for ShardAssignerMsg {}

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
        Ok(AssignerState {
            args,
            myself,
            lanes: BTreeMap::new(),
            sightings: Sightings::default(),
            table_made: false,
            looking: false,
            expiry_awaited: false,
            draining: false,
            running: JoinSet::new(),
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
                state.look();
            }
            ShardAssignerMsg::LookAgain => state.look(),
            ShardAssignerMsg::LeaseAsked { answer, .. } => {
                let _gone = answer.send(None);
            }
            ShardAssignerMsg::ExpiryDue => {
                state.expiry_awaited = false;
                state.look();
            }
            ShardAssignerMsg::Seen(seen) => {
                state.looking = false;
                match seen {
                    Ok((shards, leases)) => {
                        state.table_made = true;
                        state.act(&shards, &leases);
                    }
                    Err(SyncError::Leases(error @ LeaseError::Unusable(_))) => return Err(error.into()),
                    Err(error) => tracing::warn!(application = state.args.application.name, %error, "shards and leases not read"),
                }
            }
            ShardAssignerMsg::Taken(leases) => {
                state.looking = false;
                for lease in leases {
                    state.start_lane(myself.get_cell(), lease).await?;
                }
            }
            ShardAssignerMsg::Drain { patience, done } => state.drain(patience, done),
            ShardAssignerMsg::Drained => myself.stop(Some("drained".to_owned())),
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
    fn look(&mut self) {
        if self.looking || self.draining {
            return;
        }
        self.looking = true;
        while self.running.try_join_next().is_some() {}
        let (application, myself, table_made) = (self.args.application.clone(), self.myself.clone(), self.table_made);
        self.running.spawn(async move {
            let seen = see(&application, table_made).await;
            // When the actor is gone there is nobody left to tell.
            let _gone = myself.cast(ShardAssignerMsg::Seen(seen));
        });
    }

    fn act(&mut self, shards: &[Shard], leases: &[Lease]) {
        let now = Instant::now();
        self.sightings.note(leases, now);
        let expires_after = self.args.application.timing.expires_after;
        if let (false, Some(left)) = (self.expiry_awaited, self.sightings.next_expiry(&self.args.worker, now, expires_after)) {
            self.expiry_awaited = true;
            self.myself.cast_after(left, || ShardAssignerMsg::ExpiryDue);
        }
        let running: HashSet<ShardId> = self.lanes.keys().cloned().collect();
        let steps = plan(&Situation {
            shards,
            leases,
            sightings: &self.sightings,
            worker: &self.args.worker,
            running: &running,
            start: &self.args.application.start,
            now,
            expires_after,
        });
        if steps.is_empty() || self.draining {
            return;
        }
        let (application, worker, myself) = (self.args.application.clone(), self.args.worker.clone(), self.myself.clone());
        self.looking = true;
        self.running.spawn(async move {
            let created = steps.iter().any(|step| matches!(step, Step::Create(_)));
            let taken = perform(&application, &worker, steps).await;
            // When the actor is gone there is nobody left to tell.
            let _gone = myself.cast(ShardAssignerMsg::Taken(taken));
            if created {
                let _gone = myself.cast(ShardAssignerMsg::LookAgain);
            }
        });
    }

    async fn start_lane(&mut self, supervisor: ActorCell, lease: Lease) -> Result<(), ActorProcessingErr> {
        if self.draining || self.lanes.contains_key(&lease.shard) {
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
        match error {
            Some(error) => {
                tracing::warn!(lane = spot.path, error, "lane supervisor died; its lease will be taken anew");
                self.args.table.failed(&spot.path, error);
            }
            None => self.args.table.forget_tree(&spot.path),
        }
        // A closed shard's children may start now. A lane that fails at once must not turn this into a busy loop.
        let delay = if error.is_some() { Duration::from_secs(1) } else { Duration::ZERO };
        self.myself.cast_after(delay, || ShardAssignerMsg::LookAgain);
    }

    fn drain(&mut self, patience: Duration, done: RpcReplyPort<bool>) {
        self.draining = true;
        self.running.abort_all();
        let lanes: Vec<_> = self.lanes.values().map(|(_, lane)| lane.actor().clone()).collect();
        let myself = self.myself.clone();
        self.running.spawn(async move {
            // A lane that is gone already, or does not answer in time, leaves a lease that expires.
            let drain = |lane: ActorRef<LaneSupervisorMsg>| async move {
                lane.call(|done| LaneSupervisorMsg::Drain { to: None, patience, done }, Some(patience + Duration::from_secs(10)))
                    .await
            };
            let answers = futures::future::join_all(lanes.into_iter().map(drain)).await;
            let finished = answers.iter().all(|answer| matches!(answer, Ok(CallResult::Success(true))));
            let _gone = done.send(finished);
            let _gone = myself.cast(ShardAssignerMsg::Drained);
        });
    }
}

async fn see(application: &Application, table_made: bool) -> Result<(Vec<Shard>, Vec<Lease>), SyncError> {
    if !table_made {
        application.leases.ensure().await?;
    }
    let shards = application.source.shards().await?;
    Ok((shards, application.leases.list().await?))
}

/// Does what can be done; what another node was faster at, or what fails, shows at the next look.
async fn perform(application: &Application, worker: &str, steps: Vec<Step>) -> Vec<Lease> {
    let mut taken = Vec::new();
    for step in steps {
        let result = match &step {
            Step::Create(new) => application.leases.create(new).await.map(|_| None),
            Step::Take(lease) => application.leases.take(lease, worker).await.map(Some),
        };
        match result {
            Ok(lease) => taken.extend(lease),
            Err(LeaseError::Lost(shard)) => tracing::info!(%shard, "another node was faster"),
            Err(error) => tracing::warn!(application = application.name, %error, "lease not made or taken"),
        }
    }
    taken
}
