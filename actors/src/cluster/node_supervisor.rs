//! The root of a node's tree.
//!
//! Starts `Heartbeat` and `Membership`, if the node is one of several, `IngestSupervisor`, if it may read from an MQTT broker, and a
//! `ShardAssigner` for each application. Each that dies
//! starts again after a jittered delay; the others go on. Drained, it stops when every lane has given its lease back and the
//! node's row is gone. It carries out operators' orders: it ends actors, which their supervisors start again, and passes on what
//! is about leases. A node that stands aside gives its leases away as if it drained, and stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::heartbeat::{Heartbeat, HeartbeatArgs, HeartbeatMsg};
use super::membership::{Membership, MembershipArgs, MembershipMsg};
use super::orders::{NodeOrder, OrderAnswer};
use super::shard_assigner::{AssignerArgs, ShardAssigner, ShardAssignerMsg};
use super::{Application, Cluster, MembershipSettings};
use crate::domain::ShardId;
use crate::flow::Backoff;
use crate::ingest::{IngestArgs, IngestSettings, IngestSupervisor, IngestSupervisorMsg};
use crate::lane::Role;
use crate::observe::{ActorTable, Mailbox, Meter, Spot};
use crate::ports::NodeRow;

/// Delays before a dead child starts again.
const RESTART: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(30) };
/// A child that ran for so long begins with the first delay again.
const PROVEN_AFTER: Duration = Duration::from_secs(60);
/// How long a node that ends waits for its row to be gone; one that stays shows a heartbeat that stands still.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

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
    /// An operator's order; answered when it has begun.
    Ordered(NodeOrder, RpcReplyPort<OrderAnswer>),
    /// The delay before a child starts again is over.
    RestartDue(NodeChild),
    /// Every lane is closed.
    Drained,
}

/// What runs right below the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeChild {
    /// Shows that the node lives.
    Heartbeat,
    /// Links it to others.
    Membership,
    /// Reads from an MQTT broker.
    Ingest,
    /// Runs the lanes of an application.
    Assigner(Role),
}

pub(super) struct NodeArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) table: ActorTable,
    pub(super) spot: Spot,
    pub(super) worker: String,
    pub(super) applications: Vec<Application>,
    pub(super) ingest: Option<IngestSettings>,
    pub(super) cluster: Cluster,
    pub(super) membership: Option<MembershipSettings>,
}

/// A node's state.
pub(super) struct NodeState {
    pub(super) args: NodeArgs,
    myself: Mailbox<NodeSupervisorMsg>,
    pub(super) heartbeat: Option<Mailbox<HeartbeatMsg>>,
    pub(super) membership: Option<Mailbox<MembershipMsg>>,
    pub(super) ingest: Option<Mailbox<IngestSupervisorMsg>>,
    pub(super) assigners: BTreeMap<Role, Mailbox<ShardAssignerMsg>>,
    deaths: BTreeMap<NodeChild, Deaths>,
    pub(super) draining: bool,
    pub(super) aside: bool,
    running: JoinSet<()>,
}

/// Deaths of one child in a row.
#[derive(Debug, Default)]
struct Deaths {
    n: u32,
    /// When it was started last.
    started: Option<Instant>,
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
            heartbeat: None,
            membership: None,
            ingest: None,
            assigners: BTreeMap::new(),
            deaths: BTreeMap::new(),
            draining: false,
            aside: false,
            running: JoinSet::new(),
        };
        let applications = state.args.applications.iter().map(|application| NodeChild::Assigner(application.stages.role()));
        for child in
            [NodeChild::Heartbeat, NodeChild::Membership, NodeChild::Ingest].into_iter().chain(applications.collect::<Vec<_>>())
        {
            state.start(cell.clone(), child).await?;
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
            NodeSupervisorMsg::RestartDue(child) => {
                // What drains gives its leases away, and takes no new ones.
                if !(state.draining && child.holds_leases())
                    && let Err(error) = state.start(myself.get_cell(), child).await
                {
                    state.died(child, &error.to_string());
                }
            }
            NodeSupervisorMsg::Drain { patience, done } => state.drain(patience, done),
            NodeSupervisorMsg::Ordered(order, answer) => state.ordered(order, answer),
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
            SupervisionEvent::ActorFailed(cell, error) => state.child_ended(&cell, &error.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                state.child_ended(&cell, reason.as_deref().unwrap_or("stopped"))
            }
            _ => {}
        }
        Ok(())
    }
}

