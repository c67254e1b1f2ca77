//! What the API reads from.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use speedtrap_actors::observe::{ActorTable, LaneStats};
use tokio::time::Instant;

/// A node as the API sees it.
pub(crate) struct NodeView {
    /// The node's name.
    pub(crate) name: String,
    /// What runs on it.
    pub(crate) applications: Vec<ApplicationView>,
    /// All actors.
    pub(crate) actors: ActorTable,
    /// The cache of drivers, if the node looks up any.
    pub(crate) drivers: Option<DriverCache>,
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
    pub(crate) fn new(name: &str, applications: Vec<ApplicationView>, actors: ActorTable, drivers: Option<DriverCache>) -> Self {
        let phase = AtomicU8::new(Phase::Starting as u8);
        Self { name: name.to_owned(), applications, actors, drivers, started: Instant::now(), phase }
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
