//! What the API reads from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use speedtrap_actors::flow::Pulse;
use speedtrap_actors::observe::{ActorTable, CallLog, IngestStats, LaneStats, LeaseBoard};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::audit::Audit;

use super::loads::LoadRuns;
use super::map::{TrafficPage, Window};
use super::{ActorsPage, LanesPage, StatusPage};

/// Lanes and counts of a node.
pub(crate) const STATUS: &str = "status";
/// Its actors.
pub(crate) const ACTORS: &str = "actors";
/// Its lanes, and the leases it saw.
pub(crate) const LANES: &str = "lanes";
/// Loads that it was told of.
pub(crate) const LOADS: &str = "loads";
/// What operators asked of it.
pub(crate) const AUDIT: &str = "audit";

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
    /// When it was started.
    pub(crate) started: Instant,
    phase: AtomicU8,
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
            started: Instant::now(),
            phase: AtomicU8::new(Phase::Starting as u8),
        }
    }

    /// A page about this node alone, as other nodes ask for it.
    pub(crate) fn page(&self, name: &str) -> Option<Vec<u8>> {
        let page = match name {
            STATUS => serde_json::to_vec(&StatusPage::of(self)),
            ACTORS => serde_json::to_vec(&ActorsPage::of(self)),
            LANES => serde_json::to_vec(&LanesPage::of(self)),
            LOADS => serde_json::to_vec(&self.loads.all()),
            AUDIT => serde_json::to_vec(&self.audit.last()),
            _ => serde_json::to_vec(&TrafficPage::of(self, Window::of_page(name)?)),
        };
        // The pages hold names and numbers only, which always can be written.
        page.ok()
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

    /// How far it is.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Running,
            _ => Phase::Draining,
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
