//! When each lease was seen to move last, by one's own monotonic clock: the owner's clock is never trusted.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ShardId;
use crate::ports::Lease;

/// What this node has seen of the leases. One that it sees for the first time counts as renewed just then.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    rows: HashMap<ShardId, Sighting>,
    /// Leases that could have been taken all the time since.
    free: HashMap<ShardId, Instant>,
}

#[derive(Debug)]
struct Sighting {
    owner: Option<String>,
    counter: u64,
    since: Instant,
}

impl Sightings {
    /// Notes what a scan of the lease table showed.
    pub(super) fn note(&mut self, leases: &[Lease], now: Instant) {
        let there: HashMap<&ShardId, &Lease> = leases.iter().map(|lease| (&lease.shard, lease)).collect();
        self.rows.retain(|shard, _| there.contains_key(shard));
        for lease in leases {
            let seen = self.rows.get(&lease.shard);
            if seen.is_none_or(|seen| seen.counter != lease.counter || seen.owner != lease.owner) {
                let sighting = Sighting { owner: lease.owner.clone(), counter: lease.counter, since: now };
                self.rows.insert(lease.shard.clone(), sighting);
            }
        }
    }

    /// How long the lease has stood still.
    pub(super) fn age(&self, shard: &ShardId, now: Instant) -> Duration {
        self.rows.get(shard).map_or(Duration::ZERO, |seen| now - seen.since)
    }

    /// Notes which leases can be taken, and by that which cannot any more.
    pub(super) fn note_free(&mut self, shards: &[ShardId], now: Instant) {
        self.free.retain(|shard, _| shards.contains(shard));
        for shard in shards {
            self.free.entry(shard.clone()).or_insert(now);
        }
    }

    /// How long nobody has taken the lease.
    pub(super) fn free_for(&self, shard: &ShardId, now: Instant) -> Duration {
        self.free.get(shard).map_or(Duration::ZERO, |since| now - *since)
    }

    /// How long until the first lease that somebody else holds could expire.
    pub(super) fn next_expiry(&self, worker: &str, now: Instant, expires_after: Duration) -> Option<Duration> {
        let foreign = self.rows.values().filter(|seen| seen.owner.as_deref().is_some_and(|owner| owner != worker));
        foreign.map(|seen| (seen.since + expires_after).saturating_duration_since(now)).filter(|left| !left.is_zero()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Checkpoint;

    #[tokio::test(start_paused = true)]
    async fn a_counter_that_moves_keeps_its_lease_young() {
        let mut sightings = Sightings::default();
        let start = Instant::now();
        let mut row = Lease {
            shard: ShardId::new("a"),
            owner: Some("n2#1".to_owned()),
            counter: 1,
            checkpoint: Checkpoint::TrimHorizon,
            parents: Vec::new(),
            children: Vec::new(),
            has_hash_range: true,
        };
        sightings.note(std::slice::from_ref(&row), start);
        row.counter += 1;
        sightings.note(std::slice::from_ref(&row), start + Duration::from_secs(9));
        let later = start + Duration::from_secs(18);
        assert_eq!(sightings.next_expiry("n1#5", later, Duration::from_secs(10)), Some(Duration::from_secs(1)));
        assert_eq!(sightings.next_expiry("n2#1", later, Duration::from_secs(10)), None, "one's own never expires");
        assert_eq!(sightings.age(&row.shard, later), Duration::from_secs(9));
        let seconds = |n| start + Duration::from_secs(n);
        sightings.note_free(std::slice::from_ref(&row.shard), seconds(1));
        sightings.note_free(std::slice::from_ref(&row.shard), seconds(2));
        assert_eq!(sightings.free_for(&row.shard, seconds(3)), Duration::from_secs(2));
        sightings.note_free(&[], seconds(3));
        assert_eq!(sightings.free_for(&row.shard, seconds(4)), Duration::ZERO);
        sightings.note(&[], later);
        assert_eq!(sightings.age(&row.shard, later), Duration::ZERO);
    }
}
