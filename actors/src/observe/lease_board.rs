//! The leases of one application as its assigner saw them last, for whoever wants to show them.

use std::collections::BTreeMap;
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
    /// Since when a lease could be taken and nobody who lives has held it.
    unowned: BTreeMap<ShardId, Instant>,
}

/// The board at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardSnapshot {
    /// All leases, in the order of their shards.
    pub leases: Vec<SeenLease>,
    /// Whether the assigner had nothing to do for this node: no row to make, no lease to take or on its way.
    pub settled: bool,
    /// How long ago that was seen.
    pub age: Duration,
    /// The leases that could be taken and that nobody who lives holds, with for how long that has been seen.
    pub unowned: BTreeMap<ShardId, Duration>,
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
    /// Shards that follow it, as far as they are known.
    pub children: Vec<ShardId>,
    /// First and last hash key; unknown of streams without any, and of shards that are listed no more.
    pub hash_range: Option<(String, String)>,
    /// What the assigner makes of it.
    pub state: LeaseState,
    /// The worker that it counts for: of one that is being handed over, the new one.
    pub counts_for: Option<String>,
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
        let now = Instant::now();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.take().map(|seen| seen.unowned).unwrap_or_default();
        let is_unowned = |lease: &&SeenLease| matches!(lease.state, LeaseState::Free | LeaseState::Expired);
        let since = |lease: &SeenLease| (lease.shard.clone(), before.get(&lease.shard).copied().unwrap_or(now));
        let unowned = leases.iter().filter(is_unowned).map(since).collect();
        *seen = Some(Seen { leases, settled, at: now, unowned });
    }

    /// The workers that leases count for, each as often as one does.
    #[must_use]
    pub fn holders(&self) -> Vec<String> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().flat_map(|seen| &seen.leases).filter_map(|lease| lease.counts_for.clone()).collect()
    }

    /// What was seen last; `None` before the first look.
    #[must_use]
    pub fn snapshot(&self) -> Option<BoardSnapshot> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().map(|seen| BoardSnapshot {
            leases: seen.leases.clone(),
            settled: seen.settled,
            age: seen.at.elapsed(),
            unowned: seen.unowned.iter().map(|(shard, since)| (shard.clone(), since.elapsed())).collect(),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_counts_as_unowned_from_when_it_was_first_seen_so_until_it_is_held() {
        let board = LeaseBoard::default();
        let lease = |state| SeenLease {
            shard: ShardId::new("a"),
            owner: None,
            counter: 1,
            checkpoint: "TRIM_HORIZON".into(),
            parents: Vec::new(),
            children: Vec::new(),
            hash_range: None,
            state,
            counts_for: None,
        };
        assert!(board.snapshot().is_none());
        let unowned = || board.snapshot().expect("seen").unowned.get(&ShardId::new("a")).copied();
        for (state, seconds) in [
            (LeaseState::Expired, Some(0)),
            (LeaseState::Free, Some(1)),
            (LeaseState::Held, None),
            (LeaseState::Free, Some(0)),
            (LeaseState::WaitsForParent, None),
        ] {
            board.put_up(vec![lease(state)], false);
            assert_eq!(unowned(), seconds.map(Duration::from_secs), "{state:?}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }
}
