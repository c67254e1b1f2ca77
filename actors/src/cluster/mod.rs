//! Who runs which lane: the root of a node's tree, and the assigner of each application.
//!
//! ```text
//! NodeSupervisor            one-for-one: a child that dies is started again, the others go on
//!   ├ Heartbeat             shows in the node table that this node lives
//!   ├ Membership            links this node to all others and says who is there
//!   │   └ Gateway           answers them; the one actor that other nodes can reach
//!   ├ IngestSupervisor      see `ingest`; there if the node may read from an MQTT broker
//!   └ ShardAssigner         one a role; takes leases and keeps a lane for each
//!       └ LaneSupervisor    see `lane`
//! ```

mod adopt;
mod assigner_msg;
mod assigner_orders;
mod fair_share;
mod gateway;
mod heartbeat;
mod lease_plan;
mod lease_steps;
mod lineage;
mod links;
mod membership;
mod membership_settings;
mod node_orders;
mod node_supervisor;
mod orders;
mod presence;
mod redial;
mod shard_assigner;
mod shard_rows;
mod sightings;
mod view;
mod wire_message;

use std::sync::Arc;

use async_trait::async_trait;
use ractor::SpawnErr;
use tokio::sync::watch;

use crate::domain::ShardId;
use crate::flow::Pulse;
use crate::ingest::IngestSettings;
use crate::lane::{LaneSettings, LeaseTiming, Stages};
use crate::observe::{ActorTable, LaneStats, LeaseBoard, Mailbox, Spot};
use crate::ports::{DeadLetters, LeaseTable, PeerFailure, Peers, ShardSource, StartAt};

pub use adopt::{AdoptError, Adoption, adopt};
pub use gateway::{Desk, Pages};
pub use links::Links;
pub use membership_settings::{ClusterTimings, MembershipSettings};
use node_supervisor::NodeSupervisor;
pub use node_supervisor::NodeSupervisorMsg;
pub use orders::{ActorEnd, NodeOrder, OrderAnswer, OrderRefusal, why_never_ended};
pub use view::{ClusterNode, ClusterView, Presence};

/// One consumer application: a stream, what is done with its records, and the lease table that says who does it.
#[derive(Clone)]
pub struct Application {
    /// Its name, which is also its lease table's.
    pub name: String,
    /// The stream.
    pub source: Arc<dyn ShardSource>,
    /// The lease table.
    pub leases: Arc<dyn LeaseTable>,
    /// Where rejected records go.
    pub letters: Arc<dyn DeadLetters>,
    /// What is done with the records; says the role, too.
    pub stages: Stages,
    /// Limits of each lane.
    pub settings: LaneSettings,
    /// Where a shard starts that has no lease row yet; shards made by a reshard always start at their oldest record.
    pub start: StartAt,
    /// The counts of its lanes.
    pub stats: LaneStats,
    /// Its leases as they were seen last.
    pub board: LeaseBoard,
    /// When leases are renewed, expire, and are looked at.
    pub timing: LeaseTiming,
}

/// The other nodes, as the tree of one node knows them.
#[derive(Clone)]
pub struct Cluster {
    /// Asks them about leases.
    pub peers: Arc<dyn Peers>,
    /// Who they are, the latest view first.
    pub view: watch::Receiver<Arc<ClusterView>>,
    /// Whether this node may act: shared by all of its lanes.
    pub pulse: Pulse,
}

/// What the tree of a node runs.
#[derive(Clone, Default)]
pub struct Work {
    /// Lanes of streams, one entry a role.
    pub applications: Vec<Application>,
    /// The lane of an MQTT broker, if there is one.
    pub ingest: Option<IngestSettings>,
}

impl From<Vec<Application>> for Work {
    fn from(applications: Vec<Application>) -> Self {
        Self { applications, ingest: None }
    }
}

impl Cluster {
    /// A node that has no others and is watched by none. Leases are shared with other workers all the same.
    #[must_use]
    pub fn alone() -> Self {
        let (_, view) = watch::channel(Arc::default());
        Self { peers: Arc::new(NoPeers), view, pulse: Pulse::unwatched() }
    }
}

/// Starts the tree of a node that is linked to no other. `worker` is `<node>#<boot>`, where the boot is a number that grows with
/// each start.
///
/// # Errors
/// When the root actor cannot be started.
pub async fn start_node(
    worker: &str,
    table: &ActorTable,
    work: impl Into<Work>,
    cluster: Cluster,
) -> Result<Mailbox<NodeSupervisorMsg>, SpawnErr> {
    start(worker, table, work.into(), cluster, None).await
}

/// Starts the tree of a node that is one of several.
///
/// # Errors
/// When the root actor cannot be started.
pub async fn start_member(
    table: &ActorTable,
    work: impl Into<Work>,
    settings: MembershipSettings,
) -> Result<Mailbox<NodeSupervisorMsg>, SpawnErr> {
    let links = settings.links.clone();
    let cluster = Cluster { view: links.view(), peers: Arc::new(links), pulse: settings.pulse.clone() };
    start(&settings.me.worker(), table, work.into(), cluster, Some(settings)).await
}

async fn start(
    worker: &str,
    table: &ActorTable,
    work: Work,
    cluster: Cluster,
    membership: Option<MembershipSettings>,
) -> Result<Mailbox<NodeSupervisorMsg>, SpawnErr> {
    let spot = Spot::root("NodeSupervisor", worker.split('#').next().unwrap_or(worker));
    let args = |meter| node_supervisor::NodeArgs {
        meter,
        table: table.clone(),
        spot: spot.clone(),
        worker: worker.to_owned(),
        applications: work.applications,
        ingest: work.ingest,
        cluster,
        membership,
    };
    table.spawn(&spot, None, NodeSupervisor, args).await
}

/// Nobody to ask.
struct NoPeers;

#[async_trait]
impl Peers for NoPeers {
    async fn ask_lease(&self, worker: &str, _: &str, _: &str) -> Result<Option<ShardId>, PeerFailure> {
        Err(PeerFailure { worker: worker.to_owned(), reason: "this node has no links".to_owned() })
    }

    async fn assigned(&self, worker: &str, _: &str) -> Result<(), PeerFailure> {
        Err(PeerFailure { worker: worker.to_owned(), reason: "this node has no links".to_owned() })
    }
}