impl NodeState {
    async fn start(&mut self, cell: ActorCell, child: NodeChild) -> Result<(), ActorProcessingErr> {
        self.deaths.entry(child).or_default().started = Some(Instant::now());
        let (actors, spot, aside) = (self.args.table.clone(), self.spot(child), self.aside);
        let draining = self.draining || aside;
        match (child, self.args.membership.clone()) {
            (NodeChild::Heartbeat, Some(settings)) => {
                let Some(table) = settings.table.clone() else { return Ok(()) };
                let row = NodeRow { draining, ..settings.me };
                let (every, pulse, superseded) = (settings.timings.beat_every, settings.pulse, settings.superseded);
                let args = |meter| HeartbeatArgs { meter, table, row, every, pulse, superseded };
                self.heartbeat = Some(actors.spawn(&spot, Some(cell), Heartbeat, args).await?);
            }
            (NodeChild::Membership, Some(settings)) => {
                let (root, table) = (self.myself.clone(), actors.clone());
                let args = |meter| MembershipArgs { meter, actors: table, spot: spot.clone(), root, settings, draining };
                self.membership = Some(actors.spawn(&spot, Some(cell), Membership, args).await?);
            }
            (NodeChild::Heartbeat | NodeChild::Membership, None) => {}
            (NodeChild::Ingest, _) => {
                let Some(settings) = self.args.ingest.clone() else { return Ok(()) };
                let (worker, cluster, table) = (self.args.worker.clone(), self.args.cluster.clone(), actors.clone());
                let args = |meter| IngestArgs { meter, table, spot: spot.clone(), worker, cluster, settings, aside };
                self.ingest = Some(actors.spawn(&spot, Some(cell), IngestSupervisor, args).await?);
            }
            (NodeChild::Assigner(role), _) => {
                let application = self.args.applications.iter().find(|application| application.stages.role() == role).cloned();
                let Some(application) = application else { return Ok(()) };
                let (worker, cluster, table) = (self.args.worker.clone(), self.args.cluster.clone(), actors.clone());
                let others = self.args.applications.iter().filter(|other| other.name != application.name);
                let others = others.map(|other| other.board.clone()).collect();
                let args = |meter| AssignerArgs { meter, table, spot: spot.clone(), worker, application, others, cluster, aside };
                let assigner = actors.spawn(&spot, Some(cell), ShardAssigner, args).await?;
                self.assigners.insert(role, assigner);
            }
        }
        Ok(())
    }

    fn spot(&self, child: NodeChild) -> Spot {
        match child {
            NodeChild::Heartbeat => self.args.spot.child("Heartbeat", "heartbeat"),
            NodeChild::Membership => self.args.spot.child("Membership", "membership"),
            NodeChild::Ingest => self.args.spot.child("IngestSupervisor", "ingest"),
            NodeChild::Assigner(role) => self.args.spot.child("ShardAssigner", role.label()),
        }
    }

    pub(super) fn assigner(&self, application: &str) -> Option<&Mailbox<ShardAssignerMsg>> {
        let known = self.args.applications.iter().find(|known| known.name == application)?;
        self.assigners.get(&known.stages.role())
    }

    fn child_ended(&mut self, cell: &ActorCell, reason: &str) {
        let Some(child) = self.forget(cell.get_id()) else { return };
        if self.draining && child.holds_leases() {
            self.args.table.stopped(&self.spot(child).path);
            return;
        }
        self.died(child, reason);
    }

    /// Starts it again after a delay, also if it could not even be started.
    fn died(&mut self, child: NodeChild, reason: &str) {
        let path = self.spot(child).path;
        let by_order = self.args.table.ordered(&path).is_some();
        self.args.table.failed(&path, reason);
        let deaths = self.deaths.entry(child).or_default();
        let delay = if by_order { RESTART.first } else { deaths.delay(Instant::now(), rand::random()) };
        self.args.table.starts_after(&path, delay);
        tracing::error!(actor = path, reason, delay_ms = delay.as_millis(), "died and will start again");
        self.myself.cast_after(delay, move || NodeSupervisorMsg::RestartDue(child));
    }

    fn forget(&mut self, id: ActorId) -> Option<NodeChild> {
        if self.heartbeat.take_if(|heartbeat| heartbeat.cell().get_id() == id).is_some() {
            return Some(NodeChild::Heartbeat);
        }
        if self.membership.take_if(|membership| membership.cell().get_id() == id).is_some() {
            return Some(NodeChild::Membership);
        }
        if self.ingest.take_if(|ingest| ingest.cell().get_id() == id).is_some() {
            return Some(NodeChild::Ingest);
        }
        let role = *self.assigners.iter().find(|(_, assigner)| assigner.cell().get_id() == id)?.0;
        self.assigners.remove(&role);
        Some(NodeChild::Assigner(role))
    }

