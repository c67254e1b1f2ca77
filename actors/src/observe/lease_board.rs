//! The leases of one application as its assigner saw them last, for whoever wants to show them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ShardId;

/// What the assigner of one application saw last. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct LeaseBoard(Arc<Mutex<Option<Seen>>>);

#[derive(Debug)]
struct Seen {
    leases: Vec<SeenLease>,
    settled: bool,
    at: Instant,
}

/// The board at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardSnapshot {
    /// All leases, in the order of their shards.
    pub leases: Vec<SeenLease>,
    /// Whether the assigner had nothing to do for this node: no row to make, no lease to take or to ask for.
    pub settled: bool,
    /// How long ago that was seen.
    pub age: Duration,
}

/// One lease as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLease {
    /// The shard.
    pub shard: ShardId,
    /// The worker in `leaseOwner`.
    pub owner: Option<String>,
    /// `leaseCounter`.
    pub counter: u64,
    /// `checkpoint` as it stands in the row.
    pub checkpoint: String,
    /// Shards that have to be done first.
    pub parents: Vec<ShardId>,
    /// What the assigner makes of it.
    pub state: LeaseState,
}

/// What a lease is waiting for, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// A worker holds it.
    Held,
    /// Nobody holds it, and it may be taken.
    Free,
    /// Its holder is dead or let it expire.
    Expired,
    /// It may not start before its parents are done.
    WaitsForParent,
    /// This node asked for it, or is giving it away.
    HandingOver,
    /// The shard is closed and done.
    Ended,
}

impl LeaseBoard {
    /// Puts up what was seen.
    pub fn put_up(&self, leases: Vec<SeenLease>, settled: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { leases, settled, at: Instant::now() });
    }

    /// What was seen last; `None` before the first look.
    #[must_use]
    pub fn snapshot(&self) -> Option<BoardSnapshot> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().map(|seen| BoardSnapshot { leases: seen.leases.clone(), settled: seen.settled, age: seen.at.elapsed() })
    }
}

impl LeaseState {
    /// The name used in the API.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Free => "free",
            Self::Expired => "expired",
            Self::WaitsForParent => "waits_for_parent",
            Self::HandingOver => "handing_over",
            Self::Ended => "ended",
        }
    }
}
