//! The root of a node's tree.
//!
//! Starts a `ShardAssigner` for each application and starts it again, after a jittered delay, when it dies; the others go on.
//! Drained, it stops when every lane has given its lease back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::task::JoinSet;

use super::shard_assigner::{AssignerArgs, ShardAssigner, ShardAssignerMsg};
use super::{Application, Cluster};
use crate::domain::ShardId;
use crate::flow::Backoff;
use crate::lane::Role;
use crate::observe::{ActorTable, Mailbox, Meter, Spot};

/// Delays before a dead application starts again.
const RESTART: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(30) };

/// The root actor.
pub(super) struct NodeSupervisor;

/// What a node is told.
#[derive(Debug)]
pub enum NodeSupervisorMsg {
    /// Stop reading, finish what is in the lanes, checkpoint, give the leases back, then stop.
    Drain {
        /// How long finishing may take; what has not ended by then starts again elsewhere.
        patience: Duration,
        /// Answered when every lane is closed, with whether everything in them had ended.
        done: RpcReplyPort<bool>,
    },
    /// Another node asks for a lease of this application; answered with the one that it will get, if any.
    LeaseAsked {
        /// The application's name.
        application: String,
        /// The worker that asks.
        taker: String,
        /// Answered at once; the hand-over follows.
        answer: RpcReplyPort<Option<ShardId>>,
    },
    /// Another node handed a lease of this application over, or set one free.
    Assigned {
        /// The application's name.
        application: String,
    },
    /// The delay before an application starts again is over.
    RestartDue(Role),
    /// Every lane is closed.
    Drained,
}

pub(super) struct NodeArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) table: ActorTable,
    pub(super) spot: Spot,
    pub(super) worker: String,
    pub(super) applications: Vec<Application>,
    pub(super) cluster: Cluster,
}

/// A node's state.
pub(super) struct NodeState {
    args: NodeArgs,
    myself: Mailbox<NodeSupervisorMsg>,
    assigners: BTreeMap<Role, Mailbox<ShardAssignerMsg>>,
    deaths: BTreeMap<Role, u32>,
    draining: bool,
    running: JoinSet<()>,
}

impl ractor::Message for NodeSupervisorMsg {}

impl Actor for NodeSupervisor {
    type Msg = NodeSupervisorMsg;
    type State = NodeState;
    type Arguments = NodeArgs;

    async fn pre_start(&self, myself: ActorRef<NodeSupervisorMsg>, args: NodeArgs) -> Result<NodeState, ActorProcessingErr> {
        let cell = myself.get_cell();
        let myself = Mailbox::new(myself, Arc::clone(&args.meter));
        let mut state = NodeState {
            args,
            myself,
            assigners: BTreeMap::new(),
            deaths: BTreeMap::new(),
            draining: false,
            running: JoinSet::new(),
        };
        for application in state.args.applications.clone() {
            state.start(cell.clone(), application).await?;
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<NodeSupervisorMsg>,
        message: NodeSupervisorMsg,
        state: &mut NodeState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            NodeSupervisorMsg::RestartDue(role) => {
                let application = state.args.applications.iter().find(|application| application.stages.role() == role).cloned();
                if let (Some(application), false) = (application, state.draining) {
                    state.start(myself.get_cell(), application).await?;
                }
            }
            NodeSupervisorMsg::Drain { patience, done } => state.drain(patience, done),
            NodeSupervisorMsg::LeaseAsked { application, taker, answer } => {
                if let Some(assigner) = state.assigner(&application) {
                    // Without an answer the other node looks for itself.
                    let _gone = assigner.cast(ShardAssignerMsg::LeaseAsked { taker, answer });
                }
            }
            NodeSupervisorMsg::Assigned { application } => {
                if let Some(assigner) = state.assigner(&application) {
                    // It looks when it starts again.
                    let _gone = assigner.cast(ShardAssignerMsg::LookAgain);
                }
            }
            NodeSupervisorMsg::Drained => myself.stop(Some("drained".to_owned())),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<NodeSupervisorMsg>,
        event: SupervisionEvent,
        state: &mut NodeState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => state.assigner_ended(&cell, &error.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                state.assigner_ended(&cell, reason.as_deref().unwrap_or("stopped"))
            }
            _ => {}
        }
        Ok(())
    }
}

impl NodeState {
    async fn start(&mut self, cell: ActorCell, application: Application) -> Result<(), ActorProcessingErr> {
        let role = application.stages.role();
        let (table, worker) = (self.args.table.clone(), self.args.worker.clone());
        let spot = self.args.spot.child("ShardAssigner", role.label());
        let cluster = self.args.cluster.clone();
        let args = |meter| AssignerArgs { meter, table, spot: spot.clone(), worker, application, cluster };
        let assigner = self.args.table.spawn(&spot, Some(cell), ShardAssigner, args).await?;
        self.assigners.insert(role, assigner);
        Ok(())
    }

    fn assigner(&self, application: &str) -> Option<&Mailbox<ShardAssignerMsg>> {
        let known = self.args.applications.iter().find(|known| known.name == application)?;
        self.assigners.get(&known.stages.role())
    }

    fn assigner_ended(&mut self, cell: &ActorCell, reason: &str) {
        let ended = self.assigners.iter().find(|(_, assigner)| assigner.cell().get_id() == cell.get_id());
        let Some(role) = ended.map(|(role, _)| *role) else { return };
        self.assigners.remove(&role);
        let path = self.args.spot.child("ShardAssigner", role.label()).path;
        if self.draining {
            self.args.table.stopped(&path);
            return;
        }
        self.args.table.failed(&path, reason);
        let deaths = self.deaths.entry(role).or_default();
        let delay = RESTART.delay(*deaths, rand::random());
        *deaths += 1;
        tracing::error!(role = role.label(), reason, delay_ms = delay.as_millis(), "application died and will start again");
        self.myself.cast_after(delay, move || NodeSupervisorMsg::RestartDue(role));
    }

    fn drain(&mut self, patience: Duration, done: RpcReplyPort<bool>) {
        self.draining = true;
        let assigners: Vec<_> = self.assigners.values().map(|assigner| assigner.actor().clone()).collect();
        let myself = self.myself.clone();
        self.running.spawn(async move {
            let drain = |assigner: ActorRef<ShardAssignerMsg>| async move {
                assigner.call(|done| ShardAssignerMsg::Drain { patience, done }, Some(patience + Duration::from_secs(15))).await
            };
            // An application that does not answer in time leaves leases that expire.
            let answers = futures::future::join_all(assigners.into_iter().map(drain)).await;
            let finished = answers.iter().all(|answer| matches!(answer, Ok(CallResult::Success(true))));
            let _gone = done.send(finished);
            let _gone = myself.cast(NodeSupervisorMsg::Drained);
        });
    }
}
