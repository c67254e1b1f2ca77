//! Who runs which lane: the root of a node's tree, and the assigner of each application.
//!
//! ```text
//! NodeSupervisor            one-for-one: an application that dies is started again, the others go on
//!   └ ShardAssigner         one a role; takes leases and keeps a lane for each
//!       └ LaneSupervisor    see `lane`
//! ```

mod lease_plan;
mod node_supervisor;
mod shard_assigner;

use std::sync::Arc;

use ractor::SpawnErr;

use crate::lane::{LaneSettings, LeaseTiming, Stages};
use crate::observe::{ActorTable, LaneStats, Mailbox, Spot};
use crate::ports::{DeadLetters, LeaseTable, ShardSource, StartAt};

use node_supervisor::NodeSupervisor;
pub use node_supervisor::NodeSupervisorMsg;

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
    /// When leases are renewed, expire, and are looked at.
    pub timing: LeaseTiming,
}

/// Starts the tree of a node. `worker` is `<node>#<boot>`, where the boot is a number that grows with each start.
///
/// # Errors
/// When the root actor cannot be started.
pub async fn start_node(
    worker: &str,
    table: &ActorTable,
    applications: Vec<Application>,
) -> Result<Mailbox<NodeSupervisorMsg>, SpawnErr> {
    let spot = Spot::root("NodeSupervisor", worker.split('#').next().unwrap_or(worker));
    let args = |meter| node_supervisor::NodeArgs {
        meter,
        table: table.clone(),
        spot: spot.clone(),
        worker: worker.to_owned(),
        applications,
    };
    table.spawn(&spot, None, NodeSupervisor, args).await
}