    fn drain(&mut self, patience: Duration, done: RpcReplyPort<bool>) {
        self.draining = true;
        // One that is dead is told when it starts again.
        if let Some(heartbeat) = &self.heartbeat {
            let _gone = heartbeat.cast(HeartbeatMsg::Drain);
        }
        if let Some(membership) = &self.membership {
            let _gone = membership.cast(MembershipMsg::Drain);
        }
        let assigners: Vec<_> = self.assigners.values().map(|assigner| assigner.actor().clone()).collect();
        let ingest = self.ingest.as_ref().map(|ingest| ingest.actor().clone());
        let heartbeat = self.heartbeat.as_ref().map(|heartbeat| heartbeat.actor().clone());
        let myself = self.myself.clone();
        self.running.spawn(async move {
            let drain = |assigner: ActorRef<ShardAssignerMsg>| async move {
                assigner.call(|done| ShardAssignerMsg::Drain { patience, done }, Some(patience + Duration::from_secs(15))).await
            };
            let drain_ingest = async {
                let Some(ingest) = ingest else { return true };
                let limit = Some(patience + Duration::from_secs(15));
                let answer = ingest.call(|done| IngestSupervisorMsg::Drain { patience, done }, limit).await;
                matches!(answer, Ok(CallResult::Success(true)))
            };
            // An application that does not answer in time leaves leases that expire.
            let drain_all = futures::future::join_all(assigners.into_iter().map(drain));
            let (answers, ingested) = futures::future::join(drain_all, drain_ingest).await;
            let finished = ingested && answers.iter().all(|answer| matches!(answer, Ok(CallResult::Success(true))));
            if let Some(heartbeat) = heartbeat {
                // Last of all, since whoever has no row is not there.
                let _not_removed = heartbeat.call(HeartbeatMsg::Leave, Some(LEAVE_LIMIT)).await;
            }
            let _gone = done.send(finished);
            let _gone = myself.cast(NodeSupervisorMsg::Drained);
        });
    }
}

impl NodeChild {
    /// Whether it gives leases away when the node drains, and takes no new ones then.
    fn holds_leases(self) -> bool {
        matches!(self, Self::Ingest | Self::Assigner(_))
    }
}

impl Deaths {
    /// Counts one more, and says how long to wait then.
    fn delay(&mut self, now: Instant, chance: f64) -> Duration {
        if self.started.is_some_and(|started| now - started >= PROVEN_AFTER) {
            self.n = 0;
        }
        let delay = RESTART.delay(self.n, chance);
        self.n += 1;
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::ClusterSocket;
    use crate::cluster::{ClusterTimings, Desk, Links};
    use crate::flow::Pulse;

    #[test]
    fn a_child_that_cannot_be_started_is_tried_again() {
        let elsewhere = tokio::runtime::Runtime::new().expect("a runtime");
        let socket = elsewhere.block_on(ClusterSocket::bind("127.0.0.1:0".parse().expect("an address"), None));
        let (name, worker) = ("node-1".to_owned(), "node-1#7".to_owned());
        let me = NodeRow { name, boot: 7, address: None, dashboard: None, roles: Vec::new(), heartbeat: 0, draining: false };
        let settings = MembershipSettings {
            me,
            table: None,
            socket: Arc::new(socket.expect("a port")),
            join: Vec::new(),
            cookie: "a secret of this test".into(),
            links: Links::none_yet(),
            desk: Desk {
                page: Arc::new(|_| None),
                load_committed: Arc::new(|_| ()),
                drain: Arc::new(|| ()),
                order: Arc::new(|_| Box::pin(std::future::ready(None))),
            },
            pulse: Pulse::unwatched(),
            superseded: Arc::new(|| ()),
            timings: ClusterTimings::default(),
        };
        let (table, spot) = (ActorTable::default(), Spot::root("NodeSupervisor", "node-1"));
        let args = |meter, membership| NodeArgs {
            meter,
            table: table.clone(),
            spot: spot.clone(),
            worker: worker.clone(),
            applications: Vec::new(),
            ingest: None,
            cluster: Cluster::alone(),
            membership,
        };
        // Nothing can listen in this one, so no membership can start.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let myself = table.spawn(&spot, None, NodeSupervisor, |meter| args(meter, None)).await.expect("it starts");
            let mut state = NodeState {
                args: args(Meter::new(), Some(settings)),
                myself: myself.clone(),
                heartbeat: None,
                membership: None,
                ingest: None,
                assigners: BTreeMap::new(),
                deaths: BTreeMap::new(),
                draining: false,
                aside: false,
                running: JoinSet::new(),
            };
            for n in 1..=2 {
                let due = NodeSupervisorMsg::RestartDue(NodeChild::Membership);
                NodeSupervisor.handle(myself.actor().clone(), due, &mut state).await.expect("the node goes on");
                assert_eq!(state.deaths[&NodeChild::Membership].n, n);
            }
        });
    }

    #[tokio::test(start_paused = true)]
    async fn delays_grow_with_each_death_in_a_row_and_begin_anew_after_a_minute() {
        let mut deaths = Deaths::default();
        let mut die_after = |time: Duration| {
            let now = Instant::now();
            deaths.started = Some(now);
            deaths.delay(now + time, 1.0)
        };
        let grown = [200, 400, 800].map(Duration::from_millis);
        assert_eq!([59, 1, 59].map(|secs| die_after(Duration::from_secs(secs))), grown);
        assert_eq!(die_after(Duration::from_secs(60)), grown[0]);
        assert_eq!(die_after(Duration::ZERO), grown[1]);
    }
}
