//! What the API reads from.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ractor::concurrency::oneshot;
use speedtrap_actors::cluster::{NodeOrder, NodeSupervisorMsg, OrderAnswer, OrderRefusal};
use speedtrap_actors::flow::Pulse;
use speedtrap_actors::observe::{ActorTable, CallLog, DurationsSnapshot, IngestStats, LaneStats, LeaseBoard, Mailbox};
use speedtrap_actors::ports::Connections;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::audit::Audit;

use super::load_runs::LoadRuns;
use super::map::{TrafficPage, Window};
use super::{ActorPage, ActorsPage, Cost, LanesPage, StatusPage};

/// Lanes and counts of a node.
pub(crate) const STATUS: &str = "status";
/// Its actors, the first of them.
pub(crate) const ACTORS: &str = "actors";
/// Followed by an actor's path: those behind it.
pub(crate) const MORE_ACTORS: &str = "actors/";
/// Its lanes, and the leases it saw.
pub(crate) const LANES: &str = "lanes";
/// Loads that it was told of.
pub(crate) const LOADS: &str = "loads";
/// Followed by a load's id: the first rejected rows of it, or null.
pub(crate) const REJECTED: &str = "rejected/";
/// What operators asked of it.
pub(crate) const AUDIT: &str = "audit";
/// How far it is in its life: starting, running, aside or ending.
pub(crate) const LIFE: &str = "life";
/// Followed by an actor's path: that actor, or null.
pub(crate) const ACTOR: &str = "actor/";

/// A link carries at most 1 MiB at a time, which is a kilobyte for each of them; a row has some 400 bytes.
const ACTORS_OF_A_PART: usize = 1_000;

/// How long the actors may take to say that an order has begun.
const ORDER_LIMIT: Duration = Duration::from_secs(2);

/// This node as the API sees it.
pub(crate) struct NodeView {
    /// The node's name.
    pub(crate) name: String,
    /// `<name>#<boot>`: the owner in its leases.
    pub(crate) worker: String,
    /// What runs on it.
    pub(crate) applications: Vec<ApplicationView>,
    /// All actors.
    pub(crate) actors: ActorTable,
    /// The cache of drivers, if the node looks up any.
    pub(crate) drivers: Option<DriverCache>,
    /// What its ingest lane did, if it has one.
    pub(crate) ingest: Option<IngestStats>,
    /// Readings above it are violations; `None` where no enrich lane runs.
    pub(crate) limit_mph: Option<u16>,
    /// How its remote calls fare.
    pub(crate) calls: CallLog,
    /// Whether it may act.
    pub(crate) pulse: Pulse,
    /// Tells the program that somebody asked it to drain.
    pub(crate) drain_asked: Notify,
    /// The loads it was told of.
    pub(super) loads: LoadRuns,
    /// What operators did here.
    pub(crate) audit: Arc<Audit>,
    /// What answering costs it.
    pub(super) cost: Arc<Cost>,
    /// When it was started.
    pub(crate) started: Instant,
    /// The root of its actors, once they run.
    pub(crate) root: OnceLock<Mailbox<NodeSupervisorMsg>>,
    phase: AtomicU8,
    /// It has given its leases away, takes none, and stays.
    aside: AtomicBool,
}

/// The lanes of one application.
pub(crate) struct ApplicationView {
    /// Its name, which is that of its lease table.
    pub(crate) name: String,
    /// Its kind of lane.
    pub(crate) role: &'static str,
    /// What its lanes did.
    pub(crate) stats: LaneStats,
    /// Its leases as they were seen last.
    pub(crate) board: LeaseBoard,
}

/// The cache of drivers as far as the API knows it.
pub(crate) struct DriverCache {
    /// Reads its counters.
    pub(crate) counts: Box<dyn Fn() -> CacheCounts + Send + Sync>,
    /// How the connections to the warehouse are used now.
    pub(crate) connections: Box<dyn Fn() -> Option<Connections> + Send + Sync>,
    /// How long the warehouse took for queries.
    pub(crate) query_times: Box<dyn Fn() -> DurationsSnapshot + Send + Sync>,
    /// Tells it that drivers were loaded, so that nothing older is used any more.
    pub(crate) load_committed: Box<dyn Fn() + Send + Sync>,
}

/// Counters of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct CacheCounts {
    /// Lookups answered from memory.
    pub(crate) hits: u64,
    /// Lookups that needed a query.
    pub(crate) misses: u64,
    /// Queries sent.
    pub(crate) queries: u64,
    /// Plates remembered.
    pub(crate) entries: u64,
}

/// How far the node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Lanes are being started.
    Starting,
    /// Every application has its lanes running.
    Running,
    /// It takes nothing more in.
    Draining,
}

