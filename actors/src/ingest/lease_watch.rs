//! When the lease of the ingest lane is free (pure).

use std::time::Duration;

use tokio::time::Instant;

use crate::ports::Lease;

/// What was seen of a lease that another node holds.
#[derive(Debug)]
pub(super) struct LeaseWatch {
    expires_after: Duration,
    /// Owner and counter as they were seen last, and since when they stand.
    seen: Option<(Option<String>, u64, Instant)>,
}

impl LeaseWatch {
    pub(super) fn new(expires_after: Duration) -> Self {
        Self { expires_after, seen: None }
    }

    /// Whether to take the lease, as it is read now: nobody owns it, its owner is known to be dead, or its counter stood still for
    /// as long as a lease lasts, by one's own clock.
    pub(super) fn is_free(&mut self, row: &Lease, now: Instant, is_dead: impl Fn(&str) -> bool) -> bool {
        let moved = self.seen.as_ref().is_none_or(|(owner, counter, _)| *owner != row.owner || *counter != row.counter);
        if moved {
            self.seen = Some((row.owner.clone(), row.counter, now));
        }
        let stood_still = self.seen.as_ref().is_some_and(|(_, _, since)| now - *since >= self.expires_after);
        row.owner.as_deref().is_none_or(is_dead) || stood_still
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ShardId;
    use crate::ports::Checkpoint;

    #[test]
    fn a_lease_is_free_without_a_living_owner_that_renews_it() {
        let row = |owner: Option<&str>, counter| Lease {
            shard: ShardId::new("ingest-1"),
            owner: owner.map(str::to_owned),
            counter,
            checkpoint: Checkpoint::TrimHorizon,
            parents: Vec::new(),
            children: Vec::new(),
            has_hash_range: false,
        };
        let mut watch = LeaseWatch::new(Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(watch.is_free(&row(None, 0), at(0), |_| false));
        assert!(!watch.is_free(&row(Some("n1#1"), 1), at(1), |_| false));
        assert!(watch.is_free(&row(Some("n1#1"), 1), at(2), |worker| worker == "n1#1"));
        assert!(!watch.is_free(&row(Some("n1#1"), 2), at(9), |_| false), "it was renewed");
        assert!(!watch.is_free(&row(Some("n1#1"), 2), at(18), |_| false));
        assert!(watch.is_free(&row(Some("n1#1"), 2), at(19), |_| false));
    }
}