impl NodeView {
    /// A node that starts now.
    pub(crate) fn new(
        worker: &str,
        applications: Vec<ApplicationView>,
        actors: ActorTable,
        drivers: Option<DriverCache>,
        pulse: Pulse,
    ) -> Self {
        let name = worker.split('#').next().unwrap_or(worker);
        Self {
            loads: LoadRuns::default(),
            audit: Arc::new(Audit::in_memory(name)),
            name: name.to_owned(),
            worker: worker.to_owned(),
            applications,
            actors,
            drivers,
            ingest: None,
            limit_mph: None,
            calls: CallLog::default(),
            pulse,
            drain_asked: Notify::new(),
            cost: Arc::default(),
            started: Instant::now(),
            root: OnceLock::new(),
            phase: AtomicU8::new(Phase::Starting as u8),
            aside: AtomicBool::new(false),
        }
    }

    /// A page about this node alone, as other nodes ask for it.
    pub(crate) fn page(&self, name: &str) -> Option<Vec<u8>> {
        let page = match name {
            STATUS => serde_json::to_vec(&StatusPage::of(self)),
            ACTORS => serde_json::to_vec(&ActorsPage::part(self, None, ACTORS_OF_A_PART)),
            LANES => serde_json::to_vec(&LanesPage::of(self)),
            LOADS => serde_json::to_vec(&self.loads.all()),
            AUDIT => serde_json::to_vec(&self.audit.last()),
            LIFE => serde_json::to_vec(self.life()),
            name => {
                if let Some(path) = name.strip_prefix(MORE_ACTORS) {
                    serde_json::to_vec(&ActorsPage::part(self, Some(path), ACTORS_OF_A_PART))
                } else if let Some(path) = name.strip_prefix(ACTOR) {
                    serde_json::to_vec(&ActorPage::at(self, path))
                } else if let Some(load_id) = name.strip_prefix(REJECTED) {
                    serde_json::to_vec(&self.loads.rejected(load_id))
                } else {
                    serde_json::to_vec(&TrafficPage::of(self, Window::of_page(name)?))
                }
            }
        };
        // The pages hold names and numbers only, which always can be written.
        page.ok()
    }

    /// The same, counted: what the dashboards of other nodes cost this one.
    pub(crate) fn page_for_others(&self, name: &str) -> Option<Vec<u8>> {
        self.cost.while_doing(|| self.page(name))
    }

    /// Makes every later lookup see what was loaded.
    pub(crate) fn load_committed(&self, load_id: &str) {
        if let Some(drivers) = &self.drivers {
            (drivers.load_committed)();
        }
        tracing::info!(load_id, "drivers were loaded");
    }

    /// Events of the enrich lanes that ended for good.
    pub(crate) fn events_in(&self) -> u64 {
        StatusPage::counts_of(self).events_in
    }

    /// Has the node do something about itself; answered when that has begun. `None` when no answer came in time: then it may have
    /// begun all the same.
    pub(crate) async fn order(&self, order: NodeOrder) -> Option<OrderAnswer> {
        let not_now = |why: &str| Some(OrderAnswer::Refused(OrderRefusal::NotNow, why.to_owned()));
        if self.is_ending() {
            return not_now("it gives its leases away and ends");
        }
        let aside = match order {
            NodeOrder::StandAside => Some(true),
            NodeOrder::Resume => Some(false),
            _ => None,
        };
        let Some(root) = self.root.get() else { return not_now("its actors are not started yet") };
        if let Some(aside) = aside
            && self.aside.swap(aside, Relaxed) == aside
        {
            return not_now(if aside { "it stands aside already" } else { "it takes part already" });
        }
        let (told, is_told) = oneshot();
        if root.cast(NodeSupervisorMsg::Ordered(order, told.into())).is_err() {
            return not_now("its root actor is gone");
        }
        timeout(ORDER_LIMIT, is_told).await.ok()?.ok()
    }

    /// How far it is. A node that stands aside looks like one that drains.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Starting,
            1 if self.aside.load(Relaxed) => Phase::Draining,
            1 => Phase::Running,
            _ => Phase::Draining,
        }
    }

    /// Whether it gives its leases away in order to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.phase.load(Relaxed) == Phase::Draining as u8
    }

    /// See [`LIFE`].
    pub(super) fn life(&self) -> &'static str {
        match self.phase() {
            Phase::Draining if self.is_ending() => "ending",
            Phase::Draining => "aside",
            phase => phase.label(),
        }
    }

    /// Notes how far it is.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }
}

impl Phase {
    /// The name used in the API.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
        }
    }
}
